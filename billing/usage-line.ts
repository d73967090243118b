import { decimal, type Decimal, decimalOf, Exact, plainText } from './decimal.ts';
import type { Part } from './fees.ts';
import { type InvoiceLine, type LineContext, type MinimumPart, runDetails } from './line.ts';
import { type Currency, formatMoney, formatUnitPrice, type Minor, roundToMinor } from './money.ts';
import type { UsageCharge } from './plan.ts';
import { formatQuantity, formatUnits } from './quantity.ts';
import {
  billableUnits,
  chargedEvents,
  type Counted,
  packageCount,
  rateByTier,
  rateMore,
  type Rated,
  type RatedTier,
} from './rate.ts';
import { prorate } from './ratio.ts';

/** Quantities of one meter in an interval, in smallest units; `before` null: nothing of the interval was billed yet. */
export type IntervalUsage = {
  readonly before: bigint | null;
  readonly total: bigint;
  /** Numbers of events likewise; default 0. They matter to prices with a fee for each event. */
  readonly eventsBefore?: bigint;
  readonly eventsTotal?: bigint;
  /**
   * When the charge's minimum falls due. `now` (the default): with this invoice, the last one of the interval. `later`: a
   * further invoice of the interval follows. `before`: it was billed, and this is late usage.
   */
  readonly minimum?: 'now' | 'later' | 'before';
  /** The part of an interval that the minimum is due for; default the whole. The maximum is never prorated. */
  readonly minimumPart?: Part | null;
  /** WEIGHTED_SUM: what stood already when the run began; default nothing. */
  readonly levelAtStart?: bigint;
};

/**
 * A meter's lines: its usage, and what brings it to the charge's minimum or maximum. However an interval is cut, the
 * lines of its parts add up to those of the whole.
 */
export function usageLines(
  charge: UsageCharge,
  usage: IntervalUsage,
  context: LineContext,
): InvoiceLine[] {
  const line = usageLine(charge, usage, context);
  const bound = boundLine(charge, usage, context);
  return bound === null ? [line] : [line, bound];
}

/**
 * A meter's line: the price of the interval's total less what was billed before. Each of the two is rounded once, so
 * that the lines of an interval that is billed in parts add up to the line of the interval billed as a whole.
 */
function usageLine(charge: UsageCharge, usage: IntervalUsage, context: LineContext): InvoiceLine {
  const { currency, planVersionId } = context;
  const rated = rateUsage(charge, usage);
  const { text, unitPrice } = explain(charge, usage, currency);
  // A LATEST value may fall: what is billed is then a difference without a quantity of its own.
  const quantity = billedQuantity(charge, usage);
  const { price } = charge;
  return {
    kind: 'usage',
    chargeId: charge.id,
    meterId: charge.meter.id,
    planVersionId,
    description: `${charge.meter.name} (${text})`,
    label: charge.display_name,
    quantity: quantity < 0n ? null : quantity,
    unitPrice,
    amountMinor: roundToMinor(rated.total, currency) - roundToMinor(rated.before, currency),
    details: {
      model: charge.price.model,
      aggregation: charge.meter.aggregation,
      meter_key: charge.meter.key,
      scale: charge.meter.scale,
      included_units: charge.included_units,
      before: usage.before === null ? null : usage.before.toString(),
      total: usage.total.toString(),
      ...(price.model === 'package' && {
        package: { size: price.package_size, round: price.round ?? 'up' },
      }),
      ...(usage.levelAtStart !== undefined && { level_at_start: usage.levelAtStart.toString() }),
      ...(price.model === 'percentage' && {
        events_before: (usage.eventsBefore ?? 0n).toString(),
        events_total: (usage.eventsTotal ?? 0n).toString(),
      }),
      tiers: rated.tiers,
      tiers_before: rated.tiersBefore,
      exact_total: plainText(rated.total),
      exact_before: plainText(rated.before),
      ...runDetails(context),
    },
  };
}

/** What was counted and is billable, of the whole and of what was billed before. */
function billable(
  charge: UsageCharge,
  usage: IntervalUsage,
): { readonly before: Counted | null; readonly total: Counted } {
  const included = BigInt(charge.included_units);
  const of = (quantity: bigint, events: bigint | undefined): Counted => ({
    quantity: billableUnits(quantity, included),
    events: events ?? 0n,
  });
  return {
    before: usage.before === null ? null : of(usage.before, usage.eventsBefore),
    total: of(usage.total, usage.eventsTotal),
  };
}

