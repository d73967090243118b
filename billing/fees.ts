import type { Minor } from './money.ts';
import { calendarIntervalAt, recurrenceOf } from './periods.ts';
import type { Charge, PlanDefinition } from './plan.ts';
import { type Proration, type Ratio, ratioLeft, ratioText, type Span } from './ratio.ts';

/**
 * Which fees an invoice has. A fee is for a span of time, which its line says (`covers`); whether it is due is asked of
 * the lines that were issued: what of its time they do not cover is billed, once, by whichever invoice comes to it first.
 */
export type Fee = {
  readonly kind: 'recurring' | 'one_time';
  readonly chargeId: string;
  readonly planVersionId: string;
  readonly name: string;
  /** Of one. */
  readonly amountMinor: Minor;
  readonly quantity: bigint;
  /** The part of the interval that it is for; null: the whole. */
  readonly part: Part | null;
  /** Null: it is due once, and for no time. */
  readonly covers: Span | null;
  /** True: it is for the interval after the invoiced one, which its line names. */
  readonly isAhead: boolean;
  /** True: it is for an interval before the invoiced one, which its line names. Default false. */
  readonly isBefore?: boolean;
};

/** A part of an interval, and how it is printed: `15 of 31 days`. */
export type Part = { readonly ratio: Ratio; readonly text: string };

/** A line of an invoice that says which time it is for. What gives a fee back takes the time away again. */
export type CoveringLine = {
  readonly chargeId: string;
  readonly covers: Span;
  readonly isGivenBack: boolean;
};

/** An interval, and the whole one that fees for a part of it are a part of. */
export type FeeInterval = {
  readonly interval: Span;
  readonly whole: Span;
  readonly zone: string;
};

/**
 * The whole interval that a fee is for. A subscription by the calendar begins within one; every other interval is whole.
 * @throws RangeError for a zone that is unknown.
 */
export function wholeInterval(
  interval: Span,
  definition: Pick<PlanDefinition, 'interval' | 'billing_time'>,
  zone: string,
): Span {
  return definition.billing_time === 'calendar'
    ? calendarIntervalAt(interval.startMs, zone, recurrenceOf(definition))
    : interval;
}

/** How the fees of a plan are shared over time: intervals of hours to the second, others as the plan says, by days. */
export function prorationOf({
  interval,
  proration,
}: Pick<PlanDefinition, 'interval' | 'proration'>): Proration {
  return interval.unit === 'hour' ? 'second' : (proration ?? 'day');
}

type RecurringCharge = Extract<Charge, { kind: 'recurring' }>;

/** The stretches of an interval under one version each, in the order of time, and the fees of that version to bill. */
export type FeeStretch = Span & {
  readonly planVersionId: string;
  readonly charges: readonly RecurringCharge[];
  readonly proration: Proration;
};

/** A stretch with the recurring fees of its version that are billed in arrears, or in advance. */
export function feeStretch(
  stretch: Span & { readonly planVersionId: string; readonly definition: PlanDefinition },
  when: 'arrears' | 'advance',
): FeeStretch {
  const { definition, planVersionId, startMs, endMs } = stretch;
  return {
    ...{ planVersionId, startMs, endMs },
    proration: prorationOf(definition),
    charges: definition.charges.flatMap((charge) =>
      charge.kind === 'recurring' && (charge.bill_in ?? 'arrears') === when ? [charge] : [],
    ),
  };
}

/** What a plan charges once, with the first invoice of a subscription. */
export function onceFees(
  { charges }: Pick<PlanDefinition, 'charges'>,
  planVersionId: string,
): readonly Fee[] {
  return charges.flatMap((charge): readonly Fee[] =>
    charge.kind === 'one_time'
      ? [
          {
            kind: 'one_time',
            chargeId: charge.id,
            planVersionId,
            name: charge.display_name,
            amountMinor: BigInt(charge.amount_minor),
            quantity: 1n,
            part: null,
            covers: null,
            isAhead: false,
          },
        ]
      : [],
  );
}

/**
 * What is still to be billed of recurring fees: of each stretch the time that no line covers. Parts without a day (or a
 * second, as the plan has it) are left out, and parts of one fee that only such a part lies between are one.
 */
export function dueFees(
  stretches: readonly FeeStretch[],
  of: FeeInterval & { readonly lines: readonly CoveringLine[]; readonly isAhead: boolean },
): readonly Fee[] {
  const charges = new Map(
    stretches.flatMap((stretch) =>
      stretch.charges.map((charge) => [charge.id, { charge, stretch }] as const),
    ),
  );
  return [...charges.values()].flatMap(({ charge, stretch }) => {
    const { planVersionId, proration } = stretch;
    const wanted = stretches.filter((other) => other.charges.some(({ id }) => id === charge.id));
    const due = uncovered(wanted, coverageOf(of.lines, charge.id));
    return weighed(due, { ...of, proration }).map(({ span, part }): Fee => ({
      kind: 'recurring',
      chargeId: charge.id,
      planVersionId,
      name: charge.display_name,
      amountMinor: BigInt(charge.amount_minor),
      quantity: 1n,
      part,
      covers: span,
      isAhead: of.isAhead,
    }));
  });
}

