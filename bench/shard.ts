/**
 * What a shard costs: Redis CPU of authorize + settle, and bytes that an idle subscriber keeps, for the reference
 * subscriber (3 segments, 2 keys, 2 rates, 2 quotas, concurrency, 2 buckets, 2 meters).
 * `node bench/shard.ts [--json] [--requests 20000]`
 */
import { parseArgs } from 'node:util';

import { Redis } from 'ioredis';

import type { SubscriberConstraints } from '../billing/constraints.ts';
import { slotCount } from '../billing/slot.ts';
import { openShardLink } from '../shards/admin-client.ts';
import { createShards } from '../shards/client.ts';
import { stateKey } from '../shards/keys.ts';
import type { Shards } from '../shards/port.ts';
import { startRedis } from '../test/support/redis.ts';

const body = (kind: string, n: number): string => `${kind}_${String(n).padStart(22, '0')}`;
const digest = (n: number): string => `digest${String(n).padStart(16, '0')}`;
const monthMs = 30 * 24 * 3_600_000;

function referenceSubscriber(n: number, now: number): SubscriberConstraints {
  const segment = (index: number) => ({
    segmentId: String(1000 + 3 * n + index),
    periodId: body('per', 3 * n + index),
    fromMs: now - 3_600_000 + index * monthMs,
    untilMs: now - 3_600_000 + (index + 1) * monthMs,
    status: 'active' as const,
    overage: true,
    features: ['api', 'search'],
    rates: [
      { kind: 'rate' as const, name: 'per_second', limit: 1_000_000, windowMs: 1000 },
      { kind: 'rate' as const, name: 'per_minute', limit: 10_000_000, windowMs: 60_000 },
      { kind: 'concurrency' as const, name: 'at_once', limit: 1000 },
    ],
    limits: ['calls', 'tokens'].map((meter) => ({
      name: meter,
      level: 'subscription' as const,
      meter,
      limit: 900_000_000_000,
      hard: true,
      window: {
        kind: 'span' as const,
        fromMs: now - 3_600_000 + index * monthMs,
        untilMs: now - 3_600_000 + (index + 1) * monthMs,
      },
    })),
    credits: {
      unit: 'credit',
      rates: [
        { meter: 'calls', microPerUnit: 1000 },
        { meter: 'tokens', microPerUnit: 7 },
      ],
    },
  });
  return {
    subscriberId: body('sbr', n),
    version: 1,
    clockOffsetMs: 0,
    products: [
      {
        productId: body('prod', 1),
        subscriptionId: body('sub', n),
        segments: [segment(0), segment(1), segment(2)],
      },
    ],
    keys: [0, 1].map((k) => ({
      keyId: body('key', 2 * n + k),
      digest16: digest(2 * n + k),
      expiresMs: null,
      productIds: [],
    })),
  };
}

async function setUp(shards: Shards, n: number, now: number): Promise<void> {
  await shards.apply(referenceSubscriber(n, now));
  for (const seq of [1, 2]) {
    await shards.credit({
      subscriberId: body('sbr', n),
      seq,
      verb: 'grant',
      amountMicro: 100_000_000_000_000,
      bucket: {
        id: String(2 * n + seq),
        unit: 'credit',
        priority: seq,
        class: seq === 1 ? 'promotional' : 'paid',
        effectiveMs: now - 3_600_000,
        expiresMs: seq === 1 ? now + monthMs : null,
        scope: [],
      },
    });
  }
}

async function request(shards: Shards, n: number, op: number): Promise<void> {
  const opId = `20261121-bench0-${op.toString(36)}`;
  const estimates = [
    { meter: 'calls', quantity: 1 },
    { meter: 'tokens', quantity: 500 },
  ];
  const held = await shards.authorize({
    subscriberId: body('sbr', n),
    opId,
    digest16: digest(2 * n),
    productId: body('prod', 1),
    feature: 'api',
    ttlMs: 60_000,
    estimates,
  });
  if (held.kind !== 'ok') throw new Error(`refused: ${held.refusal.code}`);
  await shards.settle({
    subscriberId: body('sbr', n),
    opId,
    generation: held.generation,
    atMs: held.atMs,
    segmentId: held.segmentId,
    subscriptionId: held.subscriptionId,
    productId: body('prod', 1),
    keyId: held.keyId,
    verb: 'settle',
    status: 200,
    actuals: [
      { meter: 'calls', quantity: 1 },
      { meter: 'tokens', quantity: 321 },
    ],
    flags: [],
  });
}

