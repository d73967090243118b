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
} as const;

export const workflowIds = {
  subscription: (subscriptionId: string) => `sub/${subscriptionId}`,
  periodClose: (subscriptionId: string, periodSeq: number) =>
    `close/${subscriptionId}/${periodSeq}`,
  collection: (invoiceId: string) => `collect/${invoiceId}`,
  payment: (paymentId: string) => `pay/${paymentId}`,
  topUp: (topUpId: string) => `topup/${topUpId}`,
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
export type SubscriptionInput = { readonly v: 1; readonly subscriptionId: string };
export type TopUpInput = { readonly v: 1; readonly topUpId: string };

/** Updates of the subscription workflow; the update id is the caller's Idempotency-Key (or a request id). */
export const subscriptionUpdates = {
  activate: 'activate',
  cancel: 'cancel',
  closePeriod: 'closePeriod',
  setOverage: 'setOverage',
} as const;
export type ActivateReply = { readonly state: string; readonly periodId: string };
export type CancelArgs = { readonly when: 'now' | 'period_end'; readonly reason?: string };
export type CancelReply = { readonly state: string; readonly effectiveAt: string };
export type ClosePeriodArgs = { readonly periodId: string };
/** The close goes on by itself; its result is awaited on the workflow named here. */
export type ClosePeriodReply = { readonly closeWorkflowId: string; readonly periodSeq: number };
export type SetOverageArgs = { readonly enabled: boolean };
export type SetOverageReply = { readonly effectiveAt: string };

/** Result of a periodClose workflow. `invoiceId` is null when there was nothing to invoice. */
export type PeriodCloseResult = { readonly periodId: string; readonly invoiceId: string | null };
/** Result of a topUp workflow. */
export type TopUpResult = {
  readonly state: 'granted' | 'declined' | 'failed';
  readonly declineCode?: string;
};
