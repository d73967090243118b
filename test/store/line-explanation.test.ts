import assert from 'node:assert/strict';

import fc from 'fast-check';

import type { Price } from '../../billing/plan.ts';
import { type Db } from '../../store/db.ts';
import { findInvoiceRead, type InvoiceLineRead } from '../../store/invoice-reads.ts';
import { explainLine } from '../../store/line-explanation.ts';
import { faultsOf, type World } from '../workflows/support/world.ts';
import { begin, type Life, publish, seedCoupon, type Terms } from './life.ts';
import { withBooks } from './with-books.ts';

const start = new Date('2025-01-01T00:00:00Z');
const at = (hours: number): Date => new Date(start.getTime() + hours * 3_600_000);
const JANUARY_HOURS = 31 * 24;

const prices: readonly Price[] = [
  { model: 'per_unit', unit_price: '0.0333' },
  {
    model: 'graduated',
    tiers: [
      { up_to: '50', unit_price: '1.005', flat_fee: '2' },
      { up_to: null, unit_price: '0.333', flat_fee: '0.5' },
    ],
  },
  {
    model: 'volume',
    tiers: [
      { up_to: '80', unit_price: '0.5', flat_fee: '0' },
      { up_to: null, unit_price: '0.1', flat_fee: '3' },
    ],
  },
  { model: 'package', package_size: '30', package_price: '0.77' },
];

/** What happens in January: use of a stretch of hours, a change of plan or an early close. */
type Step =
  | { readonly kind: 'use'; readonly hour: number; readonly quantity: number }
  | { readonly kind: 'late'; readonly hour: number; readonly quantity: number }
  | {
      readonly kind: 'change';
      readonly hour: number;
      readonly terms: PlanOf;
      readonly isUndone: boolean;
    }
  | { readonly kind: 'cut'; readonly hour: number };
type PlanOf = {
  readonly price: number;
  readonly fee: number;
  readonly isAhead: boolean;
  readonly included: number;
  readonly minimum: number | null;
  readonly maximum: number | null;
  readonly commitment: number | null;
};

const planOf: fc.Arbitrary<PlanOf> = fc.record({
  ...{ price: fc.nat(prices.length - 1), fee: fc.nat(99_999), isAhead: fc.boolean() },
  ...{ included: fc.nat(60), minimum: fc.option(fc.integer({ min: 1, max: 9_000 })) },
  maximum: fc.option(fc.integer({ min: 100, max: 9_000 })),
  commitment: fc.option(fc.integer({ min: 1, max: 200_000 })),
});
const hour = fc.integer({ min: 1, max: JANUARY_HOURS - 2 });
const quantity = fc.integer({ min: 1, max: 120 });
const step: fc.Arbitrary<Step> = fc.oneof(
  { weight: 4, arbitrary: fc.record({ kind: fc.constant('use'), hour, quantity }) },
  { weight: 3, arbitrary: fc.record({ kind: fc.constant('late'), hour, quantity }) },
  {
    weight: 2,
    arbitrary: fc.record({
      ...{ kind: fc.constant('change'), hour, terms: planOf, isUndone: fc.boolean() },
    }),
  },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('cut'), hour }) },
);
type LifeOf = {
  readonly first: PlanOf;
  readonly steps: readonly Step[];
  readonly coupon: 'none' | 'percent' | 'fixed';
  readonly isLaterStill: boolean;
};
const life: fc.Arbitrary<LifeOf> = fc.record({
  first: planOf,
  steps: fc.uniqueArray(step, { maxLength: 14, selector: (one) => one.hour }),
  coupon: fc.constantFrom('none', 'percent', 'fixed'),
  isLaterStill: fc.boolean(),
});

/** A life that has every kind of line. */
const telling: LifeOf = {
  first: {
    ...{ price: 0, fee: 3_100, isAhead: true, included: 0 },
    ...{ minimum: 500, maximum: null, commitment: null },
  },
  steps: [
    { kind: 'use', hour: 30, quantity: 10 },
    { kind: 'cut', hour: 100 },
    {
      kind: 'change',
      hour: 200,
      terms: {
        ...{ price: 1, fee: 6_200, isAhead: false, included: 5 },
        ...{ minimum: null, maximum: 100, commitment: 99_999 },
      },
      isUndone: false,
    },
    { kind: 'use', hour: 300, quantity: 120 },
    { kind: 'late', hour: 20, quantity: 7 },
    { kind: 'late', hour: 150, quantity: 8 },
    { kind: 'late', hour: 310, quantity: 9 },
  ],
  coupon: 'percent',
  isLaterStill: true,
};

