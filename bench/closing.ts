/**
 * Subscriptions that close at one instant: `npm run bench -- closing [--json] [--subscriptions 1000] [--lead SECONDS]
 * [--free]`. The real stack in processes of its own: Postgres, three shards, Temporal's dev server, drain, worker. Before
 * and after, the same number of empty workflows of eight activities each run through the same server: what the engine
 * costs; its CPU a renewal can be compared between machines that do something else as well, its pace cannot. With
 * `--free` nothing is due; else every invoice is collected while the others are still being issued.
 */
import { fileURLToPath } from 'node:url';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';

import { Client, Connection } from '@temporalio/client';
import { bundleWorkflowCode, NativeConnection, Worker } from '@temporalio/worker';

import { startWorkflowWith } from '../bin/worker-parts/start-workflow.ts';
import { type Db, openDb } from '../store/db.ts';
import { selectRow, selectRows } from '../store/query.ts';
import { quietRuntime } from '../test/workflows/support/rig.ts';
import { startTestStack } from '../test/support/stack.ts';
import { workflowIds } from '../workflows/contracts.ts';
import { type Actions, countActions, sumActions, totalOf } from './actions.ts';
import { median, quantile } from './figures.ts';
import { cpuMicros } from './machine.ts';
import { seedWorld, subscribe } from './world.ts';

const HOUR_MS = 3_600_000;
const AT_ONCE = 40;
const COUNTED_CLOSES = 5;
const NAMESPACE = 'default';
const WORKER_ACTIVITIES_MAX = 20;
const WORKER_CACHED_MAX = 500;
const STUCK_MS = 60_000;

const { values } = parseArgs({
  options: {
    json: { type: 'boolean', default: false },
    subscriptions: { type: 'string', default: '1000' },
    /** Seconds from the first subscription to the instant; absent: enough for a slow machine. */
    lead: { type: 'string' },
    free: { type: 'boolean', default: false },
  },
});
const count = Number(values.subscriptions);
const leadSeconds = Number(values.lead ?? 45 + count * 0.15);
const say = (line: string): void => {
  if (!values.json) console.log(line);
};

type Closing = {
  readonly lagsMs: readonly number[];
  /** Of the engine, for one renewal from its boundary to its payment. */
  readonly cpuMs: number | null;
  readonly actions: ReadonlyMap<string, Actions>;
};

const silent = {
  log: () => undefined,
  trace: () => undefined,
  debug: () => undefined,
  info: () => undefined,
  warn: () => undefined,
  error: () => undefined,
};

quietRuntime();
say('starting the stack');
const stack = await startTestStack({ isSeeded: false, gateways: 1 });
const db = openDb(stack.environment['DATABASE_URL'] ?? '', { name: 'tollbook-bench', poolMax: 8 });
const address = stack.environment['TEMPORAL_ADDRESS'] ?? '';
const connection = await Connection.connect({ address });
const native = await NativeConnection.connect({ address });
const client = new Client({ connection, namespace: NAMESPACE });
for (const signal of ['SIGINT', 'SIGTERM'] as const) {
  process.once(signal, () => {
    void stack.stop().then(() => process.exit(1));
  });
}
try {
  const before = await emptyWorkflows();
  say(`${count} empty workflows: ${before.perSecond.toFixed(1)}/s`);
  const closing = await closeAll();
  const after = await emptyWorkflows();
  say(`${count} empty workflows: ${after.perSecond.toFixed(1)}/s`);
  print(closing, [before, after]);
} finally {
  await native.close();
  await connection.close();
  await db.destroy();
  await stack.stop();
}

/** CPU of the engine so far; null where it cannot be known. */
function engineMs(): number | null {
  const pid = stack.pidOf('temporal');
  const micros = pid === null ? null : cpuMicros(pid);
  return micros === null ? null : micros / 1000;
}

/** Of one of `count`, since that reading. */
function engineMsSince(before: number | null): number | null {
  const now = engineMs();
  return before === null || now === null ? null : (now - before) / count;
}

type Empty = { readonly perSecond: number; readonly cpuMs: number | null };

