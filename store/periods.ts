/**
 * Intervals, periods and segments of a subscription: written ahead, cut, handed over to their close. An interval is what
 * the calendar gives; a period is an interval or, after "close now", a part of one; segments tile the periods and are
 * what a shard knows. Every function here runs under the lock of `lockSubscription` and says nothing to the shard:
 * the caller bumps the runtime version in the same transaction.
 */
import { boundary, intervalIndexAt, recurrenceOf } from '../billing/periods.ts';
import type { PlanDefinition } from '../billing/plan.ts';
import type { Reader, Tx } from './db.ts';
import { newId } from './ids.ts';
import { findScheduledChange } from './plan-change-reads.ts';
import { insertedRow, selectRow, selectRows } from './query.ts';
import { overageAfter, type Subscription } from './subscriptions.ts';
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
  /** It holds no time: what comes in after the subscription's end is counted in it (`late-periods.ts`). */
  readonly isLate: boolean;
};
export type CutReason = 'close_now' | 'threshold' | 'interval_change' | 'cancel';

const columns = `id, subscription_id AS "subscriptionId", seq, interval_index AS "intervalIndex",
  interval_start_at AS "intervalStartAt", interval_end_at AS "intervalEndAt", start_at AS "startAt", end_at AS "endAt",
  state, sealed_shard AS "sealedShard", sealed_incarnation AS "sealedIncarnation", sealed_stream_id AS "sealedStreamId",
  closed_at AS "closedAt", cut_reason AS "cutReason", finalize_at AS "finalizeAt", is_late AS "isLate"`;

