/**
 * A second implementation of rating, in SQL, which shares no code with `billing/`: what the reconciler and the tests hold
 * the first one against. Numeric is exact here: it is only added, multiplied, divided into whole parts, and rounded once.
 */

/**
 * The relations that are rated, each a complete SELECT. `stage` says of usage when it is billed: `now`, `before` (on an
 * invoice of the same stretch of time under one plan version), or `earlier` (under the terms before a change, which used
 * up included units).
 */
export type RatingSources = {
  /**
   * `id text, charge jsonb, places integer, is_begun boolean, minimum text, start_at, end_at, billed_until_at,
   * interval_start_at, interval_end_at timestamptz, minimum_numerator, minimum_denominator numeric`: the usage charges as they are frozen in `plan_versions.definition`,
   * the decimals of their currency, whether an invoice was issued under these terms before, when the minimum falls due
   * (`now`, `later`, `before`), the stretch of time and the interval that it is in, the part of the minimum that is due.
   */
  readonly charges: string;
  /** `id text, stage text` and the partials of `usage_rollups` and corrections: the rows of each charge's meter. */
  readonly partials: string;
  /** `id text, stage text, value`: what a UNIQUE_COUNT counts. */
  readonly values: string;
  /** `id text, stage text, at timestamptz, quantity`: what a WEIGHTED_SUM weighs; of `earlier` the last one goes on. */
  readonly levels: string;
};

const ms = (at: string): string => `(1000 * extract(epoch FROM ${at}))`;

/** What was counted of the whole and of what was billed before; below zero, a correction took more than is there. */
const quantities = `
parts AS (
  SELECT c.*, c.charge->'meter'->>'aggregation' AS aggregation, part.name AS part, part.stages,
    CASE part.name WHEN 'total' THEN c.end_at ELSE greatest(c.billed_until_at, c.start_at) END AS until_at
  FROM charges c CROSS JOIN (VALUES ('earlier', ARRAY['earlier']), ('before', ARRAY['before']),
    ('total', ARRAY['before', 'now'])) part(name, stages)
  LEFT JOIN (SELECT DISTINCT id FROM partials WHERE stage = 'before') b ON b.id = c.id
  WHERE part.name <> 'before' OR c.is_begun OR b.id IS NOT NULL
    OR (c.charge->'meter'->>'aggregation' = 'WEIGHTED_SUM' AND c.billed_until_at > c.start_at AND (
      SELECT l.quantity FROM levels l WHERE l.id = c.id AND l.stage = 'earlier' AND l.at <= c.start_at
      ORDER BY l.at DESC, l.quantity DESC LIMIT 1) > 0)
),
summed AS (
  SELECT p.id, p.part, p.charge, p.aggregation, greatest(coalesce(sum(r.event_count), 0), 0)::numeric AS events,
    CASE p.aggregation
      WHEN 'SUM' THEN coalesce(sum(r.quantity), 0)
      WHEN 'COUNT' THEN coalesce(sum(r.event_count), 0)
      WHEN 'MAX' THEN coalesce(max(r.max_quantity), 0)::numeric
      WHEN 'LATEST' THEN coalesce(
        (array_agg(r.latest_quantity ORDER BY r.latest_at DESC, r.latest_quantity DESC)
          FILTER (WHERE r.id IS NOT NULL))[1], 0)::numeric
    END AS quantity
  FROM parts p LEFT JOIN partials r ON r.id = p.id AND r.stage = ANY (p.stages)
  GROUP BY p.id, p.part, p.charge, p.aggregation
),
different AS (
  SELECT p.id, p.part, count(DISTINCT v.value)::numeric AS quantity
  FROM parts p JOIN vals v ON v.id = p.id AND v.stage = ANY (p.stages)
  GROUP BY p.id, p.part
),
held AS (
  SELECT p.id, p.part, l.quantity::numeric AS quantity,
    ${ms('greatest(l.at, p.start_at, p.interval_start_at)')} AS from_ms,
    ${ms(`least(coalesce(lead(l.at) OVER (PARTITION BY p.id, p.part ORDER BY l.at, l.quantity), p.until_at),
      p.interval_end_at)`)} AS until_ms,
    ${ms('p.interval_end_at')} - ${ms('p.interval_start_at')} AS span_ms
  FROM parts p JOIN levels l ON l.id = p.id AND (l.stage = ANY (p.stages) OR l.stage = 'earlier')
    AND l.at < p.until_at
),
weighed AS (
  SELECT id, part, div(2 * sum(quantity * (until_ms - from_ms)) + span_ms, 2 * span_ms) AS quantity
  FROM held WHERE until_ms > from_ms GROUP BY id, part, span_ms
),
counted AS (
  SELECT s.id, s.part, s.charge, s.aggregation, s.events, greatest(coalesce(CASE s.aggregation
      WHEN 'UNIQUE_COUNT' THEN d.quantity WHEN 'WEIGHTED_SUM' THEN w.quantity ELSE s.quantity
    END, 0), 0) AS quantity
  FROM summed s LEFT JOIN different d USING (id, part) LEFT JOIN weighed w USING (id, part)
),
allowed AS (
  SELECT *, greatest((charge->>'included_units')::numeric
    - CASE WHEN aggregation IN ('SUM', 'COUNT', 'UNIQUE_COUNT')
        THEN max(quantity) FILTER (WHERE part = 'earlier') OVER (PARTITION BY id) ELSE 0 END, 0) AS included
  FROM counted
),
billable AS (
  SELECT id, part, charge->'price' AS price, charge->'price'->>'model' AS model, events,
    greatest(quantity - included, 0) * ('1e-' || (charge->'meter'->>'scale'))::numeric AS units
  FROM allowed WHERE part <> 'earlier'
)`;

