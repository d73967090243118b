/** What must hold for prices, taxes and totals of every kind, stated over generated ones. */
import assert from 'node:assert/strict';
import fc from 'fast-check';

import type { Price, Step, Tier } from '../../billing/plan.ts';
import { billableUnits, rate, rateMore } from '../../billing/rate.ts';
import { type TaxRate, taxBreakdown, type Taxation } from '../../billing/tax.ts';
import { totalUp } from '../../billing/totals.ts';

const cents = fc.integer({ min: 0, max: 100_000 }).map((n) => `${n / 1000}`);
const bounds = fc
  .uniqueArray(fc.integer({ min: 1, max: 10_000 }), { maxLength: 4 })
  .map((list) => [...list.toSorted((a, b) => a - b).map(String), null]);
const tiers: fc.Arbitrary<readonly Tier[]> = bounds.chain((ends) =>
  fc.tuple(
    ...ends.map((up_to) =>
      fc.record({ up_to: fc.constant(up_to), unit_price: cents, flat_fee: cents }),
    ),
  ),
);
const steps: fc.Arbitrary<readonly Step[]> = bounds.chain((ends) =>
  fc.tuple(...ends.map((up_to) => fc.record({ up_to: fc.constant(up_to), flat_fee: cents }))),
);
const size = fc.integer({ min: 1, max: 5_000 }).map(String);

/** Each model that a plan can sell by; a new one without an entry does not compile. */
const models: { readonly [model in Price['model']]: fc.Arbitrary<Price> } = {
  per_unit: cents.map((unit_price) => ({ model: 'per_unit', unit_price })),
  graduated: tiers.map((list) => ({ model: 'graduated', tiers: list })),
  volume: tiers.map((list) => ({ model: 'volume', tiers: list })),
  stairstep: steps.map((list) => ({ model: 'stairstep', tiers: list })),
  package: fc
    .tuple(size, cents, fc.constantFrom<'up' | 'down'>('up', 'down'))
    .map(([package_size, package_price, round]) => ({
      model: 'package',
      package_size,
      package_price,
      round,
    })),
  percentage: fc.tuple(cents, cents, fc.nat(50)).map(([percent, fixed_fee, free]) => ({
    model: 'percentage',
    percent,
    fixed_fee,
    free_events: String(free),
  })),
};
const counted = fc.record({
  quantity: fc.bigInt({ min: 0n, max: 20_000n }),
  events: fc.bigInt({ min: 0n, max: 200n }),
});

describe('billing › properties › an interval in parts', () => {
  for (const [model, price] of Object.entries(models)) {
    it(`${model}: the parts of an interval cost what the whole costs, to the last place`, () => {
      fc.assert(
        fc.property(
          price,
          fc.array(counted, { minLength: 1, maxLength: 6 }),
          fc.bigInt({ min: 0n, max: 30_000n }),
          fc.integer({ min: 0, max: 3 }),
          (given, parts, included, scale) => {
            let before: { readonly quantity: bigint; readonly events: bigint } | null = null;
            let sum = rate(given, 0n, scale).minus(rate(given, 0n, scale));
            for (const part of parts) {
              const total: { readonly quantity: bigint; readonly events: bigint } = {
                quantity: (before?.quantity ?? 0n) + part.quantity,
                events: (before?.events ?? 0n) + part.events,
              };
              sum = sum.plus(rateMore(given, included, { before, total }, scale));
              before = total;
            }
            assert.ok(before);
            const whole = {
              quantity: billableUnits(before.quantity, included),
              events: before.events,
            };
            assert.equal(sum.toFixed(), rate(given, whole, scale).toFixed());
          },
        ),
      );
    });
  }
});

const percent = fc.integer({ min: 0, max: 40_000 }).map((n) => `${n / 1000}`);
const rates: fc.Arbitrary<readonly TaxRate[]> = fc
  .array(percent, { minLength: 1, maxLength: 3 })
  .map((list) => list.map((one, index) => ({ name: `Rate ${index + 1}`, percent: one })));
const amounts = fc.array(fc.bigInt({ min: -5_000n, max: 1_000_000n }), {
  minLength: 1,
  maxLength: 8,
});

describe('billing › properties › taxes', () => {
  const of = (list: readonly bigint[]) =>
    list.map((amountMinor, index) => ({ chargeId: `${index}`, amountMinor }));

  it('how a sum is cut into lines changes no tax of it, of either kind', () => {
    fc.assert(
      fc.property(rates, amounts, fc.boolean(), (general, list, isInclusive) => {
        const taxation: Taxation = {
          kind: isInclusive ? 'inclusive' : 'exclusive',
          rates: { general },
        };
        const sum = list.reduce((all, amount) => all + amount, 0n);
        assert.deepEqual(taxBreakdown(of(list), taxation), taxBreakdown(of([sum]), taxation));
      }),
    );
  });

  it('a price with its taxes added holds these taxes again, to a cent for each rate', () => {
    fc.assert(
      fc.property(rates, fc.bigInt({ min: 0n, max: 10_000_000n }), (general, net) => {
        const added = taxBreakdown(of([net]), { kind: 'exclusive', rates: { general } });
        const gross = added.reduce((sum, { amountMinor }) => sum + amountMinor, net);
        const held = taxBreakdown(of([gross]), { kind: 'inclusive', rates: { general } });
        held.forEach(({ amountMinor, baseMinor }, index) => {
          const difference = amountMinor - (added[index]?.amountMinor ?? 0n);
          assert.ok(difference >= -1n && difference <= 1n, `${difference}`);
          assert.equal(baseMinor, gross);
        });
      }),
    );
  });

  it('with inclusive prices the total is the sum of the prices; with exclusive ones the taxes come on top', () => {
    fc.assert(
      fc.property(rates, amounts, (general, list) => {
        const sum = list.reduce((all, amount) => all + amount, 0n);
        const totals = (kind: 'inclusive' | 'exclusive') =>
          totalUp(of(list), {
            coupons: [],
            taxation: { kind, rates: { general } },
            balanceMinor: 0n,
          });
        assert.equal(totals('inclusive').totalMinor, sum);
        const exclusive = totals('exclusive');
        assert.equal(exclusive.totalMinor, sum + exclusive.taxMinor);
        const taxes = exclusive.taxes.reduce((all, tax) => all + tax.amountMinor, 0n);
        assert.equal(exclusive.taxMinor, taxes);
      }),
    );
  });

  it('nobody who is exempt, or accounts for the tax himself, pays any', () => {
    fc.assert(
      fc.property(amounts, fc.boolean(), (list, isExempt) => {
        const taxation: Taxation = isExempt
          ? { kind: 'exempt', reason: 'a charity' }
          : { kind: 'reverse_charge' };
        const sum = list.reduce((all, amount) => all + amount, 0n);
        const totals = totalUp(of(list), { coupons: [], taxation, balanceMinor: 0n });
        assert.deepEqual([totals.taxMinor, totals.totalMinor], [0n, sum]);
      }),
    );
  });
});
