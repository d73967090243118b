/** The beginning of a subscription: who subscribes to what, from when, and with which coupons and add-ons. */
import type { Tx } from '../../store/db.ts';
import type { PlanRow } from '../../store/plans.ts';
import { findSubscription } from '../../store/subscription-reads.ts';
import { createSubscription, type SubscriptionCreation } from '../../store/subscriptions.ts';
import { summaries } from '../../workflows/contracts.ts';
import type { Call } from '../call.ts';
import { flag, instant, object, reference } from '../fields.ts';
import { ApiProblem, fieldProblem } from '../problems.ts';
import { operators, route } from '../route.ts';
import { attachExtras, extrasFields, extrasProblems } from './attach-extras.ts';
import { archivedPlan, notOnSale, requireOnSale } from './plan-on-sale.ts';
import { requirePlan } from './plans.ts';
import { requireSubscriber } from './subscribers.ts';
import { refused, updateIdOf } from './subscription-commands.ts';
import { subscriptionAnswers, subscriptionToWire } from './subscription-shapes.ts';

const START_AHEAD_MS_MAX = 3 * 366 * 86_400_000;

export const startSubscription = route({
  operationId: 'startSubscription',
  method: 'post',
  path: '/subscriptions',
  tag: 'Subscriptions',
  summary: 'Subscribe a subscriber to a plan',
  description: `To the newest published version of the plan. 201 when it is active and the gateways know it; 202 while that goes on.
A subscriber has at most one live subscription to a product; one that is still pending is gone on with.`,
  roles: operators,
  body: object({
    subscriber_id: reference('Who subscribes'),
    plan_id: reference('To what'),
    overage_enabled: flag().optional().meta({
      description: "Usage past the included credits; as the plan's terms say when absent.",
    }),
    start_at: instant(
      'When its first period begins, which all its billing periods are counted from; now when absent. Within three years.',
    ).optional(),
    ...extrasFields,
  }),
  bodyExample: { subscriber_id: 'acme', plan_id: 'payg' },
  answers: subscriptionAnswers(201, 'Active.'),
  problems: [
    'plan_not_published',
    'plan_archived',
    'subscription_exists',
    'workflow_engine_unavailable',
    ...extrasProblems,
  ],
  handle: async (call, { body }) => {
    const subscriber = await requireSubscriber(call, body.subscriber_id);
    const plan = await requirePlan(call, body.plan_id);
    const version = await requireOnSale(call.db, plan, 'subscribe');
    const subscriptionId =
      call.idempotency?.resumedObjectId ??
      (await call.begin(async (tx, now) => {
        const creation = await createSubscription(tx, {
          environment: call.environment,
          subscriberId: subscriber.id,
          planVersionId: version.id,
          timeZone: subscriber.time_zone,
          startAt: startOf(body.start_at, now),
          ...(body.overage_enabled === undefined ? {} : { overageEnabled: body.overage_enabled }),
        });
        const id = idOfCreation(creation, plan);
        if (creation.kind === 'refused') {
          await requirePending(tx, call, { id, versionId: version.id });
        }
        const { environment } = call;
        await attachExtras(tx, { environment, subscriptionId: id, extras: body, at: now });
        return {
          value: id,
          audit: { action: 'subscription.start', objectId: id, details: { plan_id: plan.id } },
        };
      }));
    const reply = await call.deps.engine.activate(subscriptionId, {
      updateId: updateIdOf(call, 'activate'),
      summary: summaries.subscription({ subscriberName: subscriber.name, planName: plan.name }),
      waitMs: call.deps.waits.workflowMs,
    });
    if (reply.kind === 'refused') throw refused(reply);
    const row = await findSubscription(call.db, call.environment, subscriptionId);
    if (row === null) throw new Error(`subscription ${subscriptionId} vanished`);
    const isActive = reply.kind === 'done' && row.state !== 'pending';
    return { status: isActive ? 201 : 202, body: await subscriptionToWire(call, row) };
  },
});

function idOfCreation(creation: SubscriptionCreation, plan: PlanRow): string {
  if (creation.kind === 'created') return creation.subscriptionId;
  switch (creation.code) {
    case 'plan_not_found':
    case 'plan_not_published':
      throw notOnSale(plan, 'subscribe');
    case 'plan_archived':
      throw archivedPlan(plan, 'subscribe');
    case 'overage_not_in_plan':
      throw fieldProblem(
        'overage_enabled',
        `cannot be true: the plan ${plan.lookup_id} has no price for usage past its credits`,
      );
    case 'subscription_exists':
      return creation.subscriptionId;
    default:
      return creation satisfies never;
  }
}

/** A start that is asked for lies ahead: what was used before it would belong to no period. */
function startOf(startAt: Date | undefined, now: Date): Date | undefined {
  if (startAt === undefined) return undefined;
  const aheadMs = startAt.getTime() - now.getTime();
  if (aheadMs < 0) throw fieldProblem('start_at', 'lies in the past; leave it out to start now');
  if (aheadMs > START_AHEAD_MS_MAX)
    throw fieldProblem('start_at', 'lies more than three years ahead');
  return startAt;
}

/** A live subscription to the same version that never became active is the same wish: it is gone on with. */
async function requirePending(
  tx: Tx,
  call: Call,
  { id, versionId }: { readonly id: string; readonly versionId: string },
): Promise<void> {
  const live = await findSubscription(tx, call.environment, id);
  if (live?.state === 'pending' && live.plan_version_id === versionId) return;
  throw new ApiProblem(
    'subscription_exists',
    `The subscriber has the subscription ${id} to this product already. Cancel it first.`,
    { extra: { subscription_id: id } },
  );
}
