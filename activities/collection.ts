import { inTransaction, type Tx } from '../store/db.ts';
import { readInvoiceMoney } from '../store/invoice-money.ts';
import {
  type Invoice,
  type InvoiceState,
  lockInvoice,
  readInvoice,
  setPaymentStatus,
} from '../store/invoices.ts';
import { ensurePayment, nextAttempt, paymentKeys, readPaymentMethod } from '../store/payments.ts';
import { isPastDue } from '../store/subscriptions.ts';
import type { ActivityDeps } from './ports.ts';

export type InvoiceView = {
  readonly invoiceId: string;
  readonly number: string;
  readonly subscriberId: string;
  readonly subscriptionId: string | null;
  /** Its subscription is past due, perhaps because of this invoice. */
  readonly isPastDue: boolean;
};

export type PreparedPayment =
  | { readonly kind: 'ready'; readonly paymentId: string }
  | { readonly kind: 'no_method' }
  /** There is nothing to collect (any more). */
  | { readonly kind: 'settled'; readonly state: 'paid' | 'void' | 'uncollectible' };

export type PreparedAttempt = {
  readonly invoice: InvoiceView;
  readonly attempt: number;
  readonly payment: PreparedPayment;
};

/** The steps of collecting an invoice. */
export function collectionActivities(deps: ActivityDeps) {
  return {
    /**
     * The row of an attempt (from 1), whose id is the provider's idempotency key: over what is still due. Without
     * `attempt` it is the one that comes next: an earlier run of the collection may have made some. The invoice is locked,
     * so that it is not voided or credited between this look and the row.
     */
    prepareInvoicePayment: (args: {
      readonly invoiceId: string;
      readonly attempt?: number;
    }): Promise<PreparedAttempt> =>
      inTransaction(deps.db, async (tx) => {
        const invoice = await lockInvoice(tx, args.invoiceId);
        const { subscriberId, subscriptionId } = invoice;
        const attempt = args.attempt ?? (await nextAttempt(tx, invoice));
        return {
          invoice: {
            invoiceId: invoice.id,
            number: invoice.number ?? '',
            subscriberId,
            subscriptionId,
            isPastDue: subscriptionId !== null && (await isPastDue(tx, subscriptionId)),
          },
          attempt,
          payment: await preparePayment(tx, invoice, attempt),
        };
      }),
    /** How the invoice stands, for a collection that was told that it has changed. */
    readInvoiceState: async ({
      invoiceId,
    }: {
      readonly invoiceId: string;
    }): Promise<InvoiceState> => (await readInvoice(deps.db, invoiceId)).state,
    /** The policy has ended without money: the invoice stays open, its collection has failed. */
    failCollection: ({ invoiceId }: { readonly invoiceId: string }): Promise<void> =>
      inTransaction(deps.db, (tx) => setPaymentStatus(tx, invoiceId, 'failed')),
  };
}

async function preparePayment(tx: Tx, invoice: Invoice, attempt: number): Promise<PreparedPayment> {
  const { id, state, environment, subscriberId, currency } = invoice;
  if (state === 'draft') throw new RangeError(`${id} is a draft`);
  if (state !== 'open') return { kind: 'settled', state };
  const { dueMinor } = await readInvoiceMoney(tx, invoice);
  const method = await readPaymentMethod(tx, subscriberId);
  if (method === null) return { kind: 'no_method' };
  const payment = await ensurePayment(tx, {
    environment,
    subscriberId,
    kind: 'invoice',
    businessKey: paymentKeys.invoice(id, attempt),
    amountMinor: dueMinor,
    currency,
    paymentMethod: method,
  });
  await setPaymentStatus(tx, id, 'pending');
  return { kind: 'ready', paymentId: payment.id };
}
