/**
 * Invoices: draft → open or paid, each transition in the transaction of what it follows from. A final invoice never
 * changes but in its state and payment; Postgres refuses everything else.
 */
import { createHash } from 'node:crypto';

import type { Discount } from '../billing/discount.ts';
import { finalize as finalState } from '../billing/invoice-state.ts';
import type { InvoiceDraft } from '../billing/invoice.ts';
import type { LineDetails } from '../billing/line.ts';
import type { Span } from '../billing/ratio.ts';
import { lockAccountBalance, readAccountBalance } from './account-balance.ts';
import type { Reader, Tx } from './db.ts';
import { newId } from './ids.ts';
import { type InvoiceDocument, readSubscriptionDocument } from './invoice-document.ts';
import { type LedgerEntry, postLedger } from './ledger.ts';
import type { Period } from './periods.ts';
import { insertedRow, selectRow, selectRows } from './query.ts';
import { recordCouponUses } from './subscription-coupons.ts';
import type { Subscription } from './subscriptions.ts';

export type InvoiceKind = 'period' | 'advance' | 'change' | 'threshold' | 'late' | 'top_up';
export type InvoiceState = 'draft' | 'open' | 'paid' | 'void' | 'uncollectible';

export const invoiceKeys = {
  period: (subscriptionId: string, periodSeq: number, issue: number) =>
    `period:${subscriptionId}:${periodSeq}:${issue}`,
  advance: (subscriptionId: string, intervalIndex: number) =>
    `advance:${subscriptionId}:${intervalIndex}`,
  change: (planChangeId: string) => `change:${planChangeId}`,
  /** `issue`: its place among the late invoices of the subscription, from 1. */
  late: (subscriptionId: string, issue: number) => `late:${subscriptionId}:${issue}`,
  topUp: (topUpId: string) => `topup:${topUpId}`,
} as const;

export type NewInvoice = {
  readonly environment: string;
  readonly subscriberId: string;
  readonly subscriptionId: string | null;
  readonly periodId: string | null;
  readonly kind: InvoiceKind;
  /** The business fact: see `invoiceKeys`. */
  readonly businessKey: string;
  readonly currency: string;
  readonly subtotalMinor: bigint;
  readonly taxMinor: bigint;
  readonly totalMinor: bigint;
  /** Default none. Each share is that of the line in its place. */
  readonly discounts?: readonly Discount[];
  /** True: the prices hold the tax. Default false. */
  readonly taxIncluded?: boolean;
  /** The interval whose coupons it uses; null or absent: it uses none. */
  readonly intervalIndex?: number | null;
  /** The void invoice that it stands for. */
  readonly reissueOf?: string | null;
  /**
   * Taken from the subscriber's account balance; the whole total where it is negative, which is given to it. Absent:
   * none, as on an invoice whose money has come already.
   */
  readonly balanceAppliedMinor?: bigint;
  readonly periodStartAt: Date | null;
  readonly periodEndAt: Date | null;
  readonly document: InvoiceDocument;
  readonly lines: readonly NewLine[];
};

export type NewLine = {
  readonly kind: 'recurring' | 'usage' | 'overage' | 'one_time' | 'adjustment' | 'top_up';
  readonly chargeId: string | null;
  readonly meterId: string | null;
  readonly planVersionId: string | null;
  readonly description: string;
  readonly label: string | null;
  readonly quantity: bigint | null;
  readonly unitPrice: string | null;
  readonly amountMinor: bigint;
  /** JSON: all that the amount was worked out from. */
  readonly details: LineDetails | { readonly top_up_id: string };
  /** The time that a fee is for. */
  readonly covers?: Span | null;
};

