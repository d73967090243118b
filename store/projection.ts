/**
 * What the projector reads and writes: which subscribers' shards lag behind Postgres, what they must be told, and how far
 * they have got. The numbers are `subscribers.runtime_version` (state, newest wins) and `core_seq` (credit log, no gaps).
 */
import type { CompileInput } from '../billing/compile.ts';
import type { PlanDefinition } from '../billing/plan.ts';
import { inTransaction, type Db, type Reader, type Tx } from './db.ts';
import { selectRow, selectRows } from './query.ts';

/** A hold lives this long at most: a segment that ended earlier is of no use to a shard. */
const ENDED_SEGMENT_KEPT_MS = 5 * 60_000;
const SEGMENTS_MAX = 5;
/** How far ahead of the shard's clock a moved boundary is put. */
const BOUNDARY_LEAD_MS = 2_000;

/**
 * Says that what the subscriber's runtime may do changes in this transaction; answers the new version.
 * The projector is woken when the transaction commits.
 */
export async function bumpRuntime(tx: Tx, subscriberId: string): Promise<bigint> {
  const row = await selectRow<{ runtime_version: bigint }>(
    tx,
    'UPDATE subscribers SET runtime_version = runtime_version + 1 WHERE id = ? RETURNING runtime_version',
    [subscriberId],
  );
  if (row === null) throw new Error(`there is no subscriber ${subscriberId}`);
  return row.runtime_version;
}

/**
 * Waits until the subscriber's shard holds at least `version` and the credit log up to `coreSeq`; without either, what is
 * committed now. False when it does not within `timeoutMs` (its shard is away, or no drain runs).
 */
export async function waitForApplied(
  db: Db,
  subscriberId: string,
  wanted: { readonly version?: bigint; readonly coreSeq?: bigint },
  options: { readonly timeoutMs: number },
): Promise<boolean> {
  const deadline = performance.now() + options.timeoutMs;
  const target = { ...wanted };
  if (wanted.version === undefined && wanted.coreSeq === undefined) {
    const now = await readProgress(db, subscriberId);
    target.version = now.runtimeVersion;
    target.coreSeq = now.coreSeq;
  }
  for (let pauseMs = 5; ; pauseMs = Math.min(pauseMs * 1.5, 100)) {
    const { appliedVersion, appliedCoreSeq } = await readProgress(db, subscriberId);
    if (appliedVersion >= (target.version ?? 0n) && appliedCoreSeq >= (target.coreSeq ?? 0n)) {
      return true;
    }
    const leftMs = deadline - performance.now();
    if (leftMs <= 0) return false;
    await new Promise((resolve) => {
      setTimeout(resolve, Math.min(pauseMs, leftMs));
    });
  }
}

export type Progress = {
  readonly runtimeVersion: bigint;
  readonly coreSeq: bigint;
  readonly appliedVersion: bigint;
  readonly appliedCoreSeq: bigint;
};

/** Where a subscriber's projection stands. Throws when there is no such subscriber. */
export async function readProgress(db: Reader, subscriberId: string): Promise<Progress> {
  const row = await selectRow<Progress>(
    db,
    `SELECT runtime_version AS "runtimeVersion", core_seq AS "coreSeq",
            applied_version AS "appliedVersion", applied_core_seq AS "appliedCoreSeq"
     FROM subscribers WHERE id = ?`,
    [subscriberId],
  );
  if (row === null) throw new Error(`there is no subscriber ${subscriberId}`);
  return row;
}

/** Subscribers whose shard lags behind, by id, without those of `exceptShards` and those of `exceptIds`. */
export async function readLagging(
  db: Reader,
  options: {
    readonly exceptShards: readonly string[];
    readonly exceptIds: readonly string[];
    readonly limit: number;
  },
): Promise<readonly { readonly id: string; readonly shard: string }[]> {
  return selectRows(
    db,
    `SELECT s.id, o.shard FROM subscribers s JOIN slots o ON o.slot = s.slot
     WHERE (s.applied_version < s.runtime_version OR s.applied_core_seq < s.core_seq)
       AND o.shard <> ALL (?::text[]) AND s.id <> ALL (?::text[])
     ORDER BY s.id LIMIT ?`,
    [options.exceptShards, options.exceptIds, options.limit],
  );
}

/** How many subscribers lag behind: the projector's backlog. */
export async function countLagging(db: Reader): Promise<number> {
  const row = await selectRow<{ count: bigint }>(
    db,
    `SELECT count(*) AS count FROM subscribers
     WHERE applied_version < runtime_version OR applied_core_seq < core_seq`,
  );
  return Number(row?.count ?? 0n);
}

