import { DateTime } from 'luxon';

import { Exact } from '../../billing/decimal.ts';
import { isRemark } from './given.ts';
import { type Fields, isFields, spellJson } from './read.ts';
import { spelledTime } from './times.ts';
import { plainNumber } from './values.ts';

/**
 * What differs between an answer and what is expected, in words; only fields that are expected are looked at, and remarks
 * are not. Amounts and other numbers are compared by their values, times as instants (as dates or clocks, where only these
 * are expected), other texts as they stand.
 */
export function differences(actual: Fields, expect: Fields): readonly string[] {
  const names = Object.keys(expect).filter((name) => !isRemark(name) && !isNoError(name, expect));
  if (names.length === 0) return ['nothing is expected'];
  return names.flatMap((name) => {
    const got = Object.hasOwn(actual, name) ? actual[name] : undefined;
    if (got === undefined) return [`no rule works out ${name}`];
    return isSame(got, expect[name])
      ? []
      : [`${name}: expected ${spellJson(expect[name])}, actual ${spell(got)}`];
  });
}

/** `error: false` says that there is an answer, and nothing about it. */
function isNoError(name: string, expect: Fields): boolean {
  return name === 'error' && !isErrorExpected(expect);
}

export function isErrorExpected(expect: Fields): boolean {
  return (expect['error'] ?? false) !== false;
}

function isSame(got: unknown, wanted: unknown): boolean {
  if (Array.isArray(got)) {
    return (
      Array.isArray(wanted) &&
      got.length === wanted.length &&
      got.every((item, index) => isSame(item, wanted[index]))
    );
  }
  if (DateTime.isDateTime(got)) return typeof wanted === 'string' && isTime(got, wanted);
  const [one, other] = [numberOf(got), plainNumber(wanted)];
  return one === null || other === null ? got === wanted : new Exact(one).eq(other);
}

function numberOf(got: unknown): string | null {
  if (got instanceof Exact) return got.toFixed();
  if (typeof got === 'bigint' || typeof got === 'number') return String(got);
  return plainNumber(got);
}

/** Without an offset, what the clocks show is all that is expected: they show some times twice. */
function isTime(got: DateTime, wanted: string): boolean {
  const time = spelledTime(wanted, got.zoneName ?? 'UTC');
  if (time === null) return false;
  if (time.kind === 'date') return got.toISODate() === wanted.trim();
  if (time.ms === got.toMillis()) return true;
  const shown = got.setZone('UTC', { keepLocalTime: true }).toMillis();
  return time.kind === 'clock' && spelledTime(wanted, 'UTC')?.ms === shown;
}

/** An answer, or one field of it, in words. */
export function spell(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(spell).join(', ')}]`;
  if (DateTime.isDateTime(value)) return JSON.stringify(value.toISO());
  if (value instanceof Exact) return JSON.stringify(value.toFixed());
  if (isFields(value)) {
    return Object.entries(value)
      .map(([name, item]) => `${name} ${spell(item)}`)
      .join(', ');
  }
  return typeof value === 'bigint' ? value.toString() : (JSON.stringify(value) ?? 'nothing');
}
