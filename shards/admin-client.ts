/**
 * One shard as its keeper sees it: identity, scripts, epochs, what gateways poll, the stream of facts, what falls due.
 * For `drain/`, for `fleet.ts` and for tests; requests go through `client.ts`.
 */
import type { Redis } from 'ioredis';

import type { Catalogue } from '../billing/catalogue.ts';
import { slotOf } from '../billing/slot.ts';
import { parseCatalogue } from './catalogue.ts';
import { awaitReady, openConnection, unavailable } from './connection.ts';
import {
  catalogueKey,
  dueKey,
  epochsKey,
  factsKey,
  identityKey,
  mapKey,
  watermarkKey,
} from './keys.ts';
import type { SlotMap } from './port.ts';
import { runScript } from './run-script.ts';
import { scriptsOf } from './scripts.ts';
import { parseSlotMap } from './slot-map.ts';

export type ShardAddress = { readonly name: string; readonly url: string };
/** Whose data a Redis holds. */
export type ShardIdentity = { readonly name: string; readonly incarnation: number };
/** All facts of this incarnation up to and with this stream id are committed in Postgres. */
export type Watermark = { readonly incarnation: number; readonly streamId: string };
/** One entry of the stream; read `fact` with `parseFact`. */
export type StreamEntry = { readonly id: string; readonly fact: string };
/** `opId` is '' when it is not a hold but a credit bucket of the subscriber that expires. */
export type Due = { readonly subscriberId: string; readonly opId: string; readonly dueMs: number };
export type ExpireResult =
  /** The hold ended as `expired`, or expired buckets were written off. */
  | { readonly kind: 'expired' }
  /** It was renewed meanwhile, or is not due on the shard's clock. */
  | { readonly kind: 'open' }
  /** Nothing to end any more. */
  | { readonly kind: 'gone' };
export type ShardInfo = {
  readonly runId: string;
  readonly version: string;
  readonly usedMemoryBytes: number;
  readonly role: string;
};

export type ShardLink = {
  readonly name: string;
  readonly url: string;
  ping(): Promise<void>;
  info(): Promise<ShardInfo>;
  /** What is wrong with this server for a shard, in sentences; empty when it will do. */
  check(): Promise<readonly string[]>;
  /** The server's clock, epoch milliseconds. */
  clockMs(): Promise<number>;
  loadScripts(incarnation: number): Promise<void>;
  /** False after a restart, a promotion or a wipe: the shard then serves nothing until `loadScripts`. */
  hasScripts(incarnation: number): Promise<boolean>;
  /** Replaces the epochs of exactly these slots. */
  writeEpochs(epochs: ReadonlyMap<number, number>): Promise<void>;
  readEpochs(): Promise<Map<number, number>>;
  /** Null when nobody has written one: new or wiped. */
  readIdentity(): Promise<ShardIdentity | null>;
  writeIdentity(identity: ShardIdentity): Promise<void>;
  /** @param json `formatSlotMap`. */
  writeMap(json: string): Promise<void>;
  readMap(): Promise<SlotMap | null>;
  /** @param json a `Catalogue`. */
  writeCatalogue(json: string): Promise<void>;
  readCatalogue(): Promise<Catalogue | null>;
  /** Entries after `afterId` ('0-0' from the start), at most `count`; waits up to `blockMs` (0: not at all) for the first. */
  readStream(afterId: string, count: number, blockMs: number): Promise<StreamEntry[]>;
  /** Deletes every entry with an id less than `minId`. */
  trimStream(minId: string): Promise<number>;
  streamLength(): Promise<number>;
  /** The last id that the stream has given, '0-0' when it is new. */
  lastStreamId(): Promise<string>;
  writeWatermark(watermark: Watermark): Promise<void>;
  readWatermark(): Promise<Watermark | null>;
  /** What falls due at `nowMs`, the oldest first. */
  dueHolds(nowMs: number, limit: number): Promise<Due[]>;
  /** Ends one of them, on the shard's own clock; idempotent. */
  expireHold(due: Pick<Due, 'subscriberId' | 'opId'>, incarnation: number): Promise<ExpireResult>;
  close(): Promise<void>;
};

const adminTimeoutMs = 2000;

/**
 * Opens a link to one shard. Its calls reject with `ShardUnavailable`; they wait up to 2 s for a connection and 2 s for
 * an answer, and none is sent twice.
 */
