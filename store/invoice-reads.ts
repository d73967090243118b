/** Invoices as they are shown: with their lines and the document that was frozen with them. */
import type { LineDetails } from '../billing/line.ts';
import type { Reader } from './db.ts';
import type { InvoiceDocument } from './invoice-document.ts';
import type { InvoiceKind } from './invoices.ts';
import {
  selectPage,
  selectRow,
  selectRows,
  type Environment,
  type Page,
  type PageArgs,
} from './query.ts';

export type InvoiceRead = {
  readonly id: string;
  readonly environment: Environment;
  readonly subscriber_id: string;
  readonly subscription_id: string | null;
  readonly period_id: string | null;
  readonly kind: InvoiceKind;
  readonly state: 'draft' | 'open' | 'paid' | 'void' | 'uncollectible';
  readonly payment_status: 'none' | 'pending' | 'succeeded' | 'failed';
  readonly number: string | null;
  readonly currency: string;
  readonly subtotal_minor: bigint;
  readonly discount_minor: bigint;
  readonly tax_minor: bigint;
  readonly tax_included: boolean;
  readonly total_minor: bigint;
  /** Taken from the account balance; below zero: given to it. */
  readonly balance_applied_minor: bigint;
  /** As it was issued. */
  readonly amount_due_minor: bigint;
  /** The totals of its credit notes, and what of them was taken off what was due. */
  readonly credited_minor: bigint;
  readonly due_reduced_minor: bigint;
  readonly period_start_at: Date | null;
  readonly period_end_at: Date | null;
  readonly document: InvoiceDocument;
  readonly created_at: Date;
  /** When a draft becomes final by itself. */
  readonly finalize_at: Date | null;
  readonly finalized_at: Date | null;
  readonly paid_at: Date | null;
  readonly paid_by: 'payment' | 'out_of_band' | 'nothing_due' | null;
  readonly paid_reference: string | null;
  readonly voided_at: Date | null;
  readonly void_reason: string | null;
  /** When it was found uncollectible. */
  readonly given_up_at: Date | null;
  /** The void invoice that it stands for, and the one that stands for it. */
  readonly reissue_of: string | null;
  readonly reissued_as: string | null;
};

export type InvoiceLineRead = {
  readonly id: string;
  readonly invoice_id: string;
  readonly position: number;
  readonly kind: 'recurring' | 'usage' | 'overage' | 'one_time' | 'adjustment' | 'top_up';
  readonly charge_id: string | null;
  readonly meter_id: string | null;
  readonly plan_version_id: string | null;
  readonly description: string;
  readonly label: string | null;
  readonly quantity: bigint | null;
  readonly unit_price: string | null;
  readonly amount_minor: bigint;
  /** Its share of the discounts. */
  readonly discount_minor: bigint;
  /** The time that a fee is for. */
  readonly covers_start_at: Date | null;
  readonly covers_end_at: Date | null;
  readonly details: LineDetails | { readonly top_up_id: string };
};

const columns = `t.id, t.environment, t.subscriber_id, t.subscription_id, t.period_id, t.kind, t.state, t.payment_status,
  t.number, t.currency, t.subtotal_minor, t.discount_minor, t.tax_minor, t.tax_included, t.total_minor,
  t.balance_applied_minor, t.amount_due_minor, t.period_start_at, t.period_end_at, t.document, t.created_at, t.finalize_at,
  t.finalized_at, t.paid_at, t.paid_by, t.paid_reference, t.voided_at, t.void_reason, t.given_up_at, t.reissue_of,
  (SELECT r.id FROM invoices r WHERE r.reissue_of = t.id) AS reissued_as,
  (SELECT coalesce(sum(n.total_minor), 0)::numeric(38,0) FROM credit_notes n WHERE n.invoice_id = t.id) AS credited_minor,
  (SELECT coalesce(sum(n.due_reduced_minor), 0)::numeric(38,0) FROM credit_notes n WHERE n.invoice_id = t.id)
    AS due_reduced_minor`;

/** One invoice of the environment by id or number. */
export async function findInvoiceRead(
  reader: Reader,
  environment: Environment,
  ref: string,
): Promise<InvoiceRead | null> {
  return selectRow(
    reader,
    `SELECT ${columns} FROM invoices t WHERE t.environment = ? AND (t.id = ? OR t.number = ?)`,
    [environment, ref, ref],
  );
}

export async function listInvoices(
  reader: Reader,
  filter: {
    readonly environment: Environment;
    readonly subscriberId: string | null;
    readonly subscriptionId: string | null;
    readonly periodId: string | null;
    readonly state?: InvoiceRead['state'] | null;
  },
  page: PageArgs,
): Promise<Page<InvoiceRead>> {
  return selectPage(
    reader,
    {
      columns,
      from: 'invoices t',
      where: `t.environment = :environment AND (:subscriber::text IS NULL OR t.subscriber_id = :subscriber)
        AND (:subscription::text IS NULL OR t.subscription_id = :subscription)
        AND (:period::text IS NULL OR t.period_id = :period)
        AND (:state::text IS NULL OR t.state = :state)`,
      bindings: {
        environment: filter.environment,
        subscriber: filter.subscriberId,
        subscription: filter.subscriptionId,
        period: filter.periodId,
        state: filter.state ?? null,
      },
    },
    page,
  );
}

export async function listInvoiceLines(
  reader: Reader,
  invoiceIds: readonly string[],
): Promise<readonly InvoiceLineRead[]> {
  return selectRows(
    reader,
    `SELECT * FROM invoice_lines WHERE invoice_id = ANY (?::text[]) ORDER BY invoice_id, position`,
    [invoiceIds],
  );
}
