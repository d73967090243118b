/**
 * The gateway, exact on a real shard, beside two proxies that check nothing: `npm run bench -- gateway [--json]
 * [--rounds 3] [--seconds 4] [--variants bare,hpm,exact]`. The variants take turns in one run, since a machine drifts by more than they differ. The process
 * under test has core 0 to itself; load, upstream and Redis share core 1. A sample is void when the process did not
 * have 93 % of its core, or when the other core was full: then something else was measured.
 */
import type { ChildProcess } from 'node:child_process';
import { hash } from 'node:crypto';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';

import { formatApiKey } from '../billing/api-key.ts';
import { openShardLink } from '../shards/admin-client.ts';
import { createShards } from '../shards/client.ts';
import type { SlotMap } from '../shards/port.ts';
import { formatSlotMap } from '../shards/slot-map.ts';
import { freePort } from '../test/support/ports.ts';
import { startRedis } from '../test/support/redis.ts';
import { load } from './load.ts';
import type { Load } from './load.ts';
import { busyShare, coreTimes, cpuMicros, findProgram, spawnOn } from './machine.ts';

const { values } = parseArgs({
  options: {
    json: { type: 'boolean', default: false },
    rounds: { type: 'string', default: '3' },
    seconds: { type: 'string', default: '4' },
    variants: { type: 'string', default: 'bare,hpm,exact' },
  },
});
const rounds = Number(values.rounds);
const seconds = Number(values.seconds);
const gatewayShareMin = 0.93;
const otherShareMax = 0.97;
/** As the stack starts its gateways; the proxies beside it have the same. */
const nodeFlags = ['--max-semi-space-size=32'];

const body = JSON.stringify({ text: 'x'.repeat(509) });

type Variant = 'bare' | 'hpm' | 'exact';
const variants = (['bare', 'hpm', 'exact'] as const).filter((variant) =>
  values.variants.split(',').includes(variant),
);

type Sample = Load & {
  readonly variant: Variant;
  readonly rps: number;
  readonly cpuMicros: number | null;
  readonly redisMicros: number | null;
  readonly gatewayShare: number | null;
  readonly otherShare: number | null;
  readonly isVoid: boolean;
};

const folder = mkdtempSync(join(tmpdir(), 'tollbook-bench-'));
const started: ChildProcess[] = [];
const redis = await startRedis();
pin(redis.pid());
const link = openShardLink({ name: 'shard-1', url: redis.url });
try {
  const result = await run();
  print(result);
} finally {
  for (const child of started) {
    child.kill('SIGTERM');
    if (child.exitCode === null) await Promise.race([once(child, 'exit'), sleep(3_000)]);
    child.kill('SIGKILL');
  }
  await link.close();
  await redis.stop();
  rmSync(folder, { recursive: true, force: true });
}

async function run(): Promise<readonly Sample[]> {
  const upstream = await startUpstream();
  const key = await openShard(upstream);
  const urls = {
    bare: await startPassthrough('bare', upstream),
    hpm: await startPassthrough('hpm', upstream),
    exact: await startGateway(),
  };
  for (const variant of variants) await sample(variant, urls[variant], key, 2);
  const samples: Sample[] = [];
  for (let round = 0; round < rounds; round += 1) {
    for (const variant of variants)
      samples.push(await sample(variant, urls[variant], key, seconds));
  }
  return samples;
}

type Started = { readonly url: string; readonly pid: number };

async function sample(
  variant: Variant,
  { url, pid }: Started,
  key: string,
  forSeconds: number,
): Promise<Sample> {
  const before = { cores: coreTimes(), cpu: cpuMicros(pid), redis: cpuMicros(redis.pid()) };
  const done = await load(url, forSeconds, { 'X-API-Key': key });
  const after = { cores: coreTimes(), cpu: cpuMicros(pid), redis: cpuMicros(redis.pid()) };
  // As the drain would: what is committed is trimmed here and forgotten by the gateway.
  const last = await link.lastStreamId();
  await link.writeWatermark({ incarnation: 1, streamId: last });
  await link.trimStream(last);
  const used = difference(before.cpu, after.cpu);
  const gatewayShare = used === null ? null : used / (done.seconds * 1e6);
  const otherShare = busyShare(before.cores, after.cores, 1);
  const redisUsed = difference(before.redis, after.redis);
  return {
    ...done,
    variant,
    rps: done.requests / done.seconds,
    cpuMicros: used === null ? null : used / done.requests,
    redisMicros: redisUsed === null ? null : redisUsed / done.requests,
    gatewayShare,
    otherShare,
    isVoid:
      done.failures > 0 ||
      (gatewayShare !== null && gatewayShare < gatewayShareMin) ||
      (otherShare !== null && otherShare > otherShareMax),
  };
}

