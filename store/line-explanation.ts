/**
 * An invoice line taken apart: its charge as it was published, the hours of usage or credits behind it, where the events
 * are, and its amount worked out anew, once from its details and once from the hours.
 */
import { amountFromDetails } from '../billing/explain.ts';
import { overageLine, type LineDetails } from '../billing/line.ts';
import type { Minor } from '../billing/money.ts';
import type { Charge, BillableDefinition, UsageCharge } from '../billing/plan.ts';
import { aggregate, type UsagePartial } from '../billing/rate.ts';
import { type IntervalUsage, usageLines } from '../billing/usage-line.ts';
import type { Reader } from './db.ts';
import type { InvoiceLineRead, InvoiceRead } from './invoice-reads.ts';
import { listPeriods, type Period } from './periods.ts';
import { insertedRow, selectRow, selectRows } from './query.ts';
import { readTopUp, type TopUp } from './top-ups.ts';
import { type PartialKey, usagePartials, withValuesAndLevels } from './usage-partials.ts';

/** One hour of one segment. `isBilledNow` false: an earlier invoice billed it, and its total decides the prices here. */
type Hour = {
  readonly periodId: string;
  readonly hour: Date;
  /** '' for usage of `periodId` itself; else the closed period that it came too late for. */
  readonly adjustsPeriodId: string;
  readonly eventCount: bigint;
  readonly isBilledNow: boolean;
};
export type UsageHour = Hour & UsagePartial & { readonly latestAt: Date };
export type CreditHour = Hour & {
  readonly creditsMicro: bigint;
  readonly overageMicro: bigint;
  readonly writtenOffMicro: bigint;
};

/** Events of one period: those of `meterId` (null: of any) that occurred in fromAt ≤ t < untilAt. */
export type EventRange = {
  readonly subscriptionId: string;
  readonly periodId: string;
  readonly meterId: string | null;
  readonly fromAt: Date;
  readonly untilAt: Date;
  readonly isBilledNow: boolean;
  /** As the hours count them. */
  readonly eventCount: bigint;
};

type PlanVersion = {
  readonly id: string;
  readonly version: number;
  readonly planId: string;
  readonly planLookupId: string;
  readonly planName: string;
  readonly definition: BillableDefinition;
};

export type LineExplanation = {
  readonly planVersion: PlanVersion | null;
  readonly charge: Charge | null;
  /** The period that the line belongs to; of late usage the closed one. Null on an invoice without a period. */
  readonly period: Period | null;
  /** The billing interval that is priced as a whole, or that a fee is for; half-open. */
  readonly interval: { readonly startAt: Date; readonly endAt: Date } | null;
  /** What the hours add up to under the meter's aggregation; null unless the line is about a meter. */
  readonly usage: IntervalUsage | null;
  readonly includedUnits: string | null;
  readonly usageHours: readonly UsageHour[];
  readonly creditHours: readonly CreditHour[];
  readonly events: readonly EventRange[];
  readonly topUp: TopUp | null;
  readonly recomputed: {
    /** Null: the line has no details that an amount follows from. */
    readonly fromDetailsMinor: Minor | null;
    /** Null: no hours are behind the line. */
    readonly fromHoursMinor: Minor | null;
    readonly isExact: boolean;
  };
};

type Line = InvoiceLineRead;
type UsageDetails = Extract<LineDetails, { readonly aggregation: string }>;

/**
 * Explains `line`, one of `lines`, which are all the lines of `invoice`. Usage of an invoiced period never grows, so the
 * answer is the same at any later time.
 */