export type Invoice = {
  readonly id: string;
  readonly environment: string;
  readonly subscriberId: string;
  readonly subscriptionId: string | null;
  readonly periodId: string | null;
  readonly kind: InvoiceKind;
  readonly businessKey: string;
  readonly state: InvoiceState;
  readonly paymentStatus: 'none' | 'pending' | 'succeeded' | 'failed';
  readonly number: string | null;
  readonly currency: string;
  readonly subtotalMinor: bigint;
  readonly discountMinor: bigint;
  readonly taxMinor: bigint;
  readonly taxIncluded: boolean;
  readonly totalMinor: bigint;
  /** As on `NewInvoice`. */
  readonly balanceAppliedMinor: bigint;
  /** Total − balance applied, as it was issued; never below zero. */
  readonly amountDueMinor: bigint;
  readonly intervalIndex: number | null;
  readonly reissueOf: string | null;
  /** When a draft becomes final by itself. */
  readonly finalizeAt: Date | null;
  readonly finalizedAt: Date | null;
  readonly paidAt: Date | null;
  readonly paidBy: 'payment' | 'out_of_band' | 'nothing_due' | null;
};

const columns = `id, environment, subscriber_id AS "subscriberId", subscription_id AS "subscriptionId",
  period_id AS "periodId", kind, business_key AS "businessKey", state, payment_status AS "paymentStatus", number,
  currency, subtotal_minor AS "subtotalMinor", discount_minor AS "discountMinor", tax_minor AS "taxMinor",
  tax_included AS "taxIncluded", total_minor AS "totalMinor", balance_applied_minor AS "balanceAppliedMinor",
  amount_due_minor AS "amountDueMinor", interval_index AS "intervalIndex", reissue_of AS "reissueOf",
  finalize_at AS "finalizeAt", finalized_at AS "finalizedAt", paid_at AS "paidAt", paid_by AS "paidBy"`;

/** Throws when there is none. */
export async function readInvoice(db: Reader, invoiceId: string): Promise<Invoice> {
  return insertedRow<Invoice>(db, `SELECT ${columns} FROM invoices WHERE id = ?`, [invoiceId]);
}

/** The invoice of a period, also of a late one, that counts; where every one is void, the last of them. */
export async function findPeriodInvoice(db: Reader, periodId: string): Promise<Invoice | null> {
  return selectRow<Invoice>(
    db,
    `SELECT ${columns} FROM invoices WHERE period_id = ? AND kind IN ('period', 'late')
     ORDER BY state = 'void', number_in_series DESC NULLS FIRST, created_at DESC LIMIT 1`,
    [periodId],
  );
}

/** An invoice, locked until the transaction ends: whoever changes its state or its money holds it. */
export async function lockInvoice(tx: Tx, invoiceId: string): Promise<Invoice> {
  return insertedRow<Invoice>(tx, `SELECT ${columns} FROM invoices WHERE id = ? FOR UPDATE`, [
    invoiceId,
  ]);
}

/** The invoice of a business fact, whatever its state. */
export async function findInvoice(db: Reader, businessKey: string): Promise<Invoice | null> {
  return selectRow<Invoice>(db, `SELECT ${columns} FROM invoices WHERE business_key = ?`, [
    businessKey,
  ]);
}

export type SubscriptionInvoice = {
  readonly subscription: Subscription;
  /** Null: it belongs to no period. It, and the invoice of a late period, says what its draft is for. */
  readonly period: Period | null;
  readonly kind: 'period' | 'advance' | 'change' | 'late';
  readonly businessKey: string;
  /** The interval whose coupons it uses. */
  readonly intervalIndex: number;
  readonly draft: InvoiceDraft;
  readonly at: Date;
  readonly reissueOf?: string;
};

/**
 * Issues an invoice of a subscription from its draft: document, lines with their discounts and what they cover, uses of
 * coupons, ledger, number. The caller has called `lockAccountBalance` before it read what the draft is made of.
 * Repeating a `businessKey` changes nothing and answers the invoice that is there; a draft of that key becomes final.
 * @throws RangeError when the draft's sums do not hold, or it takes more than the balance.
 */
