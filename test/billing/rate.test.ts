import assert from 'node:assert/strict';
import fc from 'fast-check';
import { Exact, decimal } from '../../billing/decimal.ts';
import type { Aggregation, Price, Tier } from '../../billing/plan.ts';
import {
  aggregate,
  billableUnits,
  type Level,
  levelAt,
  packageCount,
  rate,
  rateByTier,
  rateMore,
  type UsagePartial,
} from '../../billing/rate.ts';

const fluxrate: readonly Tier[] = [
  { up_to: '1000', unit_price: '0.002', flat_fee: '0' },
  { up_to: '10000', unit_price: '0.001', flat_fee: '0' },
  { up_to: null, unit_price: '0.0005', flat_fee: '0' },
];

const cents = fc
  .integer({ min: 0, max: 1_000_000 })
  .map((value) => new Exact(value).div(10_000).toFixed());
const tiers: fc.Arbitrary<readonly Tier[]> = fc
  .uniqueArray(fc.integer({ min: 1, max: 10_000 }), { maxLength: 4 })
  .chain((bounds) => {
    const upTos = [...bounds.toSorted((a, b) => a - b).map(String), null];
    return fc.tuple(
      ...upTos.map((up_to) =>
        fc.record({ up_to: fc.constant(up_to), unit_price: cents, flat_fee: cents }),
      ),
    );
  });
const price: fc.Arbitrary<Price> = fc.oneof(
  fc.record({ model: fc.constant('per_unit' as const), unit_price: cents }),
  fc.record({ model: fc.constantFrom('graduated' as const, 'volume' as const), tiers }),
  fc.record({
    model: fc.constant('package' as const),
    package_size: fc.integer({ min: 1, max: 5_000 }).map(String),
    package_price: cents,
  }),
);
const quantity = fc.bigInt({ min: 0n, max: 20_000_000n });
const scale = fc.integer({ min: 0, max: 3 });

