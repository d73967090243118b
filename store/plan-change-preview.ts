import type { InvoiceDraft } from '../billing/invoice.ts';
import type { Db, Tx } from './db.ts';
import { draftPeriodInvoice } from './period-invoice.ts';
import { listPeriods, type Period } from './periods.ts';
import { changePlan, type PlanChangeRequest, type PlanChangeResult } from './plan-changes.ts';
import { bringUpToDate } from './subscription-roll.ts';
import { lockSubscription, readSubscription } from './subscriptions.ts';

export type PlanChangePreview =
  | {
      readonly kind: 'preview';
      readonly timing: 'now' | 'period_end';
      readonly resetsInterval: boolean;
      readonly effectiveAt: Date;
      /** What would be invoiced at once. */
      readonly changeInvoice: InvoiceDraft | null;
      /** The period that ends next, and its invoice as of what is used so far, once the change is made. */
      readonly period: Period;
      readonly upcoming: InvoiceDraft;
    }
  | Extract<PlanChangeResult, { kind: 'refused' }>;

/**
 * What a change of plan would do: it is made and taken back, so that what is shown is what happens. Nothing is written.
 * @param now The subscription's time.
 */
export async function previewPlanChange(
  db: Db,
  subscriptionId: string,
  request: PlanChangeRequest,
  now: Date,
): Promise<PlanChangePreview> {
  const tx = await db.transaction();
  try {
    return await tryChange(tx, subscriptionId, request, now);
  } finally {
    await tx.rollback();
  }
}

async function tryChange(
  tx: Tx,
  subscriptionId: string,
  request: PlanChangeRequest,
  now: Date,
): Promise<PlanChangePreview> {
  const before = await bringUpToDate(tx, await lockSubscription(tx, subscriptionId), now);
  const result = await changePlan(tx, before, request, now);
  if (result.kind === 'refused') return result;
  const subscription = await readSubscription(tx, subscriptionId);
  const periods = await listPeriods(tx, subscriptionId, ['scheduled', 'open', 'closing']);
  const period = periods.find(({ endAt }) => endAt > now);
  if (period === undefined || result.draft === null) {
    throw new Error(`subscription ${subscriptionId} has no period after its change of plan`);
  }
  return {
    kind: 'preview',
    timing: result.draft.timing.kind,
    resetsInterval: subscription.intervalBase !== before.intervalBase,
    effectiveAt: result.effectiveAt,
    changeInvoice: result.draft.invoice,
    period,
    upcoming: await draftPeriodInvoice(tx, subscription, period),
  };
}
