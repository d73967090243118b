/**
 * What the invoice of a period is for, run by run: the rows behind its usage and overage lines, those that it bills and
 * those that were billed before. The invoice and the explanation of its lines both read it here, so that the hours that
 * a line is explained by are those that it was rated from. Periods after the one that is asked for change nothing.
 */
import type { PlanDefinition } from '../billing/plan.ts';
import type { Span } from '../billing/ratio.ts';
import {
  type MeterUsage,
  type Run,
  runAt,
  type RunSpan,
  runsOf,
  type Segment,
  segmentOf,
} from '../billing/runs.ts';
import type { Reader } from './db.ts';
import { type Period } from './periods.ts';
import { selectRows } from './query.ts';
import {
  creditUsageForInterval,
  type CreditUsageRow,
  usageBilledLater,
  usageForInterval,
  type UsageRow,
} from './usage.ts';

/** The rows of one run, in the order of segment, meter and hour. */
export type UsageRun = RunSpan & {
  readonly definition: PlanDefinition;
  readonly isBegun: boolean;
  /** Late usage alone makes it a run: levels that stood then are billed by the run that its time is a part of. */
  readonly isLateOnly: boolean;
  /** The interval of the run. */
  readonly interval: Span;
  /** Up to where earlier invoices of the interval reached. */
  readonly billedUntilMs: number;
  /** Usage that earlier runs of the interval had in time. */
  readonly earlier: readonly UsageRow[];
  readonly before: readonly UsageRow[];
  readonly now: readonly UsageRow[];
  readonly creditsBefore: readonly CreditUsageRow[];
  readonly creditsNow: readonly CreditUsageRow[];
};

/** Late usage of a run that another interval bills, for one of the periods that it came too late for. */
export type LateRun = UsageRun & { readonly adjusted: Period; readonly period: Span };

export type PeriodUsage = {
  /** In the order of time; the last one is the current one. */
  readonly own: readonly UsageRun[];
  /** In the order of the periods that it came too late for, then of time. */
  readonly late: readonly LateRun[];
};

type Of = {
  readonly subscriptionId: string;
  /** The one that is invoiced. */
  readonly period: Period;
  /** All of the subscription that are not void, in the order of time; for a late period also the late ones. */
  readonly periods: readonly Period[];
};

/** Reads the runs of `period` and of the late usage that is billed with it, as of this transaction. */
export async function readPeriodUsage(db: Reader, of: Of): Promise<PeriodUsage> {
  const { period } = of;
  const own = await readLedger(db, of, period.intervalIndex);
  const usageNow = own.usage.filter((row) => row.periodId === period.id);
  const creditsNow = own.credits.filter((row) => row.periodId === period.id);
  const ownIds = new Set(['', ...own.periods.map(({ id }) => id)]);
  const isForeign = (row: UsageRow | CreditUsageRow): boolean => !ownIds.has(row.adjustsPeriodId);
  const late = { usage: usageNow.filter(isForeign), credits: creditsNow.filter(isForeign) };
  const adjustedIds = new Set([...late.usage, ...late.credits].map((row) => row.adjustsPeriodId));
  const intervals = new Set(
    of.periods.filter(({ id }) => adjustedIds.has(id)).map(({ intervalIndex }) => intervalIndex),
  );
  const lateRuns: LateRun[] = [];
  for (const index of [...intervals].toSorted((a, b) => a - b)) {
    lateRuns.push(...lateRunsOf(await readLedger(db, of, index), late));
  }
  return { own: ownRunsOf(own, period), late: lateRuns };
}

/** Everything that was counted for an interval, in it or too late, in periods up to the invoiced one. */
type Ledger = {
  readonly periods: readonly Period[];
  readonly segments: readonly Segment[];
  readonly definitions: ReadonlyMap<string, PlanDefinition>;
  readonly usage: readonly UsageRow[];
  readonly credits: readonly CreditUsageRow[];
};

async function readLedger(db: Reader, of: Of, intervalIndex: number): Promise<Ledger> {
  const { subscriptionId, period } = of;
  const periods = of.periods.filter(
    (other) => other.intervalIndex === intervalIndex && other.seq <= period.seq,
  );
  const rows = await readSegments(
    db,
    periods.map(({ id }) => id),
  );
  const isCounted = (row: UsageRow | CreditUsageRow): boolean =>
    periods.some(({ id }) => id === row.periodId);
  const later = {
    periodIds: periods.map(({ id }) => id),
    intervalIndex,
    beforeSeq: period.seq,
  };
  const usage = await usageForInterval(db, subscriptionId, intervalIndex);
  const credits = await creditUsageForInterval(db, subscriptionId, intervalIndex);
  return {
    periods,
    segments: rows,
    definitions: new Map(rows.map((row) => [row.planVersionId, row.definition])),
    usage: [...usage.filter(isCounted), ...(await usageBilledLater(db, subscriptionId, later))],
    credits: [
      ...credits.filter(isCounted),
      ...(await creditsBilledLater(db, subscriptionId, later)),
    ],
  };
}

