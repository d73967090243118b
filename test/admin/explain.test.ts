import assert from 'node:assert/strict';

import fc from 'fast-check';
import type { z } from 'zod';

import { LineExplanationAnswer } from '../../admin/resources/line-explanation.ts';
import { decimal } from '../../billing/decimal.ts';
import { amountFromDetails } from '../../billing/explain.ts';
import type { LineDetails } from '../../billing/line.ts';
import { type Minor, parseAmount, roundToMinor } from '../../billing/money.ts';
import type { Aggregation, Charge, Price } from '../../billing/plan.ts';
import { aggregate, type Counted, rateMore, type UsagePartial } from '../../billing/rate.ts';
import { inTransaction } from '../../store/db.ts';
import { newId } from '../../store/ids.ts';
import { issueInvoice } from '../../store/invoices.ts';
import { paymentKeys, recordOutcome } from '../../store/payments.ts';
import { invoicePeriod } from '../../store/period-invoice.ts';
import {
  beginClosing,
  cutPeriod,
  listPeriods,
  openPeriods,
  type Period,
} from '../../store/periods.ts';
import { changeSubscription, lockSubscription } from '../../store/subscriptions.ts';
import { createTopUp, ensureTopUpPayment, grantTopUp } from '../../store/top-ups.ts';
import { postUsage } from '../../store/usage-batch.ts';
import { ensureWallet } from '../../store/wallets.ts';
import { begin, publish as sell } from '../store/life.ts';
import { seedSubscriber, seedSubscription, seedWorld } from '../workflows/support/world.ts';
import { isJson, startAdmin, type Reply, type TestAdmin } from './support.ts';

type Answer = z.output<typeof LineExplanationAnswer>;
type MeterName = 'SUM' | 'COUNT' | 'MAX' | 'LATEST';
const aggregations = ['SUM', 'COUNT', 'MAX', 'LATEST'] as const satisfies readonly Aggregation[];

/** When something was used; when it is posted decides whether it is in time. */
type Use = {
  readonly at: 'early January' | 'late January' | 'February';
  readonly postedIn: 'time' | 'the next period' | 'March';
  readonly hour: number;
  readonly meter: MeterName;
  readonly quantity: number;
  readonly overageMicro: number;
};
type Terms = {
  readonly charges: readonly Omit<Extract<Charge, { kind: 'usage' }>, 'kind' | 'id'>[];
  readonly isCut: boolean;
  readonly uses: readonly Use[];
};

const price = fc
  .integer({ min: 0, max: 30_000 })
  .map((value) => `${Math.floor(value / 1_000)}.${String(value % 1_000).padStart(3, '0')}`);
const tiers = fc
  .uniqueArray(fc.integer({ min: 1, max: 500 }), { maxLength: 3 })
  .chain((bounds) =>
    fc.tuple(
      ...[...bounds.toSorted((a, b) => a - b).map(String), null].map((up_to) =>
        fc.record({ up_to: fc.constant(up_to), unit_price: price, flat_fee: price }),
      ),
    ),
  );
const rule: fc.Arbitrary<Price> = fc.oneof(
  fc.record({ model: fc.constant('per_unit'), unit_price: price }),
  fc.record({ model: fc.constantFrom('graduated', 'volume'), tiers }),
  fc.record({
    model: fc.constant('stairstep'),
    tiers: tiers.map((list) => list.map(({ up_to, flat_fee }) => ({ up_to, flat_fee }))),
  }),
  fc.record({
    model: fc.constant('package'),
    package_size: fc.integer({ min: 1, max: 90 }).map(String),
    package_price: price,
    round: fc.constantFrom('up', 'down'),
  }),
  fc.record({
    model: fc.constant('percentage'),
    percent: price,
    fixed_fee: price,
    free_events: fc.nat(3).map(String),
  }),
);
const use: fc.Arbitrary<Use> = fc.record({
  at: fc.constantFrom('early January', 'late January', 'February'),
  postedIn: fc.constantFrom('time', 'time', 'the next period', 'March'),
  hour: fc.nat(5),
  meter: fc.constantFrom(...aggregations),
  quantity: fc.nat(400),
  overageMicro: fc.oneof(fc.constant(0), fc.nat(9_000_000)),
});
const bound = fc.option(fc.integer({ min: 100, max: 90_000 }).map(String), { nil: undefined });

