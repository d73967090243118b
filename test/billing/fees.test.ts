import assert from 'node:assert/strict';
import fc from 'fast-check';
import {
  type AddOnTerm,
  type CoveringLine,
  dueAddOnFees,
  dueFees,
  type FeeStretch,
  heldPart,
  type PaidLine,
  prorationOf,
  unusedFees,
  weighed,
  wholeInterval,
} from '../../billing/fees.ts';
import { feeLine, unusedLine } from '../../billing/line.ts';
import type { Span } from '../../billing/ratio.ts';

const utc = (text: string): number => Date.parse(`${text}Z`);
const span = (from: string, until: string): Span => ({ startMs: utc(from), endMs: utc(until) });
const january = span('2025-01-01T00:00', '2025-02-01T00:00');
const of = { interval: january, whole: january, zone: 'UTC', lines: [], isAhead: false } as const;

function stretch(name: string, covers: Span, more: Partial<FeeStretch> = {}): FeeStretch {
  return {
    ...covers,
    ...{ planVersionId: `pver_${name}`, proration: 'day' },
    charges: [{ kind: 'recurring', id: `chg_${name}`, display_name: name, amount_minor: '3100' }],
    ...more,
  };
}
const line = (name: string, covers: Span, isGivenBack = false): CoveringLine => ({
  ...{ chargeId: `chg_${name}`, covers, isGivenBack },
});
const texts = (
  stretches: readonly FeeStretch[],
  lines: readonly CoveringLine[] = [],
  more: Partial<Parameters<typeof dueFees>[1]> = {},
): readonly string[] =>
  dueFees(stretches, { ...of, lines, ...more }).map((fee) => {
    const { description, amountMinor } = feeLine(fee, { currency: 'USD', zone: of.zone });
    return `${description} ${amountMinor}`;
  });

