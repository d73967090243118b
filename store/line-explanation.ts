/**
 * An invoice line taken apart: its charge as it was published, the hours of usage or credits behind it, where the events
 * are, and its amount worked out anew, once from its details and once from the hours.
 */
import { amountFromDetails } from '../billing/explain.ts';
import type { Part } from '../billing/fees.ts';
import { overageLine, type LineDetails, type RunDetails } from '../billing/line.ts';
import type { Minor } from '../billing/money.ts';
import { isoInstant } from '../billing/periods.ts';
import type { Charge, BillableDefinition, UsageCharge } from '../billing/plan.ts';
import type { UsagePartial } from '../billing/rate.ts';
import { prorate, type Span } from '../billing/ratio.ts';
import { chargeIn, usageIn } from '../billing/runs.ts';
import { type IntervalUsage, usageLines } from '../billing/usage-line.ts';
import type { Reader } from './db.ts';
import type { InvoiceLineRead, InvoiceRead } from './invoice-reads.ts';
import { listInvoiced, type Period } from './periods.ts';
import { insertedRow } from './query.ts';
import { readTopUp, type TopUp } from './top-ups.ts';
import type { CreditUsageRow, UsageRow } from './usage.ts';
import { type LateRun, ratedRun, readPeriodUsage, type UsageRun } from './usage-runs.ts';

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
  const place = await findPlace(db, invoice);
  const counted = usageLineOf(line, lines);
  const run = place === null ? null : await findRun(db, place, { line, counted });
  const usageHours = run === null || line.meter_id === null ? [] : usageHoursOf(run, line.meter_id);
  const creditHours = run === null || !isOverage(line) ? [] : creditHoursOf(run);
  const topUp = 'top_up_id' in line.details ? await readTopUp(db, line.details.top_up_id) : null;
  return {
    planVersion,
    charge,
    period: run?.adjusted ?? place?.period ?? null,
    interval: intervalOf(invoice, { line, place, run }),
    usage: run !== null && charge?.kind === 'usage' ? usageIn(ratedRun(run), charge) : null,
    includedUnits: counted?.included_units ?? null,
    usageHours,
    creditHours,
    events:
      place === null || run === null
        ? []
        : eventRanges(place, { run, line, hours: [...usageHours, ...creditHours] }),
    topUp,
    recomputed: recompute(line, { planVersion, charge, run, topUp }),
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

/** The period that was invoiced, among all of its subscription. */
type Place = {
  readonly subscriptionId: string;
  readonly period: Period;
  readonly periods: readonly Period[];
};

async function findPlace(db: Reader, invoice: InvoiceRead): Promise<Place | null> {
  if (invoice.subscription_id === null || invoice.period_id === null) return null;
  const periods = await listInvoiced(db, invoice.subscription_id);
  const period = periods.find(({ id }) => id === invoice.period_id);
  return period === undefined ? null : { subscriptionId: invoice.subscription_id, period, periods };
}

/** The usage behind a line; `adjusted` is the closed period that it came too late for. */
type RunBehind = UsageRun & Partial<Pick<LateRun, 'adjusted' | 'period'>>;

/** The run that the line names by its time, read as the invoice read it. Null: the line is not about usage. */
async function findRun(
  db: Reader,
  place: Place,
  { line, counted }: { readonly line: Line; readonly counted: UsageDetails | null },
): Promise<RunBehind | null> {
  const { details } = line;
  const named = isOverage(line) && 'run' in details ? details.run : counted?.run;
  if (named === undefined) return null;
  const { own, late } = await readPeriodUsage(db, place);
  const isVersion = (run: UsageRun): boolean => run.planVersionId === line.plan_version_id;
  return line.kind === 'adjustment'
    ? (late.find((run) => isVersion(run) && isNamed(run.period, named)) ?? null)
    : (own.find((run) => isVersion(run) && isNamed(run, named)) ?? null);
}

function isNamed({ startMs, endMs }: Span, named: RunDetails): boolean {
  return isoInstant(startMs) === named.start_at && isoInstant(endMs) === named.end_at;
}

function usageHoursOf(run: UsageRun, meterId: string): readonly UsageHour[] {
  const of = (rows: readonly UsageRow[], isBilledNow: boolean): readonly UsageHour[] =>
    rows.filter((row) => row.meterId === meterId).map((row) => ({ ...row, isBilledNow }));
  return inOrder([...of(run.before, false), ...of(run.now, true)]);
}

function creditHoursOf(run: UsageRun): readonly CreditHour[] {
  const of = (rows: readonly CreditUsageRow[], isBilledNow: boolean): readonly CreditHour[] =>
    rows.map((row) => ({ ...row, isBilledNow }));
  return inOrder([...of(run.creditsBefore, false), ...of(run.creditsNow, true)]);
}

function inOrder<T extends Hour>(hours: readonly T[]): readonly T[] {
  return hours.toSorted((a, b) => a.hour.getTime() - b.hour.getTime());
}

async function readPlanVersion(db: Reader, planVersionId: string): Promise<PlanVersion> {
  return insertedRow<PlanVersion>(
    db,
    `SELECT v.id, v.version, p.id AS "planId", p.lookup_id AS "planLookupId", p.name AS "planName", v.definition
     FROM plan_versions v JOIN plans p ON p.id = v.plan_id WHERE v.id = ?`,
    [planVersionId],
  );
}

/** A fee says which time it is for; usage is priced by its whole interval. */
function intervalOf(
  invoice: InvoiceRead,
  of: { readonly line: Line; readonly place: Place | null; readonly run: RunBehind | null },
): LineExplanation['interval'] {
  const { covers_start_at: from, covers_end_at: until } = of.line;
  if (from !== null && until !== null) return { startAt: from, endAt: until };
  const period = of.run?.adjusted ?? of.place?.period;
  if (period !== undefined) {
    return { startAt: period.intervalStartAt, endAt: period.intervalEndAt };
  }
  const { period_start_at: startAt, period_end_at: endAt } = invoice;
  return startAt === null || endAt === null ? null : { startAt, endAt };
}

/** Late events lie in the time that they belong to, although another period counts them. */
function eventRanges(
  { subscriptionId, period }: Place,
  behind: { readonly run: RunBehind; readonly line: Line; readonly hours: readonly Hour[] },
): readonly EventRange[] {
  const { run, line, hours } = behind;
  const groups = Map.groupBy(hours, ({ periodId, isBilledNow }) => `${periodId} ${isBilledNow}`);
  return [...groups.values()].flatMap((ofPeriod) => {
    const [first] = ofPeriod;
    if (first === undefined) return [];
    const { periodId, isBilledNow } = first;
    const late = isBilledNow ? run.period : undefined;
    // What this invoice bills for an earlier period of the same interval stands in a line before this one.
    const endMs = !isBilledNow && periodId === period.id ? run.period?.startMs : undefined;
    return [
      {
        subscriptionId,
        periodId,
        meterId: line.meter_id,
        fromAt: new Date(late?.startMs ?? run.startMs),
        untilAt: new Date(endMs ?? late?.endMs ?? run.endMs),
        isBilledNow,
        eventCount: ofPeriod.reduce((sum, { eventCount }) => sum + eventCount, 0n),
      },
    ];
  });
}

type Behind = {
  readonly planVersion: PlanVersion | null;
  readonly charge: Charge | null;
  readonly run: RunBehind | null;
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

/** The hours, rated by the functions that made the line. Null: no hours are behind it. */
function hoursAmount(line: Line, { planVersion, charge, run }: Behind): Minor | null {
  if (planVersion === null || run === null) return null;
  const { definition } = planVersion;
  const context = { currency: definition.currency, planVersionId: planVersion.id };
  const rated = ratedRun(run);
  if (isOverage(line)) {
    const { billedBefore: before, thisPeriod } = rated.overageMicro;
    const { credits } = definition;
    return credits === null
      ? null
      : overageLine(credits, { before, total: before + thisPeriod }, context).amountMinor;
  }
  if (charge?.kind !== 'usage') return null;
  const lines = usageLines(
    chargeIn(rated, charge),
    {
      ...usageIn(rated, charge),
      minimum: minimumOf(line, { charge, run }),
      minimumPart: partOf(line),
    },
    context,
  );
  const [own, bound] = lines;
  return usageDetails(line) === null ? (bound?.amountMinor ?? 0n) : (own?.amountMinor ?? null);
}

/** The part of the minimum that was due, as the line says it: what the subscription held was known then. */
function partOf({ details }: Pick<Line, 'details'>): Part | null {
  if (!('minimum_part' in details) || details.minimum_part === undefined) return null;
  const { numerator, denominator } = details.minimum_part;
  return { ratio: { numerator: BigInt(numerator), denominator: BigInt(denominator) }, text: '' };
}

/** Whether the minimum was due with this line: then the bounded amount is no less than it, or than the maximum. */
function minimumOf(
  { kind, details }: Line,
  { charge, run }: { readonly charge: UsageCharge; readonly run: RunBehind },
): NonNullable<IntervalUsage['minimum']> {
  if (!run.isLast) return 'later';
  if (kind === 'adjustment') return 'before';
  if (!('bounded_minor' in details)) return 'later';
  const part = partOf({ details });
  const whole = BigInt(charge.minimum_minor ?? '0');
  const least = part === null ? whole : prorate(whole, part.ratio);
  const most = BigInt(charge.maximum_minor ?? charge.minimum_minor ?? '0');
  return BigInt(details.bounded_minor) >= (least < most ? least : most) ? 'now' : 'later';
}
