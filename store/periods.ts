/**
 * Intervals, periods and segments of a subscription: written ahead, cut, handed over to their close. An interval is what
 * the calendar gives; a period is an interval or, after "close now", a part of one; segments tile the periods and are
 * what a shard knows. Every function here runs under the lock of `lockSubscription` and says nothing to the shard:
 * the caller bumps the runtime version in the same transaction.
 */
import { boundary, intervalIndexAt, recurrenceOf } from '../billing/periods.ts';
import type { Reader, Tx } from './db.ts';
import { newId } from './ids.ts';
import { insertedRow, selectRow, selectRows } from './query.ts';
import type { Subscription } from './subscriptions.ts';
import { grantCredits, voidGrant } from './wallets.ts';

/** The current interval and two more: a shard always knows two boundaries ahead. */
const INTERVALS_AHEAD = 3;
/** A subscription whose server was away for this many intervals is looked at by a person. */
const INTERVALS_AT_ONCE_MAX = 1000;
/** A boundary that is new to a shard lies at least a second in its future; clocks differ a little. */
export const boundaryLeadMs = 2000;

export type PeriodState = 'scheduled' | 'open' | 'closing' | 'closed' | 'void';

export type Period = {
  readonly id: string;
  readonly subscriptionId: string;
  /** Its place in time, from 0, without gaps among the periods that are not void. */
  readonly seq: number;
  readonly intervalIndex: number;
  readonly intervalStartAt: Date;
  readonly intervalEndAt: Date;
  readonly startAt: Date;
  readonly endAt: Date;
  readonly state: PeriodState;
  readonly sealedShard: string | null;
  readonly sealedIncarnation: bigint | null;
  readonly sealedStreamId: string | null;
  readonly closedAt: Date | null;
  /** Why it ends before its interval does. */
  readonly cutReason: CutReason | null;
  /** While its draft waits: when the invoice becomes final. */
  readonly finalizeAt: Date | null;
};
export type CutReason = 'close_now' | 'threshold' | 'interval_change' | 'cancel';

const columns = `id, subscription_id AS "subscriptionId", seq, interval_index AS "intervalIndex",
  interval_start_at AS "intervalStartAt", interval_end_at AS "intervalEndAt", start_at AS "startAt", end_at AS "endAt",
  state, sealed_shard AS "sealedShard", sealed_incarnation AS "sealedIncarnation", sealed_stream_id AS "sealedStreamId",
  closed_at AS "closedAt", cut_reason AS "cutReason", finalize_at AS "finalizeAt"`;

/** Null when the subscription has no such period. */
export async function findPeriod(
  db: Reader,
  subscriptionId: string,
  periodId: string,
): Promise<Period | null> {
  return selectRow<Period>(
    db,
    `SELECT ${columns} FROM periods WHERE id = ? AND subscription_id = ?`,
    [periodId, subscriptionId],
  );
}

/** Throws when there is none. */
export async function readPeriod(db: Reader, periodId: string): Promise<Period> {
  return insertedRow<Period>(db, `SELECT ${columns} FROM periods WHERE id = ?`, [periodId]);
}

/** The drain shares this lock on every period that it adds usage to, so no usage comes in while it is held. */
export async function lockPeriod(tx: Tx, periodId: string): Promise<Period> {
  return insertedRow<Period>(tx, `SELECT ${columns} FROM periods WHERE id = ? FOR UPDATE`, [
    periodId,
  ]);
}

/** All but the void ones, in the order of time. */
export async function listPeriods(
  db: Reader,
  subscriptionId: string,
  states: readonly PeriodState[] = ['scheduled', 'open', 'closing', 'closed'],
): Promise<readonly Period[]> {
  return selectRows<Period>(
    db,
    `SELECT ${columns} FROM periods WHERE subscription_id = ? AND state = ANY (?::text[]) ORDER BY seq`,
    [subscriptionId, states],
  );
}

