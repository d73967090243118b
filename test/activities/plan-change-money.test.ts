import assert from 'node:assert/strict';

import fc from 'fast-check';

import { makeDbActivities } from '../../activities/index.ts';
import type { WorkflowRequest } from '../../activities/ports.ts';
import type { CommandResult } from '../../activities/subscription.ts';
import type { InvoiceDraft } from '../../billing/invoice.ts';
import { readAccountBalance } from '../../store/account-balance.ts';
import { type Db, inTransaction, openDb } from '../../store/db.ts';
import { newId } from '../../store/ids.ts';
import { findViolations } from '../../store/invariants.ts';
import { type Invoice, readInvoice } from '../../store/invoices.ts';
import { listPeriods } from '../../store/periods.ts';
import { previewPlanChange } from '../../store/plan-change-preview.ts';
import { attachCoupon } from '../../store/subscription-coupons.ts';
import { readSubscription } from '../../store/subscriptions.ts';
import { type TestDatabase, testDatabase } from '../support/postgres.ts';
import {
  faultsOf,
  type PlanTerms,
  seedPlan,
  seedSubscriber,
  seedSubscription,
  seedUsage,
  seedWorld,
  type World,
} from '../workflows/support/world.ts';

const DAY_MS = 86_400_000;
/** A month of 31 days, so that parts can be worked out by hand: a day of 31.00 is 1.00. */
const startMs = Date.parse('2027-01-01T00:00:00Z');
const february = Date.parse('2027-02-01T00:00:00Z');
const march = Date.parse('2027-03-01T00:00:00Z');

type Extras = {
  readonly off?: Readonly<Record<string, unknown>> | null;
  readonly taxPercent?: string | null;
};

type When = 'now' | 'period_end' | 'default';

