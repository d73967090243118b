import {
  MalformedFact,
  parseFact,
  type StreamFact,
  type UsageFact,
} from '../billing/usage-fact.ts';
import {
  FactRefused,
  type FactPlace,
  postDebit,
  postExpired,
  postLow,
  postSeal,
} from '../store/credit-facts.ts';
import { type Db, inTransaction, type Tx } from '../store/db.ts';
import { advanceCursor, CursorLost, parkFact, type StreamName } from '../store/stream-cursors.ts';
import { postUsage } from '../store/usage-batch.ts';

/** One entry of a shard's stream. */
export type StreamEntry = { readonly id: string; readonly fact: string };

/** An entry that was read: its fact, or what is wrong with it. */
export type ParsedEntry = StreamEntry & { readonly parsed: StreamFact | MalformedFact };

/** Reads the facts; apart from the commit, so that it can be done while Postgres is busy with the batch before. */
export function parseEntries(entries: readonly StreamEntry[]): readonly ParsedEntry[] {
  return entries.map((entry) => {
    try {
      return { ...entry, parsed: parseFact(entry.fact) };
    } catch (error) {
      if (!(error instanceof MalformedFact)) throw error;
      return { ...entry, parsed: error };
    }
  });
}

/** What a batch did. Amounts in micro-credits. */
export type BatchResult = {
  readonly entries: number;
  readonly events: number;
  readonly duplicates: number;
  readonly parked: readonly { readonly streamId: string; readonly reason: string }[];
  readonly writtenOffMicro: bigint;
};

export type Batch = {
  readonly stream: StreamName;
  /** Where the cursor stands. */
  readonly fromId: string;
  readonly entries: readonly ParsedEntry[];
  /** Called while Postgres stores the usage of a transaction. */
  readonly whileWriting?: (() => void) | undefined;
  /** For tests: called within the transaction, before it is committed. */
  readonly beforeCommit?: (() => void | Promise<void>) | undefined;
};

/**
 * Commits a batch: cursor, events, rollups, ledger, all in one transaction. A fact that cannot be posted is parked and
 * stops no other: when Postgres refuses a batch for what is in it, the halves are tried, down to the one at fault.
 * Throws CursorLost, and whatever may go better at the next try (Postgres away, a deadlock).
 */
export async function commitBatch(db: Db, batch: Batch): Promise<BatchResult> {
  const last = batch.entries.at(-1);
  if (last === undefined) return nothing;
  try {
    return await inTransaction(db, async (tx) => {
      await advanceCursor(tx, batch.stream, { fromId: batch.fromId, toId: last.id });
      const results: BatchResult[] = [];
      for (const entries of cutAtDebits(batch.entries)) {
        results.push(await postEntries(tx, { ...batch, entries }));
      }
      const result = results.reduce(both, nothing);
      await batch.beforeCommit?.();
      return result;
    });
  } catch (error) {
    if (error instanceof CursorLost || !isFaultOfFact(error)) throw error;
    if (batch.entries.length > 1) return commitHalves(db, batch);
    return parkAlone(db, batch, { ...last, reason: wordsOf(error) });
  }
}

const nothing: BatchResult = {
  entries: 0,
  events: 0,
  duplicates: 0,
  parked: [],
  writtenOffMicro: 0n,
};

async function commitHalves(db: Db, batch: Batch): Promise<BatchResult> {
  const middle = Math.ceil(batch.entries.length / 2);
  const left = await commitBatch(db, { ...batch, entries: batch.entries.slice(0, middle) });
  const fromId = batch.entries[middle - 1]?.id ?? batch.fromId;
  const right = await commitBatch(db, { ...batch, fromId, entries: batch.entries.slice(middle) });
  return both(left, right);
}

function both(left: BatchResult, right: BatchResult): BatchResult {
  return {
    entries: left.entries + right.entries,
    events: left.events + right.events,
    duplicates: left.duplicates + right.duplicates,
    parked: [...left.parked, ...right.parked],
    writtenOffMicro: left.writtenOffMicro + right.writtenOffMicro,
  };
}

