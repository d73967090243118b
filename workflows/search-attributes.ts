import { defineSearchAttributeKey, SearchAttributeType } from '@temporalio/common';
import type { SearchAttributePair, SearchAttributeUpdatePair } from '@temporalio/common';

/** Our search attributes as the SDK wants them; their names and types are those of `contracts.ts`. */
const keys = {
  SubscriberId: defineSearchAttributeKey('SubscriberId', SearchAttributeType.KEYWORD),
  SubscriptionId: defineSearchAttributeKey('SubscriptionId', SearchAttributeType.KEYWORD),
  InvoiceId: defineSearchAttributeKey('InvoiceId', SearchAttributeType.KEYWORD),
  PlanId: defineSearchAttributeKey('PlanId', SearchAttributeType.KEYWORD),
  BillingState: defineSearchAttributeKey('BillingState', SearchAttributeType.KEYWORD),
  CloseStep: defineSearchAttributeKey('CloseStep', SearchAttributeType.KEYWORD),
  AttentionReason: defineSearchAttributeKey('AttentionReason', SearchAttributeType.KEYWORD),
  PeriodSeq: defineSearchAttributeKey('PeriodSeq', SearchAttributeType.INT),
  AttemptNo: defineSearchAttributeKey('AttemptNo', SearchAttributeType.INT),
  NextActionAt: defineSearchAttributeKey('NextActionAt', SearchAttributeType.DATETIME),
  NeedsAttention: defineSearchAttributeKey('NeedsAttention', SearchAttributeType.BOOL),
} as const;

export type Attributes = {
  readonly SubscriberId?: string;
  readonly SubscriptionId?: string;
  readonly InvoiceId?: string;
  readonly PlanId?: string;
  readonly BillingState?: string;
  /** What a close does or waits for. Steps that take a moment are not announced by themselves. */
  readonly CloseStep?: 'waiting' | 'sealing' | 'draining' | 'invoicing' | 'draft' | 'done';
  /** Null takes it away. */
  readonly AttentionReason?: string | null;
  readonly PeriodSeq?: number;
  readonly AttemptNo?: number;
  /** Epoch ms; null takes it away. */
  readonly NextActionAt?: number | null;
  readonly NeedsAttention?: boolean;
};

/**
 * For whoever starts a workflow, and for a workflow that continues as new: what the first event holds costs nothing,
 * each change after it is an action.
 */
export function startAttributes(attributes: Attributes): SearchAttributePair[] {
  return attributePairs(attributes).filter(isSet);
}

function isSet(pair: SearchAttributeUpdatePair): pair is SearchAttributePair {
  return pair.value !== null;
}

export function attributePairs(attributes: Attributes): SearchAttributeUpdatePair[] {
  const { NextActionAt, ...plain } = attributes;
  const pairs: SearchAttributeUpdatePair[] = [];
  if (plain.SubscriberId !== undefined) {
    pairs.push({ key: keys.SubscriberId, value: plain.SubscriberId });
  }
  if (plain.SubscriptionId !== undefined) {
    pairs.push({ key: keys.SubscriptionId, value: plain.SubscriptionId });
  }
  if (plain.InvoiceId !== undefined) pairs.push({ key: keys.InvoiceId, value: plain.InvoiceId });
  if (plain.PlanId !== undefined) pairs.push({ key: keys.PlanId, value: plain.PlanId });
  if (plain.BillingState !== undefined) {
    pairs.push({ key: keys.BillingState, value: plain.BillingState });
  }
  if (plain.CloseStep !== undefined) pairs.push({ key: keys.CloseStep, value: plain.CloseStep });
  if (plain.AttentionReason !== undefined) {
    pairs.push({ key: keys.AttentionReason, value: plain.AttentionReason });
  }
  if (plain.PeriodSeq !== undefined) pairs.push({ key: keys.PeriodSeq, value: plain.PeriodSeq });
  if (plain.AttemptNo !== undefined) pairs.push({ key: keys.AttemptNo, value: plain.AttemptNo });
  if (plain.NeedsAttention !== undefined) {
    pairs.push({ key: keys.NeedsAttention, value: plain.NeedsAttention });
  }
  if (NextActionAt !== undefined) {
    pairs.push({
      key: keys.NextActionAt,
      value: NextActionAt === null ? null : new Date(NextActionAt),
    });
  }
  return pairs;
}