describe('admin › GET /invoices/{id}/lines/{id}/explain', () => {
  let admin: TestAdmin;
  let productId: string;
  const meterIds: Record<MeterName, string> = { SUM: '', COUNT: '', MAX: '', LATEST: '' };
  let sequence = 0;

  before(async () => {
    admin = await startAdmin();
    ({ productId } = await seedWorld(admin.db));
    for (const aggregation of aggregations) {
      const id = newId('mtr');
      await admin.db('meters').insert({
        ...{ id, environment: 'test', lookup_id: `m_${aggregation.toLowerCase()}`, aggregation },
        ...{ name: aggregation, unit_one: 'call', unit_other: 'calls' },
      });
      meterIds[aggregation] = id;
    }
  });
  after(() => admin.stop());

  const terms: fc.Arbitrary<Terms> = fc.record({
    charges: fc.uniqueArray(
      fc
        .record({
          ...{ aggregation: fc.constantFrom(...aggregations), price: rule },
          ...{ included: fc.nat(200), minimum: bound, maximum: bound },
        })
        .map(({ aggregation, price: of, included, minimum, maximum }) => ({
          display_name: `Label ${aggregation}`,
          meter: {
            ...{ id: aggregation, key: `m_${aggregation.toLowerCase()}`, name: aggregation },
            ...{ unit_one: 'call', unit_other: 'calls', scale: 0, aggregation },
          },
          price: of,
          included_units: String(included),
          ...(minimum !== undefined && { minimum_minor: minimum }),
          ...(maximum !== undefined && { maximum_minor: maximum }),
        })),
      { minLength: 1, maxLength: 3, selector: ({ meter }) => meter.id },
    ),
    isCut: fc.boolean(),
    uses: fc.array(use, { minLength: 1, maxLength: 14 }),
  });

  async function publish(charges: Terms['charges']): Promise<string> {
    const planId = newId('plan');
    const planVersionId = newId('pver');
    const usage = charges.map((charge) => {
      const { aggregation } = charge.meter;
      const id = aggregations.find((name) => name === aggregation);
      const meter = { ...charge.meter, id: id === undefined ? '' : meterIds[id] };
      return { kind: 'usage', id: newId('chg'), ...charge, meter };
    });
    const definition = {
      currency: 'USD',
      interval: { unit: 'month', count: 1 },
      billing_time: 'anniversary',
      charges: [
        // Late usage may take back more than it bills; the fee keeps totals above zero.
        { kind: 'recurring', id: newId('chg'), display_name: 'Pro plan', amount_minor: '99999999' },
        { kind: 'one_time', id: newId('chg'), display_name: 'Set-up', amount_minor: '777' },
        ...usage,
      ],
      features: [],
      rate_limits: [],
      credits: {
        ...{ unit: 'credit', included_micro: '0', credit_price: '0.033', burn: [] },
        overage: { enabled: true, credit_price: '0.0417' },
      },
    };
    await admin.db('plans').insert({
      ...{ id: planId, environment: 'test', product_id: productId, name: 'Pro', type: 'HYBRID' },
      lookup_id: `plan-${planId.slice(5, 15)}`,
    });
    await admin.db('plan_versions').insert({
      ...{ id: planVersionId, plan_id: planId, version: 1, state: 'published' },
      ...{ published_at: new Date(), currency: 'USD', interval_unit: 'month' },
      definition: JSON.stringify(definition),
    });
    return planVersionId;
  }

  type Party = { readonly subscriberId: string; readonly subscriptionId: string };

  async function subscribe(charges: Terms['charges'], isCut: boolean): Promise<Party> {
    const planVersionId = await publish(charges);
    const subscriberId = await seedSubscriber(admin.db, null);
    const startAt = new Date('2025-01-01T00:00:00Z');
    const subscriptionId = await seedSubscription(admin.db, {
      ...{ subscriberId, planVersionId, startAt },
    });
    const now = new Date('2024-12-31T00:00:00Z');
    await inTransaction(admin.db, async (tx) => {
      const pending = await lockSubscription(tx, subscriptionId);
      const started = await changeSubscription(tx, pending, { kind: 'started', at: now });
      const first = await openPeriods(tx, started, now);
      if (isCut)
        await cutPeriod(tx, first, { at: new Date('2025-01-16T00:00:00Z'), reason: 'close_now' });
    });
    return { subscriberId, subscriptionId };
  }

  const days = { 'early January': [0, 3], 'late January': [0, 20], February: [1, 5] } as const;

  async function post(party: Party, uses: readonly Use[]): Promise<void> {
    const facts = uses.map((one) => {
      sequence += 1;
      const [month, day] = days[one.at];
      return {
        kind: 'usage' as const,
        opId: `20250102-gw0001-${sequence.toString(36)}`,
        ...party,
        segmentId: '',
        atMs: Date.UTC(2025, month, day, one.hour, 0, 0, sequence % 1_000),
        productId,
        ...{ keyId: newId('key'), status: 200, takes: [], writtenOffMicro: 0, flags: [] },
        quantities: [{ meter: `m_${one.meter.toLowerCase()}`, quantity: one.quantity }],
        overageMicro: one.overageMicro,
      };
    });
    const outcome = await inTransaction(admin.db, (tx) => postUsage(tx, facts));
    assert.equal(outcome.inserted, uses.length);
  }

  async function close(period: Period | undefined): Promise<string> {
    assert.ok(period);
    await inTransaction(admin.db, (tx) => beginClosing(tx, period));
    const result = await inTransaction(admin.db, (tx) => invoicePeriod(tx, period.id, new Date()));
    return result.kind === 'invoiced' ? result.invoice.id : assert.fail(result.kind);
  }

  /** Three months are used and closed one after the other; answers the invoices. */
  async function lived({ charges, isCut, uses }: Terms): Promise<readonly string[]> {
    const party = await subscribe(charges, isCut);
    const posted = (at: Use['at'], postedIn: Use['postedIn']) =>
      post(
        party,
        uses.filter((one) => one.at === at && one.postedIn === postedIn),
      );
    const [first, ...others] = await listPeriods(admin.db, party.subscriptionId);
    const rest = isCut ? others.shift() : undefined;
    const invoices: string[] = [];
    await posted('early January', 'time');
    if (!isCut) await posted('late January', 'time');
    invoices.push(await close(first));
    if (isCut) {
      await posted('early January', 'the next period');
      await posted('late January', 'time');
      invoices.push(await close(rest));
    } else {
      await posted('early January', 'the next period');
    }
    await posted('late January', 'the next period');
    await posted('February', 'time');
    invoices.push(await close(others[0]));
    await posted('February', 'the next period');
    for (const at of ['early January', 'late January', 'February'] as const) {
      await posted(at, 'March');
    }
    invoices.push(await close(others[1]));
    return invoices;
  }

  const explain = (invoiceId: string, lineId: string, token?: string): Promise<Reply> =>
    admin.call('GET', `/api/v1/invoices/${invoiceId}/lines/${lineId}/explain`, {
      ...(token !== undefined && { token }),
    });

  async function linesOf(
    invoiceId: string,
  ): Promise<readonly { id: string; amount_minor: Minor }[]> {
    return admin
      .db('invoice_lines')
      .where({ invoice_id: invoiceId })
      .orderBy('position')
      .select('id', 'amount_minor');
  }

  async function explained(invoiceId: string, lineId: string): Promise<Answer> {
    const reply = await explain(invoiceId, lineId);
    assert.equal(reply.status, 200, reply.text);
    return LineExplanationAnswer.parse(JSON.parse(reply.text));
  }

  it('the amount of every line of any invoice follows from its explanation alone', async () => {
    const seen = new Map<string, number>();
    await fc.assert(
      fc.asyncProperty(terms, async (of) => {
        for (const invoiceId of await lived(of)) {
          for (const { id, amount_minor: stored } of await linesOf(invoiceId)) {
            const answer = await explained(invoiceId, id);
            const { model } = answer.line.details;
            const kind = `${answer.line.kind} ${String(model)}`;
            seen.set(kind, (seen.get(kind) ?? 0) + 1);
            assert.equal(fromDetails(answer), stored, answer.line.description);
            assert.equal(fromRollups(answer), stored, answer.line.description);
            assert.deepEqual(answer.recomputed, {
              from_details: answer.line.amount,
              from_rollups: hasRollups(answer) ? answer.line.amount : null,
              is_exact: true,
            });
            await checkEvents(answer);
          }
        }
      }),
      { numRuns: 25 },
    );
    for (const kind of [
      'recurring flat',
      'one_time flat',
      'usage minimum',
      'overage credits',
      'adjustment credits',
    ]) {
      assert.ok(seen.has(kind), `no ${kind} was explained`);
    }
    for (const kind of ['usage', 'adjustment']) {
      assert.ok(
        [...seen.keys()].some((one) => one.startsWith(`${kind} `)),
        kind,
      );
    }
  });

  /** The events that the answer leads to are those that its hours count, whatever the size of a page. */
  async function checkEvents(answer: Answer): Promise<void> {
    if (answer.line.kind === 'overage' || !isOfMeter(answer.charge)) return;
    const quantities: bigint[] = [];
    for (const { path, event_count: count } of answer.events) {
      let read = 0;
      let next = `${path}&limit=3`;
      while (next !== '') {
        const reply = await admin.call('GET', next);
        assert.equal(reply.status, 200, reply.text);
        const { data, next_cursor: cursor } = reply.body;
        assert.ok(Array.isArray(data));
        read += data.length;
        for (const event of data) {
          const [only] =
            isJson(event) && Array.isArray(event['quantities']) ? event['quantities'] : [];
          assert.ok(isJson(only));
          quantities.push(BigInt(String(only['quantity'])));
        }
        next = typeof cursor === 'string' ? `${path}&limit=3&cursor=${cursor}` : '';
      }
      assert.equal(String(read), count, path);
    }
    assert.ok(answer.usage !== null);
    const { total } = answer.usage;
    const sum = quantities.reduce((all, quantity) => all + quantity, 0n);
    const greatest = quantities.reduce((max, quantity) => (quantity > max ? quantity : max), 0n);
    const { aggregation } = answer.charge.meter;
    if (aggregation === 'SUM') assert.equal(total, sum.toString());
    if (aggregation === 'COUNT') assert.equal(total, String(quantities.length));
    if (aggregation === 'MAX') assert.equal(total, greatest.toString());
  }

  it('tells of an interval that was invoiced in two parts, and of usage that came late', async () => {
    const [sum] = fc.sample(terms, 1);
    assert.ok(sum?.charges[0] !== undefined);
    const charge: Terms['charges'][number] = {
      display_name: 'Label',
      meter: { ...sum.charges[0].meter, key: 'm_sum', name: 'Calls', aggregation: 'SUM' },
      price: {
        model: 'graduated',
        tiers: [
          { up_to: '100', unit_price: '0.5', flat_fee: '0' },
          { up_to: null, unit_price: '0.1', flat_fee: '2' },
        ],
      },
      included_units: '10',
    };
    const used = (at: Use['at'], postedIn: Use['postedIn'], quantity: number): Use => ({
      ...{ at, postedIn, quantity, meter: 'SUM', overageMicro: 0 },
      hour: postedIn === 'time' ? 1 : 2,
    });
    const invoices = await lived({
      charges: [charge],
      isCut: true,
      uses: [
        used('early January', 'time', 60),
        used('late January', 'time', 100),
        used('early January', 'March', 5),
        used('late January', 'March', 40),
      ],
    });
    const usageLinesOf = async (index: number, kind: string): Promise<readonly Answer[]> => {
      const invoiceId = invoices[index] ?? '';
      const found: Answer[] = [];
      for (const { id } of await linesOf(invoiceId)) {
        const answer = await explained(invoiceId, id);
        if (answer.line.kind === kind && answer.usage !== null) found.push(answer);
      }
      return found;
    };
    const [second] = await usageLinesOf(1, 'usage');
    assert.ok(second !== undefined);
    // 150 billable: 100 × 0.50 + 2 + 50 × 0.10 = 57.00, of which 50 × 0.50 = 25.00 were billed.
    assert.equal(second.line.amount, '32.00');
    assert.deepEqual(second.usage, {
      ...{ before: '60', total: '160', events_before: '1', events_total: '2' },
    });
    assert.equal(second.included_units, '10');
    assert.deepEqual(
      second.tiers?.map(({ quantity, amount }) => [quantity, amount]),
      [
        ['100', '50'],
        ['50', '7'],
      ],
    );
    assert.deepEqual(
      second.usage_rollups.map(({ hour, billed, quantity }) => [hour, billed, quantity]),
      [
        ['2025-01-03T01:00:00.000Z', 'before', '60'],
        ['2025-01-20T01:00:00.000Z', 'now', '100'],
      ],
    );
    const [early, late] = await usageLinesOf(3, 'adjustment');
    assert.ok(early !== undefined && late !== undefined);
    // Each period's late usage has a line, and its events are found apart from the other's.
    await checkEvents(early);
    await checkEvents(late);
    assert.equal(early.line.amount, '0.50');
    assert.notEqual(early.period?.id, late.period?.id);
    assert.equal(late.line.amount, '4.00');
    assert.equal(late.period?.id, second.period?.id);
    assert.equal(late.interval?.text, 'Jan 1 – Jan 31, 2025');
    assert.deepEqual(
      late.usage_rollups.map((row) => [row.billed, row.quantity, row.adjusts_period_id]),
      [
        ['before', '60', null],
        // The line above has billed it: two late lines of one interval are not priced on the same base.
        ['before', '5', early.period?.id],
        ['before', '100', null],
        ['now', '40', second.period?.id],
      ],
    );
    assert.deepEqual([late.plan_version?.version, late.plan_version?.plan_name], [1, 'Pro']);
  });

  it('tells of a change of plan: what was given back, what was charged, and how the usage was priced', async () => {
    const world = { productId, meterId: meterIds.SUM };
    const perCall = { model: 'per_unit', unit_price: '0.5' } as const;
    const old = await sell(admin.db, world, { fee: '3100', isAhead: true, price: perCall });
    const next = await sell(admin.db, world, { fee: '6200', price: perCall, included: '12' });
    const startAt = new Date('2025-01-01T00:00:00Z');
    const life = await begin(admin.db, world, { planVersionId: old, startAt });
    await life.use(new Date('2025-01-05T00:00:00Z'), 10n);
    const change = await life.change(new Date('2025-01-11T12:00:00Z'), next);
    await life.use(new Date('2025-01-20T00:00:00Z'), 5n);
    const january = await life.close(await life.at(startAt));
    const told: unknown[] = [];
    for (const { id: invoiceId } of [change ?? assert.fail(), january]) {
      for (const { id } of await linesOf(invoiceId)) {
        const { line, charge, interval, recomputed, included_units } = await explained(
          invoiceId,
          id,
        );
        assert.equal(recomputed.is_exact, true);
        assert.equal(recomputed.from_details, line.amount);
        const amount = [line.amount, recomputed.from_rollups, included_units];
        told.push([charge?.display_name, interval?.text, ...amount]);
      }
    }
    assert.deepEqual(told, [
      ['Fee 3100', 'Jan 11 – Jan 31, 2025', '-21.00', null, null],
      // Under the old plan; then the new one's fee and the two of its 12 calls that are left.
      ['Calls', 'Jan 1 – Jan 31, 2025', '5.00', '5.00', '0'],
      ['Fee 6200', 'Jan 11 – Jan 31, 2025', '42.00', null, null],
      ['Calls', 'Jan 1 – Jan 31, 2025', '1.50', '1.50', '2'],
    ]);
  });

  it('explains credits that were bought', async () => {
    const subscriberId = await seedSubscriber(admin.db, 'card_ok');
    const at = new Date('2025-05-01T00:00:00Z');
    const bought = await inTransaction(admin.db, async (tx) => {
      const { topUpId } = await createTopUp(tx, {
        ...{ environment: 'test', subscriberId, creditsMicro: 250_500_000n, amountMinor: 1250n },
        walletId: await ensureWallet(tx, { subscriberId, unit: 'credit' }),
        ...{ currency: 'USD', businessKey: `request:${subscriberId}` },
      });
      const payment = await ensureTopUpPayment(tx, topUpId);
      assert.equal(payment?.businessKey, paymentKeys.topUp(topUpId));
      await recordOutcome(tx, {
        paymentId: payment.id,
        ...{ outcome: { kind: 'succeeded', providerRef: 'ch_1' }, at },
      });
      return (await grantTopUp(tx, topUpId, at)).topUp;
    });
    const [line] = await linesOf(bought.invoiceId ?? '');
    const answer = await explained(bought.invoiceId ?? '', line?.id ?? '');
    assert.deepEqual(answer.top_up, {
      ...{ id: bought.id, state: 'granted', credits: '250.5', credit_unit: 'credit' },
      amount: '12.50',
    });
    assert.deepEqual(answer.recomputed, {
      ...{ from_details: '12.50', from_rollups: null, is_exact: true },
    });
    assert.deepEqual([answer.charge, answer.plan_version, answer.period], [null, null, null]);
  });

  it('says so when an amount does not follow from its details', async () => {
    const subscriberId = await seedSubscriber(admin.db, null);
    const planVersionId = await publish([]);
    const line = (amountMinor: Minor, details: LineDetails) => ({
      ...{ kind: 'adjustment' as const, chargeId: null, meterId: null, planVersionId },
      ...{ description: 'A line', label: null, quantity: null, unitPrice: null },
      ...{ amountMinor, details },
    });
    const half: LineDetails = {
      ...{ model: 'prorated', basis_minor: '3000', numerator: '15', denominator: '30' },
    };
    const invoice = await inTransaction(admin.db, (tx) =>
      issueInvoice(
        tx,
        {
          ...{ environment: 'test', subscriberId, subscriptionId: null, periodId: null },
          ...{ kind: 'change', businessKey: `change:${subscriberId}`, currency: 'USD' },
          ...{ subtotalMinor: 4500n, taxMinor: 0n, totalMinor: 4500n },
          ...{ periodStartAt: null, periodEndAt: null },
          document: {
            v: 1,
            subscriber: {
              ...{ id: subscriberId, lookup_id: null, name: 'Ada', email: null },
              ...{ address: null, tax_id: null },
            },
            ...{ plan: null, time_zone: 'UTC', period_text: null, taxes: [] },
          },
          lines: [line(1500n, half), line(1501n, half), line(1499n, { model: 'flat' })],
        },
        new Date('2025-06-01T00:00:00Z'),
      ),
    );
    const told = [];
    for (const { id } of await linesOf(invoice.id)) {
      told.push((await explained(invoice.id, id)).recomputed);
    }
    assert.deepEqual(
      told.map(({ from_details: amount, is_exact: isExact }) => [amount, isExact]),
      [
        ['15.00', true],
        ['15.00', false],
        [null, false],
      ],
    );
  });

  it('is 404 for another invoice, another line, and in another environment', async () => {
    const [invoiceId = '', otherId = ''] = await lived({ charges: [], isCut: false, uses: [] });
    const [line] = await linesOf(invoiceId);
    assert.ok(line !== undefined);
    const detail = async (reply: Promise<Reply>): Promise<unknown> => {
      const { status, body } = await reply;
      assert.deepEqual([status, body['code']], [404, 'not_found']);
      return body['detail'];
    };
    assert.equal(await detail(explain('inv_no', line.id)), 'There is no invoice "inv_no".');
    assert.match(
      String(await detail(explain(otherId, line.id))),
      /^Invoice INV-\d{4}-\d{4} has no line "line_\w+"\.$/,
    );
    await detail(explain(invoiceId, line.id, admin.liveToken));
    const { number } = await admin.db('invoices').where({ id: invoiceId }).first('number');
    assert.equal((await explain(String(number), line.id, admin.tokens.reader)).status, 200);
    assert.equal((await explain(invoiceId, line.id, admin.tokens.ingest)).status, 403);
  });
});