/** Workflows a second, from the first start to the last activity of the last one. */
async function emptyWorkflows(): Promise<Empty> {
  const cpuBefore = engineMs();
  const done = Promise.withResolvers<void>();
  let left = count;
  const workflowBundle = await bundleWorkflowCode({
    workflowsPath: fileURLToPath(new URL('empty-workflow.ts', import.meta.url)),
    logger: silent,
  });
  const common = { connection: native, namespace: NAMESPACE } as const;
  const workers = await Promise.all([
    Worker.create({
      ...common,
      taskQueue: 'bench-workflows',
      workflowBundle,
      maxCachedWorkflows: WORKER_CACHED_MAX,
    }),
    Worker.create({
      ...common,
      taskQueue: 'bench-activities',
      maxConcurrentActivityTaskExecutions: WORKER_ACTIVITIES_MAX,
      activities: {
        step: () => Promise.resolve(),
        last: () => {
          left -= 1;
          if (left === 0) done.resolve();
          return Promise.resolve();
        },
      },
    }),
  ]);
  const running = Promise.all(workers.map((worker) => worker.run()));
  running.catch(done.reject);
  const begun = performance.now();
  await each(Array.from({ length: count }), async (_, index) => {
    await client.workflow.start('emptyWorkflow', {
      workflowId: `empty/${begun.toString(36)}/${index}`,
      taskQueue: 'bench-workflows',
    });
  });
  await done.promise;
  const perSecond = count / ((performance.now() - begun) / 1000);
  for (const worker of workers) worker.shutdown();
  await running;
  return { perSecond, cpuMs: engineMsSince(cpuBefore) };
}

async function each<T>(
  items: readonly T[],
  work: (item: T, index: number) => Promise<void>,
): Promise<void> {
  const queue = items.map((item, index) => ({ item, index }));
  await Promise.all(
    Array.from({ length: AT_ONCE }, async () => {
      for (let next = queue.shift(); next !== undefined; next = queue.shift()) {
        await work(next.item, next.index);
      }
    }),
  );
}

async function closeAll(): Promise<Closing> {
  const instantMs = Math.ceil((Date.now() + leadSeconds * 1000) / 1000) * 1000;
  const world = await seedWorld(db, {
    meters: 1,
    interval: { unit: 'hour', count: 1 },
    hasFee: !values.free,
  });
  const start = startWorkflowWith(client);
  const ids: string[] = [];
  await each(Array.from({ length: count }), async () => {
    const { subscriberId, subscriptionId } = await subscribe(
      db,
      world,
      new Date(instantMs - HOUR_MS),
    );
    await db('subscribers').where({ id: subscriberId }).update({ payment_method: 'card_ok' });
    ids.push(subscriptionId);
    await start({
      kind: 'subscription',
      subscriptionId,
      activate: true,
      summary: { subscriberName: 'Ada', planName: 'Pro' },
    });
  });
  await untilTold(db);
  const leftMs = instantMs - Date.now();
  say(
    `${count} subscriptions are active, ${(leftMs / 1000).toFixed(0)} s before they close together`,
  );
  if (leftMs < 5_000) {
    throw new Error('the subscriptions were not ready in time: give it more with --lead SECONDS');
  }
  await addUsage(db);
  await sleep(instantMs - Date.now());
  const cpuBefore = engineMs();
  await untilInvoiced(db, instantMs);
  const rows = await selectRows<{ lag_ms: number }>(
    db,
    `SELECT (extract(epoch FROM created_at) * 1000 - ?::bigint)::float8 AS lag_ms
     FROM invoices WHERE kind = 'period' ORDER BY 1`,
    [instantMs],
  );
  await untilCollected(db);
  return {
    lagsMs: rows.map((row) => row.lag_ms),
    cpuMs: engineMsSince(cpuBefore),
    actions: await actionsOf(ids.slice(0, COUNTED_CLOSES), instantMs),
  };
}

/** Until every subscription is active and its shard knows. */
async function untilTold(of: Db): Promise<void> {
  for (;;) {
    const row = await selectRow<{ left: bigint }>(
      of,
      `SELECT count(*) AS left FROM subscriptions s JOIN subscribers b ON b.id = s.subscriber_id
       WHERE s.state <> 'active' OR b.applied_version < b.runtime_version`,
    );
    if (row?.left === 0n) return;
    await sleep(250);
  }
}

/** What the drain would have left of the hour: past the included units, so that there is a price to work out. */
async function addUsage(of: Db): Promise<void> {
  await of.raw(
    `INSERT INTO usage_rollups (subscription_id, segment_id, meter_id, hour, quantity, event_count, max_quantity,
       latest_quantity, latest_at)
     SELECT g.subscription_id, g.id, m.id, date_trunc('hour', g.from_at), ?, 20, 9, 9, g.from_at
     FROM segments g JOIN periods p ON p.id = g.period_id, meters m WHERE p.state = 'open' AND p.seq = 0`,
    [values.free ? 80 : 1_500],
  );
}

async function untilInvoiced(of: Db, instantMs: number): Promise<void> {
  for (let last = { count: 0n, atMs: Date.now() }; ;) {
    const row = await selectRow<{ count: bigint }>(
      of,
      "SELECT count(*) AS count FROM invoices WHERE kind = 'period' AND finalized_at IS NOT NULL",
    );
    const now = row?.count ?? 0n;
    if (now === BigInt(count)) break;
    if (now > last.count) last = { count: now, atMs: Date.now() };
    if (Date.now() - last.atMs > STUCK_MS) throw new Error(`stuck at ${now} of ${count} closes`);
    await sleep(100);
  }
  say(`${count} invoices within ${((Date.now() - instantMs) / 1000).toFixed(1)} s`);
}

