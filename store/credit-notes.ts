/**
 * Credit notes: what is given back of a final invoice, which itself never changes. Each takes its total first off what is
 * still due; the rest goes to the account balance, or back through the payment that brought it.
 */
import {
  type CreditNote as CreditAmounts,
  creditNote,
  type CreditableInvoice,
  type CreditRequest,
} from '../billing/credit-note.ts';
import { formatCreditUnits } from '../billing/credits.ts';
import { formatAmount, type Currency, isCurrency } from '../billing/money.ts';
import { type TaxLine, taxLabel } from '../billing/tax.ts';
import type { Tx } from './db.ts';
import { newId } from './ids.ts';
import { type InvoiceDocument, taxationOf } from './invoice-document.ts';
import { readInvoiceMoney, type InvoiceMoney } from './invoice-money.ts';
import { type Invoice, lockInvoice, nextNumber } from './invoices.ts';
import { type LedgerEntry, postLedger } from './ledger.ts';
import { insertedRow, selectRow, selectRows } from './query.ts';
import { insertRefund } from './refunds.ts';

export type CreditReason =
  | 'duplicate'
  | 'mistake'
  | 'service_issue'
  | 'goodwill'
  | 'cancellation'
  | 'other';

/** What a printed credit note says besides its lines; amounts are decimal strings in its currency. */
export type CreditNoteDocument = Pick<
  InvoiceDocument,
  | 'subscriber'
  | 'operator'
  | 'locale'
  | 'time_zone'
  | 'taxes'
  | 'tax_included'
  | 'notes'
  | 'taxation'
> & { readonly v: 1; readonly invoice_number: string };

export type CreditNote = {
  readonly id: string;
  readonly invoiceId: string;
  readonly number: string;
  readonly totalMinor: bigint;
  readonly dueReducedMinor: bigint;
  readonly balanceMinor: bigint;
  readonly refundMinor: bigint;
};

export type CreditNoteIssue =
  | {
      readonly kind: 'issued';
      readonly note: CreditNote;
      /** The refund to carry out; null: nothing is refunded. */
      readonly refundId: string | null;
    }
  /** The line (by its position) does not exist, or less of it is left than was asked for. */
  | {
      readonly kind: 'refused';
      readonly code: 'above_line';
      readonly position: number;
      readonly leftMinor: bigint;
    }
  | {
      readonly kind: 'refused';
      readonly code:
        | 'nothing_to_credit'
        | 'not_creditable'
        | 'payment_in_progress'
        | 'nothing_to_refund';
    };

export type NewCreditNote = {
  readonly invoiceId: string;
  /** The business fact: a repeat answers the note that is there. */
  readonly businessKey: string;
  readonly request: CreditRequest;
  readonly reason: CreditReason;
  readonly memo?: string;
  readonly to: 'balance' | 'refund';
  readonly actor: string;
  readonly at: Date;
  /**
   * `refuse`: while an attempt to take the invoice's money is under way nothing is credited. Default `leave_due`: then
   * the whole total goes to the account balance, and what the attempt takes stays due.
   */
  readonly whilePaying?: 'refuse' | 'leave_due';
  /** Of the invoice of a top-up: the credits that were taken back for it (`store/take-backs.ts`). */
  readonly credits?: { readonly micro: bigint; readonly unit: string };
};

const columns = `id, invoice_id AS "invoiceId", number, total_minor AS "totalMinor",
  due_reduced_minor AS "dueReducedMinor", balance_minor AS "balanceMinor", refund_minor AS "refundMinor"`;

type Line = {
  readonly id: string;
  readonly charge_id: string | null;
  readonly description: string;
  readonly amount_minor: bigint;
  readonly discount_minor: bigint;
};

/**
 * Credits the whole of what is left of an invoice, or amounts of its lines, under the invoice's lock, so that two notes
 * at once never credit more than a line. An open invoice of which nothing stays due is paid. The number comes from a
 * series of credit notes without gaps. Repeating a `businessKey` changes nothing.
 */
export async function issueCreditNote(tx: Tx, of: NewCreditNote): Promise<CreditNoteIssue> {
  const invoice = await lockInvoice(tx, of.invoiceId);
  const known = await findByKey(tx, of.businessKey);
  if (known !== null) return known;
  if (invoice.kind === 'top_up' && of.credits === undefined) {
    throw new RangeError('the invoice of a top-up is credited for credits that were taken back');
  }
  if (invoice.state === 'draft' || invoice.state === 'void') {
    return { kind: 'refused', code: 'not_creditable' };
  }
  const money = await readInvoiceMoney(tx, invoice);
  if (money.isPaying && of.whilePaying === 'refuse') {
    return { kind: 'refused', code: 'payment_in_progress' };
  }
  const lines = await readLines(tx, invoice.id);
  const document = await readDocument(tx, invoice.id);
  const result = creditNote(
    creditable(lines, document),
    await creditedBefore(tx, invoice.id),
    of.request,
  );
  if (result.kind === 'above_line') return { ...result, kind: 'refused', code: 'above_line' };
  if (result.kind === 'nothing_to_credit' || result.note.totalMinor <= 0n) {
    return { kind: 'refused', code: 'nothing_to_credit' };
  }
  const split = splitOf(result.note.totalMinor, money, of.to);
  if (of.to === 'refund' && split.refundMinor === 0n && split.balanceMinor > 0n) {
    return { kind: 'refused', code: 'nothing_to_refund' };
  }
  return write(tx, of, { invoice, money, document, lines, amounts: result.note, split });
}

