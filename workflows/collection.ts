import {
  allHandlersFinished,
  condition,
  defineSignal,
  defineUpdate,
  getExternalWorkflowHandle,
  setHandler,
} from '@temporalio/workflow';

import type { InvoiceView, PreparedAttempt } from '../activities/collection.ts';
import { db } from './activities.ts';
import {
  type CollectionInput,
  type CollectionResult,
  collectionSignals,
  collectionUpdates,
  type RetryReply,
  subscriptionSignals,
  workflowIds,
} from './contracts.ts';
import { type Desk, instantText, openDesk } from './desk.ts';
import { pay } from './pay.ts';

const DAY_MS = 86_400_000;
/** Days from a declined attempt to the next one. */
const RETRY_DAYS = [1, 3, 5, 7] as const;
/** After the last attempt the invoice is looked at so often: whoever settled it may not have said so. */
const LOOK_MS = 7 * DAY_MS;

/** What others have told the collection. */
type Inbox = {
  /** How often an attempt was asked for. */
  asked: number;
  /** The invoice may be settled: to be looked at. */
  isChanged: boolean;
  /** What came of the latest attempt, counted, for those who wait for one. */
  readonly ended: { count: number; reply: RetryReply };
};

/**
 * Brings in the money of one invoice: an attempt at once, then one after 1, 3, 5 and 7 days. When the policy has ended
 * the subscription is past due and the invoice stays open: a person asks for the next attempt. An invoice that is
 * settled otherwise (voided, credited, paid elsewhere, given up) ends it.
 */
export async function collection(input: CollectionInput): Promise<CollectionResult> {
  const desk = openDesk();
  const inbox = openInbox();
  const result = await collect(desk, inbox, input.invoiceId);
  inbox.ended.count += 1;
  inbox.ended.reply = result;
  await condition(allHandlersFinished);
  return result;
}

function openInbox(): Inbox {
  const ended: Inbox['ended'] = { count: 0, reply: { state: 'no_method' } };
  const inbox: Inbox = { asked: 0, isChanged: false, ended };
  setHandler(
    defineUpdate<RetryReply>(collectionUpdates.retryNow),
    async () => {
      inbox.asked += 1;
      const before = ended.count;
      await condition(() => ended.count > before);
      return ended.reply;
    },
    { description: 'Tries to take the money now.' },
  );
  setHandler(
    defineSignal(collectionSignals.invoiceChanged),
    () => {
      inbox.isChanged = true;
    },
    { description: 'The invoice was voided, credited, paid elsewhere or given up.' },
  );
  return inbox;
}

/** What a run of the collection knows. */
type Course = {
  readonly desk: Desk;
  readonly inbox: Inbox;
  readonly invoice: InvoiceView;
  /** The subscription is past due, perhaps because of this invoice: it is told what becomes of it. */
  isPastDue: boolean;
};

async function collect(desk: Desk, inbox: Inbox, invoiceId: string): Promise<CollectionResult> {
  let prepared = await prepare(desk, { invoiceId });
  const { invoice } = prepared;
  const course: Course = { desk, inbox, invoice, isPastDue: false };
  desk.head(`Collect ${invoice.number}`);
  for (;;) {
    const { attempt } = prepared;
    course.isPastDue ||= prepared.invoice.isPastDue;
    // Whoever asks while it runs means this attempt.
    const ended = await tryOnce(course, prepared);
    const before = inbox.asked;
    if ('settled' in ended) return ended.settled;
    inbox.ended.count += 1;
    inbox.ended.reply = ended.failed;
    const days = RETRY_DAYS[attempt - 1];
    if (days === undefined) await giveUp(course);
    else showNext(desk, attempt, days);
    const settled = await untilNext(course, { before, days });
    if (settled !== null) return settled;
    prepared = await prepare(desk, { invoiceId, attempt: attempt + 1 });
  }
}

async function prepare(
  desk: Desk,
  of: { readonly invoiceId: string; readonly attempt?: number },
): Promise<PreparedAttempt> {
  const name = of.attempt === undefined ? 'Prepare' : `Attempt ${of.attempt}`;
  const prepared = await desk.attend(name, () =>
    db('Prepare the attempt').prepareInvoicePayment(of),
  );
  const { subscriberId, subscriptionId } = prepared.invoice;
  desk.tag({
    InvoiceId: of.invoiceId,
    SubscriberId: subscriberId,
    ...(subscriptionId === null ? {} : { SubscriptionId: subscriptionId }),
    AttemptNo: prepared.attempt,
    BillingState: 'collecting',
    NextActionAt: null,
  });
  return prepared;
}

