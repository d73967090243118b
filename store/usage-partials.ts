/**
 * What rating reads of usage: the hours, the corrections of single events beside them, and what a sum cannot carry. Every
 * reader of usage goes through here, so that none of them can miss a correction.
 */
import type { Level, UsagePartial } from '../billing/rate.ts';
import type { Reader } from './db.ts';
import { numberArray, textArray } from './pg-array.ts';
import { selectRows } from './query.ts';

/** A relation with the columns of `usage_rollups`; quantities and counts of a correction are signed. */
export const usagePartials = `(SELECT subscription_id, segment_id, meter_id, hour, adjusts_period_id, quantity,
    event_count, max_quantity, latest_quantity, latest_at FROM usage_rollups
  UNION ALL SELECT subscription_id, segment_id, meter_id, date_trunc('hour', occurred_at, 'UTC'), adjusts_period_id,
    (quantity_after - quantity_before)::numeric(38,0), event_count_delta::bigint, 0::bigint, 0::bigint, occurred_at
  FROM usage_corrections)`;

/** What tells an hour of one meter from all others of its subscription. */
export type PartialKey = {
  readonly segmentId: bigint;
  readonly meterId: string;
  readonly adjustsPeriodId: string;
  readonly hour: Date;
};

type Part = {
  readonly segmentId: bigint;
  readonly meterId: string;
  readonly adjustsPeriodId: string;
  readonly at: Date;
  /** Null: a level. */
  readonly value: string | null;
  readonly quantity: bigint | null;
};

/** The rows of one subscription with what their meters count apart: distinct values, and levels over time. */
export async function withValuesAndLevels<Row extends UsagePartial & PartialKey>(
  reader: Reader,
  subscriptionId: string,
  rows: readonly Row[],
): Promise<readonly Row[]> {
  if (rows.length === 0) return rows;
  const parts = await selectRows<Part>(
    reader,
    `SELECT segment_id AS "segmentId", meter_id AS "meterId", adjusts_period_id AS "adjustsPeriodId", first_at AS at,
       encode(value_digest, 'hex') AS value, NULL::bigint AS quantity
     FROM usage_values
     WHERE subscription_id = :subscription AND segment_id = ANY (:segments::bigint[]) AND meter_id = ANY (:meters::text[])
     UNION ALL SELECT segment_id, meter_id, adjusts_period_id, at, NULL, quantity FROM usage_levels
     WHERE subscription_id = :subscription AND segment_id = ANY (:segments::bigint[]) AND meter_id = ANY (:meters::text[])`,
    {
      subscription: subscriptionId,
      segments: numberArray([...new Set(rows.map((row) => row.segmentId))]),
      meters: textArray([...new Set(rows.map((row) => row.meterId))]),
    },
  );
  if (parts.length === 0) return rows;
  const byKey = Map.groupBy(parts, (part) => nameOf(part, part.at));
  return rows.map((row) => {
    const ofRow = byKey.get(nameOf(row, row.hour)) ?? [];
    const values = ofRow.flatMap(({ value }) => (value === null ? [] : [value]));
    const levels = ofRow.flatMap(({ at, quantity }): Level[] =>
      quantity === null ? [] : [{ atMs: at.getTime(), quantity }],
    );
    return {
      ...row,
      ...(values.length > 0 && { values }),
      ...(levels.length > 0 && { levels }),
    };
  });
}

const HOUR_MS = 3_600_000;

function nameOf(key: Omit<PartialKey, 'hour'>, at: Date): string {
  const hour = Math.floor(at.getTime() / HOUR_MS);
  return `${key.segmentId}|${key.meterId}|${key.adjustsPeriodId}|${hour}`;
}
