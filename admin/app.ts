/**
 * The admin service: the API from its table of routes, its OpenAPI document, and a few pages.
 * Every call of the API goes through `serve`, which is the order of its checks.
 */
import { createHash, randomUUID } from 'node:crypto';

import express, { type Express, type Request, type Response, type Router } from 'express';

import { claimKey, releaseKey } from '../store/idempotency.ts';
import { problemOf, sendAnswer, sendJsonText, sendProblem, setCommonHeaders } from './answer.ts';
import { authenticate, isJson, type Authenticated } from './authenticate.ts';
import { Call, type AdminDeps } from './call.ts';
import { readJson } from './json.ts';
import { openApiDocument } from './openapi.ts';
import { addPages } from './pages.ts';
import { ApiProblem } from './problems.ts';
import type { Route } from './route.ts';
import { openAnswer } from './sealed-answer.ts';
import { routes } from './routes.ts';

const BODY_BYTES_MAX = 256 * 1024;

/** The whole service as an Express app; `deps` are closed by whoever made them. */
export function createAdminApp(deps: AdminDeps): Express {
  const app = express();
  app.disable('x-powered-by');
  app.disable('etag');
  app.set('query parser', false);
  app.use((request, response, next) => {
    const requestId = `req_${randomUUID().replaceAll('-', '')}`;
    response.locals['requestId'] = requestId;
    setCommonHeaders(response, requestId);
    logWhenDone(deps, request, response);
    next();
  });
  app.use('/api/v1', apiRouter(deps));
  addPages(app, deps);
  app.use((_request, _response, next) => {
    next(
      new ApiProblem('not_found', 'There is nothing at this path. The API is described at /docs.'),
    );
  });
  app.use(
    (error: unknown, _request: Request, response: Response, next: (error: unknown) => void) => {
      if (response.headersSent) {
        next(error);
        return;
      }
      const requestId = requestIdOf(response);
      sendProblem(response, problemOf(error, { log: deps.log, requestId }), requestId);
    },
  );
  return app;
}

function apiRouter(deps: AdminDeps): Router {
  const router = express.Router();
  const document = JSON.stringify(openApiDocument(routes));
  router.get('/openapi.json', (_request, response) => {
    sendJsonText(response, 200, document);
  });
  const methodsByPath = new Map<string, string[]>();
  for (const route of routes) {
    const path = route.path.replaceAll(/\{(\w+)\}/g, ':$1');
    methodsByPath.set(path, [...(methodsByPath.get(path) ?? []), route.method.toUpperCase()]);
    router[route.method](path, (request, response) => serve(deps, route, request, response));
  }
  for (const [path, methods] of methodsByPath) {
    router.all(path, (_request, response, next) => {
      response.set('Allow', methods.join(', '));
      next(new ApiProblem('method_not_allowed', `This path takes ${methods.join(', ')}.`));
    });
  }
  return router;
}

async function serve(
  deps: AdminDeps,
  route: Route,
  request: Request,
  response: Response,
): Promise<void> {
  response.locals['operation'] = route.operationId;
  const requestId = requestIdOf(response);
  const caller = await authenticate(deps.db, {
    method: request.method,
    authorization: request.get('authorization'),
    cookie: request.get('cookie'),
    contentType: request.get('content-type'),
    origin: request.get('origin'),
    fetchSite: request.get('sec-fetch-site'),
    host: request.get('host'),
    adminUrl: deps.home.adminUrl,
  });
  response.locals['tokenId'] = caller.token.id;
  const paramsOnly = new Call({
    deps,
    token: caller.token,
    requestId,
    params: paramsOf(request),
    idempotency: null,
    secret: null,
  });
  if (!route.roles.includes(caller.token.role)) {
    await paramsOnly.audit(deps.db, { action: 'forbidden', objectId: route.operationId });
    throw new ApiProblem(
      'forbidden',
      `This needs a token of role ${route.roles.join(' or ')}; this one has ${caller.token.role}.`,
    );
  }
  const raw = await readBody(request, response);
  const input = { query: queryOf(request), body: bodyOf(route, request, raw) };
  const key = idempotencyKeyOf(route, request);
  if (key === null) {
    sendAnswer(response, await route.handle(paramsOnly, input));
    return;
  }
  await serveOnce({ deps, route, caller, call: paramsOnly, key, input, raw, request }, response);
}

type KeyedCall = {
  readonly deps: AdminDeps;
  readonly route: Route;
  readonly caller: Authenticated;
  readonly call: Call;
  readonly key: string;
  readonly input: { query: unknown; body: unknown };
  readonly raw: Buffer;
  readonly request: Request;
};

