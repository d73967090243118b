/** What a subscription used in its running period, and the bill of it so far. */
import { z } from 'zod';

import { formatUnits } from '../../billing/quantity.ts';
import { allMeters } from '../../store/meters.ts';
import { subscriptionUsage, upcomingInvoice } from '../../store/usage-summary.ts';
import { ApiProblem } from '../problems.ts';
import { readers, route } from '../route.ts';
import {
  PeriodAnswer,
  periodExample,
  periodToWire,
  upcomingExample,
  UpcomingInvoice,
  upcomingToWire,
} from './invoice-shapes.ts';
import { answers } from './shared.ts';
import { requireSubscription } from './subscription-shapes.ts';

const SubscriptionUsage = z
  .strictObject({
    object: z.literal('subscription_usage'),
    subscription_id: z.string(),
    period: PeriodAnswer.nullable(),
    meters: z.array(
      z.strictObject({
        meter_id: z.string(),
        lookup_id: z.string(),
        name: z.string(),
        quantity: z.string().meta({ description: "In the meter's smallest unit." }),
        text: z.string().meta({ description: 'For people: 82,450 calls.' }),
        event_count: z.string(),
      }),
    ),
  })
  .meta({ id: 'SubscriptionUsage' });

const usageExample = {
  object: 'subscription_usage',
  subscription_id: periodExample.subscription_id,
  period: periodExample,
  meters: [
    {
      meter_id: 'mtr_5h2k9x0q7w3m1n8b4v6c2z',
      lookup_id: 'api_calls',
      name: 'API Calls',
      quantity: '82450',
      text: '82,450 calls',
      event_count: '82450',
    },
  ],
};

export const showUsage = route({
  operationId: 'showSubscriptionUsage',
  method: 'get',
  path: '/subscriptions/{subscription_id}/usage',
  tag: 'Subscriptions',
  summary: 'What was used in this period',
  roles: readers,
  answers: answers(200, {
    description: 'By meter, as of what is committed.',
    schema: SubscriptionUsage,
    example: usageExample,
  }),
  handle: async (call) => {
    const row = await requireSubscription(call);
    const summary = await subscriptionUsage(call.db, row.id, Date.now());
    const meters = await allMeters(call.db, call.environment);
    return {
      status: 200,
      body: {
        object: 'subscription_usage',
        subscription_id: row.id,
        period: summary === null ? null : periodToWire(summary.period),
        meters: (summary?.meters ?? []).map((used) => {
          const meter = meters.find(({ id }) => id === used.meterId);
          if (meter === undefined) throw new Error(`the meter ${used.meterId} vanished`);
          return {
            meter_id: used.meterId,
            lookup_id: used.meterKey,
            name: meter.name,
            quantity: used.quantity.toString(),
            text: formatUnits(used.quantity, meter),
            event_count: used.eventCount.toString(),
          };
        }),
      },
    };
  },
});

export const showUpcomingInvoice = route({
  operationId: 'showUpcomingInvoice',
  method: 'get',
  path: '/subscriptions/{subscription_id}/upcoming_invoice',
  tag: 'Subscriptions',
  summary: 'The bill so far',
  description: `The same function as the invoice: without further usage, equal to the cent. Of a subscription that has ended, what
came in since then and is billed by itself; 409 when nothing did.`,
  roles: readers,
  answers: answers(200, {
    description: 'As of what is committed.',
    schema: UpcomingInvoice,
    example: upcomingExample,
  }),
  problems: ['subscription_not_active'],
  handle: async (call) => {
    const row = await requireSubscription(call);
    const found = await upcomingInvoice(call.db, row.id, Date.now());
    if (found === null) {
      throw new ApiProblem(
        'subscription_not_active',
        'No period runs, and nothing came in late that is to be billed: no invoice is to come.',
      );
    }
    return { status: 200, body: upcomingToWire(row.id, found.period, found.draft) };
  },
});
