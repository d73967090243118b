import type { IncomingMessage } from 'node:http';

import type { Arrival, Hold } from './exchange.ts';
import {
  clientPrefixes,
  connectionNamed,
  hasPrefix,
  hopByHop,
  neverFromClient,
} from './header-rules.ts';

/**
 * The header lines for the upstream, as a flat list: the client's without hop-by-hop lines, lines that `Connection`
 * names, credentials and forged names, then ours. Framing and host are the forwarder's.
 */
export function upstreamHeaders(
  arrival: Pick<Arrival, 'opId' | 'requestId' | 'address'> & {
    readonly request: Pick<IncomingMessage, 'rawHeaders' | 'headers'>;
  },
  hold: Pick<Hold, 'subscriberId' | 'subscriptionId'>,
  options: { readonly isIdentityAsked: boolean },
): string[] {
  const { request } = arrival;
  const raw = request.rawHeaders;
  const named = connectionNamed(request.headers.connection);
  const lines: string[] = [];
  for (let index = 0; index < raw.length; index += 2) {
    const name = (raw[index] ?? '').toLowerCase();
    // CGI, WSGI and PHP read `_` as `-`, so that both spellings are one name to them.
    const meant = name.includes('_') ? name.replaceAll('_', '-') : name;
    if (hopByHop.has(meant) || neverFromClient.has(meant) || hasPrefix(meant, clientPrefixes)) {
      continue;
    }
    if (named?.has(name) === true && name !== 'content-length') continue;
    if (name === 'accept-encoding' && options.isIdentityAsked) continue;
    lines.push(name, raw[index + 1] ?? '');
  }
  if (options.isIdentityAsked) lines.push('accept-encoding', 'identity');
  lines.push(
    'x-request-id',
    arrival.requestId,
    'x-decision-id',
    arrival.opId,
    'x-subscriber-id',
    hold.subscriberId,
    'x-subscription-id',
    hold.subscriptionId,
    'x-forwarded-for',
    arrival.address,
    'x-forwarded-proto',
    'http',
  );
  const host = request.headers.host;
  if (host !== undefined) lines.push('x-forwarded-host', host);
  return lines;
}
