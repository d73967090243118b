import assert from 'node:assert/strict';
import fc from 'fast-check';
import type { Aggregation, UsageCharge } from '../../billing/plan.ts';
import type { UsagePartial } from '../../billing/rate.ts';
import {
  chargeIn,
  hasNews,
  type PlacedRow,
  type Run,
  runAt,
  runsOf,
  type Segment,
  segmentOf,
  usageIn,
} from '../../billing/runs.ts';
import { runOf } from './bill.ts';

/** Segments of ten milliseconds each, one letter for each version: `AAB`; a bar begins another period: `AA|B`. */
function segments(versions: string): readonly Segment[] {
  const periods = versions.split('|');
  const all = periods.flatMap((period, index) =>
    period.split('').map((planVersionId) => ({ planVersionId, periodId: `p${index}` })),
  );
  return all.map((one, index) => ({
    ...one,
    ...{ id: BigInt(index), startMs: index * 10, endMs: index * 10 + 10 },
  }));
}
function row(segment: number, more: Partial<PlacedRow> = {}): PlacedRow {
  return { periodId: 'p0', segmentId: BigInt(segment), adjustsPeriodId: '', hour: 0, ...more };
}
/** `A0-20 B20-30*`: the last one has a star. */
function texts(versions: string, used: readonly PlacedRow[]): string {
  return runsOf(segments(versions), used)
    .map((run) => `${run.planVersionId}${run.startMs}-${run.endMs}${run.isLast ? '*' : ''}`)
    .join(' ');
}

describe('billing/runs › which runs an interval has', () => {
  const late = row(1, { adjustsPeriodId: 'p0' });
  const table: readonly (readonly [string, readonly number[], string])[] = [
    // Segments, the ones that were used in time, the runs.
    ['A', [], 'A0-10*'],
    ['AAA', [], 'A0-30*'],
    ['AB', [0, 1], 'A0-10 B10-20*'],
    ['A|BA', [], 'A0-30*'],
    ['A|BA', [1], 'B10-20 A20-30*'],
    ['AB|A', [0], 'A0-30*'],
    ['AB', [1], 'B10-20*'],
    ['AB', [0], 'A0-10 B10-20*'],
    ['AB', [], 'B10-20*'],
    ['ABA', [0, 2], 'A0-30*'],
    ['ABA', [0], 'A0-30*'],
    ['ABA', [0, 1, 2], 'A0-10 B10-20 A20-30*'],
    ['ABA', [1], 'B10-20 A20-30*'],
    ['ABCA', [0], 'A0-40*'],
    ['ABCA', [0, 2], 'A0-10 C20-30 A30-40*'],
    ['AABB', [1, 2], 'A0-20 B20-40*'],
    ['AA|AB', [0], 'A0-30 B30-40*'],
  ];
  for (const [versions, used, expected] of table) {
    it(`${versions}, used in ${used.join(', ') || 'none'}: ${expected}`, () => {
      assert.equal(
        texts(
          versions,
          used.map((index) => row(index)),
        ),
        expected,
      );
      // Late usage neither divides nor joins.
      assert.equal(texts(versions, [...used.map((index) => row(index)), late]), expected);
    });
  }
});

