/** Take-backs as they are shown. */
import type { Reader } from './db.ts';
import { type Environment, selectRow, selectRows } from './query.ts';
import type { TakeBackState } from './take-backs.ts';

export type TakeBackRead = {
  readonly id: string;
  readonly environment: Environment;
  readonly subscriber_id: string;
  readonly invoice_id: string;
  readonly invoice_number: string;
  readonly currency: string;
  readonly unit: string;
  readonly state: TakeBackState;
  readonly asked_micro: bigint;
  /** Null: all that was available. */
  readonly asked_minor: bigint | null;
  /** Null until the shard has answered. */
  readonly taken_micro: bigint | null;
  readonly credited_minor: bigint | null;
  readonly credit_note_id: string | null;
  readonly created_at: Date;
};

const select = `SELECT k.id, k.environment, k.subscriber_id, k.invoice_id, i.number AS invoice_number, i.currency, w.unit,
    k.state, k.asked_micro, k.asked_minor, k.taken_micro, k.credited_minor, k.credit_note_id, k.created_at
  FROM take_backs k JOIN invoices i ON i.id = k.invoice_id JOIN grants g ON g.id = k.grant_id
  JOIN wallets w ON w.id = g.wallet_id`;

/** One take-back of the environment. */
export async function findTakeBackRead(
  reader: Reader,
  environment: Environment,
  id: string,
): Promise<TakeBackRead | null> {
  return selectRow(reader, `${select} WHERE k.environment = ? AND k.id = ?`, [environment, id]);
}

/** Those of an invoice, oldest first. */
export async function listTakeBacksOf(
  reader: Reader,
  invoiceId: string,
): Promise<readonly TakeBackRead[]> {
  return selectRows(reader, `${select} WHERE k.invoice_id = ? ORDER BY k.created_at, k.id`, [
    invoiceId,
  ]);
}
