/** An invoice line taken apart, as it goes out. */
import { z } from 'zod';

import { formatCredits } from '../../billing/credits.ts';
import { formatAmount, type Currency } from '../../billing/money.ts';
import { formatPeriod } from '../../billing/periods.ts';
import type { Charge, MeterDefinition } from '../../billing/plan.ts';
import type { InvoiceLineRead, InvoiceRead } from '../../store/invoice-reads.ts';
import type {
  CreditHour,
  EventRange,
  LineExplanation,
  UsageHour,
} from '../../store/line-explanation.ts';
import {
  Invoice,
  invoiceExample,
  invoiceToWire,
  PeriodAnswer,
  periodExample,
  periodToWire,
  storedCurrency,
} from './invoice-shapes.ts';
import { amountText, instantText, wireInstant } from './shared.ts';

const tier = z.strictObject({
  up_to: z.string().nullable(),
  unit_price: z.string().optional(),
  flat_fee: z.string(),
});
const price = z.strictObject({
  model: z.enum(['per_unit', 'graduated', 'volume', 'package', 'stairstep', 'percentage']),
  unit_price: z.string().optional(),
  tiers: z.array(tier).optional(),
  package_size: z.string().optional(),
  package_price: z.string().optional(),
  round: z.enum(['up', 'down']).optional(),
  percent: z.string().optional(),
  fixed_fee: z.string().optional(),
  free_events: z.string().optional(),
});
const ratedTier = z.strictObject({
  above: z.string().meta({ description: 'Exclusive lower bound in whole units.' }),
  up_to: z.string().nullable(),
  quantity: z.string().meta({ description: 'What fell in this tier, in whole units.' }),
  unit_price: z.string(),
  flat_fee: z.string(),
  amount: z.string().meta({ description: 'quantity × unit_price + flat_fee, not rounded.' }),
});

const meter = z.strictObject({
  id: z.string(),
  lookup_id: z.string(),
  name: z.string(),
  unit: z.strictObject({ one: z.string(), other: z.string() }),
  scale: z.number().int(),
  aggregation: z.string(),
});
const charge = z.strictObject({
  id: z.string(),
  type: z.enum(['RECURRING', 'USAGE', 'ONE_TIME']),
  display_name: z.string(),
  amount: amountText('Of a fee, for a whole interval.').nullable(),
  bill_in: z.enum(['advance', 'arrears']).nullable(),
  meter: meter.nullable(),
  price: price.nullable(),
  minimum: amountText('The least that it costs in an interval.').nullable(),
  maximum: amountText('The most that it costs in an interval.').nullable(),
});

const billed = z.enum(['now', 'before']).meta({
  description: 'before: an earlier invoice billed it; it decides the prices of what is billed now.',
});
const hourFields = {
  hour: instantText(),
  period_id: z.string(),
  adjusts_period_id: z
    .string()
    .nullable()
    .meta({ description: 'The closed period that this came too late for.' }),
  billed,
  event_count: z.string(),
};
const usageHour = z.strictObject({
  ...hourFields,
  quantity: z.string().meta({
    description: 'With a sign where events were corrected: a row of its own for each correction.',
  }),
  max_quantity: z.string(),
  latest_quantity: z.string(),
  latest_at: instantText(),
});
const creditHour = z.strictObject({
  ...hourFields,
  credits: z.string(),
  credits_overage: z.string(),
  credits_written_off: z.string(),
});
const eventRange = z.strictObject({
  period_id: z.string(),
  billed,
  event_count: z.string(),
  path: z
    .string()
    .meta({ description: 'Gives the events, newest first; its next_cursor leads on.' }),
});

export const LineExplanationAnswer = z
  .strictObject({
    object: z.literal('invoice_line_explanation'),
    invoice_id: z.string(),
    invoice_number: z.string().nullable(),
    currency: z.string(),
    line: Invoice.shape.lines.element,
    plan_version: z
      .strictObject({
        id: z.string(),
        version: z.number().int(),
        plan_id: z.string(),
        plan_lookup_id: z.string(),
        plan_name: z.string(),
      })
      .nullable(),
    charge: charge.nullable().meta({ description: 'As it was published.' }),
    period: PeriodAnswer.nullable().meta({
      description: 'That the line belongs to; of late usage the closed one.',
    }),
    interval: z
      .strictObject({ start_at: instantText(), end_at: instantText(), text: z.string() })
      .nullable()
      .meta({ description: 'That is priced as a whole, or that a fee is for.' }),
    included_units: z.string().nullable(),
    usage: z
      .strictObject({
        before: z
          .string()
          .nullable()
          .meta({ description: 'null: no invoice of the interval came before.' }),
        total: z.string(),
        events_before: z.string(),
        events_total: z.string(),
      })
      .nullable()
      .meta({
        description: "The rollups under the meter's aggregation: of before, and of all together.",
      }),
    tiers: z.array(ratedTier).nullable().meta({
      description: 'What is billable of the total, split; a model without tiers has one.',
    }),
    tiers_before: z.array(ratedTier).nullable(),
    usage_rollups: z.array(usageHour),
    credit_rollups: z.array(creditHour),
    events: z.array(eventRange).meta({ description: 'One entry for each period of the rollups.' }),
    top_up: z
      .strictObject({
        id: z.string(),
        state: z.string(),
        credits: z.string(),
        credit_unit: z.string(),
        amount: amountText('What was asked for them.'),
      })
      .nullable(),
    recomputed: z.strictObject({
      from_details: amountText("Worked out from the line's details alone.").nullable(),
      from_rollups: amountText('Worked out from the rollups and the charge.').nullable(),
      is_exact: z.boolean().meta({ description: 'Each of these is the amount of the line.' }),
    }),
  })
  .meta({ id: 'InvoiceLineExplanation' });

