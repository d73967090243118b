import { decimalOf } from '../../billing/decimal.ts';
import { formatAmount, type Minor } from '../../billing/money.ts';
import {
  divideRounded,
  prorate,
  type Proration,
  type Ratio,
  ratioLeft,
} from '../../billing/ratio.ts';
import type { Given } from './given.ts';
import type { Fields } from './read.ts';
import { instantIn, zoneOf } from './times.ts';
import { currencyOf, minorIn, nameOf } from './values.ts';

/** What of a price is left from an instant of its period on. */
function leftOf(given: Given, at: string, proration: Proration): Minor {
  const span = { startMs: instantIn(given, 'periodStart'), endMs: instantIn(given, 'periodEnd') };
  const left = ratioLeft(instantIn(given, at), span, zoneOf(given), proration);
  return prorate(minorIn(given, 'price'), left);
}

/** What was used of a period that is cancelled: the price less what is given back. */
function cancelled(given: Given): Fields {
  const credit = leftOf(given, 'cancel', 'second');
  const currency = currencyOf(given);
  return {
    amount: formatAmount(minorIn(given, 'price') - credit, currency),
    credit: formatAmount(credit, currency),
  };
}

/** Both ways of a plan to share a fee, where the clocks change. */
function acrossClocks(given: Given): Fields {
  const of = (proration: Proration): string =>
    formatAmount(leftOf(given, 'change', proration), currencyOf(given));
  return { perSecond: of('second'), perDay: of('day') };
}

/** The days of a part of a period, as a part of all its days: an exact fraction, spelled with nine places as examples do. */
function partOfDays(given: Given): Fields {
  const span = { startMs: instantIn(given, 'periodStart'), endMs: instantIn(given, 'periodEnd') };
  const from = nameOf(given, ['from_', 'from']) ?? 'from_';
  const left = (name: string): Ratio =>
    ratioLeft(instantIn(given, name), span, zoneOf(given), 'day');
  const [fromOn, toOn] = [left(from), left('to')];
  const { denominator } = fromOn;
  const numerator = fromOn.numerator - toOn.numerator;
  if (numerator < 0n) throw new RangeError('the part ends before it begins');
  const places = 9;
  return {
    ratio: decimalOf(divideRounded(numerator * 10n ** BigInt(places), denominator), places),
  };
}

export const prorationRunners = {
  'proration.day_exclusive': partOfDays,
  'proration.time': cancelled,
  'proration.dst': acrossClocks,
} as const;
