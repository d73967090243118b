import { createHash, randomBytes } from 'node:crypto';

import { z } from 'zod';

import { formatApiKey, secretOf } from '../../billing/api-key.ts';
import { shardLimits } from '../../billing/shard-limits.ts';
import { slotOf } from '../../billing/slot.ts';
import {
  countLiveApiKeys,
  findApiKey,
  insertApiKey,
  listApiKeys,
  revokeApiKey,
  type ApiKeyRow,
} from '../../store/api-keys.ts';
import { taxRateRefs } from '../../store/plans.ts';
import { findProduct } from '../../store/products.ts';
import { bumpRuntime, waitForApplied } from '../../store/projection.ts';
import {
  findSubscriber,
  insertSubscriber,
  listSubscribers,
  updateSubscriber,
  type SubscriberFields,
  type SubscriberRow,
} from '../../store/subscribers.ts';
import type { Call } from '../call.ts';
import {
  instant,
  lines,
  listOf,
  locale,
  matching,
  object,
  oneOf,
  reference,
  text,
  timeZone,
} from '../fields.ts';
import { ApiProblem, fieldProblem, notFound } from '../problems.ts';
import { operators, readers, route, type Route } from '../route.ts';
import { readTaxRates } from './plan-terms.ts';
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

const taxStatuses = ['taxable', 'exempt', 'reverse_charge'] as const;

const Subscriber = z
  .strictObject({
    id: z.string(),
    object: z.literal('subscriber'),
    environment: z.enum(['test', 'live']),
    lookup_id: z.string().nullable(),
    name: z.string(),
    email: z.string().nullable(),
    address: z.string().nullable(),
    tax_id: z.string().nullable(),
    time_zone: z.string(),
    payment_method: z.string().nullable(),
    tax_status: z.enum(taxStatuses),
    tax_exempt_reason: z.string().nullable(),
    tax_rate_ids: z
      .array(z.string())
      .nullable()
      .meta({ description: "Null: the operator's. Empty: none." }),
    locale: z.string().nullable().meta({ description: "Null: the operator's." }),
    created_at: instantText(),
  })
  .meta({ id: 'Subscriber' });

const keyFields = {
  id: z.string(),
  object: z.literal('api_key'),
  environment: z.enum(['test', 'live']),
  subscriber_id: z.string(),
  name: z.string(),
  last4: z.string(),
  product_ids: z.array(z.string()),
  expires_at: instantText().nullable(),
  revoked_at: instantText().nullable(),
  created_at: instantText(),
};
const ApiKey = z.strictObject(keyFields).meta({ id: 'ApiKey' });
const inEffect = z.boolean().meta({
  description: 'Whether the gateways know already; when false, they will within seconds.',
});
const NewApiKey = z
  .strictObject({
    ...keyFields,
    secret: z.string().meta({
      description: 'The key itself, shown this once: only a digest of it is kept.',
    }),
    in_effect: inEffect,
  })
  .meta({ id: 'NewApiKey' });
const RevokedApiKey = z
  .strictObject({ ...keyFields, in_effect: inEffect })
  .meta({ id: 'RevokedApiKey' });

const subscriberLookupId = () =>
  matching(
    /^(?!sbr_)[A-Za-z0-9][A-Za-z0-9_.@-]{0,126}$/,
    'must begin with a letter or digit, hold at most 127 of A-Z, a-z, 0-9, _ . @ -, and not begin with sbr_',
    'Your own id for this subscriber; it can stand wherever its id can.',
  );

const fields = {
  lookup_id: subscriberLookupId().nullable().optional(),
  email: matching(/^[^\s@<>"]{1,64}@[^\s@<>"]{1,190}$/, 'must be an e-mail address')
    .nullable()
    .optional(),
  address: lines(500, 'As it is printed on invoices.').nullable().optional(),
  tax_id: text(60).nullable().optional(),
  time_zone: timeZone().optional(),
  payment_method: matching(
    /^[A-Za-z0-9_-]{1,120}$/,
    'must be the reference of a payment method, such as card_ok',
    'With the sandbox provider: card_ok, card_decline, card_timeout, card_slow, card_error_once.',
  )
    .nullable()
    .optional(),
  tax_status: oneOf(
    taxStatuses,
    'taxable when absent. reverse_charge: the subscriber accounts for the tax, and invoices say so.',
  ).optional(),
  tax_exempt_reason: text(200, 'With tax_status exempt; printed on invoices.')
    .nullable()
    .optional(),
  tax_rates: listOf(
    reference('A tax rate'),
    10,
    "In place of the operator's; null for the operator's again, an empty list for none.",
  )
    .nullable()
    .optional(),
  locale: locale("In which invoices are written; null for the operator's.").nullable().optional(),
};

