import {
  asAdjustment,
  feeLine,
  type IntervalUsage,
  type InvoiceLine,
  type LineContext,
  overageLine,
  usageLine,
} from './line.ts';
import type { Currency, Minor } from './money.ts';
import { formatPeriod } from './periods.ts';
import type { PlanDefinition } from './plan.ts';
import { aggregate, type UsagePartial } from './rate.ts';
import { type TaxLine, taxLines, type TaxRate } from './tax.ts';

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
  readonly definition: PlanDefinition;
  /** The period that the usage belongs to, epoch ms, half-open. */
  readonly startMs: number;
  readonly endMs: number;
  readonly usage: readonly MeterUsage[];
  readonly overageMicro: OverageUsage;
};

/** All that an invoice of one period is worked out from. The estimate and the final invoice give the same things here. */
export type InvoiceInput = {
  readonly planVersionId: string;
  readonly definition: PlanDefinition;
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
  /** Empty: nothing is taxed. */
  readonly taxRates: readonly TaxRate[];
};

export type InvoiceDraft = {
  readonly currency: Currency;
  readonly startMs: number;
  readonly endMs: number;
  /** `Jan 1 – Jan 31, 2025`, in the subscriber's zone. */
  readonly periodText: string;
  /** Empty: there is nothing to invoice. */
  readonly lines: readonly InvoiceLine[];
  readonly subtotalMinor: Minor;
  /** Never empty: `Tax (0%)` is always shown. */
  readonly taxes: readonly TaxLine[];
  readonly taxMinor: Minor;
  readonly totalMinor: Minor;
};

/**
 * The invoice of a period: lines, then tax, then totals; every amount in minor units of the plan's currency.
 * A pure function of its input: preview, estimate and final invoice are this one call.
 * @throws RangeError when late usage is in another currency or a price cannot rate a quantity.
 */
export function assembleInvoice(input: InvoiceInput): InvoiceDraft {
  const { currency } = input.definition;
  const lines = [
    ...chargeLines(input),
    ...overageLines(input.definition, input.overageMicro, contextOf(input)),
    ...input.late.flatMap((late) => adjustmentLines(late, input)),
  ];
  const subtotalMinor = lines.reduce((sum, line) => sum + line.amountMinor, 0n);
  const taxes = taxLines(lines, input.taxRates, currency);
  const taxMinor = taxes.reduce((sum, tax) => sum + tax.amountMinor, 0n);
  return {
    currency,
    startMs: input.startMs,
    endMs: input.endMs,
    periodText: formatPeriod(input.startMs, input.endMs, input.zone),
    lines,
    subtotalMinor,
    taxes,
    taxMinor,
    totalMinor: subtotalMinor + taxMinor,
  };
}

function contextOf(of: Pick<InvoiceInput, 'definition' | 'planVersionId'>): LineContext {
  return { currency: of.definition.currency, planVersionId: of.planVersionId };
}

/** Lines stand in the order of the plan's charges. */
function chargeLines(input: InvoiceInput): InvoiceLine[] {
  const context = contextOf(input);
  return input.definition.charges.flatMap((charge) => {
    switch (charge.kind) {
      case 'recurring':
        return input.feeDue ? [feeLine(charge, context)] : [];
      case 'one_time':
        return input.oneTimeDue ? [feeLine(charge, context)] : [];
      case 'usage': {
        const usage = intervalUsage(input.usage, charge.meter);
        return [usageLine(charge, input.feeDue ? { ...usage, before: null } : usage, context)];
      }
      default:
        return charge satisfies never;
    }
  });
}

/** A maximum or a latest value of parts is not the sum of theirs, so the total is worked out over all rows. */
function intervalUsage(
  usage: readonly MeterUsage[],
  meter: Extract<PlanDefinition['charges'][number], { kind: 'usage' }>['meter'],
): IntervalUsage & { readonly before: bigint } {
  const ofMeter = usage.filter((rows) => rows.meterId === meter.id);
  const before = ofMeter.flatMap((rows) => rows.billedBefore);
  const now = ofMeter.flatMap((rows) => rows.thisPeriod);
  return {
    before: aggregate(before, meter.aggregation),
    total: aggregate([...before, ...now], meter.aggregation),
  };
}

function overageLines(
  definition: PlanDefinition,
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

/** Only meters that changed have a line. */
function adjustmentLines(late: LateUsage, { zone, definition }: InvoiceInput): InvoiceLine[] {
  if (late.definition.currency !== definition.currency) {
    throw new RangeError('late usage is in another currency than the invoice');
  }
  const context = contextOf(late);
  const periodText = formatPeriod(late.startMs, late.endMs, zone);
  const usageLines = late.definition.charges.flatMap((charge) => {
    if (charge.kind !== 'usage') return [];
    const isLate = late.usage.some(
      (rows) => rows.meterId === charge.meter.id && rows.thisPeriod.length > 0,
    );
    return isLate ? [usageLine(charge, intervalUsage(late.usage, charge.meter), context)] : [];
  });
  const lines = [...usageLines, ...overageLines(late.definition, late.overageMicro, context)];
  return lines.map((line) => asAdjustment(line, periodText));
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
