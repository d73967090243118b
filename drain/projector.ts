/**
 * Postgres → shards: the only writer of subscribers' state. What is to be told is not queued anywhere: it is the
 * difference between two numbers and their `applied_` twins on the subscriber's row, so a crash forgets nothing.
 * First the credit log in order, then the compiled constraints; a shard never takes an older version.
 */
import { setTimeout as sleep } from 'node:timers/promises';

import type { Logger } from 'pino';

import { compileConstraints } from '../billing/compile.ts';
import type { SubscriberConstraints } from '../billing/constraints.ts';
import type { Shards } from '../shards/port.ts';
import { inTransaction, type Db } from '../store/db.ts';
import {
  bumpRuntime,
  markApplied,
  readCompileInput,
  readCoreLog,
  readLagging,
  readProgress,
  readSubscribersOfShard,
  retimeBoundary,
  safeNumber,
  type CoreLogEntry,
} from '../store/projection.ts';
import { isOfShard, makeLanes, type Lanes } from './lanes.ts';
import type { ShardMap } from './shard-map.ts';
import { startTicker } from './ticker.ts';

const LAGGING_READ_MAX = 500;
const CORE_LOG_READ_MAX = 100;
const VERIFY_READ_MAX = 200;
/** A boundary is moved at most so often in one go: then somebody changes it faster than it can be told. */
const RETIMINGS_MAX = 3;
const VERIFY_RETRY_MS = 500;
/** A subscriber who cannot be compiled is reported each time, and does not keep the others from their turn. */
const VERIFY_TRIES_MAX = 5;
const FAILED_SUBSCRIBER_BACK_OFF_MS = 5_000;
const FAILED_SUBSCRIBERS_MAX = 10_000;

/** Marks the key of a comparison, so that an ordinary projection of the subscriber does not take its place. */
const VERIFYING = '/verify';

export type ProjectorDeps = {
  readonly db: Db;
  readonly shards: Shards;
  readonly map: ShardMap;
  readonly log: Logger;
  /** How often Postgres is asked even when nobody called. */
  readonly pollMs?: number;
};

export type Projector = {
  /** Something about this subscriber was committed; null: about somebody. */
  readonly wake: (subscriberId: string | null) => void;
  /** Whether every open shard has been compared, since it opened, with what Postgres says that it holds. */
  readonly isVerified: () => boolean;
  readonly stop: () => Promise<void>;
};

/** Starts projecting; it goes on until stopped, whatever fails. */
export function startProjector(deps: ProjectorDeps): Projector {
  const { db, map, log } = deps;
  const failed = new Map<string, number>();
  const lanes = makeLanes(({ shard, key, error }) => {
    const subscriberId = key.replace(VERIFYING, '');
    if (isOfShard(error)) {
      log.warn({ shard, reason: error.message }, 'a shard takes no changes now: trying again');
      return;
    }
    if (failed.size < FAILED_SUBSCRIBERS_MAX) {
      failed.set(subscriberId, performance.now() + FAILED_SUBSCRIBER_BACK_OFF_MS);
    }
    log.error({ shard, subscriberId, err: error }, 'a subscriber could not be projected');
  });
  const verifier = makeVerifier(deps, lanes);
  const ticker = startTicker({
    eachMs: deps.pollMs ?? 500,
    look: async () => {
      await map.refresh();
      verifier.look();
      forgetOver(failed);
      const names = map.current().shards.map(({ name }) => name);
      const lagging = await readLagging(db, {
        exceptShards: names.filter((name) => !map.isOpen(name) || lanes.isAway(name)),
        exceptIds: [...failed.keys()],
        limit: LAGGING_READ_MAX,
      });
      for (const { id, shard } of lagging) void lanes.add(shard, id, () => project(deps, id));
    },
    onTrouble: (error) => {
      log.warn({ err: error }, 'Postgres could not be asked what is to be projected');
    },
  });
  return {
    wake: (subscriberId) => {
      const shard = subscriberId === null ? null : map.shardOf(subscriberId);
      if (subscriberId === null || shard === null) {
        ticker.wake();
      } else if (map.isOpen(shard) && !failed.has(subscriberId)) {
        void lanes.add(shard, subscriberId, () => project(deps, subscriberId));
      }
    },
    isVerified: () => verifier.isDone(),
    stop: async () => {
      await ticker.stop();
      await Promise.all([verifier.stop(), lanes.stop()]);
    },
  };
}