export async function issueSubscriptionInvoice(tx: Tx, of: SubscriptionInvoice): Promise<Invoice> {
  return issueInvoice(tx, await newSubscriptionInvoice(tx, of), of.at);
}

/**
 * Writes the draft, or writes it anew; it is shown, and nothing is posted. What it takes of coupons is held for it, so that
 * an estimate of the next interval does not count on them. A final invoice of its key stays as it is.
 */
export async function saveSubscriptionDraft(
  tx: Tx,
  of: SubscriptionInvoice,
  finalizeAt: Date,
): Promise<Invoice> {
  const invoice = await newSubscriptionInvoice(tx, of);
  requireSums(invoice);
  const known = await lockByKey(tx, invoice.businessKey);
  if (known !== null && known.state !== 'draft') return known;
  const invoiceId = await writeDraft(tx, invoice, { known, finalizeAt });
  await recordUses(tx, invoiceId, invoice);
  return readInvoice(tx, invoiceId);
}

async function newSubscriptionInvoice(tx: Tx, of: SubscriptionInvoice): Promise<NewInvoice> {
  const { subscription, period, draft } = of;
  const spanned = period?.isLate === false ? period : null;
  return {
    environment: subscription.environment,
    subscriberId: subscription.subscriberId,
    subscriptionId: subscription.id,
    periodId: period?.id ?? null,
    kind: of.kind,
    businessKey: of.businessKey,
    currency: draft.currency,
    subtotalMinor: draft.subtotalMinor,
    taxMinor: draft.taxMinor,
    totalMinor: draft.totalMinor,
    discounts: draft.discounts,
    taxIncluded: draft.taxIncluded,
    intervalIndex: of.intervalIndex,
    reissueOf: of.reissueOf ?? null,
    balanceAppliedMinor: draft.balanceAppliedMinor,
    periodStartAt: spanned?.startAt ?? new Date(draft.startMs),
    periodEndAt: spanned?.endAt ?? new Date(draft.endMs),
    document: await readSubscriptionDocument(
      tx,
      { ...subscription, subscriptionId: subscription.id },
      draft,
    ),
    lines: draft.lines,
  };
}

/**
 * Issues an invoice: writes it with its lines, takes the next number of its environment and year, freezes it, and posts
 * what is owed (receivable +, revenue or, for a top-up, deferred revenue −, tax payable −) and what the account balance
 * gives to it or, of a negative total, gets from it. Nothing to pay: paid at once.
 * Repeating a `businessKey` changes nothing and answers the invoice that is there; a draft of that key becomes final.
 * @throws RangeError when its sums do not hold, or it takes more than the balance.
 */
export async function issueInvoice(tx: Tx, invoice: NewInvoice, at: Date): Promise<Invoice> {
  requireSums(invoice);
  const known = await lockByKey(tx, invoice.businessKey);
  if (known !== null && known.state !== 'draft') return known;
  await requireBalance(tx, invoice);
  const invoiceId = await writeDraft(tx, invoice, { known, finalizeAt: known?.finalizeAt ?? null });
  await finalize(tx, { invoiceId, invoice, at });
  await postInvoice(tx, invoiceId, invoice);
  await postBalance(tx, invoiceId, invoice);
  await recordUses(tx, invoiceId, invoice);
  return readInvoice(tx, invoiceId);
}

async function recordUses(tx: Tx, invoiceId: string, invoice: NewInvoice): Promise<void> {
  const { intervalIndex, discounts } = invoice;
  if (intervalIndex === null || intervalIndex === undefined || discounts === undefined) return;
  await recordCouponUses(tx, { invoiceId, intervalIndex, discounts });
}

async function lockByKey(tx: Tx, businessKey: string): Promise<Invoice | null> {
  const sql = `SELECT ${columns} FROM invoices WHERE business_key = ? FOR UPDATE`;
  return selectRow<Invoice>(tx, sql, [businessKey]);
}

