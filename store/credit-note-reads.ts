/** Credit notes as they are shown: with their lines and the document that was frozen with them. */
import type { CreditNoteDocument, CreditReason } from './credit-notes.ts';
import type { Reader } from './db.ts';
import { selectRow, selectRows, type Environment } from './query.ts';

export type CreditNoteRead = {
  readonly id: string;
  readonly environment: Environment;
  readonly invoice_id: string;
  readonly subscriber_id: string;
  readonly number: string;
  readonly reason: CreditReason;
  readonly memo: string | null;
  readonly currency: string;
  readonly subtotal_minor: bigint;
  readonly discount_minor: bigint;
  readonly tax_minor: bigint;
  readonly total_minor: bigint;
  /** Where the total went: off what was still due, to the account balance, back through the payment. */
  readonly due_reduced_minor: bigint;
  readonly balance_minor: bigint;
  readonly refund_minor: bigint;
  readonly document: CreditNoteDocument;
  readonly created_at: Date;
};

/** Amounts are before discounts; both are what is given back. */
export type CreditNoteLineRead = {
  readonly position: number;
  readonly invoice_line_id: string;
  readonly description: string;
  readonly amount_minor: bigint;
  readonly discount_minor: bigint;
};

const columns = `id, environment, invoice_id, subscriber_id, number, reason, memo, currency, subtotal_minor, discount_minor,
  tax_minor, total_minor, due_reduced_minor, balance_minor, refund_minor, document, created_at`;

/** One credit note of the environment by id or number. */
export async function findCreditNoteRead(
  reader: Reader,
  environment: Environment,
  ref: string,
): Promise<CreditNoteRead | null> {
  return selectRow(
    reader,
    `SELECT ${columns} FROM credit_notes WHERE environment = ? AND (id = ? OR number = ?)`,
    [environment, ref, ref],
  );
}

/** In the order in which they stand on the note. */
export async function listCreditNoteLines(
  reader: Reader,
  creditNoteId: string,
): Promise<readonly CreditNoteLineRead[]> {
  return selectRows(
    reader,
    `SELECT position, invoice_line_id, description, amount_minor, discount_minor FROM credit_note_lines
     WHERE credit_note_id = ? ORDER BY position`,
    [creditNoteId],
  );
}

/** Those of an invoice, oldest first. */
export async function listCreditNotesOf(
  reader: Reader,
  invoiceId: string,
): Promise<readonly CreditNoteRead[]> {
  return selectRows(
    reader,
    `SELECT ${columns} FROM credit_notes WHERE invoice_id = ? ORDER BY created_at, number_in_series`,
    [invoiceId],
  );
}
