import { codes, type Currency, marks } from './currencies.ts';
import { decimal, type Decimal, decimalOf, Exact, grouped, plainText, tenTo } from './decimal.ts';

/** An amount of money: an integer of the currency's smallest unit (cents, yen, fils). Its currency stands beside it. */
export type Minor = bigint;

/** The sum of amounts of one currency; nothing, of none. */
export function sumOf(amounts: readonly Minor[]): Minor {
  return amounts.reduce((sum, amount) => sum + amount, 0n);
}

/** No single amount may exceed it; the ledger's column refuses more. */
export const minorMax: Minor = 999_999_999_999_999n;

/** Decimals that a unit price may have. */
export const unitPricePlacesMax = 12;
const unitPriceIntegerDigitsMax = 15;

const placesByCode: ReadonlyMap<string, number> = new Map([
  ...codes[0].map((code) => [code, 0] as const),
  ...codes[2].map((code) => [code, 2] as const),
  ...codes[3].map((code) => [code, 3] as const),
]);

export type { Currency } from './currencies.ts';

/** Every currency that can be billed in, in alphabetical order. */
export const currencies: readonly string[] = [...placesByCode.keys()].toSorted();

/** Whether a text is the code of a currency of ours, in upper case. */
export function isCurrency(text: string): text is Currency {
  return placesByCode.has(text);
}

/** Decimals of an amount in this currency: 0, 2 or 3. */
export function placesOf(currency: Currency): number {
  const places = placesByCode.get(currency);
  if (places === undefined) throw new RangeError(`${currency} is no currency`);
  return places;
}

/**
 * An exact amount in major units, rounded once, half away from zero, to minor units: 10.278798 USD → 1028n.
 * @throws RangeError when a text is not a plain decimal.
 */
export function roundToMinor(amount: Decimal | string, currency: Currency): Minor {
  const exact = typeof amount === 'string' ? decimal(amount) : amount;
  const scaled = exact.times(tenTo(placesOf(currency)));
  return BigInt(scaled.toDecimalPlaces(0, Exact.ROUND_HALF_UP).toFixed(0));
}

/** Minor units as an exact decimal of major units. */
export function majorOf(minor: Minor, currency: Currency): Decimal {
  return decimalOf(minor, placesOf(currency));
}

/** For programs: `8245n` USD → `82.45`, `-1n` → `-0.01`, `1024n` JPY → `1024`. Always the currency's places. */
export function formatAmount(minor: Minor, currency: Currency): string {
  return majorOf(minor, currency).toFixed(placesOf(currency));
}

/**
 * What `formatAmount` writes, for amounts from zero up; fewer decimals than the currency has are allowed (`29`, `29.5`).
 * Null when the text is anything else, has too many decimals, or exceeds `minorMax`.
 */
export function parseAmount(text: string, currency: Currency): Minor | null {
  const match = /^(0|[1-9][0-9]{0,14})(?:\.([0-9]{1,3}))?$/.exec(text);
  if (match === null) return null;
  const [, integer = '', fraction = ''] = match;
  const places = placesOf(currency);
  if (fraction.length > places) return null;
  const minor = BigInt(integer + fraction.padEnd(places, '0'));
  return minor <= minorMax ? minor : null;
}

/** For people: `$82.45`, `¥1,024`, `KWD 1.234`, `-$1,000.00`. */
export function formatMoney(minor: Minor, currency: Currency): string {
  return marked(formatAmount(minor, currency), currency);
}

/**
 * A price of one unit for people: at least the currency's places and no more than needed (`$0.001`, `$0.50`, `¥3`).
 * @throws RangeError when the text is not a plain decimal.
 */
export function formatUnitPrice(price: string, currency: Currency): string {
  const exact = decimal(price);
  const places = Math.max(placesOf(currency), exact.decimalPlaces());
  return marked(exact.toFixed(places), currency);
}

function marked(text: string, currency: Currency): string {
  const mark = marks[currency] ?? currency;
  const sign = text.startsWith('-') ? '-' : '';
  const digits = grouped(sign === '' ? text : text.slice(1));
  return `${sign}${mark}${/^[A-Z]+$/.test(mark) ? ' ' : ''}${digits}`;
}

/**
 * The canonical text of a unit price given as a JSON number's source or a decimal string: `1e-3` → `0.001`, `0.50` → `0.5`.
 * Null when it is negative, not a number, or has more than 12 decimals or 15 integer digits.
 */
export function parseUnitPrice(text: string): string | null {
  if (text.length > 64 || !/^(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]{1,2})?$/.test(text)) {
    return null;
  }
  const exact = new Exact(text);
  if (exact.decimalPlaces() > unitPricePlacesMax) return null;
  if (exact.gte(tenTo(unitPriceIntegerDigitsMax))) return null;
  return plainText(exact);
}

/**
 * Splits a total by weights so that the parts add up to it exactly: each part's floor first, then one unit more to the
 * largest remainders; equal remainders go to the earlier part. A negative total is split as its opposite.
 * @throws RangeError when a weight is negative, or when a total other than zero has no weight to go to.
 */
export function allocate(total: Minor, weights: readonly bigint[]): Minor[] {
  if (weights.some((weight) => weight < 0n)) throw new RangeError('a weight is negative');
  if (total < 0n) return allocate(-total, weights).map((part) => -part);
  const whole = weights.reduce((sum, weight) => sum + weight, 0n);
  if (whole === 0n) {
    if (total === 0n) return weights.map(() => 0n);
    throw new RangeError('nothing to allocate to: the weights are all zero');
  }
  const parts = weights.map((weight, index) => ({
    index,
    floor: (total * weight) / whole,
    remainder: (total * weight) % whole,
  }));
  const left = total - parts.reduce((sum, part) => sum + part.floor, 0n);
  // Sorting leaves parts with equal remainders as they stand: the earlier one comes first.
  const favoured = new Set(
    parts
      .toSorted((a, b) => Number(b.remainder - a.remainder))
      .slice(0, Number(left))
      .map((part) => part.index),
  );
  return parts.map((part) => (favoured.has(part.index) ? part.floor + 1n : part.floor));
}
