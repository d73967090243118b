import type { Part } from './fees.ts';
import type { BillableDefinition, UsageCharge } from './plan.ts';
import {
  aggregate,
  averageLevel,
  billableUnits,
  type Level,
  levelAt,
  type UsagePartial,
} from './rate.ts';
import type { Span } from './ratio.ts';
import type { IntervalUsage } from './usage-line.ts';

/**
 * Which terms usage is priced by. An interval is divided into runs: stretches of time under one plan version. Each run is
 * rated with its own version, its prices start anew; what an interval bills later is always `rate(total) − rate(billed)`
 * of a run.
 *
 * Which runs an interval has is decided by usage that came in time, so that it is settled once a period is closed: late
 * usage is added to a run, and never divides or joins runs.
 */

/** A stretch of time under one plan version, in the order of time. */
export type Segment = Span & {
  readonly id: bigint;
  readonly periodId: string;
  readonly planVersionId: string;
};

/** Where a rollup row was counted, and what it belongs to. */
export type PlacedRow = {
  readonly periodId: string;
  readonly segmentId: bigint;
  /** '' for usage of `periodId` itself; else the closed period that this late usage belongs to. */
  readonly adjustsPeriodId: string;
  readonly hour: { valueOf(): number };
  /** The latest event of the hour, where it is known. */
  readonly latestAt?: { valueOf(): number };
  /** Of a row of usage. */
  readonly meterId?: string;
  readonly levels?: readonly Level[];
};

/** A stretch of an interval that is rated as a whole. */
export type RunSpan = Span & {
  readonly planVersionId: string;
  readonly segmentIds: readonly bigint[];
  /** The one that the interval, as far as it has come, ends with: minimums and lines without usage are its. */
  readonly isLast: boolean;
};

/**
 * The runs of an interval. A stretch in which nothing was used in time is left out before neighbours of the same version
 * are joined, so that a change that is undone before anything was used changes nothing; the last one always stays. One
 * that a period ended with is joined to the next one of its version: what is due without any usage was billed with it.
 *
 * A level that stands is a use of the time that it stands in, though nobody says so again: such a stretch stays, unless
 * the changes that it lies between undo one another before a period ended.
 */
export function runsOf(
  segments: readonly Segment[],
  rows: readonly PlacedRow[],
): readonly RunSpan[] {
  const used = new Set(
    rows.filter((row) => row.adjustsPeriodId === '').map((row) => row.segmentId),
  );
  const stretches = joined(segments.map((segment) => spanOf(segment)));
  const last = stretches.at(-1);
  const ends = new Set(new Map(segments.map(({ periodId, id }) => [periodId, id])).values());
  const isEnd = ({ segmentIds }: Stretch): boolean => segmentIds.some((id) => ends.has(id));
  const levels = levelsByMeter(rows);
  const isHeld = ({ startMs }: Stretch): boolean =>
    levels.some((ofMeter) => levelAt(ofMeter, startMs) > 0n);
  const isSure = (stretch: Stretch): boolean =>
    stretch === last ||
    stretch.segmentIds.some((id) => used.has(id)) ||
    (isEnd(stretch) && isHeld(stretch));
  const lasting = new Set(
    withoutUndone(
      stretches.filter((one) => isSure(one) || isHeld(one)),
      isSure,
    ),
  );
  const kept = stretches.reduceRight<readonly Stretch[]>((after, stretch) => {
    const isKept =
      lasting.has(stretch) || (after[0]?.planVersionId === stretch.planVersionId && isEnd(stretch));
    return isKept ? [stretch, ...after] : after;
  }, []);
  return joined(kept).map((run, index, all) => ({ ...run, isLast: index === all.length - 1 }));
}