describe('billing/rate › rate', () => {
  const rows: readonly (readonly [bigint, string, string])[] = [
    [0n, '0', '0'],
    [1_000n, '2', '2'],
    [1_001n, '2.001', '1.001'],
    [10_000n, '11', '10'],
    [10_001n, '11.0005', '5.0005'],
    [82_450n, '47.225', '41.225'],
  ];
  for (const [units, graduated, volume] of rows) {
    it(`the tiers of the Fluxrate page give ${graduated} and ${volume} for ${units}`, () => {
      assert.equal(rate({ model: 'graduated', tiers: fluxrate }, units, 0).toFixed(), graduated);
      assert.equal(rate({ model: 'volume', tiers: fluxrate }, units, 0).toFixed(), volume);
    });
  }

  it('a quantity between two bounds falls in the higher tier', () => {
    const given: readonly Tier[] = [
      { up_to: '100', unit_price: '2', flat_fee: '0' },
      { up_to: null, unit_price: '1', flat_fee: '7' },
    ];
    assert.equal(rate({ model: 'volume', tiers: given }, 1_005n, 1).toFixed(), '107.5');
    assert.equal(rate({ model: 'graduated', tiers: given }, 1_005n, 1).toFixed(), '207.5');
    assert.equal(rate({ model: 'graduated', tiers: given }, 1_000n, 1).toFixed(), '200');
  });

  it('the first flat fee is due at zero, the others when their tier is entered', () => {
    const given: readonly Tier[] = [
      { up_to: '10', unit_price: '0', flat_fee: '5' },
      { up_to: null, unit_price: '0', flat_fee: '3' },
    ];
    const at = (units: bigint): string =>
      rate({ model: 'graduated', tiers: given }, units, 0).toFixed();
    assert.deepEqual([at(0n), at(10n), at(11n)], ['5', '5', '8']);
  });

  it('is exact at the bounds: 10^15 units at 12 places, and a scale of 9', () => {
    const tiny: Price = { model: 'per_unit', unit_price: '0.000000000001' };
    assert.equal(rate(tiny, 999_999_999_999_999n, 0).toFixed(), '999.999999999999');
    assert.equal(rate(tiny, 1n, 9).toFixed(), '0.000000000000000000001');
    const dollars: Price = { model: 'per_unit', unit_price: '1' };
    assert.equal(rate(dollars, 4_200n, 6).toFixed(), '0.0042');
  });

  it('counts begun packages, also of parts of units', () => {
    const rowsOfPackages: readonly (readonly [bigint, number, bigint])[] = [
      [0n, 0, 0n],
      [1n, 0, 1n],
      [10n, 0, 1n],
      [11n, 0, 2n],
      [100n, 1, 1n],
      [101n, 1, 2n],
      [999_999_999_999_999n, 0, 100_000_000_000_000n],
    ];
    for (const [units, places, expected] of rowsOfPackages) {
      assert.equal(packageCount('10', units, places), expected);
    }
  });

  it('refuses negative quantities, and tiers that end before the quantity', () => {
    const closed: readonly Tier[] = [{ up_to: '10', unit_price: '1', flat_fee: '0' }];
    assert.throws(() => rate({ model: 'graduated', tiers: closed }, 11n, 0), RangeError);
    assert.throws(() => rate({ model: 'volume', tiers: closed }, 11n, 0), RangeError);
    assert.throws(() => rate({ model: 'per_unit', unit_price: '1' }, -1n, 0), RangeError);
  });

  it('the tiers add up to the amount, and the graduated ones to the quantity (invariant 5)', () => {
    fc.assert(
      fc.property(price, quantity, scale, (given, units, places) => {
        const rated = rateByTier(given, units, places);
        const sum = rated.tiers.reduce((total, tier) => total.plus(tier.amount), new Exact(0));
        assert.equal(sum.toFixed(), rated.amount.toFixed());
        const whole = rated.tiers.reduce((total, tier) => total.plus(tier.quantity), new Exact(0));
        assert.equal(whole.toFixed(), new Exact(units.toString()).div(10 ** places).toFixed());
        if (given.model === 'package') return;
        for (const tier of rated.tiers) {
          const worked = decimal(tier.quantity).times(tier.unit_price).plus(tier.flat_fee);
          assert.equal(worked.toFixed(), tier.amount);
        }
      }),
    );
  });

  it('rate(a) + Δ = rate(a + b), with included units (invariant 4)', () => {
    fc.assert(
      fc.property(price, quantity, quantity, quantity, (given, a, b, included) => {
        const first = rateMore(given, included, { before: null, total: a }, 0);
        const more = rateMore(given, included, { before: a, total: a + b }, 0);
        assert.equal(
          first.plus(more).toFixed(),
          rate(given, billableUnits(a + b, included), 0).toFixed(),
        );
      }),
    );
  });

  it('graduated and per-unit prices never fall as the quantity grows', () => {
    fc.assert(
      fc.property(tiers, quantity, quantity, (given, a, b) => {
        const of = (units: bigint) => rate({ model: 'graduated', tiers: given }, units, 0);
        assert.ok(of(a + b).gte(of(a)));
      }),
    );
  });
});

