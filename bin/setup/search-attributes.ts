/** Search attributes that our workflows set, with their types, so that an operator can list by them. */
export const searchAttributes: Readonly<Record<string, SearchAttributeKind>> = {
  SubscriberId: 'Keyword',
  SubscriptionId: 'Keyword',
  InvoiceId: 'Keyword',
  PlanId: 'Keyword',
  BillingState: 'Keyword',
  CloseStep: 'Keyword',
  AttentionReason: 'Keyword',
  PeriodIndex: 'Int',
  AttemptNo: 'Int',
  NextActionAt: 'Datetime',
  NeedsAttention: 'Bool',
};

export type SearchAttributeKind =
  | 'Keyword'
  | 'Int'
  | 'Datetime'
  | 'Bool'
  | 'Text'
  | 'Double'
  | 'KeywordList';
