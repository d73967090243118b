/**
 * All shards as a process of ours sees them: what they publish (slot map, catalogue, watermarks), polled each half
 * second, the highest version kept; and the port of `client.ts` over it. While every shard is away the last snapshot
 * stays, and serves only to answer that nothing can be decided.
 */
import type { Catalogue } from '../billing/catalogue.ts';
import {
  openShardLink,
  type ShardAddress,
  type ShardLink,
  type Watermark,
} from './admin-client.ts';
import { createShards } from './client.ts';
import type { ConnectionOptions } from './connection.ts';
import type { Shards, SlotMap } from './port.ts';

export type Fleet = {
  readonly shards: Shards;
  /** Null until a shard has published one. */
  map(): SlotMap | null;
  catalogue(): Catalogue | null;
  /** Up to where the facts of this shard are committed in Postgres; null when it has not said. */
  watermark(shard: string): Watermark | null;
  /** Called after each poll that found a newer map, catalogue or watermark. Returns the way to end it. */
  onChange(listener: () => void): () => void;
  /** Polls now. */
  refresh(): Promise<void>;
  /** Waits for the first slot map. False after `timeoutMs`. */
  awaitMap(timeoutMs: number): Promise<boolean>;
  close(): Promise<void>;
};

const pollMsDefault = 500;

/** Connects to the shards at these addresses. `pollMs` is for tests. */
export function connectShards(
  addresses: readonly ShardAddress[],
  options: { readonly connectionOptions?: ConnectionOptions; readonly pollMs?: number } = {},
): Fleet {
  const links = addresses.map(openShardLink);
  const published = createPublished();
  const listeners = new Set<() => void>();
  const pollLink = async (link: ShardLink): Promise<void> => {
    if (await published.readFrom(link)) for (const listener of listeners) listener();
  };
  // Each shard is polled by itself, so that one that is away does not hold up the news from the others; polls of one
  // shard that overlap are one poll, so that a burst of stale epochs asks it once.
  const polls = links.map((link) => oneAtATime(() => pollLink(link)));
  const refresh = async (): Promise<void> => {
    await Promise.all(polls.map((poll) => poll()));
  };
  const timer = setInterval(() => void refresh(), options.pollMs ?? pollMsDefault);
  timer.unref();
  void refresh();

  const shards = createShards({
    mapSource: published.map,
    refreshMap: refresh,
    ...(options.connectionOptions === undefined
      ? {}
      : { connectionOptions: options.connectionOptions }),
  });
  return {
    shards,
    map: published.map,
    catalogue: published.catalogue,
    watermark: published.watermark,
    onChange: (listener) => {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
    refresh,
    awaitMap: async (timeoutMs) => {
      const endAt = performance.now() + timeoutMs;
      while (published.map() === null && performance.now() < endAt) {
        void refresh();
        await new Promise((resolve) => setTimeout(resolve, 20));
      }
      return published.map() !== null;
    },
    close: async () => {
      clearInterval(timer);
      await Promise.all([shards.close(), ...links.map((link) => link.close())]);
    },
  };
}

function oneAtATime(work: () => Promise<void>): () => Promise<void> {
  let running: Promise<void> | null = null;
  return async () => {
    running ??= work().finally(() => {
      running = null;
    });
    await running;
  };
}

/** The newest of everything that any shard has published. */
function createPublished() {
  let map: SlotMap | null = null;
  let catalogue: Catalogue | null = null;
  const watermarks = new Map<string, Watermark>();

  const readFrom = async (link: ShardLink): Promise<boolean> => {
    const [newMap, newCatalogue, newWatermark] = await Promise.all([
      orNull(link.readMap()),
      orNull(link.readCatalogue()),
      orNull(link.readWatermark()),
    ]);
    let isChanged = false;
    if (newMap !== null && newMap.version > (map?.version ?? -1)) {
      map = newMap;
      isChanged = true;
    }
    if (newCatalogue !== null && newCatalogue.version > (catalogue?.version ?? -1)) {
      catalogue = newCatalogue;
      isChanged = true;
    }
    const known = watermarks.get(link.name);
    if (
      newWatermark !== null &&
      (known?.incarnation !== newWatermark.incarnation || known.streamId !== newWatermark.streamId)
    ) {
      watermarks.set(link.name, newWatermark);
      isChanged = true;
    }
    return isChanged;
  };
  return {
    readFrom,
    map: (): SlotMap | null => map,
    catalogue: (): Catalogue | null => catalogue,
    watermark: (shard: string): Watermark | null => watermarks.get(shard) ?? null,
  };
}

/** A shard that is away, or publishes what cannot be read, publishes nothing. */
async function orNull<T>(reading: Promise<T | null>): Promise<T | null> {
  try {
    return await reading;
  } catch {
    return null;
  }
}
