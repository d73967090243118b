import { type Decimal, decimalOf, Exact, decimal, plainText, tenTo } from './decimal.ts';
import type { Aggregation, PackagePrice, Price, Step, Tier } from './plan.ts';
import { divideRounded, type Span } from './ratio.ts';

/**
 * What a quantity costs, exactly: no rounding happens here. Quantities are integers of the meter's smallest unit, prices
 * are per whole unit in major units of the currency; the invoice rounds a line once.
 */
export type Rated = { readonly amount: Decimal; readonly tiers: readonly RatedTier[] };

/** The share of one tier, in plain decimal texts: quantities in whole units, amounts in major units, exact. */
export type RatedTier = {
  /** Exclusive lower bound in whole units. */
  readonly above: string;
  /** Inclusive upper bound in whole units; null = none. */
  readonly up_to: string | null;
  readonly quantity: string;
  readonly unit_price: string;
  readonly flat_fee: string;
  readonly amount: string;
};

/** What one meter counted, in smallest units. The number of events matters to prices with a fee for each of them. */
export type Counted = { readonly quantity: bigint; readonly events: bigint };

/**
 * The exact price of a quantity. A flat fee is due when its tier is entered, the first tier's also at zero; a quantity
 * between two tiers' bounds falls in the higher one; a package counts as soon as it is begun.
 * @param counted A quantity alone stands for a quantity without events.
 * @throws RangeError when the quantity is negative or lies above the last tier's bound.
 */
export function rate(price: Price, counted: bigint | Counted, meterScale: number): Decimal {
  return rateByTier(price, counted, meterScale).amount;
}

/** `rate`, taken apart: the amounts of the tiers add up to the amount. Models without tiers give one tier without bounds. */
export function rateByTier(price: Price, counted: bigint | Counted, meterScale: number): Rated {
  const { quantity, events } =
    typeof counted === 'bigint' ? { quantity: counted, events: 0n } : counted;
  if (quantity < 0n) throw new RangeError('a quantity is never negative');
  const tiers = shares(price, decimalOf(quantity, meterScale), events);
  return {
    amount: tiers.reduce((sum, tier) => sum.plus(tier.amount), new Exact(0)),
    tiers: tiers.map((tier) => ({
      above: plainText(tier.above),
      up_to: tier.upTo === null ? null : plainText(tier.upTo),
      quantity: plainText(tier.quantity),
      unit_price: plainText(tier.unitPrice),
      flat_fee: plainText(tier.flatFee),
      amount: plainText(tier.amount),
    })),
  };
}

type Share = {
  readonly above: Decimal;
  readonly upTo: Decimal | null;
  readonly quantity: Decimal;
  readonly unitPrice: Decimal;
  readonly flatFee: Decimal;
  readonly amount: Decimal;
};

const zero = new Exact(0);

function shares(price: Price, units: Decimal, events: bigint): Share[] {
  switch (price.model) {
    case 'per_unit':
      return [shareOf(unbounded(price.unit_price), zero, units)];
    case 'graduated':
      return graduatedShares(price.tiers, units);
    case 'volume':
      return [volumeShare(price.tiers, units)];
    case 'stairstep':
      return [volumeShare(price.tiers.map(withoutUnitPrice), units)];
    case 'package': {
      const share = shareOf(unbounded(price.package_price), zero, packagesOf(price, units));
      return [{ ...share, quantity: units }];
    }
    case 'percentage': {
      const share = decimal(price.percent).times(tenTo(-2));
      const fees = decimal(price.fixed_fee).times(decimalOf(chargedEvents(price, events)));
      return [shareOf(unbounded(plainText(share), plainText(fees)), zero, units)];
    }
    default:
      return price satisfies never;
  }
}

function unbounded(unitPrice: string, flatFee = '0'): Tier {
  return { up_to: null, unit_price: unitPrice, flat_fee: flatFee };
}

function withoutUnitPrice(step: Step): Tier {
  return { ...step, unit_price: '0' };
}