/** A page of the ids of subscribers that the shard must hold something of, after `afterId` ('' = from the first). */
export async function readSubscribersOfShard(
  db: Reader,
  options: { readonly shard: string; readonly afterId: string; readonly limit: number },
): Promise<readonly string[]> {
  const rows = await selectRows<{ id: string }>(
    db,
    `SELECT s.id FROM subscribers s JOIN slots o ON o.slot = s.slot
     WHERE o.shard = ? AND s.id > ? AND (s.applied_version > 0 OR s.applied_core_seq > 0)
     ORDER BY s.id LIMIT ?`,
    [options.shard, options.afterId, options.limit],
  );
  return rows.map(({ id }) => id);
}

/** Writes down what the shard has; only upward, and never past what is committed. */
export async function markApplied(
  db: Db,
  subscriberId: string,
  applied: { readonly version?: bigint; readonly coreSeq?: bigint },
): Promise<void> {
  await db.raw(
    `WITH told AS (
       UPDATE core_log SET applied_at = now()
       WHERE subscriber_id = :id AND seq <= :seq::bigint AND applied_at IS NULL
     )
     UPDATE subscribers
     SET applied_version = LEAST(runtime_version, GREATEST(applied_version, :version::bigint)),
         applied_core_seq = LEAST(core_seq, GREATEST(applied_core_seq, :seq::bigint))
     WHERE id = :id`,
    {
      id: subscriberId,
      version: String(applied.version ?? 0n),
      seq: String(applied.coreSeq ?? 0n),
    },
  );
}

export type CoreLogEntry = {
  readonly seq: bigint;
  readonly verb: 'grant' | 'void' | 'debit';
  readonly amountMicro: bigint;
  readonly bucketId: bigint;
  readonly unit: string;
  readonly priority: number;
  readonly class: 'promotional' | 'paid';
  readonly effectiveAt: Date;
  readonly expiresAt: Date | null;
  readonly scope: readonly string[];
};

/** The subscriber's credit log after `afterSeq`, in order. */
export async function readCoreLog(
  db: Reader,
  subscriberId: string,
  range: { readonly afterSeq: bigint; readonly limit: number },
): Promise<readonly CoreLogEntry[]> {
  return selectRows<CoreLogEntry>(
    db,
    `SELECT l.seq, l.verb, l.amount_micro AS "amountMicro", b.id AS "bucketId", w.unit, b.priority, b.class,
            b.effective_at AS "effectiveAt", b.expires_at AS "expiresAt", b.scope
     FROM core_log l JOIN buckets b ON b.id = l.bucket_id JOIN wallets w ON w.id = b.wallet_id
     WHERE l.subscriber_id = ? AND l.seq > ? ORDER BY l.seq LIMIT ?`,
    [subscriberId, range.afterSeq, range.limit],
  );
}

/**
 * All that the subscriber's constraints are compiled from, as of one instant, with the version that this state has.
 * Null when there is no such subscriber.
 */
export async function readCompileInput(db: Db, subscriberId: string): Promise<CompileInput | null> {
  return db.transaction((tx) => compileInputAt(tx, subscriberId), {
    isolationLevel: 'repeatable read',
    readOnly: true,
  });
}

async function compileInputAt(tx: Tx, subscriberId: string): Promise<CompileInput | null> {
  const subscriber = await selectRow<{ version: bigint; offset: bigint; now: Date }>(
    tx,
    `SELECT runtime_version AS version, clock_offset_ms AS offset,
            now() + clock_offset_ms * interval '1 millisecond' AS now
     FROM subscribers WHERE id = ?`,
    [subscriberId],
  );
  if (subscriber === null) return null;
  return {
    subscriber: {
      id: subscriberId,
      runtimeVersion: safeNumber(subscriber.version),
      clockOffsetMs: safeNumber(subscriber.offset),
    },
    keys: await readKeys(tx, subscriberId),
    subscriptions: await readLiveSubscriptions(tx, subscriberId, subscriber.now),
  };
}

async function readKeys(tx: Tx, subscriberId: string): Promise<CompileInput['keys']> {
  const rows = await selectRows<{
    id: string;
    digest: Buffer;
    expires_at: Date | null;
    product_ids: string[];
  }>(
    tx,
    `SELECT id, digest, expires_at, product_ids FROM api_keys
     WHERE subscriber_id = ? AND revoked_at IS NULL ORDER BY created_at, id`,
    [subscriberId],
  );
  return rows.map((row) => ({
    id: row.id,
    digest16: row.digest.subarray(0, 16).toString('base64url'),
    expiresMs: row.expires_at?.getTime() ?? null,
    productIds: row.product_ids,
  }));
}

