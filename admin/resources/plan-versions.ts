/** The versions of a plan: what they say, what each changed, and when they are no longer sold. */
import { z } from 'zod';

import { diffPlans } from '../../billing/plan-diff.ts';
import type { PlanDefinition } from '../../billing/plan.ts';
import { taxLabel } from '../../billing/tax.ts';
import {
  archivePlan,
  archiveVersion,
  findVersion,
  listVersions,
  publishedVersion,
  type PlanRow,
  type PlanVersionRow,
} from '../../store/plans.ts';
import type { Reader } from '../../store/db.ts';
import { taxRatesById } from '../../store/tax-rates.ts';
import type { Call } from '../call.ts';
import { matching, object } from '../fields.ts';
import { ApiProblem, fieldProblem, notFound } from '../problems.ts';
import { operators, readers, route, type Route } from '../route.ts';
import { definitionOfVersion } from './plan-definitions.ts';
import { planToWire, PlanVersion, planVersionExample, versionToWire } from './plan-shapes.ts';
import { planAnswers, requireCurrentVersion, requirePlan } from './plans.ts';
import {
  answers,
  listBody,
  listExample,
  listOfAnswers,
  listQuery,
  pageArgs,
  wireInstant,
} from './shared.ts';

/** The version of the plan by its number in the path, or 404. */
async function requireVersion(
  reader: Reader,
  plan: PlanRow,
  number: string,
): Promise<PlanVersionRow> {
  const isNumber = matching(/^[1-9]\d{0,8}$/, '').safeParse(number).success;
  const version = isNumber ? await findVersion(reader, plan.id, Number(number)) : null;
  if (version === null) throw notFound('version', number);
  return version;
}

async function planVersionToWire(reader: Reader, plan: PlanRow, version: PlanVersionRow) {
  return {
    id: version.id,
    object: 'plan_version',
    plan_id: plan.id,
    ...(await versionToWire(reader, plan, version)),
    created_at: wireInstant(version.created_at),
  };
}

const listVersionsRoute = route({
  operationId: 'listPlanVersions',
  method: 'get',
  path: '/plans/{plan_id}/versions',
  tag: 'Plans',
  summary: 'List the versions of a plan',
  roles: readers,
  query: listQuery,
  answers: answers(200, {
    description: 'Newest first.',
    schema: listOfAnswers(PlanVersion, 'PlanVersionList'),
    example: listExample(planVersionExample),
  }),
  handle: async (call, { query }) => {
    const plan = await requirePlan(call, call.param('plan_id'));
    const page = await listVersions(call.db, plan.id, pageArgs(query));
    const wires = new Map<string, unknown>();
    for (const version of page.rows) {
      // One after the other: a page must not take every connection of the pool.
      // oxlint-disable-next-line no-await-in-loop
      wires.set(version.id, await planVersionToWire(call.db, plan, version));
    }
    return { status: 200, body: listBody(page, (version) => wires.get(version.id)) };
  },
});

const showVersion = route({
  operationId: 'showPlanVersion',
  method: 'get',
  path: '/plans/{plan_id}/versions/{version}',
  tag: 'Plans',
  summary: 'Show one version of a plan',
  roles: readers,
  answers: answers(200, { description: 'It.', schema: PlanVersion, example: planVersionExample }),
  handle: async (call) => {
    const plan = await requirePlan(call, call.param('plan_id'));
    const version = await requireVersion(call.db, plan, call.param('version'));
    return { status: 200, body: await planVersionToWire(call.db, plan, version) };
  },
});

const archive = route({
  operationId: 'archivePlan',
  method: 'post',
  path: '/plans/{plan_id}/archive',
  tag: 'Plans',
  summary: 'Sell a plan no more',
  description: `Nobody can subscribe to it from now on. Subscriptions that have it go on as they are.
Archiving an archived plan changes nothing.`,
  roles: operators,
  body: object({}),
  bodyOptional: true,
  answers: planAnswers('Archived.'),
  handle: async (call) => {
    const plan = await requirePlan(call, call.param('plan_id'));
    return call.write(async (tx, now) => {
      const archived = await archivePlan(tx, plan.id, now);
      const version = await requireCurrentVersion(tx, archived);
      return {
        answer: { status: 200, body: await planToWire(tx, archived, version) },
        audit: plan.archived_at === null ? { action: 'plan.archive', objectId: plan.id } : null,
      };
    });
  },
});