type Answer = z.output<typeof LineExplanationAnswer>;

export function explanationToWire(
  invoice: InvoiceRead,
  line: InvoiceLineRead,
  told: LineExplanation,
): Answer {
  const currency = storedCurrency(invoice.currency);
  const amount = (minor: bigint | null): string | null =>
    minor === null ? null : formatAmount(minor, currency);
  const [shown] = invoiceToWire(invoice, [line]).lines;
  if (shown === undefined) throw new Error(`line ${line.id} is not shown`);
  const { planVersion, recomputed } = told;
  return {
    object: 'invoice_line_explanation',
    invoice_id: invoice.id,
    invoice_number: invoice.number,
    currency,
    line: shown,
    plan_version:
      planVersion === null
        ? null
        : {
            id: planVersion.id,
            version: planVersion.version,
            plan_id: planVersion.planId,
            plan_lookup_id: planVersion.planLookupId,
            plan_name: planVersion.planName,
          },
    charge: told.charge === null ? null : chargeToWire(told.charge, currency),
    period: told.period === null ? null : periodToWire(told.period),
    interval: intervalToWire(told.interval, invoice.document.time_zone),
    included_units: told.includedUnits,
    usage: usageToWire(told.usage),
    ...tiersToWire(line),
    usage_rollups: told.usageHours.map((hour) => usageHourToWire(hour)),
    credit_rollups: told.creditHours.map((hour) => creditHourToWire(hour)),
    events: told.events.map((range) => eventsToWire(range)),
    top_up: topUpToWire(told.topUp, currency),
    recomputed: {
      from_details: amount(recomputed.fromDetailsMinor),
      from_rollups: amount(recomputed.fromHoursMinor),
      is_exact: recomputed.isExact,
    },
  };
}

const chargeTypes = { recurring: 'RECURRING', one_time: 'ONE_TIME', usage: 'USAGE' } as const;

function chargeToWire(given: Charge, currency: Currency): NonNullable<Answer['charge']> {
  const amount = (minor: string | undefined): string | null =>
    minor === undefined ? null : formatAmount(BigInt(minor), currency);
  const isUsage = given.kind === 'usage';
  return {
    id: given.id,
    type: chargeTypes[given.kind],
    display_name: given.display_name,
    amount: isUsage ? null : amount(given.amount_minor),
    bill_in: given.kind === 'recurring' ? (given.bill_in ?? 'arrears') : null,
    meter: isUsage ? meterToWire(given.meter) : null,
    price: isUsage ? priceToWire(given.price) : null,
    minimum: isUsage ? amount(given.minimum_minor) : null,
    maximum: isUsage ? amount(given.maximum_minor) : null,
  };
}

function priceToWire(given: Extract<Charge, { kind: 'usage' }>['price']): z.output<typeof price> {
  return 'tiers' in given ? { ...given, tiers: given.tiers.map((one) => ({ ...one })) } : given;
}

function meterToWire(given: MeterDefinition): z.output<typeof meter> {
  const { id, key, name, unit_one: one, unit_other: other, scale, aggregation } = given;
  return { id, lookup_id: key, name, unit: { one, other }, scale, aggregation };
}

function intervalToWire(interval: LineExplanation['interval'], zone: string): Answer['interval'] {
  if (interval === null) return null;
  const { startAt, endAt } = interval;
  return {
    start_at: wireInstant(startAt),
    end_at: wireInstant(endAt),
    text: formatPeriod(startAt.getTime(), endAt.getTime(), zone),
  };
}

function usageToWire(usage: LineExplanation['usage']): Answer['usage'] {
  if (usage === null) return null;
  return {
    before: usage.before?.toString() ?? null,
    total: usage.total.toString(),
    events_before: (usage.eventsBefore ?? 0n).toString(),
    events_total: (usage.eventsTotal ?? 0n).toString(),
  };
}