async function findByKey(tx: Tx, businessKey: string): Promise<CreditNoteIssue | null> {
  const note = await selectRow<CreditNote>(
    tx,
    `SELECT ${columns} FROM credit_notes WHERE business_key = ?`,
    [businessKey],
  );
  if (note === null) return null;
  const refund = await selectRow<{ id: string }>(
    tx,
    'SELECT id FROM refunds WHERE credit_note_id = ?',
    [note.id],
  );
  return { kind: 'issued', note, refundId: refund?.id ?? null };
}

async function readLines(tx: Tx, invoiceId: string): Promise<readonly Line[]> {
  return selectRows<Line>(
    tx,
    `SELECT id, charge_id, description, amount_minor, discount_minor FROM invoice_lines
     WHERE invoice_id = ? ORDER BY position`,
    [invoiceId],
  );
}

async function readDocument(tx: Tx, invoiceId: string): Promise<InvoiceDocument> {
  const row = await insertedRow<{ document: InvoiceDocument }>(
    tx,
    'SELECT document FROM invoices WHERE id = ?',
    [invoiceId],
  );
  return row.document;
}

/** All discounts as one: how a line's discount goes back does not depend on which coupon took it. */
function creditable(lines: readonly Line[], document: InvoiceDocument): CreditableInvoice {
  const shares = lines.map((line) => line.discount_minor);
  return {
    lines: lines.map((line) => ({ chargeId: line.charge_id, amountMinor: line.amount_minor })),
    discounts: [
      {
        couponId: '',
        name: '',
        amountMinor: shares.reduce((sum, share) => sum + share, 0n),
        shares,
      },
    ],
    taxation: taxationOf(document),
  };
}

async function creditedBefore(tx: Tx, invoiceId: string): Promise<ReadonlyMap<number, bigint>> {
  const rows = await selectRows<{ position: number; minor: bigint }>(
    tx,
    `SELECT l.position, sum(c.amount_minor)::numeric(38,0) AS minor
     FROM credit_note_lines c JOIN invoice_lines l ON l.id = c.invoice_line_id
     WHERE l.invoice_id = ? GROUP BY l.position`,
    [invoiceId],
  );
  return new Map(rows.map(({ position, minor }) => [position, minor]));
}

type Split = {
  readonly dueReducedMinor: bigint;
  readonly balanceMinor: bigint;
  readonly refundMinor: bigint;
};

/** A refund gives back no more than the provider took; the rest of it goes to the balance. */
function splitOf(totalMinor: bigint, money: InvoiceMoney, to: 'balance' | 'refund'): Split {
  const dueReducedMinor = money.isPaying ? 0n : lesser(totalMinor, money.dueMinor);
  const rest = totalMinor - dueReducedMinor;
  const refundMinor = to === 'refund' ? lesser(rest, money.refundableMinor) : 0n;
  return { dueReducedMinor, refundMinor, balanceMinor: rest - refundMinor };
}

function lesser(a: bigint, b: bigint): bigint {
  return a < b ? a : b;
}

type Parts = {
  readonly invoice: Invoice;
  readonly money: InvoiceMoney;
  readonly document: InvoiceDocument;
  readonly lines: readonly Line[];
  readonly amounts: CreditAmounts;
  readonly split: Split;
};

async function write(tx: Tx, of: NewCreditNote, parts: Parts): Promise<CreditNoteIssue> {
  const { invoice, amounts, split, money } = parts;
  const note = await insertNote(tx, of, parts);
  await insertLines(tx, { noteId: note.id, of, parts });
  await postLedger(tx, {
    environment: invoice.environment,
    kind: 'credit_note',
    businessKey: `credit_note:${note.id}`,
    entries: entriesOf(invoice, amounts, split),
  });
  const refundId =
    split.refundMinor > 0n && money.paymentId !== null
      ? await insertRefund(tx, {
          environment: invoice.environment,
          subscriberId: invoice.subscriberId,
          creditNoteId: note.id,
          paymentId: money.paymentId,
          amountMinor: split.refundMinor,
          currency: invoice.currency,
        })
      : null;
  if (split.dueReducedMinor > 0n && split.dueReducedMinor === money.dueMinor) {
    await tx.raw(
      `UPDATE invoices SET state = 'paid', payment_status = 'none', paid_at = ?, paid_by = 'nothing_due' WHERE id = ?`,
      [of.at, invoice.id],
    );
  }
  return { kind: 'issued', note, refundId };
}

