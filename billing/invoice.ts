import { trueUp } from './commitment.ts';
import type { Coupon } from './discount.ts';
import type { Fee, Part, UnusedFee } from './fees.ts';
import {
  asAdjustment,
  feeLine,
  type InvoiceLine,
  type LineContext,
  overageLine,
  unusedLine,
} from './line.ts';
import { type Currency, formatMoney, type Minor, sumOf } from './money.ts';
import { formatPeriod } from './periods.ts';
import type { Charge, UsageCharge } from './plan.ts';
import { prorate, type Span, wholeRatio } from './ratio.ts';
import { chargeIn, hasNews, type Run, rowsOf, usageIn } from './runs.ts';
import type { Taxation } from './tax.ts';
import { type Totals, totalUp } from './totals.ts';
import { type IntervalUsage, usageLines } from './usage-line.ts';

/** Late usage of an interval that is invoiced already: re-rated with the terms and the usage of its run. */
export type LateUsage = Run & {
  /** The period that the usage came too late for, or the part of it that lies in the run; epoch ms, half-open. */
  readonly period: Span;
  /** Whether the run is the one that its interval ended with. */
  readonly isLast: boolean;
};

/** What the subscriber promised to spend in an interval: everything on the invoices of the interval counts. */
export type Commitment = {
  readonly commitmentMinor: Minor;
  /** What other invoices billed for the interval: fees, usage, overage. */
  readonly billedMinor: Minor;
  /** The part of the interval that it is due for; absent or null: the whole. */
  readonly part?: Part | null;
};

/** All that an invoice of one period is worked out from. The estimate and the final invoice give the same things here. */
export type InvoiceInput = {
  readonly zone: string;
  /** The period, epoch ms, half-open. */
  readonly startMs: number;
  readonly endMs: number;
  /** Every fee that is due, of plans and of add-ons. */
  readonly fees: readonly Fee[];
  /** What fees that are billed already give back; default nothing. */
  readonly unused?: readonly UnusedFee[];
  /** Usage under the terms that the period ends with. They decide the currency. */
  readonly current: Run;
  /** Usage under other terms before a change, in the order of time: what was used then keeps the prices of then. */
  readonly earlier: readonly Run[];
  /** In the order of the periods that it came too late for. */
  readonly late: readonly LateUsage[];
  /** `later`: a further invoice of this interval follows, so that minimums and the commitment are not due yet. */
  readonly minimum: 'now' | 'later';
  readonly commitment: Commitment | null;
  readonly coupons: readonly Coupon[];
  readonly taxation: Taxation;
  /** The subscriber's account balance, from zero up. */
  readonly balanceMinor: Minor;
};

export type InvoiceDraft = Totals & {
  readonly currency: Currency;
  readonly startMs: number;
  readonly endMs: number;
  /** `Jan 1 – Jan 31, 2025`, in the subscriber's zone. */
  readonly periodText: string;
  /** Empty: there is nothing to invoice. */
  readonly lines: readonly InvoiceLine[];
};

/**
 * The invoice of a period: lines, discounts, tax, account balance; every amount in minor units of the plan's currency.
 * A pure function of its input: preview, estimate and final invoice are this one call. Lines stand in the order of time:
 * fees and usage of earlier terms, the plan's charges in its own order, then fees of the next terms and of add-ons.
 * @throws RangeError when a run is in another currency or a price cannot rate a quantity.
 */
export function assembleInvoice(input: InvoiceInput): InvoiceDraft {
  const { currency } = input.current.definition;
  for (const run of [...input.earlier, ...input.late]) refuseOtherCurrency(run, currency);
  const billed = [
    ...otherFeeLines(input, 'before'),
    ...input.earlier.flatMap((run) => earlierLines(run, input)),
    ...currentLines(input),
    ...otherFeeLines(input, 'after'),
    ...unusedLines(input, false),
  ];
  const lines = [
    ...billed,
    ...commitmentLines(input, billed),
    ...unusedLines(input, true),
    ...input.late.flatMap((late) => lateLines(late, input)),
  ];
  return draftOf(lines, input, currency);
}

/** What an invoice of late usage alone is worked out from: that of a subscription that has ended. */
export type LateInput = Pick<
  InvoiceInput,
  'zone' | 'late' | 'coupons' | 'taxation' | 'balanceMinor'
> & { readonly currency: Currency };

/**
 * The invoice of what came in after a subscription's end: the lines that its next invoice would have had of it. It spans
 * the periods that the lines belong to. Null: no charge costs anything, or gives anything back.
 * @throws RangeError as `assembleInvoice` does.
 */
export function assembleLateInvoice(input: LateInput): InvoiceDraft | null {
  for (const run of input.late) refuseOtherCurrency(run, input.currency);
  const lines = input.late.flatMap((late) => lateLines(late, input));
  const byCharge = [...Map.groupBy(lines, ({ chargeId }) => chargeId).values()];
  const dueMinor = byCharge.map((own) => sumOf(own.map(({ amountMinor }) => amountMinor)));
  if (dueMinor.every((minor) => minor === 0n)) return null;
  const startMs = Math.min(...input.late.map(({ period }) => period.startMs));
  const endMs = Math.max(...input.late.map(({ period }) => period.endMs));
  return draftOf(lines, { ...input, startMs, endMs }, input.currency);
}

/** Lines with their totals: of a period, or of the span of time that an invoice of fees is for. */
export function draftOf(
  lines: readonly InvoiceLine[],
  of: Span & Pick<InvoiceInput, 'zone' | 'coupons' | 'taxation' | 'balanceMinor'>,
  currency: Currency,
): InvoiceDraft {
  const { startMs, endMs } = of;
  const periodText = formatPeriod(startMs, endMs, of.zone);
  return { currency, startMs, endMs, periodText, lines, ...totalUp(lines, of) };
}