const subscriberExample = {
  id: 'sbr_5h2k9x0q7w3m1n8b4v6c2z',
  object: 'subscriber',
  environment: 'test',
  lookup_id: 'acme',
  name: 'Acme Inc.',
  email: 'billing@acme.example',
  address: '1 Main Street\nSpringfield',
  tax_id: null,
  time_zone: 'America/New_York',
  payment_method: 'card_ok',
  tax_status: 'taxable',
  tax_exempt_reason: null,
  tax_rate_ids: null,
  locale: 'en-US',
  created_at: '2026-01-01T00:00:00.000Z',
};
const keyExample = {
  id: 'key_5h2k9x0q7w3m1n8b4v6c2z',
  object: 'api_key',
  environment: 'test',
  subscriber_id: subscriberExample.id,
  name: 'production',
  last4: 'x7Qd',
  product_ids: [],
  expires_at: null,
  revoked_at: null,
  created_at: '2026-01-01T00:00:00.000Z',
};

/** The subscriber or 404. */
export async function requireSubscriber(call: Call, ref: string): Promise<SubscriberRow> {
  const subscriber = await findSubscriber(call.db, call.environment, ref);
  if (subscriber === null) throw notFound('subscriber', ref);
  return subscriber;
}

/** The id to list by: that of the subscriber that a query names. One that names nobody stays, and nothing is found by it. */
export async function subscriberIdOf(
  call: Call,
  ref: string | undefined,
): Promise<string | undefined> {
  if (ref === undefined) return undefined;
  return (await findSubscriber(call.db, call.environment, ref))?.id ?? ref;
}

function subscriberToWire(row: SubscriberRow): z.output<typeof Subscriber> {
  return {
    id: row.id,
    object: 'subscriber',
    environment: row.environment,
    lookup_id: row.lookup_id,
    name: row.name,
    email: row.email,
    address: row.address,
    tax_id: row.tax_id,
    time_zone: row.time_zone,
    payment_method: row.payment_method,
    tax_status: row.tax_status,
    tax_exempt_reason: row.tax_exempt_reason,
    tax_rate_ids: row.tax_rate_ids === null ? null : [...row.tax_rate_ids],
    locale: row.locale,
    created_at: wireInstant(row.created_at),
  };
}

function keyToWire(row: ApiKeyRow): z.output<typeof ApiKey> {
  return {
    id: row.id,
    object: 'api_key',
    environment: row.environment,
    subscriber_id: row.subscriber_id,
    name: row.name,
    last4: row.last4,
    product_ids: [...row.product_ids],
    expires_at: wireInstant(row.expires_at),
    revoked_at: wireInstant(row.revoked_at),
    created_at: wireInstant(row.created_at),
  };
}

async function productIdsOf(call: Call, refs: readonly string[]): Promise<readonly string[]> {
  const ids: string[] = [];
  for (const [index, ref] of refs.entries()) {
    // In order: the first fault is the one that is told.
    // oxlint-disable-next-line no-await-in-loop
    const product = await findProduct(call.db, call.environment, ref);
    if (product === null) {
      throw fieldProblem(`product_ids[${index}]`, 'names no product of this environment');
    }
    ids.push(product.id);
  }
  return ids;
}

type TaxInput = {
  readonly tax_status?: SubscriberRow['tax_status'] | undefined;
  readonly tax_exempt_reason?: string | null | undefined;
  readonly tax_rates?: readonly string[] | null | undefined;
};
type TaxFields = Pick<SubscriberFields, 'tax_status' | 'tax_exempt_reason' | 'tax_rate_ids'>;

const untouched: TaxFields = { tax_status: 'taxable', tax_exempt_reason: null, tax_rate_ids: null };

/** A reason for an exemption goes with the exemption, and ends with it. */
async function readTaxFields(call: Call, body: TaxInput, before: TaxFields): Promise<TaxFields> {
  const tax_status = body.tax_status ?? before.tax_status;
  const reason = body.tax_exempt_reason;
  if (tax_status !== 'exempt' && typeof reason === 'string') {
    throw fieldProblem('tax_exempt_reason', 'goes with tax_status exempt only');
  }
  const kept = reason === undefined ? before.tax_exempt_reason : reason;
  return {
    tax_status,
    tax_exempt_reason: tax_status === 'exempt' ? kept : null,
    tax_rate_ids: await readOwnRates(call, body.tax_rates, before.tax_rate_ids),
  };
}

