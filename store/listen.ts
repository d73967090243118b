/** Postgres' notifications. They are hints that save waiting: whoever listens also polls. */
import { setTimeout as sleep } from 'node:timers/promises';

import pg from 'pg';

export type Listener = { readonly close: () => Promise<void> };

/**
 * Calls `onNotify` for each notification on the channels, and once with the payload null whenever the session is new,
 * since what was said before is lost. Reconnects by itself until closed.
 */
export function listen(options: {
  readonly databaseUrl: string;
  readonly channels: readonly string[];
  readonly onNotify: (payload: string | null, channel: string | null) => void;
  readonly onTrouble: (error: unknown) => void;
}): Listener {
  const closing = new AbortController();
  const done = (async () => {
    for (let pauseMs = 250; !closing.signal.aborted; pauseMs = Math.min(pauseMs * 2, 4_000)) {
      const startedMs = performance.now();
      try {
        await listenOnce(options, closing.signal);
      } catch (error) {
        if (!closing.signal.aborted) options.onTrouble(error);
      }
      if (performance.now() - startedMs > 10_000) pauseMs = 250;
      await sleep(pauseMs, undefined, { signal: closing.signal }).catch(() => {});
    }
  })();
  return {
    close: async () => {
      closing.abort();
      await done;
    },
  };
}

async function listenOnce(
  options: Parameters<typeof listen>[0],
  signal: AbortSignal,
): Promise<void> {
  const client = new pg.Client({
    connectionString: options.databaseUrl,
    application_name: 'tollbook-listen',
    connectionTimeoutMillis: 5_000,
    keepAlive: true,
  });
  const over = Promise.withResolvers<void>();
  client.on('error', over.reject);
  client.on('end', over.resolve);
  client.on('notification', ({ channel, payload }) => {
    options.onNotify(payload ?? '', channel);
  });
  signal.addEventListener('abort', () => {
    over.resolve();
  });
  try {
    await client.connect();
    for (const channel of options.channels) {
      await client.query(`LISTEN ${client.escapeIdentifier(channel)}`);
    }
    options.onNotify(null, null);
    await over.promise;
  } finally {
    // Whoever rejects this after the race is over has nobody left to tell.
    over.promise.catch(() => {});
    await client.end().catch(() => {});
  }
}
