/** Drafts to begin with: six ways to sell, and the plan that one of them makes of what it is given. */
import { z } from 'zod';

import {
  planOfTemplate,
  type PlanTemplate,
  planTemplateKeys,
  planTemplates,
  type TemplateDraft,
  templateFields,
  type TemplateInput,
} from '../../billing/plan-templates.ts';
import { findFeature } from '../../store/features.ts';
import type { MeterRow } from '../../store/meters.ts';
import type { NewCharge } from '../../store/plans.ts';
import type { ProductRow } from '../../store/products.ts';
import type { Call } from '../call.ts';
import { decimal, listOf, object, oneOf, quantity, reference } from '../fields.ts';
import { fieldProblem } from '../problems.ts';
import { readers, route, type Route } from '../route.ts';
import { findMeterOf, type TermsInput } from './plan-terms.ts';
import { answers } from './shared.ts';

/** What a new plan may take for its template, beside the terms of any plan. */
export const templateBody = {
  template: oneOf(
    planTemplateKeys,
    'What to begin with: GET /api/v1/plan_templates says what each makes and needs.',
  ).optional(),
  meters: listOf(
    reference('What is counted'),
    20,
    'Of the template: what usage is counted by.',
  ).optional(),
  features: listOf(
    reference('What is sold'),
    50,
    'Of the template: what the plan contains.',
  ).optional(),
  unit_price: decimal('Of the template: price of one whole unit of each meter.').optional(),
  included_units: quantity(
    "Of the template: what each interval includes, in the meter's smallest unit.",
  ).optional(),
};

const bodyOfTemplate = object(templateBody);
type TemplateBody = z.output<typeof bodyOfTemplate> & TermsInput;

const onlyOfTemplate = ['meters', 'features', 'unit_price', 'included_units'] as const;

/** What the template of a request makes, or null when it names none. Throws an ApiProblem that names what is missing. */
export async function readTemplate(
  call: Call,
  body: TemplateBody,
  of: { readonly meters: readonly MeterRow[]; readonly product: ProductRow },
): Promise<TemplateDraft | null> {
  if (body.template === undefined) {
    const stray = onlyOfTemplate.find((field) => body[field] !== undefined);
    if (stray === undefined) return null;
    throw fieldProblem(
      stray,
      'goes with a template only: name one, or add charges and features later',
    );
  }
  const given: TemplateInput = {
    base_price: body.base_price,
    unit_price: body.unit_price,
    included_units: body.included_units,
    included_credits: body.included_credits,
    credit_price: body.credit_price,
    meters: (body.meters ?? []).map(
      (ref, index) => findMeterOf(of.meters, ref, `meters[${index}]`).id,
    ),
    features: await readFeatures(call, body.features ?? []),
  };
  const result = planOfTemplate(body.template, given);
  if (result.kind === 'refused') {
    const known = of.meters.slice(0, 20).map(({ lookup_id }) => lookup_id);
    throw fieldProblem(result.field, result.message, result.field === 'meters' ? known : undefined);
  }
  if (result.draft.credits !== null && (of.product.credit_definition ?? '').trim() === '') {
    throw fieldProblem(
      'template',
      `${body.template} sells credits, and the product ${of.product.lookup_id} does not say what one credit is: set its credit_definition with PATCH /api/v1/products/${of.product.id}`,
    );
  }
  return result.draft;
}

async function readFeatures(
  call: Call,
  refs: readonly string[],
): Promise<TemplateInput['features']> {
  const found: { readonly id: string; readonly meterId: string | null }[] = [];
  for (const [index, ref] of refs.entries()) {
    // In order: the first fault is the one that is told.
    // oxlint-disable-next-line no-await-in-loop
    const feature = await findFeature(call.db, call.environment, ref);
    if (feature === null) {
      throw fieldProblem(`features[${index}]`, 'names no feature of this environment');
    }
    found.push({ id: feature.id, meterId: feature.meter_id });
  }
  return found;
}

/** The terms of a request with the credits of its template; what the caller says himself holds. */
export function termsOfTemplate(given: TermsInput, draft: TemplateDraft): TermsInput {
  const { credits } = draft;
  if (credits === null) return given;
  return {
    ...given,
    credit_rates:
      given.credit_rates ?? credits.meterIds.map((meter_id) => ({ meter_id, credits: '1' })),
    ...(given.overage === undefined && { overage: credits.hasOverage ? { enabled: true } : null }),
  };
}

/** The charges of a template as they are stored. */
export function chargesOfTemplate(
  draft: TemplateDraft,
  meters: readonly MeterRow[],
): readonly NewCharge[] {
  return draft.charges.map(({ meterId, unitPrice, includedUnits }) => ({
    type: 'USAGE',
    meter_id: meterId,
    display_name: meters.find(({ id }) => id === meterId)?.name ?? meterId,
    price: { model: 'per_unit', unit_price: unitPrice },
    included_units: includedUnits,
    bill_in: 'arrears',
    minimum_minor: null,
    maximum_minor: null,
    tax_rate_ids: [],
  }));
}

const PlanTemplateAnswer = z
  .strictObject({
    object: z.literal('plan_template'),
    template: z.enum(planTemplateKeys),
    name: z.string(),
    summary: z.string(),
    type: z.string(),
    needs: z.array(z.enum(templateFields)),
    takes: z.array(z.enum(templateFields)),
    example: z.record(z.string(), z.unknown()).meta({
      description: 'A body for POST /api/v1/plans, with meters and features of your own.',
    }),
  })
  .meta({ id: 'PlanTemplate' });

/** What a caller may write, for the fields that a template takes. */
const exampleValues = {
  base_price: '29.00',
  meters: ['api_calls'],
  features: ['api_calls'],
  unit_price: '0.001',
  included_units: 10_000,
  included_credits: '1000',
  credit_price: '0.01',
} as const satisfies Record<(typeof templateFields)[number], unknown>;

function templateToWire(
  key: (typeof planTemplateKeys)[number],
): z.output<typeof PlanTemplateAnswer> {
  const { name, summary, type, needs, takes }: PlanTemplate = planTemplates[key];
  return {
    object: 'plan_template',
    template: key,
    name,
    summary,
    type,
    needs: [...needs],
    takes: [...takes],
    example: {
      template: key,
      name,
      billing_interval: 'month',
      currency: 'USD',
      ...Object.fromEntries(needs.map((field) => [field, exampleValues[field]])),
    },
  };
}

const listPlanTemplates = route({
  operationId: 'listPlanTemplates',
  method: 'get',
  path: '/plan_templates',
  tag: 'Plans',
  summary: 'List the templates of plans',
  description: 'Six ways to sell. Name one in POST /api/v1/plans to begin with its draft.',
  roles: readers,
  answers: answers(200, {
    description: 'All of them.',
    schema: z
      .strictObject({ object: z.literal('list'), data: z.array(PlanTemplateAnswer) })
      .meta({ id: 'PlanTemplateList' }),
    example: { object: 'list', data: [templateToWire('pay_as_you_go')] },
  }),
  handle: async () => ({
    status: 200,
    body: { object: 'list', data: planTemplateKeys.map((key) => templateToWire(key)) },
  }),
});

export const planTemplateRoutes: readonly Route[] = [listPlanTemplates];
