/** What happened to the money of an invoice: what is still due, what a payment could give back, whether one is under way. */
import { standing } from '../billing/invoice-state.ts';
import type { Reader } from './db.ts';
import type { Invoice } from './invoices.ts';
import { insertedRow } from './query.ts';

export type InvoiceMoney = {
  /** Still due; zero on an invoice that is paid or void. Of one that was given up: what it could still bring. */
  readonly dueMinor: bigint;
  /** The totals of its credit notes. */
  readonly creditedMinor: bigint;
  /** Taken by payments through the provider, less what is being or was refunded of it. */
  readonly refundableMinor: bigint;
  /** The payment that a refund goes back through; null: none brought money. */
  readonly paymentId: string | null;
  /** An attempt to take its money whose end is not known. */
  readonly isPaying: boolean;
};

type Row = {
  readonly credited: bigint;
  readonly reduced: bigint;
  readonly paid: bigint;
  readonly refunded: bigint;
  readonly payment_id: string | null;
  readonly paying: boolean;
};

/** As of this transaction; hold the invoice's lock (`lockInvoice`) to act on it. */
export async function readInvoiceMoney(db: Reader, invoice: Invoice): Promise<InvoiceMoney> {
  const row = await insertedRow<Row>(
    db,
    `WITH p AS (
        SELECT id, amount_minor, state FROM payments
        WHERE subscriber_id = :subscriber AND (starts_with(business_key, 'invoice:' || :id || ':')
          OR id = (SELECT payment_id FROM top_ups WHERE invoice_id = :id))),
      n AS (SELECT total_minor, due_reduced_minor FROM credit_notes WHERE invoice_id = :id)
     SELECT (SELECT coalesce(sum(total_minor), 0)::numeric(38,0) FROM n) AS credited,
       (SELECT coalesce(sum(due_reduced_minor), 0)::numeric(38,0) FROM n) AS reduced,
       (SELECT coalesce(sum(amount_minor), 0)::numeric(38,0) FROM p WHERE state = 'succeeded') AS paid,
       (SELECT coalesce(sum(r.amount_minor), 0)::numeric(38,0) FROM refunds r JOIN p ON p.id = r.payment_id
         WHERE r.state <> 'failed') AS refunded,
       (SELECT min(id) FROM p WHERE state = 'succeeded') AS payment_id,
       EXISTS (SELECT 1 FROM p WHERE state IN ('pending', 'unknown')) AS paying`,
    { subscriber: invoice.subscriberId, id: invoice.id },
  );
  const owes = invoice.state === 'open' || invoice.state === 'uncollectible';
  // What a credit note gave to the balance, or back, is no part of what is due: only what it took off that.
  const { dueMinor } = standing({
    totalMinor: invoice.totalMinor,
    balanceAppliedMinor: invoice.balanceAppliedMinor,
    creditedMinor: row.reduced,
    paidMinor: row.paid,
    refundedMinor: 0n,
  });
  return {
    dueMinor: owes ? dueMinor : 0n,
    creditedMinor: row.credited,
    refundableMinor: row.paid - row.refunded,
    paymentId: row.payment_id,
    isPaying: row.paying,
  };
}
