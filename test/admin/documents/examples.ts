/** Documents that show everything that can stand on one, as rows of the store. */
import { printCreditNote } from '../../../admin/documents/print-credit-note.ts';
import { type CreditNoteOfInvoice, printInvoice } from '../../../admin/documents/print-invoice.ts';
import type { PrintedDocument } from '../../../admin/documents/printed-document.ts';
import type { CreditNoteLineRead, CreditNoteRead } from '../../../store/credit-note-reads.ts';
import type { InvoiceDocument } from '../../../store/invoice-document.ts';
import type { InvoiceLineRead, InvoiceRead } from '../../../store/invoice-reads.ts';

const operator: NonNullable<InvoiceDocument['operator']> = {
  name: 'Meridian Maps & Data Ltd.',
  address: '4 Harbour Row\nBristol BS1 5DB\nUnited Kingdom',
  email: 'billing@meridian.example',
  tax_id: 'GB 123 4567 89',
  footer:
    'Meridian Maps & Data Ltd., registered in England, no. 01234567\nThank you for your trust.',
};

const document: InvoiceDocument = {
  v: 1,
  subscriber: {
    id: 'sbr_0000000000000000000000',
    lookup_id: 'acme',
    name: 'Acme, Inc.',
    email: 'billing@acme.example',
    address: '1 Main Street\nSpringfield',
    tax_id: null,
  },
  plan: {
    id: 'plan_0000000000000000000000',
    lookup_id: 'payg',
    name: 'Pay-as-you-go',
    version: 1,
    product: 'Maps API',
  },
  time_zone: 'UTC',
  period_text: 'Jan 1 – Jan 31, 2025',
  taxes: [{ label: 'Tax (0%)', percent: '0', base: '82.45', amount: '0.00' }],
  operator,
  locale: 'en-US',
  discounts: [],
  tax_included: false,
  notes: [],
};

/** The invoice of the seed's example, changed by what is given. */
export function invoice(
  changes: Partial<InvoiceRead> = {},
  frozen: Partial<InvoiceDocument> = {},
): InvoiceRead {
  const at = new Date('2025-02-01T00:00:05Z');
  return {
    id: 'inv_0000000000000000000000',
    environment: 'test',
    subscriber_id: document.subscriber.id,
    subscription_id: null,
    period_id: null,
    kind: 'period',
    state: 'paid',
    payment_status: 'succeeded',
    number: 'INV-2025-0042',
    currency: 'USD',
    subtotal_minor: 8245n,
    discount_minor: 0n,
    tax_minor: 0n,
    tax_included: false,
    total_minor: 8245n,
    balance_applied_minor: 0n,
    amount_due_minor: 8245n,
    credited_minor: 0n,
    due_reduced_minor: 0n,
    period_start_at: new Date('2025-01-01T00:00:00Z'),
    period_end_at: new Date('2025-02-01T00:00:00Z'),
    document: { ...document, ...frozen },
    created_at: at,
    finalize_at: null,
    finalized_at: at,
    paid_at: at,
    paid_by: 'payment',
    paid_reference: null,
    voided_at: null,
    void_reason: null,
    given_up_at: null,
    reissue_of: null,
    reissued_as: null,
    ...changes,
  };
}

/** The line of the seed's example, changed by what is given. */
export function line(changes: Partial<InvoiceLineRead> = {}): InvoiceLineRead {
  return {
    id: 'line_0000000000000000000000',
    invoice_id: 'inv_0000000000000000000000',
    position: 0,
    kind: 'usage',
    charge_id: null,
    meter_id: null,
    plan_version_id: null,
    description: 'API Calls (82,450 calls × $0.001)',
    label: 'API calls ($0.001 each)',
    quantity: 82_450n,
    unit_price: '0.001',
    amount_minor: 8245n,
    discount_minor: 0n,
    covers_start_at: null,
    covers_end_at: null,
    details: usage({ total: '82450', exact_total: '82.45' }),
    ...changes,
  };
}

type Usage = Extract<InvoiceLineRead['details'], { readonly tiers: unknown }>;

function usage(changes: Partial<Usage>): Usage {
  return {
    model: 'per_unit',
    aggregation: 'SUM',
    meter_key: 'api_calls',
    scale: 0,
    included_units: '0',
    before: null,
    total: '0',
    tiers: [],
    tiers_before: null,
    exact_total: '0',
    exact_before: '0',
    ...changes,
  };
}

const german: Partial<InvoiceDocument> = {
  locale: 'de-DE',
  time_zone: 'Europe/Berlin',
  subscriber: {
    ...document.subscriber,
    name: 'Größenwahn Verlagsgesellschaft mbH & Co. KG',
    address: 'Straße des 17. Juni 135\n10623 Berlin\nDeutschland',
    tax_id: 'DE123456789',
  },
  period_text: 'Mar 1 – Mar 31, 2025',
  discounts: [
    { name: 'Frühjahrsaktion 10 %', amount: '16.34' },
    { name: 'Treue', amount: '5.00' },
  ],
  taxes: [
    { label: 'USt. (19%)', percent: '19', base: '113.21', amount: '21.51' },
    { label: 'USt. ermäßigt (7%)', percent: '7', base: '28.80', amount: '2.02' },
  ],
};

