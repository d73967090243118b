import { z } from 'zod';

import { compileConstraints } from '../../billing/compile.ts';
import type { ProductConstraints } from '../../billing/constraints.ts';
import { formatQuantity } from '../../billing/quantity.ts';
import type { Tx } from '../../store/db.ts';
import { listInvoiceLines, listInvoices } from '../../store/invoice-reads.ts';
import { allMeters } from '../../store/meters.ts';
import { findPeriod, listPeriods, type Period } from '../../store/periods.ts';
import { publishedVersion, type PlanRow } from '../../store/plans.ts';
import { readCompileInput, readProgress } from '../../store/projection.ts';
import {
  findSubscription,
  listSubscriptions,
  type SubscriptionRead,
} from '../../store/subscription-reads.ts';
import { createSubscription, type SubscriptionCreation } from '../../store/subscriptions.ts';
import { subscriptionUsage, upcomingInvoice } from '../../store/usage-summary.ts';
import { summaries } from '../../workflows/contracts.ts';
import type { Call } from '../call.ts';
import { constraintWords, syncWords } from '../constraint-words.ts';
import { flag, instant, object, oneOf, pageQuery, reference, text } from '../fields.ts';
import { ApiProblem, fieldProblem, notFound } from '../problems.ts';
import { operators, readers, route, type Answer, type Route } from '../route.ts';
import type { EngineReply } from '../workflow-engine.ts';
import { attachExtras, extrasFields, extrasProblems } from './attach-extras.ts';
import {
  Invoice,
  invoiceExample,
  invoiceToWire,
  PeriodAnswer,
  periodExample,
  periodToWire,
  upcomingExample,
  UpcomingInvoice,
  upcomingToWire,
} from './invoice-shapes.ts';
import { requirePlan } from './plans.ts';
import {
  answers,
  instantText,
  listBody,
  listExample,
  listOfAnswers,
  pageArgs,
  wireInstant,
} from './shared.ts';
import { requireSubscriber } from './subscribers.ts';
import { readShard } from './wallets.ts';

const states = ['pending', 'active', 'past_due', 'canceled'] as const;

export const Subscription = z
  .strictObject({
    id: z.string(),
    object: z.literal('subscription'),
    environment: z.enum(['test', 'live']),
    subscriber_id: z.string(),
    product_id: z.string(),
    plan_id: z.string(),
    plan_name: z.string(),
    plan_version: z.number().int(),
    state: z.enum(states),
    currency: z.string(),
    time_zone: z.string(),
    anchor_at: instantText(),
    overage_enabled: z.boolean(),
    current_period: PeriodAnswer.nullable(),
    pending_change: z
      .strictObject({
        id: z.string(),
        plan_id: z.string(),
        plan_name: z.string(),
        plan_version: z.number().int(),
        effective_at: instantText(),
      })
      .nullable()
      .meta({ description: 'The change of plan that waits for its day.' }),
    coupon_count: z.number().int().meta({ description: 'Coupons that it holds.' }),
    add_on_count: z.number().int().meta({ description: 'Add-ons that it holds.' }),
    started_at: instantText().nullable(),
    cancel_at: instantText().nullable(),
    ended_at: instantText().nullable(),
    workflow_id: z.string().meta({ description: 'Its workflow, as the Temporal UI lists it.' }),
    created_at: instantText(),
  })
  .meta({ id: 'Subscription' });

const PeriodClose = z
  .strictObject({
    object: z.literal('period_close'),
    period: PeriodAnswer,
    invoice_id: z.string().nullable(),
    invoice: Invoice.nullable().meta({
      description: 'Null while it is not closed, and when there was nothing to invoice.',
    }),
    workflow_id: z.string(),
  })
  .meta({ id: 'PeriodClose' });

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

