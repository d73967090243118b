import { decimal } from '../decimal.ts';
import { isCurrency, parseUnitPrice, placesOf } from '../money.ts';
import type { PercentagePrice, Price } from '../plan.ts';
import { quantityGrammar, quantityMax } from '../quantity.ts';
import { checkedSteps, checkedTiers, tiersOfRanges } from './tiers.ts';
import type { DraftCharge, DraftMeter, PlanDraft } from './draft.ts';
import { fault, malformedPrice, type Fault } from './fault.ts';

/** A price that usage is rated by; null where it has faults. */
type FrozenPrice = { readonly price: Price | null; readonly faults: readonly Fault[] };

/** The price of a usage charge: its own, or the pricing rules of its meter. */
export function freezePrice(charge: DraftCharge, meter: DraftMeter, field: string): FrozenPrice {
  const { price } = charge;
  if (price !== null && 'model' in price) return checkedPrice(price, `${field}.price`);
  const rules = meter.usage_pricing_rules;
  if (price !== null || rules === null) {
    const missing = fault('price_missing', `${field}.price`, {
      message: `neither the charge nor its meter ${meter.lookup_id} has a price per unit`,
      mend: 'Give the charge a unit_price or tiers, or the meter usage_pricing_rules.',
    });
    return { price: null, faults: [missing] };
  }
  const result = tiersOfRanges(rules.tiers, `meters.${meter.lookup_id}.usage_pricing_rules.tiers`);
  if (result.kind === 'refused') return { price: null, faults: result.faults };
  const model = rules.mode === 'VOLUME' ? 'volume' : 'graduated';
  return { price: { model, tiers: result.tiers }, faults: [] };
}

/** A price with canonical decimals, or its faults. */
export function checkedPrice(price: Price, field: string): FrozenPrice {
  switch (price.model) {
    case 'per_unit': {
      const unitPrice = parseUnitPrice(price.unit_price);
      return unitPrice === null
        ? { price: null, faults: [malformedPrice(`${field}.unit_price`, price.unit_price)] }
        : { price: { model: 'per_unit', unit_price: unitPrice }, faults: [] };
    }
    case 'graduated':
    case 'volume': {
      const result = checkedTiers(price.tiers, `${field}.tiers`);
      return result.kind === 'refused'
        ? { price: null, faults: result.faults }
        : { price: { model: price.model, tiers: result.tiers }, faults: [] };
    }
    case 'package': {
      const packagePrice = parseUnitPrice(price.package_price);
      const isSized = quantityGrammar.test(price.package_size) && price.package_size !== '0';
      if (packagePrice !== null && isSized) {
        return { price: { ...price, package_price: packagePrice }, faults: [] };
      }
      const bad = packagePrice === null ? 'package_price' : 'package_size';
      return { price: null, faults: [malformedPrice(`${field}.${bad}`, price[bad])] };
    }
    case 'stairstep': {
      const result = checkedSteps(price.tiers, `${field}.tiers`);
      return result.kind === 'refused'
        ? { price: null, faults: result.faults }
        : { price: { model: 'stairstep', tiers: result.steps }, faults: [] };
    }
    case 'percentage':
      return checkedPercentage(price, field);
    default:
      return price satisfies never;
  }
}

function checkedPercentage(price: PercentagePrice, field: string): FrozenPrice {
  const percent = parseUnitPrice(price.percent);
  const fixedFee = parseUnitPrice(price.fixed_fee);
  const faults: Fault[] = [];
  if (percent === null) {
    faults.push(malformedPrice(`${field}.percent`, price.percent));
  } else if (decimal(percent).gt(100)) {
    faults.push(
      fault('price_malformed', `${field}.percent`, {
        message: `${percent} percent is more than the whole amount`,
        mend: 'Give a percentage from 0 to 100, such as "2.9".',
      }),
    );
  }
  if (fixedFee === null) faults.push(malformedPrice(`${field}.fixed_fee`, price.fixed_fee));
  if (!quantityGrammar.test(price.free_events)) {
    faults.push(
      fault('price_malformed', `${field}.free_events`, {
        message: `${JSON.stringify(price.free_events)} is no number of events`,
        mend: `Give a whole number from 0 to ${quantityMax}.`,
      }),
    );
  }
  if (percent === null || fixedFee === null || faults.length > 0) return { price: null, faults };
  const { free_events } = price;
  return {
    price: { model: 'percentage', percent, fixed_fee: fixedFee, free_events },
    faults: [],
  };
}

/** A percentage is of money: the meter must add amounts up, and to the currency's smallest unit at least. */
export function percentageFaults(
  price: Price | null,
  { meter, draft, field }: { meter: DraftMeter; draft: PlanDraft; field: string },
): Fault[] {
  if (price?.model !== 'percentage') return [];
  if (meter.aggregation !== 'SUM') {
    return [
      fault('percentage_meter', `${field}.meter_id`, {
        message: `a percentage is of an amount of money, and meter ${meter.lookup_id} is a ${meter.aggregation}`,
        mend: 'Use a SUM meter that adds up amounts, or another price model.',
      }),
    ];
  }
  if (!isCurrency(draft.currency) || meter.scale >= placesOf(draft.currency)) return [];
  const places = placesOf(draft.currency);
  return [
    fault('percentage_meter', `${field}.meter_id`, {
      message: `meter ${meter.lookup_id} has the scale ${meter.scale}: amounts of ${draft.currency} with ${places} places do not fit in it`,
      mend: `Use a meter with a scale of at least ${places}, so that its smallest unit is no more than that of the currency.`,
    }),
  ];
}