/** Gives a new subscription its first three periods. The first begins at the anchor, or in two seconds. */
export async function openPeriods(tx: Tx, subscription: Subscription, now: Date): Promise<Period> {
  const startMs = Math.max(subscription.anchorAt.getTime(), now.getTime() + boundaryLeadMs);
  const calendar = calendarOf(subscription);
  const first = calendar.indexAt(startMs);
  const current = await insertInterval(tx, subscription, {
    seq: 0,
    index: first,
    startMs,
    state: 'open',
  });
  for (let ahead = 1; ahead < INTERVALS_AHEAD; ahead += 1) {
    await insertInterval(tx, subscription, { seq: ahead, index: first + ahead });
  }
  await grantRecurring(tx, subscription, now);
  return current;
}

/**
 * Brings the periods up to `now`: those that are over become `closing`, the one that `now` lies in becomes `open`, and
 * intervals are written ahead again, however many boundaries have passed. Answers whether anything changed.
 */
export async function rollPeriods(
  tx: Tx,
  subscription: Subscription,
  now: Date,
): Promise<{ readonly changed: boolean }> {
  const isOver = (period: Period): boolean => period.endAt.getTime() <= now.getTime();
  let changed = false;
  let ahead = await listPeriods(tx, subscription.id, ['scheduled', 'open']);
  for (let written = 0; subscription.cancelAt === null; written += 1) {
    const last = ahead.at(-1);
    const left = new Set(
      ahead.filter((period) => !isOver(period)).map(({ intervalIndex }) => intervalIndex),
    );
    if (last === undefined || left.size >= INTERVALS_AHEAD) break;
    if (written === INTERVALS_AT_ONCE_MAX)
      throw new RangeError(`${subscription.id}: too many intervals at once`);
    const next = { seq: last.seq + 1, index: last.intervalIndex + 1 };
    ahead = [...ahead, await insertInterval(tx, subscription, next)];
    changed = true;
  }
  const over = ahead.filter((period) => isOver(period));
  const current = ahead.find((period) => !isOver(period));
  if (over.length > 0) {
    await setState(tx, over, 'closing');
    changed = true;
  }
  if (current?.state === 'scheduled') {
    await setState(tx, [current], 'open');
    changed = true;
  }
  if (changed && subscription.cancelAt === null) await grantRecurring(tx, subscription, now);
  return { changed };
}

async function setState(tx: Tx, periods: readonly Period[], state: PeriodState): Promise<void> {
  await tx.raw('UPDATE periods SET state = ? WHERE id = ANY (?::text[])', [
    state,
    periods.map(({ id }) => id),
  ]);
}

type Calendar = {
  startMs(index: number): number;
  indexAt(ms: number): number;
};

function calendarOf(subscription: Subscription): Calendar {
  const recurrence = recurrenceOf(subscription.definition);
  const anchorMs = subscription.anchorAt.getTime();
  const { timeZone } = subscription;
  return {
    startMs: (index) => boundary(anchorMs, timeZone, recurrence, index),
    indexAt: (ms) => intervalIndexAt(anchorMs, timeZone, recurrence, ms),
  };
}

/** Writes interval `index` as one period with one segment. */
async function insertInterval(
  tx: Tx,
  subscription: Subscription,
  wanted: {
    readonly seq: number;
    readonly index: number;
    /** Where the period begins, when that is not the interval's start. */
    readonly startMs?: number;
    readonly state?: 'open';
  },
): Promise<Period> {
  const calendar = calendarOf(subscription);
  const startAt = new Date(calendar.startMs(wanted.index));
  const endAt = new Date(calendar.startMs(wanted.index + 1));
  const period = await insertPeriod(tx, {
    subscriptionId: subscription.id,
    seq: wanted.seq,
    intervalIndex: wanted.index,
    intervalStartAt: startAt,
    intervalEndAt: endAt,
    startAt: wanted.startMs === undefined ? startAt : new Date(wanted.startMs),
    endAt,
    state: wanted.state ?? 'scheduled',
  });
  await tx.raw(
    `INSERT INTO segments (subscription_id, period_id, plan_version_id, from_at, until_at, status, overage)
     VALUES (?, ?, ?, ?, ?, ?, ?)`,
    [
      subscription.id,
      period.id,
      subscription.planVersionId,
      period.startAt,
      period.endAt,
      subscription.state === 'past_due' ? 'past_due' : 'active',
      subscription.overageEnabled,
    ],
  );
  return period;
}

