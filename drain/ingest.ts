/**
 * Usage that did not pass the gateway: rows of `external_events` → the subscriber's shard → the row's result.
 *
 * The shard counts an op_id once while it remembers it, and the usage event's primary key holds for ever; between the two
 * lies the rule for a reply that was lost: look for the committed event at each turn, and send again only when 15 s have
 * passed, the shard's stream as it was then is committed to its end, and the event is not among what was committed.
 */
import type { Logger } from 'pino';

import { ShardUnavailable, type RecordResult, type Shards } from '../shards/port.ts';
import type { Db } from '../store/db.ts';
import {
  committedResults,
  markCounted,
  uncounted,
  type UncountedEvent,
} from '../store/external-events.ts';
import { isOfShard, makeLanes } from './lanes.ts';
import type { ShardMap } from './shard-map.ts';
import { startTicker } from './ticker.ts';

const READ_MAX = 500;
/** Events whose outcome is being waited for. Above it no new one is sent: something is badly behind. */
const DOUBTFUL_MAX = 5_000;

export type IngestDeps = {
  readonly db: Db;
  readonly shards: Pick<Shards, 'record'>;
  readonly map: ShardMap;
  /** Whether everything that the shard's stream holds at the call is committed. Throws when the shard is away. */
  readonly isCaughtUp: (shard: string) => Promise<boolean>;
  readonly log: Logger;
  readonly pollMs?: number;
  /** How long a doubtful event waits before it may be sent again. */
  readonly retryAfterMs?: number;
};

export type Ingest = {
  readonly wake: () => void;
  readonly stop: () => Promise<void>;
};

/** op_id → when it may be sent again, on this process' clock. */
type Doubtful = Map<string, number>;

/** Starts counting; it goes on until stopped, whatever fails. */
export function startIngest(deps: IngestDeps): Ingest {
  const { db, map, log } = deps;
  const doubtful: Doubtful = new Map();
  const sender = makeSender(deps, doubtful);
  const lanes = makeLanes(({ shard, key: opId, error }) => {
    if (isOfShard(error)) {
      log.warn({ shard, reason: error.message }, 'a shard takes no usage now: trying again');
    } else {
      log.error({ shard, opId, err: error }, 'an external event could not be counted');
    }
  });
  const look = async (): Promise<void> => {
    await settleDoubtful(db, doubtful);
    const now = performance.now();
    const names = map.current().shards.map(({ name }) => name);
    const events = await uncounted(db, {
      limit: READ_MAX,
      exceptShards: names.filter((name) => !map.isOpen(name) || lanes.isAway(name)),
      exceptOpIds: [...doubtful].filter(([, dueMs]) => dueMs > now).map(([opId]) => opId),
    });
    for (const event of events) {
      void lanes.add(event.shard, event.opId, () => sender(event));
    }
  };
  const ticker = startTicker({
    eachMs: deps.pollMs ?? 500,
    look,
    onTrouble: (error) => {
      log.warn({ err: error }, 'Postgres could not be asked what is to be counted');
    },
  });
  return {
    wake: () => {
      ticker.wake();
    },
    stop: async () => {
      await ticker.stop();
      await lanes.stop();
    },
  };
}

/** Sends an event to its shard and stores the answer; one in doubt only when it is certain not to be counted yet. */
function makeSender(
  { db, shards, isCaughtUp, retryAfterMs = 15_000 }: IngestDeps,
  doubtful: Doubtful,
): (event: UncountedEvent) => Promise<void> {
  const send = async ({ opId, subscriberId, usage }: UncountedEvent): Promise<void> => {
    try {
      const answer = await shards.record({
        subscriberId,
        opId,
        productId: usage.product_id,
        atMs: usage.at_ms,
        quantities: usage.quantities,
      });
      // `already` means counted, but not as what: the committed event will tell.
      if (answer.kind === 'already') return;
      await markCounted(db, opId, resultOf(answer));
      doubtful.delete(opId);
    } catch (error) {
      if (error instanceof ShardUnavailable && error.outcome === 'not_sent') doubtful.delete(opId);
      throw error;
    }
  };
  return async (event) => {
    // An old event that is new to this process may have been sent by one that is gone.
    const isInDoubt = doubtful.has(event.opId) || event.ageMs >= retryAfterMs;
    if (!isInDoubt && doubtful.size >= DOUBTFUL_MAX) return;
    doubtful.set(event.opId, performance.now() + retryAfterMs);
    if (!isInDoubt) {
      await send(event);
      return;
    }
    if (!(await isCaughtUp(event.shard))) return;
    const committed = (await committedResults(db, [event.opId])).get(event.opId);
    if (committed === undefined) {
      await send(event);
    } else {
      await markCounted(db, event.opId, committed);
      doubtful.delete(event.opId);
    }
  };
}

/** Events in doubt that the drain has committed meanwhile are counted: nothing needs to be sent. */
async function settleDoubtful(db: Db, doubtful: Doubtful): Promise<void> {
  if (doubtful.size === 0) return;
  for (const [opId, result] of await committedResults(db, [...doubtful.keys()])) {
    await markCounted(db, opId, result);
    doubtful.delete(opId);
  }
}

function resultOf(
  answer: Extract<RecordResult, { kind: 'ok' }>,
): Parameters<typeof markCounted>[2] {
  return {
    kind: 'counted',
    over_limit: answer.overLimit,
    charged_micro: answer.chargedMicro,
    overage_micro: answer.overageMicro,
  };
}