function difference(before: number | null, after: number | null): number | null {
  return before === null || after === null ? null : after - before;
}

async function startPassthrough(kind: 'bare' | 'hpm', upstream: string): Promise<Started> {
  const port = await freePort();
  const file = join(import.meta.dirname, 'passthrough.ts');
  const child = spawnOn(0, [process.execPath, ...nodeFlags, file, kind, String(port), upstream]);
  return listening(child, `http://127.0.0.1:${port}/v1/call`);
}

async function startGateway(): Promise<Started> {
  const port = await freePort();
  const file = join(import.meta.dirname, '..', 'bin', 'gateway.ts');
  const child = spawnOn(0, [process.execPath, ...nodeFlags, file], {
    env: {
      GATEWAY_PORT: String(port),
      GATEWAY_NAME: 'bench',
      JOURNAL_DIR: join(folder, 'journal'),
      SHARDS: `shard-1=${redis.url}`,
      LOG_LEVEL: 'warn',
    },
    isQuiet: false,
  });
  await listening(child, `http://127.0.0.1:${port}/readyz`);
  return { url: `http://127.0.0.1:${port}/bench/v1/call`, pid: child.pid ?? 0 };
}

async function listening(child: ChildProcess, url: string): Promise<Started> {
  started.push(child);
  for (let attempt = 0; attempt < 100; attempt += 1) {
    try {
      const answer = await fetch(url);
      await answer.text();
      if (answer.status === 503) throw new Error('not ready');
      // taskset becomes the program itself: the pid stays.
      return { url, pid: child.pid ?? 0 };
    } catch {
      await sleep(100);
    }
  }
  throw new Error(`nothing listens at ${url}`);
}

/** nginx where there is one: an upstream that costs less than what it is asked by. */
async function startUpstream(): Promise<string> {
  const port = await freePort();
  const nginx = findProgram('nginx');
  if (nginx === null) {
    const file = join(folder, 'upstream.mjs');
    writeFileSync(
      file,
      `import { createServer } from 'node:http';
       const body = ${JSON.stringify(body)};
       createServer((q, r) => { r.writeHead(200, { 'Content-Type': 'application/json', 'Content-Length': body.length }); r.end(body); })
         .listen(${port}, '127.0.0.1');`,
    );
    return (await listening(spawnOn(1, [process.execPath, file]), `http://127.0.0.1:${port}`)).url;
  }
  writeFileSync(
    join(folder, 'nginx.conf'),
    `daemon off; master_process off; pid ${folder}/nginx.pid; error_log ${folder}/error.log;
     events { worker_connections 1024; }
     http { access_log off; keepalive_requests 100000000; client_body_temp_path ${folder}/b;
       proxy_temp_path ${folder}/p; fastcgi_temp_path ${folder}/f; uwsgi_temp_path ${folder}/u; scgi_temp_path ${folder}/s;
       server { listen 127.0.0.1:${port}; location / { default_type application/json; return 200 '${body}'; } } }`,
  );
  const child = spawnOn(1, [nginx, '-p', folder, '-c', join(folder, 'nginx.conf')]);
  return (await listening(child, `http://127.0.0.1:${port}`)).url;
}

/** One shard that owns all slots, one product, one subscriber as busy plans have them. Gives the key. */
async function openShard(upstream: string): Promise<string> {
  const productId = 'prod_000000000000000000bench';
  const id = productId.slice(0, 27);
  const map: SlotMap = {
    version: 1,
    shards: [{ name: 'shard-1', url: redis.url, incarnation: 1, state: 'open' }],
    owners: new Int16Array(4096),
    epochs: new Uint32Array(4096).fill(1),
  };
  await link.loadScripts(1);
  await link.writeEpochs(new Map(Array.from({ length: 4096 }, (_, slot) => [slot, 1])));
  await link.writeIdentity({ name: 'shard-1', incarnation: 1 });
  await link.writeMap(formatSlotMap(map));
  await link.writeCatalogue(
    JSON.stringify({
      version: 1,
      products: [
        {
          id,
          environment: 'test',
          key: 'bench',
          hosts: [],
          upstream_url: upstream,
          reports_usage: false,
          routes: [
            {
              id: 'r',
              method: 'GET',
              path: '/v1/call',
              feature: '',
              meters: [
                { meter: 'calls', estimate: 1, max_actual: null, source: { kind: 'fixed' } },
              ],
            },
          ],
        },
      ],
    }),
  );
  const subscriberBody = '0'.repeat(22);
  const key = formatApiKey({ environment: 'test', subscriberBody, secret: 'B'.repeat(43) });
  const nowMs = Date.now();
  const untilMs = nowMs + 30 * 86_400_000;
  const window = { kind: 'span', fromMs: nowMs - 1000, untilMs } as const;
  const shards = createShards({ mapSource: () => map });
  const subscriberId = `sbr_${subscriberBody}`;
  await shards.apply({
    subscriberId,
    version: 1,
    clockOffsetMs: 0,
    products: [
      {
        productId: id,
        subscriptionId: `sub_${subscriberBody}`,
        segments: [
          {
            segmentId: '1',
            periodId: `per_${subscriberBody}`,
            fromMs: nowMs - 1000,
            untilMs,
            status: 'active',
            overage: false,
            features: ['api'],
            rates: [
              { kind: 'rate', name: 'second', limit: 1_000_000, windowMs: 1_000 },
              { kind: 'concurrency', name: 'at_once', limit: 10_000 },
            ],
            limits: [
              {
                name: 'month',
                level: 'subscription',
                meter: 'calls',
                limit: 1e12,
                hard: true,
                window,
              },
            ],
            credits: { unit: 'credit', rates: [{ meter: 'calls', microPerUnit: 1 }] },
          },
        ],
      },
    ],
    keys: [
      {
        keyId: `key_${subscriberBody}`,
        digest16: hash('sha256', key, 'buffer').subarray(0, 16).toString('base64url'),
        expiresMs: null,
        productIds: [],
      },
    ],
  });
  await shards.credit({
    subscriberId,
    seq: 1,
    verb: 'grant',
    bucket: {
      id: '1',
      unit: 'credit',
      priority: 0,
      class: 'paid',
      effectiveMs: nowMs - 1000,
      expiresMs: null,
      scope: [],
    },
    amountMicro: 1e12,
  });
  await shards.close();
  return key;
}

