import { hash } from 'node:crypto';
import type { IncomingMessage } from 'node:http';

import { parseApiKey } from '../billing/api-key.ts';
import type { Caller } from './exchange.ts';
import type { FailedGuesses } from './failed-guesses.ts';
import type { Refusal } from './refusal.ts';
import { secondsUntil } from './limit-headers.ts';

/**
 * Who asks, by the text of the key alone: no store is read here. The key names its subscriber and environment, and its
 * checksum refuses garbage; the shard compares the digest in the same script that decides everything else.
 */
export function authenticate(
  request: IncomingMessage,
  address: string,
  guesses: FailedGuesses,
): { readonly kind: 'ok'; readonly caller: Caller } | Refusal {
  const text = keyOf(request);
  if (text === null) return missing;
  const parsed = parseApiKey(text);
  if (parsed.kind === 'refused') return invalid;
  const digest16 = digest16Of(text);
  if (guesses.isBlocked(address, digest16)) {
    const resetMs = guesses.windowEndsMs();
    return {
      kind: 'refused',
      code: 'too_many_attempts',
      detail: 'Too many requests with an invalid key came from this address.',
      resetMs,
      retryAfterSeconds: Math.max(1, secondsUntil(resetMs, Date.now())),
    };
  }
  return {
    kind: 'ok',
    caller: { environment: parsed.environment, subscriberId: parsed.subscriberId, digest16 },
  };
}

/** base64url of the first 16 bytes of SHA-256 over the whole text. */
export function digest16Of(text: string): string {
  return hash('sha256', text, 'buffer').subarray(0, 16).toString('base64url');
}

const missing: Refusal = {
  kind: 'refused',
  code: 'missing_credential',
  detail: 'Send the key as "Authorization: Bearer <key>" or "X-API-Key: <key>".',
};
const invalid: Refusal = { kind: 'refused', code: 'invalid_credential' };

function keyOf(request: IncomingMessage): string | null {
  const { authorization } = request.headers;
  if (authorization !== undefined && /^bearer /i.test(authorization)) {
    return authorization.slice(7).trim();
  }
  const key = request.headers['x-api-key'];
  if (typeof key === 'string') return key.trim();
  // Any other scheme: a credential was sent, but none that could be ours.
  return authorization === undefined ? null : '';
}