/** 163.35 − 21.34 + 23.53 = 165.54; of it 20.00 from the balance. */
function hard(): PrintedDocument {
  const march = {
    period_start_at: new Date('2025-02-28T23:00:00Z'),
    period_end_at: new Date('2025-03-31T22:00:00Z'),
  };
  const at = new Date('2025-04-01T07:30:00Z');
  return printInvoice(
    invoice(
      {
        ...march,
        state: 'open',
        payment_status: 'none',
        number: 'INV-2025-0107',
        currency: 'EUR',
        subtotal_minor: 16335n,
        tax_minor: 2353n,
        total_minor: 16554n,
        balance_applied_minor: 2000n,
        amount_due_minor: 14554n,
        created_at: at,
        finalized_at: at,
        paid_at: null,
      },
      german,
    ),
    { lines: hardLines(), creditNotes: [noted()] },
  );
}

function hardLines(): readonly InvoiceLineRead[] {
  const euro = (amount_minor: bigint, changes: Partial<InvoiceLineRead>): InvoiceLineRead =>
    line({ amount_minor, label: null, quantity: null, unit_price: null, ...changes });
  return [
    euro(2419n, {
      kind: 'recurring',
      description: 'Pro (15 of 31 days)',
      details: { model: 'prorated', basis_minor: '5000', numerator: '15', denominator: '31' },
      covers_start_at: new Date('2025-03-16T23:00:00Z'),
      covers_end_at: new Date('2025-03-31T22:00:00Z'),
    }),
    euro(10200n, {
      description: 'Tile Requests (84,000 requests in 3 tiers)',
      label: 'Tiles, cheaper the more you take',
      quantity: 84_000n,
      details: usage({
        model: 'graduated',
        total: '84000',
        exact_total: '102',
        tiers: [
          tier({ up_to: '1000', quantity: '1000', unit_price: '0.002', amount: '2' }),
          tier({ quantity: '9000', unit_price: '0.0015', flat_fee: '12.5', amount: '26' }),
          tier({ quantity: '74000', unit_price: '0.001', amount: '74' }),
        ],
      }),
    }),
    euro(3200n, {
      description: 'Geocoding (3,200 lookups × €0.01)',
      quantity: 3200n,
      unit_price: '0.01',
      details: usage({ total: '3200', exact_total: '32' }),
    }),
    euro(516n, {
      kind: 'adjustment',
      description: 'Routing (172 routes × €0.03), Feb 1 – Feb 28, 2025',
      quantity: 172n,
      unit_price: '0.03',
      details: usage({ before: '828', total: '1000', exact_total: '30', exact_before: '24.84' }),
    }),
  ];
}

function tier(changes: Partial<Usage['tiers'][number]>): Usage['tiers'][number] {
  return {
    above: '0',
    up_to: null,
    quantity: '0',
    unit_price: '0',
    flat_fee: '0',
    amount: '0',
    ...changes,
  };
}

function noted(): CreditNoteOfInvoice {
  return {
    number: 'CN-2025-0003',
    created_at: new Date('2025-04-02T09:00:00Z'),
    total_minor: 3927n,
    due_reduced_minor: 3927n,
  };
}

/** Sixty lines of 1.234 dinars, in English as it is written in Kuwait. */
function long(): PrintedDocument {
  const lines = Array.from({ length: 60 }, (_, position) =>
    line({
      position,
      description: `Region ${position + 1}: Map Tiles (${617 * (position + 1)} tiles × KWD 0.002)`,
      label: position % 7 === 0 ? 'A price with a name of its own, which is rather long' : null,
      quantity: BigInt(617 * (position + 1)),
      unit_price: '0.002',
      amount_minor: BigInt(1234 * (position + 1)),
      details: usage({ exact_total: (1.234 * (position + 1)).toFixed(3) }),
    }),
  );
  const total = lines.reduce((sum, { amount_minor }) => sum + amount_minor, 0n);
  return printInvoice(
    invoice(
      {
        currency: 'KWD',
        period_start_at: new Date('2024-12-31T21:00:00Z'),
        period_end_at: new Date('2025-01-31T21:00:00Z'),
        number: 'INV-2025-0043',
        subtotal_minor: total,
        total_minor: total,
        amount_due_minor: total,
      },
      {
        locale: 'en-GB',
        time_zone: 'Asia/Kuwait',
        taxes: [{ label: 'Tax (0%)', percent: '0', base: '2258.220', amount: '0.000' }],
      },
    ),
    { lines, creditNotes: [] },
  );
}

