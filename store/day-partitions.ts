import type { Db } from './db.ts';
import { inTransaction } from './db.ts';
import { selectRow } from './query.ts';

/** Any number that no other advisory lock of ours uses: one maker of partitions at a time. */
const PARTITION_LOCK = 7_203_121;

/**
 * Makes the day's partition of `usage_events` when it is missing. `day` is `yyyymmdd`.
 * Built apart and then attached, for attaching lets the inserts into other days go on. Events of a day without a
 * partition are kept by the default one; a day that has such events cannot get its own any more, which throws.
 */
export async function ensureDayPartition(db: Db, day: string): Promise<void> {
  if (!/^\d{8}$/.test(day)) throw new RangeError(`${day} is not a day`);
  const table = `usage_events_${day}`;
  if ((await findTable(db, table)) !== null) return;
  await inTransaction(db, async (tx) => {
    // Rather no partition than a queue of inserts behind a lock that waits for a long reader.
    await tx.raw("SET LOCAL lock_timeout = '3s'");
    await tx.raw('SELECT pg_advisory_xact_lock(?)', [PARTITION_LOCK]);
    if ((await findTable(tx, table)) !== null) return;
    await tx.raw(
      `CREATE TABLE ${table} (LIKE usage_events INCLUDING DEFAULTS INCLUDING CONSTRAINTS INCLUDING INDEXES)`,
    );
    await tx.raw(
      `ALTER TABLE usage_events ATTACH PARTITION ${table} FOR VALUES FROM ('${day}') TO (date '${day}' + 1)`,
    );
  });
}

function findTable(db: Db, table: string): Promise<object | null> {
  return selectRow<object>(
    db,
    "SELECT 1 AS found FROM pg_class WHERE relname = ? AND relnamespace = 'public'::regnamespace",
    [table],
  );
}