const archiveVersionRoute = route({
  operationId: 'archivePlanVersion',
  method: 'post',
  path: '/plans/{plan_id}/versions/{version}/archive',
  tag: 'Plans',
  summary: 'Sell a version of a plan no more',
  description: `Takes a version back: new subscriptions get the newest of those that are left. Subscriptions that have it go on.
The last version that is on sale is archived with its plan.`,
  roles: operators,
  body: object({}),
  bodyOptional: true,
  answers: answers(200, {
    description: 'Archived.',
    schema: PlanVersion,
    example: { ...planVersionExample, status: 'archived', next_step: null },
  }),
  problems: ['conflict'],
  handle: async (call) => {
    const plan = await requirePlan(call, call.param('plan_id'));
    const version = await requireVersion(call.db, plan, call.param('version'));
    return call.write(async (tx) => {
      const archived = await archiveVersion(tx, version);
      if (archived === null) throw draftProblem(plan, version);
      if (plan.archived_at === null && (await publishedVersion(tx, plan.id)) === null) {
        throw new ApiProblem(
          'conflict',
          `Version ${version.version} is the only one on sale. Archive the plan with POST /api/v1/plans/${plan.id}/archive, or publish another version first.`,
        );
      }
      return {
        answer: { status: 200, body: await planVersionToWire(tx, plan, archived) },
        audit: {
          action: 'plan.archive_version',
          objectId: plan.id,
          details: { version: version.version },
        },
      };
    });
  },
});

function draftProblem(plan: PlanRow, version: PlanVersionRow): ApiProblem {
  return new ApiProblem(
    'conflict',
    `Version ${version.version} is a draft, which nobody can subscribe to. Publish it with POST /api/v1/plans/${plan.id}/publish, or leave it.`,
  );
}

const PlanComparison = z
  .strictObject({
    object: z.literal('plan_comparison'),
    plan_id: z.string(),
    version: z.number().int(),
    against: z.number().int(),
    changes: z
      .array(
        z.strictObject({
          path: z.string(),
          kind: z.enum(['added', 'removed', 'changed']),
          before: z.string().nullable(),
          after: z.string().nullable(),
          sentence: z.string(),
        }),
      )
      .meta({ description: 'Empty: both versions say the same.' }),
  })
  .meta({ id: 'PlanComparison' });

const compare = route({
  operationId: 'comparePlanVersions',
  method: 'get',
  path: '/plans/{plan_id}/versions/{version}/diff',
  tag: 'Plans',
  summary: 'Show what a version changes',
  description: `Against the version before it, or the one that \`against\` names. A draft is read as if it were published now, and
refused with its faults when it could not be.`,
  roles: readers,
  query: object({
    against: matching(
      /^[1-9]\d{0,8}$/,
      'must be the number of a version',
      'The number of a version of the same plan; the one before when absent.',
    ).optional(),
  }),
  answers: answers(200, {
    description: 'In the order of the plan.',
    schema: PlanComparison,
    example: {
      object: 'plan_comparison',
      plan_id: planVersionExample.plan_id,
      version: 2,
      against: 1,
      changes: [
        {
          path: 'charges.usage.api_calls.price',
          kind: 'changed',
          before: '$0.001 per unit',
          after: '$0.0005 per unit',
          sentence:
            'The price of the charge "API calls" changes from $0.001 per unit to $0.0005 per unit.',
        },
      ],
    },
  }),
  problems: ['publish_refused'],
  handle: async (call, { query }) => {
    const plan = await requirePlan(call, call.param('plan_id'));
    const version = await requireVersion(call.db, plan, call.param('version'));
    if (query.against === undefined && version.version === 1) {
      throw fieldProblem('against', 'is required: there is no version before the first');
    }
    const number = query.against ?? String(version.version - 1);
    const against = await findVersion(call.db, plan.id, Number(number));
    if (against === null) {
      throw fieldProblem('against', `must be a version of the plan ${plan.lookup_id}`);
    }
    const before = await definitionOfVersion(call.db, plan, against);
    const after = await definitionOfVersion(call.db, plan, version);
    return {
      status: 200,
      body: {
        object: 'plan_comparison',
        plan_id: plan.id,
        version: version.version,
        against: against.version,
        changes: diffPlans(...(await withTaxNames(call, [before, after]))),
      },
    };
  },
});

/** The same two with the taxes of their charges by name, as a reader knows them. */
async function withTaxNames(
  { db, environment }: Call,
  pair: readonly [PlanDefinition, PlanDefinition],
): Promise<readonly [PlanDefinition, PlanDefinition]> {
  const ids = pair.flatMap(({ charges }) => charges.flatMap((charge) => charge.tax_rate_ids ?? []));
  const rates = await taxRatesById(db, environment, [...new Set(ids)]);
  const nameOf = (id: string): string => {
    const rate = rates.get(id);
    return rate === undefined ? id : taxLabel(rate);
  };
  const named = (definition: PlanDefinition): PlanDefinition => ({
    ...definition,
    charges: definition.charges.map((charge) => ({
      ...charge,
      ...(charge.tax_rate_ids !== undefined && { tax_rate_ids: charge.tax_rate_ids.map(nameOf) }),
    })),
  });
  return [named(pair[0]), named(pair[1])];
}

export const planVersionRoutes: readonly Route[] = [
  listVersionsRoute,
  showVersion,
  archive,
  archiveVersionRoute,
  compare,
];
