import knexFactory, { type Knex } from 'knex';
import pg from 'pg';

export type Db = Knex;
/** A transaction that is open. Functions that write take one, so that the caller decides what is done together. */
export type Tx = Knex.Transaction;
/** What a read may run on: the pool or an open transaction. */
export type Reader = Knex;

/** int8 and numeric arrive as text and become bigint where they are whole: no count or amount passes through a float. */
pg.types.setTypeParser(pg.types.builtins.INT8, (text) => BigInt(text));
pg.types.setTypeParser(pg.types.builtins.NUMERIC, (text) =>
  /^-?\d+$/.test(text) ? BigInt(text) : text,
);

/** Opens a pool on `url` (postgres://…). Nothing connects before the first query. */
export function openDb(
  url: string,
  options: { readonly poolMax?: number; readonly name?: string } = {},
): Db {
  return knexFactory({
    client: 'pg',
    connection: { connectionString: url, application_name: options.name ?? 'tollbook' },
    pool: { min: 0, max: options.poolMax ?? 8 },
    acquireConnectionTimeout: 10_000,
    // What fails is thrown and logged by the caller; knex would print it a second time.
    log: { warn: silent, error: silent, deprecate: silent, debug: silent },
  });
}

/**
 * Runs `work` in one transaction whose `now` is fixed at its start (Postgres' clock, ms precision).
 * Whatever `work` throws rolls everything back and is thrown on.
 */
export async function inTransaction<T>(
  db: Db,
  work: (tx: Tx, now: Date) => Promise<T>,
): Promise<T> {
  return db.transaction(async (tx) => {
    const clock = await tx.raw<{ rows: { now: Date }[] }>(
      "SELECT date_trunc('milliseconds', now()) AS now",
    );
    const now = clock.rows[0]?.now;
    if (now === undefined) throw new Error('Postgres did not tell the time');
    return work(tx, now);
  });
}

function silent(): void {}
