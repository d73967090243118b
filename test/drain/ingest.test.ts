import assert from 'node:assert/strict';

import { pino } from 'pino';

import { aggregate } from '../../billing/rate.ts';
import { startDrain, type DrainProcess } from '../../drain/process.ts';
import { startIngest, type Ingest } from '../../drain/ingest.ts';
import { openShardMap, type ShardMap } from '../../drain/shard-map.ts';
import { createShards } from '../../shards/client.ts';
import { type Shards, ShardUnavailable } from '../../shards/port.ts';
import { inTransaction } from '../../store/db.ts';
import {
  countUncounted,
  insertExternalEvents,
  type InsertedEvent,
  type NewExternalEvent,
  waitForCounted,
} from '../../store/external-events.ts';
import { newId } from '../../store/ids.ts';
import { waitForApplied } from '../../store/projection.ts';
import { selectRows } from '../../store/query.ts';
import { isDrained, usageForInterval } from '../../store/usage.ts';
import { until } from '../support/until.ts';
import {
  type Catalogue,
  type Control,
  grant,
  openControl,
  quiet,
  seedCatalogue,
  seedSubscriber,
  type Subscriber,
} from './control-fixture.ts';

describe('drain/ingest', () => {
  let control: Control;
  let catalogue: Catalogue;
  let ada: Subscriber;
  let drain: DrainProcess;
  let map: ShardMap;
  let shards: Shards;
  let ingest: Ingest | null = null;

  /** The whole drain, but for its own ingest: the test holds that place by its own, with a connection that loses replies. */
  before(async () => {
    control = await openControl(1);
    catalogue = await seedCatalogue(control.db);
    ada = await seedSubscriber(control.db, catalogue);
    await grant(control.db, ada.id, 100);
    drain = await startDrain({
      databaseUrl: control.database.url,
      shards: control.links.map(({ name, url }) => ({ name, url })),
      host: '127.0.0.1',
      port: 0,
      log: pino({ level: 'silent' }),
      isIngesting: false,
    });
    assert.equal(await waitForApplied(control.db, ada.id, {}, { timeoutMs: 30_000 }), true);
    map = await openShardMap(control.db);
    shards = createShards({ mapSource: map.current });
  });
  after(async () => {
    await shards.close();
    await drain.stop();
    await control.close();
  });
  afterEach(async () => {
    await ingest?.stop();
    ingest = null;
  });

  const count = (record: Shards['record'], retryAfterMs = 300): void => {
    ingest = startIngest({
      db: control.db,
      shards: { record },
      map,
      log: quiet,
      pollMs: 30,
      retryAfterMs,
      isCaughtUp: async (shard) => {
        const [link] = control.links;
        const streamId = (await link?.lastStreamId()) ?? '0-0';
        return isDrained(control.db, { shard, incarnation: map.incarnationOf(shard), streamId });
      },
    });
  };
  const event = (id: string, quantity = 1, atMs = Date.now()): NewExternalEvent => ({
    environment: 'test',
    source: 'batch',
    id,
    subscriberId: ada.id,
    usage: {
      product_id: catalogue.productId,
      at_ms: atMs,
      quantities: [{ meter: 'demo_calls', quantity }],
    },
  });
  const insert = (events: readonly NewExternalEvent[]): Promise<readonly InsertedEvent[]> =>
    inTransaction(control.db, (tx, now) => insertExternalEvents(tx, events, now));
  const used = async (): Promise<number> =>
    (await shards.read(ada.id))?.products[0]?.limits[0]?.used ?? -1;
  const committed = (opIds: readonly string[]) =>
    until(async () => {
      const rows = await selectRows<{ event_id: string }>(
        control.db,
        'SELECT event_id FROM usage_events WHERE event_id = ANY (?::text[])',
        [opIds],
      );
      return rows.length >= opIds.length ? rows.length : null;
    });

  it('accepts an id once: the same event again is a duplicate, another one a conflict', async () => {
    const atMs = Date.now();
    const [first] = await insert([event('once', 1, atMs)]);
    assert.ok(first?.kind === 'accepted');
    const [again, changed, other] = await insert([
      event('once', 1, atMs),
      event('once', 2, atMs),
      { ...event('once', 2, atMs), source: 'elsewhere' },
    ]);
    assert.deepEqual(again, { kind: 'duplicate', opId: first.opId, result: null });
    assert.deepEqual(changed, { kind: 'conflict', opId: first.opId });
    assert.equal(other?.kind, 'accepted');
    count((request) => shards.record(request));
    const opIds = [first.opId, other.opId];
    const results = await waitForCounted(control.db, opIds, { timeoutMs: 20_000 });
    assert.deepEqual(results.get(first.opId), {
      kind: 'counted',
      over_limit: false,
      charged_micro: 1_000_000,
      overage_micro: 0,
    });
    const [late] = await insert([event('once', 1, atMs)]);
    assert.deepEqual(late, {
      kind: 'duplicate',
      opId: first.opId,
      result: results.get(first.opId),
    });
  });

  it('counts the values that the sender gave, through the shard and the drain', async () => {
    await control.db('meters').insert({
      ...{ id: newId('mtr'), environment: 'test', lookup_id: 'users', name: 'Users' },
      ...{ unit_one: 'user', unit_other: 'users', aggregation: 'UNIQUE_COUNT' },
    });
    const of = (id: string, value: string): NewExternalEvent => {
      const made = event(id);
      const quantities = [{ meter: 'users', quantity: 1, value }];
      return { ...made, usage: { ...made.usage, quantities } };
    };
    const inserted = await insert([of('u1', 'ada'), of('u2', 'grace'), of('u3', 'ada')]);
    count((request) => shards.record(request));
    await committed(inserted.map(({ opId }) => opId));
    const rows = await usageForInterval(control.db, ada.subscriptionId, 0);
    const ofMeter = rows.filter(({ meterKey }) => meterKey === 'users');
    assert.equal(aggregate(ofMeter, 'UNIQUE_COUNT'), 2n);
    assert.equal(aggregate(ofMeter, 'COUNT'), 3n);
  });

  it('counts each event once when every second reply is lost, before or after the shard did it', async () => {
    const before = await used();
    let calls = 0;
    const lossy: Shards['record'] = async (request) => {
      calls += 1;
      if (calls % 4 === 1) throw new ShardUnavailable('shard-1', 'unknown', 'the request was lost');
      if (calls % 4 === 3) throw new ShardUnavailable('shard-1', 'not_sent', 'no connection');
      const answer = await shards.record(request);
      if (calls % 4 === 2) throw new ShardUnavailable('shard-1', 'unknown', 'the reply was lost');
      return answer;
    };
    const inserted = await insert(
      Array.from({ length: 20 }, (_, index) => event(`lossy-${index}`)),
    );
    const opIds = inserted.map(({ opId }) => opId);
    count(lossy);
    const results = await waitForCounted(control.db, opIds, { timeoutMs: 50_000 });
    assert.equal(results.size, 20);
    assert.ok([...results.values()].every((result) => result.charged_micro === 1_000_000));
    assert.equal(await committed(opIds), 20);
    assert.equal(await used(), before + 20);
    assert.equal(await countUncounted(control.db), 0);
    assert.ok(calls > 20, 'no reply was lost');
  });

  it('finds an event that a process which is gone has counted, and does not count it again', async () => {
    const before = await used();
    const [inserted] = await insert([event('orphan')]);
    assert.ok(inserted !== undefined);
    const { usage } = event('orphan');
    await shards.record({
      subscriberId: ada.id,
      opId: inserted.opId,
      productId: usage.product_id,
      atMs: usage.at_ms,
      quantities: usage.quantities,
    });
    await committed([inserted.opId]);
    await control.db.raw(
      "UPDATE external_events SET created_at = created_at - interval '1 hour' WHERE op_id = ?",
      [inserted.opId],
    );
    let calls = 0;
    count(async (request) => {
      calls += 1;
      return shards.record(request);
    });
    const results = await waitForCounted(control.db, [inserted.opId], { timeoutMs: 20_000 });
    assert.equal(results.get(inserted.opId)?.charged_micro, 1_000_000);
    assert.equal(calls, 0);
    assert.equal(await used(), before + 1);
  });

  it('marks what goes past a hard limit, and counts it all the same', async () => {
    const [inserted] = await insert([event('much', 5_000)]);
    assert.ok(inserted !== undefined);
    count((request) => shards.record(request));
    const results = await waitForCounted(control.db, [inserted.opId], { timeoutMs: 20_000 });
    assert.equal(results.get(inserted.opId)?.over_limit, true);
    await committed([inserted.opId]);
  });
});
