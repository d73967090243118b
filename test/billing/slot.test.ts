import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import fc from 'fast-check';
import { planSlots, type ShardWeight, slotCount, slotOf } from '../../billing/slot.ts';

const shards = (...names: string[]): ShardWeight[] => names.map((name) => ({ name, weight: 1 }));

function owned(plan: readonly string[]): Map<string, number> {
  const counts = new Map<string, number>();
  for (const name of plan) counts.set(name, (counts.get(name) ?? 0) + 1);
  return counts;
}

function moved(before: readonly string[], after: readonly string[]): number {
  return before.filter((name, slot) => after[slot] !== name).length;
}

const fleet = fc
  .uniqueArray(fc.stringMatching(/^[a-z][a-z0-9-]{0,8}$/), { minLength: 1, maxLength: 7 })
  .chain((names) =>
    fc.tuple(
      ...names.map((name) => fc.integer({ min: 1, max: 5 }).map((weight) => ({ name, weight }))),
    ),
  );

describe('billing/slot › slotOf', () => {
  it('never changes (invariant 11)', () => {
    const golden: readonly (readonly [string, number])[] = [
      ['sbr_0000000000000000000000', 2702],
      ['sbr_abcdefghijklmnopqrstuv', 2794],
      ['sbr_zzzzzzzzzzzzzzzzzzzzzz', 3002],
      ['sbr_1a2b3c4d5e6f7g8h9i0jkl', 3821],
      ['', 3083],
    ];
    for (const [id, slot] of golden) assert.equal(slotOf(id), slot, id);
  });
  it('spreads ids that differ little', () => {
    const counts = new Int32Array(slotCount);
    for (let n = 0; n < slotCount * 100; n++) {
      const slot = slotOf(`sbr_${n.toString(36).padStart(22, '0')}`);
      counts[slot] = (counts[slot] ?? 0) + 1;
    }
    // 100 expected, standard deviation 10: six of them would be a broken hash.
    assert.ok(counts.every((count) => count > 40 && count < 165));
  });
});

describe('billing/slot › planSlots (invariant 12)', () => {
  it('gives every slot to a shard and nobody more than its share × 1.05, rounded up, whatever was before', () => {
    fc.assert(
      fc.property(fleet, fc.option(fleet), (given, before) => {
        const counts = owned(planSlots(given, before === null ? null : planSlots(before, null)));
        const whole = given.reduce((sum, shard) => sum + shard.weight, 0);
        let total = 0;
        for (const { name, weight } of given) {
          const count = counts.get(name) ?? 0;
          assert.ok(count <= Math.ceil((slotCount * weight * 105) / (whole * 100)), name);
          total += count;
        }
        assert.equal(total, slotCount);
      }),
      { numRuns: 30 },
    );
  });
  it('a shard that is given less weight lets go of what lies above its cap, and no more', () => {
    const weighed = (a: number): ShardWeight[] => [
      { name: 'a', weight: a },
      { name: 'b', weight: 3 },
    ];
    const before = planSlots(weighed(3), null);
    const after = planSlots(weighed(1), before);
    assert.equal(owned(after).get('a'), Math.ceil((slotCount * 105) / 400));
    assert.equal(
      moved(before, after),
      (owned(before).get('a') ?? 0) - (owned(after).get('a') ?? 0),
    );
  });
  it('changes nothing when planned again', () => {
    fc.assert(
      fc.property(fleet, (given) => {
        const plan = planSlots(given, null);
        assert.deepEqual(planSlots(given.toReversed(), plan), plan);
      }),
      { numRuns: 20 },
    );
  });
  it('a join moves slots to the newcomer only, at most a tenth above its share', () => {
    const before = planSlots(shards('a', 'b', 'c'), null);
    const after = planSlots(shards('a', 'b', 'c', 'd'), before);
    for (const [slot, name] of after.entries()) {
      if (name !== before[slot]) assert.equal(name, 'd');
    }
    assert.ok(moved(before, after) <= (slotCount / 4) * 1.1);
    assert.ok(moved(before, after) >= (slotCount / 4) * 0.9);
  });
  it('a leave moves the slots of the one who left only; weight 0 is leaving', () => {
    const before = planSlots(shards('a', 'b', 'c', 'd'), null);
    const left = before.filter((name) => name === 'b').length;
    assert.equal(moved(before, planSlots(shards('a', 'c', 'd'), before)), left);
    const drained = [...shards('a', 'c', 'd'), { name: 'b', weight: 0 }];
    const after = planSlots(drained, before);
    assert.equal(moved(before, after), left);
    assert.ok(!after.includes('b'));
  });
  it('is the same plan in every process and release', () => {
    const digest = (plan: readonly string[]): string =>
      createHash('sha256').update(plan.join(',')).digest('hex').slice(0, 16);
    const weighed = [
      { name: 'a', weight: 1 },
      { name: 'b', weight: 2 },
      { name: 'c', weight: 3 },
    ];
    const first = planSlots(weighed, null);
    assert.deepEqual(
      [
        first,
        // b and c let go of what they want least; a takes it.
        planSlots(shards('a', 'b', 'c'), first),
        planSlots([...weighed, { name: 'd', weight: 2 }], first),
      ].map(digest),
      ['7b809cdea5340c1d', '17cb1f77aebb325d', '0a1290a266272580'],
    );
  });
  it('of two that want a slot equally the first by name has it, up to its cap', () => {
    // Their hashes are the same, and so are the scores of every slot.
    const names = ['752efvxb', 'rb1udodt'] as const;
    const cap = Math.ceil((slotCount * 105) / 200);
    const wanted = Array.from({ length: slotCount }, (_, slot) => names[slot < cap ? 0 : 1]);
    assert.deepEqual(planSlots(shards(...names), null), wanted);
    assert.deepEqual(planSlots(shards(...names.toReversed()), null), wanted);
  });
  it('refuses what cannot be planned', () => {
    const refused = (words: string) => new RangeError(words);
    for (const none of [[], [{ name: 'a', weight: 0 }]]) {
      assert.throws(() => planSlots(none, null), refused('no shard has a weight above zero'));
    }
    assert.throws(() => planSlots(shards('a', 'a'), null), refused('two shards have one name'));
    assert.throws(() => planSlots(shards('a'), ['a']), refused('a plan has 4096 slots, not 1'));
  });
});
