import { ApplicationFailure } from '@temporalio/common';

import { formatCredits } from '../billing/credits.ts';
import { inTransaction } from '../store/db.ts';
import {
  ensureTopUpPayment,
  grantTopUp,
  readTopUp,
  refuseTopUp,
  type TopUpState,
} from '../store/top-ups.ts';
import { safeNumber } from '../store/projection.ts';
import type { ActivityDeps } from './ports.ts';

export type TopUpView = {
  readonly topUpId: string;
  readonly subscriberId: string;
  readonly state: TopUpState;
  /** For people: `250`. */
  readonly credits: string;
};

const APPLIED_WAIT_MS = 5000;

/** The steps of a top-up. Each can be repeated: credits are granted once for a payment. */
export function topUpActivities(deps: ActivityDeps) {
  return {
    loadTopUp: async ({ topUpId }: { readonly topUpId: string }): Promise<TopUpView> => {
      const topUp = await readTopUp(deps.db, topUpId);
      return {
        topUpId,
        subscriberId: topUp.subscriberId,
        state: topUp.state,
        credits: formatCredits(topUp.creditsMicro),
      };
    },
    prepareTopUpPayment: async ({
      topUpId,
    }: {
      readonly topUpId: string;
    }): Promise<
      { readonly kind: 'ready'; readonly paymentId: string } | { readonly kind: 'no_method' }
    > => {
      const payment = await inTransaction(deps.db, (tx) => ensureTopUpPayment(tx, topUpId));
      return payment === null ? { kind: 'no_method' } : { kind: 'ready', paymentId: payment.id };
    },
    /** Grant, ledger and invoice in one transaction; answers what the shard must reach. */
    grantTopUp: async (args: {
      readonly topUpId: string;
      readonly nowMs: number;
    }): Promise<{ readonly coreSeq: number }> => {
      const granted = await inTransaction(deps.db, (tx) =>
        grantTopUp(tx, args.topUpId, new Date(args.nowMs)),
      );
      return { coreSeq: safeNumber(granted.coreSeq) };
    },
    /** Answers when the credits can be spent; throws `not_applied` to be tried again. */
    awaitCredits: async (args: {
      readonly subscriberId: string;
      readonly coreSeq: number;
    }): Promise<void> => {
      const isApplied = await deps.waitForApplied(
        args.subscriberId,
        { coreSeq: BigInt(args.coreSeq) },
        { timeoutMs: APPLIED_WAIT_MS },
      );
      if (!isApplied) {
        throw ApplicationFailure.retryable(
          `the shard of ${args.subscriberId} has not applied credit ${args.coreSeq} yet`,
          'not_applied',
        );
      }
    },
    refuseTopUp: async (args: {
      readonly topUpId: string;
      readonly state: 'declined' | 'failed';
      readonly nowMs: number;
    }): Promise<void> => {
      await inTransaction(deps.db, (tx) =>
        refuseTopUp(tx, { topUpId: args.topUpId, state: args.state, at: new Date(args.nowMs) }),
      );
    },
  };
}
