import { grouped } from './decimal.ts';
import { type Currency, formatUnitPrice } from './money.ts';
import type { Price, Step, Tier } from './plan.ts';

/**
 * A price in words, for people who compare plans: `$0.001 per unit`, `$0.50 for each begun package of 1,000`. Two prices
 * have the same words only when they price alike.
 */
export function priceText(price: Price, currency: Currency): string {
  const spell = (amount: string): string => formatUnitPrice(amount, currency);
  switch (price.model) {
    case 'per_unit':
      return `${spell(price.unit_price)} per unit`;
    case 'graduated':
    case 'volume':
      return `${price.model}, ${price.tiers.map((tier) => tierText(tier, spell)).join(', ')}`;
    case 'stairstep':
      return `in steps, ${price.tiers.map((step) => stepText(step, spell)).join(', ')}`;
    case 'package': {
      const begun = price.round === 'down' ? 'full' : 'begun';
      return `${spell(price.package_price)} for each ${begun} package of ${grouped(price.package_size)}`;
    }
    case 'percentage': {
      const free = price.free_events === '0' ? '' : ` past the first ${grouped(price.free_events)}`;
      return `${price.percent}% plus ${spell(price.fixed_fee)} for each event${free}`;
    }
    default:
      return price satisfies never;
  }
}

type Spell = (amount: string) => string;

function tierText(tier: Tier, spell: Spell): string {
  const fee = tier.flat_fee === '0' ? '' : ` plus ${spell(tier.flat_fee)}`;
  return `${boundText(tier.up_to)} at ${spell(tier.unit_price)}${fee}`;
}

function stepText(step: Step, spell: Spell): string {
  return `${boundText(step.up_to)} for ${spell(step.flat_fee)}`;
}

function boundText(upTo: string | null): string {
  return upTo === null ? 'all above' : `up to ${grouped(upTo)}`;
}
