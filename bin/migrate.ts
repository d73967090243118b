/** Brings the database of DATABASE_URL up to this release, says what it did, and ends. */
import { migrate, NewerSchema } from '../store/migrate.ts';
import { openDb } from '../store/db.ts';
import { ConfigProblem, readConfig } from './config.ts';

async function main(): Promise<void> {
  const config = readConfig(process.env);
  const db = openDb(config.databaseUrl, { poolMax: 2, name: 'tollbook-migrate' });
  try {
    const applied = await migrate(db);
    for (const name of applied) console.log(`migrated ${name}`);
    if (applied.length === 0) console.log('the schema is up to date');
  } finally {
    await db.destroy();
  }
}

try {
  await main();
} catch (error) {
  const isExpected = error instanceof ConfigProblem || error instanceof NewerSchema;
  console.error(isExpected ? error.message : error);
  process.exitCode = 1;
}