const Constraints = z
  .strictObject({
    object: z.literal('constraints'),
    subscription_id: z.string(),
    in_sync: z.boolean(),
    sync: z.string(),
    rules: z.array(z.string()).meta({ description: 'What was compiled, in words.' }),
    now: z.array(z.string()).meta({ description: 'What the shard counts, in words.' }),
    compiled: z.record(z.string(), z.unknown()).nullable(),
    shard: z.record(z.string(), z.unknown()).nullable(),
  })
  .meta({ id: 'Constraints' });

export const subscriptionExample = {
  id: periodExample.subscription_id,
  object: 'subscription',
  environment: 'test',
  subscriber_id: 'sbr_5h2k9x0q7w3m1n8b4v6c2z',
  product_id: 'prod_5h2k9x0q7w3m1n8b4v6c2z',
  plan_id: 'plan_5h2k9x0q7w3m1n8b4v6c2z',
  plan_name: 'Pay-as-you-go',
  plan_version: 1,
  state: 'active',
  currency: 'USD',
  time_zone: 'UTC',
  anchor_at: '2025-01-01T00:00:00.000Z',
  overage_enabled: false,
  current_period: periodExample,
  pending_change: null,
  coupon_count: 0,
  add_on_count: 0,
  started_at: '2025-01-01T00:00:00.000Z',
  cancel_at: null,
  ended_at: null,
  workflow_id: `sub/${periodExample.subscription_id}`,
  created_at: '2025-01-01T00:00:00.000Z',
};
const closeExample = {
  object: 'period_close',
  period: { ...periodExample, state: 'closed', closed_at: '2025-02-01T00:00:05.000Z' },
  invoice_id: invoiceExample.id,
  invoice: invoiceExample,
  workflow_id: `close/${periodExample.subscription_id}/0`,
};
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
const constraintsExample = {
  object: 'constraints',
  subscription_id: periodExample.subscription_id,
  in_sync: true,
  sync: 'In sync: the shard holds version 3 and credit entry 0, as Postgres does.',
  rules: [
    'Active; in force until 2025-02-01T00:00:00.000Z.',
    'From then on the next period begins.',
  ],
  now: ['0 requests are running.'],
  compiled: {},
  shard: {},
};

/** The subscription or 404. */
export async function requireSubscription(call: Call): Promise<SubscriptionRead> {
  const id = call.param('subscription_id');
  const found = await findSubscription(call.db, call.environment, id);
  if (found === null) throw notFound('subscription', id);
  return found;
}

export async function subscriptionToWire(
  call: Call,
  row: SubscriptionRead,
): Promise<z.output<typeof Subscription>> {
  const periods = await listPeriods(call.db, row.id, ['scheduled', 'open', 'closing']);
  const nowMs = Date.now();
  const current =
    row.state === 'canceled'
      ? undefined
      : periods.find(({ startAt, endAt }) => startAt.getTime() <= nowMs && nowMs < endAt.getTime());
  return {
    id: row.id,
    object: 'subscription',
    environment: row.environment,
    subscriber_id: row.subscriber_id,
    product_id: row.product_id,
    plan_id: row.plan_id,
    plan_name: row.plan_name,
    plan_version: row.plan_version,
    state: row.state,
    currency: row.currency,
    time_zone: row.time_zone,
    anchor_at: wireInstant(row.anchor_at),
    overage_enabled: row.overage_enabled,
    current_period: current === undefined ? null : periodToWire(current),
    pending_change:
      row.pending_change === null
        ? null
        : {
            ...row.pending_change,
            effective_at: wireInstant(new Date(row.pending_change.effective_at)),
          },
    coupon_count: row.coupon_count,
    add_on_count: row.add_on_count,
    started_at: wireInstant(row.started_at),
    cancel_at: wireInstant(row.cancel_at),
    ended_at: wireInstant(row.ended_at),
    workflow_id: `sub/${row.id}`,
    created_at: wireInstant(row.created_at),
  };
}

/** The id of an update: a repeat with the same Idempotency-Key is the same update to the workflow. */
export function updateIdOf(call: Call, what: string): string {
  return `${what}:${call.idempotency === null ? call.requestId : `${call.token.id}:${call.idempotency.key}`}`;
}

