import { ApplicationFailure, ApplicationFailureCategory } from '@temporalio/common';

import { inTransaction } from '../store/db.ts';
import { invoicePeriod } from '../store/period-invoice.ts';
import { type PeriodState, readPeriod, recordSeal } from '../store/periods.ts';
import { readSubscriptionView } from '../store/subscription-view.ts';
import { readSubscription } from '../store/subscriptions.ts';
import type { ActivityDeps } from './ports.ts';

export type CloseView = {
  readonly subscriptionId: string;
  readonly subscriberId: string;
  readonly subscriberName: string;
  readonly planId: string;
  readonly planName: string;
  readonly periodId: string;
  readonly periodSeq: number;
  readonly startAtMs: number;
  /** The cut: usage from here on belongs to the next period. */
  readonly endAtMs: number;
  readonly state: PeriodState;
};

export type SealStep =
  | { readonly kind: 'sealed'; readonly shard: string }
  | { readonly kind: 'open_holds'; readonly count: number; readonly lastExpiryMs: number }
  | { readonly kind: 'not_over'; readonly nowMs: number };

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
const DRAIN_LOOK_MS = 50;

/** The steps of a period's close. Each can be repeated: what is done is left as it is. */
export function closeActivities(deps: ActivityDeps) {
  return {
    loadClose: async ({ periodId }: { readonly periodId: string }): Promise<CloseView> => {
      const period = await readPeriod(deps.db, periodId);
      const view = await readSubscriptionView(deps.db, period.subscriptionId);
      return {
        subscriptionId: view.subscriptionId,
        subscriberId: view.subscriberId,
        subscriberName: view.subscriberName,
        planId: view.planId,
        planName: view.planName,
        periodId,
        periodSeq: period.seq,
        startAtMs: period.startAt.getTime(),
        endAtMs: period.endAt.getTime(),
        state: period.state,
      };
    },
    /** Asks the shard to count nothing more into the period, and keeps where in its stream it said so. */
    sealPeriod: async ({ periodId }: { readonly periodId: string }): Promise<SealStep> => {
      const period = await readPeriod(deps.db, periodId);
      if (period.sealedShard !== null) return { kind: 'sealed', shard: period.sealedShard };
      const { subscriberId, productId } = await readSubscription(deps.db, period.subscriptionId);
      const seal = await deps.shards.seal({ subscriberId, productId, periodId });
      if (seal.kind !== 'sealed') return seal;
      await recordSeal(deps.db, periodId, seal);
      return { kind: 'sealed', shard: seal.shard };
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
      return {
        kind: 'invoiced',
        invoiceId: invoice.id,
        number: invoice.number ?? '',
        isDue: invoice.state === 'open',
      };
    },
    startCollection: async (args: {
      readonly invoiceId: string;
      readonly number: string;
    }): Promise<void> => {
      await deps.startWorkflow({
        kind: 'collection',
        invoiceId: args.invoiceId,
        summary: { number: args.number },
      });
    },
  };
}

async function awaitDrained(deps: ActivityDeps, periodId: string): Promise<void> {
  const period = await readPeriod(deps.db, periodId);
  if (period.state === 'void') return;
  const { sealedShard, sealedIncarnation, sealedStreamId } = period;
  if (sealedShard === null || sealedIncarnation === null || sealedStreamId === null) {
    throw new RangeError(`period ${periodId} is not sealed`);
  }
  const mark = {
    shard: sealedShard,
    incarnation: Number(sealedIncarnation),
    streamId: sealedStreamId,
  };
  const deadline = performance.now() + DRAIN_WAIT_MS;
  while (!(await deps.isDrained(mark))) {
    if (performance.now() > deadline) throw notDrained(sealedShard);
    await new Promise((resolve) => {
      setTimeout(resolve, DRAIN_LOOK_MS);
    });
  }
}

function notDrained(shard: string): ApplicationFailure {
  return ApplicationFailure.create({
    message: `usage of ${shard} up to the seal is not in Postgres yet`,
    type: 'not_drained',
    category: ApplicationFailureCategory.BENIGN,
  });
}
