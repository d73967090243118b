import { hash } from 'node:crypto';
import type { IncomingMessage } from 'node:http';

import { parseApiKey } from '../billing/api-key.ts';
import type { Caller } from './exchange.ts';
import type { FailedGuesses } from './failed-guesses.ts';
import { secondsUntil } from './limit-headers.ts';
import { keysReadMax } from './limits.ts';
import type { Refusal } from './refusal.ts';

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
  const caller = callerOf(text);
  if (caller === null) return invalid;
  if (guesses.isBlocked(address, caller.digest16)) {
    const resetMs = guesses.windowEndsMs();
    return {
      kind: 'refused',
      code: 'too_many_attempts',
      detail: 'Too many requests with an invalid key came from this address.',
      resetMs,
      retryAfterSeconds: Math.max(1, secondsUntil(resetMs, Date.now())),
    };
  }
  return { kind: 'ok', caller };
}

/**
 * Keys of late, by their text: reading one costs a hash and a checksum, and a busy key comes thousands of times a second.
 * It is a memory of a pure function, so it knows nothing of whether a key is valid. Two generations bound it.
 */
let young = new Map<string, Caller>();
let old: ReadonlyMap<string, Caller> = new Map();

function callerOf(text: string): Caller | null {
  const known = young.get(text);
  if (known !== undefined) return known;
  const caller = old.get(text) ?? readKey(text);
  if (caller === null) return null;
  if (young.size >= keysReadMax) {
    old = young;
    young = new Map();
  }
  young.set(text, caller);
  return caller;
}

function readKey(text: string): Caller | null {
  const parsed = parseApiKey(text);
  if (parsed.kind === 'refused') return null;
  const { environment, subscriberId } = parsed;
  return { environment, subscriberId, digest16: digest16Of(text) };
}

/** base64url of the first 16 bytes of SHA-256 over the whole text. */
function digest16Of(text: string): string {
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
