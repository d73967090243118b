import { decimalOf, grouped, plainText } from './decimal.ts';

/** Credits are counted in micro-credits: integers of a millionth, up to 10^15 − 1. */
const microPerCredit = 1_000_000n;
export const microMax = 999_999_999_999_999n;

/** Decimal credits to micro-credits: `12.5` → 12500000n. Null when it is anything but 0 … 999999999.999999. */
export function parseCredits(text: string): bigint | null {
  const match = /^(0|[1-9][0-9]{0,8})(?:\.([0-9]{1,6}))?$/.exec(text);
  if (match === null) return null;
  const [, integer = '', fraction = ''] = match;
  return BigInt(integer + fraction.padEnd(6, '0'));
}

/** Micro-credits as decimal credits, as few decimals as needed: 12500000n → `12.5`. */
export function formatCredits(micro: bigint): string {
  return plainText(decimalOf(micro, 6));
}

/** For people, with the unit: `1,000 credits`, `1 credit`, `0.5 credits`. The unit is the wallet's (`credit`). */
export function formatCreditUnits(micro: bigint, unit: string): string {
  const name = unit.replaceAll('_', ' ');
  return `${grouped(formatCredits(micro))} ${micro === microPerCredit ? name : `${name}s`}`;
}
