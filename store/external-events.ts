/**
 * Usage that did not pass the gateway: written down here first, with an id that is unique for ever in its environment and
 * source, then counted by the subscriber's shard (`drain/ingest.ts`), which happens once for each op_id.
 */
import { createHash } from 'node:crypto';

import { eventDayOf, formatExternalOpId } from '../billing/op-id.ts';
import type { Db, Reader, Tx } from './db.ts';
import { randomBody } from './ids.ts';
import { selectRow, selectRows } from './query.ts';

/** What the shard is told, as `body` stores it. */
export type ExternalUsage = {
  readonly product_id: string;
  /** When the work was done, epoch milliseconds. */
  readonly at_ms: number;
  readonly quantities: readonly {
    readonly meter: string;
    readonly quantity: number;
    /** What a UNIQUE_COUNT counts once. */
    readonly value?: string;
  }[];
};

export type NewExternalEvent = {
  readonly environment: 'test' | 'live';
  /** Who names the events, for instance the service token's id. */
  readonly source: string;
  readonly id: string;
  readonly subscriberId: string;
  readonly usage: ExternalUsage;
};

/** What became of an event: what the shard said, or that it was found in the usage already. */
export type ExternalResult = {
  readonly kind: 'counted';
  readonly over_limit: boolean;
  readonly charged_micro: number;
  readonly overage_micro: number;
};

export type InsertedEvent =
  | { readonly kind: 'accepted'; readonly opId: string }
  | { readonly kind: 'duplicate'; readonly opId: string; readonly result: ExternalResult | null }
  /** The id names another event already. */
  | { readonly kind: 'conflict'; readonly opId: string };

/**
 * Writes events down, in order; the answers are in the same order. An id that is known with the same content answers
 * `duplicate` with the first one's result (null while it is not counted); with another content, `conflict`.
 * `ingest` is woken when the transaction commits.
 * @param now decides the day inside the op_id, and with it the partition of the usage event.
 */
export async function insertExternalEvents(
  tx: Tx,
  events: readonly NewExternalEvent[],
  now: Date,
): Promise<readonly InsertedEvent[]> {
  const day = now.toISOString().slice(0, 10).replaceAll('-', '');
  const random = randomBody(15);
  const answers: InsertedEvent[] = [];
  for (const [row, event] of events.entries()) {
    answers.push(await insertOne(tx, event, formatExternalOpId({ day, random, row })));
  }
  if (answers.some(({ kind }) => kind === 'accepted')) {
    await tx.raw("SELECT pg_notify('tollbook_ingest', '')");
  }
  return answers;
}

async function insertOne(tx: Tx, event: NewExternalEvent, opId: string): Promise<InsertedEvent> {
  const digest = digestOf(event);
  const inserted = await selectRow(
    tx,
    `INSERT INTO external_events (environment, source, id, op_id, subscriber_id, body_digest, body)
     VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (environment, source, id) DO NOTHING RETURNING op_id`,
    [
      event.environment,
      event.source,
      event.id,
      opId,
      event.subscriberId,
      digest,
      JSON.stringify(event.usage),
    ],
  );
  if (inserted !== null) return { kind: 'accepted', opId };
  const known = await selectRow<{
    op_id: string;
    body_digest: Buffer;
    result: ExternalResult | null;
  }>(
    tx,
    `SELECT op_id, body_digest, result FROM external_events WHERE environment = ? AND source = ? AND id = ?`,
    [event.environment, event.source, event.id],
  );
  if (known === null) throw new Error(`external event ${event.id} is neither new nor known`);
  return known.body_digest.equals(digest)
    ? { kind: 'duplicate', opId: known.op_id, result: known.result }
    : { kind: 'conflict', opId: known.op_id };
}

/** The order in which a caller lists the meters does not make another event. */
function digestOf({ subscriberId, usage }: NewExternalEvent): Buffer {
  const quantities = usage.quantities
    .map(({ meter, quantity, value }) =>
      value === undefined
        ? `${meter}:${quantity}`
        : `${meter}:${quantity}:${JSON.stringify(value)}`,
    )
    .toSorted()
    .join(',');
  return createHash('sha256')
    .update(JSON.stringify([subscriberId, usage.product_id, usage.at_ms, quantities]))
    .digest();
}

export type UncountedEvent = {
  readonly opId: string;
  readonly subscriberId: string;
  readonly shard: string;
  readonly usage: ExternalUsage;
  /** How long it has been waiting, on Postgres' clock. */
  readonly ageMs: number;
};

