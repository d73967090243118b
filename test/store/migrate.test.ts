import assert from 'node:assert/strict';

import { openDb, type Db } from '../../store/db.ts';
import { migrate, NewerSchema, OlderSchema, requireSchema } from '../../store/migrate.ts';
import { emptyDatabase, type TestDatabase } from '../support/postgres.ts';

describe('store/migrate', () => {
  let database: TestDatabase;
  let db: Db;
  beforeEach(async () => {
    database = await emptyDatabase();
    db = openDb(database.url, { poolMax: 4 });
  });
  afterEach(async () => {
    await db.destroy();
    await database.drop();
  });

  it('brings an empty database up to the release, once', async () => {
    await assert.rejects(requireSchema(db), OlderSchema);
    const first = await migrate(db);
    assert.equal(first[0], '0001_foundation.ts');
    await requireSchema(db);
    assert.deepEqual(await migrate(db), []);
  });

  it('lets several migrators run at once: one does the work, the others find it done', async () => {
    const other = openDb(database.url, { poolMax: 2 });
    try {
      const outcomes = await Promise.all([migrate(db), migrate(other), migrate(db)]);
      assert.equal(outcomes.filter((applied) => applied.length > 0).length, 1);
      await requireSchema(other);
    } finally {
      await other.destroy();
    }
  });

  it('leaves nothing behind when a migration fails half-way', async () => {
    await db.raw('CREATE TABLE audit_log (id bigint)');
    await assert.rejects(migrate(db), /already exists/);
    assert.equal(await db.schema.hasTable('products'), false);
    await db.raw('DROP TABLE audit_log');
    await migrate(db);
    await requireSchema(db);
  });

  it('refuses a schema of a later release, and names what it does not know', async () => {
    await migrate(db);
    await db('knex_migrations').insert({
      name: '9999_later.ts',
      batch: 2,
      migration_time: new Date(),
    });
    await assert.rejects(migrate(db), (error: unknown) => {
      assert.ok(error instanceof NewerSchema);
      assert.match(error.message, /9999_later\.ts/);
      return true;
    });
    await assert.rejects(requireSchema(db), NewerSchema);
  });
});
