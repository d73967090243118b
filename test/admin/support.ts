/** A running admin service on a database of its own, and a client that speaks to it. */
import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';

import { createAdminApp } from '../../admin/app.ts';
import { digestOf } from '../../admin/authenticate.ts';
import type { AdminDeps } from '../../admin/call.ts';
import { openApiDocument } from '../../admin/openapi.ts';
import { ApiProblem } from '../../admin/problems.ts';
import { routes } from '../../admin/routes.ts';
import type { WorkflowEngine } from '../../admin/workflow-engine.ts';
import { ShardUnavailable } from '../../shards/port.ts';
import { inTransaction, openDb, type Db } from '../../store/db.ts';
import { insertToken, type Role } from '../../store/tokens.ts';
import { testDatabase } from '../support/postgres.ts';

export type Json = Readonly<Record<string, unknown>>;
export type Reply = {
  readonly status: number;
  readonly headers: Headers;
  readonly text: string;
  readonly body: Json;
};

export type TestAdmin = {
  readonly url: string;
  readonly db: Db;
  readonly databaseUrl: string;
  /** Tokens of environment test, by role. */
  readonly tokens: Readonly<Record<Role, string>>;
  readonly liveToken: string;
  readonly logged: readonly Json[];
  call(
    method: string,
    path: string,
    options?: {
      readonly token?: string | null;
      readonly body?: unknown;
      readonly raw?: string;
      readonly headers?: Readonly<Record<string, string>>;
    },
  ): Promise<Reply>;
  stop(): Promise<void>;
};

const away = (): never => {
  throw new ApiProblem('workflow_engine_unavailable', 'no engine in this test');
};
/** An engine that is away: what a call sees while Temporal is down. */
export const awayEngine: WorkflowEngine = {
  activate: () => Promise.reject(awayError()),
  cancel: () => Promise.reject(awayError()),
  closePeriod: () => Promise.reject(awayError()),
  changePlan: () => Promise.reject(awayError()),
  cancelPlanChange: () => Promise.reject(awayError()),
  closeResult: () => Promise.reject(awayError()),
  setOverage: () => Promise.reject(awayError()),
  topUp: () => Promise.reject(awayError()),
  finalizeNow: () => Promise.reject(awayError()),
  collect: () => Promise.reject(awayError()),
  retryNow: () => Promise.reject(awayError()),
  invoiceChanged: () => Promise.reject(awayError()),
  refund: () => Promise.reject(awayError()),
  takeBack: () => Promise.reject(awayError()),
  close: () => Promise.resolve(),
};
function awayError(): Error {
  try {
    return away();
  } catch (error) {
    return error instanceof Error ? error : new Error('away');
  }
}

export async function startAdmin(overrides: Partial<AdminDeps> = {}): Promise<TestAdmin> {
  const database = await testDatabase();
  const db = openDb(database.url, { poolMax: 6 });
  const logged: Json[] = [];
  const log = (level: string) => (fields: Json, message: string) => {
    logged.push({ level, message, ...fields });
  };
  const app = createAdminApp({
    db,
    shards: {
      read: () =>
        Promise.reject(new ShardUnavailable('shard-1', 'not_sent', 'no shard in this test')),
    },
    engine: awayEngine,
    log: { info: log('info'), warn: log('warn'), error: log('error') },
    waits: { appliedMs: 20, workflowMs: 500, closeMs: 1_000, countedMs: 20 },
    home: {
      isOpen: false,
      temporalUiUrl: 'http://127.0.0.1:9/',
      temporalNamespace: 'default',
      gatewayUrls: [],
      adminUrl: 'http://admin.example',
    },
    allowPrivateUpstreams: true,
    ...overrides,
  });
  const server = createServer(app);
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const url = `http://127.0.0.1:${portOf(server.address())}`;
  const tokens = await insertTokens(db);
  return {
    url,
    db,
    databaseUrl: database.url,
    tokens,
    liveToken: tokens.live,
    logged,
    call: async (method, path, options = {}) => {
      const token = options.token === undefined ? tokens.admin : options.token;
      const body =
        options.raw ?? (options.body === undefined ? null : JSON.stringify(options.body));
      const response = await fetch(`${url}${path}`, {
        method,
        redirect: 'manual',
        headers: {
          ...(token === null ? {} : { authorization: `Bearer ${token}` }),
          ...(body === null ? {} : { 'content-type': 'application/json' }),
          ...options.headers,
        },
        ...(body === null ? {} : { body }),
      });
      const text = await response.text();
      checkAnswer(method, path, { status: response.status, text });
      return { status: response.status, headers: response.headers, text, body: objectOf(text) };
    },
    stop: async () => {
      server.close();
      server.closeAllConnections();
      await db.destroy();
      await database.drop();
    },
  };
}

