import assert from 'node:assert/strict';
import fc from 'fast-check';
import {
  burnOrder,
  expireGrants,
  giveBack,
  type Grant,
  type Purse,
  purseOf,
  spendable,
  spendHeld,
  take,
  voidGrant,
} from '../../billing/burn-down.ts';

const grant = (id: string, more: Partial<Grant> = {}): Grant => ({
  ...{ id, class: 'paid', amountMicro: 100n, priority: 0, effectiveAtMs: 0 },
  ...{ expiresAtMs: null, scope: null, seq: 0 },
  ...more,
});
const purses = (...grants: readonly Grant[]): readonly Purse[] => grants.map(purseOf);
const left = (given: readonly Purse[]) =>
  Object.fromEntries(given.map((purse) => [purse.id, purse.available]));
const use = (given: readonly Purse[], micro: bigint, atMs = 1) =>
  take(given, { micro, atMs, meter: 'calls' }, 'spent');

describe('billing/burn-down › order', () => {
  const ids = (...grants: readonly Grant[]): string[] =>
    burnOrder(purses(...grants), 1, 'calls').map(({ id }) => id);

  it('priority, then soonest expiry with never last, then promotional, then oldest', () => {
    assert.deepEqual(
      ids(
        grant('never', { seq: 0 }),
        grant('far', { expiresAtMs: 90, seq: 1 }),
        grant('near-paid-new', { expiresAtMs: 30, seq: 9 }),
        grant('near-paid-old', { expiresAtMs: 30, seq: 2 }),
        grant('near-promo', { expiresAtMs: 30, class: 'promotional', seq: 99 }),
        grant('first', { priority: -1, seq: 100 }),
        grant('last', { priority: 1, expiresAtMs: 2, seq: 0 }),
        grant('never-promo', { class: 'promotional', seq: 98 }),
      ),
      [
        'first',
        'near-promo',
        'near-paid-old',
        'near-paid-new',
        'far',
        'never-promo',
        'never',
        'last',
      ],
    );
  });

  it('only what is effective, not expired, and meant for the meter', () => {
    assert.deepEqual(
      ids(
        grant('now', { effectiveAtMs: 1 }),
        grant('future', { effectiveAtMs: 2 }),
        grant('ends-now', { expiresAtMs: 1 }),
        grant('ends-next', { expiresAtMs: 2 }),
        grant('mine', { scope: ['tokens', 'calls'] }),
        grant('others', { scope: ['tokens'] }),
      ),
      ['ends-next', 'now', 'mine'],
    );
    assert.equal(spendable(purses(grant('a'), grant('b', { scope: [] })), 1, 'calls'), 100n);
  });
});

describe('billing/burn-down › examples', () => {
  const day = 86_400_000;
  it('of two grants the one that expires sooner is spent first', () => {
    const given = purses(
      grant('far', { expiresAtMs: 36_500 * day }),
      grant('near', { expiresAtMs: 30 * day }),
    );
    assert.deepEqual(left(use(given, 120n).purses), { near: 0n, far: 80n });
  });
  it('a voided grant gives no more: what follows is overage', () => {
    const used = use(purses(grant('a')), 50n);
    const gone = voidGrant(used.purses, 'a');
    const more = use(gone, 50n);
    assert.deepEqual([left(more.purses), more.short, more.taken], [{ a: 0n }, 50n, []]);
    const [purse] = more.purses;
    assert.deepEqual([purse?.spent, purse?.refunded], [50n, 50n]);
  });
  it('a grant of the future does not count yet', () => {
    const result = use(purses(grant('a', { effectiveAtMs: 10 * day })), 50n, 5 * day);
    assert.deepEqual([result.short, left(result.purses)], [50n, { a: 100n }]);
    assert.equal(spendable(result.purses, 5 * day, 'calls'), 0n);
  });
  it('what rolled over is spent before the month’s own credits, which last longer', () => {
    const given = purses(
      grant('monthly', { amountMicro: 1_000n, expiresAtMs: 60 * day }),
      grant('rolled', { amountMicro: 400n, expiresAtMs: 30 * day }),
    );
    assert.deepEqual(left(use(given, 300n).purses), { rolled: 100n, monthly: 1_000n });
  });
  it('a refill replaces what was left: the old grant ends where the new one begins', () => {
    const given = purses(
      grant('january', { amountMicro: 1_000n, expiresAtMs: 31 * day }),
      grant('february', { amountMicro: 1_000n, effectiveAtMs: 31 * day }),
    );
    const used = use(given, 950n, 30 * day).purses;
    assert.equal(spendable(used, 30 * day, 'calls'), 50n);
    assert.equal(spendable(used, 31 * day, 'calls'), 1_000n);
    assert.equal(expireGrants(used, 31 * day)[0]?.expired, 50n);
    assert.equal(expireGrants(used, 31 * day - 1)[0]?.expired, 0n);
  });
});

