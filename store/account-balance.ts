/**
 * The account balance: money of a subscriber that the operator holds, for each currency. It comes from invoices with a
 * negative total and goes to later invoices. In the ledger it is owed, so its account is negative; here it is not.
 */
import type { Reader, Tx } from './db.ts';
import { insertedRow, selectRow } from './query.ts';

export type BalanceOwner = {
  readonly environment: string;
  readonly subscriberId: string;
  readonly currency: string;
};

const account = `a.environment = ? AND a.asset = ? AND a.kind = 'account_balance' AND a.subscriber_id = ?`;

/** In minor units, from zero up. */
export async function readAccountBalance(db: Reader, owner: BalanceOwner): Promise<bigint> {
  const row = await insertedRow<{ minor: bigint }>(
    db,
    `SELECT -coalesce(sum(e.amount), 0)::numeric(38,0) AS minor
     FROM accounts a JOIN ledger_entries e ON e.account_id = a.id WHERE ${account}`,
    [owner.environment, owner.currency, owner.subscriberId],
  );
  return row.minor;
}

/**
 * Until the transaction ends nobody else takes from the balance: whoever means to apply it locks it, then reads it.
 * An account that does not exist yet needs no lock: there is nothing to take. What is added meanwhile does no harm.
 */
export async function lockAccountBalance(tx: Tx, owner: BalanceOwner): Promise<void> {
  // Weaker than FOR UPDATE: entries that refer to the account are still written.
  await selectRow(tx, `SELECT a.id FROM accounts a WHERE ${account} FOR NO KEY UPDATE`, [
    owner.environment,
    owner.currency,
    owner.subscriberId,
  ]);
}
