import { createHash, randomBytes } from 'node:crypto';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import pg from 'pg';

import { repositoryFolder } from '../../bin/setup/paths.ts';
import { freePort } from '../../bin/setup/ports.ts';
import { startPostgresServer } from '../../bin/setup/postgres-server.ts';
import { openDb } from '../../store/db.ts';
import { migrate } from '../../store/migrate.ts';
import { atEnd } from './at-end.ts';

/** A migrated database of its own for a test file. */
export type TestDatabase = {
  readonly url: string;
  /** Ends every session on it and drops it. */
  readonly drop: () => Promise<void>;
};

/** Any number that no other advisory lock of ours uses: makes one process at a time build the template. */
const TEMPLATE_LOCK = 7_203_114;

let server: Promise<{ readonly urlOf: (database: string) => string }> | null = null;
let template: Promise<string> | null = null;

/**
 * A fresh database, cloned in milliseconds from a template that was migrated once. The server is
 * an embedded Postgres that this mocha run starts once (without fsync) and stops at its end, or
 * that of DATABASE_URL, whose account must be allowed to create databases.
 */
export async function testDatabase(): Promise<TestDatabase> {
  const { urlOf } = await sharedServer();
  template ??= makeTemplate(urlOf);
  const name = `test_${process.pid}_${randomBytes(6).toString('hex')}`;
  await administer(urlOf, `CREATE DATABASE ${name} TEMPLATE ${await template}`);
  return {
    url: urlOf(name),
    drop: () => administer(urlOf, `DROP DATABASE IF EXISTS ${name} WITH (FORCE)`),
  };
}

/** An empty database that no migration has touched, for the tests of the migrations themselves. */
export async function emptyDatabase(): Promise<TestDatabase> {
  const { urlOf } = await sharedServer();
  const name = `test_${process.pid}_${randomBytes(6).toString('hex')}`;
  await administer(urlOf, `CREATE DATABASE ${name} TEMPLATE template0`);
  return {
    url: urlOf(name),
    drop: () => administer(urlOf, `DROP DATABASE IF EXISTS ${name} WITH (FORCE)`),
  };
}

function sharedServer(): Promise<{ readonly urlOf: (database: string) => string }> {
  server ??= serverOfEnvironment() ?? embeddedServer();
  return server;
}

function serverOfEnvironment(): typeof server {
  const given = process.env['DATABASE_URL'];
  if (given === undefined || given === '') return null;
  const urlOf = (database: string): string => {
    const url = new URL(given);
    url.pathname = `/${database}`;
    return url.href;
  };
  return Promise.resolve({ urlOf });
}

async function embeddedServer(): Promise<{ readonly urlOf: (database: string) => string }> {
  const folder = mkdtempSync(join(tmpdir(), 'tollbook-postgres-'));
  const started = await startPostgresServer({
    port: await freePort(),
    folder,
    isDurable: false,
    connectionsMax: 300,
  });
  atEnd(async () => {
    await started.process.stop();
    rmSync(folder, { recursive: true, force: true });
  });
  process.once('exit', () => {
    rmSync(folder, { recursive: true, force: true });
  });
  return started;
}

/** The template's name tells its migrations, so that a shared server is never served a stale one. */
async function makeTemplate(urlOf: (database: string) => string): Promise<string> {
  const name = `template_${migrationsDigest()}`;
  const client = new pg.Client({ connectionString: urlOf('postgres') });
  await client.connect();
  try {
    await client.query('SELECT pg_advisory_lock($1)', [TEMPLATE_LOCK]);
    const known = await client.query('SELECT 1 FROM pg_database WHERE datname = $1', [name]);
    if (known.rowCount === 0) {
      const unfinished = `${name}_unfinished`;
      await client.query(`DROP DATABASE IF EXISTS ${unfinished} WITH (FORCE)`);
      await client.query(`CREATE DATABASE ${unfinished} TEMPLATE template0`);
      await migrateDatabase(urlOf(unfinished));
      await client.query(`ALTER DATABASE ${unfinished} RENAME TO ${name}`);
    }
  } finally {
    await client.end();
  }
  return name;
}

const migrationsFolder = join(repositoryFolder, 'migrations');

function migrationFiles(): readonly string[] {
  if (!existsSync(migrationsFolder)) return [];
  return readdirSync(migrationsFolder)
    .filter((file) => file.endsWith('.ts'))
    .toSorted();
}

function migrationsDigest(): string {
  const digest = createHash('sha256');
  for (const file of migrationFiles()) {
    digest.update(file).update(readFileSync(join(migrationsFolder, file)));
  }
  return digest.digest('hex').slice(0, 16);
}

async function migrateDatabase(url: string): Promise<void> {
  const database = openDb(url, { poolMax: 2, name: 'tollbook-test-template' });
  try {
    await migrate(database);
  } finally {
    await database.destroy();
  }
}

async function administer(urlOf: (database: string) => string, statement: string): Promise<void> {
  const client = new pg.Client({ connectionString: urlOf('postgres') });
  await client.connect();
  try {
    await client.query(statement);
  } finally {
    await client.end();
  }
}
