import { createHash } from 'node:crypto';

import type { Db } from '../store/db.ts';
import { findTokenByDigest, type ServiceToken } from '../store/tokens.ts';
import { ApiProblem } from './problems.ts';

/** The parts of a request that say who calls. */
export type Credentials = {
  readonly method: string;
  readonly authorization: string | undefined;
  readonly cookie: string | undefined;
  readonly contentType: string | undefined;
  readonly origin: string | undefined;
  readonly fetchSite: string | undefined;
  readonly host: string | undefined;
  /** Our own address as configured. */
  readonly adminUrl: string;
};

export type Authenticated = { readonly token: ServiceToken; readonly secret: string };

const SECRET_LENGTH_MAX = 512;

/** SHA-256 of a token's text, which is all that is stored of it. */
export function digestOf(secret: string): Buffer {
  return createHash('sha256').update(secret).digest();
}

/**
 * Who calls: `Authorization: Bearer …`, else the cookie `access_token`. A browser sends a cookie by itself, so a call
 * that changes something by cookie must be one that no foreign page can make: JSON, and of our origin when one is named.
 */
export async function authenticate(db: Db, given: Credentials): Promise<Authenticated> {
  const bearer = bearerOf(given.authorization);
  const secret = bearer ?? cookieOf(given.cookie, 'access_token');
  if (secret === null || secret === '') {
    throw new ApiProblem(
      'missing_credential',
      'Send "Authorization: Bearer <token>" or the cookie access_token.',
    );
  }
  if (secret.length > SECRET_LENGTH_MAX) {
    throw new ApiProblem('invalid_credential', 'This token is not known, or was revoked.');
  }
  if (bearer === null && given.method !== 'GET' && given.method !== 'HEAD') refuseForeign(given);
  const token = await findTokenByDigest(db, digestOf(secret));
  if (token === null) {
    throw new ApiProblem('invalid_credential', 'This token is not known, or was revoked.');
  }
  return { token, secret };
}

function bearerOf(header: string | undefined): string | null {
  if (header === undefined) return null;
  const match = /^Bearer +([\x21-\x7e]+) *$/i.exec(header);
  if (match === null) {
    throw new ApiProblem(
      'invalid_credential',
      'The Authorization header must be "Bearer <token>".',
    );
  }
  return match[1] ?? null;
}

/** One cookie's value, or null. */
export function cookieOf(header: string | undefined, name: string): string | null {
  for (const part of (header ?? '').split(';')) {
    const [key = '', ...rest] = part.split('=');
    if (key.trim() !== name) continue;
    const value = rest.join('=').trim();
    try {
      return decodeURIComponent(value);
    } catch {
      return value;
    }
  }
  return null;
}

function refuseForeign(given: Credentials): void {
  if (!isSameOrigin(given)) {
    throw new ApiProblem(
      'cross_origin',
      'A call with the cookie must come from our own origin. Programs send Authorization: Bearer.',
    );
  }
  if (!isJson(given.contentType)) {
    throw new ApiProblem(
      'unsupported_media_type',
      'A call with the cookie must say Content-Type: application/json.',
    );
  }
}

/** True when the browser names no origin, or ours: that of the Host it asked, or the configured one. */
export function isSameOrigin(
  given: Pick<Credentials, 'origin' | 'fetchSite' | 'host' | 'adminUrl'>,
): boolean {
  if (given.fetchSite !== undefined && !['same-origin', 'none'].includes(given.fetchSite)) {
    return false;
  }
  if (given.origin === undefined) return true;
  const origin = URL.parse(given.origin);
  if (origin === null) return false;
  return origin.host === given.host || origin.origin === URL.parse(given.adminUrl)?.origin;
}

export function isJson(contentType: string | undefined): boolean {
  return /^application\/json *(;.*)?$/i.test(contentType ?? '');
}
