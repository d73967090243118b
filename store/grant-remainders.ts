import type { Tx } from './db.ts';
import { numberArray } from './pg-array.ts';
import { insertedRow, selectRows } from './query.ts';

export type BucketTake = { readonly bucketId: bigint; readonly micro: bigint };

/**
 * Takes from the grants of each bucket, the oldest first, what the shard has taken from the bucket as a whole. Gives what
 * each bucket lacked, without those that lacked nothing: a shard that lost the tail of its log has credits that were spent
 * before, and no balance goes below zero.
 */
export async function takeFromGrants(
  tx: Tx,
  takes: readonly BucketTake[],
): Promise<ReadonlyMap<bigint, bigint>> {
  const wanted = new Map<bigint, bigint>();
  for (const { bucketId, micro } of takes) {
    if (micro > 0n) wanted.set(bucketId, (wanted.get(bucketId) ?? 0n) + micro);
  }
  if (wanted.size === 0) return wanted;
  const taken = await selectRows<{ bucket_id: bigint; taken: bigint }>(
    tx,
    `WITH wanted AS (SELECT * FROM unnest(?::bigint[], ?::bigint[]) AS w(bucket_id, micro)),
     locked AS (
       SELECT g.id, g.bucket_id, g.remaining_micro, g.created_at, w.micro
       FROM grants g JOIN wanted w ON w.bucket_id = g.bucket_id
       WHERE g.remaining_micro > 0 ORDER BY g.id FOR UPDATE OF g
     ),
     ordered AS (
       SELECT id, bucket_id, remaining_micro, micro,
         sum(remaining_micro) OVER (
           PARTITION BY bucket_id ORDER BY created_at, id
         ) - remaining_micro AS before
       FROM locked
     ),
     fifo AS (SELECT id, LEAST(remaining_micro, micro - before)::bigint AS taken FROM ordered WHERE micro > before)
     UPDATE grants g SET remaining_micro = g.remaining_micro - f.taken FROM fifo f
     WHERE g.id = f.id RETURNING g.bucket_id, f.taken`,
    [numberArray([...wanted.keys()]), numberArray([...wanted.values()])],
  );
  for (const row of taken) {
    wanted.set(row.bucket_id, (wanted.get(row.bucket_id) ?? 0n) - row.taken);
  }
  return new Map([...wanted].filter(([, short]) => short !== 0n));
}

/** What is left of a grant, and of all grants that share its bucket. */
export type GrantRest = { readonly remainingMicro: bigint; readonly bucketMicro: bigint };

/** Locks the grant until the transaction ends. */
export async function lockGrantRest(tx: Tx, grantId: string): Promise<GrantRest> {
  return insertedRow<GrantRest>(
    tx,
    `SELECT g.remaining_micro AS "remainingMicro",
       (SELECT sum(o.remaining_micro)::bigint FROM grants o WHERE o.bucket_id = g.bucket_id) AS "bucketMicro"
     FROM grants g WHERE g.id = ? FOR UPDATE OF g`,
    [grantId],
  );
}

/** At most what is left of it, which the caller has locked. */
export async function takeFromGrant(tx: Tx, grantId: string, micro: bigint): Promise<void> {
  await tx.raw('UPDATE grants SET remaining_micro = remaining_micro - ? WHERE id = ?', [
    micro.toString(),
    grantId,
  ]);
}

export type BucketOwner = {
  readonly bucketId: bigint;
  readonly unit: string;
  readonly subscriberId: string;
  readonly environment: string;
};

/** Whose the buckets are, by bucket id as text. Unknown ones are absent. */
export async function readBucketOwners(
  tx: Tx,
  bucketIds: Iterable<string>,
): Promise<ReadonlyMap<string, BucketOwner>> {
  const ids = [...new Set(bucketIds)];
  if (ids.length === 0) return new Map();
  const rows = await selectRows<BucketOwner>(
    tx,
    `SELECT b.id AS "bucketId", w.unit, w.subscriber_id AS "subscriberId", s.environment
     FROM buckets b JOIN wallets w ON w.id = b.wallet_id JOIN subscribers s ON s.id = w.subscriber_id
     WHERE b.id = ANY (?::bigint[])`,
    [`{${ids.join(',')}}`],
  );
  return new Map(rows.map((row) => [String(row.bucketId), row]));
}
