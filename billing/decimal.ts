import { Decimal as Base } from 'decimal.js';

/**
 * The one decimal type of the domain, on a clone of our own so that nobody else's settings reach it.
 * 120 digits: a quantity of a whole interval (30 digits) times a price (15 + 12) times a tax rate stays exact; only a
 * division may round, and each division of the domain is by a power of ten or is a rounding that says so.
 */
export const Exact = Base.clone({
  precision: 120,
  rounding: Base.ROUND_HALF_UP,
  toExpNeg: -9e15,
  toExpPos: 9e15,
});
export type Decimal = Base;

const plain = /^-?(0|[1-9][0-9]*)(\.[0-9]+)?$/;

/**
 * A decimal from its plain text (`0.001`, `-12.50`).
 * @throws RangeError when the text is anything else (exponent, sign +, blank, NaN, hex).
 */
export function decimal(text: string): Decimal {
  if (!plain.test(text)) throw new RangeError(`not a plain decimal: ${JSON.stringify(text)}`);
  return new Exact(text);
}

/** An integer as a decimal, moved `places` to the right of the point: `decimalOf(4200n, 6)` is 0.0042. */
export function decimalOf(integer: bigint, places = 0): Decimal {
  return new Exact(integer.toString()).times(tenTo(-places));
}

/** 10^places, exactly; `places` may be negative. */
export function tenTo(places: number): Decimal {
  return new Exact(10).pow(places);
}

/** Plain text without trailing zeros: `1.50` → `1.5`, `100` → `100`. */
export function plainText(value: Decimal): string {
  return value.isZero() ? '0' : value.toFixed();
}

/** Groups the integer digits of a plain decimal by three: `-1234567.891` → `-1,234,567.891`. */
export function grouped(text: string): string {
  const [integer = '', fraction] = text.split('.');
  const withCommas = integer.replace(/\B(?=(\d{3})+$)/g, ',');
  return fraction === undefined ? withCommas : `${withCommas}.${fraction}`;
}
