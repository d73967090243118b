/** Examples of the field whose inputs are not uniform, in our own words, under our own conventions. */
import assert from 'node:assert/strict';
import { creditNote } from '../../billing/credit-note.ts';
import { type Coupon, discountLines } from '../../billing/discount.ts';
import {
  anniversaryAt,
  boundary,
  calendarIntervalAt,
  firstBillDate,
  intervalIndexAt,
} from '../../billing/periods.ts';
import type { BillableDefinition } from '../../billing/plan.ts';
import { thresholdInvoice } from '../../billing/progressive.ts';
import { prorate, ratioLeft } from '../../billing/ratio.ts';
import { type Taxation } from '../../billing/tax.ts';
import { totalUp } from '../../billing/totals.ts';
import { bill, january } from './bill.ts';

const utc = (text: string): number => Date.parse(`${text}Z`);
const monthly = { unit: 'month', count: 1 } as const;
const daily = { unit: 'day', count: 1, billing_time: 'calendar' } as const;

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

  it('what is cancelled on its first day is given back but for that day, with its tax', () => {
    const start = utc('2023-02-08T00:00');
    const back = (zone: string): bigint => {
      const month = calendarIntervalAt(start, zone, monthly);
      const paid = prorate(5_000n, ratioLeft(start, month, zone, 'day'));
      const nextDay = boundary(start, zone, daily, 1);
      const left = ratioLeft(nextDay, { startMs: start, endMs: month.endMs }, zone, 'day');
      const result = creditNote(
        {
          lines: [{ chargeId: 'fee', amountMinor: paid }],
          discounts: [],
          taxation: { kind: 'exclusive', rates: { general: [{ name: 'VAT', percent: '20' }] } },
        },
        new Map(),
        { kind: 'lines', amounts: new Map([[0, prorate(paid, left)]]) },
      );
      return result.kind === 'ok' ? result.note.totalMinor : -1n;
    };
    // 20 of 21 days of 37.50 are 35.71; in Los Angeles 21 of 22 days of 39.29 are 37.50. With a fifth of each on top.
    assert.deepEqual(['UTC', 'Asia/Tokyo', 'America/Los_Angeles'].map(back), [
      4_285n,
      4_285n,
      4_500n,
    ]);
  });

  const tenDays = { unit: 'day', count: 10 } as const;
  it('ten days of trial, then what is left of the calendar month: 17 of 31 days', () => {
    const end = boundary(utc('2024-03-05T12:12'), 'UTC', tenDays, 1);
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
      boundary(utc('2024-03-05T17:00'), 'America/New_York', tenDays, 1),
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

describe('billing › examples › usage that is invoiced before the interval ends', () => {
  const definition: BillableDefinition = {
    currency: 'EUR',
    credits: null,
    charges: [
      { kind: 'recurring', id: 'chg_fee', display_name: 'Plan', amount_minor: '3100' },
      {
        kind: 'usage',
        id: 'chg_use',
        display_name: 'Standard rate',
        meter: {
          ...{ id: 'mtr_1', key: 'calls', name: 'Calls', unit_one: 'call', unit_other: 'calls' },
          ...{ scale: 0, aggregation: 'SUM' },
        },
        price: { model: 'per_unit', unit_price: '1' },
        included_units: '0',
      },
    ],
  };
  const rows = (...quantities: readonly bigint[]) =>
    quantities.map((quantity, hour) => ({
      ...{ quantity, eventCount: 1n, maxQuantity: quantity, latestQuantity: quantity },
      latestAt: new Date(january.startMs + hour * 3_600_000),
    }));
  const invoices = (thresholds: readonly bigint[], uses: readonly bigint[]) => {
    let invoiced = 0;
    const totals: bigint[] = [];
    const issue = (upTo: number, isLast: boolean): void => {
      const part = bill(definition, {
        usage: [
          {
            meterId: 'mtr_1',
            billedBefore: rows(...uses.slice(0, invoiced)),
            thisPeriod: rows(...uses.slice(invoiced, upTo)),
          },
        ],
        feeDue: isLast,
        minimum: isLast ? 'now' : 'later',
      });
      totals.push(part.totalMinor);
      invoiced = upTo;
    };
    for (let count = 1; count <= uses.length; count += 1) {
      const cost = (from: number, to: number): bigint =>
        uses.slice(from, to).reduce((sum, use) => sum + use * 100n, 0n);
      const due = thresholdInvoice(thresholds, {
        ratedMinor: cost(0, count),
        billedMinor: cost(0, invoiced),
      });
      if (due !== null) issue(count, false);
    }
    issue(uses.length, true);
    return totals;
  };

  it('what was invoiced at the threshold is not charged again at the end', () => {
    // 31.00 + 400.00 − 200.00
    assert.deepEqual(invoices([20_000n], [200n, 200n]), [20_000n, 23_100n]);
  });
  it('the second threshold invoices all that came since the first; the end has the fee alone', () => {
    assert.deepEqual(invoices([20_000n, 50_000n], [200n, 200n, 200n]), [20_000n, 40_000n, 3_100n]);
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
    // 141.0588 at 10 % is 14.1059, 23.9412 at 20 % is 4.7882. Rounded once for each rate they make 14.11 + 4.79 = 18.90;
    // rounded on each line it would be 18.87, and rounded as one sum 18.89.
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
