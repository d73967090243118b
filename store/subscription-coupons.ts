/**
 * The coupons that a subscription holds: given, taken back, and what each took off which invoice. A coupon is used by an
 * interval, not by an invoice: several invoices of one interval are one use, and share a fixed amount.
 */
import type { Coupon, Discount } from '../billing/discount.ts';
import type { AddOnTerm } from '../billing/fees.ts';
import type { PlanDefinition } from '../billing/plan.ts';
import type { CouponRow } from './coupons.ts';
import type { Reader, Tx } from './db.ts';
import { newId } from './ids.ts';
import { insertedRow, selectRow, selectRows } from './query.ts';

type Wanted = {
  readonly subscriptionId: string;
  /** The interval that the invoice is of. */
  readonly intervalIndex: number;
  /** Charges of other versions on the same invoice may stand among its charges. */
  readonly definition: Pick<PlanDefinition, 'currency' | 'charges'>;
  readonly addOns: readonly AddOnTerm[];
  /** Up to when the invoice reaches: what was attached later, or removed before, does not count. */
  readonly at: Date;
  /** The period that is invoiced: what a draft of it took is taken anew. */
  readonly periodId?: string;
  /** Charges whose lines on this invoice are for the interval after it, fees in advance: they use that. Default none. */
  readonly aheadChargeIds?: readonly string[];
  /**
   * Invoices whose fees are given back for new ones of the same interval: fixed amounts that one of them used are whole
   * again, all others are left out.
   */
  readonly takenAnewFrom?: readonly string[];
};

/** What of it decides which lines a coupon is taken off, and how much. */
type Billed = Omit<Wanted, 'subscriptionId' | 'at' | 'periodId' | 'takenAnewFrom'> & {
  /** The fixed amounts that are whole again; absent: as much is left of each as the interval has not taken. */
  readonly takenAnew?: ReadonlySet<string>;
};

type HeldRow = Pick<
  CouponRow,
  'name' | 'percent' | 'amount_minor' | 'currency' | 'applies_to' | 'meter_ids'
> & {
  readonly id: string;
  /** How many intervals it lasts; null: forever. */
  readonly intervalsMax: number | null;
};

/**
 * The coupons of an invoice in the order in which they were attached; those that have lasted their intervals, and fixed
 * amounts that earlier invoices of the interval took whole, are left out. Uses of void invoices do not count.
 * Whoever issues the invoice holds the lock of the subscriber's balance, so that two invoices do not take the same.
 */
export async function readCoupons(db: Reader, of: Wanted): Promise<readonly Coupon[]> {
  const held = await selectRows<HeldRow>(
    db,
    `SELECT h.id, c.name, c.percent, c.amount_minor, c.currency, c.applies_to, c.meter_ids,
            CASE c.duration WHEN 'once' THEN 1 WHEN 'repeating' THEN c.duration_intervals END AS "intervalsMax"
     FROM subscription_coupons h JOIN coupons c ON c.id = h.coupon_id
     WHERE h.subscription_id = :subscription AND date_trunc('milliseconds', h.created_at) <= :at
       AND (h.removed_at IS NULL OR h.removed_at > :at)
     ORDER BY h.created_at, h.id`,
    { subscription: of.subscriptionId, at: of.at },
  );
  if (held.length === 0) return [];
  const uses = await readUses(db, of);
  const { takenAnewFrom } = of;
  const billed: Billed =
    takenAnewFrom === undefined ? of : { ...of, takenAnew: await readTaken(db, takenAnewFrom) };
  return held.flatMap((row) => resolve(row, uses.get(row.id) ?? [], billed));
}

/** What the invoices used, also where their lines were merely less by it. */
async function readTaken(db: Reader, invoiceIds: readonly string[]): Promise<ReadonlySet<string>> {
  const rows = await selectRows<{ id: string }>(
    db,
    'SELECT DISTINCT subscription_coupon_id AS id FROM coupon_uses WHERE invoice_id = ANY (?::text[])',
    [invoiceIds],
  );
  return new Set(rows.map(({ id }) => id));
}

/** Coupons as a subscription would have them that holds them from its first interval on, in the order given. */
export function couponsAsHeld(
  rows: readonly CouponRow[],
  of: Pick<Billed, 'definition' | 'aheadChargeIds'>,
): readonly Coupon[] {
  return rows.flatMap((row) => {
    const intervalsMax = row.duration === 'once' ? 1 : row.duration_intervals;
    return resolve({ ...row, intervalsMax }, [], { ...of, addOns: [], intervalIndex: 0 });
  });
}

type Use = {
  readonly heldId: string;
  readonly intervalIndex: number;
  readonly amountMinor: bigint;
};

