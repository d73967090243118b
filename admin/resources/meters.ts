import { z } from 'zod';

import {
  findMeter,
  insertMeter,
  listMeters,
  updateMeter,
  type MeterFields,
  type MeterRow,
  type UsagePricingRules,
} from '../../store/meters.ts';
import type { Call } from '../call.ts';
import { integer, meterKey, object, oneOf, text } from '../fields.ts';
import { fieldProblem, notFound } from '../problems.ts';
import { operators, readers, route, type Route } from '../route.ts';
import { aggregations, pricingRules, readPricingRules } from '../pricing-rules.ts';
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

const rulesAnswer = z
  .strictObject({
    mode: z.enum(['GRADUATED', 'VOLUME']),
    tiers: z.array(
      z.strictObject({
        from: z.string(),
        to: z.string().nullable(),
        unit_price: z.string(),
        flat_fee: z.string(),
      }),
    ),
  })
  .meta({ id: 'UsagePricingRules' });

const Meter = z
  .strictObject({
    id: z.string(),
    object: z.literal('meter'),
    environment: z.enum(['test', 'live']),
    lookup_id: z.string(),
    name: z.string(),
    unit: z.strictObject({ one: z.string(), other: z.string() }),
    scale: z.number().int(),
    aggregation: z.enum(aggregations),
    usage_pricing_rules: rulesAnswer.nullable(),
    created_at: instantText(),
  })
  .meta({ id: 'Meter' });

const unit = z
  .union([
    text(40),
    object({
      one: text(40, 'One of it: call.'),
      other: text(40, 'Several of it: calls.').optional(),
    }),
  ])
  .meta({ description: 'What it counts: {"one": "call", "other": "calls"}, or "call".' });

const meterBody = object({
  name: text(120, 'As it is printed on invoices: "API Calls".'),
  lookup_id: meterKey().optional(),
  unit: unit.optional(),
  scale: integer(
    0,
    9,
    'Decimals of the unit that quantities carry: 6 for dollars counted in millionths.',
  ).optional(),
  aggregation: oneOf(
    aggregations,
    `How events become the quantity of an interval; SUM when absent. COUNT: their number. MAX, LATEST: the greatest, the last quantity.
UNIQUE_COUNT: how many values differ, of requests the API keys, of use from outside what \`value\` says. WEIGHTED_SUM: each quantity is the
level from then on, averaged over the interval. Within an interval a level stands until the next quantity, whatever becomes of the plan,
and when the interval is invoiced early; every interval begins at zero, so that what still stands is to be said again. The aggregation never
changes: usage was counted by it.`,
  ).optional(),
  usage_pricing_rules: pricingRules.nullable().optional(),
});

const meterChange = object({
  name: text(120).optional(),
  unit: unit.optional(),
  usage_pricing_rules: pricingRules.nullable().optional(),
});

const meterExample = {
  id: 'mtr_5h2k9x0q7w3m1n8b4v6c2z',
  object: 'meter',
  environment: 'test',
  lookup_id: 'api_calls',
  name: 'API Calls',
  unit: { one: 'call', other: 'calls' },
  scale: 0,
  aggregation: 'SUM',
  usage_pricing_rules: {
    mode: 'GRADUATED',
    tiers: [
      { from: '0', to: '1000', unit_price: '0.002', flat_fee: '0' },
      { from: '1001', to: '10000', unit_price: '0.001', flat_fee: '0' },
      { from: '10001', to: null, unit_price: '0.0005', flat_fee: '0' },
    ],
  },
  created_at: '2026-01-01T00:00:00.000Z',
};

/** The meter or 404. */
async function requireMeter(call: Call, ref: string): Promise<MeterRow> {
  const meter = await findMeter(call.db, call.environment, ref);
  if (meter === null) throw notFound('meter', ref);
  return meter;
}

function meterToWire(row: MeterRow): z.output<typeof Meter> {
  return {
    id: row.id,
    object: 'meter',
    environment: row.environment,
    lookup_id: row.lookup_id,
    name: row.name,
    unit: { one: row.unit_one, other: row.unit_other },
    scale: row.scale,
    aggregation: row.aggregation,
    usage_pricing_rules: rulesToWire(row.usage_pricing_rules),
    created_at: wireInstant(row.created_at),
  };
}

