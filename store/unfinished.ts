/** What is under way by its row, so that its workflow must run or have run: the reconciler starts what is missing. */
import { formatCredits } from '../billing/credits.ts';
import type { Reader } from './db.ts';
import { selectRows } from './query.ts';

export type UnfinishedSubscription = {
  readonly subscriptionId: string;
  readonly state: 'pending' | 'active' | 'past_due';
  readonly subscriberName: string;
  readonly planName: string;
};

type PageOf = { readonly before: Date; readonly afterId: string; readonly limit: number };

/** Live subscriptions made before `before`, by id after `afterId` ('' = from the first). */
export async function listLiveSubscriptions(
  db: Reader,
  page: PageOf,
): Promise<readonly UnfinishedSubscription[]> {
  return selectRows<UnfinishedSubscription>(
    db,
    `SELECT s.id AS "subscriptionId", s.state, r.name AS "subscriberName", p.name AS "planName"
     FROM subscriptions s JOIN subscribers r ON r.id = s.subscriber_id JOIN plans p ON p.id = s.plan_id
     WHERE s.state <> 'canceled' AND s.created_at < ? AND s.id > ? ORDER BY s.id LIMIT ?`,
    [page.before, page.afterId, page.limit],
  );
}

export type UnfinishedClose = {
  readonly subscriptionId: string;
  readonly periodId: string;
  readonly periodSeq: number;
  readonly subscriberName: string;
};

/** Periods that were over before `before` and are not closed, the oldest first. */
export async function listUnfinishedCloses(
  db: Reader,
  page: { readonly before: Date; readonly limit: number },
): Promise<readonly UnfinishedClose[]> {
  return selectRows<UnfinishedClose>(
    db,
    `SELECT p.subscription_id AS "subscriptionId", p.id AS "periodId", p.seq AS "periodSeq", r.name AS "subscriberName"
     FROM periods p JOIN subscriptions s ON s.id = p.subscription_id JOIN subscribers r ON r.id = s.subscriber_id
     WHERE p.state = 'closing' AND p.end_at < ? ORDER BY p.end_at, p.id LIMIT ?`,
    [page.before, page.limit],
  );
}

export type UnfinishedCollection = { readonly invoiceId: string; readonly number: string };

/** Open invoices that were finalized before `before`. */
export async function listOpenInvoices(
  db: Reader,
  page: PageOf,
): Promise<readonly UnfinishedCollection[]> {
  return selectRows<UnfinishedCollection>(
    db,
    `SELECT id AS "invoiceId", number FROM invoices
     WHERE state = 'open' AND finalized_at < ? AND id > ? ORDER BY id LIMIT ?`,
    [page.before, page.afterId, page.limit],
  );
}

export type UnfinishedTopUp = {
  readonly topUpId: string;
  readonly subscriberName: string;
  readonly credits: string;
};

/** Top-ups made before `before` that are still pending, the oldest first. */
export async function listPendingTopUps(
  db: Reader,
  page: { readonly before: Date; readonly limit: number },
): Promise<readonly UnfinishedTopUp[]> {
  const rows = await selectRows<{ id: string; name: string; credits_micro: bigint }>(
    db,
    `SELECT t.id, r.name, t.credits_micro FROM top_ups t JOIN subscribers r ON r.id = t.subscriber_id
     WHERE t.state = 'pending' AND t.created_at < ? ORDER BY t.created_at, t.id LIMIT ?`,
    [page.before, page.limit],
  );
  return rows.map((row) => ({
    topUpId: row.id,
    subscriberName: row.name,
    credits: formatCredits(row.credits_micro),
  }));
}

export type UnfinishedRefund = { readonly refundId: string; readonly number: string };

/** Refunds made before `before` that are still pending, the oldest first. */
export async function listPendingRefunds(
  db: Reader,
  page: { readonly before: Date; readonly limit: number },
): Promise<readonly UnfinishedRefund[]> {
  return selectRows<UnfinishedRefund>(
    db,
    `SELECT r.id AS "refundId", n.number FROM refunds r JOIN credit_notes n ON n.id = r.credit_note_id
     WHERE r.state = 'pending' AND r.created_at < ? ORDER BY r.created_at, r.id LIMIT ?`,
    [page.before, page.limit],
  );
}

/** `number`: of the invoice. */
export type UnfinishedTakeBack = { readonly takeBackId: string; readonly number: string };

/** Take-backs begun before `before` whose end is not known, the oldest first. */
export async function listPendingTakeBacks(
  db: Reader,
  page: { readonly before: Date; readonly limit: number },
): Promise<readonly UnfinishedTakeBack[]> {
  return selectRows<UnfinishedTakeBack>(
    db,
    `SELECT k.id AS "takeBackId", i.number FROM take_backs k JOIN invoices i ON i.id = k.invoice_id
     WHERE k.state IN ('taking', 'taken') AND k.created_at < ? ORDER BY k.created_at, k.id LIMIT ?`,
    [page.before, page.limit],
  );
}

/** Periods that are over and whose invoice is not issued and does not wait as a draft, and invoices whose collection has failed: for metrics. */
export async function countUnfinished(
  db: Reader,
): Promise<{ readonly closing: number; readonly unpaid: number }> {
  const [row] = await selectRows<{ closing: bigint; unpaid: bigint }>(
    db,
    `SELECT (SELECT count(*) FROM periods WHERE state = 'closing' AND coalesce(finalize_at <= now(), true)) AS closing,
            (SELECT count(*) FROM invoices WHERE state = 'open' AND payment_status = 'failed') AS unpaid`,
  );
  return { closing: Number(row?.closing ?? 0n), unpaid: Number(row?.unpaid ?? 0n) };
}
