/** What a subscription holds beside its plan: coupons and add-ons, given while it runs, and taken away. */
import { z } from 'zod';

import { formatAmount } from '../../billing/money.ts';
import { findAddOn } from '../../store/add-ons.ts';
import { findCoupon } from '../../store/coupons.ts';
import {
  attachAddOn,
  endAddOn,
  listHeldAddOns,
  type HeldAddOn,
} from '../../store/subscription-add-ons.ts';
import {
  attachCoupon,
  listHeldCoupons,
  removeCoupon,
  type HeldCoupon,
} from '../../store/subscription-coupons.ts';
import type { SubscriptionRead } from '../../store/subscription-reads.ts';
import type { Call } from '../call.ts';
import { object, reference } from '../fields.ts';
import { ApiProblem, fieldProblem, notFound } from '../problems.ts';
import { operators, readers, route, type Route } from '../route.ts';
import { addOnTypes } from './add-ons.ts';
import { addOnFields, attachedAddOn, attachedCoupon } from './attach-extras.ts';
import { amountOffText, couponDurations } from './coupons.ts';
import { storedCurrency } from './invoice-shapes.ts';
import {
  answers,
  instantText,
  listBody,
  listExample,
  listOfAnswers,
  wireInstant,
} from './shared.ts';
import { requireSubscription } from './subscription-shapes.ts';

const SubscriptionCoupon = z
  .strictObject({
    id: z.string(),
    object: z.literal('subscription_coupon'),
    subscription_id: z.string(),
    coupon_id: z.string(),
    lookup_id: z.string(),
    name: z.string(),
    percent: z.string().nullable(),
    amount: z.string().nullable(),
    currency: z.string().nullable(),
    duration: z.enum(couponDurations),
    duration_intervals: z.number().int().nullable(),
    intervals_used: z.number().int().meta({
      description: 'In how many billing intervals it was taken off an invoice that is not void.',
    }),
    created_at: instantText(),
    removed_at: instantText().nullable(),
  })
  .meta({ id: 'SubscriptionCoupon' });

const SubscriptionAddOn = z
  .strictObject({
    id: z.string(),
    object: z.literal('subscription_add_on'),
    subscription_id: z.string(),
    add_on_id: z.string(),
    lookup_id: z.string(),
    name: z.string(),
    type: z.enum(addOnTypes),
    amount: z.string().meta({ description: 'Of one.' }),
    currency: z.string(),
    quantity: z.number().int(),
    from_at: instantText(),
    until_at: instantText().nullable(),
    created_at: instantText(),
  })
  .meta({ id: 'SubscriptionAddOn' });

const couponExample = {
  id: 'dsc_5h2k9x0q7w3m1n8b4v6c2z',
  object: 'subscription_coupon',
  subscription_id: 'sub_5h2k9x0q7w3m1n8b4v6c2z',
  coupon_id: 'cpn_5h2k9x0q7w3m1n8b4v6c2z',
  lookup_id: 'LAUNCH20',
  name: 'Launch, 20% off',
  percent: '20',
  amount: null,
  currency: null,
  duration: 'repeating',
  duration_intervals: 3,
  intervals_used: 0,
  created_at: '2026-01-01T00:00:00.000Z',
  removed_at: null,
};
const addOnExample = {
  id: 'sad_5h2k9x0q7w3m1n8b4v6c2z',
  object: 'subscription_add_on',
  subscription_id: 'sub_5h2k9x0q7w3m1n8b4v6c2z',
  add_on_id: 'add_5h2k9x0q7w3m1n8b4v6c2z',
  lookup_id: 'seats',
  name: 'Seats',
  type: 'RECURRING',
  amount: '5.00',
  currency: 'USD',
  quantity: 3,
  from_at: '2026-01-01T00:00:00.000Z',
  until_at: null,
  created_at: '2026-01-01T00:00:00.000Z',
};

function couponToWire(row: HeldCoupon): z.output<typeof SubscriptionCoupon> {
  return {
    id: row.id,
    object: 'subscription_coupon',
    subscription_id: row.subscription_id,
    coupon_id: row.coupon_id,
    lookup_id: row.lookup_id,
    name: row.name,
    percent: row.percent,
    amount: amountOffText(row),
    currency: row.currency,
    duration: row.duration,
    duration_intervals: row.duration_intervals,
    intervals_used: row.intervals_used,
    created_at: wireInstant(row.created_at),
    removed_at: wireInstant(row.removed_at),
  };
}

function addOnToWire(row: HeldAddOn): z.output<typeof SubscriptionAddOn> {
  return {
    id: row.id,
    object: 'subscription_add_on',
    subscription_id: row.subscription_id,
    add_on_id: row.add_on_id,
    lookup_id: row.lookup_id,
    name: row.name,
    type: row.type,
    amount: formatAmount(row.amount_minor, storedCurrency(row.currency)),
    currency: row.currency,
    quantity: row.quantity,
    from_at: wireInstant(row.from_at),
    until_at: wireInstant(row.until_at),
    created_at: wireInstant(row.created_at),
  };
}