type SegmentRow = Segment & { readonly definition: PlanDefinition };

/** The segments of some periods, in the order of time. */
export async function readSegments(
  db: Reader,
  periodIds: readonly string[],
): Promise<readonly SegmentRow[]> {
  const rows = await selectRows<{
    readonly id: bigint;
    readonly periodId: string;
    readonly planVersionId: string;
    readonly fromAt: Date;
    readonly untilAt: Date;
    readonly definition: PlanDefinition;
  }>(
    db,
    `SELECT s.id, s.period_id AS "periodId", s.plan_version_id AS "planVersionId", s.from_at AS "fromAt",
       s.until_at AS "untilAt", v.definition
     FROM segments s JOIN plan_versions v ON v.id = s.plan_version_id
     WHERE s.period_id = ANY (?::text[]) AND NOT s.void ORDER BY s.from_at`,
    [periodIds],
  );
  return rows.map(({ fromAt, untilAt, ...row }) => ({
    ...row,
    startMs: fromAt.getTime(),
    endMs: untilAt.getTime(),
  }));
}

async function creditsBilledLater(
  db: Reader,
  subscriptionId: string,
  of: {
    readonly periodIds: readonly string[];
    readonly intervalIndex: number;
    readonly beforeSeq: number;
  },
): Promise<readonly CreditUsageRow[]> {
  return selectRows<CreditUsageRow>(
    db,
    `SELECT s.period_id AS "periodId", r.segment_id AS "segmentId", s.plan_version_id AS "planVersionId",
       r.hour, r.adjusts_period_id AS "adjustsPeriodId", r.event_count AS "eventCount",
       r.credits_micro AS "creditsMicro", r.overage_micro AS "overageMicro", r.written_off_micro AS "writtenOffMicro"
     FROM credit_rollups r JOIN segments s ON s.id = r.segment_id JOIN periods p ON p.id = s.period_id
     WHERE r.subscription_id = :subscription AND r.adjusts_period_id = ANY (:periods::text[])
       AND p.interval_index <> :interval AND p.seq < :seq AND p.state <> 'void'
     ORDER BY r.segment_id, r.hour, r.adjusts_period_id`,
    {
      subscription: subscriptionId,
      periods: of.periodIds,
      interval: of.intervalIndex,
      seq: of.beforeSeq,
    },
  );
}

/** The rows that belong to the interval of a ledger, each with its run. */
type Shares = {
  readonly runs: readonly RunSpan[];
  readonly runOf: (row: UsageRow | CreditUsageRow) => RunSpan | null;
};

function sharesOf({ periods, segments, usage, credits }: Ledger): Shares {
  const rows = [...usage, ...credits];
  const runs = runsOf(segments, rows);
  const ids = new Set(['', ...periods.map(({ id }) => id)]);
  const runByRow = new Map<UsageRow | CreditUsageRow, RunSpan | null>(
    rows
      .filter((row) => ids.has(row.adjustsPeriodId))
      .map((row) => {
        const segment = segmentOf(row, segments);
        return [row, segment === null ? null : runAt(segment, { runs, segments })] as const;
      }),
  );
  return { runs, runOf: (row) => runByRow.get(row) ?? null };
}

function isOf(run: RunSpan, runOf: Shares['runOf']): (row: UsageRow | CreditUsageRow) => boolean {
  return (row) => runOf(row)?.startMs === run.startMs;
}

function ownRunsOf(ledger: Ledger, period: Period): readonly UsageRun[] {
  const shares = sharesOf(ledger);
  const rows = [...ledger.usage, ...ledger.credits];
  // Late usage of a stretch that nobody used in time makes a run of its own.
  const extra = rows.flatMap((row) => {
    const run = shares.runOf(row);
    return run === null || shares.runs.some(({ startMs }) => startMs === run.startMs) ? [] : [run];
  });
  const all = new Map([...shares.runs, ...extra].map((run) => [run.startMs, run]));
  return [...all.values()]
    .toSorted((a, b) => a.startMs - b.startMs)
    .map((run) =>
      usageRun(run, { ledger, shares, isNow: (row) => row.periodId === period.id, period }),
    );
}

