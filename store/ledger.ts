import type { Reader, Tx } from './db.ts';
import { numberArray, textArray } from './pg-array.ts';
import { selectRow, selectRows } from './query.ts';

/**
 * The double-entry ledger: the only place that writes `accounts`, `ledger_txns` and `ledger_entries`.
 * Signs: what a subscriber or we own is positive, its counterpart negative. Postgres itself refuses, as it is written, a
 * transaction that does not sum to zero in each asset, and at once any change of what was posted.
 */
export type AccountKind =
  | 'world'
  | 'available'
  | 'spent'
  | 'expired'
  | 'refunded'
  | 'receivable'
  | 'revenue'
  | 'tax_payable'
  | 'cash'
  | 'deferred_revenue'
  | 'account_balance'
  | 'bad_debt'
  | 'refund_payable';

export type LedgerEntry = {
  /** `USD`, `EUR`… in minor units, or `credit:<unit>` in micro-credits. */
  readonly asset: string;
  readonly kind: AccountKind;
  /** Null: an account of ours, shared by all subscribers of the environment. */
  readonly subscriberId: string | null;
  /** Never zero; an entry of zero is left out by the caller. */
  readonly amount: bigint;
};

export type LedgerPost = {
  readonly environment: string;
  /** What happened, for people: `grant`, `spend`, `expired`, `invoice`, `payment`… */
  readonly kind: string;
  /** The business fact that is posted; the same fact is posted once, whoever repeats it. */
  readonly businessKey: string;
  readonly entries: readonly LedgerEntry[];
};

/**
 * Posts one balanced transaction; accounts are made when they are needed.
 * `posted` is false, and nothing is written, when `businessKey` was posted before.
 * Throws (from Postgres) when an asset does not sum to zero.
 */
export async function postLedger(
  tx: Tx,
  post: LedgerPost,
): Promise<{ readonly txnId: bigint; readonly posted: boolean }> {
  const inserted = await selectRow<{ id: bigint }>(
    tx,
    `INSERT INTO ledger_txns (environment, kind, business_key) VALUES (?, ?, ?)
     ON CONFLICT (business_key) DO NOTHING RETURNING id`,
    [post.environment, post.kind, post.businessKey],
  );
  if (inserted === null) return { txnId: await txnOf(tx, post.businessKey), posted: false };
  const txnId = inserted.id;
  await insertEntries(
    tx,
    post.entries.map((entry) => ({ ...entry, txnId, environment: post.environment })),
  );
  return { txnId, posted: true };
}

/** Whether the business fact has been posted. */
export async function isPosted(tx: Reader, businessKey: string): Promise<boolean> {
  const sql = 'SELECT 1 AS found FROM ledger_txns WHERE business_key = ?';
  return (await selectRow(tx, sql, [businessKey])) !== null;
}

async function txnOf(tx: Tx, businessKey: string): Promise<bigint> {
  const found = await selectRow<{ id: bigint }>(
    tx,
    'SELECT id FROM ledger_txns WHERE business_key = ?',
    [businessKey],
  );
  if (found === null) throw new Error(`ledger transaction ${businessKey} vanished`);
  return found.id;
}

/** Takes `count` ids of ledger transactions ahead, so that rows can name a transaction that is written after them. */
export async function reserveTxnIds(tx: Tx, count: number): Promise<readonly bigint[]> {
  if (count === 0) return [];
  const taken = await selectRows<{ id: bigint }>(
    tx,
    `SELECT nextval(pg_get_serial_sequence('ledger_txns', 'id')) AS id FROM generate_series(1, ?::int)`,
    [count],
  );
  return taken.map((row) => row.id);
}

/** A post whose id was reserved. Its business key must be new: a repeat throws a unique violation. */
export type ReservedPost = LedgerPost & { readonly txnId: bigint };