export function openShardLink({ name, url }: ShardAddress): ShardLink {
  const redis = openConnection(url, adminTimeoutMs);
  let blocking: Redis | null = null;

  const ask = async <T>(command: (connection: Redis) => Promise<T>): Promise<T> => {
    await awaitReady(redis, adminTimeoutMs);
    try {
      return await command(redis);
    } catch (error) {
      throw unavailable(name, error);
    }
  };
  /** A blocking read needs a connection of its own, or it would hold up everything behind it. */
  const askBlocking: AskBlocking = async (blockMs, command) => {
    blocking ??= openConnection(url, null);
    await awaitReady(blocking, adminTimeoutMs);
    const connection = blocking;
    // No answer long after the wait was over: the connection is dead, and this read with it.
    const timer = setTimeout(() => {
      connection.disconnect(true);
    }, blockMs + adminTimeoutMs);
    try {
      return await command(connection);
    } catch (error) {
      throw unavailable(name, error);
    } finally {
      clearTimeout(timer);
    }
  };

  return {
    name,
    url,
    ...serverCalls(ask),
    ...fenceCalls(ask, name),
    ...publishedCalls(ask, name),
    ...streamCalls(ask, askBlocking),
    ...dueCalls(ask, name),
    close: () => {
      redis.disconnect();
      blocking?.disconnect();
      return Promise.resolve();
    },
  };
}

type Ask = <T>(command: (connection: Redis) => Promise<T>) => Promise<T>;
type AskBlocking = <T>(blockMs: number, command: (connection: Redis) => Promise<T>) => Promise<T>;

function serverCalls(ask: Ask): Pick<ShardLink, 'ping' | 'info' | 'check' | 'clockMs'> {
  return {
    ping: async () => {
      await ask((redis) => redis.ping());
    },
    info: async () => {
      const fields = infoFields(await ask((redis) => redis.info()));
      return {
        runId: fields.get('run_id') ?? '',
        version: fields.get('valkey_version') ?? fields.get('redis_version') ?? '',
        usedMemoryBytes: Number(fields.get('used_memory') ?? 0),
        role: fields.get('role') ?? '',
      };
    },
    check: async () => {
      const fields = infoFields(await ask((redis) => redis.info()));
      return faultsOf(fields);
    },
    clockMs: async () => {
      const [seconds, micros] = await ask((redis) => redis.time());
      return Number(seconds) * 1000 + Math.floor(Number(micros) / 1000);
    },
  };
}

function infoFields(info: string): Map<string, string> {
  return new Map(
    info.split('\r\n').flatMap((line): [string, string][] => {
      const colon = line.indexOf(':');
      return colon > 0 ? [[line.slice(0, colon), line.slice(colon + 1)]] : [];
    }),
  );
}

function faultsOf(fields: ReadonlyMap<string, string>): string[] {
  const faults: string[] = [];
  const major = Number((fields.get('redis_version') ?? '0').split('.')[0]);
  if (major < 7) {
    faults.push(`Redis ${fields.get('redis_version') ?? '?'}: at least 7, or Valkey, is needed`);
  }
  if (fields.get('redis_mode') === 'cluster') faults.push('it runs in cluster mode');
  if (fields.get('aof_enabled') !== '1')
    faults.push('appendonly is off: a restart would lose facts');
  const policy = fields.get('maxmemory_policy') ?? '?';
  if (policy !== 'noeviction') faults.push(`maxmemory-policy is ${policy}, not noeviction`);
  if (fields.get('role') !== 'master') faults.push(`it is a ${fields.get('role') ?? '?'}`);
  return faults;
}

function fenceCalls(
  ask: Ask,
  name: string,
): Pick<
  ShardLink,
  'loadScripts' | 'hasScripts' | 'writeEpochs' | 'readEpochs' | 'readIdentity' | 'writeIdentity'
> {
  return {
    loadScripts: async (incarnation) => {
      for (const script of Object.values(scriptsOf(name, incarnation))) {
        const sha = await ask((redis) => redis.script('LOAD', script.text));
        if (sha !== script.sha) throw new Error(`shard ${name} stored another script than sent`);
      }
    },
    hasScripts: async (incarnation) => {
      const shas = Object.values(scriptsOf(name, incarnation)).map((script) => script.sha);
      const known = await ask((redis) => redis.call('SCRIPT', 'EXISTS', ...shas));
      return Array.isArray(known) && known.every((one) => one === 1);
    },
    writeEpochs: async (epochs) => {
      if (epochs.size === 0) return;
      const pairs = new Map([...epochs].map(([slot, epoch]) => [String(slot), String(epoch)]));
      await ask((redis) => redis.hset(epochsKey, pairs));
    },
    readEpochs: async () => {
      const stored = await ask((redis) => redis.hgetall(epochsKey));
      return new Map(Object.entries(stored).map(([slot, epoch]) => [Number(slot), Number(epoch)]));
    },
    readIdentity: async () => {
      const stored = await ask((redis) => redis.get(identityKey));
      if (stored === null) return null;
      const colon = stored.lastIndexOf(':');
      return { name: stored.slice(0, colon), incarnation: Number(stored.slice(colon + 1)) };
    },
    writeIdentity: async (identity) => {
      await ask((redis) => redis.set(identityKey, `${identity.name}:${identity.incarnation}`));
    },
  };
}

