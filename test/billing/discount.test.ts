import assert from 'node:assert/strict';
import fc from 'fast-check';
import {
  afterDiscounts,
  byCoupon,
  type Coupon,
  type Discount,
  discountLines,
  discountOn,
  type Off,
  reckoned,
} from '../../billing/discount.ts';
import { formatAmount } from '../../billing/money.ts';

const percent = (value: string): Off => ({ kind: 'percent', percent: value });
const fixed = (amountMinor: bigint): Off => ({ kind: 'fixed', amountMinor });
const coupon = (off: Off, chargeIds?: readonly string[]): Coupon => ({
  id: 'cpn',
  name: 'Welcome',
  off,
  on: chargeIds === undefined ? { kind: 'invoice' } : { kind: 'lines', chargeIds },
});
const line = (chargeId: string | null, amountMinor: bigint) => ({ chargeId, amountMinor });

describe('billing/discount › discountOn', () => {
  const rows: readonly (readonly [bigint, Off, bigint])[] = [
    [1_000n, percent('33.333'), 333n],
    [100n, percent('0.1'), 0n],
    [1n, percent('50'), 1n],
    [999n, percent('100'), 999n],
    [999n, percent('0'), 0n],
    [1_000n, fixed(1_500n), 1_000n],
    [1_000n, fixed(999n), 999n],
    [1_000n, fixed(0n), 0n],
    [0n, percent('50'), 0n],
    [-1_000n, percent('50'), 0n],
    [-1_000n, fixed(5n), 0n],
  ];
  for (const [amount, off, expected] of rows) {
    const what = off.kind === 'percent' ? `${off.percent}%` : `${off.amountMinor} cents`;
    it(`${what} off ${amount} cents is ${expected}`, () => {
      assert.equal(discountOn(amount, off), expected);
    });
  }
  it('refuses what is no discount', () => {
    assert.throws(() => discountOn(1n, percent('100.1')), RangeError);
    assert.throws(() => discountOn(1n, percent('-1')), RangeError);
    assert.throws(() => discountOn(1n, fixed(-1n)), RangeError);
  });
});