async function readUses(db: Reader, of: Wanted): Promise<ReadonlyMap<string, readonly Use[]>> {
  const uses = await selectRows<Use>(
    db,
    `SELECT u.subscription_coupon_id AS "heldId", u.interval_index AS "intervalIndex",
            sum(u.amount_minor)::numeric(38,0) AS "amountMinor"
     FROM coupon_uses u JOIN subscription_coupons h ON h.id = u.subscription_coupon_id
       JOIN invoices i ON i.id = u.invoice_id
     WHERE h.subscription_id = :subscription AND i.state <> 'void'
       AND NOT (i.state = 'draft' AND i.period_id IS NOT DISTINCT FROM :period::text)
     GROUP BY u.subscription_coupon_id, u.interval_index`,
    { subscription: of.subscriptionId, period: of.periodId ?? null },
  );
  return Map.groupBy(uses, ({ heldId }) => heldId);
}

/**
 * Lines of the invoiced interval and fees ahead of the next one are two uses, each with the amount of its interval. In the
 * last interval of a coupon that is not used yet, the next one has it only where this one took nothing.
 */
function resolve(row: HeldRow, uses: readonly Use[], of: Billed): readonly Coupon[] {
  const { intervalIndex, aheadChargeIds = [] } = of;
  const on = onOf(row, of);
  if (on === null) return [];
  const used = new Set(uses.map((use) => use.intervalIndex));
  const couponOf = (index: number, lines: Coupon['on'] | null): Coupon | null => {
    const off = lasts(row, used, index) ? offOf(row, uses, { ...of, intervalIndex: index }) : null;
    return off === null || lines === null ? null : { id: row.id, name: row.name, off, on: lines };
  };
  const isEndless = row.intervalsMax === null && row.percent !== null;
  if (aheadChargeIds.length === 0 || isEndless) {
    const whole = couponOf(intervalIndex, on);
    return whole === null ? [] : [whole];
  }
  const own = couponOf(
    intervalIndex,
    restricted(on, { kind: 'except', chargeIds: aheadChargeIds }),
  );
  const next = intervalIndex + 1;
  const ahead = couponOf(next, restricted(on, { kind: 'only', chargeIds: aheadChargeIds }));
  const isElse = own !== null && !lasts(row, new Set([...used, intervalIndex]), next);
  return [
    ...(own === null ? [] : [own]),
    ...(ahead === null ? [] : [{ ...ahead, isAhead: true, ...(isElse && { isElse }) }]),
  ];
}

function lasts(row: HeldRow, used: ReadonlySet<number>, intervalIndex: number): boolean {
  return row.intervalsMax === null || used.has(intervalIndex) || used.size < row.intervalsMax;
}

/** Null: nothing of it is left in this interval, or it is of another currency. */
function offOf(row: HeldRow, uses: readonly Use[], of: Billed): Coupon['off'] | null {
  if (row.percent !== null) return { kind: 'percent', percent: row.percent };
  if (row.amount_minor === null || row.currency !== of.definition.currency) return null;
  if (of.takenAnew !== undefined) {
    return of.takenAnew.has(row.id) ? { kind: 'fixed', amountMinor: row.amount_minor } : null;
  }
  const taken = uses.find(({ intervalIndex }) => intervalIndex === of.intervalIndex);
  const amountMinor = row.amount_minor - (taken?.amountMinor ?? 0n);
  return amountMinor > 0n ? { kind: 'fixed', amountMinor } : null;
}

/** Null: the invoice can have no line that it is taken off. */
function onOf(row: HeldRow, { definition, addOns }: Billed): Coupon['on'] | null {
  switch (row.applies_to) {
    case 'invoice':
      return { kind: 'invoice' };
    case 'fees':
      return linesOf([
        ...definition.charges.filter(({ kind }) => kind === 'recurring'),
        ...addOns.filter(({ kind }) => kind === 'recurring'),
      ]);
    case 'meters':
      return linesOf(
        definition.charges.filter(
          (charge) => charge.kind === 'usage' && row.meter_ids.includes(charge.meter.id),
        ),
      );
    default:
      return row.applies_to satisfies never;
  }
}

function linesOf(charges: readonly { readonly id: string }[]): Coupon['on'] | null {
  return charges.length === 0 ? null : { kind: 'lines', chargeIds: charges.map(({ id }) => id) };
}

type Among = { readonly kind: 'only' | 'except'; readonly chargeIds: readonly string[] };

/** Null: there are no such lines. */
function restricted(on: Coupon['on'], among: Among): Coupon['on'] | null {
  if (on.kind === 'invoice') return { ...on, among };
  const isOnly = among.kind === 'only';
  return linesOf(
    on.chargeIds.filter((id) => among.chargeIds.includes(id) === isOnly).map((id) => ({ id })),
  );
}

/**
 * Notes what each coupon took off an invoice, in place of what was noted of that invoice before, so that a draft can be
 * rewritten. A coupon that took nothing is not used.
 * @throws Error when another invoice used a coupon up since it was read: the caller rolls back, and reads it again.
 */
