/**
 * What the admin API and the portal may know of the workflows: ids, queues, inputs, updates and signals, by name.
 * Ids are business keys; no type here carries money: amounts live in Postgres.
 */
export const taskQueues = {
  workflows: 'billing-workflows',
  db: 'billing-db',
  psp: 'billing-psp',
} as const;

export const workflowTypes = {
  subscription: 'subscription',
  periodClose: 'periodClose',
  collection: 'collection',
  payment: 'payment',
  topUp: 'topUp',
  refund: 'refund',
  takeBack: 'takeBack',
} as const;

export const workflowIds = {
  subscription: (subscriptionId: string) => `sub/${subscriptionId}`,
  periodClose: (subscriptionId: string, periodSeq: number) =>
    `close/${subscriptionId}/${periodSeq}`,
  collection: (invoiceId: string) => `collect/${invoiceId}`,
  payment: (paymentId: string) => `pay/${paymentId}`,
  topUp: (topUpId: string) => `topup/${topUpId}`,
  refund: (refundId: string) => `refund/${refundId}`,
  takeBack: (takeBackId: string) => `takeback/${takeBackId}`,
} as const;

/** Custom search attributes, registered when the stack starts. */
export const searchAttributes = {
  SubscriberId: 'Keyword',
  SubscriptionId: 'Keyword',
  InvoiceId: 'Keyword',
  PlanId: 'Keyword',
  BillingState: 'Keyword',
  CloseStep: 'Keyword',
  AttentionReason: 'Keyword',
  PeriodSeq: 'Int',
  AttemptNo: 'Int',
  NextActionAt: 'Datetime',
  NeedsAttention: 'Bool',
} as const;

/** The row exists with state `pending` before the workflow is started; the first run loads everything else from it. */
export type SubscriptionInput = {
  readonly v: 1;
  readonly subscriptionId: string;
  /** A pending subscription activates itself: whoever created it never came back to ask. */
  readonly activate?: boolean;
};
export type TopUpInput = { readonly v: 1; readonly topUpId: string };
export type PeriodCloseInput = {
  readonly v: 1;
  readonly subscriptionId: string;
  readonly periodId: string;
  readonly periodSeq: number;
};
export type CollectionInput = { readonly v: 1; readonly invoiceId: string };
export type RefundInput = { readonly v: 1; readonly refundId: string };
export type TakeBackInput = { readonly v: 1; readonly takeBackId: string };
export type PaymentInput = {
  readonly v: 1;
  readonly paymentId: string;
  /** What is paid for: an invoice's number, or credits. */
  readonly what: string;
};

/** `staticSummary` of a workflow: the line that the Temporal UI's list shows beside its id. */
export const summaries = {
  subscription: (of: { readonly subscriberName: string; readonly planName: string }) =>
    brief(`${of.subscriberName} · ${of.planName}`),
  periodClose: (of: { readonly subscriberName: string; readonly periodSeq: number }) =>
    brief(`Close period ${of.periodSeq} of ${of.subscriberName}`),
  collection: (of: { readonly number: string }) => brief(`Collect ${of.number}`),
  payment: (of: { readonly what: string }) => brief(`Pay ${of.what}`),
  refund: (of: { readonly number: string }) => brief(`Refund of ${of.number}`),
  takeBack: (of: { readonly number: string }) => brief(`Take credits of ${of.number} back`),
  topUp: (of: { readonly subscriberName: string; readonly credits: string }) =>
    brief(`${of.subscriberName} buys ${of.credits} credits`),
} as const;

/** The server takes 200 bytes. */
function brief(text: string): string {
  return text.length <= 60 ? text : `${text.slice(0, 59)}…`;
}

/** Every workflow that meets a fault it cannot mend waits for this update; then it tries the failed step again. */
export const retryStep = 'retryStep';
/** Update of a collection: try to take the money now, without waiting for the next day; it answers what came of it. */
export const collectionUpdates = { retryNow: 'retryNow' } as const;
/** Update of a period's close: its draft waits no longer. It answers when the invoice is final. */
export const closeUpdates = { finalizeNow: 'finalizeNow' } as const;
export type FinalizeNowReply = { readonly invoiceId: string | null };
/** Signal of a collection: the invoice was voided, credited, given up or paid elsewhere. */
export const collectionSignals = { invoiceChanged: 'invoiceChanged' } as const;
/** Signals of the subscription workflow: facts from its collections, which it looks up in Postgres. */
export const subscriptionSignals = {
  standingChanged: 'standingChanged',
  nudge: 'nudge',
} as const;

/** Updates of the subscription workflow; the update id is the caller's Idempotency-Key (or a request id). */
export const subscriptionUpdates = {
  activate: 'activate',
  cancel: 'cancel',
  closePeriod: 'closePeriod',
  setOverage: 'setOverage',
  changePlan: 'changePlan',
  cancelPlanChange: 'cancelPlanChange',
} as const;
export type ActivateReply = { readonly state: string; readonly periodId: string };
export type CancelArgs = {
  readonly when: 'now' | 'period_end';
  readonly reason?: string;
  /** Fees of the interval are billed, or given back where they are paid, by the days used. */
  readonly prorate?: boolean;
};
export type CancelReply = { readonly state: string; readonly effectiveAt: string };
export type ClosePeriodArgs = {
  readonly periodId: string;
  /** Who asks: an operator when absent, or what was used so far, which costs as much as the plan waits for. */
  readonly reason?: 'close_now' | 'threshold';
};
/** The close goes on by itself; its result is awaited on the workflow named here. */
export type ClosePeriodReply = { readonly closeWorkflowId: string; readonly periodSeq: number };
export type SetOverageArgs = { readonly enabled: boolean };
export type SetOverageReply = { readonly effectiveAt: string };
export type ChangePlanArgs = {
  /** `pch_…`, chosen by whoever asks: a repetition under it changes nothing. */
  readonly changeId: string;
  readonly planVersionId: string;
  /** `default`: an upgrade now, a downgrade at the end of the interval. */
  readonly when: 'now' | 'period_end' | 'default';
};
export type ChangePlanReply = { readonly effectiveAt: string };
/** The change that is planned. */
export type CancelPlanChangeArgs = { readonly changeId: string };
export type CancelPlanChangeReply = { readonly changeId: string };

/** Result of a periodClose workflow. `invoiceId` is null when there was nothing to invoice. */
export type PeriodCloseResult = { readonly periodId: string; readonly invoiceId: string | null };
/** Result of a collection: `failed` never ends it, it waits for `retryNow`. */
export type CollectionResult = { readonly state: 'paid' | 'void' | 'uncollectible' };
/** What came of an attempt that was asked for: of `declined` the code, of `no_method` that there is nothing to take from. */
export type RetryReply = {
  readonly state: CollectionResult['state'] | 'declined' | 'no_method';
  readonly declineCode?: string;
};
/** Result of a refund: `failed` leaves the money with the account balance. */
export type RefundResult = {
  readonly state: 'succeeded' | 'failed';
  readonly failureCode?: string;
};
/** Result of a take-back: `refused` gave nothing, for nothing was left that money is given for. */
export type TakeBackResult =
  | { readonly state: 'credited'; readonly creditNoteId: string }
  | { readonly state: 'refused' };
/** Result of a payment. */
export type PaymentResult =
  | { readonly state: 'succeeded' | 'canceled' }
  | { readonly state: 'declined'; readonly declineCode: string };
/** Result of a topUp workflow. */
export type TopUpResult = {
  readonly state: 'granted' | 'declined' | 'failed';
  readonly declineCode?: string;
};
