import assert from 'node:assert/strict';
import fc from 'fast-check';
import { DateTime } from 'luxon';
import {
  boundary,
  calendarDaysBetween,
  formatPeriod,
  intervalIndexAt,
  isoInstant,
  isZone,
  recurrenceOf,
  type Recurrence,
} from '../../billing/periods.ts';

const zones = ['UTC', 'America/New_York', 'Europe/Berlin', 'Asia/Kolkata', 'Australia/Lord_Howe'];
const monthly: Recurrence = { unit: 'month', count: 1 };

function iso(ms: number): string {
  return new Date(ms).toISOString();
}

describe('billing/periods › boundary', () => {
  it('keeps the 31st over 24 months, clamped to each month (invariant 7)', () => {
    const anchorMs = Date.parse('2024-01-31T12:00:00Z');
    const days = Array.from({ length: 25 }, (_, n) =>
      iso(boundary(anchorMs, 'UTC', monthly, n)).slice(5, 10),
    );
    assert.deepEqual(days, [
      ...['01-31', '02-29', '03-31', '04-30', '05-31', '06-30', '07-31', '08-31', '09-30'],
      ...['10-31', '11-30', '12-31', '01-31', '02-28', '03-31', '04-30', '05-31', '06-30'],
      ...['07-31', '08-31', '09-30', '10-31', '11-30', '12-31', '01-31'],
    ]);
  });

  it('7,440 periods tile, each on the anchor’s day or the month’s last (invariant 7)', () => {
    let periods = 0;
    for (const zone of zones) {
      for (let day = 1; day <= 31; day++) {
        const anchor = DateTime.fromObject(
          { year: 2023, month: 1, day, hour: 0, minute: 30 },
          { zone },
        );
        let startMs = anchor.toMillis();
        for (let n = 0; n < 48; n++) {
          const endMs = boundary(anchor.toMillis(), zone, monthly, n + 1);
          assert.ok(endMs > startMs);
          const local = DateTime.fromMillis(endMs, { zone });
          assert.equal(local.day, Math.min(day, local.daysInMonth ?? 0));
          assert.equal(local.month, ((n + 1) % 12) + 1);
          for (const [offset, index] of [
            [-1, n],
            [0, n + 1],
            [1, n + 1],
          ] as const) {
            assert.equal(intervalIndexAt(anchor.toMillis(), zone, monthly, endMs + offset), index);
          }
          startMs = endMs;
          periods += 1;
        }
      }
    }
    assert.equal(periods, 7440);
  });

  it('keeps the local hour over a change of the clocks, and hours of elapsed time', () => {
    const anchorMs = Date.parse('2024-02-10T15:00:00Z');
    const at = (unit: Recurrence['unit'], n: number): string =>
      iso(boundary(anchorMs, 'America/New_York', { unit, count: 1 }, n));
    assert.equal(at('month', 1), '2024-03-10T14:00:00.000Z');
    assert.equal(at('day', 29), '2024-03-10T14:00:00.000Z');
    assert.equal(at('week', 5), '2024-03-16T14:00:00.000Z');
    assert.equal(at('hour', 29 * 24), '2024-03-10T15:00:00.000Z');
    assert.equal(at('year', 1), '2025-02-10T15:00:00.000Z');
  });

  it('a leap day’s yearly anchor falls on Feb 28 and returns to Feb 29', () => {
    const anchorMs = Date.parse('2024-02-29T00:00:00Z');
    const days = [1, 2, 3, 4].map((n) =>
      iso(boundary(anchorMs, 'UTC', { unit: 'year', count: 1 }, n)).slice(0, 10),
    );
    assert.deepEqual(days, ['2025-02-28', '2026-02-28', '2027-02-28', '2028-02-29']);
  });

  it('calendar billing begins with a stub and follows local months', () => {
    const anchorMs = Date.parse('2025-01-17T09:00:00Z');
    const calendar: Recurrence = { ...monthly, billing_time: 'calendar' };
    const starts = [0, 1, 2, 3, 4].map((n) =>
      iso(boundary(anchorMs, 'Europe/Berlin', calendar, n)),
    );
    assert.deepEqual(starts, [
      '2025-01-17T09:00:00.000Z',
      '2025-01-31T23:00:00.000Z',
      '2025-02-28T23:00:00.000Z',
      '2025-03-31T22:00:00.000Z',
      '2025-04-30T22:00:00.000Z',
    ]);
    const onTheFirst = Date.parse('2025-01-31T23:00:00Z');
    assert.equal(
      iso(boundary(onTheFirst, 'Europe/Berlin', calendar, 1)),
      '2025-02-28T23:00:00.000Z',
    );
  });

  it('calendar quarters, years, weeks, days and hours begin where a calendar says', () => {
    const anchorMs = Date.parse('2025-02-19T09:20:00Z');
    const at = (unit: Recurrence['unit'], count: number): string =>
      iso(boundary(anchorMs, 'UTC', { unit, count, billing_time: 'calendar' }, 1)).slice(0, 16);
    assert.equal(at('month', 3), '2025-04-01T00:00');
    assert.equal(at('year', 1), '2026-01-01T00:00');
    assert.equal(at('week', 1), '2025-02-24T00:00');
    assert.equal(at('day', 1), '2025-02-20T00:00');
    assert.equal(at('hour', 1), '2025-02-19T10:00');
  });

  it('a local day begins at its first instant where midnight is skipped or doubled', () => {
    const daily: Recurrence = { unit: 'day', count: 1, billing_time: 'calendar' };
    const skipped = Date.parse('2018-11-03T12:00:00Z');
    assert.equal(iso(boundary(skipped, 'America/Sao_Paulo', daily, 1)), '2018-11-04T03:00:00.000Z');
    const doubled = Date.parse('2024-11-02T12:00:00Z');
    assert.equal(iso(boundary(doubled, 'America/Havana', daily, 1)), '2024-11-03T04:00:00.000Z');
    // The first of a month, which is also the doubled midnight.
    const october = Date.parse('2026-10-10T12:00:00Z');
    const ofMonths: Recurrence = { ...monthly, billing_time: 'calendar' };
    const later = Date.parse('2026-01-10T12:00:00Z');
    for (const [anchorMs, n] of [
      [october, 1],
      [later, 10],
    ] as const) {
      const november = iso(boundary(anchorMs, 'America/Havana', ofMonths, n));
      assert.equal(november, '2026-11-01T04:00:00.000Z');
    }
  });

  const recurrence = fc.record({
    unit: fc.constantFrom<Recurrence['unit']>('hour', 'day', 'week', 'month', 'year'),
    count: fc.integer({ min: 1, max: 5 }),
    billing_time: fc.constantFrom('anniversary' as const, 'calendar' as const),
  });

  it('every instant from the anchor on lies in exactly the interval that is named (invariant 7)', () => {
    const instant = fc.integer({ min: Date.UTC(2015, 0), max: Date.UTC(2035, 0) });
    const ahead = fc.integer({ min: 0, max: 3 * 365 * 86_400_000 });
    fc.assert(
      fc.property(
        fc.constantFrom(...zones),
        recurrence,
        instant,
        ahead,
        (zone, every, anchorMs, aheadMs) => {
          const atMs = anchorMs + aheadMs;
          const n = intervalIndexAt(anchorMs, zone, every, atMs);
          assert.ok(boundary(anchorMs, zone, every, n) <= atMs);
          assert.ok(atMs < boundary(anchorMs, zone, every, n + 1));
          assert.ok(boundary(anchorMs, zone, every, n + 1) > boundary(anchorMs, zone, every, n));
        },
      ),
    );
  });

  it('refuses unknown zones, numbers that no boundary has, and instants before the anchor', () => {
    assert.throws(() => boundary(0, 'Mars/Olympus', monthly, 1), RangeError);
    assert.throws(() => boundary(0, 'UTC', monthly, -1), RangeError);
    assert.throws(() => boundary(0, 'UTC', monthly, 0.5), RangeError);
    assert.throws(() => intervalIndexAt(1, 'UTC', monthly, 0), RangeError);
    assert.ok(isZone('Asia/Kolkata') && isZone('UTC'));
    assert.ok(!isZone('Mars/Olympus') && !isZone('local') && !isZone('system') && !isZone(''));
    const interval = { unit: 'month', count: 3 } as const;
    assert.deepEqual(recurrenceOf({ interval, billing_time: 'calendar' }), {
      ...interval,
      billing_time: 'calendar',
    });
  });
});

