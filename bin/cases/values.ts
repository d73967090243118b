import { DateTime } from 'luxon';

import { decimal, type Decimal } from '../../billing/decimal.ts';
import {
  type Currency,
  isCurrency,
  majorOf,
  type Minor,
  roundToMinor,
} from '../../billing/money.ts';
import type { IntervalUnit } from '../../billing/plan.ts';
import type { Ratio } from '../../billing/ratio.ts';
import { ratioOf } from '../../billing/ratio.ts';
import type { Fields } from './read.ts';

/** A text or a number of an input, as text. @throws TypeError when it is neither. */
export function textOf(input: Fields, name: string): string {
  const value = input[name];
  if (typeof value === 'string') return value.trim();
  if (typeof value === 'number') return plainNumber(value);
  throw new TypeError(`input.${name} is ${value === undefined ? 'missing' : 'no text or number'}`);
}

/** `textOf`, or null when the field is absent or null. */
export function optionalText(input: Fields, name: string): string | null {
  const value = input[name];
  return value === undefined || value === null ? null : textOf(input, name);
}

/** JSON numbers without exponents: 1e-7 → 0.0000001. */
function plainNumber(value: number): string {
  const text = String(value);
  return /e/i.test(text) ? value.toFixed(20).replace(/\.?0+$/, '') : text;
}

/** A list of texts or numbers. @throws TypeError */
export function listOf(input: Fields, name: string): readonly string[] {
  const value = input[name];
  if (!Array.isArray(value)) throw new TypeError(`input.${name} is no list`);
  return value.map((item: unknown) => textOf({ item }, 'item'));
}

export function decimalIn(input: Fields, name: string): Decimal {
  return decimal(textOf(input, name));
}

/** An integer. @throws TypeError */
export function integerIn(input: Fields, name: string): bigint {
  return integerOf(textOf(input, name), name);
}

/** `integerIn`, zero when the field is absent or null. */
export function integerOr0(input: Fields, name: string): bigint {
  return optionalText(input, name) === null ? 0n : integerIn(input, name);
}

function integerOf(text: string, name: string): bigint {
  const value = decimal(text);
  if (!value.isInteger()) throw new TypeError(`input.${name} is no integer: ${text}`);
  return BigInt(value.toFixed(0));
}

/** The currency of an input, USD when it names none. */
export function currencyOf(input: Fields): Currency {
  const code = (optionalText(input, 'currency') ?? 'USD').toUpperCase();
  if (!isCurrency(code)) throw new TypeError(`the currency ${code} is not in the table`);
  return code;
}

/** An amount of major units, rounded once to minor ones. */
export function minorIn(input: Fields, name: string): Minor {
  return roundToMinor(decimalIn(input, name), currencyOf(input));
}

export function major(minor: Minor, input: Fields): Decimal {
  return majorOf(minor, currencyOf(input));
}

/** `15/30`, or a plain decimal. */
export function ratioIn(input: Fields, name: string): Ratio {
  const text = textOf(input, name);
  const match = /^([0-9]+)\s*\/\s*([1-9][0-9]*)$/.exec(text);
  if (match === null) return ratioOf(text);
  return { numerator: BigInt(match[1] ?? ''), denominator: BigInt(match[2] ?? '') };
}

/** The zone of an input, UTC when it names none. */
export function zoneOf(input: Fields): string {
  return optionalText(input, 'tz') ?? optionalText(input, 'timezone') ?? 'UTC';
}

/** A date, or an instant with or without seconds and offset; without an offset it is local time of the zone. */
export function timeOf(text: string, zone: string): DateTime<true> {
  const time = DateTime.fromISO(text.trim().replace(' ', 'T'), { zone });
  if (!time.isValid) throw new TypeError(`no date or instant: ${text}`);
  return time;
}

export function instantIn(input: Fields, name: string): number {
  return timeOf(textOf(input, name), zoneOf(input)).toMillis();
}

/** The time of an instant in the input's zone, which is compared with the spelling that is expected. */
export function timeAt(ms: number, input: Fields): DateTime {
  return DateTime.fromMillis(ms, { zone: zoneOf(input) });
}

type Every = { readonly unit: IntervalUnit; readonly count: number };

const words: Readonly<Record<string, Every>> = {
  hour: { unit: 'hour', count: 1 },
  hourly: { unit: 'hour', count: 1 },
  day: { unit: 'day', count: 1 },
  daily: { unit: 'day', count: 1 },
  week: { unit: 'week', count: 1 },
  weekly: { unit: 'week', count: 1 },
  biweekly: { unit: 'week', count: 2 },
  month: { unit: 'month', count: 1 },
  monthly: { unit: 'month', count: 1 },
  quarter: { unit: 'month', count: 3 },
  quarterly: { unit: 'month', count: 3 },
  semi_annual: { unit: 'month', count: 6 },
  semiannual: { unit: 'month', count: 6 },
  biannual: { unit: 'month', count: 6 },
  annual: { unit: 'year', count: 1 },
  year: { unit: 'year', count: 1 },
  yearly: { unit: 'year', count: 1 },
};
const dateUnits: Readonly<Record<string, IntervalUnit>> = {
  Y: 'year',
  M: 'month',
  W: 'week',
  D: 'day',
};

/** `P1M`, `PT1H`, `month`, `months`, `quarterly`; `count` multiplies it. */
export function intervalOf(spelling: string, count: number): Every {
  const iso = /^P(?:([0-9]+)([YMWD])|T([0-9]+)H)$/.exec(spelling.toUpperCase());
  if (iso !== null) {
    const [, dates, unit = '', hours] = iso;
    return {
      unit: dateUnits[unit] ?? 'hour',
      count: Number(dates ?? hours) * count,
    };
  }
  const name = spelling.toLowerCase().replaceAll('-', '_');
  const every = words[name] ?? words[name.replace(/s$/, '')];
  if (every === undefined) throw new TypeError(`no interval: ${spelling}`);
  return { unit: every.unit, count: every.count * count };
}
