import { setTimeout as sleep } from 'node:timers/promises';

import { ApplicationFailure } from '@temporalio/common';

import { formatCreditUnits } from '../billing/credits.ts';
import { inTransaction } from '../store/db.ts';
import { creditTakeBack, readTakeBack, type TakeBack } from '../store/take-backs.ts';
import type { ActivityDeps } from './ports.ts';

export type TakeBackView = {
  readonly subscriberId: string;
  readonly invoiceId: string;
  /** Of the invoice. */
  readonly number: string;
  /** What is asked for, for people: `250 credits`. */
  readonly credits: string;
};

/** An answer takes the projector and the drain some milliseconds: it is looked for so often before a retry. */
const LOOKS = 20;
const LOOK_MS = 50;

/** The steps of a take-back. Each can be repeated: credits are taken and given money for once. */
export function takeBackActivities(deps: ActivityDeps) {
  return {
    loadTakeBack: async ({
      takeBackId,
    }: {
      readonly takeBackId: string;
    }): Promise<TakeBackView> => {
      const takeBack = await readTakeBack(deps.db, takeBackId);
      const { subscriberId, invoiceId, invoiceNumber: number, askedMicro, unit } = takeBack;
      return { subscriberId, invoiceId, number, credits: formatCreditUnits(askedMicro, unit) };
    },
    /** Answers once the shard has said what it took and the drain has posted it; throws `not_taken` to be tried again. */
    awaitTakeBack: async ({
      takeBackId,
    }: {
      readonly takeBackId: string;
    }): Promise<{ readonly credits: string }> => {
      for (let look = 1; ; look += 1) {
        const takeBack = await readTakeBack(deps.db, takeBackId);
        const { takenMicro } = takeBack;
        if (takenMicro !== null) return { credits: formatCreditUnits(takenMicro, takeBack.unit) };
        if (look >= LOOKS) throw notTaken(takeBack);
        await sleep(LOOK_MS);
      }
    },
    /** Issues the note and has its refund started. */
    creditTakeBack: async (args: {
      readonly takeBackId: string;
      readonly nowMs: number;
    }): Promise<
      | { readonly state: 'credited'; readonly creditNoteId: string; readonly number: string }
      | { readonly state: 'refused' }
    > => {
      const end = await inTransaction(deps.db, (tx) =>
        creditTakeBack(tx, args.takeBackId, new Date(args.nowMs)),
      );
      if (end.kind === 'refused') return { state: 'refused' };
      const { creditNoteId, number, refundId } = end;
      if (refundId !== null) {
        await deps.startWorkflow({ kind: 'refund', refundId, summary: { number } });
      }
      return { state: 'credited', creditNoteId, number };
    },
  };
}

function notTaken({ id, subscriberId }: TakeBack): ApplicationFailure {
  return ApplicationFailure.retryable(
    `the shard of ${subscriberId} has not said yet what it took for ${id}`,
    'not_taken',
  );
}
