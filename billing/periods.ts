import { DateTime } from 'luxon';
import type { IntervalUnit, PlanDefinition } from './plan.ts';

/**
 * The calendar of a subscription. Boundary n is anchor + n intervals, counted from the original anchor in the
 * subscriber's zone and clamped to the end of the month (31 Jan → 28 Feb → 31 Mar); it is never stepped from the
 * boundary before. Interval n is [boundary n, boundary n + 1): the intervals tile, whatever the zone does with its clocks.
 * Instants are epoch milliseconds.
 */
export type Recurrence = {
  readonly unit: IntervalUnit;
  readonly count: number;
  /** Default `anniversary`. `calendar`: boundaries at the start of local months (weeks, days, …), the first one a stub. */
  readonly billing_time?: PlanDefinition['billing_time'];
};

/** How often a plan bills, and on which days. */
export function recurrenceOf(
  definition: Pick<PlanDefinition, 'interval' | 'billing_time'>,
): Recurrence {
  return { ...definition.interval, billing_time: definition.billing_time };
}

/** A billing interval in words: `month`, `3 months`. */
export function intervalText({ unit, count }: Pick<Recurrence, 'unit' | 'count'>): string {
  return count === 1 ? unit : `${count} ${unit}s`;
}

/** Whether a text names a zone of the IANA time-zone database that this machine knows. */
export function isZone(zone: string): boolean {
  return zone !== 'local' && zone !== 'system' && DateTime.fromMillis(0, { zone }).isValid;
}

/**
 * The start of interval n, which is the end of interval n − 1.
 * @param n From 0 (the anchor itself) up.
 * @throws RangeError for a zone that is unknown or an n that is not an integer from 0.
 */
export function boundary(
  anchorMs: number,
  zone: string,
  recurrence: Recurrence,
  n: number,
): number {
  if (!Number.isSafeInteger(n) || n < 0) throw new RangeError(`no boundary has the number ${n}`);
  if (n === 0) return localTime(anchorMs, zone).toMillis();
  return recurrence.billing_time === 'calendar'
    ? calendarBoundary[recurrence.unit](localTime(anchorMs, zone), recurrence.count, n)
    : anniversary(anchorMs, zone, recurrence, n);
}

function anniversary(anchorMs: number, zone: string, recurrence: Recurrence, n: number): number {
  const anchor = localTime(anchorMs, zone);
  return anchor.plus({ [recurrence.unit]: n * recurrence.count }).toMillis();
}

/**
 * The interval that an instant belongs to (start inclusive, end exclusive), epoch ms. Unlike a subscription, which begins
 * at its anchor, a recurrence reaches back before it, as worked examples ask: the 31st of a month also anchors the months
 * before.
 * @throws RangeError for a zone that is unknown.
 */
export function anniversaryAt(
  anchorMs: number,
  zone: string,
  recurrence: Recurrence,
  atMs: number,
): { readonly startMs: number; readonly endMs: number } {
  const of = (n: number): number => anniversary(anchorMs, zone, recurrence, n);
  const n = lastAt(atMs, roughIndex(anchorMs, recurrence, atMs), of);
  return { startMs: of(n), endMs: of(n + 1) };
}

/** The number of the last boundary at or before an instant, sought from a guess up or down. */
function lastAt(atMs: number, guess: number, boundaryOf: (n: number) => number): number {
  let n = guess;
  while (boundaryOf(n) > atMs) n -= 1;
  while (boundaryOf(n + 1) <= atMs) n += 1;
  return n;
}

/** As if every month had 30 days and every year 365: near enough to seek from. */
function roughIndex(anchorMs: number, { unit, count }: Recurrence, atMs: number): number {
  return Math.floor((atMs - anchorMs) / (roughLengthMs[unit] * count));
}

/**
 * The whole interval of the calendar that an instant lies in, epoch ms: what a subscription that begins within it is
 * prorated by.
 * @throws RangeError for a zone that is unknown.
 */
export function calendarIntervalAt(
  atMs: number,
  zone: string,
  recurrence: Recurrence,
): { readonly startMs: number; readonly endMs: number } {
  const at = localTime(atMs, zone);
  const of = calendarBoundary[recurrence.unit];
  return { startMs: of(at, recurrence.count, 0), endMs: of(at, recurrence.count, 1) };
}

/**
 * The first local day, on or after that of the start, that is a given day of the month; in months that are too short it is
 * the last one. Answers the first instant of that day; the start itself when it is already within it.
 * @param day 1–31.
 * @throws RangeError for another day, or a zone that is unknown.
 */
export function firstBillDate(startMs: number, day: number, zone: string): number {
  if (!Number.isInteger(day) || day < 1 || day > 31) {
    throw new RangeError(`no month has the day ${day}`);
  }
  const start = localTime(startMs, zone);
  const inMonthOf = (time: DateTime<true>): DateTime<true> => {
    const first = localTime(startOfMonth(time.year * 12 + time.month - 1, zone), zone);
    return first.plus({ day: Math.min(day, first.daysInMonth) - 1 });
  };
  const candidate = inMonthOf(start);
  if (dayNumber(candidate) === dayNumber(start)) return startMs;
  if (dayNumber(candidate) > dayNumber(start)) return startOfDay(candidate);
  return startOfDay(inMonthOf(localTime(startOfMonth(start.year * 12 + start.month, zone), zone)));
}

