import assert from 'node:assert/strict';

import fc from 'fast-check';

import { type Db, openDb } from '../../store/db.ts';
import { ensureDayPartition } from '../../store/day-partitions.ts';
import { numberArray, textArray } from '../../store/pg-array.ts';
import { selectRow, selectRows } from '../../store/query.ts';
import { advanceCursor, CursorLost, openCursor } from '../../store/stream-cursors.ts';
import { isDrained, listUsageEvents, usageForInterval } from '../../store/usage.ts';
import { postUsage } from '../../store/usage-batch.ts';
import { usageFact } from '../drain/drainer-fixture.ts';
import { type TestDatabase, testDatabase } from '../support/postgres.ts';
import { until } from '../support/until.ts';
import { type Party, seedParty, seedWorld, type World, write } from './fixture.ts';

describe('store/usage', () => {
  let database: TestDatabase;
  let db: Db;
  let world: World;
  let party: Party;

  before(async () => {
    database = await testDatabase();
    db = openDb(database.url);
    world = await seedWorld(db);
    party = await seedParty(db, world);
    await db('shards').insert({ name: 'a', url: 'redis://127.0.0.1:1' });
  });
  after(async () => {
    await db.destroy();
    await database.drop();
  });

  describe('isDrained', () => {
    it('compares stream ids as numbers, within the incarnation, and takes a later one for past', async () => {
      await db('shard_cursors').insert({ shard: 'a', incarnation: 2, stream_id: '1000-9' });
      const rows: readonly (readonly [incarnation: number, streamId: string, expected: boolean])[] =
        [
          [2, '1000-9', true],
          [2, '1000-10', false],
          [2, '999-99999', true],
          [2, '1001-0', false],
          [2, '10000-0', false],
          [1, '99999-0', true],
          [3, '1-0', false],
        ];
      for (const [incarnation, streamId, expected] of rows) {
        assert.equal(
          await isDrained(db, { shard: 'a', incarnation, streamId }),
          expected,
          `${incarnation} ${streamId}`,
        );
      }
      assert.equal(await isDrained(db, { shard: 'other', incarnation: 1, streamId: '0-1' }), false);
      await db('shard_cursors').delete();
    });
  });

  describe('cursors', () => {
    afterEach(async () => {
      await db('shard_cursors').delete();
    });

    it('go on in a new incarnation, and let the earlier one commit nothing more', async () => {
      const first = { shard: 'a', incarnation: 1 };
      assert.equal(await openCursor(db, first), '0-0');
      await write(db, (tx) => advanceCursor(tx, first, { fromId: '0-0', toId: '5-0' }));
      assert.equal(await openCursor(db, { shard: 'a', incarnation: 2 }), '5-0');
      await assert.rejects(
        write(db, (tx) => advanceCursor(tx, first, { fromId: '5-0', toId: '6-0' })),
        CursorLost,
      );
      await assert.rejects(openCursor(db, first), CursorLost);
    });

    it('do not move from where they are not', async () => {
      const stream = { shard: 'a', incarnation: 1 };
      await openCursor(db, stream);
      await assert.rejects(
        write(db, (tx) => advanceCursor(tx, stream, { fromId: '4-0', toId: '6-0' })),
        CursorLost,
      );
      assert.equal(await openCursor(db, stream), '0-0');
    });
  });

  describe('ensureDayPartition', () => {
    it('makes a partition once, with the indexes and checks of the table, and events go there', async () => {
      await Promise.all(Array.from({ length: 4 }, () => ensureDayPartition(db, '20250102')));
      const fact = usageFact(world, party);
      await write(db, (tx) => postUsage(tx, [fact]));
      const row = await selectRow(
        db,
        'SELECT tableoid::regclass::text AS place FROM usage_events WHERE event_id = ?',
        [fact.opId],
      );
      assert.deepEqual(row, { place: 'usage_events_20250102' });
      const indexes = await selectRows(
        db,
        "SELECT 1 FROM pg_indexes WHERE tablename = 'usage_events_20250102'",
      );
      assert.equal(indexes.length, 3);
    });

    it('leaves a day alone that has events in the default partition already', async () => {
      const fact = usageFact(world, party, { opId: '20250103-gw0001-zz' });
      await write(db, (tx) => postUsage(tx, [fact]));
      await assert.rejects(ensureDayPartition(db, '20250103'), /would be violated/);
      const row = await selectRow(db, 'SELECT 1 AS found FROM usage_events WHERE event_id = ?', [
        fact.opId,
      ]);
      assert.deepEqual(row, { found: 1 });
    });

    it('takes a day and nothing else', async () => {
      await assert.rejects(ensureDayPartition(db, '20250103; DROP TABLE subscribers'), RangeError);
    });
  });

  describe('postUsage', () => {
    it('passes over an event that another transaction commits while it waits for it', async () => {
      const [shared, mine] = [usageFact(world, party), usageFact(world, party)];
      const firstHasIt = Promise.withResolvers<void>();
      const commit = Promise.withResolvers<void>();
      const first = write(db, async (tx) => {
        await postUsage(tx, [shared]);
        firstHasIt.resolve();
        await commit.promise;
      });
      await firstHasIt.promise;
      const second = write(db, (tx) => postUsage(tx, [shared, mine]));
      await until(() =>
        selectRow(
          db,
          `SELECT 1 AS found FROM pg_stat_activity
           WHERE wait_event = 'transactionid' AND datname = current_database() AND query LIKE 'COPY usage_events%'`,
        ),
      );
      commit.resolve();
      await first;
      const { inserted, duplicates } = await second;
      assert.deepEqual({ inserted, duplicates }, { inserted: 1, duplicates: 1 });
    });

    it('keeps every instant that a fact may carry to the millisecond', async () => {
      const instants = [0, Date.UTC(2025, 0, 2, 3, 4, 5, 678), 999_999_999_999_999];
      const facts = instants.map((atMs) => usageFact(world, party, { atMs }));
      await write(db, (tx) => postUsage(tx, facts));
      const rows = await selectRows<{ ms: bigint }>(
        db,
        `SELECT (extract(epoch FROM occurred_at) * 1000)::bigint AS ms FROM usage_events
         WHERE event_id = ANY (?::text[]) ORDER BY ms`,
        [textArray(facts.map(({ opId }) => opId))],
      );
      assert.deepEqual(
        rows.map(({ ms }) => ms),
        instants.map(BigInt),
      );
    });
  });

  describe('listUsageEvents and usageForInterval', () => {
    let other: Party;
    const total = 23;

    before(async () => {
      party = await seedParty(db, world);
      other = await seedParty(db, world);
      const facts = Array.from({ length: total }, (_, index) =>
        usageFact(world, party, {
          // Several share an instant, so that the cursor must tell them apart by id.
          atMs: Date.UTC(2025, 0, 2, Math.floor(index / 5)),
          quantities: [{ meter: index % 2 === 0 ? 'api_calls' : 'tokens', quantity: index }],
        }),
      );
      await write(db, (tx) => postUsage(tx, [...facts, usageFact(world, other)]));
    });

    it('gives each event once, newest first, whatever the size of a page', async () => {
      for (const limit of [1, 4, 5, 23, 100]) {
        const seen: string[] = [];
        let cursor: string | undefined;
        do {
          const page = await listUsageEvents(db, {
            environment: 'test',
            subscriberId: party.subscriberId,
            cursor,
            limit,
          });
          assert.ok(page.events.length <= limit);
          seen.push(
            ...page.events.map((event) => `${event.occurredAt.toISOString()} ${event.eventId}`),
          );
          cursor = page.nextCursor ?? undefined;
        } while (cursor !== undefined);
        assert.equal(new Set(seen).size, total);
        assert.deepEqual(
          seen,
          seen.toSorted((a, b) => (a < b ? 1 : -1)),
        );
      }
    });

    it('narrows by every filter', async () => {
      const count = async (over: object): Promise<number> =>
        (
          await listUsageEvents(db, {
            environment: 'test',
            subscriptionId: party.subscriptionId,
            limit: 100,
            ...over,
          })
        ).events.length;
      assert.equal(await count({}), total);
      assert.equal(await count({ environment: 'live' }), 0);
      assert.equal(await count({ meterId: world.meterIds.tokens }), 11);
      assert.equal(await count({ periodId: party.periods[0]?.periodId }), total);
      assert.equal(await count({ periodId: party.periods[1]?.periodId }), 0);
      assert.equal(await count({ fromAt: new Date(Date.UTC(2025, 0, 2, 1)) }), total - 5);
      assert.equal(await count({ untilAt: new Date(Date.UTC(2025, 0, 2, 1)) }), 5);
      assert.equal(await count({ subscriberId: other.subscriberId }), 0);
    });

    it('gives quantities as integers that are exact', async () => {
      const most = usageFact(world, other, {
        quantities: [{ meter: 'tokens', quantity: 999_999_999_999_999 }],
      });
      await write(db, (tx) => postUsage(tx, [most]));
      const page = await listUsageEvents(db, {
        environment: 'test',
        subscriberId: other.subscriberId,
        limit: 1,
      });
      assert.deepEqual(page.events[0]?.quantities, [
        { meterId: world.meterIds.tokens, quantity: 999_999_999_999_999n },
      ]);
    });

    it('refuses a cursor that it did not give', async () => {
      for (const cursor of ['', 'x', Buffer.from('2025-01-01 x').toString('base64url')]) {
        await assert.rejects(
          listUsageEvents(db, { environment: 'test', cursor, limit: 1 }),
          RangeError,
        );
      }
    });

    it('sums an interval by hour and meter', async () => {
      const rows = await usageForInterval(db, party.subscriptionId, 0);
      const sum = rows.reduce((all, row) => all + row.quantity, 0n);
      assert.equal(sum, BigInt((total * (total - 1)) / 2));
      assert.equal(
        rows.reduce((all, row) => all + row.eventCount, 0n),
        BigInt(total),
      );
      assert.deepEqual(
        [...new Set(rows.map((row) => row.meterKey))].toSorted((a, b) => (a < b ? -1 : 1)),
        ['api_calls', 'tokens'],
      );
      assert.deepEqual(await usageForInterval(db, party.subscriptionId, 1), []);
    });
  });

  describe('pg-array', () => {
    it('carries any text and number unchanged', async () => {
      await fc.assert(
        fc.asyncProperty(
          fc.array(
            fc.option(fc.string({ unit: 'grapheme' }).filter((text) => !text.includes('\0'))),
          ),
          fc.array(fc.option(fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n }))),
          async (texts, numbers) => {
            const row = await selectRow<{ texts: unknown; numbers: readonly (string | null)[] }>(
              db,
              'SELECT ?::text[] AS texts, ?::bigint[]::text[] AS numbers',
              [textArray(texts), numberArray(numbers)],
            );
            assert.deepEqual(row?.texts, texts);
            assert.deepEqual(
              row?.numbers,
              numbers.map((number) => number?.toString() ?? null),
            );
          },
        ),
        { numRuns: 100 },
      );
    });
  });
});
