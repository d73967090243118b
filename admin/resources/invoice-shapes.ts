/** Invoices and estimates as they go out. */
import { z } from 'zod';

import { byCoupon } from '../../billing/discount.ts';
import type { InvoiceDraft } from '../../billing/invoice.ts';
import { formatAmount, formatMoney, isCurrency, type Currency } from '../../billing/money.ts';
import { taxLabel } from '../../billing/tax.ts';
import type { InvoiceLineRead, InvoiceRead } from '../../store/invoice-reads.ts';
import type { Period } from '../../store/periods.ts';
import { amountText, instantText, wireInstant } from './shared.ts';

const lineFields = {
  kind: z.enum(['recurring', 'usage', 'overage', 'one_time', 'adjustment', 'top_up']),
  description: z.string(),
  label: z.string().nullable(),
  charge_id: z.string().nullable(),
  meter_id: z.string().nullable(),
  plan_version_id: z.string().nullable(),
  quantity: z.string().nullable().meta({
    description: "In the meter's smallest unit; micro-credits for overage and top-ups.",
  }),
  unit_price: z.string().nullable(),
  amount: amountText('In the currency of the invoice.'),
  details: z.record(z.string(), z.unknown()).meta({
    description: 'All that the amount was worked out from: model, tiers with their quantities.',
  }),
};
const InvoiceLine = z
  .strictObject({
    id: z.string(),
    ...lineFields,
    discount: amountText('Its share of the discounts.'),
    covers_start_at: instantText().nullable().meta({ description: 'The time that a fee is for.' }),
    covers_end_at: instantText().nullable(),
  })
  .meta({ id: 'InvoiceLine' });
const EstimateLine = z.strictObject(lineFields).meta({ id: 'EstimateLine' });

const taxes = z.array(
  z.strictObject({
    label: z.string(),
    percent: z.string(),
    base: z.string(),
    amount: z.string(),
  }),
);

const discounts = z
  .array(z.strictObject({ name: z.string(), amount: z.string() }))
  .meta({ description: 'What coupons took off, in the order in which they were taken.' });
const discountFields = {
  discounts,
  discount: amountText('Sum of the discounts.'),
  tax_included: z.boolean().meta({
    description: 'True: the prices hold the tax, so that it is not added to the total.',
  }),
};

const balanceFields = {
  balance_applied: amountText('Taken from the account balance; below zero: given to it.'),
  amount_due: amountText('Total less what the account balance gives; never below zero.'),
};

export const Invoice = z
  .strictObject({
    id: z.string(),
    object: z.literal('invoice'),
    environment: z.enum(['test', 'live']),
    number: z.string().nullable(),
    kind: z.enum(['period', 'advance', 'change', 'threshold', 'late', 'top_up']).meta({
      description: 'late: of usage that came in after the subscription had ended.',
    }),
    state: z.enum(['draft', 'open', 'paid', 'void', 'uncollectible']),
    payment_status: z.enum(['none', 'pending', 'succeeded', 'failed']),
    subscriber_id: z.string(),
    subscription_id: z.string().nullable(),
    period_id: z.string().nullable(),
    period_text: z.string().nullable(),
    period_start_at: instantText().nullable(),
    period_end_at: instantText().nullable(),
    currency: z.string(),
    lines: z.array(InvoiceLine),
    subtotal: amountText('Sum of the lines.'),
    ...discountFields,
    taxes,
    tax: amountText('Sum of the taxes.'),
    total: amountText('What is owed; below zero, what is given to the account balance.'),
    ...balanceFields,
    credited: amountText('Sum of its credit notes.'),
    still_due: amountText('What is due now: amount_due less payments and credit notes.'),
    total_text: z.string().meta({ description: 'For people: $82.45.' }),
    html_path: z.string(),
    pdf_path: z.string(),
    created_at: instantText(),
    finalize_at: instantText().nullable().meta({
      description: 'When a draft becomes final by itself.',
    }),
    finalized_at: instantText().nullable(),
    paid_at: instantText().nullable(),
    paid_by: z.enum(['payment', 'out_of_band', 'nothing_due']).nullable(),
    paid_reference: z.string().nullable().meta({
      description: 'What a payment out of band is known by.',
    }),
    voided_at: instantText().nullable(),
    void_reason: z.string().nullable(),
    given_up_at: instantText().nullable().meta({
      description: 'When it was marked uncollectible.',
    }),
    reissue_of: z.string().nullable().meta({ description: 'The void invoice that it stands for.' }),
    reissued_as: z.string().nullable().meta({
      description: 'The invoice that stands for it since it is void.',
    }),
  })
  .meta({ id: 'Invoice' });

