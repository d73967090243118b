import { setImmediate as nextTurn } from 'node:timers/promises';

import type { Aggregation } from '../billing/plan.ts';
import type { UsageFact } from '../billing/usage-fact.ts';
import type { Tx } from './db.ts';
import { readBucketOwners, type BucketOwner } from './grant-remainders.ts';
import { postReserved, reserveTxnIds } from './ledger.ts';
import { numberArray, textArray } from './pg-array.ts';
import { selectRow, selectRows } from './query.ts';
import { askForUnheld, priceUnheld } from './unheld-usage.ts';
import { placeFacts, type PlacedFact } from './usage-placement.ts';
import { addCreditRollups, addUsageRollups } from './usage-rollups.ts';
import { spendFromGrants } from './usage-spend.ts';
import { addValuesAndLevels } from './usage-values.ts';

/**
 * Usage facts of a shard's stream → events, rollups, ledger and grants, all in the caller's transaction. An event that
 * is there already changes nothing: the effect of each fact is exactly once, however often the stream is read.
 */
export type UsageOutcome = {
  readonly inserted: number;
  readonly duplicates: number;
  /** What used more than the credits allowed and nobody pays for. */
  readonly writtenOffMicro: bigint;
  /** Facts that name something unknown; nothing of them was posted. */
  readonly refused: readonly { readonly fact: UsageFact; readonly reason: string }[];
};

/** One fact as it will be stored. Amounts in micro-credits. */
export type UsageEntry = PlacedFact & {
  readonly meterIds: readonly string[];
  /** Of the meters, in the same order. */
  readonly aggregations: readonly Aggregation[];
  readonly takes: readonly { readonly bucketId: string; readonly micro: number }[];
  readonly creditsMicro: bigint;
  readonly overageMicro: bigint;
  readonly writtenOffMicro: bigint;
  /** What the credits would have paid, had the shard still known the hold. */
  readonly unheldMicro: bigint;
};

/**
 * Posts the facts; of two with one operation id the first counts. Locks the touched periods FOR SHARE until the
 * transaction ends, so that no close can finalize between. Throws whatever Postgres refuses.
 */
export async function postUsage(tx: Tx, facts: readonly UsageFact[]): Promise<UsageOutcome> {
  const first = new Map<string, UsageFact>();
  for (const fact of facts) if (!first.has(fact.opId)) first.set(fact.opId, fact);
  // Sorted, to prevent deadlocks between two drains that insert the same event.
  const distinct = [...first.values()].toSorted((a, b) => (a.opId < b.opId ? -1 : 1));
  const { placed, refused } = await placeFacts(tx, distinct);
  const meters = await readMeters(tx, placed);
  const owners = await readBucketOwners(
    tx,
    placed.flatMap(({ fact }) => fact.takes.map((take) => take.bucketId)),
  );
  const unheldCosts = await priceUnheld(tx, placed);
  const entries: UsageEntry[] = [];
  for (const candidate of placed) {
    const reason = whyRefused(candidate, meters, owners);
    if (reason !== null) refused.push({ fact: candidate.fact, reason });
    else entries.push(entryOf(candidate, meters, unheldCosts.get(candidate.fact.opId) ?? 0n));
  }
  const fresh = await insertAndPost(tx, entries, owners);
  return {
    inserted: fresh.length,
    duplicates: facts.length - fresh.length - refused.length,
    writtenOffMicro: fresh.reduce((sum, entry) => sum + entry.writtenOffMicro, 0n),
    refused,
  };
}

type Meter = { readonly id: string; readonly aggregation: Aggregation };
type Meters = ReadonlyMap<string, Meter>;
const meterName = (environment: string, key: string): string => `${environment}/${key}`;

async function readMeters(tx: Tx, placed: readonly PlacedFact[]): Promise<Meters> {
  const keys = new Set(placed.flatMap(({ fact }) => fact.quantities.map(({ meter }) => meter)));
  if (keys.size === 0) return new Map();
  const rows = await selectRows<Meter & { environment: string; key: string }>(
    tx,
    'SELECT environment, lookup_id AS key, id, aggregation FROM meters WHERE lookup_id = ANY (?::text[])',
    [textArray([...keys])],
  );
  return new Map(rows.map((row) => [meterName(row.environment, row.key), row]));
}

function whyRefused(
  { fact, environment }: PlacedFact,
  meters: Meters,
  owners: ReadonlyMap<string, BucketOwner>,
): string | null {
  for (const { meter } of fact.quantities) {
    if (!meters.has(meterName(environment, meter))) return `there is no meter ${meter}`;
  }
  for (const { bucketId } of fact.takes) {
    const owner = owners.get(bucketId);
    if (owner?.subscriberId !== fact.subscriberId) {
      return `bucket ${bucketId} is not one of ${fact.subscriberId}`;
    }
  }
  return null;
}

