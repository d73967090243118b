import type { IncomingMessage } from 'node:http';

import { singleValued } from './header-rules.ts';
import { requestBodyBytesMax, urlBytesMax } from './limits.ts';
import type { Refusal } from './refusal.ts';

/**
 * Refuses what two servers could read differently. Node's parser refuses most of it before; this is the second wall,
 * and it does not depend on the parser's settings. Null: well-formed.
 */
export function checkFraming(request: IncomingMessage): Refusal | null {
  const { headers, rawHeaders } = request;
  const target = request.url ?? '';
  if (target.length > urlBytesMax) return malformed('The request target is too long.', 414);
  if (target.charCodeAt(0) !== 47) return malformed('The request target must be a path.');
  if (headers.host === undefined) return malformed('The Host header is missing.');
  const encoding = headers['transfer-encoding'];
  const length = headers['content-length'];
  if (encoding !== undefined && length !== undefined) {
    return malformed('Content-Length and Transfer-Encoding exclude each other.');
  }
  if (encoding !== undefined && encoding.toLowerCase() !== 'chunked') {
    return malformed('The only transfer coding is chunked.');
  }
  if (length !== undefined) {
    if (!/^\d{1,15}$/.test(length)) return malformed('Content-Length is not a number.');
    if (Number(length) > requestBodyBytesMax) return bodyTooLarge;
  }
  const twice = repeatedName(rawHeaders);
  if (twice !== null) return malformed(`The header ${twice} occurs twice.`);
  return null;
}

export const bodyTooLarge: Refusal = {
  kind: 'refused',
  code: 'body_too_large',
  detail: `A body may have ${requestBodyBytesMax} bytes.`,
};

function malformed(detail: string, status = 400): Refusal {
  return { kind: 'refused', code: 'invalid_request', status, detail, closes: true };
}

function repeatedName(rawHeaders: readonly string[]): string | null {
  let seen: Set<string> | null = null;
  for (let index = 0; index < rawHeaders.length; index += 2) {
    const name = (rawHeaders[index] ?? '').toLowerCase();
    if (!singleValued.has(name)) continue;
    seen ??= new Set();
    if (seen.has(name)) return name;
    seen.add(name);
  }
  return null;
}