async function readOwnRates(
  call: Call,
  given: readonly string[] | null | undefined,
  before: TaxFields['tax_rate_ids'],
): Promise<TaxFields['tax_rate_ids']> {
  if (given === undefined) return before;
  if (given === null) return null;
  return readTaxRates(given, await taxRateRefs(call.db, call.environment));
}

const subscriberRoutesOnly: readonly Route[] = [
  route({
    operationId: 'createSubscriber',
    method: 'post',
    path: '/subscribers',
    tag: 'Subscribers',
    summary: 'Add a subscriber',
    roles: operators,
    body: object({ name: text(200), ...fields }),
    bodyExample: {
      name: 'Acme Inc.',
      lookup_id: 'acme',
      time_zone: 'America/New_York',
      payment_method: 'card_ok',
    },
    answers: answers(201, {
      description: 'Added.',
      schema: Subscriber,
      example: subscriberExample,
    }),
    problems: ['already_exists'],
    handle: async (call, { body }) => {
      const taxFields = await readTaxFields(call, body, untouched);
      return call.write(async (tx) => {
        const row = await insertSubscriber(
          tx,
          call.environment,
          {
            name: body.name,
            lookup_id: body.lookup_id ?? null,
            email: body.email ?? null,
            address: body.address ?? null,
            tax_id: body.tax_id ?? null,
            time_zone: body.time_zone ?? 'UTC',
            payment_method: body.payment_method ?? null,
            ...taxFields,
            locale: body.locale ?? null,
          },
          slotOf,
        );
        return {
          answer: { status: 201, body: subscriberToWire(row) },
          audit: { action: 'subscriber.create', objectId: row.id },
        };
      });
    },
  }),
  route({
    operationId: 'listSubscribers',
    method: 'get',
    path: '/subscribers',
    tag: 'Subscribers',
    summary: 'List subscribers',
    roles: readers,
    query: listQuery,
    answers: answers(200, {
      description: 'Newest first.',
      schema: listOfAnswers(Subscriber, 'SubscriberList'),
      example: listExample(subscriberExample),
    }),
    handle: async (call, { query }) => ({
      status: 200,
      body: listBody(
        await listSubscribers(call.db, call.environment, pageArgs(query)),
        subscriberToWire,
      ),
    }),
  }),
  route({
    operationId: 'showSubscriber',
    method: 'get',
    path: '/subscribers/{subscriber_id}',
    tag: 'Subscribers',
    summary: 'Show a subscriber',
    roles: readers,
    answers: answers(200, { description: 'It.', schema: Subscriber, example: subscriberExample }),
    handle: async (call) => ({
      status: 200,
      body: subscriberToWire(await requireSubscriber(call, call.param('subscriber_id'))),
    }),
  }),
  route({
    operationId: 'changeSubscriber',
    method: 'patch',
    path: '/subscribers/{subscriber_id}',
    tag: 'Subscribers',
    summary: 'Change a subscriber',
    description: 'The time zone of a subscription is fixed at its start.',
    roles: operators,
    body: object({ name: text(200).optional(), ...fields }),
    bodyExample: { payment_method: 'card_ok' },
    answers: answers(200, {
      description: 'Changed.',
      schema: Subscriber,
      example: subscriberExample,
    }),
    problems: ['already_exists'],
    handle: async (call, { body }) => {
      const before = await requireSubscriber(call, call.param('subscriber_id'));
      const kept = <T>(given: T | undefined, old: T): T => (given === undefined ? old : given);
      const next: SubscriberFields = {
        name: kept(body.name, before.name),
        lookup_id: kept(body.lookup_id, before.lookup_id),
        email: kept(body.email, before.email),
        address: kept(body.address, before.address),
        tax_id: kept(body.tax_id, before.tax_id),
        time_zone: kept(body.time_zone, before.time_zone),
        payment_method: kept(body.payment_method, before.payment_method),
        ...(await readTaxFields(call, body, before)),
        locale: kept(body.locale, before.locale),
      };
      return call.write(async (tx) => ({
        answer: {
          status: 200,
          body: subscriberToWire(await updateSubscriber(tx, before.id, next)),
        },
        audit: {
          action: 'subscriber.change',
          objectId: before.id,
          details: { changed: Object.keys(body) },
        },
      }));
    },
  }),
];

