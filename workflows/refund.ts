import { db, provider } from './activities.ts';
import { type ProviderTask, untilCertain } from './certainty.ts';
import type { RefundInput, RefundResult } from './contracts.ts';
import { openDesk } from './desk.ts';

/**
 * Gives money of a credit note back through the payment that brought it, under one key of the provider, until it is
 * certain what became of it. What the provider will not give back stays with the subscriber's account balance.
 */
export async function refund(input: RefundInput): Promise<RefundResult> {
  const { refundId } = input;
  const desk = openDesk();
  const { subscriberId, invoiceId, number } = await desk.attend('Load', () =>
    db('Load the refund').loadRefund({ refundId }),
  );
  desk.head(`Refund of ${number}`);
  desk.tag({ SubscriberId: subscriberId, InvoiceId: invoiceId, BillingState: 'pending' });
  desk.note('Refund', 'runs');
  const task: ProviderTask<
    | { readonly kind: 'succeeded'; readonly providerRef: string }
    | { readonly kind: 'declined'; readonly code: string }
  > = {
    name: 'Refund',
    request: () => provider('Give the money back').sendRefund({ refundId }),
    lookUp: () => provider('Ask the provider what became of it').lookUpRefund({ refundId }),
    unclear: async () => {
      desk.note('Refund', 'waits', 'the provider has not said what became of it');
    },
    question: 'the provider has not said for three days whether the money went back',
  };
  const outcome = await untilCertain(desk, task);
  const recorded = await desk.attend('Record', () =>
    db(`Record: ${outcome.kind}`).recordRefund({
      refundId,
      outcome:
        outcome.kind === 'succeeded'
          ? outcome
          : { kind: 'failed', code: outcome.kind === 'declined' ? outcome.code : 'not_arrived' },
      nowMs: Date.now(),
    }),
  );
  desk.tag({ BillingState: recorded.state });
  if (recorded.state === 'succeeded') {
    desk.note('Refund', 'done');
    return { state: 'succeeded' };
  }
  const failureCode = recorded.failureCode ?? 'failed';
  desk.note('Refund', 'failed', `${failureCode}: the money is account balance now`);
  return { state: 'failed', failureCode };
}