describe('billing/fees › due', () => {
  const early = span('2025-01-01T00:00', '2025-01-11T15:00');
  const later = span('2025-01-11T15:00', '2025-02-01T00:00');
  it('the whole, unless a line covers it', () => {
    assert.deepEqual(texts([stretch('A', january)]), ['A 3100']);
    assert.deepEqual(texts([stretch('A', january)], [line('A', january)]), []);
    assert.deepEqual(texts([stretch('A', january)], [line('B', january)]), ['A 3100']);
  });
  it('each stretch by its days; the day of a change belongs to what comes after it', () => {
    assert.deepEqual(texts([stretch('A', early), stretch('B', later)]), [
      'A (10 of 31 days) 1000',
      'B (21 of 31 days) 2100',
    ]);
    const bySecond = { proration: 'second' } as const;
    assert.deepEqual(texts([stretch('A', early, bySecond)]), [
      // 10 days and 15 hours
      'A (918000 of 2678400 seconds) 1063',
    ]);
  });
  it('what lines do not cover; what was given back is due again', () => {
    const all = [stretch('A', january)];
    assert.deepEqual(texts(all, [line('A', early)]), ['A (21 of 31 days) 2100']);
    assert.deepEqual(texts(all, [line('A', january), line('A', later, true)]), [
      'A (21 of 31 days) 2100',
    ]);
    const undone = [line('A', january), line('A', later, true), line('A', later)];
    assert.deepEqual(texts(all, undone), []);
  });
  it('a void invoice whose fee a change gave back in part is made good as a whole', () => {
    const after = [line('A', later, true), line('B', later)];
    assert.deepEqual(texts([stretch('A', early), stretch('B', later)], after), ['A 3100']);
  });
  it('a stretch within a day takes nothing, and does not divide what is around it', () => {
    const hour = span('2025-01-11T15:00', '2025-01-11T16:00');
    const rest = { startMs: hour.endMs, endMs: january.endMs };
    assert.deepEqual(texts([stretch('A', early), stretch('B', hour), stretch('A', rest)]), [
      'A 3100',
    ]);
    const night = span('2025-01-11T15:00', '2025-01-12T01:00');
    const after = { startMs: night.endMs, endMs: january.endMs };
    assert.deepEqual(texts([stretch('A', early), stretch('B', night), stretch('A', after)]), [
      'A (10 of 31 days) 1000',
      'A (20 of 31 days) 2000',
      'B (1 of 31 days) 100',
    ]);
  });
  it('the part of a month by the calendar that a subscription begins in', () => {
    const month = { unit: 'month', count: 1 } as const;
    const definition = { interval: month, billing_time: 'calendar' } as const;
    const interval = span('2025-01-22T10:00', '2025-02-01T00:00');
    const whole = wholeInterval(interval, definition, 'UTC');
    assert.deepEqual(whole, january);
    assert.deepEqual(texts([stretch('A', interval)], [], { interval, whole }), [
      'A (10 of 31 days) 1000',
    ]);
    const anniversary = { ...definition, billing_time: 'anniversary' } as const;
    assert.deepEqual(wholeInterval(interval, anniversary, 'UTC'), interval);
  });
  it('is shared by days unless the plan says otherwise, or bills by the hour', () => {
    const measure = (unit: 'hour' | 'day', proration?: 'day' | 'second'): string =>
      prorationOf({ interval: { unit, count: 1 }, ...(proration !== undefined && { proration }) });
    assert.deepEqual(
      [measure('day'), measure('day', 'second'), measure('hour'), measure('hour', 'day')],
      ['day', 'second', 'second', 'second'],
    );
  });
  it('says which time each fee is for, over what takes no time', () => {
    const hour = span('2025-01-11T15:00', '2025-01-11T16:00');
    const rest = { startMs: hour.endMs, endMs: utc('2025-01-20T00:00') };
    const fees = dueFees([stretch('A', early), stretch('B', hour), stretch('A', rest)], of);
    assert.deepEqual(fees, [
      {
        kind: 'recurring',
        chargeId: 'chg_A',
        planVersionId: 'pver_A',
        name: 'A',
        amountMinor: 3_100n,
        quantity: 1n,
        part: { ratio: { numerator: 19n, denominator: 31n }, text: '19 of 31 days' },
        covers: { startMs: january.startMs, endMs: rest.endMs },
        isAhead: false,
      },
    ]);
  });
  it('of two fees of a version each is due while its version has it', () => {
    const both = [...stretch('A', early).charges, ...stretch('B', early).charges];
    assert.deepEqual(texts([stretch('A', early, { charges: both }), stretch('A', later)]), [
      'A 3100',
      'B (10 of 31 days) 1000',
    ]);
  });
  it('intervals of hours are shared by seconds, others as the plan says, by days', () => {
    const unit = (name: 'hour' | 'month') => ({ interval: { unit: name, count: 1 } });
    assert.deepEqual(
      [
        prorationOf(unit('hour')),
        prorationOf({ ...unit('hour'), proration: 'day' }),
        prorationOf(unit('month')),
        prorationOf({ ...unit('month'), proration: 'second' }),
      ],
      ['second', 'second', 'day', 'second'],
    );
  });
  it('takes of spans only what lies within the whole', () => {
    const given = [
      span('2024-12-01T00:00', '2024-12-31T00:00'),
      span('2024-12-20T00:00', '2025-01-03T00:00'),
      span('2025-01-30T00:00', '2025-03-01T00:00'),
      span('2025-02-02T00:00', '2025-02-05T00:00'),
    ];
    assert.deepEqual(weighed(given, { ...of, proration: 'day' }), [
      {
        span: span('2025-01-01T00:00', '2025-01-03T00:00'),
        part: { ratio: { numerator: 2n, denominator: 31n }, text: '2 of 31 days' },
      },
      {
        span: span('2025-01-30T00:00', '2025-02-01T00:00'),
        part: { ratio: { numerator: 2n, denominator: 31n }, text: '2 of 31 days' },
      },
    ]);
  });
  it('names the interval that it is ahead of', () => {
    assert.deepEqual(texts([stretch('A', january)], [], { isAhead: true }), [
      'A, Jan 1 – Jan 31, 2025 3100',
    ]);
  });

  it('however an interval is divided, every day is billed once, and then nothing is due', () => {
    const zone = fc.constantFrom('UTC', 'America/New_York', 'Europe/Berlin');
    const months = fc.constantFrom(
      january,
      // Clocks go forward and back; a leap day.
      span('2025-03-01T05:00', '2025-04-01T04:00'),
      span('2024-10-15T12:00', '2024-11-15T12:00'),
      span('2024-02-01T00:00', '2024-03-01T00:00'),
    );
    const cuts = fc.uniqueArray(fc.double({ min: 0.001, max: 0.999, noNaN: true }), {
      maxLength: 5,
    });
    fc.assert(
      fc.property(zone, months, cuts, (tz, interval, parts) => {
        const at = (part: number): number =>
          Math.round(interval.startMs + (interval.endMs - interval.startMs) * part);
        const bounds = [
          interval.startMs,
          ...parts.toSorted((a, b) => a - b).map(at),
          interval.endMs,
        ];
        const stretches = bounds
          .slice(1)
          .map((endMs, index) => stretch(`${index % 3}`, { startMs: bounds[index] ?? 0, endMs }))
          .filter(({ startMs, endMs }) => startMs < endMs);
        const terms = { interval, whole: interval, zone: tz, isAhead: false };
        const due = dueFees(stretches, { ...terms, lines: [] });
        const numerators = due.reduce(
          (sum, { part }) => sum + (part === null ? 1n : part.ratio.numerator),
          0n,
        );
        const whole = due.find(({ part }) => part !== null)?.part?.ratio.denominator ?? 1n;
        assert.equal(numerators, whole);
        const billed = due.map((fee): CoveringLine => ({
          ...{ chargeId: fee.chargeId, covers: fee.covers ?? interval, isGivenBack: false },
        }));
        assert.deepEqual(dueFees(stretches, { ...terms, lines: billed }), []);
      }),
    );
  });
});

