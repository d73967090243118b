/** A subscription takes another plan: now or later, shown before it is done, taken back while it is planned. */
import { z } from 'zod';

import { formatAmount } from '../../billing/money.ts';
import { recurringFee } from '../../billing/plan-change.ts';
import { newId } from '../../store/ids.ts';
import { findInvoice, invoiceKeys } from '../../store/invoices.ts';
import {
  findPlanChange,
  listPlanChanges,
  type PlanChange,
  type PlanChangeRead,
} from '../../store/plan-change-reads.ts';
import { previewPlanChange } from '../../store/plan-change-preview.ts';
import { findVersion, type PlanVersionRow } from '../../store/plans.ts';
import type { SubscriptionRead } from '../../store/subscription-reads.ts';
import { readSubscription } from '../../store/subscriptions.ts';
import type { Call } from '../call.ts';
import { integer, object, oneOf, reference } from '../fields.ts';
import { notFound } from '../problems.ts';
import { operators, readers, route, type Route } from '../route.ts';
import {
  storedCurrency,
  upcomingExample,
  UpcomingInvoice,
  upcomingToWire,
} from './invoice-shapes.ts';
import { requireOnSale } from './plan-on-sale.ts';
import { requirePlan } from './plans.ts';
import {
  amountText,
  answers,
  instantText,
  listBody,
  listExample,
  listOfAnswers,
  listQuery,
  pageArgs,
  wireInstant,
} from './shared.ts';
import { afterCommand, refused, updateIdOf } from './subscription-commands.ts';
import {
  requireSubscription,
  Subscription,
  subscriptionAnswers,
  subscriptionExample,
  subscriptionToWire,
} from './subscription-shapes.ts';

const PlanChangeAnswer = z
  .strictObject({
    id: z.string(),
    object: z.literal('plan_change'),
    state: z
      .enum(['under_way', 'scheduled', 'applied', 'canceled'])
      .meta({ description: 'under_way: the workflow has it and has not answered yet.' }),
    plan_version_id: z.string(),
    when: z.enum(['now', 'period_end']).nullable(),
    effective_at: instantText().nullable(),
    resets_interval: z.boolean().nullable().meta({
      description: 'Whether an interval of another length begins with it, and its own days.',
    }),
    invoice_id: z.string().nullable().meta({ description: 'What it invoiced at once.' }),
    subscription: Subscription,
  })
  .meta({ id: 'PlanChange' });

const PlanOfChange = z
  .strictObject({
    plan_id: z.string(),
    plan_name: z.string(),
    version: z.number().int(),
  })
  .meta({ id: 'PlanOfChange' });
const PastPlanChange = z
  .strictObject({
    id: z.string(),
    object: z.literal('plan_change'),
    state: z.enum(['scheduled', 'applied', 'canceled']),
    from: PlanOfChange,
    to: PlanOfChange,
    when: z.enum(['now', 'period_end']),
    effective_at: instantText(),
    resets_interval: z.boolean(),
    invoice_id: z.string().nullable(),
    created_at: instantText(),
  })
  .meta({ id: 'PastPlanChange' });

const PlanChangePreviewAnswer = z
  .strictObject({
    object: z.literal('plan_change_preview'),
    subscription_id: z.string(),
    plan_version_id: z.string(),
    when: z.enum(['now', 'period_end']),
    effective_at: instantText('A change now holds within two seconds of its call.'),
    resets_interval: z.boolean(),
    currency: z.string(),
    fee_before: amountText('Recurring fees of a whole interval under the plan of today.'),
    fee_after: amountText('The same under the new plan.'),
    change_invoice: UpcomingInvoice.nullable().meta({
      description: 'What is invoiced at once. Null: nothing.',
    }),
    upcoming_invoice: UpcomingInvoice.meta({
      description:
        'The invoice of the period that ends next, after the change, as of what is used so far.',
    }),
  })
  .meta({ id: 'PlanChangePreview' });

