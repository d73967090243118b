/** The shards, which of them owns each of the 4,096 slots, and the incarnation that each shard is in. */
import { planSlots, slotCount } from '../billing/slot.ts';
import type { Db, Reader, Tx } from './db.ts';
import { inTransaction } from './db.ts';
import { safeNumber } from './projection.ts';
import { selectRow, selectRows } from './query.ts';

export type ShardState = 'new' | 'open' | 'recovering';

export type ShardRow = {
  readonly name: string;
  readonly url: string;
  readonly weight: number;
  readonly incarnation: number;
  readonly state: ShardState;
};

/** The slot map as it is stored. `owners[slot]` is an index into `shards` (-1: no owner); both arrays have 4,096 entries. */
export type StoredSlotMap = {
  readonly version: number;
  readonly shards: readonly Pick<ShardRow, 'name' | 'url' | 'incarnation' | 'state'>[];
  readonly owners: Int16Array;
  readonly epochs: Uint32Array;
};

/** Serialises the writers of the map; the number is no other advisory lock of ours. */
const MAP_LOCK = 7_203_116;

/**
 * Makes the given shards known (by name; a changed url or weight is taken over) and, when no slot has an owner yet, plans
 * them all with epoch 1. Later changes of the set move no slot: that takes a procedure of its own.
 * Answers the names of known shards that own slots and were not given.
 */
export async function registerShards(
  db: Db,
  shards: readonly { readonly name: string; readonly url: string; readonly weight?: number }[],
): Promise<{ readonly orphaned: readonly string[] }> {
  return inTransaction(db, async (tx) => {
    await tx.raw('SELECT pg_advisory_xact_lock(?)', [MAP_LOCK]);
    for (const { name, url, weight = 1 } of shards) await writeAddress(tx, { name, url, weight });
    await planWhenEmpty(tx);
    const owning = await selectRows<{ shard: string }>(tx, 'SELECT DISTINCT shard FROM slots');
    const given = new Set(shards.map(({ name }) => name));
    return { orphaned: owning.map(({ shard }) => shard).filter((name) => !given.has(name)) };
  });
}

/** Every statement on these tables, even one that changes no row, is a new version of the map: so it is asked first. */
async function writeAddress(
  tx: Tx,
  { name, url, weight }: { readonly name: string; readonly url: string; readonly weight: number },
): Promise<void> {
  const known = await readShard(tx, name);
  if (known === null) {
    await tx.raw('INSERT INTO shards (name, url, weight) VALUES (?, ?, ?)', [name, url, weight]);
  } else if (known.url !== url || known.weight !== weight) {
    await tx.raw('UPDATE shards SET url = ?, weight = ?, updated_at = now() WHERE name = ?', [
      url,
      weight,
      name,
    ]);
  }
}

async function planWhenEmpty(tx: Tx): Promise<void> {
  const planned = await selectRow(tx, 'SELECT 1 FROM slots LIMIT 1');
  if (planned !== null) return;
  const shards = await readShards(tx);
  const owners = planSlots(
    shards.map(({ name, weight }) => ({ name, weight })),
    null,
  );
  await tx.raw(
    `INSERT INTO slots (slot, shard, epoch)
     SELECT (place - 1)::smallint, owner, 1 FROM unnest(?::text[]) WITH ORDINALITY AS plan (owner, place)`,
    [owners],
  );
}

export async function readShards(db: Reader): Promise<readonly ShardRow[]> {
  const rows = await selectRows<Omit<ShardRow, 'incarnation'> & { readonly incarnation: bigint }>(
    db,
    'SELECT name, url, weight, incarnation, state FROM shards ORDER BY name',
  );
  return rows.map((row) => ({ ...row, incarnation: safeNumber(row.incarnation) }));
}

export async function readShard(db: Reader, name: string): Promise<ShardRow | null> {
  const shards = await readShards(db);
  return shards.find((shard) => shard.name === name) ?? null;
}