describe('billing/fees › the part of an interval that a subscription has', () => {
  const table: readonly (readonly [string, Span, string | null])[] = [
    ['all of it', january, null],
    ['begun within it', span('2025-01-22T10:00', '2025-02-01T00:00'), '10 of 31 days'],
    ['ended within it', span('2025-01-01T00:00', '2025-01-11T15:00'), '10 of 31 days'],
    ['both', span('2025-01-11T15:00', '2025-01-13T01:00'), '2 of 31 days'],
    ['within a day', span('2025-01-11T15:00', '2025-01-11T16:00'), '0 of 31 days'],
  ];
  for (const [name, interval, expected] of table) {
    it(`${name}: ${expected ?? 'the whole'}`, () => {
      const part = heldPart({ interval, whole: january, zone: 'UTC', proration: 'day' });
      assert.equal(part?.text ?? null, expected);
    });
  }

  it('is measured as the plan says', () => {
    const interval = span('2025-01-01T00:00', '2025-01-11T15:00');
    const part = heldPart({ interval, whole: january, zone: 'UTC', proration: 'second' });
    assert.equal(part?.text, '918000 of 2678400 seconds');
  });

  it('however the whole is divided, the parts add up to it', () => {
    const hours = fc.array(fc.integer({ min: 1, max: 743 }), { maxLength: 5 });
    fc.assert(
      fc.property(hours, fc.constantFrom('day', 'second'), (given, proration) => {
        const cuts = [0, ...given.toSorted((a, b) => a - b), 744].map(
          (hour) => january.startMs + hour * 3_600_000,
        );
        const parts = cuts.slice(1).map((endMs, index) => {
          const interval = { startMs: cuts[index] ?? 0, endMs };
          const part = heldPart({ interval, whole: january, zone: 'UTC', proration });
          return part === null ? 1 : Number(part.ratio.numerator) / Number(part.ratio.denominator);
        });
        assert.ok(Math.abs(parts.reduce((sum, part) => sum + part, 0) - 1) < 1e-9);
      }),
    );
  });
});

