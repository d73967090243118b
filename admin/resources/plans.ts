import type { TemplateDraft } from '../../billing/plan-templates.ts';
import { shardLimits } from '../../billing/shard-limits.ts';
import type { Reader, Tx } from '../../store/db.ts';
import { allMeters, type MeterRow } from '../../store/meters.ts';
import {
  copyToDraft,
  currentVersion,
  deleteCharge,
  deletePlanFeature,
  findPlan,
  insertCharge,
  insertPlan,
  listCharges,
  listPlanFeatures,
  listPlans,
  lockDraft,
  planTypes,
  publishedVersion,
  publishVersion,
  putPlanFeature,
  taxRateRefs,
  updateDraft,
  updatePlan,
  type PlanRow,
  type PlanVersionRow,
  type VersionTerms,
} from '../../store/plans.ts';
import { findProduct, onlyProduct, type ProductRow } from '../../store/products.ts';
import type { Call } from '../call.ts';
import { currencyCode, lookupId, object, oneOf, quantity, reference, text } from '../fields.ts';
import { ApiProblem, fieldProblem, notFound } from '../problems.ts';
import { operators, readers, route, type Answer, type Route } from '../route.ts';
import { requireFeature } from './features.ts';
import {
  ChargeOfDraft,
  chargeOfDraftExample,
  chargeToWire,
  intervalUnits,
  nextStepOf,
  Plan,
  planExample,
  planToWire,
  resetIntervals,
} from './plan-shapes.ts';
import { definitionOfVersion } from './plan-definitions.ts';
import {
  chargeBody,
  currencyOf,
  readCharge,
  readTerms,
  refuseRescaling,
  termFields,
} from './plan-terms.ts';
import {
  chargesOfTemplate,
  readTemplate,
  templateBody,
  termsOfTemplate,
} from './plan-templates.ts';
import {
  answers,
  listBody,
  listExample,
  listOfAnswers,
  listQuery,
  lookupIdOf,
  pageArgs,
} from './shared.ts';

/** The plan or 404. */
export async function requirePlan(call: Call, ref: string): Promise<PlanRow> {
  const plan = await findPlan(call.db, call.environment, ref);
  if (plan === null) throw notFound('plan', ref);
  return plan;
}

/** The draft of the plan if it has one, else its newest version. */
export async function requireCurrentVersion(
  reader: Reader,
  plan: PlanRow,
): Promise<PlanVersionRow> {
  const version = await currentVersion(reader, plan.id);
  if (version === null) throw new Error(`plan ${plan.id} has no version`);
  return version;
}

/** A plan that is archived is not sold any more: 409. */
function requireUnarchived(plan: PlanRow): void {
  if (plan.archived_at === null) return;
  throw new ApiProblem(
    'plan_archived',
    `The plan ${plan.lookup_id} is archived: it is not sold any more. Make another plan with POST /api/v1/plans.`,
  );
}

async function requireDraft(tx: Tx, plan: PlanRow): Promise<PlanVersionRow> {
  const draft = await lockDraft(tx, plan.id);
  if (draft !== null) return draft;
  throw new ApiProblem(
    'plan_version_published',
    `A published version never changes. Make the next one with POST /api/v1/plans/${plan.id}/versions, change that, and publish it.`,
  );
}

/** The named product, or the only one there is, for something that is sold with one. */
export async function productFor(
  call: Call,
  ref: string | undefined,
  what: 'plan' | 'add-on',
): Promise<ProductRow> {
  if (ref !== undefined) {
    const named = await findProduct(call.db, call.environment, ref);
    if (named === null) throw fieldProblem('product_id', 'names no product of this environment');
    return named;
  }
  const { product, lookupIds } = await onlyProduct(call.db, call.environment);
  if (product !== null) return product;
  const [detail, message] =
    lookupIds.length === 0
      ? [
          `There is no product yet. Make one with POST /api/v1/products; ${what === 'plan' ? 'a plan' : 'an add-on'} sells it.`,
          'is needed',
        ]
      : [
          `There are several products. Say with product_id which one this ${what} is of.`,
          'is required',
        ];
  throw new ApiProblem('product_needed', detail, {
    errors: [
      { field: 'product_id', message, ...(lookupIds.length === 0 ? {} : { allowed: lookupIds }) },
    ],
  });
}

export const planAnswers = (description: string, status = 200) =>
  answers(status, { description, schema: Plan, example: planExample });

/** A change of a plan's draft: one transaction, in which the draft is locked. */
async function changeDraft(
  call: Call,
  action: string,
  work: (tx: Tx, plan: PlanRow, draft: PlanVersionRow) => Promise<Answer | null>,
): Promise<Answer> {
  const plan = await requirePlan(call, call.param('plan_id'));
  return call.write(async (tx) => {
    const draft = await requireDraft(tx, plan);
    const answer = (await work(tx, plan, draft)) ?? {
      status: 200,
      body: await planToWire(tx, plan, draft),
    };
    return { answer, audit: { action, objectId: plan.id, details: { version: draft.version } } };
  });
}

