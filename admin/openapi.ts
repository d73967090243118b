/** The OpenAPI 3.1 document, made from the table of routes: it can say nothing that the router does not do. */
import { z } from 'zod';

import { problemTable, type ProblemCode } from '../billing/problem.ts';
import type { AnswerSpec, Route } from './route.ts';

/** Codes that every route may answer with. */
const common: readonly ProblemCode[] = [
  'invalid_request',
  'missing_credential',
  'invalid_credential',
  'forbidden',
  'not_found',
  'internal_error',
  'database_unavailable',
];
/** Those of calls that change something. */
const ofWrites: readonly ProblemCode[] = [
  'invalid_json',
  'cross_origin',
  'payload_too_large',
  'unsupported_media_type',
];
const ofIdempotency: readonly ProblemCode[] = [
  'idempotency_key_in_flight',
  'idempotency_key_reused',
];

type Json = Readonly<Record<string, unknown>>;

/** The document of `routes`, as plain JSON. */
export function openApiDocument(routes: readonly Route[]): Json {
  const schemas = componentSchemas(routes);
  const paths: Record<string, Record<string, Json>> = {};
  for (const route of routes) {
    const path = `/api/v1${route.path}`;
    paths[path] = { ...paths[path], [route.method]: operation(route, schemas) };
  }
  return {
    openapi: '3.1.0',
    info: {
      title: 'Tollbook admin API',
      version: '1',
      description: `Products, plans, subscribers, subscriptions, credits, usage and invoices.
Amounts, prices, credits and quantities are answered as strings. A lookup_id may stand wherever an id may.
Every POST takes an Idempotency-Key: the same key with the same body gets the same answer and has one effect.`,
    },
    servers: [{ url: '/' }],
    security: [{ bearer: [] }, { cookie: [] }],
    tags: [...new Set(routes.map(({ tag }) => tag))].map((name) => ({ name })),
    paths,
    components: {
      securitySchemes: {
        bearer: { type: 'http', scheme: 'bearer', description: 'A service token, tbs_….' },
        cookie: {
          type: 'apiKey',
          in: 'cookie',
          name: 'access_token',
          description:
            'The same token. Calls that change something need Content-Type: application/json.',
        },
      },
      schemas: { ...schemas.components, Problem: problemSchema },
    },
  };
}

type Schemas = {
  readonly components: Readonly<Record<string, Json>>;
  readonly nameOf: (schema: z.ZodType) => string;
};

function componentSchemas(routes: readonly Route[]): Schemas {
  const registry = z.registry<{ id: string }>();
  const names = new Map<z.ZodType, string>();
  const add = (schema: z.ZodType, fallback: string): void => {
    if (names.has(schema)) return;
    const id = z.globalRegistry.get(schema)?.id ?? fallback;
    names.set(schema, id);
    registry.add(schema, { id });
  };
  for (const route of routes) {
    if (route.body !== null) add(route.body, `${capital(route.operationId)}Body`);
    for (const { schema } of Object.values(route.answers)) {
      if (schema !== undefined) add(schema, `${capital(route.operationId)}Answer`);
    }
  }
  const { schemas } = z.toJSONSchema(registry, {
    io: 'input',
    target: 'draft-2020-12',
    uri: (id) => `#/components/schemas/${id}`,
    override: ({ jsonSchema }) => {
      // The id is the component's name already; as a keyword it would open a base of its own.
      delete jsonSchema['id'];
    },
  });
  return { components: hoisted(schemas), nameOf: (schema) => names.get(schema) ?? '' };
}

/** Schemas with an id that lie inside others come out under $defs: they become components, and references follow. */
function hoisted(schemas: Readonly<Record<string, unknown>>): Readonly<Record<string, Json>> {
  const components: Record<string, Json> = {};
  const place = (name: string, schema: unknown): void => {
    if (!isObject(schema)) return;
    const { $defs, $schema: _dialect, $id: _id, ...rest } = schema;
    // What several schemas hold comes in a bag of this name.
    if (name !== '__shared') components[name] ??= redirected(rest);
    for (const [inner, definition] of Object.entries(isObject($defs) ? $defs : {})) {
      place(inner, definition);
    }
  };
  for (const [name, schema] of Object.entries(schemas)) place(name, schema);
  return components;
}

