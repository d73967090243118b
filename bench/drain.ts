/**
 * The drain beside COPY: `npm run bench -- drain [--json] [--events 60000] [--rounds 9] [--subscribers 500]
 * [--spending 0.5]`. A round puts facts into a real shard's stream, lets the real drainer bring them to Postgres, and
 * then copies the very rows that came of it into a table with the same partitions and indexes. COPY writes nothing but
 * the events; the drain also keeps rollups, ledger, grants and its cursor, in transactions of at most twenty thousand facts.
 */
import { randomInt } from 'node:crypto';
import { parseArgs } from 'node:util';

import { Redis } from 'ioredis';
import pg from 'pg';

import { formatFact, type UsageFact } from '../billing/usage-fact.ts';
import { runDrainer } from '../drain/drainer.ts';
import { openShardLink, type ShardLink } from '../shards/admin-client.ts';
import { factsKey } from '../shards/keys.ts';
import { ensureDayPartition } from '../store/day-partitions.ts';
import { type Db, inTransaction } from '../store/db.ts';
import { openPeriods } from '../store/periods.ts';
import { selectRow } from '../store/query.ts';
import { changeSubscription, lockSubscription } from '../store/subscriptions.ts';
import { grantCredits } from '../store/wallets.ts';
import { startRedis } from '../test/support/redis.ts';
import { copyIn, copyOut } from './copy.ts';
import { startDatabase } from './database.ts';
import { median } from './figures.ts';
import { seedWorld, subscribe, type World } from './world.ts';

const RATIO_MIN = 0.35;
const RATIO_GOAL = 0.5;
const SHARD = 'shard-1';
const HOUR_MS = 3_600_000;
const WARM_EVENTS = 10_000;
const PIPELINE = 5_000;

const { values } = parseArgs({
  options: {
    json: { type: 'boolean', default: false },
    events: { type: 'string', default: '60000' },
    rounds: { type: 'string', default: '9' },
    subscribers: { type: 'string', default: '500' },
    /** The share of the events that take credits. */
    spending: { type: 'string', default: '0.5' },
  },
});
const events = Number(values.events);
const rounds = Number(values.rounds);
const spendingShare = Number(values.spending);

type Party = {
  readonly subscriberId: string;
  readonly subscriptionId: string;
  readonly segmentId: string;
  readonly bucketId: string;
};
type Round = {
  readonly drainPerS: number;
  readonly copyPerS: number;
  /** CPU of this process for each fact while it drained: it does not depend on who else is on the machine. */
  readonly cpuMicros: number;
};

const now = Date.now();
const day = new Date(now).toISOString().slice(0, 10).replaceAll('-', '');
let serial = 0;

const redis = await startRedis();
const database = await startDatabase({ isDurable: true });
const link = openShardLink({ name: SHARD, url: redis.url });
const stream = new Redis(redis.url);
try {
  print(await run(database.db));
} finally {
  stream.disconnect();
  await link.close();
  await database.stop();
  await redis.stop();
}

async function run(db: Db): Promise<readonly Round[]> {
  await db('shards').insert({ name: SHARD, url: redis.url, incarnation: 1, state: 'open' });
  await ensureDayPartition(db, day);
  await db.raw(
    `CREATE TABLE copied_events (LIKE usage_events INCLUDING ALL) PARTITION BY RANGE (event_day);
     CREATE TABLE copied_events_default PARTITION OF copied_events DEFAULT;
     CREATE TABLE copied_events_day PARTITION OF copied_events FOR VALUES FROM ('${day}') TO (date '${day}' + 1)`,
  );
  await requireSameTerms(db);
  const world = await seedWorld(db, {
    meters: 2,
    interval: { unit: 'day', count: 30 },
    hasFee: true,
  });
  const parties: Party[] = [];
  for (let n = 0; n < Number(values.subscribers); n += 1) parties.push(await openParty(db, world));
  await round(db, { world, parties, count: WARM_EVENTS });
  const measured: Round[] = [];
  for (let n = 0; n < rounds; n += 1) {
    const one = await round(db, { world, parties, count: events });
    measured.push(one);
    if (!values.json) {
      const { drainPerS, copyPerS } = one;
      console.log(
        `round ${n + 1}: drain ${drainPerS.toFixed(0)} rows/s, COPY ${copyPerS.toFixed(0)} rows/s, ratio ${(drainPerS / copyPerS).toFixed(2)}`,
      );
    }
  }
  return measured;
}