type NewPeriod = Pick<
  Period,
  | 'subscriptionId'
  | 'seq'
  | 'intervalIndex'
  | 'intervalStartAt'
  | 'intervalEndAt'
  | 'startAt'
  | 'endAt'
  | 'state'
>;

async function insertPeriod(tx: Tx, period: NewPeriod): Promise<Period> {
  return insertedRow<Period>(
    tx,
    `INSERT INTO periods (id, subscription_id, seq, interval_index, interval_start_at, interval_end_at, start_at, end_at, state)
     VALUES (:id, :subscription_id, :seq, :interval_index, :interval_start_at, :interval_end_at, :start_at, :end_at, :state)
     RETURNING ${columns}`,
    {
      id: newId('per'),
      subscription_id: period.subscriptionId,
      seq: period.seq,
      interval_index: period.intervalIndex,
      interval_start_at: period.intervalStartAt,
      interval_end_at: period.intervalEndAt,
      start_at: period.startAt,
      end_at: period.endAt,
      state: period.state,
    },
  );
}

/**
 * Grants the credits of the current interval and of the next one, each spendable within its interval only. They are on
 * the shard before their interval begins, so nobody waits for a workflow at midnight. Repeating it grants nothing.
 */
async function grantRecurring(tx: Tx, subscription: Subscription, now: Date): Promise<void> {
  const terms = subscription.definition.credits;
  const amountMicro = BigInt(terms?.included_micro ?? '0');
  if (terms === null || amountMicro === 0n) return;
  const ahead = await listPeriods(tx, subscription.id, ['scheduled', 'open']);
  const byInterval = Map.groupBy(
    ahead.filter((period) => period.endAt.getTime() > now.getTime()),
    (period) => period.intervalIndex,
  );
  for (const [index, periods] of [...byInterval].slice(0, INTERVALS_AHEAD - 1)) {
    const first = periods[0];
    if (first === undefined) continue;
    await grantCredits(tx, {
      environment: subscription.environment,
      subscriberId: subscription.subscriberId,
      unit: terms.unit,
      businessKey: `recurring:${subscription.id}:${index}`,
      source: 'recurring',
      amountMicro,
      class: 'promotional',
      effectiveAt: first.intervalStartAt,
      expiresAt: first.intervalEndAt,
      periodId: first.id,
      currency: subscription.currency,
    });
  }
}

/**
 * Ends `period` at `at` and continues with a new period of the same interval: [start, at) and [at, end). Later periods,
 * none of which has begun, move one place on, so that `seq` stays the order of time. `at` lies inside the period.
 * Answers the new period; its state is that of the old one.
 */
export async function cutPeriod(tx: Tx, period: Period, at: Date): Promise<Period> {
  const later = await selectRows<{ id: string }>(
    tx,
    'SELECT id FROM periods WHERE subscription_id = ? AND seq > ? ORDER BY seq DESC',
    [period.subscriptionId, period.seq],
  );
  // One by one from the last: each place is free when it is taken.
  for (const { id } of later) await tx.raw('UPDATE periods SET seq = seq + 1 WHERE id = ?', [id]);
  await tx.raw('UPDATE periods SET end_at = ? WHERE id = ?', [at, period.id]);
  const rest = await insertPeriod(tx, { ...period, seq: period.seq + 1, startAt: at });
  await splitSegments(tx, period.subscriptionId, at);
  await tx.raw(
    'UPDATE segments SET period_id = ? WHERE period_id = ? AND from_at >= ? AND NOT void',
    [rest.id, period.id, at],
  );
  return rest;
}

