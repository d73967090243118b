import { db, waiting } from './activities.ts';
import type { TakeBackInput, TakeBackResult } from './contracts.ts';
import { openDesk } from './desk.ts';

/**
 * Takes credits of a top-up back and gives their money: the credits first, for as long as the shard and the drain take to
 * say how many there were, then the credit note for exactly these. Its refund is a workflow of its own.
 */
export async function takeBack(input: TakeBackInput): Promise<TakeBackResult> {
  const { takeBackId } = input;
  const desk = openDesk();
  const { subscriberId, invoiceId, number, credits } = await desk.attend('Load', () =>
    db('Load the take-back').loadTakeBack({ takeBackId }),
  );
  desk.head(`Take up to ${credits} of ${number} back`);
  desk.tag({ SubscriberId: subscriberId, InvoiceId: invoiceId, BillingState: 'pending' });
  desk.note('Take', 'runs');
  desk.note('Credit note', 'waits');
  const taken = await desk.attend('Take', () =>
    waiting('Wait until the shard has said what it took').awaitTakeBack({ takeBackId }),
  );
  desk.note('Take', 'done', taken.credits);
  const end = await desk.attend('Credit note', () =>
    db('Issue the credit note').creditTakeBack({ takeBackId, nowMs: Date.now() }),
  );
  desk.tag({ BillingState: end.state });
  if (end.state === 'refused') {
    desk.note('Credit note', 'done', 'none: nothing was left that money is given for');
    return { state: 'refused' };
  }
  desk.note('Credit note', 'done', end.number);
  return { state: 'credited', creditNoteId: end.creditNoteId };
}
