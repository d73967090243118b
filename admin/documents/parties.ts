/** Who is on a document, who it is for, and its tax rows: the same on invoices and credit notes. */
import type { InvoiceDocument } from '../../store/invoice-document.ts';
import { documentLocale } from './formats.ts';
import type { Fact, Sum } from './printed-document.ts';
import type { Hand } from './workings.ts';
import type { Words } from './words.ts';

/** What both kinds of documents were frozen with. */
export type Frozen = Pick<
  InvoiceDocument,
  'subscriber' | 'taxes' | 'tax_included' | 'operator' | 'locale' | 'taxation' | 'notes'
>;

/** The seller's rows: name, address, e-mail, tax id. */
export function sellerRows(document: Frozen, words: Words): readonly string[] {
  const { operator } = document;
  return operator === undefined ? [] : partyRows(operator, words);
}

export function buyerRows(document: Frozen, words: Words): readonly string[] {
  return partyRows(document.subscriber, words);
}

function partyRows(
  party: {
    readonly name: string | null;
    readonly address: string | null;
    readonly email: string | null;
    readonly tax_id: string | null;
  },
  words: Words,
): readonly string[] {
  const taxId = party.tax_id?.trim() ?? '';
  return [
    party.name ?? '',
    ...textRows(party.address),
    party.email ?? '',
    taxId === '' ? '' : `${words.taxId}${words.colon}${taxId}`,
  ]
    .map((row) => row.trim())
    .filter((row) => row !== '');
}

/** The rows of a text of several, without empty ones. */
export function textRows(text: string | null | undefined): readonly string[] {
  return (text ?? '')
    .split(/\r?\n/)
    .map((row) => row.trim())
    .filter((row) => row !== '');
}

/** A fact that there is. */
export function fact(label: string, value: string | null): readonly Fact[] {
  return value === null || value === '' ? [] : [{ label, value }];
}

/** One row for each tax, with what it is worked out on; `included` where the prices hold it. */
export function taxRows(document: Frozen, hand: Hand): readonly Sum[] {
  const { words, formats } = hand;
  const isPlain = document.taxes.length === 1 && document.taxes[0]?.percent === '0';
  return document.taxes.map((tax) => {
    const label = taxName(tax, hand);
    return {
      label: document.tax_included === true ? words.sums.included(label) : label,
      note: isPlain ? null : words.sums.taxBase(formats.price(tax.base)),
      amount: formats.price(tax.amount),
      weight: 'plain',
    };
  });
}

/** `VAT (19%)`: the operator's name of the tax, and its percentage as the reader writes it. */
function taxName(
  tax: { readonly label: string; readonly percent: string },
  { words, formats }: Hand,
): string {
  const suffix = ` (${tax.percent}%)`;
  if (!tax.label.endsWith(suffix)) return tax.label;
  const name = tax.label.slice(0, -suffix.length);
  return `${ownTaxNames(words).get(name) ?? name} (${formats.percent(tax.percent)})`;
}

/** Names of taxes that the product gives itself. */
function ownTaxNames(words: Words): ReadonlyMap<string, string> {
  return new Map([
    ['Tax', words.sums.tax],
    ['Reverse charge', words.sums.reverseCharge],
  ]);
}

/** What the law wants said about a tax that is not there; else what the document was frozen with. */
export function taxNotes(document: Frozen, words: Words): readonly string[] {
  switch (document.taxation?.kind) {
    case 'reverse_charge':
      return [words.notes.reverseCharge];
    case 'exempt':
      return [words.notes.exempt(document.taxation.reason.trim().replace(/\.$/, ''))];
    case 'exclusive':
    case 'inclusive':
    case undefined:
      return document.notes ?? [];
    default:
      return document.taxation satisfies never;
  }
}

export function localeOf(document: Frozen): string {
  return documentLocale(document.locale);
}
