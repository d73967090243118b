/** The end of a period: its usage is final, its invoice is issued, the period is closed. One transaction. */
import { assembleInvoice, type InvoiceDraft } from '../billing/invoice.ts';
import { lockAccountBalance } from './account-balance.ts';
import type { Reader, Tx } from './db.ts';
import { readPeriodDocument } from './invoice-document.ts';
import { readInvoiceInput } from './invoice-input.ts';
import { findInvoice, type Invoice, invoiceKeys, issueInvoice } from './invoices.ts';
import { listPeriods, lockPeriod, markClosed, type Period } from './periods.ts';
import { readSubscription, type Subscription } from './subscriptions.ts';

export type PeriodInvoicing =
  | { readonly kind: 'invoiced'; readonly invoice: Invoice }
  /** A part of the same interval that comes before is not invoiced yet; its usage decides the prices of this one. */
  | { readonly kind: 'earlier_open'; readonly periodSeq: number }
  /** The shard never was in it, so the projector took it back: it holds nothing, and its time belongs to the next one. */
  | { readonly kind: 'void' };

/** A period's invoice is issued once; a voided one is issued again under the next number. */
const FIRST_ISSUE = 1;

/**
 * Rates the period, applies the subscriber's account balance, issues the invoice (also when nothing is due: a closed
 * period has exactly one) and closes the period, under the lock that keeps the drain out, so that the invoice holds
 * exactly the usage that was committed before.
 * Repeating it changes nothing and answers the same invoice. Throws RangeError when the period is not closing.
 */
export async function invoicePeriod(tx: Tx, periodId: string, at: Date): Promise<PeriodInvoicing> {
  const period = await lockPeriod(tx, periodId);
  const key = invoiceKeys.period(period.subscriptionId, period.seq, FIRST_ISSUE);
  if (period.state === 'closed') {
    const issued = await findInvoice(tx, key);
    if (issued === null) throw new Error(`period ${periodId} is closed without an invoice`);
    return { kind: 'invoiced', invoice: issued };
  }
  if (period.state === 'void') return { kind: 'void' };
  if (period.state !== 'closing') {
    throw new RangeError(`period ${periodId} is ${period.state}, not closing`);
  }
  const earlier = await earlierOpen(tx, period);
  if (earlier !== null) return { kind: 'earlier_open', periodSeq: earlier.seq };

  const subscription = await readSubscription(tx, period.subscriptionId);
  // Before it is read, so that no other invoice applies the same balance.
  await lockAccountBalance(tx, { ...subscription, currency: subscription.definition.currency });
  const draft = await draftPeriodInvoice(tx, subscription, period);
  const document = await readPeriodDocument(
    tx,
    { ...subscription, subscriptionId: subscription.id },
    draft,
  );
  const invoice = await issueInvoice(
    tx,
    {
      environment: subscription.environment,
      subscriberId: subscription.subscriberId,
      subscriptionId: subscription.id,
      periodId,
      kind: 'period',
      businessKey: key,
      currency: draft.currency,
      subtotalMinor: draft.subtotalMinor,
      taxMinor: draft.taxMinor,
      totalMinor: draft.totalMinor,
      balanceAppliedMinor: draft.balanceAppliedMinor,
      periodStartAt: period.startAt,
      periodEndAt: period.endAt,
      document,
      lines: draft.lines,
    },
    at,
  );
  await markClosed(tx, periodId, at);
  return { kind: 'invoiced', invoice };
}

/** The invoice of `period` as it would be now. Estimate and final invoice are this one function. */
export async function draftPeriodInvoice(
  db: Reader,
  subscription: Subscription,
  period: Period,
): Promise<InvoiceDraft> {
  return assembleInvoice(await readInvoiceInput(db, subscription, period));
}

async function earlierOpen(tx: Tx, period: Period): Promise<Period | null> {
  const open = await listPeriods(tx, period.subscriptionId, ['scheduled', 'open', 'closing']);
  const earlier = open.find(
    (other) => other.intervalIndex === period.intervalIndex && other.seq < period.seq,
  );
  return earlier ?? null;
}