/** A comparison with a table that lacks an index or a check, or with writes that are not kept, would say nothing. */
async function requireSameTerms(db: Db): Promise<void> {
  const [ours, copied] = [
    await termsOf(db, `usage_events_${day}`),
    await termsOf(db, 'copied_events_day'),
  ];
  if (ours !== copied || !/event_id[^]*CHECK/.test(ours)) {
    throw new Error(`the tables differ: ${ours} / ${copied}`);
  }
  const kept = await selectRow<{ kept: boolean }>(
    db,
    `SELECT current_setting('fsync')::bool AND current_setting('synchronous_commit') = 'on' AS kept`,
  );
  if (kept?.kept !== true)
    throw new Error('this Postgres does not wait until what it commits is on disk');
}

/** The indexes and checks of a partition. */
async function termsOf(db: Db, table: string): Promise<string> {
  const row = await selectRow<{ terms: string }>(
    db,
    `SELECT string_agg(term, '; ' ORDER BY term) AS terms FROM (
       SELECT regexp_replace(indexdef, '^.* USING', '') AS term FROM pg_indexes WHERE tablename = :table
       UNION ALL SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE conrelid = to_regclass(:table) AND contype = 'c'
     ) AS t`,
    { table },
  );
  return row?.terms ?? '';
}

async function openParty(db: Db, world: World): Promise<Party> {
  const begunAt = new Date(now - 48 * HOUR_MS);
  const { subscriberId, subscriptionId } = await subscribe(db, world, begunAt);
  const before = new Date(begunAt.getTime() - HOUR_MS);
  const { periodId, bucketId } = await inTransaction(db, async (tx) => {
    const pending = await lockSubscription(tx, subscriptionId);
    const started = await changeSubscription(tx, pending, { kind: 'started', at: before });
    const period = await openPeriods(tx, started, before);
    const grant = await grantCredits(tx, {
      environment: 'test',
      subscriberId,
      unit: 'credit',
      businessKey: `bench:${subscriberId}`,
      source: 'manual',
      amountMicro: 900_000_000_000_000n,
      class: 'paid',
      effectiveAt: before,
      expiresAt: null,
    });
    return { periodId: period.id, bucketId: grant.bucketId };
  });
  const segment = await selectRow<{ id: bigint }>(
    db,
    'SELECT id FROM segments WHERE period_id = ?',
    [periodId],
  );
  return {
    subscriberId,
    subscriptionId,
    segmentId: String(segment?.id),
    bucketId: String(bucketId),
  };
}

type Work = { readonly world: World; readonly parties: readonly Party[]; readonly count: number };

async function round(db: Db, work: Work): Promise<Round> {
  await fill(work);
  const before = process.cpuUsage();
  const drainPerS = await drainOnce(db, work.count);
  const used = process.cpuUsage(before);
  const copyPerS = await copyOnce(db, work.count);
  return { drainPerS, copyPerS, cpuMicros: (used.user + used.system) / work.count };
}

async function fill({ world, parties, count }: Work): Promise<void> {
  for (let left = count; left > 0; left -= PIPELINE) {
    const pipeline = stream.pipeline();
    for (let n = Math.min(left, PIPELINE); n > 0; n -= 1) {
      pipeline.xadd(factsKey, '*', 'f', formatFact(factOf(world, parties)));
    }
    await pipeline.exec();
  }
}

function factOf(world: World, parties: readonly Party[]): UsageFact {
  serial += 1;
  // Few subscribers make most of the calls.
  const share = (randomInt(1_000_000) / 1_000_000) ** 2;
  const party = parties[Math.floor(share * parties.length)];
  if (party === undefined) throw new RangeError('there is no subscriber');
  const isSpending = randomInt(1_000_000) < spendingShare * 1_000_000;
  return {
    kind: 'usage',
    opId: `${day}-gw0001-${serial.toString(36).padStart(8, '0')}`,
    subscriberId: party.subscriberId,
    subscriptionId: party.subscriptionId,
    segmentId: party.segmentId,
    atMs: now - HOUR_MS + serial,
    productId: world.productId,
    keyId: `key_${party.subscriberId.slice(4)}`,
    status: 200,
    quantities: world.meters.map(({ key }, index) => ({
      meter: key,
      quantity: index === 0 ? 1 : 1 + (serial % 4_000),
    })),
    takes: isSpending ? [{ bucketId: party.bucketId, micro: 1_000_000 }] : [],
    overageMicro: 0,
    writtenOffMicro: 0,
    flags: [],
  };
}