/**
 * The number of the interval that an instant belongs to (start inclusive, end exclusive).
 * @throws RangeError when the instant lies before the anchor.
 */
export function intervalIndexAt(
  anchorMs: number,
  zone: string,
  recurrence: Recurrence,
  atMs: number,
): number {
  if (atMs < anchorMs) throw new RangeError('the instant lies before the anchor');
  return lastAt(atMs, roughIndex(anchorMs, recurrence, atMs), (n) =>
    boundary(anchorMs, zone, recurrence, n),
  );
}

const hourMs = 3_600_000;
const dayMs = 24 * hourMs;
const roughLengthMs = {
  hour: hourMs,
  day: dayMs,
  week: 7 * dayMs,
  month: 30 * dayMs,
  year: 365 * dayMs,
} as const satisfies Record<IntervalUnit, number>;

function localTime(ms: number, zone: string): DateTime<true> {
  const time = DateTime.fromMillis(ms, { zone });
  if (!time.isValid) throw new RangeError(`unknown time zone or instant: ${zone}, ${ms}`);
  return time;
}

/**
 * Months and years are counted on a grid that begins with the year 0, so that a count of 3 gives quarters of the year;
 * hours, days and weeks are counted from the one that the anchor lies in. Weeks begin on Monday.
 */
const calendarBoundary = {
  hour: (anchor, count, n) => anchor.startOf('hour').toMillis() + n * count * hourMs,
  day: (anchor, count, n) => startOfDay(anchor.startOf('day').plus({ day: n * count })),
  week: (anchor, count, n) => startOfDay(anchor.startOf('week').plus({ day: n * count * 7 })),
  month: (anchor, count, n) => {
    const month = anchor.year * 12 + anchor.month - 1;
    return startOfMonth((Math.floor(month / count) + n) * count, anchor.zoneName);
  },
  year: (anchor, count, n) =>
    startOfMonth((Math.floor(anchor.year / count) + n) * count * 12, anchor.zoneName),
} as const satisfies Record<
  IntervalUnit,
  (anchor: DateTime<true>, count: number, n: number) => number
>;

function startOfMonth(monthsSinceYear0: number, zone: string): number {
  const year = Math.floor(monthsSinceYear0 / 12);
  const month = monthsSinceYear0 - year * 12 + 1;
  const time = DateTime.fromObject({ year, month, day: 1 }, { zone });
  if (!time.isValid) throw new RangeError(`no such month: ${year}-${month}`);
  return startOfDay(time);
}

/** The first instant of a local day, also where the clock skips midnight or shows it twice. */
function startOfDay(time: DateTime<true>): number {
  const start = time.startOf('day');
  const hourBefore = start.minus({ hour: 1 });
  // Not `hasSame`: it takes a doubled midnight for the end of the day before.
  return hourBefore.day === start.day ? hourBefore.toMillis() : start.toMillis();
}

/** How many calendar days lie between the local dates of two instants; a change of the clocks changes nothing. */
export function calendarDaysBetween(startMs: number, endMs: number, zone: string): number {
  return dayNumber(localTime(endMs, zone)) - dayNumber(localTime(startMs, zone));
}

function dayNumber(time: DateTime): number {
  return DateTime.utc(time.year, time.month, time.day).toMillis() / dayMs;
}

/**
 * A period for people, its last day included: `Jan 1 – Jan 31, 2025`, `Dec 15, 2024 – Jan 14, 2025`, `Jan 1, 2025`;
 * one shorter than a day and within one date with its times: `Jan 1, 2025, 10:00 – 11:00`.
 * @throws RangeError when the end does not lie after the start.
 */
export function formatPeriod(startMs: number, endMs: number, zone: string): string {
  if (endMs <= startMs) throw new RangeError('a period ends after it starts');
  const start = localTime(startMs, zone).setLocale('en-US');
  const end = localTime(endMs, zone).setLocale('en-US');
  const last = end.minus(1);
  if (dayNumber(start) === dayNumber(last)) {
    const day = start.toFormat('MMM d, yyyy');
    const isWhole = startMs === startOfDay(start) && dayNumber(start) !== dayNumber(end);
    return isWhole ? day : `${day}, ${start.toFormat('HH:mm')} – ${end.toFormat('HH:mm')}`;
  }
  const head = start.toFormat(start.year === last.year ? 'MMM d' : 'MMM d, yyyy');
  return `${head} – ${last.toFormat('MMM d, yyyy')}`;
}

/** An instant in UTC for programs: `2025-01-31T00:00:00.000Z`. @throws RangeError */
export function isoInstant(ms: number): string {
  return localTime(ms, 'utc').toISO();
}
