import type { Tx } from './db.ts';
import { numberArray, textArray } from './pg-array.ts';
import { selectRows } from './query.ts';
import type { UsageEntry } from './usage-batch.ts';

const HOUR_MS = 3_600_000;

type RollupKey = {
  readonly subscriptionId: string;
  readonly segmentId: bigint;
  readonly hourMs: number;
  readonly adjustsPeriodId: string;
};

function keyOf({ fact, subscriptionId, segmentId, adjustsPeriodId }: UsageEntry): RollupKey {
  const hourMs = Math.floor(fact.atMs / HOUR_MS) * HOUR_MS;
  return { subscriptionId, segmentId, hourMs, adjustsPeriodId };
}

const nameOf = (key: RollupKey): string =>
  // A segment is one subscription's.
  `${key.segmentId}|${key.hourMs}|${key.adjustsPeriodId}`;

type UsageSum = RollupKey & {
  readonly meterId: string;
  quantity: bigint;
  eventCount: number;
  maxQuantity: number;
  latestQuantity: number;
  latestMs: number;
};

/** Adds new events to the hours that rating reads: summed here first, so that Postgres touches each row once. */
export async function addUsageRollups(tx: Tx, entries: readonly UsageEntry[]): Promise<void> {
  const sums = new Map<string, UsageSum>();
  for (const entry of entries) {
    const key = keyOf(entry);
    const hour = nameOf(key);
    for (const [index, { quantity }] of entry.fact.quantities.entries()) {
      const meterId = entry.meterIds[index] ?? '';
      addQuantity(sums, {
        name: `${hour}|${meterId}`,
        key,
        meterId,
        quantity,
        atMs: entry.fact.atMs,
      });
    }
  }
  if (sums.size === 0) return;
  const rows = [...sums.values()];
  // Ordered by the key, to prevent deadlocks between two drains that add to the same rows.
  await selectRows(
    tx,
    `INSERT INTO usage_rollups AS r (subscription_id, segment_id, meter_id, hour, adjusts_period_id, quantity,
       event_count, max_quantity, latest_quantity, latest_at)
     SELECT subscription_id, segment_id, meter_id, to_timestamp(hour_ms / 1000.0), adjusts_period_id, quantity,
       event_count, max_quantity, latest_quantity, to_timestamp(latest_ms / 1000.0)
     FROM unnest(?::text[], ?::bigint[], ?::text[], ?::bigint[], ?::text[], ?::numeric[], ?::bigint[], ?::bigint[],
         ?::bigint[], ?::bigint[])
       AS n(subscription_id, segment_id, meter_id, hour_ms, adjusts_period_id, quantity, event_count, max_quantity,
         latest_quantity, latest_ms)
     ORDER BY subscription_id, segment_id, meter_id, hour_ms, adjusts_period_id
     ON CONFLICT (subscription_id, segment_id, meter_id, hour, adjusts_period_id) DO UPDATE SET
       quantity = r.quantity + excluded.quantity,
       event_count = r.event_count + excluded.event_count,
       max_quantity = GREATEST(r.max_quantity, excluded.max_quantity),
       latest_quantity = CASE WHEN excluded.latest_at >= r.latest_at THEN excluded.latest_quantity ELSE r.latest_quantity END,
       latest_at = GREATEST(r.latest_at, excluded.latest_at)`,
    [
      textArray(rows.map((row) => row.subscriptionId)),
      numberArray(rows.map((row) => row.segmentId)),
      textArray(rows.map((row) => row.meterId)),
      numberArray(rows.map((row) => row.hourMs)),
      textArray(rows.map((row) => row.adjustsPeriodId)),
      numberArray(rows.map((row) => row.quantity)),
      numberArray(rows.map((row) => row.eventCount)),
      numberArray(rows.map((row) => row.maxQuantity)),
      numberArray(rows.map((row) => row.latestQuantity)),
      numberArray(rows.map((row) => row.latestMs)),
    ],
  );
}

function addQuantity(
  sums: Map<string, UsageSum>,
  use: {
    readonly name: string;
    readonly key: RollupKey;
    readonly meterId: string;
    readonly quantity: number;
    readonly atMs: number;
  },
): void {
  const { name, key, meterId, quantity, atMs } = use;
  const sum = sums.get(name);
  if (sum === undefined) {
    sums.set(name, {
      ...key,
      meterId,
      quantity: BigInt(quantity),
      eventCount: 1,
      maxQuantity: quantity,
      latestQuantity: quantity,
      latestMs: atMs,
    });
    return;
  }
  sum.quantity += BigInt(quantity);
  sum.eventCount += 1;
  sum.maxQuantity = Math.max(sum.maxQuantity, quantity);
  if (atMs >= sum.latestMs) sum.latestQuantity = quantity;
  sum.latestMs = Math.max(sum.latestMs, atMs);
}

type CreditSum = RollupKey & {
  eventCount: number;
  creditsMicro: bigint;
  overageMicro: bigint;
  writtenOffMicro: bigint;
};

/** The same for credits; an event that cost none leaves no trace here. */
export async function addCreditRollups(tx: Tx, entries: readonly UsageEntry[]): Promise<void> {
  const sums = new Map<string, CreditSum>();
  for (const entry of entries) {
    const { creditsMicro, overageMicro, writtenOffMicro } = entry;
    if (creditsMicro + overageMicro + writtenOffMicro === 0n) continue;
    const key = keyOf(entry);
    const none = { eventCount: 0, creditsMicro: 0n, overageMicro: 0n, writtenOffMicro: 0n };
    const sum = sums.get(nameOf(key)) ?? { ...key, ...none };
    sums.set(nameOf(key), sum);
    sum.eventCount += 1;
    sum.creditsMicro += creditsMicro;
    sum.overageMicro += overageMicro;
    sum.writtenOffMicro += writtenOffMicro;
  }
  if (sums.size === 0) return;
  const rows = [...sums.values()];
  await selectRows(
    tx,
    `INSERT INTO credit_rollups AS r (subscription_id, segment_id, hour, adjusts_period_id, event_count, credits_micro,
       overage_micro, written_off_micro)
     SELECT subscription_id, segment_id, to_timestamp(hour_ms / 1000.0), adjusts_period_id, event_count, credits_micro,
       overage_micro, written_off_micro
     FROM unnest(?::text[], ?::bigint[], ?::bigint[], ?::text[], ?::bigint[], ?::numeric[], ?::numeric[], ?::numeric[])
       AS n(subscription_id, segment_id, hour_ms, adjusts_period_id, event_count, credits_micro, overage_micro,
         written_off_micro)
     ORDER BY subscription_id, segment_id, hour_ms, adjusts_period_id
     ON CONFLICT (subscription_id, segment_id, hour, adjusts_period_id) DO UPDATE SET
       event_count = r.event_count + excluded.event_count,
       credits_micro = r.credits_micro + excluded.credits_micro,
       overage_micro = r.overage_micro + excluded.overage_micro,
       written_off_micro = r.written_off_micro + excluded.written_off_micro`,
    [
      textArray(rows.map((row) => row.subscriptionId)),
      numberArray(rows.map((row) => row.segmentId)),
      numberArray(rows.map((row) => row.hourMs)),
      textArray(rows.map((row) => row.adjustsPeriodId)),
      numberArray(rows.map((row) => row.eventCount)),
      numberArray(rows.map((row) => row.creditsMicro)),
      numberArray(rows.map((row) => row.overageMicro)),
      numberArray(rows.map((row) => row.writtenOffMicro)),
    ],
  );
}
