/**
 * A second implementation of rating, in SQL, which shares no code with `billing/`: what the reconciler and the tests hold
 * the first one against. Numeric is exact here: it is only added, multiplied, divided into whole parts, and rounded once.
 */

/** The relations that are rated, each a complete SELECT. */
export type RatingSources = {
  /**
   * `id text, charge jsonb, places integer, fee_due boolean, minimum text`: the usage charges as they are frozen in
   * `plan_versions.definition`, the decimals of their currency, whether nothing of the interval was billed before, and
   * when the minimum falls due (`now`, `later`, `before`).
   */
  readonly charges: string;
  /**
   * `id text, is_before boolean` and the partials of `usage_rollups`: the rows of each charge's meter in the interval, and
   * which of them were billed before.
   */
  readonly rollups: string;
};

/** What was counted and is billable, of the whole interval and of what was billed before. */
const quantities = `
parts AS (
  SELECT c.id, c.charge, c.charge->'price' AS price, part.name AS part
  FROM charges c CROSS JOIN (VALUES ('before'), ('total')) part(name)
  WHERE part.name = 'total' OR NOT c.fee_due
),
counted AS (
  SELECT p.id, p.part, coalesce(sum(r.event_count), 0)::numeric AS events,
    CASE p.charge->'meter'->>'aggregation'
      WHEN 'SUM' THEN coalesce(sum(r.quantity), 0)
      WHEN 'COUNT' THEN coalesce(sum(r.event_count), 0)
      WHEN 'MAX' THEN coalesce(max(r.max_quantity), 0)::numeric
      WHEN 'LATEST' THEN coalesce(
        (array_agg(r.latest_quantity ORDER BY r.latest_at DESC, r.latest_quantity DESC)
          FILTER (WHERE r.id IS NOT NULL))[1], 0)::numeric
    END AS quantity
  FROM parts p LEFT JOIN rollups r ON r.id = p.id AND (p.part = 'total' OR r.is_before)
  GROUP BY p.id, p.part, p.charge
),
billable AS (
  SELECT p.id, p.part, p.price, p.price->>'model' AS model, k.events,
    greatest(k.quantity - (p.charge->>'included_units')::numeric, 0)
      * ('1e-' || (p.charge->'meter'->>'scale'))::numeric AS units
  FROM parts p JOIN counted k USING (id, part)
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
rated AS (
  SELECT c.id, c.minimum, total.amount AS exact_total, coalesce(before.amount, 0) AS exact_before,
    before.id IS NOT NULL AS has_before,
    round(total.amount * ('1e' || c.places)::numeric) AS total_minor,
    round(coalesce(before.amount, 0) * ('1e' || c.places)::numeric) AS before_minor,
    (c.charge->>'minimum_minor')::numeric AS least_minor,
    (c.charge->>'maximum_minor')::numeric AS most_minor
  FROM charges c
  JOIN exact total ON total.id = c.id AND total.part = 'total'
  LEFT JOIN exact before ON before.id = c.id AND before.part = 'before'
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
export function ratingSql({ charges, rollups }: RatingSources): string {
  return `WITH charges AS (${charges}), rollups AS (${rollups}),${quantities},${amounts},${bounded}
SELECT id, exact_total::text AS exact_total, exact_before::text AS exact_before,
  (total_minor - before_minor)::text AS amount_minor,
  (total_moved - before_moved)::text AS bound_minor
FROM bounded`;
}