const changeExample = {
  id: 'pch_5h2k9x0q7w3m1n8b4v6c2z',
  object: 'plan_change',
  state: 'applied',
  plan_version_id: 'pver_5h2k9x0q7w3m1n8b4v6c2z',
  when: 'now',
  effective_at: '2025-01-16T09:00:02.000Z',
  resets_interval: false,
  invoice_id: null,
  subscription: subscriptionExample,
};
const pastExample = {
  id: changeExample.id,
  object: 'plan_change',
  state: 'applied',
  from: { plan_id: 'plan_1h2k9x0q7w3m1n8b4v6c2z', plan_name: 'Starter', version: 1 },
  to: { plan_id: 'plan_5h2k9x0q7w3m1n8b4v6c2z', plan_name: 'Pro', version: 2 },
  when: 'now',
  effective_at: changeExample.effective_at,
  resets_interval: false,
  invoice_id: 'inv_5h2k9x0q7w3m1n8b4v6c2z',
  created_at: '2025-01-16T09:00:00.000Z',
};
const previewExample = {
  object: 'plan_change_preview',
  subscription_id: subscriptionExample.id,
  plan_version_id: 'pver_5h2k9x0q7w3m1n8b4v6c2z',
  when: 'now',
  effective_at: '2025-01-16T09:00:02.000Z',
  resets_interval: false,
  currency: 'USD',
  fee_before: '29.00',
  fee_after: '99.00',
  change_invoice: null,
  upcoming_invoice: upcomingExample,
};

const changeBody = object({
  plan_id: reference('The new plan'),
  version: integer(1, 1_000_000, 'The newest published one when absent.').optional(),
  when: oneOf(
    ['now', 'period_end'],
    'Absent: an upgrade and a change of the interval now, a downgrade at the end of the period.',
  ).optional(),
});
const bodyExample = { plan_id: 'pro' };

async function requireVersion(
  call: Call,
  body: { readonly plan_id: string; readonly version?: number | undefined },
): Promise<PlanVersionRow> {
  const plan = await requirePlan(call, body.plan_id);
  if (body.version !== undefined) {
    const version = await findVersion(call.db, plan.id, body.version);
    if (version === null) throw notFound(`version of ${plan.lookup_id}`, String(body.version));
    return version;
  }
  return requireOnSale(call.db, plan, 'change');
}

const refusals = [
  'subscription_not_active',
  'plan_not_published',
  'plan_archived',
  'plan_unchanged',
  'product_differs',
  'currency_differs',
  'tax_inclusion_differs',
  'credits_already_spent',
] as const;

const changePlan = route({
  operationId: 'changeSubscriptionPlan',
  method: 'post',
  path: '/subscriptions/{subscription_id}/change_plan',
  tag: 'Subscriptions',
  summary: 'Change the plan of a subscription',
  description: `An upgrade holds at once: 200 when the gateways enforce it. What was paid for the days that are left is credited, the new fee
for them charged; usage so far stays at the old prices and counts towards the new allowance. A downgrade waits for the end of the
period. A plan that bills in another interval ends this one and begins its own. A change that was planned gives way to this one.`,
  roles: operators,
  body: changeBody,
  bodyExample,
  answers: answers(
    200,
    { description: 'Changed, or planned.', schema: PlanChangeAnswer, example: changeExample },
    {
      202: {
        description: 'Under way: the workflow has the command and has not answered yet.',
        schema: PlanChangeAnswer,
        example: {
          ...changeExample,
          state: 'under_way',
          when: null,
          effective_at: null,
          resets_interval: null,
        },
      },
    },
  ),
  problems: [...refusals, 'workflow_engine_unavailable'],
  handle: async (call, { body }) => {
    const row = await requireSubscription(call);
    const version = await requireVersion(call, body);
    const when = body.when ?? 'default';
    const changeId =
      call.idempotency?.resumedObjectId ??
      (await call.begin(() => {
        const id = newId('pch');
        const details = { subscription_id: row.id, plan_version_id: version.id, when };
        const audit = { action: 'subscription.change_plan', objectId: id, details };
        return Promise.resolve({ value: id, audit });
      }));
    const reply = await call.deps.engine.changePlan(
      row.id,
      { changeId, planVersionId: version.id, when },
      { updateId: updateIdOf(call, 'change_plan'), waitMs: call.deps.waits.workflowMs },
    );
    if (reply.kind === 'refused') throw refused(reply);
    const change = await findPlanChange(call.db, changeId);
    return {
      status: reply.kind === 'done' ? 200 : 202,
      body: await changeToWire(call, { change, changeId, versionId: version.id }),
    };
  },
});

async function changeToWire(
  call: Call,
  of: {
    readonly change: PlanChange | null;
    readonly changeId: string;
    readonly versionId: string;
  },
): Promise<z.output<typeof PlanChangeAnswer>> {
  const { change, changeId } = of;
  const invoice = await findInvoice(call.db, invoiceKeys.change(changeId));
  return {
    id: changeId,
    object: 'plan_change',
    state: change?.state ?? 'under_way',
    plan_version_id: change?.toVersionId ?? of.versionId,
    when: change?.timing ?? null,
    effective_at: wireInstant(change?.effectiveAt ?? null),
    resets_interval: change?.resetsInterval ?? null,
    invoice_id: invoice?.id ?? null,
    subscription: await subscriptionToWire(call, await requireSubscription(call)),
  };
}

