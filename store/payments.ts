/**
 * Payments: one row for each attempt to take money. Its id is the key under which the provider knows the attempt, its
 * business key what it is for: `invoice:{invoice}:{attempt}` or `topup:{top-up}`.
 */
import type { Reader, Tx } from './db.ts';
import { newId } from './ids.ts';
import { readInvoiceMoney } from './invoice-money.ts';
import { type Invoice, lockInvoice, markInvoicePaid } from './invoices.ts';
import { type LedgerEntry, postLedger } from './ledger.ts';
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
 * in this transaction; what came beyond what was due is the subscriber's account balance. What is final stays as it is:
 * a second, different report of it changes nothing.
 */
export async function recordOutcome(
  tx: Tx,
  args: { readonly paymentId: string; readonly outcome: PaymentOutcome; readonly at: Date },
): Promise<Payment> {
  const { outcome, paymentId, at } = args;
  const owed = await lockOwed(tx, paymentId);
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
    await postPayment(tx, payment, owed);
    if (owed !== null && owed.dueMinor > 0n && payment.amountMinor >= owed.dueMinor) {
      await markInvoicePaid(tx, owed.invoice.id, at);
    }
  }
  return payment;
}

/** What its invoice owes before it; null: it is not for an invoice. */
type Owed = { readonly invoice: Invoice; readonly dueMinor: bigint };

async function lockOwed(tx: Tx, paymentId: string): Promise<Owed | null> {
  const invoiceId = invoiceOf(await readPayment(tx, paymentId));
  if (invoiceId === null) return null;
  const invoice = await lockInvoice(tx, invoiceId);
  const { dueMinor } = await readInvoiceMoney(tx, invoice);
  return { invoice, dueMinor };
}

function invoiceOf(payment: Payment): string | null {
  if (payment.kind === 'top_up') return null;
  const invoiceId = /^invoice:(inv_[0-9a-z]{22}):\d+$/.exec(payment.businessKey)?.[1];
  if (invoiceId === undefined) throw new Error(`payment ${payment.id} names no invoice`);
  return invoiceId;
}

async function postPayment(tx: Tx, payment: Payment, owed: Owed | null): Promise<void> {
  const { currency: asset, subscriberId, amountMinor } = payment;
  // A top-up is paid before its invoice is there.
  const due = owed === null ? amountMinor : owed.dueMinor;
  const paid = amountMinor < due ? amountMinor : due;
  const isLoss = owed?.invoice.state === 'uncollectible';
  const entries: readonly LedgerEntry[] = [
    { asset, kind: 'cash', subscriberId: null, amount: amountMinor },
    isLoss
      ? { asset, kind: 'bad_debt', subscriberId: null, amount: -paid }
      : { asset, kind: 'receivable', subscriberId, amount: -paid },
    { asset, kind: 'account_balance', subscriberId, amount: paid - amountMinor },
  ];
  await postLedger(tx, {
    environment: payment.environment,
    kind: 'payment',
    businessKey: `payment:${payment.id}`,
    entries: entries.filter((entry) => entry.amount !== 0n),
  });
}

/**
 * The attempt at an invoice's money that comes next: one that has not ended goes on, else it is one more than there were.
 */
export async function nextAttempt(db: Reader, invoice: Invoice): Promise<number> {
  const row = await selectRow<{ attempt: number; is_final: boolean }>(
    db,
    `SELECT substring(business_key FROM '[0-9]+$')::int AS attempt, state NOT IN ('pending', 'unknown') AS is_final
     FROM payments WHERE subscriber_id = ? AND starts_with(business_key, ?) ORDER BY 1 DESC LIMIT 1`,
    [invoice.subscriberId, `invoice:${invoice.id}:`],
  );
  if (row === null) return 1;
  return row.is_final ? row.attempt + 1 : row.attempt;
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