/** The exact amounts of both, under every price model. */
const amounts = `
tiers AS (
  SELECT b.id, b.part, b.model, b.units, t.position,
    (t.tier->>'up_to')::numeric AS up_to,
    coalesce(lag((t.tier->>'up_to')::numeric) OVER (PARTITION BY b.id, b.part ORDER BY t.position), 0) AS above,
    coalesce((t.tier->>'unit_price')::numeric, 0) AS unit_price,
    (t.tier->>'flat_fee')::numeric AS flat_fee
  FROM billable b, jsonb_array_elements(b.price->'tiers') WITH ORDINALITY AS t(tier, position)
),
tiered AS (
  SELECT id, part, sum(CASE
      WHEN model = 'graduated'
        THEN (least(units, coalesce(up_to, units)) - above) * unit_price + flat_fee
      WHEN up_to IS NULL OR units <= up_to THEN units * unit_price + flat_fee
      ELSE 0
    END) AS amount
  FROM tiers WHERE position = 1 OR units > above GROUP BY id, part
),
exact AS (
  SELECT b.id, b.part, CASE b.model
      WHEN 'per_unit' THEN b.units * (b.price->>'unit_price')::numeric
      WHEN 'package' THEN (b.price->>'package_price')::numeric * (
        div(b.units, (b.price->>'package_size')::numeric)
        + CASE WHEN coalesce(b.price->>'round', 'up') = 'up'
            AND mod(b.units, (b.price->>'package_size')::numeric) > 0 THEN 1 ELSE 0 END)
      WHEN 'percentage' THEN b.units * (b.price->>'percent')::numeric * 0.01
        + greatest(b.events - (b.price->>'free_events')::numeric, 0) * (b.price->>'fixed_fee')::numeric
      ELSE t.amount
    END AS amount
  FROM billable b LEFT JOIN tiered t USING (id, part)
)`;

/** Each rounded once, and brought within the bounds of its charge. */
const bounded = `
sums AS (
  SELECT id, max(amount) FILTER (WHERE part = 'total') AS exact_total,
    coalesce(max(amount) FILTER (WHERE part = 'before'), 0) AS exact_before, bool_or(part = 'before') AS has_before
  FROM exact GROUP BY id
),
rated AS (
  SELECT c.id, c.minimum, s.exact_total, s.exact_before, s.has_before,
    round(s.exact_total * ('1e' || c.places)::numeric) AS total_minor,
    round(s.exact_before * ('1e' || c.places)::numeric) AS before_minor,
    div(2 * (c.charge->>'minimum_minor')::numeric * c.minimum_numerator + c.minimum_denominator,
      2 * c.minimum_denominator) AS least_minor,
    (c.charge->>'maximum_minor')::numeric AS most_minor
  FROM charges c JOIN sums s USING (id)
),
bounded AS (
  SELECT *,
    least(greatest(total_minor, CASE WHEN minimum <> 'later' THEN least_minor END), most_minor)
      - total_minor AS total_moved,
    CASE WHEN has_before
      THEN least(greatest(before_minor, CASE WHEN minimum = 'before' THEN least_minor END), most_minor)
        - before_minor
      ELSE 0 END AS before_moved
  FROM rated
)`;

/**
 * One row for each charge: `id, exact_total, exact_before, amount_minor, bound_minor`: the usage line, and the line that
 * brings it to its minimum or maximum (0 = none).
 */
export function ratingSql({ charges, partials, values, levels }: RatingSources): string {
  return `WITH charges AS (${charges}), partials AS (${partials}), vals AS (${values}), levels AS (${levels}),
${quantities},${amounts},${bounded}
SELECT id, exact_total::text AS exact_total, exact_before::text AS exact_before,
  (total_minor - before_minor)::text AS amount_minor,
  (total_moved - before_moved)::text AS bound_minor
FROM bounded`;
}
