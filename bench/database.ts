/** A migrated Postgres of a bench's own: the embedded one in a temporary folder, or a new database in that of DATABASE_URL. */
import { randomBytes } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import pg from 'pg';

import { freePort } from '../bin/setup/ports.ts';
import { startPostgresServer } from '../bin/setup/postgres-server.ts';
import { type Db, openDb } from '../store/db.ts';
import { migrate } from '../store/migrate.ts';

export type BenchDatabase = {
  readonly url: string;
  readonly db: Db;
  /** Drops everything that the bench has written. */
  readonly stop: () => Promise<void>;
};

/** `isDurable: false` gives up crash safety, for benches that only read what they measure. */
export async function startDatabase(options: {
  readonly isDurable: boolean;
}): Promise<BenchDatabase> {
  const server = (await ofEnvironment()) ?? (await embedded(options.isDurable));
  const db = openDb(server.url, { name: 'tollbook-bench' });
  try {
    await migrate(db);
  } catch (error) {
    await db.destroy();
    await server.stop();
    throw error;
  }
  return {
    url: server.url,
    db,
    stop: async () => {
      await db.destroy();
      await server.stop();
    },
  };
}

type Server = { readonly url: string; readonly stop: () => Promise<void> };

async function embedded(isDurable: boolean): Promise<Server> {
  const folder = mkdtempSync(join(tmpdir(), 'tollbook-bench-'));
  const remove = (): void => {
    rmSync(folder, { recursive: true, force: true });
  };
  try {
    const server = await startPostgresServer({ port: await freePort(), folder, isDurable });
    return {
      url: server.urlOf('postgres'),
      stop: async () => {
        await server.process.stop();
        remove();
      },
    };
  } catch (error) {
    remove();
    throw error;
  }
}

async function ofEnvironment(): Promise<Server | null> {
  const given = process.env['DATABASE_URL'];
  if (given === undefined || given === '') return null;
  const name = `bench_${randomBytes(6).toString('hex')}`;
  await administer(given, `CREATE DATABASE ${name} TEMPLATE template0`);
  const url = new URL(given);
  url.pathname = `/${name}`;
  return {
    url: url.href,
    stop: () => administer(given, `DROP DATABASE IF EXISTS ${name} WITH (FORCE)`),
  };
}

async function administer(url: string, statement: string): Promise<void> {
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  try {
    await client.query(statement);
  } finally {
    await client.end();
  }
}