export async function explainLine(
  db: Reader,
  invoice: InvoiceRead,
  { line, lines }: { readonly line: Line; readonly lines: readonly Line[] },
): Promise<LineExplanation> {
  const planVersion =
    line.plan_version_id === null ? null : await readPlanVersion(db, line.plan_version_id);
  const charge = planVersion?.definition.charges.find(({ id }) => id === line.charge_id) ?? null;
  const place = await findPlace(db, invoice, { line, lines });
  const isOfCredits = isOverage(line);
  const usageHours =
    place === null || line.meter_id === null ? [] : await readUsageHours(db, place, line.meter_id);
  const creditHours = place === null || !isOfCredits ? [] : await readCreditHours(db, place);
  const counted = usageLineOf(line, lines);
  const usage =
    place === null || counted === null || charge?.kind !== 'usage'
      ? null
      : totalsOf(usageHours, charge, counted);
  const topUp = 'top_up_id' in line.details ? await readTopUp(db, line.details.top_up_id) : null;
  return {
    planVersion,
    charge,
    period: place?.of ?? null,
    interval: intervalOf(invoice, { place, charge }),
    usage,
    includedUnits: counted?.included_units ?? null,
    usageHours,
    creditHours,
    events: place === null ? [] : eventRanges(place, { line, usageHours, creditHours }),
    topUp,
    recomputed: recompute(line, { planVersion, charge, usage, counted, creditHours, topUp }),
  };
}

function isOverage({ details }: Line): boolean {
  return 'model' in details && details.model === 'credits';
}

function usageDetails({ details }: Line): UsageDetails | null {
  return 'aggregation' in details ? details : null;
}

/** Details of the usage that a line is about: its own, or of a minimum or maximum those of the line before it. */
function usageLineOf(line: Line, lines: readonly Line[]): UsageDetails | null {
  if (line.charge_id === null) return null;
  const upTo = lines.filter(
    (other) =>
      other.charge_id === line.charge_id &&
      other.position <= line.position &&
      usageDetails(other) !== null,
  );
  const nearest = upTo.toSorted((a, b) => a.position - b.position).at(-1);
  return nearest === undefined ? null : usageDetails(nearest);
}

/** Where the hours of a line lie. */
type Place = {
  readonly subscriptionId: string;
  /** The period that was invoiced. */
  readonly invoiced: Period;
  /** The period that the usage belongs to: `invoiced`, or for late usage a closed one of an earlier interval. */
  readonly of: Period;
  readonly next: Period | null;
};

async function findPlace(
  db: Reader,
  invoice: InvoiceRead,
  { line, lines }: { readonly line: Line; readonly lines: readonly Line[] },
): Promise<Place | null> {
  if (invoice.subscription_id === null || invoice.period_id === null) return null;
  const periods = await listPeriods(db, invoice.subscription_id);
  const invoiced = periods.find(({ id }) => id === invoice.period_id);
  if (invoiced === undefined) return null;
  const next = periods.find((other) => other.intervalIndex > invoiced.intervalIndex) ?? null;
  const own = { subscriptionId: invoice.subscription_id, invoiced, of: invoiced, next };
  const isLate =
    line.kind === 'adjustment' && (isOverage(line) || usageLineOf(line, lines) !== null);
  if (!isLate) return own;
  const adjusted = await findAdjusted(db, own, { line, lines });
  const of = periods.find(({ id }) => id === adjusted);
  return of === undefined ? own : { ...own, of };
}

/** Late usage has one line for each period and charge (or credits), in the order of the periods. */
async function findAdjusted(
  db: Reader,
  { subscriptionId, invoiced }: Place,
  { line, lines }: { readonly line: Line; readonly lines: readonly Line[] },
): Promise<string | null> {
  const isAlike = (other: Line): boolean =>
    isOverage(line) ? isOverage(other) : usageDetails(other) !== null;
  const upTo = lines.filter(
    (other) =>
      other.kind === 'adjustment' &&
      other.charge_id === line.charge_id &&
      other.plan_version_id === line.plan_version_id &&
      other.position <= line.position &&
      isAlike(other),
  );
  const hours = isOverage(line)
    ? 'credit_rollups r WHERE r.overage_micro > 0'
    : `${usagePartials} r WHERE r.meter_id = :meter`;
  const row = await selectRow<{ id: string }>(
    db,
    `SELECT a.id FROM periods a
     WHERE a.subscription_id = :subscription AND a.interval_index <> :interval AND a.state <> 'void'
       AND (SELECT s.plan_version_id FROM segments s WHERE s.period_id = a.id ORDER BY s.from_at LIMIT 1) = :version
       AND EXISTS (SELECT 1 FROM ${hours} AND r.subscription_id = :subscription AND r.adjusts_period_id = a.id
         AND r.segment_id IN (SELECT s.id FROM segments s WHERE s.period_id = :invoiced))
     ORDER BY a.seq LIMIT 1 OFFSET :rank`,
    {
      subscription: subscriptionId,
      interval: invoiced.intervalIndex,
      version: line.plan_version_id,
      invoiced: invoiced.id,
      rank: Math.max(upTo.length - 1, 0),
      ...(isOverage(line) ? {} : { meter: line.meter_id }),
    },
  );
  return row?.id ?? null;
}

