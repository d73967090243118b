import type { IncomingHttpHeaders } from 'node:http';

import {
  connectionNamed,
  hasPrefix,
  hopByHop,
  neverFromUpstream,
  upstreamPrefixes,
} from './header-rules.ts';

/** The upstream's header lines for the client, as a flat list, without hop-by-hop lines and names that are ours. */
export function clientHeaders(
  headers: IncomingHttpHeaders,
  options: { readonly isLengthKept: boolean },
): string[] {
  const named = connectionNamed(headers.connection);
  const lines: string[] = [];
  for (const name in headers) {
    const value = headers[name];
    if (value === undefined || name === '__proto__') continue;
    if (hopByHop.has(name) || neverFromUpstream.has(name)) continue;
    if (hasPrefix(name, upstreamPrefixes) || named?.has(name) === true) continue;
    if (name === 'content-length' && !options.isLengthKept) continue;
    if (typeof value === 'string') lines.push(name, value);
    else for (const one of value) lines.push(name, one);
  }
  return lines;
}