/** Events that no shard is known to have counted, oldest first, without those of `exceptShards` and `exceptOpIds`. */
export async function uncounted(
  db: Reader,
  options: {
    readonly limit: number;
    readonly exceptShards: readonly string[];
    readonly exceptOpIds: readonly string[];
  },
): Promise<readonly UncountedEvent[]> {
  return selectRows<UncountedEvent>(
    db,
    `SELECT e.op_id AS "opId", e.subscriber_id AS "subscriberId", o.shard, e.body AS usage,
            (extract(epoch FROM clock_timestamp() - e.created_at) * 1000)::double precision AS "ageMs"
     FROM external_events e JOIN subscribers s ON s.id = e.subscriber_id JOIN slots o ON o.slot = s.slot
     WHERE NOT e.counted AND o.shard <> ALL (?::text[]) AND e.op_id <> ALL (?::text[])
     ORDER BY e.created_at, e.op_id LIMIT ?`,
    [options.exceptShards, options.exceptOpIds, options.limit],
  );
}

/** How many events wait to be counted. */
export async function countUncounted(db: Reader): Promise<number> {
  const row = await selectRow<{ count: bigint }>(
    db,
    'SELECT count(*) AS count FROM external_events WHERE NOT counted',
  );
  return Number(row?.count ?? 0n);
}

/** Stores what the shard said. A second call changes nothing: the first result is what every caller is told. */
export async function markCounted(db: Reader, opId: string, result: ExternalResult): Promise<void> {
  await db.raw(
    'UPDATE external_events SET counted = true, result = ? WHERE op_id = ? AND NOT counted',
    [JSON.stringify(result), opId],
  );
}

/** A shard loses the last second of its log at most; what it was told waited in Postgres, as a rule for milliseconds. */
const LOST_DAYS_BACK = 2;

/**
 * Gives back to `ingest` what a shard said that it had counted and then lost with the tail of its log. To be called when
 * all that survived on the shard is committed, and before it takes new work. Answers how many events there were.
 */
export async function recountLost(db: Reader, shard: string): Promise<number> {
  // The day inside the op_id narrows it to a range of the index. A parked fact was not lost: somebody looks at it.
  const rows = await selectRows(
    db,
    `UPDATE external_events e SET counted = false FROM subscribers s JOIN slots o ON o.slot = s.slot
     WHERE o.shard = :shard AND s.id = e.subscriber_id AND e.counted
       AND e.op_id >= to_char(now() AT TIME ZONE 'UTC' - make_interval(days => :days), 'YYYYMMDD')
       AND NOT EXISTS (SELECT 1 FROM usage_events u
         WHERE u.event_day = to_date(left(e.op_id, 8), 'YYYYMMDD') AND u.event_id = e.op_id)
       AND NOT EXISTS (SELECT 1 FROM parked_facts p
         WHERE p.shard = :shard AND split_part(p.fact, '|', 2) = e.op_id)
     RETURNING 1`,
    { shard, days: LOST_DAYS_BACK },
  );
  return rows.length;
}

/** Those of the external op_ids whose usage events the drain has committed, and what they were counted as. */
export async function committedResults(
  db: Reader,
  opIds: readonly string[],
): Promise<ReadonlyMap<string, ExternalResult>> {
  const days = [...new Set(opIds.map(eventDayOf))];
  const rows = await selectRows<{ id: string; flags: string[]; credits: bigint; overage: bigint }>(
    db,
    `SELECT event_id AS id, flags, credits_micro AS credits, overage_micro AS overage
     FROM usage_events WHERE event_day = ANY (?::date[]) AND event_id = ANY (?::text[])`,
    [days, opIds],
  );
  return new Map(
    rows.map((row) => [
      row.id,
      {
        kind: 'counted',
        over_limit: row.flags.includes('over_limit'),
        charged_micro: Number(row.credits),
        overage_micro: Number(row.overage),
      },
    ]),
  );
}

/**
 * Waits until every op_id has a result, or `timeoutMs` is over; answers what is known then. An op_id that is missing in
 * the answer is accepted and will be counted, only not yet.
 */
export async function waitForCounted(
  db: Db,
  opIds: readonly string[],
  options: { readonly timeoutMs: number },
): Promise<ReadonlyMap<string, ExternalResult>> {
  const deadline = performance.now() + options.timeoutMs;
  for (let pauseMs = 5; ; pauseMs = Math.min(pauseMs * 1.5, 100)) {
    const rows = await selectRows<{ op_id: string; result: ExternalResult }>(
      db,
      'SELECT op_id, result FROM external_events WHERE counted AND op_id = ANY (?::text[])',
      [opIds],
    );
    const leftMs = deadline - performance.now();
    if (rows.length >= new Set(opIds).size || leftMs <= 0) {
      return new Map(rows.map((row) => [row.op_id, row.result]));
    }
    await new Promise((resolve) => {
      setTimeout(resolve, Math.min(pauseMs, leftMs));
    });
  }
}
