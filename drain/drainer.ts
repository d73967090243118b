import { setTimeout as sleep } from 'node:timers/promises';

import type { Db } from '../store/db.ts';
import { ensureDayPartition } from '../store/day-partitions.ts';
import { runWhenLeader } from '../store/standby.ts';
import { CursorLost, openCursor } from '../store/stream-cursors.ts';
import {
  type BatchResult,
  commitBatch,
  parseEntries,
  type ParsedEntry,
  type StreamEntry,
} from './batch.ts';

/**
 * Copies one shard's usage stream to Postgres: read a batch, commit it with the cursor in one transaction, then trim.
 * At-least-once reading with unique keys and a fenced cursor makes each effect happen once, whatever dies when.
 * One drainer a shard is active: the others wait for its advisory lock, and the cursor's row refuses a second one.
 */
export type DrainLink = {
  /** Entries after `afterId`, oldest first; waits up to `blockMs` for the first. */
  readonly readStream: (
    afterId: string,
    count: number,
    blockMs: number,
  ) => Promise<readonly StreamEntry[]>;
  /** Drops entries below `minId`. */
  readonly trimStream: (minId: string) => Promise<unknown>;
  readonly streamLength: () => Promise<number>;
  /** What is committed: gateways forget what lies below. */
  readonly writeWatermark: (committed: {
    readonly incarnation: number;
    readonly streamId: string;
  }) => Promise<unknown>;
  /** Tells the gateways to stop admitting while the stream is overfull. */
  readonly writeFull?: (isFull: boolean) => Promise<unknown>;
};

/** The part of pino's logger that is used here. */
export type DrainLog = {
  readonly info: (fields: object, message: string) => void;
  readonly warn: (fields: object, message: string) => void;
  readonly error: (fields: object, message: string) => void;
};

export type DrainerOptions = {
  readonly db: Db;
  /** For the session that holds the advisory lock. */
  readonly databaseUrl: string;
  readonly link: DrainLink;
  readonly shard: string;
  readonly incarnation: number;
  readonly log: DrainLog;
  /** Entries in one transaction, at most; 20,000 when absent. */
  readonly batchMax?: number;
  /** Entries above which admission stops; 2,000,000 when absent. */
  readonly streamMax?: number;
  /** How long a read waits for the first entry; 500 when absent. */
  readonly blockMs?: number;
  /** For tests: called at each step of a batch. */
  readonly failpoint?: (name: Failpoint) => void | Promise<void>;
};
export type Failpoint = 'before_tx' | 'before_commit' | 'after_commit';

export type DrainerStats = {
  readonly isActive: boolean;
  readonly cursor: string | null;
  readonly batches: number;
  readonly entries: number;
  readonly events: number;
  readonly duplicates: number;
  readonly parked: number;
  readonly writtenOffMicro: bigint;
  readonly failures: number;
  readonly isFull: boolean;
};

export type Drainer = {
  /** Ends after the batch in hand; the lock is free when it resolves. */
  readonly stop: () => Promise<void>;
  /** Resolves when everything that was in the stream at the call is committed. Rejects when the drainer ends before. */
  readonly idle: () => Promise<void>;
  /** Entries of the stream that are not committed yet. */
  readonly lag: () => Promise<number>;
  readonly stats: () => DrainerStats;
};

/**
 * The more a batch holds, the more events of one subscriber share a row of rollups and a post of the ledger. With more
 * than this little is gained, and a close that waits for it waits longer.
 */
const BATCH_MAX = 20_000;
/** A shard does nothing else while it answers a read, so a batch is read in pieces. */
const READ_MAX = 1_000;
const STREAM_MAX = 2_000_000;
const BLOCK_MS = 500;
/** A blocking read has no timeout of its own; a shard that is frozen must not hold up the end of this process. */
const READ_MS_MAX = BLOCK_MS + 4_000;
/** A pause after a batch that was far from full: a trickle then makes forty transactions a second, not a thousand. */
const LINGER_MS = 25;
const THIN_BATCH = 500;
const RETRY_FIRST_MS = 100;
const RETRY_LAST_MS = 5_000;
const FULL_CHECK_MS = 1_000;
/** Days around today that get a partition of their own; anything else stays in the default one. */
const PARTITION_DAYS = { back: 45, ahead: 2 } as const;

/** Starts draining as soon as the lock is free. Postgres or the shard may be away at any time: it waits and goes on. */
export function runDrainer(options: DrainerOptions): Drainer {
  const stopping = new AbortController();
  const state = new DrainerState(options);
  const running = runWhenLeader(
    {
      databaseUrl: options.databaseUrl,
      name: `drain:${options.shard}`,
      onTrouble: (error) => {
        state.failed(error, 'the drain lost its place and asks for it again');
      },
    },
    stopping.signal,
    (signal) => drain(state, signal),
  );
  return {
    stop: async () => {
      stopping.abort();
      await running;
      state.ended();
    },
    idle: () => state.untilIdle(),
    lag: () => options.link.streamLength(),
    stats: () => state.stats(),
  };
}