type SegmentRow = {
  readonly subscription_id: string;
  readonly product_id: string;
  readonly id: bigint;
  readonly period_id: string;
  readonly from_at: Date;
  readonly until_at: Date;
  readonly status: 'active' | 'past_due' | 'inactive';
  readonly overage: boolean;
  readonly interval_start_at: Date;
  readonly interval_end_at: Date;
  readonly definition: PlanDefinition;
};

/**
 * A canceled subscription counts until its end has come, unless the product has another one by then; afterwards its
 * product is gone from the shard, which refuses it as inactive.
 */
async function readLiveSubscriptions(
  tx: Tx,
  subscriberId: string,
  now: Date,
): Promise<CompileInput['subscriptions']> {
  const since = new Date(now.getTime() - ENDED_SEGMENT_KEPT_MS);
  const rows = await selectRows<SegmentRow>(
    tx,
    `SELECT s.id AS subscription_id, s.product_id, g.id, g.period_id, g.from_at, g.until_at, g.status, g.overage,
            p.interval_start_at, p.interval_end_at, v.definition
     FROM subscriptions s
     JOIN segments g ON g.subscription_id = s.id AND NOT g.void AND g.until_at > ? AND g.until_at > g.from_at
     JOIN periods p ON p.id = g.period_id
     JOIN plan_versions v ON v.id = g.plan_version_id
     WHERE s.subscriber_id = ? AND (s.state <> 'canceled' OR s.ended_at > ? AND NOT EXISTS (
       SELECT 1 FROM subscriptions o
       WHERE o.subscriber_id = s.subscriber_id AND o.product_id = s.product_id AND o.id <> s.id
         AND (o.state <> 'canceled' OR o.ended_at > s.ended_at)))
     ORDER BY s.created_at, s.id, g.from_at`,
    [since, subscriberId, now],
  );
  const bySubscription = Map.groupBy(rows, (row) => row.subscription_id);
  return [...bySubscription.values()].flatMap((segments) => {
    const first = segments[0];
    if (first === undefined) return [];
    return {
      id: first.subscription_id,
      productId: first.product_id,
      segments: worthTelling(segments, now).map((row) => ({
        id: row.id.toString(),
        periodId: row.period_id,
        fromMs: row.from_at.getTime(),
        untilMs: row.until_at.getTime(),
        status: row.status,
        overage: row.overage,
        intervalStartMs: row.interval_start_at.getTime(),
        intervalEndMs: row.interval_end_at.getTime(),
        definition: row.definition,
      })),
    };
  });
}

/** The last segment that is over, for a shard's clock may be a little behind, then the current one and later ones. */
function worthTelling(segments: readonly SegmentRow[], now: Date): readonly SegmentRow[] {
  const current = segments.findIndex(({ until_at: untilAt }) => untilAt > now);
  const first = Math.max((current === -1 ? segments.length : current) - 1, 0);
  return segments.slice(first, first + SEGMENTS_MAX);
}

/** What a shard holds of one product: the segment that it is in, and until when it believes that one to run. */
export type HeldSegment = { readonly segmentId: string; readonly untilMs: number };

/**
 * Moves boundaries that have passed unseen by the shard to two seconds ahead of it, in segments and periods alike, and
 * bumps the runtime version: the past of a shard is never rewritten. A segment that would lie wholly in the past is
 * void. Answers false, and changes nothing, when no boundary is late.
 * @param nowMs The shard's clock with the subscriber's offset, as `apply` answered it.
 * @param held What the shard holds (`Shards.read`); it takes any past of a subscription of which it holds nothing.
 */
export async function retimeBoundary(
  db: Db,
  subscriberId: string,
  nowMs: number,
  held: readonly HeldSegment[],
): Promise<boolean> {
  return inTransaction(db, async (tx) => {
    const segments = await lockSegments(tx, subscriberId);
    const bySubscription = Map.groupBy(segments, ({ subscriptionId }) => subscriptionId);
    let hasMoved = false;
    for (const own of bySubscription.values()) {
      const plan = planRetiming(own, nowMs + BOUNDARY_LEAD_MS, held);
      if (plan === null) continue;
      await retime(tx, plan);
      hasMoved = true;
    }
    if (hasMoved) await bumpRuntime(tx, subscriberId);
    return hasMoved;
  });
}

type RetimeSegment = {
  readonly id: string;
  readonly subscriptionId: string;
  readonly periodId: string;
  readonly fromMs: number;
  readonly untilMs: number;
};