describe('store/line-explanation', () => {
  let db: Db;
  let world: World;

  withBooks((books) => {
    ({ db, world } = books);
  });
  afterEach(async () => {
    assert.deepEqual(await faultsOf(db), []);
  });

  function publishOf(of: PlanOf): Promise<string> {
    const terms: Terms = {
      ...{ fee: String(of.fee), isAhead: of.isAhead, included: String(of.included) },
      price: prices[of.price] ?? assert.fail(),
      ...(of.minimum !== null && { minimum: String(of.minimum) }),
      ...(of.maximum !== null && { maximum: String(of.maximum) }),
      ...(of.commitment !== null && { commitment_minor: String(of.commitment) }),
    };
    return publish(db, world, terms);
  }

  /** Lives through January and what comes late for it; every estimate on the way is checked to be the invoice. */
  async function lived(of: LifeOf): Promise<Life> {
    const couponIds =
      of.coupon === 'none'
        ? []
        : [
            await seedCoupon(
              db,
              of.coupon === 'fixed' ? { amountMinor: '500' } : { percent: '12.5' },
            ),
          ];
    let planVersionId = await publishOf(of.first);
    const one = await begin(db, world, { planVersionId, startAt: start, couponIds });
    for (const now of of.steps.toSorted((a, b) => a.hour - b.hour)) {
      switch (now.kind) {
        case 'use':
          await one.use(at(now.hour), BigInt(now.quantity));
          break;
        case 'change': {
          const next = await publishOf(now.terms);
          await one.change(at(now.hour), next);
          // A little later, so that a stretch of another plan stays behind.
          if (now.isUndone)
            await one.change(new Date(at(now.hour).getTime() + 60_000), planVersionId);
          else planVersionId = next;
          break;
        }
        case 'cut':
          await one.close(await one.cut(at(now.hour)));
          break;
        case 'late':
          break;
        default:
          now satisfies never;
      }
    }
    await one.close(await one.at(at(JANUARY_HOURS - 1)));
    const late = of.steps.filter((each) => each.kind === 'late');
    for (const [index, each] of late.entries()) {
      if (index % 2 === 1 && of.isLaterStill) continue;
      await one.use(at(each.hour), BigInt(each.quantity), at(JANUARY_HOURS + 100));
    }
    await one.close(await one.at(at(JANUARY_HOURS + 100)));
    for (const [index, each] of late.entries()) {
      if (index % 2 === 0 || !of.isLaterStill) continue;
      await one.use(at(each.hour), BigInt(each.quantity), at(JANUARY_HOURS + 1_000));
    }
    await one.close(await one.at(at(JANUARY_HOURS + 1_000)));
    return one;
  }

  async function checkLines(one: Life, seen: Set<string>): Promise<readonly InvoiceLineRead[]> {
    const all: InvoiceLineRead[] = [];
    const ids = await db('invoices')
      .where({ subscription_id: one.subscriptionId })
      .orderBy('number_in_series')
      .select<{ id: string }[]>('id');
    for (const { id } of ids) {
      const invoice = await findInvoiceRead(db, 'test', id);
      assert.ok(invoice !== null);
      const lines = await db('invoice_lines')
        .where({ invoice_id: id })
        .orderBy('position')
        .select<InvoiceLineRead[]>('*');
      for (const line of lines) {
        const told = await explainLine(db, invoice, { line, lines });
        if ('model' in line.details) seen.add(`${line.kind} ${line.details.model}`);
        const isUsage = line.meter_id !== null;
        assert.deepEqual(
          told.recomputed,
          {
            fromDetailsMinor: line.amount_minor,
            fromHoursMinor: isUsage ? line.amount_minor : null,
            isExact: true,
          },
          line.description,
        );
        if (isUsage) assert.equal(told.period?.subscriptionId, one.subscriptionId);
        all.push(line);
      }
    }
    return all;
  }

  /** The lines of a charge go on where the one before ended: nothing is billed twice, and nothing is left out. */
  function checkChains(lines: readonly InvoiceLineRead[]): void {
    const counted = lines.filter(
      ({ details }) =>
        'aggregation' in details && (details.run?.start_at ?? '') < at(JANUARY_HOURS).toISOString(),
    );
    const byRun = Map.groupBy(counted, (line) => line.charge_id);
    for (const ofCharge of byRun.values()) {
      let total = '0';
      for (const { details, description } of ofCharge) {
        assert.ok('aggregation' in details);
        assert.equal(details.before ?? '0', total, description);
        total = details.total;
      }
    }
  }

  it('every line of any life follows from its details and from its hours, and continues the one before', async () => {
    const seen = new Set<string>();
    await fc.assert(
      fc.asyncProperty(life, async (of) => {
        const one = await lived(of);
        const lines = await checkLines(one, seen);
        const isRevisited = of.steps.some((each) => each.kind === 'change' && each.isUndone);
        if (!isRevisited) checkChains(lines);
      }),
      { numRuns: 20, examples: [[telling]] },
    );
    for (const kind of ['recurring flat', 'recurring prorated', 'adjustment prorated']) {
      assert.ok(seen.has(kind), `no ${kind} was explained`);
    }
    for (const kind of ['usage maximum', 'adjustment commitment', 'adjustment graduated']) {
      assert.ok(seen.has(kind), `no ${kind} was explained`);
    }
  });
});
