import { discountOn, type Off } from './discount.ts';
import { type InvoiceLine, type LineContext } from './line.ts';
import { formatAmount, type Minor } from './money.ts';
import type { BillableDefinition, PlanDefinition } from './plan.ts';
import { prorate, type Proration, type Ratio, ratioLeft, ratioText, type Span } from './ratio.ts';
import { type Settlement, type Totals, totalUp } from './totals.ts';

/**
 * A change of plan in mid-period. What was paid for the time that is left is given back, the new fee for that time is
 * charged; each is rounded on its own. The day of the change belongs to the new plan.
 */
export type FeeChange = {
  /** What was really paid: after discounts, for the span that it paid for. */
  readonly paid: { readonly name: string; readonly minor: Minor; readonly span: Span };
  /** The new plan's fee for a whole interval, before its discount. */
  readonly next: { readonly name: string; readonly feeMinor: Minor; readonly off: Off | null };
  /** The billing interval that the change falls in. */
  readonly interval: Span;
  readonly atMs: number;
  readonly zone: string;
  readonly proration: Proration;
  /** True: the plans bill in other intervals, so that a whole one of the new plan begins with the change. */
  readonly isIntervalReset: boolean;
};

/** Both from zero up, in minor units. */
export type ChangeAmounts = { readonly creditMinor: Minor; readonly chargeMinor: Minor };

/** A fee after its discount, which is taken before any proration. */
export function feeAfter(feeMinor: Minor, off: Off | null): Minor {
  return off === null ? feeMinor : feeMinor - discountOn(feeMinor, off);
}

/** A change worked out from what is left of both fees. Ratios are parts of what was paid, and of the new fee. */
export function changeAmounts(
  paid: { readonly minor: Minor; readonly left: Ratio },
  next: { readonly feeMinor: Minor; readonly off: Off | null; readonly left: Ratio },
): ChangeAmounts {
  return {
    creditMinor: prorate(paid.minor, paid.left),
    chargeMinor: prorate(feeAfter(next.feeMinor, next.off), next.left),
  };
}

/**
 * The credit line and the charge line of a change. Undoing a change at the same instant gives the opposite amounts: what
 * is then paid for is the rest of the interval.
 * @throws RangeError when the change lies outside of the interval.
 */
export function changeLines(change: FeeChange, context: LineContext): InvoiceLine[] {
  const { paid, next, atMs, zone, proration, isIntervalReset } = change;
  const paidLeft = ratioLeft(atMs, paid.span, zone, proration);
  const nextLeft = isIntervalReset
    ? { numerator: 1n, denominator: 1n }
    : ratioLeft(atMs, change.interval, zone, proration);
  const { creditMinor, chargeMinor } = changeAmounts(
    { minor: paid.minor, left: paidLeft },
    { ...next, left: nextLeft },
  );
  const basis = feeAfter(next.feeMinor, next.off);
  return [
    partLine(
      { kind: 'adjustment', text: `Unused part of ${paid.name}`, basis: -paid.minor },
      { amountMinor: -creditMinor, left: paidLeft, proration },
      context,
    ),
    partLine(
      { kind: 'recurring', text: next.name, basis },
      { amountMinor: chargeMinor, left: nextLeft, proration },
      context,
    ),
  ];
}

function partLine(
  of: { readonly kind: 'adjustment' | 'recurring'; readonly text: string; readonly basis: Minor },
  part: { readonly amountMinor: Minor; readonly left: Ratio; readonly proration: Proration },
  { currency, planVersionId }: LineContext,
): InvoiceLine {
  const { amountMinor, left } = part;
  const isWhole = left.numerator === left.denominator;
  return {
    kind: of.kind,
    chargeId: null,
    meterId: null,
    planVersionId,
    description: isWhole ? of.text : `${of.text} (${ratioText(left, part.proration)})`,
    label: null,
    quantity: 1n,
    unitPrice: isWhole ? formatAmount(amountMinor, currency) : null,
    amountMinor,
    details: {
      model: 'prorated',
      basis_minor: of.basis.toString(),
      numerator: left.numerator.toString(),
      denominator: left.denominator.toString(),
    },
  };
}

/** The invoice of a change: preview and invoice are this one call. Discounts are in the fees already. */
export function assembleChange(
  change: FeeChange,
  context: LineContext,
  settlement: Omit<Settlement, 'coupons'>,
): Totals & { readonly lines: readonly InvoiceLine[] } {
  const lines = changeLines(change, context);
  return { lines, ...totalUp(lines, { ...settlement, coupons: [] }) };
}

/** When a change happens unless it is asked for otherwise, and whether the new plan's interval begins with it. */
export type ChangeTiming =
  | { readonly kind: 'now'; readonly isIntervalReset: boolean }
  | { readonly kind: 'period_end' };

/**
 * A downgrade waits for the end of the period; an upgrade, a change between equal fees and a change of the interval
 * happen now. Fees are compared only where the intervals are the same.
 */
export function changeTiming(old: ChangeableDefinition, next: ChangeableDefinition): ChangeTiming {
  const isIntervalReset = !haveSameCalendar(old, next);
  if (!isIntervalReset && recurringFee(next) < recurringFee(old)) return { kind: 'period_end' };
  return { kind: 'now', isIntervalReset };
}

/** Whether plans bill on the same days: another interval, or days of the calendar instead of the anchor's, move them. */
export function haveSameCalendar(
  a: Pick<ChangeableDefinition, 'interval' | 'billing_time'>,
  b: Pick<ChangeableDefinition, 'interval' | 'billing_time'>,
): boolean {
  return (
    a.interval.unit === b.interval.unit &&
    a.interval.count === b.interval.count &&
    (a.billing_time ?? 'anniversary') === (b.billing_time ?? 'anniversary')
  );
}

type ChangeableDefinition = Pick<PlanDefinition, 'interval'> &
  Partial<Pick<PlanDefinition, 'billing_time'>> &
  Pick<BillableDefinition, 'charges'>;

/** The sum of the recurring fees of a whole interval. */
export function recurringFee({ charges }: Pick<BillableDefinition, 'charges'>): Minor {
  return charges.reduce(
    (sum, charge) => sum + (charge.kind === 'recurring' ? BigInt(charge.amount_minor) : 0n),
    0n,
  );
}