describe('billing/periods › for people', () => {
  it('prints periods with their last day included, in the subscriber’s zone', () => {
    const rows: readonly (readonly [string, string, string, string])[] = [
      ['2025-01-01T00:00Z', '2025-02-01T00:00Z', 'UTC', 'Jan 1 – Jan 31, 2025'],
      ['2025-01-01T05:00Z', '2025-02-01T05:00Z', 'America/New_York', 'Jan 1 – Jan 31, 2025'],
      ['2024-12-15T00:00Z', '2025-01-15T00:00Z', 'UTC', 'Dec 15, 2024 – Jan 14, 2025'],
      ['2025-01-31T15:00Z', '2025-02-28T15:00Z', 'UTC', 'Jan 31 – Feb 28, 2025'],
      ['2025-01-01T00:00Z', '2025-01-02T00:00Z', 'UTC', 'Jan 1, 2025'],
      ['2025-01-01T10:00Z', '2025-01-01T11:30Z', 'UTC', 'Jan 1, 2025, 10:00 – 11:30'],
      ['2025-01-01T00:00Z', '2025-01-01T11:30Z', 'UTC', 'Jan 1, 2025, 00:00 – 11:30'],
      ['2025-01-01T10:00Z', '2025-01-02T00:00Z', 'UTC', 'Jan 1, 2025, 10:00 – 00:00'],
      ['2025-01-01T18:00Z', '2025-01-01T19:00Z', 'Asia/Kolkata', 'Jan 1 – Jan 2, 2025'],
    ];
    for (const [start, end, zone, expected] of rows) {
      assert.equal(formatPeriod(Date.parse(start), Date.parse(end), zone), expected);
    }
    assert.throws(() => formatPeriod(1, 1, 'UTC'), RangeError);
  });
  it('counts calendar days, not blocks of 24 hours', () => {
    const startMs = Date.parse('2024-11-02T04:00:00Z');
    assert.equal(calendarDaysBetween(startMs, startMs + 49 * 3_600_000, 'America/New_York'), 2);
    assert.equal(calendarDaysBetween(startMs, startMs + 48 * 3_600_000, 'America/New_York'), 1);
    assert.equal(calendarDaysBetween(startMs, startMs, 'UTC'), 0);
  });
  it('prints instants for programs in UTC', () => {
    assert.equal(isoInstant(Date.UTC(2025, 0, 31)), '2025-01-31T00:00:00.000Z');
  });
});
