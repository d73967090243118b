import {
  allHandlersFinished,
  condition,
  defineUpdate,
  getExternalWorkflowHandle,
  setHandler,
  sleep,
} from '@temporalio/workflow';

import type { CloseView, InvoiceStep } from '../activities/close.ts';
import { db, waiting } from './activities.ts';
import {
  closeUpdates,
  type FinalizeNowReply,
  type PeriodCloseInput,
  type PeriodCloseResult,
  subscriptionSignals,
  workflowIds,
} from './contracts.ts';
import { type Desk, instantText, openDesk } from './desk.ts';

/** Requests that are under way when the period ends are waited for, in steps between these. */
const HOLD_WAIT_MS_MIN = 200;
const HOLD_WAIT_MS_MAX = 15_000;
/** An earlier part of the interval that is stuck is looked for at growing intervals, up to this. */
const EARLIER_WAIT_MS_MAX = 3_600_000;

/** Whether somebody has asked for the draft to be finalized, and what came of the close. */
type Haste = { isAsked: boolean; done: FinalizeNowReply | null };

/**
 * The end of a period, told in order: wait for its last instant, ask the shard to seal it, wait until the drain has
 * brought all its usage to Postgres, issue the invoice, collect it. Where the operator lets drafts wait, the invoice is
 * a draft for that long, and takes in what comes late. It never fails; each step can be repeated.
 */
export async function periodClose(input: PeriodCloseInput): Promise<PeriodCloseResult> {
  const haste = takeHaste();
  const result = await close(input, haste);
  haste.done = { invoiceId: result.invoiceId };
  await condition(allHandlersFinished);
  return result;
}

function takeHaste(): Haste {
  const haste: Haste = { isAsked: false, done: null };
  setHandler(
    defineUpdate<FinalizeNowReply>(closeUpdates.finalizeNow),
    async () => {
      haste.isAsked = true;
      await condition(() => haste.done !== null);
      return haste.done ?? { invoiceId: null };
    },
    { description: 'Makes the draft final now, without waiting any longer.' },
  );
  return haste;
}

async function close(input: PeriodCloseInput, haste: Haste): Promise<PeriodCloseResult> {
  const { periodId, subscriptionId } = input;
  const desk = openDesk();
  const view = await untilTheCut(desk, periodId);
  if (view.state === 'closing') {
    await seal(desk, periodId);
    await step(desk, 'Drain', 'draining', () =>
      waiting('Wait until all usage is in Postgres').awaitDrained({ periodId }),
    );
  }
  const issued = await invoice(desk, periodId, haste);
  if (issued === null) {
    desk.tag({ CloseStep: 'done' });
    return { periodId, invoiceId: null };
  }
  const { invoiceId, number, isDue } = issued;
  desk.tag({ InvoiceId: invoiceId });
  if (isDue) {
    await step(desk, 'Collect', 'collecting', () =>
      db(`Start the collection of ${number}`).startCollection({ invoiceId, number }),
    );
  }
  desk.tag({ CloseStep: 'done' });
  desk.note(
    'Collect',
    'done',
    isDue ? `${number} is being collected` : `${number}: nothing is due`,
  );
  await tellSubscription(subscriptionId, subscriptionSignals.periodClosed);
  return { periodId, invoiceId };
}

/** The instant may be moved while it is waited for: the projector takes a later one when the shard has passed it. */
async function untilTheCut(desk: Desk, periodId: string): Promise<CloseView> {
  for (;;) {
    const view = await desk.attend('Load', () => db('Load the period').loadClose({ periodId }));
    show(desk, view);
    const leftMs = view.endAtMs - Date.now();
    if (leftMs <= 0) return view;
    await sleep(leftMs, { summary: `Period ${view.periodSeq} ends` });
  }
}

function show(desk: Desk, view: CloseView): void {
  desk.tag({
    SubscriberId: view.subscriberId,
    SubscriptionId: view.subscriptionId,
    PlanId: view.planId,
    PeriodSeq: view.periodSeq,
    CloseStep: 'waiting',
  });
  desk.head(
    `Period ${view.periodSeq} of **${view.subscriberName}** · ${view.planName}, ` +
      `${instantText(view.startAtMs)} – ${instantText(view.endAtMs)}`,
  );
  for (const name of ['Seal', 'Drain', 'Invoice', 'Collect']) desk.note(name, 'waits');
}

