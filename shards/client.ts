/**
 * The port of `port.ts` over real shards: one subscriber → one slot → one shard → one script. It reads the slot map
 * through `mapSource` at each call, never re-sends a call whose outcome is unknown, and knows nothing of what the
 * scripts decide.
 */
import type { Redis } from 'ioredis';

import { slotOf } from '../billing/slot.ts';
import {
  awaitReady,
  commandTimeoutMsDefault,
  connectWaitMsDefault,
  type ConnectionOptions,
  openConnection,
  unavailable,
} from './connection.ts';
import { ShardUnavailable, type Shards, type SlotMap } from './port.ts';
import {
  readApplyReply,
  readAuthorizeReply,
  readCreditReply,
  readRecordReply,
  readSealReply,
  readSettleReply,
  readStateReply,
  type Reply,
} from './replies.ts';
import { runScript } from './run-script.ts';
import {
  applyArguments,
  authorizeArguments,
  creditArguments,
  recordArguments,
  settleArguments,
} from './script-arguments.ts';
import type { ScriptName } from './scripts.ts';

export type ShardsOptions = {
  /** The newest slot map known, or null while none is; asked at each call. */
  readonly mapSource: () => SlotMap | null;
  /** Fetches a newer map after a shard answered `stale_epoch`; the call is made once more if its owner or epoch changed. */
  readonly refreshMap?: () => Promise<void>;
  readonly connectionOptions?: ConnectionOptions;
};

/**
 * Opens the shards; each connection is made at the first call that needs it. Calls reject with `ShardUnavailable`, or
 * with `RangeError` when an argument is not in its grammar (a mistake of the caller, without effect).
 */
export function createShards(options: ShardsOptions): Shards {
  const { call, close } = createCaller(options);
  return {
    authorize: async (request) =>
      readAuthorizeReply(
        (await call('authorize', request.subscriberId, authorizeArguments(request))).reply,
      ),
    settle: async (request) =>
      readSettleReply((await call('settle', request.subscriberId, settleArguments(request))).reply),
    record: async (request) =>
      readRecordReply((await call('record', request.subscriberId, recordArguments(request))).reply),
    apply: async (constraints) =>
      readApplyReply(
        (await call('apply', constraints.subscriberId, applyArguments(constraints))).reply,
      ),
    credit: async (entry) =>
      readCreditReply((await call('credit', entry.subscriberId, creditArguments(entry))).reply),
    seal: async ({ subscriberId, productId, periodId }) => {
      const { reply, owner } = await call('seal', subscriberId, [productId, periodId]);
      return readSealReply(reply, owner);
    },
    read: async (subscriberId) => readStateReply((await call('read', subscriberId, [])).reply),
    close,
  };
}

type Owner = SlotMap['shards'][number];
type Answer = { readonly reply: Reply; readonly owner: Owner };
type Place = { readonly slot: number; readonly epoch: number; readonly owner: Owner };
type Call = (name: ScriptName, subscriberId: string, rest: readonly string[]) => Promise<Answer>;

function createCaller(options: ShardsOptions): { call: Call; close: () => Promise<void> } {
  const { send, close } = createSender(options.connectionOptions ?? {});
  const call: Call = async (name, subscriberId, rest) => {
    const place = placeOf(options.mapSource(), subscriberId);
    const reply = await send(name, place, [subscriberId, ...rest]);
    if (reply[0] !== 'stale_epoch') return { reply: admitted(reply, place), owner: place.owner };
    // A stale epoch changed nothing, so this one answer may be asked again, once, of a newer map.
    if (options.refreshMap !== undefined) await atMost(refreshMsMax, options.refreshMap());
    const newer = placeOf(options.mapSource(), subscriberId);
    if (newer.epoch !== place.epoch || newer.owner.name !== place.owner.name) {
      const again = await send(name, newer, [subscriberId, ...rest]);
      if (again[0] !== 'stale_epoch') {
        return { reply: admitted(again, newer), owner: newer.owner };
      }
    }
    throw new ShardUnavailable(
      newer.owner.name,
      'not_sent',
      `slot ${newer.slot}: epoch ${newer.epoch} is stale`,
    );
  };
  return { call, close };
}

/** A newer map that does not come at once is not waited for: the call is answered within its time either way. */
const refreshMsMax = 40;

async function atMost(waitMs: number, work: Promise<void>): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>();
  const timer = setTimeout(resolve, waitMs);
  await Promise.race([work.catch(() => {}), promise]);
  clearTimeout(timer);
}

/** A shard whose facts are not drained takes no new work: a bounded stream, and no silent loss. */
function admitted(reply: Reply, { owner }: Place): Reply {
  if (reply[0] !== 'stream_full') return reply;
  throw new ShardUnavailable(
    owner.name,
    'not_sent',
    `shard ${owner.name}: its stream of facts is full`,
  );
}

function createSender(options: ConnectionOptions): {
  send: (
    name: ScriptName,
    place: Place,
    scriptArguments: readonly [string, ...string[]],
  ) => Promise<Reply>;
  close: () => Promise<void>;
} {
  const connections = new Map<string, Redis>();
  const commandTimeoutMs = options.commandTimeoutMs ?? commandTimeoutMsDefault;
  const connectWaitMs = options.connectWaitMs ?? connectWaitMsDefault;
  let isClosed = false;

  const connectionTo = (url: string): Redis => {
    const known = connections.get(url);
    if (known !== undefined) return known;
    const made = openConnection(url, commandTimeoutMs);
    connections.set(url, made);
    return made;
  };
  return {
    send: async (name, { slot, epoch, owner }, scriptArguments) => {
      if (isClosed) throw new ShardUnavailable(owner.name, 'not_sent', 'the shards are closed');
      const redis = connectionTo(owner.url);
      if (redis.status !== 'ready') await awaitReady(redis, connectWaitMs);
      const target = { shard: owner.name, incarnation: owner.incarnation, slot, epoch };
      try {
        return await runScript(redis, name, target, scriptArguments);
      } catch (error) {
        throw unavailable(owner.name, error);
      }
    },
    close: () => {
      isClosed = true;
      for (const redis of connections.values()) redis.disconnect();
      connections.clear();
      return Promise.resolve();
    },
  };
}

function placeOf(map: SlotMap | null, subscriberId: string): Place {
  if (map === null) throw new ShardUnavailable('?', 'not_sent', 'no slot map yet');
  const slot = slotOf(subscriberId);
  const owner = map.shards[map.owners[slot] ?? -1];
  if (owner === undefined) {
    throw new ShardUnavailable('?', 'not_sent', `slot ${slot} has no shard`);
  }
  if (owner.state !== 'open') {
    throw new ShardUnavailable(owner.name, 'not_sent', `shard ${owner.name} is ${owner.state}`);
  }
  return { slot, epoch: map.epochs[slot] ?? 0, owner };
}
