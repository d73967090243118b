/** A gateway on a real shard before an upstream that a test can bend: everything of the request path, in one process. */
import { hash } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer } from 'node:http';
import type { IncomingMessage, Server, ServerResponse } from 'node:http';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Writable } from 'node:stream';

import { formatApiKey } from '../../billing/api-key.ts';
import type { Catalogue, CatalogueProduct, MeterRule } from '../../billing/catalogue.ts';
import type { SegmentConstraints } from '../../billing/constraints.ts';
import type { UsageFact } from '../../billing/usage-fact.ts';
import { parseFact } from '../../billing/usage-fact.ts';
import type { FleetPort } from '../../gateway/fleet-port.ts';
import { startGateway } from '../../gateway/gateway.ts';
import type { Gateway, GatewayOptions } from '../../gateway/gateway.ts';
import { createLog } from '../../gateway/log.ts';
import { openShardLink } from '../../shards/admin-client.ts';
import type { ShardLink } from '../../shards/admin-client.ts';
import { connectShards } from '../../shards/fleet.ts';
import type { Fleet } from '../../shards/fleet.ts';
import type { SubscriberState } from '../../shards/port.ts';
import { formatSlotMap } from '../../shards/slot-map.ts';
import { newId, randomBody } from '../../store/ids.ts';
import { startRedis } from '../support/redis.ts';
import type { TestRedis } from '../support/redis.ts';

export const productId = 'prod_0000000000000000000001';
const shardName = 'shard-1';
let bucketSequence = 0;

export type Subscriber = { readonly id: string; readonly key: string; readonly keyId: string };

export type Stage = {
  readonly redis: TestRedis;
  readonly link: ShardLink;
  readonly fleet: Fleet;
  readonly upstream: TestUpstream;
  readonly journalDir: string;
  gateway: Gateway;
  /** How often a shard was asked to decide. */
  readonly decisions: () => number;
  /** Everything that was logged, as text. */
  readonly logged: () => string;
  readonly url: () => string;
  /** A subscriber with a key and a subscription; `credits` in whole credits, null: the plan has none. */
  readonly subscribe: (terms?: {
    readonly credits?: number | null;
    readonly segment?: Partial<SegmentConstraints>;
    readonly keyExpiresMs?: number | null;
  }) => Promise<Subscriber>;
  readonly usage: () => Promise<UsageFact[]>;
  readonly state: (subscriber: Subscriber) => Promise<SubscriberState>;
  readonly publish: (products: readonly CatalogueProduct[]) => Promise<void>;
  /** Tells every reader that all facts are committed, as the drain does. */
  readonly commit: () => Promise<void>;
  readonly restartGateway: (options?: Partial<GatewayOptions>) => Promise<void>;
  readonly close: () => Promise<void>;
};

export type TestUpstream = {
  readonly url: string;
  readonly server: Server;
  readonly requests: IncomingMessage[];
  /** What it answers; replaced by tests. */
  handler: (request: IncomingMessage, response: ServerResponse) => void;
  readonly close: () => Promise<void>;
};

const fixed = { kind: 'fixed' } as const;
const calls: MeterRule = { meter: 'calls', estimate: 1, max_actual: null, source: fixed };
const tokens = { meter: 'tokens', estimate: 100, max_actual: 1_000 };

/** The product that tests ask for, at an upstream. */
export function productAt(
  url: string,
  overrides: Partial<CatalogueProduct> = {},
): CatalogueProduct {
  const route = (
    method: string,
    path: string,
    meters: readonly MeterRule[],
    feature = '',
  ): CatalogueProduct['routes'][number] => ({
    id: `${method} ${path}`,
    method,
    path,
    feature,
    meters,
  });
  return {
    id: productId,
    environment: 'test',
    key: 'weather',
    hosts: ['weather.test'],
    upstream_url: url,
    reports_usage: true,
    routes: [
      route('*', '/v1/*', [calls]),
      route('GET', '/v1/vip', [calls], 'vip'),
      route('*', '/v1/free', []),
      route('*', '/v1/header', [{ ...tokens, source: { kind: 'header', name: 'X-Usage' } }]),
      route('*', '/v1/json', [{ ...tokens, source: { kind: 'json', pointer: '/usage/output' } }]),
      route('*', '/v1/sse', [{ ...tokens, source: { kind: 'sse', pointer: '/usage/output' } }]),
    ],
    ...overrides,
  };
}