type Reading = {
  readonly afterId: string;
  /** Reads are numbered in the order in which they begin. */
  readonly number: number;
  readonly entries: Promise<readonly ParsedEntry[]>;
};

/** What one drainer knows of itself. */
class DrainerState {
  readonly options: DrainerOptions;
  cursor: string | null = null;
  isFull = false;
  #isActive = false;
  #totals = { batches: 0, entries: 0, events: 0, duplicates: 0, parked: 0, failures: 0 };
  #writtenOffMicro = 0n;
  #waiting: { readonly since: number; readonly settle: PromiseWithResolvers<void> }[] = [];
  #reads = 0;
  #ahead: Reading | null = null;
  #isEnded = false;

  constructor(options: DrainerOptions) {
    this.options = options;
  }

  get stream(): { readonly shard: string; readonly incarnation: number } {
    return { shard: this.options.shard, incarnation: this.options.incarnation };
  }

  active(isActive: boolean): void {
    this.#isActive = isActive;
  }

  /** A read begins: whoever waits for the stream's end must see one that began after it asked. */
  readBegins(): number {
    this.#reads += 1;
    return this.#reads;
  }

  /** The read after the batch in hand, already begun. */
  keepAhead(reading: Reading): void {
    this.#ahead = reading;
  }

  /** Null when nothing was read ahead from exactly there. */
  takeAhead(afterId: string): Reading | null {
    const ahead = this.#ahead;
    this.#ahead = null;
    return ahead?.afterId === afterId ? ahead : null;
  }

  readWasEmpty(read: number): void {
    const over = this.#waiting.filter(({ since }) => since < read);
    this.#waiting = this.#waiting.filter(({ since }) => since >= read);
    for (const { settle } of over) settle.resolve();
  }

