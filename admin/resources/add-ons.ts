import { z } from 'zod';

import { formatAmount } from '../../billing/money.ts';
import {
  archiveAddOn,
  findAddOn,
  insertAddOn,
  listAddOns,
  type AddOnRow,
} from '../../store/add-ons.ts';
import { taxRateRefs } from '../../store/plans.ts';
import type { Call } from '../call.ts';
import {
  currencyCode,
  decimal,
  listOf,
  lookupId,
  object,
  oneOf,
  reference,
  text,
} from '../fields.ts';
import { fieldProblem, notFound } from '../problems.ts';
import { operators, readers, route, type Route } from '../route.ts';
import { storedCurrency } from './invoice-shapes.ts';
import { readAmount, readTaxRates } from './plan-terms.ts';
import { productFor } from './plans.ts';
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

export const addOnTypes = ['RECURRING', 'ONE_TIME'] as const;

const AddOn = z
  .strictObject({
    id: z.string(),
    object: z.literal('add_on'),
    environment: z.enum(['test', 'live']),
    product_id: z.string(),
    lookup_id: z.string(),
    name: z.string(),
    type: z.enum(addOnTypes),
    amount: z.string().meta({ description: 'Of one.' }),
    currency: z.string(),
    tax_rate_ids: z
      .array(z.string())
      .meta({ description: "Empty: the subscriber's taxes hold, else the operator's." }),
    archived_at: instantText().nullable(),
    created_at: instantText(),
  })
  .meta({ id: 'AddOn' });

const addOnExample = {
  id: 'add_5h2k9x0q7w3m1n8b4v6c2z',
  object: 'add_on',
  environment: 'test',
  product_id: 'prod_5h2k9x0q7w3m1n8b4v6c2z',
  lookup_id: 'seats',
  name: 'Seats',
  type: 'RECURRING',
  amount: '5.00',
  currency: 'USD',
  tax_rate_ids: [],
  archived_at: null,
  created_at: '2026-01-01T00:00:00.000Z',
};

/** The add-on or 404. */
async function requireAddOn(call: Call): Promise<AddOnRow> {
  const ref = call.param('add_on_id');
  const addOn = await findAddOn(call.db, call.environment, ref);
  if (addOn === null) throw notFound('add-on', ref);
  return addOn;
}

function addOnToWire(row: AddOnRow): z.output<typeof AddOn> {
  return {
    id: row.id,
    object: 'add_on',
    environment: row.environment,
    product_id: row.product_id,
    lookup_id: row.lookup_id,
    name: row.name,
    type: row.type,
    amount: formatAmount(row.amount_minor, storedCurrency(row.currency)),
    currency: row.currency,
    tax_rate_ids: [...row.tax_rate_ids],
    archived_at: wireInstant(row.archived_at),
    created_at: wireInstant(row.created_at),
  };
}

const addOnAnswers = (status: number, description: string) =>
  answers(status, { description, schema: AddOn, example: addOnExample });

export const addOnRoutes: readonly Route[] = [
  route({
    operationId: 'createAddOn',
    method: 'post',
    path: '/add_ons',
    tag: 'Add-ons',
    summary: 'Make an add-on',
    description: `Something that subscriptions of a product can have beside their plan, in any quantity: RECURRING is billed in each interval,
for the days that it is held; ONE_TIME once. It never changes; for another price make another one.`,
    roles: operators,
    body: object({
      name: text(120, 'As invoices print it.'),
      lookup_id: lookupId().optional(),
      product_id: reference('Product; the only one when absent').optional(),
      type: oneOf(addOnTypes),
      amount: decimal('Of one, in the currency.'),
      currency: currencyCode(),
      tax_rates: listOf(
        reference('A tax rate'),
        10,
        'Its own taxes; without any, those of the subscriber hold, else those of the operator.',
      ).optional(),
    }),
    bodyExample: {
      name: 'Seats',
      lookup_id: 'seats',
      type: 'RECURRING',
      amount: '5.00',
      currency: 'USD',
    },
    answers: addOnAnswers(201, 'Made.'),
    problems: ['already_exists', 'product_needed'],
    handle: async (call, { body }) => {
      const lookup_id = body.lookup_id ?? lookupIdOf(body.name, '-');
      if (lookup_id === null) throw fieldProblem('lookup_id', 'is required: the name gives none');
      const product = await productFor(call, body.product_id, 'add-on');
      const fields = {
        product_id: product.id,
        lookup_id,
        name: body.name,
        type: body.type,
        amount_minor: readAmount(body.amount, body.currency, 'amount') ?? 0n,
        currency: body.currency,
        tax_rate_ids: readTaxRates(body.tax_rates, await taxRateRefs(call.db, call.environment)),
      };
      return call.write(async (tx) => {
        const row = await insertAddOn(tx, call.environment, fields);
        return {
          answer: { status: 201, body: addOnToWire(row) },
          audit: { action: 'add_on.create', objectId: row.id },
        };
      });
    },
  }),
  route({
    operationId: 'listAddOns',
    method: 'get',
    path: '/add_ons',
    tag: 'Add-ons',
    summary: 'List add-ons',
    roles: readers,
    query: listQuery,
    answers: answers(200, {
      description: 'Newest first, archived ones too.',
      schema: listOfAnswers(AddOn, 'AddOnList'),
      example: listExample(addOnExample),
    }),
    handle: async (call, { query }) => ({
      status: 200,
      body: listBody(await listAddOns(call.db, call.environment, pageArgs(query)), addOnToWire),
    }),
  }),
  route({
    operationId: 'showAddOn',
    method: 'get',
    path: '/add_ons/{add_on_id}',
    tag: 'Add-ons',
    summary: 'Show an add-on',
    roles: readers,
    answers: addOnAnswers(200, 'It.'),
    handle: async (call) => ({ status: 200, body: addOnToWire(await requireAddOn(call)) }),
  }),
  route({
    operationId: 'archiveAddOn',
    method: 'post',
    path: '/add_ons/{add_on_id}/archive',
    tag: 'Add-ons',
    summary: 'Archive an add-on',
    description: 'It can be given to nobody any more; subscriptions that have it keep it.',
    roles: operators,
    bodyOptional: true,
    body: object({}),
    answers: answers(200, {
      description: 'Archived.',
      schema: AddOn,
      example: { ...addOnExample, archived_at: '2026-06-01T00:00:00.000Z' },
    }),
    handle: async (call) => {
      const addOn = await requireAddOn(call);
      return call.write(async (tx, now) => ({
        answer: { status: 200, body: addOnToWire(await archiveAddOn(tx, addOn.id, now)) },
        audit: { action: 'add_on.archive', objectId: addOn.id },
      }));
    },
  }),
];