function requireSums(invoice: NewInvoice): void {
  const sum = sumOf(invoice.lines.map((line) => line.amountMinor));
  if (sum !== invoice.subtotalMinor) {
    throw new RangeError(`lines of ${sum} do not make a subtotal of ${invoice.subtotalMinor}`);
  }
  const added = invoice.taxIncluded === true ? 0n : invoice.taxMinor;
  if (invoice.subtotalMinor - discountOf(invoice) + added !== invoice.totalMinor) {
    throw new RangeError(
      `subtotal, discounts and tax do not make a total of ${invoice.totalMinor}`,
    );
  }
  const applied = balanceAppliedOf(invoice);
  if (applied > invoice.totalMinor || (applied < 0n && applied !== invoice.totalMinor)) {
    throw new RangeError(`a total of ${invoice.totalMinor} takes no balance of ${applied}`);
  }
}

function sumOf(amounts: readonly bigint[]): bigint {
  return amounts.reduce((total, amount) => total + amount, 0n);
}

function discountOf({ discounts = [] }: NewInvoice): bigint {
  return sumOf(discounts.map((discount) => discount.amountMinor));
}

function balanceAppliedOf(invoice: NewInvoice): bigint {
  return invoice.balanceAppliedMinor ?? 0n;
}

/** Whoever worked out what is applied holds the lock already; it is what keeps two invoices from taking the same money. */
async function requireBalance(tx: Tx, invoice: NewInvoice): Promise<void> {
  const applied = balanceAppliedOf(invoice);
  if (applied <= 0n) return;
  await lockAccountBalance(tx, invoice);
  const balance = await readAccountBalance(tx, invoice);
  if (applied > balance) throw new RangeError(`a balance of ${balance} does not give ${applied}`);
}

/** The row of `known` keeps its id, all else is written anew. Answers the id. */
async function writeDraft(
  tx: Tx,
  invoice: NewInvoice,
  at: { readonly known: Invoice | null; readonly finalizeAt: Date | null },
): Promise<string> {
  const id = at.known?.id ?? newId('inv');
  await tx.raw('DELETE FROM invoice_lines WHERE invoice_id = ?', [id]);
  await tx.raw(
    `INSERT INTO invoices (id, environment, subscriber_id, subscription_id, period_id, kind, business_key, state, currency,
       subtotal_minor, discount_minor, tax_minor, tax_included, total_minor, balance_applied_minor, amount_due_minor,
       interval_index, reissue_of, finalize_at, period_start_at, period_end_at, document)
     VALUES (:id, :environment, :subscriber_id, :subscription_id, :period_id, :kind, :business_key, 'draft', :currency,
       :subtotal, :discount, :tax, :tax_included, :total, :applied, :due,
       :interval_index, :reissue_of, :finalize_at, :period_start_at, :period_end_at, :document)
     ON CONFLICT (id) DO UPDATE SET currency = excluded.currency, subtotal_minor = excluded.subtotal_minor,
       discount_minor = excluded.discount_minor, tax_minor = excluded.tax_minor, tax_included = excluded.tax_included,
       total_minor = excluded.total_minor, balance_applied_minor = excluded.balance_applied_minor,
       amount_due_minor = excluded.amount_due_minor, finalize_at = excluded.finalize_at,
       period_start_at = excluded.period_start_at, period_end_at = excluded.period_end_at, document = excluded.document`,
    {
      id,
      environment: invoice.environment,
      subscriber_id: invoice.subscriberId,
      subscription_id: invoice.subscriptionId,
      period_id: invoice.periodId,
      kind: invoice.kind,
      business_key: invoice.businessKey,
      currency: invoice.currency,
      ...amountsOf(invoice),
      interval_index: invoice.intervalIndex ?? null,
      reissue_of: invoice.reissueOf ?? null,
      finalize_at: at.finalizeAt,
      period_start_at: invoice.periodStartAt,
      period_end_at: invoice.periodEndAt,
      document: JSON.stringify(invoice.document),
    },
  );
  await insertLines(tx, id, invoice);
  return id;
}