const apiKeyRoutes: readonly Route[] = [
  route({
    operationId: 'createApiKey',
    method: 'post',
    path: '/subscribers/{subscriber_id}/api_keys',
    tag: 'API keys',
    summary: 'Create an API key',
    description: `The key is in this answer and nowhere else: only a digest of it is kept. A subscriber has at most
${shardLimits.keys} keys that are not revoked.`,
    roles: operators,
    isSecret: true,
    bodyOptional: true,
    body: object({
      name: text(120).optional(),
      product_ids: listOf(reference('Product'), 20, 'Without any: every product.').optional(),
      expires_at: instant('When it stops working.').nullable().optional(),
    }),
    bodyExample: { name: 'production' },
    answers: answers(201, {
      description: 'Created.',
      schema: NewApiKey,
      example: {
        ...keyExample,
        secret: 'tb_test_5h2k9x0q7w3m1n8b4v6c2z_…',
        in_effect: true,
      },
    }),
    problems: ['conflict'],
    handle: async (call, { body }) => {
      const subscriber = await requireSubscriber(call, call.param('subscriber_id'));
      const productIds = await productIdsOf(call, body.product_ids ?? []);
      const expiresAt = body.expires_at ?? null;
      if (expiresAt !== null && expiresAt.getTime() <= Date.now()) {
        throw fieldProblem('expires_at', 'must lie in the future');
      }
      const key = formatApiKey({
        environment: call.environment,
        subscriberBody: subscriber.id.slice('sbr_'.length),
        secret: secretOf(randomBytes(32)),
      });
      const lost = call.idempotency?.resumedObjectId ?? null;
      const made = await call.begin(async (tx, now) => {
        // An earlier try died before its answer went out: nobody has the key that it made.
        if (lost !== null) await revokeApiKey(tx, lost, now);
        // It locks the subscriber: two who ask at once are counted one after the other.
        const version = await bumpRuntime(tx, subscriber.id);
        if ((await countLiveApiKeys(tx, subscriber.id)) >= shardLimits.keys) {
          throw new ApiProblem(
            'conflict',
            `The subscriber has ${shardLimits.keys} keys that are not revoked, and there can be no more. Revoke one that is not needed with POST /api/v1/api_keys/{api_key_id}/revoke; expired keys count until they are revoked.`,
          );
        }
        const row = await insertApiKey(tx, {
          environment: call.environment,
          subscriber_id: subscriber.id,
          name: body.name ?? '',
          digest: createHash('sha256').update(key).digest(),
          last4: key.slice(-4),
          product_ids: productIds,
          expires_at: expiresAt,
        });
        return {
          value: { row, version },
          audit: { action: 'api_key.create', objectId: row.id },
        };
      });
      const isApplied = await applied(call, subscriber.id, made.version);
      return { status: 201, body: { ...keyToWire(made.row), secret: key, in_effect: isApplied } };
    },
  }),
  route({
    operationId: 'listApiKeys',
    method: 'get',
    path: '/subscribers/{subscriber_id}/api_keys',
    tag: 'API keys',
    summary: 'List the keys of a subscriber',
    roles: readers,
    query: listQuery,
    answers: answers(200, {
      description: 'Newest first, revoked ones too.',
      schema: listOfAnswers(ApiKey, 'ApiKeyList'),
      example: listExample(keyExample),
    }),
    handle: async (call, { query }) => {
      const subscriber = await requireSubscriber(call, call.param('subscriber_id'));
      return {
        status: 200,
        body: listBody(await listApiKeys(call.db, subscriber.id, pageArgs(query)), keyToWire),
      };
    },
  }),
  route({
    operationId: 'revokeApiKey',
    method: 'post',
    path: '/api_keys/{api_key_id}/revoke',
    tag: 'API keys',
    summary: 'Revoke a key',
    description: 'Refused by every gateway as soon as this answers with in_effect: true.',
    roles: operators,
    bodyOptional: true,
    body: object({}),
    answers: answers(200, {
      description: 'Revoked.',
      schema: RevokedApiKey,
      example: { ...keyExample, revoked_at: '2026-01-02T00:00:00.000Z', in_effect: true },
    }),
    handle: async (call) => {
      const found = await findApiKey(call.db, call.environment, call.param('api_key_id'));
      if (found === null) throw notFound('API key', call.param('api_key_id'));
      const done = await call.begin(async (tx, now) => {
        const row = await revokeApiKey(tx, found.id, now);
        const version = await bumpRuntime(tx, found.subscriber_id);
        return { value: { row, version }, audit: { action: 'api_key.revoke', objectId: found.id } };
      });
      const isApplied = await applied(call, found.subscriber_id, done.version);
      return { status: 200, body: { ...keyToWire(done.row), in_effect: isApplied } };
    },
  }),
];

/** Waits until the subscriber's shard knows; false when it does not in time. */
async function applied(call: Call, subscriberId: string, version: bigint): Promise<boolean> {
  return waitForApplied(
    call.db,
    subscriberId,
    { version },
    { timeoutMs: call.deps.waits.appliedMs },
  );
}

export const subscriberRoutes: readonly Route[] = [...subscriberRoutesOnly, ...apiKeyRoutes];