function publishedCalls(
  ask: Ask,
  name: string,
): Pick<
  ShardLink,
  'writeMap' | 'readMap' | 'writeCatalogue' | 'readCatalogue' | 'writeWatermark' | 'readWatermark'
> {
  const readMapText = parsedOnce(parseSlotMap);
  const readCatalogueText = parsedOnce(parseCatalogue);
  return {
    writeMap: async (json) => {
      await ask((redis) => redis.set(mapKey, json));
    },
    readMap: async () => readMapText(await ask((redis) => redis.get(mapKey))),
    writeCatalogue: async (json) => {
      await ask((redis) => redis.set(catalogueKey, json));
    },
    readCatalogue: async () => readCatalogueText(await ask((redis) => redis.get(catalogueKey))),
    writeWatermark: async ({ incarnation, streamId }) => {
      await ask((redis) => redis.hset(watermarkKey, name, `${incarnation}:${streamId}`));
    },
    readWatermark: async () => parseWatermark(await ask((redis) => redis.hget(watermarkKey, name))),
  };
}

/** Gateways poll twice a second what changes once a week: the same text is not parsed again. */
function parsedOnce<T>(parse: (text: string) => T): (text: string | null) => T | null {
  let last: { readonly text: string; readonly value: T } | null = null;
  return (text) => {
    if (text === null) return null;
    if (last?.text !== text) last = { text, value: parse(text) };
    return last.value;
  };
}

/** `<incarnation>:<stream id>`, null when absent or out of form. */
function parseWatermark(text: string | null | undefined): Watermark | null {
  const match = /^(\d+):(\d+-\d+)$/.exec(text ?? '');
  if (match === null) return null;
  return { incarnation: Number(match[1]), streamId: match[2] ?? '' };
}

function streamCalls(
  ask: Ask,
  askBlocking: AskBlocking,
): Pick<ShardLink, 'readStream' | 'trimStream' | 'streamLength' | 'lastStreamId'> {
  return {
    readStream: async (afterId, count, blockMs) => {
      const reply =
        blockMs > 0
          ? await askBlocking(blockMs, (redis) =>
              redis.xread('COUNT', count, 'BLOCK', blockMs, 'STREAMS', factsKey, afterId),
            )
          : await ask((redis) => redis.xread('COUNT', count, 'STREAMS', factsKey, afterId));
      return (reply?.[0]?.[1] ?? []).map(([id, fields]) => ({ id, fact: fields[1] ?? '' }));
    },
    trimStream: (minId) => ask((redis) => redis.xtrim(factsKey, 'MINID', minId)),
    streamLength: () => ask((redis) => redis.xlen(factsKey)),
    lastStreamId: async () => {
      if ((await ask((redis) => redis.exists(factsKey))) === 0) return '0-0';
      const reply = await ask((redis) => redis.xinfo('STREAM', factsKey));
      if (!Array.isArray(reply)) return '0-0';
      const at = reply.indexOf('last-generated-id');
      return at < 0 ? '0-0' : String(reply[at + 1]);
    },
  };
}

function dueCalls(ask: Ask, name: string): Pick<ShardLink, 'dueHolds' | 'expireHold'> {
  return {
    dueHolds: async (nowMs, limit) => {
      const reply = await ask((redis) =>
        redis.zrangebyscore(dueKey, '-inf', nowMs, 'WITHSCORES', 'LIMIT', 0, limit),
      );
      const due: Due[] = [];
      for (let at = 0; at + 1 < reply.length; at += 2) {
        const [subscriberId = '', opId = ''] = (reply[at] ?? '').split('|');
        due.push({ subscriberId, opId, dueMs: Number(reply[at + 1]) });
      }
      return due;
    },
    expireHold: async ({ subscriberId, opId }, incarnation) => {
      const slot = slotOf(subscriberId);
      const [kind] = await ask(async (redis) => {
        // The keeper of this shard is its own authority on who owns the slot.
        const epoch = Number((await redis.hget(epochsKey, String(slot))) ?? 0);
        const target = { shard: name, incarnation, slot, epoch };
        return runScript(redis, 'expire', target, [subscriberId, opId]);
      });
      if (kind === 'expired' || kind === 'open' || kind === 'gone') return { kind };
      throw new Error(`expire answered out of form: ${JSON.stringify(kind)}`);
    },
  };
}