function amountsOf(invoice: NewInvoice): Readonly<Record<string, string | boolean>> {
  const applied = balanceAppliedOf(invoice);
  return {
    subtotal: invoice.subtotalMinor.toString(),
    discount: discountOf(invoice).toString(),
    tax: invoice.taxMinor.toString(),
    tax_included: invoice.taxIncluded ?? false,
    total: invoice.totalMinor.toString(),
    applied: applied.toString(),
    due: (invoice.totalMinor - applied).toString(),
  };
}

async function insertLines(tx: Tx, invoiceId: string, invoice: NewInvoice): Promise<void> {
  const { lines, discounts = [] } = invoice;
  for (const [position, line] of lines.entries()) {
    await tx('invoice_lines').insert({
      id: newId('line'),
      invoice_id: invoiceId,
      position,
      kind: line.kind,
      charge_id: line.chargeId,
      meter_id: line.meterId,
      plan_version_id: line.planVersionId,
      description: line.description,
      label: line.label,
      quantity: line.quantity?.toString() ?? null,
      unit_price: line.unitPrice,
      amount_minor: line.amountMinor.toString(),
      discount_minor: sumOf(discounts.map(({ shares }) => shares[position] ?? 0n)).toString(),
      covers_start_at: instantOf(line.covers?.startMs),
      covers_end_at: instantOf(line.covers?.endMs),
      details: JSON.stringify(line.details),
    });
  }
}

function instantOf(ms: number | undefined): Date | null {
  return ms === undefined ? null : new Date(ms);
}

async function finalize(
  tx: Tx,
  args: { readonly invoiceId: string; readonly invoice: NewInvoice; readonly at: Date },
): Promise<void> {
  const { invoice, at } = args;
  const { series, place, number } = await nextNumber(tx, invoice.environment, { kind: 'INV', at });
  const amountDueMinor = invoice.totalMinor - balanceAppliedOf(invoice);
  const final = finalState({ state: 'draft' }, { number, amountDueMinor, atMs: at.getTime() });
  await tx.raw(
    `UPDATE invoices SET state = :state, payment_status = 'none', series = :series, number_in_series = :place,
            number = :number, content_digest = :digest, finalized_at = :at, paid_at = :paid_at, paid_by = :paid_by
     WHERE id = :id`,
    {
      id: args.invoiceId,
      state: final.state,
      series,
      place,
      number,
      digest: digestOf(invoice, number),
      at,
      paid_at: final.state === 'paid' ? at : null,
      paid_by: final.state === 'paid' ? final.by : null,
    },
  );
}

export type SeriesNumber = {
  readonly series: string;
  readonly place: number;
  /** `INV-2025-0042`. */
  readonly number: string;
};

/**
 * The next number of a series: invoices and credit notes have one for each environment and year. The lock on its row is
 * held until the transaction ends: a number that is taken is a number that is used.
 */
export async function nextNumber(
  tx: Tx,
  environment: string,
  of: { readonly kind: 'INV' | 'CN'; readonly at: Date },
): Promise<SeriesNumber> {
  const series = `${of.kind}-${of.at.getUTCFullYear()}`;
  const row = await insertedRow<{ last_number: number }>(
    tx,
    `INSERT INTO invoice_series (environment, series, last_number) VALUES (?, ?, 1)
     ON CONFLICT (environment, series) DO UPDATE SET last_number = invoice_series.last_number + 1
     RETURNING last_number`,
    [environment, series],
  );
  const place = row.last_number;
  return { series, place, number: `${series}-${place.toString().padStart(4, '0')}` };
}

