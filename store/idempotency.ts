import type { Db, Reader } from './db.ts';
import { selectRow } from './query.ts';

/** What is kept of an answer: text, or text sealed with a key that only the caller can derive (answers with a secret). */
export type StoredAnswer =
  | { readonly kind: 'open'; readonly body: string }
  | { readonly kind: 'sealed'; readonly iv: string; readonly data: string; readonly tag: string };

export type Claim =
  /** Ours to do. `resumedObjectId`: an earlier try died after it had made this object. */
  | { readonly kind: 'claimed'; readonly resumedObjectId: string | null }
  | { readonly kind: 'done'; readonly status: number; readonly answer: StoredAnswer }
  | { readonly kind: 'in_flight' }
  | { readonly kind: 'reused' };

/** A claim whose process died is taken over after this long: longer than any call may take. */
const ABANDONED_AFTER_SECONDS = 90;

/** Claims (token, key) for one request, or tells what became of it. */
export async function claimKey(
  db: Db,
  key: { readonly tokenId: string; readonly key: string; readonly requestDigest: Buffer },
): Promise<Claim> {
  const inserted = await selectRow<{ readonly key: string }>(
    db,
    `INSERT INTO idempotency_keys (token_id, key, request_digest) VALUES (?, ?, ?)
     ON CONFLICT (token_id, key) DO NOTHING RETURNING key`,
    [key.tokenId, key.key, key.requestDigest],
  );
  if (inserted !== null) return { kind: 'claimed', resumedObjectId: null };
  const known = await selectRow<{
    readonly same: boolean;
    readonly status: number | null;
    readonly response: StoredAnswer | { readonly object_id: string } | null;
  }>(
    db,
    `SELECT request_digest = ? AS same, status, response FROM idempotency_keys WHERE token_id = ? AND key = ?`,
    [key.requestDigest, key.tokenId, key.key],
  );
  if (known === null) return { kind: 'in_flight' };
  if (!known.same) return { kind: 'reused' };
  if (known.status !== null && known.response !== null && 'kind' in known.response) {
    return { kind: 'done', status: known.status, answer: known.response };
  }
  return takeOver(db, key);
}

async function takeOver(
  db: Db,
  key: { readonly tokenId: string; readonly key: string },
): Promise<Claim> {
  const taken = await selectRow<{ readonly object_id: string | null }>(
    db,
    `UPDATE idempotency_keys SET created_at = now()
     WHERE token_id = ? AND key = ? AND status IS NULL
       AND created_at < now() - make_interval(secs => ${ABANDONED_AFTER_SECONDS})
     RETURNING response ->> 'object_id' AS object_id`,
    [key.tokenId, key.key],
  );
  if (taken === null) return { kind: 'in_flight' };
  return { kind: 'claimed', resumedObjectId: taken.object_id };
}

/** Notes which object the unfinished request has made, in the transaction that made it. */
export async function noteObject(
  tx: Reader,
  key: { readonly tokenId: string; readonly key: string; readonly objectId: string },
): Promise<void> {
  await tx.raw(
    `UPDATE idempotency_keys SET response = jsonb_build_object('object_id', ?::text)
     WHERE token_id = ? AND key = ? AND status IS NULL`,
    [key.objectId, key.tokenId, key.key],
  );
}

/** Keeps the answer; in the transaction of the effect where there is one. */
export async function keepAnswer(
  tx: Reader,
  key: {
    readonly tokenId: string;
    readonly key: string;
    readonly status: number;
    readonly answer: StoredAnswer;
  },
): Promise<void> {
  await tx.raw(
    `UPDATE idempotency_keys SET status = ?, response = ? WHERE token_id = ? AND key = ? AND status IS NULL`,
    [key.status, JSON.stringify(key.answer), key.tokenId, key.key],
  );
}

/** Gives an unfinished key back after a failure that may be tried again; one that has made an object may be taken over at once. */
export async function releaseKey(
  db: Db,
  key: { readonly tokenId: string; readonly key: string },
): Promise<void> {
  await db.raw(
    `UPDATE idempotency_keys SET created_at = now() - interval '1 day'
     WHERE token_id = ? AND key = ? AND status IS NULL AND response IS NOT NULL`,
    [key.tokenId, key.key],
  );
  await db.raw(
    `DELETE FROM idempotency_keys WHERE token_id = ? AND key = ? AND status IS NULL AND response IS NULL`,
    [key.tokenId, key.key],
  );
}

/** Forgets keys older than two days (the promise is one); at most 10,000 a call. */
export async function forgetOldKeys(db: Db): Promise<void> {
  await db.raw(
    `DELETE FROM idempotency_keys WHERE ctid IN
       (SELECT ctid FROM idempotency_keys WHERE created_at < now() - interval '2 days' LIMIT 10000)`,
  );
}
