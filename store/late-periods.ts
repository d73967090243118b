/**
 * Where usage goes that comes in after a subscription's end: to a late period, which holds no time and is invoiced by
 * itself. At most one of a subscription is open; once that is invoiced, what comes next opens another.
 */
import type { Reader, Tx } from './db.ts';
import { newId } from './ids.ts';
import { selectRow, selectRows } from './query.ts';

/**
 * Opens the late period of a subscription all of whose periods are closed; where one is open, or another transaction
 * opens it at the same time, nothing changes. Its segment carries the version that the subscription ended with.
 */
export async function openLatePeriod(tx: Tx, subscriptionId: string): Promise<void> {
  const last = await selectRow<{ seq: number }>(
    tx,
    `SELECT seq FROM periods WHERE subscription_id = ? AND state <> 'void' ORDER BY seq DESC LIMIT 1`,
    [subscriptionId],
  );
  if (last === null) return;
  // A void period may be in its place, since periods after the end were taken back: that one goes to the end.
  await tx.raw(
    `UPDATE periods SET seq = (SELECT max(seq) + 1 FROM periods WHERE subscription_id = :id)
     WHERE subscription_id = :id AND seq = :seq AND state = 'void'`,
    { id: subscriptionId, seq: last.seq + 1 },
  );
  await selectRows(
    tx,
    `WITH late AS (
       INSERT INTO periods (id, subscription_id, seq, interval_index, interval_start_at, interval_end_at, start_at, end_at, state, is_late)
       SELECT :id, subscription_id, seq + 1, interval_index + CASE WHEN is_late THEN 0 ELSE 1 END, end_at, end_at, end_at, end_at, 'open', true
       FROM periods WHERE subscription_id = :subscription AND seq = :seq
       ON CONFLICT DO NOTHING RETURNING id, subscription_id, end_at)
     INSERT INTO segments (subscription_id, period_id, plan_version_id, from_at, until_at, status, overage)
     SELECT l.subscription_id, l.id, g.plan_version_id, l.end_at, l.end_at, 'inactive', false
     FROM late l CROSS JOIN LATERAL (
       SELECT s.plan_version_id FROM segments s JOIN periods p ON p.id = s.period_id
       WHERE s.subscription_id = l.subscription_id AND NOT s.void AND p.state <> 'void' ORDER BY s.from_at DESC, s.id DESC LIMIT 1) g
     RETURNING id`,
    { id: newId('per'), subscription: subscriptionId, seq: last.seq },
  );
}

/** Subscriptions that ended before `before` and have a late period that is open, by id after `afterId` ('' = from the first). */
export async function listEndedWithLateUsage(
  db: Reader,
  page: { readonly before: Date; readonly afterId: string; readonly limit: number },
): Promise<readonly { readonly subscriptionId: string }[]> {
  return selectRows(
    db,
    `SELECT subscription_id AS "subscriptionId" FROM periods
     WHERE is_late AND state = 'open' AND end_at < ? AND subscription_id > ? ORDER BY subscription_id LIMIT ?`,
    [page.before, page.afterId, page.limit],
  );
}
