/**
 * The reconciler's use of the second implementation of rating: every line of usage on a final invoice, priced anew in SQL
 * from the quantities that it says and the version of the plan that it names. That the quantities are those that were
 * metered is checked apart (I17).
 */
import { currencies, isCurrency, placesOf } from '../billing/money.ts';
import { ratingSql } from './rating-sql.ts';

const places = currencies
  .filter((currency) => isCurrency(currency))
  .map((currency) => `('${currency}', ${placesOf(currency)})`)
  .join(', ');

const lines = `SELECT l.id, l.details, l.amount_minor, i.currency, l.plan_version_id, l.charge_id
  FROM invoice_lines l JOIN invoices i ON i.id = l.invoice_id
  WHERE i.finalized_at IS NOT NULL AND i.state <> 'void' AND l.details->>'aggregation' IS NOT NULL AND l.plan_version_id IS NOT NULL`;

const quantity = (name: string): string => `(l.details->>'${name}')::numeric`;
const events = (name: string): string => `coalesce(l.details->>'events_${name}', '0')::bigint`;

/** What is counted already is only to be priced: as a sum of two parts, whatever the meter's aggregation. */
const again = ratingSql({
  charges: `SELECT l.id, jsonb_set(jsonb_set(c.charge, '{included_units}', l.details->'included_units'),
      '{meter,aggregation}', '"SUM"') AS charge, p.places::integer AS places, ${quantity('before')} IS NOT NULL AS is_begun,
    'later' AS minimum, now() AS start_at, now() AS end_at, now() AS billed_until_at, now() AS interval_start_at,
    now() AS interval_end_at, 1::numeric AS minimum_numerator, 1::numeric AS minimum_denominator
    FROM (${lines}) l JOIN plan_versions v ON v.id = l.plan_version_id
    JOIN (VALUES ${places}) p(currency, places) ON p.currency = l.currency
    CROSS JOIN jsonb_array_elements(v.definition->'charges') c(charge) WHERE c.charge->>'id' = l.charge_id`,
  partials: `SELECT l.id, part.stage, CASE part.stage WHEN 'before' THEN ${quantity('before')}
      ELSE ${quantity('total')} - coalesce(${quantity('before')}, 0) END AS quantity,
    CASE part.stage WHEN 'before' THEN ${events('before')} ELSE ${events('total')} - ${events('before')} END AS event_count,
    0::bigint AS max_quantity, 0::bigint AS latest_quantity, now() AS latest_at
    FROM (${lines}) l CROSS JOIN (VALUES ('before'), ('now')) part(stage)
    WHERE part.stage = 'now' OR ${quantity('before')} IS NOT NULL`,
  values: `SELECT ''::text AS id, ''::text AS stage, ''::text AS value WHERE false`,
  levels: `SELECT ''::text AS id, ''::text AS stage, now() AS at, 0::bigint AS quantity WHERE false`,
});

/** Lines that bring usage to its minimum or maximum, with the two of the charge: of the minimum the part that was due. */
const bounds = `SELECT l.id, l.amount_minor, ${quantity('rated_minor')} AS rated, ${quantity('rated_before_minor')} AS rated_before,
    ${quantity('bounded_minor')} AS bounded, ${quantity('bounded_before_minor')} AS bounded_before,
    div(2 * (c.charge->>'minimum_minor')::numeric * p.numerator + p.denominator, 2 * p.denominator) AS minimum,
    (c.charge->>'maximum_minor')::numeric AS maximum
  FROM invoice_lines l JOIN invoices i ON i.id = l.invoice_id JOIN plan_versions v ON v.id = l.plan_version_id
  CROSS JOIN jsonb_array_elements(v.definition->'charges') c(charge)
  CROSS JOIN LATERAL (SELECT coalesce((l.details->'minimum_part'->>'numerator')::numeric, 1) AS numerator,
    coalesce((l.details->'minimum_part'->>'denominator')::numeric, 1) AS denominator) p
  WHERE i.finalized_at IS NOT NULL AND i.state <> 'void' AND l.details->>'model' IN ('minimum', 'maximum')
    AND c.charge->>'id' = l.charge_id`;

/** What is rated, with the minimum where it is due and without it where it is not yet. */
const withinBounds = (rated: string): string =>
  `(least(greatest(${rated}, minimum), maximum), least(${rated}, maximum))`;

/** Gives `subject`, `detail` of each line whose amount is another than that of the second implementation. */
export const misratedLines = `SELECT r.id AS subject, 'billed ' || l.amount_minor || ', rated ' || r.amount_minor AS detail
  FROM (${again}) r JOIN invoice_lines l ON l.id = r.id WHERE r.amount_minor::numeric <> l.amount_minor
  UNION ALL SELECT b.id, 'bound by ' || b.amount_minor || ': from ' || b.rated_before || ' to ' || b.bounded_before
    || ' before, from ' || b.rated || ' to ' || b.bounded || ' with it' FROM (${bounds}) b
  WHERE b.amount_minor <> b.bounded - b.rated - (b.bounded_before - b.rated_before)
    OR b.bounded NOT IN ${withinBounds('b.rated')} OR b.bounded_before NOT IN ${withinBounds('b.rated_before')}`;
