import { decimal, type Decimal, decimalOf, tenTo } from '../../billing/decimal.ts';
import { roundToMinor } from '../../billing/money.ts';
import type { PackagePrice, Price, Step, Tier } from '../../billing/plan.ts';
import { divideRounded, ratioOf } from '../../billing/ratio.ts';
import { billableUnits, packageCount, rateByTier } from '../../billing/rate.ts';
import { exactWithin } from '../../billing/usage-line.ts';
import type { Given } from './given.ts';
import type { Fields } from './read.ts';
import {
  currencyOf,
  decimalIn,
  flagIn,
  integerOr0,
  major,
  nameOf,
  numberIn,
  optionalNumber,
  optionalText,
  percentIn,
} from './values.ts';

/** Tiers in their order, the last one with or without an end. @throws TypeError when their bounds do not rise. */
function tiersOf(given: Given): readonly Tier[] {
  const tiers = given.partsOf('tiers').map((tier) => ({
    up_to: optionalNumber(tier, 'upTo'),
    unit_price: optionalNumber(tier, 'unit') ?? '0',
    flat_fee: optionalNumber(tier, 'flat') ?? '0',
  }));
  for (const [index, tier] of tiers.entries()) {
    const below = index === 0 ? '0' : (tiers[index - 1]?.up_to ?? null);
    const isRising =
      below !== null && (tier.up_to === null || decimal(tier.up_to).gt(decimal(below)));
    if (!isRising) throw new TypeError(`${given.pathOf('tiers')}[${index}] does not rise`);
  }
  return tiers;
}

/** @throws TypeError when a step has a price for each unit: it would be left out. */
function stepsOf(given: Given): readonly Step[] {
  return tiersOf(given).map(({ up_to, flat_fee, unit_price }) => {
    if (unit_price !== '0') throw new TypeError('a step has no unit price');
    return { up_to, flat_fee };
  });
}

function packageOf(given: Given): PackagePrice {
  const round = optionalText(given, 'round') ?? 'up';
  if (round !== 'up' && round !== 'down') throw new TypeError(`no rounding: ${round}`);
  const size = decimalIn(given, 'packageSize');
  if (!size.gt(0)) throw new RangeError('a package holds something');
  return {
    model: 'package',
    package_size: size.toFixed(),
    package_price: optionalNumber(given, 'price') ?? '0',
    round,
  };
}

/** Decimal quantities as integers of a meter whose scale is just large enough for all of them. */
type Scaled = { readonly scale: number; readonly of: (name: string) => bigint };

function scaled(given: Given, names: readonly string[] = ['freeUnits']): Scaled {
  numberIn(given, 'quantity');
  const valueOf = (name: string): Decimal => decimal(optionalNumber(given, name) ?? '0');
  const scale = Math.max(...['quantity', ...names].map((name) => valueOf(name).decimalPlaces()));
  return { scale, of: (name) => BigInt(valueOf(name).times(tenTo(scale)).toFixed(0)) };
}

/** The bounds of a charge, whatever the example calls them. */
function boundsOf(given: Given): {
  readonly minimum: Decimal | null;
  readonly maximum: Decimal | null;
} {
  const first = (names: readonly string[]): Decimal | null => {
    const name = nameOf(given, names);
    return name === null ? null : decimalIn(given, name);
  };
  return {
    minimum: first(['minimumSpend', 'minimum', 'min']),
    maximum: first(['maximumSpend', 'maximum', 'max', 'cap']),
  };
}

/** An exact amount; rounded once where the example says what the smallest unit is. */
function amountOf(exact: Decimal, given: Given): Decimal {
  const isMinor = flagIn(given, 'minorUnits');
  const isNamed = optionalText(given, 'currency') !== null;
  const code = currencyOf(given);
  if (isMinor) {
    const { numerator, denominator } = ratioOf(exact.toFixed());
    return decimalOf(divideRounded(numerator, denominator));
  }
  return isNamed ? major(roundToMinor(exact, code), given) : exact;
}

function rated(
  priceOf: (given: Given) => Price,
  eventsOf: (given: Given) => bigint = () => 0n,
): (given: Given) => Fields {
  return (given) => {
    const { of, scale } = scaled(given);
    const quantity = billableUnits(of('quantity'), of('freeUnits'));
    const counted = { quantity, events: eventsOf(given) };
    const { amount, tiers } = rateByTier(priceOf(given), counted, scale);
    return {
      amount: amountOf(exactWithin(amount, boundsOf(given)), given),
      byTier: tiers.map((tier) => decimal(tier.amount)),
    };
  };
}

function percentageOf(given: Given): Price {
  return {
    model: 'percentage',
    percent: percentIn(given, nameOf(given, ['percent', 'rate']) ?? 'percent'),
    fixed_fee: optionalNumber(given, 'fixed') ?? '0',
    free_events: integerOr0(given, 'freeEvents').toString(),
  };
}

/** Rating more of a period that is billed in part: what is due, and what a maximum takes off it. */
function packageDelta(given: Given): Fields {
  const price = packageOf(given);
  const { of, scale } = scaled(given, ['freeUnits', 'alreadyBilledQuantity']);
  const upTo = (name: string): Decimal =>
    rateByTier(price, billableUnits(of(name), of('freeUnits')), scale).amount;
  const bounds = boundsOf(given);
  const [total, before] = [upTo('quantity'), upTo('alreadyBilledQuantity')];
  const billed = optionalNumber(given, 'alreadyBilledAmount');
  const amount = exactWithin(total, bounds).minus(
    billed === null ? exactWithin(before, { ...bounds, minimum: null }) : decimal(billed),
  );
  return {
    amount: amountOf(amount, given),
    discount: amountOf(total.minus(before).minus(amount), given),
  };
}

function packages(given: Given): Fields {
  const { of, scale } = scaled(given);
  const { package_size, round } = packageOf(given);
  const quantity = billableUnits(of('quantity'), of('freeUnits'));
  return { packages: packageCount(package_size, quantity, scale, round) };
}

export const priceRunners = {
  'price.graduated': rated((given) => ({ model: 'graduated', tiers: tiersOf(given) })),
  'price.volume': rated((given) => ({ model: 'volume', tiers: tiersOf(given) })),
  'price.stairstep': rated((given) => ({ model: 'stairstep', tiers: stepsOf(given) })),
  'price.percentage': rated(percentageOf, (given) => integerOr0(given, 'events')),
  'price.package': rated(packageOf),
  'price.package.delta': packageDelta,
  'price.package.count': packages,
  'price.unit': rated((given) => ({ model: 'per_unit', unit_price: numberIn(given, 'unit') })),
} as const;
