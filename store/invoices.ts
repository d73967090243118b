/**
 * Invoices: draft → open or paid, each transition in the transaction of what it follows from. A final invoice never
 * changes but in its state and payment; Postgres refuses everything else.
 */
import { createHash } from 'node:crypto';

import type { LineDetails } from '../billing/line.ts';
import { lockAccountBalance, readAccountBalance } from './account-balance.ts';
import type { Reader, Tx } from './db.ts';
import { newId } from './ids.ts';
import type { InvoiceDocument } from './invoice-document.ts';
import { postLedger } from './ledger.ts';
import { insertedRow, selectRow, selectRows } from './query.ts';

export type InvoiceKind = 'period' | 'change' | 'threshold' | 'top_up';
export type InvoiceState = 'draft' | 'open' | 'paid' | 'void' | 'uncollectible';

export const invoiceKeys = {
  period: (subscriptionId: string, periodSeq: number, issue: number) =>
    `period:${subscriptionId}:${periodSeq}:${issue}`,
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
  readonly taxMinor: bigint;
  readonly totalMinor: bigint;
  /** As on `NewInvoice`. */
  readonly balanceAppliedMinor: bigint;
  /** Total − balance applied; never below zero. */
  readonly amountDueMinor: bigint;
  readonly finalizedAt: Date | null;
  readonly paidAt: Date | null;
};

const columns = `id, environment, subscriber_id AS "subscriberId", subscription_id AS "subscriptionId",
  period_id AS "periodId", kind, business_key AS "businessKey", state, payment_status AS "paymentStatus", number,
  currency, subtotal_minor AS "subtotalMinor", tax_minor AS "taxMinor", total_minor AS "totalMinor",
  balance_applied_minor AS "balanceAppliedMinor", amount_due_minor AS "amountDueMinor",
  finalized_at AS "finalizedAt", paid_at AS "paidAt"`;

/** Throws when there is none. */
export async function readInvoice(db: Reader, invoiceId: string): Promise<Invoice> {
  return insertedRow<Invoice>(db, `SELECT ${columns} FROM invoices WHERE id = ?`, [invoiceId]);
}

/** The invoice of a business fact, whatever its state. */
export async function findInvoice(db: Reader, businessKey: string): Promise<Invoice | null> {
  return selectRow<Invoice>(db, `SELECT ${columns} FROM invoices WHERE business_key = ?`, [
    businessKey,
  ]);
}

/**
 * Issues an invoice: writes it with its lines, takes the next number of its environment and year, freezes it, and posts
 * what is owed (receivable +, revenue or, for a top-up, deferred revenue −, tax payable −) and what the account balance
 * gives to it or, of a negative total, gets from it. Nothing to pay: paid at once.
 * Repeating a `businessKey` changes nothing and answers the invoice that is there.
 * @throws RangeError when its sums do not hold, or it takes more than the balance.
 */
export async function issueInvoice(tx: Tx, invoice: NewInvoice, at: Date): Promise<Invoice> {
  requireSums(invoice);
  const known = await findInvoice(tx, invoice.businessKey);
  if (known !== null) return known;
  await requireBalance(tx, invoice);
  const invoiceId = await insertDraft(tx, invoice);
  await insertLines(tx, invoiceId, invoice.lines);
  await finalize(tx, { invoiceId, invoice, at });
  await postInvoice(tx, invoiceId, invoice);
  await postBalance(tx, invoiceId, invoice);
  return readInvoice(tx, invoiceId);
}