describe('billing/rate › aggregate', () => {
  type Event = { readonly hour: number; readonly atMs: number; readonly quantity: bigint };
  const event: fc.Arbitrary<Event> = fc.record({
    hour: fc.nat(5),
    atMs: fc.nat(50),
    quantity: fc.bigInt({ min: 0n, max: 1_000n }),
  });
  const later = (a: Event, b: Event): Event => {
    if (a.atMs !== b.atMs) return a.atMs > b.atMs ? a : b;
    return a.quantity >= b.quantity ? a : b;
  };
  const rollUp = (events: readonly Event[]): UsagePartial[] =>
    [...Map.groupBy(events, (one) => one.hour).values()].map((ofHour) => {
      const latest = ofHour.reduce(later);
      return {
        quantity: ofHour.reduce((sum, one) => sum + one.quantity, 0n),
        eventCount: BigInt(ofHour.length),
        maxQuantity: ofHour.reduce((max, one) => (one.quantity > max ? one.quantity : max), 0n),
        latestQuantity: latest.quantity,
        latestAt: new Date(latest.atMs),
      };
    });
  const kinds: readonly Aggregation[] = ['SUM', 'COUNT', 'MAX', 'LATEST'];

  it('order and spread of the events change nothing (invariant 6)', () => {
    fc.assert(
      fc.property(fc.array(event, { maxLength: 30 }), fc.func(fc.nat()), (events, key) => {
        const shuffled = events.toSorted(
          (a, b) => key(a.atMs, a.quantity) - key(b.atMs, b.quantity),
        );
        const spread = shuffled.map((one, index) => ({ ...one, hour: index % 7 }));
        for (const kind of kinds) {
          assert.equal(aggregate(rollUp(spread), kind), aggregate(rollUp(events), kind), kind);
        }
      }),
    );
  });

  it('works each of them out of the events', () => {
    const events: readonly Event[] = [
      { hour: 0, atMs: 1, quantity: 5n },
      { hour: 0, atMs: 3, quantity: 9n },
      { hour: 1, atMs: 7, quantity: 2n },
    ];
    const expected = { SUM: 16n, COUNT: 3n, MAX: 9n, LATEST: 2n } as const;
    assert.equal(aggregate(rollUp(events), 'SUM'), expected.SUM);
    assert.equal(aggregate(rollUp(events), 'COUNT'), expected.COUNT);
    assert.equal(aggregate(rollUp(events), 'MAX'), expected.MAX);
    assert.equal(aggregate(rollUp(events), 'LATEST'), expected.LATEST);
    for (const kind of kinds) assert.equal(aggregate([], kind), 0n);
  });

  it('counts each value once, wherever it stands', () => {
    const value = fc.constantFrom('a', 'b', 'c', 'd', 'e');
    fc.assert(
      fc.property(fc.array(fc.array(value)), fc.nat(), (lists, at) => {
        const given = lists.map((values) => row({ values }));
        const expected = BigInt(new Set(lists.flat()).size);
        assert.equal(aggregate(given, 'UNIQUE_COUNT'), expected);
        assert.equal(aggregate(given.toReversed(), 'UNIQUE_COUNT'), expected);
        const repeated = given.at(at % Math.max(given.length, 1));
        const twice = repeated === undefined ? given : [...given, repeated];
        assert.equal(aggregate(twice, 'UNIQUE_COUNT'), expected);
        const inOneRow = [row({ values: lists.flat() })];
        assert.equal(aggregate(inOneRow, 'UNIQUE_COUNT'), expected);
      }),
    );
    assert.equal(aggregate([row({ quantity: 7n })], 'UNIQUE_COUNT'), 0n);
  });

  describe('a level weighted by its time', () => {
    const span = { startMs: 1_000, endMs: 2_000 };
    const level = (atMs: number, height: bigint): Level => ({ atMs, quantity: height });
    const weigh = (...levels: readonly Level[]): bigint =>
      aggregate([row({ levels })], 'WEIGHTED_SUM', span);
    const cases: readonly (readonly [string, readonly Level[], bigint])[] = [
      ['nothing is zero', [], 0n],
      ['one from the start', [level(1_000, 8n)], 8n],
      ['zero before the first', [level(1_500, 8n)], 4n],
      ['each for its time', [level(1_000, 10n), level(1_250, 20n), level(1_750, 0n)], 13n],
      ['half away from zero', [level(1_500, 5n)], 3n],
      ['below half', [level(1_501, 5n)], 2n],
      ['the greater of two at once', [level(1_000, 9n), level(1_000, 4n)], 9n],
      ['not past the end', [level(2_000, 900n)], 0n],
      ['a level of before the span reaches into it', [level(0, 4n), level(1_500, 0n)], 2n],
    ];
    for (const [name, levels, expected] of cases) {
      it(name, () => {
        assert.equal(weigh(...levels), expected);
      });
    }

    it('needs a span of time', () => {
      const given = [row({ levels: [level(1, 1n)] })];
      assert.throws(() => aggregate(given, 'WEIGHTED_SUM'), RangeError);
      const empty = { startMs: 5, endMs: 5 };
      assert.throws(() => aggregate(given, 'WEIGHTED_SUM', empty), RangeError);
    });

    it('is the sum of the milliseconds, whatever the order, the rows and the repeats', () => {
      const short = { startMs: 10, endMs: 60 };
      const levels = fc.array(
        fc.record({ atMs: fc.integer({ min: 10, max: 70 }), quantity: fc.bigInt(0n, 1_000n) }),
        { maxLength: 12 },
      );
      fc.assert(
        fc.property(levels, fc.nat(6), (given, rows) => {
          let area = 0n;
          for (let atMs = short.startMs; atMs < short.endMs; atMs += 1)
            area += modelLevelAt(given, atMs);
          const expected = (2n * area + 50n) / 100n;
          const spread = Map.groupBy(
            [...given, ...given].toReversed(),
            ({ atMs }) => atMs % (rows + 1),
          );
          const partials = [...spread.values()].map((ofRow) => row({ levels: ofRow }));
          assert.equal(aggregate(partials, 'WEIGHTED_SUM', short), expected);
        }),
      );
    });
  });

  it('a level stands from its own instant on, the greater of two at once', () => {
    const at = fc.integer({ min: 0, max: 6 });
    const levels = fc.array(fc.record({ atMs: at, quantity: fc.bigInt(0n, 9n) }), { maxLength: 6 });
    fc.assert(
      fc.property(levels, at, (given, atMs) => {
        assert.equal(levelAt(given, atMs), modelLevelAt(given, atMs));
      }),
    );
    assert.equal(levelAt([{ atMs: 5, quantity: 3n }], 5), 3n);
    assert.equal(levelAt([{ atMs: 5, quantity: 3n }], 4), 0n);
  });

  it('takes corrections into account', () => {
    const given = [row({ quantity: 10n, eventCount: 2n }), row({ quantity: -3n, eventCount: -1n })];
    assert.equal(aggregate(given, 'SUM'), 7n);
    assert.equal(aggregate(given, 'COUNT'), 1n);
  });
});