/** The workflow's refusals in the API's words. */
export function refused(reply: Extract<EngineReply<unknown>, { kind: 'refused' }>): ApiProblem {
  switch (reply.code) {
    case 'subscription_canceled':
    case 'subscription_not_active':
    case 'workflow_not_running':
      return new ApiProblem('subscription_not_active', reply.message);
    case 'period_not_found':
      return new ApiProblem('not_found', reply.message);
    case 'period_not_open':
      return new ApiProblem('period_not_closable', reply.message);
    case 'no_planned_change':
    case 'plan_not_found':
      return new ApiProblem('not_found', reply.message);
    case 'plan_not_published':
    case 'plan_archived':
    case 'product_differs':
    case 'currency_differs':
    case 'tax_inclusion_differs':
    case 'plan_unchanged':
    case 'credits_already_spent':
      return new ApiProblem(reply.code, reply.message);
    default:
      return new ApiProblem('conflict', reply.message);
  }
}

/** After a command: the subscription as it stands; 202 when the workflow has not answered yet. */
export async function afterCommand(
  call: Call,
  reply: EngineReply<unknown>,
  doneStatus: number,
): Promise<Answer> {
  if (reply.kind === 'refused') throw refused(reply);
  const body = await subscriptionToWire(call, await requireSubscription(call));
  return { status: reply.kind === 'done' ? doneStatus : 202, body };
}

export const subscriptionAnswers = (status: number, description: string) =>
  answers(
    status,
    { description, schema: Subscription, example: subscriptionExample },
    {
      202: {
        description: 'Under way: the workflow has the command and has not answered yet.',
        schema: Subscription,
        example: { ...subscriptionExample, state: 'pending', current_period: null },
      },
    },
  );

const START_AHEAD_MS_MAX = 3 * 366 * 86_400_000;

const start = route({
  operationId: 'startSubscription',
  method: 'post',
  path: '/subscriptions',
  tag: 'Subscriptions',
  summary: 'Subscribe a subscriber to a plan',
  description: `To the newest published version of the plan. 201 when it is active and the gateways know it; 202 while that goes on.
A subscriber has at most one live subscription to a product; one that is still pending is gone on with.`,
  roles: operators,
  body: object({
    subscriber_id: reference('Who subscribes'),
    plan_id: reference('To what'),
    overage_enabled: flag().optional().meta({
      description: "Usage past the included credits; as the plan's terms say when absent.",
    }),
    start_at: instant(
      'When its first period begins, which all its billing periods are counted from; now when absent. Within three years.',
    ).optional(),
    ...extrasFields,
  }),
  bodyExample: { subscriber_id: 'acme', plan_id: 'payg' },
  answers: subscriptionAnswers(201, 'Active.'),
  problems: [
    'plan_not_published',
    'plan_archived',
    'subscription_exists',
    'workflow_engine_unavailable',
    ...extrasProblems,
  ],
  handle: async (call, { body }) => {
    const subscriber = await requireSubscriber(call, body.subscriber_id);
    const plan = await requirePlan(call, body.plan_id);
    const version = await publishedVersion(call.db, plan.id);
    if (version === null) throw notPublished(plan);
    const subscriptionId =
      call.idempotency?.resumedObjectId ??
      (await call.begin(async (tx, now) => {
        const creation = await createSubscription(tx, {
          environment: call.environment,
          subscriberId: subscriber.id,
          planVersionId: version.id,
          timeZone: subscriber.time_zone,
          startAt: startOf(body.start_at, now),
          ...(body.overage_enabled === undefined ? {} : { overageEnabled: body.overage_enabled }),
        });
        const id = idOfCreation(creation, plan);
        if (creation.kind === 'refused') {
          await requirePending(tx, call, { id, versionId: version.id });
        }
        const { environment } = call;
        await attachExtras(tx, { environment, subscriptionId: id, extras: body, at: now });
        return {
          value: id,
          audit: { action: 'subscription.start', objectId: id, details: { plan_id: plan.id } },
        };
      }));
    const reply = await call.deps.engine.activate(subscriptionId, {
      updateId: updateIdOf(call, 'activate'),
      summary: summaries.subscription({ subscriberName: subscriber.name, planName: plan.name }),
      waitMs: call.deps.waits.workflowMs,
    });
    if (reply.kind === 'refused') throw refused(reply);
    const row = await findSubscription(call.db, call.environment, subscriptionId);
    if (row === null) throw new Error(`subscription ${subscriptionId} vanished`);
    const isActive = reply.kind === 'done' && row.state !== 'pending';
    return { status: isActive ? 201 : 202, body: await subscriptionToWire(call, row) };
  },
});