/** Events that the fee of a percentage price is due for. */
export function chargedEvents(price: { readonly free_events: string }, events: bigint): bigint {
  return billableUnits(events, BigInt(price.free_events));
}

function packagesOf(price: Omit<PackagePrice, 'model' | 'package_price'>, units: Decimal): Decimal {
  // dividedToIntegerBy is exact, whereas a division rounded to 120 digits could touch the next integer.
  const size = decimal(price.package_size);
  const full = units.dividedToIntegerBy(size);
  return price.round !== 'down' && full.times(size).lt(units) ? full.plus(1) : full;
}

/** Packages that a quantity is billed as: 121 in packages of 10 are 13 begun, or 12 full ones when rounded down. */
export function packageCount(
  packageSize: string,
  quantity: bigint,
  meterScale: number,
  round: 'up' | 'down' = 'up',
): bigint {
  const packages = packagesOf(
    { package_size: packageSize, round },
    decimalOf(quantity, meterScale),
  );
  return BigInt(packages.toFixed(0));
}

/** Every tier that was entered, from the lowest. */
function graduatedShares(tiers: readonly Tier[], units: Decimal): Share[] {
  const entered: Share[] = [];
  let above: Decimal = zero;
  for (const tier of tiers) {
    const isFirst = entered.length === 0;
    if (!isFirst && units.lte(above)) return entered;
    const upTo = tier.up_to === null ? units : Exact.min(decimal(tier.up_to), units);
    entered.push(shareOf(tier, above, upTo.minus(above)));
    if (tier.up_to === null) return entered;
    above = decimal(tier.up_to);
  }
  if (units.gt(above)) throw new RangeError(`no tier prices ${units.toFixed()} units`);
  return entered;
}

/** The one tier that the whole quantity falls in. */
function volumeShare(tiers: readonly Tier[], units: Decimal): Share {
  let above: Decimal = zero;
  for (const tier of tiers) {
    if (tier.up_to === null || units.lte(decimal(tier.up_to))) return shareOf(tier, above, units);
    above = decimal(tier.up_to);
  }
  throw new RangeError(`no tier prices ${units.toFixed()} units`);
}

function shareOf(tier: Tier, above: Decimal, quantity: Decimal): Share {
  const unitPrice = decimal(tier.unit_price);
  const flatFee = decimal(tier.flat_fee);
  return {
    above,
    upTo: tier.up_to === null ? null : decimal(tier.up_to),
    quantity,
    unitPrice,
    flatFee,
    amount: quantity.times(unitPrice).plus(flatFee),
  };
}

/** What of a quantity is billed when the fee already pays for `includedUnits`; both in smallest units. */
export function billableUnits(quantity: bigint, includedUnits: bigint): bigint {
  return quantity > includedUnits ? quantity - includedUnits : 0n;
}

/**
 * The price of a further part of an interval: `rate(total) − rate(before)`, both past the included units.
 * @param usage `before` null: nothing of the interval was billed yet, so that flat fees are due with this part.
 */
export function rateMore(
  price: Price,
  includedUnits: bigint,
  usage: { readonly before: bigint | Counted | null; readonly total: bigint | Counted },
  meterScale: number,
): Decimal {
  const upTo = (counted: bigint | Counted): Decimal => {
    const { quantity, events } =
      typeof counted === 'bigint' ? { quantity: counted, events: 0n } : counted;
    return rate(price, { quantity: billableUnits(quantity, includedUnits), events }, meterScale);
  };
  return usage.before === null ? upTo(usage.total) : upTo(usage.total).minus(upTo(usage.before));
}

/** One rollup row: mergeable partials of the events of one hour, whatever the meter's aggregation. */
export type UsagePartial = {
  /** Below zero, like `eventCount`, where a correction took more away than it gave. */
  readonly quantity: bigint;
  readonly eventCount: bigint;
  readonly maxQuantity: bigint;
  readonly latestQuantity: bigint;
  /** Epoch milliseconds, or anything whose value they are. */
  readonly latestAt: { valueOf(): number };
  /** UNIQUE_COUNT: what was counted, each in a text that is the same for the same thing. Absent = none. */
  readonly values?: readonly string[];
  /** WEIGHTED_SUM: from each instant on (epoch ms), the level. Absent = none. */
  readonly levels?: readonly Level[];
};

