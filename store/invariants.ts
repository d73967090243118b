import type { Reader } from './db.ts';
import { selectRows } from './query.ts';
import { misratedLines } from './rated-lines.ts';
import { usagePartials } from './usage-partials.ts';

/**
 * What must be true of the database at every moment, whatever was interrupted: each is a query that finds nothing.
 * The numbers are kept for ever. What can only be known of a running system (balances of the shards, open holds) is
 * compared elsewhere; here the shard speaks through its facts.
 */
export type Invariant = {
  readonly id: string;
  readonly sentence: string;
  /**
   * `always`: broken by one row at any moment. `in_time`: something that others wait for has not happened for too long;
   * after a crash it may take its grace to come right.
   */
  readonly kind: 'always' | 'in_time';
  /** Gives `subject` (what is wrong) and `detail`, one row for each violation. */
  readonly sql: string;
};

export type Violation = {
  readonly id: string;
  readonly sentence: string;
  readonly kind: Invariant['kind'];
  readonly subject: string;
  readonly detail: string;
};

/** So many violations of one invariant are shown; the rest is more of the same. */
const SHOWN_MAX = 20;

/** Runs them one after the other; use a REPEATABLE READ transaction on a database that is written to. */
export async function findViolations(
  db: Reader,
  chosen: readonly Invariant[] = invariants,
): Promise<readonly Violation[]> {
  const found: Violation[] = [];
  for (const { id, sentence, kind, sql } of chosen) {
    const rows = await selectRows<{ subject: unknown; detail: unknown }>(
      db,
      `SELECT subject, detail FROM (${sql}) AS violations LIMIT ${SHOWN_MAX}`,
    );
    for (const row of rows) {
      found.push({ id, sentence, kind, subject: String(row.subject), detail: String(row.detail) });
    }
  }
  return found;
}

/** A subscriber's account in the ledger, by what it sums to. */
const ACCOUNT_SUMS = `SELECT a.environment, a.subscriber_id, a.asset, a.kind, sum(e.amount) AS amount
  FROM accounts a JOIN ledger_entries e ON e.account_id = a.id GROUP BY a.id`;
const FINAL_INVOICES = `SELECT * FROM invoices WHERE finalized_at IS NOT NULL AND state <> 'void'`;
/** What an invoice has due after its balance and its credit notes; of a paid one, what whoever paid it paid. */
const DUES = `SELECT i.*, i.amount_due_minor - coalesce((
    SELECT sum(n.due_reduced_minor) FROM credit_notes n WHERE n.invoice_id = i.id), 0) AS minor FROM invoices i
  WHERE i.finalized_at IS NOT NULL`;

