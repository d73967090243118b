import assert from 'node:assert/strict';
import fc from 'fast-check';
import { divideRounded, prorate, ratioLeft, ratioOf, ratioText } from '../../billing/ratio.ts';

const day = 86_400_000;
const utc = (text: string): number => Date.parse(`${text}Z`);

describe('billing/ratio › rounding', () => {
  const rows: readonly (readonly [bigint, bigint, bigint])[] = [
    [5n, 10n, 1n],
    [-5n, 10n, -1n],
    [4n, 10n, 0n],
    [-4n, 10n, 0n],
    [15n, 10n, 2n],
    [-15n, 10n, -2n],
    [25n, 10n, 3n],
    [1n, 3n, 0n],
    [2n, 3n, 1n],
    [6n, 3n, 2n],
    [0n, 7n, 0n],
  ];
  for (const [numerator, denominator, expected] of rows) {
    it(`${numerator} / ${denominator} is ${expected}`, () => {
      assert.equal(divideRounded(numerator, denominator), expected);
    });
  }
  it('refuses a denominator that is not above zero', () => {
    assert.throws(() => divideRounded(1n, 0n), RangeError);
    assert.throws(() => divideRounded(1n, -1n), RangeError);
  });
  it('never strays from the exact value by more than half', () => {
    fc.assert(
      fc.property(fc.bigInt(), fc.bigInt({ min: 1n }), (numerator, denominator) => {
        const off = 2n * (divideRounded(numerator, denominator) * denominator - numerator);
        assert.ok(off <= denominator && off >= -denominator);
        // A tie goes away from zero.
        if (off === denominator) assert.ok(numerator > 0n);
        if (off === -denominator) assert.ok(numerator < 0n);
      }),
    );
  });
});

describe('billing/ratio › ratios', () => {
  it('reads decimals exactly', () => {
    assert.deepEqual(ratioOf('8.875'), { numerator: 8_875n, denominator: 1_000n });
    assert.deepEqual(ratioOf('19'), { numerator: 19n, denominator: 1n });
    assert.deepEqual(ratioOf('-0.5'), { numerator: -5n, denominator: 10n });
    assert.throws(() => ratioOf('1e3'), RangeError);
  });
  it('rounds a part once', () => {
    assert.equal(prorate(2_999n, { numerator: 1n, denominator: 2n }), 1_500n);
    assert.equal(prorate(-2_999n, { numerator: 1n, denominator: 2n }), -1_500n);
    assert.equal(prorate(10_000n, { numerator: 11n, denominator: 29n }), 3_793n);
  });
  it('says itself in words', () => {
    assert.equal(ratioText({ numerator: 15n, denominator: 31n }, 'day'), '15 of 31 days');
    assert.equal(ratioText({ numerator: 1n, denominator: 2n }, 'second'), '1 of 2 seconds');
  });
});

describe('billing/ratio › ratioLeft', () => {
  const january = { startMs: utc('2025-01-01T00:00'), endMs: utc('2025-02-01T00:00') };
  it('the day of the change counts as left', () => {
    for (const at of ['2025-01-11T00:00', '2025-01-11T12:34:56', '2025-01-11T23:59:59.999']) {
      assert.deepEqual(ratioLeft(utc(at), january, 'UTC', 'day'), {
        numerator: 21n,
        denominator: 31n,
      });
    }
  });
  it('by seconds, parts of days count', () => {
    assert.deepEqual(ratioLeft(utc('2025-01-31T23:59:58'), january, 'UTC', 'second'), {
      numerator: 2n,
      denominator: 31n * 86_400n,
    });
  });
  it('is the whole at the start and nothing at the end', () => {
    for (const proration of ['day', 'second'] as const) {
      const first = ratioLeft(january.startMs, january, 'UTC', proration);
      assert.equal(first.numerator, first.denominator);
      assert.equal(ratioLeft(january.endMs, january, 'UTC', proration).numerator, 0n);
    }
  });
  it('a span within one day is shared by seconds', () => {
    const hour = { startMs: utc('2025-01-01T10:00'), endMs: utc('2025-01-01T11:00') };
    assert.deepEqual(ratioLeft(utc('2025-01-01T10:15'), hour, 'UTC', 'day'), {
      numerator: 2_700n,
      denominator: 3_600n,
    });
  });
  it('refuses an instant outside of the span, and a span without a second', () => {
    assert.throws(() => ratioLeft(january.startMs - 1, january, 'UTC', 'day'), /outside/);
    assert.throws(() => ratioLeft(january.endMs + 1, january, 'UTC', 'day'), /outside/);
    assert.throws(() => ratioLeft(0, { startMs: 0, endMs: 0 }, 'UTC', 'day'), /shorter/);
    assert.throws(() => ratioLeft(0, { startMs: 0, endMs: 999 }, 'UTC', 'second'), /shorter/);
  });
  it('a change of the clocks changes no day, but it changes seconds', () => {
    const zone = 'America/New_York';
    const march = { startMs: utc('2024-03-01T05:00'), endMs: utc('2024-04-01T04:00') };
    const at = utc('2024-03-16T04:00');
    assert.equal(prorate(10_000n, ratioLeft(at, march, zone, 'day')), 5_161n);
    assert.equal(prorate(10_000n, ratioLeft(at, march, zone, 'second')), 5_168n);
  });
  it('what is left only shrinks, and what was and what is left make the whole', () => {
    fc.assert(
      fc.property(fc.nat(31 * 24), fc.nat(31 * 24), (a, b) => {
        const [early, late] = a < b ? [a, b] : [b, a];
        const at = (hours: number) =>
          ratioLeft(january.startMs + (hours * day) / 24, january, 'UTC', 'day').numerator;
        assert.ok(at(early) >= at(late) && at(late) >= 0n && at(early) <= 31n);
      }),
    );
  });
});
