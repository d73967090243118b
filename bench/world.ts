/** What the benches sell: a product with some meters, a plan that bills each of them, subscriptions of it. */
import type { Charge, PlanDefinition, Price } from '../billing/plan.ts';
import { slotOf } from '../billing/slot.ts';
import { type Db, inTransaction } from '../store/db.ts';
import { newId } from '../store/ids.ts';
import { createSubscription } from '../store/subscriptions.ts';

export type World = {
  readonly productId: string;
  readonly meters: readonly { readonly id: string; readonly key: string }[];
  readonly planVersionId: string;
};

const prices: readonly Price[] = [
  {
    model: 'graduated',
    tiers: [
      { up_to: '1000', unit_price: '0.01', flat_fee: '0' },
      { up_to: '1000000', unit_price: '0.002', flat_fee: '5' },
      { up_to: null, unit_price: '0.0005', flat_fee: '0' },
    ],
  },
  { model: 'per_unit', unit_price: '0.0004' },
  { model: 'package', package_size: '1000', package_price: '0.25' },
];

/** `interval`: of the plan. The fee is 49.00, or none. */
export async function seedWorld(
  db: Db,
  terms: {
    readonly meters: number;
    readonly interval: PlanDefinition['interval'];
    readonly hasFee: boolean;
  },
): Promise<World> {
  const productId = newId('prod');
  await db('products').insert({
    id: productId,
    environment: 'test',
    lookup_id: 'bench',
    name: 'Weather API',
    upstream_url: 'http://127.0.0.1:1',
  });
  const meters = Array.from({ length: terms.meters }, (_, index) => ({
    id: newId('mtr'),
    key: `meter_${index + 1}`,
  }));
  for (const { id, key } of meters) {
    await db('meters').insert({
      id,
      environment: 'test',
      lookup_id: key,
      name: `Meter ${key}`,
      unit_one: 'call',
      unit_other: 'calls',
      aggregation: 'SUM',
    });
  }
  const definition = definitionOf(meters, terms);
  const planId = newId('plan');
  const planVersionId = newId('pver');
  await db('plans').insert({
    id: planId,
    environment: 'test',
    product_id: productId,
    lookup_id: 'pro',
    name: 'Pro',
    type: 'HYBRID',
  });
  await db('plan_versions').insert({
    id: planVersionId,
    plan_id: planId,
    version: 1,
    state: 'published',
    published_at: new Date(),
    currency: definition.currency,
    interval_unit: definition.interval.unit,
    interval_count: definition.interval.count,
    billing_time: definition.billing_time,
    definition: JSON.stringify(definition),
  });
  return { productId, meters, planVersionId };
}

function definitionOf(
  meters: World['meters'],
  terms: { readonly interval: PlanDefinition['interval']; readonly hasFee: boolean },
): PlanDefinition {
  const fee: readonly Charge[] = terms.hasFee
    ? [{ kind: 'recurring', id: newId('chg'), display_name: 'Pro plan', amount_minor: '4900' }]
    : [];
  return {
    currency: 'USD',
    interval: terms.interval,
    billing_time: 'anniversary',
    charges: [
      ...fee,
      ...meters.map(({ id, key }, index): Charge => ({
        kind: 'usage',
        id: newId('chg'),
        display_name: 'Standard rate',
        meter: {
          ...{ id, key, name: `Meter ${key}`, unit_one: 'call', unit_other: 'calls' },
          ...{ scale: 0, aggregation: 'SUM' },
        },
        price: prices[index % prices.length] ?? { model: 'per_unit', unit_price: '0.001' },
        included_units: '100',
      })),
    ],
    features: [],
    rate_limits: [],
    credits: null,
  };
}

/** A subscriber with a pending subscription that starts at `startAt`. */
export async function subscribe(
  db: Db,
  world: World,
  startAt: Date,
): Promise<{ readonly subscriberId: string; readonly subscriptionId: string }> {
  const subscriberId = newId('sbr');
  await db('subscribers').insert({
    id: subscriberId,
    environment: 'test',
    name: 'Ada',
    slot: slotOf(subscriberId),
  });
  const created = await inTransaction(db, (tx) =>
    createSubscription(tx, {
      environment: 'test',
      subscriberId,
      planVersionId: world.planVersionId,
      startAt,
      timeZone: 'UTC',
    }),
  );
  if (created.kind === 'refused') throw new Error(`the subscription was refused: ${created.code}`);
  return { subscriberId, subscriptionId: created.subscriptionId };
}