/** A level that holds until the next one. */
export type Level = { readonly atMs: number; readonly quantity: bigint };

/**
 * The quantity of a meter over rollup rows, in smallest units; 0 without rows. The order of the rows, the way events
 * were spread over them and repeats of a value or level change nothing: of two equally late values the greater counts.
 * @param span What WEIGHTED_SUM is the average over: before the first level it is 0, and the last one holds to the end.
 * Rounded once, half away from zero. The others do not read it.
 * @throws RangeError for a WEIGHTED_SUM without a span, or over an empty one.
 */
export function aggregate(
  rows: readonly UsagePartial[],
  aggregation: Aggregation,
  span?: Span,
): bigint {
  return aggregations[aggregation](rows, span);
}

const aggregations = {
  SUM: (rows) => rows.reduce((sum, row) => sum + row.quantity, 0n),
  COUNT: (rows) => rows.reduce((sum, row) => sum + row.eventCount, 0n),
  MAX: (rows) => rows.reduce((max, row) => (row.maxQuantity > max ? row.maxQuantity : max), 0n),
  LATEST: (rows) => latest(rows)?.latestQuantity ?? 0n,
  UNIQUE_COUNT: (rows) => BigInt(new Set(rows.flatMap((row) => row.values ?? [])).size),
  WEIGHTED_SUM: (rows, span) => weightedSum(rows, span),
} as const satisfies Record<
  Aggregation,
  (rows: readonly UsagePartial[], span: Span | undefined) => bigint
>;

function latest(rows: readonly UsagePartial[]): UsagePartial | null {
  return rows.reduce<UsagePartial | null>((winner, row) => {
    if (winner === null) return row;
    const difference = row.latestAt.valueOf() - winner.latestAt.valueOf();
    if (difference !== 0) return difference > 0 ? row : winner;
    return row.latestQuantity > winner.latestQuantity ? row : winner;
  }, null);
}

function weightedSum(rows: readonly UsagePartial[], span: Span | undefined): bigint {
  if (span === undefined) throw new RangeError('an average over time needs a span of time');
  return averageLevel(
    rows.flatMap((row) => row.levels ?? []),
    { during: span, over: span },
  );
}

/**
 * What levels that stand `during` a part of a span come to on the average `over` all of it, rounded once: 0 before the
 * first one, which may have begun to stand before the part, while the last one holds to its end.
 * @throws RangeError when the whole span is empty.
 */
export function averageLevel(
  levels: readonly Level[],
  { during, over }: { readonly during: Span; readonly over: Span },
): bigint {
  if (over.endMs <= over.startMs) {
    throw new RangeError('an average over time needs a span of time');
  }
  const startMs = Math.max(during.startMs, over.startMs);
  const endMs = Math.min(during.endMs, over.endMs);
  const sorted = inTime(levels);
  let weighted = 0n;
  for (const [index, { atMs, quantity }] of sorted.entries()) {
    // Of two at one instant the greater comes last, and the other one lasts no time.
    const fromMs = Math.max(atMs, startMs);
    const untilMs = Math.min(sorted[index + 1]?.atMs ?? endMs, endMs);
    if (untilMs > fromMs) weighted += quantity * BigInt(untilMs - fromMs);
  }
  return divideRounded(weighted, BigInt(over.endMs - over.startMs));
}

/** The level that stands at an instant; 0 before the first one. */
export function levelAt(levels: readonly Level[], atMs: number): bigint {
  return inTime(levels).findLast((level) => level.atMs <= atMs)?.quantity ?? 0n;
}

function inTime(levels: readonly Level[]): readonly Level[] {
  return levels.toSorted((a, b) => a.atMs - b.atMs || Number(a.quantity - b.quantity));
}
