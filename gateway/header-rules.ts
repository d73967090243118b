/** Which header lines never pass the gateway, and why. Names in lower case. */

/** RFC 9110 7.6.1, and what only this hop may say. */
export const hopByHop: ReadonlySet<string> = new Set([
  'connection',
  'keep-alive',
  'proxy-connection',
  'proxy-authenticate',
  'proxy-authorization',
  'te',
  'trailer',
  'transfer-encoding',
  'upgrade',
  'http2-settings',
]);

/** Credentials of ours, names that the gateway itself sets, and names that change what a path or method means. */
export const neverFromClient: ReadonlySet<string> = new Set([
  'authorization',
  'x-api-key',
  'host',
  'expect',
  'forwarded',
  'via',
  'x-real-ip',
  'x-client-ip',
  'x-cluster-client-ip',
  'true-client-ip',
  'cf-connecting-ip',
  'x-original-url',
  'x-rewrite-url',
  'x-original-host',
  'x-http-method',
  'x-http-method-override',
  'x-method-override',
  'x-request-id',
  'x-decision-id',
]);

export const clientPrefixes: readonly string[] = [
  'x-credits-',
  'x-subscriber-',
  'x-subscription-',
  'x-internal-',
  'x-forwarded-',
  'x-tollbook-',
];

/** What the upstream may not say in our name. */
export const neverFromUpstream: ReadonlySet<string> = new Set([
  'ratelimit',
  'ratelimit-policy',
  'x-decision-id',
  'x-request-id',
]);
export const upstreamPrefixes: readonly string[] = ['x-credits-', 'x-internal-', 'x-subscriber-'];

/** A second line of one of these is refused: two servers could each believe another one. */
export const singleValued: ReadonlySet<string> = new Set([
  'host',
  'content-length',
  'content-type',
  'transfer-encoding',
  'authorization',
  'x-api-key',
  'expect',
  'x-request-id',
  'traceparent',
]);

/** Names in the `Connection` header: they are meant for this hop and go no further. */
export function connectionNamed(value: string | undefined): ReadonlySet<string> | null {
  if (value === undefined || value === 'keep-alive' || value === 'close') return null;
  const names = value
    .toLowerCase()
    .split(',')
    .map((name) => name.trim())
    .filter((name) => name !== '' && name !== 'keep-alive' && name !== 'close');
  return names.length === 0 ? null : new Set(names);
}

/** Whether a name begins with one of the prefixes. */
export function hasPrefix(name: string, prefixes: readonly string[]): boolean {
  // Nearly every name fails on its first two letters.
  if (name.charCodeAt(0) !== 120 || name.charCodeAt(1) !== 45) return false;
  return prefixes.some((prefix) => name.startsWith(prefix));
}
