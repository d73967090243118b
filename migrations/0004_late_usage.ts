import type { Knex } from 'knex';

/**
 * Usage that comes in after a subscription has ended is counted in a period of its own, which holds no time and is
 * invoiced by itself. The rules of `0001_foundation.ts` hold here too.
 */
const periods = `
-- A late period lies at the instant at which its subscription ended. It is open while usage may be added to it.
ALTER TABLE periods ADD COLUMN is_late boolean NOT NULL DEFAULT false;
ALTER TABLE periods DROP CONSTRAINT periods_check;
ALTER TABLE periods ADD CONSTRAINT periods_check CHECK (CASE WHEN is_late THEN end_at = start_at ELSE end_at > start_at END);
ALTER TABLE periods ADD CONSTRAINT periods_late_state CHECK (NOT is_late OR state IN ('open', 'closed'));
CREATE UNIQUE INDEX one_open_late_period ON periods (subscription_id) WHERE is_late AND state = 'open';
-- No instant lies in the segment of a late period, and no shard is told of it.
ALTER TABLE segments DROP CONSTRAINT segments_check;
ALTER TABLE segments ADD CONSTRAINT segments_check CHECK (until_at > from_at OR (until_at = from_at AND status = 'inactive'));
`;

const invoices = `
ALTER TABLE invoices DROP CONSTRAINT invoices_kind_check;
ALTER TABLE invoices ADD CONSTRAINT invoices_kind_check CHECK (kind IN ('period', 'advance', 'change', 'threshold', 'late', 'top_up'));
CREATE UNIQUE INDEX one_late_invoice ON invoices (subscription_id, period_id) WHERE kind = 'late' AND state <> 'void';
DROP INDEX invoices_by_period;
CREATE INDEX invoices_by_period ON invoices (period_id) WHERE kind IN ('period', 'late');
`;

/** Such usage lay beside that of the closed period it belongs to, where nobody billed it. It may share an hour there. */
const moved = `
CREATE TEMP TABLE late ON COMMIT DROP AS
SELECT l.subscription_id, 'per_' || left(md5('late:' || l.subscription_id), 22) AS period_id, NULL::bigint AS segment_id,
  l.seq, l.interval_index, l.end_at, l.plan_version_id
FROM (
  SELECT DISTINCT ON (p.subscription_id) p.subscription_id, p.seq, p.interval_index, p.end_at, s.plan_version_id
  FROM periods p JOIN segments s ON s.period_id = p.id AND NOT s.void
  WHERE p.state <> 'void' AND p.subscription_id IN (
    SELECT r.subscription_id FROM usage_rollups r JOIN segments g ON g.id = r.segment_id WHERE r.adjusts_period_id = g.period_id
    UNION SELECT r.subscription_id FROM credit_rollups r JOIN segments g ON g.id = r.segment_id WHERE r.adjusts_period_id = g.period_id)
  ORDER BY p.subscription_id, p.seq DESC, s.from_at DESC) l;
UPDATE periods p SET seq = (SELECT max(o.seq) + 1 FROM periods o WHERE o.subscription_id = p.subscription_id)
FROM late l WHERE p.subscription_id = l.subscription_id AND p.seq = l.seq + 1;
INSERT INTO periods (id, subscription_id, seq, interval_index, interval_start_at, interval_end_at, start_at, end_at, state, is_late)
SELECT period_id, subscription_id, seq + 1, interval_index + 1, end_at, end_at, end_at, end_at, 'open', true FROM late;
INSERT INTO segments (subscription_id, period_id, plan_version_id, from_at, until_at, status, overage)
SELECT subscription_id, period_id, plan_version_id, end_at, end_at, 'inactive', false FROM late;
UPDATE late l SET segment_id = s.id FROM segments s WHERE s.period_id = l.period_id;
INSERT INTO usage_rollups (subscription_id, segment_id, meter_id, hour, adjusts_period_id, quantity, event_count,
  max_quantity, latest_quantity, latest_at)
SELECT r.subscription_id, l.segment_id, r.meter_id, r.hour, r.adjusts_period_id, sum(r.quantity), sum(r.event_count),
  max(r.max_quantity), (array_agg(r.latest_quantity ORDER BY r.latest_at DESC, r.latest_quantity DESC))[1], max(r.latest_at)
FROM usage_rollups r JOIN segments g ON g.id = r.segment_id AND g.period_id = r.adjusts_period_id
JOIN late l ON l.subscription_id = r.subscription_id GROUP BY 1, 2, 3, 4, 5;
DELETE FROM usage_rollups r USING segments g WHERE g.id = r.segment_id AND g.period_id = r.adjusts_period_id;
INSERT INTO credit_rollups (subscription_id, segment_id, hour, adjusts_period_id, event_count, credits_micro, overage_micro,
  written_off_micro)
SELECT r.subscription_id, l.segment_id, r.hour, r.adjusts_period_id, sum(r.event_count), sum(r.credits_micro),
  sum(r.overage_micro), sum(r.written_off_micro)
FROM credit_rollups r JOIN segments g ON g.id = r.segment_id AND g.period_id = r.adjusts_period_id
JOIN late l ON l.subscription_id = r.subscription_id GROUP BY 1, 2, 3, 4;
DELETE FROM credit_rollups r USING segments g WHERE g.id = r.segment_id AND g.period_id = r.adjusts_period_id;
INSERT INTO usage_values (subscription_id, segment_id, meter_id, adjusts_period_id, value_digest, first_at)
SELECT v.subscription_id, l.segment_id, v.meter_id, v.adjusts_period_id, v.value_digest, min(v.first_at)
FROM usage_values v JOIN segments g ON g.id = v.segment_id AND g.period_id = v.adjusts_period_id
JOIN late l ON l.subscription_id = v.subscription_id GROUP BY 1, 2, 3, 4, 5;
DELETE FROM usage_values v USING segments g WHERE g.id = v.segment_id AND g.period_id = v.adjusts_period_id;
UPDATE usage_levels v SET segment_id = l.segment_id FROM segments g, late l
WHERE g.id = v.segment_id AND g.period_id = v.adjusts_period_id AND l.subscription_id = v.subscription_id;
UPDATE usage_events u SET segment_id = l.segment_id, period_id = l.period_id FROM periods p, late l
WHERE p.subscription_id = l.subscription_id AND u.period_id = p.id AND u.adjusts_period_id = p.id;
`;

export async function up(knex: Knex): Promise<void> {
  for (const part of [periods, invoices, moved]) await knex.raw(part);
}

/** Migrations only go forward: a release is undone by the next migration, never by losing rows. */
export async function down(): Promise<void> {
  throw new Error('migrations are not reversed: write the next one');
}
