import { formatAmount, isCurrency } from '../billing/money.ts';
import type { InvoiceDraft } from '../billing/invoice.ts';
import { taxLabel } from '../billing/tax.ts';
import type { Reader } from './db.ts';
import { insertedRow, selectRow } from './query.ts';

/**
 * What a printed invoice says besides its lines, copied when it is finalized: a later change of a name or an address
 * changes no invoice. JSON; amounts are decimal strings in the invoice's currency.
 */
export type InvoiceDocument = {
  readonly v: 1;
  readonly subscriber: {
    readonly id: string;
    readonly lookup_id: string | null;
    readonly name: string;
    readonly email: string | null;
    readonly address: string | null;
    readonly tax_id: string | null;
  };
  /** Null on an invoice that belongs to no subscription. */
  readonly plan: {
    readonly id: string;
    readonly lookup_id: string;
    readonly name: string;
    readonly version: number;
    readonly product: string;
  } | null;
  readonly time_zone: string;
  readonly period_text: string | null;
  readonly taxes: readonly {
    readonly label: string;
    readonly percent: string;
    readonly base: string;
    readonly amount: string;
  }[];
};

/** For the invoice of a period. */
export async function readPeriodDocument(
  db: Reader,
  of: { readonly subscriberId: string; readonly subscriptionId: string; readonly timeZone: string },
  draft: InvoiceDraft,
): Promise<InvoiceDocument> {
  const amount = (minor: bigint): string => formatAmount(minor, draft.currency);
  return {
    v: 1,
    subscriber: await readSubscriber(db, of.subscriberId),
    plan: await readPlan(db, of.subscriptionId),
    time_zone: of.timeZone,
    period_text: draft.periodText,
    taxes: draft.taxes.map((tax) => ({
      label: taxLabel(tax),
      percent: tax.percent,
      base: amount(tax.baseMinor),
      amount: amount(tax.amountMinor),
    })),
  };
}

/** For the invoice of a top-up, which nothing is taxed on for now. */
export async function readTopUpDocument(
  db: Reader,
  of: { readonly subscriberId: string; readonly currency: string; readonly amountMinor: bigint },
): Promise<InvoiceDocument> {
  if (!isCurrency(of.currency)) throw new RangeError(`${of.currency} is not a currency of ours`);
  const subscriber = await insertedRow<{ time_zone: string }>(
    db,
    'SELECT time_zone FROM subscribers WHERE id = ?',
    [of.subscriberId],
  );
  return {
    v: 1,
    subscriber: await readSubscriber(db, of.subscriberId),
    plan: null,
    time_zone: subscriber.time_zone,
    period_text: null,
    taxes: [
      {
        label: 'Tax (0%)',
        percent: '0',
        base: formatAmount(of.amountMinor, of.currency),
        amount: formatAmount(0n, of.currency),
      },
    ],
  };
}

async function readSubscriber(
  db: Reader,
  subscriberId: string,
): Promise<InvoiceDocument['subscriber']> {
  return insertedRow(
    db,
    'SELECT id, lookup_id, name, email, address, tax_id FROM subscribers WHERE id = ?',
    [subscriberId],
  );
}

async function readPlan(db: Reader, subscriptionId: string): Promise<InvoiceDocument['plan']> {
  return selectRow(
    db,
    `SELECT p.id, p.lookup_id, p.name, v.version, d.name AS product
     FROM subscriptions s JOIN plans p ON p.id = s.plan_id JOIN plan_versions v ON v.id = s.plan_version_id
       JOIN products d ON d.id = s.product_id WHERE s.id = ?`,
    [subscriptionId],
  );
}
