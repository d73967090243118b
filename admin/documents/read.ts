/** Reads a document with all that is printed on it. */
import { listCreditNoteLines, listCreditNotesOf } from '../../store/credit-note-reads.ts';
import type { CreditNoteRead } from '../../store/credit-note-reads.ts';
import type { Reader } from '../../store/db.ts';
import { findInvoiceRead, type InvoiceRead, listInvoiceLines } from '../../store/invoice-reads.ts';
import { printCreditNote } from './print-credit-note.ts';
import { printInvoice } from './print-invoice.ts';
import type { PrintedDocument } from './printed-document.ts';

/** The invoice with its lines, and with the credit notes against it. */
export async function readPrintedInvoice(
  db: Reader,
  invoice: InvoiceRead,
): Promise<PrintedDocument> {
  return printInvoice(invoice, {
    lines: await listInvoiceLines(db, [invoice.id]),
    creditNotes: await listCreditNotesOf(db, invoice.id),
    replaces: await numberOf(db, invoice, invoice.reissue_of),
    replacedBy: await numberOf(db, invoice, invoice.reissued_as),
  });
}

async function numberOf(
  db: Reader,
  { environment }: InvoiceRead,
  invoiceId: string | null,
): Promise<string | null> {
  if (invoiceId === null) return null;
  return (await findInvoiceRead(db, environment, invoiceId))?.number ?? null;
}

/** The credit note with its lines. */
export async function readPrintedCreditNote(
  db: Reader,
  note: CreditNoteRead,
): Promise<PrintedDocument> {
  return printCreditNote(note, await listCreditNoteLines(db, [note.id]));
}
