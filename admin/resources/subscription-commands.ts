/** What the routes share that tell a subscription's workflow to do something, and answer with what became of it. */
import type { Call } from '../call.ts';
import { ApiProblem } from '../problems.ts';
import type { Answer } from '../route.ts';
import type { EngineReply } from '../workflow-engine.ts';
import { requireSubscription, subscriptionToWire } from './subscription-shapes.ts';

/** The id of an update: a repeat with the same Idempotency-Key is the same update to the workflow. */
export function updateIdOf(call: Call, what: string): string {
  return `${what}:${call.idempotency === null ? call.requestId : `${call.token.id}:${call.idempotency.key}`}`;
}

/** The workflow's refusals in the API's words. */
export function refused(reply: Extract<EngineReply<unknown>, { kind: 'refused' }>): ApiProblem {
  switch (reply.code) {
    case 'subscription_canceled':
    case 'subscription_not_active':
    case 'workflow_not_running':
      return new ApiProblem('subscription_not_active', reply.message);
    case 'period_not_found':
      return new ApiProblem('not_found', reply.message);
    case 'period_not_open':
      return new ApiProblem('period_not_closable', reply.message);
    case 'no_planned_change':
    case 'plan_not_found':
      return new ApiProblem('not_found', reply.message);
    case 'plan_not_published':
    case 'plan_archived':
    case 'product_differs':
    case 'currency_differs':
    case 'tax_inclusion_differs':
    case 'plan_unchanged':
    case 'credits_already_spent':
      return new ApiProblem(reply.code, reply.message);
    default:
      return new ApiProblem('conflict', reply.message);
  }
}

/** After a command: the subscription as it stands; 202 when the workflow has not answered yet. */
export async function afterCommand(
  call: Call,
  reply: EngineReply<unknown>,
  doneStatus: number,
): Promise<Answer> {
  if (reply.kind === 'refused') throw refused(reply);
  const body = await subscriptionToWire(call, await requireSubscription(call));
  return { status: reply.kind === 'done' ? doneStatus : 202, body };
}
