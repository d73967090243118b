/** The add-ons that a subscription holds, each from an instant on and until it is ended. */
import type { AddOnTerm } from '../billing/fees.ts';
import type { Span } from '../billing/ratio.ts';
import type { Reader, Tx } from './db.ts';
import { newId } from './ids.ts';
import { insertedRow, selectRow, selectRows } from './query.ts';

type TermRow = {
  readonly id: string;
  readonly name: string;
  readonly type: 'RECURRING' | 'ONE_TIME';
  readonly amountMinor: bigint;
  readonly quantity: number;
  readonly fromAt: Date;
  readonly untilAt: Date | null;
  readonly taxRateIds: readonly string[];
};

/**
 * What of its add-ons a span of a subscription bills, in the order in which they were added. Recurring ones that are
 * held in any part of it; one-time ones that were added in it and not taken back before its end, and on the
 * subscription's first period those that were added before it, since a period begins a little after its subscription.
 */
export async function readAddOns(
  db: Reader,
  subscriptionId: string,
  span: Span,
): Promise<readonly AddOnTerm[]> {
  const rows = await selectRows<TermRow>(
    db,
    `SELECT h.id, a.name, a.type, a.amount_minor AS "amountMinor", h.quantity, h.from_at AS "fromAt",
            h.until_at AS "untilAt", a.tax_rate_ids AS "taxRateIds"
     FROM subscription_add_ons h JOIN add_ons a ON a.id = h.add_on_id
     WHERE h.subscription_id = :subscription AND h.from_at < :end
       AND CASE a.type
         WHEN 'RECURRING' THEN h.until_at IS NULL OR h.until_at > greatest(h.from_at, :start::timestamptz)
         ELSE (h.until_at IS NULL OR h.until_at >= :end)
           AND (h.from_at >= :start OR NOT EXISTS (
             SELECT 1 FROM periods p
             WHERE p.subscription_id = h.subscription_id AND p.state <> 'void' AND p.start_at < :start))
         END
     ORDER BY h.created_at, h.id`,
    { subscription: subscriptionId, start: new Date(span.startMs), end: new Date(span.endMs) },
  );
  return rows.map((row) => ({
    id: row.id,
    name: row.name,
    kind: row.type === 'RECURRING' ? 'recurring' : 'one_time',
    amountMinor: row.amountMinor,
    quantity: BigInt(row.quantity),
    fromMs: row.fromAt.getTime(),
    untilMs: row.untilAt?.getTime() ?? null,
    taxRateIds: row.taxRateIds,
  }));
}

export type HeldAddOn = {
  readonly id: string;
  readonly subscription_id: string;
  readonly add_on_id: string;
  readonly lookup_id: string;
  readonly name: string;
  readonly type: 'RECURRING' | 'ONE_TIME';
  readonly amount_minor: bigint;
  readonly currency: string;
  readonly quantity: number;
  readonly from_at: Date;
  readonly until_at: Date | null;
  readonly created_at: Date;
};

const held = `SELECT h.id, h.subscription_id, h.add_on_id, a.lookup_id, a.name, a.type, a.amount_minor, a.currency,
    h.quantity, h.from_at, h.until_at, h.created_at
  FROM subscription_add_ons h JOIN add_ons a ON a.id = h.add_on_id`;

/** All that a subscription has or had, in the order in which they were added. */
export async function listHeldAddOns(
  db: Reader,
  subscriptionId: string,
): Promise<readonly HeldAddOn[]> {
  return selectRows(db, `${held} WHERE h.subscription_id = ? ORDER BY h.created_at, h.id`, [
    subscriptionId,
  ]);
}

export type AddOnAttachment =
  | { readonly kind: 'attached'; readonly held: HeldAddOn }
  | {
      readonly kind: 'refused';
      readonly code: 'add_on_not_found' | 'add_on_archived';
    }
  | {
      readonly kind: 'refused';
      readonly code: 'currency_differs' | 'product_differs';
      /** What the add-on is of, and what the subscription is of. */
      readonly addOns: string;
      readonly subscriptions: string;
    };

type Offer = {
  readonly archivedAt: Date | null;
  readonly currency: string;
  readonly productId: string;
  readonly subscriptionCurrency: string;
  readonly subscriptionProductId: string;
};

/**
 * Gives a subscription an add-on from `at` on. An add-on may be held several times. A refusal leaves the transaction
 * usable.
 */
