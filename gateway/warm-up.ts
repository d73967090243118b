import { slotOf } from '../billing/slot.ts';
import type { SlotMap } from '../shards/port.ts';
import type { FleetPort } from './fleet-port.ts';

/**
 * Connects to every open shard before the first request needs it: a connection takes longer than a decision may. It asks
 * each shard for a subscriber that does not exist, which changes nothing.
 */
export type WarmUp = {
  /** Tries the shards that have not answered yet. Never rejects. */
  warm(): Promise<void>;
  /** Whether each open shard has answered, or has had its chances: one that is away makes no gateway unready. */
  isDone(): boolean;
};

const triesMax = 5;

export function createWarmUp(fleet: Pick<FleetPort, 'shards' | 'map'>): WarmUp {
  const tries = new Map<string, number>();
  const answered = new Set<string>();
  const open = (): SlotMap['shards'] =>
    fleet.map()?.shards.filter(({ state }) => state === 'open') ?? [];
  const nameOf = ({ name, incarnation }: SlotMap['shards'][number]): string =>
    `${name}:${incarnation}`;

  const tryOne = async (shard: SlotMap['shards'][number]): Promise<void> => {
    const subscriberId = subscriberOf(fleet.map(), shard.name);
    if (subscriberId === null) {
      answered.add(nameOf(shard));
      return;
    }
    tries.set(nameOf(shard), (tries.get(nameOf(shard)) ?? 0) + 1);
    try {
      await fleet.shards.read(subscriberId);
      answered.add(nameOf(shard));
    } catch {
      // It is tried again at the next turn.
    }
  };
  return {
    warm: async () => {
      await Promise.all(
        open()
          .filter((shard) => !answered.has(nameOf(shard)))
          .map(tryOne),
      );
    },
    isDone: () =>
      open().every(
        (shard) => answered.has(nameOf(shard)) || (tries.get(nameOf(shard)) ?? 0) >= triesMax,
      ),
  };
}

/** An id that nobody has, in a slot of this shard; null: it owns none. */
function subscriberOf(map: SlotMap | null, shardName: string): string | null {
  if (map === null) return null;
  for (let index = 0; index < 10_000; index += 1) {
    const id = `sbr_${String(index).padStart(22, '0')}`;
    if (map.shards[map.owners[slotOf(id)] ?? -1]?.name === shardName) return id;
  }
  return null;
}
