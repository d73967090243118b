import type { Reader } from './db.ts';
import { listPeriods } from './periods.ts';
import { safeNumber } from './projection.ts';
import { insertedRow, selectRow } from './query.ts';

/** A subscription as its workflow knows it: ids, states and instants (epoch ms), no money. */
export type SubscriptionView = {
  readonly subscriptionId: string;
  readonly subscriberId: string;
  readonly subscriberName: string;
  readonly planId: string;
  readonly planName: string;
  readonly state: 'pending' | 'active' | 'past_due' | 'canceled';
  readonly overageEnabled: boolean;
  readonly current: {
    readonly periodId: string;
    readonly periodSeq: number;
    readonly startAtMs: number;
    readonly endAtMs: number;
  } | null;
  readonly cancelAtMs: number | null;
  readonly endedAtMs: number | null;
  /** The change of plan that waits for its day. */
  readonly plannedChange: { readonly planName: string; readonly atMs: number } | null;
  /** Periods that are over and not closed yet. */
  readonly closing: readonly { readonly periodId: string; readonly periodSeq: number }[];
  /** What the shard must have applied to know all this. */
  readonly runtimeVersion: number;
  readonly coreSeq: number;
};

type Row = Omit<
  SubscriptionView,
  | 'current'
  | 'closing'
  | 'cancelAtMs'
  | 'endedAtMs'
  | 'plannedChange'
  | 'runtimeVersion'
  | 'coreSeq'
> & {
  readonly plannedPlanName: string | null;
  readonly plannedAt: Date | null;
  readonly cancelAt: Date | null;
  readonly endedAt: Date | null;
  readonly runtimeVersion: bigint;
  readonly coreSeq: bigint;
};

/** Throws when there is no such subscription. */
export async function readSubscriptionView(
  db: Reader,
  subscriptionId: string,
): Promise<SubscriptionView> {
  const row = await insertedRow<Row>(
    db,
    `SELECT s.id AS "subscriptionId", s.subscriber_id AS "subscriberId", r.name AS "subscriberName",
            s.plan_id AS "planId", p.name AS "planName", s.state, s.overage_enabled AS "overageEnabled",
            s.cancel_at AS "cancelAt", s.ended_at AS "endedAt",
            r.runtime_version AS "runtimeVersion", r.core_seq AS "coreSeq", n.name AS "plannedPlanName",
            c.effective_at AS "plannedAt"
     FROM subscriptions s JOIN subscribers r ON r.id = s.subscriber_id JOIN plans p ON p.id = s.plan_id
     LEFT JOIN plan_changes c ON c.subscription_id = s.id AND c.state = 'scheduled'
     LEFT JOIN plan_versions w ON w.id = c.to_version_id LEFT JOIN plans n ON n.id = w.plan_id
     WHERE s.id = ?`,
    [subscriptionId],
  );
  const periods = await listPeriods(db, subscriptionId, ['open', 'closing']);
  const current = periods.find((period) => period.state === 'open');
  const { cancelAt, endedAt, plannedPlanName, plannedAt, ...rest } = row;
  return {
    ...rest,
    cancelAtMs: cancelAt?.getTime() ?? null,
    endedAtMs: endedAt?.getTime() ?? null,
    plannedChange:
      plannedPlanName === null || plannedAt === null
        ? null
        : { planName: plannedPlanName, atMs: plannedAt.getTime() },
    runtimeVersion: safeNumber(row.runtimeVersion),
    coreSeq: safeNumber(row.coreSeq),
    current:
      current === undefined
        ? null
        : {
            periodId: current.id,
            periodSeq: current.seq,
            startAtMs: current.startAt.getTime(),
            endAtMs: current.endAt.getTime(),
          },
    closing: periods
      .filter((period) => period.state === 'closing')
      .map(({ id, seq }) => ({ periodId: id, periodSeq: seq })),
  };
}

/** Where the first segment at or after an instant really begins: the projector may have moved it. Null: nowhere. */
export async function readSegmentStart(
  db: Reader,
  subscriptionId: string,
  at: Date,
): Promise<Date | null> {
  const row = await selectRow<{ from_at: Date }>(
    db,
    `SELECT from_at FROM segments WHERE subscription_id = ? AND NOT void AND from_at >= ? ORDER BY from_at LIMIT 1`,
    [subscriptionId, at],
  );
  return row?.from_at ?? null;
}
