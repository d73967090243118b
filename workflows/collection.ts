import { condition, defineUpdate, setHandler } from '@temporalio/workflow';

import type { InvoiceView } from '../activities/collection.ts';
import { db } from './activities.ts';
import {
  type CollectionInput,
  type CollectionResult,
  collectionUpdates,
  subscriptionSignals,
} from './contracts.ts';
import { type Desk, instantText, openDesk } from './desk.ts';
import { pay } from './pay.ts';
import { tellSubscription } from './period-close.ts';

const DAY_MS = 86_400_000;
/** Days from a declined attempt to the next one. */
const RETRY_DAYS = [1, 3, 5, 7] as const;

/**
 * Brings in the money of one invoice: an attempt at once, then one after 1, 3, 5 and 7 days. When the policy has ended
 * the subscription is past due and the invoice stays open: a person asks for the next attempt.
 */
export async function collection(input: CollectionInput): Promise<CollectionResult> {
  const { invoiceId } = input;
  const desk = openDesk();
  let asked = 0;
  setHandler(
    defineUpdate(collectionUpdates.retryNow),
    () => {
      asked += 1;
    },
    { description: 'Tries to take the money now.' },
  );
  const invoice = await desk.attend('Load', () =>
    db('Load the invoice').loadInvoice({ invoiceId }),
  );
  desk.head(`Collect ${invoice.number}`);
  desk.tag({
    InvoiceId: invoiceId,
    SubscriberId: invoice.subscriberId,
    ...(invoice.subscriptionId === null ? {} : { SubscriptionId: invoice.subscriptionId }),
  });
  for (let attempt = 1; ; attempt += 1) {
    const settled = await tryOnce(desk, invoice, attempt);
    if (settled !== null) return settled;
    const before = asked;
    const isAsked = (): boolean => asked > before;
    const days = RETRY_DAYS[attempt - 1];
    if (days === undefined) {
      await giveUp(desk, invoice);
      await condition(isAsked);
    } else {
      const nextAtMs = Date.now() + days * DAY_MS;
      desk.tag({ NextActionAt: nextAtMs, BillingState: 'retrying' });
      const what = `Attempt ${attempt + 1} at ${instantText(nextAtMs)}`;
      desk.note('Next', 'waits', what);
      await condition(isAsked, days * DAY_MS, { summary: what });
    }
  }
}

/** Null: no money came. */
async function tryOnce(
  desk: Desk,
  invoice: InvoiceView,
  attempt: number,
): Promise<CollectionResult | null> {
  const { invoiceId, number } = invoice;
  const name = `Attempt ${attempt}`;
  desk.tag({ AttemptNo: attempt, BillingState: 'collecting', NextActionAt: null });
  desk.note(name, 'runs');
  const prepared = await desk.attend(name, () =>
    db(`Prepare attempt ${attempt}`).prepareInvoicePayment({ invoiceId, attempt }),
  );
  if (prepared.kind === 'settled') return finish(desk, invoice, prepared.state);
  if (prepared.kind === 'no_method') {
    desk.note(name, 'failed', 'the subscriber has no payment method');
    return null;
  }
  const result = await pay(desk, { paymentId: prepared.paymentId, what: number });
  if (result.state === 'succeeded') {
    desk.note(name, 'done', 'paid');
    return finish(desk, invoice, 'paid');
  }
  desk.note(name, 'failed', result.state === 'declined' ? result.declineCode : result.state);
  return null;
}

async function finish(
  desk: Desk,
  invoice: InvoiceView,
  state: 'paid' | 'void',
): Promise<CollectionResult> {
  desk.settled();
  desk.tag({ BillingState: state, NextActionAt: null });
  desk.note('Next', 'done', state);
  await tell(invoice);
  return { state };
}

async function giveUp(desk: Desk, invoice: InvoiceView): Promise<void> {
  const { invoiceId } = invoice;
  await desk.attend('Give up', () => db('The policy has ended').failCollection({ invoiceId }));
  desk.tag({ BillingState: 'failed', NextActionAt: null });
  desk.note('Next', 'waits', `update ${collectionUpdates.retryNow}`);
  desk.ask(`${invoice.number} is unpaid after ${RETRY_DAYS.length + 1} attempts`);
  await tell(invoice);
}

async function tell({ subscriptionId }: InvoiceView): Promise<void> {
  if (subscriptionId === null) return;
  await tellSubscription(subscriptionId, subscriptionSignals.standingChanged);
}
