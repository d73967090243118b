import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';

import type { StreamFact } from '../../billing/usage-fact.ts';
import { commitBatch, parseEntries } from '../../drain/batch.ts';
import type { Failpoint } from '../../drain/drainer.ts';
import { CursorLost, openCursor } from '../../store/stream-cursors.ts';
import { walletBalances } from '../../store/wallets.ts';
import type { Party } from '../store/fixture.ts';
import {
  assertConserved,
  type Bench,
  drainAll,
  giveCredits,
  openBench,
  rollupsOf,
  SHARD,
  usageFact,
} from './drainer-fixture.ts';

const CHILD = fileURLToPath(new URL('drainer-child.ts', import.meta.url));

describe('drain/drainer › whatever dies when', () => {
  let bench: Bench;
  let party: Party;
  let bucketId: string;

  beforeEach(async () => {
    bench = await openBench();
    party = await bench.party();
    ({ bucketId } = await giveCredits(bench.db, party, { key: 'g', micro: 500_000_000n }));
  });
  afterEach(async () => {
    await bench.close();
  });

  /** `count` calls, each a credit; every fifth is sent twice, and a tenth of a credit expires after each tenth. */
  const facts = (count: number): readonly StreamFact[] =>
    Array.from({ length: count }, () =>
      usageFact(bench.world, party, { takes: [{ bucketId, micro: 1_000_000 }] }),
    ).flatMap((fact, index): StreamFact[] => {
      const expired = {
        kind: 'expired' as const,
        subscriberId: party.subscriberId,
        bucketId,
        micro: 100_000,
        atMs: 1,
      };
      if (index % 10 === 9) return [fact, expired];
      return index % 5 === 4 ? [fact, fact] : [fact];
    });

  const assertExactlyOnce = async (count: number): Promise<void> => {
    await assertConserved(bench.db);
    const [rollup] = await rollupsOf(bench.db, party);
    assert.deepEqual([rollup?.quantity, rollup?.events], [BigInt(count), BigInt(count)]);
    const [balance] = await walletBalances(bench.db, party.subscriberId);
    assert.equal(balance?.spent, BigInt(count) * 1_000_000n);
    assert.equal(balance?.expired, BigInt(Math.floor(count / 10)) * 100_000n);
    assert.equal(await bench.link.streamLength(), 0);
  };

  const killedAt = async (failpoint: Failpoint, batch: number): Promise<void> => {
    const child = spawn(
      process.execPath,
      [CHILD, bench.database.url, bench.redis.url, failpoint, String(batch)],
      {
        stdio: 'ignore',
      },
    );
    const [, signal] = await once(child, 'exit');
    assert.equal(signal, 'SIGKILL');
  };

  for (const failpoint of ['before_tx', 'before_commit', 'after_commit'] as const) {
    it(`has each effect once when the process is killed three times at ${failpoint}`, async () => {
      await bench.add(facts(60));
      for (const batch of [1, 2, 3]) await killedAt(failpoint, batch);
      if (failpoint === 'after_commit') {
        const cursor = await openCursor(bench.db, { shard: SHARD, incarnation: 1 });
        assert.notEqual(cursor, '0-0');
        // Committed by the third, and in the stream still: what a trim that never came leaves behind.
        assert.ok((await bench.stream.xrange('tb:u', cursor, cursor)).length === 1);
      }
      await drainAll(bench, { batchMax: 7 });
      await assertExactlyOnce(60);
    });
  }

  it('commits a batch once when two who both believe to be the only one commit it', async () => {
    const stream = { shard: SHARD, incarnation: 1 };
    await openCursor(bench.db, stream);
    const ids = await bench.add(facts(20));
    const entries = await bench.link.readStream('0-0', 1_000, 0);
    assert.equal(entries.length, ids.length);
    for (const chunk of [entries.slice(0, 12), entries.slice(12)]) {
      const fromId = await openCursor(bench.db, stream);
      const results = await Promise.allSettled(
        Array.from({ length: 4 }, () =>
          commitBatch(bench.db, { stream, fromId, entries: parseEntries(chunk) }),
        ),
      );
      const refused = results.flatMap((result) =>
        result.status === 'rejected' ? [result.reason] : [],
      );
      assert.equal(refused.length, 3);
      for (const reason of refused) assert.ok(reason instanceof CursorLost);
    }
    await bench.link.trimStream(`${Date.now() + 1_000}-0`);
    await assertExactlyOnce(20);
  });

  it('hands over to the one that waits when the active one stops or loses its session', async () => {
    const first = bench.drainer({ batchMax: 5 });
    await first.idle();
    const second = bench.drainer({ batchMax: 5 });
    await bench.add(facts(30));
    await first.idle();
    assert.equal(second.stats().entries, 0);
    const add = bench.add(facts(30));
    await bench.db.raw(
      "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'tollbook-lock-drain:a' AND datname = current_database()",
    );
    await add;
    while ((await bench.link.streamLength()) > 0) await sleep(20);
    await first.stop();
    await bench.add(facts(30));
    await second.idle();
    assert.ok(second.stats().isActive);
    await second.stop();
    await assertExactlyOnce(90);
  });

  it('loses nothing while Postgres drops its sessions and the shard is killed', async () => {
    const drainer = bench.drainer({ batchMax: 5 });
    await drainer.idle();
    const all = facts(200);
    for (let at = 0; at < all.length; at += 40) {
      await bench.add(all.slice(at, at + 40));
      await bench.db
        .raw(
          'SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()',
        )
        .catch(() => {});
      if (at === 80) {
        await bench.redis.kill9();
        await bench.redis.restart();
      }
    }
    while ((await bench.link.streamLength().catch(() => 1)) > 0) await sleep(20);
    await drainer.stop();
    await assertExactlyOnce(200);
  });

  it('says when the stream is overfull, and when it is not any more', async () => {
    const told: boolean[] = [];
    await bench.add(facts(30));
    const stuck = bench.drainer({
      streamMax: 20,
      batchMax: 5,
      link: {
        ...bench.link,
        writeFull: (isFull) => Promise.resolve(told.push(isFull)),
      },
      failpoint: async () => {
        while (!told.includes(true)) await sleep(10);
      },
    });
    while (told.at(-1) !== false) await sleep(20);
    await stuck.stop();
    assert.deepEqual(told, [true, false]);
    await assertExactlyOnce(30);
  });
});