/** Something that a subscription holds beside its plan, as it was attached: its price is that of then. */
export type AddOnTerm = {
  /** `sad_…`: what stands for a charge's id on its lines. */
  readonly id: string;
  readonly name: string;
  readonly kind: 'recurring' | 'one_time';
  /** Of one. */
  readonly amountMinor: Minor;
  readonly quantity: bigint;
  /** Epoch ms, half-open; `untilMs` null: it is still held. */
  readonly fromMs: number;
  readonly untilMs: number | null;
  readonly taxRateIds: readonly string[];
};

/** What is still to be billed of the add-ons of an interval: of recurring ones the time that they were held. */
export function dueAddOnFees(
  addOns: readonly AddOnTerm[],
  of: FeeInterval & {
    readonly lines: readonly CoveringLine[];
    /** What was billed once, by charge. */
    readonly billedOnce: ReadonlySet<string>;
    readonly planVersionId: string;
    readonly proration: Proration;
  },
): readonly Fee[] {
  return addOns.flatMap((addOn): readonly Fee[] => {
    const { id, name, kind, amountMinor, quantity } = addOn;
    const fee = {
      kind,
      chargeId: id,
      planVersionId: of.planVersionId,
      name,
      amountMinor,
      quantity,
    };
    if (kind === 'one_time') {
      return of.billedOnce.has(id) ? [] : [{ ...fee, part: null, covers: null, isAhead: false }];
    }
    const held = {
      startMs: Math.max(addOn.fromMs, of.interval.startMs),
      endMs: Math.min(addOn.untilMs ?? of.interval.endMs, of.interval.endMs),
    };
    if (held.endMs <= held.startMs) return [];
    const due = uncovered([held], coverageOf(of.lines, id));
    return weighed(due, of).map(({ span, part }) => ({
      ...fee,
      part,
      covers: span,
      isAhead: false,
    }));
  });
}

/** A span with how often lines of a charge cover it: once, not at all, or less than that, where more was given back. */
type Coverage = { readonly span: Span; readonly count: number };

function coverageOf(lines: readonly CoveringLine[], chargeId: string): readonly Coverage[] {
  return lines
    .filter((line) => line.chargeId === chargeId)
    .map((line) => ({ span: line.covers, count: line.isGivenBack ? -1 : 1 }));
}

/** Where a charge is wanted more often than it is covered. */
function uncovered(wanted: readonly Span[], covered: readonly Coverage[]): readonly Span[] {
  return surplus(once(wanted), covered);
}

function once(spans: readonly Span[]): readonly Coverage[] {
  return spans.map((span) => ({ span, count: 1 }));
}

/** Where there is more of one than of the other. Neighbouring spans are one. */
function surplus(more: readonly Coverage[], less: readonly Coverage[]): readonly Span[] {
  const all = [...more, ...less.map(({ span, count }): Coverage => ({ span, count: -count }))];
  const bounds = [...new Set(all.flatMap(({ span }) => [span.startMs, span.endMs]))].toSorted(
    (a, b) => a - b,
  );
  const spans: Span[] = [];
  for (const [index, startMs] of bounds.entries()) {
    const endMs = bounds[index + 1];
    if (endMs === undefined) break;
    const missing = all
      .filter(({ span }) => span.startMs <= startMs && endMs <= span.endMs)
      .reduce((sum, { count }) => sum + count, 0);
    if (missing <= 0) continue;
    const before = spans.at(-1);
    if (before?.endMs === startMs) spans[spans.length - 1] = { ...before, endMs };
    else spans.push({ startMs, endMs });
  }
  return spans;
}

/** A line of a fee with what was really paid by it. */
export type PaidLine = CoveringLine & {
  readonly invoiceId: string;
  readonly planVersionId: string;
  readonly paidMinor: Minor;
};

/** Time that a fee was paid for, and that nobody has a use for: it is given back. */
export type UnusedFee = {
  readonly chargeId: string;
  /** The invoice that billed it, whose tax is taken back with it. */
  readonly invoiceId: string;
  readonly planVersionId: string;
  readonly name: string;
  /** What was paid for the whole time of a line; the part of it that is given back. */
  readonly paidMinor: Minor;
  readonly part: Part;
  readonly covers: Span;
  /** True: it is of an interval before the invoiced one. */
  readonly isBefore: boolean;
};

/**
 * What is to be given back of a charge by what was paid for it.
 * @param isAsked Of which lines; default of all.
 */
