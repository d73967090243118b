/**
 * Take-backs: credits of a top-up that are taken back for a credit note on its invoice. Nothing is given for credits that
 * may be spent by now, so it goes the way of every debit that is not usage: the intent to the core log; the shard takes
 * what it has; the drain, which has posted all usage before it by then, decides once what that comes to; then the credit
 * note is issued for exactly that.
 */
import {
  availableOfGrant,
  creditsBack,
  takeBack,
  type TakeBackWish,
  type TakenBefore,
} from '../billing/take-back.ts';
import { type CreditReason, issueCreditNote } from './credit-notes.ts';
import type { Reader, Tx } from './db.ts';
import { newId } from './ids.ts';
import { readInvoiceMoney } from './invoice-money.ts';
import { lockInvoice } from './invoices.ts';
import { insertedRow, selectRow } from './query.ts';
import { appendCoreLog } from './wallets.ts';

export type TakeBackState = 'taking' | 'taken' | 'credited' | 'refused';

export type NewTakeBack = {
  readonly invoiceId: string;
  /** The business fact: a repeat answers the take-back that is there. The credit note gets the same one. */
  readonly businessKey: string;
  /** Of the one line of the invoice, before its taxes. */
  readonly wish: TakeBackWish;
  readonly reason: CreditReason;
  readonly memo?: string;
  readonly to: 'balance' | 'refund';
  readonly actor: string;
  /** What the shard would let a request take of each bucket, by id; null: it cannot be asked, the ledger's word counts. */
  readonly onShard: ReadonlyMap<string, bigint> | null;
};

export type TakeBackBegin =
  | { readonly kind: 'begun'; readonly takeBackId: string }
  | {
      readonly kind: 'refused';
      readonly code: 'above_available';
      /** Of the line, at most this can be given back now; and for how many credits. */
      readonly leftMinor: bigint;
      readonly leftMicro: bigint;
      readonly unit: string;
    }
  | { readonly kind: 'refused'; readonly code: 'in_progress' | 'nothing_to_refund' };

/** What was sold, and how much of it the ledger says is left, in micro-credits. */
type SaleRow = {
  readonly grantId: string;
  readonly bucketId: bigint;
  readonly unit: string;
  readonly creditsMicro: bigint;
  readonly priceMinor: bigint;
  readonly remainingMicro: bigint;
  /** What is left of older grants in its bucket, and of all of them. */
  readonly olderMicro: bigint;
  readonly bucketMicro: bigint;
};

const saleOf = (
  where: string,
): string => `SELECT g.id AS "grantId", g.bucket_id AS "bucketId", w.unit,
    g.amount_micro AS "creditsMicro", l.amount_minor AS "priceMinor", g.remaining_micro AS "remainingMicro",
    (SELECT coalesce(sum(o.remaining_micro), 0)::bigint FROM grants o
      WHERE o.bucket_id = g.bucket_id AND (o.created_at, o.id) < (g.created_at, g.id)) AS "olderMicro",
    (SELECT sum(o.remaining_micro)::bigint FROM grants o WHERE o.bucket_id = g.bucket_id) AS "bucketMicro"
  FROM top_ups t JOIN grants g ON g.business_key = 'top_up:' || t.id AND t.id = substr(g.business_key, 8)
  JOIN wallets w ON w.id = g.wallet_id
  JOIN invoice_lines l ON l.invoice_id = t.invoice_id AND l.kind = 'top_up' WHERE ${where}`;

/**
 * Asks for credits back: writes the take-back, and its debit in the core log, under the invoice's lock. One of an invoice
 * at a time, so that what is worked out here is still so when the shard answers. The shard's word makes a refusal exact
 * for whoever asks; what is really there is decided by `settleTakeBack`.
 */
