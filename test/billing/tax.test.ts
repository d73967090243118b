import assert from 'node:assert/strict';
import fc from 'fast-check';
import type { Coupon } from '../../billing/discount.ts';
import {
  isTaxIncluded,
  taxBreakdown,
  taxLabel,
  taxOn,
  type Taxation,
  type TaxLine,
  type TaxRate,
  withTaxOfThen,
} from '../../billing/tax.ts';
import { balanceFor, totalUp } from '../../billing/totals.ts';

const vat: TaxRate = { name: 'VAT', percent: '19' };
const reduced: TaxRate = { name: 'VAT', percent: '7' };
const city: TaxRate = { name: 'City', percent: '1' };
const line = (chargeId: string, amountMinor: bigint) => ({ chargeId, amountMinor });
const rows = (taxes: readonly TaxLine[]) =>
  taxes.map((tax) => [taxLabel(tax), tax.baseMinor, tax.amountMinor] as const);

describe('billing/tax › breakdown', () => {
  it('rounds once for each rate, on the sum of its lines', () => {
    const lines = [line('a', 10n), line('b', 10n), line('c', 10n)];
    const taxation = { kind: 'exclusive', rates: { general: [{ name: 'VAT', percent: '5' }] } };
    // 0.5 of a cent on each line would round to 3 in all.
    assert.deepEqual(rows(taxBreakdown(lines, { ...taxation, kind: 'exclusive' })), [
      ['VAT (5%)', 30n, 2n],
    ]);
  });

  it('a charge may have rates of its own, or none', () => {
    const byCharge = new Map([
      ['book', [reduced]],
      ['both', [vat, city]],
      ['free', []],
    ]);
    const taxes = taxBreakdown(
      [line('fee', 100n), line('book', 1_000n), line('both', 10_000n), line('free', 7n)],
      { kind: 'exclusive', rates: { general: [vat], byCharge } },
    );
    assert.deepEqual(rows(taxes), [
      ['VAT (19%)', 10_100n, 1_919n],
      ['VAT (7%)', 1_000n, 70n],
      ['City (1%)', 10_000n, 100n],
    ]);
  });

  it('inclusive prices hold the tax: gross × rate ÷ (100 + all rates of the line)', () => {
    const of = (general: readonly TaxRate[], amount: bigint) =>
      rows(taxBreakdown([line('a', amount)], { kind: 'inclusive', rates: { general } }));
    assert.deepEqual(of([vat], 11_900n), [['VAT (19%)', 11_900n, 1_900n]]);
    assert.deepEqual(of([vat], 10_000n), [['VAT (19%)', 10_000n, 1_597n]]);
    assert.deepEqual(of([vat, city], 12_000n), [
      ['VAT (19%)', 12_000n, 1_900n],
      ['City (1%)', 12_000n, 100n],
    ]);
  });

  it('sums inclusive lines of other company exactly before it rounds', () => {
    // 100 × 5 ÷ 105 = 4.7619…, 100 × 5 ÷ 110 = 4.5454…: 9.307; rounded one by one they would be 10.
    const five = { name: 'A', percent: '5' };
    const other = { name: 'B', percent: '5' };
    const taxes = taxBreakdown([line('a', 100n), line('b', 100n)], {
      kind: 'inclusive',
      rates: { general: [five], byCharge: new Map([['b', [five, other]]]) },
    });
    assert.deepEqual(rows(taxes), [
      ['A (5%)', 200n, 9n],
      ['B (5%)', 100n, 5n],
    ]);
  });

  it('exempt and reverse charge owe nothing, and the invoice says which', () => {
    const lines = [line('a', 500n)];
    assert.deepEqual(rows(taxBreakdown(lines, { kind: 'exempt', reason: 'charity' })), [
      ['Tax (0%)', 500n, 0n],
    ]);
    assert.deepEqual(rows(taxBreakdown(lines, { kind: 'reverse_charge' })), [
      ['Reverse charge (0%)', 500n, 0n],
    ]);
  });

  it('an invoice without lines or rates still shows its tax', () => {
    assert.deepEqual(rows(taxBreakdown([], { kind: 'exclusive', rates: { general: [] } })), [
      ['Tax (0%)', 0n, 0n],
    ]);
    assert.deepEqual(rows(taxBreakdown([], { kind: 'exclusive', rates: { general: [vat] } })), [
      ['VAT (19%)', 0n, 0n],
    ]);
  });

  it('refuses a percentage that is no plain decimal', () => {
    assert.throws(() => taxOn(1n, '1e2'), RangeError);
  });

  it('no cent is lost: the base splits into net and tax, and adding a tax contains it again', () => {
    const percentage = fc
      .integer({ min: 0, max: 99_999 })
      .map((value) => (value / 1_000).toFixed(3));
    fc.assert(
      fc.property(fc.bigInt({ min: 0n, max: 10_000_000n }), percentage, (net, percent) => {
        const rate = { name: 'VAT', percent };
        const added = taxOn(net, percent);
        const [contained] = taxBreakdown([line('a', net + added)], {
          kind: 'inclusive',
          rates: { general: [rate] },
        });
        const off = (contained?.amountMinor ?? -9n) - added;
        assert.ok(off >= -1n && off <= 1n);
      }),
    );
  });
});

