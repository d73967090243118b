import { discountOn, type Off } from '../../billing/discount.ts';
import { allocate, formatAmount, type Minor, roundToMinor } from '../../billing/money.ts';
import { divideRounded, ratioOf } from '../../billing/ratio.ts';
import { taxBreakdown } from '../../billing/tax.ts';
import { totalUp } from '../../billing/totals.ts';
import type { Fields } from './read.ts';
import { currencyOf, integerIn, listOf, minorIn, optionalText, textOf } from './values.ts';

function spelled(minor: Minor, input: Fields): string {
  return formatAmount(minor, currencyOf(input));
}

function rounded(input: Fields): Fields {
  return { amount: spelled(minorIn(input, 'amount'), input) };
}

function sumOfRounded(input: Fields): Fields {
  const code = currencyOf(input);
  const sum = listOf(input, 'lines').reduce((total, line) => total + roundToMinor(line, code), 0n);
  return { subtotal: spelled(sum, input), total: spelled(sum, input) };
}

/** Weights may be decimals: they are brought to integers of one scale. */
function allocated(input: Fields): Fields {
  const weights = listOf(input, 'weights').map(ratioOf);
  const scale = weights.reduce(
    (most, { denominator }) => (denominator > most ? denominator : most),
    1n,
  );
  const integers = weights.map(({ numerator, denominator }) => numerator * (scale / denominator));
  const parts = allocate(minorIn(input, 'amount'), integers);
  return { parts: parts.map((part) => spelled(part, input)) };
}

function discounted(input: Fields): Fields {
  const price = minorIn(input, 'price');
  const discount = discountOn(price, offOf(input));
  return { discount: spelled(discount, input), final: spelled(price - discount, input) };
}

function offOf(input: Fields): Off {
  const percent = optionalText(input, 'percent');
  return percent === null
    ? { kind: 'fixed', amountMinor: minorIn(input, 'off') }
    : { kind: 'percent', percent };
}

function taxed(input: Fields): Fields {
  const kind = input['inclusive'] === true ? 'inclusive' : 'exclusive';
  const baseMinor = minorIn(input, 'base');
  const [row] = taxBreakdown([{ amountMinor: baseMinor }], {
    kind,
    rates: { general: [{ name: 'Tax', percent: textOf(input, 'rate') }] },
  });
  const tax = row?.amountMinor ?? 0n;
  return {
    tax: spelled(tax, input),
    total: spelled(kind === 'inclusive' ? baseMinor : baseMinor + tax, input),
  };
}

/** Money that a subscriber has with the operator pays an invoice of lines that were rounded one by one. */
function cappedAtTotal(input: Fields): Fields {
  const lines = listOf(input, 'lineCentsExact').map((cents) => {
    const { numerator, denominator } = ratioOf(cents);
    return { chargeId: null, amountMinor: divideRounded(numerator, denominator) };
  });
  const wallet = integerIn(input, 'walletCents');
  const percent = optionalText(input, 'taxRate') ?? '0';
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
  'discount.percent': discounted,
  'discount.fixed': discounted,
  'tax.round': taxed,
  'credits.cap_at_total': cappedAtTotal,
} as const;
