import { formatMoney, isCurrency } from '../money.ts';
import type { Charge } from '../plan.ts';
import type { ProblemCode } from '../problem.ts';
import { quantityGrammar, quantityMax } from '../quantity.ts';
import { meterKeyOf, type DraftCharge, type PlanDraft } from './draft.ts';
import { fault, malformedPrice, type Fault, type Words } from './fault.ts';
import { freeTier } from './limits.ts';
import { freezeMeter, meterFaults } from './meters.ts';
import { freezePrice, percentageFaults } from './prices.ts';

/** A charge as it will be billed; null where a fault leaves nothing to bill by. */
type Frozen<T> = { readonly charge: T | null; readonly faults: readonly Fault[] };

/**
 * A charge as it will be billed, and the faults of it.
 * @param field Where the charge stands, for the faults: `charges[0]`.
 */
export function freezeCharge(charge: DraftCharge, draft: PlanDraft, field: string): Frozen<Charge> {
  const built =
    charge.type === 'USAGE'
      ? freezeUsage(charge, draft, field)
      : freezeFee(charge, charge.type === 'RECURRING' ? 'recurring' : 'one_time', field);
  return {
    charge: built.charge,
    faults: [...advanceFaults(charge, field), ...taxFaults(charge, draft, field), ...built.faults],
  };
}

function advanceFaults(charge: DraftCharge, field: string): Fault[] {
  if (charge.bill_in === 'arrears' || charge.type === 'RECURRING') return [];
  return [
    fault('charge_in_advance', `${field}.bill_in`, {
      message: `the ${charge.type} charge ${JSON.stringify(charge.display_name)} is billed in advance, which is for recurring fees`,
      mend: 'Use bill_in arrears, or a RECURRING charge.',
    }),
  ];
}

function taxFaults(charge: DraftCharge, draft: PlanDraft, field: string): Fault[] {
  return charge.tax_rate_ids.flatMap((id) => {
    const taxRate = draft.tax_rates.find((candidate) => candidate.id === id);
    if (taxRate !== undefined && taxRate.archived_at === null) return [];
    const name = JSON.stringify(taxRate?.lookup_id ?? id);
    return [
      fault('tax_rate_unusable', `${field}.tax_rates`, {
        message:
          taxRate === undefined ? `there is no tax rate ${name}` : `tax rate ${name} is archived`,
        mend: 'Take the charge out and add it with a tax rate that is in use, or without one.',
      }),
    ];
  });
}

function freezeFee(
  charge: DraftCharge,
  kind: 'recurring' | 'one_time',
  field: string,
): Frozen<Charge> {
  const { price } = charge;
  if (price === null || !('amount_minor' in price)) {
    return refusedCharge('price_missing', `${field}.price`, {
      message: 'a fee needs an amount',
      mend: 'Give the charge an amount, such as "29.00".',
    });
  }
  if (!quantityGrammar.test(price.amount_minor)) {
    return { charge: null, faults: [malformedPrice(`${field}.price`, price.amount_minor)] };
  }
  const { id, display_name, bill_in } = charge;
  const fee = { id, display_name, amount_minor: price.amount_minor, ...taxesOf(charge) };
  return {
    charge:
      kind === 'recurring' && bill_in === 'advance' ? { kind, ...fee, bill_in } : { kind, ...fee },
    faults: [],
  };
}

/** The taxes of a charge, where it has its own. */
function taxesOf({ tax_rate_ids }: DraftCharge): { readonly tax_rate_ids?: readonly string[] } {
  return tax_rate_ids.length === 0 ? {} : { tax_rate_ids };
}

function freezeUsage(charge: DraftCharge, draft: PlanDraft, field: string): Frozen<Charge> {
  const meter = draft.meters.find((candidate) => candidate.id === charge.meter_id);
  if (meter === undefined) {
    return refusedCharge('meter_unknown', `${field}.meter_id`, {
      message: `there is no meter ${JSON.stringify(charge.meter_id)}`,
      mend: 'Name a meter that exists.',
    });
  }
  const price = freezePrice(charge, meter, field);
  const included = freeTier(draft, meter) ?? charge.included_units;
  const faults = [
    ...meterFaults(meter, `${field}.meter_id`),
    ...price.faults,
    ...percentageFaults(price.price, { meter, draft, field }),
    ...boundFaults(charge, draft, field),
  ];
  if (included < 0n || included > BigInt(quantityMax)) {
    faults.push(
      fault('validation_failed', `${field}.included_units`, {
        message: `included_units ${included} is out of bounds`,
        mend: `Give a whole number from 0 to ${quantityMax}.`,
      }),
    );
  }
  if (faults.length > 0 || price.price === null) return { charge: null, faults };
  const { minimum_minor: minimum, maximum_minor: maximum } = charge;
  return {
    charge: {
      kind: 'usage',
      id: charge.id,
      display_name: charge.display_name,
      meter: freezeMeter(meter),
      price: price.price,
      included_units: included.toString(),
      ...(minimum !== null && { minimum_minor: minimum.toString() }),
      ...(maximum !== null && { maximum_minor: maximum.toString() }),
      ...taxesOf(charge),
    },
    faults,
  };
}

function boundFaults(charge: DraftCharge, draft: PlanDraft, field: string): Fault[] {
  const { minimum_minor: minimum, maximum_minor: maximum } = charge;
  const spell = (minor: bigint): string =>
    isCurrency(draft.currency) ? formatMoney(minor, draft.currency) : minor.toString();
  if (maximum !== null && maximum <= 0n) {
    return [
      fault('charge_bounds', `${field}.maximum`, {
        message: `the charge ${JSON.stringify(charge.display_name)} costs at most nothing, so it never bills`,
        mend: 'Give a maximum above zero, or none.',
      }),
    ];
  }
  if (minimum === null || maximum === null || minimum <= maximum) return [];
  return [
    fault('charge_bounds', `${field}.minimum`, {
      message: `the minimum ${spell(minimum)} of ${JSON.stringify(charge.display_name)} is above its maximum ${spell(maximum)}`,
      mend: `Give a minimum of at most ${spell(maximum)}, or raise the maximum.`,
    }),
  ];
}

function refusedCharge(code: ProblemCode, field: string, words: Words): Frozen<never> {
  return { charge: null, faults: [fault(code, field, words)] };
}

/** Usage of a meter has one price: two charges would bill each call twice. */
export function repeatedChargeFaults(draft: PlanDraft): Fault[] {
  const metered = draft.charges.map((charge) => charge.meter_id);
  return metered.flatMap((meterId, index) =>
    meterId === null || metered.indexOf(meterId) === index
      ? []
      : [
          fault('duplicate_charge', `charges[${index}].meter_id`, {
            message: `meter ${meterKeyOf({ meter_id: meterId }, draft) ?? meterId} is charged twice`,
            mend: 'Remove one of the two charges, or use tiers.',
          }),
        ],
  );
}
