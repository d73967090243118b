import assert from 'node:assert/strict';
import fc from 'fast-check';

import { microMax } from '../../billing/credits.ts';
import {
  availableOfGrant,
  creditsBack,
  moneyBack,
  type Sale,
  takeBack,
  type TakeBackWish,
  type TakenBefore,
} from '../../billing/take-back.ts';

const nothing: TakenBefore = { micro: 0n, minor: 0n };
const all: TakeBackWish = { kind: 'all' };
const amount = (minor: bigint): TakeBackWish => ({ kind: 'amount', minor });
const credits = (whole: number): bigint => BigInt(Math.round(whole * 1_000_000));
/** 1,000 credits for 25.00: 0.4 credits a cent. */
const thousand: Sale = { creditsMicro: credits(1000), priceMinor: 2500n };
/** 3 credits for 10.00: no number of cents is a whole number of micro-credits. */
const three: Sale = { creditsMicro: credits(3), priceMinor: 1000n };
/** 3 micro-credits for 10.00. */
const costly: Sale = { creditsMicro: 3n, priceMinor: 1000n };
/** A micro-credit for 5.00. */
const dear: Sale = { creditsMicro: 1n, priceMinor: 500n };

describe('billing/take-back › takeBack', () => {
  const rows: readonly (readonly [
    what: string,
    of: readonly [Sale, TakenBefore, TakeBackWish, bigint],
    terms: readonly [micro: bigint, minor: bigint],
  ])[] = [
    [
      'all of an untouched top-up is its price',
      [thousand, nothing, all, credits(1000)],
      [credits(1000), 2500n],
    ],
    [
      'the same where a credit costs no whole cents',
      [three, nothing, all, credits(3)],
      [credits(3), 1000n],
    ],
    [
      'what is left is rounded down',
      [thousand, nothing, all, credits(720.3)],
      [credits(720.3), 1800n],
    ],
    [
      'an amount takes what it paid for',
      [thousand, nothing, amount(1800n), credits(1000)],
      [credits(720), 1800n],
    ],
    [
      'an amount takes more by a part of a micro-credit',
      [three, nothing, amount(1n), credits(3)],
      [3000n, 1n],
    ],
    [
      'and the next one less by as much',
      [{ ...three, priceMinor: 7n }, { micro: 428_572n, minor: 1n }, amount(1n), credits(2)],
      [428_571n, 1n],
    ],
    [
      'an amount that less is left for gives what is left',
      [thousand, nothing, amount(1800n), credits(100)],
      [credits(100), 250n],
    ],
    [
      'and leaves what pays for no cent',
      [thousand, nothing, amount(1800n), credits(100.3)],
      [credits(100), 250n],
    ],
    ['less than a cent is left where it is', [thousand, nothing, all, 399_999n], [0n, 0n]],
    ['nothing left gives nothing', [thousand, nothing, all, 0n], [0n, 0n]],
    [
      'nothing left gives nothing, also where earlier ones gave less than was taken',
      [costly, { micro: 1n, minor: 100n }, all, 0n],
      [0n, 0n],
    ],
    [
      'a note takes a micro-credit at least',
      [costly, { micro: 1n, minor: 100n }, amount(100n), 2n],
      [1n, 100n],
    ],
    [
      'what earlier ones rounded off goes with the last',
      [thousand, { micro: credits(0.6), minor: 1n }, all, credits(999.4)],
      [credits(999.4), 2499n],
    ],
    [
      'a micro-credit that costs more than is asked is taken whole',
      [dear, nothing, amount(100n), 1n],
      [1n, 100n],
    ],
  ];
  for (const [what, of, [micro, minor]] of rows) {
    it(what, () => assert.deepEqual(takeBack(...of), { micro, minor }));
  }

  const sale = fc.record({
    creditsMicro: fc.bigInt({ min: 1n, max: microMax }),
    priceMinor: fc.bigInt({ min: 1n, max: 10n ** 12n }),
  });
  const wishes = fc.array(
    fc.oneof(fc.constant('all' as const), fc.bigInt({ min: 1n, max: 10n ** 12n })),
    { maxLength: 12 },
  );
  /** What is spent before each wish, in thousandths of what is left. */
  const spends = fc.array(fc.integer({ min: 0, max: 1000 }), { minLength: 12, maxLength: 12 });

  it('never gives more than the taken credits cost, however a top-up is cut', () => {
    fc.assert(
      fc.property(sale, wishes, spends, (of, list, spend) => {
        let before = nothing;
        let left = of.creditsMicro;
        for (const [index, wish] of list.entries()) {
          left -= (left * BigInt(spend[index] ?? 0)) / 1000n;
          const { micro, minor } = takeBack(of, before, wish === 'all' ? all : amount(wish), left);
          assert.ok(micro >= 0n && micro <= left && micro > 0n === minor > 0n);
          if (wish !== 'all') assert.ok(minor <= wish);
          left -= micro;
          before = { micro: before.micro + micro, minor: before.minor + minor };
          assert.ok(before.minor * of.creditsMicro <= before.micro * of.priceMinor);
        }
      }),
    );
  });

  it('adds up to the whole price when all that was sold is taken back', () => {
    fc.assert(
      fc.property(sale, wishes, (of, list) => {
        fc.pre(of.priceMinor <= of.creditsMicro);
        let before = nothing;
        for (const wish of [...list, 'all' as const]) {
          const { micro, minor } = takeBack(
            of,
            before,
            wish === 'all' ? all : amount(wish),
            of.creditsMicro - before.micro,
          );
          before = { micro: before.micro + micro, minor: before.minor + minor };
        }
        // Less than a minor unit's worth is left only where nothing can be given for it.
        const isWhole = before.micro === of.creditsMicro;
        assert.equal(
          isWhole ? before.minor : moneyBack(of, before, of.creditsMicro - before.micro),
          isWhole ? of.priceMinor : 0n,
        );
      }),
    );
  });

  it('takes no micro-credit more than an amount costs', () => {
    fc.assert(
      fc.property(sale, fc.bigInt({ min: 1n, max: 10n ** 12n }), (of, wish) => {
        fc.pre(wish <= of.priceMinor);
        const micro = creditsBack(of, nothing, wish);
        assert.ok(moneyBack(of, nothing, micro) >= wish);
        assert.ok(moneyBack(of, nothing, micro - 1n) < wish);
      }),
    );
  });
});

describe('billing/take-back › availableOfGrant', () => {
  const rows: readonly (readonly [
    string,
    readonly [bigint, bigint],
    readonly [bigint, bigint],
    bigint,
  ])[] = [
    ['all of it when the shard has all', [100n, 0n], [100n, 100n], 100n],
    ['less what is held or not drained yet', [100n, 0n], [100n, 70n], 70n],
    ['which lies with older grants first', [100n, 40n], [240n, 210n], 100n],
    ['and then with this one', [100n, 40n], [240n, 150n], 50n],
    ['at most all of it', [100n, 40n], [240n, 20n], 0n],
    ['younger grants keep theirs', [100n, 0n], [200n, 100n], 0n],
    ['a shard that has more than the ledger adds nothing', [100n, 0n], [100n, 120n], 100n],
  ];
  for (const [what, [remainingMicro, olderMicro], [ledgerMicro, shardMicro], available] of rows) {
    it(what, () =>
      assert.equal(
        availableOfGrant({ remainingMicro, olderMicro }, { ledgerMicro, shardMicro }),
        available,
      ),
    );
  }
});
