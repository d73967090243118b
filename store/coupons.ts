/** Coupons: what can be taken off invoices. One never changes; archiving ends its redemption, not what is held. */
import type { Reader, Tx } from './db.ts';
import { newId } from './ids.ts';
import {
  insertedRow,
  selectNamed,
  selectPageOf,
  type Environment,
  type Page,
  type PageArgs,
} from './query.ts';

export type CouponRow = {
  readonly id: string;
  readonly environment: Environment;
  readonly lookup_id: string;
  readonly name: string;
  /** A plain decimal above 0, up to 100. Null: it is of an amount. */
  readonly percent: string | null;
  readonly amount_minor: bigint | null;
  readonly currency: string | null;
  readonly applies_to: 'invoice' | 'fees' | 'meters';
  readonly meter_ids: readonly string[];
  readonly duration: 'once' | 'repeating' | 'forever';
  /** How many billing intervals; null unless repeating. */
  readonly duration_intervals: number | null;
  /** Null: as often as one likes. */
  readonly max_redemptions: number | null;
  readonly redeem_by: Date | null;
  readonly created_at: Date;
  readonly archived_at: Date | null;
  /** How many subscriptions were given it, those that lost it again too. */
  readonly times_redeemed: number;
};

const redeemed = `(SELECT count(*)::int FROM subscription_coupons h WHERE h.coupon_id = t.id) AS times_redeemed`;
const source = { table: 'coupons', columns: `t.*, ${redeemed}` };

/** One coupon of the environment by id or lookup_id, archived or not. */
export async function findCoupon(
  reader: Reader,
  environment: Environment,
  ref: string,
): Promise<CouponRow | null> {
  return selectNamed(reader, source, environment, ref);
}

export async function listCoupons(
  reader: Reader,
  environment: Environment,
  page: PageArgs,
): Promise<Page<CouponRow>> {
  return selectPageOf(reader, source, environment, page);
}

/** Inserts a coupon. Rejects with unique_violation when the lookup_id is taken. */
export async function insertCoupon(
  tx: Tx,
  environment: Environment,
  fields: Omit<CouponRow, 'id' | 'environment' | 'created_at' | 'archived_at' | 'times_redeemed'>,
): Promise<CouponRow> {
  return insertedRow(
    tx,
    `INSERT INTO coupons (id, environment, lookup_id, name, percent, amount_minor, currency, applies_to, meter_ids,
                          duration, duration_intervals, max_redemptions, redeem_by)
     VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) RETURNING *, 0 AS times_redeemed`,
    [
      newId('cpn'),
      environment,
      fields.lookup_id,
      fields.name,
      fields.percent,
      fields.amount_minor,
      fields.currency,
      fields.applies_to,
      fields.meter_ids,
      fields.duration,
      fields.duration_intervals,
      fields.max_redemptions,
      fields.redeem_by,
    ],
  );
}

/** Archives a coupon; subscriptions that hold it keep it. */
export async function archiveCoupon(tx: Tx, id: string, at: Date): Promise<CouponRow> {
  return insertedRow(
    tx,
    `UPDATE coupons t SET archived_at = coalesce(archived_at, ?) WHERE id = ? RETURNING t.*, ${redeemed}`,
    [at, id],
  );
}