function refuseOtherCurrency({ definition }: Run, currency: Currency): void {
  if (definition.currency !== currency) {
    throw new RangeError('usage of other terms is in another currency than the invoice');
  }
}

function contextOf(run: Run, span: Span = run): LineContext {
  const { startMs, endMs } = span;
  return {
    currency: run.definition.currency,
    planVersionId: run.planVersionId,
    span: { startMs, endMs },
  };
}

/** The plan's charges in its order: its fees, its usage under the terms that hold now. */
function currentLines(input: InvoiceInput): InvoiceLine[] {
  const { current } = input;
  const lines = current.definition.charges.flatMap((charge) =>
    charge.kind === 'usage'
      ? chargeLines(current, charge, input.minimum)
      : feeLines(input, ({ chargeId }) => chargeId === charge.id),
  );
  return [...lines, ...overageLines(current)];
}

/** Usage under the terms before: minimums are due under the terms that the interval ends with. */
function earlierLines(run: Run, input: InvoiceInput): InvoiceLine[] {
  const lines = run.definition.charges
    .filter(isUsage)
    .filter((charge) => hasNews(run, charge))
    .flatMap((charge) => chargeLines(run, charge, 'later'));
  const text = formatPeriod(run.startMs, run.endMs, input.zone);
  return [...lines, ...overageLines(run)].map((line) => ({
    ...line,
    description: `${line.description}, ${text}`,
  }));
}

function isUsage(charge: Charge): charge is UsageCharge {
  return charge.kind === 'usage';
}

function feeLines(input: InvoiceInput, isMeant: (fee: Fee) => boolean): InvoiceLine[] {
  const { currency } = input.current.definition;
  return input.fees.filter(isMeant).map((fee) => feeLine(fee, { currency, zone: input.zone }));
}

/** Fees that are no charge of the current terms: of the terms before, and then of the next interval's and of add-ons. */
function otherFeeLines(input: InvoiceInput, where: 'before' | 'after'): InvoiceLine[] {
  const { planVersionId, definition } = input.current;
  const own = new Set(definition.charges.map(({ id }) => id));
  return feeLines(input, (fee) => {
    const isBefore = !fee.isAhead && fee.planVersionId !== planVersionId;
    return !own.has(fee.chargeId) && isBefore === (where === 'before');
  });
}

function unusedLines({ unused = [], zone }: InvoiceInput, isBefore: boolean): InvoiceLine[] {
  return unused.filter((fee) => fee.isBefore === isBefore).map((fee) => unusedLine(fee, { zone }));
}

function chargeLines(
  run: Run,
  charge: UsageCharge,
  minimum: NonNullable<IntervalUsage['minimum']>,
): InvoiceLine[] {
  return usageLines(chargeIn(run, charge), { ...usageIn(run, charge), minimum }, contextOf(run));
}

function overageLines(run: Run, span: Span = run): InvoiceLine[] {
  const { definition, overageMicro } = run;
  if (overageMicro.thisPeriod === 0n) return [];
  if (definition.credits === null) {
    throw new RangeError('overage of credits was recorded on a plan without credits');
  }
  const total = overageMicro.billedBefore + overageMicro.thisPeriod;
  const micro = { before: overageMicro.billedBefore, total };
  return [overageLine(definition.credits, micro, contextOf(run, span))];
}

/** Late usage of other periods does not count towards a commitment, nor do fees of other intervals. */
function commitmentLines(input: InvoiceInput, billed: readonly InvoiceLine[]): InvoiceLine[] {
  const { commitment, current } = input;
  if (commitment === null || input.minimum === 'later') return [];
  const others = feeLines(input, ({ isAhead, isBefore }) => isAhead || isBefore === true);
  const sum = (lines: readonly InvoiceLine[]): Minor =>
    sumOf(lines.map(({ amountMinor }) => amountMinor));
  const spentMinor = commitment.billedMinor + sum(billed) - sum(others);
  const { commitmentMinor, part = null } = commitment;
  const ratio = part === null ? wholeRatio : part.ratio;
  const amountMinor = trueUp({ commitmentMinor, feeMinor: 0n, usageMinor: spentMinor, ratio });
  if (amountMinor === 0n) return [];
  const { currency } = current.definition;
  return [
    {
      kind: 'adjustment',
      chargeId: null,
      meterId: null,
      planVersionId: current.planVersionId,
      description: `Commitment, at least ${formatMoney(prorate(commitmentMinor, ratio), currency)}${
        part === null ? '' : ` (${formatMoney(commitmentMinor, currency)}, ${part.text})`
      }`,
      label: null,
      quantity: null,
      unitPrice: null,
      amountMinor,
      details: {
        model: 'commitment',
        commitment_minor: commitmentMinor.toString(),
        numerator: ratio.numerator.toString(),
        denominator: ratio.denominator.toString(),
        spent_minor: spentMinor.toString(),
      },
    },
  ];
}

/** Only meters that changed have a line. Minimums were due under the terms that the interval ended with. */
function lateLines(late: LateUsage, { zone }: Pick<InvoiceInput, 'zone'>): InvoiceLine[] {
  const minimum = late.isLast ? 'before' : 'later';
  const lines = late.definition.charges
    .filter(isUsage)
    .filter(({ meter }) => rowsOf(late, meter.id).thisPeriod.length > 0)
    .flatMap((charge) =>
      usageLines(
        chargeIn(late, charge),
        { ...usageIn(late, charge), minimum },
        contextOf(late, late.period),
      ),
    );
  const periodText = formatPeriod(late.period.startMs, late.period.endMs, zone);
  return [...lines, ...overageLines(late, late.period)].map((line) =>
    asAdjustment(line, periodText),
  );
}
