import { inTransaction } from '../store/db.ts';
import {
  readRefundCharge,
  readRefundView,
  recordRefund,
  type RefundOutcome,
} from '../store/refunds.ts';
import type { RefundAnswer } from '../payments/port.ts';
import type { ActivityDeps } from './ports.ts';

export type RefundView = {
  readonly subscriberId: string;
  readonly invoiceId: string;
  /** Of the credit note. */
  readonly number: string;
  readonly state: 'pending' | 'succeeded' | 'failed';
  readonly failureCode: string | null;
};

/** The side of a refund that Postgres records. */
export function refundActivities(deps: ActivityDeps) {
  return {
    loadRefund: ({ refundId }: { readonly refundId: string }): Promise<RefundView> =>
      readRefundView(deps.db, refundId),
    recordRefund: async (args: {
      readonly refundId: string;
      readonly outcome: RefundOutcome;
      readonly nowMs: number;
    }): Promise<RefundView> =>
      inTransaction(deps.db, async (tx) => {
        const { refundId, outcome } = args;
        await recordRefund(tx, { refundId, outcome, at: new Date(args.nowMs) });
        return readRefundView(tx, refundId);
      }),
  };
}

/** The side that the provider sees. */
export function refundProviderActivities(deps: Pick<ActivityDeps, 'db' | 'payments'>) {
  return {
    /** Gives the money back once, however often it is repeated: the key is the refund's id. */
    sendRefund: async ({ refundId }: { readonly refundId: string }): Promise<RefundAnswer> => {
      const charge = await readRefundCharge(deps.db, refundId);
      return deps.payments.refund({ idempotencyKey: refundId, ...charge });
    },
    lookUpRefund: ({
      refundId,
    }: {
      readonly refundId: string;
    }): Promise<RefundAnswer | { readonly kind: 'not_found' }> =>
      deps.payments.lookupRefund(refundId),
  };
}
