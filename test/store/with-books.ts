import { type Db, openDb } from '../../store/db.ts';
import { testDatabase, type TestDatabase } from '../support/postgres.ts';
import { seedWorld, type World } from '../workflows/support/world.ts';

/** What most tests of the store begin with: a database of their own, with a product to sell. */
export type Books = { readonly db: Db; readonly world: World };

/** Opens the books before the tests of a `describe`, and takes them away after. */
export function withBooks(take: (books: Books) => void): void {
  let database: TestDatabase;
  let db: Db;
  before(async () => {
    database = await testDatabase();
    db = openDb(database.url, { poolMax: 12 });
    take({ db, world: await seedWorld(db) });
  });
  after(async () => {
    await db.destroy();
    await database.drop();
  });
}