function entryOf(placed: PlacedFact, meters: Meters, unheldMicro: bigint): UsageEntry {
  const { fact, environment } = placed;
  const takes = fact.takes.filter((take) => take.micro > 0);
  const used = fact.quantities.map(({ meter }) => meters.get(meterName(environment, meter)));
  return {
    ...placed,
    meterIds: used.map((meter) => meter?.id ?? ''),
    aggregations: used.map((meter) => meter?.aggregation ?? 'SUM'),
    takes,
    creditsMicro: takes.reduce((sum, take) => sum + BigInt(take.micro), 0n),
    overageMicro: BigInt(fact.overageMicro),
    // Until the shard has said what it took back, an unheld use is ours to bear.
    writtenOffMicro: BigInt(fact.writtenOffMicro) + unheldMicro,
    unheldMicro,
  };
}

/** Gives the entries that were new; everything else is done for these only. */
async function insertAndPost(
  tx: Tx,
  entries: readonly UsageEntry[],
  owners: ReadonlyMap<string, BucketOwner>,
): Promise<readonly UsageEntry[]> {
  if (entries.length === 0) return [];
  // The ids come before the transactions: an event names its ledger transaction, which is named after the first event
  // that turns out to be new. An id that is not used then leaves a gap, which means nothing.
  const spenders = [...new Set(entries.filter(hasSpent).map(({ fact }) => fact.subscriberId))];
  const ids = await reserveTxnIds(tx, spenders.length);
  const txnIds = new Map(spenders.map((subscriber, index) => [subscriber, ids[index] ?? 0n]));
  const inserted = await insertEvents(tx, entries, txnIds);
  if (inserted.length === 0) return [];
  const fresh = await askForUnheld(tx, await spendFromGrants(tx, inserted));
  await addUsageRollups(tx, fresh);
  await addValuesAndLevels(tx, fresh);
  await addCreditRollups(tx, fresh);
  await postSpend(tx, { fresh, owners, txnIds });
  return fresh;
}

const hasSpent = (entry: UsageEntry): boolean => entry.creditsMicro > 0n;

/** A full batch goes over in parts: what one is written from is put together while Postgres writes the one before. */
const PART_MAX = 2_500;

async function insertEvents(
  tx: Tx,
  entries: readonly UsageEntry[],
  txnIds: ReadonlyMap<string, bigint>,
): Promise<readonly UsageEntry[]> {
  const fresh: UsageEntry[] = [];
  let running: Promise<readonly UsageEntry[]> = Promise.resolve([]);
  for (let from = 0; from < entries.length; from += PART_MAX) {
    const part = entries.slice(from, from + PART_MAX);
    const values = eventValues(part, txnIds);
    fresh.push(...(await running));
    running = insertPart(tx, part, values);
    // A failure is seen where it is awaited, which is after the next part was put together.
    running.catch(() => {});
    await nextTurn();
  }
  fresh.push(...(await running));
  return fresh;
}

async function insertPart(
  tx: Tx,
  entries: readonly UsageEntry[],
  values: readonly string[],
): Promise<readonly UsageEntry[]> {
  const inserted = await selectRow<{ count: bigint; ids: readonly string[] | null }>(
    tx,
    INSERT_EVENTS,
    [...values, entries.length],
  );
  if (inserted?.count === BigInt(entries.length)) return entries;
  const isNew = new Set(inserted?.ids);
  return entries.filter(({ fact }) => isNew.has(fact.opId));
}

/**
 * What `INSERT_EVENTS` is given. What many events have in common goes over once, as a row of its own that the events
 * point to: that saves most of the text, and of the time to write and read it.
 */
function eventValues(
  entries: readonly UsageEntry[],
  txnIds: ReadonlyMap<string, bigint>,
): readonly string[] {
  const places = new Map<string, { readonly index: number; readonly entry: UsageEntry }>();
  const placeIndexes = entries.map((entry) => {
    const { fact, meterIds } = entry;
    const name = `${entry.segmentId}|${entry.adjustsPeriodId}|${fact.keyId}|${fact.status}|${meterIds.join()}|${fact.flags.join()}`;
    const place = places.get(name) ?? { index: places.size, entry };
    places.set(name, place);
    return place.index;
  });
  const shared = [...places.values()].map(({ entry }) => entry);
  const texts = (of: (entry: UsageEntry) => string | null): string =>
    textArray(entries.map((entry) => of(entry)));
  const numbers = (of: (entry: UsageEntry) => bigint | number): string =>
    numberArray(entries.map((entry) => of(entry)));
  return [
    textArray(shared.map((entry) => entry.environment)),
    textArray(shared.map(({ fact }) => fact.subscriberId)),
    textArray(shared.map((entry) => entry.subscriptionId)),
    numberArray(shared.map((entry) => entry.segmentId)),
    textArray(shared.map((entry) => entry.periodId)),
    textArray(shared.map(({ adjustsPeriodId: id }) => (id === '' ? null : id))),
    textArray(shared.map(({ fact }) => fact.productId)),
    numberArray(shared.map(({ fact }) => txnIds.get(fact.subscriberId) ?? null)),
    textArray(shared.map(({ fact }) => (fact.keyId === '' ? null : fact.keyId))),
    numberArray(shared.map(({ fact }) => fact.status)),
    textArray(shared.map((entry) => `{${entry.meterIds.join(',')}}`)),
    textArray(shared.map(({ fact }) => `{${fact.flags.join(',')}}`)),
    numberArray(placeIndexes),
    texts(({ fact }) => fact.opId),
    numbers(({ fact }) => fact.atMs),
    texts(({ fact }) => `{${fact.quantities.map(({ quantity }) => quantity).join(',')}}`),
    texts((entry) => `{${entry.takes.map(({ bucketId }) => bucketId).join(',')}}`),
    texts((entry) => `{${entry.takes.map(({ micro }) => micro).join(',')}}`),
    numbers((entry) => entry.creditsMicro),
    numbers((entry) => entry.overageMicro),
    numbers((entry) => entry.writtenOffMicro),
  ];
}

