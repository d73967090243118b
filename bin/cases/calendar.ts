import {
  anniversaryAt,
  boundary,
  calendarDaysBetween,
  firstBillDate,
  intervalIndexAt,
} from '../../billing/periods.ts';
import type { Span } from '../../billing/ratio.ts';
import type { Given } from './given.ts';
import type { Fields } from './read.ts';
import { type Every, instantIn, intervalOf, spelledTime, timeAt, zoneOf } from './times.ts';
import { countIn, integerIn, nameOf, textOf } from './values.ts';

/**
 * The interval of an anchor that an instant lies in. By the calendar (`billing_time`) it is a subscription's, which begins
 * at its anchor with a stub.
 * @throws RangeError
 */
function intervalAt(given: Given, every: Every, atMs: number): Span {
  const [anchorMs, zone] = [instantIn(given, 'anchor'), zoneOf(given)];
  const name = nameOf(given, ['billing_time', 'billingTime', 'billing']);
  const time = name === null ? 'anniversary' : textOf(given, name);
  if (time === 'anniversary') return anniversaryAt(anchorMs, zone, every, atMs);
  if (time !== 'calendar') throw new RangeError(`no time to bill: ${time}`);
  const recurrence = { ...every, billing_time: time } as const;
  const n = intervalIndexAt(anchorMs, zone, recurrence, atMs);
  return {
    startMs: boundary(anchorMs, zone, recurrence, n),
    endMs: boundary(anchorMs, zone, recurrence, n + 1),
  };
}

/**
 * What `anchor.monthly`, `anchor.quarterly`, … ask: each date that is expected is answered by the boundary at or before its
 * end. A list may leave boundaries out.
 * @throws RangeError when the word is no interval.
 */
export function anchored(word: string): (given: Given, expect: Fields) => Fields {
  const once = intervalOf(word, 1);
  return (given, expect) => {
    const every = { unit: once.unit, count: once.count * countIn(given, 'count') };
    const dates = datesOf(expect, zoneOf(given));
    return { dates: dates.map((ms) => timeAt(intervalAt(given, every, ms).startMs, given)) };
  };
}

/** The instants at which expected dates are asked about: of a day the last one. */
function datesOf({ dates }: Fields, zone: string): readonly number[] {
  if (!Array.isArray(dates) || dates.length === 0)
    throw new TypeError('expect.dates lists nothing');
  return dates.map((text: unknown) => {
    const time = typeof text === 'string' ? spelledTime(text, zone) : null;
    if (time === null) throw new TypeError('expect.dates holds something else than dates');
    if (time.kind !== 'date') return time.ms;
    return anniversaryAt(time.ms, zone, { unit: 'day', count: 1 }, time.ms).endMs - 1;
  });
}

function everyOf(given: Given): Every {
  return intervalOf(textOf(given, 'interval'), countIn(given, 'count'));
}

function periodAt(given: Given): Fields {
  const { startMs, endMs } = intervalAt(given, everyOf(given), instantIn(given, 'at'));
  const [start, end] = [timeAt(startMs, given), timeAt(endMs, given)];
  return { period: [start, end], start, end };
}

function daysBetween(given: Given): Fields {
  const from = nameOf(given, ['from_', 'from']) ?? 'from_';
  return {
    days: calendarDaysBetween(instantIn(given, from), instantIn(given, 'to'), zoneOf(given)),
  };
}

function firstBill(given: Given): Fields {
  const day = Number(integerIn(given, 'billCycleDay'));
  return { first: timeAt(firstBillDate(instantIn(given, 'start'), day, zoneOf(given)), given) };
}

export const calendarRunners = {
  'period.at': periodAt,
  'days.dst': daysBetween,
  first_bill_date: firstBill,
} as const;
