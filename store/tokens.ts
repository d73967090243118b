import type { Db, Reader, Tx } from './db.ts';
import { newId } from './ids.ts';
import {
  insertedRow,
  selectPageOf,
  selectRow,
  type Environment,
  type Page,
  type PageArgs,
} from './query.ts';

export const roles = ['admin', 'operator', 'reader', 'ingest'] as const;
export type Role = (typeof roles)[number];

export type ServiceToken = {
  readonly id: string;
  readonly name: string;
  readonly environment: Environment;
  readonly role: Role;
  readonly created_at: Date;
  readonly revoked_at: Date | null;
};

const columns = 't.id, t.name, t.environment, t.role, t.created_at, t.revoked_at';

/** The token with this SHA-256 digest, unless it was revoked. */
export async function findTokenByDigest(
  reader: Reader,
  digest: Buffer,
): Promise<ServiceToken | null> {
  return selectRow(
    reader,
    `SELECT ${columns} FROM service_tokens t WHERE t.digest = ? AND t.revoked_at IS NULL`,
    [digest],
  );
}

/** Inserts a token by its digest; the text itself is known to its owner only. */
export async function insertToken(
  tx: Tx,
  token: {
    readonly environment: Environment;
    readonly name: string;
    readonly role: Role;
    readonly digest: Buffer;
  },
): Promise<ServiceToken> {
  return insertedRow(
    tx,
    `INSERT INTO service_tokens AS t (id, name, environment, role, digest)
     VALUES (?, ?, ?, ?, ?) RETURNING ${columns}`,
    [newId('tok'), token.name, token.environment, token.role, token.digest],
  );
}

/** Makes the bootstrap token known (role admin, environment test). A repeat, or a start beside another, changes nothing. */
export async function ensureBootstrapToken(db: Db, digest: Buffer): Promise<void> {
  await db.raw(
    `INSERT INTO service_tokens (id, name, environment, role, digest)
     VALUES (?, 'bootstrap', 'test', 'admin', ?) ON CONFLICT (digest) DO NOTHING`,
    [newId('tok'), digest],
  );
}

export async function findToken(
  reader: Reader,
  environment: Environment,
  id: string,
): Promise<ServiceToken | null> {
  return selectRow(
    reader,
    `SELECT ${columns} FROM service_tokens t WHERE t.environment = ? AND t.id = ?`,
    [environment, id],
  );
}

export async function listTokens(
  reader: Reader,
  environment: Environment,
  page: PageArgs,
): Promise<Page<ServiceToken>> {
  return selectPageOf(reader, { table: 'service_tokens', columns }, environment, page);
}

/** Revokes at once; a repeat keeps the first instant. */
export async function revokeToken(tx: Tx, id: string, now: Date): Promise<ServiceToken> {
  return insertedRow(
    tx,
    `UPDATE service_tokens AS t SET revoked_at = coalesce(t.revoked_at, ?) WHERE t.id = ? RETURNING ${columns}`,
    [now, id],
  );
}
