import { DateTime } from 'luxon';

import { isZone } from '../../billing/periods.ts';
import type { IntervalUnit } from '../../billing/plan.ts';
import type { Given } from './given.ts';
import { optionalText, textOf } from './values.ts';

/** The zone of an input, UTC when it names none. @throws RangeError */
export function zoneOf(given: Given): string {
  const zone = optionalText(given, 'tz') ?? optionalText(given, 'timezone') ?? 'UTC';
  if (!isZone(zone)) throw new RangeError(`there is no zone ${zone}`);
  return zone;
}

const date = '[0-9]{4}-[0-9]{2}-[0-9]{2}';
const clock = '[0-9]{2}:[0-9]{2}(?::[0-9]{2}(?:[.,][0-9]+)?)?';
const offset = 'Z|[+-][0-9]{2}(?::?[0-9]{2})?';
const spelling = new RegExp(`^(${date})(?:[T ](${clock})\\s*(${offset}|local)?)?$`, 'i');

/** What a text says of a time: a whole day of the zone, its clock there, or an instant. */
export type Spelled = { readonly kind: 'date' | 'clock' | 'instant'; readonly ms: number };

/**
 * A date, or a time with or without seconds and offset; without an offset (or with the word `local`) it is what the
 * clocks of the zone show. Null for any other text.
 */
export function spelledTime(text: string, zone: string): Spelled | null {
  const match = spelling.exec(text.trim());
  if (match === null) return null;
  const [, day = '', clocks, end = 'local'] = match;
  const isLocal = end.toLowerCase() === 'local';
  const written = DateTime.fromISO(`${day}T${clocks ?? '00:00'}${isLocal ? '' : end}`, {
    zone: 'UTC',
  });
  if (!written.isValid) return null;
  if (!isLocal) return { kind: 'instant', ms: written.toMillis() };
  return {
    kind: clocks === undefined ? 'date' : 'clock',
    ms: instantOfClock(written.toMillis(), zone),
  };
}

const dayMs = 24 * 3_600_000;

/**
 * When the clocks of a zone show a time: the first of two such instants; where the clocks leap over it, as long after the
 * leap as it would have been. (Luxon asks which offset the zone has today, so that its answer would change with the date.)
 * @param clockMs The time shown, as if it were one of UTC.
 */
function instantOfClock(clockMs: number, zone: string): number {
  const offsetAt = (ms: number): number => DateTime.fromMillis(ms, { zone }).offset * 60_000;
  const before = clockMs - offsetAt(clockMs - dayMs);
  const after = clockMs - offsetAt(clockMs + dayMs);
  return [before, after].find((ms) => ms + offsetAt(ms) === clockMs) ?? before;
}

/** The instant of a field, epoch ms; of a date the first one. @throws RangeError */
export function instantIn(given: Given, name: string): number {
  const text = textOf(given, name);
  const time = spelledTime(text, zoneOf(given));
  if (time === null) throw new RangeError(`${given.pathOf(name)} is no date or instant: ${text}`);
  return time.ms;
}

/** The time of an instant in the input's zone, which is compared with the spelling that is expected. @throws RangeError */
export function timeAt(ms: number, given: Given): DateTime<true> {
  const time = DateTime.fromMillis(ms, { zone: zoneOf(given) });
  if (!time.isValid) throw new RangeError('the calendar does not reach that far');
  return time;
}

export type Every = { readonly unit: IntervalUnit; readonly count: number };

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
  half_year: { unit: 'month', count: 6 },
  half_yearly: { unit: 'month', count: 6 },
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

/**
 * `P1M`, `PT1H`, `month`, `months`, `3 months`, `quarterly`; `count` multiplies it.
 * @throws RangeError for any other text, and for an interval of no length.
 */
export function intervalOf(text: string, count: number): Every {
  const every = spelledInterval(text);
  const most = 1_000_000;
  if (every === null || every.count < 1 || every.count * count > most) {
    throw new RangeError(`no interval: ${text}${count === 1 ? '' : ` × ${count}`}`);
  }
  return { unit: every.unit, count: every.count * count };
}

function spelledInterval(text: string): Every | null {
  const iso = /^P(?:([0-9]+)([YMWD])|T([0-9]+)H)$/.exec(text.toUpperCase());
  if (iso !== null) {
    const [, dates, unit = '', hours] = iso;
    return { unit: dateUnits[unit] ?? 'hour', count: Number(dates ?? hours) };
  }
  const [, times = '1', word = ''] = /^([0-9]+)?[ _-]?(.*)$/.exec(text.toLowerCase()) ?? [];
  const name = word.replaceAll(/[ -]/g, '_');
  const every = wordOf(name) ?? wordOf(name.replace(/s$/, ''));
  return every === null ? null : { unit: every.unit, count: every.count * Number(times) };
}

function wordOf(name: string): Every | null {
  return Object.hasOwn(words, name) ? (words[name] ?? null) : null;
}
