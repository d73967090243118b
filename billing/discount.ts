import { allocate, type Minor, sumOf } from './money.ts';
import { divideRounded, ratioOf } from './ratio.ts';

/** A discount that a subscriber holds. Line coupons are taken first, then invoice coupons, each in the order given. */
export type Coupon = {
  readonly id: string;
  readonly name: string;
  readonly off: Off;
  readonly on:
    | {
        readonly kind: 'invoice';
        /** The charges whose lines it is taken off, or those that it leaves out; default every line. */
        readonly among?: {
          readonly kind: 'only' | 'except';
          readonly chargeIds: readonly string[];
        };
      }
    | { readonly kind: 'lines'; readonly chargeIds: readonly string[] };
  /** True: it is for fees of the interval after the invoiced one, and used by that. */
  readonly isAhead?: boolean;
  /** True: it has one interval left, so that it is not taken where one of the same id, for this interval, took something. */
  readonly isElse?: boolean;
};

/** `percent`: a plain decimal, 0–100. A fixed amount is in minor units of the invoice's currency, from zero up. */
export type Off =
  | { readonly kind: 'percent'; readonly percent: string }
  | { readonly kind: 'fixed'; readonly amountMinor: Minor };

/** One coupon on one invoice. The shares add up to the amount; both are from zero up. */
export type Discount = {
  readonly couponId: string;
  readonly name: string;
  readonly amountMinor: Minor;
  /** What of it each line of the invoice bears, in the order of the lines. */
  readonly shares: readonly Minor[];
  /** As on the coupon. */
  readonly isAhead?: boolean;
  /** What the lines are less by already, as fees of a change of plan are: it is used, and nothing more is taken off. */
  readonly reckonedMinor?: Minor;
};

/**
 * What a coupon takes off an amount, rounded once: never more than the amount, never below zero; the rest of a fixed
 * coupon is not carried over.
 * @throws RangeError when a percentage is no plain decimal from 0 to 100, or a fixed amount is negative.
 */
export function discountOn(amountMinor: Minor, off: Off): Minor {
  const base = amountMinor > 0n ? amountMinor : 0n;
  if (off.kind === 'percent') {
    const { numerator, denominator } = ratioOf(off.percent);
    if (numerator < 0n || numerator > 100n * denominator) {
      throw new RangeError(`not a percentage from 0 to 100: ${off.percent}`);
    }
    return divideRounded(base * numerator, 100n * denominator);
  }
  if (off.amountMinor < 0n) throw new RangeError('a discount is never negative');
  return off.amountMinor < base ? off.amountMinor : base;
}

/** A line as a discount sees it. */
export type DiscountableLine = { readonly chargeId: string | null; readonly amountMinor: Minor };

/**
 * The discounts of an invoice: line coupons, then invoice coupons, each on what is left of the lines, shared over them in
 * proportion to what is left. Lines that give money back are not discounted, and no coupon takes more than what its lines
 * leave together.
 */
export function discountLines(
  lines: readonly DiscountableLine[],
  coupons: readonly Coupon[],
): Discount[] {
  const left = lines.map((line) => line.amountMinor);
  const inOrder = [
    ...coupons.filter((coupon) => coupon.on.kind === 'lines'),
    ...coupons.filter((coupon) => coupon.on.kind === 'invoice'),
  ];
  const used = new Set<string>();
  return inOrder.map((coupon) => {
    const isLeft = !(coupon.isElse === true && used.has(coupon.id));
    const weights = lines.map((line, index) => {
      const amount = left[index] ?? 0n;
      return isLeft && isOn(coupon, line) && amount > 0n ? amount : 0n;
    });
    const amountMinor = lesser(
      discountOn(sumOf(weights), coupon.off),
      sumOf(left.filter((_, index) => isOn(coupon, lines[index]))),
    );
    const shares = allocate(amountMinor, weights);
    for (const [index, share] of shares.entries()) left[index] = (left[index] ?? 0n) - share;
    if (amountMinor > 0n) used.add(coupon.id);
    return {
      couponId: coupon.id,
      name: coupon.name,
      amountMinor,
      shares,
      ...(coupon.isAhead === true && { isAhead: true }),
    };
  });
}

/** One discount for each coupon, as an invoice shows them: what it took for two intervals is one amount. */
export function byCoupon(discounts: readonly Discount[]): Discount[] {
  return [...Map.groupBy(discounts, ({ couponId }) => couponId)].flatMap(([couponId, parts]) => {
    const [first] = parts;
    if (first === undefined) return [];
    const shares = first.shares.map((_, index) =>
      sumOf(parts.map((part) => part.shares[index] ?? 0n)),
    );
    return [
      {
        couponId,
        name: first.name,
        amountMinor: sumOf(parts.map((part) => part.amountMinor)),
        shares,
      },
    ];
  });
}

function isOn({ on }: Coupon, line: DiscountableLine | undefined): boolean {
  const isAmong = (chargeIds: readonly string[]): boolean =>
    line !== undefined && line.chargeId !== null && chargeIds.includes(line.chargeId);
  if (on.kind === 'lines') return isAmong(on.chargeIds);
  if (on.among === undefined) return true;
  return isAmong(on.among.chargeIds) === (on.among.kind === 'only');
}

/** The lesser of the two, and never below zero. */
function lesser(a: Minor, b: Minor): Minor {
  const least = a < b ? a : b;
  return least > 0n ? least : 0n;
}

/**
 * The same discounts as mere uses of their coupons, for an invoice whose lines are what is left after them. `isWhole`
 * false: the amounts are not used up by it.
 */
export function reckoned(
  discounts: readonly Discount[],
  of: { readonly lineCount: number; readonly isWhole: boolean },
): Discount[] {
  const shares = Array.from({ length: of.lineCount }, () => 0n);
  return discounts.map((discount) => ({
    ...discount,
    amountMinor: 0n,
    shares,
    reckonedMinor: of.isWhole ? discount.amountMinor : 0n,
  }));
}

/** What is left of each line after every discount. */
export function afterDiscounts(
  lines: readonly DiscountableLine[],
  discounts: readonly Discount[],
): Minor[] {
  return lines.map((line, index) =>
    discounts.reduce((left, discount) => left - (discount.shares[index] ?? 0n), line.amountMinor),
  );
}
