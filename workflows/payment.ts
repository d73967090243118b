import type { PaymentOutcome } from '../activities/payment.ts';
import { db, provider } from './activities.ts';
import { type ProviderTask, untilCertain } from './certainty.ts';
import type { PaymentInput, PaymentResult } from './contracts.ts';
import { type Desk, openDesk } from './desk.ts';

type Certain = Extract<PaymentOutcome, { kind: 'succeeded' | 'declined' }>;

/**
 * One attempt to take money, under one key of the provider, until it is certain what became of it. It answers with data:
 * a decline is an outcome. It never makes a second key: a new attempt is a new payment.
 */
export async function payment(input: PaymentInput): Promise<PaymentResult> {
  const { paymentId } = input;
  const desk = openDesk();
  desk.head(`Pay ${input.what}`);
  desk.note('Charge', 'runs');
  const task: ProviderTask<Certain> = {
    name: 'Charge',
    request: () => provider('Take the money').chargePayment({ paymentId }),
    lookUp: () => provider('Ask the provider what became of it').lookUpPayment({ paymentId }),
    unclear: async () => {
      await record(desk, paymentId, { kind: 'unknown' });
    },
    question: 'the provider has not said for three days whether the money was taken',
  };
  const outcome = await untilCertain(desk, task);
  return record(desk, paymentId, outcome.kind === 'never_done' ? { kind: 'canceled' } : outcome);
}

async function record(
  desk: Desk,
  paymentId: string,
  outcome: PaymentOutcome,
): Promise<PaymentResult> {
  const recorded = await desk.attend('Record', () =>
    db(`Record: ${outcome.kind}`).recordPayment({ paymentId, outcome, nowMs: Date.now() }),
  );
  desk.tag({ BillingState: recorded.state });
  desk.note('Charge', recorded.state === 'unknown' ? 'waits' : 'done', recorded.state);
  if (recorded.state === 'declined') {
    return { state: 'declined', declineCode: recorded.declineCode ?? 'declined' };
  }
  return { state: recorded.state === 'succeeded' ? 'succeeded' : 'canceled' };
}
