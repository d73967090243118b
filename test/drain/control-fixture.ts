import { createHash } from 'node:crypto';

import { Redis } from 'ioredis';
import { pino } from 'pino';

import type { PlanDefinition } from '../../billing/plan.ts';
import { slotOf } from '../../billing/slot.ts';
import { openShardLink, type ShardLink } from '../../shards/admin-client.ts';
import { type Db, inTransaction, openDb } from '../../store/db.ts';
import { newId } from '../../store/ids.ts';
import { bumpRuntime } from '../../store/projection.ts';
import { insertedRow } from '../../store/query.ts';
import { registerShards } from '../../store/slots.ts';
import { grantCredits } from '../../store/wallets.ts';
import { type TestDatabase, testDatabase } from '../support/postgres.ts';
import { startRedis, type TestRedis } from '../support/redis.ts';
import { until } from '../support/until.ts';

export const quiet = pino({ level: process.env['TEST_LOG'] ?? 'silent' });

/** A database with shards registered and slots planned, none of them opened yet. */
export type Control = {
  readonly database: TestDatabase;
  readonly db: Db;
  readonly servers: readonly TestRedis[];
  readonly links: readonly ShardLink[];
  readonly close: () => Promise<void>;
};

export async function openControl(shardCount: number): Promise<Control> {
  const [database, ...servers] = await Promise.all([
    testDatabase(),
    ...Array.from({ length: shardCount }, () => startRedis()),
  ]);
  const db = openDb(database.url, { poolMax: 12 });
  const addresses = servers.map(({ url }, index) => ({ name: `shard-${index + 1}`, url }));
  if (shardCount > 0) await registerShards(db, addresses);
  const links = addresses.map((address) => openShardLink(address));
  return {
    database,
    db,
    servers,
    links,
    close: async () => {
      await Promise.all(links.map((link) => link.close()));
      await db.destroy();
      await Promise.all([...servers.map((server) => server.stop()), database.drop()]);
    },
  };
}

export type Catalogue = { readonly productId: string; readonly planVersionId: string };

/** A product with one route and a published plan: 1,000 calls an interval, 10 a second, credits. */
export async function seedCatalogue(db: Db, key = 'demo'): Promise<Catalogue> {
  const [productId, meterId, featureId] = [newId('prod'), newId('mtr'), newId('feat')];
  const [planId, planVersionId] = [newId('plan'), newId('pver')];
  await db('products').insert({
    id: productId,
    environment: 'test',
    lookup_id: key,
    name: 'Demo',
    hosts: [`${key}.example.test`],
    upstream_url: 'http://127.0.0.1:7090',
  });
  await db('meters').insert({
    id: meterId,
    environment: 'test',
    lookup_id: `${key}_calls`,
    name: 'API Calls',
    unit_one: 'call',
    unit_other: 'calls',
    aggregation: 'SUM',
  });
  await db('features').insert({
    id: featureId,
    environment: 'test',
    lookup_id: `${key}_api`,
    name: 'API',
    meter_id: meterId,
  });
  await db('routes').insert({
    id: newId('rte'),
    product_id: productId,
    method: '*',
    path: '/v1/*',
    feature_id: featureId,
    rules: JSON.stringify([
      { meter: `${key}_calls`, estimate: 1, max_actual: null, source: { kind: 'fixed' } },
    ]),
  });
  await db('plans').insert({
    id: planId,
    environment: 'test',
    product_id: productId,
    lookup_id: `${key}-plan`,
    name: 'Plan',
    type: 'HYBRID',
  });
  await db('plan_versions').insert({
    id: planVersionId,
    plan_id: planId,
    version: 1,
    state: 'published',
    published_at: new Date(),
    currency: 'USD',
    interval_unit: 'month',
    definition: JSON.stringify(definitionOf(key, featureId)),
  });
  return { productId, planVersionId };
}

function definitionOf(key: string, featureId: string): PlanDefinition {
  return {
    currency: 'USD',
    interval: { unit: 'month', count: 1 },
    billing_time: 'anniversary',
    charges: [],
    features: [
      {
        id: featureId,
        key: `${key}_api`,
        meter_key: `${key}_calls`,
        limit: '1000',
        limit_type: 'HARD',
        reset_interval: 'period',
      },
    ],
    rate_limits: [{ kind: 'rate', name: 'per_second', limit: 10, window_ms: 1000 }],
    credits: {
      unit: 'credit',
      included_micro: '0',
      overage: null,
      credit_price: '0.01',
      burn: [{ meter_key: `${key}_calls`, micro_per_unit: '1000000' }],
    },
  };
}

export type Subscriber = {
  readonly id: string;
  readonly keyId: string;
  readonly digest16: string;
  readonly subscriptionId: string;
  /** Three tiling intervals of thirty days; the first began yesterday. */
  readonly periods: readonly {
    readonly periodId: string;
    readonly segmentId: string;
    readonly startMs: number;
    readonly endMs: number;
  }[];
};

const dayMs = 86_400_000;

