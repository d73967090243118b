import { parseUnitPrice } from '../money.ts';
import type { Step, Tier } from '../plan.ts';
import { quantityGrammar } from '../quantity.ts';
import { fault, malformedPrice, type Fault } from './fault.ts';

/**
 * Tiers as people write them: whole units, both ends included (`0–1000`, `1001–10000`, `10001+`); a tier may also begin
 * at the number where the one before ends (`0–1000`, `1000–10000`). The last one has no end.
 */
export type TierRange = {
  readonly from: string;
  readonly to: string | null;
  readonly unit_price: string;
  readonly flat_fee?: string;
};

export type TierResult =
  | { readonly kind: 'ok'; readonly tiers: readonly Tier[] }
  | { readonly kind: 'refused'; readonly faults: readonly Fault[] };

/**
 * Ranges in any order to tiers, or every fault by name: gaps, overlaps, bounds that are no whole numbers, bad prices.
 * @param field Where the ranges stand, for the faults: `usage_pricing_rules.tiers`.
 */
export function tiersOfRanges(ranges: readonly TierRange[], field: string): TierResult {
  const malformed = ranges.flatMap((range, index) => {
    const isOrdered =
      range.to === null || BigInt(wholeOr0(range.to)) >= BigInt(wholeOr0(range.from));
    const isWhole =
      quantityGrammar.test(range.from) && (range.to === null || quantityGrammar.test(range.to));
    return isWhole && isOrdered
      ? []
      : [malformedTier(`${field}[${index}]`, `${spell(range)} is no range of whole units`)];
  });
  if (malformed.length > 0 || ranges.length === 0) {
    return {
      kind: 'refused',
      faults: ranges.length === 0 ? [malformedTier(field, 'there are no tiers')] : malformed,
    };
  }
  const sorted = ranges.toSorted((a, b) => Number(BigInt(a.from) - BigInt(b.from)));
  const faults = seamFaults(sorted, field);
  if (faults.length > 0) return { kind: 'refused', faults };
  return checkedTiers(
    sorted.map((range) => ({
      up_to: range.to,
      unit_price: range.unit_price,
      flat_fee: range.flat_fee ?? '0',
    })),
    field,
  );
}

function wholeOr0(text: string): string {
  return quantityGrammar.test(text) ? text : '0';
}

function seamFaults(sorted: readonly TierRange[], field: string): Fault[] {
  const first = sorted[0];
  const starts = first === undefined || BigInt(first.from) <= 1n;
  const beginning = starts
    ? []
    : [
        gap(
          field,
          `nothing prices the units before ${first.from}`,
          'Let the first tier begin at 0.',
        ),
      ];
  const seams = sorted.slice(1).flatMap((range, index) => {
    const previous = sorted[index];
    if (previous === undefined) return [];
    const between = `${spell(previous)} and ${spell(range)}`;
    if (previous.to === null || BigInt(range.from) < BigInt(previous.to)) {
      return [overlap(field, `${between} overlap`)];
    }
    if (BigInt(range.from) > BigInt(previous.to) + 1n) {
      const lost = `${BigInt(previous.to) + 1n}–${BigInt(range.from) - 1n}`;
      return [gap(field, `nothing prices ${lost}, between ${between}`, endMend(previous, range))];
    }
    // One number cannot be both the end of a tier and the whole of the next one.
    return range.to !== null && range.to === previous.to
      ? [overlap(field, `${between} overlap`)]
      : [];
  });
  return [...beginning, ...seams];
}

function endMend(previous: TierRange, next: TierRange): string {
  return `Let ${spell(previous)} end at ${BigInt(next.from) - 1n}, or ${spell(next)} begin at ${BigInt(previous.to ?? 0) + 1n}.`;
}

/** Tiers with canonical prices, or every fault: bounds must rise, and only the last tier is open. */
export function checkedTiers(tiers: readonly Tier[], field: string): TierResult {
  const last = tiers.at(-1);
  if (last === undefined) {
    return { kind: 'refused', faults: [malformedTier(field, 'there are no tiers')] };
  }
  const faults = tiers.flatMap((tier, index) => {
    const at = `${field}[${index}]`;
    return [...boundFaults(tiers, index, at), ...priceFaults(tier, at)];
  });
  if (last.up_to !== null) {
    const mend = 'Let the last tier have no end.';
    faults.push(gap(field, `nothing prices what is above ${last.up_to}`, mend));
  }
  if (faults.length > 0) return { kind: 'refused', faults };
  return {
    kind: 'ok',
    tiers: tiers.map((tier) => ({
      up_to: tier.up_to,
      unit_price: parseUnitPrice(tier.unit_price) ?? tier.unit_price,
      flat_fee: parseUnitPrice(tier.flat_fee) ?? tier.flat_fee,
    })),
  };
}

export type StepResult =
  | { readonly kind: 'ok'; readonly steps: readonly Step[] }
  | { readonly kind: 'refused'; readonly faults: readonly Fault[] };

/** Steps with canonical fees, or every fault: their bounds are those of tiers. */
export function checkedSteps(steps: readonly Step[], field: string): StepResult {
  const checked = checkedTiers(
    steps.map(({ up_to, flat_fee }) => ({ up_to, flat_fee, unit_price: '0' })),
    field,
  );
  return checked.kind === 'refused'
    ? checked
    : { kind: 'ok', steps: checked.tiers.map(({ up_to, flat_fee }) => ({ up_to, flat_fee })) };
}

function boundFaults(tiers: readonly Tier[], index: number, at: string): Fault[] {
  const upTo = tiers[index]?.up_to ?? null;
  if (upTo === null) {
    return index === tiers.length - 1
      ? []
      : [overlap(at, 'a tier without an end is followed by another')];
  }
  if (!quantityGrammar.test(upTo) || upTo === '0') {
    return [malformedTier(at, `up_to ${JSON.stringify(upTo)} is not a whole number from 1`)];
  }
  const previous = tiers[index - 1]?.up_to ?? '0';
  return quantityGrammar.test(previous) && BigInt(upTo) <= BigInt(previous)
    ? [overlap(at, `up_to ${upTo} does not lie above the tier before, which ends at ${previous}`)]
    : [];
}

function priceFaults(tier: Tier, at: string): Fault[] {
  return (['unit_price', 'flat_fee'] as const).flatMap((name) =>
    parseUnitPrice(tier[name]) === null ? [malformedPrice(`${at}.${name}`, tier[name])] : [],
  );
}

function malformedTier(field: string, message: string): Fault {
  return fault('tiers_malformed', field, {
    message,
    mend: 'Bounds are whole numbers that rise; the last tier has no end.',
  });
}

function overlap(field: string, message: string): Fault {
  return fault('tier_overlap', field, {
    message,
    mend: 'Let each tier begin at the number after the end of the one before.',
  });
}

function gap(field: string, message: string, mend: string): Fault {
  return fault('tier_gap', field, { message, mend });
}

function spell(range: TierRange): string {
  return range.to === null ? `${range.from}+` : `${range.from}–${range.to}`;
}
