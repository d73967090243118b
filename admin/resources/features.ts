import { z } from 'zod';

import {
  findFeature,
  insertFeature,
  listFeatures,
  updateFeature,
  type FeatureRow,
} from '../../store/features.ts';
import { findMeter } from '../../store/meters.ts';
import type { Call } from '../call.ts';
import { meterKey, object, reference, text } from '../fields.ts';
import { fieldProblem, notFound } from '../problems.ts';
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

const Feature = z
  .strictObject({
    id: z.string(),
    object: z.literal('feature'),
    environment: z.enum(['test', 'live']),
    lookup_id: z.string(),
    name: z.string(),
    meter_id: z.string().nullable(),
    created_at: instantText(),
  })
  .meta({ id: 'Feature' });

const featureExample = {
  id: 'feat_5h2k9x0q7w3m1n8b4v6c2z',
  object: 'feature',
  environment: 'test',
  lookup_id: 'api_calls',
  name: 'API Calls',
  meter_id: 'mtr_5h2k9x0q7w3m1n8b4v6c2z',
  created_at: '2026-01-01T00:00:00.000Z',
};

/** The feature or 404. */
export async function requireFeature(call: Call, ref: string): Promise<FeatureRow> {
  const feature = await findFeature(call.db, call.environment, ref);
  if (feature === null) throw notFound('feature', ref);
  return feature;
}

function featureToWire(row: FeatureRow): z.output<typeof Feature> {
  return {
    id: row.id,
    object: 'feature',
    environment: row.environment,
    lookup_id: row.lookup_id,
    name: row.name,
    meter_id: row.meter_id,
    created_at: wireInstant(row.created_at),
  };
}

export const featureRoutes: readonly Route[] = [
  route({
    operationId: 'createFeature',
    method: 'post',
    path: '/features',
    tag: 'Features',
    summary: 'Define something that plans may contain',
    description: 'With a meter it can be limited; without one it is simply in a plan or not.',
    roles: operators,
    body: object({
      name: text(120),
      lookup_id: meterKey().optional(),
      meter_id: reference('What its limit counts').nullable().optional(),
    }),
    bodyExample: { name: 'API Calls', lookup_id: 'api_calls', meter_id: 'api_calls' },
    answers: answers(201, { description: 'Made.', schema: Feature, example: featureExample }),
    problems: ['already_exists'],
    handle: async (call, { body }) => {
      const key = body.lookup_id ?? lookupIdOf(body.name, '_');
      if (key === null) throw fieldProblem('lookup_id', 'is required: the name gives none');
      const meterRef = body.meter_id ?? null;
      const meter = meterRef === null ? null : await findMeter(call.db, call.environment, meterRef);
      if (meter === null && meterRef !== null) {
        throw fieldProblem('meter_id', 'names no meter of this environment');
      }
      return call.write(async (tx) => {
        const row = await insertFeature(tx, call.environment, {
          lookup_id: key,
          name: body.name,
          meter_id: meter?.id ?? null,
        });
        return {
          answer: { status: 201, body: featureToWire(row) },
          audit: { action: 'feature.create', objectId: row.id },
        };
      });
    },
  }),
  route({
    operationId: 'listFeatures',
    method: 'get',
    path: '/features',
    tag: 'Features',
    summary: 'List features',
    roles: readers,
    query: listQuery,
    answers: answers(200, {
      description: 'Newest first.',
      schema: listOfAnswers(Feature, 'FeatureList'),
      example: listExample(featureExample),
    }),
    handle: async (call, { query }) => ({
      status: 200,
      body: listBody(await listFeatures(call.db, call.environment, pageArgs(query)), featureToWire),
    }),
  }),
  route({
    operationId: 'showFeature',
    method: 'get',
    path: '/features/{feature_id}',
    tag: 'Features',
    summary: 'Show a feature',
    roles: readers,
    answers: answers(200, { description: 'It.', schema: Feature, example: featureExample }),
    handle: async (call) => ({
      status: 200,
      body: featureToWire(await requireFeature(call, call.param('feature_id'))),
    }),
  }),
  route({
    operationId: 'changeFeature',
    method: 'patch',
    path: '/features/{feature_id}',
    tag: 'Features',
    summary: 'Rename a feature',
    roles: operators,
    body: object({ name: text(120) }),
    bodyExample: { name: 'API Calls' },
    answers: answers(200, { description: 'Changed.', schema: Feature, example: featureExample }),
    handle: async (call, { body }) => {
      const feature = await requireFeature(call, call.param('feature_id'));
      return call.write(async (tx) => ({
        answer: {
          status: 200,
          body: featureToWire(await updateFeature(tx, feature.id, body.name)),
        },
        audit: { action: 'feature.change', objectId: feature.id },
      }));
    },
  }),
];