describe('billing/discount › discountLines', () => {
  it('line coupons come first, wherever they stand, and each is taken off what is left', () => {
    const lines = [line('fee', 10_000n), line('calls', 2_000n)];
    const discounts = discountLines(lines, [
      coupon(percent('50')),
      coupon(fixed(1_000n), ['calls']),
      coupon(percent('10'), ['calls']),
    ]);
    assert.deepEqual(
      discounts.map(({ amountMinor, shares }) => [amountMinor, ...shares]),
      [
        [1_000n, 0n, 1_000n],
        [100n, 0n, 100n],
        [5_450n, 5_000n, 450n],
      ],
    );
    assert.deepEqual(afterDiscounts(lines, discounts), [5_000n, 450n]);
    assert.deepEqual([discounts[0]?.couponId, discounts[0]?.name], ['cpn', 'Welcome']);
  });

  it('lines without a charge take part in invoice coupons only', () => {
    const lines = [line(null, 100n), line('a', 100n)];
    const [onLine, onInvoice] = discountLines(lines, [
      coupon(percent('10'), ['a']),
      coupon(percent('10')),
    ]);
    assert.deepEqual(onLine?.shares, [0n, 10n]);
    assert.deepEqual(onInvoice?.shares, [10n, 9n]);
  });

  it('a coupon for a charge that the invoice lacks takes nothing', () => {
    const [discount] = discountLines([line('a', 100n)], [coupon(fixed(50n), ['b'])]);
    assert.deepEqual([discount?.amountMinor, discount?.shares], [0n, [0n]]);
  });

  it('lines that give money back are not discounted, and bound what is taken', () => {
    const lines = [line('a', 10_000n), line('b', -9_000n)];
    const [half] = discountLines(lines, [coupon(percent('50'))]);
    assert.deepEqual(half?.shares, [1_000n, 0n]);
    const [none] = discountLines([line('a', 10n), line('b', -20n)], [coupon(fixed(5n))]);
    assert.deepEqual(none?.shares, [0n, 0n]);
    const [own] = discountLines([line('a', 10n), line('b', -8n)], [coupon(fixed(10n), ['a'])]);
    assert.deepEqual(own?.shares, [10n, 0n], 'what another line gives back is not its concern');
  });

  it('a coupon for some charges only, or for all but some, leaves the other lines alone', () => {
    const lines = [
      { chargeId: 'fee', amountMinor: 1000n },
      { chargeId: 'calls', amountMinor: 500n },
      { chargeId: null, amountMinor: 200n },
    ];
    const off: Off = { kind: 'percent', percent: '10' };
    const sharesOf = (kind: 'only' | 'except'): readonly bigint[] | undefined =>
      discountLines(lines, [
        { id: 'a', name: 'a', off, on: { kind: 'invoice', among: { kind, chargeIds: ['fee'] } } },
      ])[0]?.shares;
    assert.deepEqual(sharesOf('only'), [100n, 0n, 0n]);
    assert.deepEqual(sharesOf('except'), [0n, 50n, 20n]);
  });

  it('a part that is only taken else takes nothing after another part of its coupon did', () => {
    const off: Off = { kind: 'percent', percent: '10' };
    const part = (chargeId: string, more: Partial<Coupon> = {}): Coupon => ({
      id: 'a',
      name: 'a',
      off,
      on: { kind: 'lines', chargeIds: [chargeId] },
      ...more,
    });
    const coupons = [part('calls'), part('fee', { isAhead: true, isElse: true })];
    const take = (calls: bigint): readonly (readonly [bigint, boolean | undefined])[] =>
      discountLines(
        [
          { chargeId: 'fee', amountMinor: 1000n },
          { chargeId: 'calls', amountMinor: calls },
        ],
        coupons,
      ).map(({ amountMinor, isAhead }) => [amountMinor, isAhead]);
    assert.deepEqual(take(500n), [
      [50n, undefined],
      [0n, true],
    ]);
    assert.deepEqual(take(0n), [
      [0n, undefined],
      [100n, true],
    ]);
    const other = discountLines(
      [{ chargeId: 'fee', amountMinor: 1000n }],
      [{ ...part('fee'), id: 'b' }, part('fee', { isElse: true })],
    );
    assert.deepEqual(
      other.map(({ amountMinor }) => amountMinor),
      [100n, 90n],
    );
  });

  it('what lines are less by already is used, and takes nothing more', () => {
    const discounts = discountLines([line('fee', 1000n)], [coupon(percent('25'))]);
    const used = { couponId: 'cpn', name: 'Welcome', amountMinor: 0n, shares: [0n, 0n] };
    assert.deepEqual(reckoned(discounts, { lineCount: 2, isWhole: true }), [
      { ...used, reckonedMinor: 250n },
    ]);
    assert.deepEqual(reckoned(discounts, { lineCount: 2, isWhole: false }), [
      { ...used, reckonedMinor: 0n },
    ]);
  });

  it('the parts of a coupon are shown as one', () => {
    const of = (couponId: string, amountMinor: bigint, shares: readonly bigint[]): Discount => ({
      couponId,
      name: `name of ${couponId}`,
      amountMinor,
      shares,
      isAhead: true,
    });
    assert.deepEqual(
      byCoupon([of('a', 3n, [1n, 2n]), of('b', 5n, [5n, 0n]), of('a', 4n, [4n, 0n])]),
      [
        { couponId: 'a', name: 'name of a', amountMinor: 7n, shares: [5n, 2n] },
        { couponId: 'b', name: 'name of b', amountMinor: 5n, shares: [5n, 0n] },
      ],
    );
    assert.deepEqual(byCoupon([]), []);
  });

  it('shares follow what is left of the lines, by the largest remainder', () => {
    const fees = [1_000n, 2_000n, 3_000n, 4_000n, 1_000n, 2_000n, 3_000n, 4_000n];
    const lines = fees.map((amount, index) => line(`fee_${index + 1}`, amount));
    const discounts = discountLines(lines, [
      coupon(fixed(2_000n), ['fee_1', 'fee_2']),
      coupon(fixed(1_000n), ['fee_5', 'fee_6', 'fee_7', 'fee_8']),
      coupon(fixed(500n)),
    ]);
    const left = afterDiscounts(lines, discounts);
    assert.deepEqual(
      left.map((amount, index) => formatAmount((fees[index] ?? 0n) - amount, 'EUR')),
      ['6.77', '13.53', '0.88', '1.18', '1.26', '2.53', '3.79', '5.06'],
    );
    assert.equal(
      left.reduce((sum, amount) => sum + amount, 0n),
      16_500n,
    );
  });

  it('shares add up, no line falls below zero, and only positive lines are touched (invariant 3)', () => {
    const off = fc.oneof(
      fc.integer({ min: 0, max: 1_000 }).map((tenth) => percent((tenth / 10).toFixed(1))),
      fc.bigInt({ min: 0n, max: 30_000n }).map(fixed),
    );
    const coupons = fc.array(
      fc.tuple(off, fc.option(fc.subarray(['a', 'b', 'c']), { nil: undefined })),
      { maxLength: 4 },
    );
    const lines = fc.array(
      fc.record({
        chargeId: fc.constantFrom('a', 'b', 'c', null),
        amountMinor: fc.bigInt({ min: -5_000n, max: 10_000n }),
      }),
      { maxLength: 6 },
    );
    fc.assert(
      fc.property(lines, coupons, (given, some) => {
        const discounts = discountLines(
          given,
          some.map(([one, on]) => coupon(one, on)),
        );
        const left = afterDiscounts(given, discounts);
        for (const { amountMinor, shares } of discounts) {
          assert.ok(amountMinor >= 0n);
          assert.equal(
            shares.reduce((sum, share) => sum + share, 0n),
            amountMinor,
          );
        }
        given.forEach(({ amountMinor }, index) => {
          const now = left[index] ?? 0n;
          assert.ok(amountMinor > 0n ? now >= 0n && now <= amountMinor : now === amountMinor);
        });
        const sum = (amounts: readonly bigint[]) => amounts.reduce((all, one) => all + one, 0n);
        const gross = sum(given.map(({ amountMinor }) => amountMinor));
        if (some.every(([, on]) => on === undefined)) {
          assert.ok(gross > 0n ? sum(left) >= 0n : sum(left) === gross);
        }
      }),
    );
  });
});
