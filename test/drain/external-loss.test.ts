import assert from 'node:assert/strict';

import { Redis } from 'ioredis';

import { startIngest } from '../../drain/ingest.ts';
import { startKeeper } from '../../drain/keeper.ts';
import { type DrainProcess, startDrain } from '../../drain/process.ts';
import { startProjector } from '../../drain/projector.ts';
import { openShardMap } from '../../drain/shard-map.ts';
import type { ShardLink } from '../../shards/admin-client.ts';
import { createShards } from '../../shards/client.ts';
import { inTransaction } from '../../store/db.ts';
import { insertExternalEvents, waitForCounted } from '../../store/external-events.ts';
import { waitForApplied } from '../../store/projection.ts';
import { selectRows } from '../../store/query.ts';
import { until } from '../support/until.ts';
import {
  type Control,
  openControl,
  quiet,
  seedCatalogue,
  seedSubscriber,
  type Subscriber,
} from './control-fixture.ts';

describe('drain › usage from outside that its shard counted and lost', () => {
  let control: Control;
  let link: ShardLink;
  let redis: Redis;
  let drain: DrainProcess | null = null;

  before(async () => {
    control = await openControl(1);
    assert.ok(control.links[0] !== undefined);
    link = control.links[0];
    redis = new Redis(link.url);
  });
  after(async () => {
    redis.disconnect();
    await drain?.stop();
    await control.close();
  });

  const eventsOf = (ada: Subscriber) =>
    selectRows<{ quantities: readonly string[] }>(
      control.db,
      'SELECT quantities FROM usage_events WHERE subscriber_id = ?',
      [ada.id],
    );

  /** A shard that is open and that nobody drains: what it is told stays on it alone. */
  async function countUndrained(ada: Subscriber, productId: string): Promise<void> {
    const { db } = control;
    const keeper = startKeeper({
      db,
      link,
      startDrainer: () => ({ stop: () => Promise.resolve() }),
      log: quiet,
      pingEachMs: 20,
    });
    await until(() => (keeper.status().state === 'open' ? true : null));
    await keeper.stop();
    const map = await openShardMap(db);
    const shards = createShards({ mapSource: map.current });
    const projector = startProjector({ db, shards, map, log: quiet, pollMs: 40 });
    assert.equal(await waitForApplied(db, ada.id, {}, { timeoutMs: 20_000 }), true);
    await projector.stop();
    const ingest = startIngest({
      db,
      shards,
      map,
      log: quiet,
      pollMs: 40,
      isCaughtUp: () => Promise.resolve(true),
    });
    const usage = {
      product_id: productId,
      at_ms: Date.now(),
      quantities: [{ meter: 'demo_calls', quantity: 7 }],
    };
    const inserted = await inTransaction(db, (tx, now) =>
      insertExternalEvents(
        tx,
        [{ environment: 'test', source: 'batch', id: 'job-1', subscriberId: ada.id, usage }],
        now,
      ),
    );
    const opIds = inserted.map(({ opId }) => opId);
    assert.equal((await waitForCounted(db, opIds, { timeoutMs: 20_000 })).size, 1);
    await ingest.stop();
    await shards.close();
  }

  it('is counted again when the shard opens anew, and once only however often it does', async () => {
    const catalogue = await seedCatalogue(control.db);
    const ada = await seedSubscriber(control.db, catalogue);
    await countUndrained(ada, catalogue.productId);
    // Power loss: the last second of the log goes, and with it the fact and the memory of the operation.
    await redis.del('tb:u', `{${ada.id}}:d0`, `{${ada.id}}:d1`);
    await redis.script('FLUSH');
    drain = await startDrain({
      databaseUrl: control.database.url,
      shards: [{ name: link.name, url: link.url }],
      host: '127.0.0.1',
      port: 0,
      log: quiet,
    });
    await until(async () => ((await eventsOf(ada)).length === 1 ? true : null));

    // A restart that loses nothing gives nothing back.
    await redis.script('FLUSH');
    await until(async () => ((await link.hasScripts(3)) ? true : null));
    const rows = await control.db('external_events').select('counted');
    assert.deepEqual(rows, [{ counted: true }]);
    assert.deepEqual(await eventsOf(ada), [{ quantities: ['7'] }]);
  });
});
