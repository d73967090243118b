/** Examples of the field whose inputs are not uniform, in our own words, under our own conventions. */
import assert from 'node:assert/strict';
import { type Coupon, discountLines } from '../../billing/discount.ts';
import {
  anniversaryAt,
  boundary,
  calendarIntervalAt,
  firstBillDate,
  intervalIndexAt,
  trialEnd,
} from '../../billing/periods.ts';
import { prorate, ratioLeft } from '../../billing/ratio.ts';
import { type Taxation } from '../../billing/tax.ts';
import { totalUp } from '../../billing/totals.ts';

const utc = (text: string): number => Date.parse(`${text}Z`);
const monthly = { unit: 'month', count: 1 } as const;

describe('billing › examples › the local day decides', () => {
  it('a calendar month in Kolkata begins when it is the 1st there, once', () => {
    const zone = 'Asia/Kolkata';
    const calendar = { ...monthly, billing_time: 'calendar' } as const;
    const anchor = utc('2023-01-10T00:00');
    const march = boundary(anchor, zone, calendar, 2);
    assert.equal(march, utc('2023-02-28T18:30'));
    const indexes = [
      '2023-02-28T18:00',
      '2023-02-28T19:00',
      '2023-03-01T18:00',
      '2023-03-01T19:00',
    ].map((at) => intervalIndexAt(anchor, zone, calendar, utc(at)));
    assert.deepEqual(indexes, [1, 2, 2, 2]);
  });

  it('a first month is shared by the days of the zone in which it begins', () => {
    const start = utc('2023-02-08T00:00');
    const of = (zone: string): bigint =>
      prorate(5_000n, ratioLeft(start, calendarIntervalAt(start, zone, monthly), zone, 'day'));
    // 21 of 28 days; in Los Angeles it is still the 7th: 22 of 28.
    assert.deepEqual(['UTC', 'Asia/Tokyo', 'America/Los_Angeles'].map(of), [
      3_750n,
      3_750n,
      3_929n,
    ]);
    const taxation: Taxation = {
      kind: 'exclusive',
      rates: { general: [{ name: 'VAT', percent: '20' }] },
    };
    const lines = [{ chargeId: 'fee', amountMinor: 3_929n }];
    assert.equal(totalUp(lines, { coupons: [], taxation, balanceMinor: 0n }).totalMinor, 4_715n);
  });

  it('ten days of trial, then what is left of the calendar month: 17 of 31 days', () => {
    const end = trialEnd(utc('2024-03-05T12:12'), 10, 'UTC');
    assert.equal(end, utc('2024-03-15T12:12'));
    const month = calendarIntervalAt(end, 'UTC', monthly);
    assert.deepEqual(
      [month.startMs, month.endMs],
      [utc('2024-03-01T00:00'), utc('2024-04-01T00:00')],
    );
    assert.equal(prorate(5_000_000n, ratioLeft(end, month, 'UTC', 'day')), 2_741_935n);
  });

  it('a trial keeps its time of day where the clocks change', () => {
    assert.equal(
      trialEnd(utc('2024-03-05T17:00'), 10, 'America/New_York'),
      utc('2024-03-15T16:00'),
    );
  });

  it('a downgrade takes what is left of its year: 243 of 366 days', () => {
    const year = { startMs: utc('2023-07-19T00:00'), endMs: utc('2024-07-19T00:00') };
    assert.equal(
      prorate(118_800n, ratioLeft(utc('2023-11-19T00:00'), year, 'UTC', 'day')),
      78_875n,
    );
  });

  it('a cancelled leap February has used 15 of its 29 days', () => {
    const february = { startMs: utc('2024-02-01T00:00'), endMs: utc('2024-03-01T00:00') };
    const left = ratioLeft(utc('2024-02-16T00:00'), february, 'UTC', 'day');
    assert.equal(10_000n - prorate(10_000n, left), 5_172n);
  });
});

