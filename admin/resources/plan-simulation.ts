/** What a plan would cost: for usage that is named, or for what a subscription really used. */
import { z } from 'zod';

import type { Coupon } from '../../billing/discount.ts';
import { formatAmount } from '../../billing/money.ts';
import { intervalText } from '../../billing/periods.ts';
import { haveSameCalendar } from '../../billing/plan-change.ts';
import type { PlanDefinition } from '../../billing/plan.ts';
import {
  type MeterTotal,
  simulateInterval,
  simulationNotes,
} from '../../billing/price-simulation.ts';
import type { Taxation } from '../../billing/tax.ts';
import { type CouponRow, findCoupon } from '../../store/coupons.ts';
import type { Db } from '../../store/db.ts';
import { allMeters, type MeterRow } from '../../store/meters.ts';
import { findPeriod, listPeriods, type Period } from '../../store/periods.ts';
import {
  findVersion,
  publishedVersion,
  type PlanRow,
  type PlanVersionRow,
} from '../../store/plans.ts';
import { type ActualBill, simulatePeriod } from '../../store/price-simulation.ts';
import { couponsAsHeld } from '../../store/subscription-coupons.ts';
import { findSubscriber } from '../../store/subscribers.ts';
import { findSubscription } from '../../store/subscription-reads.ts';
import { readSubscription } from '../../store/subscriptions.ts';
import { readTaxation } from '../../store/taxation.ts';
import type { Call } from '../call.ts';
import { decimal, flag, integer, listOf, object, quantity, reference } from '../fields.ts';
import { fieldProblem } from '../problems.ts';
import { readers, route, type Answer, type Route } from '../route.ts';
import {
  draftFields,
  draftToWire,
  PeriodAnswer,
  periodExample,
  periodToWire,
  upcomingExample,
} from './invoice-shapes.ts';
import { definitionOfVersion } from './plan-definitions.ts';
import { findMeterOf, readCredits } from './plan-terms.ts';
import { requireCurrentVersion, requirePlan } from './plans.ts';
import { amountText, answers } from './shared.ts';

const PriceSimulation = z
  .strictObject({
    object: z.literal('price_simulation'),
    plan_id: z.string(),
    version: z.number().int(),
    subscription_id: z.string().nullable(),
    period: PeriodAnswer.nullable(),
    ...draftFields,
    notes: z.array(z.string()).meta({
      description: 'What the invoice alone does not say: credits used, use that would be denied.',
    }),
    actual: z
      .strictObject({
        invoice_id: z.string().nullable(),
        invoice_number: z.string().nullable(),
        subtotal: amountText('Sum of the lines.'),
        total: amountText('What is or was really billed.'),
      })
      .nullable()
      .meta({
        description:
          'Of a period: its invoice, or with invoice_id null the estimate. Null: nothing was billed, or no period was named.',
      }),
    difference: amountText('The simulated total less the actual one.').nullable(),
  })
  .meta({ id: 'PriceSimulation' });

const example = {
  ...upcomingExample,
  object: 'price_simulation',
  plan_id: 'plan_5h2k9x0q7w3m1n8b4v6c2z',
  version: 2,
  subscription_id: periodExample.subscription_id,
  period: periodExample,
  notes: [],
  actual: { invoice_id: null, invoice_number: null, subtotal: '80.00', total: '80.00' },
  difference: '2.45',
};

const simulationBody = object({
  version: integer(
    1,
    1_000_000,
    'A version of the plan, a draft among them; what is on sale when absent, else the draft.',
  ).optional(),
  usage: listOf(
    object({
      meter_id: reference('What is counted'),
      quantity: quantity("What the meter comes to in the interval, in the meter's smallest unit."),
      events: quantity(
        'In how many events, for prices with a fee for each; of a COUNT meter the quantity when absent.',
      ).optional(),
    }),
    50,
    'What is used in a whole interval. An empty list gives the fees alone.',
  ).optional(),
  overage_credits: decimal(
    'With usage: credits used past the included ones; as the burn table gives them when absent.',
  ).optional(),
  first_invoice: flag()
    .optional()
    .meta({ description: 'With usage: with what is due once. False when absent.' }),
  subscriber_id: reference(
    'With usage: whose taxes and time zone hold; without it nothing is taxed and the zone is UTC',
  ).optional(),
  coupons: listOf(
    reference('A coupon'),
    20,
    'With usage: what is taken off, in this order, as in the first interval that has them.',
  ).optional(),
  subscription_id: reference('Whose recorded usage is priced, instead of usage').optional(),
  period_id: reference('A period of the subscription; the one that runs when absent').optional(),
});
const onlyWithUsage = [
  'usage',
  'overage_credits',
  'first_invoice',
  'subscriber_id',
  'coupons',
] as const satisfies readonly (keyof SimulationBody)[];
type SimulationBody = z.output<typeof simulationBody>;

