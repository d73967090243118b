/** The slot map of Postgres, kept at hand: read again when its version has changed. */
import { slotOf } from '../billing/slot.ts';
import type { SlotMap } from '../shards/port.ts';
import type { Db } from '../store/db.ts';
import { readRuntimeVersions, readSlotMap } from '../store/slots.ts';

export type ShardMap = {
  readonly current: () => SlotMap;
  /** Name of the shard that owns the subscriber's slot; null when the slot has no owner. */
  readonly shardOf: (subscriberId: string) => string | null;
  readonly incarnationOf: (shard: string) => number;
  readonly isOpen: (shard: string) => boolean;
  /** Names of the shards that must not be called now. */
  readonly closedShards: () => readonly string[];
  /** Reads the map anew when it has changed; answers whether it had. */
  readonly refresh: () => Promise<boolean>;
};

/** Reads the map for the first time. */
export async function openShardMap(db: Db): Promise<ShardMap> {
  let map: SlotMap = await readSlotMap(db);
  const find = (shard: string): SlotMap['shards'][number] | undefined =>
    map.shards.find(({ name }) => name === shard);
  return {
    current: () => map,
    shardOf: (subscriberId) => map.shards[map.owners[slotOf(subscriberId)] ?? -1]?.name ?? null,
    incarnationOf: (shard) => find(shard)?.incarnation ?? 0,
    isOpen: (shard) => find(shard)?.state === 'open',
    closedShards: () => map.shards.filter(({ state }) => state !== 'open').map(({ name }) => name),
    refresh: async () => {
      const { map: version } = await readRuntimeVersions(db);
      if (version === map.version) return false;
      map = await readSlotMap(db);
      return true;
    },
  };
}