/** A debit finds of its grant what the usage before it left, and not less by the usage after it: it ends its part. */
function cutAtDebits(entries: readonly ParsedEntry[]): readonly (readonly ParsedEntry[])[] {
  const parts: (readonly ParsedEntry[])[] = [];
  let from = 0;
  for (const [index, { parsed }] of entries.entries()) {
    if (parsed instanceof MalformedFact || parsed.kind !== 'debit') continue;
    parts.push(entries.slice(from, index + 1));
    from = index + 1;
  }
  return from < entries.length ? [...parts, entries.slice(from)] : parts;
}

async function parkAlone(
  db: Db,
  batch: Batch,
  parked: StreamEntry & { readonly reason: string },
): Promise<BatchResult> {
  await inTransaction(db, async (tx) => {
    await advanceCursor(tx, batch.stream, { fromId: batch.fromId, toId: parked.id });
    await park(tx, batch.stream, parked);
  });
  return {
    ...nothing,
    entries: 1,
    parked: [{ streamId: parked.id, reason: parked.reason }],
  };
}

function park(
  tx: Tx,
  stream: StreamName,
  parked: StreamEntry & { readonly reason: string },
): Promise<void> {
  return parkFact(tx, stream, { streamId: parked.id, fact: parked.fact, reason: parked.reason });
}

async function postEntries(tx: Tx, batch: Batch): Promise<BatchResult> {
  const refused: (StreamEntry & { readonly reason: string })[] = [];
  const usage: UsageFact[] = [];
  const others: {
    readonly entry: StreamEntry;
    readonly fact: Exclude<StreamFact, UsageFact>;
  }[] = [];
  for (const entry of batch.entries) {
    const fact = entry.parsed;
    if (fact instanceof MalformedFact) refused.push({ ...entry, reason: fact.message });
    else if (fact.kind === 'usage') usage.push(fact);
    else others.push({ entry, fact });
  }
  const outcome = await postUsage(tx, usage, batch.whileWriting);
  const reasons = new Map<unknown, string>(
    outcome.refused.map(({ fact, reason }) => [fact, reason]),
  );
  for (const entry of reasons.size > 0 ? batch.entries : []) {
    const reason = reasons.get(entry.parsed);
    if (reason !== undefined) refused.push({ ...entry, reason });
  }
  for (const { entry, fact } of others) {
    await postOther(tx, { ...batch.stream, streamId: entry.id }, fact);
  }
  for (const parked of refused) await park(tx, batch.stream, parked);
  return {
    entries: batch.entries.length,
    events: outcome.inserted,
    duplicates: outcome.duplicates,
    parked: refused.map(({ id, reason }) => ({ streamId: id, reason })),
    writtenOffMicro: outcome.writtenOffMicro,
  };
}

function postOther(tx: Tx, place: FactPlace, fact: Exclude<StreamFact, UsageFact>): Promise<void> {
  switch (fact.kind) {
    case 'seal':
      return postSeal(tx, place, fact);
    case 'expired':
      return postExpired(tx, place, fact);
    case 'debit':
      return postDebit(tx, fact);
    case 'low':
      return postLow(tx, place, fact);
    default:
      return fact satisfies never;
  }
}

/**
 * Whether the same batch would be refused again whatever the weather: data that Postgres' types (22), constraints (23)
 * or triggers (P0001) refuse. Anything else, a fault of ours included, is tried again and never parked: a wrong
 * statement would else put every fact aside.
 */
function isFaultOfFact(error: unknown): boolean {
  if (error instanceof FactRefused) return true;
  if (!(error instanceof Error) || !('code' in error) || typeof error.code !== 'string')
    return false;
  return /^(22|23)...$|^P0001$/.test(error.code);
}

function wordsOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
