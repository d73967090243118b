/** Corrections, distinct values and levels from the event to the line of the invoice. */
import assert from 'node:assert/strict';
import { setTimeout as sleep } from 'node:timers/promises';

import fc from 'fast-check';

import { roundToMinor } from '../../billing/money.ts';
import type { Aggregation, Charge, PlanDefinition, Price } from '../../billing/plan.ts';
import { rate } from '../../billing/rate.ts';
import { type Db, inTransaction, openDb } from '../../store/db.ts';
import { newId } from '../../store/ids.ts';
import { findViolations, invariants } from '../../store/invariants.ts';
import { voidInvoice } from '../../store/invoice-actions.ts';
import { findInvoiceRead, listInvoiceLines } from '../../store/invoice-reads.ts';
import type { Invoice } from '../../store/invoices.ts';
import { billLateUsage } from '../../store/late-invoice.ts';
import { explainLine } from '../../store/line-explanation.ts';
import { invoicePeriod, reissueInvoice } from '../../store/period-invoice.ts';
import {
  beginClosing,
  cutPeriod,
  listPeriods,
  openPeriods,
  type Period,
} from '../../store/periods.ts';
import { changeSubscription, lockSubscription } from '../../store/subscriptions.ts';
import { postUsage } from '../../store/usage-batch.ts';
import { correctUsageEvent, type CorrectionRequest } from '../../store/usage-corrections.ts';
import { subscriptionUsage, upcomingInvoice } from '../../store/usage-summary.ts';
import { usageFact } from '../drain/drainer-fixture.ts';
import { type TestDatabase, testDatabase } from '../support/postgres.ts';
import {
  faultsOf,
  seedPlan,
  seedSubscriber,
  seedSubscription,
  seedWorld,
} from '../workflows/support/world.ts';

const meterKeys = { calls: 'SUM', users: 'UNIQUE_COUNT', seats: 'WEIGHTED_SUM' } as const;
type MeterKey = keyof typeof meterKeys;
const DAY_MS = 86_400_000;

