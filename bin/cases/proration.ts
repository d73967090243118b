import type { Minor } from '../../billing/money.ts';
import { formatAmount } from '../../billing/money.ts';
import { prorate, type Proration, ratioLeft } from '../../billing/ratio.ts';
import type { Given } from './given.ts';
import type { Fields } from './read.ts';
import { instantIn, zoneOf } from './times.ts';
import { currencyOf, minorIn } from './values.ts';

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

export const prorationRunners = {
  'proration.time': cancelled,
  'proration.dst': acrossClocks,
} as const;