export async function attachAddOn(
  tx: Tx,
  wanted: {
    readonly subscriptionId: string;
    readonly addOnId: string;
    /** 1 … 1,000,000. */
    readonly quantity: number;
    readonly at: Date;
  },
): Promise<AddOnAttachment> {
  const offer = await readOffer(tx, wanted);
  if (offer === null) return { kind: 'refused', code: 'add_on_not_found' };
  if (offer.archivedAt !== null) return { kind: 'refused', code: 'add_on_archived' };
  if (offer.currency !== offer.subscriptionCurrency) {
    const sides = { addOns: offer.currency, subscriptions: offer.subscriptionCurrency };
    return { kind: 'refused', code: 'currency_differs', ...sides };
  }
  if (offer.productId !== offer.subscriptionProductId) {
    const sides = { addOns: offer.productId, subscriptions: offer.subscriptionProductId };
    return { kind: 'refused', code: 'product_differs', ...sides };
  }

  const id = newId('sad');
  await tx.raw(
    `INSERT INTO subscription_add_ons (id, subscription_id, add_on_id, quantity, from_at, created_at)
     VALUES (?, ?, ?, ?, ?, clock_timestamp())`,
    [id, wanted.subscriptionId, wanted.addOnId, wanted.quantity, wanted.at],
  );
  return { kind: 'attached', held: await insertedRow(tx, `${held} WHERE h.id = ?`, [id]) };
}

/** Both rows are shared until the transaction ends: an add-on that is archived meanwhile was archived afterwards. */
async function readOffer(
  tx: Tx,
  of: { readonly subscriptionId: string; readonly addOnId: string },
): Promise<Offer | null> {
  return selectRow<Offer>(
    tx,
    `SELECT a.archived_at AS "archivedAt", a.currency, a.product_id AS "productId",
            s.currency AS "subscriptionCurrency", s.product_id AS "subscriptionProductId"
     FROM subscriptions s JOIN add_ons a ON a.environment = s.environment
     WHERE s.id = ? AND a.id = ? FOR SHARE OF a`,
    [of.subscriptionId, of.addOnId],
  );
}

export type AddOnEnding =
  | { readonly kind: 'ended'; readonly held: HeldAddOn }
  | { readonly kind: 'refused'; readonly code: 'not_held' | 'already_billed' };

/**
 * Ends what a subscription holds at `at`: a recurring one is billed for its part of the interval, a one-time one of the
 * period that runs is taken back. One that ended before keeps its end. A one-time one that is billed, or whose period is
 * over, is refused.
 */
export async function endAddOn(
  tx: Tx,
  of: { readonly subscriptionId: string; readonly heldId: string; readonly at: Date },
): Promise<AddOnEnding> {
  const found = await selectRow<HeldAddOn>(
    tx,
    `${held} WHERE h.id = ? AND h.subscription_id = ? FOR UPDATE OF h`,
    [of.heldId, of.subscriptionId],
  );
  if (found === null) return { kind: 'refused', code: 'not_held' };
  if (found.until_at !== null) return { kind: 'ended', held: found };
  if (found.type === 'ONE_TIME' && (await isBilled(tx, found, of.at))) {
    return { kind: 'refused', code: 'already_billed' };
  }

  await tx.raw('UPDATE subscription_add_ons SET until_at = greatest(from_at, ?) WHERE id = ?', [
    of.at,
    found.id,
  ]);
  return { kind: 'ended', held: await insertedRow(tx, `${held} WHERE h.id = ?`, [found.id]) };
}

/** When its period is over, its invoice is on the way; an earlier invoice of the interval may have billed it before. */
async function isBilled(tx: Tx, found: HeldAddOn, at: Date): Promise<boolean> {
  const row = await selectRow(
    tx,
    `SELECT 1 FROM periods WHERE subscription_id = :subscription AND state <> 'void' AND end_at > :from AND end_at <= :at
     UNION ALL
     SELECT 1 FROM invoice_lines l JOIN invoices i ON i.id = l.invoice_id
     WHERE i.subscription_id = :subscription AND l.charge_id = :held AND i.state NOT IN ('draft', 'void')
     LIMIT 1`,
    { subscription: found.subscription_id, from: found.from_at, at, held: found.id },
  );
  return row !== null;
}
