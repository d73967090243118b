/**
 * Corrections of single events. An event never changes, and quantities are never negative: what was wrong is a record of
 * its own, with who said so and why. While the event's period is open it is billed as corrected; once that is closed, the
 * difference is billed or credited on the subscription's next invoice, like usage that came late (of one that has ended, on
 * its late invoice), or, where the invoice was made void, on the one that is issued again.
 */
import { eventDayOf, isEventId } from '../billing/op-id.ts';
import type { Aggregation } from '../billing/plan.ts';
import type { Reader, Tx } from './db.ts';
import { newId } from './ids.ts';
import { selectRow, selectRows } from './query.ts';
import { usagePartials } from './usage-partials.ts';
import { lockCurrentSegment, lockPeriods } from './usage-placement.ts';

/** What the event should have said: other quantities for some of its meters, or nothing at all. */
export type CorrectionRequest =
  | {
      readonly kind: 'quantities';
      /** In smallest units, at most one of each meter. */
      readonly quantities: readonly { readonly meterId: string; readonly quantity: bigint }[];
    }
  | { readonly kind: 'void' };

export type UsageCorrection = {
  readonly id: string;
  readonly eventId: string;
  readonly meterId: string;
  readonly quantityBefore: bigint;
  readonly quantityAfter: bigint;
  /** −1: the event no longer counts for this meter; 1: it does again. */
  readonly eventCountDelta: number;
  /** The period whose invoice has it, and the closed one that it belongs to (null = the same). */
  readonly periodId: string;
  readonly adjustsPeriodId: string | null;
  readonly reason: string;
  readonly actor: string;
  readonly createdAt: Date;
};

export type CorrectionRefusal =
  | { readonly kind: 'unknown_event' }
  /** The event has no quantity of this meter. */
  | { readonly kind: 'unknown_meter'; readonly meterId: string }
  /** The meter is not a sum of its events, so that one event has no share of its own. */
  | { readonly kind: 'aggregation'; readonly meterKey: string; readonly aggregation: Aggregation }
  /** The event took credits, or asked for more than there were. */
  | { readonly kind: 'credits' }
  /** The invoice of its period is void, and later ones were rated on top of it: it must be issued again first. */
  | { readonly kind: 'void_invoice'; readonly periodId: string }
  /** The event says so already. */
  | { readonly kind: 'unchanged' };

/**
 * Corrects one event in the caller's transaction, which then holds its period so that no close can finalize between.
 * Several corrections of one event chain: each starts from what the one before left.
 */
export async function correctUsageEvent(
  tx: Tx,
  correction: {
    readonly environment: string;
    readonly eventId: string;
    readonly request: CorrectionRequest;
    readonly reason: string;
    readonly actor: string;
  },
): Promise<{ readonly kind: 'corrected' } | CorrectionRefusal> {
  const { environment, eventId, request } = correction;
  if (!isEventId(eventId)) return { kind: 'unknown_event' };
  // Taken before anything is read: a second correction of the event waits here and then sees the first.
  await tx.raw('SELECT pg_advisory_xact_lock(hashtextextended(?, 0))', [`correction:${eventId}`]);
  const event = await readEvent(tx, environment, eventId);
  if (event === null) return { kind: 'unknown_event' };
  const meters = await readMeters(tx, eventId);
  const changes = changesOf(meters, request);
  if ('kind' in changes) return changes;
  if (event.spent > 0n) return { kind: 'credits' };
  if (changes.length === 0) return { kind: 'unchanged' };
  const place = await placeOf(tx, event);
  if ('kind' in place) return place;
  for (const change of changes) {
    await insertCorrection(tx, { ...correction, ...event, ...place, ...change });
  }
  return { kind: 'corrected' };
}

type EventRow = {
  readonly subscriberId: string;
  readonly subscriptionId: string;
  readonly segmentId: bigint;
  readonly periodId: string;
  readonly adjustsPeriodId: string;
  readonly occurredAt: Date;
  /** Micro-credits that were taken or asked for. */
  readonly spent: bigint;
};

function readEvent(tx: Tx, environment: string, eventId: string): Promise<EventRow | null> {
  return selectRow<EventRow>(
    tx,
    `SELECT subscriber_id AS "subscriberId", subscription_id AS "subscriptionId", segment_id AS "segmentId",
       period_id AS "periodId", coalesce(adjusts_period_id, '') AS "adjustsPeriodId", occurred_at AS "occurredAt",
       credits_micro + overage_micro + written_off_micro AS spent
     FROM usage_events WHERE event_day = ? AND event_id = ? AND environment = ?`,
    [eventDayOf(eventId), eventId, environment],
  );
}

/** A meter of the event as it stands now. */
type MeterState = {
  readonly meterId: string;
  readonly meterKey: string;
  readonly aggregation: Aggregation;
  readonly quantity: bigint;
  /** 1, or 0 once the event is void. */
  readonly eventCount: bigint;
};

/** Sums, not the last record: two transactions of one instant have no order by their time. */
function readMeters(tx: Tx, eventId: string): Promise<readonly MeterState[]> {
  return selectRows<MeterState>(
    tx,
    `SELECT m.id AS "meterId", m.lookup_id AS "meterKey", m.aggregation,
       (u.quantity + coalesce(sum(c.quantity_after - c.quantity_before), 0))::bigint AS quantity,
       (1 + coalesce(sum(c.event_count_delta), 0))::bigint AS "eventCount"
     FROM usage_events e CROSS JOIN unnest(e.meter_ids, e.quantities) WITH ORDINALITY AS u(meter_id, quantity, place)
     JOIN meters m ON m.id = u.meter_id
     LEFT JOIN usage_corrections c ON c.event_day = e.event_day AND c.event_id = e.event_id AND c.meter_id = m.id
     WHERE e.event_day = ? AND e.event_id = ?
     GROUP BY m.id, u.quantity, u.place ORDER BY u.place`,
    [eventDayOf(eventId), eventId],
  );
}

