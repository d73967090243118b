/** Usage is priced for its threshold when there is more of it, and only then. */
import assert from 'node:assert/strict';

import { cutAtThresholds, type ThresholdLook } from '../../activities/thresholds.ts';
import type { Charge } from '../../billing/plan.ts';
import { type Db, inTransaction, openDb } from '../../store/db.ts';
import { newId } from '../../store/ids.ts';
import { isThresholdReached, listWatchedPeriods, noteLooks } from '../../store/thresholds.ts';
import { postUsage } from '../../store/usage-batch.ts';
import { correctUsageEvent } from '../../store/usage-corrections.ts';
import { usageFact } from '../drain/drainer-fixture.ts';
import { begin, type Life, publish, type Terms } from '../store/life.ts';
import { type TestDatabase, testDatabase } from '../support/postgres.ts';
import { faultsOf, seedWorld, type World } from '../workflows/support/world.ts';

const start = new Date('2025-01-01T00:00:00Z');
const day = (n: number): Date => new Date(Date.UTC(2025, 0, n, 12));
const price = { model: 'per_unit', unit_price: '0.01' } as const;
const threshold = { invoice_threshold_minor: '500' } as const;

describe('activities/thresholds', () => {
  let database: TestDatabase;
  let db: Db;
  let world: World;
  const seats = { id: newId('mtr'), key: 'seats', aggregation: 'WEIGHTED_SUM' } as const;

  before(async () => {
    database = await testDatabase();
    db = openDb(database.url, { poolMax: 8 });
    world = await seedWorld(db);
    const words = { name: 'seats', unit_one: 'seat', unit_other: 'seats' };
    const { id, key, aggregation } = seats;
    await db('meters').insert({ id, environment: 'test', lookup_id: key, aggregation, ...words });
  });
  after(async () => {
    await db.destroy();
    await database.drop();
  });
  afterEach(async () => {
    assert.deepEqual(await faultsOf(db), []);
    // Each story is watched alone.
    await db('subscriptions').update({ state: 'canceled', ended_at: day(31), cancel_at: day(31) });
  });

  const living = async (terms: Terms = { price, ...threshold }): Promise<Life> =>
    begin(db, world, { planVersionId: await publish(db, world, terms), startAt: start });

  const asked: string[] = [];
  beforeEach(() => asked.splice(0));
  const look = (now: Date): Promise<ThresholdLook> =>
    cutAtThresholds(
      {
        db,
        askClose: ({ periodId }) => {
          asked.push(periodId);
          return Promise.resolve();
        },
      },
      now,
    );

  async function post(life: Life, at: Date, meter: string, quantity: number): Promise<string> {
    const { productId } = world;
    const meterIds = { api_calls: '', tokens: '' };
    const fact = usageFact(
      { productId, planId: '', planVersionId: '', meterIds },
      { ...life, apiKeyId: '', periods: [] },
      { segmentId: '', atMs: at.getTime(), quantities: [{ meter, quantity }] },
    );
    const { inserted } = await inTransaction(db, (tx) => postUsage(tx, [fact]));
    assert.equal(inserted, 1);
    return fact.opId;
  }

  it('usage that did not change is not priced again; more of it is', async () => {
    const life = await living();
    assert.deepEqual(await look(day(2)), { priced: 0, asked: 0 });
    await life.use(day(3), 498n);
    assert.deepEqual(await look(day(3)), { priced: 1, asked: 0 });
    assert.deepEqual(await look(day(4)), { priced: 0, asked: 0 });
    // In the same hour, so that no row is new.
    await life.use(day(3), 1n);
    assert.deepEqual(await look(day(4)), { priced: 1, asked: 0 });
    assert.deepEqual(await look(day(5)), { priced: 0, asked: 0 });
    await life.use(day(6), 1n);
    assert.deepEqual(await look(day(6)), { priced: 1, asked: 1 });
  });

  it('is asked for until it is cut; the rest begins a new count', async () => {
    const life = await living();
    await life.use(day(3), 600n);
    for (const n of [3, 4]) assert.deepEqual(await look(day(n)), { priced: 1, asked: 1 });
    const first = await life.at(start);
    assert.deepEqual(asked, [first.id, first.id]);
    await life.cut(day(5));
    await life.close(await life.at(start));
    assert.deepEqual(await look(day(6)), { priced: 1, asked: 0 });
    assert.deepEqual(await look(day(6)), { priced: 0, asked: 0 });
    await life.use(day(7), 500n);
    assert.deepEqual(await look(day(7)), { priced: 1, asked: 1 });
  });

  it('one that could not be asked for is asked again, and keeps no other from its look', async () => {
    const [one, other] = [await living(), await living()];
    await one.use(day(3), 600n);
    await other.use(day(3), 600n);
    const [failing] = [one.subscriptionId, other.subscriptionId].toSorted();
    const reached: string[] = [];
    const watch = {
      db,
      askClose: ({ subscriptionId }: { readonly subscriptionId: string }) => {
        if (subscriptionId === failing) return Promise.reject(new Error('no answer'));
        reached.push(subscriptionId);
        return Promise.resolve();
      },
    };
    await assert.rejects(cutAtThresholds(watch, day(3)), new AggregateError([], '1 looks failed'));
    assert.equal(reached.length, 1);
    assert.deepEqual(await look(day(3)), { priced: 2, asked: 2 });
  });

  it('what comes between the look and its note is priced by the next one', async () => {
    const life = await living();
    await life.use(day(3), 499n);
    const page = { now: day(3), afterId: '', limit: 10 };
    const watched = await listWatchedPeriods(db, page);
    const [only] = watched;
    assert.ok(only !== undefined && watched.length === 1);
    assert.equal(await isThresholdReached(db, only, day(3)), false);
    await life.use(day(3), 1n);
    await noteLooks(db, watched);
    assert.deepEqual(await look(day(3)), { priced: 1, asked: 1 });
    // A second watch that is behind notes what it saw: that is looked at again, never skipped.
    await noteLooks(db, watched);
    assert.deepEqual(await look(day(3)), { priced: 1, asked: 1 });
  });

  it('a change of plan and a correction are looked at, a coupon is not: it takes nothing off usage', async () => {
    const life = await living();
    const eventId = await post(life, day(3), `m_${world.meterId.slice(4, 14)}`, 400);
    assert.deepEqual(await look(day(3)), { priced: 1, asked: 0 });
    await life.change(day(4), await publish(db, world, { price, invoice_threshold_minor: '401' }));
    assert.deepEqual(await look(day(5)), { priced: 1, asked: 0 });
    assert.deepEqual(await look(day(5)), { priced: 0, asked: 0 });
    const quantities = [{ meterId: world.meterId, quantity: 401n }];
    await inTransaction(db, (tx) =>
      correctUsageEvent(tx, {
        ...{ environment: 'test', reason: 'one was missed', actor: 'token:tok_1', eventId },
        request: { kind: 'quantities', quantities },
      }),
    );
    assert.deepEqual(await look(day(5)), { priced: 1, asked: 1 });
  });

  it('a level that stands is looked at once an hour, and costs what it has cost so far', async () => {
    const charge: Charge = {
      ...{ kind: 'usage', id: newId('chg'), display_name: 'Seats', included_units: '0' },
      price: { model: 'per_unit', unit_price: '1' },
      meter: { ...seats, name: 'seats', unit_one: 'seat', unit_other: 'seats', scale: 0 },
    };
    const life = await living({ more: [charge], ...threshold });
    // A dollar a day.
    await post(life, start, 'seats', 31);
    const at = (hour: number): Date => new Date(start.getTime() + hour * 3_600_000);
    assert.deepEqual(await look(at(1)), { priced: 1, asked: 0 });
    assert.deepEqual(await look(new Date(at(1).getTime() + 60_000)), { priced: 0, asked: 0 });
    assert.deepEqual(await look(at(100)), { priced: 1, asked: 0 });
    assert.deepEqual(await look(at(120)), { priced: 1, asked: 1 });
    await life.cut(at(121));
    await life.close(await life.at(start));
    // Nobody says it again, and it stands.
    assert.deepEqual(await look(at(200)), { priced: 1, asked: 0 });
    assert.deepEqual(await look(at(242)), { priced: 1, asked: 1 });
  });
});
