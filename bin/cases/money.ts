import { discountOn, type Off } from '../../billing/discount.ts';
import { allocate, formatAmount, type Minor, roundToMinor } from '../../billing/money.ts';
import { divideRounded, ratioOf } from '../../billing/ratio.ts';
import { taxBreakdown } from '../../billing/tax.ts';
import { totalUp } from '../../billing/totals.ts';
import type { Given } from './given.ts';
import type { Fields } from './read.ts';
import { currencyOf, flagIn, integerIn, minorIn, numbersIn, percentIn } from './values.ts';

function spelled(minor: Minor, given: Given): string {
  return formatAmount(minor, currencyOf(given));
}

function rounded(given: Given): Fields {
  return { amount: spelled(minorIn(given, 'amount'), given) };
}

function sumOfRounded(given: Given): Fields {
  const code = currencyOf(given);
  const sum = numbersIn(given, 'lines').reduce(
    (total, line) => total + roundToMinor(line, code),
    0n,
  );
  return { subtotal: spelled(sum, given), total: spelled(sum, given) };
}

/** Weights may be decimals: they are brought to integers of one scale. */
function allocated(given: Given): Fields {
  const weights = numbersIn(given, 'weights').map(ratioOf);
  const scale = weights.reduce(
    (most, { denominator }) => (denominator > most ? denominator : most),
    1n,
  );
  const integers = weights.map(({ numerator, denominator }) => numerator * (scale / denominator));
  const parts = allocate(minorIn(given, 'amount'), integers);
  return { parts: parts.map((part) => spelled(part, given)) };
}

function discounted(offOf: (given: Given) => Off): (given: Given) => Fields {
  return (given) => {
    const price = minorIn(given, 'price');
    const discount = discountOn(price, offOf(given));
    return { discount: spelled(discount, given), final: spelled(price - discount, given) };
  };
}

function taxed(given: Given): Fields {
  const kind = flagIn(given, 'inclusive') ? 'inclusive' : 'exclusive';
  const baseMinor = minorIn(given, 'base');
  const [row] = taxBreakdown([{ amountMinor: baseMinor }], {
    kind,
    rates: { general: [{ name: 'Tax', percent: percentIn(given, 'rate') }] },
  });
  const tax = row?.amountMinor ?? 0n;
  const isIncluded = kind === 'inclusive';
  return {
    tax: spelled(tax, given),
    net: spelled(isIncluded ? baseMinor - tax : baseMinor, given),
    total: spelled(isIncluded ? baseMinor : baseMinor + tax, given),
  };
}

/** Money that a subscriber has with the operator pays an invoice of lines that were rounded one by one. */
function cappedAtTotal(given: Given): Fields {
  // Amounts of the smallest unit are the same in every currency; one that cannot be billed in is refused all the same.
  currencyOf(given);
  const lines = numbersIn(given, 'lineCentsExact').map((cents) => {
    const { numerator, denominator } = ratioOf(cents);
    return { chargeId: null, amountMinor: divideRounded(numerator, denominator) };
  });
  const wallet = integerIn(given, 'walletCents');
  const percent = given.has('taxRate') ? percentIn(given, 'taxRate') : '0';
  const totals = totalUp(lines, {
    coupons: [],
    taxation: { kind: 'exclusive', rates: { general: [{ name: 'Tax', percent }] } },
    balanceMinor: wallet,
  });
  return {
    feesCents: totals.subtotalMinor,
    taxCents: totals.taxMinor,
    creditApplied: totals.balanceAppliedMinor,
    total: totals.amountDueMinor,
    walletLeft: wallet - totals.balanceAppliedMinor,
  };
}

export const moneyRunners = {
  'money.round': rounded,
  'money.sum_of_rounded': sumOfRounded,
  'money.allocate': allocated,
  'discount.percent': discounted((given) => ({
    kind: 'percent',
    percent: percentIn(given, 'percent'),
  })),
  'discount.fixed': discounted((given) => ({ kind: 'fixed', amountMinor: minorIn(given, 'off') })),
  'tax.round': taxed,
  'credits.cap_at_total': cappedAtTotal,
} as const;
