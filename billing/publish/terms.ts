import { isCurrency } from '../money.ts';
import type { Charge, PlanDefinition } from '../plan.ts';
import { quantityGrammar } from '../quantity.ts';
import type { DraftCharge, PlanDraft } from './draft.ts';
import { fault, malformedPrice, type Fault } from './fault.ts';

/** The base price is the first recurring fee; zero is none. */
export function basePrice({ base_price_minor: amount }: PlanDraft): Charge[] {
  if (amount === null || amount === 0n) return [];
  return [
    {
      kind: 'recurring',
      id: 'base_price',
      display_name: 'Base price',
      amount_minor: amount.toString(),
    },
  ];
}

/** What is the default is left out: the definitions of before say nothing of it either. */
export function billingTerms(
  draft: PlanDraft,
): Pick<
  PlanDefinition,
  'proration' | 'prices_include_tax' | 'commitment_minor' | 'invoice_threshold_minor'
> {
  const { commitment_minor: commitment, invoice_threshold_minor: threshold } = draft;
  return {
    ...(draft.proration !== 'day' && { proration: draft.proration }),
    ...(draft.prices_include_tax && { prices_include_tax: true }),
    ...(commitment !== null && { commitment_minor: commitment.toString() }),
    ...(threshold !== null && { invoice_threshold_minor: threshold.toString() }),
  };
}

export function currencyFaults({ currency }: PlanDraft): Fault[] {
  if (isCurrency(currency)) return [];
  return [
    fault('currency_unknown', 'currency', {
      message: `${JSON.stringify(currency)} is no currency that can be billed in`,
      mend: 'Use an ISO 4217 code in upper case, such as USD.',
    }),
  ];
}

export function intervalFaults({ interval_count: count }: PlanDraft): Fault[] {
  if (Number.isInteger(count) && count >= 1) return [];
  return [
    fault('validation_failed', 'interval_count', {
      message: `interval_count ${count} is not a whole number from 1`,
      mend: 'Give 1 for every interval, 3 for every third.',
    }),
  ];
}

export function basePriceFaults({ base_price_minor: amount }: PlanDraft): Fault[] {
  return amount === null || amount >= 0n ? [] : [malformedPrice('base_price', amount.toString())];
}

/** Terms that could never matter are mistakes: what was meant is something else. */
export function effectFaults(draft: PlanDraft): Fault[] {
  const { commitment_minor: commitment, invoice_threshold_minor: threshold } = draft;
  const faults: Fault[] = [];
  const hasUsage =
    draft.charges.some((charge) => charge.type === 'USAGE') ||
    draft.credit_terms?.overage?.enabled === true;
  if (threshold !== null && !hasUsage) {
    faults.push(
      fault('term_without_effect', 'invoice_threshold', {
        message: 'nothing that is used costs anything, so the threshold is never reached',
        mend: 'Add a USAGE charge or overage, or remove invoice_threshold.',
      }),
    );
  }
  const fees = recurringMinor(draft);
  if (commitment !== null && commitment <= fees) {
    faults.push(
      fault('term_without_effect', 'commitment', {
        message: 'the recurring fees alone come to the commitment, so it never costs anything',
        mend: 'Give a commitment above the recurring fees, which count towards it, or remove it.',
      }),
    );
  }
  return faults;
}

/** Minor units of the recurring fees of one interval; an amount that is malformed has its own fault. */
function recurringMinor(draft: PlanDraft): bigint {
  return draft.charges.reduce((sum, { type, price }) => {
    const isFee = type === 'RECURRING' && price !== null && 'amount_minor' in price;
    return isFee && quantityGrammar.test(price.amount_minor)
      ? sum + BigInt(price.amount_minor)
      : sum;
  }, draft.base_price_minor ?? 0n);
}

/** A plan that neither bills nor rations has no purpose: what was meant is missing. */
export function purposeFaults(draft: PlanDraft): Fault[] {
  // A fee whose price is missing or malformed has its own fault: it is meant to bill.
  const isFree = (charge: DraftCharge): boolean =>
    charge.price !== null && 'amount_minor' in charge.price && charge.price.amount_minor === '0';
  const bills =
    (draft.base_price_minor ?? 0n) > 0n ||
    (draft.commitment_minor ?? 0n) > 0n ||
    draft.charges.some((charge) => !isFree(charge));
  const rations =
    draft.rate_limits.length > 0 ||
    draft.credit_terms !== null ||
    draft.features.some((feature) => feature.limit_type === 'HARD' && feature.limit !== null);
  if (bills || rations) return [];
  return [
    fault('neither_rations_nor_bills', 'charges', {
      message: 'the plan has no charge, no hard limit, no rate limit and no credits',
      mend: 'Add a charge, a HARD limit, a rate limit, or credits.',
    }),
  ];
}
