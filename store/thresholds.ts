/** Usage that is billed in mid-period, as soon as it costs as much as the plan waits for. */
import { assembleInvoice } from '../billing/invoice.ts';
import type { Minor } from '../billing/money.ts';
import { thresholdInvoice, usageCost, usedUntil } from '../billing/progressive.ts';
import type { Db, Reader } from './db.ts';
import { readInvoiceInput } from './invoice-input.ts';
import { readPeriod } from './periods.ts';
import { textArray } from './pg-array.ts';
import { selectRows } from './query.ts';
import { readSubscription } from './subscriptions.ts';

export type WatchedPeriod = {
  readonly subscriptionId: string;
  readonly periodId: string;
  readonly thresholdMinor: Minor;
  /** Stands for the usage that is there: the same mark, the same cost. */
  readonly mark: string;
};

/** A period that ends this soon is billed by its own end. */
const END_NEAR_MS = 60_000;

/**
 * Running periods with usage whose plan has a threshold and whose mark is another than the one that was looked at, by
 * subscription after `afterId` ('' = from the first).
 *
 * Rows of usage are only ever added, each with its events, so that the numbers of events say whether there is more in any
 * period of the interval; segments say under which terms. A level over time costs more as time goes by: it is looked at
 * once an hour.
 */
export async function listWatchedPeriods(
  db: Reader,
  page: { readonly now: Date; readonly afterId: string; readonly limit: number },
): Promise<readonly WatchedPeriod[]> {
  return selectRows<WatchedPeriod>(
    db,
    `SELECT s.id AS "subscriptionId", p.id AS "periodId", v.invoice_threshold_minor AS "thresholdMinor", used.mark
     FROM subscriptions s JOIN plan_versions v ON v.id = s.plan_version_id
     JOIN periods p ON p.subscription_id = s.id AND p.state = 'open' AND p.start_at <= :now AND p.end_at > :end
     CROSS JOIN LATERAL (
       SELECT sum(n.events + n.credited) AS events, concat_ws(' ', p.id, v.invoice_threshold_minor,
         string_agg(g.id || ':' || g.plan_version_id, ',' ORDER BY g.id), sum(n.events), sum(n.corrections), sum(n.credited),
         CASE WHEN bool_or(n.is_level) THEN extract(epoch FROM date_trunc('hour', :now::timestamptz))::bigint END) AS mark
       FROM periods o JOIN segments g ON g.period_id = o.id AND NOT g.void
       CROSS JOIN LATERAL (SELECT
         coalesce((SELECT sum(r.event_count) FROM usage_rollups r
           WHERE r.subscription_id = s.id AND r.segment_id = g.id), 0) AS events,
         (SELECT count(*) FROM usage_corrections c
           WHERE c.subscription_id = s.id AND c.segment_id = g.id) AS corrections,
         coalesce((SELECT sum(c.event_count) FROM credit_rollups c
           WHERE c.subscription_id = s.id AND c.segment_id = g.id), 0) AS credited,
         EXISTS (SELECT 1 FROM usage_levels l WHERE l.subscription_id = s.id AND l.segment_id = g.id) AS is_level) n
       WHERE o.subscription_id = s.id AND o.interval_index = p.interval_index AND o.state <> 'void') used
     LEFT JOIN threshold_looks l ON l.subscription_id = s.id
     WHERE s.state IN ('active', 'past_due') AND v.invoice_threshold_minor IS NOT NULL AND s.id > :after
       AND used.events > 0 AND l.mark IS DISTINCT FROM used.mark
     ORDER BY s.id LIMIT :limit`,
    {
      now: page.now,
      end: new Date(page.now.getTime() + END_NEAR_MS),
      after: page.afterId,
      limit: page.limit,
    },
  );
}

/** Whether the period's usage and overage, by the invoice as it would be if it ended now, cost the threshold or more. */
export async function isThresholdReached(
  db: Db,
  watched: WatchedPeriod,
  now: Date,
): Promise<boolean> {
  const input = await db.transaction(
    async (tx) => {
      const subscription = await readSubscription(tx, watched.subscriptionId);
      return readInvoiceInput(tx, subscription, await readPeriod(tx, watched.periodId));
    },
    { isolationLevel: 'repeatable read', readOnly: true },
  );
  const { lines } = assembleInvoice(usedUntil(input, now.getTime()));
  // A cut begins a new count: nothing of this period is billed yet.
  const usage = { ratedMinor: usageCost(lines), billedMinor: 0n };
  return thresholdInvoice([watched.thresholdMinor], usage) !== null;
}

/**
 * Notes what was priced and cost less than its threshold. The mark was read before the price, which may have counted more
 * already: then the next look finds another mark. One that is never noted is looked at again.
 */
export async function noteLooks(db: Db, looks: readonly WatchedPeriod[]): Promise<void> {
  if (looks.length === 0) return;
  const sorted = looks.toSorted((a, b) => (a.subscriptionId < b.subscriptionId ? -1 : 1));
  await db.raw(
    `INSERT INTO threshold_looks (subscription_id, mark) SELECT * FROM unnest(?::text[], ?::text[])
     ON CONFLICT (subscription_id) DO UPDATE SET mark = excluded.mark`,
    [
      textArray(sorted.map(({ subscriptionId }) => subscriptionId)),
      textArray(sorted.map(({ mark }) => mark)),
    ],
  );
}
