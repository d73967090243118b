/** Buckets of credits as they are shown. */
import type { Reader } from './db.ts';
import { selectRows } from './query.ts';

/** Credits that were granted ahead and cannot be spent yet, by unit, in micro-credits: those of the next period. */
export async function creditsAhead(
  reader: Reader,
  subscriberId: string,
): Promise<ReadonlyMap<string, bigint>> {
  const rows = await selectRows<{ unit: string; micro: bigint }>(
    reader,
    `SELECT w.unit, sum(g.remaining_micro) AS micro
     FROM grants g JOIN wallets w ON w.id = g.wallet_id JOIN buckets b ON b.id = g.bucket_id
       JOIN subscribers s ON s.id = w.subscriber_id
     WHERE w.subscriber_id = ? AND g.voided_at IS NULL
       AND b.effective_at > now() + s.clock_offset_ms * interval '1 millisecond'
     GROUP BY w.unit`,
    [subscriberId],
  );
  return new Map(rows.map(({ unit, micro }) => [unit, micro]));
}

/** The buckets that cannot be spent from yet, by id. */
export async function bucketsAhead(
  reader: Reader,
  subscriberId: string,
): Promise<ReadonlySet<string>> {
  const rows = await selectRows<{ id: bigint }>(
    reader,
    `SELECT b.id FROM buckets b JOIN wallets w ON w.id = b.wallet_id JOIN subscribers s ON s.id = w.subscriber_id
     WHERE w.subscriber_id = ? AND b.effective_at > now() + s.clock_offset_ms * interval '1 millisecond'`,
    [subscriberId],
  );
  return new Set(rows.map(({ id }) => id.toString()));
}