function redirected(value: Json): Json {
  const walk = (node: unknown): unknown => {
    if (Array.isArray(node)) return node.map((item) => walk(item));
    if (!isObject(node)) return node;
    return Object.fromEntries(
      Object.entries(node).map(([key, inner]) => [
        key,
        key === '$ref' && typeof inner === 'string'
          ? inner.replace(/^.*#\/\$defs\//, '#/components/schemas/')
          : walk(inner),
      ]),
    );
  };
  const walked = walk(value);
  return isObject(walked) ? walked : {};
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function operation(route: Route, schemas: Schemas): Json {
  return {
    operationId: route.operationId,
    tags: [route.tag],
    summary: route.summary,
    description: [
      route.description,
      `Roles: ${route.roles.join(', ')}.`,
      route.isSecret === true ? 'The answer holds a secret that is shown once.' : undefined,
    ]
      .filter((line) => line !== undefined)
      .join('\n\n'),
    'x-roles': route.roles,
    parameters: [...pathParameters(route), ...queryParameters(route), ...headerParameters(route)],
    ...requestBody(route, schemas),
    responses: {
      ...Object.fromEntries(
        Object.entries(route.answers).map(([status, answer]) => [
          status,
          {
            description: answer.description,
            content:
              answer.schema === undefined
                ? contentWithoutSchema(answer)
                : {
                    'application/json': {
                      schema: { $ref: `#/components/schemas/${schemas.nameOf(answer.schema)}` },
                      example: answer.example,
                    },
                  },
          },
        ]),
      ),
      ...problemResponses(route),
    },
  };
}

function contentWithoutSchema({ file }: AnswerSpec): Json {
  return file === undefined
    ? { 'text/html': { schema: { type: 'string' } } }
    : { [file]: { schema: { type: 'string', contentMediaType: file } } };
}

function pathParameters(route: Route): readonly Json[] {
  return [...route.path.matchAll(/\{(\w+)\}/g)].map(([, name]) => ({
    name,
    in: 'path',
    required: true,
    description: name === 'version' ? 'Its number, from 1.' : 'Id; or lookup_id where it has one.',
    schema: {
      type: 'string',
      pattern: name === 'version' ? '^[1-9][0-9]{0,8}$' : '^[A-Za-z0-9][A-Za-z0-9_.@-]{0,126}$',
    },
  }));
}

function queryParameters(route: Route): readonly Json[] {
  if (route.query === null) return [];
  const schema = z.toJSONSchema(route.query, { io: 'input', target: 'draft-2020-12' });
  const properties = isObject(schema.properties) ? schema.properties : {};
  return Object.entries(properties).map(([name, property]) => ({
    name,
    in: 'query',
    required: false,
    schema: property,
  }));
}

function headerParameters(route: Route): readonly Json[] {
  if (route.method !== 'post') return [];
  return [
    {
      name: 'Idempotency-Key',
      in: 'header',
      required: false,
      description:
        'Any text of yours, kept for a day at least. The same request with it has one effect.',
      schema: { type: 'string', pattern: '^[!-~]{1,255}$' },
    },
  ];
}

function requestBody(route: Route, schemas: Schemas): Json {
  if (route.body === null) return {};
  return {
    requestBody: {
      required: route.bodyOptional !== true,
      content: {
        'application/json': {
          schema: { $ref: `#/components/schemas/${schemas.nameOf(route.body)}` },
          example: route.bodyExample ?? {},
        },
      },
    },
  };
}

/** All codes that the route may answer with, by status. */
function problemResponses(route: Route): Readonly<Record<string, Json>> {
  const codes = new Set<ProblemCode>([
    ...common,
    ...(route.method === 'get' ? [] : ofWrites),
    ...(route.method === 'post' ? ofIdempotency : []),
    ...(route.problems ?? []),
  ]);
  const byStatus = Map.groupBy(codes, (code) => String(problemTable[code].status));
  return Object.fromEntries(
    [...byStatus].map(([status, list]) => [
      status,
      {
        description: list.map((code) => `\`${code}\`: ${problemTable[code].title}.`).join('\n\n'),
        content: {
          'application/problem+json': {
            schema: {
              allOf: [
                { $ref: '#/components/schemas/Problem' },
                { properties: { code: { enum: list } } },
              ],
            },
            example: problemExample(list[0] ?? 'internal_error'),
          },
        },
      },
    ]),
  );
}

function problemExample(code: ProblemCode): Json {
  const { status, title, doc, retryable } = problemTable[code];
  return {
    type: `/docs#${code}`,
    title,
    status,
    code,
    detail: doc,
    retryable,
    request_id: 'req_…',
  };
}

const problemSchema: Json = {
  type: 'object',
  description: 'RFC 9457, with a code that never changes.',
  required: ['type', 'title', 'status', 'code', 'detail', 'retryable', 'request_id'],
  properties: {
    type: { type: 'string' },
    title: { type: 'string' },
    status: { type: 'integer' },
    code: { type: 'string' },
    detail: { type: 'string' },
    retryable: { type: 'boolean' },
    request_id: { type: 'string' },
    errors: {
      type: 'array',
      items: {
        type: 'object',
        required: ['field', 'message'],
        properties: {
          field: { type: 'string' },
          message: { type: 'string' },
          allowed: { type: 'array', items: { type: 'string' } },
        },
      },
    },
  },
};

function capital(text: string): string {
  return text.charAt(0).toUpperCase() + text.slice(1);
}