describe('billing/runs › a level that stands', () => {
  const table: readonly (readonly [string, readonly (readonly [number, bigint])[], string])[] = [
    // Segments, the levels that were set in them, the runs.
    ['ABC', [[0, 5n]], 'A0-10 B10-20 C20-30*'],
    ['ABC', [[1, 5n]], 'B10-20 C20-30*'],
    ['ABC', [[0, 0n]], 'A0-10 C20-30*'],
    [
      'ABCD',
      [
        [0, 5n],
        [1, 0n],
      ],
      'A0-10 B10-20 D30-40*',
    ],
    // What is undone before it was billed leaves no trace, also in several steps.
    ['ABA', [[0, 5n]], 'A0-30*'],
    ['ABCA', [[0, 5n]], 'A0-40*'],
    ['ABAC', [[0, 5n]], 'A0-30 C30-40*'],
    ['ABAB', [[0, 5n]], 'A0-30 B30-40*'],
    ['ABCBD', [[0, 5n]], 'A0-10 B10-40 D40-50*'],
    // A period that ended with it billed it.
    ['AB|A', [[0, 5n]], 'A0-10 B10-20 A20-30*'],
    ['AB|BA', [[0, 5n]], 'A0-10 B10-30 A30-40*'],
    ['AB|C', [[0, 5n]], 'A0-10 B10-20 C20-30*'],
    ['AB|A', [[0, 0n]], 'A0-30*'],
  ];
  for (const [versions, set, expected] of table) {
    it(`${versions}, ${set.map(([segment, level]) => `${level} in ${segment}`).join(', ')}: ${expected}`, () => {
      const rows = set.map(([segment, quantity]) =>
        row(segment, { meterId: 'mtr', levels: [{ atMs: segment * 10 + 1, quantity }] }),
      );
      assert.equal(texts(versions, rows), expected);
      const late = { meterId: 'mtr', levels: [{ atMs: 2, quantity: 9n }], adjustsPeriodId: 'p0' };
      assert.equal(texts(versions, [...rows, row(0, late)]), expected);
    });
  }
});

describe('billing/runs › the time of a level', () => {
  it('is in a run in every instant, whatever changes, is undone and is cut', () => {
    const letters = fc.array(fc.constantFrom('A', 'B', 'C'), { minLength: 1, maxLength: 9 });
    const bars = fc.array(fc.nat(8), { maxLength: 3 });
    fc.assert(
      fc.property(letters, bars, fc.nat(8), fc.array(fc.nat(8)), (given, ends, from, used) => {
        const versions = given
          .map((letter, index) => (index > 0 && ends.includes(index) ? `|${letter}` : letter))
          .join('');
        const all = segments(versions);
        const begun = Math.min(from, all.length - 1);
        const set = row(begun, { meterId: 'mtr', levels: [{ atMs: begun * 10, quantity: 1n }] });
        const runs = runsOf(all, [set, ...used.map((index) => row(index))]);
        for (const { startMs } of all.slice(begun)) {
          const holding = runs.filter((run) => run.startMs <= startMs && startMs < run.endMs);
          assert.equal(holding.length, 1, `${versions} at ${startMs}`);
        }
      }),
    );
  });
});

describe('billing/runs › which run a row belongs to', () => {
  const all = segments('AB|BA');
  it('usage in time to the segment that counted it', () => {
    assert.equal(segmentOf(row(1), all)?.id, 1n);
    assert.equal(segmentOf(row(9), all), null);
  });
  it('late usage to the segment of its period that holds the latest event of its hour', () => {
    const of = (adjustsPeriodId: string, hour: number, latestAt?: number): bigint | undefined =>
      segmentOf(row(9, { adjustsPeriodId, hour, ...(latestAt !== undefined && { latestAt }) }), all)
        ?.id;
    assert.deepEqual(
      [of('p0', 0), of('p0', 9), of('p0', 10), of('p0', 0, 10), of('p1', 31), of('p1', 0)],
      [0n, 0n, 1n, 1n, 3n, 2n],
    );
    assert.equal(of('p7', 0), undefined);
  });
  it('a stretch that was left out is a run of its own, never the last one', () => {
    const runs = runsOf(all, [row(0), row(3)]);
    assert.equal(runs.length, 1);
    const [a, b] = [all[0] ?? assert.fail(), all[2] ?? assert.fail()];
    assert.equal(runAt(a, { runs, segments: all }), runs[0]);
    assert.deepEqual(runAt(b, { runs, segments: all }), {
      ...{ planVersionId: 'B', startMs: 10, endMs: 30, segmentIds: [1n, 2n], isLast: false },
    });
  });
  it('every segment is in exactly one run, and runs follow one another, whatever was used', () => {
    const versions = fc.array(fc.constantFrom('A', 'B', 'C'), { minLength: 1, maxLength: 9 });
    fc.assert(
      fc.property(versions, fc.array(fc.nat(8)), (letters, used) => {
        const given = segments(letters.join(''));
        const rows = used.filter((index) => index < given.length).map((index) => row(index));
        const runs = runsOf(given, rows);
        assert.deepEqual(runsOf(given, rows.toReversed()), runs);
        assert.equal(runs.at(-1)?.isLast, true);
        for (const [index, run] of runs.entries()) {
          const next = runs[index + 1];
          assert.ok(next === undefined || run.endMs <= next.startMs);
          assert.ok(next === undefined || run.planVersionId !== next.planVersionId);
        }
        for (const one of given) {
          const run = runAt(one, { runs, segments: given });
          assert.equal(run.planVersionId, one.planVersionId);
          assert.ok(run.segmentIds.includes(one.id));
        }
        for (const { segmentId } of rows) {
          assert.equal(runs.filter((run) => run.segmentIds.includes(segmentId)).length, 1);
        }
      }),
    );
  });
});

