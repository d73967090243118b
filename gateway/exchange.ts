/**
 * What is known of one request after each step. A step takes what the earlier ones found and returns either its own
 * finding or a refusal; nothing is thrown and nothing is filled in later.
 */
import type { Request, Response } from 'express';

import type { CatalogueProduct, MeterRule } from '../billing/catalogue.ts';
import type { MeterQuantity, WindowState } from '../shards/port.ts';

/** The two ends of the connection to the client, and the name of what happens between them. */
export type Arrival = {
  readonly request: Request;
  readonly response: Response;
  /** op_id; `X-Decision-Id` to everybody else. */
  readonly opId: string;
  /** The client's, when it is well-formed, else the op_id. */
  readonly requestId: string;
  readonly address: string;
  /** Monotonic. */
  readonly startedMs: number;
};

/** A well-formed key; whether its secret is right only the shard can say. */
export type Caller = {
  readonly environment: 'test' | 'live';
  readonly subscriberId: string;
  readonly digest16: string;
};

export type Target = {
  readonly product: CatalogueProduct;
  readonly routeId: string;
  readonly feature: string;
  readonly meters: readonly MeterRule[];
  readonly estimates: readonly MeterQuantity[];
  readonly origin: string;
  /** Path and query as the upstream sees them. */
  readonly path: string;
};

/** A hold on the shard, as authorize answered it. */
export type Hold = {
  readonly subscriberId: string;
  readonly productId: string;
  readonly opId: string;
  readonly subscriptionId: string;
  readonly segmentId: string;
  readonly keyId: string;
  readonly atMs: number;
  readonly generation: number;
  readonly heldMicro: number;
  readonly overageMicro: number;
  readonly availableMicro: number | null;
  readonly windows: readonly WindowState[];
  readonly estimates: readonly MeterQuantity[];
};

/** How a request ended, in the words of the shard. */
export type Outcome =
  | {
      readonly kind: 'settle';
      readonly status: number;
      readonly actuals: readonly MeterQuantity[];
      readonly isEstimated: boolean;
    }
  | { readonly kind: 'release'; readonly status: number };