function isDetails(value: unknown): value is LineDetails {
  return isJson(value) && 'model' in value;
}

type ChargeOfMeter = NonNullable<Answer['charge']> & {
  readonly meter: NonNullable<NonNullable<Answer['charge']>['meter']>;
  readonly price: Price;
};

function isOfMeter(charge: Answer['charge']): charge is ChargeOfMeter {
  return charge !== null && charge.meter !== null && charge.price !== null;
}

function hasRollups({ line, charge }: Answer): boolean {
  return charge?.type === 'USAGE' || line.details['model'] === 'credits';
}

function fromDetails({ line }: Answer): Minor {
  assert.ok(isDetails(line.details));
  const quantity = line.quantity === null ? null : BigInt(line.quantity);
  return amountFromDetails({ details: line.details, quantity, unitPrice: line.unit_price }, 'USD');
}

/** Rates the hours of the answer by its charge; a minimum or maximum moves what comes out. */
function fromRollups(answer: Answer): Minor {
  const { line, charge } = answer;
  if (!hasRollups(answer)) return fromDetails(answer);
  assert.ok(isDetails(line.details));
  if (line.details.model === 'credits') {
    const worth = (billed: readonly Answer['credit_rollups'][number][]): Minor =>
      roundToMinor(
        billed
          .reduce((sum, row) => sum.plus(decimal(row.credits_overage)), decimal('0'))
          .times(decimal(line.unit_price ?? '')),
        'USD',
      );
    const before = answer.credit_rollups.filter(({ billed }) => billed === 'before');
    return worth(answer.credit_rollups) - worth(before);
  }
  assert.ok(isOfMeter(charge) && answer.usage !== null);
  const { price: prices, meter } = charge;
  const upTo = (rows: Answer['usage_rollups']): Minor =>
    roundToMinor(
      rateMore(
        prices,
        BigInt(answer.included_units ?? ''),
        { before: null, total: countedOf(rows, meter.aggregation) },
        meter.scale,
      ),
      'USD',
    );
  const before =
    answer.usage.before === null
      ? 0n
      : upTo(answer.usage_rollups.filter(({ billed }) => billed === 'before'));
  const total = upTo(answer.usage_rollups);
  if (line.details.model !== 'minimum' && line.details.model !== 'maximum') return total - before;
  const rated = { rated_minor: total.toString(), rated_before_minor: before.toString() };
  const limit = line.details.model === 'minimum' ? charge.minimum : charge.maximum;
  assert.equal(parseAmount(limit ?? '', 'USD')?.toString(), line.details.bound_minor);
  return amountFromDetails(
    { details: { ...line.details, ...rated }, quantity: null, unitPrice: null },
    'USD',
  );
}

function countedOf(rows: Answer['usage_rollups'], aggregation: string): Counted {
  const partials = rows.map((row): UsagePartial => ({
    quantity: BigInt(row.quantity),
    eventCount: BigInt(row.event_count),
    maxQuantity: BigInt(row.max_quantity),
    latestQuantity: BigInt(row.latest_quantity),
    latestAt: new Date(row.latest_at),
  }));
  const known = aggregations.find((name) => name === aggregation);
  assert.ok(known !== undefined);
  return { quantity: aggregate(partials, known), events: aggregate(partials, 'COUNT') };
}