function rulesToWire(rules: UsagePricingRules | null): z.output<typeof rulesAnswer> | null {
  if (rules === null) return null;
  return {
    mode: rules.mode,
    tiers: rules.tiers.map((tier) => ({ ...tier, flat_fee: tier.flat_fee ?? '0' })),
  };
}

function readUnit(given: z.output<typeof unit> | undefined): {
  readonly unit_one: string;
  readonly unit_other: string;
} {
  if (given === undefined) return { unit_one: '', unit_other: '' };
  const one = typeof given === 'string' ? given : given.one;
  const other = typeof given === 'string' ? undefined : given.other;
  return { unit_one: one, unit_other: other ?? `${one}s` };
}

export const meterRoutes: readonly Route[] = [
  route({
    operationId: 'createMeter',
    method: 'post',
    path: '/meters',
    tag: 'Meters',
    summary: 'Define what is counted',
    description:
      'Aggregation is SUM unless said otherwise. Key, scale and aggregation are for ever: usage is counted by them.',
    roles: operators,
    body: meterBody,
    bodyExample: {
      name: 'API Calls',
      lookup_id: 'api_calls',
      unit: { one: 'call', other: 'calls' },
      aggregation: 'SUM',
    },
    answers: answers(201, { description: 'Made.', schema: Meter, example: meterExample }),
    problems: ['already_exists', 'tier_gap', 'tier_overlap', 'tiers_malformed'],
    handle: async (call, { body }) => {
      const key = body.lookup_id ?? lookupIdOf(body.name, '_');
      if (key === null) throw fieldProblem('lookup_id', 'is required: the name gives none');
      const fields: MeterFields = {
        lookup_id: key,
        name: body.name,
        ...readUnit(body.unit),
        scale: body.scale ?? 0,
        aggregation: body.aggregation ?? 'SUM',
        usage_pricing_rules: readPricingRules(body.usage_pricing_rules, 'usage_pricing_rules'),
      };
      return call.write(async (tx) => {
        const row = await insertMeter(tx, call.environment, fields);
        return {
          answer: { status: 201, body: meterToWire(row) },
          audit: { action: 'meter.create', objectId: row.id },
        };
      });
    },
  }),
  route({
    operationId: 'listMeters',
    method: 'get',
    path: '/meters',
    tag: 'Meters',
    summary: 'List meters',
    roles: readers,
    query: listQuery,
    answers: answers(200, {
      description: 'Newest first.',
      schema: listOfAnswers(Meter, 'MeterList'),
      example: listExample(meterExample),
    }),
    handle: async (call, { query }) => ({
      status: 200,
      body: listBody(await listMeters(call.db, call.environment, pageArgs(query)), meterToWire),
    }),
  }),
  route({
    operationId: 'showMeter',
    method: 'get',
    path: '/meters/{meter_id}',
    tag: 'Meters',
    summary: 'Show a meter',
    roles: readers,
    answers: answers(200, { description: 'It.', schema: Meter, example: meterExample }),
    handle: async (call) => ({
      status: 200,
      body: meterToWire(await requireMeter(call, call.param('meter_id'))),
    }),
  }),
  route({
    operationId: 'changeMeter',
    method: 'patch',
    path: '/meters/{meter_id}',
    tag: 'Meters',
    summary: "Change a meter's words or prices",
    description: 'Plan versions that are published keep what they were published with.',
    roles: operators,
    body: meterChange,
    bodyExample: { unit: { one: 'call', other: 'calls' } },
    answers: answers(200, { description: 'Changed.', schema: Meter, example: meterExample }),
    problems: ['tier_gap', 'tier_overlap', 'tiers_malformed'],
    handle: async (call, { body }) => {
      const meter = await requireMeter(call, call.param('meter_id'));
      const words = body.unit === undefined ? meter : readUnit(body.unit);
      return call.write(async (tx) => ({
        answer: {
          status: 200,
          body: meterToWire(
            await updateMeter(tx, meter.id, {
              name: body.name ?? meter.name,
              unit_one: words.unit_one,
              unit_other: words.unit_other,
              usage_pricing_rules:
                body.usage_pricing_rules === undefined
                  ? meter.usage_pricing_rules
                  : readPricingRules(body.usage_pricing_rules, 'usage_pricing_rules'),
            }),
          ),
        },
        audit: {
          action: 'meter.change',
          objectId: meter.id,
          details: { changed: Object.keys(body) },
        },
      }));
    },
  }),
];
