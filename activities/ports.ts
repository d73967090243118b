import type { PaymentProvider } from '../payments/port.ts';
import type { Shards } from '../shards/port.ts';
import type { Db } from '../store/db.ts';

/** A workflow that an activity asks for, by its business id. What it is found by costs nothing when its start says it. */
export type WorkflowRequest =
  | {
      readonly kind: 'subscription';
      readonly subscriptionId: string;
      readonly activate: boolean;
      readonly summary: { readonly subscriberName: string; readonly planName: string };
    }
  | {
      readonly kind: 'periodClose';
      readonly subscriptionId: string;
      readonly periodId: string;
      readonly periodSeq: number;
      readonly subscriberId?: string;
      readonly planId?: string;
      readonly summary: { readonly subscriberName: string; readonly periodSeq: number };
    }
  | {
      readonly kind: 'collection';
      readonly invoiceId: string;
      readonly subscriberId?: string;
      readonly subscriptionId?: string;
      readonly summary: { readonly number: string };
    }
  | {
      readonly kind: 'refund';
      readonly refundId: string;
      readonly summary: { readonly number: string };
    }
  | {
      readonly kind: 'takeBack';
      readonly takeBackId: string;
      readonly summary: { readonly number: string };
    }
  | {
      readonly kind: 'topUp';
      readonly topUpId: string;
      readonly summary: { readonly subscriberName: string; readonly credits: string };
    };

/** Starts a workflow, or finds that it was started before: both are success. Wired in `bin/`. */
export type StartWorkflow = (request: WorkflowRequest) => Promise<void>;

/** What activities reach the world through. */
export type ActivityDeps = {
  readonly db: Db;
  readonly shards: Pick<Shards, 'seal'>;
  readonly payments: PaymentProvider;
  readonly startWorkflow: StartWorkflow;
  /** Whether the subscriber's shard has come this far, after waiting at most `timeoutMs`. */
  readonly waitForApplied: (
    subscriberId: string,
    wanted: { readonly version?: bigint; readonly coreSeq?: bigint },
    options: { readonly timeoutMs: number },
  ) => Promise<boolean>;
  /** Whether everything up to that place of the shard's stream is in Postgres. */
  readonly isDrained: (mark: {
    readonly shard: string;
    readonly incarnation: number;
    readonly streamId: string;
  }) => Promise<boolean>;
};
