import assert from 'node:assert/strict';
import fc from 'fast-check';
import { amountFromDetails } from '../../billing/explain.ts';
import type { InvoiceLine } from '../../billing/line.ts';
import { changeLines } from '../../billing/plan-change.ts';
import type { Charge, MeterDefinition, Price } from '../../billing/plan.ts';
import type { UsagePartial } from '../../billing/rate.ts';
import { bill } from './bill.ts';

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
const meter: MeterDefinition = {
  id: 'mtr',
  key: 'calls',
  name: 'Calls',
  unit_one: 'call',
  unit_other: 'calls',
  scale: 1,
  aggregation: 'SUM',
};
const rows = (quantity: bigint): readonly UsagePartial[] => [
  { quantity, eventCount: 2n, maxQuantity: quantity, latestQuantity: quantity, latestAt: 0 },
];

function linesOf(of: Price, before: bigint, now: bigint, isFirst: boolean): readonly InvoiceLine[] {
  const charges: readonly Charge[] = [
    { kind: 'recurring', id: 'fee', display_name: 'Fee', amount_minor: '2999' },
    { kind: 'one_time', id: 'setup', display_name: 'Set-up', amount_minor: '777' },
    {
      ...{ kind: 'usage', id: 'chg', display_name: 'Label', meter, price: of },
      ...{ included_units: '70', minimum_minor: '300', maximum_minor: '50000' },
    },
  ];
  const credits = {
    ...{ unit: 'credit', included_micro: '0', credit_price: '0.033', burn: [] },
    overage: null,
  };
  return bill(
    { currency: 'USD', charges, credits },
    {
      ...{ feeDue: isFirst, oneTimeDue: isFirst },
      usage: [{ meterId: 'mtr', billedBefore: rows(before), thisPeriod: rows(now) }],
      overageMicro: { billedBefore: before * 1_000n, thisPeriod: now * 1_000n },
      feePart: { ratio: { numerator: 7n, denominator: 31n }, text: '7 of 31 days' },
      commitment: {
        ...{ commitmentMinor: 90_000n, billedMinor: before },
        part: { ratio: { numerator: 5n, denominator: 7n }, text: '5 of 7 days' },
      },
    },
  ).lines;
}

describe('billing/explain', () => {
  const quantity = fc.bigInt({ min: 0n, max: 9_999n });

  it('every line of any invoice can be worked out anew from its details', () => {
    fc.assert(
      fc.property(rule, quantity, quantity, fc.boolean(), (of, before, now, isFirst) => {
        for (const line of linesOf(of, before, now, isFirst)) {
          assert.equal(amountFromDetails(line, 'USD'), line.amountMinor, line.description);
        }
      }),
    );
  });

  it('so can the lines of a change', () => {
    const interval = { startMs: Date.UTC(2025, 0, 1), endMs: Date.UTC(2025, 1, 1) };
    fc.assert(
      fc.property(quantity, quantity, fc.nat(30), (paid, feeMinor, day) => {
        const fee = { chargeId: 'chg', planVersionId: 'pver', proration: 'day' } as const;
        const lines = changeLines({
          ...{ atMs: interval.startMs + day * 86_400_000, zone: 'UTC', currency: 'USD' },
          paid: [{ ...fee, name: 'Old', minor: paid, span: interval }],
          next: [{ ...fee, name: 'New', minor: feeMinor, span: interval }],
        });
        for (const line of lines) assert.equal(amountFromDetails(line, 'USD'), line.amountMinor);
      }),
    );
  });

  it('a changed detail gives another amount', () => {
    const lines = linesOf({ model: 'per_unit', unit_price: '1.5' }, 0n, 2_000n, true);
    const line = lines.find(({ kind }) => kind === 'usage');
    assert.ok(line !== undefined && 'tiers' in line.details);
    const [tier] = line.details.tiers;
    assert.ok(tier !== undefined);
    const forged = { ...line.details, tiers: [{ ...tier, quantity: '1' }] };
    assert.equal(amountFromDetails({ ...line, details: forged }, 'USD'), 150n);
    assert.equal(line.amountMinor, 28_950n);
  });

  it('a fee or credits without their price explain nothing', () => {
    const nothing = { quantity: null, unitPrice: null };
    const flat = { model: 'flat' } as const;
    for (const line of [nothing, { ...nothing, quantity: 1n }, { ...nothing, unitPrice: '1' }]) {
      assert.throws(
        () => amountFromDetails({ ...line, details: flat }, 'USD'),
        new RangeError('a fee without its quantity or price'),
      );
    }
    assert.equal(
      amountFromDetails({ quantity: 3n, unitPrice: '0.335', details: flat }, 'USD'),
      101n,
    );
    const credits = {
      model: 'credits',
      unit: 'credit',
      before_micro: '0',
      total_micro: '1',
    } as const;
    assert.throws(
      () => amountFromDetails({ ...nothing, details: credits }, 'USD'),
      new RangeError('credits without their price'),
    );
  });
});