/** Whoever comes back to a version of before took nothing on the way, as far as nothing on the way is sure. */
function withoutUndone(
  stretches: readonly Stretch[],
  isSure: (stretch: Stretch) => boolean,
): readonly Stretch[] {
  return stretches.reduce<readonly Stretch[]>((path, stretch) => {
    const surely = path.findLastIndex(isSure);
    const back = path.findLastIndex(({ planVersionId }) => planVersionId === stretch.planVersionId);
    return [...(back >= Math.max(surely, 0) ? path.slice(0, back + 1) : path), stretch];
  }, []);
}

/** What was known in time of levels, meter by meter. */
function levelsByMeter(rows: readonly PlacedRow[]): readonly (readonly Level[])[] {
  const known = rows.filter((row) => row.adjustsPeriodId === '' && row.levels !== undefined);
  return [...Map.groupBy(known, ({ meterId }) => meterId).values()].map((ofMeter) =>
    ofMeter.flatMap(({ levels }) => levels ?? []),
  );
}

type Stretch = Omit<RunSpan, 'isLast'>;

function spanOf({ id, planVersionId, startMs, endMs }: Segment): Stretch {
  return { planVersionId, startMs, endMs, segmentIds: [id] };
}

function joined(stretches: readonly Stretch[]): readonly Stretch[] {
  const runs: Stretch[] = [];
  for (const stretch of stretches) {
    const before = runs.at(-1);
    if (before?.planVersionId !== stretch.planVersionId) {
      runs.push(stretch);
      continue;
    }
    const segmentIds = [...before.segmentIds, ...stretch.segmentIds];
    runs[runs.length - 1] = { ...before, endMs: stretch.endMs, segmentIds };
  }
  return runs;
}

/**
 * The segment that usage belongs to. Late usage is known by the hour: it belongs to the segment of its period that holds
 * the latest event of that hour. Null: its period has no segment here.
 */
export function segmentOf(row: PlacedRow, segments: readonly Segment[]): Segment | null {
  if (row.adjustsPeriodId === '') return segments.find(({ id }) => id === row.segmentId) ?? null;
  const ofPeriod = segments.filter(({ periodId }) => periodId === row.adjustsPeriodId);
  const atMs = (row.latestAt ?? row.hour).valueOf();
  return ofPeriod.findLast(({ startMs }) => startMs <= atMs) ?? ofPeriod[0] ?? null;
}

/** The run that a segment is in. Of a stretch that was left out, late usage makes a run of its own, never the last one. */
export function runAt(
  segment: Segment,
  of: { readonly runs: readonly RunSpan[]; readonly segments: readonly Segment[] },
): RunSpan {
  const run = of.runs.find(({ segmentIds }) => segmentIds.includes(segment.id));
  if (run !== undefined) return run;
  const stretches = joined(of.segments.map((other) => spanOf(other)));
  const own = stretches.find(({ segmentIds }) => segmentIds.includes(segment.id));
  return { ...(own ?? spanOf(segment)), isLast: false };
}

/** The rollup rows of one meter in one run, split by what has been invoiced. */
export type MeterUsage = {
  readonly meterId: string;
  /** What earlier runs of the interval used in time: it is gone from the included units. Default none. */
  readonly earlier?: readonly UsagePartial[];
  /** The levels of earlier runs of the interval, in time: the last one goes on to stand in this run. Default none. */
  readonly carried?: readonly Level[];
  /** Rows that are invoiced already. */
  readonly billedBefore: readonly UsagePartial[];
  /** Rows that this invoice is for. */
  readonly thisPeriod: readonly UsagePartial[];
};

/** Micro-credits of overage in one run, split likewise. */
export type OverageUsage = { readonly billedBefore: bigint; readonly thisPeriod: bigint };

/** Usage under one plan version, and the terms that price it. */
export type Run = {
  readonly planVersionId: string;
  readonly definition: BillableDefinition;
  /** Epoch ms, half-open: as far as the run is invoiced, with this invoice or an earlier one. */
  readonly startMs: number;
  readonly endMs: number;
  /** An invoice was issued while it ran: what is due without any usage, such as the first tier's flat fee, was due then. */
  readonly isBegun: boolean;
  readonly usage: readonly MeterUsage[];
  readonly overageMicro: OverageUsage;
  /** What an average over time is one of; default the run itself. */
  readonly levels?: LevelTerms;
  /** The part of an interval that its minimums are due for; default the whole. */
  readonly minimumPart?: Part | null;
};

