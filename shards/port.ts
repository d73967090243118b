import type { SubscriberConstraints } from '../billing/constraints.ts';

/**
 * What the other rooms may ask of the shards. Every call is one script on the one shard that owns the subscriber's slot.
 * A call rejects with `ShardUnavailable` when the outcome is unknown or the shard is fenced (no connection, timeout,
 * NOSCRIPT, READONLY, stale epoch that a fresh map does not mend); it is never re-sent by the client itself.
 */
export class ShardUnavailable extends Error {
  readonly shard: string;
  /** `not_sent`: certainly without effect. `unknown`: the script may have run. */
  readonly outcome: 'not_sent' | 'unknown';
  constructor(
    shard: string,
    outcome: 'not_sent' | 'unknown',
    message: string,
    options?: ErrorOptions,
  ) {
    super(message, options);
    this.name = 'ShardUnavailable';
    this.shard = shard;
    this.outcome = outcome;
  }
}

export type MeterQuantity = { readonly meter: string; readonly quantity: number };

export type AuthorizeRequest = {
  readonly subscriberId: string;
  readonly opId: string;
  readonly digest16: string;
  readonly productId: string;
  /** The feature that the route asks for, or '' for none. */
  readonly feature: string;
  readonly ttlMs: number;
  readonly estimates: readonly MeterQuantity[];
};

export type WindowState = {
  readonly name: string;
  readonly limit: number;
  readonly left: number;
  readonly resetMs: number;
};

export type AuthorizeResult =
  | {
      readonly kind: 'ok';
      readonly version: number;
      readonly subscriptionId: string;
      readonly segmentId: string;
      readonly keyId: string;
      readonly atMs: number;
      readonly generation: number;
      readonly heldMicro: number;
      readonly overageMicro: number;
      /** Spendable micro-credits after this hold; null when the plan sells no credits. */
      readonly availableMicro: number | null;
      readonly windows: readonly WindowState[];
    }
  | { readonly kind: 'refused'; readonly refusal: ShardRefusal };

export type RefusalCode =
  | 'bad_argument'
  | 'invalid_credential'
  | 'key_expired'
  | 'duplicate_request'
  | 'constraints_expired'
  | 'subscription_inactive'
  | 'payment_overdue'
  | 'feature_not_enabled'
  | 'rate_limited'
  | 'concurrency_exceeded'
  | 'limit_exceeded'
  | 'spend_cap_reached'
  | 'credit_exhausted'
  | 'credits_in_flight'
  | 'request_exceeds_balance';

/** For credits: `limit` is the balance (available + held), `used` what the request needs, both in micro-credits. */
export type ShardRefusal = {
  readonly code: RefusalCode;
  readonly level: string;
  readonly name: string;
  readonly limit: number;
  readonly used: number;
  readonly held: number;
  /** Epoch ms at which the refusal may end by itself; 0 = never by time. */
  readonly resetMs: number;
  readonly retryable: boolean;
};

export type SettleRequest = {
  readonly subscriberId: string;
  /** Of the authorize; for a slice `<op>.<k>` with k from 1 in base 36 (`sliceId`). */
  readonly opId: string;
  readonly generation: number;
  readonly atMs: number;
  readonly segmentId: string;
  readonly subscriptionId: string;
  readonly productId: string;
  readonly keyId: string;
  readonly verb: 'settle' | 'release' | 'slice' | 'extend';
  readonly status: number;
  readonly actuals: readonly MeterQuantity[];
  readonly flags: readonly string[];
};

export type SettleResult =
  | {
      readonly kind: 'ok';
      readonly chargedMicro: number;
      readonly overageMicro: number;
      readonly writtenOffMicro: number;
      readonly availableMicro: number | null;
      readonly streamId: string;
    }
  | { readonly kind: 'already'; readonly verb: string; readonly chargedMicro: number }
  | { readonly kind: 'late'; readonly chargedMicro: number; readonly streamId: string }
  /** No record of the hold: the fact went to the stream without a change of balance. */
  | { readonly kind: 'recorded'; readonly streamId: string }
  /** A slice was settled (its fact is in the stream) but could not be held anew, or there is no hold to extend. */
  | { readonly kind: 'short' };

