/** What `assembleInvoice` is given, read from the rollups and the ledger: the same for the estimate and for the final invoice. */
import {
  type InvoiceInput,
  type LateUsage,
  type MeterUsage,
  type OverageUsage,
  splitUsage,
} from '../billing/invoice.ts';
import { readAccountBalance } from './account-balance.ts';
import type { Reader } from './db.ts';
import { listPeriods, type Period } from './periods.ts';
import { insertedRow } from './query.ts';
import type { Subscription } from './subscriptions.ts';
import {
  creditUsageForInterval,
  type CreditUsageRow,
  usageBilledLater,
  usageForInterval,
  type UsageRow,
} from './usage.ts';

/** Reads everything that the invoice of `period` is worked out from, as of this transaction. */
export async function readInvoiceInput(
  db: Reader,
  subscription: Subscription,
  period: Period,
): Promise<InvoiceInput> {
  const periods = await listPeriods(db, subscription.id);
  const interval = intervalOf(periods, period);
  const billed = interval.filter((other) => other.seq < period.seq).map(({ id }) => id);
  const rows = await usageForInterval(db, subscription.id, period.intervalIndex);
  const credits = await creditUsageForInterval(db, subscription.id, period.intervalIndex);
  const { usage, lateByPeriod } = splitUsage(rows, {
    periodId: period.id,
    billedPeriodIds: billed,
  });
  const isOwn = belongsTo(interval);
  const lateCredits = Map.groupBy(
    credits.filter((row) => row.periodId === period.id && !isOwn(row)),
    (row) => row.adjustsPeriodId,
  );
  const late: LateUsage[] = [];
  for (const adjusted of periods) {
    const lateRows = lateByPeriod.get(adjusted.id) ?? [];
    const lateCreditRows = lateCredits.get(adjusted.id) ?? [];
    if (lateRows.length + lateCreditRows.length === 0) continue;
    const of = { subscription, periods, period, adjusted };
    late.push(await readLate(db, of, { rows: lateRows, credits: lateCreditRows }));
  }
  const ownCredits = credits.filter((row) => isOwn(row));
  return {
    planVersionId: subscription.planVersionId,
    definition: subscription.definition,
    zone: subscription.timeZone,
    startMs: period.startAt.getTime(),
    endMs: period.endAt.getTime(),
    feeDue: billed.length === 0,
    oneTimeDue: period.seq === 0,
    usage,
    overageMicro: {
      billedBefore: sumOverage(ownCredits.filter((row) => billed.includes(row.periodId))),
      thisPeriod: sumOverage(ownCredits.filter((row) => row.periodId === period.id)),
    },
    late,
    minimum: interval.some((other) => other.seq > period.seq) ? 'later' : 'now',
    taxRates: [],
    balanceMinor: await readAccountBalance(db, {
      ...subscription,
      currency: subscription.definition.currency,
    }),
  };
}

function intervalOf(periods: readonly Period[], period: Period): readonly Period[] {
  return periods.filter((other) => other.intervalIndex === period.intervalIndex);
}

/** Usage of an interval, whether it came in time or after one of the interval's periods was closed. */
function belongsTo(
  interval: readonly Period[],
): (row: { readonly adjustsPeriodId: string }) => boolean {
  const ids = new Set(['', ...interval.map(({ id }) => id)]);
  return (row) => ids.has(row.adjustsPeriodId);
}

function sumOverage(rows: readonly CreditUsageRow[]): bigint {
  return rows.reduce((sum, row) => sum + row.overageMicro, 0n);
}

type Late = {
  readonly subscription: Subscription;
  readonly periods: readonly Period[];
  /** The one that is invoiced now. */
  readonly period: Period;
  /** The closed one, of an earlier interval, that the late usage belongs to. */
  readonly adjusted: Period;
};

/** Late usage is priced on top of all that its interval was billed for: in time, and late on invoices before this one. */
async function readLate(
  db: Reader,
  of: Late,
  now: { readonly rows: readonly UsageRow[]; readonly credits: readonly CreditUsageRow[] },
): Promise<LateUsage> {
  const { subscription, adjusted } = of;
  const interval = intervalOf(of.periods, adjusted);
  const isOwn = belongsTo(interval);
  const own = await usageForInterval(db, subscription.id, adjusted.intervalIndex);
  const earlier = {
    periodIds: interval.map(({ id }) => id),
    intervalIndex: adjusted.intervalIndex,
    beforeSeq: of.period.seq,
  };
  const ownCredits = await creditUsageForInterval(db, subscription.id, adjusted.intervalIndex);
  const before = [
    ...own.filter((row) => isOwn(row)),
    ...(await usageBilledLater(db, subscription.id, earlier)),
  ];
  const version = await readVersionOfPeriod(db, adjusted.id);
  return {
    planVersionId: version.planVersionId,
    definition: version.definition,
    startMs: adjusted.startAt.getTime(),
    endMs: adjusted.endAt.getTime(),
    usage: byMeter(before, now.rows),
    overageMicro: {
      billedBefore:
        sumOverage(ownCredits.filter((row) => isOwn(row))) +
        (await readEarlierLateOverage(db, of, interval)),
      thisPeriod: sumOverage(now.credits),
    } satisfies OverageUsage,
  };
}

function byMeter(before: readonly UsageRow[], now: readonly UsageRow[]): readonly MeterUsage[] {
  return [...new Set(now.map((row) => row.meterId))].map((meterId) => ({
    meterId,
    billedBefore: before.filter((row) => row.meterId === meterId),
    thisPeriod: now.filter((row) => row.meterId === meterId),
  }));
}

async function readEarlierLateOverage(
  db: Reader,
  of: Late,
  interval: readonly Period[],
): Promise<bigint> {
  const row = await insertedRow<{ micro: bigint }>(
    db,
    `SELECT coalesce(sum(r.overage_micro), 0)::numeric(38,0) AS micro
     FROM credit_rollups r JOIN segments s ON s.id = r.segment_id JOIN periods p ON p.id = s.period_id
     WHERE r.subscription_id = ? AND r.adjusts_period_id = ANY (?::text[]) AND p.interval_index <> ? AND p.seq < ?`,
    [of.subscription.id, interval.map(({ id }) => id), of.adjusted.intervalIndex, of.period.seq],
  );
  return row.micro;
}

async function readVersionOfPeriod(
  db: Reader,
  periodId: string,
): Promise<{
  readonly planVersionId: string;
  readonly definition: InvoiceInput['definition'];
}> {
  return insertedRow(
    db,
    `SELECT v.id AS "planVersionId", v.definition FROM segments s JOIN plan_versions v ON v.id = s.plan_version_id
     WHERE s.period_id = ? ORDER BY s.from_at LIMIT 1`,
    [periodId],
  );
}