/** Writes many posts in two statements; used by the drain, which knows from its cursor that each is new. */
export async function postReserved(tx: Tx, posts: readonly ReservedPost[]): Promise<void> {
  if (posts.length === 0) return;
  await selectRows(
    tx,
    `INSERT INTO ledger_txns (id, environment, kind, business_key) OVERRIDING SYSTEM VALUE
     SELECT * FROM unnest(?::bigint[], ?::text[], ?::text[], ?::text[])`,
    [
      numberArray(posts.map((post) => post.txnId)),
      textArray(posts.map((post) => post.environment)),
      textArray(posts.map((post) => post.kind)),
      textArray(posts.map((post) => post.businessKey)),
    ],
  );
  await insertEntries(
    tx,
    posts.flatMap((post) =>
      post.entries.map((entry) => ({
        ...entry,
        txnId: post.txnId,
        environment: post.environment,
      })),
    ),
  );
}

type PlacedEntry = LedgerEntry & { readonly txnId: bigint; readonly environment: string };

async function insertEntries(tx: Tx, entries: readonly PlacedEntry[]): Promise<void> {
  const columns = [
    textArray(entries.map((entry) => entry.environment)),
    textArray(entries.map((entry) => entry.asset)),
    textArray(entries.map((entry) => entry.kind)),
    textArray(entries.map((entry) => entry.subscriberId)),
  ];
  // Found first: nearly every account exists, and a refused insert would burn an id of the sequence.
  // Sorted, to prevent deadlocks between two transactions that make the same accounts.
  await selectRows(
    tx,
    `INSERT INTO accounts (environment, asset, kind, subscriber_id)
     SELECT DISTINCT n.environment, n.asset, n.kind, n.subscriber_id
     FROM unnest(?::text[], ?::text[], ?::text[], ?::text[]) AS n(environment, asset, kind, subscriber_id)
     WHERE NOT EXISTS (${accountMatch('n')})
     ORDER BY 1, 2, 3, 4
     ON CONFLICT (environment, asset, kind, subscriber_id) DO NOTHING`,
    columns,
  );
  const written = await selectRows(
    tx,
    `INSERT INTO ledger_entries (txn_id, account_id, amount)
     SELECT n.txn_id, a.id, n.amount
     FROM unnest(?::text[], ?::text[], ?::text[], ?::text[], ?::bigint[], ?::bigint[])
       WITH ORDINALITY AS n(environment, asset, kind, subscriber_id, txn_id, amount, position)
     CROSS JOIN LATERAL (${accountMatch('n')}) a
     ORDER BY n.position RETURNING 1`,
    [
      ...columns,
      numberArray(entries.map((entry) => entry.txnId)),
      numberArray(entries.map((entry) => entry.amount)),
    ],
  );
  if (written.length !== entries.length) {
    throw new Error(`wrote ${written.length} ledger entries of ${entries.length}`);
  }
}

/** Two index look-ups: `IS NOT DISTINCT FROM`, which says it in one, cannot use the unique index. */
function accountMatch(row: string): string {
  const same = `environment = ${row}.environment AND asset = ${row}.asset AND kind = ${row}.kind`;
  return `SELECT id FROM accounts WHERE ${same} AND subscriber_id = ${row}.subscriber_id
    UNION ALL SELECT id FROM accounts WHERE ${same} AND subscriber_id IS NULL AND ${row}.subscriber_id IS NULL`;
}

export type AccountBalance = {
  readonly asset: string;
  readonly kind: AccountKind;
  readonly amount: bigint;
};

/** What each account of a subscriber sums to, by asset and kind; minor units or micro-credits. */
export async function accountBalances(
  tx: Reader,
  subscriberId: string,
): Promise<readonly AccountBalance[]> {
  return selectRows<AccountBalance>(
    tx,
    `SELECT a.asset, a.kind, coalesce(sum(e.amount), 0)::numeric AS amount
     FROM accounts a LEFT JOIN ledger_entries e ON e.account_id = a.id
     WHERE a.subscriber_id = ? GROUP BY a.asset, a.kind ORDER BY a.asset, a.kind`,
    [subscriberId],
  );
}
