import { inTransaction, type Db, type Reader, type Tx } from './db.ts';
import { selectRow, selectRows } from './query.ts';

/** How far each shard's stream is in Postgres, and the facts that could not be posted. */
export type StreamName = { readonly shard: string; readonly incarnation: number };

/** Another process drains this shard, or a later incarnation has begun: whoever is told so stops. */
export class CursorLost extends Error {
  constructor(stream: StreamName, reason: string) {
    super(`the cursor of ${stream.shard}, incarnation ${stream.incarnation}, is lost: ${reason}`);
    this.name = 'CursorLost';
  }
}

/**
 * The id of the last entry that is committed ('0-0' = none). A new incarnation goes on where the earlier ones ended,
 * for a restarted shard keeps its stream. It locks their cursors while it looks, so that no batch of an earlier
 * incarnation can be committed behind its back.
 */
export async function openCursor(db: Db, stream: StreamName): Promise<string> {
  return inTransaction(db, async (tx) => {
    const rows = await selectRows<{ incarnation: bigint; stream_id: string }>(
      tx,
      `SELECT incarnation, stream_id FROM shard_cursors WHERE shard = ? ORDER BY incarnation FOR UPDATE`,
      [stream.shard],
    );
    const newest = rows.at(-1);
    if (newest !== undefined && newest.incarnation > BigInt(stream.incarnation)) {
      throw new CursorLost(stream, `incarnation ${newest.incarnation} has begun`);
    }
    if (newest?.incarnation === BigInt(stream.incarnation)) return newest.stream_id;
    const made = await selectRow<{ stream_id: string }>(
      tx,
      `INSERT INTO shard_cursors (shard, incarnation, stream_id) VALUES (?, ?, ?)
       ON CONFLICT (shard, incarnation) DO NOTHING RETURNING stream_id`,
      [stream.shard, stream.incarnation, newest?.stream_id ?? '0-0'],
    );
    if (made === null) throw new CursorLost(stream, 'another process opened it at the same time');
    return made.stream_id;
  });
}

/**
 * Moves the cursor within the transaction of a batch, as its first statement: the row lock and the comparison make it
 * the fence that lets one drainer at a time commit, whatever became of its advisory lock.
 * Throws CursorLost when the cursor is not at `fromId` or a later incarnation has begun.
 */
export async function advanceCursor(
  tx: Tx,
  stream: StreamName,
  step: { readonly fromId: string; readonly toId: string },
): Promise<void> {
  const moved = await selectRow(
    tx,
    `UPDATE shard_cursors SET stream_id = ?, updated_at = now()
     WHERE shard = ? AND incarnation = ? AND stream_id = ? RETURNING 1`,
    [step.toId, stream.shard, stream.incarnation, step.fromId],
  );
  if (moved === null) throw new CursorLost(stream, `it is not at ${step.fromId}`);
  // A statement of its own: after the wait for the lock it sees what was committed meanwhile.
  const later = await selectRow(
    tx,
    'SELECT 1 FROM shard_cursors WHERE shard = ? AND incarnation > ?',
    [stream.shard, stream.incarnation],
  );
  if (later !== null) throw new CursorLost(stream, 'a later incarnation has begun');
}

export type ParkedFact = {
  readonly streamId: string;
  readonly fact: string;
  readonly reason: string;
};

/** Puts a fact that cannot be posted aside, where it is kept and raises an alarm, so that the others go on. */
export async function parkFact(tx: Tx, stream: StreamName, parked: ParkedFact): Promise<void> {
  await selectRows(
    tx,
    `INSERT INTO parked_facts (shard, incarnation, stream_id, fact, reason) VALUES (?, ?, ?, ?, ?)
     ON CONFLICT (shard, incarnation, stream_id) DO NOTHING`,
    [stream.shard, stream.incarnation, parked.streamId, parked.fact, parked.reason.slice(0, 1000)],
  );
}

/** The number of facts that wait for somebody to look at them. */
export async function countParked(db: Reader): Promise<number> {
  const row = await selectRow<{ count: bigint }>(
    db,
    'SELECT count(*) AS count FROM parked_facts WHERE resolved_at IS NULL',
  );
  return Number(row?.count ?? 0n);
}