async function insertNote(tx: Tx, of: NewCreditNote, parts: Parts): Promise<CreditNote> {
  const { invoice, amounts, split } = parts;
  const { series, place, number } = await nextNumber(tx, invoice.environment, {
    kind: 'CN',
    at: of.at,
  });
  return insertedRow<CreditNote>(
    tx,
    `INSERT INTO credit_notes (id, environment, invoice_id, subscriber_id, business_key, series, number_in_series, number,
       reason, memo, currency, subtotal_minor, discount_minor, tax_minor, total_minor, due_reduced_minor, balance_minor,
       refund_minor, document, actor, created_at)
     VALUES (:id, :environment, :invoice, :subscriber, :business_key, :series, :place, :number, :reason, :memo, :currency,
       :subtotal, :discount, :tax, :total, :due_reduced, :balance, :refund, :document, :actor, :at)
     RETURNING ${columns}`,
    {
      id: newId('cn'),
      environment: invoice.environment,
      invoice: invoice.id,
      subscriber: invoice.subscriberId,
      business_key: of.businessKey,
      series,
      place,
      number,
      reason: of.reason,
      memo: of.memo ?? null,
      currency: invoice.currency,
      subtotal: amounts.subtotalMinor,
      discount: amounts.discountMinor,
      tax: amounts.taxMinor,
      total: amounts.totalMinor,
      due_reduced: split.dueReducedMinor,
      balance: split.balanceMinor,
      refund: split.refundMinor,
      document: JSON.stringify(documentOf(parts)),
      actor: of.actor,
      at: of.at,
    },
  );
}

function documentOf({ invoice, document, amounts }: Parts): CreditNoteDocument {
  const { subscriber, operator, locale, time_zone, tax_included, notes, taxation } = document;
  const currency = currencyOf(invoice);
  return {
    v: 1,
    invoice_number: invoice.number ?? '',
    subscriber,
    time_zone,
    ...(operator === undefined ? {} : { operator }),
    ...(locale === undefined ? {} : { locale }),
    ...(tax_included === undefined ? {} : { tax_included }),
    ...(notes === undefined ? {} : { notes }),
    ...(taxation === undefined ? {} : { taxation }),
    taxes: amounts.taxes.map((tax) => taxOf(tax, currency)),
  };
}

function currencyOf({ currency }: Invoice): Currency {
  if (!isCurrency(currency)) throw new RangeError(`${currency} is not a currency of ours`);
  return currency;
}

function taxOf(tax: TaxLine, currency: Currency): InvoiceDocument['taxes'][number] {
  return {
    label: taxLabel(tax),
    percent: tax.percent,
    base: formatAmount(tax.baseMinor, currency),
    amount: formatAmount(tax.amountMinor, currency),
  };
}

async function insertLines(
  tx: Tx,
  args: { readonly noteId: string; readonly of: NewCreditNote; readonly parts: Parts },
): Promise<void> {
  const { noteId, of } = args;
  const { lines, amounts } = args.parts;
  for (const [position, credited] of amounts.lines.entries()) {
    const line = lines[credited.position];
    if (line === undefined) throw new Error(`the invoice has no line ${credited.position}`);
    await tx('credit_note_lines').insert({
      credit_note_id: noteId,
      position,
      invoice_line_id: line.id,
      description:
        of.credits === undefined
          ? line.description
          : `Credits taken back (${formatCreditUnits(of.credits.micro, of.credits.unit)})`,
      amount_minor: credited.amountMinor.toString(),
      discount_minor: credited.discountMinor.toString(),
    });
  }
}

/** Revenue (of a top-up, what was still owed as service) and tax are taken back; of an invoice that was given up the loss shrinks instead of what is owed. */
function entriesOf(invoice: Invoice, amounts: CreditAmounts, split: Split): readonly LedgerEntry[] {
  const { currency: asset, subscriberId } = invoice;
  const owed: Pick<LedgerEntry, 'kind' | 'subscriberId'> =
    invoice.state === 'uncollectible'
      ? { kind: 'bad_debt', subscriberId: null }
      : { kind: 'receivable', subscriberId };
  const entries: readonly LedgerEntry[] = [
    {
      asset,
      kind: invoice.kind === 'top_up' ? 'deferred_revenue' : 'revenue',
      subscriberId: null,
      amount: amounts.totalMinor - amounts.taxMinor,
    },
    { asset, kind: 'tax_payable', subscriberId: null, amount: amounts.taxMinor },
    { asset, ...owed, amount: -split.dueReducedMinor },
    { asset, kind: 'account_balance', subscriberId, amount: -split.balanceMinor },
    { asset, kind: 'refund_payable', subscriberId, amount: -split.refundMinor },
  ];
  return entries.filter((entry) => entry.amount !== 0n);
}