describe('billing/totals', () => {
  const settlement = {
    coupons: [],
    taxation: { kind: 'exclusive', rates: { general: [vat] } },
    balanceMinor: 0n,
  } as const;
  const half: Coupon = {
    id: 'cpn',
    name: 'Half',
    off: { kind: 'percent', percent: '50' },
    on: { kind: 'invoice' },
  };

  it('lines, discounts, tax, balance: in this order', () => {
    const totals = totalUp([line('a', 10_000n)], {
      ...settlement,
      coupons: [half],
      balanceMinor: 1_000n,
    });
    const { subtotalMinor, discountMinor, taxMinor, totalMinor } = totals;
    assert.deepEqual(
      [subtotalMinor, discountMinor, taxMinor, totalMinor],
      [10_000n, 5_000n, 950n, 5_950n],
    );
    assert.deepEqual([totals.balanceAppliedMinor, totals.amountDueMinor], [1_000n, 4_950n]);
    assert.equal(totals.taxes[0]?.baseMinor, 5_000n);
    assert.equal(totals.taxIncluded, false);
  });

  it('an inclusive tax is no part of the sum', () => {
    const totals = totalUp([line('a', 11_900n)], {
      ...settlement,
      taxation: { kind: 'inclusive', rates: { general: [vat] } },
    });
    assert.deepEqual([totals.taxMinor, totals.totalMinor], [1_900n, 11_900n]);
    assert.equal(totals.taxIncluded, true);
  });

  it('a negative total becomes account balance, and nothing is due', () => {
    const totals = totalUp([line('a', -100n)], { ...settlement, balanceMinor: 50n });
    assert.equal(totals.totalMinor, -119n);
    assert.deepEqual([totals.balanceAppliedMinor, totals.amountDueMinor], [-119n, 0n]);
  });

  it('the balance is applied to the total and never beyond it', () => {
    assert.equal(balanceFor(11n, 10_000n), 11n);
    assert.equal(balanceFor(11n, 10n), 10n);
    assert.equal(balanceFor(11n, 11n), 11n);
    assert.equal(balanceFor(0n, 5n), 0n);
    assert.equal(balanceFor(-3n, 5n), -3n);
    assert.throws(() => balanceFor(1n, -1n), RangeError);
  });

  it('adds up, whatever the lines', () => {
    const lines = fc.array(fc.bigInt({ min: -9_999n, max: 99_999n }), { maxLength: 8 });
    fc.assert(
      fc.property(
        lines,
        fc.bigInt({ min: 0n, max: 50_000n }),
        fc.boolean(),
        (amounts, balance, inclusive) => {
          const totals = totalUp(
            amounts.map((amount, index) => line(`c${index}`, amount)),
            {
              coupons: [half],
              taxation: {
                kind: inclusive ? 'inclusive' : 'exclusive',
                rates: { general: [vat, city] },
              },
              balanceMinor: balance,
            },
          );
          const sum = (of: readonly { readonly amountMinor: bigint }[]) =>
            of.reduce((all, one) => all + one.amountMinor, 0n);
          assert.equal(totals.taxMinor, sum(totals.taxes));
          assert.equal(totals.discountMinor, sum(totals.discounts));
          const added = inclusive ? 0n : totals.taxMinor;
          assert.equal(totals.totalMinor, totals.subtotalMinor - totals.discountMinor + added);
          assert.equal(totals.amountDueMinor + totals.balanceAppliedMinor, totals.totalMinor);
          assert.ok(totals.amountDueMinor >= 0n && totals.balanceAppliedMinor <= balance);
        },
      ),
    );
  });
});