function tiersToWire({ details }: InvoiceLineRead): Pick<Answer, 'tiers' | 'tiers_before'> {
  if (!('tiers' in details)) return { tiers: null, tiers_before: null };
  return {
    tiers: details.tiers.map((one) => ({ ...one })),
    tiers_before: details.tiers_before?.map((one) => ({ ...one })) ?? null,
  };
}

function hourToWire(hour: UsageHour | CreditHour) {
  return {
    hour: wireInstant(hour.hour),
    period_id: hour.periodId,
    adjusts_period_id: hour.adjustsPeriodId === '' ? null : hour.adjustsPeriodId,
    billed: billedWord(hour),
    event_count: hour.eventCount.toString(),
  };
}

function billedWord(of: { readonly isBilledNow: boolean }): 'now' | 'before' {
  return of.isBilledNow ? 'now' : 'before';
}

function usageHourToWire(hour: UsageHour): z.output<typeof usageHour> {
  return {
    ...hourToWire(hour),
    quantity: hour.quantity.toString(),
    max_quantity: hour.maxQuantity.toString(),
    latest_quantity: hour.latestQuantity.toString(),
    latest_at: wireInstant(hour.latestAt),
  };
}

function creditHourToWire(hour: CreditHour): z.output<typeof creditHour> {
  return {
    ...hourToWire(hour),
    credits: formatCredits(hour.creditsMicro),
    credits_overage: formatCredits(hour.overageMicro),
    credits_written_off: formatCredits(hour.writtenOffMicro),
  };
}

function eventsToWire(range: EventRange): z.output<typeof eventRange> {
  const filter = new URLSearchParams({
    subscription_id: range.subscriptionId,
    period_id: range.periodId,
    ...(range.meterId === null ? {} : { meter_id: range.meterId }),
    from: wireInstant(range.fromAt),
    until: wireInstant(range.untilAt),
  });
  return {
    period_id: range.periodId,
    billed: billedWord(range),
    event_count: range.eventCount.toString(),
    path: `/api/v1/usage_events?${filter.toString()}`,
  };
}

function topUpToWire(topUp: LineExplanation['topUp'], currency: Currency): Answer['top_up'] {
  if (topUp === null) return null;
  return {
    id: topUp.id,
    state: topUp.state,
    credits: formatCredits(topUp.creditsMicro),
    credit_unit: topUp.unit,
    amount: formatAmount(topUp.amountMinor, currency),
  };
}

const tierExample = {
  above: '0',
  up_to: null,
  quantity: '82450',
  unit_price: '0.001',
  flat_fee: '0',
  amount: '82.45',
};
const [lineExample] = invoiceExample.lines;

export const explanationExample = {
  object: 'invoice_line_explanation',
  invoice_id: invoiceExample.id,
  invoice_number: invoiceExample.number,
  currency: 'USD',
  line: lineExample,
  plan_version: {
    id: 'pver_5h2k9x0q7w3m1n8b4v6c2z',
    version: 1,
    plan_id: 'plan_5h2k9x0q7w3m1n8b4v6c2z',
    plan_lookup_id: 'pay-as-you-go',
    plan_name: 'Pay as you go',
  },
  charge: {
    id: 'chg_5h2k9x0q7w3m1n8b4v6c2z',
    type: 'USAGE',
    display_name: 'API calls ($0.001 each)',
    amount: null,
    bill_in: null,
    meter: {
      id: 'mtr_5h2k9x0q7w3m1n8b4v6c2z',
      lookup_id: 'api_calls',
      name: 'API Calls',
      unit: { one: 'call', other: 'calls' },
      scale: 0,
      aggregation: 'SUM',
    },
    price: { model: 'per_unit', unit_price: '0.001' },
    minimum: null,
    maximum: null,
  },
  period: { ...periodExample, state: 'closed', closed_at: '2025-02-01T00:00:05.000Z' },
  interval: {
    start_at: periodExample.interval_start_at,
    end_at: periodExample.interval_end_at,
    text: 'Jan 1 – Jan 31, 2025',
  },
  included_units: '0',
  usage: { before: null, total: '82450', events_before: '0', events_total: '82450' },
  tiers: [tierExample],
  tiers_before: null,
  usage_rollups: [
    {
      hour: '2025-01-01T00:00:00.000Z',
      period_id: periodExample.id,
      adjusts_period_id: null,
      billed: 'now',
      event_count: '82450',
      quantity: '82450',
      max_quantity: '1',
      latest_quantity: '1',
      latest_at: '2025-01-01T00:59:59.999Z',
    },
  ],
  credit_rollups: [],
  events: [
    {
      period_id: periodExample.id,
      billed: 'now',
      event_count: '82450',
      path: `/api/v1/usage_events?period_id=${periodExample.id}&meter_id=mtr_5h2k9x0q7w3m1n8b4v6c2z`,
    },
  ],
  top_up: null,
  recomputed: { from_details: '82.45', from_rollups: '82.45', is_exact: true },
};
