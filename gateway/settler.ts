/**
 * Sends each settle to its shard until the shard has answered it. A settle may be sent any number of times: the script
 * answers `already`. The journal holds what this memory loses.
 */
import { slotOf } from '../billing/slot.ts';
import { ShardUnavailable } from '../shards/port.ts';
import type { SettleRequest, SettleResult, SlotMap } from '../shards/port.ts';
import type { FleetPort } from './fleet-port.ts';
import { isBehind } from './journal.ts';
import type { Journal, JournalFile, StreamPlace } from './journal.ts';
import { settleRefusalsMax, settleRepeatsMax } from './limits.ts';
import type { Log } from './log.ts';
import type { Metrics } from './metrics.ts';

export type Settler = {
  /** The first attempt. Resolves to null when it failed; it is then repeated in the background. Never rejects. */
  settle(request: SettleRequest, file: JournalFile): Promise<SettleResult | null>;
  /** Sends again what has no answer, at most a bounded number at once. */
  repeat(): Promise<void>;
  /** Sends what is in the journal: files of earlier runs, and everything of a shard that has lost its tail. */
  replay(): Promise<void>;
  isCommitted(place: StreamPlace): boolean;
  keptCount(): number;
};

type Kept = { readonly request: SettleRequest; readonly file: JournalFile; refusals: number };

export type SettlerDeps = {
  readonly fleet: Pick<FleetPort, 'shards' | 'map' | 'watermark'>;
  readonly journal: Journal;
  readonly log: Log;
  readonly metrics: Metrics;
};

/** A settler over a journal. */
export function createSettler(deps: SettlerDeps): Settler {
  return new JournalSettler(deps);
}

class JournalSettler implements Settler {
  readonly #deps: SettlerDeps;
  readonly #kept = new Set<Kept>();
  readonly #incarnations = new Map<string, number>();
  #isRepeating = false;
  #isReplaying = false;

  constructor(deps: SettlerDeps) {
    this.#deps = deps;
  }

  settle(request: SettleRequest, file: JournalFile): Promise<SettleResult | null> {
    return this.#send({ request, file, refusals: 0 });
  }

  async repeat(): Promise<void> {
    if (this.#isRepeating) return;
    this.#isRepeating = true;
    try {
      await inBatches([...this.#kept], async (kept) => {
        this.#deps.metrics.settleRepeated();
        await this.#send(kept);
      });
    } finally {
      this.#isRepeating = false;
    }
  }

  async replay(): Promise<void> {
    const map = this.#deps.fleet.map();
    if (map === null || this.#isReplaying) return;
    this.#isReplaying = true;
    try {
      // A shard of another incarnation may have lost its tail: all that is not yet forgotten is sent again. Every file
      // is marked before the first one is read, so that none is deleted on the word of the new incarnation.
      if (this.#hasNewIncarnation(map)) {
        for (const file of this.#deps.journal.files()) file.isUnread = true;
      }
      for (const file of this.#deps.journal.unread()) await this.#replayFile(file);
    } finally {
      this.#isReplaying = false;
    }
  }

  isCommitted(place: StreamPlace): boolean {
    const mark = this.#deps.fleet.watermark(place.shard);
    // The mark of an incarnation that `replay` has not seen yet says nothing about what was lost before it.
    if (mark === null || mark.incarnation !== this.#incarnations.get(place.shard)) return false;
    return !isBehind({ shard: place.shard, ...mark }, place);
  }

  keptCount(): number {
    return this.#kept.size;
  }

  async #send(kept: Kept): Promise<SettleResult | null> {
    const { request, file } = kept;
    try {
      const result = await this.#deps.fleet.shards.settle(request);
      this.#kept.delete(kept);
      this.#deps.journal.answered(file, this.#placeOf(request, result));
      return result;
    } catch (error) {
      this.#failed(kept, error);
      return null;
    }
  }

  #failed(kept: Kept, error: unknown): void {
    const { request, file } = kept;
    const { log, metrics, journal } = this.#deps;
    if (error instanceof ShardUnavailable) {
      this.#kept.add(kept);
      return;
    }
    metrics.settleRefused();
    kept.refusals += 1;
    if (kept.refusals < settleRefusalsMax) {
      this.#kept.add(kept);
      return;
    }
    // It would be refused for ever; the record itself stays in the log, where a person can read it.
    this.#kept.delete(kept);
    journal.answered(file, null);
    const { opId, subscriberId, productId, status } = request;
    log.error({ opId, subscriberId, productId, status, error }, 'a settle is refused for good');
  }

  /** Where the answer's fact lies in a stream, or null when it appended none or appended it before. */
  #placeOf(request: SettleRequest, result: SettleResult): StreamPlace | null {
    if (!('streamId' in result) || result.streamId === '') return null;
    const map = this.#deps.fleet.map();
    const owner = map?.shards[map.owners[slotOf(request.subscriberId)] ?? -1];
    if (owner === undefined) return null;
    return { shard: owner.name, incarnation: owner.incarnation, streamId: result.streamId };
  }

  #hasNewIncarnation(map: SlotMap): boolean {
    let isNew = false;
    for (const { name, incarnation, state } of map.shards) {
      if (state !== 'open') continue;
      const before = this.#incarnations.get(name);
      if (before !== undefined && before !== incarnation) isNew = true;
      this.#incarnations.set(name, incarnation);
    }
    return isNew;
  }

  /** Null: the disk does not give it now; it stays unread and is tried again. */
  #read(file: JournalFile): ReturnType<Journal['read']> | null {
    try {
      return this.#deps.journal.read(file);
    } catch (error) {
      this.#deps.log.error({ file: file.path, error }, 'a journal file cannot be read');
      return null;
    }
  }

  async #replayFile(file: JournalFile): Promise<void> {
    const { log } = this.#deps;
    const records = this.#read(file);
    if (records === null) return;
    const { requests, tornCount } = records;
    file.unsettled += requests.length;
    file.isUnread = false;
    if (tornCount > 0) log.warn({ file: file.path, count: tornCount }, 'journal has torn lines');
    log.info({ file: file.path, count: requests.length }, 'journal is replayed');
    await inBatches(requests, async (request) => {
      await this.#send({ request, file, refusals: 0 });
    });
  }
}

async function inBatches<T>(
  items: readonly T[],
  work: (item: T) => Promise<unknown>,
): Promise<void> {
  for (let index = 0; index < items.length; index += settleRepeatsMax) {
    await Promise.all(items.slice(index, index + settleRepeatsMax).map(work));
  }
}
