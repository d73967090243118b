import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';

import { planSlots, slotCount, slotOf } from '../../billing/slot.ts';
import type { SlotMap } from '../../shards/port.ts';
import { formatSlotMap, parseSlotMap } from '../../shards/slot-map.ts';
import { newId } from '../../store/ids.ts';

function mapFor(names: readonly string[]): SlotMap {
  const plan = planSlots(
    names.map((name) => ({ name, weight: 1 })),
    null,
  );
  return {
    version: 3,
    shards: names.map((name) => ({ name, url: `redis://${name}`, incarnation: 1, state: 'open' })),
    owners: Int16Array.from(plan, (name) => names.indexOf(name)),
    epochs: new Uint32Array(slotCount).fill(1),
  };
}

/** Greatest share over the mean, of ids by owner. */
function spread(owners: readonly string[], nodes: number): number {
  const counts = new Map<string, number>();
  for (const owner of owners) counts.set(owner, (counts.get(owner) ?? 0) + 1);
  return Math.max(...counts.values()) / (owners.length / nodes);
}

/** The rule of the npm package `hash-ring` 1.0.1: the hash is computed, then the key itself is compared with the points. */
function faultyRing(nodes: readonly string[]): (key: string) => string {
  const points = nodes
    .flatMap((node) =>
      Array.from({ length: 128 }, (_, replica) => ({
        point: String(Number.parseInt(md5(`${node}:${replica}`).slice(0, 8), 16)),
        node,
      })),
    )
    // Without a comparator numbers are sorted as text.
    .toSorted((a, b) => (a.point < b.point ? -1 : 1));
  return (key) => (points.find(({ point }) => key <= point) ?? points[0])?.node ?? '';
}

function md5(text: string): string {
  return createHash('md5').update(text).digest('hex');
}

describe('shards/slot-map', () => {
  const ids = Array.from({ length: 100_000 }, () => newId('sbr'));

  for (const count of [3, 4, 16]) {
    it(`spreads 100,000 subscribers over ${count} shards, max/mean ≤ 1.05 of slots`, () => {
      const names = Array.from({ length: count }, (_, index) => `s${index + 1}`);
      const map = mapFor(names);
      const owners = ids.map((id) => names[map.owners[slotOf(id)] ?? -1] ?? '');
      const bySlot = spread(
        Array.from(map.owners, (owner) => names[owner] ?? ''),
        count,
      );
      assert.ok(bySlot <= 1.05 + count / slotCount, `slots: ${bySlot}`);
      // Sampling 100,000 ids adds its own noise, about 1 % at 16 shards.
      assert.ok(
        spread(owners, count) <= (count <= 4 ? 1.05 : 1.08),
        `ids: ${spread(owners, count)}`,
      );
    });
  }

  it('does not do what `hash-ring` does: one node for all, whatever the nodes', () => {
    const nodes = ['s1:6379', 's2:6379', 's3:6379', 's4:6379'];
    assert.equal(spread(ids.map(faultyRing(nodes)), 4), 4);
    assert.equal(spread(ids.map(faultyRing([...nodes, 's5:6379'])), 5), 5);
    const map = mapFor(nodes);
    assert.ok(
      spread(
        ids.map((id) => nodes[map.owners[slotOf(id)] ?? -1] ?? ''),
        4,
      ) < 1.05,
    );
  });

  it('keeps to its golden vector of four shards', () => {
    const map = mapFor(['s1', 's2', 's3', 's4']);
    const subscribers = ['0', '1', '2', 'a', 'b', 'z'].map((body) => `sbr_${body.repeat(22)}`);
    assert.deepEqual(
      subscribers.map((id) => [slotOf(id), map.owners[slotOf(id)]]),
      [
        [2702, 1],
        [1893, 3],
        [2468, 2],
        [2683, 0],
        [4088, 2],
        [3002, 1],
      ],
    );
  });

  it('is the same after writing and reading', () => {
    const map = mapFor(['s1', 's2', 's3']);
    map.epochs[7] = 9;
    map.owners[8] = -1;
    assert.deepEqual(parseSlotMap(formatSlotMap(map)), map);
  });

  it('refuses what is no slot map', () => {
    for (const text of ['', '{}', 'null', '{"version":1,"shards":[],"slots":[[0,1,0,1]]}']) {
      assert.throws(() => parseSlotMap(text), text);
    }
  });
});
