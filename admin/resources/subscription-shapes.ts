/** How a subscription looks on the wire, and how a route finds the one that its path names. */
import { z } from 'zod';

import { listPeriods } from '../../store/periods.ts';
import { findSubscription, type SubscriptionRead } from '../../store/subscription-reads.ts';
import type { Call } from '../call.ts';
import { notFound } from '../problems.ts';
import { PeriodAnswer, periodExample, periodToWire } from './invoice-shapes.ts';
import { answers, instantText, wireInstant } from './shared.ts';

export const subscriptionStates = ['pending', 'active', 'past_due', 'canceled'] as const;

export const Subscription = z
  .strictObject({
    id: z.string(),
    object: z.literal('subscription'),
    environment: z.enum(['test', 'live']),
    subscriber_id: z.string(),
    product_id: z.string(),
    plan_id: z.string(),
    plan_name: z.string(),
    plan_version: z.number().int(),
    state: z.enum(subscriptionStates),
    currency: z.string(),
    time_zone: z.string(),
    anchor_at: instantText(),
    overage_enabled: z.boolean(),
    current_period: PeriodAnswer.nullable(),
    pending_change: z
      .strictObject({
        id: z.string(),
        plan_id: z.string(),
        plan_name: z.string(),
        plan_version: z.number().int(),
        effective_at: instantText(),
      })
      .nullable()
      .meta({ description: 'The change of plan that waits for its day.' }),
    coupon_count: z.number().int().meta({ description: 'Coupons that it holds.' }),
    add_on_count: z.number().int().meta({ description: 'Add-ons that it holds.' }),
    started_at: instantText().nullable(),
    cancel_at: instantText().nullable(),
    ended_at: instantText().nullable(),
    workflow_id: z.string().meta({ description: 'Its workflow, as the Temporal UI lists it.' }),
    created_at: instantText(),
  })
  .meta({ id: 'Subscription' });

export const subscriptionExample = {
  id: periodExample.subscription_id,
  object: 'subscription',
  environment: 'test',
  subscriber_id: 'sbr_5h2k9x0q7w3m1n8b4v6c2z',
  product_id: 'prod_5h2k9x0q7w3m1n8b4v6c2z',
  plan_id: 'plan_5h2k9x0q7w3m1n8b4v6c2z',
  plan_name: 'Pay-as-you-go',
  plan_version: 1,
  state: 'active',
  currency: 'USD',
  time_zone: 'UTC',
  anchor_at: '2025-01-01T00:00:00.000Z',
  overage_enabled: false,
  current_period: periodExample,
  pending_change: null,
  coupon_count: 0,
  add_on_count: 0,
  started_at: '2025-01-01T00:00:00.000Z',
  cancel_at: null,
  ended_at: null,
  workflow_id: `sub/${periodExample.subscription_id}`,
  created_at: '2025-01-01T00:00:00.000Z',
};

/** The subscription or 404. */
export async function requireSubscription(call: Call): Promise<SubscriptionRead> {
  const id = call.param('subscription_id');
  const found = await findSubscription(call.db, call.environment, id);
  if (found === null) throw notFound('subscription', id);
  return found;
}

export async function subscriptionToWire(
  call: Call,
  row: SubscriptionRead,
): Promise<z.output<typeof Subscription>> {
  const periods = await listPeriods(call.db, row.id, ['scheduled', 'open', 'closing']);
  const nowMs = Date.now();
  const current =
    row.state === 'canceled'
      ? undefined
      : periods.find(({ startAt, endAt }) => startAt.getTime() <= nowMs && nowMs < endAt.getTime());
  return {
    id: row.id,
    object: 'subscription',
    environment: row.environment,
    subscriber_id: row.subscriber_id,
    product_id: row.product_id,
    plan_id: row.plan_id,
    plan_name: row.plan_name,
    plan_version: row.plan_version,
    state: row.state,
    currency: row.currency,
    time_zone: row.time_zone,
    anchor_at: wireInstant(row.anchor_at),
    overage_enabled: row.overage_enabled,
    current_period: current === undefined ? null : periodToWire(current),
    pending_change:
      row.pending_change === null
        ? null
        : {
            ...row.pending_change,
            effective_at: wireInstant(new Date(row.pending_change.effective_at)),
          },
    coupon_count: row.coupon_count,
    add_on_count: row.add_on_count,
    started_at: wireInstant(row.started_at),
    cancel_at: wireInstant(row.cancel_at),
    ended_at: wireInstant(row.ended_at),
    workflow_id: `sub/${row.id}`,
    created_at: wireInstant(row.created_at),
  };
}

export const subscriptionAnswers = (status: number, description: string) =>
  answers(
    status,
    { description, schema: Subscription, example: subscriptionExample },
    {
      202: {
        description: 'Under way: the workflow has the command and has not answered yet.',
        schema: Subscription,
        example: { ...subscriptionExample, state: 'pending', current_period: null },
      },
    },
  );