function showNext(desk: Desk, attempt: number, days: number): void {
  const nextAtMs = Date.now() + days * DAY_MS;
  desk.tag({ NextActionAt: nextAtMs, BillingState: 'retrying' });
  desk.note('Next', 'waits', `Attempt ${attempt + 1} at ${instantText(nextAtMs)}`);
}

/** Waits for the day of the next attempt, or for whoever asks for it. Not null: the invoice was settled meanwhile. */
async function untilNext(
  course: Course,
  next: { readonly before: number; readonly days: number | undefined },
): Promise<CollectionResult | null> {
  const { desk, inbox, invoice } = course;
  const { before, days } = next;
  const endMs = days === undefined ? null : Date.now() + days * DAY_MS;
  const isWoken = (): boolean => inbox.asked > before || inbox.isChanged;
  for (;;) {
    const waitMs = endMs === null ? LOOK_MS : Math.max(1, endMs - Date.now());
    const summary = endMs === null ? 'Look whether it is settled' : 'The next attempt';
    await condition(isWoken, waitMs, { summary });
    if (inbox.isChanged || endMs === null) {
      inbox.isChanged = false;
      const state = await desk.attend('Look', () =>
        db('Look at the invoice').readInvoiceState({ invoiceId: invoice.invoiceId }),
      );
      if (state === 'paid' || state === 'void' || state === 'uncollectible') {
        return finish(course, state);
      }
      if (endMs === null) desk.ask(unpaid(invoice));
    }
    if (inbox.asked > before || (endMs !== null && Date.now() >= endMs)) return null;
  }
}

/** `failed`: no money came. */
async function tryOnce(
  course: Course,
  { attempt, payment }: PreparedAttempt,
): Promise<{ readonly settled: CollectionResult } | { readonly failed: RetryReply }> {
  const { desk, invoice } = course;
  const { number, subscriberId } = invoice;
  const name = `Attempt ${attempt}`;
  if (payment.kind === 'settled') return { settled: await finish(course, payment.state) };
  if (payment.kind === 'no_method') {
    desk.note(name, 'failed', 'the subscriber has no payment method');
    return { failed: { state: 'no_method' } };
  }
  desk.note(name, 'runs');
  const { paymentId } = payment;
  const result = await pay(desk, { paymentId, what: number, subscriberId });
  if (result.state === 'succeeded') {
    desk.note(name, 'done', 'paid');
    return { settled: await finish(course, 'paid') };
  }
  const declineCode = result.state === 'declined' ? result.declineCode : result.state;
  desk.note(name, 'failed', declineCode);
  return { failed: { state: 'declined', declineCode } };
}

async function finish(course: Course, state: CollectionResult['state']): Promise<CollectionResult> {
  const { desk } = course;
  desk.settled();
  desk.tag({ BillingState: state, NextActionAt: null });
  desk.note('Next', 'done', state);
  // What was paid in time has changed nothing for the subscription.
  if (course.isPastDue || state === 'uncollectible') await tell(course.invoice);
  return { state };
}

async function giveUp(course: Course): Promise<void> {
  const { desk, invoice } = course;
  const { invoiceId } = invoice;
  await desk.attend('Give up', () => db('The policy has ended').failCollection({ invoiceId }));
  course.isPastDue = true;
  desk.tag({ BillingState: 'failed', NextActionAt: null });
  desk.note('Next', 'waits', `update ${collectionUpdates.retryNow}`);
  desk.ask(unpaid(invoice));
  await tell(invoice);
}

function unpaid({ number }: InvoiceView): string {
  return `${number} is unpaid after ${RETRY_DAYS.length + 1} attempts`;
}

/** The subscription may have ended: then nobody needs to know. */
async function tell({ subscriptionId }: InvoiceView): Promise<void> {
  if (subscriptionId === null) return;
  const subscription = getExternalWorkflowHandle(workflowIds.subscription(subscriptionId));
  try {
    await subscription.signal(subscriptionSignals.standingChanged);
  } catch (error) {
    if (!(error instanceof Error) || error.name !== 'ApplicationFailure') throw error;
  }
}
