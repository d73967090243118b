import { z } from 'zod';

import type { MeterRule } from '../../billing/catalogue.ts';
import type { Reader } from '../../store/db.ts';
import { findFeature } from '../../store/features.ts';
import { findMeter } from '../../store/meters.ts';
import {
  deleteRoute,
  findProduct,
  findRoute,
  hostsInUse,
  insertProduct,
  listProducts,
  listRoutes,
  putRoute,
  updateProduct,
  type ProductFields,
  type ProductRow,
  type RouteRow,
} from '../../store/products.ts';
import type { Environment } from '../../store/query.ts';
import type { Call } from '../call.ts';
import {
  flag,
  listOf,
  lookupId,
  matching,
  object,
  oneOf,
  quantity,
  reference,
  text,
} from '../fields.ts';
import { ApiProblem, fieldProblem, notFound } from '../problems.ts';
import { operators, readers, route, type Route } from '../route.ts';
import { upstreamFault } from '../upstream-url.ts';
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

const source = z
  .strictObject({
    kind: z.enum(['fixed', 'header', 'json', 'sse']),
    name: z.string().optional(),
    pointer: z.string().optional(),
  })
  .meta({ id: 'MeterSource' });

const meterRule = z
  .strictObject({
    meter: z.string().meta({ description: "The meter's lookup_id." }),
    estimate: z.number().int(),
    max_actual: z.number().int().nullable(),
    source,
  })
  .meta({ id: 'MeterRule' });

const RouteAnswer = z
  .strictObject({
    id: z.string(),
    object: z.literal('route'),
    product_id: z.string(),
    method: z.string(),
    path: z.string(),
    feature_id: z.string().nullable(),
    meters: z.array(meterRule),
    created_at: instantText(),
  })
  .meta({ id: 'Route' });

const Product = z
  .strictObject({
    id: z.string(),
    object: z.literal('product'),
    environment: z.enum(['test', 'live']),
    lookup_id: z.string(),
    name: z.string(),
    hosts: z.array(z.string()),
    upstream_url: z.string(),
    reports_usage: z.boolean(),
    credit_definition: z.string().nullable(),
    gateway_paths: z.array(z.string()).meta({ description: 'Where a subscriber calls it.' }),
    created_at: instantText(),
    updated_at: instantText(),
  })
  .meta({ id: 'Product' });

const host = () =>
  matching(
    /^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?(:\d{1,5})?$/,
    'must be a host name in lower case, with or without a port',
  );

const productFields = {
  name: text(120),
  lookup_id: lookupId(),
  upstream_url: matching(
    /^https?:\/\/[\x21-\x7e]{1,2000}$/,
    'must be an http or https URL',
    'Where requests are forwarded to.',
  ),
  hosts: listOf(host(), 20, 'Host names that belong to this product at the gateway.'),
  reports_usage: flag().meta({
    description: "Whether the upstream's own report of actual usage is believed.",
  }),
  credit_definition: text(200, 'What one credit is, in the words of your price list.').nullable(),
};

const productBody = object({
  name: productFields.name,
  lookup_id: productFields.lookup_id.optional(),
  upstream_url: productFields.upstream_url,
  hosts: productFields.hosts.optional(),
  reports_usage: productFields.reports_usage.optional(),
  credit_definition: productFields.credit_definition.optional(),
});

const productChange = object({
  name: productFields.name.optional(),
  lookup_id: productFields.lookup_id.optional(),
  upstream_url: productFields.upstream_url.optional(),
  hosts: productFields.hosts.optional(),
  reports_usage: productFields.reports_usage.optional(),
  credit_definition: productFields.credit_definition.optional(),
});

