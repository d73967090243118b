import { COPY_NULL, copyIn, copyText } from './copy-in.ts';
import type { Tx } from './db.ts';
import { textArray } from './pg-array.ts';
import { selectRows } from './query.ts';
import type { UsageEntry } from './usage-batch.ts';

const COPY_EVENTS = `COPY usage_events (event_day, event_id, environment, subscriber_id, subscription_id, segment_id,
  period_id, adjusts_period_id, product_id, api_key_id, occurred_at, status, meter_ids, quantities, bucket_ids,
  bucket_micro, credits_micro, overage_micro, written_off_micro, flags, ledger_txn_id) FROM STDIN`;
/** Rows that are put together at once, while Postgres writes the ones before. */
const PART_MAX = 1_000;

/**
 * Stores the events, which have distinct ids, and gives those that were new, in the same order: `entries` itself when all
 * were, as a rule. COPY cannot pass over a row that is there already, so a batch that has one is copied again without it.
 * An event that spends names the transaction of its subscriber in `txnIds`. `onSent`: see `copyIn`.
 */
export async function insertEvents(
  tx: Tx,
  entries: readonly UsageEntry[],
  txnIds: ReadonlyMap<string, bigint>,
  onSent: () => void,
): Promise<readonly UsageEntry[]> {
  let fresh = entries;
  while (fresh.length > 0) {
    const rows = rowsOf(fresh, txnIds);
    try {
      await tx.transaction((savepoint) => copyIn(savepoint, COPY_EVENTS, rows, onSent));
      return fresh;
    } catch (error) {
      if (!isRepeat(error)) throw error;
      // Whoever wrote it has committed, so it is seen now; one that another drain commits meanwhile is met next time round.
      fresh = await withoutStored(tx, fresh);
    }
  }
  return fresh;
}

function isRepeat(error: unknown): boolean {
  return error instanceof Error && 'code' in error && error.code === '23505';
}

async function withoutStored(
  tx: Tx,
  entries: readonly UsageEntry[],
): Promise<readonly UsageEntry[]> {
  const rows = await selectRows<{ eventId: string }>(
    tx,
    `SELECT u.event_id AS "eventId" FROM unnest(?::text[]) AS n(event_id)
     JOIN usage_events u ON u.event_day = to_date(left(n.event_id, 8), 'YYYYMMDD') AND u.event_id = n.event_id`,
    [textArray(entries.map(({ fact }) => fact.opId))],
  );
  const stored = new Set(rows.map(({ eventId }) => eventId));
  return entries.filter(({ fact }) => !stored.has(fact.opId));
}

function* rowsOf(
  entries: readonly UsageEntry[],
  txnIds: ReadonlyMap<string, bigint>,
): Generator<string> {
  for (let from = 0; from < entries.length; from += PART_MAX) {
    let part = '';
    for (const entry of entries.slice(from, from + PART_MAX)) part += rowOf(entry, txnIds);
    yield part;
  }
}

function rowOf(entry: UsageEntry, txnIds: ReadonlyMap<string, bigint>): string {
  const { fact, environment, takes } = entry;
  const opId = copyText(fact.opId);
  const adjusts = entry.adjustsPeriodId === '' ? COPY_NULL : entry.adjustsPeriodId;
  const key = fact.keyId === '' ? COPY_NULL : copyText(fact.keyId);
  const txn = entry.creditsMicro > 0n ? txnIds.get(fact.subscriberId) : undefined;
  const quantities = fact.quantities.map(({ quantity }) => quantity).join(',');
  const bucketIds = takes.map(({ bucketId }) => bucketId).join(',');
  const bucketMicro = takes.map(({ micro }) => micro).join(',');
  const place = `${environment}\t${fact.subscriberId}\t${entry.subscriptionId}\t${entry.segmentId}\t${entry.periodId}`;
  const use = `${timeText(fact.atMs)}\t${fact.status}\t{${entry.meterIds.join(',')}}\t{${quantities}}`;
  const cost = `{${bucketIds}}\t{${bucketMicro}}\t${entry.creditsMicro}\t${entry.overageMicro}\t${entry.writtenOffMicro}`;
  return `${opId.slice(0, 8)}\t${opId}\t${place}\t${adjusts}\t${fact.productId}\t${key}\t${use}\t${cost}\t{${fact.flags.join(',')}}\t${txn ?? COPY_NULL}\n`;
}

/** ISO 8601 as Postgres reads it: a year after 9999 has neither sign nor leading zero. */
function timeText(ms: number): string {
  const text = new Date(ms).toISOString();
  return text.startsWith('+') ? text.replace(/^\+0*/, '') : text;
}
