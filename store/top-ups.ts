/** Credits bought at once: a row, a payment, an invoice and a grant, each under the top-up's own business key. */
import { formatCreditUnits } from '../billing/credits.ts';
import type { Reader, Tx } from './db.ts';
import { newId } from './ids.ts';
import { readTopUpDocument } from './invoice-document.ts';
import { invoiceKeys, issueInvoice, markInvoicePaid, type NewLine } from './invoices.ts';
import { ensurePayment, type Payment, paymentKeys, readPaymentMethod } from './payments.ts';
import { insertedRow, selectRow } from './query.ts';
import { grantCredits } from './wallets.ts';

export type TopUpState = 'pending' | 'granted' | 'declined' | 'failed';

export type TopUp = {
  readonly id: string;
  readonly environment: string;
  readonly subscriberId: string;
  readonly walletId: string;
  readonly unit: string;
  readonly creditsMicro: bigint;
  readonly amountMinor: bigint;
  readonly currency: string;
  readonly state: TopUpState;
  readonly paymentId: string | null;
  readonly invoiceId: string | null;
};

export type NewTopUp = {
  readonly environment: string;
  readonly subscriberId: string;
  readonly walletId: string;
  readonly creditsMicro: bigint;
  /** Positive: credits that cost nothing are granted without a top-up. */
  readonly amountMinor: bigint;
  readonly currency: string;
  /** Whoever asks again with the same key gets the same top-up. */
  readonly businessKey: string;
};

/** Writes the row, state `pending`; its workflow takes the money and grants the credits. */
export async function createTopUp(
  tx: Tx,
  topUp: NewTopUp,
): Promise<{ readonly topUpId: string; readonly created: boolean }> {
  if (topUp.amountMinor <= 0n) throw new RangeError('a top-up costs something; grant free credits');
  const created = await selectRow<{ id: string }>(
    tx,
    `INSERT INTO top_ups (id, environment, subscriber_id, wallet_id, business_key, credits_micro, amount_minor, currency, state)
     VALUES (?, ?, ?, ?, ?, ?, ?, ?, 'pending') ON CONFLICT (business_key) DO NOTHING RETURNING id`,
    [
      newId('top'),
      topUp.environment,
      topUp.subscriberId,
      topUp.walletId,
      topUp.businessKey,
      topUp.creditsMicro,
      topUp.amountMinor,
      topUp.currency,
    ],
  );
  if (created !== null) return { topUpId: created.id, created: true };
  const known = await insertedRow<{ id: string }>(
    tx,
    'SELECT id FROM top_ups WHERE business_key = ?',
    [topUp.businessKey],
  );
  return { topUpId: known.id, created: false };
}

const columns = `t.id, t.environment, t.subscriber_id AS "subscriberId", t.wallet_id AS "walletId", w.unit,
  t.credits_micro AS "creditsMicro", t.amount_minor AS "amountMinor", t.currency, t.state,
  t.payment_id AS "paymentId", t.invoice_id AS "invoiceId"`;

/** Throws when there is none. */
export async function readTopUp(db: Reader, topUpId: string): Promise<TopUp> {
  return insertedRow<TopUp>(
    db,
    `SELECT ${columns} FROM top_ups t JOIN wallets w ON w.id = t.wallet_id WHERE t.id = ?`,
    [topUpId],
  );
}

async function lockTopUp(tx: Tx, topUpId: string): Promise<TopUp> {
  return insertedRow<TopUp>(
    tx,
    `SELECT ${columns} FROM top_ups t JOIN wallets w ON w.id = t.wallet_id WHERE t.id = ? FOR UPDATE OF t`,
    [topUpId],
  );
}

/** The attempt to pay for it: one, whatever happens. Null when the subscriber has no payment method. */
export async function ensureTopUpPayment(tx: Tx, topUpId: string): Promise<Payment | null> {
  const topUp = await lockTopUp(tx, topUpId);
  const paymentMethod = await readPaymentMethod(tx, topUp.subscriberId);
  if (paymentMethod === null) return null;
  const payment = await ensurePayment(tx, {
    environment: topUp.environment,
    subscriberId: topUp.subscriberId,
    kind: 'top_up',
    businessKey: paymentKeys.topUp(topUpId),
    amountMinor: topUp.amountMinor,
    currency: topUp.currency,
    paymentMethod,
  });
  await tx.raw('UPDATE top_ups SET payment_id = ? WHERE id = ? AND payment_id IS NULL', [
    payment.id,
    topUpId,
  ]);
  return payment;
}

/**
 * Grants what was paid for and issues its invoice, in one transaction. Answers the place in the core log that the shard
 * must reach. Repeating it changes nothing. Throws when its payment has not succeeded.
 */
export async function grantTopUp(
  tx: Tx,
  topUpId: string,
  at: Date,
): Promise<{ readonly topUp: TopUp; readonly coreSeq: bigint }> {
  const topUp = await lockTopUp(tx, topUpId);
  const paid = await selectRow<{ id: string }>(
    tx,
    `SELECT id FROM payments WHERE business_key = ? AND state = 'succeeded'`,
    [paymentKeys.topUp(topUpId)],
  );
  if (paid === null) throw new Error(`top-up ${topUpId} is not paid`);
  const invoice = await issueInvoice(
    tx,
    {
      environment: topUp.environment,
      subscriberId: topUp.subscriberId,
      subscriptionId: null,
      periodId: null,
      kind: 'top_up',
      businessKey: invoiceKeys.topUp(topUpId),
      currency: topUp.currency,
      subtotalMinor: topUp.amountMinor,
      taxMinor: 0n,
      totalMinor: topUp.amountMinor,
      periodStartAt: null,
      periodEndAt: null,
      document: await readTopUpDocument(tx, topUp),
      lines: [topUpLine(topUp)],
    },
    at,
  );
  await markInvoicePaid(tx, invoice.id, at);
  const granted = await grantCredits(tx, {
    environment: topUp.environment,
    subscriberId: topUp.subscriberId,
    unit: topUp.unit,
    businessKey: `top_up:${topUpId}`,
    source: 'top_up',
    amountMicro: topUp.creditsMicro,
    class: 'paid',
    effectiveAt: at,
    expiresAt: null,
    paymentId: paid.id,
    costMinor: topUp.amountMinor,
    currency: topUp.currency,
  });
  await tx.raw(
    `UPDATE top_ups SET state = 'granted', invoice_id = ?, updated_at = ? WHERE id = ? AND state = 'pending'`,
    [invoice.id, at, topUpId],
  );
  return { topUp: await readTopUp(tx, topUpId), coreSeq: granted.coreSeq };
}

function topUpLine(topUp: TopUp): NewLine {
  return {
    kind: 'top_up',
    chargeId: null,
    meterId: null,
    planVersionId: null,
    description: `Credits (${formatCreditUnits(topUp.creditsMicro, topUp.unit)})`,
    label: null,
    quantity: topUp.creditsMicro,
    unitPrice: null,
    amountMinor: topUp.amountMinor,
    details: { top_up_id: topUp.id },
  };
}

/** Says that it will never be granted. A granted one stays granted. */
export async function refuseTopUp(
  tx: Tx,
  args: { readonly topUpId: string; readonly state: 'declined' | 'failed'; readonly at: Date },
): Promise<TopUp> {
  await tx.raw(`UPDATE top_ups SET state = ?, updated_at = ? WHERE id = ? AND state = 'pending'`, [
    args.state,
    args.at,
    args.topUpId,
  ]);
  return readTopUp(tx, args.topUpId);
}
