/** How answers and problems leave the admin service; the only file that writes to a response. */
import type { Response } from 'express';
import { z } from 'zod';

import type { FieldError } from '../billing/problem.ts';
import { allowedOf } from './fields.ts';
import type { AdminLog } from './call.ts';
import { ApiProblem, problemDocument } from './problems.ts';
import type { Answer, FileAnswer } from './route.ts';

const RETRY_AFTER_S = '5';

/** Everything of ours is private and may be framed by nobody; pages load nothing from anywhere and run no script. */
export function setCommonHeaders(response: Response, requestId: string): void {
  response.set({
    'Cache-Control': 'no-store',
    'X-Content-Type-Options': 'nosniff',
    'Referrer-Policy': 'no-referrer',
    'X-Request-Id': requestId,
  });
}

export function sendAnswer(response: Response, answer: Answer): void {
  if ('html' in answer) {
    sendPage(response, answer.status, answer.html);
    return;
  }
  if ('file' in answer) {
    sendFile(response, answer);
    return;
  }
  if (answer.headers !== undefined) response.set(answer.headers);
  sendJsonText(response, answer.status, JSON.stringify(answer.body));
}

export function sendJsonText(response: Response, status: number, body: string): void {
  response.status(status).type('application/json').send(body);
}

export function sendPage(response: Response, status: number, html: string): void {
  response
    .status(status)
    .set(
      'Content-Security-Policy',
      "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'",
    )
    .type('text/html')
    .send(html);
}

/** Shown in the browser, and saved under its name. */
export function sendFile(response: Response, answer: FileAnswer): void {
  const fileName = answer.fileName.replaceAll(/[^\w.-]/g, '_');
  response
    .status(answer.status)
    .set({
      'Content-Disposition': `inline; filename="${fileName}"`,
      'Content-Security-Policy': "default-src 'none'; frame-ancestors 'none'; sandbox",
    })
    .type(answer.media)
    .send(answer.file);
}

export function sendProblem(response: Response, problem: ApiProblem, requestId: string): void {
  const document = problemDocument(problem, requestId);
  const { status } = document;
  if (document.retryable) response.set('Retry-After', RETRY_AFTER_S);
  if (status === 401) response.set('WWW-Authenticate', 'Bearer realm="tollbook"');
  response.status(status).type('application/problem+json').send(JSON.stringify(document));
}

/** Any failure as a problem. What is not a refusal of ours is logged, and answered without its inside. */
export function problemOf(
  error: unknown,
  context: { log: AdminLog; requestId: string },
): ApiProblem {
  if (error instanceof ApiProblem) {
    if (error.cause !== undefined) logFailure(error.cause, context);
    return error;
  }
  if (error instanceof z.ZodError) return invalidRequest(error);
  const problem = bodyProblem(error) ?? databaseProblem(error);
  if (problem !== null) {
    if (problem.code === 'database_unavailable') logFailure(error, context);
    return problem;
  }
  logFailure(error, context);
  return new ApiProblem(
    'internal_error',
    `This is our fault, not yours. Tell us the request id ${context.requestId}.`,
  );
}

function invalidRequest(error: z.ZodError): ApiProblem {
  const errors = error.issues.slice(0, 20).flatMap(faultsOf);
  const [first] = errors;
  const detail = first === undefined ? 'It does not fit.' : `${first.field} ${first.message}.`;
  return new ApiProblem('invalid_request', detail, { errors });
}

function faultsOf(issue: z.core.$ZodIssue): readonly FieldError[] {
  const allowed = allowedOf(issue.message);
  const more = allowed === null ? {} : { allowed };
  if (issue.code === 'unrecognized_keys' && allowed !== null) {
    return issue.keys.slice(0, 20).map((key) => ({
      field: fieldName([...issue.path, key]),
      message: 'is not a property here',
      ...more,
    }));
  }
  return [{ field: fieldName(issue.path), message: issue.message, ...more }];
}

function fieldName(path: readonly PropertyKey[]): string {
  if (path.length === 0) return 'body';
  return path
    .map((part, index) => {
      if (typeof part === 'number') return `[${part}]`;
      return index === 0 ? String(part).slice(0, 80) : `.${String(part).slice(0, 80)}`;
    })
    .join('');
}

/** What the body reader of Express refuses. */
function bodyProblem(error: unknown): ApiProblem | null {
  const type = error instanceof Error && 'type' in error ? String(error.type) : '';
  if (type === 'entity.too.large') {
    return new ApiProblem('payload_too_large', 'A body has at most 256 KiB.');
  }
  if (type === 'encoding.unsupported') {
    return new ApiProblem('unsupported_media_type', 'Send the body without Content-Encoding.');
  }
  if (type.startsWith('request.') || type.startsWith('entity.')) {
    return new ApiProblem('invalid_json', 'The body did not arrive whole.');
  }
  if (error instanceof URIError) return new ApiProblem('not_found', 'The path is not well formed.');
  return null;
}

const unavailableCodes = new Set([
  'ECONNREFUSED',
  'ECONNRESET',
  'ENOTFOUND',
  'ETIMEDOUT',
  'EPIPE',
  '57P01',
  '57P02',
  '57P03',
  '53300',
]);

function databaseProblem(error: unknown): ApiProblem | null {
  if (!(error instanceof Error)) return null;
  const code = 'code' in error ? String(error.code) : '';
  if (code === '23505') return uniqueProblem(error);
  const isAway =
    unavailableCodes.has(code) ||
    error.name === 'KnexTimeoutError' ||
    /Connection terminated/.test(error.message);
  return isAway
    ? new ApiProblem(
        'database_unavailable',
        'Postgres does not answer. Try again in a few seconds.',
      )
    : null;
}

function uniqueProblem(error: Error): ApiProblem | null {
  const constraint = 'constraint' in error ? String(error.constraint) : '';
  if (!constraint.endsWith('_lookup_id_key')) return null;
  return new ApiProblem('already_exists', 'lookup_id is taken by another.', {
    errors: [{ field: 'lookup_id', message: 'is taken by another' }],
  });
}

function logFailure(error: unknown, context: { log: AdminLog; requestId: string }): void {
  const failure = error instanceof Error ? error : new Error(String(error));
  context.log.error(
    {
      request_id: context.requestId,
      error: failure.name,
      message: failure.message.slice(0, 500),
      stack: failure.stack?.split('\n').slice(1, 6).join('\n'),
    },
    'a call failed',
  );
}
