/** The end of a period: its usage is final, its invoice is issued, the period is closed. One transaction. */
import { assembleInvoice, type InvoiceDraft } from '../billing/invoice.ts';
import { lockAccountBalance } from './account-balance.ts';
import type { Reader, Tx } from './db.ts';
import { readInvoiceInput } from './invoice-input.ts';
import { lateInvoiceOf } from './late-invoice.ts';
import {
  findPeriodInvoice,
  type Invoice,
  invoiceKeys,
  issueSubscriptionInvoice,
  lockInvoice,
  readInvoice,
  saveSubscriptionDraft,
  type SubscriptionInvoice,
} from './invoices.ts';
import { readOperatorSettings } from './operator-settings.ts';
import { listPeriods, lockPeriod, markClosed, type Period } from './periods.ts';
import { readSubscription, type Subscription } from './subscriptions.ts';

export type PeriodInvoicing =
  | { readonly kind: 'invoiced'; readonly invoice: Invoice }
  /** The draft waits until then, or until somebody asks for it to be finalized. */
  | { readonly kind: 'draft'; readonly invoice: Invoice; readonly finalizeAt: Date }
  /** A part of the same interval that comes before is not invoiced yet; its usage decides the prices of this one. */
  | { readonly kind: 'earlier_open'; readonly periodSeq: number }
  /** The shard never was in it, so the projector took it back: it holds nothing, and its time belongs to the next one. */
  | { readonly kind: 'void' };

/** A period's invoice is issued once; a voided one is issued again under the next number. */
const FIRST_ISSUE = 1;

/**
 * Rates the period, applies the subscriber's account balance, issues the invoice (also when nothing is due: a closed
 * period has exactly one) and closes the period, under the lock that keeps the drain out, so that the invoice holds
 * exactly the usage that was committed before. Where the operator lets drafts wait, the first call writes the draft; one
 * after its time, or one that `isUrgent`, makes it final.
 * Repeating it changes nothing and answers the same invoice. Throws RangeError when the period is not closing.
 */
