import { WorkflowExecutionAlreadyStartedError } from '@temporalio/common';
import { executeChild, ParentClosePolicy, sleep } from '@temporalio/workflow';

import { db } from './activities.ts';
import { type PaymentResult, summaries, workflowIds } from './contracts.ts';
import type { Desk } from './desk.ts';
import { payment } from './payment.ts';
import { startAttributes } from './search-attributes.ts';

/** How often a payment that somebody else drives is looked at. */
const LOOK_MS = 30_000;

/** Runs a payment to its end, as a child that outlives nothing: its caller awaits it. */
export async function pay(
  desk: Desk,
  of: { readonly paymentId: string; readonly what: string; readonly subscriberId: string },
): Promise<PaymentResult> {
  const { paymentId, what, subscriberId } = of;
  return desk.attend('Pay', async () => {
    try {
      return await executeChild(payment, {
        workflowId: workflowIds.payment(paymentId),
        args: [{ v: 1, paymentId, what }],
        workflowIdReusePolicy: 'ALLOW_DUPLICATE_FAILED_ONLY',
        parentClosePolicy: ParentClosePolicy.ABANDON,
        staticSummary: summaries.payment({ what }),
        typedSearchAttributes: startAttributes({
          SubscriberId: subscriberId,
          BillingState: 'pending',
        }),
      });
    } catch (error) {
      // An earlier run of this workflow, before a reset, has started it: its row says what became of it.
      if (error instanceof WorkflowExecutionAlreadyStartedError) return untilRecorded(paymentId);
      throw error;
    }
  });
}

async function untilRecorded(paymentId: string): Promise<PaymentResult> {
  for (;;) {
    const { state, declineCode } = await db('Look at the payment').loadPayment({ paymentId });
    if (state === 'succeeded' || state === 'canceled') return { state };
    if (state === 'declined') return { state, declineCode: declineCode ?? 'declined' };
    await sleep(LOOK_MS, { summary: 'The payment is under way' });
  }
}