function yen(): PrintedDocument {
  return printInvoice(
    invoice(
      {
        currency: 'JPY',
        period_start_at: new Date('2024-12-31T15:00:00Z'),
        period_end_at: new Date('2025-01-31T15:00:00Z'),
        number: 'INV-2025-0044',
        state: 'paid',
        subtotal_minor: 123_456n,
        tax_minor: 11_223n,
        total_minor: 123_456n,
        amount_due_minor: 123_456n,
      },
      {
        locale: 'ja-JP',
        time_zone: 'Asia/Tokyo',
        subscriber: {
          ...document.subscriber,
          name: '株式会社髙橋地図 御中',
          address: '〒100-0001\n東京都千代田区千代田1番1号 山﨑ビル3階',
          tax_id: 'T1234567890123',
        },
        tax_included: true,
        taxes: [{ label: '消費税 (10%)', percent: '10', base: '123456', amount: '11223' }],
      },
    ),
    {
      lines: [
        line({
          description: '地図タイル (61,728 枚 × ¥2)',
          label:
            '地図タイルの従量料金。とても長い名前なので、行の終わりで折り返されるはずです。読みやすさを確かめるための文です。',
          quantity: 61_728n,
          unit_price: '2',
          amount_minor: 123_456n,
          details: usage({ exact_total: '123456' }),
        }),
      ],
      creditNotes: [],
    },
  );
}

/** Every document, by a name for its pictures and snapshots. */
export function examples(): Readonly<Record<string, PrintedDocument>> {
  const simple = { lines: [line()], creditNotes: [] };
  const negative = invoice(
    {
      number: 'INV-2025-0045',
      subtotal_minor: -1250n,
      total_minor: -1250n,
      balance_applied_minor: -1250n,
      amount_due_minor: 0n,
    },
    {
      locale: 'es-ES',
      subscriber: { ...document.subscriber, name: 'שלום Ибрагим Ελένη 한국 👩‍💻' },
      taxation: { kind: 'reverse_charge' },
      taxes: [{ label: 'Reverse charge (0%)', percent: '0', base: '-12.50', amount: '0.00' }],
    },
  );
  return {
    simple: printInvoice(invoice(), simple),
    hard: hard(),
    long: long(),
    yen: yen(),
    draft: printInvoice(
      invoice({ state: 'draft', number: null, finalized_at: null, paid_at: null }),
      simple,
    ),
    void: printInvoice(
      invoice(
        {
          state: 'void',
          paid_at: null,
          voided_at: new Date('2025-02-03T12:00:00Z'),
          void_reason: 'Wrong subscriber',
        },
        { locale: 'fr-FR', taxation: { kind: 'exempt', reason: 'article 262 ter I du CGI' } },
      ),
      simple,
    ),
    negative: printInvoice(negative, {
      lines: [
        line({
          kind: 'adjustment',
          description: 'Unused part of Basic',
          label: null,
          quantity: null,
          unit_price: null,
          amount_minor: -1250n,
          details: { model: 'flat' },
        }),
      ],
      creditNotes: [],
    }),
    creditNote: printCreditNote(creditNote(), creditNoteLines),
  };
}

/** 33.00 + 19 % = 39.27 of the hard invoice, of which 30.00 were still due. */
export function creditNote(changes: Partial<CreditNoteRead> = {}): CreditNoteRead {
  return {
    id: 'cn_0000000000000000000000',
    environment: 'test',
    invoice_id: 'inv_0000000000000000000000',
    subscriber_id: document.subscriber.id,
    number: 'CN-2025-0003',
    reason: 'service_issue',
    memo: 'Outage of March 3',
    currency: 'EUR',
    subtotal_minor: 3500n,
    discount_minor: 200n,
    tax_minor: 627n,
    total_minor: 3927n,
    due_reduced_minor: 3000n,
    balance_minor: 0n,
    refund_minor: 927n,
    refund_id: 'ref_0000000000000000000000',
    refund_state: 'pending',
    refund_failure_code: null,
    credits_micro: null,
    credit_unit: null,
    document: {
      v: 1,
      subscriber: { ...document.subscriber, ...german.subscriber },
      operator,
      locale: 'de-AT',
      time_zone: 'Europe/Vienna',
      tax_included: false,
      notes: [],
      invoice_number: 'INV-2025-0107',
      taxes: [{ label: 'USt. (19%)', percent: '19', base: '33.00', amount: '6.27' }],
    },
    created_at: new Date('2025-04-02T09:00:00Z'),
    ...changes,
  };
}

export const creditNoteLines: readonly CreditNoteLineRead[] = [
  {
    credit_note_id: 'cn_0000000000000000000000',
    position: 0,
    invoice_line_id: 'line_0000000000000000000000',
    description: 'Tile Requests (84,000 requests in 3 tiers)',
    amount_minor: 3500n,
    discount_minor: 200n,
  },
];