/** Names the new ones only when some were not: as a rule all are, and ten thousand ids need not come back. */
const INSERT_EVENTS = `WITH places AS MATERIALIZED (
    SELECT environment, subscriber_id, subscription_id, segment_id, period_id, adjusts_period_id, product_id, txn_id,
      api_key_id, status, meter_ids::text[] AS meter_ids, flags::text[] AS flags, place
    FROM unnest(?::text[], ?::text[], ?::text[], ?::bigint[], ?::text[], ?::text[], ?::text[], ?::bigint[], ?::text[],
        ?::smallint[], ?::text[], ?::text[])
      WITH ORDINALITY AS p(environment, subscriber_id, subscription_id, segment_id, period_id, adjusts_period_id,
        product_id, txn_id, api_key_id, status, meter_ids, flags, place)
  ), inserted AS (
    INSERT INTO usage_events (event_day, event_id, environment, subscriber_id, subscription_id, segment_id, period_id,
      adjusts_period_id, product_id, api_key_id, occurred_at, status, meter_ids, quantities, bucket_ids, bucket_micro,
      credits_micro, overage_micro, written_off_micro, flags, ledger_txn_id)
    SELECT to_date(left(event_id, 8), 'YYYYMMDD'), event_id, environment, subscriber_id, subscription_id, segment_id,
      period_id, adjusts_period_id, product_id, api_key_id, to_timestamp(at_ms / 1000.0), status, meter_ids,
      quantities::bigint[], bucket_ids::bigint[], bucket_micro::bigint[], credits_micro, overage_micro,
      written_off_micro, flags, CASE WHEN credits_micro > 0 THEN txn_id END
    FROM (
      SELECT p.*, n.* FROM unnest(?::bigint[], ?::text[], ?::bigint[], ?::text[], ?::text[], ?::text[], ?::bigint[],
        ?::bigint[], ?::bigint[])
        AS n(place_index, event_id, at_ms, quantities, bucket_ids, bucket_micro, credits_micro, overage_micro,
          written_off_micro)
      JOIN places p ON p.place = n.place_index + 1
      ORDER BY n.event_id
    ) AS events
    ON CONFLICT DO NOTHING RETURNING event_id
  )
  SELECT count(*) AS count, CASE WHEN count(*) < ? THEN array_agg(event_id) END AS ids FROM inserted`;

/** One ledger transaction for each subscriber of the batch, with a pair of entries for each unit of credit. */
async function postSpend(
  tx: Tx,
  args: {
    readonly fresh: readonly UsageEntry[];
    readonly owners: ReadonlyMap<string, BucketOwner>;
    readonly txnIds: ReadonlyMap<string, bigint>;
  },
): Promise<void> {
  type Spend = { readonly first: UsageEntry; readonly byUnit: Map<string, bigint> };
  const spends = new Map<string, Spend>();
  for (const entry of args.fresh.filter(hasSpent)) {
    const spend = spends.get(entry.fact.subscriberId) ?? { first: entry, byUnit: new Map() };
    spends.set(entry.fact.subscriberId, spend);
    for (const { bucketId, micro } of entry.takes) {
      const unit = args.owners.get(bucketId)?.unit ?? '';
      spend.byUnit.set(unit, (spend.byUnit.get(unit) ?? 0n) + BigInt(micro));
    }
  }
  await postReserved(
    tx,
    [...spends].map(([subscriberId, { first, byUnit }]) => ({
      txnId: args.txnIds.get(subscriberId) ?? 0n,
      environment: first.environment,
      kind: 'spend',
      businessKey: `spend:${first.fact.opId}`,
      entries: [...byUnit].flatMap(([unit, micro]) => [
        { asset: `credit:${unit}`, kind: 'available' as const, subscriberId, amount: -micro },
        { asset: `credit:${unit}`, kind: 'spent' as const, subscriberId, amount: micro },
      ]),
    })),
  );
}
