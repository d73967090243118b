import { formatCreditUnits } from './credits.ts';
import type { Coupon } from './discount.ts';
import { dueFees, type Fee, feeStretch, onceFees } from './fees.ts';
import { assembleInvoice, type InvoiceDraft, type InvoiceInput } from './invoice.ts';
import type { InvoiceLine } from './line.ts';
import { sumOf } from './money.ts';
import { boundary, calendarIntervalAt, recurrenceOf } from './periods.ts';
import type { Charge, PlanDefinition } from './plan.ts';
import { formatQuantity } from './quantity.ts';
import type { Span } from './ratio.ts';
import type { Run } from './runs.ts';
import type { Taxation } from './tax.ts';

/** What one meter came to in an interval: under its own aggregation in smallest units, and in how many events. */
export type MeterTotal = {
  readonly meterId: string;
  readonly meterKey: string;
  readonly scale: number;
  readonly quantity: bigint;
  readonly events: bigint;
};

/** Micro-credits that use costs, and what of them lies past the included ones. */
export type CreditUse = { readonly usedMicro: bigint; readonly pastMicro: bigint };

/** What use costs in credits by the burn table, as if only the included credits were there. */
export function creditUse(
  { credits }: Pick<PlanDefinition, 'credits'>,
  use: readonly Pick<MeterTotal, 'meterKey' | 'quantity'>[],
): CreditUse {
  const rates = new Map(
    (credits?.burn ?? []).map((rate) => [rate.meter_key, BigInt(rate.micro_per_unit)]),
  );
  const usedMicro = use.reduce(
    (sum, { meterKey, quantity }) => sum + quantity * (rates.get(meterKey) ?? 0n),
    0n,
  );
  const past = usedMicro - BigInt(credits?.included_micro ?? '0');
  return { usedMicro, pastMicro: past > 0n ? past : 0n };
}

/** What an invoice alone does not say of a plan: credits that are used up, use that would have been denied. */
export function simulationNotes(
  definition: PlanDefinition,
  use: readonly MeterTotal[],
): readonly string[] {
  return [...creditNotes(definition, use), ...limitNotes(definition, use)];
}

function creditNotes(definition: PlanDefinition, use: readonly MeterTotal[]): readonly string[] {
  const { credits } = definition;
  if (credits === null) return [];
  const { usedMicro, pastMicro } = creditUse(definition, use);
  const spell = (micro: bigint): string => formatCreditUnits(micro, credits.unit);
  const included = spell(BigInt(credits.included_micro));
  const used = `By the burn table this is ${spell(usedMicro)}, of which the plan includes ${included}; top-ups and gifts are not counted.`;
  if (pastMicro === 0n || credits.overage?.enabled === true) return [used];
  return [used, `Without a top-up the last ${spell(pastMicro)} would have been denied.`];
}

function limitNotes(definition: PlanDefinition, use: readonly MeterTotal[]): readonly string[] {
  return definition.features.flatMap((feature) => {
    const total = use.find(({ meterKey }) => meterKey === feature.meter_key);
    const isCap = feature.limit_type === 'HARD' && feature.reset_interval === 'period';
    if (!isCap || feature.limit === null || total === undefined) return [];
    if (total.quantity <= BigInt(feature.limit)) return [];
    const limit = formatQuantity(BigInt(feature.limit), total.scale);
    const used = formatQuantity(total.quantity, total.scale);
    return [
      `The limit of ${feature.key} stops at ${limit}: of ${used} what is above would have been denied.`,
    ];
  });
}

export type IntervalSimulation = {
  readonly planVersionId: string;
  readonly definition: PlanDefinition;
  readonly zone: string;
  /** The interval begins here; by the calendar it is the one that this instant lies in. */
  readonly startMs: number;
  /** True: with what is due once, as on the first invoice of a subscription. */
  readonly isFirst: boolean;
  readonly use: readonly MeterTotal[];
  /** Overage in micro-credits; null: as the burn table gives it. */
  readonly overageMicro: bigint | null;
  readonly coupons: readonly Coupon[];
  /** Null: nothing is taxed. */
  readonly taxation: Taxation | null;
};