export const PeriodAnswer = z
  .strictObject({
    id: z.string(),
    object: z.literal('period'),
    subscription_id: z.string(),
    sequence: z.number().int(),
    state: z.enum(['scheduled', 'open', 'closing', 'closed', 'void']),
    start_at: instantText(),
    end_at: instantText(),
    interval_start_at: instantText(),
    interval_end_at: instantText(),
    closed_at: instantText().nullable(),
  })
  .meta({ id: 'Period' });

/** An invoice that is not issued: what it would be. */
export const draftFields = {
  period_text: z.string(),
  currency: z.string(),
  lines: z.array(EstimateLine),
  subtotal: amountText('Sum of the lines.'),
  ...discountFields,
  taxes,
  tax: amountText('Sum of the taxes.'),
  total: amountText('What the invoice would be now.'),
  ...balanceFields,
  total_text: z.string(),
};

export const UpcomingInvoice = z
  .strictObject({
    object: z.literal('upcoming_invoice'),
    subscription_id: z.string(),
    period: PeriodAnswer.nullable().meta({
      description:
        'Null: the subscription has ended, and usage that came in since is billed by itself.',
    }),
    ...draftFields,
  })
  .meta({ id: 'UpcomingInvoice' });

export function periodToWire(period: Period): z.output<typeof PeriodAnswer> {
  return {
    id: period.id,
    object: 'period',
    subscription_id: period.subscriptionId,
    sequence: period.seq,
    state: period.state,
    start_at: wireInstant(period.startAt),
    end_at: wireInstant(period.endAt),
    interval_start_at: wireInstant(period.intervalStartAt),
    interval_end_at: wireInstant(period.intervalEndAt),
    closed_at: wireInstant(period.closedAt),
  };
}

/** The currency of a stored row. */
export function storedCurrency(text: string): Currency {
  if (!isCurrency(text)) throw new Error(`${text} is not a currency that is billed in`);
  return text;
}

export function invoiceToWire(
  row: InvoiceRead,
  lines: readonly InvoiceLineRead[],
): z.output<typeof Invoice> {
  const currency = storedCurrency(row.currency);
  const amount = (minor: bigint): string => formatAmount(minor, currency);
  return {
    id: row.id,
    object: 'invoice',
    environment: row.environment,
    number: row.number,
    kind: row.kind,
    state: row.state,
    payment_status: row.payment_status,
    subscriber_id: row.subscriber_id,
    subscription_id: row.subscription_id,
    period_id: row.period_id,
    period_text: row.document.period_text,
    period_start_at: wireInstant(row.period_start_at),
    period_end_at: wireInstant(row.period_end_at),
    currency,
    lines: lines.map((line) => ({
      id: line.id,
      kind: line.kind,
      description: line.description,
      label: line.label,
      charge_id: line.charge_id,
      meter_id: line.meter_id,
      plan_version_id: line.plan_version_id,
      quantity: line.quantity?.toString() ?? null,
      unit_price: line.unit_price,
      amount: amount(line.amount_minor),
      details: { ...line.details },
      discount: amount(line.discount_minor),
      covers_start_at: wireInstant(line.covers_start_at),
      covers_end_at: wireInstant(line.covers_end_at),
    })),
    subtotal: amount(row.subtotal_minor),
    discounts: (row.document.discounts ?? []).map((discount) => ({ ...discount })),
    discount: amount(row.discount_minor),
    tax_included: row.tax_included,
    taxes: row.document.taxes.map((tax) => ({ ...tax })),
    tax: amount(row.tax_minor),
    total: amount(row.total_minor),
    balance_applied: amount(row.balance_applied_minor),
    amount_due: amount(row.amount_due_minor),
    credited: amount(row.credited_minor),
    still_due: amount(stillDue(row)),
    total_text: formatMoney(row.total_minor, currency),
    html_path: `/api/v1/invoices/${row.id}.html`,
    pdf_path: `/api/v1/invoices/${row.id}.pdf`,
    created_at: wireInstant(row.created_at),
    finalize_at: wireInstant(row.state === 'draft' ? row.finalize_at : null),
    finalized_at: wireInstant(row.finalized_at),
    paid_at: wireInstant(row.paid_at),
    paid_by: row.paid_by,
    paid_reference: row.paid_reference,
    voided_at: wireInstant(row.voided_at),
    void_reason: row.void_reason,
    given_up_at: wireInstant(row.given_up_at),
    reissue_of: row.reissue_of,
    reissued_as: row.reissued_as,
  };
}

/** A payment takes all that is due, so an invoice that is not paid has none. */
function stillDue({ state, amount_due_minor, due_reduced_minor }: InvoiceRead): bigint {
  const owes = state === 'draft' || state === 'open' || state === 'uncollectible';
  return owes ? amount_due_minor - due_reduced_minor : 0n;
}

export function upcomingToWire(
  subscriptionId: string,
  period: Period | null,
  draft: InvoiceDraft,
): z.output<typeof UpcomingInvoice> {
  return {
    object: 'upcoming_invoice',
    subscription_id: subscriptionId,
    period: period === null ? null : periodToWire(period),
    ...draftToWire(draft),
  };
}