function notPublished(plan: PlanRow): ApiProblem {
  if (plan.archived_at !== null) return archived(plan);
  const publish = `POST /api/v1/plans/${plan.id}/publish`;
  return new ApiProblem(
    'plan_not_published',
    `The plan ${plan.lookup_id} is a draft. Publish it with ${publish}, then subscribe.`,
    { extra: { publish } },
  );
}

function archived(plan: PlanRow): ApiProblem {
  return new ApiProblem(
    'plan_archived',
    `The plan ${plan.lookup_id} is archived: nobody can subscribe to it any more. Choose another one from GET /api/v1/plans.`,
  );
}

function idOfCreation(creation: SubscriptionCreation, plan: PlanRow): string {
  if (creation.kind === 'created') return creation.subscriptionId;
  switch (creation.code) {
    case 'plan_not_found':
    case 'plan_not_published':
      throw notPublished(plan);
    case 'plan_archived':
      throw archived(plan);
    case 'overage_not_in_plan':
      throw fieldProblem(
        'overage_enabled',
        `cannot be true: the plan ${plan.lookup_id} has no price for usage past its credits`,
      );
    case 'subscription_exists':
      return creation.subscriptionId;
    default:
      return creation satisfies never;
  }
}

/** A live subscription to the same version that never became active is the same wish: it is gone on with. */
/** A start that is asked for lies ahead: what was used before it would belong to no period. */
function startOf(startAt: Date | undefined, now: Date): Date | undefined {
  if (startAt === undefined) return undefined;
  const aheadMs = startAt.getTime() - now.getTime();
  if (aheadMs < 0) throw fieldProblem('start_at', 'lies in the past; leave it out to start now');
  if (aheadMs > START_AHEAD_MS_MAX)
    throw fieldProblem('start_at', 'lies more than three years ahead');
  return startAt;
}

async function requirePending(
  tx: Tx,
  call: Call,
  { id, versionId }: { readonly id: string; readonly versionId: string },
): Promise<void> {
  const live = await findSubscription(tx, call.environment, id);
  if (live?.state === 'pending' && live.plan_version_id === versionId) return;
  throw new ApiProblem(
    'subscription_exists',
    `The subscriber has the subscription ${id} to this product already. Cancel it first.`,
    { extra: { subscription_id: id } },
  );
}

const cancel = route({
  operationId: 'cancelSubscription',
  method: 'post',
  path: '/subscriptions/{subscription_id}/cancel',
  tag: 'Subscriptions',
  summary: 'Cancel a subscription',
  description: `At the end of its period, or now; what was used is invoiced either way. With prorate, the fees of the interval are billed
by the days used, and what was billed in advance for the days after it becomes account balance, by a credit note.`,
  roles: operators,
  bodyOptional: true,
  body: object({
    when: oneOf(['period_end', 'now'], 'period_end when absent.').optional(),
    prorate: flag().optional().meta({
      description: 'Of a cancellation now: fees by the days used. False when absent.',
    }),
    reason: text(500).optional(),
  }),
  bodyExample: { when: 'period_end' },
  answers: subscriptionAnswers(200, 'Canceled, or planned to be.'),
  problems: ['subscription_not_active', 'workflow_engine_unavailable'],
  handle: async (call, { body }) => {
    const row = await requireSubscription(call);
    await call.audit(call.db, {
      action: 'subscription.cancel',
      objectId: row.id,
      details: { when: body.when ?? 'period_end', prorate: body.prorate ?? false },
    });
    const reply = await call.deps.engine.cancel(
      row.id,
      {
        when: body.when ?? 'period_end',
        prorate: body.prorate ?? false,
        ...(body.reason === undefined ? {} : { reason: body.reason }),
      },
      { updateId: updateIdOf(call, 'cancel'), waitMs: call.deps.waits.workflowMs },
    );
    return afterCommand(call, reply, 200);
  },
});

