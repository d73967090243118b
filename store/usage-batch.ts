import type { Aggregation } from '../billing/plan.ts';
import type { UsageFact } from '../billing/usage-fact.ts';
import type { Tx } from './db.ts';
import { type BucketOwner, type BucketTake, readBucketOwners } from './grant-remainders.ts';
import { postReserved, reserveTxnIds } from './ledger.ts';
import { textArray } from './pg-array.ts';
import { selectRows } from './query.ts';
import { askForUnheld, priceUnheld } from './unheld-usage.ts';
import { insertEvents } from './usage-events.ts';
import { placeFacts, type PlacedFact } from './usage-placement.ts';
import { addRollups, type RollupSums, sumRollups } from './usage-rollups.ts';
import { spendFromGrants, sumTakes } from './usage-spend.ts';
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
 * transaction ends, so that no close can finalize between. `whileWriting` is called while Postgres stores the events, which
 * is most of its work. Throws whatever Postgres refuses.
 */
export async function postUsage(
  tx: Tx,
  facts: readonly UsageFact[],
  whileWriting?: () => void,
): Promise<UsageOutcome> {
  // Sorted, to prevent deadlocks between two drains that insert the same event. Those of one id stay as they came.
  const sorted = facts.toSorted((a, b) => Number(a.opId > b.opId) - Number(a.opId < b.opId));
  const distinct = sorted.filter(({ opId }, index) => opId !== sorted[index - 1]?.opId);
  const { placed, refused } = await placeFacts(tx, distinct);
  const meters = await readMeters(tx, placed);
  const owners = await readBucketOwners(tx, bucketsOf(placed));
  const unheldCosts = await priceUnheld(tx, placed);
  const entries: UsageEntry[] = [];
  for (const candidate of placed) {
    const reason = whyRefused(candidate, meters, owners);
    if (reason !== null) refused.push({ fact: candidate.fact, reason });
    else entries.push(entryOf(candidate, meters, unheldCosts.get(candidate.fact.opId) ?? 0n));
  }
  const fresh = await insertAndPost(tx, { entries, owners, whileWriting });
  return {
    inserted: fresh.length,
    duplicates: facts.length - fresh.length - refused.length,
    writtenOffMicro: fresh.reduce((sum, entry) => sum + entry.writtenOffMicro, 0n),
    refused,
  };
}

type Meter = { readonly id: string; readonly aggregation: Aggregation };
/** By environment and key. */
type Meters = ReadonlyMap<string, ReadonlyMap<string, Meter>>;
type Owners = ReadonlyMap<string, BucketOwner>;

async function readMeters(tx: Tx, placed: readonly PlacedFact[]): Promise<Meters> {
  const keys = new Set<string>();
  for (const { fact } of placed) for (const { meter } of fact.quantities) keys.add(meter);
  if (keys.size === 0) return new Map();
  const rows = await selectRows<Meter & { environment: string; key: string }>(
    tx,
    'SELECT environment, lookup_id AS key, id, aggregation FROM meters WHERE lookup_id = ANY (?::text[])',
    [textArray([...keys])],
  );
  const meters = new Map<string, Map<string, Meter>>();
  for (const { environment, key, ...meter } of rows) {
    const keyed = meters.get(environment) ?? new Map<string, Meter>();
    meters.set(environment, keyed.set(key, meter));
  }
  return meters;
}

function bucketsOf(placed: readonly PlacedFact[]): ReadonlySet<string> {
  const ids = new Set<string>();
  for (const { fact } of placed) for (const { bucketId } of fact.takes) ids.add(bucketId);
  return ids;
}

function whyRefused(
  { fact, environment }: PlacedFact,
  meters: Meters,
  owners: Owners,
): string | null {
  const known = meters.get(environment);
  for (const { meter } of fact.quantities) {
    if (known?.has(meter) !== true) return `there is no meter ${meter}`;
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
  const known = meters.get(environment);
  const used = fact.quantities.map(({ meter }) => known?.get(meter));
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
  batch: {
    readonly entries: readonly UsageEntry[];
    readonly owners: Owners;
    readonly whileWriting: (() => void) | undefined;
  },
): Promise<readonly UsageEntry[]> {
  const { entries, owners, whileWriting } = batch;
  if (entries.length === 0) return [];
  // The ids come before the transactions: an event names its ledger transaction, which is named after the first event
  // that turns out to be new. An id that is not used then leaves a gap, which means nothing.
  const spenders = [...new Set(entries.filter(hasSpent).map(({ fact }) => fact.subscriberId))];
  const ids = await reserveTxnIds(tx, spenders.length);
  const txnIds = new Map(spenders.map((subscriber, index) => [subscriber, ids[index] ?? 0n]));
  // As a rule all are new and the grants suffice, so what follows from that is worked out while they are stored.
  const expected: { sums?: Sums } = {};
  const inserted = await insertEvents(tx, entries, txnIds, () => {
    expected.sums ??= sumUp(entries, owners);
    whileWriting?.();
  });
  if (inserted.length === 0) return [];
  const sumsOf = (some: readonly UsageEntry[]): Sums =>
    some === entries && expected.sums !== undefined ? expected.sums : sumUp(some, owners);
  const spent = await spendFromGrants(tx, inserted, sumsOf(inserted).takes);
  const fresh = await askForUnheld(tx, spent);
  const { rollups, spends } = sumsOf(fresh);
  await addRollups(tx, rollups);
  await addValuesAndLevels(tx, fresh);
  await postSpends(tx, spends, txnIds);
  return fresh;
}

type Sums = {
  readonly takes: readonly BucketTake[];
  readonly rollups: RollupSums;
  readonly spends: readonly Spend[];
};

function sumUp(entries: readonly UsageEntry[], owners: Owners): Sums {
  return {
    takes: sumTakes(entries),
    rollups: sumRollups(entries),
    spends: sumSpends(entries, owners),
  };
}

const hasSpent = (entry: UsageEntry): boolean => entry.creditsMicro > 0n;

/** What the events of one subscriber took of each unit. */
type Spend = { readonly first: UsageEntry; readonly byUnit: Map<string, bigint> };

function sumSpends(entries: readonly UsageEntry[], owners: Owners): readonly Spend[] {
  const spends = new Map<string, Spend>();
  for (const entry of entries) {
    if (!hasSpent(entry)) continue;
    const { subscriberId } = entry.fact;
    const spend = spends.get(subscriberId) ?? { first: entry, byUnit: new Map<string, bigint>() };
    spends.set(subscriberId, spend);
    for (const { bucketId, micro } of entry.takes) {
      const unit = owners.get(bucketId)?.unit ?? '';
      spend.byUnit.set(unit, (spend.byUnit.get(unit) ?? 0n) + BigInt(micro));
    }
  }
  return [...spends.values()];
}

/** One ledger transaction for each subscriber of the batch, with a pair of entries for each unit of credit. */
async function postSpends(
  tx: Tx,
  spends: readonly Spend[],
  txnIds: ReadonlyMap<string, bigint>,
): Promise<void> {
  await postReserved(
    tx,
    spends.map(({ first: { fact, environment }, byUnit }) => ({
      txnId: txnIds.get(fact.subscriberId) ?? 0n,
      environment,
      kind: 'spend',
      businessKey: `spend:${fact.opId}`,
      entries: [...byUnit].flatMap(([unit, micro]) => {
        const one = { asset: `credit:${unit}`, subscriberId: fact.subscriberId };
        return [
          { ...one, kind: 'available' as const, amount: -micro },
          { ...one, kind: 'spent' as const, amount: micro },
        ];
      }),
    })),
  );
}