export function unusedFees(
  charge: { readonly id: string; readonly name: string },
  of: UseOfFee<PaidLine> & {
    /** Where the invoiced interval begins. */
    readonly startMs: number;
  },
  isAsked: (line: PaidLine) => boolean = () => true,
): readonly UnusedFee[] {
  return unusedParts(charge.id, of, isAsked).flatMap(({ line, part, covers }) =>
    line.paidMinor <= 0n
      ? []
      : [
          {
            ...{ chargeId: charge.id, name: charge.name, part, covers },
            ...{ invoiceId: line.invoiceId, planVersionId: line.planVersionId },
            ...{ paidMinor: line.paidMinor, isBefore: covers.startMs < of.startMs },
          },
        ],
  );
}

/** What was billed of fees, and when one of them was wanted. */
export type UseOfFee<Line> = {
  /** In the order in which they were issued. */
  readonly lines: readonly Line[];
  readonly wanted: readonly Span[];
  readonly zone: string;
  readonly proration: Proration;
};

/**
 * The time that the lines of a charge cover more often than it is wanted, as parts of the lines, of the latest line first.
 * What was given back before counts, so that nothing is given back twice.
 * @param isAsked Of which lines.
 */
export function unusedParts<Line extends CoveringLine>(
  chargeId: string,
  of: UseOfFee<Line>,
  isAsked: (line: Line) => boolean,
): readonly { readonly line: Line; readonly part: Part; readonly covers: Span }[] {
  const parts: { line: Line; part: Part; covers: Span }[] = [];
  let left = surplus(coverageOf(of.lines, chargeId), once(of.wanted));
  for (const line of of.lines.toReversed()) {
    if (line.chargeId !== chargeId || line.isGivenBack || !isAsked(line)) continue;
    const given = left.flatMap((span) => overlap(span, line.covers));
    left = surplus(once(left), once(given));
    for (const covers of given) {
      const ratio = ratioOfSpan(covers, line.covers, of);
      const part = { ratio, text: ratioText(ratio, of.proration) };
      if (ratio.numerator > 0n) parts.push({ line, part, covers });
    }
  }
  return parts;
}

function overlap(a: Span, b: Span): readonly Span[] {
  const startMs = Math.max(a.startMs, b.startMs);
  const endMs = Math.min(a.endMs, b.endMs);
  return startMs < endMs ? [{ startMs, endMs }] : [];
}

/** Spans of an interval with the part that each is of the whole. */
export function weighed(
  spans: readonly Span[],
  of: FeeInterval & { readonly proration: Proration },
): readonly { readonly span: Span; readonly part: Part | null }[] {
  const { whole, zone, proration } = of;
  const within = spans
    .map(({ startMs, endMs }) => ({
      startMs: Math.max(startMs, whole.startMs),
      endMs: Math.min(endMs, whole.endMs),
    }))
    .filter(({ startMs, endMs }) => startMs < endMs)
    .map((span) => ({ span, ratio: ratioOfSpan(span, whole, { zone, proration }) }))
    .filter(({ ratio }) => ratio.numerator > 0n);
  const merged: { span: Span; ratio: Ratio }[] = [];
  for (const one of within) {
    const before = merged.at(-1);
    const gap = before && { startMs: before.span.endMs, endMs: one.span.startMs };
    if (before === undefined || gap === undefined || hasTime(gap, whole, { zone, proration })) {
      merged.push(one);
      continue;
    }
    merged[merged.length - 1] = {
      span: { startMs: before.span.startMs, endMs: one.span.endMs },
      ratio: { ...one.ratio, numerator: before.ratio.numerator + one.ratio.numerator },
    };
  }
  return merged.map(({ span, ratio }) => ({ span, part: partOf(ratio, proration) }));
}

/**
 * The part of its whole that an interval is, which is what amounts for a whole one are due for: null for all of it, and a
 * part of zero where it has no day (or second) of it.
 */
export function heldPart(of: FeeInterval & { readonly proration: Proration }): Part | null {
  const [held] = weighed([of.interval], of);
  if (held !== undefined) return held.part;
  const { whole, zone, proration } = of;
  return partOf(ratioLeft(whole.endMs, whole, zone, proration), proration);
}

function hasTime(gap: Span, whole: Span, by: Measure): boolean {
  return gap.startMs < gap.endMs && ratioOfSpan(gap, whole, by).numerator > 0n;
}

type Measure = { readonly zone: string; readonly proration: Proration };

/** The part that a span within it is of a whole one: what is left at its start less what is left at its end. */
function ratioOfSpan(span: Span, whole: Span, { zone, proration }: Measure): Ratio {
  const from = ratioLeft(span.startMs, whole, zone, proration);
  const until = ratioLeft(span.endMs, whole, zone, proration);
  return { ...from, numerator: from.numerator - until.numerator };
}

/** Null: it is the whole. */
function partOf(ratio: Ratio, proration: Proration): Part | null {
  return ratio.numerator === ratio.denominator
    ? null
    : { ratio, text: ratioText(ratio, proration) };
}
