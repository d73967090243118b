import { formatCredits, microMax } from '../credits.ts';
import { parseUnitPrice } from '../money.ts';
import type { CreditTerms } from '../plan.ts';
import { quantityGrammar } from '../quantity.ts';
import { includedMicroMax } from '../shard-limits.ts';
import type { PlanDraft } from './draft.ts';
import { fault, malformedPrice, type Fault, type Words } from './fault.ts';
import { repeatFaults } from './names.ts';

/** Credits are spent by a burn table, up to what a wallet has room for, and sold at a price where overage is on. */
export function creditFaults(draft: PlanDraft): Fault[] {
  const terms = draft.credit_terms;
  if (terms === null) return [];
  const faults: Fault[] = [];
  if ((draft.credit_definition ?? '').trim() === '') {
    faults.push(
      fault('credit_definition_missing', 'credit_definition', {
        message: 'the product sells credits and does not say what one credit is',
        mend: 'Set credit_definition of the product, for instance to "One credit is one call".',
      }),
    );
  }
  const malformed = (field: string, words: Words): void => {
    faults.push(fault('credit_terms_malformed', `credit_terms.${field}`, words));
  };
  if (!/^[a-z][a-z0-9_]{0,62}$/.test(terms.unit)) {
    malformed('unit', { message: 'the unit has no key', mend: 'Use credit, or another word.' });
  }
  if (!isMicro(terms.included_micro) || BigInt(terms.included_micro) > includedMicroMax) {
    malformed('included_credits', {
      message: 'included_credits is out of bounds',
      mend: `Give a decimal from 0 to ${formatCredits(includedMicroMax)} with at most 6 places.`,
    });
  }
  if (!terms.burn.some((rate) => isMicro(rate.micro_per_unit) && rate.micro_per_unit !== '0')) {
    malformed('burn', {
      message: 'no meter costs credits, so they could never be spent',
      mend: 'Say how many credits one unit of a meter costs.',
    });
  }
  return [...faults, ...burnFaults(terms, draft), ...overageFaults(terms)];
}

function isMicro(text: string): boolean {
  return quantityGrammar.test(text) && BigInt(text) <= microMax;
}

function burnFaults(terms: CreditTerms, draft: PlanDraft): Fault[] {
  const unknown = terms.burn.flatMap((rate, index) =>
    draft.meters.some((meter) => meter.lookup_id === rate.meter_key)
      ? []
      : [
          fault('meter_unknown', `credit_terms.burn[${index}].meter`, {
            message: `there is no meter ${JSON.stringify(rate.meter_key)}`,
            mend: 'Name a meter that exists.',
          }),
        ],
  );
  const malformed = terms.burn.flatMap((rate, index) =>
    isMicro(rate.micro_per_unit)
      ? []
      : [
          fault('credit_terms_malformed', `credit_terms.burn[${index}].credits_per_unit`, {
            message: `the cost of one unit of ${rate.meter_key} is out of bounds`,
            mend: 'Give credits per unit so that one smallest unit costs whole micro-credits.',
          }),
        ],
  );
  const repeats = repeatFaults(
    terms.burn.map((rate) => ({ name: rate.meter_key })),
    'credit_terms.burn',
  );
  return [...unknown, ...malformed, ...repeats];
}

function overageFaults(terms: CreditTerms): Fault[] {
  const price = terms.overage?.credit_price ?? null;
  const bad = [
    { field: 'credit_terms.credit_price', given: terms.credit_price },
    { field: 'credit_terms.overage.credit_price', given: price },
  ].flatMap(({ field, given }) =>
    given !== null && parseUnitPrice(given) === null ? [malformedPrice(field, given)] : [],
  );
  if (terms.overage?.enabled === true && (price ?? terms.credit_price) === null) {
    bad.push(
      fault('overage_price_missing', 'credit_terms.overage', {
        message: 'overage is on and has no price',
        mend: 'Give overage.credit_price, or credit_price.',
      }),
    );
  }
  return bad;
}