export async function recordCouponUses(
  tx: Tx,
  of: {
    readonly invoiceId: string;
    /** The interval that the invoice is of; discounts ahead are uses of the next one. */
    readonly intervalIndex: number;
    readonly discounts: readonly Discount[];
  },
): Promise<void> {
  await tx.raw('DELETE FROM coupon_uses WHERE invoice_id = ?', [of.invoiceId]);
  const taken = of.discounts.filter(
    ({ amountMinor, reckonedMinor }) => amountMinor > 0n || reckonedMinor !== undefined,
  );
  if (taken.length === 0) return;
  const heldIds = taken.map(({ couponId }) => couponId);
  // Whoever else uses one of them waits here, and then sees what was used. Sorted, to prevent deadlocks.
  await selectRows(
    tx,
    'SELECT id FROM subscription_coupons WHERE id = ANY (?::text[]) ORDER BY id FOR NO KEY UPDATE',
    [heldIds],
  );
  for (const { couponId, amountMinor, isAhead, reckonedMinor } of taken) {
    const intervalIndex = of.intervalIndex + (isAhead === true ? 1 : 0);
    await tx.raw(
      `INSERT INTO coupon_uses (subscription_coupon_id, invoice_id, interval_index, amount_minor) VALUES (?, ?, ?, ?)`,
      [couponId, of.invoiceId, intervalIndex, (amountMinor + (reckonedMinor ?? 0n)).toString()],
    );
  }
  await requireWithinBounds(tx, heldIds);
}

async function requireWithinBounds(tx: Tx, heldIds: readonly string[]): Promise<void> {
  const overused = await selectRow<{ id: string }>(
    tx,
    `WITH uses AS (
       SELECT u.subscription_coupon_id AS id, u.interval_index, sum(u.amount_minor) AS minor
       FROM coupon_uses u JOIN invoices i ON i.id = u.invoice_id
       WHERE u.subscription_coupon_id = ANY (?::text[]) AND i.state <> 'void'
       GROUP BY u.subscription_coupon_id, u.interval_index
     )
     SELECT h.id FROM uses JOIN subscription_coupons h USING (id) JOIN coupons c ON c.id = h.coupon_id
     GROUP BY h.id, c.id
     HAVING max(uses.minor) > c.amount_minor
       OR count(*) > CASE c.duration WHEN 'once' THEN 1 WHEN 'repeating' THEN c.duration_intervals END
     LIMIT 1`,
    [heldIds],
  );
  if (overused !== null) throw new Error(`the coupon ${overused.id} was used up in between`);
}

export type HeldCoupon = {
  readonly id: string;
  readonly subscription_id: string;
  readonly coupon_id: string;
  readonly lookup_id: string;
  readonly name: string;
  readonly percent: string | null;
  readonly amount_minor: bigint | null;
  readonly currency: string | null;
  readonly duration: CouponRow['duration'];
  readonly duration_intervals: number | null;
  /** In how many intervals it was taken off an invoice that is not void. */
  readonly intervals_used: number;
  readonly created_at: Date;
  readonly removed_at: Date | null;
};

const heldCoupon = `SELECT h.id, h.subscription_id, h.coupon_id, c.lookup_id, c.name, c.percent, c.amount_minor, c.currency,
    c.duration, c.duration_intervals, h.created_at, h.removed_at,
    (SELECT count(DISTINCT u.interval_index)::int FROM coupon_uses u JOIN invoices i ON i.id = u.invoice_id
     WHERE u.subscription_coupon_id = h.id AND i.state <> 'void') AS intervals_used
  FROM subscription_coupons h JOIN coupons c ON c.id = h.coupon_id`;

/** All that a subscription has or had, in the order in which they were attached. */
export async function listHeldCoupons(
  db: Reader,
  subscriptionId: string,
): Promise<readonly HeldCoupon[]> {
  return selectRows(db, `${heldCoupon} WHERE h.subscription_id = ? ORDER BY h.created_at, h.id`, [
    subscriptionId,
  ]);
}

export type CouponAttachment =
  | { readonly kind: 'attached'; readonly held: HeldCoupon }
  | { readonly kind: 'refused'; readonly code: 'coupon_not_found' | 'coupon_archived' }
  | { readonly kind: 'refused'; readonly code: 'redeem_by_passed'; readonly redeemBy: Date }
  | {
      readonly kind: 'refused';
      readonly code: 'currency_differs';
      readonly coupons: string;
      readonly subscriptions: string;
    }
  | { readonly kind: 'refused'; readonly code: 'already_held'; readonly heldId: string }
  | {
      readonly kind: 'refused';
      readonly code: 'max_redemptions_reached';
      readonly maxRedemptions: number;
    };