describe('billing › examples › the day of a bill', () => {
  const rows: readonly (readonly [string, number, string])[] = [
    ['2012-01-16', 17, '2012-01-17'],
    ['2012-01-17', 17, '2012-01-17'],
    ['2012-07-16', 15, '2012-08-15'],
    ['2012-02-01', 31, '2012-02-29'],
    ['2012-02-29', 31, '2012-02-29'],
    ['2011-02-28', 30, '2011-02-28'],
    ['2012-12-31', 30, '2013-01-30'],
    ['2012-01-31', 30, '2012-02-29'],
    ['2012-03-01', 1, '2012-03-01'],
  ];
  for (const [start, day, first] of rows) {
    it(`from ${start} on the ${day}: ${first}`, () => {
      assert.equal(firstBillDate(utc(`${start}T00:00`), day, 'UTC'), utc(`${first}T00:00`));
    });
  }
  it('keeps the start on the day itself, and takes the first instant of another', () => {
    assert.equal(firstBillDate(utc('2012-01-17T09:30'), 17, 'UTC'), utc('2012-01-17T09:30'));
    assert.equal(firstBillDate(utc('2012-01-16T23:30'), 17, 'UTC'), utc('2012-01-17T00:00'));
    const kolkata = firstBillDate(utc('2012-01-16T18:00'), 17, 'Asia/Kolkata');
    assert.equal(kolkata, utc('2012-01-16T18:30'));
  });
  it('no month has other days', () => {
    for (const day of [0, 32, 1.5]) assert.throws(() => firstBillDate(0, day, 'UTC'), RangeError);
  });
});

describe('billing › examples › a recurrence around its anchor', () => {
  const at = (
    anchor: string,
    when: string,
    every: Parameters<typeof anniversaryAt>[2] = monthly,
  ) => {
    const { startMs, endMs } = anniversaryAt(utc(anchor), 'UTC', every, utc(when));
    return [startMs, endMs].map((ms) => new Date(ms).toISOString().slice(0, 16));
  };
  it('begins at its start and ends before its end', () => {
    assert.deepEqual(at('2026-01-31T10:00', '2026-04-30T09:59'), [
      '2026-03-31T10:00',
      '2026-04-30T10:00',
    ]);
    assert.deepEqual(at('2026-01-31T10:00', '2026-04-30T10:00'), [
      '2026-04-30T10:00',
      '2026-05-31T10:00',
    ]);
  });
  it('reaches back before its anchor', () => {
    assert.deepEqual(at('2025-01-31T10:00', '2024-12-31T09:00'), [
      '2024-11-30T10:00',
      '2024-12-31T10:00',
    ]);
    const week = { unit: 'week', count: 2 } as const;
    assert.deepEqual(at('2025-01-15T00:00', '2025-01-14T23:59', week), [
      '2025-01-01T00:00',
      '2025-01-15T00:00',
    ]);
  });
  it('gives what the numbered boundaries give, from the anchor on', () => {
    const anchor = utc('2024-01-31T12:00');
    for (let day = 0; day < 800; day += 7) {
      const when = anchor + day * 86_400_000;
      const n = intervalIndexAt(anchor, 'Europe/Berlin', monthly, when);
      assert.deepEqual(anniversaryAt(anchor, 'Europe/Berlin', monthly, when), {
        startMs: boundary(anchor, 'Europe/Berlin', monthly, n),
        endMs: boundary(anchor, 'Europe/Berlin', monthly, n + 1),
      });
    }
  });
});

describe('billing › examples › coupons with two rates of tax', () => {
  const euros = [10n, 20n, 30n, 40n, 10n, 20n, 30n, 40n];
  const lines = euros.map((euro, index) => ({
    chargeId: `${index + 1}`,
    amountMinor: euro * 100n,
  }));
  const off = (euro: bigint, ...chargeIds: readonly string[]): Coupon => ({
    ...{ id: 'cpn', name: 'Off', off: { kind: 'fixed', amountMinor: euro * 100n } },
    on: chargeIds.length === 0 ? { kind: 'invoice' } : { kind: 'lines', chargeIds },
  });
  const coupons = [off(20n, '1', '2'), off(10n, '5', '6', '7', '8'), off(5n)];

  it('what is left of the invoice is 165.00, taxed once for each rate', () => {
    const twenty = [{ name: 'VAT', percent: '20' }];
    const totals = totalUp(lines, {
      coupons,
      taxation: {
        kind: 'exclusive',
        rates: {
          general: [{ name: 'VAT', percent: '10' }],
          byCharge: new Map([
            ['2', twenty],
            ['6', twenty],
          ]),
        },
      },
      balanceMinor: 0n,
    });
    assert.equal(totals.subtotalMinor - totals.discountMinor, 16_500n);
    assert.deepEqual(
      totals.taxes.map((tax) => [tax.percent, tax.baseMinor, tax.amountMinor]),
      [
        ['10', 14_106n, 1_411n],
        ['20', 2_394n, 479n],
      ],
    );
    assert.equal(totals.totalMinor, 18_390n);
  });
  it('each coupon is shared by what is left of its lines', () => {
    const [first] = discountLines(lines, coupons);
    assert.deepEqual(first?.shares, [667n, 1_333n, 0n, 0n, 0n, 0n, 0n, 0n]);
  });
});