const preview = route({
  operationId: 'previewPlanChange',
  method: 'post',
  path: '/subscriptions/{subscription_id}/change_plan/preview',
  tag: 'Subscriptions',
  summary: 'Show what a change of plan would do',
  description: `The change is made and taken back, so that what is shown is what happens: when it holds, what is invoiced at once, and the
next invoice after it, to the cent.`,
  roles: readers,
  body: changeBody,
  bodyExample,
  answers: answers(200, {
    description: 'As of now.',
    schema: PlanChangePreviewAnswer,
    example: previewExample,
  }),
  problems: refusals,
  handle: async (call, { body }) => {
    const row = await requireSubscription(call);
    const version = await requireVersion(call, body);
    return { status: 200, body: await previewToWire(call, row, { version, when: body.when }) };
  },
});

async function previewToWire(
  call: Call,
  row: SubscriptionRead,
  wanted: {
    readonly version: PlanVersionRow;
    readonly when: 'now' | 'period_end' | undefined;
  },
): Promise<z.output<typeof PlanChangePreviewAnswer>> {
  const { definition } = await readSubscription(call.db, row.id);
  const { version, when } = wanted;
  const request = {
    changeId: newId('pch'),
    toVersionId: version.id,
    when: when ?? 'default',
  } as const;
  const shown = await previewPlanChange(call.db, row.id, request, new Date());
  if (shown.kind === 'refused') throw refused(shown);
  const currency = storedCurrency(row.currency);
  const { changeInvoice, period } = shown;
  return {
    object: 'plan_change_preview',
    subscription_id: row.id,
    plan_version_id: version.id,
    when: shown.timing,
    effective_at: wireInstant(shown.effectiveAt),
    resets_interval: shown.resetsInterval,
    currency,
    fee_before: formatAmount(recurringFee(definition), currency),
    fee_after: formatAmount(recurringFee(version.definition ?? { charges: [] }), currency),
    change_invoice: changeInvoice === null ? null : upcomingToWire(row.id, period, changeInvoice),
    upcoming_invoice: upcomingToWire(row.id, period, shown.upcoming),
  };
}

const keepPlan = route({
  operationId: 'cancelPlanChange',
  method: 'delete',
  path: '/subscriptions/{subscription_id}/change_plan',
  tag: 'Subscriptions',
  summary: 'Take back a planned change of plan',
  description:
    'The subscription keeps its plan. A change that holds already is undone by another change.',
  roles: operators,
  answers: subscriptionAnswers(200, 'It keeps its plan.'),
  problems: ['subscription_not_active', 'workflow_engine_unavailable'],
  handle: async (call) => {
    const row = await requireSubscription(call);
    const planned = row.pending_change;
    if (planned === null) throw notFound('planned change of plan of the subscription', row.id);
    await call.audit(call.db, {
      action: 'subscription.keep_plan',
      objectId: planned.id,
      details: { subscription_id: row.id },
    });
    const reply = await call.deps.engine.cancelPlanChange(
      row.id,
      { changeId: planned.id },
      { updateId: updateIdOf(call, 'keep_plan'), waitMs: call.deps.waits.workflowMs },
    );
    return afterCommand(call, reply, 200);
  },
});

const list = route({
  operationId: 'listPlanChanges',
  method: 'get',
  path: '/subscriptions/{subscription_id}/plan_changes',
  tag: 'Subscriptions',
  summary: "List the changes of a subscription's plan",
  roles: readers,
  query: listQuery,
  answers: answers(200, {
    description: 'Newest first.',
    schema: listOfAnswers(PastPlanChange, 'PlanChangeList'),
    example: listExample(pastExample),
  }),
  handle: async (call, { query }) => {
    const row = await requireSubscription(call);
    const page = await listPlanChanges(call.db, row.id, pageArgs(query));
    return { status: 200, body: listBody(page, pastToWire) };
  },
});

function pastToWire(row: PlanChangeRead): z.output<typeof PastPlanChange> {
  return {
    id: row.id,
    object: 'plan_change',
    state: row.state,
    from: { plan_id: row.from_plan_id, plan_name: row.from_plan_name, version: row.from_version },
    to: { plan_id: row.to_plan_id, plan_name: row.to_plan_name, version: row.to_version },
    when: row.timing,
    effective_at: wireInstant(row.effective_at),
    resets_interval: row.resets_interval,
    invoice_id: row.invoice_id,
    created_at: wireInstant(row.created_at),
  };
}

export const planChangeRoutes: readonly Route[] = [changePlan, preview, keepPlan, list];
