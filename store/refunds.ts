/** Refunds: money of a credit note that goes back through the payment that brought it. */
import type { Reader, Tx } from './db.ts';
import { newId } from './ids.ts';
import { type LedgerEntry, postLedger } from './ledger.ts';
import { insertedRow, selectRow } from './query.ts';

export type Refund = {
  readonly id: string;
  readonly environment: string;
  readonly subscriberId: string;
  readonly creditNoteId: string;
  readonly paymentId: string;
  readonly amountMinor: bigint;
  readonly currency: string;
  readonly state: 'pending' | 'succeeded' | 'failed';
  readonly providerRef: string | null;
  readonly failureCode: string | null;
};

const columns = `id, environment, subscriber_id AS "subscriberId", credit_note_id AS "creditNoteId",
  payment_id AS "paymentId", amount_minor AS "amountMinor", currency, state, provider_ref AS "providerRef",
  failure_code AS "failureCode"`;

/** Writes the refund of a credit note as `pending`; its id is the provider's key for it. Answers the id. */
export async function insertRefund(
  tx: Tx,
  refund: Pick<
    Refund,
    'environment' | 'subscriberId' | 'creditNoteId' | 'paymentId' | 'amountMinor' | 'currency'
  >,
): Promise<string> {
  const row = await insertedRow<{ id: string }>(
    tx,
    `INSERT INTO refunds (id, environment, subscriber_id, credit_note_id, payment_id, business_key, amount_minor, currency, state)
     VALUES (?, ?, ?, ?, ?, ?, ?, ?, 'pending') RETURNING id`,
    [
      newId('ref'),
      refund.environment,
      refund.subscriberId,
      refund.creditNoteId,
      refund.paymentId,
      `credit_note:${refund.creditNoteId}`,
      refund.amountMinor,
      refund.currency,
    ],
  );
  return row.id;
}

/** Throws when there is none. */
async function readRefund(db: Reader, refundId: string): Promise<Refund> {
  return insertedRow<Refund>(db, `SELECT ${columns} FROM refunds WHERE id = ?`, [refundId]);
}

/** What the refund's workflow tells people. Throws when there is none. */
export async function readRefundView(
  db: Reader,
  refundId: string,
): Promise<{
  readonly subscriberId: string;
  readonly invoiceId: string;
  readonly number: string;
  readonly state: Refund['state'];
  readonly failureCode: string | null;
}> {
  return insertedRow(
    db,
    `SELECT r.subscriber_id AS "subscriberId", n.invoice_id AS "invoiceId", n.number, r.state,
            r.failure_code AS "failureCode"
     FROM refunds r JOIN credit_notes n ON n.id = r.credit_note_id WHERE r.id = ?`,
    [refundId],
  );
}

/** What the provider is asked to give back: of its charge, in minor units. Throws when there is none. */
export async function readRefundCharge(
  db: Reader,
  refundId: string,
): Promise<{
  readonly providerRef: string;
  readonly amountMinor: bigint;
  readonly currency: string;
}> {
  return insertedRow(
    db,
    `SELECT p.provider_ref AS "providerRef", r.amount_minor AS "amountMinor", r.currency
     FROM refunds r JOIN payments p ON p.id = r.payment_id WHERE r.id = ? AND p.provider_ref IS NOT NULL`,
    [refundId],
  );
}

export type RefundOutcome =
  | { readonly kind: 'succeeded'; readonly providerRef: string }
  | { readonly kind: 'failed'; readonly code: string };

/**
 * Records what became of a refund: money that went back leaves cash; what the provider would not give back goes to the
 * subscriber's account balance. What is final stays as it is.
 */
export async function recordRefund(
  tx: Tx,
  args: { readonly refundId: string; readonly outcome: RefundOutcome; readonly at: Date },
): Promise<Refund> {
  const { outcome } = args;
  const refund = await selectRow<Refund>(
    tx,
    `UPDATE refunds SET state = ?, provider_ref = ?, failure_code = ?, updated_at = ?
     WHERE id = ? AND state = 'pending' RETURNING ${columns}`,
    [
      outcome.kind,
      outcome.kind === 'succeeded' ? outcome.providerRef : null,
      outcome.kind === 'failed' ? outcome.code : null,
      args.at,
      args.refundId,
    ],
  );
  if (refund === null) return readRefund(tx, args.refundId);
  const { currency: asset, subscriberId, amountMinor } = refund;
  const owed: LedgerEntry = { asset, kind: 'refund_payable', subscriberId, amount: amountMinor };
  const goes: LedgerEntry =
    outcome.kind === 'succeeded'
      ? { asset, kind: 'cash', subscriberId: null, amount: -amountMinor }
      : { asset, kind: 'account_balance', subscriberId, amount: -amountMinor };
  await postLedger(tx, {
    environment: refund.environment,
    kind: 'refund',
    businessKey: `refund:${refund.id}`,
    entries: [owed, goes],
  });
  return refund;
}