const simulatePlan = route({
  operationId: 'simulatePlan',
  method: 'post',
  path: '/plans/{plan_id}/simulate',
  tag: 'Plans',
  summary: 'Show what a plan would cost',
  description: `Changes nothing. Either \`usage\`: the invoice of a whole interval with so much of it, less \`coupons\` and taxed as for \`subscriber_id\`.
Or \`subscription_id\`: the invoice that a period of it would have with this plan, by what it really used and with its own
coupons and taxes, beside what it really costs. The same function as the invoice. A draft is read as if it were published now.`,
  roles: readers,
  body: simulationBody,
  bodyExample: { usage: [{ meter_id: 'api_calls', quantity: 82_450 }] },
  answers: answers(200, {
    description: 'What the invoice would be.',
    schema: PriceSimulation,
    example,
  }),
  problems: ['publish_refused'],
  handle: async (call, { body }) => {
    const plan = await requirePlan(call, call.param('plan_id'));
    const version = await versionOf(call, plan, body.version);
    const definition = await definitionOfVersion(call.db, plan, version);
    const simulated = { plan, version, definition };
    if (body.subscription_id === undefined) return ofUsage(call, simulated, body);
    for (const field of onlyWithUsage) {
      if (body[field] === undefined) continue;
      throw fieldProblem(
        field,
        'does not go with subscription_id, which says whose use it is and what was used',
      );
    }
    return ofSubscription(call, simulated, {
      subscriptionRef: body.subscription_id,
      periodId: body.period_id,
    });
  },
});

type Simulated = {
  readonly plan: PlanRow;
  readonly version: PlanVersionRow;
  readonly definition: PlanDefinition;
};

async function versionOf(
  call: Call,
  plan: PlanRow,
  number: number | undefined,
): Promise<PlanVersionRow> {
  if (number === undefined) {
    return (
      (await publishedVersion(call.db, plan.id)) ?? (await requireCurrentVersion(call.db, plan))
    );
  }
  const version = await findVersion(call.db, plan.id, number);
  if (version === null) throw fieldProblem('version', `is no version of ${plan.lookup_id}`);
  return version;
}

async function ofUsage(call: Call, of: Simulated, body: SimulationBody): Promise<Answer> {
  if (body.usage === undefined) {
    throw fieldProblem('usage', 'is required, or subscription_id in its place');
  }
  if (body.period_id !== undefined) {
    throw fieldProblem('period_id', 'goes with subscription_id only');
  }
  const { definition, version } = of;
  const use = readUse(body.usage, definition, await allMeters(call.db, call.environment));
  const { zone, taxation } = await readPayer(call, definition, body.subscriber_id);
  const draft = simulateInterval({
    planVersionId: version.id,
    definition,
    zone,
    taxation,
    coupons: await readCouponsOf(call, definition, body.coupons ?? []),
    startMs: Date.now(),
    isFirst: body.first_invoice ?? false,
    use,
    overageMicro: readOverage(body.overage_credits, definition),
  });
  return {
    status: 200,
    body: {
      ...wordsOf(of),
      subscription_id: null,
      period: null,
      ...draftToWire(draft),
      notes: [...simulationNotes(definition, use), ...unpricedNotes(definition, use)],
      actual: null,
      difference: null,
    },
  };
}

async function readPayer(
  call: Call,
  definition: PlanDefinition,
  ref: string | undefined,
): Promise<{ readonly zone: string; readonly taxation: Taxation | null }> {
  if (ref === undefined) return { zone: 'UTC', taxation: null };
  const { environment } = call;
  const subscriber = await findSubscriber(call.db, environment, ref);
  if (subscriber === null) {
    throw fieldProblem('subscriber_id', 'names no subscriber of this environment');
  }
  const of = { environment, subscriberId: subscriber.id, definition, addOns: [] };
  return { zone: subscriber.time_zone, taxation: await readTaxation(call.db, of) };
}

async function readCouponsOf(
  call: Call,
  definition: PlanDefinition,
  refs: readonly string[],
): Promise<readonly Coupon[]> {
  const rows: CouponRow[] = [];
  for (const [index, ref] of refs.entries()) {
    const field = `coupons[${index}]`;
    // In order: the first fault is the one that is told.
    // oxlint-disable-next-line no-await-in-loop
    const coupon = await findCoupon(call.db, call.environment, ref);
    if (coupon === null) throw fieldProblem(field, 'names no coupon of this environment');
    if (coupon.currency !== null && coupon.currency !== definition.currency) {
      throw fieldProblem(
        field,
        `is an amount of ${coupon.currency}, and the plan is in ${definition.currency}`,
      );
    }
    if (rows.some(({ id }) => id === coupon.id)) {
      throw fieldProblem(field, `names ${coupon.lookup_id} for a second time`);
    }
    rows.push(coupon);
  }
  const aheadChargeIds = definition.charges.flatMap((charge) =>
    charge.kind === 'recurring' && charge.bill_in === 'advance' ? [charge.id] : [],
  );
  return couponsAsHeld(rows, { definition, aheadChargeIds });
}

function wordsOf({ plan, version }: Simulated) {
  return { object: 'price_simulation', plan_id: plan.id, version: version.version };
}

