import type { Discount } from './discount.ts';
import { type Minor, sumOf } from './money.ts';
import { divideRounded } from './ratio.ts';
import { isTaxIncluded, taxBreakdown, type Taxation, type TaxLine } from './tax.ts';

/** What of a finalized invoice its credit notes are worked out from. */
export type CreditableInvoice = {
  readonly lines: readonly { readonly chargeId: string | null; readonly amountMinor: Minor }[];
  readonly discounts: readonly Discount[];
  readonly taxation: Taxation;
};

/** `lines`: amounts by the position of the line, before its discounts and of its sign. */
export type CreditRequest =
  | { readonly kind: 'full' }
  | { readonly kind: 'lines'; readonly amounts: ReadonlyMap<number, Minor> };

/** All amounts are what is given back: from zero up for lines that charged something. */
export type CreditNote = {
  readonly lines: readonly {
    readonly position: number;
    readonly amountMinor: Minor;
    readonly discountMinor: Minor;
  }[];
  readonly subtotalMinor: Minor;
  readonly discountMinor: Minor;
  readonly taxes: readonly TaxLine[];
  readonly taxMinor: Minor;
  readonly totalMinor: Minor;
};

export type CreditResult =
  | { readonly kind: 'ok'; readonly note: CreditNote }
  /** The line does not exist, or less of it is left than was asked for. */
  | { readonly kind: 'above_line'; readonly position: number; readonly leftMinor: Minor }
  | { readonly kind: 'nothing_to_credit' };

/**
 * A credit note over an invoice of which a part may have been credited before. Discount and tax of a part are what all
 * credits so far carry less what the earlier ones carried; so the notes of an invoice, however it is cut, add up to its
 * discounts, to its taxes and to its total, to the minor unit.
 * @param before What earlier notes credited of each line, by position; a position without an entry: nothing.
 */
export function creditNote(
  invoice: CreditableInvoice,
  before: ReadonlyMap<number, Minor>,
  request: CreditRequest,
): CreditResult {
  const past = invoice.lines.map((_, position) => before.get(position) ?? 0n);
  const left = invoice.lines.map((line, position) => line.amountMinor - (past[position] ?? 0n));
  const wanted =
    request.kind === 'full' ? left : left.map((_, at) => request.amounts.get(at) ?? 0n);
  const refused = firstRefused(left, request);
  if (refused !== null) return refused;
  if (wanted.every((amount) => amount === 0n)) return { kind: 'nothing_to_credit' };
  const earlier = creditedUpTo(invoice, past);
  const now = creditedUpTo(
    invoice,
    past.map((amount, position) => amount + (wanted[position] ?? 0n)),
  );
  return { kind: 'ok', note: noteBetween(earlier, now) };
}

/** The first amount that does not lie between nothing and what is left of its line. */
function firstRefused(left: readonly Minor[], request: CreditRequest): CreditResult | null {
  if (request.kind === 'full') return null;
  for (const [position, amount] of request.amounts) {
    const leftMinor = left[position] ?? 0n;
    const isWithin =
      leftMinor >= 0n ? amount >= 0n && amount <= leftMinor : amount <= 0n && amount >= leftMinor;
    if (!isWithin) return { kind: 'above_line', position, leftMinor };
  }
  return null;
}

/** What credits of these amounts of the lines carry altogether. */
type Credited = {
  readonly lines: readonly { readonly amountMinor: Minor; readonly discountMinor: Minor }[];
  readonly taxes: readonly TaxLine[];
  readonly taxIncluded: boolean;
};

function creditedUpTo(invoice: CreditableInvoice, credited: readonly Minor[]): Credited {
  const lines = invoice.lines.map((line, position) => {
    const amountMinor = credited[position] ?? 0n;
    const discount = sumOf(invoice.discounts.map(({ shares }) => shares[position] ?? 0n));
    return { amountMinor, discountMinor: partOf(discount, amountMinor, line.amountMinor) };
  });
  const net = lines.map(({ amountMinor, discountMinor }, position) => ({
    chargeId: invoice.lines[position]?.chargeId ?? null,
    amountMinor: amountMinor - discountMinor,
  }));
  return {
    lines,
    taxes: taxBreakdown(net, invoice.taxation),
    taxIncluded: isTaxIncluded(invoice.taxation),
  };
}

/** The part of a discount that goes with a part of its line. Only lines above zero are discounted. */
function partOf(discount: Minor, part: Minor, whole: Minor): Minor {
  return whole <= 0n ? 0n : divideRounded(discount * part, whole);
}

function noteBetween(earlier: Credited, now: Credited): CreditNote {
  const lines = now.lines.map((line, position) => ({
    position,
    amountMinor: line.amountMinor - (earlier.lines[position]?.amountMinor ?? 0n),
    discountMinor: line.discountMinor - (earlier.lines[position]?.discountMinor ?? 0n),
  }));
  // Rates stand in the same order in both: it depends on the lines' charges, not on their amounts.
  const taxes = now.taxes.map((tax, index) => ({
    ...tax,
    baseMinor: tax.baseMinor - (earlier.taxes[index]?.baseMinor ?? 0n),
    amountMinor: tax.amountMinor - (earlier.taxes[index]?.amountMinor ?? 0n),
  }));
  const subtotalMinor = sumOf(lines.map((line) => line.amountMinor));
  const discountMinor = sumOf(lines.map((line) => line.discountMinor));
  const taxMinor = sumOf(taxes.map((tax) => tax.amountMinor));
  return {
    lines: lines.filter((line) => line.amountMinor !== 0n),
    subtotalMinor,
    discountMinor,
    taxes,
    taxMinor,
    totalMinor: subtotalMinor - discountMinor + (now.taxIncluded ? 0n : taxMinor),
  };
}