describe('billing/burn-down › giving back', () => {
  const given = purses(grant('a', { expiresAtMs: 10 }), grant('b', { expiresAtMs: 20 }));
  const held = take(given, { micro: 150n, atMs: 1, meter: 'calls' }, 'held');

  it('returns in the reverse of the order of taking', () => {
    assert.deepEqual(held.taken, [
      { grantId: 'a', micro: 100n },
      { grantId: 'b', micro: 50n },
    ]);
    const back = giveBack(held.purses, { taken: held.taken, micro: 60n, atMs: 1 }, 'held');
    assert.deepEqual(left(back.purses), { a: 10n, b: 100n });
    assert.deepEqual(back.kept, [{ grantId: 'a', micro: 90n }]);
    assert.deepEqual(
      spendHeld(back.purses, back.kept).map(({ held: still, spent }) => [still, spent]),
      [
        [0n, 90n],
        [0n, 0n],
      ],
    );
  });
  it('credits whose time is over expire instead', () => {
    const at = (atMs: number) =>
      giveBack(held.purses, { taken: held.taken, micro: 150n, atMs }, 'held').purses.map(
        ({ available, expired }) => [available, expired],
      );
    assert.deepEqual(at(9), [
      [100n, 0n],
      [100n, 0n],
    ]);
    assert.deepEqual(at(10), [
      [0n, 100n],
      [100n, 0n],
    ]);
  });
  it('a refund of what was spent goes the same way', () => {
    const spent = use(given, 150n);
    const back = giveBack(spent.purses, { taken: spent.taken, micro: 50n, atMs: 1 }, 'spent');
    assert.deepEqual(left(back.purses), { a: 0n, b: 100n });
  });
  it('refuses more than was taken, and negative amounts', () => {
    const taken = held.taken;
    assert.throws(() => giveBack(held.purses, { taken, micro: 151n, atMs: 1 }, 'held'), RangeError);
    assert.throws(() => giveBack(held.purses, { taken, micro: -1n, atMs: 1 }, 'held'), RangeError);
    assert.throws(() => use(given, -1n), RangeError);
  });
});

describe('billing/burn-down › properties', () => {
  const grants = fc
    .array(
      fc.record({
        class: fc.constantFrom('paid', 'promotional'),
        amountMicro: fc.bigInt({ min: 0n, max: 1_000n }),
        priority: fc.nat(2),
        effectiveAtMs: fc.nat(3),
        expiresAtMs: fc.option(fc.integer({ min: 1, max: 9 })),
      }),
      { maxLength: 6 },
    )
    .map((list) => list.map((one, index) => grant(`g${index}`, { ...one, seq: index })));
  const amount = fc.bigInt({ min: 0n, max: 2_000n });

  it('granted = available + held + spent + expired + refunded, after anything', () => {
    fc.assert(
      fc.property(grants, amount, amount, fc.nat(10), (list, debit, back, atMs) => {
        const held = take(purses(...list), { micro: debit, atMs: 2, meter: 'calls' }, 'held');
        const total = held.taken.reduce((sum, { micro }) => sum + micro, 0n);
        assert.equal(total + held.short, debit);
        const micro = back < total ? back : total;
        const { purses: after, kept } = giveBack(
          held.purses,
          { taken: held.taken, micro, atMs },
          'held',
        );
        const end = voidGrant(expireGrants(spendHeld(after, kept), atMs), 'g0');
        for (const purse of end) {
          const places = [purse.available, purse.held, purse.spent, purse.expired, purse.refunded];
          assert.ok(places.every((place) => place >= 0n));
          assert.equal(
            places.reduce((sum, place) => sum + place, 0n),
            purse.amountMicro,
          );
        }
        assert.ok(end.every((purse) => purse.held === 0n));
      }),
    );
  });

  it('two debits are one of their sum, and the order of the rows changes nothing', () => {
    fc.assert(
      fc.property(grants, amount, amount, (list, a, b) => {
        const inTwo = use(use(purses(...list), a, 2).purses, b, 2).purses;
        const inOne = use(purses(...list), a + b, 2).purses;
        assert.deepEqual(left(inTwo), left(inOne));
        assert.deepEqual(left(use(purses(...list.toReversed()), a + b, 2).purses), left(inOne));
      }),
    );
  });
});
