import { db, waiting } from './activities.ts';
import type { PaymentResult, TopUpInput, TopUpResult } from './contracts.ts';
import { openDesk } from './desk.ts';
import { pay } from './pay.ts';

/**
 * Buys credits: the money first, then the grant with its invoice, then the shard, so that its answer means that they can
 * be spent. Credits are granted for money that came in, once.
 */
export async function topUp(input: TopUpInput): Promise<TopUpResult> {
  const { topUpId } = input;
  const desk = openDesk();
  const view = await desk.attend('Load', () => db('Load the top-up').loadTopUp({ topUpId }));
  const { subscriberId, credits } = view;
  desk.head(`${credits} credits`);
  desk.tag({ SubscriberId: subscriberId, BillingState: 'pending' });
  for (const name of ['Pay', 'Grant', 'Shard']) desk.note(name, 'waits');

  const refuse = async (state: 'declined' | 'failed', code: string): Promise<TopUpResult> => {
    await desk.attend('Refuse', () =>
      db(`Record: ${state}`).refuseTopUp({ topUpId, state, nowMs: Date.now() }),
    );
    desk.tag({ BillingState: state });
    desk.note('Pay', 'failed', code);
    return state === 'declined' ? { state, declineCode: code } : { state };
  };

  const prepared = await desk.attend('Pay', () =>
    db('Prepare the payment').prepareTopUpPayment({ topUpId }),
  );
  if (prepared.kind === 'no_method') return refuse('declined', 'payment_method_missing');
  const paid: PaymentResult = await pay(desk, {
    paymentId: prepared.paymentId,
    what: `${credits} credits`,
    subscriberId,
  });
  if (paid.state === 'declined') return refuse('declined', paid.declineCode);
  if (paid.state === 'canceled') return refuse('failed', 'the payment was canceled');
  desk.note('Pay', 'done');
  const { coreSeq } = await desk.attend('Grant', () =>
    db('Grant the credits and issue the invoice').grantTopUp({ topUpId, nowMs: Date.now() }),
  );
  desk.note('Grant', 'done');
  await desk.attend('Shard', () =>
    waiting('Wait until the gateway can spend them').awaitCredits({ subscriberId, coreSeq }),
  );
  desk.note('Shard', 'done');
  desk.tag({ BillingState: 'granted' });
  return { state: 'granted' };
}