/** Splits the segment that `at` lies inside of, if one does, into two that are alike. */
async function splitSegments(tx: Tx, subscriptionId: string, at: Date): Promise<void> {
  const old = await selectRow<{ id: bigint; until_at: Date }>(
    tx,
    `SELECT id, until_at FROM segments
     WHERE subscription_id = ? AND NOT void AND from_at < ? AND until_at > ?`,
    [subscriptionId, at, at],
  );
  if (old === null) return;
  await tx.raw('UPDATE segments SET until_at = ? WHERE id = ?', [at, old.id.toString()]);
  await tx.raw(
    `INSERT INTO segments (subscription_id, period_id, plan_version_id, from_at, until_at, status, overage)
     SELECT subscription_id, period_id, plan_version_id, ?, ?, status, overage FROM segments WHERE id = ?`,
    [at, old.until_at, old.id.toString()],
  );
}

/** Hands a period to its close before its end has come. */
export async function beginClosing(tx: Tx, period: Period): Promise<void> {
  await setState(tx, [period], 'closing');
}

/**
 * What the subscription may do from `at` on, two seconds ahead: whether usage past the credits is recorded, and whether
 * a payment is overdue. Segments after its end stay inactive. When a segment begins before `at` that has not begun yet,
 * the change begins with that one: a shard knows few segments, and changes in quick succession must not use them up.
 * That segment keeps its id and its beginning, so the shard takes the change even when it is told late.
 * Answers the instant from which the change holds.
 */
export async function changeSegments(
  tx: Tx,
  subscription: Subscription,
  change: { readonly at: Date; readonly overage: boolean; readonly status: 'active' | 'past_due' },
): Promise<Date> {
  const now = new Date(change.at.getTime() - boundaryLeadMs);
  const next = await selectRow<{ from_at: Date }>(
    tx,
    `SELECT from_at FROM segments
     WHERE subscription_id = ? AND NOT void AND from_at > ? AND from_at < ? ORDER BY from_at LIMIT 1`,
    [subscription.id, now, change.at],
  );
  const at = next?.from_at ?? change.at;
  if (next === null) await splitSegments(tx, subscription.id, at);
  await tx.raw(
    `UPDATE segments SET overage = ?, status = ?
     WHERE subscription_id = ? AND from_at >= ? AND NOT void AND status <> 'inactive'`,
    [change.overage, change.status, subscription.id, at],
  );
  return at;
}

/**
 * Ends the subscription's periods at `at`. What comes after is void and its segments inactive, so that a shard says
 * `subscription_inactive` from that instant on; credits that were granted for intervals after it are taken back.
 */
export async function endPeriods(tx: Tx, subscription: Subscription, at: Date): Promise<void> {
  const ahead = await listPeriods(tx, subscription.id, ['scheduled', 'open']);
  const cut = ahead.find((period) => period.startAt < at && at < period.endAt);
  if (cut !== undefined) await cutPeriod(tx, cut, at);
  const after = await selectRows<{ id: string }>(
    tx,
    `UPDATE periods SET state = 'void'
     WHERE subscription_id = ? AND state IN ('scheduled', 'open') AND start_at >= ? RETURNING id`,
    [subscription.id, at],
  );
  const voided = after.map(({ id }) => id);
  await tx.raw(`UPDATE segments SET status = 'inactive' WHERE period_id = ANY (?::text[])`, [
    voided,
  ]);
  const grants = await selectRows<{ id: string }>(
    tx,
    `SELECT id FROM grants WHERE source = 'recurring' AND period_id = ANY (?::text[]) AND voided_at IS NULL
     ORDER BY created_at, id`,
    [voided],
  );
  for (const grant of grants) await voidGrant(tx, grant.id);
}

/** What the shard answered when it was asked to count nothing more into the period. */
export async function recordSeal(
  db: Reader,
  periodId: string,
  seal: { readonly shard: string; readonly incarnation: number; readonly streamId: string },
): Promise<void> {
  await db.raw(
    `UPDATE periods SET sealed_shard = ?, sealed_incarnation = ?, sealed_stream_id = ?
     WHERE id = ? AND state = 'closing'`,
    [seal.shard, seal.incarnation, seal.streamId, periodId],
  );
}

/** Runs under `lockPeriod`, in the transaction that finalizes the period's invoice. */
export async function markClosed(tx: Tx, periodId: string, at: Date): Promise<void> {
  await tx.raw(`UPDATE periods SET state = 'closed', closed_at = ? WHERE id = ?`, [at, periodId]);
}