function row(of: Partial<UsagePartial>): UsagePartial {
  const none = { quantity: 0n, eventCount: 0n, maxQuantity: 0n, latestQuantity: 0n, latestAt: 0 };
  return { ...none, ...of };
}

function modelLevelAt(levels: readonly Level[], atMs: number): bigint {
  const upTo = levels.filter((one) => one.atMs <= atMs);
  const lastMs = Math.max(...upTo.map((one) => one.atMs));
  const latest = upTo.filter((one) => one.atMs === lastMs).map((one) => one.quantity);
  return latest.reduce((max, one) => (one > max ? one : max), 0n);
}

describe('billing/rate › at the edges', () => {
  const bounded: Price = {
    model: 'graduated',
    tiers: [
      { up_to: '5', unit_price: '1', flat_fee: '0' },
      { up_to: '10', unit_price: '0.5', flat_fee: '0' },
    ],
  };

  it('a last tier with an end prices its last unit, and no further one', () => {
    for (const [model, atEnd] of [
      ['graduated', '7.5'],
      ['volume', '5'],
    ] as const) {
      assert.equal(rate({ ...bounded, model }, 10n, 0).toFixed(), atEnd);
      assert.throws(
        () => rate({ ...bounded, model }, 11n, 0),
        new RangeError('no tier prices 11 units'),
      );
    }
    assert.throws(() => rate(bounded, -1n, 0), new RangeError('a quantity is never negative'));
  });

  it('of two equally late values the greater counts, in whatever order they stand', () => {
    const at = (latestQuantity: bigint, latestAt: number) => row({ latestQuantity, latestAt });
    const rows = [at(3n, 7), at(9n, 7), at(4n, 7), at(50n, 6)];
    assert.equal(aggregate(rows, 'LATEST'), 9n);
    assert.equal(aggregate(rows.toReversed(), 'LATEST'), 9n);
  });

  it('an average over time needs some time, and rows without levels add nothing to it', () => {
    const rows = [row({}), row({ levels: [{ atMs: 5, quantity: 4n }] })];
    assert.equal(aggregate(rows, 'WEIGHTED_SUM', { startMs: 0, endMs: 10 }), 2n);
    for (const span of [{ startMs: 5, endMs: 5 }, { startMs: 6, endMs: 5 }, undefined]) {
      assert.throws(
        () => aggregate(rows, 'WEIGHTED_SUM', span),
        new RangeError('an average over time needs a span of time'),
      );
    }
  });
});
