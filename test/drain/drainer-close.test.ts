import assert from 'node:assert/strict';
import { setTimeout as sleep } from 'node:timers/promises';

import { formatFact } from '../../billing/usage-fact.ts';
import { commitBatch, parseEntries } from '../../drain/batch.ts';
import { type Db, inTransaction, openDb } from '../../store/db.ts';
import { selectRow, selectRows } from '../../store/query.ts';
import { openCursor } from '../../store/stream-cursors.ts';
import { postUsage } from '../../store/usage-batch.ts';
import { type Party, seedParty, seedWorld, type World } from '../store/fixture.ts';
import { type TestDatabase, testDatabase } from '../support/postgres.ts';
import { assertConserved, rollupsOf, SHARD, usageFact } from './drainer-fixture.ts';

const INTERLEAVINGS = 500;
const STREAM = { shard: SHARD, incarnation: 1 };

describe('drain/drainer › close and drain exclude each other', () => {
  let database: TestDatabase;
  let db: Db;
  let world: World;

  before(async () => {
    database = await testDatabase();
    db = openDb(database.url, { poolMax: 6 });
    await db('shards').insert({ name: SHARD, url: 'redis://127.0.0.1:1' });
    world = await seedWorld(db);
  });
  after(async () => {
    await db.destroy();
    await database.drop();
  });

  /** What a close does: lock the period, read what it has, bill it, close it. Gives the two quantities that it billed. */
  const finalize = (
    periodId: string,
    pauseMs: number,
  ): Promise<{ readonly own: bigint; readonly adjusting: bigint }> =>
    inTransaction(db, async (tx) => {
      await tx.raw('SELECT 1 FROM periods WHERE id = ? FOR UPDATE', [periodId]);
      const sum = await selectRow<{ own: bigint; adjusting: bigint }>(
        tx,
        `SELECT coalesce(sum(r.quantity) FILTER (WHERE r.adjusts_period_id = ''), 0) AS own,
           coalesce(sum(r.quantity) FILTER (WHERE r.adjusts_period_id <> ''), 0) AS adjusting
         FROM usage_rollups r JOIN segments s ON s.id = r.segment_id WHERE s.period_id = ?`,
        [periodId],
      );
      await sleep(pauseMs);
      await tx('periods')
        .where({ id: periodId })
        .update({ state: 'closed', closed_at: tx.fn.now() });
      return sum ?? { own: 0n, adjusting: 0n };
    });

  let streamId = 0;
  const entriesOf = (party: Party, count: number): { id: string; fact: string }[] =>
    Array.from({ length: count }, () => {
      streamId += 1;
      return { id: `${streamId}-0`, fact: formatFact(usageFact(world, party)) };
    });

  /** Two batches, one after the other, beside one close that begins at a moment of its own. */
  const interleave = async (
    party: Party,
    delays: { readonly drainMs: number; readonly closeMs: number; readonly pauseMs: number },
  ): Promise<bigint> => {
    const batches = [entriesOf(party, 3), entriesOf(party, 2)];
    const draining = async (): Promise<void> => {
      await sleep(delays.drainMs);
      for (const entries of batches) {
        const fromId = await openCursor(db, STREAM);
        await commitBatch(db, {
          stream: STREAM,
          fromId,
          entries: parseEntries(entries),
          beforeCommit: () => sleep(delays.pauseMs),
        });
      }
    };
    const closing = async (): ReturnType<typeof finalize> => {
      await sleep(delays.closeMs);
      return finalize(party.periods[0]?.periodId ?? '', delays.pauseMs);
    };
    const [, billed] = await Promise.all([draining(), closing()]);
    return billed.own;
  };

  it(`holds in ${INTERLEAVINGS} interleavings: every event is billed or adjusts, and none is both`, async () => {
    const outcomes = new Map<bigint, number>();
    for (let run = 0; run < INTERLEAVINGS; run += 1) {
      const party = await seedParty(db, world);
      const billed = await interleave(party, {
        drainMs: run % 7,
        closeMs: (run * 5) % 23,
        pauseMs: run % 3,
      });
      outcomes.set(billed, (outcomes.get(billed) ?? 0) + 1);
      const rollups = await rollupsOf(db, party);
      const inClosed = rollups.filter(({ adjusts }) => adjusts === '');
      const adjusting = rollups.filter(({ adjusts }) => adjusts !== '');
      const sum = (rows: typeof rollups): bigint =>
        rows.reduce((total, row) => total + row.quantity, 0n);
      // What lies in the closed segment is what the close saw: nothing came behind its back.
      assert.equal(sum(inClosed), billed);
      assert.equal(billed + sum(adjusting), 5n);
      for (const row of adjusting) {
        assert.equal(row.adjusts, party.periods[0]?.periodId);
        assert.equal(row.segmentId, party.periods[1]?.segmentId);
      }
      if (run % 50 === 49) await assertConserved(db);
    }
    await assertConserved(db);
    const events = await selectRows(db, 'SELECT 1 FROM usage_events');
    assert.equal(events.length, INTERLEAVINGS * 5);
    // The delays are worth something only if the close came before, between and after the batches.
    assert.deepEqual(
      [0n, 3n, 5n].filter((billed) => !outcomes.has(billed)),
      [],
      String([...outcomes]),
    );
  }).timeout(240_000);

  it('moves on when the period that late use was to go to closes at the same time', async () => {
    const places = new Set<boolean>();
    for (let run = 0; run < 60; run += 1) {
      const party = await seedParty(db, world);
      const [first, second, third] = party.periods;
      await finalize(first?.periodId ?? '', 0);
      const fromId = await openCursor(db, STREAM);
      const entries = entriesOf(party, 2);
      const [, billed] = await Promise.all([
        sleep(run % 6).then(() =>
          commitBatch(db, { stream: STREAM, fromId, entries: parseEntries(entries) }),
        ),
        sleep((run * 5) % 11).then(() => finalize(second?.periodId ?? '', run % 4)),
      ]);
      const [row, ...others] = await rollupsOf(db, party);
      assert.deepEqual([row?.adjusts, row?.quantity, others], [first?.periodId, 2n, []]);
      // Either the close saw all of it, or it lies in the period after.
      const isInSecond = row?.segmentId === second?.segmentId;
      assert.ok(isInSecond || row?.segmentId === third?.segmentId);
      assert.deepEqual(billed, { own: 0n, adjusting: isInSecond ? 2n : 0n });
      places.add(isInSecond);
    }
    assert.equal(places.size, 2, 'only one order came about');
  });

  it('opens one late period when several drains bring the first usage after an end', async () => {
    for (let run = 0; run < 40; run += 1) {
      const parties = [await seedParty(db, world), await seedParty(db, world)];
      for (const { periods } of parties) {
        for (const { periodId } of periods) await finalize(periodId, 0);
      }
      // Each brings both, in an order of its own; one of the late periods closes meanwhile.
      const brought = [parties, parties.toReversed(), parties].map((order, index) =>
        sleep((run * (index + 3)) % 5).then(() =>
          inTransaction(db, (tx) =>
            postUsage(
              tx,
              order.map((party) => usageFact(world, party)),
            ),
          ),
        ),
      );
      const closing = sleep(run % 7).then(async () => {
        const id = await db('periods')
          .where({ subscription_id: parties[0]?.subscriptionId, is_late: true, state: 'open' })
          .first('id');
        return id === undefined ? { adjusting: 0n } : finalize(String(id.id), run % 3);
      });
      const [billed] = await Promise.all([closing, ...brought]);
      for (const [index, party] of parties.entries()) {
        const { subscriptionId: subscription_id } = party;
        const late = await db('periods').where({ subscription_id, is_late: true });
        const open = late.filter(({ state }) => state === 'open');
        const rows = await rollupsOf(db, party);
        assert.equal(
          rows.reduce((sum, row) => sum + row.quantity, 0n),
          3n,
        );
        const closed = index === 0 ? billed.adjusting : 0n;
        assert.equal(open.length, closed === 3n ? 0 : 1);
        assert.equal(late.length, (closed === 0n ? 0 : 1) + open.length);
      }
    }
  });
});
