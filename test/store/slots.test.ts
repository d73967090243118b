import assert from 'node:assert/strict';

import { openDb, type Db } from '../../store/db.ts';
import {
  beginRecovery,
  openShard,
  readEpochs,
  readRuntimeVersions,
  readShard,
  readSlotMap,
  registerShards,
} from '../../store/slots.ts';
import { testDatabase, type TestDatabase } from '../support/postgres.ts';

const three = ['a', 'b', 'c'].map((name) => ({ name, url: `redis://127.0.0.1/${name}` }));

describe('store/slots', () => {
  let database: TestDatabase;
  let db: Db;
  beforeEach(async () => {
    database = await testDatabase();
    db = openDb(database.url);
  });
  afterEach(async () => {
    await db.destroy();
    await database.drop();
  });

  it('plans every slot once, evenly, and the map tells all of them', async () => {
    await registerShards(db, three);
    const map = await readSlotMap(db);
    assert.deepEqual(
      map.shards.map(({ name, state, incarnation }) => [name, state, incarnation]),
      [
        ['a', 'new', 0],
        ['b', 'new', 0],
        ['c', 'new', 0],
      ],
    );
    const counts = [0, 1, 2].map((index) => map.owners.filter((owner) => owner === index).length);
    assert.equal(
      counts.reduce((sum, count) => sum + count, 0),
      4096,
    );
    assert.ok(Math.max(...counts) <= 1434, `slots are uneven: ${counts.join(', ')}`);
    assert.ok(map.epochs.every((epoch) => epoch === 1));
    const own = await readEpochs(db, 'b');
    assert.equal(own.size, counts[1]);
    assert.ok([...own.keys()].every((slot) => map.owners[slot] === 1));
  });

  it('moves no slot and makes no new version when it is asked again, at once or with others', async () => {
    await Promise.all([registerShards(db, three), registerShards(db, three)]);
    const before = await readSlotMap(db);
    await registerShards(db, three);
    assert.deepEqual(await readSlotMap(db), before);
    const { orphaned } = await registerShards(db, [{ name: 'd', url: 'redis://d' }]);
    const after = await readSlotMap(db);
    assert.deepEqual(orphaned.toSorted(), ['a', 'b', 'c']);
    assert.deepEqual(after.owners, before.owners);
    assert.ok(after.version > before.version);
  });

  it('takes over a new address', async () => {
    await registerShards(db, three);
    await registerShards(db, [{ name: 'a', url: 'redis://elsewhere' }]);
    assert.equal((await readShard(db, 'a'))?.url, 'redis://elsewhere');
  });

  it('lets one of two keepers open the next incarnation, and tells gateways of each change', async () => {
    await registerShards(db, three);
    const versions: number[] = [];
    const note = async (): Promise<void> => {
      versions.push((await readRuntimeVersions(db)).map);
    };
    await note();
    const opened = await Promise.all([
      openShard(db, 'a', { from: 0, to: 1 }),
      openShard(db, 'a', { from: 0, to: 1 }),
    ]);
    assert.equal(opened.filter((isMine) => isMine).length, 1);
    await note();
    assert.equal(await beginRecovery(db, 'a'), true);
    assert.equal(await beginRecovery(db, 'a'), false);
    await note();
    assert.equal((await readShard(db, 'a'))?.state, 'recovering');
    assert.ok(versions[0] !== undefined && versions[1] !== undefined && versions[2] !== undefined);
    assert.ok(versions[0] < versions[1] && versions[1] < versions[2]);
  });
});
