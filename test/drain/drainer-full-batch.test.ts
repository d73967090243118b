import assert from 'node:assert/strict';

import type { UsageFact } from '../../billing/usage-fact.ts';
import {
  assertConserved,
  type Bench,
  countEvents,
  drainAll,
  giveCredits,
  openBench,
  rollupsOf,
  usageFact,
} from './drainer-fixture.ts';

/** More facts than one read of the stream brings, and than Postgres is sent at once. */
const FACTS = 2_600;
const MICRO = 1_000_000;

describe('drain/drainer › a full batch', function batch() {
  this.timeout(60_000);
  let bench: Bench;
  before(async () => {
    bench = await openBench();
  });
  after(async () => bench.close());

  it('is one transaction, however many reads and statements it takes', async () => {
    const party = await bench.party();
    const { bucketId } = await giveCredits(bench.db, party, {
      key: 'full',
      micro: BigInt(FACTS * MICRO),
    });
    const facts = Array.from({ length: FACTS }, (_, index): UsageFact =>
      usageFact(bench.world, party, {
        quantities: [{ meter: 'api_calls', quantity: 1 + (index % 3) }],
        takes: index % 2 === 0 ? [{ bucketId, micro: MICRO }] : [],
      }),
    );
    await bench.add(facts);
    const first = (await drainAll(bench)).stats();
    assert.deepEqual([first.batches, first.entries, first.events], [1, FACTS, FACTS]);

    // All of them again, with some that are new between them: a repeat is found in every part of the batch.
    const fresh = Array.from({ length: 30 }, () => usageFact(bench.world, party));
    const mixed = facts.flatMap((fact, index) => {
      const one = index % 100 === 0 ? fresh[index / 100] : undefined;
      return one === undefined ? [fact] : [fact, one, fact];
    });
    await bench.add(mixed);
    const second = (await drainAll(bench)).stats();
    const added = Math.ceil(FACTS / 100);
    assert.deepEqual(
      [second.batches, second.entries, second.events, second.duplicates, second.parked],
      [1, mixed.length, added, mixed.length - added, 0],
    );
    assert.equal(await countEvents(bench.db), FACTS + added);
    const quantity = facts.reduce((sum, fact) => sum + (fact.quantities[0]?.quantity ?? 0), added);
    const [rollup] = await rollupsOf(bench.db, party);
    assert.deepEqual([rollup?.quantity, rollup?.events], [BigInt(quantity), BigInt(FACTS + added)]);
    await assertConserved(bench.db);
  });
});
