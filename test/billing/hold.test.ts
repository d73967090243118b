import assert from 'node:assert/strict';
import fc from 'fast-check';
import { type Grant, purseOf } from '../../billing/burn-down.ts';
import { expire, release, reserve, settle, type Wallet } from '../../billing/hold.ts';

const grant: Grant = {
  ...{ id: 'g', class: 'paid', amountMicro: 15n, priority: 0, effectiveAtMs: 0 },
  ...{ expiresAtMs: null, scope: null, seq: 0 },
};
function wallet(balance: bigint, capLimit = 1_000n): Wallet {
  return {
    purses: [purseOf({ ...grant, amountMicro: balance })],
    holds: new Map(),
    caps: [{ name: 'calls', limit: capLimit, counted: 0n }],
  };
}
function hold(of: Wallet, micro: bigint, { id = 'op', units = 1n } = {}) {
  return reserve(of, { id, meter: 'calls', units, micro, atMs: 0, lengthMs: 60 });
}
const actual = (micro: bigint, atMs = 1) => ({ units: 1n, micro, atMs });
const available = (of: Wallet): bigint | undefined => of.purses[0]?.available;
const heldIn = (of: Wallet): bigint | undefined => of.purses[0]?.held;
const room = (of: Wallet): bigint | undefined => of.caps[0]?.counted;