/** Usage that did not pass the gateway: counted like settled use, never refused; past a hard limit it is marked. */
export type RecordRequest = {
  readonly subscriberId: string;
  readonly opId: string;
  readonly productId: string;
  /** When the work was done; outside the current segment it is passed on without being counted. */
  readonly atMs: number;
  readonly quantities: readonly MeterQuantity[];
};
export type RecordResult =
  | {
      readonly kind: 'ok';
      readonly overLimit: boolean;
      readonly chargedMicro: number;
      readonly overageMicro: number;
      readonly streamId: string;
    }
  | { readonly kind: 'already' };

export type CreditEntry = {
  readonly subscriberId: string;
  readonly seq: number;
  readonly verb: 'grant' | 'void' | 'debit';
  readonly bucket: {
    readonly id: string;
    readonly unit: string;
    readonly priority: number;
    readonly class: 'promotional' | 'paid';
    readonly effectiveMs: number;
    readonly expiresMs: number | null;
    /** Meter keys; empty = every meter. */
    readonly scope: readonly string[];
  };
  readonly amountMicro: number;
};
export type CreditResult =
  | { readonly kind: 'applied'; readonly takenMicro: number; readonly availableMicro: number }
  | { readonly kind: 'already' }
  | { readonly kind: 'gap'; readonly seq: number };

export type ApplyResult =
  | { readonly kind: 'applied' | 'older' | 'same'; readonly nowMs: number }
  /** A segment that is new to the shard begins in its past: the workflow takes a new instant. */
  | { readonly kind: 'boundary_passed'; readonly nowMs: number };

export type SealResult =
  | {
      readonly kind: 'sealed';
      readonly shard: string;
      readonly incarnation: number;
      readonly streamId: string;
    }
  | { readonly kind: 'open_holds'; readonly count: number; readonly lastExpiryMs: number }
  | { readonly kind: 'not_over'; readonly nowMs: number };

/** What the shard holds of one subscriber, in plain numbers, for the constraints page and the drift check. */
export type SubscriberState = {
  readonly version: number;
  readonly coreSeq: number;
  readonly products: readonly {
    readonly productId: string;
    readonly segmentId: string;
    readonly untilMs: number;
    readonly status: string;
    readonly overage: boolean;
    readonly features: readonly string[];
    readonly openHolds: number;
    readonly limits: readonly {
      readonly name: string;
      readonly meter: string;
      readonly limit: number;
      readonly hard: boolean;
      readonly used: number;
      readonly held: number;
      readonly resetMs: number;
    }[];
  }[];
  readonly buckets: readonly {
    readonly id: string;
    readonly unit: string;
    readonly availableMicro: number;
    readonly heldMicro: number;
    readonly expiresMs: number | null;
  }[];
};

export type Shards = {
  authorize(request: AuthorizeRequest): Promise<AuthorizeResult>;
  settle(request: SettleRequest): Promise<SettleResult>;
  record(request: RecordRequest): Promise<RecordResult>;
  apply(constraints: SubscriberConstraints): Promise<ApplyResult>;
  credit(entry: CreditEntry): Promise<CreditResult>;
  seal(args: {
    readonly subscriberId: string;
    readonly productId: string;
    readonly periodId: string;
  }): Promise<SealResult>;
  /** Null when the shard holds nothing of the subscriber. */
  read(subscriberId: string): Promise<SubscriberState | null>;
  close(): Promise<void>;
};

/** The slot map as gateways hold it. `epochs[slot]` and `owners[slot]` (index into `shards`), 4,096 entries each. */
export type SlotMap = {
  readonly version: number;
  readonly shards: readonly {
    readonly name: string;
    readonly url: string;
    readonly incarnation: number;
    readonly state: 'new' | 'open' | 'recovering';
  }[];
  readonly owners: Int16Array;
  readonly epochs: Uint32Array;
};
