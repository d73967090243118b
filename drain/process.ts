/**
 * The drain: everything between Postgres and the shards, as one process. Any number of them may run; for each shard, and
 * for what is told to the shards, one of them is active and the others stand by (`store/standby.ts`).
 */
import type { Logger } from 'pino';

import { openShardLink, type ShardLink } from '../shards/admin-client.ts';
import { createShards } from '../shards/client.ts';
import { openDb, type Db } from '../store/db.ts';
import { listen } from '../store/listen.ts';
import { requireSchema } from '../store/migrate.ts';
import { readShards, registerShards } from '../store/slots.ts';
import { runWhenLeader } from '../store/standby.ts';
import { isDrained } from '../store/usage.ts';
import { runDrainer } from './drainer.ts';
import { makeMetrics, serveHealth, type Metrics } from './health.ts';
import { startIngest } from './ingest.ts';
import { startKeeper, type Keeper } from './keeper.ts';
import { startProjector } from './projector.ts';
import { startPublisher } from './publisher.ts';
import { openShardMap } from './shard-map.ts';
import { startSweeper } from './sweeper.ts';

export type DrainOptions = {
  readonly databaseUrl: string;
  readonly shards: readonly { readonly name: string; readonly url: string }[];
  readonly host: string;
  /** 0: a free one; `port` of the process tells. */
  readonly port: number;
  readonly log: Logger;
  /** False leaves external events to somebody else; for tests. */
  readonly isIngesting?: boolean;
};

export type DrainProcess = {
  readonly port: number;
  /** Ends after the work in hand; shards stay open, and another process may take over at once. */
  readonly stop: () => Promise<void>;
};

/** Starts the drain. Throws when the schema is another release's, or the port is taken. */
export async function startDrain(options: DrainOptions): Promise<DrainProcess> {
  const { databaseUrl, log } = options;
  const db = openDb(databaseUrl, { poolMax: 16, name: 'tollbook-drain' });
  const stopping = new AbortController();
  const links: ShardLink[] = [];
  try {
    await requireSchema(db);
    const { orphaned } = await registerShards(db, options.shards);
    for (const shard of orphaned) {
      log.warn(
        { shard },
        'a shard owns slots but is not configured: it is kept at its last address',
      );
    }
    const known = await readShards(db);
    links.push(...known.map(({ name, url }) => openShardLink({ name, url })));
    const process: Running = { ...options, db, links, keepers: new Map(), metrics: makeMetrics() };
    const server = await serveHealth(process);
    const roles = [
      ...links.map((link) =>
        lead(process, `shard:${link.name}`, stopping.signal, (signal) =>
          keep(process, link, signal),
        ),
      ),
      lead(process, 'projector', stopping.signal, (signal) => tellShards(process, signal)),
    ];
    return {
      port: server.port,
      stop: async () => {
        stopping.abort();
        await Promise.all(roles);
        await server.close();
        await release(db, links);
      },
    };
  } catch (error) {
    stopping.abort();
    await release(db, links);
    throw error;
  }
}

async function release(db: Db, links: readonly ShardLink[]): Promise<void> {
  await Promise.all(links.map((link) => link.close()));
  await db.destroy();
}

type Running = DrainOptions & {
  readonly db: Db;
  readonly links: readonly ShardLink[];
  /** Of the shards that this process keeps. */
  readonly keepers: Map<string, Keeper>;
  readonly metrics: Metrics;
};

async function lead(
  { databaseUrl, log }: Running,
  name: string,
  signal: AbortSignal,
  work: (signal: AbortSignal) => Promise<void>,
): Promise<void> {
  const onTrouble = (error: unknown): void => {
    log.warn({ role: name, err: error }, 'a role was lost, and is taken up again');
  };
  await runWhenLeader({ databaseUrl, name, onTrouble }, signal, async (led) => {
    log.info({ role: name }, 'this process is active');
    await work(led);
  });
}

/** One shard: open, drained and swept. */
async function keep(running: Running, link: ShardLink, signal: AbortSignal): Promise<void> {
  const { db, databaseUrl, log, metrics, keepers } = running;
  const shard = link.name;
  const keeper = startKeeper({
    db,
    link,
    log,
    startDrainer: (incarnation) => runDrainer({ db, databaseUrl, link, shard, incarnation, log }),
  });
  keepers.set(shard, keeper);
  const sweeper = startSweeper({
    link,
    log,
    incarnation: () => {
      const now = keeper.status();
      return now.state === 'open' ? now.incarnation : null;
    },
    onSwept: (kind) => {
      metrics.swept.inc({ shard, kind });
    },
  });
  await untilAborted(signal);
  await sweeper.stop();
  await keeper.stop();
  keepers.delete(shard);
}

/** Postgres → all shards: subscribers' state, usage from outside, map and catalogue. */
async function tellShards(running: Running, signal: AbortSignal): Promise<void> {
  const { db, databaseUrl, links, log } = running;
  const map = await openShardMap(db);
  const shards = createShards({
    mapSource: map.current,
    refreshMap: async () => {
      await map.refresh();
    },
    // Nobody waits here for 250 ms: rather an answer than an unknown outcome.
    connectionOptions: { commandTimeoutMs: 2_000, connectWaitMs: 1_000 },
  });
  const projector = startProjector({ db, shards, map, log });
  const ingest =
    running.isIngesting === false
      ? null
      : startIngest({ db, shards, map, log, isCaughtUp: caughtUp(running) });
  const publisher = startPublisher({ db, map, links, log });
  const listener = listen({
    databaseUrl,
    channels: ['tollbook_projector', 'tollbook_ingest'],
    onNotify: (payload, channel) => {
      if (channel !== 'tollbook_projector') ingest?.wake();
      if (channel === 'tollbook_ingest') return;
      if (payload?.startsWith('sbr_') === true) {
        projector.wake(payload);
        return;
      }
      publisher.wake();
      projector.wake(null);
    },
    onTrouble: (error) => {
      log.warn({ err: error }, 'no notifications from Postgres: it is asked instead');
    },
  });
  await untilAborted(signal);
  await listener.close();
  await Promise.all([projector.stop(), ingest?.stop(), publisher.stop()]);
  await shards.close();
}

function caughtUp({ db, links }: Running): (shard: string) => Promise<boolean> {
  return async (shard) => {
    const link = links.find(({ name }) => name === shard);
    if (link === undefined) throw new Error(`shard ${shard} is not known to this process`);
    const known = (await readShards(db)).find(({ name }) => name === shard);
    const streamId = await link.lastStreamId();
    return isDrained(db, { shard, incarnation: known?.incarnation ?? 0, streamId });
  };
}

function untilAborted(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve();
    signal.addEventListener('abort', () => {
      resolve();
    });
  });
}
