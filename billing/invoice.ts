import { trueUp } from './commitment.ts';
import type { Coupon } from './discount.ts';
import {
  asAdjustment,
  feeLine,
  type InvoiceLine,
  type LineContext,
  overageLine,
  partOfFeeLine,
} from './line.ts';
import { type Currency, formatMoney, type Minor } from './money.ts';
import { formatPeriod } from './periods.ts';
import { recurringFee } from './plan-change.ts';
import type { Charge, BillableDefinition, UsageCharge } from './plan.ts';
import { aggregate, billableUnits, type UsagePartial } from './rate.ts';
import type { Ratio } from './ratio.ts';
import type { Taxation, TaxRate } from './tax.ts';
import { type Totals, totalUp } from './totals.ts';
import { type IntervalUsage, usageLines } from './usage-line.ts';

/** The rollup rows of one meter in one billing interval, split by what has been invoiced. */
export type MeterUsage = {
  readonly meterId: string;
  /** Rows of the interval's periods that are invoiced already. */
  readonly billedBefore: readonly UsagePartial[];
  /** Rows that this invoice is for. */
  readonly thisPeriod: readonly UsagePartial[];
};

/** Micro-credits of overage in one billing interval, split likewise. */
export type OverageUsage = { readonly billedBefore: bigint; readonly thisPeriod: bigint };

/** Late usage of an interval that is invoiced already: re-rated with that interval's terms and usage. */
export type LateUsage = {
  readonly planVersionId: string;
  readonly definition: BillableDefinition;
  /** The period that the usage belongs to, epoch ms, half-open. */
  readonly startMs: number;
  readonly endMs: number;
  readonly usage: readonly MeterUsage[];
  readonly overageMicro: OverageUsage;
};

/** A part of the period under other terms, before a change: what was used then keeps the prices of then. */
export type EarlierSegment = {
  readonly planVersionId: string;
  readonly definition: BillableDefinition;
  readonly startMs: number;
  readonly endMs: number;
  readonly usage: readonly MeterUsage[];
  readonly overageMicro: OverageUsage;
};

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

/** What the subscriber promised to spend in an interval: everything on the invoices of the interval counts. */
export type Commitment = {
  readonly commitmentMinor: Minor;
  /** What earlier invoices of the interval billed besides the recurring fee; default none. */
  readonly billedMinor?: Minor;
};

