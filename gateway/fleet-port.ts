import type { Catalogue } from '../billing/catalogue.ts';
import type { Shards, SlotMap } from '../shards/port.ts';

/** What the gateway needs of `shards/fleet.ts`: the shards, and what they say about the whole. */
export type FleetPort = {
  readonly shards: Pick<Shards, 'authorize' | 'settle' | 'read'>;
  map(): SlotMap | null;
  catalogue(): Catalogue | null;
  /** Up to where Postgres has committed the stream of a shard; null: not known. */
  watermark(shard: string): { readonly incarnation: number; readonly streamId: string } | null;
  /** Called after map, catalogue or a watermark changed. @returns a function that ends it */
  onChange(listener: () => void): () => void;
  close(): Promise<void>;
};
