import { eventDayOf, isEventId } from '../billing/op-id.ts';
import type { Aggregation } from '../billing/plan.ts';
import type { Level } from '../billing/rate.ts';
import type { Reader } from './db.ts';
import { textArray } from './pg-array.ts';
import { selectRow, selectRows } from './query.ts';
import { usagePartials, withValuesAndLevels } from './usage-partials.ts';

/**
 * One hour of one meter in one segment, as rating reads it. Quantities are in the meter's smallest unit. A correction is a
 * row of its own, whose quantity and count are signed.
 */
export type UsageRow = {
  readonly periodId: string;
  readonly segmentId: bigint;
  readonly planVersionId: string;
  readonly meterId: string;
  readonly meterKey: string;
  readonly aggregation: Aggregation;
  readonly hour: Date;
  /** '' for usage of `periodId` itself; else the closed period that this late usage belongs to. */
  readonly adjustsPeriodId: string;
  readonly quantity: bigint;
  readonly eventCount: bigint;
  readonly maxQuantity: bigint;
  readonly latestQuantity: bigint;
  readonly latestAt: Date;
  /** Of UNIQUE_COUNT and WEIGHTED_SUM, see `UsagePartial`. */
  readonly values?: readonly string[];
  readonly levels?: readonly Level[];
};

const ROWS = `SELECT s.period_id AS "periodId", r.segment_id AS "segmentId", s.plan_version_id AS "planVersionId",
    r.meter_id AS "meterId", m.lookup_id AS "meterKey", m.aggregation, r.hour, r.adjusts_period_id AS "adjustsPeriodId",
    r.quantity, r.event_count AS "eventCount", r.max_quantity AS "maxQuantity",
    r.latest_quantity AS "latestQuantity", r.latest_at AS "latestAt"
  FROM ${usagePartials} r
  JOIN segments s ON s.id = r.segment_id
  JOIN periods p ON p.id = s.period_id
  JOIN meters m ON m.id = r.meter_id
  WHERE r.subscription_id = :subscription`;
const ORDER = 'ORDER BY r.segment_id, r.meter_id, r.hour, r.adjusts_period_id, r.latest_at';

/** Interval `intervalIndex` of a subscription, all its periods, in the order of segment, meter and hour. */
export async function usageForInterval(
  tx: Reader,
  subscriptionId: string,
  intervalIndex: number,
): Promise<readonly UsageRow[]> {
  const found = await selectRows<UsageRow>(
    tx,
    `${ROWS} AND p.interval_index = :interval ${ORDER}`,
    { subscription: subscriptionId, interval: intervalIndex },
  );
  return withValuesAndLevels(tx, subscriptionId, found);
}

/** What was billed too late for any of `periodIds`, which make an interval, in periods before `beforeSeq` of other intervals. */
export async function usageBilledLater(
  tx: Reader,
  subscriptionId: string,
  of: {
    readonly periodIds: readonly string[];
    readonly intervalIndex: number;
    readonly beforeSeq: number;
  },
): Promise<readonly UsageRow[]> {
  const found = await selectRows<UsageRow>(
    tx,
    `${ROWS} AND r.adjusts_period_id = ANY (:periods::text[]) AND p.interval_index <> :interval AND p.seq < :seq ${ORDER}`,
    {
      subscription: subscriptionId,
      periods: textArray(of.periodIds),
      interval: of.intervalIndex,
      seq: of.beforeSeq,
    },
  );
  return withValuesAndLevels(tx, subscriptionId, found);
}

/** One hour of credits in one segment, in micro-credits. */
export type CreditUsageRow = {
  readonly periodId: string;
  readonly segmentId: bigint;
  readonly planVersionId: string;
  readonly hour: Date;
  readonly adjustsPeriodId: string;
  readonly eventCount: bigint;
  readonly creditsMicro: bigint;
  /** Used beyond the credits and billed at the plan's overage price. */
  readonly overageMicro: bigint;
  readonly writtenOffMicro: bigint;
};