const createPlan = route({
  operationId: 'createPlan',
  method: 'post',
  path: '/plans',
  tag: 'Plans',
  summary: 'Make a plan',
  description: `A new plan is a draft: add charges and features, then publish it.
With a \`template\` the draft has charges, limits and credit terms to begin with, and \`type\` may be left out.
\`product_id\` may be left out while there is exactly one product.`,
  roles: operators,
  body: object({
    ...termFields,
    ...templateBody,
    name: text(120),
    lookup_id: lookupId().optional(),
    type: oneOf(planTypes, "Required without a template; the template's when absent.").optional(),
    billing_interval: oneOf(intervalUnits),
    currency: currencyCode(),
    product_id: reference('What the plan sells').optional(),
  }),
  bodyExample: {
    name: 'Pay-as-you-go',
    lookup_id: 'payg',
    type: 'USAGE',
    billing_interval: 'month',
    currency: 'USD',
  },
  answers: planAnswers('Made, as a draft.', 201),
  problems: ['already_exists', 'product_needed'],
  handle: async (call, { body }) => {
    const product = await productFor(call, body.product_id, 'plan');
    const name = body.lookup_id ?? lookupIdOf(body.name, '-');
    if (name === null) throw fieldProblem('lookup_id', 'is required: the name gives none');
    const meters = await allMeters(call.db, call.environment);
    const template = await readTemplate(call, body, { meters, product });
    const type = body.type ?? template?.type;
    if (type === undefined) {
      throw fieldProblem('type', `is required without a template`, planTypes);
    }
    const none: VersionTerms = {
      currency: body.currency,
      interval_unit: body.billing_interval,
      interval_count: 1,
      billing_time: 'anniversary',
      base_price_minor: null,
      credit_terms: null,
      rate_limits: [],
      proration: 'day',
      prices_include_tax: false,
      commitment_minor: null,
      invoice_threshold_minor: null,
    };
    const given = template === null ? body : termsOfTemplate(body, template);
    const terms = readTerms(given, none, meters);
    return call.write(async (tx) => {
      const { plan, version } = await insertPlan(
        tx,
        {
          environment: call.environment,
          product_id: product.id,
          lookup_id: name,
          name: body.name,
          type,
        },
        terms,
      );
      if (template !== null) await writeTemplate(tx, version, { template, meters });
      return {
        answer: { status: 201, body: await planToWire(tx, plan, version) },
        audit: {
          action: 'plan.create',
          objectId: plan.id,
          ...(body.template !== undefined && { details: { template: body.template } }),
        },
      };
    });
  },
});

async function writeTemplate(
  tx: Tx,
  version: PlanVersionRow,
  of: { readonly template: TemplateDraft; readonly meters: readonly MeterRow[] },
): Promise<void> {
  // One by one, to keep their order; a plan has a handful.
  for (const charge of chargesOfTemplate(of.template, of.meters)) {
    // oxlint-disable-next-line no-await-in-loop
    await insertCharge(tx, version.id, charge);
  }
  for (const { id, limit } of of.template.features) {
    // oxlint-disable-next-line no-await-in-loop
    await putPlanFeature(tx, version.id, {
      feature_id: id,
      limit,
      limit_type: 'HARD',
      reset_interval: 'period',
    });
  }
}

const listPlansRoute = route({
  operationId: 'listPlans',
  method: 'get',
  path: '/plans',
  tag: 'Plans',
  summary: 'List plans',
  roles: readers,
  query: listQuery,
  answers: answers(200, {
    description: 'Newest first.',
    schema: listOfAnswers(Plan, 'PlanList'),
    example: listExample(planExample),
  }),
  handle: async (call, { query }) => {
    const page = await listPlans(call.db, call.environment, pageArgs(query));
    const wires = new Map<string, Awaited<ReturnType<typeof planToWire>>>();
    for (const plan of page.rows) {
      // One after the other: a page must not take every connection of the pool.
      // oxlint-disable-next-line no-await-in-loop
      const version = await requireCurrentVersion(call.db, plan);
      // oxlint-disable-next-line no-await-in-loop
      wires.set(plan.id, await planToWire(call.db, plan, version));
    }
    return { status: 200, body: listBody(page, (plan) => wires.get(plan.id)) };
  },
});

const showPlan = route({
  operationId: 'showPlan',
  method: 'get',
  path: '/plans/{plan_id}',
  tag: 'Plans',
  summary: 'Show a plan',
  description: 'With its draft when it has one, else with its newest version.',
  roles: readers,
  answers: planAnswers('It.'),
  handle: async (call) => {
    const plan = await requirePlan(call, call.param('plan_id'));
    const version = await requireCurrentVersion(call.db, plan);
    return { status: 200, body: await planToWire(call.db, plan, version) };
  },
});

