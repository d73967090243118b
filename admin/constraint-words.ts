/** What a subscriber may do now, in sentences: what was compiled, beside what the shard counts. */
import type {
  LimitConstraint,
  ProductConstraints,
  SegmentConstraints,
} from '../billing/constraints.ts';
import { formatCredits, formatCreditUnits } from '../billing/credits.ts';
import type { SubscriberState } from '../shards/port.ts';

export type ConstraintWords = {
  readonly rules: readonly string[];
  readonly now: readonly string[];
};
type ShardProduct = SubscriberState['products'][number];

/** The rules of the segment that is in force at `nowMs`, and where the counters stand. */
export function constraintWords(
  product: ProductConstraints,
  state: SubscriberState | null,
  nowMs: number,
): ConstraintWords {
  const segment =
    product.segments.find(({ fromMs, untilMs }) => fromMs <= nowMs && nowMs < untilMs) ??
    product.segments[0];
  if (segment === undefined)
    return { rules: ['Nothing is in force: every request is refused.'], now: [] };
  const held = state?.products.find(({ productId }) => productId === product.productId);
  return {
    rules: [
      statusWords(segment),
      ...nextWords(segment, product.segments),
      ...segment.limits.map((limit) => limitWords(limit)),
      ...segment.rates.map((rate) =>
        rate.kind === 'rate'
          ? `At most ${count(rate.limit)} requests in any ${duration(rate.windowMs)} (${rate.name}); more get 429 rate_limited.`
          : `At most ${count(rate.limit)} requests at once (${rate.name}); more get 429 concurrency_exceeded.`,
      ),
      ...creditWords(segment),
      segment.features.length === 0
        ? 'The plan lists no features: routes that ask for one are refused.'
        : `Features: ${segment.features.join(', ')}.`,
    ],
    now: state === null ? [] : stateWords(segment, held, state),
  };
}

function statusWords({ status, untilMs }: SegmentConstraints): string {
  const until = instant(untilMs);
  switch (status) {
    case 'active':
      return `Active; in force until ${until}.`;
    case 'past_due':
      return `A payment is overdue: requests get 402 payment_overdue until it is paid.`;
    case 'inactive':
      return `Inactive until ${until}: requests get 403 subscription_inactive.`;
    default:
      return status satisfies never;
  }
}

/** A planned change: the next segment differs from this one. */
function nextWords(
  segment: SegmentConstraints,
  all: readonly SegmentConstraints[],
): readonly string[] {
  const next = all.find(({ fromMs }) => fromMs === segment.untilMs);
  if (next === undefined) return [`Nothing is known past ${instant(segment.untilMs)}.`];
  const changes = [
    ...(next.status === segment.status ? [] : [`the status is ${next.status}`]),
    ...(next.overage === segment.overage
      ? []
      : [`overage is ${next.overage ? 'allowed' : 'denied'}`]),
    ...(next.periodId === segment.periodId ? [] : ['the next period begins']),
  ];
  return changes.length === 0 ? [] : [`From then on ${changes.join(' and ')}.`];
}

function limitWords(limit: LimitConstraint): string {
  const window =
    limit.window.kind === 'span'
      ? `until ${instant(limit.window.untilMs)}`
      : `in each ${duration(limit.window.lengthMs)}`;
  const past = limit.hard
    ? 'more gets 429 limit_exceeded'
    : 'more goes on and is counted (soft limit)';
  return `${limit.name}: ${count(limit.limit)} of ${limit.meter} ${window}; ${past}.`;
}

function creditWords(segment: SegmentConstraints): readonly string[] {
  if (segment.credits === null) return ['No credits are needed.'];
  const { unit, rates } = segment.credits;
  const prices = rates.map(
    ({ meter, microPerUnit }) => `${formatCredits(BigInt(microPerUnit))} for each ${meter}`,
  );
  const past = segment.overage
    ? 'past the balance usage goes on as overage'
    : 'without balance a request gets 402 credit_exhausted';
  return [`Credits (${unit}): ${prices.join(', ') || 'nothing costs any'}; ${past}.`];
}

function stateWords(
  segment: SegmentConstraints,
  held: ShardProduct | undefined,
  state: SubscriberState,
): readonly string[] {
  if (held === undefined) return ['The shard does not know this product of the subscriber yet.'];
  const unit = segment.credits?.unit;
  const buckets = state.buckets.filter((bucket) => bucket.unit === unit);
  const sum = (pick: (bucket: (typeof buckets)[number]) => number): string =>
    formatCreditUnits(
      buckets.reduce((total, bucket) => total + BigInt(pick(bucket)), 0n),
      unit ?? 'credit',
    );
  return [
    `${count(held.openHolds)} requests are running.`,
    ...held.limits.map(
      (limit) =>
        `${limit.name}: ${count(limit.used)} used and ${count(limit.held)} held of ${count(limit.limit)}${
          limit.resetMs > 0 ? `, begins anew at ${instant(limit.resetMs)}` : ''
        }.`,
    ),
    ...(unit === undefined
      ? []
      : [
          `${sum(({ availableMicro }) => availableMicro)} can be spent, ${sum(({ heldMicro }) => heldMicro)} are held.`,
        ]),
  ];
}

/** Whether the shard holds what was compiled, and if not, what differs. */
export function syncWords(given: {
  readonly version: number;
  readonly coreSeq: number;
  readonly state: SubscriberState | null;
}): { readonly inSync: boolean; readonly words: string } {
  const { version, coreSeq, state } = given;
  if (state === null) {
    return { inSync: false, words: 'Out of sync: the shard holds nothing of this subscriber yet.' };
  }
  if (state.version === version && state.coreSeq === coreSeq) {
    return {
      inSync: true,
      words: `In sync: the shard holds version ${version} and credit entry ${coreSeq}, as Postgres does.`,
    };
  }
  const parts = [
    ...(state.version === version
      ? []
      : [`the shard holds version ${state.version}, Postgres has ${version}`]),
    ...(state.coreSeq === coreSeq
      ? []
      : [`the shard has applied credit entry ${state.coreSeq}, Postgres has ${coreSeq}`]),
  ];
  return {
    inSync: false,
    words: `Out of sync: ${parts.join('; ')}. The projector brings it there.`,
  };
}

function instant(ms: number): string {
  return new Date(ms).toISOString();
}

function count(value: number): string {
  return value.toLocaleString('en-US');
}

function duration(ms: number): string {
  for (const [name, length] of [
    ['week', 604_800_000],
    ['day', 86_400_000],
    ['hour', 3_600_000],
    ['minute', 60_000],
    ['second', 1_000],
  ] as const) {
    if (ms % length === 0) return ms === length ? name : `${count(ms / length)} ${name}s`;
  }
  return `${count(ms)} ms`;
}
