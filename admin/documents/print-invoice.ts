/** An invoice as it is printed: a pure function of what was stored with it, and of what happened to it since. */
import { isCurrency } from '../../billing/money.ts';
import { formatPeriod } from '../../billing/periods.ts';
import type { InvoiceLineRead, InvoiceRead } from '../../store/invoice-reads.ts';
import { formatsFor } from './formats.ts';
import { buyerRows, fact, localeOf, sellerRows, taxNotes, taxRows, textRows } from './parties.ts';
import type { Fact, Mark, PrintedDocument, PrintedLine, Sum } from './printed-document.ts';
import { wordsFor } from './words.ts';
import { type Hand, workingsOf } from './workings.ts';

/** A credit note as the invoice that it belongs to lists it. */
export type CreditNoteOfInvoice = {
  readonly number: string;
  readonly created_at: Date;
  readonly total_minor: bigint;
  /** What of it was taken off what was still due. */
  readonly due_reduced_minor: bigint;
};

/** @throws RangeError when the stored currency or zone is none. */
export function printInvoice(
  invoice: InvoiceRead,
  of: {
    readonly lines: readonly InvoiceLineRead[];
    readonly creditNotes: readonly CreditNoteOfInvoice[];
    /** Numbers of the invoices that it replaces and that replaces it. */
    readonly replaces?: string | null;
    readonly replacedBy?: string | null;
  },
): PrintedDocument {
  const hand = handOf(invoice);
  const { words, formats } = hand;
  const { document } = invoice;
  return {
    language: words.language === 'en' ? 'en' : formats.locale,
    paper: formats.paper,
    title: words.invoice(invoice.number ?? words.draftNumber),
    number: invoice.number,
    mark: markOf(invoice, hand),
    from: sellerRows(document, words),
    to: { label: words.billedTo, rows: buyerRows(document, words) },
    facts: [
      ...factsOf(invoice, hand),
      ...fact(words.facts.replaces, of.replaces ?? null),
      ...fact(words.facts.replacedBy, of.replacedBy ?? null),
    ],
    colon: words.colon,
    table: { ...words.table, lines: of.lines.map((line) => printLine(line, invoice, hand)) },
    sums: [...sumsOf(invoice, hand), ...creditedRows(invoice, of.creditNotes, hand)],
    notes: notesOf(invoice, hand),
    footer: textRows(document.operator?.footer),
    page: words.page,
    unprintable: words.notes.unprintable,
    datedAt: invoice.finalized_at ?? invoice.created_at,
  };
}

function handOf({ currency, document }: InvoiceRead): Hand {
  if (!isCurrency(currency)) throw new RangeError(`${currency} is not a currency of ours`);
  const locale = localeOf(document);
  const formats = formatsFor({ locale, zone: document.time_zone, currency });
  return { words: wordsFor(locale), formats, currency };
}

function markOf(invoice: InvoiceRead, { words: { marks } }: Hand): Mark {
  switch (invoice.state) {
    case 'draft':
      return { text: marks.draft, tone: 'soft', stamped: true };
    case 'open':
      return invoice.payment_status === 'failed'
        ? { text: marks.failed, tone: 'bad', stamped: false }
        : { text: marks.open, tone: 'soft', stamped: false };
    case 'paid':
      return { text: marks.paid, tone: 'good', stamped: false };
    case 'void':
      return { text: marks.void, tone: 'bad', stamped: true };
    case 'uncollectible':
      return { text: marks.uncollectible, tone: 'bad', stamped: false };
    default:
      return invoice.state satisfies never;
  }
}

function factsOf(invoice: InvoiceRead, { words, formats }: Hand): readonly Fact[] {
  const { facts } = words;
  const { document } = invoice;
  const date = (at: Date | null): string | null => (at === null ? null : formats.date(at));
  const isDue = invoice.state === 'open' || invoice.state === 'uncollectible';
  return [
    ...fact(facts.period, periodOf(invoice, { words, formats })),
    ...fact(facts.issued, date(invoice.finalized_at)),
    // It is collected as soon as it is final.
    ...fact(facts.due, isDue && invoice.amount_due_minor > 0n ? date(invoice.finalized_at) : null),
    ...fact(facts.paid, date(invoice.paid_at)),
    ...fact(facts.voided, date(invoice.voided_at)),
    ...fact(
      facts.plan,
      document.plan === null ? null : `${document.plan.product} · ${document.plan.name}`,
    ),
  ];
}