const changePlan = route({
  operationId: 'changePlan',
  method: 'patch',
  path: '/plans/{plan_id}',
  tag: 'Plans',
  summary: 'Change a plan',
  description: 'Name and type at any time; everything else in a draft only.',
  roles: operators,
  body: object({ ...termFields, name: text(120).optional(), type: oneOf(planTypes).optional() }),
  bodyExample: { name: 'Pay as you go', base_price: '9.00' },
  answers: planAnswers('Changed.'),
  problems: ['plan_version_published'],
  handle: async (call, { body }) => {
    const plan = await requirePlan(call, call.param('plan_id'));
    const meters = await allMeters(call.db, call.environment);
    const { name, type, ...given } = body;
    return call.write(async (tx) => {
      const words = { name: name ?? plan.name, type: type ?? plan.type };
      const changed = await updatePlan(tx, plan.id, words);
      const touchesTerms = Object.values(given).some((value) => value !== undefined);
      const before = touchesTerms
        ? await requireDraft(tx, plan)
        : await requireCurrentVersion(tx, plan);
      if (touchesTerms) refuseRescaling(given, before, await listCharges(tx, before.id));
      const version = touchesTerms
        ? await updateDraft(tx, before.id, readTerms(given, before, meters))
        : before;
      return {
        answer: { status: 200, body: await planToWire(tx, changed, version) },
        audit: {
          action: 'plan.change',
          objectId: plan.id,
          details: { changed: Object.keys(body) },
        },
      };
    });
  },
});

const addCharge = route({
  operationId: 'addCharge',
  method: 'post',
  path: '/plans/{plan_id}/charges',
  tag: 'Plans',
  summary: 'Add a charge to the draft',
  description: `USAGE: \`meter_id\` and a price, one of \`unit_price\`, \`price\`, \`usage_pricing_rules\`; without any, the meter's own rules are used.
A percentage is of the money that a SUM meter adds up. \`minimum\` and \`maximum\` bound what an interval costs.
RECURRING and ONE_TIME: \`amount\`. A RECURRING fee may be billed in advance.`,
  roles: operators,
  body: chargeBody,
  bodyExample: {
    type: 'USAGE',
    meter_id: 'api_calls',
    unit_price: 0.001,
    display_name: 'API calls ($0.001 each)',
  },
  answers: answers(201, {
    description: 'Added.',
    schema: ChargeOfDraft,
    example: chargeOfDraftExample,
  }),
  problems: [
    'plan_version_published',
    'tier_gap',
    'tier_overlap',
    'tiers_malformed',
    'price_malformed',
  ],
  handle: async (call, { body }) => {
    const meters = await allMeters(call.db, call.environment);
    const taxRates = await taxRateRefs(call.db, call.environment);
    return changeDraft(call, 'charge.create', async (tx, plan, draft) => {
      const currency = currencyOf(draft.currency);
      const charge = readCharge(body, { currency, meters, taxRates });
      const row = await insertCharge(tx, draft.id, charge);
      return {
        status: 201,
        body: {
          ...chargeToWire(row, draft),
          plan_id: plan.id,
          plan_version: draft.version,
          status: draft.state,
          next_step: nextStepOf(plan, draft),
        },
      };
    });
  },
});

const removeCharge = route({
  operationId: 'removeCharge',
  method: 'delete',
  path: '/plans/{plan_id}/charges/{charge_id}',
  tag: 'Plans',
  summary: 'Take a charge out of the draft',
  roles: operators,
  answers: planAnswers('The plan without it.'),
  problems: ['plan_version_published'],
  handle: async (call) =>
    changeDraft(call, 'charge.delete', async (tx, _plan, draft) => {
      if (await deleteCharge(tx, draft.id, call.param('charge_id'))) return null;
      throw notFound('charge of this draft', call.param('charge_id'));
    }),
});

