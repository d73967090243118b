import { problemOf } from '../billing/problem.ts';
import type { Problem } from '../billing/problem.ts';
import type { Arrival } from './exchange.ts';
import { secondsUntil } from './limit-headers.ts';
import type { Refusal } from './refusal.ts';

/** A body that is shorter than this is read and thrown away, so that the connection serves the next request. */
const bodyBytesToRead = 64 * 1024;
/** What a client is told to wait when nothing better is known. */
const retrySeconds = 1;
/** Further away than this a wait is no advice: reset_at says it. */
const retrySecondsMax = 86_400;

/** Answers a request that is not forwarded: an RFC 9457 problem document that betrays nothing of the inside. */
export function refuse(arrival: Arrival, refusal: Refusal): void {
  const { response, request } = arrival;
  if (response.destroyed) return;
  if (response.headersSent) {
    response.destroy();
    return;
  }
  const problem = documentOf(refusal, arrival.opId);
  const body = Buffer.from(JSON.stringify(problem));
  const lines = [
    'Content-Type',
    'application/problem+json',
    'Content-Length',
    String(body.length),
    'Cache-Control',
    'no-store',
    'X-Request-Id',
    arrival.requestId,
    'X-Decision-Id',
    arrival.opId,
  ];
  if (problem.status === 401) lines.push('WWW-Authenticate', 'Bearer realm="api"');
  const seconds = retryAfter(refusal, problem);
  if (seconds !== null) lines.push('Retry-After', String(seconds));
  lines.push(...limitLines(refusal));
  if (refusal.closes === true || !isShort(request)) lines.push('Connection', 'close');
  response.writeHead(problem.status, lines);
  response.end(request.method === 'HEAD' ? undefined : body);
}

/** The document alone, for answers that are written to a bare socket. */
export function documentOf(refusal: Refusal, opId: string | null): Problem {
  const { level, name, limit, used, held, originStatus } = refusal;
  const problem = problemOf(refusal.code, {
    ...(refusal.detail === undefined ? {} : { detail: refusal.detail }),
    ...(refusal.resetMs === undefined ? {} : { resetMs: refusal.resetMs }),
    ...(refusal.retryable === undefined ? {} : { retryable: refusal.retryable }),
    extra: {
      ...(level === undefined || level === '' ? {} : { level }),
      ...(name === undefined || name === '' ? {} : { name }),
      ...(limit === undefined || limit === 0 ? {} : { limit, used, held }),
      ...(originStatus === undefined ? {} : { origin_status: originStatus }),
      ...(opId === null ? {} : { decision_id: opId }),
    },
  });
  return refusal.status === undefined ? problem : { ...problem, status: refusal.status };
}

/** Seconds for `Retry-After`, or null when waiting does not help. */
function retryAfter(refusal: Refusal, problem: Problem): number | null {
  if (refusal.retryAfterSeconds !== undefined) return refusal.retryAfterSeconds;
  if (!problem.retryable) return null;
  if (refusal.resetMs !== undefined && refusal.resetMs > 0) {
    const seconds = Math.max(1, secondsUntil(refusal.resetMs, Date.now()));
    return seconds > retrySecondsMax ? null : seconds;
  }
  return retrySeconds;
}

function limitLines(refusal: Refusal): string[] {
  const { name, limit, used, held, resetMs } = refusal;
  const isWindow = ['limit_exceeded', 'rate_limited', 'concurrency_exceeded'].includes(
    refusal.code,
  );
  if (!isWindow || name === undefined || name === '' || limit === undefined) return [];
  const item = `"${name.replace(/[^\x20-\x7e]|["\\]/g, '_')}"`;
  const left = Math.max(0, limit - (used ?? limit) - (held ?? 0));
  const reset =
    resetMs === undefined || resetMs <= 0 ? '' : `;t=${secondsUntil(resetMs, Date.now())}`;
  return ['RateLimit-Policy', `${item};q=${limit}`, 'RateLimit', `${item};r=${left}${reset}`];
}

function isShort(request: Arrival['request']): boolean {
  if (request.complete) return true;
  if (request.headers['transfer-encoding'] !== undefined) return false;
  return Number(request.headers['content-length'] ?? 0) <= bodyBytesToRead;
}
