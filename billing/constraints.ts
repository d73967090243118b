/**
 * What the gateway's shard enforces for one subscriber: compiled from the commercial settings, free of prices and money.
 * Numbers are safe integers (a script counts in doubles); instants are epoch milliseconds on the shard's clock.
 */
export type SubscriberConstraints = {
  readonly subscriberId: string;
  /** runtime_version of the snapshot; a shard never lets an older one overwrite a newer one. */
  readonly version: number;
  /** `test` only: added to the shard's clock before it is compared with any instant here. */
  readonly clockOffsetMs: number;
  /** One entry for each live subscription, at most one a product. */
  readonly products: readonly ProductConstraints[];
  readonly keys: readonly KeyConstraints[];
};

export type ProductConstraints = {
  readonly productId: string;
  readonly subscriptionId: string;
  /** Ascending and tiling; the first may have begun, at most five. Past the last one the answer is constraints_expired. */
  readonly segments: readonly SegmentConstraints[];
};

export type SegmentConstraints = {
  /** segments.id as a decimal string. */
  readonly segmentId: string;
  readonly periodId: string;
  readonly fromMs: number;
  readonly untilMs: number;
  readonly status: 'active' | 'past_due' | 'inactive';
  /** True: usage past the credits is recorded as overage; false: it is refused. */
  readonly overage: boolean;
  /** Feature keys that the plan contains. A route that names no feature is open to every plan. */
  readonly features: readonly string[];
  readonly rates: readonly RateConstraint[];
  readonly limits: readonly LimitConstraint[];
  readonly credits: CreditConstraint | null;
};

export type RateConstraint =
  | {
      readonly kind: 'rate';
      readonly name: string;
      readonly limit: number;
      readonly windowMs: number;
    }
  | { readonly kind: 'concurrency'; readonly name: string; readonly limit: number };

/** A quota on one meter. The window is the half-open span that the counter belongs to; past it the counter starts anew. */
export type LimitConstraint = {
  readonly name: string;
  readonly level: 'subscription' | 'subscriber' | 'key';
  readonly meter: string;
  readonly limit: number;
  /** False: a soft limit, counted and reported but never refused. */
  readonly hard: boolean;
  readonly window:
    | { readonly kind: 'span'; readonly fromMs: number; readonly untilMs: number }
    /** Windows of equal length since `anchorMs` (an hour, a day of 24 hours in UTC, a week). */
    | { readonly kind: 'every'; readonly anchorMs: number; readonly lengthMs: number };
};

export type CreditConstraint = {
  /** The wallet's unit, for instance `credit`. */
  readonly unit: string;
  /** Micro-credits for one smallest unit of each meter that costs credits. */
  readonly rates: readonly { readonly meter: string; readonly microPerUnit: number }[];
};

export type KeyConstraints = {
  readonly keyId: string;
  /** base64url of the first 16 bytes of SHA-256 over the whole key text: 22 characters. */
  readonly digest16: string;
  readonly expiresMs: number | null;
  /** Empty: every product of the subscriber. */
  readonly productIds: readonly string[];
};