describe('billing/runs › what was used in a run', () => {
  const charge = (aggregation: Aggregation, included_units = '0'): UsageCharge => ({
    ...{ kind: 'usage', id: 'chg', display_name: 'Label', included_units },
    meter: {
      ...{ id: 'mtr', key: 'calls', name: 'Calls', unit_one: 'call', unit_other: 'calls' },
      ...{ scale: 0, aggregation },
    },
    price: { model: 'per_unit', unit_price: '1' },
  });
  const partial = (quantity: bigint, latestAt = 0): UsagePartial => ({
    ...{ quantity, eventCount: 1n, maxQuantity: quantity, latestQuantity: quantity, latestAt },
  });
  const using = (of: Partial<Run['usage'][number]>, more: Partial<Run> = {}): Run =>
    runOf(
      { currency: 'USD', credits: null, charges: [] },
      { usage: [{ meterId: 'mtr', billedBefore: [], thisPeriod: [], ...of }], ...more },
    );

  it('nothing was billed of a run before it is begun or has billed rows', () => {
    const of = (run: Run): bigint | null => usageIn(run, charge('SUM')).before;
    assert.equal(of(using({ thisPeriod: [partial(5n)] })), null);
    assert.equal(of(using({}, { isBegun: true })), 0n);
    assert.equal(of(using({ billedBefore: [partial(5n)] })), 5n);
  });
  it('a correction takes no more than is there', () => {
    const run = using({ billedBefore: [partial(5n)], thisPeriod: [partial(-9n)] });
    const { before, total } = usageIn(run, charge('SUM'));
    assert.deepEqual([before, total], [5n, 0n]);
  });
  it('earlier runs use up included units, but not of levels', () => {
    const left = (aggregation: Aggregation, ...used: readonly bigint[]): string =>
      chargeIn(
        using({ earlier: used.map((quantity) => partial(quantity)) }),
        charge(aggregation, '10'),
      ).included_units;
    assert.deepEqual([left('SUM', 3n, 4n), left('SUM', 30n), left('SUM')], ['3', '0', '10']);
    assert.deepEqual([left('COUNT', 30n), left('MAX', 3n), left('LATEST', 3n)], ['9', '10', '10']);
    const values = [
      { ...partial(9n), values: ['ada', 'bob'] },
      { ...partial(1n), values: ['bob'] },
    ];
    const distinct = chargeIn(using({ earlier: values }), charge('UNIQUE_COUNT', '10'));
    assert.equal(distinct.included_units, '8');
  });
  it('a level is averaged over the interval, for the time of the run that is billed', () => {
    const levels = [{ atMs: 20, quantity: 100n }];
    const interval = { startMs: 0, endMs: 100 };
    const run = (billedUntilMs: number, endMs: number): Run =>
      using(
        { billedBefore: [{ ...partial(0n), levels }] },
        { startMs: 0, endMs, levels: { interval, billedUntilMs } },
      );
    const of = (given: Run): readonly (bigint | null)[] => {
      const { before, total } = usageIn(given, charge('WEIGHTED_SUM'));
      return [before, total];
    };
    // 100 from 20 on: 30 of it until 50, 80 until the end.
    assert.deepEqual(of(run(0, 50)), [0n, 30n]);
    assert.deepEqual(of(run(50, 100)), [30n, 80n]);
  });
  it('a level of a run that says no interval is averaged over the run itself', () => {
    const levels = [{ atMs: 25, quantity: 100n }];
    const run = using({ thisPeriod: [{ ...partial(0n), levels }] }, { startMs: 0, endMs: 100 });
    const { before, total, levelAtStart } = usageIn(run, charge('WEIGHTED_SUM'));
    assert.deepEqual([before, total, levelAtStart], [null, 75n, undefined]);
  });
  it('a level of earlier terms goes on to stand, until another is set', () => {
    const carried = [
      { atMs: 5, quantity: 900n },
      { atMs: 20, quantity: 100n },
    ];
    const levels = [{ atMs: 70, quantity: 0n }];
    const run = (billedUntilMs: number, isSet: boolean): Run =>
      using(
        { carried, thisPeriod: isSet ? [{ ...partial(0n), levels }] : [] },
        {
          startMs: 40,
          endMs: 100,
          levels: { interval: { startMs: 0, endMs: 100 }, billedUntilMs },
        },
      );
    const of = (given: Run): readonly unknown[] => {
      const { before, total, levelAtStart } = usageIn(given, charge('WEIGHTED_SUM'));
      return [before, total, levelAtStart, hasNews(given, charge('WEIGHTED_SUM'))];
    };
    assert.deepEqual(of(run(40, false)), [null, 60n, 100n, true]);
    assert.deepEqual(of(run(40, true)), [null, 30n, 100n, true]);
    assert.deepEqual(of(run(60, false)), [20n, 60n, 100n, true]);
    // An earlier invoice billed it to its end.
    assert.deepEqual(of(run(100, false)), [60n, 60n, 100n, false]);
    assert.equal(hasNews(run(40, false), charge('SUM')), false);
  });
  it('wherever an interval is divided, its runs weigh together what the whole weighs', () => {
    const interval = { startMs: 0, endMs: 100 };
    const instant = fc.integer({ min: 0, max: 99 });
    const level = fc.record({ atMs: instant, quantity: fc.bigInt({ min: 0n, max: 50n }) });
    fc.assert(
      fc.property(fc.array(level), fc.uniqueArray(instant), (levels, cuts) => {
        const bounds = [0, ...cuts.toSorted((a, b) => a - b), 100];
        // Each a hundredfold, so that nothing is rounded.
        const all = levels.map(({ atMs, quantity }) => ({ atMs, quantity: quantity * 100n }));
        const within = (startMs: number, endMs: number) =>
          all.filter(({ atMs }) => startMs <= atMs && atMs < endMs);
        const totalOf = (startMs: number, endMs: number): bigint =>
          usageIn(
            using(
              {
                carried: within(0, startMs),
                thisPeriod: [{ ...partial(0n), levels: within(startMs, endMs) }],
              },
              { startMs, endMs, levels: { interval, billedUntilMs: startMs } },
            ),
            charge('WEIGHTED_SUM'),
          ).total;
        const parts = bounds.slice(1).map((endMs, index) => totalOf(bounds[index] ?? 0, endMs));
        assert.equal(
          parts.reduce((sum, part) => sum + part, 0n),
          totalOf(0, 100),
        );
      }),
    );
  });
});