/** As it was frozen in English; in other languages from its bounds. */
function periodOf(invoice: InvoiceRead, { words, formats }: Pick<Hand, 'words' | 'formats'>) {
  const { period_start_at, period_end_at, document } = invoice;
  if (words.language === 'en' && formats.locale.endsWith('-US')) return document.period_text;
  if (document.period_text === null || period_start_at === null || period_end_at === null) {
    return document.period_text;
  }
  return formats.period(period_start_at, period_end_at);
}

function printLine(line: InvoiceLineRead, invoice: InvoiceRead, hand: Hand): PrintedLine {
  const label = line.label === null || line.label === line.description ? [] : [line.label];
  return {
    description: line.description,
    beneath: [...label, ...coverRows(line, invoice, hand), ...workingsOf(line, hand)],
    amount: hand.formats.money(line.amount_minor),
  };
}

/** The time that a fee is for, unless it is the invoice's own or the description names it in the reader's way. */
function coverRows(
  { covers_start_at: from, covers_end_at: until, description }: InvoiceLineRead,
  invoice: InvoiceRead,
  { formats }: Hand,
): readonly string[] {
  if (from === null || until === null) return [];
  const isOwn =
    from.getTime() === invoice.period_start_at?.getTime() &&
    until.getTime() === invoice.period_end_at?.getTime();
  if (isOwn) return [];
  const text = formats.period(from, until);
  const english = formatPeriod(from.getTime(), until.getTime(), invoice.document.time_zone);
  return text === english && description.includes(text) ? [] : [text];
}

function sumsOf(invoice: InvoiceRead, hand: Hand): readonly Sum[] {
  const { words, formats } = hand;
  const { document } = invoice;
  const discounts = (document.discounts ?? []).map(({ name, amount }) =>
    plain(name, formats.price(negated(amount))),
  );
  const taxes = taxRows(document, hand);
  const total: Sum = {
    label: words.sums.total,
    note: null,
    amount: formats.money(invoice.total_minor),
    weight: 'total',
  };
  return [
    plain(words.sums.subtotal, formats.money(invoice.subtotal_minor)),
    ...discounts,
    // What the prices hold is no part of the sum: it stands below it.
    ...(document.tax_included === true ? [total, ...taxes] : [...taxes, total]),
    ...balanceRows(invoice, hand),
  ];
}

// Most invoices have none of it, and then look as if it did not exist.
function balanceRows(invoice: InvoiceRead, { words, formats }: Hand): readonly Sum[] {
  const applied = invoice.balance_applied_minor;
  if (applied === 0n) return [];
  const label = applied > 0n ? words.sums.fromBalance : words.sums.toBalance;
  return [
    plain(label, formats.money(-applied)),
    {
      label: words.sums.amountDue,
      note: null,
      amount: formats.money(invoice.amount_due_minor),
      weight: 'total',
    },
  ];
}

function creditedRows(
  invoice: InvoiceRead,
  notes: readonly CreditNoteOfInvoice[],
  { words, formats }: Hand,
): readonly Sum[] {
  const reduced = notes.reduce((sum, note) => sum + note.due_reduced_minor, 0n);
  const left: Sum = {
    label: words.sums.leftToPay,
    note: null,
    amount: formats.money(invoice.amount_due_minor - reduced),
    weight: 'total',
  };
  return [
    ...notes.map((note) =>
      plain(
        words.sums.creditNote(note.number, formats.date(note.created_at)),
        formats.money(-note.total_minor),
      ),
    ),
    ...(invoice.state === 'open' && reduced > 0n ? [left] : []),
  ];
}

function notesOf(invoice: InvoiceRead, { words, formats }: Hand): readonly string[] {
  const { notes } = words;
  const voidReason = invoice.void_reason === null ? [] : [invoice.void_reason];
  return [
    ...(invoice.state === 'draft' ? [notes.draft] : []),
    ...(invoice.state === 'void' ? [notes.void, ...voidReason] : []),
    ...(invoice.balance_applied_minor < 0n
      ? [notes.addedToBalance(formats.money(-invoice.balance_applied_minor))]
      : []),
    ...taxNotes(invoice.document, words),
    notes.currency(invoice.currency),
  ];
}

function plain(label: string, amount: string): Sum {
  return { label, note: null, amount, weight: 'plain' };
}

function negated(amount: string): string {
  return /^[0.]*$/.test(amount) ? amount : `-${amount}`;
}
