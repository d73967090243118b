import assert from 'node:assert/strict';
import { setTimeout as sleep } from 'node:timers/promises';

import fc from 'fast-check';

import { aggregate } from '../../billing/rate.ts';
import type { UsageFact } from '../../billing/usage-fact.ts';
import { type Db, inTransaction, openDb } from '../../store/db.ts';
import { newId } from '../../store/ids.ts';
import { selectRows } from '../../store/query.ts';
import { postUsage } from '../../store/usage-batch.ts';
import {
  correctUsageEvent,
  listCorrections,
  type CorrectionRequest,
} from '../../store/usage-corrections.ts';
import { usageBilledLater, usageForInterval, type UsageRow } from '../../store/usage.ts';
import { assertConserved, giveCredits, usageFact } from '../drain/drainer-fixture.ts';
import { type TestDatabase, testDatabase } from '../support/postgres.ts';
import { type Party, seedParty, seedWorld, type World, write } from './fixture.ts';

describe('store/usage-corrections', () => {
  let database: TestDatabase;
  let db: Db;
  let world: World;

  before(async () => {
    database = await testDatabase();
    db = openDb(database.url, { poolMax: 12 });
    world = await seedWorld(db);
    for (const aggregation of ['COUNT', 'MAX', 'LATEST', 'UNIQUE_COUNT', 'WEIGHTED_SUM']) {
      const words = { name: aggregation, unit_one: 'one', unit_other: 'some' };
      const lookup_id = aggregation.toLowerCase();
      const row = { id: newId('mtr'), environment: 'test', lookup_id, aggregation, ...words };
      await db('meters').insert(row);
    }
  });
  after(async () => {
    await db.destroy();
    await database.drop();
  });

  async function used(party: Party, over: Partial<UsageFact> = {}): Promise<string> {
    const fact = usageFact(world, party, over);
    const outcome = await write(db, (tx) => postUsage(tx, [fact]));
    assert.equal(outcome.inserted, 1);
    return fact.opId;
  }
  const one = (meter: string, quantity: number): Partial<UsageFact> => ({
    quantities: [{ meter, quantity }],
  });

  async function meterId(lookup_id: string): Promise<string> {
    const row = await db('meters').where({ lookup_id }).first('id');
    return String(row?.id);
  }

  function correct(eventId: string, request: CorrectionRequest, environment = 'test') {
    return write(db, (tx) =>
      correctUsageEvent(tx, {
        ...{ environment, eventId, request },
        ...{ reason: 'counted twice', actor: 'token:tok_1' },
      }),
    );
  }
  const to = (quantity: bigint, id = world.meterIds.api_calls): CorrectionRequest => ({
    kind: 'quantities',
    quantities: [{ meterId: id, quantity }],
  });
  const nothing: CorrectionRequest = { kind: 'void' };

  /** What a close does: lock the period, read what it bills, close it. */
  function finalize(party: Party, index: number, pauseMs = 0): Promise<readonly UsageRow[]> {
    const periodId = party.periods[index]?.periodId ?? '';
    return inTransaction(db, async (tx) => {
      await tx.raw('SELECT 1 FROM periods WHERE id = ? FOR UPDATE', [periodId]);
      const rows = await usageForInterval(tx, party.subscriptionId, index);
      await sleep(pauseMs);
      await tx('periods')
        .where({ id: periodId })
        .update({ state: 'closed', closed_at: new Date() });
      return rows;
    });
  }

  const sums = (rows: readonly UsageRow[]): readonly [bigint, bigint] => [
    aggregate(rows, 'SUM'),
    aggregate(rows, 'COUNT'),
  ];
  const inInterval = async (party: Party, index: number): Promise<readonly [bigint, bigint]> =>
    sums(await usageForInterval(db, party.subscriptionId, index));

  it('is billed in the event’s own period while that is open, and leaves the event as it was', async () => {
    const party = await seedParty(db, world);
    const eventId = await used(party, one('api_calls', 10));
    await used(party, one('api_calls', 5));
    assert.deepEqual(await correct(eventId, to(4n)), { kind: 'corrected' });
    assert.deepEqual(await inInterval(party, 0), [9n, 2n]);
    const [row] = (await usageForInterval(db, party.subscriptionId, 0)).filter(
      (each) => each.quantity < 0n,
    );
    assert.deepEqual(
      [row?.periodId, row?.adjustsPeriodId, row?.quantity, row?.eventCount],
      [party.periods[0]?.periodId, '', -6n, 0n],
    );
    const event = await db('usage_events').where({ event_id: eventId }).first('quantities');
    assert.deepEqual(event.quantities, ['10']);
    await assertConserved(db);
  });

  it('chains: each starts from what the one before left, and a voided event can count again', async () => {
    const party = await seedParty(db, world);
    const eventId = await used(party, {
      quantities: [
        { meter: 'api_calls', quantity: 3 },
        { meter: 'tokens', quantity: 700 },
      ],
    });
    await correct(eventId, to(2n));
    await correct(eventId, nothing);
    await correct(eventId, to(8n));
    const made = await listCorrections(db, eventId);
    const { api_calls, tokens } = world.meterIds;
    assert.deepEqual(
      made.map((each) => [
        each.meterId,
        each.quantityBefore,
        each.quantityAfter,
        each.eventCountDelta,
      ]),
      [
        [api_calls, 3n, 2n, 0],
        ...[
          ...[
            [api_calls, 2n, 0n, -1],
            [tokens, 700n, 0n, -1],
          ],
        ].toSorted(([a], [b]) => order(made, String(a)) - order(made, String(b))),
        [api_calls, 0n, 8n, 1],
      ],
    );
    assert.deepEqual(await inInterval(party, 0), [8n, 1n]);
    assert.deepEqual([made[0]?.reason, made[0]?.actor], ['counted twice', 'token:tok_1']);
  });

  /** Two of one transaction stand in the order of their instants; which of them is first does not matter. */
  function order(made: readonly { readonly meterId: string }[], id: string): number {
    return made.findIndex((each, index) => index > 0 && each.meterId === id);
  }

  it('adjusts a closed period on the next invoice, and late use the period that it belongs to', async () => {
    const party = await seedParty(db, world);
    const [first, second, third] = party.periods;
    const inTime = await used(party, one('api_calls', 10));
    await finalize(party, 0);
    const late = await used(party, one('api_calls', 7));
    await correct(inTime, to(9n));
    await correct(late, to(5n));
    const rows = await usageForInterval(db, party.subscriptionId, 1);
    const corrections = rows.filter((row) => row.eventCount === 0n);
    assert.deepEqual(
      corrections.map((row) => [row.segmentId, row.adjustsPeriodId, row.quantity]),
      [
        [second?.segmentId, first?.periodId, -1n],
        [second?.segmentId, first?.periodId, -2n],
      ],
    );
    await finalize(party, 1);
    await correct(late, nothing);
    const [after] = await usageForInterval(db, party.subscriptionId, 2);
    assert.deepEqual(
      [after?.segmentId, after?.adjustsPeriodId, after?.quantity, after?.eventCount],
      [third?.segmentId, first?.periodId, -5n, -1n],
    );
    const billedLater = await usageBilledLater(db, party.subscriptionId, {
      ...{ periodIds: [first?.periodId ?? ''], intervalIndex: 0, beforeSeq: 2 },
    });
    assert.deepEqual(sums(billedLater), [4n, 1n]);
  });

  it('refuses, in this order, and writes nothing', async () => {
    const party = await seedParty(db, world);
    const bucket = await giveCredits(db, party, { key: 'given', micro: 5_000_000n });
    const plain = await used(party, one('api_calls', 1));
    const paid = await used(party, {
      ...one('api_calls', 1),
      takes: [{ bucketId: bucket.bucketId, micro: 1_000_000 }],
    });
    const over = await used(party, { ...one('api_calls', 1), overageMicro: 5 });
    const none = 'mtr_0000000000000000000000';
    const rows: readonly (readonly [string, CorrectionRequest, object])[] = [
      ['no id', nothing, { kind: 'unknown_event' }],
      ['20259999-gw0001-1', nothing, { kind: 'unknown_event' }],
      ['20250102-nobody-1', nothing, { kind: 'unknown_event' }],
      [plain, to(0n, none), { kind: 'unknown_meter', meterId: none }],
      [
        plain,
        to(0n, world.meterIds.tokens),
        { kind: 'unknown_meter', meterId: world.meterIds.tokens },
      ],
      [plain, to(1n), { kind: 'unchanged' }],
      [paid, to(0n), { kind: 'credits' }],
      [over, nothing, { kind: 'credits' }],
    ];
    for (const [eventId, request, expected] of rows) {
      assert.deepEqual(await correct(eventId, request), expected);
    }
    assert.deepEqual(await correct(plain, to(0n), 'live'), { kind: 'unknown_event' });
    for (const aggregation of ['MAX', 'LATEST', 'UNIQUE_COUNT', 'WEIGHTED_SUM']) {
      const meterKey = aggregation.toLowerCase();
      const eventId = await used(party, one(meterKey, 4));
      const refused = { kind: 'aggregation', meterKey, aggregation };
      assert.deepEqual(await correct(eventId, nothing), refused);
      assert.deepEqual(await correct(eventId, to(1n, await meterId(meterKey))), refused);
    }
    const found = await db('usage_corrections').where({ subscription_id: party.subscriptionId });
    assert.deepEqual(found, []);
  });

  it('takes an event out of a COUNT, once', async () => {
    const party = await seedParty(db, world);
    const eventId = await used(party, one('count', 4));
    await correct(eventId, nothing);
    assert.deepEqual(await inInterval(party, 0), [0n, 0n]);
    assert.deepEqual(await correct(eventId, nothing), { kind: 'unchanged' });
  });

  it('is counted in a late period where no other is to come: the last one is closed, and it was not before', async () => {
    const party = await seedParty(db, world);
    const eventId = await used(party, one('api_calls', 6));
    await db('periods')
      .whereIn(
        'id',
        party.periods.slice(1).map(({ periodId }) => periodId),
      )
      .update({ state: 'void' });
    assert.deepEqual(await correct(eventId, to(5n)), { kind: 'corrected' });
    await finalize(party, 0);
    assert.deepEqual(await correct(eventId, to(4n)), { kind: 'corrected' });
    const [, made] = await listCorrections(db, eventId);
    const late = await db('periods').where({
      subscription_id: party.subscriptionId,
      is_late: true,
    });
    assert.deepEqual(
      [made?.periodId, made?.adjustsPeriodId, made?.quantityAfter],
      [late[0]?.id, party.periods[0]?.periodId, 4n],
    );
    assert.deepEqual(await inInterval(party, 0), [5n, 1n]);
  });

  it('never lets twenty at once disagree: every one starts where another ended', async () => {
    const party = await seedParty(db, world);
    const eventId = await used(party, one('api_calls', 100));
    const outcomes = await Promise.all(
      Array.from({ length: 20 }, (_, index) => correct(eventId, to(BigInt(index)))),
    );
    assert.ok(outcomes.every(({ kind }) => kind === 'corrected'));
    const made = await listCorrections(db, eventId);
    assert.equal(made.length, 20);
    assert.equal(made[0]?.quantityBefore, 100n);
    for (const [index, each] of made.entries()) {
      if (index > 0) assert.equal(each.quantityBefore, made[index - 1]?.quantityAfter);
    }
    assert.deepEqual(await inInterval(party, 0), [made.at(-1)?.quantityAfter, 1n]);
  });

  it('whatever is corrected in whatever order, the sum is that of the events as they stand', async () => {
    const party = await seedParty(db, world);
    const change = fc.record({
      event: fc.nat(2),
      quantity: fc.option(fc.bigInt({ min: 0n, max: 50n }), { nil: null }),
    });
    const eventIds: string[] = [];
    for (const quantity of [1, 20, 300])
      eventIds.push(await used(party, one('api_calls', quantity)));
    const now = new Map<number, { quantity: bigint; count: bigint }>();
    for (const [index, quantity] of [1n, 20n, 300n].entries())
      now.set(index, { quantity, count: 1n });
    await fc.assert(
      fc.asyncProperty(change, async ({ event, quantity }) => {
        await correct(eventIds[event] ?? '', quantity === null ? nothing : to(quantity));
        now.set(event, { quantity: quantity ?? 0n, count: quantity === null ? 0n : 1n });
        const states = [...now.values()];
        assert.deepEqual(await inInterval(party, 0), [
          states.reduce((sum, state) => sum + state.quantity, 0n),
          states.reduce((sum, state) => sum + state.count, 0n),
        ]);
      }),
      { numRuns: 40, endOnFailure: true },
    );
  });

  it('is on exactly one invoice, whenever the close comes (60 interleavings)', async () => {
    const places = new Map<string, number>();
    for (let run = 0; run < 60; run += 1) {
      const party = await seedParty(db, world);
      const eventId = await used(party, one('api_calls', 10));
      const [billed, outcome] = await Promise.all([
        sleep((run * 5) % 7).then(() => finalize(party, 0, run % 4)),
        sleep(run % 6).then(() => correct(eventId, to(3n))),
      ]);
      assert.deepEqual(outcome, { kind: 'corrected' });
      const next = await usageForInterval(db, party.subscriptionId, 1);
      const seen = aggregate(billed, 'SUM');
      // What the close billed is what still lies in its period; the rest adjusts it.
      assert.deepEqual((await inInterval(party, 0))[0], seen);
      assert.equal(seen + aggregate(next, 'SUM'), 3n);
      assert.deepEqual(
        next.map((row) => row.adjustsPeriodId),
        seen === 3n ? [] : [party.periods[0]?.periodId],
      );
      places.set(String(seen), (places.get(String(seen)) ?? 0) + 1);
    }
    assert.deepEqual([...places.keys()].toSorted(), ['10', '3'], 'only one order came about');
  });

  it('keeps its records: nothing changes or removes one', async () => {
    const party = await seedParty(db, world);
    const eventId = await used(party, one('api_calls', 10));
    await correct(eventId, to(9n));
    await assert.rejects(
      selectRows(db, 'DELETE FROM usage_corrections WHERE event_id = ?', [eventId]),
      /append|change|never/i,
    );
  });
});
