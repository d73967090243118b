import { decimal } from './decimal.ts';
import { type Currency, majorOf, type Minor, roundToMinor } from './money.ts';

/** A tax that is added to prices. `percent` is a plain decimal: `19`, `8.875`. */
export type TaxRate = { readonly name: string; readonly percent: string };

/** One row of an invoice's tax breakdown. */
export type TaxLine = TaxRate & { readonly baseMinor: Minor; readonly amountMinor: Minor };

/** What an invoice shows when nothing is taxed: `Tax (0%)` is always there. */
const noTax: TaxRate = { name: 'Tax', percent: '0' };

/** The tax on one base, rounded once. @throws RangeError when the percentage is not a plain decimal. */
export function taxOn(baseMinor: Minor, percent: string, currency: Currency): Minor {
  const exact = majorOf(baseMinor, currency).times(decimal(percent)).dividedBy(100);
  return roundToMinor(exact, currency);
}

/** One row for each rate, on the sum of the lines; never empty. */
export function taxLines(
  lines: readonly { readonly amountMinor: Minor }[],
  rates: readonly TaxRate[],
  currency: Currency,
): TaxLine[] {
  const baseMinor = lines.reduce((sum, line) => sum + line.amountMinor, 0n);
  return (rates.length === 0 ? [noTax] : rates).map((rate) => ({
    ...rate,
    baseMinor,
    amountMinor: taxOn(baseMinor, rate.percent, currency),
  }));
}

/** `Tax (0%)`, `VAT (19%)`. */
export function taxLabel(rate: TaxRate): string {
  return `${rate.name} (${rate.percent}%)`;
}
