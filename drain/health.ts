/** What the drain says of itself: `/healthz` (it lives), `/readyz` (every shard serves, or which does not), `/metrics`. */
import { createServer, type Server, type ServerResponse } from 'node:http';

import type { Logger } from 'pino';
import { collectDefaultMetrics, Counter, Gauge, Registry } from 'prom-client';

import type { ShardLink } from '../shards/admin-client.ts';
import type { Db } from '../store/db.ts';
import { countUncounted } from '../store/external-events.ts';
import { countLagging } from '../store/projection.ts';
import { readShards } from '../store/slots.ts';
import { countParked } from '../store/stream-cursors.ts';
import type { Keeper } from './keeper.ts';

export type HealthDeps = {
  readonly host: string;
  readonly port: number;
  readonly db: Db;
  readonly links: readonly ShardLink[];
  /** Of the shards that this process keeps. */
  readonly keepers: ReadonlyMap<string, Keeper>;
  readonly metrics: Metrics;
  readonly log: Logger;
};

/** Listens. Rejects when the port is taken. */
export async function serveHealth(
  running: HealthDeps,
): Promise<{ readonly port: number; readonly close: () => Promise<void> }> {
  const server = createServer((request, response) => {
    const answering = answer(running, request.url ?? '/', response);
    answering.catch((error: unknown) => {
      running.log.warn({ err: error }, 'a question about health could not be answered');
      if (!response.headersSent) response.writeHead(503);
      response.end();
    });
  });
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(running.port, running.host, resolve);
  });
  return {
    port: portOf(server),
    close: async () => {
      await new Promise((resolve) => {
        server.close(resolve);
        server.closeAllConnections();
      });
    },
  };
}

function portOf(server: Server): number {
  const address = server.address();
  return typeof address === 'object' && address !== null ? address.port : 0;
}

async function answer(running: HealthDeps, path: string, response: ServerResponse): Promise<void> {
  if (path === '/healthz') {
    response.writeHead(200, { 'content-type': 'text/plain' }).end('ok\n');
  } else if (path === '/readyz') {
    const missing = await readMissing(running);
    const body = missing.length === 0 ? { ready: true } : { ready: false, missing };
    response
      .writeHead(missing.length === 0 ? 200 : 503, { 'content-type': 'application/json' })
      .end(`${JSON.stringify(body)}\n`);
  } else if (path === '/metrics') {
    await measure(running);
    const { registry } = running.metrics;
    response.writeHead(200, { 'content-type': registry.contentType }).end(await registry.metrics());
  } else {
    response.writeHead(404, { 'content-type': 'text/plain' }).end('not found\n');
  }
}

/**
 * Shards that do not serve, and why, as far as this process knows. Postgres may say `open` of a shard that has restarted
 * a moment ago, so each is asked itself. A standby is ready when the active process has done all.
 */
async function readMissing({ db, keepers, links }: HealthDeps): Promise<readonly Missing[]> {
  const shards = await readShards(db);
  const answers = shards.map(async ({ name, state, incarnation }): Promise<Missing | null> => {
    const own = keepers.get(name)?.status();
    if (own !== undefined && own.state !== 'open') {
      return { shard: name, state: own.state, reason: own.reason };
    }
    if (state !== 'open') return { shard: name, state, reason: 'not opened yet' };
    try {
      const serves = await links.find((link) => link.name === name)?.hasScripts(incarnation);
      return serves === true ? null : { shard: name, state: 'recovering', reason: 'it restarted' };
    } catch (error) {
      const reason = error instanceof Error ? error.message : String(error);
      return { shard: name, state: 'away', reason };
    }
  });
  return (await Promise.all(answers)).filter((missing) => missing !== null);
}
type Missing = { readonly shard: string; readonly state: string; readonly reason: string };

export type Metrics = {
  readonly registry: Registry;
  readonly open: Gauge<'shard'>;
  readonly incarnation: Gauge<'shard'>;
  readonly streamEntries: Gauge<'shard'>;
  readonly lagSeconds: Gauge<'shard'>;
  readonly backlog: Gauge;
  readonly uncounted: Gauge;
  readonly parked: Gauge;
  readonly swept: Counter<'shard' | 'kind'>;
};

export function makeMetrics(): Metrics {
  const registry = new Registry();
  collectDefaultMetrics({ register: registry });
  const perShard = (name: string, help: string): Gauge<'shard'> =>
    new Gauge({ name: `tollbook_${name}`, help, labelNames: ['shard'], registers: [registry] });
  const gauge = (name: string, help: string): Gauge =>
    new Gauge({ name: `tollbook_${name}`, help, registers: [registry] });
  return {
    registry,
    open: perShard('shard_open', '1 while the shard serves'),
    incarnation: perShard('shard_incarnation', 'The incarnation that was opened last'),
    streamEntries: perShard('stream_entries', 'Usage facts on the shard that are not in Postgres'),
    lagSeconds: perShard('drain_lag_seconds', 'Age of the oldest usage fact not in Postgres'),
    backlog: gauge('projector_backlog', 'Subscribers whose shard lags behind Postgres'),
    uncounted: gauge('external_events_uncounted', 'External events that no shard has counted yet'),
    parked: gauge('parked_facts', 'Usage facts put aside because they could not be posted'),
    swept: new Counter({
      name: 'tollbook_holds_swept_total',
      help: 'Due holds and credits that the sweeper asked to be ended, by what the shard said',
      labelNames: ['shard', 'kind'],
      registers: [registry],
    }),
  };
}

/** Brings the gauges up to date. A shard that is away keeps the last figures of its stream, and is not open. */
async function measure({ db, links, metrics, keepers }: HealthDeps): Promise<void> {
  metrics.backlog.set(await countLagging(db));
  metrics.uncounted.set(await countUncounted(db));
  metrics.parked.set(await countParked(db));
  for (const { name, state, incarnation } of await readShards(db)) {
    const isOpen = state === 'open' && (keepers.get(name)?.status().state ?? 'open') === 'open';
    metrics.open.set({ shard: name }, isOpen ? 1 : 0);
    metrics.incarnation.set({ shard: name }, incarnation);
  }
  await Promise.all(
    links.map(async (link) => {
      const labels = { shard: link.name };
      try {
        metrics.streamEntries.set(labels, await link.streamLength());
        // Committed entries are trimmed, so the first one is the oldest that is not.
        const [oldest] = await link.readStream('0-0', 1, 0);
        const bornMs = Number(oldest?.id.split('-')[0]);
        const lagMs = oldest === undefined ? 0 : (await link.clockMs()) - bornMs;
        metrics.lagSeconds.set(labels, Math.max(0, lagMs) / 1000);
      } catch {
        metrics.open.set(labels, 0);
      }
    }),
  );
}
