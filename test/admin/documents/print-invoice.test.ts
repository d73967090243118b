import assert from 'node:assert/strict';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

import fc from 'fast-check';

import { htmlOf } from '../../../admin/documents/html-document.ts';
import { printCreditNote } from '../../../admin/documents/print-credit-note.ts';
import { printInvoice } from '../../../admin/documents/print-invoice.ts';
import type { PrintedDocument } from '../../../admin/documents/printed-document.ts';
import { formatAmount } from '../../../billing/money.ts';
import { taxLabel } from '../../../billing/tax.ts';
import { totalUp } from '../../../billing/totals.ts';
import { creditNote, creditNoteLines, examples, invoice, line } from './examples.ts';

const snapshots = join(import.meta.dirname, '..', '..', 'snapshots');

/** The document of lines with these amounts in cents, totalled as the system does. */
function totalled(
  amounts: readonly bigint[],
  of: {
    readonly coupons: readonly string[];
    readonly rates: readonly string[];
    readonly kind: 'exclusive' | 'inclusive';
  },
): PrintedDocument {
  const totals = totalUp(
    amounts.map((amountMinor) => ({ chargeId: null, amountMinor })),
    {
      coupons: of.coupons.map((percent, index) => ({
        id: `dsc_${index}`,
        name: `Coupon ${index}`,
        off: { kind: 'percent', percent },
        on: { kind: 'invoice' },
      })),
      taxation: {
        kind: of.kind,
        rates: { general: of.rates.map((percent) => ({ name: 'VAT', percent })) },
      },
      balanceMinor: 0n,
    },
  );
  const text = (minor: bigint): string => formatAmount(minor, 'USD');
  return printInvoice(
    invoice(
      {
        subtotal_minor: totals.subtotalMinor,
        tax_minor: totals.taxMinor,
        total_minor: totals.totalMinor,
      },
      {
        discounts: totals.discounts.map(({ name, amountMinor }) => ({
          name,
          amount: text(amountMinor),
        })),
        tax_included: totals.taxIncluded,
        taxes: totals.taxes.map((tax) => ({
          label: taxLabel(tax),
          percent: tax.percent,
          base: text(tax.baseMinor),
          amount: text(tax.amountMinor),
        })),
      },
    ),
    { lines: amounts.map((amount_minor) => line({ amount_minor })), creditNotes: [] },
  );
}