type Change = {
  readonly meterId: string;
  readonly quantityBefore: bigint;
  readonly quantityAfter: bigint;
  readonly eventCountDelta: bigint;
};

function changesOf(
  meters: readonly MeterState[],
  request: CorrectionRequest,
): readonly Change[] | CorrectionRefusal {
  const wanted =
    request.kind === 'void'
      ? meters.map(({ meterId }) => ({ meterId, quantity: 0n }))
      : request.quantities;
  const eventCount = request.kind === 'void' ? 0n : 1n;
  const changes: Change[] = [];
  for (const { meterId, quantity } of wanted) {
    const meter = meters.find((one) => one.meterId === meterId);
    if (meter === undefined) return { kind: 'unknown_meter', meterId };
    const { meterKey, aggregation } = meter;
    if (aggregation !== 'SUM' && aggregation !== 'COUNT') {
      return { kind: 'aggregation', meterKey, aggregation };
    }
    const eventCountDelta = eventCount - meter.eventCount;
    if (quantity === meter.quantity && eventCountDelta === 0n) continue;
    changes.push({
      meterId,
      quantityBefore: meter.quantity,
      quantityAfter: quantity,
      eventCountDelta,
    });
  }
  return changes;
}

type Place = Pick<EventRow, 'segmentId' | 'adjustsPeriodId'>;

/** Where the difference is billed, with the period locked as the drain locks it. */
async function placeOf(tx: Tx, event: EventRow): Promise<Place | CorrectionRefusal> {
  const { subscriptionId, segmentId, periodId, adjustsPeriodId } = event;
  const own = { segmentId, adjustsPeriodId };
  const closed = await lockPeriods(tx, new Set([periodId]));
  if (closed.size === 0) return own;
  const invoice = await readInvoiceOf(tx, periodId);
  if (invoice === 'void') return own;
  if (invoice === 'void_with_later') return { kind: 'void_invoice', periodId };
  const target = await lockCurrentSegment(tx, subscriptionId);
  // Late use lies in the period that billed it, and belongs to an earlier one.
  return {
    segmentId: target.segmentId,
    adjustsPeriodId: adjustsPeriodId === '' ? periodId : adjustsPeriodId,
  };
}

/**
 * Whether the invoice of a closed period stands. A void one is issued again from the usage of its own period, which may
 * therefore still be corrected, unless another invoice was rated on top of it. Issuing again takes the lock that we hold.
 */
async function readInvoiceOf(
  tx: Tx,
  periodId: string,
): Promise<'stands' | 'void' | 'void_with_later'> {
  const row = await selectRow<{ isVoid: boolean; hasLater: boolean }>(
    tx,
    `SELECT EXISTS (SELECT 1 FROM invoices i WHERE i.period_id = p.id AND i.kind IN ('period', 'late') AND i.state = 'void')
         AND NOT EXISTS (SELECT 1 FROM invoices i WHERE i.period_id = p.id AND i.kind IN ('period', 'late') AND i.state <> 'void') AS "isVoid",
       EXISTS (SELECT 1 FROM periods l WHERE l.subscription_id = p.subscription_id AND l.seq > p.seq AND l.state = 'closed'
         AND (l.interval_index = p.interval_index OR EXISTS (SELECT 1 FROM ${usagePartials} r
           JOIN segments s ON s.id = r.segment_id JOIN periods a ON a.id = r.adjusts_period_id
           WHERE r.subscription_id = p.subscription_id AND s.period_id = l.id
             AND a.interval_index = p.interval_index))) AS "hasLater"
     FROM periods p WHERE p.id = ?`,
    [periodId],
  );
  if (row?.isVoid !== true) return 'stands';
  return row.hasLater ? 'void_with_later' : 'void';
}

async function insertCorrection(
  tx: Tx,
  row: EventRow &
    Change & {
      readonly environment: string;
      readonly eventId: string;
      readonly reason: string;
      readonly actor: string;
    },
): Promise<void> {
  await tx.raw(
    `INSERT INTO usage_corrections (id, environment, subscriber_id, subscription_id, event_day, event_id, segment_id,
       adjusts_period_id, meter_id, occurred_at, quantity_before, quantity_after, event_count_delta, reason, actor, created_at)
     VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, clock_timestamp())`,
    [
      newId('cor'),
      row.environment,
      row.subscriberId,
      row.subscriptionId,
      eventDayOf(row.eventId),
      row.eventId,
      row.segmentId.toString(),
      row.adjustsPeriodId,
      row.meterId,
      row.occurredAt,
      row.quantityBefore.toString(),
      row.quantityAfter.toString(),
      Number(row.eventCountDelta),
      row.reason,
      row.actor,
    ],
  );
}

/** What was corrected of one event, in order. */
export function listCorrections(
  reader: Reader,
  eventId: string,
): Promise<readonly UsageCorrection[]> {
  return selectRows<UsageCorrection>(
    reader,
    `SELECT c.id, c.event_id AS "eventId", c.meter_id AS "meterId", c.quantity_before AS "quantityBefore",
       c.quantity_after AS "quantityAfter", c.event_count_delta AS "eventCountDelta", s.period_id AS "periodId",
       nullif(c.adjusts_period_id, '') AS "adjustsPeriodId", c.reason, c.actor, c.created_at AS "createdAt"
     FROM usage_corrections c JOIN segments s ON s.id = c.segment_id
     WHERE c.event_day = ? AND c.event_id = ? ORDER BY c.created_at, c.id`,
    [eventDayOf(eventId), eventId],
  );
}
