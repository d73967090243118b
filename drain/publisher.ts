/**
 * Writes to every shard what gateways copy from any of them: the slot map and the catalogue, whenever their version in
 * Postgres is not the one that was written there last, and again after a shard was opened anew.
 */
import type { Logger } from 'pino';

import type { ShardLink } from '../shards/admin-client.ts';
import { formatSlotMap } from '../shards/slot-map.ts';
import { readCatalogue, type CatalogueFault } from '../store/catalogue-snapshot.ts';
import type { Db } from '../store/db.ts';
import { readRuntimeVersions } from '../store/slots.ts';
import type { ShardMap } from './shard-map.ts';
import { startTicker, type Ticker } from './ticker.ts';

export type PublisherDeps = {
  readonly db: Db;
  readonly map: ShardMap;
  readonly links: readonly Pick<ShardLink, 'name' | 'writeMap' | 'writeCatalogue'>[];
  readonly log: Logger;
  readonly pollMs?: number;
};

/** Starts publishing; it goes on until stopped. */
export function startPublisher(deps: PublisherDeps): Ticker {
  const { db, map, log } = deps;
  /** What each shard was given last. Every opening is a new version of the map, so a shard that lost it gets it anew. */
  const written = new Map<string, Versions>();
  let told = -1;

  const publish = async (): Promise<void> => {
    await map.refresh();
    const wanted = {
      map: map.current().version,
      catalogue: (await readRuntimeVersions(db)).catalogue,
    };
    const behind = deps.links.filter(({ name }) => !isSame(written.get(name), wanted));
    if (behind.length === 0) return;
    const faults: CatalogueFault[] = [];
    const catalogue = await readCatalogue(db, (fault) => faults.push(fault));
    if (catalogue.version !== told) {
      told = catalogue.version;
      for (const fault of faults) log.error(fault, 'a product is not served: its rows do not hold');
    }
    const [mapJson, catalogueJson] = [formatSlotMap(map.current()), JSON.stringify(catalogue)];
    const has = { map: map.current().version, catalogue: catalogue.version };
    await Promise.all(
      behind.map(async (link) => {
        try {
          await link.writeCatalogue(catalogueJson);
          await link.writeMap(mapJson);
          written.set(link.name, has);
        } catch (error) {
          written.delete(link.name);
          log.debug({ shard: link.name, err: error }, 'a shard takes no map and catalogue now');
        }
      }),
    );
  };
  return startTicker({
    eachMs: deps.pollMs ?? 500,
    look: publish,
    onTrouble: (error) => {
      log.warn({ err: error }, 'Postgres could not be asked for the map and the catalogue');
    },
  });
}

type Versions = { readonly map: number; readonly catalogue: number };

function isSame(has: Versions | undefined, wanted: Versions): boolean {
  return has?.map === wanted.map && has.catalogue === wanted.catalogue;
}
