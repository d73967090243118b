/** Every route of a subscription but those of its plan, its coupons and its add-ons; here, the reads of it and of its periods. */
import { listPeriods } from '../../store/periods.ts';
import { listSubscriptions } from '../../store/subscription-reads.ts';
import { object, oneOf, pageQuery, reference } from '../fields.ts';
import { readers, route, type Route } from '../route.ts';
import { PeriodAnswer, periodExample, periodToWire } from './invoice-shapes.ts';
import { closePeriod } from './period-close.ts';
import { answers, listBody, listExample, listOfAnswers, pageArgs } from './shared.ts';
import { requireSubscriber } from './subscribers.ts';
import { cancelSubscription, changeSubscription } from './subscription-changes.ts';
import { showConstraints } from './subscription-constraints.ts';
import {
  requireSubscription,
  Subscription,
  subscriptionExample,
  subscriptionStates,
  subscriptionToWire,
} from './subscription-shapes.ts';
import { startSubscription } from './subscription-start.ts';
import { billLateUsageNow } from './late-usage.ts';
import { showUpcomingInvoice, showUsage } from './subscription-usage.ts';

const list = route({
  operationId: 'listSubscriptions',
  method: 'get',
  path: '/subscriptions',
  tag: 'Subscriptions',
  summary: 'List subscriptions',
  roles: readers,
  query: object({
    ...pageQuery,
    subscriber_id: reference('Of this subscriber').optional(),
    state: oneOf(subscriptionStates).optional(),
  }),
  answers: answers(200, {
    description: 'Newest first.',
    schema: listOfAnswers(Subscription, 'SubscriptionList'),
    example: listExample(subscriptionExample),
  }),
  handle: async (call, { query }) => {
    const subscriber =
      query.subscriber_id === undefined ? null : await requireSubscriber(call, query.subscriber_id);
    const page = await listSubscriptions(
      call.db,
      {
        environment: call.environment,
        subscriberId: subscriber?.id ?? null,
        state: query.state ?? null,
      },
      pageArgs(query),
    );
    const wires = new Map<string, unknown>();
    for (const row of page.rows) {
      // One after the other: a page must not take every connection of the pool.
      // oxlint-disable-next-line no-await-in-loop
      wires.set(row.id, await subscriptionToWire(call, row));
    }
    return { status: 200, body: listBody(page, (row) => wires.get(row.id)) };
  },
});

const show = route({
  operationId: 'showSubscription',
  method: 'get',
  path: '/subscriptions/{subscription_id}',
  tag: 'Subscriptions',
  summary: 'Show a subscription',
  roles: readers,
  answers: answers(200, {
    description: 'It.',
    schema: Subscription,
    example: subscriptionExample,
  }),
  handle: async (call) => ({
    status: 200,
    body: await subscriptionToWire(call, await requireSubscription(call)),
  }),
});

const periods = route({
  operationId: 'listPeriods',
  method: 'get',
  path: '/subscriptions/{subscription_id}/periods',
  tag: 'Subscriptions',
  summary: 'List the periods of a subscription',
  roles: readers,
  answers: answers(200, {
    description: 'All, in the order of time.',
    schema: listOfAnswers(PeriodAnswer, 'PeriodList'),
    example: listExample(periodExample),
  }),
  handle: async (call) => {
    const row = await requireSubscription(call);
    const rows = await listPeriods(call.db, row.id);
    return { status: 200, body: listBody({ rows, hasMore: false }, periodToWire) };
  },
});

export const subscriptionRoutes: readonly Route[] = [
  startSubscription,
  list,
  show,
  changeSubscription,
  cancelSubscription,
  periods,
  closePeriod,
  showConstraints,
  showUsage,
  showUpcomingInvoice,
  billLateUsageNow,
];