/** One after the other: what is billed for one period of an interval has its place before the next one's. */
function lateRunsOf(ledger: Ledger, late: Pick<Ledger, 'usage' | 'credits'>): readonly LateRun[] {
  const all = {
    ...ledger,
    usage: [...ledger.usage, ...late.usage],
    credits: [...ledger.credits, ...late.credits],
  };
  const shares = sharesOf(all);
  const lateRows = new Set<UsageRow | CreditUsageRow>([...late.usage, ...late.credits]);
  return ledger.periods.flatMap((adjusted) => {
    const adjusting = new Set([...lateRows].filter((row) => row.adjustsPeriodId === adjusted.id));
    const runs = new Map(
      [...adjusting].flatMap((row) => {
        const run = shares.runOf(row);
        return run === null ? [] : [[run.startMs, run] as const];
      }),
    );
    const notYet = new Set(
      ledger.periods.filter(({ seq }) => seq > adjusted.seq).map(({ id }) => id),
    );
    const known = (row: UsageRow | CreditUsageRow): boolean =>
      !(lateRows.has(row) && notYet.has(row.adjustsPeriodId));
    const upTo = { ...all, usage: all.usage.filter(known), credits: all.credits.filter(known) };
    return [...runs.values()]
      .toSorted((a, b) => a.startMs - b.startMs)
      .map((run) => ({
        ...usageRun(run, {
          ledger: upTo,
          shares,
          isNow: (row) => adjusting.has(row),
          period: null,
        }),
        adjusted,
        period: {
          startMs: Math.max(run.startMs, adjusted.startAt.getTime()),
          endMs: Math.min(run.endMs, adjusted.endAt.getTime()),
        },
      }));
  });
}

function usageRun(
  run: RunSpan,
  of: {
    readonly ledger: Ledger;
    readonly shares: Shares;
    readonly isNow: (row: UsageRow | CreditUsageRow) => boolean;
    /** The one that is invoiced, when it is of the same interval. */
    readonly period: Period | null;
  },
): UsageRun {
  const { ledger, shares, isNow, period } = of;
  const isHere = isOf(run, shares.runOf);
  const usage = ledger.usage.filter(isHere);
  const credits = ledger.credits.filter(isHere);
  const [first] = ledger.periods;
  const definition = ledger.definitions.get(run.planVersionId);
  if (first === undefined || definition === undefined) {
    throw new Error(`a run of ${run.planVersionId} lies in no period`);
  }
  const ends = ledger.periods
    .filter(({ id }) => id !== period?.id)
    .map(({ endAt }) => endAt.getTime());
  return {
    ...run,
    definition,
    isLateOnly: shares.runs.every(({ startMs }) => startMs !== run.startMs),
    isBegun: ends.some((endMs) => run.startMs < endMs && endMs <= run.endMs),
    interval: {
      startMs: first.intervalStartAt.getTime(),
      endMs: first.intervalEndAt.getTime(),
    },
    billedUntilMs: Math.max(run.startMs, ...ends.map((endMs) => Math.min(endMs, run.endMs))),
    earlier: ledger.usage.filter(
      (row) => row.adjustsPeriodId === '' && (shares.runOf(row)?.startMs ?? Infinity) < run.startMs,
    ),
    before: usage.filter((row) => !isNow(row)),
    now: usage.filter((row) => isNow(row)),
    creditsBefore: credits.filter((row) => !isNow(row)),
    creditsNow: credits.filter((row) => isNow(row)),
  };
}

/** A run as it is rated. */
export function ratedRun(run: UsageRun): Run {
  const { planVersionId, definition, startMs, endMs, isBegun, interval, billedUntilMs } = run;
  const meterIds = new Set(
    [...run.earlier, ...run.before, ...run.now].map(({ meterId }) => meterId),
  );
  const usage = [...meterIds].map((meterId): MeterUsage => {
    const of = (rows: readonly UsageRow[]): readonly UsageRow[] =>
      rows.filter((row) => row.meterId === meterId);
    return {
      meterId,
      earlier: of(run.earlier),
      carried: run.isLateOnly ? [] : of(run.earlier).flatMap(({ levels = [] }) => levels),
      billedBefore: of(run.before),
      thisPeriod: of(run.now),
    };
  });
  const sum = (rows: readonly CreditUsageRow[]): bigint =>
    rows.reduce((total, row) => total + row.overageMicro, 0n);
  return {
    ...{ planVersionId, definition, startMs, endMs, isBegun, usage },
    overageMicro: { billedBefore: sum(run.creditsBefore), thisPeriod: sum(run.creditsNow) },
    levels: { interval, billedUntilMs },
  };
}