const addFeature = route({
  operationId: 'addPlanFeature',
  method: 'post',
  path: '/plans/{plan_id}/features',
  tag: 'Plans',
  summary: 'Put a feature into the draft',
  description: `HARD: usage past the limit is refused. SOFT: it is counted and goes on; beside a USAGE charge on the same meter
the limit is the free part. A feature that the draft has already gets the new limit.`,
  roles: operators,
  body: object({
    feature_id: reference('What the plan contains'),
    limit: quantity("In the meter's smallest unit; null for no limit.").nullable().optional(),
    limit_type: oneOf(['HARD', 'SOFT'], 'HARD when absent. Read in any case.').optional(),
    reset_interval: oneOf(
      resetIntervals,
      'When the count begins anew; period (the billing interval) when absent.',
    ).optional(),
  }),
  bodyExample: {
    feature_id: 'api_calls',
    limit: 1000,
    limit_type: 'SOFT',
    reset_interval: 'month',
  },
  answers: planAnswers('The plan with it.', 201),
  problems: ['plan_version_published', 'conflict'],
  handle: async (call, { body }) => {
    await requirePlan(call, call.param('plan_id'));
    const feature = await requireFeature(call, body.feature_id).catch((error: unknown) => {
      throw error instanceof ApiProblem
        ? fieldProblem('feature_id', 'names no feature of this environment')
        : error;
    });
    return changeDraft(call, 'plan_feature.put', async (tx, plan, draft) => {
      await putPlanFeature(tx, draft.id, {
        feature_id: feature.id,
        limit: body.limit ?? null,
        limit_type: body.limit_type ?? 'HARD',
        reset_interval: body.reset_interval ?? 'period',
      });
      if ((await listPlanFeatures(tx, draft.id)).length > shardLimits.list) {
        throw new ApiProblem(
          'conflict',
          `The draft has ${shardLimits.list} features, and there can be no more. Take another one out with DELETE /api/v1/plans/${plan.id}/features/{feature_id} first.`,
        );
      }
      return { status: 201, body: await planToWire(tx, plan, draft) };
    });
  },
});

const removeFeature = route({
  operationId: 'removePlanFeature',
  method: 'delete',
  path: '/plans/{plan_id}/features/{feature_id}',
  tag: 'Plans',
  summary: 'Take a feature out of the draft',
  roles: operators,
  answers: planAnswers('The plan without it.'),
  problems: ['plan_version_published'],
  handle: async (call) => {
    const feature = await requireFeature(call, call.param('feature_id'));
    return changeDraft(call, 'plan_feature.delete', async (tx, _plan, draft) => {
      if (await deletePlanFeature(tx, draft.id, feature.id)) return null;
      throw notFound('feature in this draft', call.param('feature_id'));
    });
  },
});

const publish = route({
  operationId: 'publishPlan',
  method: 'post',
  path: '/plans/{plan_id}/publish',
  tag: 'Plans',
  summary: 'Publish the draft',
  description: `From then on this version never changes, and can be subscribed to. Refused with every fault and its mend.
Publishing a plan that has no draft changes nothing and answers with what is published.`,
  roles: operators,
  body: object({}),
  bodyOptional: true,
  answers: planAnswers('Published.'),
  problems: ['publish_refused', 'plan_archived'],
  handle: async (call) => {
    const plan = await requirePlan(call, call.param('plan_id'));
    return call.write(async (tx, now) => {
      const draft = await lockDraft(tx, plan.id);
      if (draft === null) {
        const version = await requireCurrentVersion(tx, plan);
        return {
          answer: { status: 200, body: await planToWire(tx, plan, version) },
          audit: null,
        };
      }
      requireUnarchived(plan);
      const definition = await definitionOfVersion(tx, plan, draft);
      const published = await publishVersion(tx, draft.id, definition, now);
      return {
        answer: { status: 200, body: await planToWire(tx, plan, published) },
        audit: {
          action: 'plan.publish',
          objectId: plan.id,
          details: { version: published.version },
        },
      };
    });
  },
});

const createVersion = route({
  operationId: 'createPlanVersion',
  method: 'post',
  path: '/plans/{plan_id}/versions',
  tag: 'Plans',
  summary: 'Begin the next version',
  description:
    'A draft with everything that the newest version holds. Who has subscribed keeps the version that was bought.',
  roles: operators,
  body: object({}),
  bodyOptional: true,
  answers: planAnswers('The plan with its new draft.', 201),
  problems: ['draft_exists', 'plan_archived'],
  handle: async (call) => {
    const plan = await requirePlan(call, call.param('plan_id'));
    requireUnarchived(plan);
    return call.write(async (tx) => {
      const draft = await lockDraft(tx, plan.id);
      if (draft !== null) {
        throw new ApiProblem(
          'draft_exists',
          `Version ${draft.version} is a draft already. Change that one, or publish it.`,
        );
      }
      const source =
        (await publishedVersion(tx, plan.id)) ?? (await requireCurrentVersion(tx, plan));
      const version = await copyToDraft(tx, source);
      return {
        answer: { status: 201, body: await planToWire(tx, plan, version) },
        audit: {
          action: 'plan.new_version',
          objectId: plan.id,
          details: { version: version.version },
        },
      };
    });
  },
});

export const planRoutes: readonly Route[] = [
  createPlan,
  listPlansRoute,
  showPlan,
  changePlan,
  addCharge,
  removeCharge,
  addFeature,
  removeFeature,
  publish,
  createVersion,
];
