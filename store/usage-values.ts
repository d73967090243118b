/**
 * What a sum cannot carry: the distinct values of UNIQUE_COUNT and the levels of WEIGHTED_SUM, stored with the events that
 * brought them, for meters of these aggregations only.
 */
import { createHash } from 'node:crypto';

import type { Tx } from './db.ts';
import type { ExternalUsage } from './external-events.ts';
import { numberArray, textArray } from './pg-array.ts';
import { selectRows } from './query.ts';
import type { UsageEntry } from './usage-batch.ts';

/** Adds what new events bring. A value that the segment has already changes nothing but when it came first. */
export async function addValuesAndLevels(tx: Tx, entries: readonly UsageEntry[]): Promise<void> {
  const counting = entries.filter((entry) => entry.aggregations.includes('UNIQUE_COUNT'));
  if (counting.length > 0) await addValues(tx, counting);
  const weighing = entries.filter((entry) => entry.aggregations.includes('WEIGHTED_SUM'));
  if (weighing.length > 0) await addLevels(tx, weighing);
}

type Value = {
  readonly entry: UsageEntry;
  readonly meterId: string;
  readonly digest: string;
};

async function addValues(tx: Tx, entries: readonly UsageEntry[]): Promise<void> {
  const given = await readGivenValues(tx, entries);
  const firsts = new Map<string, Value>();
  for (const entry of entries) {
    const { fact, segmentId, adjustsPeriodId } = entry;
    for (const [index, meterId] of entry.meterIds.entries()) {
      if (entry.aggregations[index] !== 'UNIQUE_COUNT') continue;
      const meterKey = fact.quantities[index]?.meter ?? '';
      // Who called, where nobody said what is counted: a request through the gateway has no other value.
      const value = given.get(nameOfValue(fact.opId, meterKey)) ?? fact.keyId;
      const digest = digestOf(value);
      const name = `${segmentId}|${meterId}|${adjustsPeriodId}|${digest}`;
      const known = firsts.get(name);
      if (known === undefined || fact.atMs < known.entry.fact.atMs) {
        firsts.set(name, { entry, meterId, digest });
      }
    }
  }
  await insertValues(tx, [...firsts.values()]);
}

/** Sixteen bytes tell as many values apart as anybody counts, whatever their length. */
function digestOf(value: string): string {
  return createHash('sha256').update(value).digest('hex').slice(0, 32);
}

async function insertValues(tx: Tx, values: readonly Value[]): Promise<void> {
  // Ordered by the key, to prevent deadlocks between two drains that add the same values.
  await selectRows(
    tx,
    `INSERT INTO usage_values AS v (subscription_id, segment_id, meter_id, adjusts_period_id, value_digest, first_at)
     SELECT subscription_id, segment_id, meter_id, adjusts_period_id, decode(digest, 'hex'), to_timestamp(at_ms / 1000.0)
     FROM unnest(?::text[], ?::bigint[], ?::text[], ?::text[], ?::text[], ?::bigint[])
       AS n(subscription_id, segment_id, meter_id, adjusts_period_id, digest, at_ms)
     ORDER BY subscription_id, segment_id, meter_id, adjusts_period_id, digest
     ON CONFLICT (subscription_id, segment_id, meter_id, adjusts_period_id, value_digest) DO UPDATE
       SET first_at = excluded.first_at WHERE excluded.first_at < v.first_at`,
    [
      textArray(values.map(({ entry }) => entry.subscriptionId)),
      numberArray(values.map(({ entry }) => entry.segmentId)),
      textArray(values.map(({ meterId }) => meterId)),
      textArray(values.map(({ entry }) => entry.adjustsPeriodId)),
      textArray(values.map(({ digest }) => digest)),
      numberArray(values.map(({ entry }) => entry.fact.atMs)),
    ],
  );
}

const nameOfValue = (opId: string, meterKey: string): string => `${opId}|${meterKey}`;

/** What the senders of events from outside said, by event and meter key: the shard only counts. */
async function readGivenValues(
  tx: Tx,
  entries: readonly UsageEntry[],
): Promise<ReadonlyMap<string, string>> {
  const opIds = entries
    .filter(({ fact }) => fact.flags.includes('external'))
    .map(({ fact }) => fact.opId);
  if (opIds.length === 0) return new Map();
  const rows = await selectRows<{ opId: string; usage: ExternalUsage }>(
    tx,
    `SELECT op_id AS "opId", body AS usage FROM external_events WHERE op_id = ANY (?::text[])`,
    [textArray(opIds)],
  );
  return new Map(
    rows.flatMap(({ opId, usage }) =>
      usage.quantities.flatMap(({ meter, value }) =>
        value === undefined ? [] : [[nameOfValue(opId, meter), value] as const],
      ),
    ),
  );
}

async function addLevels(tx: Tx, entries: readonly UsageEntry[]): Promise<void> {
  const levels = entries.flatMap((entry) =>
    entry.meterIds.flatMap((meterId, index) =>
      entry.aggregations[index] === 'WEIGHTED_SUM'
        ? [{ entry, meterId, quantity: entry.fact.quantities[index]?.quantity ?? 0 }]
        : [],
    ),
  );
  await selectRows(
    tx,
    `INSERT INTO usage_levels (subscription_id, segment_id, meter_id, adjusts_period_id, at, event_id, quantity)
     SELECT subscription_id, segment_id, meter_id, adjusts_period_id, to_timestamp(at_ms / 1000.0), event_id, quantity
     FROM unnest(?::text[], ?::bigint[], ?::text[], ?::text[], ?::bigint[], ?::text[], ?::bigint[])
       AS n(subscription_id, segment_id, meter_id, adjusts_period_id, at_ms, event_id, quantity)
     ORDER BY subscription_id, segment_id, meter_id, at_ms, event_id
     ON CONFLICT DO NOTHING`,
    [
      textArray(levels.map(({ entry }) => entry.subscriptionId)),
      numberArray(levels.map(({ entry }) => entry.segmentId)),
      textArray(levels.map(({ meterId }) => meterId)),
      textArray(levels.map(({ entry }) => entry.adjustsPeriodId)),
      numberArray(levels.map(({ entry }) => entry.fact.atMs)),
      textArray(levels.map(({ entry }) => entry.fact.opId)),
      numberArray(levels.map(({ quantity }) => quantity)),
    ],
  );
}