describe('activities/subscription › what changes of plan cost', function () {
  this.timeout(240_000);
  let database: TestDatabase;
  let db: Db;
  let activities: ReturnType<typeof makeDbActivities>;
  let world: World;
  const started: WorkflowRequest[] = [];

  before(async () => {
    database = await testDatabase();
    db = openDb(database.url);
    activities = makeDbActivities({
      db,
      shards: { seal: () => Promise.reject(new Error('not here')) },
      payments: {
        charge: () => Promise.reject(new Error('not here')),
        lookup: () => Promise.reject(new Error('not here')),
        refund: () => Promise.reject(new Error('not here')),
        lookupRefund: () => Promise.reject(new Error('not here')),
      },
      startWorkflow: (request) => {
        started.push(request);
        return Promise.resolve();
      },
      waitForApplied: () => Promise.resolve(true),
      isDrained: () => Promise.resolve(true),
    });
    world = await seedWorld(db);
  });
  after(async () => {
    await db.destroy();
    await database.drop();
  });

  const plan = (terms: PlanTerms): Promise<string> => seedPlan(db, world, terms);

  async function activated(planVersionId: string, extras: Extras = {}): Promise<string> {
    const subscriberId = await seedSubscriber(db, null);
    const startAt = new Date(startMs);
    const subscriptionId = await seedSubscription(db, { subscriberId, planVersionId, startAt });
    await giveExtras({ subscriberId, subscriptionId }, extras);
    await activities.activateSubscription({ subscriptionId, nowMs: startMs - 1000 });
    return subscriptionId;
  }

  /** A coupon for ever, and a tax rate of the subscriber's own. */
  async function giveExtras(
    to: { readonly subscriberId: string; readonly subscriptionId: string },
    { off = null, taxPercent = null }: Extras,
  ): Promise<void> {
    const lookup_id = newId('txr').slice(4).replace(/^\d/, 'x');
    if (taxPercent !== null) {
      const id = newId('txr');
      const name = 'Tax';
      await db('tax_rates').insert({
        id,
        environment: 'test',
        lookup_id,
        name,
        percent: taxPercent,
      });
      await db('subscribers')
        .where({ id: to.subscriberId })
        .update({ tax_rate_ids: [id] });
    }
    if (off === null) return;
    const couponId = newId('cpn');
    await db('coupons').insert({
      id: couponId,
      environment: 'test',
      lookup_id,
      name: 'Off',
      duration: 'forever',
      ...off,
    });
    const attached = await inTransaction(db, (tx) =>
      attachCoupon(tx, {
        subscriptionId: to.subscriptionId,
        couponId,
        at: new Date(startMs - 1000),
      }),
    );
    assert.equal(attached.kind, 'attached');
  }

  const change = (
    subscriptionId: string,
    planVersionId: string,
    nowMs: number,
    when: When = 'default',
  ): Promise<CommandResult> =>
    activities.changePlan({ subscriptionId, planVersionId, nowMs, when, changeId: newId('pch') });

  /** Rolls up to `nowMs` and invoices what is over. */
  async function invoiceUntil(subscriptionId: string, nowMs: number): Promise<void> {
    await activities.rollSubscription({ subscriptionId, nowMs });
    for (const { id } of await listPeriods(db, subscriptionId, ['closing'])) {
      const step = await activities.invoicePeriod({ periodId: id, nowMs, isUrgent: false });
      assert.equal(step.kind, 'invoiced');
    }
  }

  async function invoicesOf(subscriptionId: string): Promise<readonly Invoice[]> {
    const rows = await db('invoices')
      .where({ subscription_id: subscriptionId })
      .orderBy(['finalized_at', 'number_in_series'])
      .select('id');
    const found: Invoice[] = [];
    for (const { id } of rows) found.push(await readInvoice(db, id));
    return found;
  }

  const summary = async (subscriptionId: string): Promise<readonly (readonly unknown[])[]> =>
    (await invoicesOf(subscriptionId)).map(({ kind, totalMinor }) => [kind, Number(totalMinor)]);

  async function linesOf(invoiceId: string): Promise<readonly (readonly unknown[])[]> {
    const rows = await db('invoice_lines')
      .where({ invoice_id: invoiceId })
      .orderBy('position')
      .select('description', 'amount_minor');
    return rows.map((row) => [row.description, Number(row.amount_minor)]);
  }

  const linesOfDraft = (draft: InvoiceDraft): readonly (readonly unknown[])[] =>
    draft.lines.map((line) => [line.description, Number(line.amountMinor)]);

  const balanceOf = async (subscriptionId: string): Promise<number> =>
    Number(await readAccountBalance(db, await readSubscription(db, subscriptionId)));

  /** Usage is seeded by its hours, without the events that I25 compares them with. */
  const faults = async (): Promise<readonly unknown[]> =>
    (await findViolations(db)).filter(({ kind, id }) => kind === 'always' && id !== 'I25');

  it('fees in arrears: nothing at once, both parts at the end; the day of the change is the new plan\u2019s', async () => {
    const subscriptionId = await activated(await plan({ feeMinor: '3100' }));
    await change(subscriptionId, await plan({ feeMinor: '6200' }), startMs + 10 * DAY_MS);
    assert.deepEqual(await summary(subscriptionId), []);
    await invoiceUntil(subscriptionId, february);
    // 10 days of 1.00, 21 days of 2.00.
    assert.deepEqual(await summary(subscriptionId), [['period', 1000 + 4200]]);
    await invoiceUntil(subscriptionId, march);
    assert.deepEqual(await summary(subscriptionId), [
      ['period', 5200],
      ['period', 6200],
    ]);
    assert.deepEqual(await faults(), []);
  });

  it('fees in advance: billed at the start, settled by the change at once, the next ones with the period', async () => {
    const small = await plan({ feeMinor: '3100', billIn: 'advance' });
    const large = await plan({ feeMinor: '6200', billIn: 'advance' });
    started.length = 0;
    const subscriptionId = await activated(small);
    assert.deepEqual(await summary(subscriptionId), [['advance', 3100]]);
    await change(subscriptionId, large, startMs + 10 * DAY_MS);
    assert.deepEqual(await summary(subscriptionId), [
      ['advance', 3100],
      ['change', 4200 - 2100],
    ]);
    const issued = await invoicesOf(subscriptionId);
    assert.deepEqual(
      started.flatMap((request) => (request.kind === 'collection' ? [request.invoiceId] : [])),
      issued.map(({ id }) => id),
    );
    await invoiceUntil(subscriptionId, february);
    await invoiceUntil(subscriptionId, march);
    assert.deepEqual((await summary(subscriptionId)).slice(2), [
      ['period', 6200],
      ['period', 6200],
    ]);
    assert.deepEqual(await faults(), []);
  });

  for (const billIn of ['advance', 'arrears'] as const) {
    it(`an upgrade that is undone at once costs nothing (${billIn})`, async () => {
      const small = await plan({ feeMinor: '3100', billIn });
      const large = await plan({ feeMinor: '9999', billIn });
      const subscriptionId = await activated(small);
      const nowMs = startMs + 10 * DAY_MS;
      await change(subscriptionId, large, nowMs);
      await change(subscriptionId, small, nowMs + 60_000, 'now');
      await invoiceUntil(subscriptionId, february);
      const total = (await invoicesOf(subscriptionId)).reduce(
        (sum, { totalMinor }) => sum + totalMinor,
        0n,
      );
      // In advance: this month and the next one.
      assert.equal(total, billIn === 'advance' ? 6200n : 3100n);
      assert.deepEqual(await faults(), []);
    });
  }

  it('a downgrade bills the old plan to the end of the interval, and the new one after it', async () => {
    for (const billIn of ['advance', 'arrears'] as const) {
      const large = await plan({ feeMinor: '6200', billIn });
      const subscriptionId = await activated(large);
      await change(subscriptionId, await plan({ feeMinor: '3100', billIn }), startMs + 10 * DAY_MS);
      await invoiceUntil(subscriptionId, february);
      await invoiceUntil(subscriptionId, march);
      assert.deepEqual(
        await summary(subscriptionId),
        billIn === 'advance'
          ? [
              ['advance', 6200],
              ['period', 3100],
              ['period', 3100],
            ]
          : [
              ['period', 6200],
              ['period', 3100],
            ],
      );
    }
    assert.deepEqual(await faults(), []);
  });

  it('a year after a month: the month is billed to the day, the year begins and is billed ahead at once', async () => {
    const subscriptionId = await activated(await plan({ feeMinor: '3100' }));
    const yearly = await plan({
      feeMinor: '36500',
      billIn: 'advance',
      interval: { unit: 'year', count: 1 },
    });
    await change(subscriptionId, yearly, startMs + 10 * DAY_MS);
    assert.deepEqual(await summary(subscriptionId), [['change', 36_500]]);
    await invoiceUntil(subscriptionId, startMs + 11 * DAY_MS);
    assert.deepEqual(await summary(subscriptionId), [
      ['change', 36_500],
      ['period', 1000],
    ]);
    await invoiceUntil(subscriptionId, startMs + 376 * DAY_MS);
    assert.deepEqual((await summary(subscriptionId)).at(-1), ['period', 36_500]);
    assert.deepEqual(await faults(), []);
  });

  it('usage keeps the prices of its days; the new allowance is less what was used before', async () => {
    const small = await plan({ unitPrice: '0.10', includedUnits: '100' });
    const large = await plan({ feeMinor: '0', unitPrice: '0.05', includedUnits: '300' });
    const subscriptionId = await activated(small);
    const use = (day: number, quantity: bigint): Promise<void> =>
      seedUsage(db, {
        subscriptionId,
        meterId: world.meterId,
        at: new Date(startMs + day * DAY_MS),
        quantity,
      });
    await use(1, 150n);
    await change(subscriptionId, large, startMs + 10 * DAY_MS);
    await use(20, 200n);
    await invoiceUntil(subscriptionId, february);
    // 50 of the first 150 at 0.10; then 300 - 150 are free, 50 of 200 at 0.05.
    assert.deepEqual(await summary(subscriptionId), [['period', 500 + 250]]);
    assert.deepEqual(await faults(), []);
  });

  it('canceled now, prorated: fees in arrears by the days used, fees in advance back to the balance', async () => {
    const cancel = async (subscriptionId: string, prorate: boolean): Promise<void> => {
      await activities.cancelSubscription({
        subscriptionId,
        nowMs: startMs + 10 * DAY_MS,
        when: 'now',
        prorate,
      });
      await invoiceUntil(subscriptionId, startMs + 11 * DAY_MS);
    };
    const arrears = await activated(await plan({ feeMinor: '3100' }));
    await cancel(arrears, true);
    assert.deepEqual(await summary(arrears), [['period', 1000]]);

    const whole = await activated(await plan({ feeMinor: '3100' }));
    await cancel(whole, false);
    assert.deepEqual(await summary(whole), [['period', 3100]]);

    const advance = await activated(await plan({ feeMinor: '3100', billIn: 'advance' }));
    const [paid] = await invoicesOf(advance);
    await cancel(advance, true);
    const notes = await db('credit_notes').where({ invoice_id: paid?.id });
    assert.deepEqual(
      notes.map((note) => [note.reason, note.total_minor]),
      [['cancellation', 2100n]],
    );

    const kept = await activated(await plan({ feeMinor: '3100', billIn: 'advance' }));
    await cancel(kept, false);
    assert.equal(await balanceOf(kept), 0);
    assert.deepEqual(await faults(), []);
  });

  it('after changes, a prorated end gives back the last fee only, by its days', async () => {
    const small = await plan({ feeMinor: '3100', billIn: 'advance' });
    const large = await plan({ feeMinor: '6200', billIn: 'advance' });
    const subscriptionId = await activated(small);
    await change(subscriptionId, large, startMs + 5 * DAY_MS);
    await change(subscriptionId, small, startMs + 7 * DAY_MS, 'now');
    await activities.cancelSubscription({
      subscriptionId,
      nowMs: startMs + 10 * DAY_MS,
      when: 'now',
      prorate: true,
    });
    const notes = await db('credit_notes')
      .join('invoices', 'invoices.id', 'credit_notes.invoice_id')
      .where({ subscription_id: subscriptionId })
      .select('credit_notes.total_minor');
    assert.deepEqual(notes, [{ total_minor: 2100n }]);
    assert.deepEqual(await faults(), []);
  });

  it('what a preview shows is what is invoiced, to the cent', async () => {
    const terms = fc.record(
      {
        feeMinor: fc.nat({ max: 100_000 }).map(String),
        billIn: fc.constantFrom('advance' as const, 'arrears' as const),
        unitPrice: fc
          .integer({ min: 1, max: 99 })
          .map((cents) => `0.${String(cents).padStart(3, '0')}`),
        includedUnits: fc.nat({ max: 300 }).map(String),
        interval: fc.constantFrom(
          { unit: 'month' as const, count: 1 },
          { unit: 'month' as const, count: 1 },
          { unit: 'month' as const, count: 3 },
          { unit: 'year' as const, count: 1 },
        ),
      },
      { requiredKeys: ['feeMinor', 'billIn', 'unitPrice', 'includedUnits', 'interval'] },
    );
    const scenario = fc.record({
      from: terms,
      to: terms,
      when: fc.constantFrom<When>('now', 'period_end', 'default'),
      atMs: fc.integer({ min: 1000, max: 27 * DAY_MS }),
      used: fc.array(fc.record({ share: fc.nat({ max: 99 }), quantity: fc.bigInt(1n, 500n) }), {
        maxLength: 3,
      }),
      off: fc.option(
        fc.oneof(
          fc.record({ percent: fc.integer({ min: 1, max: 99 }).map(String) }),
          fc.record({
            amount_minor: fc.integer({ min: 1, max: 5000 }),
            currency: fc.constant('USD'),
          }),
        ),
      ),
      taxPercent: fc.option(fc.integer({ min: 1, max: 30 }).map(String)),
    });
    await fc.assert(
      fc.asyncProperty(scenario, async ({ from, to, when, atMs, used, off, taxPercent }) => {
        const subscriptionId = await activated(await plan(from), { off, taxPercent });
        for (const { share, quantity } of used) {
          const at = new Date(startMs + Math.floor((atMs * share) / 100));
          await seedUsage(db, { subscriptionId, meterId: world.meterId, at, quantity });
        }
        const nowMs = startMs + atMs;
        const request = { changeId: newId('pch'), toVersionId: await plan(to), when };
        const shown = await previewPlanChange(db, subscriptionId, request, new Date(nowMs));
        assert.ok(shown.kind === 'preview');
        const done = await change(subscriptionId, request.toVersionId, nowMs, when);
        assert.ok(done.kind === 'done');
        assert.equal(done.effectiveAtMs, shown.effectiveAt.getTime());
        const issued = (await invoicesOf(subscriptionId)).find(({ kind }) => kind === 'change');
        assert.equal(issued?.totalMinor, shown.changeInvoice?.totalMinor);
        assert.equal(issued?.amountDueMinor, shown.changeInvoice?.amountDueMinor);
        if (issued !== undefined && shown.changeInvoice !== null) {
          assert.deepEqual(await linesOf(issued.id), linesOfDraft(shown.changeInvoice));
        }
        await invoiceUntil(subscriptionId, shown.period.endAt.getTime());
        const closed = (await invoicesOf(subscriptionId)).find(({ kind }) => kind === 'period');
        assert.ok(closed !== undefined);
        assert.equal(closed.amountDueMinor, shown.upcoming.amountDueMinor);
        assert.deepEqual(await linesOf(closed.id), linesOfDraft(shown.upcoming));
      }),
      { numRuns: 25 },
    );
    assert.deepEqual(await faults(), []);
    assert.deepEqual(await faultsOf(db), []);
  });

  it('over any run of changes and closes, each day is billed once, at the fee of the plan that it belongs to', async () => {
    const days = 90;
    const interval = { unit: 'day', count: 30 } as const;
    // Per day 1.00, 2.00, 1.50, 3.00: no part of an interval is rounded.
    const versions = await Promise.all(
      (
        [
          [3000, 'arrears'],
          [6000, 'advance'],
          [4500, 'arrears'],
          [9000, 'advance'],
        ] as const
      ).map(async ([fee, billIn]) => ({
        id: await plan({ feeMinor: String(fee), billIn, interval }),
        perDay: fee / 30,
      })),
    );
    const step = fc.record({
      day: fc.integer({ min: 1, max: 84 }),
      hour: fc.integer({ min: 1, max: 22 }),
      kind: fc.constantFrom(
        'now' as const,
        'now' as const,
        'period_end' as const,
        'close' as const,
      ),
      version: fc.nat({ max: 3 }),
    });
    const scenario = fc.record({
      first: fc.nat({ max: 3 }),
      steps: fc.array(step, { maxLength: 6 }),
      endsNow: fc.boolean(),
    });
    await fc.assert(
      fc.asyncProperty(scenario, async ({ first, steps, endsNow }) => {
        const subscriptionId = await activated(versions[first]?.id ?? '');
        const perDay: number[] = Array.from({ length: days }, () => versions[first]?.perDay ?? 0);
        const inOrder = steps.toSorted((a, b) => a.day - b.day || a.hour - b.hour);
        for (const { day, hour, kind, version } of inOrder) {
          const nowMs = startMs + day * DAY_MS + hour * 3_600_000;
          await invoiceUntil(subscriptionId, nowMs);
          if (kind === 'close') {
            const { current } = await activities.rollSubscription({ subscriptionId, nowMs });
            const periodId = current?.periodId ?? '';
            await activities.closePeriodNow({ subscriptionId, nowMs, periodId });
            continue;
          }
          const to = versions[version];
          const result = await change(subscriptionId, to?.id ?? '', nowMs, kind);
          if (result.kind === 'refused') continue;
          const from = Math.floor((result.effectiveAtMs - startMs) / DAY_MS);
          // What holds from an earlier day on stays until then; what was planned after it has given way.
          const until = perDay[day] ?? 0;
          for (let at = day; at < days; at += 1) {
            perDay[at] = at < from ? until : (to?.perDay ?? 0);
          }
        }
        const usedDays = endsNow ? 85 : days;
        const end = startMs + 85 * DAY_MS;
        await invoiceUntil(subscriptionId, end);
        await activities.cancelSubscription({
          subscriptionId,
          nowMs: end,
          when: endsNow ? 'now' : 'period_end',
          prorate: true,
        });
        await invoiceUntil(subscriptionId, startMs + days * DAY_MS);
        const invoices = await invoicesOf(subscriptionId);
        const ids = invoices.map(({ id }) => id);
        const notes = await db('credit_notes').whereIn('invoice_id', ids).select('subtotal_minor');
        const billed = invoices.reduce((sum, { subtotalMinor }) => sum + Number(subtotalMinor), 0);
        const credited = notes.reduce((sum, note) => sum + Number(note.subtotal_minor), 0);
        assert.equal(
          billed - credited,
          perDay.slice(0, usedDays).reduce((sum, fee) => sum + fee, 0),
        );
      }),
      { numRuns: 25 },
    );
    assert.deepEqual(await faults(), []);
    assert.deepEqual(await faultsOf(db), []);
  });
});
