import { inTransaction } from '../store/db.ts';
import {
  describePayment,
  type Payment,
  type PaymentOutcome,
  type PaymentState,
  readPayment,
  recordOutcome,
} from '../store/payments.ts';
import type { ChargeOutcome } from '../payments/port.ts';
import type { ActivityDeps } from './ports.ts';

export type PaymentView = {
  readonly state: PaymentState;
  readonly declineCode: string | null;
};

export type { PaymentOutcome } from '../store/payments.ts';
export type { ChargeOutcome } from '../payments/port.ts';

/** The side of a payment that Postgres records. */
export function paymentActivities(deps: ActivityDeps) {
  return {
    loadPayment: async ({ paymentId }: { readonly paymentId: string }): Promise<PaymentView> =>
      toView(await readPayment(deps.db, paymentId)),
    recordPayment: async (args: {
      readonly paymentId: string;
      readonly outcome: PaymentOutcome;
      readonly nowMs: number;
    }): Promise<PaymentView> => {
      const { paymentId, outcome } = args;
      const at = new Date(args.nowMs);
      return toView(
        await inTransaction(deps.db, (tx) => recordOutcome(tx, { paymentId, outcome, at })),
      );
    },
  };
}

function toView({ state, declineCode }: Payment): PaymentView {
  return { state, declineCode };
}

/** The side that the provider sees; it has a queue of its own, so that a slow provider holds up nothing else. */
export function providerActivities(deps: Pick<ActivityDeps, 'db' | 'payments'>) {
  return {
    /** Takes the money once, however often it is repeated: the key is the payment's id. */
    chargePayment: async ({
      paymentId,
    }: {
      readonly paymentId: string;
    }): Promise<ChargeOutcome> => {
      const payment = await readPayment(deps.db, paymentId);
      const known = finalOutcome(payment);
      if (known !== null) return known;
      return deps.payments.charge({
        idempotencyKey: payment.id,
        amountMinor: payment.amountMinor,
        currency: payment.currency,
        method: payment.paymentMethod ?? '',
        description: await describePayment(deps.db, payment),
      });
    },
    /** What the provider knows of the attempt. */
    lookUpPayment: ({
      paymentId,
    }: {
      readonly paymentId: string;
    }): Promise<ChargeOutcome | { readonly kind: 'not_found' }> => deps.payments.lookup(paymentId),
  };
}

function finalOutcome(payment: Payment): ChargeOutcome | null {
  const providerRef = payment.providerRef ?? '';
  if (payment.state === 'succeeded') return { kind: 'succeeded', providerRef };
  if (payment.state === 'declined') {
    return { kind: 'declined', providerRef, code: payment.declineCode ?? 'declined' };
  }
  return null;
}