export async function beginTakeBack(tx: Tx, of: NewTakeBack): Promise<TakeBackBegin> {
  const invoice = await lockInvoice(tx, of.invoiceId);
  const known = await selectRow<{ id: string }>(
    tx,
    'SELECT id FROM take_backs WHERE business_key = ?',
    [of.businessKey],
  );
  if (known !== null) return { kind: 'begun', takeBackId: known.id };
  const sale = await insertedRow<SaleRow>(tx, saleOf('t.invoice_id = ?'), [invoice.id]);
  if (await isOneUnderWay(tx, sale.grantId)) return { kind: 'refused', code: 'in_progress' };
  const { refundableMinor } = await readInvoiceMoney(tx, invoice);
  if (of.to === 'refund' && refundableMinor === 0n) {
    return { kind: 'refused', code: 'nothing_to_refund' };
  }
  const before = await readTakenBefore(tx, sale.grantId);
  const leftMicro = availableOf(sale, of.onShard);
  const left = takeBack(sale, before, { kind: 'all' }, leftMicro);
  const isAbove = of.wish.kind === 'amount' && of.wish.minor > left.minor;
  if (isAbove || left.minor === 0n) {
    const { unit } = sale;
    return { kind: 'refused', code: 'above_available', leftMinor: left.minor, leftMicro, unit };
  }
  const askedMicro = of.wish.kind === 'all' ? leftMicro : creditsBack(sale, before, of.wish.minor);
  const takeBackId = await insertTakeBack(tx, of, { invoice, sale, askedMicro });
  await appendCoreLog(tx, {
    subscriberId: invoice.subscriberId,
    verb: 'debit',
    bucketId: sale.bucketId,
    amountMicro: askedMicro,
    businessKey: `take_back:${takeBackId}`,
  });
  return { kind: 'begun', takeBackId };
}

async function isOneUnderWay(tx: Tx, grantId: string): Promise<boolean> {
  const sql = `SELECT 1 AS found FROM take_backs WHERE grant_id = ? AND state IN ('taking', 'taken')`;
  return (await selectRow(tx, sql, [grantId])) !== null;
}

async function readTakenBefore(tx: Tx, grantId: string): Promise<TakenBefore> {
  return insertedRow<TakenBefore>(
    tx,
    `SELECT coalesce(sum(taken_micro), 0)::bigint AS micro, coalesce(sum(credited_minor), 0)::bigint AS minor
     FROM take_backs WHERE grant_id = ? AND state = 'credited'`,
    [grantId],
  );
}

function availableOf(sale: SaleRow, onShard: ReadonlyMap<string, bigint> | null): bigint {
  if (onShard === null) return sale.remainingMicro;
  const shardMicro = onShard.get(sale.bucketId.toString()) ?? 0n;
  return availableOfGrant(sale, { ledgerMicro: sale.bucketMicro, shardMicro });
}

async function insertTakeBack(
  tx: Tx,
  of: NewTakeBack,
  what: {
    readonly invoice: { readonly environment: string; readonly subscriberId: string };
    readonly sale: SaleRow;
    readonly askedMicro: bigint;
  },
): Promise<string> {
  const { id } = await insertedRow<{ id: string }>(
    tx,
    `INSERT INTO take_backs (id, environment, subscriber_id, invoice_id, grant_id, business_key, asked_micro, asked_minor,
       reason, memo, refund_to, actor, state)
     VALUES (:id, :environment, :subscriber, :invoice, :grant, :business_key, :asked_micro, :asked_minor,
       :reason, :memo, :to, :actor, 'taking') RETURNING id`,
    {
      id: newId('tkb'),
      environment: what.invoice.environment,
      subscriber: what.invoice.subscriberId,
      invoice: of.invoiceId,
      grant: what.sale.grantId,
      business_key: of.businessKey,
      asked_micro: what.askedMicro,
      asked_minor: of.wish.kind === 'all' ? null : of.wish.minor,
      reason: of.reason,
      memo: of.memo ?? null,
      to: of.to,
      actor: of.actor,
    },
  );
  return id;
}

/** Whose debit of the core log it is, by its business key; null: no take-back's. */
export function takeBackOf(businessKey: string): string | null {
  return /^take_back:(tkb_[0-9a-z]+)$/.exec(businessKey)?.[1] ?? null;
}

/**
 * Decides what a take-back comes to: only what is given money for is taken. Called once, by the drain, after all usage
 * that came before. Answers what is to be taken from the grant.
 * @param haveMicro What the shard took of the grant, and the grant still has.
 */
