import { afterDiscounts, type Coupon, type Discount, discountLines } from './discount.ts';
import { type Minor, sumOf } from './money.ts';
import { isTaxIncluded, taxBreakdown, type Taxation, type TaxLine } from './tax.ts';

/** What happens to the lines of an invoice, in this order: discounts, tax, account balance. */
export type Settlement = {
  readonly coupons: readonly Coupon[];
  readonly taxation: Taxation;
  /** Money that the subscriber has with the operator, from zero up. */
  readonly balanceMinor: Minor;
};

/** The foot of an invoice. Each amount follows from the rounded ones above it. */
export type Totals = {
  /** The sum of the lines. */
  readonly subtotalMinor: Minor;
  readonly discounts: readonly Discount[];
  /** The sum of the discounts, from zero up. */
  readonly discountMinor: Minor;
  /** Never empty: `Tax (0%)` is always shown. */
  readonly taxes: readonly TaxLine[];
  /** The sum of the taxes, whether the prices hold it or it is added. */
  readonly taxMinor: Minor;
  /** True: the prices hold the tax, so that it is no part of the sum below. */
  readonly taxIncluded: boolean;
  /** Subtotal − discounts, + tax where it is added. May be negative. */
  readonly totalMinor: Minor;
  /** What is taken from the account balance (above zero) or given to it (below zero, a negative total). */
  readonly balanceAppliedMinor: Minor;
  /** Total − balance applied; never below zero. */
  readonly amountDueMinor: Minor;
  /** What was taxed how: credit notes are worked out by it. */
  readonly taxation: Taxation;
};

/**
 * Lines to totals. The account balance is applied to the rounded total, never beyond it, and leaves the tax alone.
 * @throws RangeError when the balance is negative.
 */
export function totalUp(
  lines: readonly { readonly chargeId: string | null; readonly amountMinor: Minor }[],
  { coupons, taxation, balanceMinor }: Settlement,
): Totals {
  const discounts = discountLines(lines, coupons);
  const left = afterDiscounts(lines, discounts);
  const taxes = taxBreakdown(
    lines.map(({ chargeId }, index) => ({ chargeId, amountMinor: left[index] ?? 0n })),
    taxation,
  );
  const subtotalMinor = sumOf(lines.map((line) => line.amountMinor));
  const discountMinor = sumOf(discounts.map((discount) => discount.amountMinor));
  const taxMinor = sumOf(taxes.map((tax) => tax.amountMinor));
  const taxIncluded = isTaxIncluded(taxation);
  const totalMinor = subtotalMinor - discountMinor + (taxIncluded ? 0n : taxMinor);
  const balanceAppliedMinor = balanceFor(totalMinor, balanceMinor);
  return {
    subtotalMinor,
    discounts,
    discountMinor,
    taxes,
    taxMinor,
    taxIncluded,
    totalMinor,
    balanceAppliedMinor,
    amountDueMinor: totalMinor - balanceAppliedMinor,
    taxation,
  };
}

/**
 * What of an account balance a total takes, never beyond either; a negative total is given to the balance.
 * @throws RangeError when the balance is negative.
 */
export function balanceFor(totalMinor: Minor, balanceMinor: Minor): Minor {
  if (balanceMinor < 0n) throw new RangeError('an account balance is never negative');
  return totalMinor < balanceMinor ? totalMinor : balanceMinor;
}