/** All that an invoice of one period is worked out from. The estimate and the final invoice give the same things here. */
export type InvoiceInput = {
  readonly planVersionId: string;
  readonly definition: BillableDefinition;
  readonly zone: string;
  /** The period, epoch ms, half-open. */
  readonly startMs: number;
  readonly endMs: number;
  /** True on the first invoice of an interval: it carries the recurring fees and the first tiers' flat fees. */
  readonly feeDue: boolean;
  /** True on the first invoice of the subscription. */
  readonly oneTimeDue: boolean;
  readonly usage: readonly MeterUsage[];
  readonly overageMicro: OverageUsage;
  readonly late: readonly LateUsage[];
  /** Added to every line; empty: nothing is taxed. `taxation` says more, and then these are not read. */
  readonly taxRates: readonly TaxRate[];
  readonly taxation?: Taxation;
  /** Default none. */
  readonly coupons?: readonly Coupon[];
  /** The subscriber's account balance, from zero up; default zero. */
  readonly balanceMinor?: Minor;
  /** The part of the recurring fees that is due where it is not the whole, with its text: `15 of 31 days`. */
  readonly feePart?: { readonly ratio: Ratio; readonly text: string };
  /** `later`: a further invoice of this interval follows, so that minimums are not due yet. Default `now`. */
  readonly minimum?: 'now' | 'later';
  /** The interval that fees billed in advance are due for with this invoice: the next one; default none is due. */
  readonly advance?: {
    readonly startMs: number;
    readonly endMs: number;
    readonly part?: { readonly ratio: Ratio; readonly text: string };
  };
  readonly earlier?: readonly EarlierSegment[];
  readonly commitment?: Commitment;
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
 * A pure function of its input: preview, estimate and final invoice are this one call.
 * @throws RangeError when late usage is in another currency or a price cannot rate a quantity.
 */
export function assembleInvoice(input: InvoiceInput): InvoiceDraft {
  const { currency } = input.definition;
  const billed = [
    ...(input.earlier ?? []).flatMap((segment) => segmentLines(segment, input)),
    ...chargeLines(input),
    ...overageLines(input.definition, input.overageMicro, contextOf(input)),
  ];
  const lines = [
    ...billed,
    ...commitmentLines(input, billed),
    ...input.late.flatMap((late) => adjustmentLines(late, input)),
  ];
  return {
    currency,
    startMs: input.startMs,
    endMs: input.endMs,
    periodText: formatPeriod(input.startMs, input.endMs, input.zone),
    lines,
    ...totalUp(lines, {
      coupons: input.coupons ?? [],
      taxation: input.taxation ?? { kind: 'exclusive', rates: { general: input.taxRates } },
      balanceMinor: input.balanceMinor ?? 0n,
    }),
  };
}

function contextOf(of: {
  readonly definition: BillableDefinition;
  readonly planVersionId: string;
}): LineContext {
  return { currency: of.definition.currency, planVersionId: of.planVersionId };
}

/** Lines stand in the order of the plan's charges. */
function chargeLines(input: InvoiceInput): InvoiceLine[] {
  const context = contextOf(input);
  return input.definition.charges.flatMap((charge) => {
    switch (charge.kind) {
      case 'recurring':
        return recurringLines(charge, input);
      case 'one_time':
        return input.oneTimeDue ? [feeLine(charge, context)] : [];
      case 'usage': {
        const { before, ...usage } = intervalUsage(input.usage, charge.meter);
        return usageLines(
          afterEarlier(charge, input.earlier ?? []),
          { ...usage, before: input.feeDue ? null : before, minimum: input.minimum ?? 'now' },
          context,
        );
      }
      default:
        return charge satisfies never;
    }
  });
}

/** A fee in arrears is for this interval, one in advance for the next, which it names. */
function recurringLines(
  charge: Extract<Charge, { kind: 'recurring' }>,
  input: InvoiceInput,
): InvoiceLine[] {
  const context = contextOf(input);
  const of = (part: InvoiceInput['feePart']): InvoiceLine =>
    part === undefined ? feeLine(charge, context) : partOfFeeLine(charge, part, context);
  if (charge.bill_in !== 'advance') return input.feeDue ? [of(input.feePart)] : [];
  if (input.advance === undefined) return [];
  const { startMs, endMs, part } = input.advance;
  const line = of(part);
  const text = formatPeriod(startMs, endMs, input.zone);
  return [{ ...line, description: `${line.description}, ${text}` }];
}

/** The allowance after a change: the new included units less what the period used before it, never below zero. */
function afterEarlier(charge: UsageCharge, earlier: readonly EarlierSegment[]): UsageCharge {
  const used = earlier.reduce(
    (sum, segment) => sum + intervalUsage(segment.usage, charge.meter).total,
    0n,
  );
  const included_units = billableUnits(BigInt(charge.included_units), used).toString();
  return { ...charge, included_units };
}

/** Usage and overage of the terms before a change; the fees of those terms were settled by the change itself. */
function segmentLines(segment: EarlierSegment, { zone, definition }: InvoiceInput): InvoiceLine[] {
  refuseOtherCurrency(segment.definition, definition);
  const context = contextOf(segment);
  const lines = [
    ...segment.definition.charges.filter(isUsage).flatMap((charge) => {
      const { before, ...usage } = intervalUsage(segment.usage, charge.meter);
      const isFirst = segment.usage.every((rows) => rows.billedBefore.length === 0);
      return usageLines(
        charge,
        { ...usage, before: isFirst ? null : before, minimum: 'later' },
        context,
      );
    }),
    ...overageLines(segment.definition, segment.overageMicro, context),
  ];
  const text = formatPeriod(segment.startMs, segment.endMs, zone);
  return lines.map((line) => ({ ...line, description: `${line.description}, ${text}` }));
}

function isUsage(charge: Charge): charge is UsageCharge {
  return charge.kind === 'usage';
}

/** A maximum or a latest value of parts is not the sum of theirs, so the total is worked out over all rows. */
function intervalUsage(
  usage: readonly MeterUsage[],
  meter: UsageCharge['meter'],
): IntervalUsage & { readonly before: bigint } {
  const ofMeter = usage.filter((rows) => rows.meterId === meter.id);
  const before = ofMeter.flatMap((rows) => rows.billedBefore);
  const all = [...before, ...ofMeter.flatMap((rows) => rows.thisPeriod)];
  return {
    before: aggregate(before, meter.aggregation),
    total: aggregate(all, meter.aggregation),
    eventsBefore: aggregate(before, 'COUNT'),
    eventsTotal: aggregate(all, 'COUNT'),
  };
}

function overageLines(
  definition: BillableDefinition,
  micro: OverageUsage,
  context: LineContext,
): InvoiceLine[] {
  if (micro.thisPeriod === 0n) return [];
  if (definition.credits === null) {
    throw new RangeError('overage of credits was recorded on a plan without credits');
  }
  const total = micro.billedBefore + micro.thisPeriod;
  return [overageLine(definition.credits, { before: micro.billedBefore, total }, context)];
}

/** Late usage of other periods does not count towards a commitment: it belongs to theirs. */
function commitmentLines(input: InvoiceInput, billed: readonly InvoiceLine[]): InvoiceLine[] {
  const { commitment, definition } = input;
  if (commitment === undefined || input.minimum === 'later') return [];
  const { currency } = definition;
  const amountMinor = trueUp({
    commitmentMinor: commitment.commitmentMinor,
    feeMinor: recurringFee(definition),
    usageMinor: billed.reduce(
      (sum, line) => sum + (line.kind === 'recurring' ? 0n : line.amountMinor),
      commitment.billedMinor ?? 0n,
    ),
    ...(input.feePart !== undefined && { ratio: input.feePart.ratio }),
  });
  if (amountMinor === 0n) return [];
  return [
    {
      kind: 'adjustment',
      chargeId: null,
      meterId: null,
      planVersionId: input.planVersionId,
      description: `Commitment, at least ${formatMoney(commitment.commitmentMinor, currency)}`,
      label: null,
      quantity: null,
      unitPrice: null,
      amountMinor,
      details: {
        model: 'commitment',
        commitment_minor: commitment.commitmentMinor.toString(),
        missing_minor: amountMinor.toString(),
      },
    },
  ];
}

/** Only meters that changed have a line. */
function adjustmentLines(late: LateUsage, { zone, definition }: InvoiceInput): InvoiceLine[] {
  refuseOtherCurrency(late.definition, definition);
  const context = contextOf(late);
  const periodText = formatPeriod(late.startMs, late.endMs, zone);
  const lateLines = late.definition.charges.filter(isUsage).flatMap((charge) => {
    const isLate = late.usage.some(
      (rows) => rows.meterId === charge.meter.id && rows.thisPeriod.length > 0,
    );
    if (!isLate) return [];
    return usageLines(
      charge,
      { ...intervalUsage(late.usage, charge.meter), minimum: 'before' },
      context,
    );
  });
  const lines = [...lateLines, ...overageLines(late.definition, late.overageMicro, context)];
  return lines.map((line) => asAdjustment(line, periodText));
}

function refuseOtherCurrency(of: BillableDefinition, invoice: BillableDefinition): void {
  if (of.currency !== invoice.currency) {
    throw new RangeError('usage of other terms is in another currency than the invoice');
  }
}

/** A rollup row with what it belongs to. */
export type PeriodUsageRow = UsagePartial & {
  readonly periodId: string;
  readonly meterId: string;
  /** '' for usage of `periodId` itself; else the closed period that this late usage belongs to. */
  readonly adjustsPeriodId: string;
};

/**
 * Sorts the rollup rows of one billing interval for the invoice of one of its periods.
 * Late usage of an earlier period of the same interval is simply billed now; late usage of another interval is given
 * apart, by the period that it belongs to. Rows of periods that are neither billed nor this one are left out.
 * @param at `periodId` the period to invoice; `billedPeriodIds` those of the same interval that are invoiced already.
 */
export function splitUsage<Row extends PeriodUsageRow>(
  rows: readonly Row[],
  at: { readonly periodId: string; readonly billedPeriodIds: readonly string[] },
): {
  readonly usage: readonly MeterUsage[];
  readonly lateByPeriod: ReadonlyMap<string, readonly Row[]>;
} {
  const inInterval = new Set(['', at.periodId, ...at.billedPeriodIds]);
  const own = rows.filter((row) => inInterval.has(row.adjustsPeriodId));
  const foreign = rows.filter(
    (row) => row.periodId === at.periodId && !inInterval.has(row.adjustsPeriodId),
  );
  const usage = [...Map.groupBy(own, (row) => row.meterId)].map(([meterId, ofMeter]) => ({
    meterId,
    billedBefore: ofMeter.filter((row) => at.billedPeriodIds.includes(row.periodId)),
    thisPeriod: ofMeter.filter((row) => row.periodId === at.periodId),
  }));
  return { usage, lateByPeriod: Map.groupBy(foreign, (row) => row.adjustsPeriodId) };
}

/** One text for one content: keys sorted, integers as strings. Its digest tells whether two invoices are the same. */
export function canonicalInvoice(draft: InvoiceDraft): string {
  return canonicalJson(draft);
}

function canonicalJson(value: unknown): string {
  if (typeof value === 'bigint') return JSON.stringify(value.toString());
  if (Array.isArray(value)) return `[${value.map(canonicalJson).join(',')}]`;
  if (typeof value === 'object' && value !== null) {
    const entries = Object.entries(value).toSorted(([a], [b]) => (a < b ? -1 : 1));
    return `{${entries.map(([key, item]) => `${JSON.stringify(key)}:${canonicalJson(item)}`).join(',')}}`;
  }
  return JSON.stringify(value) ?? 'null';
}
