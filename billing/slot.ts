/**
 * Which slot a subscriber lies in (fixed for ever), and which shard should own each slot (planned now and then, stored
 * in Postgres, looked up by index). No gateway ever computes an owner: it reads the stored map.
 */
export const slotCount = 4096;

/** A shard may own at most this much more than its share of the slots, in percent. */
const capPercent = 105;

/** The slot of a subscriber, 0 … 4095. Stored rows and shards rely on it: its golden vectors never change. */
export function slotOf(subscriberId: string): number {
  return hash32(subscriberId) & (slotCount - 1);
}

/** FNV-1a over UTF-16 code units, finished by the mixer of MurmurHash3 so that the low bits are as good as the high. */
function hash32(text: string): number {
  let hash = 0x811c9dc5;
  for (let index = 0; index < text.length; index++) {
    hash = Math.imul(hash ^ text.charCodeAt(index), 0x01000193);
  }
  hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b);
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35);
  return (hash ^ (hash >>> 16)) >>> 0;
}

export type ShardWeight = { readonly name: string; readonly weight: number };

/**
 * The owner of each slot, by weighted rendezvous hashing, with no shard above `ceil(its share × 1.05)`.
 * Only what must move moves: slots of a shard that left or has weight 0, slots that a shard without any slot wins, and
 * what lies above a cap. Planning again from the result changes nothing.
 * @param previous The owner of each slot until now (names; a name that is not in `shards` has left), or null.
 * @returns 4,096 names.
 * @throws RangeError when no shard has a weight, a name occurs twice, or `previous` has another length.
 */
export function planSlots(
  shards: readonly ShardWeight[],
  previous: readonly (string | null)[] | null,
): string[] {
  const live = shards.filter((shard) => shard.weight > 0);
  if (live.length === 0) throw new RangeError('no shard has a weight above zero');
  if (new Set(shards.map((shard) => shard.name)).size < shards.length) {
    throw new RangeError('two shards have one name');
  }
  if (previous !== null && previous.length !== slotCount) {
    throw new RangeError(`a plan has ${slotCount} slots, not ${previous.length}`);
  }
  const owners = firstChoices(live, previous ?? Array.from({ length: slotCount }, () => null));
  return fillUnowned(live, releaseAboveCap(live, owners));
}

function firstChoices(
  live: readonly ShardWeight[],
  previous: readonly (string | null)[],
): (ShardWeight | null)[] {
  const byName = new Map(live.map((shard) => [shard.name, shard]));
  const owning = new Set(previous);
  const newcomers = live.filter((shard) => !owning.has(shard.name));
  return previous.map((name, slot) => {
    const kept = name === null ? undefined : byName.get(name);
    if (kept === undefined) return null;
    return best([kept, ...newcomers], slot);
  });
}

function releaseAboveCap(
  live: readonly ShardWeight[],
  owners: readonly (ShardWeight | null)[],
): (ShardWeight | null)[] {
  const kept = [...owners];
  const caps = capsOf(live);
  for (const shard of live) {
    const slots = owners.flatMap((owner, slot) => (owner?.name === shard.name ? [slot] : []));
    const byScore = slots.toSorted((a, b) => score(shard, b) - score(shard, a) || a - b);
    for (const slot of byScore.slice(caps.get(shard.name))) kept[slot] = null;
  }
  return kept;
}

function fillUnowned(
  live: readonly ShardWeight[],
  owners: readonly (ShardWeight | null)[],
): string[] {
  const room = capsOf(live);
  const take = (shard: ShardWeight): string => {
    room.set(shard.name, (room.get(shard.name) ?? 0) - 1);
    return shard.name;
  };
  const names = owners.map((owner) => (owner === null ? null : take(owner)));
  return names.map((name, slot) => {
    if (name !== null) return name;
    return take(
      best(
        live.filter((shard) => (room.get(shard.name) ?? 0) > 0),
        slot,
      ),
    );
  });
}

function capsOf(live: readonly ShardWeight[]): Map<string, number> {
  const whole = live.reduce((sum, shard) => sum + shard.weight, 0);
  return new Map(
    live.map((shard) => [
      shard.name,
      Math.ceil((slotCount * shard.weight * capPercent) / (whole * 100)),
    ]),
  );
}

function best(candidates: readonly ShardWeight[], slot: number): ShardWeight {
  return candidates.reduce((winner, shard) => {
    const difference = score(shard, slot) - score(winner, slot);
    if (difference !== 0) return difference > 0 ? shard : winner;
    return shard.name < winner.name ? shard : winner;
  });
}

/** The weighted rendezvous score: −weight / ln(u), u in (0, 1) from the hash of shard and slot. */
function score(shard: ShardWeight, slot: number): number {
  const u = (hash32(`${shard.name}/${slot}`) + 0.5) / 0x1_0000_0000;
  return -shard.weight / Math.log(u);
}