/** Periods are locked by id, as the drain and the close do. */
async function lockSegments(tx: Tx, subscriberId: string): Promise<readonly RetimeSegment[]> {
  await tx.raw(
    `SELECT p.id FROM periods p JOIN subscriptions s ON s.id = p.subscription_id
     WHERE s.subscriber_id = ? AND p.state IN ('scheduled', 'open', 'closing') ORDER BY p.id FOR UPDATE OF p`,
    [subscriberId],
  );
  const rows = await selectRows<{
    id: bigint;
    subscription_id: string;
    period_id: string;
    from_at: Date;
    until_at: Date;
  }>(
    tx,
    `SELECT g.id, g.subscription_id, g.period_id, g.from_at, g.until_at
     FROM segments g JOIN subscriptions s ON s.id = g.subscription_id
     WHERE s.subscriber_id = ? AND NOT g.void AND g.until_at > g.from_at ORDER BY g.subscription_id, g.from_at`,
    [subscriberId],
  );
  return rows.map((row) => ({
    id: row.id.toString(),
    subscriptionId: row.subscription_id,
    periodId: row.period_id,
    fromMs: row.from_at.getTime(),
    untilMs: row.until_at.getTime(),
  }));
}

type Retiming = {
  /** The segment that the shard is in: it runs on until the boundary. */
  readonly last: RetimeSegment;
  /** Unseen segments that are over before the boundary. */
  readonly missed: readonly RetimeSegment[];
  /** The unseen segment that begins at the boundary now. */
  readonly next: RetimeSegment | null;
  readonly boundaryMs: number;
};

function planRetiming(
  segments: readonly RetimeSegment[],
  earliestMs: number,
  held: readonly HeldSegment[],
): Retiming | null {
  const heldAs = new Map(held.map((segment) => [segment.segmentId, segment.untilMs]));
  const last = segments.find(({ id }) => heldAs.has(id));
  if (last === undefined) return null;
  const heldUntilMs = heldAs.get(last.id) ?? last.untilMs;
  // The shard has rolled, or will have, into what it knows to follow: nothing can begin before that.
  const boundaryMs = Math.min(earliestMs, heldUntilMs);
  const unseen = segments.filter(
    ({ fromMs }) => fromMs > last.fromMs && fromMs < heldUntilMs && fromMs < earliestMs,
  );
  const isCutShort = last.untilMs < boundaryMs;
  if (unseen.length === 0 && !isCutShort) return null;
  const next = unseen.findLast(({ untilMs }) => untilMs > boundaryMs) ?? null;
  return { last, missed: unseen.filter((segment) => segment !== next), next, boundaryMs };
}

/** Rows shrink before others grow into their place: the exclusion constraints hold after every statement. */
async function retime(tx: Tx, { last, missed, next, boundaryMs }: Retiming): Promise<void> {
  const boundary = new Date(boundaryMs);
  for (const { id, periodId } of missed) {
    await tx.raw('UPDATE segments SET void = true WHERE id = ?', [id]);
    await tx.raw(
      `UPDATE periods SET state = 'void' WHERE id = ? AND state <> 'closed'
       AND NOT EXISTS (SELECT 1 FROM segments WHERE period_id = periods.id AND NOT void)`,
      [periodId],
    );
  }
  if (next !== null) {
    await tx.raw('UPDATE segments SET from_at = ? WHERE id = ?', [boundary, next.id]);
    if (next.periodId !== last.periodId) {
      await tx.raw(`UPDATE periods SET start_at = ? WHERE id = ? AND state <> 'closed'`, [
        boundary,
        next.periodId,
      ]);
    }
  }
  await tx.raw('UPDATE segments SET until_at = ? WHERE id = ?', [boundary, last.id]);
  if (last.periodId !== next?.periodId) {
    await tx.raw(
      `UPDATE periods SET end_at = LEAST(?, interval_end_at) WHERE id = ? AND state <> 'closed'`,
      [boundary, last.periodId],
    );
  }
  // A cancellation is no earlier than the end that it set.
  for (const column of ['cancel_at', 'ended_at']) {
    await tx.raw(`UPDATE subscriptions SET ?? = ? WHERE id = ? AND ?? = ?`, [
      column,
      boundary,
      last.subscriptionId,
      column,
      new Date(last.untilMs),
    ]);
  }
}

export function safeNumber(value: bigint): number {
  const number = Number(value);
  if (!Number.isSafeInteger(number)) throw new Error(`${value} does not fit a safe integer`);
  return number;
}