/** A subscriber with a key and a running subscription, whose runtime version is bumped to 1. */
export async function seedSubscriber(
  db: Db,
  catalogue: Catalogue,
  options: { readonly id?: string } = {},
): Promise<Subscriber> {
  const id = options.id ?? newId('sbr');
  const keyId = newId('key');
  const subscriptionId = newId('sub');
  const digest = createHash('sha256').update(keyId).digest();
  const firstMs = Date.now() - dayMs;
  return inTransaction(db, async (tx) => {
    await tx('subscribers').insert({ id, environment: 'test', name: 'Ada', slot: slotOf(id) });
    await tx('api_keys').insert({
      id: keyId,
      environment: 'test',
      subscriber_id: id,
      digest,
      last4: 'abcd',
    });
    const { plan_id: planId } = await insertedRow<{ plan_id: string }>(
      tx,
      'SELECT plan_id FROM plan_versions WHERE id = ?',
      [catalogue.planVersionId],
    );
    await tx('subscriptions').insert({
      id: subscriptionId,
      environment: 'test',
      subscriber_id: id,
      product_id: catalogue.productId,
      plan_id: planId,
      plan_version_id: catalogue.planVersionId,
      state: 'active',
      currency: 'USD',
      time_zone: 'UTC',
      anchor_at: new Date(firstMs),
    });
    const periods: Subscriber['periods'][number][] = [];
    for (const index of [0, 1, 2]) {
      const startMs = firstMs + index * 30 * dayMs;
      const endMs = startMs + 30 * dayMs;
      const periodId = newId('per');
      await tx('periods').insert({
        id: periodId,
        subscription_id: subscriptionId,
        seq: index,
        interval_index: index,
        interval_start_at: new Date(startMs),
        interval_end_at: new Date(endMs),
        start_at: new Date(startMs),
        end_at: new Date(endMs),
        state: index === 0 ? 'open' : 'scheduled',
      });
      const { id: segmentId } = await insertedRow<{ id: bigint }>(
        tx,
        `INSERT INTO segments (subscription_id, period_id, plan_version_id, from_at, until_at, status, overage)
         VALUES (?, ?, ?, ?, ?, 'active', false) RETURNING id`,
        [subscriptionId, periodId, catalogue.planVersionId, new Date(startMs), new Date(endMs)],
      );
      periods.push({ periodId, segmentId: segmentId.toString(), startMs, endMs });
    }
    await bumpRuntime(tx, id);
    return {
      id,
      keyId,
      digest16: digest.subarray(0, 16).toString('base64url'),
      subscriptionId,
      periods,
    };
  });
}

/** Cuts the running period in two at `cutMs`, as "close now" does; answers the new period and its segment. */
export async function cutPeriod(
  db: Db,
  subscriber: Subscriber,
  cutMs: number,
): Promise<{ readonly periodId: string; readonly segmentId: string }> {
  const [first] = subscriber.periods;
  if (first === undefined) throw new Error('no period');
  const periodId = newId('per');
  return inTransaction(db, async (tx) => {
    await tx('segments')
      .where({ id: first.segmentId })
      .update({ until_at: new Date(cutMs) });
    await tx('periods')
      .where({ id: first.periodId })
      .update({ end_at: new Date(cutMs) });
    await tx.raw(
      `INSERT INTO periods (id, subscription_id, seq, interval_index, interval_start_at, interval_end_at, start_at, end_at, state)
       SELECT ?, subscription_id, 100, interval_index, interval_start_at, interval_end_at, ?, interval_end_at, 'open'
       FROM periods WHERE id = ?`,
      [periodId, new Date(cutMs), first.periodId],
    );
    const { id } = await insertedRow<{ id: bigint }>(
      tx,
      `INSERT INTO segments (subscription_id, period_id, plan_version_id, from_at, until_at, status, overage)
       SELECT subscription_id, ?, plan_version_id, ?, ?, status, overage FROM segments WHERE id = ? RETURNING id`,
      [periodId, new Date(cutMs), new Date(first.endMs), first.segmentId],
    );
    await bumpRuntime(tx, subscriber.id);
    return { periodId, segmentId: id.toString() };
  });
}

/** Gives whole credits that never expire. */
export async function grant(db: Db, subscriberId: string, credits: number): Promise<bigint> {
  return inTransaction(db, async (tx) => {
    const { coreSeq } = await grantCredits(tx, {
      environment: 'test',
      subscriberId,
      unit: 'credit',
      businessKey: newId('grant'),
      source: 'manual',
      amountMicro: BigInt(credits) * 1_000_000n,
      class: 'paid',
      effectiveAt: new Date(Date.now() - dayMs),
      expiresAt: null,
    });
    return coreSeq;
  });
}

/** Takes from a shard what it holds of a subscriber; null: the map and the catalogue. */
export async function deleteKeys(url: string, subscriberId: string | null): Promise<void> {
  const redis = new Redis(url);
  const tag = `{${subscriberId ?? ''}}`;
  await redis.del(
    subscriberId === null ? ['tb:map', 'tb:cat'] : [`${tag}:s`, `${tag}:d0`, `${tag}:d1`],
  );
  redis.disconnect();
}

/** Waits until all that the server took is in its log: a killed server loses what a busy disk made it hold back. */
export async function untilWritten(url: string): Promise<void> {
  const redis = new Redis(url);
  await until(async () => {
    const info = await redis.info('persistence');
    return /aof_buffer_length:0\r/.test(info) && /aof_pending_bio_fsync:0\r/.test(info)
      ? true
      : null;
  });
  redis.disconnect();
}
