import { lockAccountBalance } from './account-balance.ts';
import { draftAdvanceInvoice } from './change-input.ts';
import type { Tx } from './db.ts';
import { type Invoice, invoiceKeys, issueSubscriptionInvoice } from './invoices.ts';
import type { Period } from './periods.ts';
import type { Subscription } from './subscriptions.ts';

/** Issues the invoice of the fees in advance of the interval that `period` begins. Null: there are none. */
export async function invoiceAdvanceFees(
  tx: Tx,
  subscription: Subscription,
  { period, now }: { readonly period: Period; readonly now: Date },
): Promise<Invoice | null> {
  await lockAccountBalance(tx, subscription);
  const draft = await draftAdvanceInvoice(tx, subscription, period);
  if (draft === null) return null;
  return issueSubscriptionInvoice(tx, {
    subscription,
    period: null,
    kind: 'advance',
    businessKey: invoiceKeys.advance(subscription.id, period.intervalIndex),
    intervalIndex: period.intervalIndex,
    draft,
    at: now,
  });
}

/**
 * Before a subscription begins, its first fees in advance are still to be invoiced: they use coupons and the account
 * balance, and count towards a commitment. For whoever works out what is to come: so they are, and the caller takes
 * everything back.
 */
export async function imagineFirstFees(
  tx: Tx,
  subscription: Subscription,
  { period, nowMs }: { readonly period: Period; readonly nowMs: number },
): Promise<void> {
  if (period.seq !== 0 || period.startAt.getTime() <= nowMs) return;
  await invoiceAdvanceFees(tx, subscription, { period, now: period.startAt });
}