function forgetOver(failed: Map<string, number>): void {
  const now = performance.now();
  for (const [subscriberId, untilMs] of failed) if (untilMs <= now) failed.delete(subscriberId);
}

/** Brings one subscriber's shard up to what is committed. */
async function project(deps: ProjectorDeps, subscriberId: string): Promise<void> {
  const progress = await readProgress(deps.db, subscriberId);
  await tellBoth(deps, subscriberId, {
    afterSeq: progress.appliedCoreSeq < progress.coreSeq ? progress.appliedCoreSeq : null,
    isConstraintsDue: progress.appliedVersion < progress.runtimeVersion,
  });
}

/**
 * Credits first, so that a plan never begins without the credits it comes with. An entry of the log that the shard refuses
 * holds up the log only: keys must be revoked and subscriptions end whatever becomes of it. Throws its error afterwards.
 */
async function tellBoth(
  deps: ProjectorDeps,
  subscriberId: string,
  due: { readonly afterSeq: bigint | null; readonly isConstraintsDue: boolean },
): Promise<void> {
  let refused: { readonly error: unknown } | null = null;
  if (due.afterSeq !== null) {
    try {
      await sendCredits(deps, subscriberId, due.afterSeq);
    } catch (error) {
      if (isOfShard(error)) throw error;
      refused = { error };
    }
  }
  if (due.isConstraintsDue) await sendConstraints(deps, subscriberId);
  if (refused !== null) throw refused.error;
}

/** Brings a subscriber's shard up to what Postgres says that it has already: it may have come back with less. */
async function verify(deps: ProjectorDeps, subscriberId: string): Promise<void> {
  const { db, shards, log } = deps;
  const progress = await readProgress(db, subscriberId);
  const held = await shards.read(subscriberId);
  const heldSeq = BigInt(held?.coreSeq ?? 0);
  const heldVersion = BigInt(held?.version ?? 0);
  if (heldSeq > progress.coreSeq || heldVersion > progress.runtimeVersion) {
    log.error(
      { subscriberId, held: { heldSeq, heldVersion }, committed: progress },
      'a shard is ahead of Postgres: was the database restored from a backup?',
    );
    return;
  }
  if (heldSeq < progress.appliedCoreSeq || heldVersion < progress.appliedVersion) {
    log.warn({ subscriberId, heldSeq, heldVersion }, 'a shard has lost changes: telling it again');
  }
  await tellBoth(deps, subscriberId, {
    afterSeq: heldSeq < progress.coreSeq ? heldSeq : null,
    isConstraintsDue: heldVersion < progress.runtimeVersion,
  });
}

/** Tells the credit log after `afterSeq` in order. The shard takes only the next number, and says which it has. */
async function sendCredits(
  { db, shards }: ProjectorDeps,
  subscriberId: string,
  afterSeq: bigint,
): Promise<void> {
  let seq = afterSeq;
  for (;;) {
    const range = { afterSeq: seq, limit: CORE_LOG_READ_MAX };
    const entries = await readCoreLog(db, subscriberId, range);
    if (entries.length === 0) return;
    const before = seq;
    let isGap = false;
    try {
      for (const entry of entries) {
        const told = await shards.credit(creditOf(subscriberId, entry));
        isGap = told.kind === 'gap';
        seq = told.kind === 'gap' ? BigInt(told.seq) : entry.seq;
        if (isGap) break;
      }
    } finally {
      if (seq > before) await markApplied(db, subscriberId, { coreSeq: seq });
    }
    if (seq === before) {
      throw new Error(`the credit log of ${subscriberId} has a gap after ${seq} in Postgres`);
    }
    if (!isGap && entries.length < CORE_LOG_READ_MAX) return;
  }
}

function creditOf(subscriberId: string, entry: CoreLogEntry): Parameters<Shards['credit']>[0] {
  return {
    subscriberId,
    seq: safeNumber(entry.seq),
    verb: entry.verb,
    bucket: {
      id: entry.bucketId.toString(),
      unit: entry.unit,
      priority: entry.priority,
      class: entry.class,
      effectiveMs: entry.effectiveAt.getTime(),
      expiresMs: entry.expiresAt?.getTime() ?? null,
      scope: entry.scope,
    },
    amountMicro: safeNumber(entry.amountMicro),
  };
}