async function step<T>(desk: Desk, name: string, tag: string, work: () => Promise<T>): Promise<T> {
  desk.tag({ CloseStep: tag });
  desk.note(name, 'runs');
  const result = await desk.attend(name, work);
  desk.note(name, 'done');
  return result;
}

async function seal(desk: Desk, periodId: string): Promise<void> {
  // It grows: each look is in the history, and while no drain runs the shard may not come to the boundary for hours.
  let boundaryWaitMs = HOLD_WAIT_MS_MIN;
  for (;;) {
    const answer = await step(desk, 'Seal', 'sealing', () =>
      waiting('Ask the shard to count nothing more').sealPeriod({ periodId }),
    );
    switch (answer.kind) {
      case 'sealed':
        desk.note('Seal', 'done', answer.shard);
        return;
      case 'open_holds': {
        const what = `${answer.count} request(s) under way`;
        desk.note('Seal', 'runs', what);
        await sleep(between(answer.lastExpiryMs - Date.now()), { summary: what });
        break;
      }
      case 'not_over':
        desk.note('Seal', 'runs', 'the shard has not come to the boundary yet');
        await sleep(boundaryWaitMs, { summary: 'The shard comes to the boundary' });
        boundaryWaitMs = Math.min(boundaryWaitMs * 2, HOLD_WAIT_MS_MAX);
        break;
      default:
        answer satisfies never;
    }
  }
}

/** Requests usually end long before their hold expires, so it is looked again soon. */
function between(leftMs: number): number {
  return Math.min(HOLD_WAIT_MS_MAX, Math.max(HOLD_WAIT_MS_MIN, Math.floor(leftMs / 8)));
}

/** Null: the period is void, so that there is nothing to invoice. */
async function invoice(
  desk: Desk,
  periodId: string,
  haste: Haste,
): Promise<Extract<InvoiceStep, { kind: 'invoiced' }> | null> {
  for (let waitMs = 1000; ; waitMs = Math.min(waitMs * 2, EARLIER_WAIT_MS_MAX)) {
    const answer = await step(desk, 'Invoice', 'invoicing', () =>
      db('Rate and issue the invoice').invoicePeriod({
        periodId,
        nowMs: Date.now(),
        isUrgent: haste.isAsked,
      }),
    );
    if (answer.kind === 'invoiced') {
      desk.note('Invoice', 'done', answer.number);
      return answer;
    }
    if (answer.kind === 'void') {
      desk.note('Invoice', 'done', 'the period is void');
      return null;
    }
    if (answer.kind === 'draft') {
      await untilFinal(desk, answer, haste);
      continue;
    }
    const what = `period ${answer.periodSeq} of the same interval is invoiced first`;
    desk.note('Invoice', 'waits', what);
    await sleep(waitMs, { summary: what });
  }
}

async function untilFinal(
  desk: Desk,
  draft: Extract<InvoiceStep, { kind: 'draft' }>,
  haste: Haste,
): Promise<void> {
  const what = `The draft is final at ${instantText(draft.finalizeAtMs)}`;
  desk.tag({ InvoiceId: draft.invoiceId, CloseStep: 'draft', NextActionAt: draft.finalizeAtMs });
  desk.note('Invoice', 'waits', `${what}, or with update \`${closeUpdates.finalizeNow}\``);
  const leftMs = Math.max(1, draft.finalizeAtMs - Date.now());
  await condition(() => haste.isAsked, leftMs, { summary: what });
  desk.tag({ NextActionAt: null });
}

/** The subscription may have ended: then nobody needs to know. */
export async function tellSubscription(subscriptionId: string, signal: string): Promise<void> {
  try {
    await getExternalWorkflowHandle(workflowIds.subscription(subscriptionId)).signal(signal);
  } catch (error) {
    if (!(error instanceof Error) || error.name !== 'ApplicationFailure') throw error;
  }
}