export async function settleTakeBack(
  tx: Tx,
  takeBackId: string,
  haveMicro: bigint,
): Promise<bigint> {
  const { grant_id: grantId, asked_minor: askedMinor } = await insertedRow<{
    grant_id: string;
    asked_minor: bigint | null;
  }>(tx, 'SELECT grant_id, asked_minor FROM take_backs WHERE id = ? FOR UPDATE', [takeBackId]);
  const sale = await insertedRow<SaleRow>(tx, saleOf('g.id = ?'), [grantId]);
  const wish: TakeBackWish =
    askedMinor === null ? { kind: 'all' } : { kind: 'amount', minor: askedMinor };
  const { micro, minor } = takeBack(sale, await readTakenBefore(tx, grantId), wish, haveMicro);
  await tx.raw(
    `UPDATE take_backs SET state = ?, taken_micro = ?, credited_minor = ?, updated_at = now() WHERE id = ?`,
    [micro === 0n ? 'refused' : 'taken', micro.toString(), minor.toString(), takeBackId],
  );
  return micro;
}

export type TakeBack = {
  readonly id: string;
  readonly subscriberId: string;
  readonly invoiceId: string;
  readonly invoiceNumber: string;
  readonly grantId: string;
  readonly unit: string;
  readonly state: TakeBackState;
  readonly askedMicro: bigint;
  readonly takenMicro: bigint | null;
};

/** Throws when there is none. */
export async function readTakeBack(db: Reader, takeBackId: string): Promise<TakeBack> {
  return insertedRow<TakeBack>(
    db,
    `SELECT k.id, k.subscriber_id AS "subscriberId", k.invoice_id AS "invoiceId", i.number AS "invoiceNumber",
       k.grant_id AS "grantId", w.unit,
       k.state, k.asked_micro AS "askedMicro", k.taken_micro AS "takenMicro"
     FROM take_backs k JOIN invoices i ON i.id = k.invoice_id JOIN grants g ON g.id = k.grant_id
     JOIN wallets w ON w.id = g.wallet_id WHERE k.id = ?`,
    [takeBackId],
  );
}

export type TakeBackEnd =
  | {
      readonly kind: 'credited';
      readonly creditNoteId: string;
      readonly number: string;
      /** The refund to carry out; null: the money went to the account balance. */
      readonly refundId: string | null;
    }
  | { readonly kind: 'refused' };

type Settled = {
  readonly invoice_id: string;
  readonly business_key: string;
  readonly taken_micro: bigint;
  readonly credited_minor: bigint;
  readonly reason: CreditReason;
  readonly memo: string | null;
  readonly refund_to: 'balance' | 'refund';
  readonly actor: string;
};

/**
 * Issues the credit note for the credits that were taken. Repeating it changes nothing. Throws while the shard has not
 * answered.
 */
export async function creditTakeBack(tx: Tx, takeBackId: string, at: Date): Promise<TakeBackEnd> {
  const { state, invoiceId, unit } = await readTakeBack(tx, takeBackId);
  if (state === 'refused') return { kind: 'refused' };
  if (state === 'taking') throw new Error(`take-back ${takeBackId} is not settled`);
  // The invoice first: whoever begins another one holds it too.
  await lockInvoice(tx, invoiceId);
  const settled = await insertedRow<Settled>(
    tx,
    `SELECT invoice_id, business_key, taken_micro, credited_minor, reason, memo, refund_to, actor FROM take_backs
     WHERE id = ? FOR UPDATE`,
    [takeBackId],
  );
  const issued = await issueCreditNote(tx, {
    invoiceId,
    businessKey: settled.business_key,
    request: { kind: 'lines', amounts: new Map([[0, settled.credited_minor]]) },
    credits: { micro: settled.taken_micro, unit },
    reason: settled.reason,
    ...(settled.memo === null ? {} : { memo: settled.memo }),
    to: settled.refund_to,
    actor: settled.actor,
    at,
  });
  if (issued.kind === 'refused') {
    throw new Error(`credits were taken for ${takeBackId}, and no note is issued: ${issued.code}`);
  }
  await tx.raw(
    `UPDATE take_backs SET state = 'credited', credit_note_id = ?, updated_at = ? WHERE id = ? AND state = 'taken'`,
    [issued.note.id, at, takeBackId],
  );
  const { id: creditNoteId, number } = issued.note;
  return { kind: 'credited', creditNoteId, number, refundId: issued.refundId };
}
