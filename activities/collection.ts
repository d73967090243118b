import { inTransaction } from '../store/db.ts';
import { type InvoiceState, readInvoice, setPaymentStatus } from '../store/invoices.ts';
import { ensurePayment, paymentKeys, readPaymentMethod } from '../store/payments.ts';
import type { ActivityDeps } from './ports.ts';

export type InvoiceView = {
  readonly invoiceId: string;
  readonly number: string;
  readonly subscriberId: string;
  readonly subscriptionId: string | null;
  readonly state: InvoiceState;
};

export type PreparedPayment =
  | { readonly kind: 'ready'; readonly paymentId: string }
  | { readonly kind: 'no_method' }
  /** There is nothing to collect (any more). */
  | { readonly kind: 'settled'; readonly state: 'paid' | 'void' };

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
      };
    },
    /** The row of attempt `attempt` (from 1), whose id is the provider's idempotency key. */
    prepareInvoicePayment: (args: {
      readonly invoiceId: string;
      readonly attempt: number;
    }): Promise<PreparedPayment> =>
      inTransaction(deps.db, async (tx) => {
        const invoice = await readInvoice(tx, args.invoiceId);
        if (invoice.state === 'paid' || invoice.state === 'void') {
          return { kind: 'settled', state: invoice.state };
        }
        const method = await readPaymentMethod(tx, invoice.subscriberId);
        if (method === null) return { kind: 'no_method' };
        const payment = await ensurePayment(tx, {
          environment: invoice.environment,
          subscriberId: invoice.subscriberId,
          kind: 'invoice',
          businessKey: paymentKeys.invoice(args.invoiceId, args.attempt),
          amountMinor: invoice.amountDueMinor,
          currency: invoice.currency,
          paymentMethod: method,
        });
        await setPaymentStatus(tx, args.invoiceId, 'pending');
        return { kind: 'ready', paymentId: payment.id };
      }),
    /** The policy has ended without money: the invoice stays open, its collection has failed. */
    failCollection: ({ invoiceId }: { readonly invoiceId: string }): Promise<void> =>
      inTransaction(deps.db, (tx) => setPaymentStatus(tx, invoiceId, 'failed')),
  };
}
