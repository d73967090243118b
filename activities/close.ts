import { ApplicationFailure, ApplicationFailureCategory } from '@temporalio/common';

import { inTransaction } from '../store/db.ts';
import type { Invoice } from '../store/invoices.ts';
import { invoicePeriod } from '../store/period-invoice.ts';
import { type Period, readPeriod, recordSeal } from '../store/periods.ts';
import { readSubscriptionView } from '../store/subscription-view.ts';
import { readSubscription } from '../store/subscriptions.ts';
import type { ActivityDeps } from './ports.ts';

export type CloseView = {
  readonly subscriptionId: string;
  readonly subscriberId: string;
  readonly subscriberName: string;
  readonly planId: string;
  readonly planName: string;
  readonly periodSeq: number;
  readonly startAtMs: number;
  /** The cut: usage from here on belongs to the next period. */
  readonly endAtMs: number;
};

export type SealStep =
  /** `isDrained`: all its usage is in Postgres already, else `awaitDrained` follows. */
  | { readonly kind: 'sealed'; readonly shard: string; readonly isDrained: boolean }
  | { readonly kind: 'open_holds'; readonly count: number; readonly lastExpiryMs: number }
  | { readonly kind: 'not_over'; readonly nowMs: number }
  /** The cut lies ahead. */
  | { readonly kind: 'ahead' }
  /** The period is closed or void: there is nothing (more) to seal. */
  | { readonly kind: 'over' };

export type InvoiceStep =
  | {
      readonly kind: 'invoiced';
      readonly invoiceId: string;
      readonly number: string;
      readonly isDue: boolean;
    }
  /** The draft waits for late usage, and for whoever reads it, until then. */
  | { readonly kind: 'draft'; readonly invoiceId: string; readonly finalizeAtMs: number }
  | { readonly kind: 'earlier_open'; readonly periodSeq: number }
  /** The period was taken back before the shard came to it: nothing is invoiced. */
  | { readonly kind: 'void' };

/** One attempt looks for this long, so that a close follows the drain closely. */
const DRAIN_WAIT_MS = 4000;
/** A drain that keeps up brings the seal well within this. */
const DRAINED_SOON_MS = 1000;
const DRAIN_LOOK_MS = 50;

/** The steps of a period's close. Each can be repeated: what is done is left as it is. */
export function closeActivities(deps: ActivityDeps) {
  return {
    /**
     * Asks the shard to count nothing more into the period, keeps where in its stream it said so, and looks for the drain
     * to have come there.
     */
    sealPeriod: async (args: {
      readonly periodId: string;
      readonly nowMs: number;
    }): Promise<{ readonly view: CloseView; readonly seal: SealStep }> => {
      const period = await readPeriod(deps.db, args.periodId);
      return {
        seal: await sealStep(deps, period, args.nowMs),
        view: await closeView(deps, period),
      };
    },
    /** Answers when all usage up to the seal is in Postgres; throws `not_drained` to be tried again. */
    awaitDrained: ({ periodId }: { readonly periodId: string }): Promise<void> =>
      awaitDrained(deps, periodId),
    invoicePeriod: async (args: {
      readonly periodId: string;
      readonly nowMs: number;
      /** Somebody asked for it: its draft does not wait (any longer). */
      readonly isUrgent: boolean;
    }): Promise<InvoiceStep> => {
      const result = await inTransaction(deps.db, (tx) =>
        invoicePeriod(tx, args.periodId, new Date(args.nowMs), args.isUrgent),
      );
      if (result.kind === 'draft') {
        const { invoice, finalizeAt } = result;
        return { kind: 'draft', invoiceId: invoice.id, finalizeAtMs: finalizeAt.getTime() };
      }
      if (result.kind !== 'invoiced') return result;
      const { invoice } = result;
      const isDue = invoice.state === 'open';
      // A repetition finds the invoice issued, and its collection started.
      if (isDue) await startCollection(deps, invoice);
      return { kind: 'invoiced', invoiceId: invoice.id, number: invoice.number ?? '', isDue };
    },
  };
}

/** Brings in the money of an invoice that is due; one that was started before is success. */
export function startCollection(deps: ActivityDeps, invoice: Invoice): Promise<void> {
  return deps.startWorkflow({
    kind: 'collection',
    invoiceId: invoice.id,
    subscriberId: invoice.subscriberId,
    ...(invoice.subscriptionId !== null && { subscriptionId: invoice.subscriptionId }),
    summary: { number: invoice.number ?? '' },
  });
}

async function closeView(deps: ActivityDeps, period: Period): Promise<CloseView> {
  const view = await readSubscriptionView(deps.db, period.subscriptionId);
  return {
    subscriptionId: view.subscriptionId,
    subscriberId: view.subscriberId,
    subscriberName: view.subscriberName,
    planId: view.planId,
    planName: view.planName,
    periodSeq: period.seq,
    startAtMs: period.startAt.getTime(),
    endAtMs: period.endAt.getTime(),
  };
}

async function sealStep(deps: ActivityDeps, period: Period, nowMs: number): Promise<SealStep> {
  const isOver = period.state === 'closed' || period.state === 'void';
  // It may be moved while it is waited for: the projector takes a later one when the shard has passed it.
  if (!isOver && period.endAt.getTime() > nowMs) return { kind: 'ahead' };
  // Of one that is still open the invoice says what is wrong.
  if (period.state !== 'closing') return { kind: 'over' };
  const known = markOf(period);
  if (known !== null) {
    return { kind: 'sealed', shard: known.shard, isDrained: await isDrainedWithin(deps, known) };
  }
  const { subscriberId, productId } = await readSubscription(deps.db, period.subscriptionId);
  const seal = await deps.shards.seal({ subscriberId, productId, periodId: period.id });
  if (seal.kind !== 'sealed') return seal;
  await recordSeal(deps.db, period.id, seal);
  return { kind: 'sealed', shard: seal.shard, isDrained: await isDrainedWithin(deps, seal) };
}

type Mark = Parameters<ActivityDeps['isDrained']>[0];

/** Where in the shard's stream the period was sealed. */
function markOf({ sealedShard, sealedIncarnation, sealedStreamId }: Period): Mark | null {
  if (sealedShard === null || sealedIncarnation === null || sealedStreamId === null) return null;
  return {
    shard: sealedShard,
    incarnation: Number(sealedIncarnation),
    streamId: sealedStreamId,
  };
}

async function isDrainedWithin(
  deps: ActivityDeps,
  mark: Mark,
  waitMs = DRAINED_SOON_MS,
): Promise<boolean> {
  const deadline = performance.now() + waitMs;
  while (!(await deps.isDrained(mark))) {
    if (performance.now() > deadline) return false;
    await new Promise((resolve) => {
      setTimeout(resolve, DRAIN_LOOK_MS);
    });
  }
  return true;
}

async function awaitDrained(deps: ActivityDeps, periodId: string): Promise<void> {
  const period = await readPeriod(deps.db, periodId);
  if (period.state === 'void') return;
  const mark = markOf(period);
  if (mark === null) throw new RangeError(`period ${periodId} is not sealed`);
  if (!(await isDrainedWithin(deps, mark, DRAIN_WAIT_MS))) throw notDrained(mark.shard);
}

function notDrained(shard: string): ApplicationFailure {
  return ApplicationFailure.create({
    message: `usage of ${shard} up to the seal is not in Postgres yet`,
    type: 'not_drained',
    category: ApplicationFailureCategory.BENIGN,
  });
}
