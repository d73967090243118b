import { z } from 'zod';

import { formatAmount } from '../../billing/money.ts';
import {
  archiveCoupon,
  findCoupon,
  insertCoupon,
  listCoupons,
  type CouponRow,
} from '../../store/coupons.ts';
import { findMeter } from '../../store/meters.ts';
import type { Call } from '../call.ts';
import {
  currencyCode,
  decimal,
  instant,
  integer,
  listOf,
  matching,
  object,
  oneOf,
  reference,
  text,
} from '../fields.ts';
import { fieldProblem, notFound } from '../problems.ts';
import { operators, readers, route, type Route } from '../route.ts';
import { storedCurrency } from './invoice-shapes.ts';
import { readAmount } from './plan-terms.ts';
import {
  answers,
  instantText,
  listBody,
  listExample,
  listOfAnswers,
  listQuery,
  lookupIdOf,
  pageArgs,
  wireInstant,
} from './shared.ts';
import { readPercent } from './tax-rates.ts';

const scopes = ['invoice', 'fees', 'meters'] as const;
export const couponDurations = ['once', 'repeating', 'forever'] as const;

const Coupon = z
  .strictObject({
    id: z.string(),
    object: z.literal('coupon'),
    environment: z.enum(['test', 'live']),
    lookup_id: z.string(),
    name: z.string(),
    percent: z.string().nullable(),
    amount: z.string().nullable(),
    currency: z.string().nullable(),
    applies_to: z.enum(scopes),
    meter_ids: z.array(z.string()),
    duration: z.enum(couponDurations),
    duration_intervals: z.number().int().nullable(),
    max_redemptions: z.number().int().nullable(),
    times_redeemed: z.number().int().meta({
      description: 'How many subscriptions were given it, those that lost it again too.',
    }),
    redeem_by: instantText().nullable(),
    archived_at: instantText().nullable(),
    created_at: instantText(),
  })
  .meta({ id: 'Coupon' });

const couponExample = {
  id: 'cpn_5h2k9x0q7w3m1n8b4v6c2z',
  object: 'coupon',
  environment: 'test',
  lookup_id: 'LAUNCH20',
  name: 'Launch, 20% off',
  percent: '20',
  amount: null,
  currency: null,
  applies_to: 'fees',
  meter_ids: [],
  duration: 'repeating',
  duration_intervals: 3,
  max_redemptions: 100,
  times_redeemed: 0,
  redeem_by: '2026-12-31T23:59:59.000Z',
  archived_at: null,
  created_at: '2026-01-01T00:00:00.000Z',
};

const couponBody = object({
  name: text(120, 'As invoices print it.'),
  lookup_id: matching(
    /^[A-Za-z][A-Za-z0-9_-]{0,62}$/,
    'must begin with a letter and hold at most 63 of A-Z, a-z, 0-9, _ and -',
    'Your own name for it, such as the code that customers enter; it can stand wherever its id can.',
  ).optional(),
  percent: decimal(
    'Above 0 and up to 100, with at most 6 decimal places. Or an amount.',
  ).optional(),
  amount: decimal('In the currency, once per billing interval. Or a percentage.').optional(),
  currency: currencyCode().optional(),
  applies_to: oneOf(
    scopes,
    'The whole invoice when absent; recurring fees; or the usage of meter_ids.',
  ).optional(),
  meter_ids: listOf(reference('Meter'), 20, 'With applies_to meters.').optional(),
  duration: oneOf(
    couponDurations,
    'once, which is one billing interval, when absent; duration_intervals of them; or forever.',
  ).optional(),
  duration_intervals: integer(1, 1000, 'With duration repeating.').optional(),
  max_redemptions: integer(1, 1_000_000_000, 'How many times it can be given.')
    .nullable()
    .optional(),
  redeem_by: instant('Until when it can be given.').nullable().optional(),
});
type CouponInput = z.output<typeof couponBody>;

/** The coupon or 404. */
async function requireCoupon(call: Call): Promise<CouponRow> {
  const ref = call.param('coupon_id');
  const coupon = await findCoupon(call.db, call.environment, ref);
  if (coupon === null) throw notFound('coupon', ref);
  return coupon;
}

function couponToWire(row: CouponRow): z.output<typeof Coupon> {
  return {
    id: row.id,
    object: 'coupon',
    environment: row.environment,
    lookup_id: row.lookup_id,
    name: row.name,
    percent: row.percent,
    amount: amountOffText(row),
    currency: row.currency,
    applies_to: row.applies_to,
    meter_ids: [...row.meter_ids],
    duration: row.duration,
    duration_intervals: row.duration_intervals,
    max_redemptions: row.max_redemptions,
    times_redeemed: row.times_redeemed,
    redeem_by: wireInstant(row.redeem_by),
    archived_at: wireInstant(row.archived_at),
    created_at: wireInstant(row.created_at),
  };
}

/** `10.00`; null for a percentage. */
export function amountOffText(row: Pick<CouponRow, 'amount_minor' | 'currency'>): string | null {
  if (row.amount_minor === null || row.currency === null) return null;
  return formatAmount(row.amount_minor, storedCurrency(row.currency));
}

function readOff(body: CouponInput): Pick<CouponRow, 'percent' | 'amount_minor' | 'currency'> {
  if (body.percent !== undefined) {
    if (body.amount !== undefined) throw fieldProblem('amount', 'does not go with percent');
    if (body.currency !== undefined) throw fieldProblem('currency', 'goes with amount only');
    const percent = readPercent(body.percent, 'percent');
    if (percent === '0')
      throw fieldProblem('percent', 'must be above 0: else nothing is taken off');
    return { percent, amount_minor: null, currency: null };
  }
  if (body.amount === undefined) {
    throw fieldProblem('percent', 'is required, or amount with currency');
  }
  if (body.currency === undefined) throw fieldProblem('currency', 'is required with amount');
  const amount_minor = readAmount(body.amount, body.currency, 'amount');
  if (amount_minor === 0n) {
    throw fieldProblem('amount', 'must be above 0: else nothing is taken off');
  }
  return { percent: null, amount_minor, currency: body.currency };
}