/** Compiles one snapshot and applies it; a boundary that has passed meanwhile is moved, and the result compiled anew. */
async function sendConstraints(deps: ProjectorDeps, subscriberId: string): Promise<void> {
  const { db, shards } = deps;
  for (let retimings = 0; retimings <= RETIMINGS_MAX; retimings++) {
    const input = await readCompileInput(db, subscriberId);
    if (input === null) return;
    const constraints = compileConstraints(input);
    const answer = await shards.apply(constraints);
    if (answer.kind !== 'boundary_passed') {
      await markApplied(db, subscriberId, { version: BigInt(constraints.version) });
      return;
    }
    await makeWay(deps, constraints, answer.nowMs);
  }
  throw new Error(`boundaries of ${subscriberId} pass faster than its shard can be told`);
}

/** The shard's past would be altered: boundaries that it missed are moved, and subscriptions that it outlived end on it. */
async function makeWay(
  { db, shards, log }: ProjectorDeps,
  constraints: SubscriberConstraints,
  nowMs: number,
): Promise<void> {
  const { subscriberId } = constraints;
  const held = (await shards.read(subscriberId))?.products ?? [];
  if (await retimeBoundary(db, subscriberId, nowMs, held)) {
    log.info({ subscriberId }, 'a boundary had passed before the shard was told: it is moved');
    return;
  }
  const products = constraints.products.filter(({ productId, segments }) => {
    const own = held.find((product) => product.productId === productId);
    return own === undefined || segments.some(({ segmentId }) => segmentId === own.segmentId);
  });
  if (products.length === constraints.products.length) {
    throw new Error(
      `the shard of ${subscriberId} says that a boundary has passed; none can be moved`,
    );
  }
  log.info(
    { subscriberId },
    'a shard missed the end of a subscription: it ends before the next one',
  );
  await shards.apply({ ...constraints, products });
  await inTransaction(db, (tx) => bumpRuntime(tx, subscriberId));
}

type Verifier = {
  readonly look: () => void;
  readonly isDone: () => boolean;
  readonly stop: () => Promise<void>;
};

/** Walks all subscribers of a shard once after each of its openings, and once after this process began. */
function makeVerifier(deps: ProjectorDeps, lanes: Lanes): Verifier {
  const { db, map, log } = deps;
  const verified = new Map<string, number>();
  const walks = new Map<string, Promise<void>>();
  const stopping = new AbortController();

  const isCurrent = (shard: string, incarnation: number): boolean =>
    !stopping.signal.aborted && map.isOpen(shard) && map.incarnationOf(shard) === incarnation;

  const walk = async (shard: string, incarnation: number): Promise<void> => {
    lanes.clear(shard);
    for (let afterId = '', tries = 1; isCurrent(shard, incarnation); tries++) {
      const page = await readSubscribersOfShard(db, { shard, afterId, limit: VERIFY_READ_MAX });
      const last = page.at(-1);
      if (last === undefined) {
        verified.set(shard, incarnation);
        return;
      }
      const ends = page.map((id) => lanes.add(shard, `${id}${VERIFYING}`, () => verify(deps, id)));
      const outcomes = new Set(await Promise.all(ends));
      const isOver = !outcomes.has('failed') || tries >= VERIFY_TRIES_MAX;
      if (isOver && !outcomes.has('away')) {
        afterId = last;
        tries = 0;
      } else {
        await sleep(VERIFY_RETRY_MS, undefined, { signal: stopping.signal }).catch(() => {});
      }
    }
  };

  return {
    look: () => {
      for (const { name, incarnation, state } of map.current().shards) {
        if (state !== 'open' || verified.get(name) === incarnation || walks.has(name)) continue;
        const walking = walk(name, incarnation)
          .catch((error: unknown) => {
            log.error({ shard: name, err: error }, 'a shard could not be compared with Postgres');
          })
          .finally(() => {
            walks.delete(name);
          });
        walks.set(name, walking);
      }
    },
    isDone: () =>
      map
        .current()
        .shards.every(
          ({ name, incarnation, state }) => state !== 'open' || verified.get(name) === incarnation,
        ),
    stop: async () => {
      stopping.abort();
      await Promise.all(walks.values());
    },
  };
}
