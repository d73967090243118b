/**
 * The invoice of what came in after a subscription's end: an invoice of its own, since no further period has one. It is
 * issued when nothing more can come, or at once when somebody asks; what comes after it makes the next one.
 */
import { assembleLateInvoice, type InvoiceDraft } from '../billing/invoice.ts';
import { lockAccountBalance, readAccountBalance } from './account-balance.ts';
import type { Reader, Tx } from './db.ts';
import { ratedLate } from './invoice-input.ts';
import {
  type Invoice,
  invoiceKeys,
  issueSubscriptionInvoice,
  type SubscriptionInvoice,
} from './invoices.ts';
import {
  findLatePeriod,
  listInvoiced,
  listPeriods,
  lockPeriod,
  markClosed,
  type Period,
} from './periods.ts';
import { insertedRow } from './query.ts';
import { readCoupons } from './subscription-coupons.ts';
import { readSubscription, type Subscription } from './subscriptions.ts';
import { readTaxation } from './taxation.ts';
import { readPeriodUsage } from './usage-runs.ts';

export type LateBilling =
  | { readonly kind: 'issued'; readonly invoice: Invoice }
  /** Nothing came in since its last invoice, or nothing of it costs anything. */
  | { readonly kind: 'nothing' }
  /** An invoice of a period is still to come, and bills it: it goes on, or its last one is not issued yet. */
  | { readonly kind: 'refused'; readonly code: 'not_ended' | 'last_invoice_to_come' };

/**
 * Invoices what came in after the subscription's end, under the lock that keeps the drain out. What costs nothing has no
 * invoice: it waits for more, or, where nothing more can come (`isOver`), is done with.
 * Repeating it finds nothing to bill, and changes nothing.
 */
export async function billLateUsage(
  tx: Tx,
  of: { readonly subscriptionId: string; readonly at: Date; readonly isOver: boolean },
): Promise<LateBilling> {
  const { at } = of;
  const subscription = await readSubscription(tx, of.subscriptionId);
  if (subscription.state !== 'canceled') return { kind: 'refused', code: 'not_ended' };
  const toCome = await listPeriods(tx, subscription.id, ['scheduled', 'open', 'closing']);
  if (toCome.length > 0) return { kind: 'refused', code: 'last_invoice_to_come' };
  const open = await findLatePeriod(tx, subscription.id);
  if (open === null) return { kind: 'nothing' };
  const period = await lockPeriod(tx, open.id);
  // Somebody else billed it while we waited.
  if (period.state === 'closed') return { kind: 'nothing' };
  const invoiceOf = await lateInvoiceOf(tx, { subscription, period, at });
  if (invoiceOf === null) {
    if (of.isOver) await markClosed(tx, period.id, at);
    return { kind: 'nothing' };
  }
  const invoice = await issueSubscriptionInvoice(tx, invoiceOf);
  await markClosed(tx, period.id, at);
  return { kind: 'issued', invoice };
}

/**
 * The invoice of a late period that the caller has locked, as of this transaction, which holds the balance from here on.
 * Null: nothing of it costs anything.
 */
export async function lateInvoiceOf(
  tx: Tx,
  of: { readonly subscription: Subscription; readonly period: Period; readonly at: Date },
): Promise<SubscriptionInvoice | null> {
  const { subscription, period, at } = of;
  // One that is issued again waits here, and then takes the next key.
  await insertedRow(tx, 'SELECT id FROM subscriptions WHERE id = ? FOR NO KEY UPDATE', [
    subscription.id,
  ]);
  // Before it is read, so that no other invoice applies the same balance.
  await lockAccountBalance(tx, subscription);
  const draft = await draftLateInvoice(tx, subscription, period);
  if (draft === null) return null;
  const issued = await insertedRow<{ count: bigint }>(
    tx,
    `SELECT count(*) AS count FROM invoices WHERE subscription_id = ? AND kind = 'late'`,
    [subscription.id],
  );
  return {
    subscription,
    period,
    kind: 'late',
    businessKey: invoiceKeys.late(subscription.id, Number(issued.count) + 1),
    intervalIndex: period.intervalIndex,
    draft,
    at,
  };
}

/**
 * The invoice of a late period as it would be now; null as above. Its coupons are those that the invoice of a further
 * interval would have had: the subscription held them when it ended, and they last another one.
 */
export async function draftLateInvoice(
  db: Reader,
  subscription: Subscription,
  period: Period,
): Promise<InvoiceDraft | null> {
  const all = await listInvoiced(db, subscription.id);
  const of = { subscriptionId: subscription.id, period, periods: all };
  const { late: runs } = await readPeriodUsage(db, of);
  const charges = new Map(
    [subscription, ...runs]
      .flatMap(({ definition }) => definition.charges)
      .map((charge) => [charge.id, charge]),
  );
  const terms = {
    ...subscription,
    subscriptionId: subscription.id,
    definition: { ...subscription.definition, charges: [...charges.values()] },
    addOns: [],
  };
  return assembleLateInvoice({
    currency: subscription.definition.currency,
    zone: subscription.timeZone,
    late: await ratedLate(db, {
      subscription,
      periods: all.filter(({ isLate }) => !isLate),
      runs,
    }),
    coupons: await readCoupons(db, {
      ...terms,
      intervalIndex: period.intervalIndex,
      at: period.endAt,
    }),
    taxation: await readTaxation(db, terms),
    balanceMinor: await readAccountBalance(db, subscription),
  });
}