describe('billing/hold', () => {
  const held = hold(wallet(15n), 8n).wallet;

  it('holds what it may cost at once', () => {
    assert.deepEqual([available(held), heldIn(held), room(held)], [7n, 8n, 1n]);
  });
  it('a settle below the hold gives the rest back', () => {
    const done = settle(held, 'op', actual(4n));
    assert.deepEqual([available(done.wallet), heldIn(done.wallet)], [11n, 0n]);
    assert.deepEqual(done.outcome, { kind: 'settled', charged: 4n, overage: 0n });
  });
  it('a settle above the hold takes more, and never more than there is', () => {
    const done = settle(held, 'op', actual(11n));
    assert.deepEqual(
      [available(done.wallet), done.outcome],
      [4n, { kind: 'settled', charged: 11n, overage: 0n }],
    );
    const above = settle(held, 'op', actual(20n));
    assert.deepEqual(available(above.wallet), 0n);
    assert.deepEqual(above.outcome, { kind: 'settled', charged: 15n, overage: 5n });
  });
  it('a release gives everything back, also the room under the cap', () => {
    const done = release(held, 'op', 1);
    assert.deepEqual([available(done), heldIn(done), room(done)], [15n, 0n, 0n]);
    assert.equal(release(done, 'op', 2), done);
    assert.equal(release(done, 'other', 2), done);
  });
  it('expiry takes back what the hold took, at its instant and not before', () => {
    assert.deepEqual(available(expire(held, 59)), 7n);
    const done = expire(held, 60);
    assert.deepEqual([available(done), heldIn(done), room(done)], [15n, 0n, 0n]);
  });
  it('of two settles only the first does anything', () => {
    const first = settle(held, 'op', actual(4n));
    const second = settle(first.wallet, 'op', actual(4n));
    assert.equal(second.wallet, first.wallet);
    assert.equal(second.outcome.kind, 'already');
    assert.equal(available(second.wallet), 11n);
  });
  it('a released hold cannot be settled, an unknown one neither', () => {
    assert.equal(settle(release(held, 'op', 1), 'op', actual(4n)).outcome.kind, 'already');
    const unknown = settle(held, 'other', actual(4n));
    assert.deepEqual([unknown.outcome.kind, unknown.wallet], ['unknown', held]);
  });
  it('a late settle takes from what is there then, once', () => {
    const late = settle(expire(held, 60), 'op', actual(4n, 61));
    assert.deepEqual(late.outcome, { kind: 'late', charged: 4n, overage: 0n });
    assert.deepEqual([available(late.wallet), room(late.wallet)], [11n, 1n]);
    assert.equal(settle(late.wallet, 'op', actual(4n, 62)).outcome.kind, 'already');
    const beyond = settle(expire(held, 60), 'op', actual(18n, 61));
    assert.deepEqual(beyond.outcome, { kind: 'late', charged: 15n, overage: 3n });
  });
  it('holds count against a cap at once', () => {
    const four = hold(wallet(100n, 5n), 1n, { units: 4n });
    assert.equal(four.outcome, 'held');
    const two = hold(four.wallet, 1n, { id: 'second', units: 2n });
    assert.deepEqual([two.outcome, two.wallet], ['over_cap', four.wallet]);
    assert.equal(room(two.wallet), 4n);
    assert.equal(hold(four.wallet, 1n, { id: 'third', units: 1n }).outcome, 'held');
    assert.equal(room(settle(four.wallet, 'op', { units: 1n, micro: 1n, atMs: 1 }).wallet), 1n);
  });
  it('a hold is whole or not at all, and the same id is held once', () => {
    const poor = hold(wallet(7n), 8n);
    assert.deepEqual([poor.outcome, available(poor.wallet)], ['out_of_credits', 7n]);
    assert.equal(hold(wallet(8n), 8n).outcome, 'held');
    assert.equal(hold(held, 1n).outcome, 'duplicate');
  });
  it('what is held of a grant that expires meanwhile expires when it is given back', () => {
    const purses = [purseOf({ ...grant, expiresAtMs: 30 })];
    const taken = hold({ ...wallet(0n), purses }, 8n).wallet;
    const done = expire(taken, 60).purses[0];
    assert.deepEqual([done?.available, done?.expired, done?.held], [0n, 15n, 0n]);
    const settled = settle(taken, 'op', actual(3n, 40)).wallet.purses[0];
    assert.deepEqual([settled?.spent, settled?.expired, settled?.available], [3n, 5n, 7n]);
  });

  it('exactly as many are admitted as can be paid, however many knock and in whatever order', () => {
    for (const credits of [10n, 100n, 500n]) {
      for (const cost of [1n, 5n, 10n, 20n]) {
        for (const load of [80n, 90n, 100n, 120n, 200n]) {
          const knocks = Number((credits * load) / (100n * cost));
          let current = wallet(credits);
          let admitted = 0n;
          for (let index = 0; index < knocks; index += 1) {
            const one = hold(current, cost, { id: `op${index}`, units: 0n });
            current = one.wallet;
            if (one.outcome === 'held') admitted += 1n;
          }
          const most = credits / cost;
          assert.equal(admitted, BigInt(knocks) < most ? BigInt(knocks) : most);
          assert.equal(available(current), credits - admitted * cost);
        }
      }
    }
  });

  it('any sequence of operations keeps every credit, and repeating one changes nothing', () => {
    type Step = {
      readonly verb: 'reserve' | 'settle' | 'release' | 'expire';
      readonly id: string;
      readonly micro: bigint;
    };
    const step: fc.Arbitrary<Step> = fc.record({
      verb: fc.constantFrom('reserve', 'settle', 'release', 'expire'),
      id: fc.constantFrom('a', 'b', 'c'),
      micro: fc.bigInt({ min: 0n, max: 12n }),
    });
    const run = (of: Wallet, { verb, id, micro }: Step, at: number): Wallet => {
      if (verb === 'reserve') {
        return reserve(of, { id, meter: 'calls', units: 1n, micro, atMs: at, lengthMs: 3 }).wallet;
      }
      if (verb === 'settle') return settle(of, id, actual(micro, at)).wallet;
      return verb === 'release' ? release(of, id, at) : expire(of, at);
    };
    fc.assert(
      fc.property(fc.array(step, { maxLength: 20 }), (steps) => {
        let current = wallet(40n);
        steps.forEach((one, at) => {
          current = run(current, one, at);
          assert.deepEqual(run(current, one, at), current);
          const purse = current.purses[0];
          assert.ok(purse !== undefined);
          const { available: free, held: still, spent } = purse;
          assert.ok(free >= 0n && still >= 0n && spent >= 0n);
          assert.equal(free + still + spent, 40n);
          const open = [...current.holds.values()].flatMap((one_) =>
            one_.state === 'open' ? one_.taken : [],
          );
          assert.equal(
            open.reduce((sum, { micro }) => sum + micro, 0n),
            still,
          );
        });
      }),
    );
  });
});