/** So that neither the histories nor the second run of empty workflows is disturbed by what is still under way. */
async function untilCollected(of: Db): Promise<void> {
  for (const endMs = Date.now() + STUCK_MS * 5; Date.now() < endMs;) {
    const row = await selectRow<{ left: bigint }>(
      of,
      "SELECT count(*) AS left FROM invoices WHERE state = 'open'",
    );
    if (row?.left === 0n) break;
    await sleep(250);
  }
  // The last payments and collections end, and what they have written can be searched for.
  await sleep(5_000);
}

/** Billable actions of one renewal, by workflow: of all that happened from the instant on. */
async function actionsOf(
  subscriptionIds: readonly string[],
  fromMs: number,
): Promise<ReadonlyMap<string, Actions>> {
  const byKind = new Map<string, Actions[]>();
  const add = async (kind: string, workflowId: string): Promise<void> => {
    const actions = await countActions(client, workflowId, fromMs);
    byKind.set(kind, [...(byKind.get(kind) ?? []), actions]);
  };
  for (const subscriptionId of subscriptionIds) {
    await add('close', workflowIds.periodClose(subscriptionId, 0));
    await add('subscription', workflowIds.subscription(subscriptionId));
    const invoice = await selectRow<{ id: string; payment: string | null }>(
      db,
      `SELECT i.id, (SELECT p.id FROM payments p WHERE p.business_key LIKE '%' || i.id || '%' LIMIT 1) AS payment
       FROM invoices i WHERE i.subscription_id = ? AND i.amount_due_minor > 0`,
      [subscriptionId],
    );
    if (invoice === null) continue;
    await add('collection', workflowIds.collection(invoice.id));
    if (invoice.payment !== null) await add('payment', workflowIds.payment(invoice.payment));
  }
  return new Map(
    [...byKind].map(([kind, all]) => [kind, sumActions(all, 1 / subscriptionIds.length)]),
  );
}

function print({ lagsMs, cpuMs, actions }: Closing, empty: readonly Empty[]): void {
  const last = lagsMs.at(-1) ?? Infinity;
  const closesPerS = lagsMs.length / (last / 1000);
  const emptyPerS = empty.reduce((sum, { perSecond }) => sum + perSecond, 0) / empty.length;
  const emptyCpuMs = empty.reduce((sum, one) => sum + (one.cpuMs ?? 0), 0) / empty.length;
  const result = {
    subscriptions: lagsMs.length,
    is_due: !values.free,
    closes_per_s: closesPerS,
    empty_per_s: emptyPerS,
    empty_runs: empty.map(({ perSecond }) => perSecond),
    engine_cpu_ms: cpuMs,
    empty_engine_cpu_ms: emptyCpuMs,
    ratio: closesPerS / emptyPerS,
    lag_p50_s: median(lagsMs) / 1000,
    lag_p99_s: quantile(lagsMs, 0.99) / 1000,
    lag_max_s: last / 1000,
    actions_per_close: [...actions.values()].reduce((sum, one) => sum + totalOf(one), 0),
    actions: Object.fromEntries(actions),
  };
  if (values.json) {
    console.log(JSON.stringify(result));
    return;
  }
  console.log(
    `${result.subscriptions} closes at one instant: ${closesPerS.toFixed(1)}/s · empty workflows of 8 activities: ` +
      `${emptyPerS.toFixed(1)}/s · ratio ${result.ratio.toFixed(2)}`,
  );
  console.log(
    `lag from the instant to the invoice: p50 ${result.lag_p50_s.toFixed(1)} s · p99 ${result.lag_p99_s.toFixed(1)} s · last ${result.lag_max_s.toFixed(1)} s`,
  );
  if (cpuMs !== null) {
    console.log(
      `CPU of the engine per renewal: ${cpuMs.toFixed(0)} ms · per empty workflow: ${emptyCpuMs.toFixed(0)} ms`,
    );
  }
  console.log(`Temporal actions per renewal: ${result.actions_per_close.toFixed(1)}`);
  for (const [kind, one] of actions) {
    const parts = Object.entries(one)
      .filter(([, number]) => number > 0)
      .map(([name, number]) => `${name.replaceAll('_', ' ')} ${number.toFixed(1)}`);
    console.log(`  ${kind.padEnd(12)} ${totalOf(one).toFixed(1).padStart(5)}: ${parts.join(', ')}`);
  }
}
