import { randomBytes } from 'node:crypto';

import { z } from 'zod';

import {
  findToken,
  insertToken,
  listTokens,
  revokeToken,
  roles,
  type ServiceToken,
} from '../../store/tokens.ts';
import { secretOf } from '../../billing/api-key.ts';
import { digestOf } from '../authenticate.ts';
import { object, oneOf, text } from '../fields.ts';
import { ApiProblem, notFound } from '../problems.ts';
import { admins, route, type Route } from '../route.ts';
import {
  answers,
  instantText,
  listBody,
  listExample,
  listOfAnswers,
  listQuery,
  pageArgs,
  wireInstant,
} from './shared.ts';

const tokenFields = {
  id: z.string(),
  object: z.literal('service_token'),
  environment: z.enum(['test', 'live']),
  name: z.string(),
  role: z.enum(roles),
  created_at: instantText(),
  revoked_at: instantText().nullable(),
};
const Token = z.strictObject(tokenFields).meta({ id: 'ServiceToken' });
const NewToken = z
  .strictObject({
    ...tokenFields,
    token: z.string().meta({ description: 'Shown this once: only a digest of it is kept.' }),
  })
  .meta({ id: 'NewServiceToken' });

const tokenExample = {
  id: 'tok_5h2k9x0q7w3m1n8b4v6c2z',
  object: 'service_token',
  environment: 'test',
  name: 'ingest of the batch jobs',
  role: 'ingest',
  created_at: '2026-01-01T00:00:00.000Z',
  revoked_at: null,
};

function tokenToWire(row: ServiceToken): z.output<typeof Token> {
  return {
    id: row.id,
    object: 'service_token',
    environment: row.environment,
    name: row.name,
    role: row.role,
    created_at: wireInstant(row.created_at),
    revoked_at: wireInstant(row.revoked_at),
  };
}

export const serviceTokenRoutes: readonly Route[] = [
  route({
    operationId: 'createServiceToken',
    method: 'post',
    path: '/service_tokens',
    tag: 'Service tokens',
    summary: 'Create a service token',
    description: `admin: everything · operator: everything but service tokens · reader: what GET shows · ingest: usage_events only.
A token of environment live is made here too; what a token sees and makes is its environment.`,
    roles: admins,
    isSecret: true,
    body: object({
      name: text(120),
      role: oneOf(roles),
      environment: oneOf(['test', 'live'], "The caller's own when absent.").optional(),
    }),
    bodyExample: { name: 'ingest of the batch jobs', role: 'ingest' },
    answers: answers(201, {
      description: 'Created.',
      schema: NewToken,
      example: { ...tokenExample, token: 'tbs_test_…' },
    }),
    handle: async (call, { body }) => {
      const environment = body.environment ?? call.environment;
      const secret = `tbs_${environment}_${secretOf(randomBytes(32))}`;
      return call.write(async (tx) => {
        const row = await insertToken(tx, {
          environment,
          name: body.name,
          role: body.role,
          digest: digestOf(secret),
        });
        return {
          answer: { status: 201, body: { ...tokenToWire(row), token: secret } },
          audit: {
            action: 'service_token.create',
            objectId: row.id,
            details: { role: row.role, environment },
          },
        };
      });
    },
  }),
  route({
    operationId: 'listServiceTokens',
    method: 'get',
    path: '/service_tokens',
    tag: 'Service tokens',
    summary: 'List the service tokens of the environment',
    roles: admins,
    query: listQuery,
    answers: answers(200, {
      description: 'Newest first.',
      schema: listOfAnswers(Token, 'ServiceTokenList'),
      example: listExample(tokenExample),
    }),
    handle: async (call, { query }) => ({
      status: 200,
      body: listBody(await listTokens(call.db, call.environment, pageArgs(query)), tokenToWire),
    }),
  }),
  route({
    operationId: 'revokeServiceToken',
    method: 'post',
    path: '/service_tokens/{token_id}/revoke',
    tag: 'Service tokens',
    summary: 'Revoke a service token',
    roles: admins,
    bodyOptional: true,
    body: object({}),
    answers: answers(200, {
      description: 'Revoked; refused from now on.',
      schema: Token,
      example: { ...tokenExample, revoked_at: '2026-01-02T00:00:00.000Z' },
    }),
    problems: ['in_use'],
    handle: async (call) => {
      const found = await findToken(call.db, call.environment, call.param('token_id'));
      if (found === null) throw notFound('service token', call.param('token_id'));
      if (found.id === call.token.id) {
        throw new ApiProblem(
          'in_use',
          'This call was made with that token. Revoke it with another.',
        );
      }
      return call.write(async (tx, now) => ({
        answer: { status: 200, body: tokenToWire(await revokeToken(tx, found.id, now)) },
        audit: { action: 'service_token.revoke', objectId: found.id },
      }));
    },
  }),
];
