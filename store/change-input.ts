/**
 * The invoices of a change of plan and of fees in advance. Preview and real change call these functions, so that what
 * was shown is what is invoiced.
 */
import type { InvoiceDraft } from '../billing/invoice.ts';
import { type ChangeTiming, changeTiming } from '../billing/plan-change.ts';
import type { PlanDefinition } from '../billing/plan.ts';
import type { Reader } from './db.ts';
import { listPeriods, type Period } from './periods.ts';
import { insertedRow } from './query.ts';
import type { Subscription } from './subscriptions.ts';

export type PlanChangeDraft = {
  readonly timing: ChangeTiming;
  /** When segments begin to carry the new version. */
  readonly effectiveAt: Date;
  /** Null: nothing is invoiced at once. */
  readonly invoice: InvoiceDraft | null;
};

/** What a change of plan at `at` does, and what it invoices at once. */
export async function draftPlanChange(
  db: Reader,
  subscription: Subscription,
  change: {
    readonly toVersionId: string;
    readonly at: Date;
    readonly timing: 'now' | 'period_end' | 'default';
  },
): Promise<PlanChangeDraft> {
  const next = await readDefinition(db, change.toVersionId);
  const usual = changeTiming(subscription.definition, next);
  const periods = await listPeriods(db, subscription.id, ['scheduled', 'open', 'closing']);
  const current = periods.find(({ startAt, endAt }) => startAt <= change.at && change.at < endAt);
  if (
    change.timing === 'period_end' ||
    (change.timing === 'default' && usual.kind === 'period_end')
  ) {
    const effectiveAt = current?.intervalEndAt ?? change.at;
    return { timing: { kind: 'period_end' }, effectiveAt, invoice: null };
  }
  const timing: ChangeTiming =
    usual.kind === 'now' ? usual : { kind: 'now', isIntervalReset: false };
  return { timing, effectiveAt: change.at, invoice: null };
}

async function readDefinition(db: Reader, planVersionId: string): Promise<PlanDefinition> {
  const row = await insertedRow<{ definition: PlanDefinition }>(
    db,
    'SELECT definition FROM plan_versions WHERE id = ?',
    [planVersionId],
  );
  return row.definition;
}

/** The fees in advance of the interval that `period` begins; null when there are none, or all are billed already. */
export async function draftAdvanceInvoice(
  _db: Reader,
  _subscription: Subscription,
  _period: Period,
): Promise<InvoiceDraft | null> {
  return null;
}
