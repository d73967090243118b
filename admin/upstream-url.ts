/**
 * Which upstreams a product may name. A gateway that forwards to any address is a door into the network it stands in,
 * so addresses of this machine and of private networks are refused unless the installation says otherwise.
 */
import { BlockList, isIP } from 'node:net';

const inside = new BlockList();
for (const [network, bits] of [
  ['0.0.0.0', 8],
  ['10.0.0.0', 8],
  ['100.64.0.0', 10],
  ['127.0.0.0', 8],
  ['169.254.0.0', 16],
  ['172.16.0.0', 12],
  ['192.0.0.0', 24],
  ['192.168.0.0', 16],
  ['198.18.0.0', 15],
  ['224.0.0.0', 4],
  ['240.0.0.0', 4],
] as const) {
  inside.addSubnet(network, bits, 'ipv4');
}
for (const [network, bits] of [
  ['::', 127],
  ['64:ff9b::', 96],
  ['fc00::', 7],
  ['fe80::', 10],
  ['ff00::', 8],
] as const) {
  inside.addSubnet(network, bits, 'ipv6');
}

/** What is wrong with an upstream URL, in words; null when nothing is. */
export function upstreamFault(
  given: string,
  options: { readonly allowPrivate: boolean },
): string | null {
  const url = URL.parse(given);
  if (url === null || !['http:', 'https:'].includes(url.protocol)) {
    return 'must be an http or https URL';
  }
  if (url.username !== '' || url.password !== '') return 'must not carry a user name or password';
  if (url.search !== '' || url.hash !== '') return 'must not have a query or fragment';
  if (options.allowPrivate) return null;
  if (url.protocol !== 'https:') return 'must be https';
  if (url.port !== '') return 'must use port 443';
  return isInside(url.hostname) ? 'must not be an address of a private network' : null;
}

/** The URL parser has turned 0x7f.1, 2130706433 and the like into dotted form already. */
function isInside(hostname: string): boolean {
  const host = hostname.replace(/^\[|\]$/g, '').replace(/\.$/, '');
  const family = isIP(host);
  if (family === 4) return inside.check(host, 'ipv4');
  if (family === 6) return host.startsWith('::ffff:') || inside.check(host, 'ipv6');
  return (
    !host.includes('.') ||
    /(^|\.)(localhost|local|internal|intranet|lan|home|corp|test|invalid|onion)$/.test(host)
  );
}
