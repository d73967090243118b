import type { PlanDefinition } from '../../billing/plan.ts';
import { publishPlan } from '../../billing/publish.ts';
import type { Reader } from '../../store/db.ts';
import { allMeters } from '../../store/meters.ts';
import {
  listCharges,
  listPlanFeatures,
  taxRateRefs,
  type PlanRow,
  type PlanVersionRow,
} from '../../store/plans.ts';
import { findProduct } from '../../store/products.ts';
import { ApiProblem } from '../problems.ts';

/**
 * What a version says: the frozen definition of a published one, and of a draft the one that publishing it now would
 * freeze. Throws `publish_refused` with every fault of a draft that could not be published.
 */
export async function definitionOfVersion(
  reader: Reader,
  plan: PlanRow,
  version: PlanVersionRow,
): Promise<PlanDefinition> {
  if (version.definition !== null) return version.definition;
  const product = await findProduct(reader, plan.environment, plan.product_id);
  const result = publishPlan({
    currency: version.currency,
    interval_unit: version.interval_unit,
    interval_count: version.interval_count,
    billing_time: version.billing_time,
    base_price_minor: version.base_price_minor,
    credit_terms: version.credit_terms,
    rate_limits: version.rate_limits,
    proration: version.proration,
    prices_include_tax: version.prices_include_tax,
    commitment_minor: version.commitment_minor,
    invoice_threshold_minor: version.invoice_threshold_minor,
    charges: await listCharges(reader, version.id),
    features: await listPlanFeatures(reader, version.id),
    meters: await allMeters(reader, plan.environment),
    tax_rates: await taxRateRefs(reader, plan.environment),
    credit_definition: product?.credit_definition ?? null,
  });
  if (result.kind === 'ok') return result.definition;
  throw new ApiProblem(
    'publish_refused',
    result.faults.map(({ message, mend }) => `${message}: ${mend}`).join(' '),
    {
      errors: result.faults.map(({ field, message, mend }) => ({
        field,
        message: `${message}. ${mend}`,
      })),
      extra: { faults: result.faults },
    },
  );
}
