import { microMax } from './credits.ts';

/**
 * What a shard takes of one subscriber; past it, it refuses the whole change. The scripts say the same numbers for
 * themselves, and a test compares them. Whoever lets something in from outside refuses it by these first.
 */
export const shardLimits = {
  /** Products with a subscription. */
  products: 32,
  /** Segments of one product: the one that is over, the current one and later ones. */
  segments: 5,
  /** Keys that are not revoked. */
  keys: 256,
  /** Features, rates, limits or burn rates of one segment. */
  list: 128,
  /** Buckets of credits with something left in them. */
  buckets: 64,
  /** Credits in all buckets together, held ones too, in micro-credits. */
  balanceMicro: microMax,
} as const;

/**
 * Half of a shard's room for credits is for those that are given or bought; the other half is kept for those that come
 * with plans, which nobody asks before they are due.
 */
export const givenCreditLimits = {
  buckets: shardLimits.buckets / 2,
  balanceMicro: 500_000_000_000_000n,
} as const;

/** Credits that come with one interval of a plan: those of three intervals may lie on a shard at once. */
export const includedMicroMax = 125_000_000_000_000n;