/**
 * The invoice of a whole interval in which so much is used: fees in arrears for it and in advance for the next one. No
 * account balance.
 * @throws RangeError when overage is given to a plan without a price for it, or a price cannot rate a quantity.
 */
export function simulateInterval(of: IntervalSimulation): InvoiceDraft {
  const { definition, planVersionId, zone, use } = of;
  const [interval, next] = intervalsFrom(of);
  const feesOf = (span: Span, when: 'arrears' | 'advance'): readonly Fee[] =>
    dueFees([feeStretch({ planVersionId, definition, ...span }, when)], {
      ...{ interval: span, whole: span, zone },
      ...{ lines: [], isAhead: when === 'advance' },
    });
  const draft = assembleInvoice({
    zone,
    ...interval,
    fees: [
      ...(of.isFirst ? onceFees(definition, planVersionId) : []),
      ...feesOf(interval, 'arrears'),
      ...feesOf(next, 'advance'),
    ],
    current: {
      planVersionId,
      definition: { ...definition, charges: definition.charges.map(asSum) },
      ...interval,
      isBegun: false,
      usage: use.map((total) => rowsOf(total, interval.startMs)),
      overageMicro: { billedBefore: 0n, thisPeriod: overageOf(of) },
    },
    earlier: [],
    late: [],
    minimum: 'now',
    commitment: commitmentOf(definition),
    coupons: of.coupons,
    taxation: of.taxation ?? {
      kind: definition.prices_include_tax === true ? 'inclusive' : 'exclusive',
      rates: { general: [] },
    },
    balanceMinor: 0n,
  });
  return { ...draft, lines: draft.lines.map((line) => withOwnAggregation(line, definition)) };
}

/** Fees in advance of the interval itself were billed before it, and count. */
function commitmentOf({ commitment_minor, charges }: PlanDefinition): InvoiceInput['commitment'] {
  if (commitment_minor === undefined) return null;
  const billedMinor = sumOf(
    charges.map((charge) =>
      charge.kind === 'recurring' && charge.bill_in === 'advance'
        ? BigInt(charge.amount_minor)
        : 0n,
    ),
  );
  return { commitmentMinor: BigInt(commitment_minor), billedMinor };
}

function intervalsFrom({ definition, zone, startMs }: IntervalSimulation): readonly [Span, Span] {
  const recurrence = recurrenceOf(definition);
  if (definition.billing_time === 'calendar') {
    const first = calendarIntervalAt(startMs, zone, recurrence);
    return [first, calendarIntervalAt(first.endMs, zone, recurrence)];
  }
  const [endMs, nextEndMs] = [1, 2].map((n) => boundary(startMs, zone, recurrence, n));
  if (endMs === undefined || nextEndMs === undefined) throw new Error('an interval has no end');
  return [
    { startMs, endMs },
    { startMs: endMs, endMs: nextEndMs },
  ];
}

function overageOf({ definition, use, overageMicro }: IntervalSimulation): bigint {
  if (overageMicro !== null) return overageMicro;
  return definition.credits?.overage?.enabled === true ? creditUse(definition, use).pastMicro : 0n;
}

/** What is given is what the meter came to, so that nothing is left to aggregate. */
function asSum(charge: Charge): Charge {
  return charge.kind === 'usage'
    ? { ...charge, meter: { ...charge.meter, aggregation: 'SUM' } }
    : charge;
}

function rowsOf(total: MeterTotal, latestAt: number): Run['usage'][number] {
  const { meterId, quantity, events } = total;
  const row = {
    quantity,
    eventCount: events,
    maxQuantity: quantity,
    latestQuantity: quantity,
    latestAt,
  };
  return { meterId, billedBefore: [], thisPeriod: [row] };
}

function withOwnAggregation(line: InvoiceLine, { charges }: PlanDefinition): InvoiceLine {
  const { details } = line;
  const charge = charges.find(({ id }) => id === line.chargeId);
  if (charge?.kind !== 'usage' || !('aggregation' in details)) return line;
  return { ...line, details: { ...details, aggregation: charge.meter.aggregation } };
}