  untilIdle(): Promise<void> {
    if (this.#isEnded) return Promise.reject(new Error('the drainer has ended'));
    const settle = Promise.withResolvers<void>();
    this.#waiting.push({ since: this.#reads, settle });
    return settle.promise;
  }

  ended(): void {
    this.#isEnded = true;
    for (const { settle } of this.#waiting) settle.reject(new Error('the drainer has ended'));
    this.#waiting = [];
  }

  failed(error: unknown, message: string): void {
    this.#totals.failures += 1;
    this.options.log.warn({ err: error, shard: this.options.shard }, message);
  }

  committed(result: BatchResult): void {
    this.#totals.batches += 1;
    this.#totals.entries += result.entries;
    this.#totals.events += result.events;
    this.#totals.duplicates += result.duplicates;
    this.#totals.parked += result.parked.length;
    this.#writtenOffMicro += result.writtenOffMicro;
    for (const parked of result.parked) {
      this.options.log.error({ ...parked, shard: this.options.shard }, 'a usage fact was parked');
    }
  }

  stats(): DrainerStats {
    return {
      isActive: this.#isActive,
      cursor: this.cursor,
      ...this.#totals,
      writtenOffMicro: this.#writtenOffMicro,
      isFull: this.isFull,
    };
  }
}

/** Runs while the lock is held; throws CursorLost when another one drains. */
async function drain(state: DrainerState, signal: AbortSignal): Promise<void> {
  const { db, shard, incarnation, log } = state.options;
  let cursor = await openCursor(db, state.stream);
  state.cursor = cursor;
  state.active(true);
  log.info({ shard, incarnation, cursor }, 'the drain begins');
  const partitions = new Partitions(state);
  const pressure = watchPressure(state, signal);
  try {
    await partitions.ensureAhead();
    // What was committed by one that died before it could trim.
    await afterCommit(state, cursor);
    for (let retryMs = RETRY_FIRST_MS; !signal.aborted;) {
      try {
        const next = await drainOnce(state, { cursor, partitions });
        state.cursor = next.cursor;
        cursor = next.cursor;
        retryMs = RETRY_FIRST_MS;
        if (next.isThin) await sleep(LINGER_MS, undefined, { signal }).catch(() => {});
      } catch (error) {
        if (error instanceof CursorLost) throw error;
        state.failed(error, 'a batch failed and is tried again');
        await sleep(retryMs, undefined, { signal }).catch(() => {});
        retryMs = Math.min(retryMs * 2, RETRY_LAST_MS);
        // The outcome of a commit whose answer was lost: the cursor tells.
        cursor = await reopened(state, cursor);
      }
    }
  } finally {
    state.active(false);
    await pressure;
  }
}

async function reopened(state: DrainerState, cursor: string): Promise<string> {
  try {
    return await openCursor(state.options.db, state.stream);
  } catch (error) {
    if (error instanceof CursorLost) throw error;
    return cursor;
  }
}

async function drainOnce(
  state: DrainerState,
  at: { readonly cursor: string; readonly partitions: Partitions },
): Promise<{ readonly cursor: string; readonly isThin: boolean }> {
  const { db, batchMax = BATCH_MAX, failpoint } = state.options;
  const reading = state.takeAhead(at.cursor) ?? beginRead(state, at.cursor);
  const entries = await reading.entries;
  const last = entries.at(-1);
  if (last === undefined) {
    state.readWasEmpty(reading.number);
    return { cursor: at.cursor, isThin: false };
  }
  await at.partitions.ensureFor(entries);
  // A full batch is followed by another one: it is read while Postgres stores this one.
  const readAhead = once(() => {
    if (entries.length === batchMax) state.keepAhead(beginRead(state, last.id));
  });
  await failpoint?.('before_tx');
  const result = await commitBatch(db, {
    stream: state.stream,
    fromId: at.cursor,
    entries,
    whileWriting: readAhead,
    beforeCommit: failpoint === undefined ? undefined : () => failpoint('before_commit'),
  });
  state.committed(result);
  await failpoint?.('after_commit');
  await afterCommit(state, last.id);
  return { cursor: last.id, isThin: entries.length < Math.min(THIN_BATCH, batchMax / 4) };
}

/** A batch that has to be tried in halves stores its usage more than once. */
function once(action: () => void): () => void {
  let isDone = false;
  return () => {
    if (isDone) return;
    isDone = true;
    action();
  };
}

function beginRead(state: DrainerState, afterId: string): Reading {
  const reading = { afterId, number: state.readBegins(), entries: readEntries(state, afterId) };
  // Whoever awaits it sees the failure; a read ahead that nobody takes up has lost nothing.
  reading.entries.catch(() => {});
  return reading;
}

async function readEntries(state: DrainerState, afterId: string): Promise<readonly ParsedEntry[]> {
  const { link, batchMax = BATCH_MAX, blockMs = BLOCK_MS } = state.options;
  const read: ParsedEntry[] = [];
  let last = afterId;
  for (;;) {
    const count = Math.min(READ_MAX, batchMax - read.length);
    const piece = await answered(link.readStream(last, count, read.length === 0 ? blockMs : 0));
    read.push(...parseEntries(piece));
    last = piece.at(-1)?.id ?? last;
    if (piece.length < count || read.length >= batchMax) return read;
  }
}

async function answered<T>(read: Promise<T>): Promise<T> {
  const over = new AbortController();
  const late = sleep(READ_MS_MAX, undefined, { signal: over.signal }).then(() => {
    throw new Error('the shard did not answer a read of its stream');
  });
  try {
    return await Promise.race([read, late]);
  } finally {
    over.abort();
    late.catch(() => {});
  }
}

/** Neither is needed for correctness, so the shard's absence here is no failure of the batch. */
async function afterCommit(state: DrainerState, cursor: string): Promise<void> {
  try {
    await state.options.link.trimStream(idAfter(cursor));
    await state.options.link.writeWatermark({
      incarnation: state.options.incarnation,
      streamId: cursor,
    });
  } catch (error) {
    state.failed(error, 'the stream could not be trimmed');
  }
}

/** The least id above `id`. */
function idAfter(id: string): string {
  const [ms = '0', sequence = '0'] = id.split('-');
  return `${ms}-${BigInt(sequence) + 1n}`;
}

/** Says on the shard whether its stream is overfull, when that changes. */
async function watchPressure(state: DrainerState, signal: AbortSignal): Promise<void> {
  const { link, log, shard, streamMax = STREAM_MAX } = state.options;
  let told: boolean | null = null;
  while (!signal.aborted) {
    try {
      const entries = await link.streamLength();
      // Admission comes back well below the bound, so that it does not flutter.
      const isFull = state.isFull ? entries > streamMax * 0.9 : entries > streamMax;
      if (isFull !== told) {
        await link.writeFull?.(isFull);
        if (isFull) log.error({ shard, entries }, 'the usage stream is full: admission stops');
        told = isFull;
        state.isFull = isFull;
      }
    } catch {
      // The shard is away; the batches say so.
      told = null;
    }
    await sleep(FULL_CHECK_MS, undefined, { signal }).catch(() => {});
  }
}

/** Day partitions, made before a batch that needs them; when one cannot be made, the default partition keeps its events. */
class Partitions {
  readonly #state: DrainerState;
  readonly #seen = new Set<string>();

  constructor(state: DrainerState) {
    this.#state = state;
  }

  async ensureAhead(): Promise<void> {
    for (let day = -2; day <= PARTITION_DAYS.ahead; day += 1) await this.#ensure(dayText(day));
  }

  async ensureFor(entries: readonly StreamEntry[]): Promise<void> {
    for (const { fact } of entries) {
      if (!fact.startsWith('u|')) continue;
      const day = fact.slice(2, 10);
      if (!this.#seen.has(day)) await this.#ensure(day);
    }
  }

  async #ensure(day: string): Promise<void> {
    this.#seen.add(day);
    if (day < dayText(-PARTITION_DAYS.back) || day > dayText(PARTITION_DAYS.ahead)) return;
    try {
      await ensureDayPartition(this.#state.options.db, day);
    } catch (error) {
      this.#state.failed(error, `events of ${day} stay in the default partition`);
    }
  }
}

function dayText(daysFromToday: number): string {
  const instant = new Date(Date.now() + daysFromToday * 86_400_000);
  return instant.toISOString().slice(0, 10).replaceAll('-', '');
}