/**
 * Hours of the interval up to and with the invoiced period: used in it, or late for it. Of the invoiced period's own late
 * hours only those of one adjusted period count here: each has its line. Use after a subscription's end adjusts the very
 * period that it lies in, and is billed by nobody.
 */
const behindTheLine = `JOIN segments s ON s.id = r.segment_id JOIN periods p ON p.id = s.period_id
  LEFT JOIN periods a ON a.id = nullif(r.adjusts_period_id, '')
  WHERE r.subscription_id = :subscription AND p.state <> 'void' AND r.adjusts_period_id <> s.period_id
    AND coalesce(a.interval_index, p.interval_index) = :interval
    AND (p.seq < :seq OR (p.id = :invoiced AND (NOT :late::boolean OR r.adjusts_period_id = :adjusted)))`;

function bindingsOf({ subscriptionId, invoiced, of }: Place) {
  return {
    subscription: subscriptionId,
    interval: of.intervalIndex,
    seq: invoiced.seq,
    invoiced: invoiced.id,
    late: of.id !== invoiced.id,
    adjusted: of.id,
  };
}

async function readUsageHours(
  db: Reader,
  place: Place,
  meterId: string,
): Promise<readonly UsageHour[]> {
  const hours = await selectRows<UsageHour & PartialKey>(
    db,
    `SELECT s.period_id AS "periodId", r.segment_id AS "segmentId", r.meter_id AS "meterId", r.hour,
       r.adjusts_period_id AS "adjustsPeriodId", r.quantity,
       r.event_count AS "eventCount", r.max_quantity AS "maxQuantity", r.latest_quantity AS "latestQuantity",
       r.latest_at AS "latestAt", p.id = :invoiced AS "isBilledNow"
     FROM ${usagePartials} r ${behindTheLine} AND r.meter_id = :meter
     ORDER BY r.hour, r.segment_id, r.adjusts_period_id, r.latest_at`,
    { ...bindingsOf(place), meter: meterId },
  );
  return withValuesAndLevels(db, place.subscriptionId, hours);
}

async function readCreditHours(db: Reader, place: Place): Promise<readonly CreditHour[]> {
  return selectRows<CreditHour>(
    db,
    `SELECT s.period_id AS "periodId", r.hour, r.adjusts_period_id AS "adjustsPeriodId",
       r.event_count AS "eventCount", r.credits_micro AS "creditsMicro", r.overage_micro AS "overageMicro",
       r.written_off_micro AS "writtenOffMicro", p.id = :invoiced AS "isBilledNow"
     FROM credit_rollups r ${behindTheLine}
     ORDER BY r.hour, r.segment_id, r.adjusts_period_id`,
    bindingsOf(place),
  );
}

async function readPlanVersion(db: Reader, planVersionId: string): Promise<PlanVersion> {
  return insertedRow<PlanVersion>(
    db,
    `SELECT v.id, v.version, p.id AS "planId", p.lookup_id AS "planLookupId", p.name AS "planName", v.definition
     FROM plan_versions v JOIN plans p ON p.id = v.plan_id WHERE v.id = ?`,
    [planVersionId],
  );
}

/** A fee that is billed in advance is for the interval after the invoiced one. */
function intervalOf(
  invoice: InvoiceRead,
  { place, charge }: { readonly place: Place | null; readonly charge: Charge | null },
): LineExplanation['interval'] {
  const isAdvance = charge?.kind === 'recurring' && charge.bill_in === 'advance';
  const of = isAdvance ? place?.next : place?.of;
  if (of !== null && of !== undefined) {
    return { startAt: of.intervalStartAt, endAt: of.intervalEndAt };
  }
  const { period_start_at: startAt, period_end_at: endAt } = invoice;
  return startAt === null || endAt === null ? null : { startAt, endAt };
}