/** Every answer of the API in every test must be one that the reference describes. */
function checkAnswer(
  method: string,
  path: string,
  answer: { readonly status: number; readonly text: string },
): void {
  const [bare = ''] = path.split('?');
  const route = routes.find((one) => {
    const pattern = one.path.replaceAll('.', '\\.').replaceAll(/\{\w+\}/g, '[^/]+');
    return one.method.toUpperCase() === method && new RegExp(`^/api/v1${pattern}$`).test(bare);
  });
  if (route === undefined) return;
  if (answer.status >= 400) {
    const codes = JSON.stringify(
      responsesOf(`/api/v1${route.path}`, route.method)[String(answer.status)] ?? {},
    );
    const { code } = objectOf(answer.text);
    if (!codes.includes(`"${String(code)}"`)) {
      throw new Error(
        `${route.operationId} does not say that it answers ${answer.status} ${String(code)}`,
      );
    }
    return;
  }
  const spec = route.answers[answer.status];
  if (spec === undefined)
    throw new Error(`${route.operationId} does not say that it answers ${answer.status}`);
  spec.schema?.parse(JSON.parse(answer.text));
}

const document = openApiDocument(routes);

function responsesOf(path: string, method: string): Json {
  return [path, method, 'responses'].reduce<Json>(
    (node, key) => {
      const next = node[key];
      return isJson(next) ? next : {};
    },
    isJson(document['paths']) ? document['paths'] : {},
  );
}

function portOf(address: AddressInfo | string | null): number {
  if (address === null || typeof address === 'string') throw new Error('no port');
  return address.port;
}

function objectOf(text: string): Json {
  try {
    const parsed: unknown = JSON.parse(text);
    return isJson(parsed) ? parsed : {};
  } catch {
    return {};
  }
}

export function isJson(value: unknown): value is Json {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

async function insertTokens(db: Db): Promise<Record<Role | 'live', string>> {
  const tokens = {
    admin: 'tbs_test_admin',
    operator: 'tbs_test_operator',
    reader: 'tbs_test_reader',
    ingest: 'tbs_test_ingest',
    live: 'tbs_live_admin',
  };
  await inTransaction(db, async (tx) => {
    for (const [role, secret] of Object.entries(tokens)) {
      // oxlint-disable-next-line no-await-in-loop
      await insertToken(tx, {
        environment: role === 'live' ? 'live' : 'test',
        name: role,
        role: role === 'live' ? 'admin' : roleOf(role),
        digest: digestOf(secret),
      });
    }
  });
  return tokens;
}

function roleOf(name: string): Role {
  if (name === 'admin' || name === 'operator' || name === 'reader' || name === 'ingest')
    return name;
  throw new Error(name);
}

/** Product, meter and feature that most tests need; answers their ids. */
export async function seedCatalogue(
  admin: TestAdmin,
): Promise<{ readonly productId: string; readonly meterId: string; readonly featureId: string }> {
  const product = await admin.call('POST', '/api/v1/products', {
    body: { name: 'Demo', lookup_id: 'demo', upstream_url: 'http://127.0.0.1:9999' },
  });
  const meter = await admin.call('POST', '/api/v1/meters', {
    body: {
      name: 'API Calls',
      lookup_id: 'api_calls',
      unit: { one: 'call', other: 'calls' },
      aggregation: 'COUNT',
    },
  });
  const feature = await admin.call('POST', '/api/v1/features', {
    body: { name: 'API Calls', lookup_id: 'api_calls', meter_id: 'api_calls' },
  });
  return {
    productId: String(product.body['id']),
    meterId: String(meter.body['id']),
    featureId: String(feature.body['id']),
  };
}
