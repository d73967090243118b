/** What an operator changes of a running subscription besides its plan: that it ends, and whether it may use overage. */
import { flag, object, oneOf, text } from '../fields.ts';
import { operators, route } from '../route.ts';
import { afterCommand, updateIdOf } from './subscription-commands.ts';
import { requireSubscription, subscriptionAnswers } from './subscription-shapes.ts';

export const cancelSubscription = route({
  operationId: 'cancelSubscription',
  method: 'post',
  path: '/subscriptions/{subscription_id}/cancel',
  tag: 'Subscriptions',
  summary: 'Cancel a subscription',
  description: `At the end of its period, or now; what was used is invoiced either way. With prorate, the fees of the interval are billed
by the days used, and what was billed in advance for the days after it becomes account balance, by a credit note.`,
  roles: operators,
  bodyOptional: true,
  body: object({
    when: oneOf(['period_end', 'now'], 'period_end when absent.').optional(),
    prorate: flag().optional().meta({
      description: 'Of a cancellation now: fees by the days used. False when absent.',
    }),
    reason: text(500).optional(),
  }),
  bodyExample: { when: 'period_end' },
  answers: subscriptionAnswers(200, 'Canceled, or planned to be.'),
  problems: ['subscription_not_active', 'workflow_engine_unavailable'],
  handle: async (call, { body }) => {
    const row = await requireSubscription(call);
    await call.audit(call.db, {
      action: 'subscription.cancel',
      objectId: row.id,
      details: { when: body.when ?? 'period_end', prorate: body.prorate ?? false },
    });
    const reply = await call.deps.engine.cancel(
      row.id,
      {
        when: body.when ?? 'period_end',
        prorate: body.prorate ?? false,
        ...(body.reason === undefined ? {} : { reason: body.reason }),
      },
      { updateId: updateIdOf(call, 'cancel'), waitMs: call.deps.waits.workflowMs },
    );
    return afterCommand(call, reply, 200);
  },
});

export const changeSubscription = route({
  operationId: 'changeSubscription',
  method: 'patch',
  path: '/subscriptions/{subscription_id}',
  tag: 'Subscriptions',
  summary: 'Allow or deny overage',
  description: 'In force at the gateway when this answers 200.',
  roles: operators,
  body: object({ overage_enabled: flag() }),
  bodyExample: { overage_enabled: true },
  answers: subscriptionAnswers(200, 'Changed.'),
  problems: ['subscription_not_active', 'conflict', 'workflow_engine_unavailable'],
  handle: async (call, { body }) => {
    const row = await requireSubscription(call);
    await call.audit(call.db, {
      action: 'subscription.overage',
      objectId: row.id,
      details: { enabled: body.overage_enabled },
    });
    const reply = await call.deps.engine.setOverage(
      row.id,
      { enabled: body.overage_enabled },
      { updateId: updateIdOf(call, 'overage'), waitMs: call.deps.waits.workflowMs },
    );
    return afterCommand(call, reply, 200);
  },
});