/** Null when the subscription has no such period. */
export async function findPeriod(
  db: Reader,
  subscriptionId: string,
  periodId: string,
): Promise<Period | null> {
  return selectRow<Period>(
    db,
    `SELECT ${columns} FROM periods WHERE id = ? AND subscription_id = ? AND NOT is_late`,
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

/** All but the void and the late ones, in the order of time. */
export async function listPeriods(
  db: Reader,
  subscriptionId: string,
  states: readonly PeriodState[] = ['scheduled', 'open', 'closing', 'closed'],
): Promise<readonly Period[]> {
  return selectRows<Period>(
    db,
    `SELECT ${columns} FROM periods WHERE subscription_id = ? AND state = ANY (?::text[]) AND NOT is_late ORDER BY seq`,
    [subscriptionId, states],
  );
}

/** Everything that has an invoice or will have one: also the late ones, which come last. */
export async function listInvoiced(db: Reader, subscriptionId: string): Promise<readonly Period[]> {
  return selectRows<Period>(
    db,
    `SELECT ${columns} FROM periods WHERE subscription_id = ? AND state <> 'void' ORDER BY seq`,
    [subscriptionId],
  );
}

/** The late period that usage may still be added to, or null. */
export async function findLatePeriod(db: Reader, subscriptionId: string): Promise<Period | null> {
  return selectRow<Period>(
    db,
    `SELECT ${columns} FROM periods WHERE subscription_id = ? AND is_late AND state = 'open'`,
    [subscriptionId],
  );
}

/** Gives a new subscription its first three periods. The first begins at the anchor, or in two seconds. */
export async function openPeriods(tx: Tx, subscription: Subscription, now: Date): Promise<Period> {
  const startMs = Math.max(subscription.anchorAt.getTime(), now.getTime() + boundaryLeadMs);
  const terms = ownTerms(subscription);
  const first = calendarOf(subscription, terms).indexAt(startMs);
  const at = { seq: 0, index: first, startMs, state: 'open' } as const;
  const current = await insertInterval(tx, subscription, terms, at);
  for (let ahead = 1; ahead < INTERVALS_AHEAD; ahead += 1) {
    await insertInterval(tx, subscription, terms, { seq: ahead, index: first + ahead });
  }
  await grantRecurring(tx, subscription, now);
  return current;
}

/**
 * Writes `count` intervals from `from.index` on, where those before end: what was there is void. Answers the first
 * period, which is scheduled unless `from` says that it runs.
 */
async function writeAhead(
  tx: Tx,
  subscription: Subscription,
  from: {
    readonly seq: number;
    readonly index: number;
    readonly count: number;
    readonly state?: 'open';
  },
): Promise<Period> {
  const termsOf = await termsByInterval(tx, subscription);
  const first = await insertInterval(tx, subscription, termsOf(from.index), from);
  for (let ahead = 1; ahead < from.count; ahead += 1) {
    const next = { seq: from.seq + ahead, index: from.index + ahead };
    await insertInterval(tx, subscription, termsOf(next.index), next);
  }
  return first;
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
  const termsOf = await termsByInterval(tx, subscription);
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
    ahead = [...ahead, await insertInterval(tx, subscription, termsOf(next.index), next)];
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

/** What an interval is made from: the subscription's own terms, or those of the change that is planned. */
type IntervalTerms = {
  readonly planVersionId: string;
  readonly definition: PlanDefinition;
  readonly anchorAt: Date;
  /** The number of the interval that begins at the anchor. */
  readonly intervalBase: number;
  readonly overage: boolean;
};

function ownTerms(subscription: Subscription): IntervalTerms {
  return { ...subscription, overage: subscription.overageEnabled };
}

/** By the number of the interval: the subscription's terms, from the day of a planned change on those of the change. */
async function termsByInterval(
  db: Reader,
  subscription: Subscription,
): Promise<(index: number) => IntervalTerms> {
  const own = ownTerms(subscription);
  const change = await findScheduledChange(db, subscription.id);
  if (change === null) return () => own;
  const fromIndex = await intervalFrom(db, subscription.id, change.effectiveAt);
  const planned: IntervalTerms = {
    ...own,
    planVersionId: change.toVersionId,
    definition: change.definition,
    overage: overageAfter(subscription, change.definition),
    ...(change.resetsInterval && { anchorAt: change.effectiveAt, intervalBase: fromIndex }),
  };
  return (index) => (index < fromIndex ? own : planned);
}

/**
 * The number of the interval that begins at `at`, the end of one that is written. By the interval, whose end stays where
 * it is: a boundary that a shard came late to lies a little after it.
 */
export async function intervalFrom(db: Reader, subscriptionId: string, at: Date): Promise<number> {
  const before = await insertedRow<{ index: number }>(
    db,
    `SELECT interval_index AS index FROM periods
     WHERE subscription_id = ? AND interval_end_at = ? AND state <> 'void' ORDER BY seq LIMIT 1`,
    [subscriptionId, at],
  );
  return before.index + 1;
}

function calendarOf(subscription: Subscription, terms: IntervalTerms): Calendar {
  const recurrence = recurrenceOf(terms.definition);
  const anchorMs = terms.anchorAt.getTime();
  const { timeZone } = subscription;
  const { intervalBase } = terms;
  return {
    startMs: (index) => boundary(anchorMs, timeZone, recurrence, index - intervalBase),
    indexAt: (ms) => intervalBase + intervalIndexAt(anchorMs, timeZone, recurrence, ms),
  };
}

/** Writes interval `index` as one period with one segment. */
async function insertInterval(
  tx: Tx,
  subscription: Subscription,
  terms: IntervalTerms,
  wanted: {
    readonly seq: number;
    readonly index: number;
    /** Where the period begins, when that is not the interval's start. */
    readonly startMs?: number;
    readonly state?: 'open';
  },
): Promise<Period> {
  const calendar = calendarOf(subscription, terms);
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
      terms.planVersionId,
      period.startAt,
      period.endAt,
      subscription.state === 'past_due' ? 'past_due' : 'active',
      terms.overage,
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
  // A void period may be in its place, since periods that never began were taken back: that one goes to the end.
  await tx.raw(
    `UPDATE periods SET seq = (SELECT max(seq) + 1 FROM periods WHERE subscription_id = :id)
     WHERE subscription_id = :id AND seq = :seq AND state = 'void'`,
    { id: period.subscriptionId, seq: period.seq },
  );
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
 * @param again The intervals whose credits were taken back, to be granted under a further key.
 * @param at From when the first interval's credits can be spent, when that is not its start.
 */
async function grantRecurring(
  tx: Tx,
  subscription: Subscription,
  now: Date,
  { again, at }: { readonly again?: Again; readonly at?: Date } = {},
): Promise<void> {
  const termsOf = await termsByInterval(tx, subscription);
  const ahead = await listPeriods(tx, subscription.id, ['scheduled', 'open']);
  const byInterval = Map.groupBy(
    ahead.filter((period) => period.endAt.getTime() > now.getTime()),
    (period) => period.intervalIndex,
  );
  const intervals = [...byInterval].slice(0, INTERVALS_AHEAD - 1);
  for (const [place, [index, periods]] of intervals.entries()) {
    const first = periods[0];
    const terms = termsOf(index).definition.credits;
    const amountMicro = BigInt(terms?.included_micro ?? '0');
    if (first === undefined || terms === null || amountMicro === 0n) continue;
    const businessKey = await recurringKey(tx, { subscription, index, again });
    if (businessKey === null) continue;
    await grantCredits(tx, {
      environment: subscription.environment,
      subscriberId: subscription.subscriberId,
      unit: terms.unit,
      businessKey,
      source: 'recurring',
      amountMicro,
      class: 'promotional',
      effectiveAt: place === 0 && at !== undefined ? at : first.intervalStartAt,
      expiresAt: first.intervalEndAt,
      periodId: first.id,
      currency: subscription.currency,
    });
  }
}

/** Intervals from a number on whose terms were changed before they began, and the change by which they were. */
type Again = { readonly fromIndex: number; readonly key: string };

/** The key under which the credits of an interval are to be granted; null when they are. */
async function recurringKey(
  tx: Tx,
  of: {
    readonly subscription: Subscription;
    readonly index: number;
    readonly again: Again | undefined;
  },
): Promise<string | null> {
  const key = `recurring:${of.subscription.id}:${of.index}`;
  const known = await selectRow(
    tx,
    'SELECT 1 FROM grants WHERE business_key = ? OR starts_with(business_key, ?) LIMIT 1',
    [key, `${key}:`],
  );
  if (known === null) return key;
  const isAgain = of.again !== undefined && of.index >= of.again.fromIndex;
  return isAgain ? `${key}:again:${of.again.key}` : null;
}

/**
 * Ends `period` at `at` and continues with a new period of the same interval: [start, at) and [at, end). Later periods,
 * none of which has begun, move one place on, so that `seq` stays the order of time. `at` lies inside the period.
 * Answers the new period; its state is that of the old one.
 */
export async function cutPeriod(
  tx: Tx,
  period: Period,
  { at, reason }: { readonly at: Date; readonly reason: CutReason },
): Promise<Period> {
  const later = await selectRows<{ id: string }>(
    tx,
    'SELECT id FROM periods WHERE subscription_id = ? AND seq > ? ORDER BY seq DESC',
    [period.subscriptionId, period.seq],
  );
  // One by one from the last: each place is free when it is taken.
  for (const { id } of later) await tx.raw('UPDATE periods SET seq = seq + 1 WHERE id = ?', [id]);
  await tx.raw('UPDATE periods SET end_at = ?, cut_reason = ? WHERE id = ?', [
    at,
    reason,
    period.id,
  ]);
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
 * What the subscription may do from `at` on, two seconds ahead: under which plan, whether usage past the credits is
 * recorded, and whether a payment is overdue. Segments after its end stay inactive, those of a planned change its own.
 * When a segment begins before `at` that has not begun yet, the change begins with that one (`nextChangeAt`): a shard
 * knows few segments, and changes in quick succession must not use them up. That segment keeps its id and its beginning,
 * so the shard takes the change even when it is told late. Answers the instant from which the change holds.
 */
export async function changeSegments(
  tx: Tx,
  subscription: Subscription,
  change: { readonly at: Date; readonly overage: boolean; readonly status: 'active' | 'past_due' },
): Promise<Date> {
  const at = await nextChangeAt(tx, subscription.id, change.at);
  await splitSegments(tx, subscription.id, at);
  await tx.raw(
    `UPDATE segments SET overage = ?, status = ?, plan_version_id = ?
     WHERE subscription_id = ? AND from_at >= ? AND NOT void AND status <> 'inactive'`,
    [change.overage, change.status, subscription.planVersionId, subscription.id, at],
  );
  const planned = await findScheduledChange(tx, subscription.id);
  if (planned !== null) {
    const fromIndex = await intervalFrom(tx, subscription.id, planned.effectiveAt);
    await tx.raw(
      `UPDATE segments SET plan_version_id = ?, overage = ?
       WHERE NOT void AND status <> 'inactive' AND period_id IN (
         SELECT id FROM periods WHERE subscription_id = ? AND interval_index >= ? AND state = 'scheduled')`,
      [
        planned.toVersionId,
        overageAfter({ ...subscription, overageEnabled: change.overage }, planned.definition),
        subscription.id,
        fromIndex,
      ],
    );
  }
  return at;
}

/** From when a change that is decided two seconds before `at` can hold: in no period that is being closed. */
export async function nextChangeAt(db: Reader, subscriptionId: string, at: Date): Promise<Date> {
  const now = new Date(at.getTime() - boundaryLeadMs);
  const next = await selectRow<{ from_at: Date }>(
    db,
    `SELECT s.from_at FROM segments s JOIN periods p ON p.id = s.period_id
     WHERE s.subscription_id = ? AND NOT s.void AND s.from_at > ? AND s.from_at < ? AND p.state IN ('scheduled', 'open')
     ORDER BY s.from_at LIMIT 1`,
    [subscriptionId, now, at],
  );
  return next?.from_at ?? at;
}

/**
 * Ends the subscription's periods at `at`. What comes after is void and its segments inactive, so that a shard says
 * `subscription_inactive` from that instant on; credits that were granted for intervals after it are taken back.
 */
export async function endPeriods(tx: Tx, subscription: Subscription, at: Date): Promise<void> {
  const ahead = await listPeriods(tx, subscription.id, ['scheduled', 'open']);
  const cut = ahead.find((period) => period.startAt < at && at < period.endAt);
  if (cut !== undefined) await cutPeriod(tx, cut, { at, reason: 'cancel' });
  const voided = await voidFrom(tx, subscription.id, at);
  await tx.raw(`UPDATE segments SET status = 'inactive' WHERE period_id = ANY (?::text[])`, [
    [...voided],
  ]);
  await withdrawGrants(tx, { subscriptionId: subscription.id, periodIds: voided });
}

/** Periods that begin at `at` or later become void. Answers their ids. */
async function voidFrom(tx: Tx, subscriptionId: string, at: Date): Promise<readonly string[]> {
  const rows = await selectRows<{ id: string }>(
    tx,
    `UPDATE periods SET state = 'void'
     WHERE subscription_id = ? AND state IN ('scheduled', 'open') AND start_at >= ? RETURNING id`,
    [subscriptionId, at],
  );
  return rows.map(({ id }) => id);
}

/** Takes back, as far as they are unspent, the credits that were granted for the periods' intervals. */
async function withdrawGrants(
  tx: Tx,
  of: { readonly subscriptionId: string; readonly periodIds: readonly string[] },
): Promise<void> {
  const grants = await selectRows<{ id: string }>(
    tx,
    `SELECT id FROM grants WHERE source = 'recurring' AND period_id = ANY (?::text[]) AND voided_at IS NULL
     ORDER BY created_at, id`,
    [of.periodIds],
  );
  for (const grant of grants) await voidGrant(tx, grant.id);
}

/**
 * The intervals from `fromIndex` on, none of which has begun, get the terms that hold now: the subscription's own or
 * those of a change that is planned. Where the calendar stays the same, periods and segments stay and carry another
 * version; otherwise they are void and written anew. Credits that differ are taken back and granted anew.
 * @param change Its id names the new credits.
 */
export async function rewriteIntervals(
  tx: Tx,
  subscription: Subscription,
  change: {
    readonly fromIndex: number;
    readonly key: string;
    readonly now: Date;
    readonly isOtherCalendar: boolean;
  },
): Promise<void> {
  const { fromIndex, key, now } = change;
  const periods = await listPeriods(tx, subscription.id, ['scheduled']);
  const ahead = periods.filter((period) => period.intervalIndex >= fromIndex);
  const first = ahead[0];
  if (first === undefined) return;
  const terms = (await termsByInterval(tx, subscription))(fromIndex);
  const periodIds = ahead.map(({ id }) => id);
  const areCreditsOther = await hasOtherCredits(tx, periodIds, terms.definition);
  if (areCreditsOther || change.isOtherCalendar) {
    await withdrawGrants(tx, { subscriptionId: subscription.id, periodIds });
  }
  if (change.isOtherCalendar) {
    await voidFrom(tx, subscription.id, first.startAt);
    await voidSegments(tx, periodIds);
    await writeAhead(tx, subscription, {
      seq: first.seq,
      index: fromIndex,
      count: new Set(ahead.map(({ intervalIndex }) => intervalIndex)).size,
    });
  } else {
    await tx.raw(
      `UPDATE segments SET plan_version_id = ?, overage = ?
       WHERE period_id = ANY (?::text[]) AND NOT void AND status <> 'inactive'`,
      [terms.planVersionId, terms.overage, periodIds],
    );
  }
  if (areCreditsOther || change.isOtherCalendar) {
    await grantRecurring(tx, subscription, now, { again: { fromIndex, key } });
  }
}

async function voidSegments(tx: Tx, periodIds: readonly string[]): Promise<void> {
  await tx.raw('UPDATE segments SET void = true WHERE period_id = ANY (?::text[])', [
    [...periodIds],
  ]);
}

/** Whether the segments of the periods carry versions that include other credits than `definition` does. */
async function hasOtherCredits(
  db: Reader,
  periodIds: readonly string[],
  definition: PlanDefinition,
): Promise<boolean> {
  const rows = await selectRows<{ definition: PlanDefinition }>(
    db,
    `SELECT DISTINCT ON (v.id) v.definition FROM segments s JOIN plan_versions v ON v.id = s.plan_version_id
     WHERE s.period_id = ANY (?::text[]) AND NOT s.void`,
    [periodIds],
  );
  return rows.some((row) => !includesSame(row.definition, definition));
}

function includesSame(a: PlanDefinition, b: PlanDefinition): boolean {
  return (
    a.credits?.unit === b.credits?.unit &&
    (a.credits?.included_micro ?? '0') === (b.credits?.included_micro ?? '0')
  );
}

/**
 * Ends the interval that runs at `at` and begins another calendar there: `subscription` has its terms already, its
 * anchor is `at` and its `intervalBase` the number of the interval that begins then. Credits of the interval that ends
 * are taken back, those of the new one are there at once. Answers the first new period.
 */
export async function restartIntervals(
  tx: Tx,
  subscription: Subscription,
  change: { readonly at: Date; readonly now: Date; readonly key: string },
): Promise<Period> {
  const { at, now, key } = change;
  const running = await listPeriods(tx, subscription.id, ['scheduled', 'open']);
  const cut = running.find((period) => period.startAt < at && at < period.endAt);
  if (cut !== undefined) await cutPeriod(tx, cut, { at, reason: 'interval_change' });
  const ended = await endedInterval(tx, subscription.id, subscription.intervalBase - 1);
  const voided = await voidFrom(tx, subscription.id, at);
  await voidSegments(tx, voided);
  if (cut !== undefined) await beginClosing(tx, cut);
  const last = (await listPeriods(tx, subscription.id)).at(-1);
  const first = await writeAhead(tx, subscription, {
    seq: last === undefined ? 0 : last.seq + 1,
    index: subscription.intervalBase,
    count: INTERVALS_AHEAD,
    state: 'open',
  });
  const again = { fromIndex: subscription.intervalBase, key };
  // Granted before the others are taken back: nobody is refused in between.
  await grantRecurring(tx, subscription, now, { again, at: now });
  await withdrawGrants(tx, { subscriptionId: subscription.id, periodIds: [...voided, ...ended] });
  return first;
}

async function endedInterval(
  db: Reader,
  subscriptionId: string,
  intervalIndex: number,
): Promise<readonly string[]> {
  const rows = await selectRows<{ id: string }>(
    db,
    'SELECT id FROM periods WHERE subscription_id = ? AND interval_index = ?',
    [subscriptionId, intervalIndex],
  );
  return rows.map(({ id }) => id);
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
