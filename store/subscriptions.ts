import { overagePrice } from '../billing/line.ts';
import type { PlanDefinition } from '../billing/plan.ts';
import type { Reader, Tx } from './db.ts';
import { newId } from './ids.ts';
import { insertedRow, selectRow } from './query.ts';

export type SubscriptionState = 'pending' | 'active' | 'past_due' | 'canceled';

export type NewSubscription = {
  readonly environment: 'test' | 'live';
  readonly subscriberId: string;
  readonly planVersionId: string;
  /** The anchor of all its billing intervals; without it, now. */
  readonly startAt?: Date | undefined;
  /** Without it, as the plan's credit terms say. True needs a plan with a price for what is used past the credits. */
  readonly overageEnabled?: boolean | undefined;
  /** IANA zone in which its boundaries are computed; fixed from here on. */
  readonly timeZone: string;
};
export type SubscriptionCreation =
  | { readonly kind: 'created'; readonly subscriptionId: string }
  | {
      readonly kind: 'refused';
      readonly code:
        | 'plan_not_found'
        | 'plan_not_published'
        | 'plan_archived'
        | 'overage_not_in_plan';
    }
  | {
      readonly kind: 'refused';
      readonly code: 'subscription_exists';
      /** The live subscription that the subscriber has on this product. */
      readonly subscriptionId: string;
    };

/**
 * Writes the row, state `pending`; its workflow's `activate` gives it periods. Refuses a version that is not published,
 * overage that nobody could bill, and a second live subscription of the subscriber on the product. A refusal leaves the
 * transaction usable.
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
  if (wanted.overageEnabled === true && !hasOveragePrice(plan.definition)) {
    return { kind: 'refused', code: 'overage_not_in_plan' };
  }

  const created = await selectRow<{ id: string }>(
    tx,
    `INSERT INTO subscriptions (id, environment, subscriber_id, product_id, plan_id, plan_version_id, state, currency,
                                time_zone, anchor_at, overage_enabled)
     VALUES (:id, :environment, :subscriber_id, :product_id, :plan_id, :plan_version_id, 'pending', :currency,
             :time_zone, coalesce(:start_at::timestamptz, date_trunc('milliseconds', now())), :overage)
     ON CONFLICT (subscriber_id, product_id) WHERE state <> 'canceled' DO NOTHING
     RETURNING id`,
    {
      id: newId('sub'),
      environment: wanted.environment,
      subscriber_id: wanted.subscriberId,
      product_id: plan.product_id,
      plan_id: plan.plan_id,
      plan_version_id: wanted.planVersionId,
      currency: plan.currency,
      time_zone: wanted.timeZone,
      start_at: wanted.startAt ?? null,
      overage: wanted.overageEnabled ?? plan.definition.credits?.overage?.enabled ?? false,
    },
  );
  if (created !== null) return { kind: 'created', subscriptionId: created.id };
  const live = await insertedRow<{ id: string }>(
    tx,
    `SELECT id FROM subscriptions WHERE subscriber_id = ? AND product_id = ? AND state <> 'canceled'`,
    [wanted.subscriberId, plan.product_id],
  );
  return { kind: 'refused', code: 'subscription_exists', subscriptionId: live.id };
}

/** Whether what is used past the credits of a plan can be billed: without a price it must be refused, never recorded. */
function hasOveragePrice({ credits }: PlanDefinition): boolean {
  return credits !== null && overagePrice(credits) !== null;
}

/** Overage after a change of plan: as it was set, where both plans have it; otherwise as the new plan's terms say. */
export function overageAfter(
  subscription: Pick<Subscription, 'overageEnabled' | 'definition'>,
  next: PlanDefinition,
): boolean {
  if (!hasOveragePrice(next)) return false;
  return hasOveragePrice(subscription.definition)
    ? subscription.overageEnabled
    : (next.credits?.overage?.enabled ?? false);
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
  return selectRow<PlanOfVersion>(
    db,
    `SELECT v.plan_id, p.product_id, v.state, v.currency, v.definition
     FROM plan_versions v JOIN plans p ON p.id = v.plan_id
     WHERE v.id = ? AND p.environment = ?`,
    [planVersionId, environment],
  );
}

/** A subscription with what its periods are made from. */
export type Subscription = {
  readonly id: string;
  readonly environment: 'test' | 'live';
  readonly subscriberId: string;
  readonly productId: string;
  readonly planId: string;
  readonly planVersionId: string;
  readonly state: SubscriptionState;
  /** Rises with every change of the row. */
  readonly version: number;
  readonly currency: string;
  readonly timeZone: string;
  /** The start of the interval `intervalBase`: the subscription's start, or the last change of its interval. */
  readonly anchorAt: Date;
  readonly intervalBase: number;
  readonly overageEnabled: boolean;
  readonly startedAt: Date | null;
  readonly cancelAt: Date | null;
  /** Whether a cancellation in mid-interval bills and gives back fees by the days used. */
  readonly cancelProrate: boolean;
  readonly endedAt: Date | null;
  readonly definition: PlanDefinition;
};

