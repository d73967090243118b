import type {
  CreditConstraint,
  KeyConstraints,
  LimitConstraint,
  ProductConstraints,
  RateConstraint,
  SegmentConstraints,
  SubscriberConstraints,
} from './constraints.ts';
import type { CreditTerms, PlanDefinition, PlanFeature, RateLimit } from './plan.ts';
import { isQuantity } from './quantity.ts';
import { shardLimits } from './shard-limits.ts';

/** Everything that decides what a subscriber may do, read in one snapshot. Instants are epoch milliseconds. */
export type CompileInput = {
  readonly subscriber: {
    readonly id: string;
    readonly runtimeVersion: number;
    readonly clockOffsetMs: number;
  };
  /** Keys that are not revoked. */
  readonly keys: readonly {
    readonly id: string;
    readonly digest16: string;
    readonly expiresMs: number | null;
    readonly productIds: readonly string[];
  }[];
  /** Live subscriptions, at most one a product. */
  readonly subscriptions: readonly {
    readonly id: string;
    readonly productId: string;
    readonly segments: readonly CompileSegment[];
  }[];
};

/** A part of a period under one state of the subscription and one plan version. Half-open. */
export type CompileSegment = {
  /** segments.id as a decimal string. */
  readonly id: string;
  readonly periodId: string;
  readonly fromMs: number;
  readonly untilMs: number;
  readonly status: 'active' | 'past_due' | 'inactive';
  readonly overage: boolean;
  /** The whole billing interval that the segment's period lies in. */
  readonly intervalStartMs: number;
  readonly intervalEndMs: number;
  readonly definition: PlanDefinition;
};

/**
 * Compiles commercial settings into what the shard enforces. The result holds no price and no money, and depends on
 * nothing but the input: rows in another order give the same constraints.
 * @throws RangeError when segments of one subscription overlap or run backwards, two subscriptions share a product, or
 * a stored number is out of bounds.
 */
export function compileConstraints(input: CompileInput): SubscriberConstraints {
  const products = input.subscriptions
    .filter((subscription) => subscription.segments.length > 0)
    .map((subscription) => compileProduct(subscription))
    .toSorted((a, b) => order(a.productId, b.productId));
  for (const [index, product] of products.entries()) {
    if (product.productId === products[index + 1]?.productId) {
      throw new RangeError(`two live subscriptions to product ${product.productId}`);
    }
  }
  return {
    subscriberId: input.subscriber.id,
    version: input.subscriber.runtimeVersion,
    clockOffsetMs: input.subscriber.clockOffsetMs,
    products,
    keys: input.keys.map(compileKey).toSorted((a, b) => order(a.keyId, b.keyId)),
  };
}

function compileKey(key: CompileInput['keys'][number]): KeyConstraints {
  return {
    keyId: key.id,
    digest16: key.digest16,
    expiresMs: key.expiresMs,
    productIds: key.productIds.toSorted(),
  };
}

function compileProduct(subscription: CompileInput['subscriptions'][number]): ProductConstraints {
  const segments = subscription.segments.toSorted((a, b) => a.fromMs - b.fromMs);
  for (const [index, segment] of segments.entries()) {
    const next = segments[index + 1];
    if (segment.untilMs <= segment.fromMs) {
      throw new RangeError(`segment ${segment.id} ends before it begins`);
    }
    if (next !== undefined && next.fromMs < segment.untilMs) {
      throw new RangeError(`segments ${segment.id} and ${next.id} overlap`);
    }
  }
  return {
    productId: subscription.productId,
    subscriptionId: subscription.id,
    segments: segments.slice(0, shardLimits.segments).map(compileSegment),
  };
}

function compileSegment(segment: CompileSegment): SegmentConstraints {
  const { definition } = segment;
  return {
    segmentId: segment.id,
    periodId: segment.periodId,
    fromMs: segment.fromMs,
    untilMs: segment.untilMs,
    status: segment.status,
    overage: segment.overage,
    features: definition.features.map((feature) => feature.key).toSorted(),
    rates: definition.rate_limits.map(compileRate),
    limits: definition.features
      .flatMap((feature) => compileLimit(feature, segment))
      .toSorted((a, b) => order(a.name, b.name)),
    credits: definition.credits === null ? null : compileCredits(definition.credits),
  };
}

function compileRate(rate: RateLimit): RateConstraint {
  return rate.kind === 'rate'
    ? { kind: 'rate', name: rate.name, limit: rate.limit, windowMs: rate.window_ms }
    : { kind: 'concurrency', name: rate.name, limit: rate.limit };
}

/** A soft limit (the free tier, an alert) travels with `hard: false`: counted, never refused. */
function compileLimit(feature: PlanFeature, segment: CompileSegment): LimitConstraint[] {
  if (feature.meter_key === null || feature.limit === null) return [];
  return [
    {
      name: feature.key,
      level: 'subscription',
      meter: feature.meter_key,
      limit: bounded(feature.limit, feature.key),
      hard: feature.limit_type === 'HARD',
      window: windowOf(feature.reset_interval, segment),
    },
  ];
}

const hourMs = 3_600_000;
const dayMs = 24 * hourMs;
/** Weeks begin on Monday; the epoch was a Thursday. */
const firstMondayMs = 4 * dayMs;

/**
 * `month` and `year` are the billing interval itself: publishing refuses them on plans whose interval is another one.
 * The span is the interval's, not the period's: closing a period early gives no second allowance.
 */
function windowOf(
  reset: PlanFeature['reset_interval'],
  segment: CompileSegment,
): LimitConstraint['window'] {
  return (
    everyWindow[reset] ?? {
      kind: 'span',
      fromMs: segment.intervalStartMs,
      untilMs: segment.intervalEndMs,
    }
  );
}

const everyWindow = {
  hour: { kind: 'every', anchorMs: 0, lengthMs: hourMs },
  day: { kind: 'every', anchorMs: 0, lengthMs: dayMs },
  week: { kind: 'every', anchorMs: firstMondayMs, lengthMs: 7 * dayMs },
  month: null,
  year: null,
  period: null,
} as const satisfies Record<PlanFeature['reset_interval'], LimitConstraint['window'] | null>;

function compileCredits(terms: CreditTerms): CreditConstraint {
  return {
    unit: terms.unit,
    rates: terms.burn
      .map((rate) => ({
        meter: rate.meter_key,
        microPerUnit: bounded(rate.micro_per_unit, rate.meter_key),
      }))
      .toSorted((a, b) => order(a.meter, b.meter)),
  };
}

function bounded(text: string, name: string): number {
  const value = Number(text);
  if (!isQuantity(value)) throw new RangeError(`${name} is out of bounds: ${text}`);
  return value;
}

function order(a: string, b: string): number {
  if (a === b) return 0;
  return a < b ? -1 : 1;
}