/** One that is not canceled: nothing comes after its end that a coupon or an add-on could be on. */
async function requireLive(call: Call): Promise<SubscriptionRead> {
  const subscription = await requireSubscription(call);
  if (subscription.state !== 'canceled') return subscription;
  throw new ApiProblem(
    'subscription_not_active',
    `The subscription ${subscription.id} is canceled: it gets no coupon and no add-on any more.`,
  );
}

/** One that is held now, by its own id or by that of what it is of; else the last one that was. */
function pick<Held extends { readonly id: string; readonly lookup_id: string }>(
  held: readonly Held[],
  ref: string,
  like: { readonly idOf: (one: Held) => string; readonly isHeld: (one: Held) => boolean },
): Held | undefined {
  const named = held.filter(
    (one) => one.id === ref || like.idOf(one) === ref || one.lookup_id === ref,
  );
  return named.findLast((one) => like.isHeld(one)) ?? named.at(-1);
}

const couponRoutes: readonly Route[] = [
  route({
    operationId: 'addSubscriptionCoupon',
    method: 'post',
    path: '/subscriptions/{subscription_id}/coupons',
    tag: 'Subscriptions',
    summary: 'Give a subscription a coupon',
    description: `From now on, behind the coupons that it has: it is on the invoice of the running period, and on as many intervals as the
coupon lasts.`,
    roles: operators,
    body: object({ coupon_id: reference('Coupon') }),
    bodyExample: { coupon_id: 'LAUNCH20' },
    answers: answers(201, {
      description: 'Given.',
      schema: SubscriptionCoupon,
      example: couponExample,
    }),
    problems: [
      'subscription_not_active',
      'coupon_archived',
      'coupon_expired',
      'coupon_used_up',
      'coupon_held',
      'currency_differs',
    ],
    handle: async (call, { body }) => {
      const subscription = await requireLive(call);
      const coupon = await findCoupon(call.db, call.environment, body.coupon_id);
      if (coupon === null) {
        throw fieldProblem('coupon_id', 'names no coupon of this environment');
      }
      return call.write(async (tx, now) => {
        const wanted = { subscriptionId: subscription.id, couponId: coupon.id, at: now };
        const held = attachedCoupon(await attachCoupon(tx, wanted), coupon);
        return {
          answer: { status: 201, body: couponToWire(held) },
          audit: {
            action: 'subscription.coupon_add',
            objectId: subscription.id,
            details: { coupon_id: coupon.id, subscription_coupon_id: held.id },
          },
        };
      });
    },
  }),
  route({
    operationId: 'listSubscriptionCoupons',
    method: 'get',
    path: '/subscriptions/{subscription_id}/coupons',
    tag: 'Subscriptions',
    summary: 'List the coupons of a subscription',
    roles: readers,
    answers: answers(200, {
      description: 'All, in the order in which they are taken off, also those that it lost.',
      schema: listOfAnswers(SubscriptionCoupon, 'SubscriptionCouponList'),
      example: listExample(couponExample),
    }),
    handle: async (call) => {
      const subscription = await requireSubscription(call);
      const rows = await listHeldCoupons(call.db, subscription.id);
      return { status: 200, body: listBody({ rows, hasMore: false }, couponToWire) };
    },
  }),
  route({
    operationId: 'removeSubscriptionCoupon',
    method: 'delete',
    path: '/subscriptions/{subscription_id}/coupons/{coupon_id}',
    tag: 'Subscriptions',
    summary: 'Take a coupon away from a subscription',
    description: `By its id (dsc_…), or by that of the coupon. The invoice of the running period is without it; invoices that are issued keep what
it took off.`,
    roles: operators,
    answers: answers(200, {
      description: 'Taken away.',
      schema: SubscriptionCoupon,
      example: { ...couponExample, removed_at: '2026-02-01T00:00:00.000Z' },
    }),
    handle: async (call) => {
      const subscription = await requireSubscription(call);
      const ref = call.param('coupon_id');
      const found = pick(await listHeldCoupons(call.db, subscription.id), ref, {
        idOf: ({ coupon_id }) => coupon_id,
        isHeld: ({ removed_at }) => removed_at === null,
      });
      if (found === undefined) throw notFound('coupon of this subscription', ref);
      return call.write(async (tx, now) => {
        const removal = { subscriptionId: subscription.id, heldId: found.id, at: now };
        const removed = await removeCoupon(tx, removal);
        if (removed === null) throw notFound('coupon of this subscription', ref);
        return {
          answer: { status: 200, body: couponToWire(removed) },
          audit: {
            action: 'subscription.coupon_remove',
            objectId: subscription.id,
            details: { coupon_id: removed.coupon_id, subscription_coupon_id: removed.id },
          },
        };
      });
    },
  }),
];