const columns = `s.id, s.environment, s.subscriber_id AS "subscriberId", s.product_id AS "productId",
  s.plan_id AS "planId", s.plan_version_id AS "planVersionId", s.state, s.version, s.currency, s.time_zone AS "timeZone",
  s.anchor_at AS "anchorAt", s.interval_base AS "intervalBase", s.overage_enabled AS "overageEnabled",
  s.started_at AS "startedAt", s.cancel_at AS "cancelAt", s.cancel_prorate AS "cancelProrate", s.ended_at AS "endedAt", v.definition`;

/** Throws when there is no such subscription. */
export async function readSubscription(db: Reader, subscriptionId: string): Promise<Subscription> {
  return insertedRow<Subscription>(
    db,
    `SELECT ${columns} FROM subscriptions s JOIN plan_versions v ON v.id = s.plan_version_id WHERE s.id = ?`,
    [subscriptionId],
  );
}

/**
 * The same, locked until the transaction ends: whatever changes a subscription's periods holds this lock. Weaker than FOR
 * UPDATE: an invoice that refers to it is still written by a close, which holds the account balance and so never waits
 * for one that holds this and waits for the balance.
 */
export async function lockSubscription(tx: Tx, subscriptionId: string): Promise<Subscription> {
  return insertedRow<Subscription>(
    tx,
    `SELECT ${columns} FROM subscriptions s JOIN plan_versions v ON v.id = s.plan_version_id
     WHERE s.id = ? FOR NO KEY UPDATE OF s`,
    [subscriptionId],
  );
}

/** Whether the collection of one of its invoices has failed, as its workflow knows it. */
export async function isPastDue(db: Reader, subscriptionId: string): Promise<boolean> {
  const { state } = await insertedRow<{ state: Subscription['state'] }>(
    db,
    'SELECT state FROM subscriptions WHERE id = ?',
    [subscriptionId],
  );
  return state === 'past_due';
}

export type SubscriptionChange =
  | { readonly kind: 'started'; readonly at: Date }
  | { readonly kind: 'overage_set'; readonly enabled: boolean }
  | { readonly kind: 'cancel_planned'; readonly at: Date; readonly prorate: boolean }
  | {
      readonly kind: 'plan_changed';
      readonly planId: string;
      readonly planVersionId: string;
      readonly definition: PlanDefinition;
      readonly overageEnabled: boolean;
      /** Where the change begins an interval of another length. */
      readonly reset: { readonly anchorAt: Date; readonly intervalBase: number } | null;
    }
  | { readonly kind: 'ended'; readonly at: Date }
  | { readonly kind: 'standing_set'; readonly state: 'active' | 'past_due' };

/**
 * Changes the row if it still has the version that `subscription` was read with, and answers the changed one.
 * Throws when it has not: the caller decided on a state that is gone.
 */
export async function changeSubscription(
  tx: Tx,
  subscription: Subscription,
  change: SubscriptionChange,
): Promise<Subscription> {
  const next = changed(subscription, change);
  const row = await selectRow<{ version: number }>(
    tx,
    `UPDATE subscriptions SET state = :state, version = version + 1, overage_enabled = :overage,
            started_at = :started_at, cancel_at = :cancel_at, cancel_prorate = :cancel_prorate, ended_at = :ended_at,
            plan_id = :plan_id, plan_version_id = :plan_version_id, anchor_at = :anchor_at, interval_base = :interval_base
     WHERE id = :id AND version = :version RETURNING version`,
    {
      id: subscription.id,
      version: subscription.version,
      state: next.state,
      overage: next.overageEnabled,
      started_at: next.startedAt,
      cancel_at: next.cancelAt,
      cancel_prorate: next.cancelProrate,
      ended_at: next.endedAt,
      plan_id: next.planId,
      plan_version_id: next.planVersionId,
      anchor_at: next.anchorAt,
      interval_base: next.intervalBase,
    },
  );
  if (row === null) throw new Error(`subscription ${subscription.id} was changed in between`);
  return { ...next, version: row.version };
}

function changed(subscription: Subscription, change: SubscriptionChange): Subscription {
  switch (change.kind) {
    case 'started':
      return { ...subscription, state: 'active', startedAt: change.at };
    case 'overage_set':
      return { ...subscription, overageEnabled: change.enabled };
    case 'cancel_planned':
      return { ...subscription, cancelAt: change.at, cancelProrate: change.prorate };
    case 'plan_changed': {
      const { planId, planVersionId, definition, overageEnabled, reset } = change;
      return { ...subscription, planId, planVersionId, definition, overageEnabled, ...reset };
    }
    case 'ended':
      return { ...subscription, state: 'canceled', cancelAt: change.at, endedAt: change.at };
    case 'standing_set':
      return { ...subscription, state: change.state };
    default:
      return change satisfies never;
  }
}
