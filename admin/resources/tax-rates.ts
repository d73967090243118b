import { z } from 'zod';

import {
  archiveTaxRate,
  findTaxRate,
  insertTaxRate,
  listTaxRates,
  type TaxRateRow,
} from '../../store/tax-rates.ts';
import type { Call } from '../call.ts';
import { decimal, lookupId, object, text } from '../fields.ts';
import { ApiProblem, fieldProblem, notFound } from '../problems.ts';
import { operators, readers, route, type Route } from '../route.ts';
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

const TaxRate = z
  .strictObject({
    id: z.string(),
    object: z.literal('tax_rate'),
    environment: z.enum(['test', 'live']),
    lookup_id: z.string(),
    name: z.string(),
    percent: z.string(),
    archived_at: instantText().nullable(),
    created_at: instantText(),
  })
  .meta({ id: 'TaxRate' });

const rateExample = {
  id: 'txr_5h2k9x0q7w3m1n8b4v6c2z',
  object: 'tax_rate',
  environment: 'test',
  lookup_id: 'vat-de',
  name: 'VAT',
  percent: '19',
  archived_at: null,
  created_at: '2026-01-01T00:00:00.000Z',
};

async function requireTaxRate(call: Call): Promise<TaxRateRow> {
  const ref = call.param('tax_rate_id');
  const rate = await findTaxRate(call.db, call.environment, ref);
  if (rate === null) throw notFound('tax rate', ref);
  return rate;
}

function rateToWire(row: TaxRateRow): z.output<typeof TaxRate> {
  return {
    id: row.id,
    object: 'tax_rate',
    environment: row.environment,
    lookup_id: row.lookup_id,
    name: row.name,
    percent: row.percent,
    archived_at: wireInstant(row.archived_at),
    created_at: wireInstant(row.created_at),
  };
}

/** A percentage up to 100 as it is kept. @throws ApiProblem when it is above, or finer than a millionth of a percent. */
export function readPercent(given: string, field: string): string {
  const [whole = '', places = ''] = given.split('.');
  const isWithin = whole.length <= 2 || (whole === '100' && places === '');
  if (isWithin && places.length <= 6) return given;
  throw fieldProblem(
    field,
    'must be from 0 to 100, with at most 6 decimal places, such as "8.875"',
  );
}

const rateAnswers = (status: number, description: string) =>
  answers(status, { description, schema: TaxRate, example: rateExample });

export const taxRateRoutes: readonly Route[] = [
  route({
    operationId: 'createTaxRate',
    method: 'post',
    path: '/tax_rates',
    tag: 'Tax rates',
    summary: 'Make a tax rate',
    description: `It applies where it is given: to the operator (PATCH /operator_settings), a subscriber, a charge of a plan, or
an add-on. Its name and percentage never change.`,
    roles: operators,
    body: object({
      name: text(60, 'As invoices print it: VAT becomes VAT (19%).'),
      percent: decimal('From 0 to 100, with at most 6 decimal places.'),
      lookup_id: lookupId().optional(),
    }),
    bodyExample: { name: 'VAT', percent: '19', lookup_id: 'vat-de' },
    answers: rateAnswers(201, 'Made.'),
    problems: ['already_exists'],
    handle: async (call, { body }) => {
      const lookup_id = body.lookup_id ?? lookupIdOf(body.name, '-');
      if (lookup_id === null) throw fieldProblem('lookup_id', 'is required: the name gives none');
      const percent = readPercent(body.percent, 'percent');
      return call.write(async (tx) => {
        const fields = { lookup_id, name: body.name, percent };
        const row = await insertTaxRate(tx, call.environment, fields);
        return {
          answer: { status: 201, body: rateToWire(row) },
          audit: { action: 'tax_rate.create', objectId: row.id, details: { percent } },
        };
      });
    },
  }),
  route({
    operationId: 'listTaxRates',
    method: 'get',
    path: '/tax_rates',
    tag: 'Tax rates',
    summary: 'List tax rates',
    roles: readers,
    query: listQuery,
    answers: answers(200, {
      description: 'Newest first, archived ones too.',
      schema: listOfAnswers(TaxRate, 'TaxRateList'),
      example: listExample(rateExample),
    }),
    handle: async (call, { query }) => ({
      status: 200,
      body: listBody(await listTaxRates(call.db, call.environment, pageArgs(query)), rateToWire),
    }),
  }),
  route({
    operationId: 'showTaxRate',
    method: 'get',
    path: '/tax_rates/{tax_rate_id}',
    tag: 'Tax rates',
    summary: 'Show a tax rate',
    roles: readers,
    answers: rateAnswers(200, 'It.'),
    handle: async (call) => ({ status: 200, body: rateToWire(await requireTaxRate(call)) }),
  }),
  route({
    operationId: 'changeTaxRate',
    method: 'patch',
    path: '/tax_rates/{tax_rate_id}',
    tag: 'Tax rates',
    summary: 'Why a tax rate cannot be changed',
    description: `Answers the rate when it is asked to be what it is already; anything else is refused, since invoices that were issued
with it must stay what they are. For another percentage make another rate, and archive this one.`,
    roles: operators,
    body: object({
      name: text(60).optional(),
      percent: decimal('From 0 to 100, with at most 6 decimal places.').optional(),
    }),
    bodyExample: { percent: '19' },
    answers: rateAnswers(200, 'It is so already.'),
    problems: ['tax_rate_final'],
    handle: async (call, { body }) => {
      const rate = await requireTaxRate(call);
      const isSame =
        (body.percent ?? rate.percent) === rate.percent && (body.name ?? rate.name) === rate.name;
      if (isSame) return { status: 200, body: rateToWire(rate) };
      throw new ApiProblem(
        'tax_rate_final',
        `The rate ${rate.lookup_id} stays ${rate.name} (${rate.percent}%). Make a new rate with POST /api/v1/tax_rates, give it to what is taxed, and archive this one with POST /api/v1/tax_rates/${rate.lookup_id}/archive.`,
        { extra: { create: 'POST /api/v1/tax_rates' } },
      );
    },
  }),
  route({
    operationId: 'archiveTaxRate',
    method: 'post',
    path: '/tax_rates/{tax_rate_id}/archive',
    tag: 'Tax rates',
    summary: 'Archive a tax rate',
    description: 'It can be given to nothing any more; where it was given it still applies.',
    roles: operators,
    bodyOptional: true,
    body: object({}),
    answers: answers(200, {
      description: 'Archived.',
      schema: TaxRate,
      example: { ...rateExample, archived_at: '2026-06-01T00:00:00.000Z' },
    }),
    handle: async (call) => {
      const rate = await requireTaxRate(call);
      return call.write(async (tx, now) => ({
        answer: { status: 200, body: rateToWire(await archiveTaxRate(tx, rate.id, now)) },
        audit: { action: 'tax_rate.archive', objectId: rate.id },
      }));
    },
  }),
];
