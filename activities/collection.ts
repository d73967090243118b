import { inTransaction } from '../store/db.ts';
import { readInvoiceMoney } from '../store/invoice-money.ts';
import {
  type InvoiceState,
  lockInvoice,
  readInvoice,
  setPaymentStatus,
} from '../store/invoices.ts';
import { ensurePayment, nextAttempt, paymentKeys, readPaymentMethod } from '../store/payments.ts';
import type { ActivityDeps } from './ports.ts';

export type InvoiceView = {
  readonly invoiceId: string;
  readonly number: string;
  readonly subscriberId: string;
  readonly subscriptionId: string | null;
  readonly state: InvoiceState;
  /** From 1; more when an earlier run of the collection has made attempts. */
  readonly attempt: number;
};

export type PreparedPayment =
  | { readonly kind: 'ready'; readonly paymentId: string }
  | { readonly kind: 'no_method' }
  /** There is nothing to collect (any more). */
  | { readonly kind: 'settled'; readonly state: 'paid' | 'void' | 'uncollectible' };

/** The steps of collecting an invoice. */
export function collectionActivities(deps: ActivityDeps) {
  return {
    loadInvoice: async ({ invoiceId }: { readonly invoiceId: string }): Promise<InvoiceView> => {
      const invoice = await readInvoice(deps.db, invoiceId);
      return {
        invoiceId,
        number: invoice.number ?? '',
        subscriberId: invoice.subscriberId,
        subscriptionId: invoice.subscriptionId,
        state: invoice.state,
        attempt: await nextAttempt(deps.db, invoice),
      };
    },
    /**
     * The row of attempt `attempt` (from 1), whose id is the provider's idempotency key: over what is still due. The
     * invoice is locked, so that it is not voided or credited between this look and the row.
     */
    prepareInvoicePayment: (args: {
      readonly invoiceId: string;
      readonly attempt: number;
    }): Promise<PreparedPayment> =>
      inTransaction(deps.db, async (tx) => {
        const invoice = await lockInvoice(tx, args.invoiceId);
        const { state } = invoice;
        if (state === 'draft') throw new RangeError(`${invoice.id} is a draft`);
        if (state !== 'open') return { kind: 'settled', state };
        const { dueMinor } = await readInvoiceMoney(tx, invoice);
        const method = await readPaymentMethod(tx, invoice.subscriberId);
        if (method === null) return { kind: 'no_method' };
        const payment = await ensurePayment(tx, {
          environment: invoice.environment,
          subscriberId: invoice.subscriberId,
          kind: 'invoice',
          businessKey: paymentKeys.invoice(args.invoiceId, args.attempt),
          amountMinor: dueMinor,
          currency: invoice.currency,
          paymentMethod: method,
        });
        await setPaymentStatus(tx, args.invoiceId, 'pending');
        return { kind: 'ready', paymentId: payment.id };
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
