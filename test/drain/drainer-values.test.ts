/** What a sum cannot carry, from the stream to the quantity that is billed. */
import assert from 'node:assert/strict';

import fc from 'fast-check';

import type { Aggregation } from '../../billing/plan.ts';
import { aggregate } from '../../billing/rate.ts';
import type { UsageFact } from '../../billing/usage-fact.ts';
import { insertExternalEvents } from '../../store/external-events.ts';
import { newId } from '../../store/ids.ts';
import { postUsage } from '../../store/usage-batch.ts';
import { usageForInterval } from '../../store/usage.ts';
import { type Party, write } from '../store/fixture.ts';
import { assertConserved, type Bench, drainAll, openBench, usageFact } from './drainer-fixture.ts';

const HOUR_MS = 3_600_000;
const span = { startMs: Date.UTC(2025, 0, 1), endMs: Date.UTC(2025, 1, 1) };

describe('drain/drainer › distinct values and levels', () => {
  let bench: Bench;
  let party: Party;

  before(async () => {
    bench = await openBench();
    for (const [lookup_id, aggregation] of [
      ['users', 'UNIQUE_COUNT'],
      ['seats', 'WEIGHTED_SUM'],
    ]) {
      const words = { name: lookup_id, unit_one: 'one', unit_other: 'some' };
      const row = { id: newId('mtr'), environment: 'test', lookup_id, aggregation, ...words };
      await bench.db('meters').insert(row);
    }
  });
  beforeEach(async () => {
    party = await bench.party();
  });
  afterEach(() => assertConserved(bench.db));
  after(() => bench.close());

  const fact = (meter: string, quantity: number, over: Partial<UsageFact> = {}): UsageFact =>
    usageFact(bench.world, party, { quantities: [{ meter, quantity }], ...over });
  const post = (facts: readonly UsageFact[]) => write(bench.db, (tx) => postUsage(tx, facts));

  async function counted(meter: string, interval = 0): Promise<bigint> {
    const rows = await usageForInterval(bench.db, party.subscriptionId, interval);
    const ofMeter = rows.filter((row) => row.meterKey === meter);
    const aggregation: Aggregation = ofMeter[0]?.aggregation ?? 'SUM';
    return aggregate(ofMeter, aggregation, span);
  }

  /** Use from outside, as the API writes it down and the shard's stream then tells it. */
  async function fromOutside(
    values: readonly string[],
    over: Partial<UsageFact> = {},
  ): Promise<readonly UsageFact[]> {
    const quantities = (value: string) => [{ meter: 'users', quantity: 1, value }];
    const inserted = await write(bench.db, (tx) =>
      insertExternalEvents(
        tx,
        values.map((value, index) => ({
          environment: 'test',
          source: 'api',
          id: `${party.subscriberId}-${index}-${value}`,
          subscriberId: party.subscriberId,
          usage: { product_id: bench.world.productId, at_ms: 0, quantities: quantities(value) },
        })),
        new Date('2025-01-02T00:00:00Z'),
      ),
    );
    return inserted.map(({ opId }) =>
      fact('users', 1, { opId, keyId: '', flags: ['external'], ...over }),
    );
  }

  it('counts the keys of requests, however often each comes, is resent or drained again', async () => {
    const keys = [newId('key'), newId('key'), newId('key')];
    const facts = keys.flatMap((keyId) => [
      fact('users', 1, { keyId }),
      fact('users', 5, { keyId }),
    ]);
    await bench.add([...facts, ...facts]);
    await drainAll(bench);
    await bench.add([facts[0] ?? fact('users', 1), fact('users', 1, { keyId: keys[2] ?? '' })]);
    await drainAll(bench);
    assert.equal(await counted('users'), 3n);
    const rows = await bench.db('usage_values').where({ subscription_id: party.subscriptionId });
    assert.equal(rows.length, 3);
  });

  it('counts the values that senders of use from outside gave, apart from every key', async () => {
    await post([...(await fromOutside(['ada', 'grace', 'ada'])), fact('users', 1)]);
    assert.equal(await counted('users'), 3n);
    assert.equal((await post(await fromOutside(['grace', 'ada']))).inserted, 2);
    assert.equal(await counted('users'), 3n);
  });

  it('weighs each level by its time, and stores one only for each event', async () => {
    const at = (day: number) => ({ atMs: Date.UTC(2025, 0, day) });
    const facts = [fact('seats', 31, at(1)), fact('seats', 62, at(11)), fact('seats', 0, at(31))];
    await post(facts);
    await post(facts);
    // 31 for 10 days, 62 for 20, none for the last: 1,550 of 31.
    assert.equal(await counted('seats'), 50n);
    const rows = await bench.db('usage_levels').where({ subscription_id: party.subscriptionId });
    assert.equal(rows.length, 3);
  });

  it('writes nothing of it down for other meters', async () => {
    await post([fact('api_calls', 7), fact('tokens', 9)]);
    for (const table of ['usage_values', 'usage_levels']) {
      const rows = await bench.db(table).where({ subscription_id: party.subscriptionId });
      assert.deepEqual(rows, []);
    }
  });

  it('keeps what came too late apart, by the period that it belongs to', async () => {
    const [first, second] = party.periods;
    await post([fact('users', 1, { keyId: 'key_a' }), fact('seats', 31)]);
    await bench
      .db('periods')
      .where({ id: first?.periodId })
      .update({ state: 'closed', closed_at: new Date() });
    await post([
      fact('users', 1, { keyId: 'key_a' }),
      fact('users', 1, { keyId: 'key_b' }),
      fact('seats', 62, { atMs: Date.UTC(2025, 0, 31) }),
    ]);
    const rows = await usageForInterval(bench.db, party.subscriptionId, 1);
    assert.ok(rows.every((row) => row.adjustsPeriodId === first?.periodId));
    assert.ok(rows.every((row) => row.segmentId === second?.segmentId));
    const late = rows.filter((row) => row.meterKey === 'users');
    const own = (await usageForInterval(bench.db, party.subscriptionId, 0)).filter(
      (row) => row.meterKey === 'users',
    );
    assert.equal(aggregate(late, 'UNIQUE_COUNT'), 2n);
    assert.equal(aggregate([...own, ...late], 'UNIQUE_COUNT'), 2n);
    const levels = rows.flatMap((row) => row.levels ?? []);
    assert.deepEqual(levels, [{ atMs: Date.UTC(2025, 0, 31), quantity: 62n }]);
  });

  it('gives the same, however the events are batched, ordered and repeated', async () => {
    const event = fc.record({
      key: fc.constantFrom('key_a', 'key_b', 'key_c', 'key_d'),
      level: fc.nat(1_000),
      hours: fc.nat(743),
    });
    await fc.assert(
      fc.asyncProperty(
        fc.uniqueArray(event, { minLength: 1, maxLength: 12, selector: ({ hours }) => hours }),
        fc.integer({ min: 1, max: 5 }),
        async (events, size) => {
          party = await bench.party();
          const facts = events.flatMap(({ key, level, hours }) => {
            const atMs = span.startMs + hours * HOUR_MS;
            return [fact('users', 1, { keyId: key, atMs }), fact('seats', level, { atMs })];
          });
          const batches = Array.from({ length: Math.ceil(facts.length / size) }, (_, index) =>
            facts.slice(index * size, (index + 1) * size),
          );
          // Two drains at once, as when one takes over from another that is still at work.
          await Promise.all([...batches, ...batches.toReversed()].map(post));
          assert.equal(await counted('users'), BigInt(new Set(events.map(({ key }) => key)).size));
          const ordered = events.toSorted((a, b) => a.hours - b.hours);
          const area = ordered.reduce(
            (sum, { level, hours }, index) =>
              sum + level * ((ordered[index + 1]?.hours ?? 744) - hours),
            0,
          );
          assert.equal(await counted('seats'), BigInt(Math.round(area / 744)));
        },
      ),
      { numRuns: 25, endOnFailure: true },
    );
  });
});