/**
 * Starts all of it. Close it in `after`. Decisions may take long here, as a busy machine is no failed test; what depends
 * on the real bound passes its own `decisionMs`.
 */
export async function openStage(options: Partial<GatewayOptions> = {}): Promise<Stage> {
  const redis = await startRedis();
  const link = openShardLink({ name: shardName, url: redis.url });
  await openShard(link, redis.url, 1);
  const upstream = await startUpstream();
  let catalogueVersion = 1;
  const publish = async (products: readonly CatalogueProduct[]): Promise<void> => {
    catalogueVersion += 1;
    const catalogue: Catalogue = { version: catalogueVersion, products };
    await link.writeCatalogue(JSON.stringify(catalogue));
    await refresh();
  };
  /** The first may join a poll that has read already; the second has not. */
  const refresh = async (): Promise<void> => {
    await fleet.refresh();
    await fleet.refresh();
  };
  await link.writeCatalogue(JSON.stringify({ version: 1, products: [productAt(upstream.url)] }));
  const decisionMs = options.decisionMs ?? 10_000;
  const fleet = connectShards([{ name: shardName, url: redis.url }], {
    pollMs: 25,
    connectionOptions: { commandTimeoutMs: decisionMs, connectWaitMs: decisionMs / 5 },
  });
  if (!(await fleet.awaitMap(5_000))) throw new Error('the shard published no map');
  await fleet.refresh();

  let decisions = 0;
  const counted: FleetPort = {
    ...fleet,
    shards: {
      authorize: (request) => {
        decisions += 1;
        return fleet.shards.authorize(request);
      },
      settle: (request) => fleet.shards.settle(request),
      read: (subscriberId) => fleet.shards.read(subscriberId),
    },
  };
  let logged = '';
  const log = createLog(
    { level: 'debug', name: 'test' },
    new Writable({
      write: (chunk: Buffer, _encoding, done) => {
        logged += chunk.toString();
        done();
      },
    }),
  );
  const journalDir = mkdtempSync(join(tmpdir(), 'tollbook-journal-'));
  const start = (more: Partial<GatewayOptions> = {}): Promise<Gateway> =>
    startGateway({
      host: '127.0.0.1',
      port: 0,
      journalDir,
      fleet: counted,
      log,
      drainMs: 2_000,
      decisionMs,
      ...options,
      ...more,
    });
  const stage: Stage = {
    redis,
    link,
    fleet,
    upstream,
    journalDir,
    gateway: await start(),
    decisions: () => decisions,
    logged: () => logged,
    url: () => `http://127.0.0.1:${stage.gateway.port}`,
    subscribe: (terms) => subscribe(fleet, terms),
    usage: async () => {
      const entries = await link.readStream('0-0', 100_000, 0);
      return entries.map(({ fact }) => parseFact(fact)).filter((fact) => fact.kind === 'usage');
    },
    state: async ({ id }) => {
      const state = await fleet.shards.read(id);
      if (state === null) throw new Error(`the shard knows nothing of ${id}`);
      return state;
    },
    publish,
    commit: async () => {
      await link.writeWatermark({ incarnation: 1, streamId: await link.lastStreamId() });
      await refresh();
    },
    restartGateway: async (more) => {
      await stage.gateway.close();
      stage.gateway = await start(more);
    },
    close: async () => {
      await stage.gateway.close();
      await fleet.close();
      await link.close();
      await upstream.close();
      await redis.stop();
      rmSync(journalDir, { recursive: true, force: true });
    },
  };
  return stage;
}