describe('admin › documents', () => {
  const documents = examples();
  const one = (name: string): PrintedDocument => {
    const document = documents[name];
    if (document === undefined) throw new Error(`there is no example ${name}`);
    return document;
  };
  const sums = (document: PrintedDocument): readonly string[] =>
    document.sums.map(({ label, note, amount }) =>
      [label, note ?? '', amount]
        .filter((text) => text !== '')
        .join(' | ')
        .replaceAll('\u00a0', ' '),
    );
  const facts = (document: PrintedDocument): readonly string[] =>
    document.facts.map(({ label, value }) => `${label}: ${value}`);

  it("prints the seed's example in its own words", () => {
    const document = one('simple');
    assert.equal(document.title, 'Invoice: INV-2025-0042');
    assert.deepEqual(facts(document), [
      'Period: Jan 1 – Jan 31, 2025',
      'Issued: Feb 1, 2025',
      'Paid: Feb 1, 2025',
      'Plan: Maps API · Pay-as-you-go',
    ]);
    assert.deepEqual(document.table.lines, [
      {
        description: 'API Calls (82,450 calls × $0.001)',
        beneath: ['API calls ($0.001 each)'],
        amount: '$82.45',
      },
    ]);
    assert.deepEqual(sums(document), ['Subtotal | $82.45', 'Tax (0%) | $0.00', 'Total | $82.45']);
  });

  it('prints tiers, parts, coupons, two taxes, balance and credit notes so that they add up', () => {
    const document = one('hard');
    assert.deepEqual(facts(document), [
      'Zeitraum: 1.–31. März 2025',
      'Ausgestellt: 1. Apr. 2025',
      'Fällig: 1. Apr. 2025',
      'Tarif: Maps API · Pay-as-you-go',
    ]);
    assert.deepEqual(
      document.table.lines.map(({ beneath }) =>
        beneath.map((text) => text.replaceAll('\u00a0', ' ').replaceAll('\u2009', '')),
      ),
      [
        ['17.–31. März 2025', '50,00 € × 15/31'],
        [
          'Tiles, cheaper the more you take',
          '1.000 × 0,002 € = 2,00 €',
          '9.000 × 0,0015 € + 12,50 € = 26,00 €',
          '74.000 × 0,001 € = 74,00 €',
        ],
        ['3.200 × 0,01 €'],
        ['172 × 0,03 €'],
      ],
    );
    assert.deepEqual(sums(document), [
      'Zwischensumme | 163,35 €',
      'Frühjahrsaktion 10 % | -16,34 €',
      'Treue | -5,00 €',
      'USt. (19 %) | auf 113,21 € | 21,51 €',
      'USt. ermäßigt (7 %) | auf 28,80 € | 2,02 €',
      'Gesamtbetrag | 165,54 €',
      'Aus dem Guthaben | -20,00 €',
      'Zu zahlen | 145,54 €',
      'Gutschrift CN-2025-0003, 2. Apr. 2025 | -39,27 €',
      'Noch zu zahlen | 106,27 €',
    ]);
    const cents = (text: string): number => Number(text.replaceAll(/[^0-9-]/g, ''));
    const [subtotal, ...rest] = document.sums.slice(0, 6).map(({ amount }) => cents(amount));
    const lines = document.table.lines.reduce((sum, { amount }) => sum + cents(amount), 0);
    assert.equal(subtotal, lines);
    assert.equal(
      rest.slice(0, 4).reduce((sum, amount) => sum + amount, subtotal ?? 0),
      rest[4],
    );
  });

  it('prints every part of a total, whatever the lines, coupons and taxes', () => {
    const minor = fc.bigInt({ min: -50_000n, max: 1_000_000n });
    const percent = fc.constantFrom('0', '7', '19', '8.875');
    fc.assert(
      fc.property(
        fc.array(minor, { minLength: 1, maxLength: 6 }),
        fc.array(percent, { maxLength: 3 }),
        fc.uniqueArray(percent, { maxLength: 3 }),
        fc.constantFrom('exclusive', 'inclusive'),
        (amounts, coupons, rates, kind) => {
          const document = totalled(amounts, { coupons, rates, kind });
          const of = document.sums.map((sum) => BigInt(sum.amount.replaceAll(/[^0-9-]/g, '')));
          const at = document.sums.findIndex(({ label }) => label === 'Total');
          const lines = document.table.lines.map(({ amount }) =>
            BigInt(amount.replaceAll(/[^0-9-]/g, '')),
          );
          const sum = (all: readonly bigint[]): bigint =>
            all.reduce((total, next) => total + next, 0n);
          assert.equal(of[0], sum(lines));
          assert.equal(of[at], sum(of.slice(0, at)));
        },
      ),
    );
  });

  it('prints a tax that the prices hold below the total, as a part of it', () => {
    assert.deepEqual(sums(one('yen')), [
      '小計 | ￥123,456',
      '合計 | ￥123,456',
      '内 消費税 (10%) | 対象 ￥123,456 | ￥11,223',
    ]);
  });

  it('marks drafts, which have no number, and void invoices', () => {
    const draft = one('draft');
    assert.equal(draft.number, null);
    assert.equal(draft.title, 'Invoice: draft');
    assert.deepEqual(draft.mark, { text: 'Draft', tone: 'soft', stamped: true });
    assert.ok(draft.notes.includes('This is a draft: its amounts may still change.'));
    assert.ok(!facts(draft).some((text) => text.startsWith('Issued')));
    const voided = one('void');
    assert.deepEqual(voided.mark, { text: 'Annulée', tone: 'bad', stamped: true });
    assert.ok(facts(voided).includes('Annulée le: 3 févr. 2025'));
    assert.ok(voided.notes.includes('Wrong subscriber'));
  });

  it('says how an open invoice stands', () => {
    const mark = (changes: Parameters<typeof invoice>[0]) =>
      printInvoice(invoice({ paid_at: null, ...changes }), { lines: [line()], creditNotes: [] })
        .mark?.text;
    assert.equal(mark({ state: 'open', payment_status: 'none' }), 'Open');
    assert.equal(mark({ state: 'open', payment_status: 'failed' }), 'Payment failed');
    assert.equal(mark({ state: 'uncollectible' }), 'Unpaid');
  });

  it('says why there is no tax, in the language of the document', () => {
    assert.ok(one('void').notes.includes('Exonéré de taxe\u00a0: article 262 ter I du CGI.'));
    assert.ok(
      one('negative').notes.includes(
        'Inversión del sujeto pasivo: el destinatario liquida el impuesto.',
      ),
    );
    const frozen = printInvoice(invoice({}, { notes: ['Small business, § 19 UStG.'] }), {
      lines: [],
      creditNotes: [],
    });
    assert.ok(frozen.notes.includes('Small business, § 19 UStG.'));
  });

  it('says where a negative total went', () => {
    assert.deepEqual(sums(one('negative')), [
      'Subtotal | -12,50 US$',
      'Inversión del sujeto pasivo (0 %) | 0,00 US$',
      'Total | -12,50 US$',
      'Al saldo de la cuenta | 12,50 US$',
      'Importe a pagar | 0,00 US$',
    ]);
    assert.ok(one('negative').notes[0]?.includes('12,50'));
  });

  it('prints a credit note with what it is for, why, and where it went', () => {
    const document = one('creditNote');
    assert.equal(document.title, 'Gutschrift CN-2025-0003');
    assert.deepEqual(facts(document), [
      'Zu Rechnung: INV-2025-0107',
      'Ausgestellt: 2. Apr. 2025',
      'Grund: Störung des Dienstes',
    ]);
    assert.deepEqual(sums(document), [
      'Zwischensumme | € 35,00',
      'Rabatt | -€ 2,00',
      'USt. (19 %) | auf € 33,00 | € 6,27',
      'Gutgeschrieben | € 39,27',
      'Vom offenen Betrag abgezogen | € 30,00',
      'Zurückgezahlt | € 9,27',
    ]);
    const failed = printCreditNote(creditNote({ refund_state: 'failed' }), creditNoteLines);
    assert.deepEqual(sums(failed).slice(-2), [
      'Vom offenen Betrag abgezogen | € 30,00',
      'Dem Guthaben gutgeschrieben | € 9,27',
    ]);
  });

  it('prints what an interval cost before where a line bills the rest of it', () => {
    const { details } = line();
    if (!('tiers' in details)) throw new Error('the example is a line of usage');
    const rest = line({
      unit_price: null,
      details: {
        ...details,
        before: '1000',
        exact_before: '2',
        exact_total: '84.45',
        tiers: [
          {
            above: '0',
            up_to: '1000',
            quantity: '1000',
            unit_price: '0.002',
            flat_fee: '0',
            amount: '2',
          },
          {
            above: '1000',
            up_to: null,
            quantity: '82450',
            unit_price: '0.001',
            flat_fee: '0',
            amount: '82.45',
          },
        ],
      },
    });
    const [printed] = printInvoice(invoice(), { lines: [rest], creditNotes: [] }).table.lines;
    assert.deepEqual(printed?.beneath.slice(1), [
      '1,000 × $0.002 = $2.00',
      '82,450 × $0.001 = $82.45',
      '$84.45 so far − $2.00 billed before',
    ]);
  });

  it('prints invoices that were issued before it was known who sells', () => {
    const {
      operator: _operator,
      locale: _locale,
      discounts: _discounts,
      ...old
    } = invoice().document;
    const { taxation: _taxation, tax_included: _included, notes: _notes, ...older } = old;
    const document = printInvoice(
      { ...invoice(), document: older },
      { lines: [line()], creditNotes: [] },
    );
    assert.deepEqual(document.from, []);
    assert.deepEqual(sums(document), ['Subtotal | $82.45', 'Tax (0%) | $0.00', 'Total | $82.45']);
  });

  for (const name of ['hard', 'yen', 'creditNote', 'void'] as const) {
    it(`looks byte for byte as it was reviewed: ${name} (UPDATE_SNAPSHOTS=1 writes it anew)`, () => {
      const file = join(snapshots, `document-${name.toLowerCase()}.html`);
      const html = htmlOf(one(name));
      if (process.env['UPDATE_SNAPSHOTS'] === '1') writeFileSync(file, html);
      assert.ok(existsSync(file));
      assert.equal(html, readFileSync(file, 'utf8'));
    });
  }

  it('escapes what is not ours, in text and in style', () => {
    const hostile = '</style><script>alert(1)</script>';
    const html = htmlOf(
      printInvoice(invoice({ number: `INV"}${hostile}` }), {
        lines: [line({ description: hostile, label: hostile })],
        creditNotes: [],
      }),
    );
    assert.ok(!html.includes('<script'));
    assert.equal(html.match(/<\/style>/g)?.length, 1);
  });

  it('is read out in order: one heading, tables with heads', () => {
    const html = htmlOf(one('hard'));
    assert.match(html, /<html lang="de-DE">/);
    assert.equal(html.match(/<h1/g)?.length, 1);
    assert.equal(html.match(/<th scope="col"/g)?.length, 2);
    assert.equal(html.match(/<th scope="row"/g)?.length, one('hard').sums.length);
    assert.ok(!/<t[dh]>\s*<\/t[dh]>/.test(html));
  });
});