function rateUsage(
  charge: UsageCharge,
  usage: IntervalUsage,
): {
  readonly total: Decimal;
  readonly before: Decimal;
  readonly tiers: readonly RatedTier[];
  readonly tiersBefore: readonly RatedTier[] | null;
} {
  const { before, total } = billable(charge, usage);
  const of = (counted: Counted): Rated => rateByTier(charge.price, counted, charge.meter.scale);
  const whole = of(total);
  const earlier = before === null ? null : of(before);
  return {
    total: whole.amount,
    before: earlier === null ? new Exact(0) : earlier.amount,
    tiers: whole.tiers,
    tiersBefore: earlier === null ? null : earlier.tiers,
  };
}

function billedQuantity(charge: UsageCharge, usage: IntervalUsage): bigint {
  const { before, total } = billable(charge, usage);
  return total.quantity - (before?.quantity ?? 0n);
}

/** What a charge costs in an interval, within its bounds; where they cross, the maximum holds. */
export function exactWithin(
  rated: Decimal,
  bounds: { readonly minimum: Decimal | null; readonly maximum: Decimal | null },
): Decimal {
  const atLeast = bounds.minimum === null ? rated : Exact.max(rated, bounds.minimum);
  return bounds.maximum === null ? atLeast : Exact.min(atLeast, bounds.maximum);
}

type Bounds = { readonly minimum: Minor | null; readonly maximum: Minor | null };

function withinBounds(rated: Minor, bounds: Bounds, isMinimumDue: boolean): Minor {
  const of = (minor: Minor | null): Decimal | null => (minor === null ? null : decimalOf(minor));
  const bounded = exactWithin(decimalOf(rated), {
    minimum: isMinimumDue ? of(bounds.minimum) : null,
    maximum: of(bounds.maximum),
  });
  return BigInt(bounded.toFixed(0));
}

/** Of a charge, with the part of its minimum that is due. */
function boundsOf(charge: UsageCharge, { minimumPart }: IntervalUsage): Bounds {
  const { minimum_minor: least, maximum_minor: most } = charge;
  const whole = least === undefined ? null : BigInt(least);
  const part = minimumPart ?? null;
  return {
    minimum: whole === null || part === null ? whole : prorate(whole, part.ratio),
    maximum: most === undefined ? null : BigInt(most),
  };
}

/** The line that makes up what is missing to the minimum, or takes off what is above the maximum; null = within both. */
function boundLine(
  charge: UsageCharge,
  usage: IntervalUsage,
  { currency, planVersionId }: LineContext,
): InvoiceLine | null {
  const exact = rateUsage(charge, usage);
  const rated = roundToMinor(exact.total, currency);
  const ratedBefore = roundToMinor(exact.before, currency);
  const when = usage.minimum ?? 'now';
  const bounds = boundsOf(charge, usage);
  const moved = withinBounds(rated, bounds, when !== 'later') - rated;
  const movedBefore =
    usage.before === null ? 0n : withinBounds(ratedBefore, bounds, when === 'before') - ratedBefore;
  const amountMinor = moved - movedBefore;
  if (amountMinor === 0n) return null;
  const isMaximum = moved < 0n || movedBefore < 0n;
  const bound = (isMaximum ? bounds.maximum : bounds.minimum) ?? 0n;
  const part = minimumPartOf(charge, usage);
  return {
    kind: 'usage',
    chargeId: charge.id,
    meterId: charge.meter.id,
    planVersionId,
    description: `${charge.meter.name}, ${isMaximum ? 'at most' : 'at least'} ${formatMoney(bound, currency)}${
      isMaximum || part === null ? '' : ` (${formatMoney(part.basis, currency)}, ${part.text})`
    }`,
    label: charge.display_name,
    quantity: null,
    unitPrice: null,
    amountMinor,
    details: {
      model: isMaximum ? 'maximum' : 'minimum',
      bound_minor: bound.toString(),
      rated_minor: rated.toString(),
      rated_before_minor: ratedBefore.toString(),
      bounded_minor: (rated + moved).toString(),
      bounded_before_minor: (ratedBefore + movedBefore).toString(),
      ...(part !== null && { minimum_part: part.details }),
    },
  };
}

