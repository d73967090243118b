import { discountOn, type Off } from './discount.ts';
import type { InvoiceLine } from './line.ts';
import { type Currency, formatAmount, formatMoney, type Minor, sumOf } from './money.ts';
import type { BillableDefinition, PlanDefinition } from './plan.ts';
import { prorate, type Proration, type Ratio, ratioLeft, ratioText, type Span } from './ratio.ts';

/**
 * A change of plan in mid-period. What was paid for the time that is left is given back, the new fees for that time are
 * charged; each is rounded on its own. The day of the change belongs to the new plan.
 */
export type FeeChange = {
  readonly atMs: number;
  readonly zone: string;
  readonly currency: Currency;
  /** What was really paid, after discounts, for the span that it paid for. */
  readonly paid: readonly SpanFee[];
  /** The new fees after their discounts, for the whole interval that each is of. */
  readonly next: readonly SpanFee[];
};

/** An amount for a span of time, which is shared over it as the plan says. */
export type SpanFee = {
  readonly chargeId: string | null;
  readonly planVersionId: string;
  readonly name: string;
  readonly minor: Minor;
  /** What discounts took off it, which is no part of `minor`; said on the line. Default nothing. */
  readonly discountMinor?: Minor;
  readonly span: Span;
  readonly proration: Proration;
};

/** A fee after its discount, which is taken before any proration. */
export function feeAfter(feeMinor: Minor, off: Off | null): Minor {
  return off === null ? feeMinor : feeMinor - discountOn(feeMinor, off);
}

/** Both from zero up, in minor units. */
export type ChangeAmounts = { readonly creditMinor: Minor; readonly chargeMinor: Minor };

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
 * The credit lines and then the charge lines of a change; none for a fee of nothing, or for less than a day (or a second)
 * of it. A fee that discounts take whole has its line: its time is billed. Undoing a change at the same instant gives the
 * opposite amounts: what is then paid for is the rest of the interval.
 * @throws RangeError when the change lies after one of the spans.
 */
export function changeLines(change: FeeChange): InvoiceLine[] {
  return [
    ...change.paid.flatMap((fee) => partLine(fee, { change, isCredit: true })),
    ...change.next.flatMap((fee) => partLine(fee, { change, isCredit: false })),
  ];
}

function partLine(
  fee: SpanFee,
  { change, isCredit }: { readonly change: FeeChange; readonly isCredit: boolean },
): InvoiceLine[] {
  const { span, proration } = fee;
  const { discountMinor = 0n } = fee;
  const startMs = Math.max(change.atMs, span.startMs);
  if ((fee.minor === 0n && discountMinor === 0n) || isShorterThanASecond(span)) return [];
  const left = ratioLeft(startMs, span, change.zone, proration);
  if (left.numerator === 0n) return [];
  const isWhole = left.numerator === left.denominator;
  const basis = isCredit ? -fee.minor : fee.minor;
  const amountMinor = prorate(basis, left);
  const less = discountMinor === 0n ? '' : `, less ${formatMoney(discountMinor, change.currency)}`;
  const text = isCredit ? `Unused part of ${fee.name}` : `${fee.name}${less}`;
  return [
    {
      kind: isCredit ? 'adjustment' : 'recurring',
      chargeId: fee.chargeId,
      meterId: null,
      planVersionId: fee.planVersionId,
      description: isWhole ? text : `${text} (${ratioText(left, proration)})`,
      label: null,
      quantity: 1n,
      unitPrice: isWhole ? formatAmount(amountMinor, change.currency) : null,
      amountMinor,
      details: {
        model: 'prorated',
        basis_minor: basis.toString(),
        numerator: left.numerator.toString(),
        denominator: left.denominator.toString(),
      },
      covers: { startMs, endMs: span.endMs },
    },
  ];
}

/** Such a rest cannot be divided any further. */
function isShorterThanASecond({ startMs, endMs }: Span): boolean {
  return Math.floor(endMs / 1000) <= Math.floor(startMs / 1000);
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
  return sumOf(
    charges.map((charge) => (charge.kind === 'recurring' ? BigInt(charge.amount_minor) : 0n)),
  );
}