type CouponOffer = {
  readonly archivedAt: Date | null;
  readonly redeemBy: Date | null;
  readonly currency: string | null;
  readonly maxRedemptions: number | null;
  readonly subscriptionCurrency: string;
};

/**
 * Gives a subscription a coupon at `at`, behind those that it holds. Every attachment is a redemption, also one that is
 * removed again. A refusal leaves the transaction usable. Whoever attaches several locks them first.
 */
export async function attachCoupon(
  tx: Tx,
  wanted: { readonly subscriptionId: string; readonly couponId: string; readonly at: Date },
): Promise<CouponAttachment> {
  const offer = await lockOffer(tx, wanted);
  if (offer === null) return { kind: 'refused', code: 'coupon_not_found' };
  if (offer.archivedAt !== null) return { kind: 'refused', code: 'coupon_archived' };
  if (offer.redeemBy !== null && offer.redeemBy.getTime() < wanted.at.getTime()) {
    return { kind: 'refused', code: 'redeem_by_passed', redeemBy: offer.redeemBy };
  }
  if (offer.currency !== null && offer.currency !== offer.subscriptionCurrency) {
    const sides = { coupons: offer.currency, subscriptions: offer.subscriptionCurrency };
    return { kind: 'refused', code: 'currency_differs', ...sides };
  }
  const heldId = await findHeld(tx, wanted);
  if (heldId !== null) return { kind: 'refused', code: 'already_held', heldId };
  const { maxRedemptions } = offer;
  if (maxRedemptions !== null && (await countRedemptions(tx, wanted.couponId)) >= maxRedemptions) {
    return { kind: 'refused', code: 'max_redemptions_reached', maxRedemptions };
  }

  const id = newId('dsc');
  // Coupons attached in one millisecond keep their order by microseconds.
  await tx.raw(
    `INSERT INTO subscription_coupons (id, subscription_id, coupon_id, created_at)
     SELECT :id, :subscription, :coupon, greatest(:at::timestamptz, max(h.created_at) + interval '1 microsecond')
     FROM subscription_coupons h WHERE h.subscription_id = :subscription`,
    { id, subscription: wanted.subscriptionId, coupon: wanted.couponId, at: wanted.at },
  );
  return { kind: 'attached', held: await insertedRow(tx, `${heldCoupon} WHERE h.id = ?`, [id]) };
}

/**
 * Locks coupons until the transaction ends, so that their redemptions are counted one after the other. Sorted, to
 * prevent deadlocks.
 */
export async function lockCoupons(tx: Tx, couponIds: readonly string[]): Promise<void> {
  await selectRows(
    tx,
    'SELECT id FROM coupons WHERE id = ANY (?::text[]) ORDER BY id FOR NO KEY UPDATE',
    [couponIds],
  );
}

async function lockOffer(
  tx: Tx,
  of: { readonly subscriptionId: string; readonly couponId: string },
): Promise<CouponOffer | null> {
  await lockCoupons(tx, [of.couponId]);
  return selectRow<CouponOffer>(
    tx,
    `SELECT c.archived_at AS "archivedAt", c.redeem_by AS "redeemBy", c.currency,
            c.max_redemptions AS "maxRedemptions", s.currency AS "subscriptionCurrency"
     FROM subscriptions s JOIN coupons c ON c.environment = s.environment WHERE s.id = ? AND c.id = ?`,
    [of.subscriptionId, of.couponId],
  );
}

async function findHeld(
  tx: Tx,
  of: { readonly subscriptionId: string; readonly couponId: string },
): Promise<string | null> {
  const row = await selectRow<{ id: string }>(
    tx,
    `SELECT id FROM subscription_coupons WHERE subscription_id = ? AND coupon_id = ? AND removed_at IS NULL`,
    [of.subscriptionId, of.couponId],
  );
  return row?.id ?? null;
}

async function countRedemptions(tx: Tx, couponId: string): Promise<number> {
  const row = await insertedRow<{ count: number }>(
    tx,
    'SELECT count(*)::int AS count FROM subscription_coupons WHERE coupon_id = ?',
    [couponId],
  );
  return row.count;
}

/**
 * Takes a coupon back at `at`: invoices that reach beyond it are without it. One that was removed before keeps its
 * instant. Null: the subscription never held it.
 */
export async function removeCoupon(
  tx: Tx,
  of: { readonly subscriptionId: string; readonly heldId: string; readonly at: Date },
): Promise<HeldCoupon | null> {
  const row = await selectRow<{ id: string }>(
    tx,
    `UPDATE subscription_coupons SET removed_at = coalesce(removed_at, ?) WHERE id = ? AND subscription_id = ?
     RETURNING id`,
    [of.at, of.heldId, of.subscriptionId],
  );
  return row === null ? null : insertedRow(tx, `${heldCoupon} WHERE h.id = ?`, [row.id]);
}
