import type { PlanDefinition } from '../billing/plan.ts';
import type { Reader, Tx } from './db.ts';
import { newId } from './ids.ts';

export type SubscriptionState = 'pending' | 'active' | 'past_due' | 'canceled';

export type NewSubscription = {
  readonly environment: 'test' | 'live';
  readonly subscriberId: string;
  readonly planVersionId: string;
  /** The anchor of all its billing intervals; without it, now. */
  readonly startAt?: Date | undefined;
  /** Without it, as the plan's credit terms say. */
  readonly overageEnabled?: boolean | undefined;
  /** IANA zone in which its boundaries are computed; fixed from here on. */
  readonly timeZone: string;
};
export type SubscriptionCreation =
  | { readonly kind: 'created'; readonly subscriptionId: string }
  | {
      readonly kind: 'refused';
      readonly code: 'plan_not_found' | 'plan_not_published' | 'plan_archived';
    }
  | {
      readonly kind: 'refused';
      readonly code: 'subscription_exists';
      /** The live subscription that the subscriber has on this product. */
      readonly subscriptionId: string;
    };

/**
 * Writes the row, state `pending`; its workflow's `activate` gives it periods. Refuses a version that is not published
 * and a second live subscription of the subscriber on the product. A refusal leaves the transaction usable.
 */
export async function createSubscription(
  tx: Tx,
  wanted: NewSubscription,
): Promise<SubscriptionCreation> {
  const plan = await planOfVersion(tx, wanted.environment, wanted.planVersionId);
  if (plan === null) return { kind: 'refused', code: 'plan_not_found' };
  if (plan.state === 'draft' || plan.definition === null) {
    return { kind: 'refused', code: 'plan_not_published' };
  }
  if (plan.state === 'archived') return { kind: 'refused', code: 'plan_archived' };

  const subscriptionId = newId('sub');
  const inserted = await tx.raw<{ rows: readonly { id: string }[] }>(
    `INSERT INTO subscriptions (id, environment, subscriber_id, product_id, plan_id, plan_version_id, state, currency,
                                time_zone, anchor_at, overage_enabled)
     VALUES (?, ?, ?, ?, ?, ?, 'pending', ?, ?, coalesce(?::timestamptz, date_trunc('milliseconds', now())), ?)
     ON CONFLICT (subscriber_id, product_id) WHERE state <> 'canceled' DO NOTHING
     RETURNING id`,
    [
      subscriptionId,
      wanted.environment,
      wanted.subscriberId,
      plan.product_id,
      plan.plan_id,
      wanted.planVersionId,
      plan.currency,
      wanted.timeZone,
      wanted.startAt ?? null,
      wanted.overageEnabled ?? plan.definition.credits?.overage?.enabled ?? false,
    ],
  );
  if (inserted.rows.length === 1) return { kind: 'created', subscriptionId };
  return {
    kind: 'refused',
    code: 'subscription_exists',
    subscriptionId: await liveSubscription(tx, wanted.subscriberId, plan.product_id),
  };
}

type PlanOfVersion = {
  readonly plan_id: string;
  readonly product_id: string;
  readonly state: 'draft' | 'published' | 'archived';
  readonly currency: string;
  readonly definition: PlanDefinition | null;
};

async function planOfVersion(
  db: Reader,
  environment: string,
  planVersionId: string,
): Promise<PlanOfVersion | null> {
  const found = await db.raw<{ rows: readonly PlanOfVersion[] }>(
    `SELECT v.plan_id, p.product_id, v.state, v.currency, v.definition
     FROM plan_versions v JOIN plans p ON p.id = v.plan_id
     WHERE v.id = ? AND p.environment = ?`,
    [planVersionId, environment],
  );
  return found.rows[0] ?? null;
}

async function liveSubscription(
  db: Reader,
  subscriberId: string,
  productId: string,
): Promise<string> {
  const found = await db.raw<{ rows: readonly { id: string }[] }>(
    `SELECT id FROM subscriptions WHERE subscriber_id = ? AND product_id = ? AND state <> 'canceled'`,
    [subscriberId, productId],
  );
  return found.rows[0]?.id ?? '';
}
