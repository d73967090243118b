/** A credit note as it is printed: what is given back of an invoice, why, and where it went. */
import { isCurrency } from '../../billing/money.ts';
import type { CreditNoteLineRead, CreditNoteRead } from '../../store/credit-note-reads.ts';
import { formatsFor } from './formats.ts';
import { buyerRows, fact, localeOf, sellerRows, taxNotes, taxRows, textRows } from './parties.ts';
import type { PrintedDocument, Sum } from './printed-document.ts';
import { wordsFor } from './words.ts';
import type { Hand } from './workings.ts';

/** @throws RangeError when the stored currency or zone is none. */
export function printCreditNote(
  note: CreditNoteRead,
  lines: readonly CreditNoteLineRead[],
): PrintedDocument {
  const hand = handOf(note);
  const { words, formats } = hand;
  const { document } = note;
  return {
    language: words.language === 'en' ? 'en' : formats.locale,
    paper: formats.paper,
    title: words.creditNote(note.number),
    number: note.number,
    mark: null,
    from: sellerRows(document, words),
    to: { label: words.creditedTo, rows: buyerRows(document, words) },
    facts: [
      ...fact(words.facts.forInvoice, document.invoice_number),
      ...fact(words.facts.issued, formats.date(note.created_at)),
      ...fact(words.facts.reason, words.reasons[note.reason]),
    ],
    colon: words.colon,
    table: {
      ...words.table,
      lines: lines.map((line) => ({
        description: line.description,
        beneath: [],
        amount: formats.money(line.amount_minor),
      })),
    },
    sums: sumsOf(note, hand),
    notes: [
      ...textRows(note.memo),
      ...taxNotes(document, words),
      words.notes.currency(note.currency),
    ],
    footer: textRows(document.operator?.footer),
    page: words.page,
    unprintable: words.notes.unprintable,
    datedAt: note.created_at,
  };
}

function handOf({ currency, document }: CreditNoteRead): Hand {
  if (!isCurrency(currency)) throw new RangeError(`${currency} is not a currency of ours`);
  const locale = localeOf(document);
  const formats = formatsFor({ locale, zone: document.time_zone, currency });
  return { words: wordsFor(locale), formats, currency };
}

function sumsOf(note: CreditNoteRead, hand: Hand): readonly Sum[] {
  const { words, formats } = hand;
  const { sums } = words;
  const row = (label: string, minor: bigint): Sum => ({
    label,
    note: null,
    amount: formats.money(minor),
    weight: 'plain',
  });
  const taxes = taxRows(note.document, hand);
  const total: Sum = { ...row(sums.totalCredited, note.total_minor), weight: 'total' };
  // A refund that failed became account balance.
  const isRefunded = note.refund_state !== 'failed';
  const went = (
    [
      [sums.dueReduced, note.due_reduced_minor],
      [sums.givenToBalance, note.balance_minor + (isRefunded ? 0n : note.refund_minor)],
      [sums.refunded, isRefunded ? note.refund_minor : 0n],
    ] as const
  ).filter(([, minor]) => minor > 0n);
  return [
    row(sums.subtotal, note.subtotal_minor),
    ...(note.discount_minor === 0n ? [] : [row(sums.discount, -note.discount_minor)]),
    ...(note.document.tax_included === true ? [total, ...taxes] : [...taxes, total]),
    ...went.map(([label, minor]) => row(label, minor)),
  ];
}