describe('billing/fees › given back', () => {
  const first = span('2025-01-01T00:00', '2025-01-11T15:00');
  const rest = span('2025-01-11T15:00', '2025-02-01T00:00');
  const end = span('2025-01-26T15:00', '2025-02-01T00:00');
  const paid = (covers: Span, paidMinor = 3_100n, isGivenBack = false): PaidLine => ({
    ...{ chargeId: 'chg', invoiceId: 'inv', planVersionId: 'pver' },
    ...{ covers, paidMinor, isGivenBack },
  });
  const back = (
    lines: readonly PaidLine[],
    wanted: readonly Span[],
    startMs = january.startMs,
  ): readonly string[] =>
    unusedFees(
      { id: 'chg', name: 'Seat' },
      { lines, wanted, zone: 'UTC', proration: 'day', startMs },
    ).map((fee) => {
      const { description, amountMinor } = unusedLine(fee, { zone: 'UTC' });
      return `${description} ${amountMinor}`;
    });
  const table: readonly (readonly [string, () => readonly string[], readonly string[]])[] = [
    ['nothing that is wanted', () => back([paid(january)], [january]), []],
    [
      'what is not wanted',
      () => back([paid(january)], [first]),
      ['Unused part of Seat (21 of 31 days) -2100'],
    ],
    ['all of it', () => back([paid(january)], []), ['Unused part of Seat (31 of 31 days) -3100']],
    ['nothing twice', () => back([paid(january), paid(rest, 0n, true)], [first]), []],
    [
      'what of it was not given back yet',
      () => back([paid(january), paid(end, 0n, true)], [first]),
      ['Unused part of Seat (15 of 31 days) -1500'],
    ],
    ['nothing that was not paid', () => back([paid(january, 0n)], [first]), []],
    [
      'of the latest line first',
      () => back([paid(january), paid(rest, 4_200n)], [january]),
      ['Unused part of Seat (21 of 21 days) -4200'],
    ],
    [
      'not less than a day',
      () => back([paid(january)], [first, span('2025-01-11T16:00', '2025-02-01T00:00')]),
      [],
    ],
    [
      'of an interval before with its time',
      () => back([paid(january)], [first], january.endMs),
      ['Unused part of Seat (21 of 31 days), Jan 11 – Jan 31, 2025 -2100'],
    ],
    [
      'nothing for lines of other charges',
      () => back([{ ...paid(january), chargeId: 'other' }], []),
      [],
    ],
    [
      'neighbouring times of one line as one',
      () =>
        back(
          [paid(january), paid(rest, 2_100n), paid(rest, 0n, true)],
          [first, span('2025-01-26T15:00', '2025-02-01T00:00')],
        ),
      ['Unused part of Seat (15 of 21 days) -1500'],
    ],
  ];
  for (const [name, actual, expected] of table) {
    it(name, () => assert.deepEqual(actual(), expected));
  }

  it('says whose it was: the invoice, the version of the plan, what was paid, and of which lines it was asked', () => {
    const lines = [paid(january), { ...paid(rest, 4_200n), invoiceId: 'inv_2' }];
    const use = {
      lines,
      wanted: [],
      zone: 'UTC',
      proration: 'day',
      startMs: january.startMs,
    } as const;
    const charge = { id: 'chg', name: 'Seat' };
    const fee = {
      ...{ chargeId: 'chg', name: 'Seat', invoiceId: 'inv', planVersionId: 'pver' },
      ...{ covers: january, paidMinor: 3_100n, isBefore: false },
      part: { ratio: { numerator: 31n, denominator: 31n }, text: '31 of 31 days' },
    };
    assert.deepEqual(
      unusedFees(charge, use, ({ invoiceId }) => invoiceId === 'inv'),
      [fee],
    );
  });

  it('what is given back and what was wanted is what was paid, in whatever steps', () => {
    const days = fc.array(fc.integer({ min: 0, max: 31 }), { minLength: 1, maxLength: 5 });
    const at = (n: number): number => january.startMs + n * 86_400_000;
    fc.assert(
      fc.property(days, (given) => {
        // What is wanted is less and less; each step gives back what is too much by then.
        const ends = given.toSorted((a, b) => b - a);
        const lines = [paid(january)];
        let sum = 0n;
        for (const last of ends) {
          const wanted = last === 0 ? [] : [{ startMs: january.startMs, endMs: at(last) }];
          for (const fee of unusedFees(
            { id: 'chg', name: 'Seat' },
            { lines, wanted, zone: 'UTC', proration: 'day', startMs: january.startMs },
          )) {
            sum += unusedLine(fee, { zone: 'UTC' }).amountMinor;
            lines.push(paid(fee.covers, 0n, true));
          }
        }
        assert.equal(3_100n + sum, BigInt(ends.at(-1) ?? 0) * 100n);
      }),
    );
  });
});