const change = route({
  operationId: 'changeSubscription',
  method: 'patch',
  path: '/subscriptions/{subscription_id}',
  tag: 'Subscriptions',
  summary: 'Allow or deny overage',
  description: 'In force at the gateway when this answers 200.',
  roles: operators,
  body: object({ overage_enabled: flag() }),
  bodyExample: { overage_enabled: true },
  answers: subscriptionAnswers(200, 'Changed.'),
  problems: ['subscription_not_active', 'conflict', 'workflow_engine_unavailable'],
  handle: async (call, { body }) => {
    const row = await requireSubscription(call);
    await call.audit(call.db, {
      action: 'subscription.overage',
      objectId: row.id,
      details: { enabled: body.overage_enabled },
    });
    const reply = await call.deps.engine.setOverage(
      row.id,
      { enabled: body.overage_enabled },
      { updateId: updateIdOf(call, 'overage'), waitMs: call.deps.waits.workflowMs },
    );
    return afterCommand(call, reply, 200);
  },
});

const closeNow = route({
  operationId: 'closePeriod',
  method: 'post',
  path: '/subscriptions/{subscription_id}/periods/{period_id}/close',
  tag: 'Subscriptions',
  summary: 'Close a period now',
  description: `Cuts the period here, seals it, invoices it; the rest of its interval becomes the next period, and the boundary after
it stays. Waits up to 30 s; 202 when it goes on longer. Closing a closed period changes nothing and answers the same.`,
  roles: operators,
  bodyOptional: true,
  body: object({}),
  answers: answers(
    200,
    { description: 'Closed.', schema: PeriodClose, example: closeExample },
    {
      202: {
        description: 'Under way.',
        schema: PeriodClose,
        example: {
          ...closeExample,
          period: { ...periodExample, state: 'closing' },
          invoice_id: null,
          invoice: null,
        },
      },
    },
  ),
  problems: ['subscription_not_active', 'period_not_closable', 'workflow_engine_unavailable'],
  handle: async (call) => {
    const row = await requireSubscription(call);
    const period = await requirePeriod(call, row);
    if (period.state === 'closed') return closeAnswer(call, row, { period, status: 200 });
    await call.audit(call.db, {
      action: 'period.close',
      objectId: period.id,
      details: { subscription_id: row.id },
    });
    const deadline = performance.now() + call.deps.waits.closeMs;
    const begun = await call.deps.engine.closePeriod(
      row.id,
      { periodId: period.id },
      { updateId: updateIdOf(call, `close:${period.id}`), waitMs: call.deps.waits.workflowMs },
    );
    if (begun.kind === 'refused') throw refused(begun);
    if (begun.kind === 'slow') return closeAnswer(call, row, { period, status: 202 });
    const result = await call.deps.engine.closeResult(
      begun.value.closeWorkflowId,
      Math.max(1, deadline - performance.now()),
    );
    if (result.kind === 'refused') throw refused(result);
    const after = await requirePeriod(call, row);
    const isClosed = result.kind === 'done' && after.state === 'closed';
    return closeAnswer(call, row, { period: after, status: isClosed ? 200 : 202 });
  },
});

async function requirePeriod(call: Call, row: SubscriptionRead): Promise<Period> {
  const id = call.param('period_id');
  const period = await findPeriod(call.db, row.id, id);
  if (period === null) throw notFound('period of this subscription', id);
  return period;
}

