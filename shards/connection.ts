/**
 * A connection of the keeper to one shard (requests go through `pipe.ts`), set so that nothing is ever sent twice. With ioredis' defaults a script whose reply was
 * lost runs again after the reconnect (measured: 1000 − 10 → 980); turning only the resending off leaves the promise
 * pending for ever. The three settings together reject once and execute once.
 */
import { Redis } from 'ioredis';

import { NotConnected } from './pipe.ts';
import { ShardUnavailable } from './port.ts';

export type ConnectionOptions = {
  /** A command without an answer for so long is given up; it may still run. Default 200. */
  readonly commandTimeoutMs?: number;
  /** How long a call may wait for a connection that is being made. Default 40: the hot path answers within 250 ms. */
  readonly connectWaitMs?: number;
};

export const commandTimeoutMsDefault = 200;
export const connectWaitMsDefault = 40;
const reconnectMsMax = 1000;
const silenceMsMax = 5000;

/** Opens a connection in the background; it reconnects by itself, with jitter, until `disconnect()`. */
export function openConnection(url: string, commandTimeoutMs: number | null): Redis {
  const redis = new Redis(url, {
    maxRetriesPerRequest: 0,
    autoResendUnfulfilledCommands: false,
    enableOfflineQueue: false,
    connectTimeout: 2000,
    // A server that went away without a word leaves the socket open: nothing heard for so long ends it.
    ...(commandTimeoutMs === null
      ? {}
      : { commandTimeout: commandTimeoutMs, socketTimeout: silenceMsMax }),
    retryStrategy: (attempt) =>
      Math.min(25 * 2 ** Math.min(attempt, 6), reconnectMsMax) * (0.5 + Math.random()),
  });
  // Each call reports its own failure; without a listener ioredis would print to stderr.
  redis.on('error', () => {});
  return redis;
}

/** Resolves when the connection is ready, or after `waitMs`, whatever comes first; the command then tells. */
export async function awaitReady(redis: Redis, waitMs: number): Promise<void> {
  if (redis.status === 'ready' || waitMs <= 0) return;
  await new Promise<void>((resolve) => {
    const done = (): void => {
      clearTimeout(timer);
      redis.off('ready', done);
      resolve();
    };
    const timer = setTimeout(done, waitMs);
    redis.on('ready', done);
  });
}

/** Refusals that Redis gives before a script's first line, or on the way to it: certainly without effect. */
const withoutEffect =
  /^(NOSCRIPT|READONLY|OOM|MISCONF|NOREPLICAS|LOADING|BUSY|MASTERDOWN|NOAUTH|WRONGPASS|NOPERM|CLUSTERDOWN)\b|Stream isn't writeable/;

/** What a rejected command means to the caller. Anything not known to be harmless may have run. */
export function unavailable(shard: string, cause: unknown): ShardUnavailable {
  const message = cause instanceof Error ? cause.message : String(cause);
  const isHarmless = cause instanceof NotConnected || withoutEffect.test(message);
  const outcome = isHarmless ? 'not_sent' : 'unknown';
  return new ShardUnavailable(shard, outcome, `shard ${shard}: ${message}`, { cause });
}