/** For averages over time: the interval that they are of, and how far it was billed before. */
export type LevelTerms = { readonly interval: Span; readonly billedUntilMs: number };

/** The usage of a meter in a run; `before` null: no invoice had a line of it. */
export function usageIn(
  run: Run,
  { meter }: UsageCharge,
): IntervalUsage & { before: bigint | null } {
  const { billedBefore, thisPeriod, carried = [] } = rowsOf(run, meter.id);
  const all = [...billedBefore, ...thisPeriod];
  const { startMs, endMs } = run;
  const { interval, billedUntilMs } = run.levels ?? {
    interval: { startMs, endMs },
    billedUntilMs: startMs,
  };
  const quantityOf = (rows: readonly UsagePartial[], untilMs: number): bigint =>
    meter.aggregation === 'WEIGHTED_SUM'
      ? averageLevel([...carried, ...rows.flatMap(({ levels = [] }) => levels)], {
          during: { startMs, endMs: untilMs },
          over: interval,
        })
      : notBelowZero(aggregate(rows, meter.aggregation));
  const levelAtStart = meter.aggregation === 'WEIGHTED_SUM' ? levelAt(carried, startMs) : 0n;
  const isBilled =
    run.isBegun || billedBefore.length > 0 || (levelAtStart > 0n && billedUntilMs > startMs);
  return {
    before: isBilled ? quantityOf(billedBefore, Math.max(billedUntilMs, startMs)) : null,
    total: quantityOf(all, endMs),
    eventsBefore: notBelowZero(aggregate(billedBefore, 'COUNT')),
    eventsTotal: notBelowZero(aggregate(all, 'COUNT')),
    minimumPart: run.minimumPart ?? null,
    ...(levelAtStart > 0n && { levelAtStart }),
  };
}

/** The rows of a meter in a run. */
export function rowsOf({ usage }: Run, meterId: string): MeterUsage {
  const ofMeter = usage.filter((rows) => rows.meterId === meterId);
  return {
    meterId,
    earlier: ofMeter.flatMap((rows) => rows.earlier ?? []),
    carried: ofMeter.flatMap((rows) => rows.carried ?? []),
    billedBefore: ofMeter.flatMap((rows) => rows.billedBefore),
    thisPeriod: ofMeter.flatMap((rows) => rows.thisPeriod),
  };
}

/** A correction of late usage may lie in another run than the hour that it corrects; it takes no more than is there. */
function notBelowZero(quantity: bigint): bigint {
  return quantity > 0n ? quantity : 0n;
}

/** Whether an invoice of the run has something of a meter to bill: rows of its own, or a level that went on to stand. */
export function hasNews(run: Run, charge: UsageCharge): boolean {
  if (rowsOf(run, charge.meter.id).thisPeriod.length > 0) return true;
  if (charge.meter.aggregation !== 'WEIGHTED_SUM') return false;
  const { before, total } = usageIn(run, charge);
  return total !== (before ?? 0n);
}

/**
 * A charge with the allowance that is left of it in a run: its included units less what earlier runs used, never below
 * zero. Levels (a maximum, a latest value, an average) are not used up.
 */
export function chargeIn(run: Run, charge: UsageCharge): UsageCharge {
  const { aggregation, id } = charge.meter;
  if (aggregation !== 'SUM' && aggregation !== 'COUNT' && aggregation !== 'UNIQUE_COUNT') {
    return charge;
  }
  const used = notBelowZero(aggregate(rowsOf(run, id).earlier ?? [], aggregation));
  const included_units = billableUnits(BigInt(charge.included_units), used).toString();
  return { ...charge, included_units };
}