async function closeAnswer(
  call: Call,
  row: SubscriptionRead,
  { period, status }: { readonly period: Period; readonly status: number },
): Promise<Answer> {
  const filter = {
    environment: call.environment,
    subscriberId: null,
    subscriptionId: row.id,
    periodId: period.id,
  };
  const page = await listInvoices(call.db, filter, { limit: 20, after: null });
  const issued = page.rows.find(({ state, kind }) => kind === 'period' && state !== 'void');
  const lines = issued === undefined ? [] : await listInvoiceLines(call.db, [issued.id]);
  return {
    status,
    body: {
      object: 'period_close',
      period: periodToWire(period),
      invoice_id: issued?.id ?? null,
      invoice: issued === undefined ? null : invoiceToWire(issued, lines),
      workflow_id: `close/${row.id}/${period.seq}`,
    },
  };
}

const constraints = route({
  operationId: 'showConstraints',
  method: 'get',
  path: '/subscriptions/{subscription_id}/constraints',
  tag: 'Subscriptions',
  summary: 'What the gateway enforces',
  description:
    'What was compiled from the commercial settings, beside what the shard holds, in words and in full.',
  roles: readers,
  answers: answers(200, {
    description: 'Both.',
    schema: Constraints,
    example: constraintsExample,
  }),
  handle: async (call) => {
    const row = await requireSubscription(call);
    const input = await readCompileInput(call.db, row.subscriber_id);
    const compiled = input === null ? null : compileConstraints(input);
    const product: ProductConstraints = compiled?.products.find(
      ({ subscriptionId }) => subscriptionId === row.id,
    ) ?? {
      productId: row.product_id,
      subscriptionId: row.id,
      segments: [],
    };
    const progress = await readProgress(call.db, row.subscriber_id);
    const reading = await readShard(call, row.subscriber_id);
    const state = reading.kind === 'away' ? null : reading.state;
    const sync =
      reading.kind === 'away'
        ? { inSync: false, words: 'The shard does not answer; what is compiled waits for it.' }
        : syncWords({
            version: compiled?.version ?? 0,
            coreSeq: Number(progress.coreSeq),
            state,
          });
    const words = constraintWords(product, state, Date.now());
    return {
      status: 200,
      body: {
        object: 'constraints',
        subscription_id: row.id,
        in_sync: sync.inSync,
        sync: sync.words,
        rules: words.rules,
        now: words.now,
        compiled: compiled === null ? null : { version: compiled.version, ...product },
        shard:
          state === null
            ? null
            : {
                version: state.version,
                coreSeq: state.coreSeq,
                product:
                  state.products.find(({ productId }) => productId === row.product_id) ?? null,
                buckets: state.buckets,
              },
      },
    };
  },
});

const usage = route({
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
          const isOne = used.quantity === 10n ** BigInt(meter?.scale ?? 0);
          const word = isOne ? meter?.unit_one : meter?.unit_other;
          return {
            meter_id: used.meterId,
            lookup_id: used.meterKey,
            name: meter?.name ?? used.meterKey,
            quantity: used.quantity.toString(),
            text: `${formatQuantity(used.quantity, meter?.scale ?? 0)} ${word ?? ''}`.trim(),
            event_count: used.eventCount.toString(),
          };
        }),
      },
    };
  },
});

const upcoming = route({
  operationId: 'showUpcomingInvoice',
  method: 'get',
  path: '/subscriptions/{subscription_id}/upcoming_invoice',
  tag: 'Subscriptions',
  summary: 'The bill so far',
  description: 'The same function as the invoice: without further usage, equal to the cent.',
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
        'No period runs, so there is nothing to come.',
      );
    }
    return { status: 200, body: upcomingToWire(row.id, found.period, found.draft) };
  },
});

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
    state: oneOf(states).optional(),
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
  start,
  list,
  show,
  change,
  cancel,
  periods,
  closeNow,
  constraints,
  usage,
  upcoming,
];