/** Microseconds of CPU that the server has used, and of EVALSHA as it counts them itself. */
async function costs(redis: Redis): Promise<{ cpu: number; scripts: number; calls: number }> {
  const cpu = await redis.info('cpu');
  const stats = await redis.info('commandstats');
  const field = (text: string, name: string): number =>
    Number(new RegExp(`${name}[:=]([0-9.]+)`).exec(text)?.[1] ?? 0);
  const evalsha = /cmdstat_evalsha:(.*)/.exec(stats)?.[1] ?? '';
  return {
    cpu: (field(cpu, 'used_cpu_user') + field(cpu, 'used_cpu_sys')) * 1e6,
    scripts: field(evalsha, 'usec'),
    calls: field(evalsha, 'calls'),
  };
}

async function measureCpu(shards: Shards, raw: Redis, requests: number) {
  const subscribers = 100;
  for (let n = 0; n < subscribers; n++) await setUp(shards, n, Date.now());
  let op = 0;
  const run = async (count: number): Promise<void> => {
    const end = op + count;
    await Promise.all(
      Array.from({ length: 32 }, async () => {
        while (op < end) {
          op += 1;
          await request(shards, op % subscribers, op);
        }
      }),
    );
  };
  await run(2000);
  const before = await costs(raw);
  await run(requests);
  const after = await costs(raw);
  return {
    scriptMicrosPerRequest: (after.scripts - before.scripts) / requests,
    cpuMicrosPerRequest: (after.cpu - before.cpu) / requests,
  };
}

async function measureMemory(shards: Shards, raw: Redis) {
  const first = 10_000;
  const count = 2000;
  const used = async (): Promise<number> =>
    Number(/used_memory:(\d+)/.exec(await raw.info('memory'))?.[1] ?? 0);
  const before = await used();
  for (let n = first; n < first + count; n++) await setUp(shards, n, Date.now());
  const after = await used();
  const usage = await raw.memory('USAGE', stateKey(body('sbr', first)));
  return { bytesPerIdleSubscriber: (after - before) / count, bytesOfStateKey: Number(usage) };
}

const { values } = parseArgs({
  options: { json: { type: 'boolean' }, requests: { type: 'string', default: '20000' } },
});
const results: Record<string, Record<string, number>> = {};
for (const [name, settings] of [
  ['default', {}],
  ['hash-max-listpack-value 1024', { 'hash-max-listpack-value': '1024' }],
] as const) {
  const redis = await startRedis({ settings });
  const raw = new Redis(redis.url);
  const link = openShardLink({ name: 's1', url: redis.url });
  await link.loadScripts(1);
  await link.writeEpochs(new Map(Array.from({ length: slotCount }, (_, slot) => [slot, 1])));
  const shards = createShards({
    mapSource: () => ({
      version: 1,
      shards: [{ name: 's1', url: redis.url, incarnation: 1, state: 'open' }],
      owners: new Int16Array(slotCount),
      epochs: new Uint32Array(slotCount).fill(1),
    }),
    connectionOptions: { commandTimeoutMs: 10_000, connectWaitMs: 5000 },
  });
  try {
    results[name] = {
      ...(await measureCpu(shards, raw, Number(values.requests))),
      ...(await measureMemory(shards, raw)),
    };
  } finally {
    await shards.close();
    await link.close();
    raw.disconnect();
    await redis.stop();
  }
}
if (values.json === true) console.log(JSON.stringify(results));
else {
  for (const [name, figures] of Object.entries(results)) {
    console.log(name);
    for (const [figure, value] of Object.entries(figures)) {
      console.log(`  ${figure.padEnd(26)} ${value.toFixed(1)}`);
    }
  }
  console.log('targets: authorize + settle ≤ 120 µs (goal 60), ≤ 2048 bytes an idle subscriber');
}
