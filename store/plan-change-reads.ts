/** Changes of plan as rows: what is planned, what has been done. */
import type { PlanDefinition } from '../billing/plan.ts';
import type { Reader } from './db.ts';
import { selectRow } from './query.ts';

export type PlanChange = {
  readonly id: string;
  readonly subscriptionId: string;
  readonly fromVersionId: string;
  readonly toVersionId: string;
  readonly toPlanId: string;
  readonly definition: PlanDefinition;
  readonly timing: 'now' | 'period_end';
  /** Whether an interval of another length begins with it. */
  readonly resetsInterval: boolean;
  readonly effectiveAt: Date;
  readonly state: 'scheduled' | 'applied' | 'canceled';
};

const columns = `c.id, c.subscription_id AS "subscriptionId", c.from_version_id AS "fromVersionId",
  c.to_version_id AS "toVersionId", v.plan_id AS "toPlanId", v.definition, c.timing,
  c.resets_interval AS "resetsInterval", c.effective_at AS "effectiveAt", c.state`;
const from = 'plan_changes c JOIN plan_versions v ON v.id = c.to_version_id';

/** The change that waits for its day; a subscription has one at most. */
export async function findScheduledChange(
  db: Reader,
  subscriptionId: string,
): Promise<PlanChange | null> {
  return selectRow<PlanChange>(
    db,
    `SELECT ${columns} FROM ${from} WHERE c.subscription_id = ? AND c.state = 'scheduled'`,
    [subscriptionId],
  );
}

/** Null when there is no such change. */
export async function findPlanChange(db: Reader, changeId: string): Promise<PlanChange | null> {
  return selectRow<PlanChange>(db, `SELECT ${columns} FROM ${from} WHERE c.id = ?`, [changeId]);
}

/** Whether the subscription has had another plan than that of today, or will have. */
export async function hasChangedPlan(db: Reader, subscriptionId: string): Promise<boolean> {
  const row = await selectRow(db, 'SELECT 1 FROM plan_changes WHERE subscription_id = ? LIMIT 1', [
    subscriptionId,
  ]);
  return row !== null;
}