/** Late events lie in the period that they belong to, although another one counts them. */
function eventRanges(
  { subscriptionId, invoiced, of }: Place,
  behind: {
    readonly line: Line;
    readonly usageHours: readonly Hour[];
    readonly creditHours: readonly Hour[];
  },
): readonly EventRange[] {
  const hours = [...behind.usageHours, ...behind.creditHours];
  return [...Map.groupBy(hours, ({ periodId }) => periodId)].map(([periodId, ofPeriod]) => {
    const isBilledNow = periodId === invoiced.id;
    const isLate = isBilledNow && of.id !== invoiced.id;
    return {
      subscriptionId,
      periodId,
      meterId: behind.line.meter_id,
      fromAt: isLate ? of.startAt : of.intervalStartAt,
      untilAt: isLate ? of.endAt : of.intervalEndAt,
      isBilledNow,
      eventCount: ofPeriod.reduce((sum, { eventCount }) => sum + eventCount, 0n),
    };
  });
}

function totalsOf(
  hours: readonly UsageHour[],
  { meter }: UsageCharge,
  counted: UsageDetails,
): IntervalUsage {
  const before = hours.filter((hour) => !hour.isBilledNow);
  return {
    before: counted.before === null ? null : aggregate(before, meter.aggregation),
    total: aggregate(hours, meter.aggregation),
    eventsBefore: aggregate(before, 'COUNT'),
    eventsTotal: aggregate(hours, 'COUNT'),
  };
}

type Behind = {
  readonly planVersion: PlanVersion | null;
  readonly charge: Charge | null;
  readonly usage: IntervalUsage | null;
  readonly counted: UsageDetails | null;
  readonly creditHours: readonly CreditHour[];
  readonly topUp: TopUp | null;
};

function recompute(line: Line, behind: Behind): LineExplanation['recomputed'] {
  const fromDetailsMinor = detailsAmount(line, behind);
  const fromHoursMinor = hoursAmount(line, behind);
  return {
    fromDetailsMinor,
    fromHoursMinor,
    isExact:
      fromDetailsMinor === line.amount_minor &&
      (fromHoursMinor === null || fromHoursMinor === line.amount_minor),
  };
}

/** Of a top-up, what was asked for it. */
function detailsAmount(line: Line, { planVersion, topUp }: Behind): Minor | null {
  const { details } = line;
  if (!('model' in details)) return topUp?.amountMinor ?? null;
  if (planVersion === null) return null;
  const read = { details, quantity: line.quantity, unitPrice: line.unit_price };
  try {
    return amountFromDetails(read, planVersion.definition.currency);
  } catch (error) {
    if (error instanceof RangeError) return null;
    throw error;
  }
}

/** The hours, rated by the functions that made the line. */
function hoursAmount(line: Line, behind: Behind): Minor | null {
  const { planVersion, charge, usage, counted, creditHours } = behind;
  if (planVersion === null) return null;
  const { definition } = planVersion;
  const context = { currency: definition.currency, planVersionId: planVersion.id };
  if (isOverage(line)) {
    const { credits } = definition;
    const sum = (hours: readonly CreditHour[]): bigint =>
      hours.reduce((all, { overageMicro }) => all + overageMicro, 0n);
    const before = sum(creditHours.filter(({ isBilledNow }) => !isBilledNow));
    const total = sum(creditHours);
    return credits === null ? null : overageLine(credits, { before, total }, context).amountMinor;
  }
  if (charge?.kind !== 'usage' || usage === null || counted === null) return null;
  const lines = usageLines(
    { ...charge, included_units: counted.included_units },
    { ...usage, minimum: minimumOf(line, charge) },
    context,
  );
  const [own, bound] = lines;
  return usageDetails(line) === null ? (bound?.amountMinor ?? 0n) : (own?.amountMinor ?? null);
}

/** Whether the minimum was due with this line: then the bounded amount is no less than it, or than the maximum. */
function minimumOf(
  { kind, details }: Line,
  charge: UsageCharge,
): NonNullable<IntervalUsage['minimum']> {
  if (kind === 'adjustment') return 'before';
  if (!('bounded_minor' in details)) return 'later';
  const least = BigInt(charge.minimum_minor ?? '0');
  const most = BigInt(charge.maximum_minor ?? charge.minimum_minor ?? '0');
  return BigInt(details.bounded_minor) >= (least < most ? least : most) ? 'now' : 'later';
}