function readUse(
  given: NonNullable<SimulationBody['usage']>,
  definition: PlanDefinition,
  meters: readonly MeterRow[],
): readonly MeterTotal[] {
  const seen = new Set<string>();
  return given.map(({ meter_id, quantity: total, events }, index) => {
    const field = `usage[${index}]`;
    const meter = findMeterOf(meters, meter_id, `${field}.meter_id`);
    if (seen.has(meter.id)) {
      throw fieldProblem(`${field}.meter_id`, `names ${meter.lookup_id} for a second time`);
    }
    seen.add(meter.id);
    const counted = events ?? (meter.aggregation === 'COUNT' ? total : undefined);
    if (counted === undefined && hasEventFee(definition, meter.id)) {
      throw fieldProblem(
        `${field}.events`,
        `is required: the price of ${meter.lookup_id} has a fee for each event`,
      );
    }
    return {
      meterId: meter.id,
      meterKey: meter.lookup_id,
      scale: meter.scale,
      quantity: total,
      events: counted ?? 0n,
    };
  });
}

function hasEventFee({ charges }: PlanDefinition, meterId: string): boolean {
  return charges.some(
    (charge) =>
      charge.kind === 'usage' &&
      charge.meter.id === meterId &&
      charge.price.model === 'percentage' &&
      charge.price.fixed_fee !== '0',
  );
}

function readOverage(given: string | undefined, { credits }: PlanDefinition): bigint | null {
  if (given === undefined) return null;
  if (credits?.overage?.enabled === true) return readCredits(given, 'overage_credits');
  throw fieldProblem(
    'overage_credits',
    credits === null
      ? 'does not go with this plan: it sells no credits'
      : 'does not go with this plan: its overage is off, so that use past the credits is denied',
  );
}

function unpricedNotes(definition: PlanDefinition, use: readonly MeterTotal[]): readonly string[] {
  const priced = new Set([
    ...definition.charges.flatMap((charge) => (charge.kind === 'usage' ? [charge.meter.key] : [])),
    ...(definition.credits?.burn ?? []).map((rate) => rate.meter_key),
  ]);
  return use
    .filter(({ meterKey }) => !priced.has(meterKey))
    .map(({ meterKey }) => `The plan has no price for ${meterKey}.`);
}

async function ofSubscription(
  call: Call,
  of: Simulated,
  wanted: { readonly subscriptionRef: string; readonly periodId: string | undefined },
): Promise<Answer> {
  const { plan, version, definition } = of;
  const row = await findSubscription(call.db, call.environment, wanted.subscriptionRef);
  if (row === null) {
    throw fieldProblem('subscription_id', 'names no subscription of this environment');
  }
  const subscription = await readSubscription(call.db, row.id);
  if (definition.currency !== subscription.currency) {
    throw fieldProblem(
      'subscription_id',
      `is billed in ${subscription.currency}, and the plan ${plan.lookup_id} in ${definition.currency}`,
    );
  }
  if (!haveSameCalendar(definition, subscription.definition)) {
    throw fieldProblem(
      'subscription_id',
      `is not billed on the days of the plan ${plan.lookup_id}, which bills every ${intervalText(definition.interval)} by ${definition.billing_time}: give usage instead`,
    );
  }
  const period = await requirePeriod(call.db, row.id, wanted.periodId);
  const { draft, actual, notes } = await simulatePeriod(call.db, {
    subscriptionId: row.id,
    period,
    version: { id: version.id, definition },
    nowMs: Date.now(),
  });
  const amount = (minor: bigint): string => formatAmount(minor, draft.currency);
  return {
    status: 200,
    body: {
      ...wordsOf(of),
      subscription_id: row.id,
      period: periodToWire(period),
      ...draftToWire(draft),
      notes,
      actual: actual === null ? null : actualToWire(actual, amount),
      difference: actual === null ? null : amount(draft.totalMinor - actual.totalMinor),
    },
  };
}

/** The named period, or the one that runs now. */
async function requirePeriod(
  db: Db,
  subscriptionId: string,
  periodId: string | undefined,
): Promise<Period> {
  if (periodId !== undefined) {
    const named = await findPeriod(db, subscriptionId, periodId);
    if (named !== null && named.state !== 'void') return named;
    throw fieldProblem('period_id', 'names no period of the subscription');
  }
  const periods = await listPeriods(db, subscriptionId, ['scheduled', 'open', 'closing']);
  const current = periods.find(({ endAt }) => endAt.getTime() > Date.now());
  if (current !== undefined) return current;
  throw fieldProblem('period_id', 'is required: no period of the subscription runs now');
}

function actualToWire(
  { invoice, subtotalMinor, totalMinor }: ActualBill,
  amount: (minor: bigint) => string,
): NonNullable<z.output<typeof PriceSimulation>['actual']> {
  return {
    invoice_id: invoice?.id ?? null,
    invoice_number: invoice?.number ?? null,
    subtotal: amount(subtotalMinor),
    total: amount(totalMinor),
  };
}

export const planSimulationRoutes: readonly Route[] = [simulatePlan];
