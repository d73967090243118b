import type { Reader, Tx } from './db.ts';
import { newId } from './ids.ts';
import {
  insertedRow,
  selectPage,
  selectRow,
  type Environment,
  type Page,
  type PageArgs,
} from './query.ts';

export type ApiKeyRow = {
  readonly id: string;
  readonly environment: Environment;
  readonly subscriber_id: string;
  readonly name: string;
  readonly last4: string;
  readonly product_ids: readonly string[];
  readonly expires_at: Date | null;
  readonly revoked_at: Date | null;
  readonly created_at: Date;
};

const columns = `t.id, t.environment, t.subscriber_id, t.name, t.last4, t.product_ids, t.expires_at, t.revoked_at, t.created_at`;

/** Inserts a key by its SHA-256 digest and its last four characters; nothing else of it is kept. */
export async function insertApiKey(
  tx: Tx,
  key: Pick<
    ApiKeyRow,
    'environment' | 'subscriber_id' | 'name' | 'last4' | 'product_ids' | 'expires_at'
  > & { readonly digest: Buffer },
): Promise<ApiKeyRow> {
  return insertedRow(
    tx,
    `INSERT INTO api_keys AS t (id, environment, subscriber_id, name, digest, last4, product_ids, expires_at)
     VALUES (?, ?, ?, ?, ?, ?, ?, ?) RETURNING ${columns}`,
    [
      newId('key'),
      key.environment,
      key.subscriber_id,
      key.name,
      key.digest,
      key.last4,
      key.product_ids,
      key.expires_at,
    ],
  );
}

/** How many keys of the subscriber are not revoked: what its shard must hold. Expired ones are among them. */
export async function countLiveApiKeys(reader: Reader, subscriberId: string): Promise<number> {
  const row = await selectRow<{ count: bigint }>(
    reader,
    'SELECT count(*) AS count FROM api_keys WHERE subscriber_id = ? AND revoked_at IS NULL',
    [subscriberId],
  );
  return Number(row?.count ?? 0n);
}

export async function findApiKey(
  reader: Reader,
  environment: Environment,
  id: string,
): Promise<ApiKeyRow | null> {
  return selectRow(
    reader,
    `SELECT ${columns} FROM api_keys t WHERE t.environment = ? AND t.id = ?`,
    [environment, id],
  );
}

export async function listApiKeys(
  reader: Reader,
  subscriberId: string,
  page: PageArgs,
): Promise<Page<ApiKeyRow>> {
  return selectPage(
    reader,
    {
      columns,
      from: 'api_keys t',
      where: 't.subscriber_id = :subscriberId',
      bindings: { subscriberId },
    },
    page,
  );
}

/** Revokes; a repeat keeps the first instant. */
export async function revokeApiKey(tx: Tx, id: string, now: Date): Promise<ApiKeyRow> {
  return insertedRow(
    tx,
    `UPDATE api_keys AS t SET revoked_at = coalesce(t.revoked_at, ?) WHERE t.id = ? RETURNING ${columns}`,
    [now, id],
  );
}
