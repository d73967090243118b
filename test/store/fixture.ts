import { type Db, inTransaction } from '../../store/db.ts';
import { newId } from '../../store/ids.ts';
import { selectRow } from '../../store/query.ts';

/** Rows of one commercial world, written straight to the tables: what the tests of the store and the drain stand on. */
export type World = {
  readonly productId: string;
  readonly meterIds: Readonly<Record<'api_calls' | 'tokens', string>>;
  readonly planId: string;
  readonly planVersionId: string;
};

/** A product with two meters and a published plan that sells credits: a call burns one credit, a token a thousandth. */
export async function seedWorld(db: Db): Promise<World> {
  const productId = newId('prod');
  const meterIds = { api_calls: newId('mtr'), tokens: newId('mtr') };
  const planId = newId('plan');
  const planVersionId = newId('pver');
  await db('products').insert({
    id: productId,
    environment: 'test',
    lookup_id: 'demo',
    name: 'Demo',
    upstream_url: 'http://127.0.0.1:1',
  });
  for (const [lookupId, id] of Object.entries(meterIds)) {
    await db('meters').insert({
      id,
      environment: 'test',
      lookup_id: lookupId,
      name: lookupId,
      unit_one: 'call',
      unit_other: 'calls',
      aggregation: 'SUM',
    });
  }
  await db('plans').insert({
    id: planId,
    environment: 'test',
    product_id: productId,
    lookup_id: 'credits',
    name: 'Credits',
    type: 'CREDITS',
  });
  await db('plan_versions').insert({
    id: planVersionId,
    plan_id: planId,
    version: 1,
    state: 'published',
    published_at: new Date(),
    currency: 'USD',
    interval_unit: 'month',
    definition: JSON.stringify(definition),
  });
  return { productId, meterIds, planId, planVersionId };
}

const definition = {
  currency: 'USD',
  interval: { unit: 'month', count: 1 },
  billing_time: 'anniversary',
  charges: [],
  features: [],
  rate_limits: [],
  credits: {
    unit: 'credit',
    included_micro: '0',
    overage: null,
    credit_price: '0.01',
    burn: [
      { meter_key: 'api_calls', micro_per_unit: '1000000' },
      { meter_key: 'tokens', micro_per_unit: '1000' },
    ],
  },
};

export type Party = {
  readonly subscriberId: string;
  readonly subscriptionId: string;
  readonly apiKeyId: string;
  /** Three tiling months from 2025-01-01: open, scheduled, scheduled. */
  readonly periods: readonly { readonly periodId: string; readonly segmentId: bigint }[];
};

const MONTHS = [
  ['2025-01-01T00:00:00Z', '2025-02-01T00:00:00Z'],
  ['2025-02-01T00:00:00Z', '2025-03-01T00:00:00Z'],
  ['2025-03-01T00:00:00Z', '2025-04-01T00:00:00Z'],
] as const;

/** A subscriber with a subscription of the world's plan; `months`: the spans of its three periods, ISO instants. */
export async function seedParty(
  db: Db,
  world: World,
  months: readonly (readonly [string, string])[] = MONTHS,
): Promise<Party> {
  const subscriberId = newId('sbr');
  const subscriptionId = newId('sub');
  await db('subscribers').insert({ id: subscriberId, environment: 'test', name: 'Ada', slot: 7 });
  await db('subscriptions').insert({
    id: subscriptionId,
    environment: 'test',
    subscriber_id: subscriberId,
    product_id: world.productId,
    plan_id: world.planId,
    plan_version_id: world.planVersionId,
    state: 'active',
    currency: 'USD',
    time_zone: 'UTC',
    anchor_at: months[0]?.[0],
  });
  const periods = [];
  for (const [index, span] of months.entries()) {
    periods.push(await seedPeriod(db, { subscriptionId, world, index, span }));
  }
  return { subscriberId, subscriptionId, apiKeyId: newId('key'), periods };
}

async function seedPeriod(
  db: Db,
  args: {
    readonly subscriptionId: string;
    readonly world: World;
    readonly index: number;
    readonly span: readonly [string, string];
  },
): Promise<{ readonly periodId: string; readonly segmentId: bigint }> {
  const [startAt, endAt] = args.span;
  const periodId = newId('per');
  await db('periods').insert({
    id: periodId,
    subscription_id: args.subscriptionId,
    seq: args.index,
    interval_index: args.index,
    interval_start_at: startAt,
    interval_end_at: endAt,
    start_at: startAt,
    end_at: endAt,
    state: args.index === 0 ? 'open' : 'scheduled',
  });
  const segment = await selectRow<{ id: bigint }>(
    db,
    `INSERT INTO segments (subscription_id, period_id, plan_version_id, from_at, until_at, status, overage)
     VALUES (?, ?, ?, ?, ?, 'active', false) RETURNING id`,
    [args.subscriptionId, periodId, args.world.planVersionId, startAt, endAt],
  );
  return { periodId, segmentId: segment?.id ?? 0n };
}

/** Runs `work` in a transaction of its own. */
export function write<T>(
  db: Db,
  work: (tx: Parameters<Parameters<typeof inTransaction<T>>[1]>[0]) => Promise<T>,
): Promise<T> {
  return inTransaction(db, (tx) => work(tx));
}
