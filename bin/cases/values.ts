import { decimal, type Decimal, Exact, plainText } from '../../billing/decimal.ts';
import {
  type Currency,
  isCurrency,
  majorOf,
  type Minor,
  roundToMinor,
} from '../../billing/money.ts';
import type { Ratio } from '../../billing/ratio.ts';
import { ratioOf } from '../../billing/ratio.ts';
import type { Given } from './given.ts';
import { JsonNumber } from './read.ts';

/** Exponents are bounded, so that no short text becomes a number of a million digits. */
const number = /^[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]{1,3})?$/;

/**
 * The plain decimal that a text or a number of a file means, exactly: `1E-14`, `+5`, `1e3`, `-0` are how some programs
 * write theirs. Null for anything else.
 */
export function plainNumber(value: unknown): string | null {
  const text = value instanceof JsonNumber ? value.source : value;
  if (typeof text !== 'string' || !number.test(text.trim())) return null;
  return plainText(new Exact(text.trim()));
}

/** A text, or a number as text. @throws TypeError when it is neither. */
export function textOf(given: Given, name: string): string {
  const value = given.take(name);
  if (value === null) throw new TypeError(`${given.pathOf(name)} is missing`);
  if (typeof value === 'string') return value.trim();
  const plain = plainNumber(value);
  if (plain === null) throw new TypeError(`${given.pathOf(name)} is no text or number`);
  return plain;
}

/** `textOf`, or null when the field is absent or null. */
export function optionalText(given: Given, name: string): string | null {
  return given.has(name) ? textOf(given, name) : null;
}

/**
 * A number as a plain decimal.
 * @throws RangeError for a text that says something else: no rule takes such a value. TypeError for no text at all.
 */
export function numberIn(given: Given, name: string): string {
  const text = textOf(given, name);
  const plain = plainNumber(text);
  if (plain === null) {
    throw new RangeError(`${given.pathOf(name)} is no number: ${JSON.stringify(text)}`);
  }
  return plain;
}

/** `numberIn`, or null when the field is absent or null. */
export function optionalNumber(given: Given, name: string): string | null {
  return given.has(name) ? numberIn(given, name) : null;
}

/** A list of numbers as plain decimals. @throws RangeError, or TypeError when it is no list. */
export function numbersIn(given: Given, name: string): readonly string[] {
  return itemsOf(given, name).map((item, index) => {
    const plain = plainNumber(item);
    if (plain === null) throw new RangeError(`${given.pathOf(name)}[${index}] is no number`);
    return plain;
  });
}

function itemsOf(given: Given, name: string): readonly unknown[] {
  const value = given.take(name);
  if (!Array.isArray(value)) throw new TypeError(`${given.pathOf(name)} is no list`);
  return value;
}

/** Which of several names for one thing an input uses; null for none. @throws TypeError when it uses two of them. */
export function nameOf(given: Given, names: readonly string[]): string | null {
  const used = names.filter((name) => given.has(name));
  const [first = null, second] = used;
  if (second !== undefined) throw new TypeError(`the input says ${used.join(' and ')}`);
  return first;
}

export function decimalIn(given: Given, name: string): Decimal {
  return decimal(numberIn(given, name));
}

/** An integer. @throws RangeError */
export function integerIn(given: Given, name: string): bigint {
  const value = decimalIn(given, name);
  if (!value.isInteger()) {
    throw new RangeError(`${given.pathOf(name)} is no integer: ${value.toFixed()}`);
  }
  return BigInt(value.toFixed(0));
}

/** `integerIn`, zero when the field is absent or null. */
export function integerOr0(given: Given, name: string): bigint {
  return given.has(name) ? integerIn(given, name) : 0n;
}

/** An integer that counts something, 1 when the field is absent or null. @throws RangeError when it counts nothing. */
export function countIn(given: Given, name: string): number {
  const count = given.has(name) ? Number(integerIn(given, name)) : 1;
  if (!Number.isSafeInteger(count) || count < 1) {
    throw new RangeError(`${given.pathOf(name)} is no count from 1: ${count}`);
  }
  return count;
}

/** True or false; false when the field is absent or null. @throws TypeError */
export function flagIn(given: Given, name: string): boolean {
  const value = given.take(name) ?? false;
  if (typeof value !== 'boolean') {
    throw new TypeError(`${given.pathOf(name)} is neither true nor false`);
  }
  return value;
}

/** The currency of an input, USD when it names none. @throws RangeError when nobody can be billed in it. */
export function currencyOf(given: Given): Currency {
  const code = (optionalText(given, 'currency') ?? 'USD').toUpperCase();
  if (!isCurrency(code)) throw new RangeError(`the currency ${code} is not in the table`);
  return code;
}

/** An amount of major units, rounded once to minor ones. */
export function minorIn(given: Given, name: string): Minor {
  return roundToMinor(decimalIn(given, name), currencyOf(given));
}

export function major(minor: Minor, given: Given): Decimal {
  return majorOf(minor, currencyOf(given));
}

/** `8.875`, `8.875%` or 8.875. @throws RangeError */
export function percentIn(given: Given, name: string): string {
  const plain = plainNumber(textOf(given, name).replace(/\s*%$/, ''));
  if (plain === null) throw new RangeError(`${given.pathOf(name)} is no percentage`);
  return plain;
}

/** `15/30`, or a decimal. @throws RangeError */
export function ratioIn(given: Given, name: string): Ratio {
  const text = textOf(given, name);
  const match = /^([0-9]+)\s*\/\s*([1-9][0-9]*)$/.exec(text);
  if (match !== null) {
    return { numerator: BigInt(match[1] ?? ''), denominator: BigInt(match[2] ?? '') };
  }
  const plain = plainNumber(text);
  if (plain === null) throw new RangeError(`${given.pathOf(name)} is no ratio: ${text}`);
  return ratioOf(plain);
}
