/**
 * Publishing freezes a draft into the definition that rating, compiling and invoices read for ever after. The checks
 * stand in `publish/`, a file a subject, each beside the refusal that it makes; here is the order that they are named in.
 */
import { isCurrency } from './money.ts';
import type { PlanDefinition } from './plan.ts';
import { freezeCharge, repeatedChargeFaults } from './publish/charges.ts';
import { creditFaults } from './publish/credits.ts';
import type { PlanDraft } from './publish/draft.ts';
import type { Fault } from './publish/fault.ts';
import { featureFaults, freezeFeature, rateLimitFaults, reachFaults } from './publish/limits.ts';
import { nameFaults } from './publish/names.ts';
import {
  basePrice,
  basePriceFaults,
  billingTerms,
  currencyFaults,
  effectFaults,
  intervalFaults,
  purposeFaults,
} from './publish/terms.ts';

export type PublishResult =
  | { readonly kind: 'ok'; readonly definition: PlanDefinition }
  | { readonly kind: 'refused'; readonly faults: readonly Fault[] };

/** The frozen definition of a draft, or every fault of it: whoever mends a plan wants to hear of all of them at once. */
export function publishPlan(draft: PlanDraft): PublishResult {
  const built = draft.charges.map((charge, index) =>
    freezeCharge(charge, draft, `charges[${index}]`),
  );
  const charges = built.flatMap(({ charge }) => (charge === null ? [] : [charge]));
  const faults: readonly Fault[] = [
    ...currencyFaults(draft),
    ...intervalFaults(draft),
    ...basePriceFaults(draft),
    ...rateLimitFaults(draft.rate_limits),
    ...featureFaults(draft),
    ...creditFaults(draft),
    ...nameFaults(draft),
    ...repeatedChargeFaults(draft),
    ...effectFaults(draft),
    ...built.flatMap((charge) => charge.faults),
    ...reachFaults(draft, charges),
    ...purposeFaults(draft),
  ];
  const { currency } = draft;
  if (!isCurrency(currency) || faults.length > 0) return { kind: 'refused', faults };
  return {
    kind: 'ok',
    definition: {
      currency,
      interval: { unit: draft.interval_unit, count: draft.interval_count },
      billing_time: draft.billing_time,
      charges: [...basePrice(draft), ...charges],
      features: draft.features.map(freezeFeature),
      rate_limits: draft.rate_limits,
      credits: draft.credit_terms,
      ...billingTerms(draft),
    },
  };
}
