/** Changes of plan as rows: what is planned, what has been done. */
import type { PlanDefinition } from '../billing/plan.ts';
import type { Reader } from './db.ts';
import { type Page, type PageArgs, selectPage, selectRow } from './query.ts';

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

/** A change with the names of its plans and the invoice that it issued. */
export type PlanChangeRead = {
  readonly id: string;
  readonly from_plan_id: string;
  readonly from_plan_name: string;
  readonly from_version: number;
  readonly to_plan_id: string;
  readonly to_plan_name: string;
  readonly to_version: number;
  readonly timing: 'now' | 'period_end';
  readonly resets_interval: boolean;
  readonly effective_at: Date;
  readonly state: 'scheduled' | 'applied' | 'canceled';
  readonly invoice_id: string | null;
  readonly created_at: Date;
};

/** The changes of a subscription's plan, newest first. */
export async function listPlanChanges(
  db: Reader,
  subscriptionId: string,
  page: PageArgs,
): Promise<Page<PlanChangeRead>> {
  return selectPage(
    db,
    {
      columns: `t.id, f.plan_id AS from_plan_id, fp.name AS from_plan_name, f.version AS from_version, v.plan_id AS to_plan_id,
        vp.name AS to_plan_name, v.version AS to_version, t.timing, t.resets_interval, t.effective_at, t.state,
        (SELECT i.id FROM invoices i WHERE i.business_key = 'change:' || t.id) AS invoice_id, t.created_at`,
      from: `plan_changes t JOIN plan_versions f ON f.id = t.from_version_id JOIN plans fp ON fp.id = f.plan_id
        JOIN plan_versions v ON v.id = t.to_version_id JOIN plans vp ON vp.id = v.plan_id`,
      where: 't.subscription_id = :subscription',
      bindings: { subscription: subscriptionId },
    },
    page,
  );
}