/** SHA-256 over everything that the customer is told, so that a later copy can be shown to be the same. */
function digestOf(invoice: NewInvoice, number: string): Buffer {
  const content = JSON.stringify({ number, ...invoice }, (_, value: unknown) =>
    typeof value === 'bigint' ? value.toString() : value,
  );
  return createHash('sha256').update(content).digest();
}

async function postInvoice(tx: Tx, invoiceId: string, invoice: NewInvoice): Promise<void> {
  const discountMinor = discountOf(invoice);
  const taxIncluded = invoice.taxIncluded ?? false;
  const entries = invoiceEntries({ ...invoice, discountMinor, taxIncluded });
  if (entries.length === 0) return;
  await postLedger(tx, {
    environment: invoice.environment,
    kind: 'invoice',
    businessKey: `invoice:${invoiceId}`,
    entries,
  });
}

/** What an invoice says that is owed, and for what: net of discounts, and of the tax that prices hold. */
export function invoiceEntries(
  invoice: Pick<
    Invoice,
    | 'currency'
    | 'kind'
    | 'subscriberId'
    | 'subtotalMinor'
    | 'discountMinor'
    | 'taxMinor'
    | 'taxIncluded'
    | 'totalMinor'
  >,
): readonly LedgerEntry[] {
  const { currency: asset, subscriberId, taxMinor, totalMinor } = invoice;
  // Credits that are paid but not yet used are owed as service: their revenue comes when they are spent.
  const kind = invoice.kind === 'top_up' ? 'deferred_revenue' : 'revenue';
  const entries: readonly LedgerEntry[] = [
    { asset, kind: 'receivable', subscriberId, amount: totalMinor },
    { asset, kind, subscriberId: null, amount: taxMinor - totalMinor },
    { asset, kind: 'tax_payable', subscriberId: null, amount: -taxMinor },
  ];
  return entries.filter((entry) => entry.amount !== 0n);
}

/** The balance pays a part of the receivable; of a negative total it takes over what the receivable is below zero. */
async function postBalance(tx: Tx, invoiceId: string, invoice: NewInvoice): Promise<void> {
  const applied = balanceAppliedOf(invoice);
  if (applied === 0n) return;
  const account = { asset: invoice.currency, subscriberId: invoice.subscriberId } as const;
  await postLedger(tx, {
    environment: invoice.environment,
    kind: 'balance',
    businessKey: `balance:${invoiceId}`,
    entries: [
      { ...account, kind: 'account_balance', amount: applied },
      { ...account, kind: 'receivable', amount: -applied },
    ],
  });
}

/** Says that its money has come. Only an open invoice changes; answers whether it did. */
export async function markInvoicePaid(tx: Tx, invoiceId: string, at: Date): Promise<boolean> {
  const rows = await selectRows(
    tx,
    `UPDATE invoices SET state = 'paid', payment_status = 'succeeded', paid_at = ?, paid_by = 'payment'
     WHERE id = ? AND state IN ('open', 'uncollectible') RETURNING id`,
    [at, invoiceId],
  );
  return rows.length === 1;
}

/** How the collection of an open invoice stands; a paid one keeps its own. */
export async function setPaymentStatus(
  tx: Tx,
  invoiceId: string,
  status: 'pending' | 'failed',
): Promise<void> {
  await tx.raw(
    `UPDATE invoices SET payment_status = ? WHERE id = ? AND state = 'open' AND payment_status <> ?`,
    [status, invoiceId, status],
  );
}

/** Whether an invoice of the subscription is unpaid although everything was tried, or was given up. */
export async function hasFailedInvoice(db: Reader, subscriptionId: string): Promise<boolean> {
  const row = await selectRow(
    db,
    `SELECT 1 FROM invoices WHERE subscription_id = ?
       AND (state = 'uncollectible' OR (state = 'open' AND payment_status = 'failed')) LIMIT 1`,
    [subscriptionId],
  );
  return row !== null;
}