/** The credit side of `usageForInterval`. */
export async function creditUsageForInterval(
  tx: Reader,
  subscriptionId: string,
  intervalIndex: number,
): Promise<readonly CreditUsageRow[]> {
  const found = await selectRows<CreditUsageRow>(
    tx,
    `SELECT s.period_id AS "periodId", r.segment_id AS "segmentId", s.plan_version_id AS "planVersionId",
       r.hour, r.adjusts_period_id AS "adjustsPeriodId", r.event_count AS "eventCount",
       r.credits_micro AS "creditsMicro", r.overage_micro AS "overageMicro",
       r.written_off_micro AS "writtenOffMicro"
     FROM credit_rollups r
     JOIN segments s ON s.id = r.segment_id
     JOIN periods p ON p.id = s.period_id
     WHERE r.subscription_id = ? AND p.interval_index = ?
     ORDER BY r.segment_id, r.hour, r.adjusts_period_id`,
    [subscriptionId, intervalIndex],
  );
  return found;
}

/**
 * Whether everything up to and including `streamId` of that shard is in Postgres. A later incarnation's cursor counts:
 * it begins only after recovery has drained what the earlier one left.
 */
export async function isDrained(
  db: Reader,
  mark: { readonly shard: string; readonly incarnation: number; readonly streamId: string },
): Promise<boolean> {
  const [ms, sequence] = mark.streamId.split('-');
  const found = await selectRows<{ drained: boolean }>(
    db,
    `SELECT EXISTS (
       SELECT 1 FROM shard_cursors WHERE shard = ? AND (incarnation > ? OR (incarnation = ?
         AND (split_part(stream_id, '-', 1)::bigint, split_part(stream_id, '-', 2)::bigint) >= (?::bigint, ?::bigint)))
     ) AS drained`,
    [mark.shard, mark.incarnation, mark.incarnation, ms ?? '', sequence ?? '0'],
  );
  return found[0]?.drained === true;
}

export type UsageEventFilter = {
  readonly environment: string;
  readonly subscriberId?: string | undefined;
  readonly subscriptionId?: string | undefined;
  readonly periodId?: string | undefined;
  readonly meterId?: string | undefined;
  /** Half-open: fromAt ≤ occurred_at < untilAt. */
  readonly fromAt?: Date | undefined;
  readonly untilAt?: Date | undefined;
  /** `nextCursor` of the page before. */
  readonly cursor?: string | undefined;
  /** 1 to 1,000. */
  readonly limit: number;
};

export type UsageEvent = {
  readonly eventId: string;
  readonly environment: string;
  readonly subscriberId: string;
  readonly subscriptionId: string;
  readonly periodId: string;
  readonly adjustsPeriodId: string | null;
  readonly productId: string;
  readonly apiKeyId: string | null;
  readonly occurredAt: Date;
  readonly receivedAt: Date;
  /** HTTP status that the client saw; 0 for usage from outside. */
  readonly status: number;
  readonly quantities: readonly { readonly meterId: string; readonly quantity: bigint }[];
  readonly creditsMicro: bigint;
  readonly overageMicro: bigint;
  readonly writtenOffMicro: bigint;
  readonly flags: readonly string[];
  /** Sender and id of an event from outside, null for the gateway's own. */
  readonly source: string | null;
  readonly externalId: string | null;
  readonly isCorrected: boolean;
};

type UsageEventRow = Omit<UsageEvent, 'quantities'> & {
  readonly meterIds: readonly string[];
  /** The driver leaves the elements of a bigint[] as text. */
  readonly meterQuantities: readonly string[];
};