export const invariants: readonly Invariant[] = [
  {
    id: 'I1',
    sentence: 'Every ledger transaction has two entries or more and sums to zero in each asset.',
    kind: 'always',
    sql: `SELECT e.txn_id AS subject, a.asset || ' sums to ' || sum(e.amount) AS detail
      FROM ledger_entries e JOIN accounts a ON a.id = e.account_id GROUP BY e.txn_id, a.asset HAVING sum(e.amount) <> 0
      UNION ALL SELECT t.id, count(e.id) || ' entries' FROM ledger_txns t LEFT JOIN ledger_entries e ON e.txn_id = t.id
      GROUP BY t.id HAVING count(e.id) < 2`,
  },
  {
    id: 'I2',
    sentence: 'The whole ledger sums to zero in each environment and asset.',
    kind: 'always',
    sql: `SELECT a.environment || ' ' || a.asset AS subject, sum(e.amount) AS detail
      FROM ledger_entries e JOIN accounts a ON a.id = e.account_id
      GROUP BY a.environment, a.asset HAVING sum(e.amount) <> 0`,
  },
  {
    id: 'I3',
    sentence: 'No account of credits that a subscriber has is below zero.',
    kind: 'always',
    sql: `SELECT subscriber_id AS subject, kind || ' ' || asset || ' ' || amount AS detail FROM (${ACCOUNT_SUMS}) s
      WHERE subscriber_id IS NOT NULL AND kind IN ('available', 'spent', 'expired', 'refunded') AND amount < 0`,
  },
  {
    id: 'I4',
    sentence: 'Granted = available + spent + expired + refunded, for each subscriber and unit.',
    kind: 'always',
    sql: `WITH g AS (
        SELECT w.subscriber_id, 'credit:' || w.unit AS asset, sum(g.amount_micro) AS amount
        FROM grants g JOIN wallets w ON w.id = g.wallet_id GROUP BY 1, 2),
      l AS (
        SELECT subscriber_id, asset, sum(amount) AS amount FROM (${ACCOUNT_SUMS}) s
        WHERE subscriber_id IS NOT NULL AND asset LIKE 'credit:%' GROUP BY 1, 2)
      SELECT subscriber_id AS subject, asset || ': granted ' || coalesce(g.amount, 0) || ', ledger ' || coalesce(l.amount, 0) AS detail
      FROM g FULL JOIN l USING (subscriber_id, asset) WHERE coalesce(g.amount, 0) <> coalesce(l.amount, 0)`,
  },
  {
    id: 'I5',
    sentence:
      "An event's credits are the sum of its takes, each from a bucket of its own subscriber.",
    kind: 'always',
    sql: `SELECT event_id AS subject, 'credits ' || credits_micro AS detail FROM usage_events u
      WHERE credits_micro <> (SELECT coalesce(sum(m), 0) FROM unnest(bucket_micro) AS m)
      UNION ALL SELECT u.event_id, 'bucket ' || t.bucket_id FROM usage_events u
      CROSS JOIN unnest(u.bucket_ids) AS t(bucket_id)
      LEFT JOIN buckets b ON b.id = t.bucket_id LEFT JOIN wallets w ON w.id = b.wallet_id
      WHERE w.subscriber_id IS DISTINCT FROM u.subscriber_id`,
  },
  {
    id: 'I6',
    sentence:
      'An event from outside stands for one row of what was sent in, of the same subscriber.',
    kind: 'always',
    sql: `SELECT u.event_id AS subject, coalesce(x.subscriber_id, 'nothing was sent in') AS detail
      FROM usage_events u LEFT JOIN external_events x ON x.op_id = u.event_id
      WHERE 'external' = ANY (u.flags)
        AND (x.subscriber_id, x.environment) IS DISTINCT FROM (u.subscriber_id, u.environment)`,
  },
  {
    id: 'I7',
    sentence:
      'What a shard took for a void or a debit is between nothing and what was asked; a grant takes nothing.',
    kind: 'always',
    sql: `SELECT subscriber_id AS subject, verb || ' ' || seq || ': ' || taken_micro || ' of ' || amount_micro AS detail
      FROM core_log WHERE taken_micro < 0 OR taken_micro > amount_micro OR (verb = 'grant' AND taken_micro IS NOT NULL)`,
  },
  {
    id: 'I8',
    sentence: 'A void or debit that the shard has applied is answered within five minutes.',
    kind: 'in_time',
    sql: `SELECT subscriber_id AS subject, verb || ' ' || seq AS detail FROM core_log
      WHERE verb <> 'grant' AND taken_micro IS NULL AND applied_at < now() - interval '5 minutes'`,
  },
  {
    id: 'I9',
    sentence: 'No event is there twice, and each lies on the day that its name says.',
    kind: 'always',
    sql: `SELECT event_id AS subject, count(*) || ' times' AS detail FROM usage_events GROUP BY event_id HAVING count(*) > 1
      UNION ALL SELECT event_id, event_day::text FROM usage_events WHERE to_char(event_day, 'YYYYMMDD') <> left(event_id, 8)`,
  },
  {
    id: 'I10',
    sentence: 'Every business key has had its effect once.',
    kind: 'always',
    sql: `SELECT key AS subject, what || ' ' || count(*) || ' times' AS detail FROM (
        SELECT 'ledger' AS what, business_key AS key FROM ledger_txns
        UNION ALL SELECT 'grant', business_key FROM grants
        UNION ALL SELECT 'core log', business_key FROM core_log
        UNION ALL SELECT 'payment', business_key FROM payments
        UNION ALL SELECT 'invoice', business_key FROM invoices
        UNION ALL SELECT 'top-up', business_key FROM top_ups
        UNION ALL SELECT 'outbox', business_key FROM outbox) AS k
      GROUP BY what, key HAVING count(*) > 1`,
  },
  {
    id: 'I11',
    sentence:
      'A spend is the sum of the events that name it; an event with credits names one, or was paid by debits.',
    kind: 'always',
    sql: `WITH named AS (
        SELECT ledger_txn_id AS id, subscriber_id, sum(credits_micro) AS micro FROM usage_events
        WHERE ledger_txn_id IS NOT NULL GROUP BY 1, 2),
      posted AS (
        SELECT t.id, a.subscriber_id, sum(e.amount) AS micro FROM ledger_txns t
        JOIN ledger_entries e ON e.txn_id = t.id JOIN accounts a ON a.id = e.account_id
        WHERE t.kind = 'spend' AND a.kind = 'spent' GROUP BY 1, 2)
      SELECT id::text AS subject, 'events ' || coalesce(n.micro, 0) || ', posted ' || coalesce(p.micro, 0) AS detail
      FROM named n FULL JOIN posted p USING (id, subscriber_id) WHERE n.micro IS DISTINCT FROM p.micro
      UNION ALL SELECT u.event_id, u.credits_micro || ' micro-credits' FROM usage_events u
      WHERE u.credits_micro > 0 AND u.ledger_txn_id IS NULL AND u.credits_micro <> (
        SELECT coalesce(sum(l.taken_micro), 0) FROM core_log l
        WHERE l.subscriber_id = u.subscriber_id
          AND (l.business_key = 'unheld:' || u.event_id OR l.business_key LIKE 'unheld:' || u.event_id || ':%'))`,
  },
  {
    id: 'I12',
    sentence: "What a subscriber has spent is the sum of its events' credits.",
    kind: 'always',
    sql: `WITH l AS (SELECT subscriber_id, sum(amount) AS micro FROM (${ACCOUNT_SUMS}) s WHERE kind = 'spent' GROUP BY 1),
      u AS (SELECT subscriber_id, sum(credits_micro) AS micro FROM usage_events GROUP BY 1)
      SELECT subscriber_id AS subject, 'ledger ' || coalesce(l.micro, 0) || ', events ' || coalesce(u.micro, 0) AS detail
      FROM l FULL JOIN u USING (subscriber_id) WHERE coalesce(l.micro, 0) <> coalesce(u.micro, 0)`,
  },
  {
    id: 'I13',
    sentence:
      'An event lies in the segment that holds its instant, or adjusts the closed period that does.',
    kind: 'always',
    sql: `SELECT u.event_id AS subject, u.occurred_at || ' in segment ' || u.segment_id AS detail
      FROM usage_events u LEFT JOIN segments s ON s.id = u.segment_id
      LEFT JOIN periods p ON p.id = coalesce(u.adjusts_period_id, u.period_id)
      WHERE s.id IS NULL OR p.id IS NULL OR s.period_id <> u.period_id
        OR s.subscription_id <> u.subscription_id OR p.subscription_id <> u.subscription_id
        OR u.occurred_at < p.start_at OR u.occurred_at >= p.end_at
        OR (u.adjusts_period_id IS NULL AND (u.occurred_at < s.from_at OR u.occurred_at >= s.until_at))
        OR (u.adjusts_period_id IS NOT NULL AND p.state <> 'closed')`,
  },
  {
    id: 'I14',
    sentence: 'Periods tile without a gap or an overlap, and segments tile the period they lie in.',
    kind: 'always',
    sql: `SELECT id AS subject, 'begins ' || start_at || ', the one before ends ' || before AS detail FROM (
        SELECT id, start_at, lag(end_at) OVER (PARTITION BY subscription_id ORDER BY start_at) AS before
        FROM periods WHERE state <> 'void') AS p WHERE before <> start_at
      UNION ALL SELECT p.id, 'its segments do not fill it' FROM periods p
      LEFT JOIN segments s ON s.period_id = p.id AND NOT s.void
      WHERE p.state <> 'void' GROUP BY p.id
      HAVING range_agg(tstzrange(s.from_at, s.until_at)) IS DISTINCT FROM tstzmultirange(tstzrange(p.start_at, p.end_at))`,
  },
  {
    id: 'I15',
    sentence:
      'A closed period has exactly one invoice that counts, or none but void ones, a late one also none where nothing was to be billed; one that is not closed has none that is final.',
    kind: 'always',
    sql: `SELECT p.id AS subject, p.state || ', ' || count(i.id) FILTER (WHERE i.state <> 'void') || ' invoices' AS detail
      FROM periods p LEFT JOIN invoices i ON i.period_id = p.id AND i.kind IN ('period', 'late') AND i.finalized_at IS NOT NULL
      GROUP BY p.id HAVING count(i.id) FILTER (WHERE i.state <> 'void') <>
        CASE WHEN p.state <> 'closed' OR bool_and(i.state = 'void') THEN 0
          WHEN p.is_late AND count(i.id) = 0 THEN 0 ELSE 1 END
        OR bool_or((i.kind = 'late') <> p.is_late)`,
  },
  {
    id: 'I16',
    sentence:
      "An invoice's subtotal is the sum of its lines; its total is that less the discounts and with the tax that is added, what is due the rest after the balance.",
    kind: 'always',
    sql: `SELECT i.id AS subject, 'total ' || i.total_minor || ', lines ' || coalesce(sum(l.amount_minor), 0) AS detail
      FROM invoices i LEFT JOIN invoice_lines l ON l.invoice_id = i.id GROUP BY i.id
      HAVING i.subtotal_minor <> coalesce(sum(l.amount_minor), 0) OR i.discount_minor <> coalesce(sum(l.discount_minor), 0)
        OR i.total_minor <> i.subtotal_minor - i.discount_minor + CASE WHEN i.tax_included THEN 0 ELSE i.tax_minor END
        OR i.amount_due_minor <> i.total_minor - i.balance_applied_minor OR i.amount_due_minor < 0`,
  },
  {
    id: 'I17',
    sentence:
      'The quantity that a period, also a late one, bills under a version of a plan is the quantity that was metered in it under that version.',
    kind: 'always',
    sql: `SELECT b.id AS subject, b.meter_id || ': billed ' || b.billed || ', metered ' || b.metered AS detail FROM (
        SELECT i.id, l.meter_id, sum((l.details->>'total')::numeric - coalesce((l.details->>'before')::numeric, 0)) AS billed,
          (SELECT coalesce(sum(CASE WHEN max(l.details->>'aggregation') = 'COUNT' THEN r.event_count ELSE r.quantity END), 0)
            FROM ${usagePartials} r JOIN segments s ON s.id = r.segment_id
            LEFT JOIN periods a ON a.id = r.adjusts_period_id
            WHERE s.period_id = i.period_id AND r.meter_id = l.meter_id
              AND coalesce((SELECT t.plan_version_id FROM segments t WHERE t.period_id = nullif(r.adjusts_period_id, '')
                AND NOT t.void AND t.from_at <= r.latest_at ORDER BY t.from_at DESC LIMIT 1), s.plan_version_id)
                = coalesce(l.plan_version_id, s.plan_version_id)
              AND (r.adjusts_period_id = '' OR i.kind = 'late' OR a.interval_index =
                (SELECT interval_index FROM periods WHERE id = i.period_id))) AS metered
        FROM (${FINAL_INVOICES}) i JOIN invoice_lines l ON l.invoice_id = i.id
        WHERE (i.kind, l.kind) IN (('period', 'usage'), ('late', 'adjustment')) AND l.details->>'aggregation' IN ('SUM', 'COUNT')
        GROUP BY i.id, i.kind, i.period_id, l.meter_id, l.charge_id, l.plan_version_id) AS b
      WHERE b.billed <> b.metered`,
  },
  {
    id: 'I18',
    sentence:
      'A final invoice is what was posted when it became final, and has the digest of its content.',
    kind: 'always',
    sql: `SELECT i.id AS subject, 'total ' || i.total_minor || ', posted ' || coalesce(p.minor, 0) AS detail
      FROM (${FINAL_INVOICES}) i LEFT JOIN (
        SELECT t.business_key, sum(e.amount) AS minor FROM ledger_txns t JOIN ledger_entries e ON e.txn_id = t.id
        JOIN accounts a ON a.id = e.account_id WHERE t.kind = 'invoice' AND a.kind = 'receivable' GROUP BY 1) p
        ON p.business_key = 'invoice:' || i.id
      WHERE i.total_minor <> coalesce(p.minor, 0) OR octet_length(i.content_digest) IS DISTINCT FROM 32`,
  },
  {
    id: 'I19',
    sentence: 'A payment has at most one grant: of what was bought, to who paid, once it was paid.',
    kind: 'always',
    sql: `SELECT g.id AS subject, 'payment ' || g.payment_id AS detail FROM grants g
      JOIN wallets w ON w.id = g.wallet_id LEFT JOIN payments p ON p.id = g.payment_id
      LEFT JOIN top_ups t ON t.payment_id = g.payment_id
      WHERE g.payment_id IS NOT NULL AND (p.state IS DISTINCT FROM 'succeeded'
        OR p.subscriber_id IS DISTINCT FROM w.subscriber_id OR t.credits_micro IS DISTINCT FROM g.amount_micro
        OR t.wallet_id IS DISTINCT FROM g.wallet_id)
      UNION ALL SELECT payment_id, count(*) || ' grants' FROM grants
      WHERE payment_id IS NOT NULL GROUP BY payment_id HAVING count(*) > 1`,
  },
  {
    id: 'I20',
    sentence: 'A top-up that is paid has its grant within five minutes.',
    kind: 'in_time',
    sql: `SELECT p.id AS subject, 'paid ' || p.updated_at AS detail
      FROM payments p LEFT JOIN grants g ON g.payment_id = p.id
      WHERE p.kind = 'top_up' AND p.state = 'succeeded' AND g.id IS NULL AND p.updated_at < now() - interval '5 minutes'`,
  },
  {
    id: 'I21',
    sentence:
      'What is left of the grants is between nothing and what they gave, and adds up to what is available.',
    kind: 'always',
    sql: `SELECT id AS subject, remaining_micro || ' of ' || amount_micro AS detail FROM grants
      WHERE remaining_micro < 0 OR remaining_micro > amount_micro
      UNION ALL SELECT w.subscriber_id, w.unit || ': left ' || sum(g.remaining_micro) || ', available ' || coalesce(max(l.amount), 0)
      FROM grants g JOIN wallets w ON w.id = g.wallet_id
      LEFT JOIN (${ACCOUNT_SUMS}) l ON l.subscriber_id = w.subscriber_id AND l.asset = 'credit:' || w.unit AND l.kind = 'available'
      GROUP BY w.id HAVING sum(g.remaining_micro) <> coalesce(max(l.amount), 0)`,
  },
  {
    id: 'I22',
    sentence: 'Every quantity is a number from zero to 10^15 - 1, and every sum of them is finite.',
    kind: 'always',
    sql: `SELECT event_id AS subject, quantities::text AS detail FROM usage_events
      WHERE NOT (0 <= ALL (quantities) AND 999999999999999 >= ALL (quantities) AND array_position(quantities, NULL) IS NULL)
        OR credits_micro NOT BETWEEN 0 AND 999999999999999 OR overage_micro NOT BETWEEN 0 AND 999999999999999
        OR written_off_micro NOT BETWEEN 0 AND 999999999999999
      UNION ALL SELECT subscription_id, quantity::text FROM usage_rollups WHERE NOT (quantity >= 0 AND quantity < 1e30)
      UNION ALL SELECT subscription_id, credits_micro || ' ' || overage_micro || ' ' || written_off_micro FROM credit_rollups
      WHERE NOT (credits_micro >= 0 AND credits_micro < 1e30 AND overage_micro >= 0 AND overage_micro < 1e30
        AND written_off_micro >= 0 AND written_off_micro < 1e30)`,
  },
  {
    id: 'I23',
    sentence: 'No row mixes two subscribers, or the two environments.',
    kind: 'always',
    sql: `SELECT u.event_id AS subject, 'event of ' || b.subscriber_id || ', ' || b.environment AS detail
      FROM usage_events u JOIN subscriptions b ON b.id = u.subscription_id
      WHERE (b.subscriber_id, b.environment, b.product_id) IS DISTINCT FROM (u.subscriber_id, u.environment, u.product_id)
      UNION ALL SELECT b.id, 'subscription of ' || s.id FROM subscriptions b JOIN subscribers s ON s.id = b.subscriber_id
      WHERE s.environment <> b.environment
      UNION ALL SELECT u.event_id, 'spend of ' || a.subscriber_id FROM usage_events u
      JOIN ledger_entries e ON e.txn_id = u.ledger_txn_id JOIN accounts a ON a.id = e.account_id
      WHERE a.subscriber_id <> u.subscriber_id OR a.environment <> u.environment
      UNION ALL SELECT g.id, 'bucket of another wallet' FROM grants g JOIN buckets b ON b.id = g.bucket_id
      WHERE b.wallet_id <> g.wallet_id
      UNION ALL SELECT i.id, 'invoice of ' || i.subscriber_id FROM invoices i JOIN subscriptions b ON b.id = i.subscription_id
      WHERE (b.subscriber_id, b.environment) IS DISTINCT FROM (i.subscriber_id, i.environment)
      UNION ALL SELECT t.id::text, 'accounts of two environments' FROM ledger_txns t
      JOIN ledger_entries e ON e.txn_id = t.id JOIN accounts a ON a.id = e.account_id WHERE a.environment <> t.environment`,
  },
  {
    id: 'I24',
    sentence:
      'No event is from more than five minutes ahead or 35 days ago, seen from when it came in.',
    kind: 'always',
    sql: `SELECT u.event_id AS subject, u.occurred_at || ' came in ' || u.received_at AS detail
      FROM usage_events u JOIN subscribers s ON s.id = u.subscriber_id
      WHERE s.clock_offset_ms = 0 AND (u.occurred_at > u.received_at + interval '5 minutes'
        OR u.occurred_at < u.received_at - interval '35 days 1 hour')`,
  },
  {
    id: 'I25',
    sentence: 'The hours that rating reads are the sums of the events.',
    kind: 'always',
    sql: `WITH e AS (
        SELECT u.subscription_id, u.segment_id, m.meter_id, date_bin('1 hour', u.occurred_at, 'epoch') AS hour,
          coalesce(u.adjusts_period_id, '') AS adjusts_period_id, sum(m.quantity) AS quantity,
          count(DISTINCT u.event_id) AS event_count
        FROM usage_events u CROSS JOIN unnest(u.meter_ids, u.quantities) AS m(meter_id, quantity) GROUP BY 1, 2, 3, 4, 5),
      c AS (
        SELECT subscription_id, segment_id, date_bin('1 hour', occurred_at, 'epoch') AS hour,
          coalesce(adjusts_period_id, '') AS adjusts_period_id, sum(credits_micro) AS credits,
          sum(overage_micro) AS overage, sum(written_off_micro) AS written_off
        FROM usage_events GROUP BY 1, 2, 3, 4)
      SELECT subscription_id AS subject, meter_id || ' ' || hour || ': events ' || coalesce(e.quantity, 0) || ', hour ' || coalesce(r.quantity, 0) AS detail
      FROM e FULL JOIN usage_rollups r USING (subscription_id, segment_id, meter_id, hour, adjusts_period_id)
      WHERE (e.quantity, e.event_count) IS DISTINCT FROM (r.quantity, r.event_count)
      UNION ALL SELECT subscription_id, 'credits of ' || hour
      FROM c FULL JOIN credit_rollups r USING (subscription_id, segment_id, hour, adjusts_period_id)
      WHERE (coalesce(c.credits, 0), coalesce(c.overage, 0), coalesce(c.written_off, 0)) IS DISTINCT FROM
        (coalesce(r.credits_micro, 0), coalesce(r.overage_micro, 0), coalesce(r.written_off_micro, 0))`,
  },
  {
    id: 'I26',
    sentence: 'Once the slots are given out, each of the 4,096 has one owner.',
    kind: 'always',
    sql: `SELECT 'slots' AS subject, count(*) || ' rows, ' || count(DISTINCT slot) || ' slots' AS detail FROM slots
      HAVING count(*) > 0 AND (count(*) <> 4096 OR count(DISTINCT slot) <> 4096)`,
  },
  {
    id: 'I27',
    sentence: 'Nothing waits in the outbox for more than a minute, and no fact is parked.',
    kind: 'in_time',
    // A low balance is told to whoever asked to hear of it; as yet nobody does.
    sql: `SELECT business_key AS subject, topic || ' since ' || created_at AS detail FROM outbox
      WHERE delivered_at IS NULL AND topic <> 'balance_low' AND created_at < now() - interval '60 seconds'
      UNION ALL SELECT shard || ' ' || incarnation || ' ' || stream_id, reason FROM parked_facts WHERE resolved_at IS NULL`,
  },
  {
    id: 'I28',
    sentence: 'Numbers of invoices and of credit notes have no gap and no repeat in their series.',
    kind: 'always',
    sql: `WITH n AS (
        SELECT environment, series, number_in_series FROM invoices WHERE number IS NOT NULL
        UNION ALL SELECT environment, series, number_in_series FROM credit_notes)
      SELECT environment || ' ' || series AS subject, count(number_in_series) || ' up to ' || max(number_in_series) AS detail
      FROM n FULL JOIN invoice_series s USING (environment, series) GROUP BY environment, series, s.last_number
      HAVING count(number_in_series) IS DISTINCT FROM max(number_in_series)
        OR count(DISTINCT number_in_series) <> count(number_in_series)
        OR min(number_in_series) IS DISTINCT FROM 1 OR s.last_number IS DISTINCT FROM max(number_in_series)`,
  },
  {
    id: 'I29',
    sentence: 'Of a key only its 32-byte digest is kept.',
    kind: 'always',
    sql: `SELECT id AS subject, octet_length(digest) || ' bytes' AS detail FROM api_keys WHERE octet_length(digest) <> 32
      UNION ALL SELECT id, octet_length(digest) || ' bytes' FROM service_tokens WHERE octet_length(digest) <> 32`,
  },
  {
    id: 'I30',
    sentence:
      'The core log of a subscriber has no gap and ends where the subscriber says; nothing is applied that is not written.',
    kind: 'always',
    sql: `SELECT s.id AS subject, 'core_seq ' || s.core_seq || ', ' || count(l.seq) || ' entries' AS detail
      FROM subscribers s LEFT JOIN core_log l ON l.subscriber_id = s.id GROUP BY s.id
      HAVING count(l.seq) <> s.core_seq OR coalesce(max(l.seq), 0) <> s.core_seq
        OR s.applied_core_seq > s.core_seq OR s.applied_version > s.runtime_version`,
  },
  {
    id: 'I31',
    sentence: 'Each grant was told to the shard, for what it gave.',
    kind: 'always',
    sql: `SELECT g.id AS subject, g.business_key AS detail FROM grants g JOIN wallets w ON w.id = g.wallet_id
      LEFT JOIN core_log l ON l.business_key = 'grant:' || g.business_key
      WHERE (l.verb, l.subscriber_id, l.bucket_id, l.amount_micro)
        IS DISTINCT FROM ('grant', w.subscriber_id, g.bucket_id, g.amount_micro)`,
  },
  {
    id: 'I32',
    sentence: 'What a subscriber owes is what its open invoices still have due.',
    kind: 'always',
    // Credits are paid before their invoice is there: that money is owed to the subscriber as yet.
    sql: `WITH owed AS (SELECT subscriber_id, asset, amount FROM (${ACCOUNT_SUMS}) s WHERE kind = 'receivable'),
      due AS (
        SELECT subscriber_id, currency AS asset, sum(minor) AS amount FROM (
          SELECT subscriber_id, currency, minor FROM (${DUES}) d WHERE state = 'open'
          UNION ALL SELECT p.subscriber_id, p.currency, -p.amount_minor FROM payments p JOIN top_ups t ON t.payment_id = p.id
          WHERE p.state = 'succeeded' AND t.invoice_id IS NULL) AS m
        GROUP BY 1, 2)
      SELECT subscriber_id AS subject, asset || ': ledger ' || coalesce(o.amount, 0) || ', due ' || coalesce(d.amount, 0) AS detail
      FROM owed o FULL JOIN due d USING (subscriber_id, asset) WHERE coalesce(o.amount, 0) <> coalesce(d.amount, 0)`,
  },
  {
    id: 'I33',
    sentence:
      'An account balance is what invoices, credit notes, failed refunds and overpayments gave to it less what invoices took, and never below zero.',
    kind: 'always',
    sql: `WITH held AS (SELECT subscriber_id, asset, -amount AS amount FROM (${ACCOUNT_SUMS}) s WHERE kind = 'account_balance'),
      given AS (
        SELECT subscriber_id, currency AS asset, sum(minor) AS amount FROM (
          SELECT subscriber_id, currency, -balance_applied_minor AS minor FROM (${FINAL_INVOICES}) i
          UNION ALL SELECT subscriber_id, currency, balance_minor FROM credit_notes
          UNION ALL SELECT subscriber_id, currency, amount_minor FROM refunds WHERE state = 'failed'
          UNION ALL SELECT subscriber_id, currency, amount_minor FROM payments WHERE kind = 'invoice' AND state = 'succeeded'
          UNION ALL SELECT subscriber_id, currency, -minor FROM (${DUES}) d
          WHERE kind <> 'top_up' AND paid_by = 'payment') AS m
        GROUP BY 1, 2)
      SELECT subscriber_id AS subject, asset || ': ledger ' || coalesce(h.amount, 0) || ', rows ' || coalesce(g.amount, 0) AS detail
      FROM held h FULL JOIN given g USING (subscriber_id, asset)
      WHERE coalesce(h.amount, 0) <> coalesce(g.amount, 0) OR h.amount < 0`,
  },
  {
    id: 'I34',
    sentence:
      'A line of usage costs what the second implementation of rating makes of its quantities, its minimum and its maximum.',
    kind: 'always',
    sql: misratedLines,
  },
  {
    id: 'I35',
    sentence:
      'What the corrections of an event leave is a quantity, counted once or not at all, and billed to its own subscription.',
    kind: 'always',
    sql: `SELECT e.event_id AS subject, m.meter_id || ': ' || m.quantity + sum(c.quantity_after - c.quantity_before)
        || ', counted ' || 1 + sum(c.event_count_delta) AS detail
      FROM usage_corrections c JOIN usage_events e USING (event_day, event_id)
      JOIN segments s ON s.id = c.segment_id
      LEFT JOIN LATERAL unnest(e.meter_ids, e.quantities) AS m(meter_id, quantity) ON m.meter_id = c.meter_id
      GROUP BY e.event_id, m.meter_id, m.quantity
      HAVING m.quantity IS NULL
        OR m.quantity + sum(c.quantity_after - c.quantity_before) NOT BETWEEN 0 AND 999999999999999
        OR 1 + sum(c.event_count_delta) NOT IN (0, 1)
        OR bool_or((c.subscription_id, s.subscription_id, c.subscriber_id, c.environment, c.occurred_at)
          IS DISTINCT FROM (e.subscription_id, e.subscription_id, e.subscriber_id, e.environment, e.occurred_at))`,
  },
  {
    id: 'I36',
    sentence:
      'Credit notes credit no line beyond its amount and its discount, and no invoice that charges only beyond its total.',
    kind: 'always',
    sql: `SELECT l.id AS subject, 'credited ' || sum(c.amount_minor) || ' of ' || l.amount_minor AS detail
      FROM credit_note_lines c JOIN invoice_lines l ON l.id = c.invoice_line_id GROUP BY l.id
      HAVING abs(sum(c.amount_minor)) > abs(l.amount_minor) OR sum(c.amount_minor) * l.amount_minor < 0
        OR sum(c.discount_minor) NOT BETWEEN 0 AND l.discount_minor
      UNION ALL SELECT i.id, 'credited ' || sum(n.total_minor) || ' of ' || i.total_minor
      FROM credit_notes n JOIN invoices i ON i.id = n.invoice_id
      WHERE NOT EXISTS (SELECT 1 FROM invoice_lines l WHERE l.invoice_id = i.id AND l.amount_minor < 0)
      GROUP BY i.id HAVING sum(n.total_minor) > i.total_minor
      UNION ALL SELECT n.id, 'its line is of another invoice' FROM credit_notes n
      JOIN credit_note_lines c ON c.credit_note_id = n.id JOIN invoice_lines l ON l.id = c.invoice_line_id
      WHERE l.invoice_id <> n.invoice_id`,
  },
  {
    id: 'I37',
    sentence:
      "A credit note's subtotal is the sum of its lines, its total that less discounts and with tax; it went where it says, and was posted.",
    kind: 'always',
    sql: `SELECT n.id AS subject, 'total ' || n.total_minor || ', posted ' || coalesce(p.minor, 0) AS detail
      FROM credit_notes n JOIN invoices i ON i.id = n.invoice_id
      LEFT JOIN (
        SELECT credit_note_id, sum(amount_minor) AS amount, sum(discount_minor) AS discount FROM credit_note_lines GROUP BY 1) l
        ON l.credit_note_id = n.id
      LEFT JOIN (
        SELECT t.business_key, -sum(e.amount) FILTER (WHERE a.kind IN ('receivable', 'bad_debt', 'account_balance', 'refund_payable')) AS minor,
          -coalesce(sum(e.amount) FILTER (WHERE a.kind = 'account_balance'), 0) AS balance,
          -coalesce(sum(e.amount) FILTER (WHERE a.kind = 'refund_payable'), 0) AS refund
        FROM ledger_txns t JOIN ledger_entries e ON e.txn_id = t.id JOIN accounts a ON a.id = e.account_id
        WHERE t.kind = 'credit_note' GROUP BY 1) p ON p.business_key = 'credit_note:' || n.id
      LEFT JOIN (SELECT credit_note_id, sum(amount_minor) AS minor FROM refunds GROUP BY 1) r ON r.credit_note_id = n.id
      WHERE n.subtotal_minor IS DISTINCT FROM l.amount OR n.discount_minor IS DISTINCT FROM l.discount
        OR n.total_minor <> n.subtotal_minor - n.discount_minor + CASE WHEN i.tax_included THEN 0 ELSE n.tax_minor END
        OR n.total_minor IS DISTINCT FROM p.minor OR n.balance_minor <> p.balance OR n.refund_minor <> p.refund
        OR n.refund_minor <> coalesce(r.minor, 0)`,
  },
  {
    id: 'I38',
    sentence: 'Refunds of a payment give back no more than it brought, to who paid.',
    kind: 'always',
    sql: `SELECT p.id AS subject, 'refunded ' || sum(r.amount_minor) || ' of ' || p.amount_minor AS detail
      FROM refunds r JOIN payments p ON p.id = r.payment_id WHERE r.state <> 'failed' GROUP BY p.id
      HAVING sum(r.amount_minor) > p.amount_minor OR p.state <> 'succeeded'
        OR bool_or((r.subscriber_id, r.currency) IS DISTINCT FROM (p.subscriber_id, p.currency))`,
  },
  {
    id: 'I39',
    sentence:
      'Cash is what payments brought, through the provider or elsewhere, less what was refunded.',
    kind: 'always',
    sql: `WITH cash AS (
        SELECT a.environment, a.asset, sum(e.amount) AS amount FROM accounts a JOIN ledger_entries e ON e.account_id = a.id
        WHERE a.kind = 'cash' GROUP BY 1, 2),
      moved AS (
        SELECT environment, currency AS asset, sum(minor) AS amount FROM (
          SELECT environment, currency, amount_minor AS minor FROM payments WHERE state = 'succeeded'
          UNION ALL SELECT environment, currency, -amount_minor FROM refunds WHERE state = 'succeeded'
          UNION ALL SELECT environment, currency, minor FROM (${DUES}) d WHERE paid_by = 'out_of_band') AS m
        GROUP BY 1, 2)
      SELECT environment || ' ' || asset AS subject, 'ledger ' || coalesce(c.amount, 0) || ', rows ' || coalesce(m.amount, 0) AS detail
      FROM cash c FULL JOIN moved m USING (environment, asset) WHERE coalesce(c.amount, 0) <> coalesce(m.amount, 0)`,
  },
  {
    id: 'I40',
    sentence:
      'What coupons took off a final invoice is what it says was discounted; fees of a change of plan are less by it already.',
    kind: 'always',
    sql: `SELECT i.id AS subject, 'discounts ' || i.discount_minor || ', uses ' || coalesce(sum(u.amount_minor), 0) AS detail
      FROM invoices i LEFT JOIN coupon_uses u ON u.invoice_id = i.id
      WHERE i.finalized_at IS NOT NULL AND i.kind <> 'change' GROUP BY i.id HAVING i.discount_minor <> coalesce(sum(u.amount_minor), 0)
      UNION ALL SELECT u.invoice_id, 'coupon of ' || h.subscription_id FROM coupon_uses u
      JOIN subscription_coupons h ON h.id = u.subscription_coupon_id JOIN invoices i ON i.id = u.invoice_id
      WHERE i.subscription_id IS DISTINCT FROM h.subscription_id
        OR (u.interval_index BETWEEN i.interval_index AND i.interval_index + 1) IS NOT TRUE`,
  },
  {
    id: 'I41',
    sentence:
      'What was given up is a loss in the ledger for as long as it is neither paid, credited nor voided.',
    kind: 'always',
    sql: `WITH lost AS (
        SELECT a.environment, a.asset, sum(e.amount) AS amount FROM accounts a JOIN ledger_entries e ON e.account_id = a.id
        WHERE a.kind = 'bad_debt' GROUP BY 1, 2),
      given_up AS (
        SELECT environment, currency AS asset, sum(minor) AS amount FROM (${DUES}) d
        WHERE state = 'uncollectible' GROUP BY 1, 2)
      SELECT environment || ' ' || asset AS subject, 'ledger ' || coalesce(l.amount, 0) || ', given up ' || coalesce(g.amount, 0) AS detail
      FROM lost l FULL JOIN given_up g USING (environment, asset) WHERE coalesce(l.amount, 0) <> coalesce(g.amount, 0)`,
  },
  {
    id: 'I42',
    sentence: 'Nothing of a void invoice is left in the ledger.',
    kind: 'always',
    sql: `SELECT i.id AS subject, a.kind || ' ' || sum(e.amount) AS detail FROM invoices i
      JOIN ledger_txns t ON t.business_key IN ('invoice:' || i.id, 'balance:' || i.id, 'bad_debt:' || i.id, 'void:' || i.id)
      JOIN ledger_entries e ON e.txn_id = t.id JOIN accounts a ON a.id = e.account_id
      WHERE i.state = 'void' GROUP BY i.id, a.id HAVING sum(e.amount) <> 0`,
  },
  {
    id: 'I43',
    sentence:
      'The last segment of a live subscription carries its plan version, or that of the change that is planned.',
    kind: 'always',
    sql: `SELECT s.id AS subject, g.plan_version_id || ', should be ' || coalesce(c.to_version_id, s.plan_version_id) AS detail
      FROM subscriptions s CROSS JOIN LATERAL (
        SELECT plan_version_id FROM segments WHERE subscription_id = s.id AND NOT void AND status <> 'inactive'
        ORDER BY from_at DESC LIMIT 1) g
      LEFT JOIN plan_changes c ON c.subscription_id = s.id AND c.state = 'scheduled'
      WHERE s.state IN ('active', 'past_due') AND g.plan_version_id <> coalesce(c.to_version_id, s.plan_version_id)`,
  },
  {
    id: 'I44',
    sentence:
      'Usage that came too late for a closed period lies in the period of the invoice that bills it, never in that one.',
    kind: 'always',
    sql: `SELECT p.subscription_id AS subject, r.meter_id || ' of ' || p.id || ': ' || r.quantity AS detail
      FROM ${usagePartials} r JOIN segments s ON s.id = r.segment_id JOIN periods p ON p.id = s.period_id
      WHERE r.adjusts_period_id = p.id
      UNION ALL SELECT subscription_id, 'overage ' || overage_micro FROM credit_rollups r JOIN segments s USING (subscription_id)
      WHERE s.id = r.segment_id AND r.adjusts_period_id = s.period_id
      UNION ALL SELECT event_id, 'adjusts ' || period_id FROM usage_events WHERE adjusts_period_id = period_id
      UNION ALL SELECT p.subscription_id, 'usage in time in the late period ' || p.id FROM ${usagePartials} r
      JOIN segments s ON s.id = r.segment_id JOIN periods p ON p.id = s.period_id WHERE p.is_late AND r.adjusts_period_id = ''`,
  },
  {
    id: 'I45',
    sentence:
      'What came in after the end of a subscription is billed within the hour in which nothing more of it can come.',
    kind: 'in_time',
    sql: `SELECT subscription_id AS subject, 'ended ' || end_at AS detail FROM periods
      WHERE is_late AND state = 'open' AND end_at < now() - interval '35 days 2 hours'`,
  },
  {
    id: 'I46',
    sentence:
      'What a shard took for a take-back or a void was taken from its grant and posted as refunded, but for a rest that went back to the shard.',
    kind: 'always',
    sql: `SELECT k.id AS subject, 'shard took ' || coalesce(d.taken_micro, 0) || ', kept ' || coalesce(k.taken_micro, 0)
        || ', rest ' || coalesce(r.amount_micro, 0) || ', posted ' || coalesce(p.micro, 0) AS detail
      FROM take_backs k JOIN grants g ON g.id = k.grant_id
      LEFT JOIN core_log d ON d.business_key = 'take_back:' || k.id
      LEFT JOIN core_log r ON r.business_key = 'take_back:' || k.id || ':rest'
      LEFT JOIN (
        SELECT t.business_key, sum(e.amount) AS micro FROM ledger_txns t JOIN ledger_entries e ON e.txn_id = t.id
        JOIN accounts a ON a.id = e.account_id WHERE t.kind = 'debit' AND a.kind = 'refunded' GROUP BY 1) p
        ON p.business_key = 'debit:' || d.subscriber_id || ':' || d.seq
      WHERE (d.verb, d.subscriber_id, d.bucket_id, d.amount_micro)
          IS DISTINCT FROM ('debit', k.subscriber_id, g.bucket_id, k.asked_micro)
        OR (d.taken_micro IS NULL) <> (k.taken_micro IS NULL)
        OR d.taken_micro <> k.taken_micro + coalesce(r.amount_micro, 0)
        OR coalesce(k.taken_micro, 0) <> coalesce(p.micro, 0)
        OR r.seq IS NOT NULL AND (r.verb, r.subscriber_id, r.bucket_id)
          IS DISTINCT FROM ('grant', k.subscriber_id, g.bucket_id)
      UNION ALL SELECT d.business_key, 'shard took ' || d.taken_micro || ', rest ' || coalesce(max(r.amount_micro), 0)
        || ', posted ' || coalesce(sum(e.amount), 0)
      FROM core_log d LEFT JOIN core_log r ON r.business_key = d.business_key || ':rest'
      LEFT JOIN ledger_txns t ON t.business_key = 'void:' || d.subscriber_id || ':' || d.seq
      LEFT JOIN ledger_entries e ON e.txn_id = t.id AND e.amount > 0
      WHERE d.verb = 'void' AND d.taken_micro IS NOT NULL GROUP BY d.subscriber_id, d.seq
      HAVING d.taken_micro <> coalesce(max(r.amount_micro), 0) + coalesce(sum(e.amount), 0)`,
  },
  {
    id: 'I47',
    sentence:
      'What a top-up gives back is for credits that were taken back from its grant, and no more than they cost.',
    kind: 'always',
    sql: `SELECT n.id AS subject, 'credited ' || n.subtotal_minor || ', taken back for ' || coalesce(k.credited_minor, 0) AS detail
      FROM credit_notes n JOIN invoices i ON i.id = n.invoice_id LEFT JOIN take_backs k ON k.credit_note_id = n.id
      WHERE (i.kind = 'top_up' OR k.id IS NOT NULL) AND (i.kind, k.invoice_id, k.credited_minor)
        IS DISTINCT FROM ('top_up', n.invoice_id, n.subtotal_minor)
      UNION ALL SELECT g.id, sum(k.taken_micro) || ' taken back for ' || sum(k.credited_minor)
      FROM take_backs k JOIN grants g ON g.id = k.grant_id LEFT JOIN top_ups t ON g.business_key = 'top_up:' || t.id
      LEFT JOIN invoice_lines l ON l.invoice_id = t.invoice_id AND l.kind = 'top_up'
      GROUP BY g.id, l.amount_minor
      HAVING (coalesce(sum(k.credited_minor), 0) * g.amount_micro > coalesce(sum(k.taken_micro), 0) * l.amount_minor) IS NOT FALSE
        OR sum(k.taken_micro) > g.amount_micro - g.remaining_micro OR bool_or(k.invoice_id IS DISTINCT FROM t.invoice_id)`,
  },
  {
    id: 'I48',
    sentence: 'Credits that were taken back have their credit note within five minutes.',
    kind: 'in_time',
    sql: `SELECT id AS subject, 'taken ' || updated_at AS detail FROM take_backs
      WHERE state = 'taken' AND updated_at < now() - interval '5 minutes'`,
  },
];
