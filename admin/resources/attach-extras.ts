/** Giving a subscription coupons and add-ons, at its start or later, and the refusals of that in the API's words. */
import type { ProblemCode } from '../../billing/problem.ts';
import { findAddOn, type AddOnRow } from '../../store/add-ons.ts';
import { findCoupon, type CouponRow } from '../../store/coupons.ts';
import type { Tx } from '../../store/db.ts';
import type { Environment } from '../../store/query.ts';
import {
  attachAddOn,
  listHeldAddOns,
  type AddOnAttachment,
  type HeldAddOn,
} from '../../store/subscription-add-ons.ts';
import {
  attachCoupon,
  lockCoupons,
  type CouponAttachment,
  type HeldCoupon,
} from '../../store/subscription-coupons.ts';
import { integer, listOf, object, reference } from '../fields.ts';
import { ApiProblem, fieldProblem, notFound } from '../problems.ts';
import { wireInstant } from './shared.ts';

export const addOnFields = {
  add_on_id: reference('Add-on'),
  quantity: integer(1, 1_000_000, 'How many; one when absent.').optional(),
};

/** What a subscription can be started with; `attachExtras` takes them. */
export const extrasFields = {
  coupons: listOf(reference('Coupon'), 20, 'Coupons that it gets, in this order.').optional(),
  add_ons: listOf(object(addOnFields), 50, 'Add-ons that it gets.').optional(),
};

/** What `attachExtras` refuses with. */
export const extrasProblems = [
  'coupon_archived',
  'coupon_expired',
  'coupon_used_up',
  'add_on_archived',
  'currency_differs',
  'product_differs',
] as const satisfies readonly ProblemCode[];

type Extras = {
  /** Ids or lookup_ids. */
  readonly coupons?: readonly string[] | undefined;
  readonly add_ons?:
    | readonly { readonly add_on_id: string; readonly quantity?: number | undefined }[]
    | undefined;
};

/**
 * Gives a subscription the coupons and add-ons that it is started with. What it holds already it keeps, so that the same
 * wish may come twice.
 * @throws ApiProblem naming the entry that does not exist, or saying why it cannot be given; the transaction is to be
 * rolled back.
 */
export async function attachExtras(
  tx: Tx,
  of: {
    readonly environment: Environment;
    readonly subscriptionId: string;
    readonly extras: Extras;
    readonly at: Date;
  },
): Promise<void> {
  const { environment, subscriptionId, extras, at } = of;
  const coupons = await findCoupons(tx, environment, extras.coupons ?? []);
  const addOns = await findAddOns(tx, environment, extras.add_ons ?? []);
  await lockCoupons(
    tx,
    coupons.map(({ id }) => id),
  );
  for (const coupon of coupons) {
    // In order: it is the order of the discounts.
    // oxlint-disable-next-line no-await-in-loop
    const attachment = await attachCoupon(tx, { subscriptionId, couponId: coupon.id, at });
    const isHeld = attachment.kind === 'refused' && attachment.code === 'already_held';
    if (!isHeld) attachedCoupon(attachment, coupon);
  }
  const held = new Set(
    (await listHeldAddOns(tx, subscriptionId))
      .filter(({ until_at }) => until_at === null)
      .map(({ add_on_id }) => add_on_id),
  );
  for (const { addOn, quantity } of addOns.filter((wanted) => !held.has(wanted.addOn.id))) {
    // oxlint-disable-next-line no-await-in-loop
    const attachment = await attachAddOn(tx, { subscriptionId, addOnId: addOn.id, quantity, at });
    attachedAddOn(attachment, addOn);
  }
}

async function findCoupons(
  tx: Tx,
  environment: Environment,
  refs: readonly string[],
): Promise<readonly CouponRow[]> {
  const found: CouponRow[] = [];
  for (const [index, ref] of refs.entries()) {
    // In order: the first fault is the one that is told.
    // oxlint-disable-next-line no-await-in-loop
    const coupon = await findCoupon(tx, environment, ref);
    if (coupon === null) {
      throw fieldProblem(`coupons[${index}]`, 'names no coupon of this environment');
    }
    if (found.some(({ id }) => id === coupon.id)) {
      throw fieldProblem(`coupons[${index}]`, 'names a coupon a second time');
    }
    found.push(coupon);
  }
  return found;
}

async function findAddOns(
  tx: Tx,
  environment: Environment,
  wanted: NonNullable<Extras['add_ons']>,
): Promise<readonly { readonly addOn: AddOnRow; readonly quantity: number }[]> {
  const found: { readonly addOn: AddOnRow; readonly quantity: number }[] = [];
  for (const [index, { add_on_id, quantity }] of wanted.entries()) {
    // oxlint-disable-next-line no-await-in-loop
    const addOn = await findAddOn(tx, environment, add_on_id);
    const field = `add_ons[${index}].add_on_id`;
    if (addOn === null) throw fieldProblem(field, 'names no add-on of this environment');
    if (found.some((other) => other.addOn.id === addOn.id)) {
      throw fieldProblem(field, 'names an add-on a second time; give it a quantity');
    }
    found.push({ addOn, quantity: quantity ?? 1 });
  }
  return found;
}

/** What was attached. @throws ApiProblem that says why it was not. */
export function attachedCoupon(attachment: CouponAttachment, coupon: CouponRow): HeldCoupon {
  if (attachment.kind === 'attached') return attachment.held;
  const name = coupon.lookup_id;
  switch (attachment.code) {
    case 'coupon_not_found':
      throw notFound('coupon', name);
    case 'coupon_archived':
      throw new ApiProblem('coupon_archived', `The coupon ${name} is archived.`);
    case 'redeem_by_passed':
      throw new ApiProblem(
        'coupon_expired',
        `The coupon ${name} could be redeemed until ${wireInstant(attachment.redeemBy)}.`,
      );
    case 'currency_differs':
      throw new ApiProblem(
        'currency_differs',
        `The coupon ${name} is of ${attachment.coupons}, and the subscription of ${attachment.subscriptions}. Use a coupon of ${attachment.subscriptions}, or of a percentage.`,
      );
    case 'already_held':
      throw new ApiProblem(
        'coupon_held',
        `The subscription has the coupon ${name} already, as ${attachment.heldId}. Take it away first to give it once more.`,
        { extra: { subscription_coupon_id: attachment.heldId } },
      );
    case 'max_redemptions_reached':
      throw new ApiProblem(
        'coupon_used_up',
        `The coupon ${name} can be redeemed ${times(attachment.maxRedemptions)}, and was.`,
      );
    default:
      return attachment satisfies never;
  }
}

function times(count: number): string {
  return count === 1 ? 'once' : `${count} times`;
}

/** The same of an add-on. */
export function attachedAddOn(attachment: AddOnAttachment, addOn: AddOnRow): HeldAddOn {
  if (attachment.kind === 'attached') return attachment.held;
  const name = addOn.lookup_id;
  switch (attachment.code) {
    case 'add_on_not_found':
      throw notFound('add-on', name);
    case 'add_on_archived':
      throw new ApiProblem('add_on_archived', `The add-on ${name} is archived.`);
    case 'currency_differs':
      throw new ApiProblem(
        'currency_differs',
        `The add-on ${name} is of ${attachment.addOns}, and the subscription of ${attachment.subscriptions}. Make one of ${attachment.subscriptions}.`,
      );
    case 'product_differs':
      throw new ApiProblem(
        'product_differs',
        `The add-on ${name} is of the product ${attachment.addOns}, and the subscription of ${attachment.subscriptions}.`,
      );
    default:
      return attachment satisfies never;
  }
}
