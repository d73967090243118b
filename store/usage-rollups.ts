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

/** What new events add to the hours that rating reads: summed here, so that Postgres touches each row once. */
export type RollupSums = {
  readonly usage: readonly UsageSum[];
  readonly credits: readonly CreditSum[];
};

type UsageSum = RollupKey & {
  readonly meterId: string;
  quantity: bigint;
  eventCount: number;
  maxQuantity: number;
  latestQuantity: number;
  latestMs: number;
};

/** An event that cost no credits leaves no trace here. */
type CreditSum = RollupKey & {
  eventCount: number;
  creditsMicro: bigint;
  overageMicro: bigint;
  writtenOffMicro: bigint;
};

type Hour = {
  readonly key: RollupKey;
  readonly meters: Map<string, UsageSum>;
  readonly credits: CreditSum;
};

/** Sums up the events by segment and hour. */
export function sumRollups(entries: readonly UsageEntry[]): RollupSums {
  const hours = new Map<string, Hour>();
  for (const entry of entries) {
    const { fact, meterIds, creditsMicro, overageMicro, writtenOffMicro } = entry;
    const { meters, credits, key } = hourOf(hours, entry);
    for (const [index, { quantity }] of fact.quantities.entries()) {
      addQuantity(meters, { key, meterId: meterIds[index] ?? '', quantity, atMs: fact.atMs });
    }
    if (creditsMicro + overageMicro + writtenOffMicro === 0n) continue;
    credits.eventCount += 1;
    credits.creditsMicro += creditsMicro;
    credits.overageMicro += overageMicro;
    credits.writtenOffMicro += writtenOffMicro;
  }
  const sums = [...hours.values()];
  return {
    usage: sums.flatMap(({ meters }) => [...meters.values()]),
    credits: sums.map(({ credits }) => credits).filter(({ eventCount }) => eventCount > 0),
  };
}

function hourOf(hours: Map<string, Hour>, entry: UsageEntry): Hour {
  const { fact, subscriptionId, segmentId, adjustsPeriodId } = entry;
  const hourMs = Math.floor(fact.atMs / HOUR_MS) * HOUR_MS;
  // A segment is one subscription's.
  const name = `${segmentId}|${hourMs}|${adjustsPeriodId}`;
  const known = hours.get(name);
  if (known !== undefined) return known;
  const key = { subscriptionId, segmentId, hourMs, adjustsPeriodId };
  const none = { eventCount: 0, creditsMicro: 0n, overageMicro: 0n, writtenOffMicro: 0n };
  const hour = { key, meters: new Map<string, UsageSum>(), credits: { ...key, ...none } };
  hours.set(name, hour);
  return hour;
}

function addQuantity(
  sums: Map<string, UsageSum>,
  use: {
    readonly key: RollupKey;
    readonly meterId: string;
    readonly quantity: number;
    readonly atMs: number;
  },
): void {
  const { key, meterId, quantity, atMs } = use;
  const sum = sums.get(meterId);
  if (sum === undefined) {
    sums.set(meterId, {
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

/** Adds the sums to the hours. */
export async function addRollups(tx: Tx, sums: RollupSums): Promise<void> {
  if (sums.usage.length > 0) await addUsage(tx, sums.usage);
  if (sums.credits.length > 0) await addCredits(tx, sums.credits);
}

async function addUsage(tx: Tx, rows: readonly UsageSum[]): Promise<void> {
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

async function addCredits(tx: Tx, rows: readonly CreditSum[]): Promise<void> {
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
