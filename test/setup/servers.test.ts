import assert from 'node:assert/strict';

import { Redis } from 'ioredis';
import pg from 'pg';

import { testDatabase } from '../support/postgres.ts';
import { startRedis } from '../support/redis.ts';

describe('setup › test servers', () => {
  it('a shard is append-only, never evicts, and keeps what it synced over kill -9', async () => {
    const shard = await startRedis();
    const first = new Redis(shard.url);
    try {
      assert.equal(
        (await first.config('GET', 'maxmemory-policy'))?.toString(),
        'maxmemory-policy,noeviction',
      );
      assert.equal((await first.config('GET', 'appendonly'))?.toString(), 'appendonly,yes');
      await first.set('kept', '1');
      // WAITAOF answers when the local log is synced, so the kill cannot race the sync.
      await first
        .call('WAITAOF', '1', '0', '5000')
        .catch(() => new Promise((done) => setTimeout(done, 1500)));
    } finally {
      first.disconnect();
    }
    await shard.kill9();
    await shard.restart();
    const second = new Redis(shard.url);
    assert.equal(await second.get('kept'), '1');
    second.disconnect();
    await shard.stop();
  });

  it('databases are apart from each other and gone when dropped', async () => {
    const [one, two] = await Promise.all([testDatabase(), testDatabase()]);
    const client = new pg.Client({ connectionString: one.url });
    await client.connect();
    await client.query('CREATE TABLE only_here (n int)');
    await client.end();
    const other = new pg.Client({ connectionString: two.url });
    await other.connect();
    await assert.rejects(other.query('SELECT * FROM only_here'), /does not exist/);
    await other.end();
    await Promise.all([one.drop(), two.drop()]);
    const gone = new pg.Client({ connectionString: one.url });
    await assert.rejects(gone.connect(), /does not exist/);
  });
});
