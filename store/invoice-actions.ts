/** What a person does with an invoice that is owed: withdraws it, says that it was paid elsewhere, gives it up. */
import { isOwed } from '../billing/invoice-state.ts';
import type { Tx } from './db.ts';
import { readInvoiceMoney } from './invoice-money.ts';
import { type Invoice, invoiceEntries, lockInvoice, readInvoice } from './invoices.ts';
import { type LedgerEntry, postLedger } from './ledger.ts';
import { selectRow } from './query.ts';

export type InvoiceAction =
  /** `changed` false: it was so before. */
  | { readonly kind: 'done'; readonly invoice: Invoice; readonly changed: boolean }
  | {
      readonly kind: 'refused';
      readonly code:
        /** It is not in a state that leads there. */
        | 'wrong_state'
        /** An attempt to take its money is under way. */
        | 'payment_in_progress'
        /** Money or credit notes have come to it: it can only be credited. */
        | 'has_credit_notes'
        | 'has_payments'
        /** It gives fees back that a change of plan ended: without it they would stay billed. */
        | 'gives_back';
      readonly invoice: Invoice;
    };

type Owed = { readonly invoice: Invoice; readonly dueMinor: bigint };

/**
 * Withdraws an invoice: what it posted is posted back, the balance that it took returns, its coupons count as unused,
 * and its period or its fees may be invoiced again. Its number stays taken.
 */
export async function voidInvoice(
  tx: Tx,
  of: { readonly invoiceId: string; readonly reason: string | null; readonly at: Date },
): Promise<InvoiceAction> {
  const invoice = await lockInvoice(tx, of.invoiceId);
  if (invoice.state === 'void') return { kind: 'done', invoice, changed: false };
  if (!isOwed(invoice.state)) return { kind: 'refused', code: 'wrong_state', invoice };
  const money = await readInvoiceMoney(tx, invoice);
  if (money.isPaying) return { kind: 'refused', code: 'payment_in_progress', invoice };
  if (money.paymentId !== null) return { kind: 'refused', code: 'has_payments', invoice };
  if (money.creditedMinor > 0n) return { kind: 'refused', code: 'has_credit_notes', invoice };
  if (await givesBack(tx, invoice)) return { kind: 'refused', code: 'gives_back', invoice };
  await post(tx, invoice, {
    kind: 'void',
    entries: [
      ...invoiceEntries(invoice)
        .filter((entry) => entry.kind !== 'receivable')
        .map((entry) => ({ ...entry, amount: -entry.amount })),
      { ...balanceOf(invoice), amount: -invoice.balanceAppliedMinor },
      { ...owedOf(invoice), amount: -money.dueMinor },
    ],
  });
  await tx.raw(
    `UPDATE invoices SET state = 'void', payment_status = 'none', voided_at = ?, void_reason = ? WHERE id = ?`,
    [of.at, of.reason, invoice.id],
  );
  return { kind: 'done', invoice: await readInvoice(tx, invoice.id), changed: true };
}

async function givesBack(tx: Tx, { id, kind }: Invoice): Promise<boolean> {
  if (kind !== 'change') return false;
  const line = await selectRow(
    tx,
    `SELECT 1 FROM invoice_lines WHERE invoice_id = ? AND amount_minor < 0 LIMIT 1`,
    [id],
  );
  return line !== null;
}

/** Says that all that is still due came another way: cash without the provider. */
export async function payOutOfBand(
  tx: Tx,
  of: { readonly invoiceId: string; readonly reference: string | null; readonly at: Date },
): Promise<InvoiceAction> {
  const owed = await requireOwed(tx, of.invoiceId, 'paid');
  if ('kind' in owed) return owed;
  const { invoice, dueMinor } = owed;
  await post(tx, invoice, {
    kind: 'out_of_band',
    entries: [
      { asset: invoice.currency, kind: 'cash', subscriberId: null, amount: dueMinor },
      { ...owedOf(invoice), amount: -dueMinor },
    ],
  });
  await tx.raw(
    `UPDATE invoices SET state = 'paid', payment_status = 'succeeded', paid_at = ?, paid_by = 'out_of_band', paid_reference = ?
     WHERE id = ?`,
    [of.at, of.reference, invoice.id],
  );
  return { kind: 'done', invoice: await readInvoice(tx, invoice.id), changed: true };
}

/** Gives up on the money: what is still due becomes a loss. It may still be paid elsewhere, credited or voided. */
export async function markUncollectible(
  tx: Tx,
  of: { readonly invoiceId: string; readonly at: Date },
): Promise<InvoiceAction> {
  const owed = await requireOwed(tx, of.invoiceId, 'uncollectible');
  if ('kind' in owed) return owed;
  const { invoice, dueMinor } = owed;
  const asset = invoice.currency;
  await post(tx, invoice, {
    kind: 'bad_debt',
    entries: [
      { asset, kind: 'bad_debt', subscriberId: null, amount: dueMinor },
      { ...owedOf(invoice), amount: -dueMinor },
    ],
  });
  await tx.raw(`UPDATE invoices SET state = 'uncollectible', given_up_at = ? WHERE id = ?`, [
    of.at,
    invoice.id,
  ]);
  return { kind: 'done', invoice: await readInvoice(tx, invoice.id), changed: true };
}

async function requireOwed(
  tx: Tx,
  invoiceId: string,
  wanted: 'paid' | 'uncollectible',
): Promise<Owed | InvoiceAction> {
  const invoice = await lockInvoice(tx, invoiceId);
  const isSo = invoice.state === wanted && (wanted !== 'paid' || invoice.paidBy === 'out_of_band');
  if (isSo) return { kind: 'done', invoice, changed: false };
  if (!isOwed(invoice.state)) return { kind: 'refused', code: 'wrong_state', invoice };
  const { isPaying, dueMinor } = await readInvoiceMoney(tx, invoice);
  if (isPaying) return { kind: 'refused', code: 'payment_in_progress', invoice };
  return { invoice, dueMinor };
}

/** Where what is due of it stands: with the subscriber, or among what was given up. */
function owedOf({ state, currency: asset, subscriberId }: Invoice): Omit<LedgerEntry, 'amount'> {
  return state === 'uncollectible'
    ? { asset, kind: 'bad_debt', subscriberId: null }
    : { asset, kind: 'receivable', subscriberId };
}

function balanceOf({ currency: asset, subscriberId }: Invoice): Omit<LedgerEntry, 'amount'> {
  return { asset, kind: 'account_balance', subscriberId };
}

async function post(
  tx: Tx,
  invoice: Invoice,
  what: { readonly kind: string; readonly entries: readonly LedgerEntry[] },
): Promise<void> {
  await postLedger(tx, {
    environment: invoice.environment,
    kind: what.kind,
    businessKey: `${what.kind}:${invoice.id}`,
    entries: what.entries.filter((entry) => entry.amount !== 0n),
  });
}