/** Makes a fresh Redis the owner of all slots, as the keeper does. */
export async function openShard(link: ShardLink, url: string, incarnation: number): Promise<void> {
  await link.loadScripts(incarnation);
  const slots = Array.from({ length: 4096 }, (_, slot) => slot);
  await link.writeEpochs(new Map(slots.map((slot) => [slot, 1])));
  await link.writeIdentity({ name: link.name, incarnation });
  await link.writeMap(
    formatSlotMap({
      version: incarnation,
      shards: [{ name: link.name, url, incarnation, state: 'open' }],
      owners: new Int16Array(4096),
      epochs: new Uint32Array(4096).fill(1),
    }),
  );
}

async function subscribe(
  fleet: Fleet,
  terms: {
    readonly credits?: number | null;
    readonly segment?: Partial<SegmentConstraints>;
    readonly keyExpiresMs?: number | null;
  } = {},
): Promise<Subscriber> {
  const body = randomBody(22);
  const key = formatApiKey({ environment: 'test', subscriberBody: body, secret: randomBody(43) });
  const subscriber = { id: `sbr_${body}`, key, keyId: newId('key') };
  const nowMs = Date.now();
  const { credits = null } = terms;
  const rates = ['calls', 'tokens'].map((meter) => ({ meter, microPerUnit: 1_000_000 }));
  await fleet.shards.apply({
    subscriberId: subscriber.id,
    version: 1,
    clockOffsetMs: 0,
    products: [
      {
        productId,
        subscriptionId: newId('sub'),
        segments: [
          {
            segmentId: '1',
            periodId: newId('per'),
            fromMs: nowMs - 3_600_000,
            untilMs: nowMs + 86_400_000,
            status: 'active',
            overage: false,
            features: [],
            rates: [],
            limits: [],
            credits: credits === null ? null : { unit: 'credit', rates },
            ...terms.segment,
          },
        ],
      },
    ],
    keys: [
      {
        keyId: subscriber.keyId,
        digest16: hash('sha256', key, 'buffer').subarray(0, 16).toString('base64url'),
        expiresMs: terms.keyExpiresMs ?? null,
        productIds: [],
      },
    ],
  });
  if (credits !== null && credits > 0) {
    await fleet.shards.credit({
      subscriberId: subscriber.id,
      seq: 1,
      verb: 'grant',
      bucket: {
        id: String((bucketSequence += 1)),
        unit: 'credit',
        priority: 0,
        class: 'paid',
        effectiveMs: nowMs - 1_000,
        expiresMs: null,
        scope: [],
      },
      amountMicro: credits * 1_000_000,
    });
  }
  return subscriber;
}

/** An upstream that answers `{"ok":true}` until a test replaces its handler. */
async function startUpstream(): Promise<TestUpstream> {
  const requests: IncomingMessage[] = [];
  const server = createServer((request, response) => {
    requests.push(request);
    upstream.handler(request, response);
  });
  server.keepAliveTimeout = 60_000;
  await new Promise<void>((resolve) => {
    server.listen(0, '127.0.0.1', resolve);
  });
  const address = server.address();
  if (address === null || typeof address === 'string') throw new Error('no port');
  const upstream: TestUpstream = {
    url: `http://127.0.0.1:${address.port}`,
    server,
    requests,
    handler: answerOk,
    close: async () => {
      const closed = new Promise((resolve) => server.close(resolve));
      server.closeAllConnections();
      await closed;
    },
  };
  return upstream;
}

export function answerOk(request: IncomingMessage, response: ServerResponse): void {
  request.resume();
  response.writeHead(200, { 'content-type': 'application/json', 'content-length': 11 });
  response.end('{"ok":true}');
}

/** Sends bytes as they are and gives everything that comes back until the other side closes or is silent. */
export function rawRequest(port: number, bytes: string, silenceMs = 1_500): Promise<string> {
  return new Promise((resolve) => {
    const socket = connect(port, '127.0.0.1');
    let answer = '';
    const done = (): void => {
      socket.destroy();
      resolve(answer);
    };
    socket.setTimeout(silenceMs, done);
    socket.on('data', (chunk: Buffer) => {
      answer += chunk.toString('latin1');
    });
    socket.on('error', done);
    socket.on('close', done);
    socket.write(bytes, 'latin1');
  });
}