function print(samples: readonly Sample[]): void {
  const rows = variants.map((variant) => {
    const all = samples.filter((one) => one.variant === variant);
    const valid = all.filter(({ isVoid }) => !isVoid);
    // Figures of void samples are shown when there are no others, and said to be void.
    const used = valid.length === 0 ? all : valid;
    return {
      variant,
      samples: all.length,
      void: all.length - valid.length,
      rps: median(used.map(({ rps }) => rps)),
      cpu_us: median(used.flatMap(({ cpuMicros: cpu }) => cpu ?? [])),
      redis_us:
        variant === 'exact' ? median(used.flatMap(({ redisMicros }) => redisMicros ?? [])) : null,
      p99_ms: median(used.map(({ p99Ms }) => p99Ms)),
      core0: median(used.flatMap(({ gatewayShare }) => gatewayShare ?? [])),
      core1: median(used.flatMap(({ otherShare }) => otherShare ?? [])),
    };
  });
  const by = (variant: Variant): (typeof rows)[number] | undefined =>
    rows.find((row) => row.variant === variant);
  const ratio = (a: number | null | undefined, b: number | null | undefined): number | null =>
    a === null || a === undefined || b === null || b === undefined ? null : a / b;
  const result = {
    rows,
    exact_by_hpm: ratio(by('exact')?.rps, by('hpm')?.rps),
    exact_by_bare: ratio(by('exact')?.rps, by('bare')?.rps),
    // CPU a request does not depend on who else was on the core: the steadier of the two.
    hpm_cpu_by_exact_cpu: ratio(by('hpm')?.cpu_us, by('exact')?.cpu_us),
    target: 1.3,
    all_valid: rows.every((row) => row.void < row.samples),
  };
  if (values.json) {
    console.log(JSON.stringify(result));
    return;
  }
  const show = (value: number | null, digits: number): string => value?.toFixed(digits) ?? '-';
  console.log('variant  rps     CPU µs/req  Redis µs/req  p99 ms  core 0  core 1  void');
  for (const row of rows) {
    console.log(
      [
        row.variant.padEnd(7),
        show(row.rps, 0).padEnd(6),
        show(row.cpu_us, 1).padEnd(10),
        show(row.redis_us, 1).padEnd(12),
        show(row.p99_ms, 1).padEnd(6),
        show(row.core0, 2).padEnd(6),
        show(row.core1, 2).padEnd(6),
        `${row.void} of ${row.samples}`,
      ].join('  '),
    );
  }
  console.log(
    `exact ÷ hpm ${show(result.exact_by_hpm, 2)} (target ${result.target}) · exact ÷ bare ${show(result.exact_by_bare, 2)} · CPU hpm ÷ exact ${show(result.hpm_cpu_by_exact_cpu, 2)}${result.all_valid ? '' : ' · NOT VALID: a variant has void samples only'}`,
  );
}

function median(numbers: readonly number[]): number | null {
  const sorted = numbers.toSorted((a, b) => a - b);
  return sorted[Math.floor(sorted.length / 2)] ?? null;
}

function pin(pid: number): void {
  if (findProgram('taskset') !== null) spawnOn(1, ['taskset', '-apc', '1', String(pid)]);
}
