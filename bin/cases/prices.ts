import { decimal, type Decimal, Exact } from '../../billing/decimal.ts';
import { roundToMinor } from '../../billing/money.ts';
import type { PackagePrice, Price, Tier } from '../../billing/plan.ts';
import { billableUnits, packageCount, rateByTier } from '../../billing/rate.ts';
import { exactWithin } from '../../billing/usage-line.ts';
import { type Fields, isFields } from './read.ts';
import { currencyOf, decimalIn, major, optionalText, textOf } from './values.ts';

function tiersOf(input: Fields): readonly Tier[] {
  const { tiers } = input;
  if (!Array.isArray(tiers)) throw new TypeError('input.tiers is no list');
  return tiers.map((tier: unknown) => {
    if (!isFields(tier)) throw new TypeError('a tier is no object');
    return {
      up_to: optionalText(tier, 'upTo'),
      unit_price: optionalText(tier, 'unit') ?? '0',
      flat_fee: optionalText(tier, 'flat') ?? '0',
    };
  });
}

function packageOf(input: Fields): PackagePrice {
  const round = optionalText(input, 'round') ?? 'up';
  if (round !== 'up' && round !== 'down') throw new TypeError(`no rounding: ${round}`);
  return {
    model: 'package',
    package_size: textOf(input, 'packageSize'),
    package_price: optionalText(input, 'price') ?? '0',
    round,
  };
}

/** Decimal quantities as integers of a meter whose scale is just large enough for all of them. */
type Scaled = { readonly scale: number; readonly of: (name: string) => bigint };

function scaled(input: Fields): Scaled {
  const names = ['quantity', 'freeUnits', 'alreadyBilledQuantity'] as const;
  const valueOf = (name: string): Decimal => decimal(optionalText(input, name) ?? '0');
  const scale = Math.max(...names.map((name) => valueOf(name).decimalPlaces()));
  return {
    scale,
    of: (name) => BigInt(valueOf(name).times(new Exact(10).pow(scale)).toFixed(0)),
  };
}

/** The bounds of a charge, whatever the example calls them. */
function boundsOf(input: Fields): {
  readonly minimum: Decimal | null;
  readonly maximum: Decimal | null;
} {
  const first = (...names: readonly string[]): Decimal | null => {
    const name = names.find((candidate) => optionalText(input, candidate) !== null);
    return name === undefined ? null : decimalIn(input, name);
  };
  return {
    minimum: first('minimumSpend', 'minimum', 'min'),
    maximum: first('maximumSpend', 'maximum', 'max', 'cap'),
  };
}

/** An exact amount; rounded once where the example names a currency. */
function amountOf(exact: Decimal, input: Fields): Decimal {
  return optionalText(input, 'currency') === null
    ? exact
    : major(roundToMinor(exact, currencyOf(input)), input);
}

function rated(priceOf: (input: Fields) => Price): (input: Fields) => Fields {
  return (input) => {
    const { of, scale } = scaled(input);
    const quantity = billableUnits(of('quantity'), of('freeUnits'));
    const { amount, tiers } = rateByTier(priceOf(input), quantity, scale);
    return {
      amount: amountOf(exactWithin(amount, boundsOf(input)), input),
      byTier: tiers.map((tier) => decimal(tier.amount)),
    };
  };
}

/** Rating more of a period that is billed in part: what is due, and what a maximum takes off it. */
function packageDelta(input: Fields): Fields {
  const price = packageOf(input);
  const { of, scale } = scaled(input);
  const upTo = (name: string): Decimal =>
    rateByTier(price, billableUnits(of(name), of('freeUnits')), scale).amount;
  const bounds = boundsOf(input);
  const [total, before] = [upTo('quantity'), upTo('alreadyBilledQuantity')];
  const billed = optionalText(input, 'alreadyBilledAmount');
  const amount = exactWithin(total, bounds).minus(
    billed === null ? exactWithin(before, { ...bounds, minimum: null }) : decimal(billed),
  );
  return {
    amount: amountOf(amount, input),
    discount: amountOf(total.minus(before).minus(amount), input),
  };
}

function packages(input: Fields): Fields {
  const { of, scale } = scaled(input);
  const { package_size, round } = packageOf(input);
  const quantity = billableUnits(of('quantity'), of('freeUnits'));
  return { packages: packageCount(package_size, quantity, scale, round) };
}

export const priceRunners = {
  'price.graduated': rated((input) => ({ model: 'graduated', tiers: tiersOf(input) })),
  'price.volume': rated((input) => ({ model: 'volume', tiers: tiersOf(input) })),
  'price.stairstep': rated((input) => ({ model: 'stairstep', tiers: tiersOf(input) })),
  'price.package': rated(packageOf),
  'price.package.delta': packageDelta,
  'price.package.count': packages,
  'price.unit': rated((input) => ({ model: 'per_unit', unit_price: textOf(input, 'unit') })),
} as const;
