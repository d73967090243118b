import type { Minor } from './money.ts';

/**
 * The states of an invoice and what each of them holds. Only a draft has no number; only the functions below lead from
 * one state to the next, and each takes nothing but the states that it may start from: nothing leads on from a paid
 * invoice or a void one.
 */
export type InvoiceState = Draft | Open | Paid | Void | Uncollectible;

export type Draft = { readonly state: 'draft' };
/** Finalized: from here on its lines and amounts never change. */
type Finalized = { readonly number: string; readonly finalizedAtMs: number };
export type Open = Finalized & { readonly state: 'open' };
export type Paid = Finalized & {
  readonly state: 'paid';
  readonly paidAtMs: number;
  /** `nothing_due`: the account balance covered it, or its total was not above zero. */
  readonly by: 'payment' | 'out_of_band' | 'nothing_due';
};
export type Void = Finalized & { readonly state: 'void'; readonly voidedAtMs: number };
export type Uncollectible = Finalized & {
  readonly state: 'uncollectible';
  readonly givenUpAtMs: number;
};

/** What is still to be paid, whether anybody expects it to be or not. */
export type Owed = Open | Uncollectible;

/** Whether an invoice in this state may be paid or withdrawn; one that is open may also be given up. */
export function isOwed(state: InvoiceState['state']): state is Owed['state'] {
  return state === 'open' || state === 'uncollectible';
}

/** A draft gets its number and is final. An invoice on which nothing is due is paid at once. */
export function finalize(
  _draft: Draft,
  final: { readonly number: string; readonly amountDueMinor: Minor; readonly atMs: number },
): Open | Paid {
  const { number, atMs } = final;
  const finalized = { number, finalizedAtMs: atMs };
  return final.amountDueMinor > 0n
    ? { state: 'open', ...finalized }
    : { state: 'paid', ...finalized, paidAtMs: atMs, by: 'nothing_due' };
}

/** What was given up may still be paid, or turn out not to be owed. */
export function pay(owed: Owed, by: Paid['by'], atMs: number): Paid {
  const { number, finalizedAtMs } = owed;
  return { state: 'paid', number, finalizedAtMs, paidAtMs: atMs, by };
}

/** The invoice is withdrawn; its number stays taken, and its period may be invoiced again. */
export function withdraw(owed: Owed, atMs: number): Void {
  const { number, finalizedAtMs } = owed;
  return { state: 'void', number, finalizedAtMs, voidedAtMs: atMs };
}

/** Nobody expects the money any more: a loss, until it comes after all. */
export function giveUp(open: Open, atMs: number): Uncollectible {
  return { ...open, state: 'uncollectible', givenUpAtMs: atMs };
}

/** What happened to the money of a finalized invoice, each from zero up. */
export type InvoiceMoney = {
  readonly totalMinor: Minor;
  /** Taken from the account balance when it was finalized. */
  readonly balanceAppliedMinor: Minor;
  /** The totals of its credit notes. */
  readonly creditedMinor: Minor;
  readonly paidMinor: Minor;
  readonly refundedMinor: Minor;
};

/**
 * What is still due, and what was received beyond it and belongs to the account balance. At most one of them is above
 * zero. A refund without a credit note makes the invoice due again.
 */
export function standing(money: InvoiceMoney): {
  readonly dueMinor: Minor;
  readonly overpaidMinor: Minor;
} {
  const received = money.balanceAppliedMinor + money.paidMinor - money.refundedMinor;
  const open = money.totalMinor - money.creditedMinor - received;
  return open > 0n ? { dueMinor: open, overpaidMinor: 0n } : { dueMinor: 0n, overpaidMinor: -open };
}