/** From the drainer's first look at the stream to the commit of the last fact. */
async function drainOnce(db: Db, count: number): Promise<number> {
  const before = await countEvents(db, 'usage_events');
  const done = Promise.withResolvers<number>();
  let beganAt = 0;
  const drainer = runDrainer({
    db,
    databaseUrl: database.url,
    link: shardLink(link),
    shard: SHARD,
    incarnation: 1,
    log: {
      info: () => {
        beganAt = performance.now();
      },
      warn: (fields) => {
        done.reject(new Error(`the drain had trouble: ${JSON.stringify(fields)}`));
      },
      error: (fields) => {
        done.reject(new Error(`a fact was refused: ${JSON.stringify(fields)}`));
      },
    },
    failpoint: (name) => {
      if (name === 'after_commit' && drainer.stats().entries >= count) {
        done.resolve(performance.now());
      }
    },
  });
  try {
    const endedAt = await done.promise;
    const drained = (await countEvents(db, 'usage_events')) - before;
    if (drained !== count) throw new Error(`${drained} of ${count} facts were drained`);
    return count / ((endedAt - beganAt) / 1000);
  } finally {
    await drainer.stop();
  }
}

/** The drainer needs no more of the link than this. */
function shardLink(of: ShardLink) {
  return {
    readStream: of.readStream.bind(of),
    trimStream: of.trimStream.bind(of),
    streamLength: of.streamLength.bind(of),
    writeWatermark: of.writeWatermark.bind(of),
  };
}

async function copyOnce(db: Db, count: number): Promise<number> {
  const client = new pg.Client({ connectionString: database.url });
  await client.connect();
  try {
    const rows = await copyOut(
      client,
      `COPY (SELECT * FROM usage_events WHERE event_id >= '${day}-gw0001-${(serial - count + 1).toString(36).padStart(8, '0')}') TO STDOUT`,
    );
    const before = await countEvents(db, 'copied_events');
    const begun = performance.now();
    await copyIn(client, 'COPY copied_events FROM STDIN', rows);
    const seconds = (performance.now() - begun) / 1000;
    const copied = (await countEvents(db, 'copied_events')) - before;
    if (copied !== count) throw new Error(`${copied} of ${count} rows were copied`);
    return count / seconds;
  } finally {
    await client.end();
  }
}

async function countEvents(db: Db, table: 'usage_events' | 'copied_events'): Promise<number> {
  const row = await selectRow<{ count: bigint }>(db, `SELECT count(*) AS count FROM ${table}`);
  return Number(row?.count ?? 0n);
}

function print(measured: readonly Round[]): void {
  const ratio = median(measured.map((one) => one.drainPerS / one.copyPerS));
  const isPassed = ratio >= RATIO_MIN;
  if (!isPassed) process.exitCode = 1;
  const result = {
    drain_rows_per_s: median(measured.map((one) => one.drainPerS)),
    copy_rows_per_s: median(measured.map((one) => one.copyPerS)),
    drain_cpu_us: median(measured.map((one) => one.cpuMicros)),
    ratio,
    ratio_min: RATIO_MIN,
    ratio_goal: RATIO_GOAL,
    rounds: measured.map((one) => one.drainPerS / one.copyPerS),
    passed: isPassed,
  };
  if (values.json) {
    console.log(JSON.stringify(result));
    return;
  }
  console.log(
    `drain ${result.drain_rows_per_s.toFixed(0)} rows/s · COPY ${result.copy_rows_per_s.toFixed(0)} rows/s · ${result.drain_cpu_us.toFixed(0)} µs of this process for each row`,
  );
  console.log(
    `ratio ${ratio.toFixed(2)} (at least ${RATIO_MIN}, goal ${RATIO_GOAL}): ${isPassed ? 'passed' : 'NOT PASSED'}`,
  );
}
