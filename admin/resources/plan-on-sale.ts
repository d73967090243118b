/** Which version of a plan is on sale, and what to do where none is. */
import type { Reader } from '../../store/db.ts';
import { publishedVersion, type PlanRow, type PlanVersionRow } from '../../store/plans.ts';
import { ApiProblem } from '../problems.ts';

/** What somebody wants with the plan: `subscribe`, `change`. */
export type PlanUse = 'subscribe' | 'change';

const words = {
  subscribe: { next: 'then subscribe', nobody: 'nobody can subscribe to it any more' },
  change: { next: 'then change to it', nobody: 'no subscription can change to it any more' },
} as const satisfies Record<PlanUse, { readonly next: string; readonly nobody: string }>;

/** The newest published version; 409 that says what to do when there is none. */
export async function requireOnSale(
  db: Reader,
  plan: PlanRow,
  use: PlanUse,
): Promise<PlanVersionRow> {
  const version = await publishedVersion(db, plan.id);
  if (version === null) throw notOnSale(plan, use);
  return version;
}

/** Why nobody can take the plan, and what to do about it. */
export function notOnSale(plan: PlanRow, use: PlanUse): ApiProblem {
  if (plan.archived_at !== null) return archivedPlan(plan, use);
  const publish = `POST /api/v1/plans/${plan.id}/publish`;
  return new ApiProblem(
    'plan_not_published',
    `The plan ${plan.lookup_id} is a draft. Publish it with ${publish}, ${words[use].next}.`,
    { extra: { publish } },
  );
}

/** That the plan is archived, and where another one is found. */
export function archivedPlan(plan: PlanRow, use: PlanUse): ApiProblem {
  return new ApiProblem(
    'plan_archived',
    `The plan ${plan.lookup_id} is archived: ${words[use].nobody}. Choose another one from GET /api/v1/plans.`,
  );
}
