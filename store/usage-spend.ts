import type { Tx } from './db.ts';
import { type BucketTake, takeFromGrants } from './grant-remainders.ts';
import { numberArray, textArray } from './pg-array.ts';
import { selectRows } from './query.ts';
import type { UsageEntry } from './usage-batch.ts';

/** What the events took of each bucket. */
export function sumTakes(entries: readonly UsageEntry[]): readonly BucketTake[] {
  const sums = new Map<string, bigint>();
  for (const { takes } of entries) {
    for (const { bucketId, micro } of takes) {
      sums.set(bucketId, (sums.get(bucketId) ?? 0n) + BigInt(micro));
    }
  }
  return [...sums].map(([bucketId, micro]) => ({ bucketId: BigInt(bucketId), micro }));
}

/**
 * Takes from the grants what new events spent, `takes` in all, and gives the events as they then stand. A shard that lost the tail of its
 * log has credits again that were spent before, and spends them a second time: no balance goes below zero, so what the
 * grants no longer have is written off, from the latest event back. The use itself stays, and is billed as metered.
 */
export async function spendFromGrants(
  tx: Tx,
  fresh: readonly UsageEntry[],
  takes: readonly BucketTake[],
): Promise<readonly UsageEntry[]> {
  const lacking = await takeFromGrants(tx, takes);
  if (lacking.size === 0) return fresh;
  const short = new Map([...lacking].map(([bucketId, micro]) => [String(bucketId), micro]));
  const cut = new Map<string, UsageEntry>();
  for (const entry of fresh.toSorted((a, b) => b.fact.atMs - a.fact.atMs)) {
    const trimmed = trim(entry, short);
    if (trimmed !== entry) cut.set(entry.fact.opId, trimmed);
  }
  await rewriteEvents(tx, [...cut.values()]);
  return fresh.map((entry) => cut.get(entry.fact.opId) ?? entry);
}

/** The event without what its buckets lack; counts `short` down by it. */
function trim(entry: UsageEntry, short: Map<string, bigint>): UsageEntry {
  let writtenOff = 0n;
  const takes = entry.takes.flatMap(({ bucketId, micro }) => {
    const lacks = short.get(bucketId) ?? 0n;
    const lost = lacks < BigInt(micro) ? lacks : BigInt(micro);
    short.set(bucketId, lacks - lost);
    writtenOff += lost;
    const left = micro - Number(lost);
    return left > 0 ? [{ bucketId, micro: left }] : [];
  });
  if (writtenOff === 0n) return entry;
  return {
    ...entry,
    takes,
    creditsMicro: entry.creditsMicro - writtenOff,
    writtenOffMicro: entry.writtenOffMicro + writtenOff,
  };
}

/** Stores what became of the credits of events that this transaction has inserted. */
export async function rewriteEvents(tx: Tx, entries: readonly UsageEntry[]): Promise<void> {
  if (entries.length === 0) return;
  await selectRows(
    tx,
    `UPDATE usage_events u SET bucket_ids = n.bucket_ids::bigint[], bucket_micro = n.bucket_micro::bigint[],
       credits_micro = n.credits_micro, overage_micro = n.overage_micro, written_off_micro = n.written_off_micro,
       ledger_txn_id = CASE WHEN n.credits_micro > 0 THEN u.ledger_txn_id END
     FROM unnest(?::text[], ?::text[], ?::text[], ?::bigint[], ?::bigint[], ?::bigint[])
       AS n(event_id, bucket_ids, bucket_micro, credits_micro, overage_micro, written_off_micro)
     WHERE u.event_day = to_date(left(n.event_id, 8), 'YYYYMMDD') AND u.event_id = n.event_id`,
    [
      textArray(entries.map(({ fact }) => fact.opId)),
      textArray(entries.map(({ takes }) => `{${takes.map(({ bucketId }) => bucketId).join(',')}}`)),
      textArray(entries.map(({ takes }) => `{${takes.map(({ micro }) => micro).join(',')}}`)),
      numberArray(entries.map(({ creditsMicro }) => creditsMicro)),
      numberArray(entries.map(({ overageMicro }) => overageMicro)),
      numberArray(entries.map(({ writtenOffMicro }) => writtenOffMicro)),
    ],
  );
}