const addOnRoutes: readonly Route[] = [
  route({
    operationId: 'addSubscriptionAddOn',
    method: 'post',
    path: '/subscriptions/{subscription_id}/add_ons',
    tag: 'Subscriptions',
    summary: 'Give a subscription an add-on',
    description: `From now on: a RECURRING one is billed with the invoice of the interval for the days that it is held, a ONE_TIME one with the
invoice of the running period. It may have the same one several times.`,
    roles: operators,
    body: object(addOnFields),
    bodyExample: { add_on_id: 'seats', quantity: 3 },
    answers: answers(201, {
      description: 'Given.',
      schema: SubscriptionAddOn,
      example: addOnExample,
    }),
    problems: ['subscription_not_active', 'add_on_archived', 'currency_differs', 'product_differs'],
    handle: async (call, { body }) => {
      const subscription = await requireLive(call);
      const addOn = await findAddOn(call.db, call.environment, body.add_on_id);
      if (addOn === null) {
        throw fieldProblem('add_on_id', 'names no add-on of this environment');
      }
      return call.write(async (tx, now) => {
        const attachment = await attachAddOn(tx, {
          subscriptionId: subscription.id,
          addOnId: addOn.id,
          quantity: body.quantity ?? 1,
          at: now,
        });
        const held = attachedAddOn(attachment, addOn);
        return {
          answer: { status: 201, body: addOnToWire(held) },
          audit: {
            action: 'subscription.add_on_add',
            objectId: subscription.id,
            details: {
              add_on_id: addOn.id,
              subscription_add_on_id: held.id,
              quantity: held.quantity,
            },
          },
        };
      });
    },
  }),
  route({
    operationId: 'listSubscriptionAddOns',
    method: 'get',
    path: '/subscriptions/{subscription_id}/add_ons',
    tag: 'Subscriptions',
    summary: 'List the add-ons of a subscription',
    roles: readers,
    answers: answers(200, {
      description: 'All, in the order of time, also those that ended.',
      schema: listOfAnswers(SubscriptionAddOn, 'SubscriptionAddOnList'),
      example: listExample(addOnExample),
    }),
    handle: async (call) => {
      const subscription = await requireSubscription(call);
      const rows = await listHeldAddOns(call.db, subscription.id);
      return { status: 200, body: listBody({ rows, hasMore: false }, addOnToWire) };
    },
  }),
  route({
    operationId: 'endSubscriptionAddOn',
    method: 'delete',
    path: '/subscriptions/{subscription_id}/add_ons/{add_on_id}',
    tag: 'Subscriptions',
    summary: 'End an add-on of a subscription',
    description: `By its id (sad_…), or by that of the add-on, which ends the last one. A RECURRING one is billed for the days that it was
held, and what an early invoice billed beyond them is given back by the next one; a ONE_TIME one of the running period is
taken back.`,
    roles: operators,
    answers: answers(200, {
      description: 'Ended.',
      schema: SubscriptionAddOn,
      example: { ...addOnExample, until_at: '2026-02-01T00:00:00.000Z' },
    }),
    problems: ['add_on_billed'],
    handle: async (call) => {
      const subscription = await requireSubscription(call);
      const ref = call.param('add_on_id');
      const found = pick(await listHeldAddOns(call.db, subscription.id), ref, {
        idOf: ({ add_on_id }) => add_on_id,
        isHeld: ({ until_at }) => until_at === null,
      });
      if (found === undefined) throw notFound('add-on of this subscription', ref);
      return call.write(async (tx, now) => {
        const wanted = { subscriptionId: subscription.id, heldId: found.id, at: now };
        const ending = await endAddOn(tx, wanted);
        if (ending.kind === 'refused') throw notEnded(ending.code, found);
        return {
          answer: { status: 200, body: addOnToWire(ending.held) },
          audit: {
            action: 'subscription.add_on_end',
            objectId: subscription.id,
            details: { add_on_id: found.add_on_id, subscription_add_on_id: found.id },
          },
        };
      });
    },
  }),
];

function notEnded(code: 'not_held' | 'already_billed', held: HeldAddOn): ApiProblem {
  if (code === 'not_held') return notFound('add-on of this subscription', held.id);
  return new ApiProblem(
    'add_on_billed',
    `The period that ${held.lookup_id} was added in is over, and its invoice bills it. Give the money back with a credit note on that invoice.`,
  );
}

export const subscriptionExtraRoutes: readonly Route[] = [...couponRoutes, ...addOnRoutes];
