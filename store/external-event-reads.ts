/** What is known of an event from outside. */
import type { Reader } from './db.ts';
import { selectRow } from './query.ts';

/** The time that the event with this id was first recorded for, epoch ms; null when the id is not known. */
export async function readEventTime(
  reader: Reader,
  event: { readonly environment: string; readonly source: string; readonly id: string },
): Promise<number | null> {
  const row = await selectRow<{ at_ms: bigint }>(
    reader,
    `SELECT (body ->> 'at_ms')::bigint AS at_ms FROM external_events WHERE environment = ? AND source = ? AND id = ?`,
    [event.environment, event.source, event.id],
  );
  return row === null ? null : Number(row.at_ms);
}
