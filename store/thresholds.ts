/** Usage that is billed in mid-period, as soon as it costs as much as the plan waits for. */
import type { Minor } from '../billing/money.ts';
import { thresholdInvoice, usageCost } from '../billing/progressive.ts';
import type { Db, Reader } from './db.ts';
import { draftPeriodInvoice } from './period-invoice.ts';
import { readPeriod } from './periods.ts';
import { selectRows } from './query.ts';
import { readSubscription } from './subscriptions.ts';

export type WatchedPeriod = {
  readonly subscriptionId: string;
  readonly periodId: string;
  readonly thresholdMinor: Minor;
};

/** A period that ends this soon is billed by its own end. */
const END_NEAR_MS = 60_000;

/** Running periods with usage whose plan has a threshold, by subscription after `afterId` ('' = from the first). */
export async function listWatchedPeriods(
  db: Reader,
  page: { readonly now: Date; readonly afterId: string; readonly limit: number },
): Promise<readonly WatchedPeriod[]> {
  return selectRows<WatchedPeriod>(
    db,
    `SELECT s.id AS "subscriptionId", p.id AS "periodId", v.invoice_threshold_minor AS "thresholdMinor"
     FROM subscriptions s JOIN plan_versions v ON v.id = s.plan_version_id
     JOIN periods p ON p.subscription_id = s.id AND p.state = 'open' AND p.start_at <= :now AND p.end_at > :end
     WHERE s.state IN ('active', 'past_due') AND v.invoice_threshold_minor IS NOT NULL AND s.id > :after
       AND EXISTS (SELECT 1 FROM segments g WHERE g.period_id = p.id AND NOT g.void AND (
         EXISTS (SELECT 1 FROM usage_rollups r WHERE r.subscription_id = s.id AND r.segment_id = g.id) OR
         EXISTS (SELECT 1 FROM credit_rollups r WHERE r.subscription_id = s.id AND r.segment_id = g.id)))
     ORDER BY s.id LIMIT :limit`,
    {
      now: page.now,
      end: new Date(page.now.getTime() + END_NEAR_MS),
      after: page.afterId,
      limit: page.limit,
    },
  );
}

/** Whether the period's usage and overage, by the invoice as it would be now, cost the threshold or more. */
export async function isThresholdReached(db: Db, watched: WatchedPeriod): Promise<boolean> {
  const draft = await db.transaction(
    async (tx) => {
      const subscription = await readSubscription(tx, watched.subscriptionId);
      return draftPeriodInvoice(tx, subscription, await readPeriod(tx, watched.periodId));
    },
    { isolationLevel: 'repeatable read', readOnly: true },
  );
  // A cut begins a new count: nothing of this period is billed yet.
  const usage = { ratedMinor: usageCost(draft.lines), billedMinor: 0n };
  return thresholdInvoice([watched.thresholdMinor], usage) !== null;
}
