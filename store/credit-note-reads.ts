/** Credit notes as they are shown: with their lines and the document that was frozen with them. */
import type { CreditNoteDocument, CreditReason } from './credit-notes.ts';
import type { Reader } from './db.ts';
import {
  selectPage,
  selectRow,
  selectRows,
  type Environment,
  type Page,
  type PageArgs,
} from './query.ts';

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
  /** What became of the refund; null: nothing is refunded. What failed is account balance since. */
  readonly refund_id: string | null;
  readonly refund_state: 'pending' | 'succeeded' | 'failed' | null;
  readonly refund_failure_code: string | null;
  /** Of a top-up: what was taken back for it; both null: it is of another invoice. */
  readonly credits_micro: bigint | null;
  readonly credit_unit: string | null;
  readonly document: CreditNoteDocument;
  readonly created_at: Date;
};

/** Amounts are before discounts; both are what is given back. */
export type CreditNoteLineRead = {
  readonly credit_note_id: string;
  readonly position: number;
  readonly invoice_line_id: string;
  readonly description: string;
  readonly amount_minor: bigint;
  readonly discount_minor: bigint;
};

const columns = `t.id, t.environment, t.invoice_id, t.subscriber_id, t.number, t.reason, t.memo, t.currency,
  t.subtotal_minor, t.discount_minor, t.tax_minor, t.total_minor, t.due_reduced_minor, t.balance_minor, t.refund_minor,
  r.id AS refund_id, r.state AS refund_state, r.failure_code AS refund_failure_code, k.taken_micro AS credits_micro,
  w.unit AS credit_unit, t.document, t.created_at`;
const from = `credit_notes t LEFT JOIN refunds r ON r.credit_note_id = t.id
  LEFT JOIN take_backs k ON k.credit_note_id = t.id LEFT JOIN grants g ON g.id = k.grant_id
  LEFT JOIN wallets w ON w.id = g.wallet_id`;

/** One credit note of the environment by id or number. */
export async function findCreditNoteRead(
  reader: Reader,
  environment: Environment,
  ref: string,
): Promise<CreditNoteRead | null> {
  return selectRow(
    reader,
    `SELECT ${columns} FROM ${from} WHERE t.environment = ? AND (t.id = ? OR t.number = ?)`,
    [environment, ref, ref],
  );
}

/** Those of an invoice, oldest first. */
export async function listCreditNotesOf(
  reader: Reader,
  invoiceId: string,
): Promise<readonly CreditNoteRead[]> {
  return selectRows(
    reader,
    `SELECT ${columns} FROM ${from} WHERE t.invoice_id = ? ORDER BY t.created_at, t.number_in_series`,
    [invoiceId],
  );
}

/** Newest first. */
export async function listCreditNotes(
  reader: Reader,
  filter: {
    readonly environment: Environment;
    readonly subscriberId: string | null;
    readonly invoiceId: string | null;
  },
  page: PageArgs,
): Promise<Page<CreditNoteRead>> {
  return selectPage(
    reader,
    {
      columns,
      from,
      where: `t.environment = :environment AND (:subscriber::text IS NULL OR t.subscriber_id = :subscriber)
        AND (:invoice::text IS NULL OR t.invoice_id = :invoice)`,
      bindings: {
        environment: filter.environment,
        subscriber: filter.subscriberId,
        invoice: filter.invoiceId,
      },
    },
    page,
  );
}

/** The lines of some notes, in the order in which they stand on each. */
export async function listCreditNoteLines(
  reader: Reader,
  creditNoteIds: readonly string[],
): Promise<readonly CreditNoteLineRead[]> {
  return selectRows(
    reader,
    `SELECT credit_note_id, position, invoice_line_id, description, amount_minor, discount_minor FROM credit_note_lines
     WHERE credit_note_id = ANY (?::text[]) ORDER BY credit_note_id, position`,
    [creditNoteIds],
  );
}