async function readScope(
  call: Call,
  body: CouponInput,
): Promise<Pick<CouponRow, 'applies_to' | 'meter_ids'>> {
  const applies_to = body.applies_to ?? 'invoice';
  const refs = body.meter_ids ?? [];
  if (applies_to !== 'meters') {
    if (refs.length > 0) throw fieldProblem('meter_ids', 'goes with applies_to meters only');
    return { applies_to, meter_ids: [] };
  }
  if (refs.length === 0) throw fieldProblem('meter_ids', 'is required with applies_to meters');
  const meter_ids: string[] = [];
  for (const [index, ref] of refs.entries()) {
    // In order: the first fault is the one that is told.
    // oxlint-disable-next-line no-await-in-loop
    const meter = await findMeter(call.db, call.environment, ref);
    if (meter === null) {
      throw fieldProblem(`meter_ids[${index}]`, 'names no meter of this environment');
    }
    meter_ids.push(meter.id);
  }
  return { applies_to, meter_ids: [...new Set(meter_ids)] };
}

function readDuration(body: CouponInput): Pick<CouponRow, 'duration' | 'duration_intervals'> {
  const duration = body.duration ?? 'once';
  const duration_intervals = body.duration_intervals ?? null;
  if (duration === 'repeating' && duration_intervals === null) {
    throw fieldProblem('duration_intervals', 'is required with duration repeating');
  }
  if (duration !== 'repeating' && duration_intervals !== null) {
    throw fieldProblem('duration_intervals', 'goes with duration repeating only');
  }
  return { duration, duration_intervals };
}

const couponAnswers = (status: number, description: string) =>
  answers(status, { description, schema: Coupon, example: couponExample });

export const couponRoutes: readonly Route[] = [
  route({
    operationId: 'createCoupon',
    method: 'post',
    path: '/coupons',
    tag: 'Coupons',
    summary: 'Make a coupon',
    description: `A percentage or an amount off the invoices of a subscription that it is given to. It lasts for billing intervals, not for
invoices: several invoices of one interval count once, and share a fixed amount. A coupon never changes.`,
    roles: operators,
    body: couponBody,
    bodyExample: {
      name: 'Launch, 20% off',
      lookup_id: 'LAUNCH20',
      percent: '20',
      applies_to: 'fees',
      duration: 'repeating',
      duration_intervals: 3,
      max_redemptions: 100,
      redeem_by: '2030-12-31T23:59:59Z',
    },
    answers: couponAnswers(201, 'Made.'),
    problems: ['already_exists'],
    handle: async (call, { body }) => {
      const lookup_id = body.lookup_id ?? lookupIdOf(body.name, '-');
      if (lookup_id === null) throw fieldProblem('lookup_id', 'is required: the name gives none');
      const redeem_by = body.redeem_by ?? null;
      if (redeem_by !== null && redeem_by.getTime() <= Date.now()) {
        throw fieldProblem('redeem_by', 'must lie in the future');
      }
      const fields = {
        lookup_id,
        name: body.name,
        ...readOff(body),
        ...readDuration(body),
        ...(await readScope(call, body)),
        max_redemptions: body.max_redemptions ?? null,
        redeem_by,
      };
      return call.write(async (tx) => {
        const row = await insertCoupon(tx, call.environment, fields);
        return {
          answer: { status: 201, body: couponToWire(row) },
          audit: { action: 'coupon.create', objectId: row.id },
        };
      });
    },
  }),
  route({
    operationId: 'listCoupons',
    method: 'get',
    path: '/coupons',
    tag: 'Coupons',
    summary: 'List coupons',
    roles: readers,
    query: listQuery,
    answers: answers(200, {
      description: 'Newest first, archived ones too.',
      schema: listOfAnswers(Coupon, 'CouponList'),
      example: listExample(couponExample),
    }),
    handle: async (call, { query }) => ({
      status: 200,
      body: listBody(await listCoupons(call.db, call.environment, pageArgs(query)), couponToWire),
    }),
  }),
  route({
    operationId: 'showCoupon',
    method: 'get',
    path: '/coupons/{coupon_id}',
    tag: 'Coupons',
    summary: 'Show a coupon',
    roles: readers,
    answers: couponAnswers(200, 'It.'),
    handle: async (call) => ({ status: 200, body: couponToWire(await requireCoupon(call)) }),
  }),
  route({
    operationId: 'archiveCoupon',
    method: 'post',
    path: '/coupons/{coupon_id}/archive',
    tag: 'Coupons',
    summary: 'Archive a coupon',
    description: 'It can be given to nobody any more; subscriptions that have it keep it.',
    roles: operators,
    bodyOptional: true,
    body: object({}),
    answers: answers(200, {
      description: 'Archived.',
      schema: Coupon,
      example: { ...couponExample, archived_at: '2026-06-01T00:00:00.000Z' },
    }),
    handle: async (call) => {
      const coupon = await requireCoupon(call);
      return call.write(async (tx, now) => ({
        answer: { status: 200, body: couponToWire(await archiveCoupon(tx, coupon.id, now)) },
        audit: { action: 'coupon.archive', objectId: coupon.id },
      }));
    },
  }),
];
