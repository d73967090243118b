import { DateTime } from 'luxon';

import { decimal, Exact } from '../../billing/decimal.ts';
import type { Fields } from './read.ts';

/**
 * What differs between an answer and what is expected, in words; only fields that are expected are looked at.
 * Decimals and integers are compared as numbers, times as instants (or dates, where only a date is expected), texts as
 * they stand.
 */
export function differences(actual: Fields, expect: Fields): readonly string[] {
  const names = Object.keys(expect);
  if (names.length === 0) return ['nothing is expected'];
  return names.flatMap((name) => {
    const got = actual[name];
    if (got === undefined) return [`no rule works out ${name}`];
    return isSame(got, expect[name])
      ? []
      : [`${name}: expected ${JSON.stringify(expect[name])}, actual ${spell(got)}`];
  });
}

function isSame(got: unknown, wanted: unknown): boolean {
  if (Array.isArray(got)) {
    return (
      Array.isArray(wanted) &&
      got.length === wanted.length &&
      got.every((item, index) => isSame(item, wanted[index]))
    );
  }
  if (got instanceof Exact || typeof got === 'bigint' || typeof got === 'number') {
    return isNumber(wanted) && new Exact(String(got)).eq(new Exact(String(wanted)));
  }
  if (DateTime.isDateTime(got)) return typeof wanted === 'string' && isTime(got, wanted);
  if (typeof got === 'string' && typeof wanted === 'number') {
    return isNumber(got) && decimal(got).eq(wanted);
  }
  return got === wanted;
}

function isNumber(value: unknown): value is string | number {
  if (typeof value === 'number') return Number.isFinite(value);
  return typeof value === 'string' && /^-?[0-9]+(\.[0-9]+)?$/.test(value);
}

function isTime(got: DateTime, wanted: string): boolean {
  if (/^[0-9]{4}-[0-9]{2}-[0-9]{2}$/.test(wanted)) return got.toISODate() === wanted;
  const time = DateTime.fromISO(wanted.replace(' ', 'T'), { zone: got.zone });
  return time.isValid && time.toMillis() === got.toMillis();
}

function spell(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(spell).join(', ')}]`;
  if (DateTime.isDateTime(value)) return JSON.stringify(value.toISO());
  if (value instanceof Exact) return JSON.stringify(value.toFixed());
  return typeof value === 'bigint' ? value.toString() : (JSON.stringify(value) ?? 'nothing');
}