describe('billing/tax › what is given back', () => {
  const taxed = (kind: 'exclusive' | 'inclusive', ...general: readonly TaxRate[]): Taxation => ({
    kind,
    rates: { general },
  });
  const exempt: Taxation = { kind: 'exempt', reason: 'school' };
  const reverse: Taxation = { kind: 'reverse_charge' };
  const lines = [line('old', -10_000n), line('new', 20_000n)];
  const shown = (now: Taxation, then: Taxation): ReturnType<typeof rows> =>
    rows(taxBreakdown(lines, withTaxOfThen(now, new Map([['old', then]]))));

  it('takes back the tax that it was billed with, whatever holds now', () => {
    const later: TaxRate = { name: 'VAT', percent: '20' };
    assert.deepEqual(shown(taxed('exclusive', later), taxed('exclusive', vat)), [
      ['VAT (20%)', 20_000n, 4000n],
      ['VAT (19%)', -10_000n, -1900n],
    ]);
    assert.deepEqual(shown(reverse, taxed('exclusive', vat)), [
      ['Reverse charge (0%)', 20_000n, 0n],
      ['VAT (19%)', -10_000n, -1900n],
    ]);
    assert.deepEqual(shown(taxed('exclusive', vat), exempt), [
      ['VAT (19%)', 20_000n, 3800n],
      ['Tax (0%)', -10_000n, 0n],
    ]);
    assert.deepEqual(shown(taxed('exclusive', vat), taxed('exclusive')), [
      ['VAT (19%)', 20_000n, 3800n],
    ]);
    assert.deepEqual(shown(exempt, reverse), [
      ['Tax (0%)', 20_000n, 0n],
      ['Reverse charge (0%)', -10_000n, 0n],
    ]);
  });

  it('takes it out of prices that held it', () => {
    const taxation = withTaxOfThen(
      reverse,
      new Map([
        ['free', exempt],
        ['old', taxed('inclusive', vat)],
      ]),
    );
    assert.ok(isTaxIncluded(taxation));
    const { taxes, totalMinor } = totalUp(lines, { coupons: [], taxation, balanceMinor: 0n });
    // 10000 × 19 ÷ 119.
    assert.deepEqual(rows(taxes), [
      ['Reverse charge (0%)', 20_000n, 0n],
      ['VAT (19%)', -10_000n, -1597n],
    ]);
    assert.equal(totalMinor, 10_000n);
  });

  it('is taxed as everything else where nothing changed', () => {
    for (const same of [taxed('exclusive', vat, city), taxed('inclusive'), exempt, reverse]) {
      assert.equal(withTaxOfThen(same, new Map([['old', same]])), same);
    }
    assert.equal(isTaxIncluded(exempt) || isTaxIncluded(reverse), false);
  });

  it('leaves the rates of other charges alone', () => {
    const now: Taxation = {
      kind: 'exclusive',
      rates: { general: [vat], byCharge: new Map([['new', [reduced]]]) },
    };
    assert.deepEqual(shown(now, taxed('exclusive', city)), [
      ['VAT (19%)', 0n, 0n],
      ['City (1%)', -10_000n, -100n],
      ['VAT (7%)', 20_000n, 1400n],
    ]);
  });
});
