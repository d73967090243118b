import { readdirSync } from 'node:fs';
import { resolve } from 'node:path';
import { pathToFileURL } from 'node:url';

import type { Knex } from 'knex';

import type { Db, Tx } from './db.ts';

const folder = resolve(import.meta.dirname, '..', 'migrations');

/** Any number that no other advisory lock of ours uses: one migrator at a time. */
const MIGRATE_LOCK = 7_203_115;

/** The database was migrated by a later release than this code; running against it could damage it. */
export class NewerSchema extends Error {
  override readonly name = 'NewerSchema';
  constructor(unknown: readonly string[]) {
    super(
      `The database has migrations that this release does not know (${unknown.join(', ')}). ` +
        'It was migrated by a newer release: start that one, or use another database.',
    );
  }
}

/** The database lacks migrations that this release needs. */
export class OlderSchema extends Error {
  override readonly name = 'OlderSchema';
  constructor(missing: readonly string[]) {
    super(
      `The database lacks the migrations ${missing.join(', ')}: run \`node bin/migrate.ts\` first.`,
    );
  }
}

/**
 * Brings the schema up to this release and answers the names of the migrations that it ran, oldest first.
 * Everything happens in one transaction under an advisory lock: a second migrator waits and then finds nothing to do,
 * and one that is killed leaves the schema as it was. Throws NewerSchema before it touches anything.
 */
export async function migrate(db: Db): Promise<readonly string[]> {
  return db.transaction(async (tx) => {
    await tx.raw('SELECT pg_advisory_xact_lock(?)', [MIGRATE_LOCK]);
    const { missing } = await compareSchema(tx);
    if (missing.length > 0) await tx.migrate.latest({ migrationSource });
    return missing;
  });
}

/** Refuses to go on against a schema of another release. Throws NewerSchema or OlderSchema. */
export async function requireSchema(db: Db): Promise<void> {
  const { missing } = await db.transaction((tx) => compareSchema(tx), { readOnly: true });
  if (missing.length > 0) throw new OlderSchema(missing);
}

async function compareSchema(tx: Tx): Promise<{ readonly missing: readonly string[] }> {
  const known = migrationNames();
  const hasRun = (await tx.schema.hasTable('knex_migrations'))
    ? await tx<{ name: string }>('knex_migrations').orderBy('id').pluck('name')
    : [];
  const unknown = hasRun.filter((name) => !known.includes(name));
  if (unknown.length > 0) throw new NewerSchema(unknown);
  return { missing: known.filter((name) => !hasRun.includes(name)) };
}

function migrationNames(): readonly string[] {
  return readdirSync(folder)
    .filter((file) => /^\d{4}_[a-z0-9_]+\.ts$/.test(file))
    .toSorted();
}

const migrationSource: Knex.MigrationSource<string> = {
  getMigrations: () => Promise.resolve([...migrationNames()]),
  getMigrationName: (file) => file,
  getMigration: async (file) => {
    const loaded: unknown = await import(pathToFileURL(resolve(folder, file)).href);
    if (!isMigration(loaded)) throw new Error(`${file} does not export up and down`);
    return loaded;
  },
};

function isMigration(loaded: unknown): loaded is Knex.Migration {
  return (
    typeof loaded === 'object' &&
    loaded !== null &&
    'up' in loaded &&
    typeof loaded.up === 'function'
  );
}