describe('billing/fees › add-ons', () => {
  const seats: AddOnTerm = {
    ...{ id: 'sad_1', name: 'Seat', kind: 'recurring', amountMinor: 500n, quantity: 3n },
    ...{ fromMs: utc('2025-01-22T10:00'), untilMs: null, taxRateIds: [] },
  };
  const due = (
    addOn: AddOnTerm,
    lines: readonly CoveringLine[] = [],
    billedOnce: readonly string[] = [],
  ): readonly string[] =>
    dueAddOnFees([addOn], {
      ...of,
      ...{ lines, billedOnce: new Set(billedOnce), planVersionId: 'pver', proration: 'day' },
    }).map((fee) => {
      const { description, amountMinor } = feeLine(fee, { currency: 'USD', zone: 'UTC' });
      return `${description} ${amountMinor}`;
    });
  const table: readonly (readonly [string, Partial<AddOnTerm>, readonly string[]])[] = [
    ['held from a day on', {}, ['Seat (3 × $5.00, 10 of 31 days) 484']],
    ['held before and after', { fromMs: 0 }, ['Seat (3 × $5.00) 1500']],
    ['one of it', { fromMs: 0, quantity: 1n }, ['Seat 500']],
    [
      'ended within the month',
      { fromMs: 0, untilMs: utc('2025-01-22T10:00') },
      ['Seat (3 × $5.00, 21 of 31 days) 1016'],
    ],
    ['taken and left within a day', { untilMs: utc('2025-01-22T20:00') }, []],
    ['ended before', { fromMs: 0, untilMs: january.startMs }, []],
    ['begun after', { fromMs: january.endMs }, []],
  ];
  for (const [name, more, expected] of table) {
    it(name, () => {
      assert.deepEqual(due({ ...seats, ...more }), expected);
    });
  }
  it('a one-time one is due once', () => {
    const once: AddOnTerm = { ...seats, kind: 'one_time' };
    assert.deepEqual(due(once), ['Seat (3 × $5.00) 1500']);
    assert.deepEqual(due(once, [], ['sad_1']), []);
    const terms = { ...of, billedOnce: new Set<string>(), planVersionId: 'pver' };
    assert.deepEqual(dueAddOnFees([once], { ...terms, proration: 'day' }), [
      {
        ...{ kind: 'one_time', chargeId: 'sad_1', planVersionId: 'pver', name: 'Seat' },
        ...{ amountMinor: 500n, quantity: 3n, part: null, covers: null, isAhead: false },
      },
    ]);
  });
  it('what a line covers is not due again', () => {
    const covers = { startMs: seats.fromMs, endMs: january.endMs };
    assert.deepEqual(due(seats, [{ chargeId: 'sad_1', covers, isGivenBack: false }]), []);
  });
});