/** How a minimum that is due in part comes about; null: it is due whole, or there is none. */
function minimumPartOf(
  { minimum_minor: basis }: UsageCharge,
  { minimum, minimumPart }: IntervalUsage,
): { readonly basis: Minor; readonly text: string; readonly details: MinimumPart } | null {
  const part = minimumPart ?? null;
  if (basis === undefined || part === null || minimum === 'later') return null;
  const { numerator, denominator } = part.ratio;
  const ratio = { numerator: numerator.toString(), denominator: denominator.toString() };
  return { basis: BigInt(basis), text: part.text, details: { basis_minor: basis, ...ratio } };
}

type Explanation = { readonly text: string; readonly unitPrice: string | null };

/** The arithmetic in words. `× price` is printed only where it really gives the exact amount of the line. */
function explain(charge: UsageCharge, usage: IntervalUsage, currency: Currency): Explanation {
  const { price, meter } = charge;
  const included = BigInt(charge.included_units);
  const counted = billable(charge, usage);
  const exact = rateMore(price, 0n, counted, meter.scale);
  if (included > 0n && usage.total <= included && exact.isZero()) {
    const used = formatQuantity(usage.total, meter.scale);
    return { text: `${used} of ${formatUnits(included, meter)} included`, unitPrice: null };
  }
  const past = included > 0n ? ` past ${formatQuantity(included, meter.scale)} included` : '';
  const units = `${formatUnits(billedQuantity(charge, usage), meter)}${past}`;
  if (price.model === 'package') {
    const packages = packagesBilled(charge, usage);
    const noun = packages === 1n ? 'package' : 'packages';
    return {
      text: `${units}, ${formatQuantity(packages, 0)} ${noun} of ${formatUnitCount(price.package_size)} × ${formatUnitPrice(price.package_price, currency)}`,
      unitPrice: price.package_price,
    };
  }
  if (price.model === 'percentage') {
    const events =
      chargedEvents(price, counted.total.events) -
      chargedEvents(price, counted.before?.events ?? 0n);
    return {
      text: `${units} × ${price.percent}%${eventFees(price, events, currency)}`,
      unitPrice: null,
    };
  }
  return explainTiers(charge, { usage, exact, units }, currency);
}

function eventFees(
  price: { readonly fixed_fee: string },
  events: bigint,
  currency: Currency,
): string {
  if (decimal(price.fixed_fee).isZero()) return '';
  const noun = events === 1n ? 'event' : 'events';
  return ` + ${formatQuantity(events, 0)} ${noun} × ${formatUnitPrice(price.fixed_fee, currency)}`;
}

function explainTiers(
  charge: UsageCharge,
  line: { readonly usage: IntervalUsage; readonly exact: Decimal; readonly units: string },
  currency: Currency,
): Explanation {
  const { usage, exact, units } = line;
  const { tiers } = rateUsage(charge, usage);
  const last = tiers.at(-1);
  if (last === undefined) throw new RangeError('a price without tiers');
  if (charge.price.model === 'stairstep' && exact.eq(last.amount)) {
    return { text: `${units}, ${stepText(last, currency)}`, unitPrice: null };
  }
  const quantity = decimalOf(billedQuantity(charge, usage), charge.meter.scale);
  const flatFee = usage.before === null && tiers.length === 1 ? last.flat_fee : '0';
  const simple = quantity.times(decimal(last.unit_price)).plus(flatFee);
  if (!simple.eq(exact)) {
    const how = tiers.length > 1 ? ` in ${tiers.length} tiers` : ', re-rated with its tiers';
    return { text: `${units}${how}`, unitPrice: null };
  }
  const plusFee = flatFee === '0' ? '' : ` + ${formatUnitPrice(flatFee, currency)}`;
  return {
    text: `${units} × ${formatUnitPrice(last.unit_price, currency)}${plusFee}`,
    unitPrice: flatFee === '0' ? last.unit_price : null,
  };
}

function stepText(step: RatedTier, currency: Currency): string {
  const where = step.up_to === null ? `past ${step.above}` : `up to ${step.up_to}`;
  return `step ${where}: ${formatUnitPrice(step.flat_fee, currency)}`;
}

function packagesBilled(charge: UsageCharge, usage: IntervalUsage): bigint {
  const { price, meter } = charge;
  if (price.model !== 'package') return 0n;
  const { before, total } = billable(charge, usage);
  const upTo = ({ quantity }: Counted): bigint =>
    packageCount(price.package_size, quantity, meter.scale, price.round);
  return upTo(total) - (before === null ? 0n : upTo(before));
}

function formatUnitCount(wholeUnits: string): string {
  return formatQuantity(BigInt(wholeUnits), 0);
}