/** Versions of what every gateway copies; they grow with every change. */
export async function readRuntimeVersions(
  db: Reader,
): Promise<{ readonly map: number; readonly catalogue: number }> {
  const row = await selectRow<{ map_version: bigint; catalogue_version: bigint }>(
    db,
    'SELECT map_version, catalogue_version FROM runtime_versions',
  );
  if (row === null) throw new Error('runtime_versions has lost its only row');
  return { map: safeNumber(row.map_version), catalogue: safeNumber(row.catalogue_version) };
}

/** The whole map as of one instant. */
export async function readSlotMap(db: Db): Promise<StoredSlotMap> {
  return db.transaction(
    async (tx) => {
      const { map: version } = await readRuntimeVersions(tx);
      const shards = await readShards(tx);
      const indexes = new Map(shards.map(({ name }, index) => [name, index]));
      const owners = new Int16Array(slotCount).fill(-1);
      const epochs = new Uint32Array(slotCount);
      const rows = await selectRows<{ slot: number; shard: string; epoch: bigint }>(
        tx,
        'SELECT slot, shard, epoch FROM slots',
      );
      for (const row of rows) {
        owners[row.slot] = indexes.get(row.shard) ?? -1;
        epochs[row.slot] = safeNumber(row.epoch);
      }
      return { version, shards: shards.map(withoutWeight), owners, epochs };
    },
    { isolationLevel: 'repeatable read', readOnly: true },
  );
}

function withoutWeight({
  name,
  url,
  incarnation,
  state,
}: ShardRow): StoredSlotMap['shards'][number] {
  return { name, url, incarnation, state };
}

/** Epoch of each slot that the shard owns: what its scripts compare a call's epoch with. */
export async function readEpochs(db: Reader, shard: string): Promise<ReadonlyMap<number, number>> {
  const rows = await selectRows<{ slot: number; epoch: bigint }>(
    db,
    'SELECT slot, epoch FROM slots WHERE shard = ? ORDER BY slot',
    [shard],
  );
  return new Map(rows.map(({ slot, epoch }) => [slot, safeNumber(epoch)]));
}

/** Says that the shard must not be used until a next incarnation opens it. True when it might have been until now. */
export async function beginRecovery(db: Reader, name: string): Promise<boolean> {
  // Asked first: an UPDATE without effect would be a new version of the map all the same.
  const row = await readShard(db, name);
  if (row === null || row.state === 'recovering') return false;
  const changed = await selectRow(
    db,
    `UPDATE shards SET state = 'recovering', updated_at = now()
     WHERE name = ? AND state <> 'recovering' RETURNING name`,
    [name],
  );
  return changed !== null;
}

/**
 * Opens the shard in the next incarnation: from here on no script of an earlier one is called any more. Answers false,
 * and changes nothing, when somebody else was faster.
 */
export async function openShard(
  db: Reader,
  name: string,
  incarnation: { readonly from: number; readonly to: number },
): Promise<boolean> {
  const changed = await selectRow(
    db,
    `UPDATE shards SET incarnation = ?, state = 'open', updated_at = now()
     WHERE name = ? AND incarnation = ? RETURNING name`,
    [incarnation.to, name, incarnation.from],
  );
  return changed !== null;
}

/** Whether anything was ever put on this shard or came from it: then its data must not be missing. */
export async function hasHeldAnything(db: Reader, name: string): Promise<boolean> {
  const row = await selectRow<{ held: boolean }>(
    db,
    `SELECT EXISTS (SELECT 1 FROM shard_cursors WHERE shard = :name AND stream_id <> '0-0')
         OR EXISTS (SELECT 1 FROM slots o JOIN subscribers s ON s.slot = o.slot
                    WHERE o.shard = :name AND (s.applied_version > 0 OR s.applied_core_seq > 0)) AS held`,
    { name },
  );
  return row?.held === true;
}