export function draftToWire(draft: InvoiceDraft): z.output<z.ZodObject<typeof draftFields>> {
  const { currency } = draft;
  const amount = (minor: bigint): string => formatAmount(minor, currency);
  return {
    period_text: draft.periodText,
    currency,
    lines: draft.lines.map((line) => ({
      kind: line.kind,
      description: line.description,
      label: line.label,
      charge_id: line.chargeId,
      meter_id: line.meterId,
      plan_version_id: line.planVersionId,
      quantity: line.quantity?.toString() ?? null,
      unit_price: line.unitPrice,
      amount: amount(line.amountMinor),
      details: { ...line.details },
    })),
    subtotal: amount(draft.subtotalMinor),
    discounts: byCoupon(draft.discounts)
      .filter(({ amountMinor }) => amountMinor > 0n)
      .map(({ name, amountMinor }) => ({ name, amount: amount(amountMinor) })),
    discount: amount(draft.discountMinor),
    tax_included: draft.taxIncluded,
    taxes: draft.taxes.map((tax) => ({
      label: taxLabel(tax),
      percent: tax.percent,
      base: amount(tax.baseMinor),
      amount: amount(tax.amountMinor),
    })),
    tax: amount(draft.taxMinor),
    total: amount(draft.totalMinor),
    balance_applied: amount(draft.balanceAppliedMinor),
    amount_due: amount(draft.amountDueMinor),
    total_text: formatMoney(draft.totalMinor, currency),
  };
}

export const periodExample = {
  id: 'per_5h2k9x0q7w3m1n8b4v6c2z',
  object: 'period',
  subscription_id: 'sub_5h2k9x0q7w3m1n8b4v6c2z',
  sequence: 0,
  state: 'open',
  start_at: '2025-01-01T00:00:00.000Z',
  end_at: '2025-02-01T00:00:00.000Z',
  interval_start_at: '2025-01-01T00:00:00.000Z',
  interval_end_at: '2025-02-01T00:00:00.000Z',
  closed_at: null,
};
const lineExample = {
  kind: 'usage',
  description: 'API Calls (82,450 calls × $0.001)',
  label: 'API calls ($0.001 each)',
  charge_id: 'chg_5h2k9x0q7w3m1n8b4v6c2z',
  meter_id: 'mtr_5h2k9x0q7w3m1n8b4v6c2z',
  plan_version_id: 'pver_5h2k9x0q7w3m1n8b4v6c2z',
  quantity: '82450',
  unit_price: '0.001',
  amount: '82.45',
  details: { model: 'per_unit' },
};
const totalsExample = {
  subtotal: '82.45',
  discounts: [],
  discount: '0.00',
  tax_included: false,
  taxes: [{ label: 'Tax (0%)', percent: '0', base: '82.45', amount: '0.00' }],
  tax: '0.00',
  total: '82.45',
  balance_applied: '0.00',
  amount_due: '82.45',
  total_text: '$82.45',
};
export const upcomingExample = {
  object: 'upcoming_invoice',
  subscription_id: periodExample.subscription_id,
  period: periodExample,
  period_text: 'Jan 1 – Jan 31, 2025',
  currency: 'USD',
  lines: [lineExample],
  ...totalsExample,
};
export const invoiceExample = {
  id: 'inv_5h2k9x0q7w3m1n8b4v6c2z',
  object: 'invoice',
  environment: 'test',
  number: 'INV-2025-0042',
  kind: 'period',
  state: 'paid',
  payment_status: 'succeeded',
  subscriber_id: 'sbr_5h2k9x0q7w3m1n8b4v6c2z',
  subscription_id: periodExample.subscription_id,
  period_id: periodExample.id,
  period_text: 'Jan 1 – Jan 31, 2025',
  period_start_at: periodExample.start_at,
  period_end_at: periodExample.end_at,
  currency: 'USD',
  lines: [
    {
      id: 'line_5h2k9x0q7w3m1n8b4v6c2z',
      ...lineExample,
      discount: '0.00',
      covers_start_at: null,
      covers_end_at: null,
    },
  ],
  ...totalsExample,
  credited: '0.00',
  still_due: '0.00',
  html_path: '/api/v1/invoices/inv_5h2k9x0q7w3m1n8b4v6c2z.html',
  pdf_path: '/api/v1/invoices/inv_5h2k9x0q7w3m1n8b4v6c2z.pdf',
  created_at: '2025-02-01T00:00:05.000Z',
  finalize_at: null,
  finalized_at: '2025-02-01T00:00:05.000Z',
  paid_at: '2025-02-01T00:00:06.000Z',
  paid_by: 'payment',
  paid_reference: null,
  voided_at: null,
  void_reason: null,
  given_up_at: null,
  reissue_of: null,
  reissued_as: null,
};
