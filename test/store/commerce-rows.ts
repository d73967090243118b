import type { Discount } from '../../billing/discount.ts';
import type { Charge, PlanDefinition } from '../../billing/plan.ts';
import { type CouponRow, insertCoupon } from '../../store/coupons.ts';
import { type Db, inTransaction } from '../../store/db.ts';
import { newId } from '../../store/ids.ts';
import {
  attachCoupon,
  type CouponAttachment,
  recordCouponUses,
} from '../../store/subscription-coupons.ts';
import { insertTaxRate } from '../../store/tax-rates.ts';

/** Rows of what is sold beside plans, and invoices with nothing on them but their state. */

let names = 0;

/** A coupon of 10 % off one interval, but for what is given. */
export async function seedCoupon(db: Db, fields: Partial<CouponRow> = {}): Promise<CouponRow> {
  names += 1;
  const lookupId = `coupon-${names}`;
  return inTransaction(db, (tx) =>
    insertCoupon(tx, 'test', {
      lookup_id: lookupId,
      name: lookupId,
      percent: fields.amount_minor === undefined ? '10' : null,
      amount_minor: null,
      currency: fields.amount_minor === undefined ? null : 'USD',
      applies_to: 'invoice',
      meter_ids: [],
      duration: 'once',
      duration_intervals: null,
      max_redemptions: null,
      redeem_by: null,
      ...fields,
    }),
  );
}

export async function seedTaxRate(db: Db, name: string, percent: string): Promise<string> {
  names += 1;
  const lookup_id = `rate-${names}`;
  const row = await inTransaction(db, (tx) =>
    insertTaxRate(tx, 'test', { lookup_id, name, percent }),
  );
  return row.id;
}

export async function attach(
  db: Db,
  subscriptionId: string,
  couponId: string,
  at: Date,
): Promise<CouponAttachment> {
  return inTransaction(db, (tx) => attachCoupon(tx, { subscriptionId, couponId, at }));
}

/** The `dsc_` id of a coupon that is attached without trouble. */
export async function attached(
  db: Db,
  subscriptionId: string,
  couponId: string,
  at: Date,
): Promise<string> {
  const attachment = await attach(db, subscriptionId, couponId, at);
  if (attachment.kind === 'refused') throw new Error(`refused: ${attachment.code}`);
  return attachment.held.id;
}

/** An invoice without lines. `periodId` null: it belongs to no period. */
export async function seedInvoice(
  db: Db,
  of: {
    readonly subscriberId: string;
    readonly subscriptionId: string;
    readonly periodId?: string | null;
    readonly state: 'draft' | 'open';
  },
): Promise<string> {
  const id = newId('inv');
  await db('invoices').insert({
    id,
    environment: 'test',
    subscriber_id: of.subscriberId,
    subscription_id: of.subscriptionId,
    period_id: of.periodId ?? null,
    kind: of.periodId === undefined || of.periodId === null ? 'change' : 'period',
    business_key: id,
    state: 'draft',
    currency: 'USD',
    document: '{}',
  });
  if (of.state === 'open') await finalizeInvoice(db, id);
  return id;
}

export async function finalizeInvoice(db: Db, invoiceId: string): Promise<void> {
  names += 1;
  await db('invoices').where({ id: invoiceId }).update({
    state: 'open',
    number: invoiceId,
    series: 'T',
    number_in_series: names,
    finalized_at: new Date(),
  });
}

export async function voidInvoice(db: Db, invoiceId: string): Promise<void> {
  await db('invoices').where({ id: invoiceId }).update({ state: 'void', voided_at: new Date() });
}

/** Notes that coupons took these amounts, by `dsc_` id. */
export async function use(
  db: Db,
  invoiceId: string,
  intervalIndex: number,
  taken: Readonly<Record<string, bigint>>,
): Promise<void> {
  const discounts = Object.entries(taken).map(([couponId, amountMinor]): Discount => ({
    couponId,
    name: couponId,
    amountMinor,
    shares: [],
  }));
  await inTransaction(db, (tx) => recordCouponUses(tx, { invoiceId, intervalIndex, discounts }));
}

export function definitionWith(
  charges: readonly Charge[],
  more: Partial<PlanDefinition> = {},
): PlanDefinition {
  return {
    currency: 'USD',
    interval: { unit: 'month', count: 1 },
    billing_time: 'anniversary',
    charges,
    features: [],
    rate_limits: [],
    credits: null,
    ...more,
  };
}

export function usageCharge(id: string, meterId: string, taxRateIds?: readonly string[]): Charge {
  return {
    kind: 'usage',
    id,
    display_name: id,
    meter: {
      id: meterId,
      key: 'api_calls',
      name: 'API Calls',
      unit_one: 'call',
      unit_other: 'calls',
      scale: 0,
      aggregation: 'SUM',
    },
    price: { model: 'per_unit', unit_price: '1' },
    included_units: '0',
    ...(taxRateIds === undefined ? {} : { tax_rate_ids: taxRateIds }),
  };
}

export function feeCharge(id: string, taxRateIds?: readonly string[]): Charge {
  return {
    kind: 'recurring',
    id,
    display_name: id,
    amount_minor: '1000',
    ...(taxRateIds === undefined ? {} : { tax_rate_ids: taxRateIds }),
  };
}