describe('store › usage on invoices', () => {
  let database: TestDatabase;
  let db: Db;
  let productId: string;
  const meterIds: Record<MeterKey, string> = { calls: '', users: '', seats: '' };

  before(async () => {
    database = await testDatabase();
    db = openDb(database.url, { poolMax: 12 });
    ({ productId } = await seedWorld(db));
    for (const key of meterNames) {
      const words = { name: key, unit_one: key.slice(0, -1), unit_other: key };
      const row = { id: newId('mtr'), environment: 'test', lookup_id: key, ...words };
      await db('meters').insert({ ...row, aggregation: meterKeys[key] });
      meterIds[key] = row.id;
    }
  });
  after(async () => {
    await db.destroy();
    await database.drop();
  });
  afterEach(async () => {
    assert.deepEqual(await faultsOf(db), []);
    const money = invariants.filter(({ id }) =>
      ['I15', 'I16', 'I17', 'I18', 'I34', 'I35', 'I44'].includes(id),
    );
    assert.deepEqual(await findViolations(db, money), []);
  });

  const meterNames: readonly MeterKey[] = ['calls', 'users', 'seats'];

  type Subscribed = {
    readonly subscriberId: string;
    readonly subscriptionId: string;
    readonly periods: readonly Period[];
  };

  function charge(key: MeterKey, price: Price, included = 0): Charge {
    const aggregation: Aggregation = meterKeys[key];
    return {
      kind: 'usage',
      id: newId('chg'),
      display_name: key,
      meter: {
        ...{ id: meterIds[key], key, name: key, unit_one: key.slice(0, -1), unit_other: key },
        ...{ scale: 0, aggregation },
      },
      price,
      included_units: String(included),
    };
  }
  const each = (unit_price: string): Price => ({ model: 'per_unit', unit_price });

  async function subscribed(...charges: readonly Charge[]): Promise<Subscribed> {
    const planVersionId = newId('pver');
    const definition: PlanDefinition = {
      currency: 'USD',
      interval: { unit: 'month', count: 1 },
      billing_time: 'anniversary',
      charges,
      features: [],
      rate_limits: [],
      credits: null,
    };
    const draft = await seedPlan(db, { productId, meterId: '' }, {});
    await db.raw(
      `INSERT INTO plan_versions (id, plan_id, version, state, published_at, currency, interval_unit, definition)
       SELECT ?, plan_id, 2, 'published', now(), 'USD', 'month', ? FROM plan_versions WHERE id = ?`,
      [planVersionId, JSON.stringify(definition), draft],
    );
    const subscriberId = await seedSubscriber(db, null);
    const startAt = new Date('2025-01-01T00:00:00Z');
    const subscriptionId = await seedSubscription(db, { subscriberId, planVersionId, startAt });
    const now = new Date('2024-12-31T00:00:00Z');
    await inTransaction(db, async (tx) => {
      const pending = await lockSubscription(tx, subscriptionId);
      const started = await changeSubscription(tx, pending, { kind: 'started', at: now });
      await openPeriods(tx, started, now);
    });
    return { subscriberId, subscriptionId, periods: await listPeriods(db, subscriptionId) };
  }

  /** Use of the n-th day of 2025, as the drain posts it; answers its event's id. */
  async function used(
    by: Subscribed,
    day: number,
    use: { readonly meter: MeterKey; readonly quantity: number; readonly keyId?: string },
  ): Promise<string> {
    const party = { ...by, apiKeyId: use.keyId ?? '', periods: [] };
    const fact = usageFact(
      { productId, planId: '', planVersionId: '', meterIds: noMeters },
      party,
      {
        segmentId: '',
        atMs: Date.UTC(2025, 0, 1) + (day - 1) * DAY_MS,
        quantities: [{ meter: use.meter, quantity: use.quantity }],
      },
    );
    const outcome = await inTransaction(db, (tx) => postUsage(tx, [fact]));
    assert.deepEqual([outcome.inserted, outcome.refused], [1, []]);
    return fact.opId;
  }
  const noMeters = { api_calls: '', tokens: '' };

  function tryToCorrect(eventId: string, request: CorrectionRequest) {
    const words = { environment: 'test', reason: 'counted twice', actor: 'token:tok_1' };
    return inTransaction(db, (tx) => correctUsageEvent(tx, { ...words, eventId, request }));
  }
  async function correct(eventId: string, request: CorrectionRequest): Promise<void> {
    assert.deepEqual(await tryToCorrect(eventId, request), { kind: 'corrected' });
  }
  const to = (quantity: bigint): CorrectionRequest => ({
    kind: 'quantities',
    quantities: [{ meterId: meterIds.calls, quantity }],
  });

  async function close(by: Subscribed, index: number): Promise<Invoice> {
    const period = by.periods[index];
    assert.ok(period);
    await inTransaction(db, (tx) => beginClosing(tx, period));
    const result = await inTransaction(db, (tx) => invoicePeriod(tx, period.id, period.endAt));
    const invoice = result.kind === 'invoiced' ? result.invoice : assert.fail(result.kind);
    await explains(invoice.id);
    return invoice;
  }

  /** After its third period. */
  async function end({ subscriptionId }: Subscribed): Promise<void> {
    await db.raw(
      `UPDATE subscriptions SET state = 'canceled', cancel_at = '2025-04-01', ended_at = '2025-04-01' WHERE id = ?`,
      [subscriptionId],
    );
    await db.raw(
      `UPDATE periods SET state = 'void' WHERE subscription_id = ? AND state = 'scheduled'`,
      [subscriptionId],
    );
  }

  /** What came in since it ended. */
  async function billLate({ subscriptionId }: Subscribed, isOver: boolean): Promise<bigint> {
    const of = { subscriptionId, at: new Date('2025-05-01T00:00:00Z'), isOver };
    const billing = await inTransaction(db, (tx) => billLateUsage(tx, of));
    if (billing.kind !== 'issued') {
      assert.equal(billing.kind, 'nothing');
      return 0n;
    }
    await explains(billing.invoice.id);
    return billing.invoice.totalMinor;
  }

  /** Every line follows from what its explanation says, and from the hours behind it. */
  async function explains(invoiceId: string): Promise<void> {
    const invoice = await findInvoiceRead(db, 'test', invoiceId);
    assert.ok(invoice);
    const lines = await listInvoiceLines(db, [invoiceId]);
    for (const line of lines) {
      const { recomputed, usage } = await explainLine(db, invoice, { line, lines });
      assert.ok(recomputed.isExact, JSON.stringify(line.details));
      assert.equal(recomputed.fromHoursMinor, line.amount_minor);
      if ('total' in line.details) assert.equal(String(usage?.total), line.details.total);
    }
  }

  async function linesOf(invoice: Invoice): Promise<readonly (readonly unknown[])[]> {
    const rows = await db('invoice_lines').where({ invoice_id: invoice.id }).orderBy('position');
    return rows.map((row) => [row.kind, row.description, row.amount_minor]);
  }

  const tiers: Price = {
    model: 'graduated',
    tiers: [
      { up_to: '10', unit_price: '1', flat_fee: '0' },
      { up_to: null, unit_price: '0.5', flat_fee: '0' },
    ],
  };

  it('bills an event as corrected while its period is open, and estimates it so', async () => {
    const it = await subscribed(charge('calls', tiers));
    const wrong = await used(it, 3, { meter: 'calls', quantity: 700 });
    await used(it, 4, { meter: 'calls', quantity: 5 });
    await correct(wrong, to(7n));
    const at = Date.UTC(2025, 0, 20);
    const summary = await subscriptionUsage(db, it.subscriptionId, at);
    assert.deepEqual(
      summary?.meters.map(({ meterKey, quantity, eventCount }) => [meterKey, quantity, eventCount]),
      [['calls', 12n, 2n]],
    );
    const estimate = await upcomingInvoice(db, it.subscriptionId, at);
    const invoice = await close(it, 0);
    assert.deepEqual([estimate?.draft.totalMinor, invoice.totalMinor], [1_100n, 1_100n]);
  });

  it('credits on the next invoice what a closed period was billed too much, re-rated with its tiers', async () => {
    const it = await subscribed(charge('calls', tiers));
    const wrong = await used(it, 3, { meter: 'calls', quantity: 12 });
    assert.equal((await close(it, 0)).totalMinor, 1_100n);
    await correct(wrong, to(9n));
    await used(it, 33, { meter: 'calls', quantity: 1 });
    const summary = await subscriptionUsage(db, it.subscriptionId, Date.UTC(2025, 1, 20));
    assert.deepEqual(
      summary?.meters.map(({ quantity }) => quantity),
      [1n],
    );
    const second = await close(it, 1);
    const lines = await linesOf(second);
    assert.deepEqual(
      lines.map(([kind, , amount]) => [kind, amount]),
      [
        ['usage', 100n],
        ['adjustment', -200n],
      ],
    );
    assert.match(String(lines[1]?.[1]), /Jan 1 – Jan 31, 2025/);
    assert.equal(second.totalMinor, -100n);
    await correct(wrong, { kind: 'void' });
    const third = await close(it, 2);
    assert.deepEqual(
      (await linesOf(third)).map(([kind, , amount]) => [kind, amount]),
      [
        ['usage', 0n],
        ['adjustment', -900n],
      ],
    );
  });

  it('corrects late use, wherever it was billed', async () => {
    const it = await subscribed(charge('calls', each('1')));
    await used(it, 3, { meter: 'calls', quantity: 4 });
    await close(it, 0);
    const late = await used(it, 5, { meter: 'calls', quantity: 6 });
    await correct(late, to(5n));
    assert.equal((await close(it, 1)).totalMinor, 500n);
    await correct(late, to(8n));
    const third = await close(it, 2);
    assert.deepEqual(
      (await linesOf(third)).map(([kind, , amount]) => [kind, amount]),
      [
        ['usage', 0n],
        ['adjustment', 300n],
      ],
    );
  });

  it('is on the invoice that is issued again, where the first one was made void', async () => {
    const it = await subscribed(charge('calls', tiers));
    const wrong = await used(it, 3, { meter: 'calls', quantity: 12 });
    const first = await close(it, 0);
    const at = new Date('2025-02-02T00:00:00Z');
    await inTransaction(db, (tx) =>
      voidInvoice(tx, { invoiceId: first.id, reason: 'counted twice', at }),
    );
    await correct(wrong, to(9n));
    const again = await inTransaction(db, (tx) => reissueInvoice(tx, first.id, at));
    assert.equal(again.kind === 'issued' && again.invoice.totalMinor, 900n);
    await correct(wrong, to(8n));
    assert.equal((await close(it, 1)).totalMinor, -100n);
  });

  it('waits for the void invoice to be issued again, where another was rated on top of it', async () => {
    const it = await subscribed(charge('calls', tiers));
    const wrong = await used(it, 3, { meter: 'calls', quantity: 12 });
    const first = await close(it, 0);
    await used(it, 4, { meter: 'calls', quantity: 2 });
    assert.equal((await close(it, 1)).totalMinor, 100n);
    const at = new Date('2025-03-02T00:00:00Z');
    await inTransaction(db, (tx) => voidInvoice(tx, { invoiceId: first.id, reason: null, at }));
    const refused = { kind: 'void_invoice', periodId: it.periods[0]?.id };
    assert.deepEqual(await tryToCorrect(wrong, to(9n)), refused);
    const again = await inTransaction(db, (tx) => reissueInvoice(tx, first.id, at));
    assert.equal(again.kind === 'issued' && again.invoice.totalMinor, 1_100n);
    await correct(wrong, to(9n));
    // Eleven calls instead of fourteen: three at $0.50.
    assert.equal((await close(it, 2)).totalMinor, -150n);
  });

  it('credits at the prices of then, where the terms of the interval have changed since', async () => {
    const it = await subscribed(charge('calls', each('1')));
    const dearer = await subscribed(charge('calls', each('5')));
    const wrong = await used(it, 3, { meter: 'calls', quantity: 10 });
    const [whole] = it.periods;
    assert.ok(whole);
    const cut = { at: new Date('2025-01-15T00:00:00Z'), reason: 'close_now' } as const;
    const rest = await inTransaction(db, (tx) => cutPeriod(tx, whole, cut));
    await db.raw(
      `UPDATE segments SET plan_version_id = (SELECT plan_version_id FROM subscriptions WHERE id = ?) WHERE period_id = ?`,
      [dearer.subscriptionId, rest.id],
    );
    const cutUp = { ...it, periods: await listPeriods(db, it.subscriptionId) };
    assert.equal((await close(cutUp, 0)).totalMinor, 1_000n);
    await correct(wrong, to(8n));
    await used(it, 20, { meter: 'calls', quantity: 3 });
    // Two fewer at $1, three at $5.
    assert.equal((await close(cutUp, 1)).totalMinor, 1_300n);
  });

  it('bills distinct values past the included ones, and late ones only where they are new', async () => {
    const it = await subscribed(charge('users', each('2'), 1));
    for (const [day, keyId] of [
      [2, 'a'],
      [3, 'b'],
      [9, 'a'],
      [9, 'c'],
    ] as const) {
      await used(it, day, { meter: 'users', quantity: 1, keyId });
    }
    const first = await close(it, 0);
    assert.deepEqual(await linesOf(first), [
      ['usage', 'users (2 users past 1 included × $2.00)', 400n],
    ]);
    await used(it, 10, { meter: 'users', quantity: 1, keyId: 'b' });
    await used(it, 40, { meter: 'users', quantity: 1, keyId: 'b' });
    const second = await close(it, 1);
    assert.deepEqual(
      (await linesOf(second)).map(([kind, , amount]) => [kind, amount]),
      [
        ['usage', 0n],
        ['adjustment', 0n],
      ],
    );
    await used(it, 11, { meter: 'users', quantity: 1, keyId: 'd' });
    assert.equal((await close(it, 2)).totalMinor, 200n);
  });

  it('bills the average level of the interval, as it was estimated', async () => {
    const it = await subscribed(charge('seats', each('10')));
    await used(it, 1, { meter: 'seats', quantity: 31 });
    await used(it, 11, { meter: 'seats', quantity: 62 });
    await used(it, 31, { meter: 'seats', quantity: 0 });
    const estimate = await upcomingInvoice(db, it.subscriptionId, Date.UTC(2025, 0, 20));
    const invoice = await close(it, 0);
    // 31 for 10 days, 62 for 20, none for the last: 50.
    assert.deepEqual(await linesOf(invoice), [['usage', 'seats (50 seats × $10.00)', 50_000n]]);
    assert.equal(estimate?.draft.totalMinor, 50_000n);
    await used(it, 21, { meter: 'seats', quantity: 31 });
    // 31 for the last ten days but one, instead of 62: 40.
    assert.equal((await close(it, 1)).totalMinor, -10_000n);
  });

  it('bills a level of an interval that came in after the subscription had ended', async () => {
    const it = await subscribed(charge('seats', each('10')));
    await used(it, 1, { meter: 'seats', quantity: 31 });
    await used(it, 11, { meter: 'seats', quantity: 62 });
    await used(it, 31, { meter: 'seats', quantity: 0 });
    for (const index of [0, 1, 2]) await close(it, index);
    await end(it);
    await used(it, 21, { meter: 'seats', quantity: 31 });
    assert.equal(await billLate(it, false), -10_000n);
    await used(it, 30, { meter: 'seats', quantity: 62 });
    // One day more of 31 seats.
    assert.equal(await billLate(it, false), 1_000n);
  });

  it('bills in the end what the events say in the end, whatever came late or was corrected when', async () => {
    const month = fc.nat(2);
    const use = fc.record({ month, stage: month, quantity: fc.nat(30) });
    const correction = fc.record({
      ...{ use: fc.nat(9), stage: month },
      quantity: fc.option(fc.nat(30), { nil: null }),
    });
    const price: Price = {
      model: 'graduated',
      tiers: [
        { up_to: '10', unit_price: '0.333', flat_fee: '0' },
        { up_to: '25', unit_price: '0.111', flat_fee: '1' },
        { up_to: null, unit_price: '0.0555', flat_fee: '0' },
      ],
    };
    await fc.assert(
      fc.asyncProperty(
        fc.array(use, { minLength: 1, maxLength: 8 }),
        fc.array(correction, { maxLength: 8 }),
        async (uses, corrections) => {
          const it = await subscribed(charge('calls', price));
          const events = new Map<number, { readonly id: string; quantity: number }>();
          let billedMinor = 0n;
          for (const stage of [0, 1, 2]) {
            for (const [index, { quantity, ...given }] of uses.entries()) {
              // Nothing is used before its month: then it comes in time.
              if (Math.max(given.stage, given.month) !== stage) continue;
              const id = await used(it, 3 + given.month * 31, { meter: 'calls', quantity });
              events.set(index, { id, quantity });
            }
            for (const { use: index, quantity } of corrections.filter(
              (one) => one.stage === stage,
            )) {
              const event = events.get(index % uses.length);
              if (event === undefined) continue;
              const request =
                quantity === null ? ({ kind: 'void' } as const) : to(BigInt(quantity));
              await tryToCorrect(event.id, request);
              event.quantity = quantity ?? 0;
            }
            billedMinor += (await close(it, stage)).totalMinor;
          }
          const expected = [0, 1, 2].map((of) => {
            const quantities = [...events].flatMap(([index, { quantity }]) =>
              uses[index]?.month === of ? [quantity] : [],
            );
            const total = quantities.reduce((sum, quantity) => sum + quantity, 0);
            return roundToMinor(rate(price, BigInt(total), 0), 'USD');
          });
          assert.equal(
            billedMinor,
            expected.reduce((sum, minor) => sum + minor, 0n),
          );
        },
      ),
      { numRuns: 15, endOnFailure: true },
    );
  });

  it('bills in the end what the events say in the end, also of what comes after the subscription has', async () => {
    const month = fc.nat(2);
    // Months after the end: those of them bill what has come until then.
    const stage = fc.integer({ min: 0, max: 5 });
    const use = fc.record({ month, stage, quantity: fc.nat(30), keyId: fc.constantFrom('a', 'b') });
    const correction = fc.record({
      ...{ use: fc.nat(9), stage },
      quantity: fc.option(fc.nat(30), { nil: null }),
    });
    const price: Price = {
      model: 'graduated',
      tiers: [
        { up_to: '10', unit_price: '0.333', flat_fee: '0' },
        { up_to: '25', unit_price: '0.111', flat_fee: '1' },
        { up_to: null, unit_price: '0.0555', flat_fee: '0' },
      ],
    };
    const bounds = fc.record({
      minimum_minor: fc.constantFrom('1', '250'),
      maximum_minor: fc.constantFrom('400', '100000'),
      included: fc.nat(12),
    });
    await fc.assert(
      fc.asyncProperty(
        fc.array(use, { minLength: 1, maxLength: 8 }),
        fc.array(correction, { maxLength: 6 }),
        bounds,
        async (uses, corrections, { included, ...bound }) => {
          const calls = { ...charge('calls', price, included), ...bound };
          const it = await subscribed(calls, charge('users', each('2')));
          const events = new Map<number, { readonly id: string; quantity: number }>();
          const users = [0, 1, 2].map(() => new Set<string>());
          let billedMinor = 0n;
          for (const now of [0, 1, 2, 3, 4, 5]) {
            for (const [index, { quantity, ...given }] of uses.entries()) {
              if (Math.max(given.stage, given.month) !== now) continue;
              const on = 3 + given.month * 31;
              const id = await used(it, on, { meter: 'calls', quantity });
              await used(it, on, { meter: 'users', quantity: 1, keyId: given.keyId });
              users[given.month]?.add(given.keyId);
              events.set(index, { id, quantity });
            }
            for (const { use: index, quantity } of corrections.filter((one) => one.stage === now)) {
              const event = events.get(index % uses.length);
              if (event === undefined) continue;
              const isVoid = quantity === null;
              await tryToCorrect(event.id, isVoid ? { kind: 'void' } : to(BigInt(quantity)));
              event.quantity = quantity ?? 0;
            }
            billedMinor +=
              now < 3 ? (await close(it, now)).totalMinor : await billLate(it, now === 5);
            if (now === 2) await end(it);
          }
          const expected = [0, 1, 2].map((of) => {
            const quantities = [...events].flatMap(([index, { quantity }]) =>
              uses[index]?.month === of ? [quantity] : [],
            );
            const total = quantities.reduce((sum, quantity) => sum + quantity, 0);
            const rated = roundToMinor(
              rate(price, BigInt(Math.max(total - included, 0)), 0),
              'USD',
            );
            const [least, most] = [BigInt(bound.minimum_minor), BigInt(bound.maximum_minor)];
            const atLeast = rated < least ? least : rated;
            const bounded = atLeast > most ? most : atLeast;
            return bounded + 200n * BigInt(users[of]?.size ?? 0);
          });
          assert.equal(
            billedMinor,
            expected.reduce((sum, minor) => sum + minor, 0n),
          );
        },
      ),
      { numRuns: 15, endOnFailure: true },
    );
  });

  it('is on exactly one invoice, whenever the real close comes', async () => {
    const orders = new Set<bigint>();
    for (let run = 0; run < 24; run += 1) {
      const it = await subscribed(charge('calls', each('1')));
      const eventId = await used(it, 3, { meter: 'calls', quantity: 10 });
      const [first] = await Promise.all([
        sleep((run * 7) % 11).then(() => close(it, 0)),
        sleep((run * 5) % 23).then(() => correct(eventId, to(3n))),
      ]);
      const second = await close(it, 1);
      assert.equal(first.totalMinor + second.totalMinor, 300n);
      orders.add(first.totalMinor);
    }
    assert.deepEqual(
      [...orders].toSorted((a, b) => Number(a - b)),
      [300n, 1_000n],
    );
  });
});