function requireSums(invoice: NewInvoice): void {
  const sum = invoice.lines.reduce((total, line) => total + line.amountMinor, 0n);
  if (sum !== invoice.subtotalMinor) {
    throw new RangeError(`lines of ${sum} do not make a subtotal of ${invoice.subtotalMinor}`);
  }
  if (invoice.subtotalMinor + invoice.taxMinor !== invoice.totalMinor) {
    throw new RangeError(`subtotal and tax do not make a total of ${invoice.totalMinor}`);
  }
  const applied = balanceAppliedOf(invoice);
  if (applied > invoice.totalMinor || (applied < 0n && applied !== invoice.totalMinor)) {
    throw new RangeError(`a total of ${invoice.totalMinor} takes no balance of ${applied}`);
  }
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

async function insertDraft(tx: Tx, invoice: NewInvoice): Promise<string> {
  const row = await insertedRow<{ id: string }>(
    tx,
    `INSERT INTO invoices (id, environment, subscriber_id, subscription_id, period_id, kind, business_key, state, currency,
                           subtotal_minor, tax_minor, total_minor, balance_applied_minor, amount_due_minor, period_start_at,
                           period_end_at, document)
     VALUES (:id, :environment, :subscriber_id, :subscription_id, :period_id, :kind, :business_key, 'draft', :currency,
             :subtotal, :tax, :total, :applied, :due, :period_start_at, :period_end_at, :document)
     RETURNING id`,
    {
      id: newId('inv'),
      environment: invoice.environment,
      subscriber_id: invoice.subscriberId,
      subscription_id: invoice.subscriptionId,
      period_id: invoice.periodId,
      kind: invoice.kind,
      business_key: invoice.businessKey,
      currency: invoice.currency,
      subtotal: invoice.subtotalMinor,
      tax: invoice.taxMinor,
      total: invoice.totalMinor,
      applied: balanceAppliedOf(invoice),
      due: invoice.totalMinor - balanceAppliedOf(invoice),
      period_start_at: invoice.periodStartAt,
      period_end_at: invoice.periodEndAt,
      document: JSON.stringify(invoice.document),
    },
  );
  return row.id;
}

async function insertLines(tx: Tx, invoiceId: string, lines: readonly NewLine[]): Promise<void> {
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
      details: JSON.stringify(line.details),
    });
  }
}

async function finalize(
  tx: Tx,
  args: { readonly invoiceId: string; readonly invoice: NewInvoice; readonly at: Date },
): Promise<void> {
  const { invoice, at } = args;
  const series = `INV-${at.getUTCFullYear()}`;
  const place = await nextNumber(tx, invoice.environment, series);
  const number = `${series}-${place.toString().padStart(4, '0')}`;
  const isPaid = invoice.totalMinor === balanceAppliedOf(invoice);
  await tx.raw(
    `UPDATE invoices SET state = :state, payment_status = 'none', series = :series, number_in_series = :place,
            number = :number, content_digest = :digest, finalized_at = :at, paid_at = :paid_at
     WHERE id = :id`,
    {
      id: args.invoiceId,
      state: isPaid ? 'paid' : 'open',
      series,
      place,
      number,
      digest: digestOf(invoice, number),
      at,
      paid_at: isPaid ? at : null,
    },
  );
}

/** The lock on the series' row is held until the transaction ends: a number that is taken is a number that is used. */
async function nextNumber(tx: Tx, environment: string, series: string): Promise<number> {
  const row = await insertedRow<{ last_number: number }>(
    tx,
    `INSERT INTO invoice_series (environment, series, last_number) VALUES (?, ?, 1)
     ON CONFLICT (environment, series) DO UPDATE SET last_number = invoice_series.last_number + 1
     RETURNING last_number`,
    [environment, series],
  );
  return row.last_number;
}

/** SHA-256 over everything that the customer is told, so that a later copy can be shown to be the same. */
function digestOf(invoice: NewInvoice, number: string): Buffer {
  const content = JSON.stringify({ number, ...invoice }, (_, value: unknown) =>
    typeof value === 'bigint' ? value.toString() : value,
  );
  return createHash('sha256').update(content).digest();
}

async function postInvoice(tx: Tx, invoiceId: string, invoice: NewInvoice): Promise<void> {
  const asset = invoice.currency;
  // Credits that are paid but not yet used are owed as service: their revenue comes when they are spent.
  const earned = invoice.kind === 'top_up' ? 'deferred_revenue' : 'revenue';
  const entries = [
    {
      asset,
      kind: 'receivable' as const,
      subscriberId: invoice.subscriberId,
      amount: invoice.totalMinor,
    },
    { asset, kind: earned, subscriberId: null, amount: -invoice.subtotalMinor } as const,
    { asset, kind: 'tax_payable' as const, subscriberId: null, amount: -invoice.taxMinor },
  ].filter((entry) => entry.amount !== 0n);
  if (entries.length === 0) return;
  await postLedger(tx, {
    environment: invoice.environment,
    kind: 'invoice',
    businessKey: `invoice:${invoiceId}`,
    entries,
  });
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
    `UPDATE invoices SET state = 'paid', payment_status = 'succeeded', paid_at = ?
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

/** Whether a period of the subscription is unpaid although everything was tried. */
export async function hasFailedInvoice(db: Reader, subscriptionId: string): Promise<boolean> {
  const row = await selectRow(
    db,
    `SELECT 1 FROM invoices WHERE subscription_id = ? AND state = 'open' AND payment_status = 'failed' LIMIT 1`,
    [subscriptionId],
  );
  return row !== null;
}