/** A POST with an Idempotency-Key: the first is done, a repeat gets its answer. */
async function serveOnce(keyed: KeyedCall, response: Response): Promise<void> {
  const { deps, route, caller, key, input } = keyed;
  const owner = { tokenId: caller.token.id, key };
  const claim = await claimKey(deps.db, { ...owner, requestDigest: requestDigestOf(keyed) });
  if (claim.kind === 'in_flight') {
    throw new ApiProblem(
      'idempotency_key_in_flight',
      'The first request with this Idempotency-Key is not finished. Ask again in a moment.',
    );
  }
  if (claim.kind === 'reused') {
    throw new ApiProblem(
      'idempotency_key_reused',
      'This Idempotency-Key came with another path or body before. Use a new one for a new request.',
    );
  }
  if (claim.kind === 'done') {
    response.set('Idempotency-Replayed', 'true');
    sendJsonText(response, claim.status, openAnswer(claim.answer, { secret: caller.secret, key }));
    return;
  }
  const call = new Call({
    deps,
    token: caller.token,
    requestId: requestIdOf(response),
    params: keyed.call.params,
    idempotency: { key, resumedObjectId: claim.resumedObjectId },
    secret: route.isSecret === true ? caller.secret : null,
  });
  try {
    const answer = await route.handle(call, input);
    // For a change of one transaction the answer was kept in it, and this changes nothing.
    await call.keep(deps.db, answer);
    sendAnswer(response, answer);
  } catch (error) {
    await releaseKey(deps.db, owner).catch(() => undefined);
    throw error;
  }
}

function requestDigestOf({ request, raw }: KeyedCall): Buffer {
  return createHash('sha256')
    .update(`${request.method} ${request.originalUrl}\n`)
    .update(raw)
    .digest();
}

const parseRaw = express.raw({ type: () => true, limit: BODY_BYTES_MAX, inflate: false });

async function readBody(request: Request, response: Response): Promise<Buffer> {
  await new Promise<void>((resolve, reject) => {
    parseRaw(request, response, (error?: unknown) => {
      if (error === undefined || error === null) resolve();
      else reject(error instanceof Error ? error : new Error('the body could not be read'));
    });
  });
  return Buffer.isBuffer(request.body) ? request.body : Buffer.alloc(0);
}

function bodyOf(route: Route, request: Request, raw: Buffer): unknown {
  if (raw.length === 0) {
    if (route.body === null) return undefined;
    if (route.bodyOptional === true) return {};
    throw new ApiProblem('invalid_request', 'This call needs a JSON body.', {
      errors: [{ field: 'body', message: 'is required' }],
    });
  }
  if (!isJson(request.get('content-type'))) {
    throw new ApiProblem('unsupported_media_type', 'Send Content-Type: application/json.');
  }
  const reading = readJson(textOf(raw));
  if (reading.kind === 'refused') {
    const { field, message } = reading;
    throw new ApiProblem('invalid_json', `${field} ${message}.`, { errors: [{ field, message }] });
  }
  if (route.body === null) {
    const isEmpty =
      typeof reading.value === 'object' &&
      reading.value !== null &&
      Object.keys(reading.value).length === 0;
    if (isEmpty) return undefined;
    throw new ApiProblem('invalid_request', 'This call takes no body.', {
      errors: [{ field: 'body', message: 'must be empty' }],
    });
  }
  return reading.value;
}

function textOf(raw: Buffer): string {
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(raw);
  } catch (error) {
    throw new ApiProblem('invalid_json', 'The body must be UTF-8.', {
      errors: [{ field: 'body', message: 'must be UTF-8' }],
      ...(error instanceof TypeError ? {} : { cause: error }),
    });
  }
}

/** Query parameters, each once; their names and values are text. */
function queryOf(request: Request): Readonly<Record<string, string>> {
  const at = request.originalUrl.indexOf('?');
  const query = new Map<string, string>();
  for (const [name, value] of new URLSearchParams(at < 0 ? '' : request.originalUrl.slice(at))) {
    if (query.has(name)) {
      throw new ApiProblem('invalid_request', `${name.slice(0, 80)} is given twice.`, {
        errors: [{ field: name.slice(0, 80), message: 'is given twice' }],
      });
    }
    if (name === '__proto__') {
      throw new ApiProblem('invalid_request', '__proto__ is not a parameter here.', {
        errors: [{ field: '__proto__', message: 'is not a parameter here' }],
      });
    }
    query.set(name, value);
  }
  return Object.fromEntries(query);
}

function paramsOf(request: Request): Readonly<Record<string, string>> {
  const params: Record<string, string> = {};
  for (const [name, value] of Object.entries(request.params)) {
    params[name] = typeof value === 'string' ? value : '';
  }
  for (const value of Object.values(params)) {
    if (!/^[A-Za-z0-9][A-Za-z0-9_.@-]{0,126}$/.test(value)) {
      throw new ApiProblem('not_found', 'The path names something that cannot exist.');
    }
  }
  return params;
}

function idempotencyKeyOf(route: Route, request: Request): string | null {
  const key = request.get('idempotency-key');
  if (key === undefined || route.method !== 'post') return null;
  if (!/^[\x21-\x7e]{1,255}$/.test(key)) {
    throw new ApiProblem(
      'invalid_request',
      'Idempotency-Key must be 1 to 255 visible characters.',
      {
        errors: [
          { field: 'Idempotency-Key', message: 'must be 1 to 255 visible ASCII characters' },
        ],
      },
    );
  }
  return key;
}

function requestIdOf(response: Response): string {
  return String(response.locals['requestId']);
}

function logWhenDone(deps: AdminDeps, request: Request, response: Response): void {
  const startedMs = performance.now();
  // Only what is listed here is logged: no path, no query, no header, no body.
  response.once('close', () => {
    deps.log.info(
      {
        request_id: response.locals['requestId'],
        method: request.method,
        operation: response.locals['operation'] ?? 'page',
        status: response.statusCode,
        token_id: response.locals['tokenId'],
        ms: Math.round(performance.now() - startedMs),
      },
      'call',
    );
  });
}