const routeBody = object({
  method: matching(/^(\*|[A-Za-z]{3,10})$/, 'must be a method, or * for any'),
  path: matching(
    /^\/(?!.*\/\/)[A-Za-z0-9._~!$&'()+,;=:@%{}*/-]{0,500}$/,
    'must be a path such as /v1/images/{id} or /v1/*',
    '`{name}` stands for one segment, a last `*` for any rest.',
  ),
  feature_id: reference('Feature that the plan must contain').nullable().optional(),
  meters: listOf(
    object({
      meter_id: reference('What the route counts'),
      estimate: quantity(
        'Units held before forwarding, and charged when nothing is reported.',
      ).optional(),
      max_actual: quantity('A report above it is refused. Without it: the estimate.')
        .nullable()
        .optional(),
      source: object({
        kind: oneOf(['fixed', 'header', 'json', 'sse']),
        name: matching(/^[A-Za-z0-9-]{1,64}$/, 'must be the name of a header').optional(),
        pointer: matching(
          /^(\/([^~/]|~[01])*)+$/,
          'must be a JSON pointer such as /usage/output_tokens',
        )
          .max(200, 'must have at most 200 characters')
          .optional(),
      }).optional(),
    }),
    16,
  ).optional(),
});

const productExample = {
  id: 'prod_5h2k9x0q7w3m1n8b4v6c2z',
  object: 'product',
  environment: 'test',
  lookup_id: 'demo',
  name: 'Demo API',
  hosts: [],
  upstream_url: 'https://api.example.com',
  reports_usage: true,
  credit_definition: 'One credit is one call.',
  gateway_paths: ['/demo'],
  created_at: '2026-01-01T00:00:00.000Z',
  updated_at: '2026-01-01T00:00:00.000Z',
};
const routeExample = {
  id: 'rte_5h2k9x0q7w3m1n8b4v6c2z',
  object: 'route',
  product_id: productExample.id,
  method: 'POST',
  path: '/v1/generate',
  feature_id: null,
  meters: [
    {
      meter: 'output_tokens',
      estimate: 500,
      max_actual: 4000,
      source: { kind: 'json', pointer: '/usage/output_tokens' },
    },
  ],
  created_at: '2026-01-01T00:00:00.000Z',
};

/** The product or 404. */
async function requireProduct(call: Call, ref: string): Promise<ProductRow> {
  const product = await findProduct(call.db, call.environment, ref);
  if (product === null) throw notFound('product', ref);
  return product;
}

function productToWire(row: ProductRow): z.output<typeof Product> {
  return {
    id: row.id,
    object: 'product',
    environment: row.environment,
    lookup_id: row.lookup_id,
    name: row.name,
    hosts: [...row.hosts],
    upstream_url: row.upstream_url,
    reports_usage: row.reports_usage,
    credit_definition: row.credit_definition,
    gateway_paths: [`/${row.lookup_id}`],
    created_at: wireInstant(row.created_at),
    updated_at: wireInstant(row.updated_at),
  };
}

function routeToWire(row: RouteRow): z.output<typeof RouteAnswer> {
  return {
    id: row.id,
    object: 'route',
    product_id: row.product_id,
    method: row.method,
    path: row.path,
    feature_id: row.feature_id,
    meters: row.rules.map((rule) => ({ ...rule })),
    created_at: wireInstant(row.created_at),
  };
}

async function checkProduct(
  call: Call,
  fields: ProductFields,
  exceptProductId: string | null,
): Promise<void> {
  const fault = upstreamFault(fields.upstream_url, {
    allowPrivate: call.deps.allowPrivateUpstreams,
  });
  if (fault !== null) throw fieldProblem('upstream_url', fault);
  const taken = await hostsInUse(call.db, fields.hosts, exceptProductId);
  if (taken.length > 0) {
    throw new ApiProblem('already_exists', `${taken.join(', ')} belongs to another product.`, {
      errors: [{ field: 'hosts', message: `${taken.join(', ')} belongs to another product` }],
    });
  }
}

type RouteInput = z.output<typeof routeBody>;
type MeterInput = NonNullable<RouteInput['meters']>[number];

async function readRule(
  reader: Reader,
  environment: Environment,
  input: MeterInput,
  at: string,
): Promise<MeterRule> {
  const meter = await findMeter(reader, environment, input.meter_id);
  if (meter === null) throw fieldProblem(`${at}.meter_id`, 'names no meter of this environment');
  const estimate = Number(input.estimate ?? 1n);
  const maxActual =
    input.max_actual === null || input.max_actual === undefined ? null : Number(input.max_actual);
  if (maxActual !== null && maxActual < estimate) {
    throw fieldProblem(`${at}.max_actual`, 'must not be below the estimate');
  }
  return {
    meter: meter.lookup_id,
    estimate,
    max_actual: maxActual,
    source: readSource(input.source, `${at}.source`),
  };
}

function readSource(input: MeterInput['source'], at: string): MeterRule['source'] {
  const kind = input?.kind ?? 'fixed';
  if (kind !== 'header' && input?.name !== undefined) {
    throw fieldProblem(`${at}.name`, 'goes with kind header only');
  }
  if ((kind === 'fixed' || kind === 'header') && input?.pointer !== undefined) {
    throw fieldProblem(`${at}.pointer`, 'goes with kind json or sse only');
  }
  switch (kind) {
    case 'fixed':
      return { kind };
    case 'header':
      if (input?.name === undefined)
        throw fieldProblem(`${at}.name`, 'is required for kind header');
      return { kind, name: input.name };
    case 'json':
    case 'sse':
      if (input?.pointer === undefined) {
        throw fieldProblem(`${at}.pointer`, `is required for kind ${kind}`);
      }
      return { kind, pointer: input.pointer };
    default:
      return kind satisfies never;
  }
}

function checkPath(path: string): void {
  for (const [index, segment] of path.slice(1).split('/').entries()) {
    const isLast = index === path.slice(1).split('/').length - 1;
    const isWhole = /^(\{[a-z][a-z0-9_]*\}|[^{}*]*)$/.test(segment) || (segment === '*' && isLast);
    if (!isWhole || segment === '.' || segment === '..') {
      throw fieldProblem(
        'path',
        'must have whole segments: plain text, {name}, or * as the last one',
      );
    }
  }
}

export const productRoutes: readonly Route[] = [
  route({
    operationId: 'createProduct',
    method: 'post',
    path: '/products',
    tag: 'Products',
    summary: 'Put an API behind the gateway',
    roles: operators,
    body: productBody,
    bodyExample: {
      name: 'Demo API',
      lookup_id: 'demo',
      upstream_url: 'https://api.example.com',
      reports_usage: true,
      credit_definition: 'One credit is one call.',
    },
    answers: answers(201, { description: 'Made.', schema: Product, example: productExample }),
    problems: ['already_exists'],
    handle: async (call, { body }) => {
      const name = body.lookup_id ?? lookupIdOf(body.name, '-');
      if (name === null) throw fieldProblem('lookup_id', 'is required: the name gives none');
      const fields: ProductFields = {
        lookup_id: name,
        name: body.name,
        hosts: body.hosts ?? [],
        upstream_url: body.upstream_url,
        reports_usage: body.reports_usage ?? false,
        credit_definition: body.credit_definition ?? null,
      };
      await checkProduct(call, fields, null);
      return call.write(async (tx) => {
        const row = await insertProduct(tx, call.environment, fields);
        return {
          answer: { status: 201, body: productToWire(row) },
          audit: { action: 'product.create', objectId: row.id },
        };
      });
    },
  }),
  route({
    operationId: 'listProducts',
    method: 'get',
    path: '/products',
    tag: 'Products',
    summary: 'List products',
    roles: readers,
    query: listQuery,
    answers: answers(200, {
      description: 'Newest first.',
      schema: listOfAnswers(Product, 'ProductList'),
      example: listExample(productExample),
    }),
    handle: async (call, { query }) => ({
      status: 200,
      body: listBody(await listProducts(call.db, call.environment, pageArgs(query)), productToWire),
    }),
  }),
  route({
    operationId: 'showProduct',
    method: 'get',
    path: '/products/{product_id}',
    tag: 'Products',
    summary: 'Show a product',
    roles: readers,
    answers: answers(200, { description: 'It.', schema: Product, example: productExample }),
    handle: async (call) => ({
      status: 200,
      body: productToWire(await requireProduct(call, call.param('product_id'))),
    }),
  }),
  route({
    operationId: 'changeProduct',
    method: 'patch',
    path: '/products/{product_id}',
    tag: 'Products',
    summary: 'Change a product',
    description: 'Gateways take the change over within a second.',
    roles: operators,
    body: productChange,
    bodyExample: { upstream_url: 'https://api-2.example.com' },
    answers: answers(200, { description: 'Changed.', schema: Product, example: productExample }),
    problems: ['already_exists'],
    handle: async (call, { body }) => {
      const product = await requireProduct(call, call.param('product_id'));
      const fields: ProductFields = {
        lookup_id: body.lookup_id ?? product.lookup_id,
        name: body.name ?? product.name,
        hosts: body.hosts ?? product.hosts,
        upstream_url: body.upstream_url ?? product.upstream_url,
        reports_usage: body.reports_usage ?? product.reports_usage,
        credit_definition:
          body.credit_definition === undefined ? product.credit_definition : body.credit_definition,
      };
      await checkProduct(call, fields, product.id);
      return call.write(async (tx) => ({
        answer: { status: 200, body: productToWire(await updateProduct(tx, product.id, fields)) },
        audit: {
          action: 'product.change',
          objectId: product.id,
          details: { changed: Object.keys(body) },
        },
      }));
    },
  }),
  route({
    operationId: 'putRoute',
    method: 'post',
    path: '/products/{product_id}/routes',
    tag: 'Products',
    summary: 'Say what a route costs',
    description:
      'A route that exists with this method and path is replaced (200). Its units are held before the request is forwarded.',
    roles: operators,
    body: routeBody,
    bodyExample: {
      method: 'POST',
      path: '/v1/generate',
      meters: [
        {
          meter_id: 'output_tokens',
          estimate: 500,
          max_actual: 4000,
          source: { kind: 'json', pointer: '/usage/output_tokens' },
        },
      ],
    },
    answers: answers(
      201,
      { description: 'Made.', schema: RouteAnswer, example: routeExample },
      { 200: { description: 'Replaced.', schema: RouteAnswer, example: routeExample } },
    ),
    handle: async (call, { body }) => {
      const product = await requireProduct(call, call.param('product_id'));
      checkPath(body.path);
      const rules: MeterRule[] = [];
      for (const [index, input] of (body.meters ?? []).entries()) {
        // In order: the first fault is the one that is told.
        // oxlint-disable-next-line no-await-in-loop
        rules.push(await readRule(call.db, call.environment, input, `meters[${index}]`));
      }
      if (new Set(rules.map(({ meter }) => meter)).size < rules.length) {
        throw fieldProblem('meters', 'must name each meter once');
      }
      const feature =
        body.feature_id === null || body.feature_id === undefined
          ? null
          : await findFeature(call.db, call.environment, body.feature_id);
      if (feature === null && typeof body.feature_id === 'string') {
        throw fieldProblem('feature_id', 'names no feature of this environment');
      }
      return call.write(async (tx) => {
        const { row, created } = await putRoute(tx, {
          productId: product.id,
          method: body.method.toUpperCase(),
          path: body.path,
          featureId: feature?.id ?? null,
          rules,
        });
        return {
          answer: { status: created ? 201 : 200, body: routeToWire(row) },
          audit: {
            action: created ? 'route.create' : 'route.replace',
            objectId: row.id,
            details: { product_id: product.id },
          },
        };
      });
    },
  }),
  route({
    operationId: 'listRoutes',
    method: 'get',
    path: '/products/{product_id}/routes',
    tag: 'Products',
    summary: 'List the routes of a product',
    roles: readers,
    answers: answers(200, {
      description: 'All, by path.',
      schema: listOfAnswers(RouteAnswer, 'RouteList'),
      example: listExample(routeExample),
    }),
    handle: async (call) => {
      const product = await requireProduct(call, call.param('product_id'));
      const rows = await listRoutes(call.db, product.id);
      return { status: 200, body: listBody({ rows, hasMore: false }, routeToWire) };
    },
  }),
  route({
    operationId: 'deleteRoute',
    method: 'delete',
    path: '/products/{product_id}/routes/{route_id}',
    tag: 'Products',
    summary: 'Take a route away',
    description: 'Requests that no other route matches get route_not_found from the gateway.',
    roles: operators,
    answers: answers(200, {
      description: 'What was taken away.',
      schema: RouteAnswer,
      example: routeExample,
    }),
    handle: async (call) => {
      const product = await requireProduct(call, call.param('product_id'));
      const found = await findRoute(call.db, product.id, call.param('route_id'));
      if (found === null) throw notFound('route', call.param('route_id'));
      return call.write(async (tx) => {
        await deleteRoute(tx, found.id);
        return {
          answer: { status: 200, body: routeToWire(found) },
          audit: { action: 'route.delete', objectId: found.id, details: { path: found.path } },
        };
      });
    },
  }),
];