export async function invoicePeriod(
  tx: Tx,
  periodId: string,
  at: Date,
  isUrgent = false,
): Promise<PeriodInvoicing> {
  const period = await lockPeriod(tx, periodId);
  if (period.state === 'closed') {
    const issued = await findPeriodInvoice(tx, periodId);
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
  const finalizeAt = await finalizeAtOf(tx, { subscription, period, at });
  if (finalizeAt !== null && at < finalizeAt && !isUrgent) {
    return draftUntil(tx, { subscription, period, at, finalizeAt });
  }
  const invoice = await issueSubscriptionInvoice(
    tx,
    await periodInvoiceOf(tx, { subscription, period, at }),
  );
  await markClosed(tx, periodId, at);
  return { kind: 'invoiced', invoice };
}

/** Null: the invoice does not wait. Once a draft is written its time stays, whatever the operator sets. */
async function finalizeAtOf(
  db: Reader,
  of: { readonly subscription: Subscription; readonly period: Period; readonly at: Date },
): Promise<Date | null> {
  if (of.period.finalizeAt !== null) return of.period.finalizeAt;
  const { draftGraceMs } = await readOperatorSettings(db, of.subscription.environment);
  return draftGraceMs === 0 ? null : new Date(of.at.getTime() + draftGraceMs);
}

/** A draft that is there already stays as it is: only a refresh and its end write it anew. */
async function draftUntil(
  tx: Tx,
  of: {
    readonly subscription: Subscription;
    readonly period: Period;
    readonly at: Date;
    readonly finalizeAt: Date;
  },
): Promise<PeriodInvoicing> {
  const { period, finalizeAt } = of;
  const known = period.finalizeAt === null ? null : await findPeriodInvoice(tx, period.id);
  if (known !== null) return { kind: 'draft', invoice: known, finalizeAt };
  const invoice = await saveSubscriptionDraft(tx, await periodInvoiceOf(tx, of), finalizeAt);
  await tx.raw('UPDATE periods SET finalize_at = ? WHERE id = ?', [finalizeAt, period.id]);
  return { kind: 'draft', invoice, finalizeAt };
}

/**
 * Writes the draft of a period that waits anew, from all usage that has come in. Null: it is no draft of a period (any
 * more), and stays as it is.
 */
export async function refreshDraft(tx: Tx, invoiceId: string, at: Date): Promise<Invoice | null> {
  const { periodId, state } = await readInvoice(tx, invoiceId);
  if (state !== 'draft' || periodId === null) return null;
  // Before the invoice's: every close takes them in this order.
  const period = await lockPeriod(tx, periodId);
  const invoice = await lockInvoice(tx, invoiceId);
  if (invoice.state !== 'draft' || period.finalizeAt === null) return null;
  const subscription = await readSubscription(tx, period.subscriptionId);
  return saveSubscriptionDraft(
    tx,
    await periodInvoiceOf(tx, { subscription, period, at }),
    period.finalizeAt,
  );
}

export type Reissue =
  | { readonly kind: 'issued'; readonly invoice: Invoice }
  /** The one that was issued for it before. */
  | { readonly kind: 'known'; readonly invoice: Invoice }
  | {
      readonly kind: 'refused';
      readonly code:
        | 'not_void'
        | 'not_of_a_period'
        /** What came in late was corrected since, so that nothing of it costs anything. */
        | 'nothing_left';
    };

/**
 * Issues the void invoice of a closed period, also of a late one, again, under the next number, rated anew from the same
 * usage. The period stays closed. Repeating it answers the invoice that counts for the period now.
 */
export async function reissueInvoice(tx: Tx, invoiceId: string, at: Date): Promise<Reissue> {
  const { kind, state, periodId } = await readInvoice(tx, invoiceId);
  if ((kind !== 'period' && kind !== 'late') || periodId === null) {
    return { kind: 'refused', code: 'not_of_a_period' };
  }
  if (state !== 'void') return { kind: 'refused', code: 'not_void' };
  const period = await lockPeriod(tx, periodId);
  const current = await findPeriodInvoice(tx, periodId);
  if (current !== null && current.state !== 'void') return { kind: 'known', invoice: current };
  const subscription = await readSubscription(tx, period.subscriptionId);
  const of = { subscription, period, at };
  const fresh = period.isLate ? await lateInvoiceOf(tx, of) : await periodInvoiceOf(tx, of);
  if (fresh === null) return { kind: 'refused', code: 'nothing_left' };
  const reissueOf = current?.id ?? invoiceId;
  const invoice = await issueSubscriptionInvoice(tx, { ...fresh, reissueOf });
  return { kind: 'issued', invoice };
}

/** The invoice of the period as of this transaction, which holds the balance from here on. */
async function periodInvoiceOf(
  tx: Tx,
  of: { readonly subscription: Subscription; readonly period: Period; readonly at: Date },
): Promise<SubscriptionInvoice> {
  const { subscription, period, at } = of;
  // Before it is read, so that no other invoice applies the same balance.
  await lockAccountBalance(tx, { ...subscription, currency: subscription.definition.currency });
  const latest = await findPeriodInvoice(tx, period.id);
  const issue = latest === null ? FIRST_ISSUE : issueOf(latest) + (latest.state === 'void' ? 1 : 0);
  return {
    subscription,
    period,
    kind: 'period',
    businessKey: invoiceKeys.period(period.subscriptionId, period.seq, issue),
    intervalIndex: period.intervalIndex,
    draft: await draftPeriodInvoice(tx, subscription, period),
    at,
  };
}

function issueOf({ businessKey }: Invoice): number {
  const issue = /:(\d+)$/.exec(businessKey)?.[1];
  if (issue === undefined) throw new Error(`${businessKey} is no key of a period`);
  return Number(issue);
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
