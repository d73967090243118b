import { Pool } from 'undici';

import {
  headerBytesMax,
  upstreamConnectMs,
  upstreamConnectionsMax,
  upstreamHeadersMs,
  upstreamIdleMs,
} from './limits.ts';

/** Connections to the upstreams: one pool for each origin that a product names. */
export type Upstreams = {
  poolOf(origin: string): Pool;
  close(): Promise<void>;
};

export type UpstreamTimes = { readonly headersMs?: number; readonly idleMs?: number };

/** Opens nothing by itself. Origins come from the catalogue only, so their number is bounded by it. */
export function createUpstreams(times: UpstreamTimes = {}): Upstreams {
  const pools = new Map<string, Pool>();
  return {
    poolOf: (origin) => {
      const known = pools.get(origin);
      if (known !== undefined) return known;
      const pool = new Pool(origin, {
        connections: upstreamConnectionsMax,
        // One request a connection at a time: an answer can never be taken for another request's.
        pipelining: 1,
        allowH2: false,
        headersTimeout: times.headersMs ?? upstreamHeadersMs,
        bodyTimeout: times.idleMs ?? upstreamIdleMs,
        connect: { timeout: upstreamConnectMs },
        maxHeaderSize: headerBytesMax * 2,
        strictContentLength: true,
      });
      pools.set(origin, pool);
      return pool;
    },
    close: async () => {
      await Promise.all([...pools.values()].map((pool) => pool.destroy()));
    },
  };
}
