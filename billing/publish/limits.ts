import { intervalText } from '../periods.ts';
import type { Charge, PlanFeature, RateLimit, UsageCharge } from '../plan.ts';
import { quantityMax } from '../quantity.ts';
import { rate as costOf } from '../rate.ts';
import { shardLimits } from '../shard-limits.ts';
import { meterKeyOf, type DraftFeature, type DraftMeter, type PlanDraft } from './draft.ts';
import { fault, type Fault } from './fault.ts';
import { repeatFaults } from './names.ts';

/** A feature as the gateway and the catalogue will read it. */
export function freezeFeature(feature: DraftFeature): PlanFeature {
  return {
    id: feature.feature_id,
    key: feature.feature_key,
    meter_key: feature.meter_key,
    limit: feature.limit === null ? null : feature.limit.toString(),
    limit_type: feature.limit_type,
    reset_interval: feature.reset_interval,
  };
}

/** Features by their keys, their number, and the limit of each. */
export function featureFaults(draft: PlanDraft): Fault[] {
  const repeats = repeatFaults(
    draft.features.map((feature) => ({ name: feature.feature_key })),
    'features',
  );
  const count = draft.features.length;
  if (count > shardLimits.list) {
    repeats.push(
      fault('validation_failed', 'features', {
        message: `the plan has ${count} features; ${shardLimits.list} is the most`,
        mend: 'Take features out of the draft, or let one feature stand for several.',
      }),
    );
  }
  return [
    ...repeats,
    ...draft.features.flatMap((feature, index) => limitFaults(feature, draft, index)),
  ];
}

function limitFaults(feature: DraftFeature, draft: PlanDraft, index: number): Fault[] {
  if (feature.limit === null) return [];
  const field = `features[${index}]`;
  const isCharged = draft.charges.some((charge) => meterKeyOf(charge, draft) === feature.meter_key);
  const faults: Fault[] = [];
  if (feature.meter_key === null) {
    faults.push(
      fault('limit_without_meter', `${field}.limit`, {
        message: `feature ${feature.feature_key} has a limit and no meter to count by`,
        mend: 'Give the feature a meter, or remove the limit.',
      }),
    );
  }
  if (feature.limit < 0n || feature.limit > BigInt(quantityMax)) {
    faults.push(
      fault('validation_failed', `${field}.limit`, {
        message: `limit ${feature.limit} is out of bounds`,
        mend: `Give a whole number from 0 to ${quantityMax}.`,
      }),
    );
  }
  const isLong = feature.reset_interval === 'month' || feature.reset_interval === 'year';
  const isFreeTier = feature.limit_type === 'SOFT' && isCharged;
  const { interval_unit: unit, interval_count: count } = draft;
  if (!isOfInterval(feature, draft) && (isLong || isFreeTier)) {
    faults.push(
      fault('limit_reset_unsupported', `${field}.reset_interval`, {
        message: `the limit of ${feature.feature_key} resets every ${feature.reset_interval}, the plan bills every ${intervalText({ unit, count })}`,
        mend: 'Use reset_interval period.',
      }),
    );
  }
  return faults;
}

/** Whether a limit counts anew exactly when a billing interval begins. */
function isOfInterval(feature: DraftFeature, draft: PlanDraft): boolean {
  const { reset_interval: reset } = feature;
  if (reset === 'period') return true;
  if (reset === 'year' && draft.interval_unit === 'month' && draft.interval_count === 12)
    return true;
  return reset === draft.interval_unit && draft.interval_count === 1;
}

/**
 * A soft limit beside a usage charge on the same meter is the free tier: the limit becomes the charge's included units.
 * Of several, the greatest counts.
 */
export function freeTier(draft: PlanDraft, meter: DraftMeter): bigint | null {
  return draft.features.reduce<bigint | null>((greatest, feature) => {
    const isFreeTier = feature.limit_type === 'SOFT' && feature.meter_key === meter.lookup_id;
    if (!isFreeTier || feature.limit === null) return greatest;
    return greatest === null || feature.limit > greatest ? feature.limit : greatest;
  }, null);
}

/** A hard limit at or below what is included, or within units that cost nothing, lets no billable unit through. */
export function reachFaults(draft: PlanDraft, charges: readonly Charge[]): Fault[] {
  return charges.flatMap((charge) => {
    if (charge.kind !== 'usage') return [];
    return draft.features.flatMap((feature, index) => {
      const { limit } = feature;
      if (feature.limit_type !== 'HARD' || feature.meter_key !== charge.meter.key) return [];
      if (limit === null || isReached(charge, limit)) return [];
      if (limit > 0n && !isOfInterval(feature, draft)) return [];
      const isIncluded = limit <= BigInt(charge.included_units);
      const why = isIncluded
        ? `${charge.included_units} units are included`
        : 'up to it, usage costs nothing';
      const above = isIncluded ? charge.included_units : 'what costs nothing';
      return [
        fault('unreachable_charge', `features[${index}].limit`, {
          message: `the hard limit ${limit} of ${feature.feature_key} stops usage before the charge ${JSON.stringify(charge.display_name)} bills any: ${why}`,
          mend: `Raise the limit above ${above}, make it SOFT, or remove the charge.`,
        }),
      ];
    });
  });
}

/** Whether usage up to a limit can cost anything. What costs nothing at any quantity is meant to be free. */
function isReached(charge: UsageCharge, limit: bigint): boolean {
  const past = limit - BigInt(charge.included_units);
  if (past <= 0n) return false;
  const isFree = (quantity: bigint): boolean =>
    costOf(charge.price, { quantity, events: quantity }, charge.meter.scale).isZero();
  return charge.minimum_minor !== undefined || !isFree(past) || isFree(BigInt(quantityMax));
}

/** Each rate limit has a name of its own, and numbers that the shard can count with. */
export function rateLimitFaults(limits: readonly RateLimit[]): Fault[] {
  return [...limits.flatMap(rateFaults), ...repeatFaults(limits, 'rate_limits')];
}

function rateFaults(rate: RateLimit, index: number): Fault[] {
  const isCount = Number.isSafeInteger(rate.limit) && rate.limit >= 1;
  const isWindow =
    rate.kind === 'concurrency' || (Number.isSafeInteger(rate.window_ms) && rate.window_ms >= 1);
  if (isCount && isWindow) return [];
  return [
    fault('rate_limit_malformed', `rate_limits[${index}]`, {
      message: `rate limit ${rate.name} has no whole number from 1 as its limit or window`,
      mend: 'Give a limit from 1, and for a rate a window of at least 1 ms.',
    }),
  ];
}
