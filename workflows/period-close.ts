import {
  allHandlersFinished,
  condition,
  defineUpdate,
  setHandler,
  sleep,
} from '@temporalio/workflow';

import type { CloseView, InvoiceStep } from '../activities/close.ts';
import type { DbActivities } from '../activities/index.ts';
import { db, hasLasted, soon, waiting } from './activities.ts';
import {
  closeUpdates,
  type FinalizeNowReply,
  type PeriodCloseInput,
  type PeriodCloseResult,
} from './contracts.ts';
import { type Desk, instantText, openDesk } from './desk.ts';

/** Requests that are under way when the period ends are waited for, in steps between these. */
const HOLD_WAIT_MS_MIN = 200;
const HOLD_WAIT_MS_MAX = 15_000;
/** An earlier part of the interval that is stuck is looked for at growing intervals, up to this. */
const EARLIER_WAIT_MS_MAX = 3_600_000;
/** A close that was asked for begins two seconds before its cut: only a longer wait is announced. */
const CUT_ANNOUNCED_MS = 10_000;

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
  const { periodId, periodSeq } = input;
  const desk = openDesk();
  desk.head(`Period ${periodSeq}`);
  for (const name of ['Seal', 'Drain', 'Invoice', 'Collect']) desk.note(name, 'waits');
  await seal(desk, periodId);
  const issued = await invoice(desk, periodId, haste);
  if (issued === null) {
    desk.tag({ CloseStep: 'done', NextActionAt: null });
    return { periodId, invoiceId: null };
  }
  const { invoiceId, number, isDue } = issued;
  desk.tag({ InvoiceId: invoiceId, CloseStep: 'done', NextActionAt: null });
  desk.note(
    'Collect',
    'done',
    isDue ? `${number} is being collected` : `${number}: nothing is due`,
  );
  return { periodId, invoiceId };
}

/** Until the shard counts nothing more into the period, and all its usage is in Postgres. */
async function seal(desk: Desk, periodId: string): Promise<void> {
  // It grows: each look is in the history, and while no drain runs the shard may not come to the boundary for hours.
  let boundaryWaitMs = HOLD_WAIT_MS_MIN;
  for (;;) {
    const { view, seal: answer } = await attempt(desk, periodId);
    switch (answer.kind) {
      case 'sealed':
        desk.note('Seal', 'done', answer.shard);
        if (!answer.isDrained) await drain(desk, periodId);
        desk.note('Drain', 'done');
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
      case 'ahead':
        await untilTheCut(desk, view);
        break;
      case 'over':
        return;
      default:
        answer satisfies never;
    }
  }
}

type Sealing = Awaited<ReturnType<DbActivities['sealPeriod']>>;

async function attempt(desk: Desk, periodId: string): Promise<Sealing> {
  desk.note('Seal', 'runs');
  const sealing = await desk.attend('Seal', () =>
    waiting('Ask the shard to count nothing more').sealPeriod({ periodId, nowMs: Date.now() }),
  );
  show(desk, sealing);
  return sealing;
}

/** All of it in one write; of a close that was started with it nothing changes. */
function show(desk: Desk, { view, seal: answer }: Sealing): void {
  const { subscriberId, subscriptionId, planId, periodSeq } = view;
  const isLong = answer.kind === 'ahead' && view.endAtMs - Date.now() >= CUT_ANNOUNCED_MS;
  desk.tag({
    SubscriberId: subscriberId,
    SubscriptionId: subscriptionId,
    PlanId: planId,
    PeriodSeq: periodSeq,
    CloseStep: isLong ? 'waiting' : 'sealing',
    NextActionAt: isLong ? view.endAtMs : null,
  });
  desk.head(
    `Period ${periodSeq} of **${view.subscriberName}** · ${view.planName}, ` +
      `${instantText(view.startAtMs)} – ${instantText(view.endAtMs)}`,
  );
}

async function untilTheCut(desk: Desk, { periodSeq, endAtMs }: CloseView): Promise<void> {
  desk.note('Seal', 'waits', `the period ends at ${instantText(endAtMs)}`);
  await sleep(Math.max(1, endAtMs - Date.now()), { summary: `Period ${periodSeq} ends` });
}

/** The drain is behind: it is waited for as long as it takes. */
async function drain(desk: Desk, periodId: string): Promise<void> {
  desk.tag({ CloseStep: 'draining' });
  desk.note('Drain', 'runs');
  await desk.attend('Drain', () =>
    waiting('Wait until all usage is in Postgres').awaitDrained({ periodId }),
  );
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
    const answer = await tryInvoice(desk, periodId, haste);
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
    desk.tag({ CloseStep: 'invoicing' });
    desk.note('Invoice', 'waits', what);
    await sleep(waitMs, { summary: what });
  }
}

/** It usually takes a moment, and then its end alone is told; what lasts is announced. */
function tryInvoice(desk: Desk, periodId: string, haste: Haste): Promise<InvoiceStep> {
  const summary = 'Rate and issue the invoice';
  const args = () => ({ periodId, nowMs: Date.now(), isUrgent: haste.isAsked });
  desk.note('Invoice', 'runs');
  return desk.attend('Invoice', async () => {
    try {
      return await soon(summary).invoicePeriod(args());
    } catch (error) {
      desk.tag({ CloseStep: 'invoicing', NextActionAt: null });
      if (!hasLasted(error)) throw error;
      return db(summary).invoicePeriod(args());
    }
  });
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
}