const EVENTS = `SELECT u.event_id AS "eventId", u.environment, u.subscriber_id AS "subscriberId",
    u.subscription_id AS "subscriptionId", u.period_id AS "periodId", u.adjusts_period_id AS "adjustsPeriodId",
    u.product_id AS "productId", u.api_key_id AS "apiKeyId", u.occurred_at AS "occurredAt",
    u.received_at AS "receivedAt", u.status, u.meter_ids AS "meterIds", u.quantities AS "meterQuantities",
    u.credits_micro AS "creditsMicro", u.overage_micro AS "overageMicro",
    u.written_off_micro AS "writtenOffMicro", u.flags, x.source, x.id AS "externalId",
    EXISTS (SELECT 1 FROM usage_corrections c WHERE c.event_day = u.event_day AND c.event_id = u.event_id) AS "isCorrected"
  FROM usage_events u LEFT JOIN external_events x ON x.op_id = u.event_id`;

/** Events, newest first, a page at a time. Throws RangeError for a cursor that is not one of ours. */
export async function listUsageEvents(
  tx: Reader,
  filter: UsageEventFilter,
): Promise<{ readonly events: readonly UsageEvent[]; readonly nextCursor: string | null }> {
  const conditions = ['u.environment = ?'];
  const values: (string | Date)[] = [filter.environment];
  const add = (condition: string, ...bound: readonly (string | Date | undefined)[]): void => {
    const given = bound.filter((value) => value !== undefined);
    if (given.length < bound.length) return;
    conditions.push(condition);
    values.push(...given);
  };
  add('u.subscriber_id = ?', filter.subscriberId);
  add('u.subscription_id = ?', filter.subscriptionId);
  add('u.period_id = ?', filter.periodId);
  add('? = ANY (u.meter_ids)', filter.meterId);
  add('u.occurred_at >= ?', filter.fromAt);
  add('u.occurred_at < ?', filter.untilAt);
  if (filter.cursor !== undefined) {
    const after = readCursor(filter.cursor);
    add('(u.occurred_at, u.event_id) < (?::timestamptz, ?)', after.occurredAt, after.eventId);
  }
  const found = await selectRows<UsageEventRow>(
    tx,
    `${EVENTS}
     WHERE ${conditions.join(' AND ')}
     ORDER BY u.occurred_at DESC, u.event_id DESC LIMIT ?`,
    [...values, filter.limit + 1],
  );
  const rows = found.slice(0, filter.limit);
  const last = rows.at(-1);
  const hasMore = found.length > filter.limit && last !== undefined;
  return { events: rows.map(fromRow), nextCursor: hasMore ? writeCursor(last) : null };
}

/** One event, or null. */
export async function readUsageEvent(
  tx: Reader,
  environment: string,
  eventId: string,
): Promise<UsageEvent | null> {
  if (!isEventId(eventId)) return null;
  const row = await selectRow<UsageEventRow>(
    tx,
    `${EVENTS} WHERE u.event_day = ? AND u.event_id = ? AND u.environment = ?`,
    [eventDayOf(eventId), eventId, environment],
  );
  return row === null ? null : fromRow(row);
}

function fromRow(row: UsageEventRow): UsageEvent {
  const { meterIds, meterQuantities, ...event } = row;
  const quantities = meterIds.map((meterId, index) => ({
    meterId,
    quantity: BigInt(meterQuantities[index] ?? '0'),
  }));
  return { ...event, quantities };
}

/** Instants of events have whole milliseconds, so the cursor loses nothing. */
function writeCursor(row: UsageEventRow): string {
  return Buffer.from(`${row.occurredAt.toISOString()} ${row.eventId}`).toString('base64url');
}

function readCursor(cursor: string): { readonly occurredAt: string; readonly eventId: string } {
  const text = Buffer.from(cursor, 'base64url').toString('utf8');
  const parts = /^(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z) ([0-9a-z.-]{1,80})$/.exec(text);
  if (parts?.[1] === undefined || parts[2] === undefined) {
    throw new RangeError('the cursor is not one that a list gave out');
  }
  return { occurredAt: parts[1], eventId: parts[2] };
}
