/**
 * Payments: one row for each attempt to take money. Its id is the key under which the provider knows the attempt, its
 * business key what it is for: `invoice:{invoice}:{attempt}` or `topup:{top-up}`.
 */
import type { Reader, Tx } from './db.ts';
import { newId } from './ids.ts';
import { markInvoicePaid } from './invoices.ts';
import { postLedger } from './ledger.ts';
import { insertedRow, selectRow } from './query.ts';

export type PaymentState = 'pending' | 'succeeded' | 'declined' | 'canceled' | 'unknown';

export type Payment = {
  readonly id: string;
  readonly environment: string;
  readonly subscriberId: string;
  readonly kind: 'invoice' | 'top_up';
  readonly businessKey: string;
  readonly amountMinor: bigint;
  readonly currency: string;
  readonly paymentMethod: string | null;
  readonly state: PaymentState;
  readonly providerRef: string | null;
  readonly declineCode: string | null;
};

const columns = `id, environment, subscriber_id AS "subscriberId", kind, business_key AS "businessKey",
  amount_minor AS "amountMinor", currency, payment_method AS "paymentMethod", state, provider_ref AS "providerRef",
  decline_code AS "declineCode"`;

export const paymentKeys = {
  invoice: (invoiceId: string, attempt: number) => `invoice:${invoiceId}:${attempt}`,
  topUp: (topUpId: string) => `topup:${topUpId}`,
} as const;

export type NewPayment = Pick<
  Payment,
  'environment' | 'subscriberId' | 'kind' | 'businessKey' | 'amountMinor' | 'currency'
> & { readonly paymentMethod: string };

/** The attempt's row, written as `pending` when it is not there yet. Repeating a `businessKey` changes nothing. */
export async function ensurePayment(tx: Tx, payment: NewPayment): Promise<Payment> {
  await tx.raw(
    `INSERT INTO payments (id, environment, subscriber_id, kind, business_key, amount_minor, currency, payment_method, state)
     VALUES (?, ?, ?, ?, ?, ?, ?, ?, 'pending') ON CONFLICT (business_key) DO NOTHING`,
    [
      newId('pay'),
      payment.environment,
      payment.subscriberId,
      payment.kind,
      payment.businessKey,
      payment.amountMinor.toString(),
      payment.currency,
      payment.paymentMethod,
    ],
  );
  return insertedRow<Payment>(tx, `SELECT ${columns} FROM payments WHERE business_key = ?`, [
    payment.businessKey,
  ]);
}

/** Throws when there is none. */
export async function readPayment(db: Reader, paymentId: string): Promise<Payment> {
  return insertedRow<Payment>(db, `SELECT ${columns} FROM payments WHERE id = ?`, [paymentId]);
}

export type PaymentOutcome =
  | { readonly kind: 'succeeded'; readonly providerRef: string }
  | { readonly kind: 'declined'; readonly providerRef: string | null; readonly code: string }
  | { readonly kind: 'canceled' }
  | { readonly kind: 'unknown' };

/**
 * Records what became of an attempt. Money that came in is posted (cash +, receivable −) and marks its invoice paid, all
 * in this transaction. What is final stays as it is: a second, different report of it changes nothing.
 */
export async function recordOutcome(
  tx: Tx,
  args: { readonly paymentId: string; readonly outcome: PaymentOutcome; readonly at: Date },
): Promise<Payment> {
  const { outcome, paymentId, at } = args;
  const payment = await selectRow<Payment>(
    tx,
    `UPDATE payments SET state = :state, provider_ref = :provider_ref, decline_code = :code, updated_at = :at
     WHERE id = :id AND state IN ('pending', 'unknown') RETURNING ${columns}`,
    {
      id: paymentId,
      state: outcome.kind,
      provider_ref: 'providerRef' in outcome ? outcome.providerRef : null,
      code: outcome.kind === 'declined' ? outcome.code : null,
      at,
    },
  );
  if (payment === null) return readPayment(tx, paymentId);
  if (outcome.kind === 'succeeded') {
    await postPayment(tx, payment);
    const invoiceId = invoiceOf(payment);
    if (invoiceId !== null) await markInvoicePaid(tx, invoiceId, at);
  }
  return payment;
}

function invoiceOf(payment: Payment): string | null {
  if (payment.kind === 'top_up') return null;
  const invoiceId = /^invoice:(inv_[0-9a-z]{22}):\d+$/.exec(payment.businessKey)?.[1];
  if (invoiceId === undefined) throw new Error(`payment ${payment.id} names no invoice`);
  return invoiceId;
}

async function postPayment(tx: Tx, payment: Payment): Promise<void> {
  const asset = payment.currency;
  await postLedger(tx, {
    environment: payment.environment,
    kind: 'payment',
    businessKey: `payment:${payment.id}`,
    entries: [
      { asset, kind: 'cash', subscriberId: null, amount: payment.amountMinor },
      {
        asset,
        kind: 'receivable',
        subscriberId: payment.subscriberId,
        amount: -payment.amountMinor,
      },
    ],
  });
}

/** The provider's name of the subscriber's payment method; null when there is none. */
export async function readPaymentMethod(db: Reader, subscriberId: string): Promise<string | null> {
  const row = await insertedRow<{ payment_method: string | null }>(
    db,
    'SELECT payment_method FROM subscribers WHERE id = ?',
    [subscriberId],
  );
  return row.payment_method;
}

/** For people, and for the provider's statement: the invoice's number, or the credits. */
export async function describePayment(db: Reader, payment: Payment): Promise<string> {
  const invoiceId = invoiceOf(payment);
  if (invoiceId === null) return 'credits';
  const row = await selectRow<{ number: string | null }>(
    db,
    'SELECT number FROM invoices WHERE id = ?',
    [invoiceId],
  );
  return row?.number ?? invoiceId;
}
