import { formatCreditUnits, microPerCredit } from './credits.ts';
import { decimal, type Decimal, decimalOf, Exact, plainText } from './decimal.ts';
import { type Currency, formatAmount, formatUnitPrice, type Minor, roundToMinor } from './money.ts';
import type { Charge, CreditTerms } from './plan.ts';
import { formatQuantity, formatUnits } from './quantity.ts';
import { billableUnits, packageCount, rateByTier, rateMore, type RatedTier } from './rate.ts';

/**
 * One line of an invoice. `quantity` is in the meter's smallest unit (usage), in micro-credits (overage), or whole
 * (fees). `details` is JSON and holds all that the amount was worked out from.
 */
export type InvoiceLine = {
  readonly kind: 'recurring' | 'one_time' | 'usage' | 'overage' | 'adjustment';
  readonly chargeId: string | null;
  readonly meterId: string | null;
  readonly planVersionId: string;
  /** `API Calls (82,450 calls × $0.001)`. */
  readonly description: string;
  /** The price's own name, printed under the description. */
  readonly label: string | null;
  readonly quantity: bigint | null;
  /** Plain decimal in major units of one whole unit, when one price explains the line. */
  readonly unitPrice: string | null;
  readonly amountMinor: Minor;
  readonly details: LineDetails;
};

export type LineDetails =
  | { readonly model: 'flat' }
  | {
      readonly model: 'per_unit' | 'graduated' | 'volume' | 'package';
      readonly aggregation: string;
      readonly meter_key: string;
      readonly scale: number;
      readonly included_units: string;
      /** Quantities of the whole interval in smallest units; `before` null: nothing of it was billed before. */
      readonly before: string | null;
      readonly total: string;
      /** The split of what is billable of `total`, and of `before` when a part of the interval was billed already. */
      readonly tiers: readonly RatedTier[];
      readonly tiers_before: readonly RatedTier[] | null;
      /** Exact amounts in major units; the line is round(total) − round(before). */
      readonly exact_total: string;
      readonly exact_before: string;
    }
  | {
      readonly model: 'credits';
      readonly unit: string;
      readonly before_micro: string;
      readonly total_micro: string;
    };

/** What a line belongs to. */
export type LineContext = { readonly currency: Currency; readonly planVersionId: string };

/** A fee: recurring or once. */
export function feeLine(
  charge: Extract<Charge, { kind: 'recurring' | 'one_time' }>,
  { currency, planVersionId }: LineContext,
): InvoiceLine {
  const amountMinor = BigInt(charge.amount_minor);
  return {
    kind: charge.kind,
    chargeId: charge.id,
    meterId: null,
    planVersionId,
    description: charge.display_name,
    label: null,
    quantity: 1n,
    unitPrice: formatAmount(amountMinor, currency),
    amountMinor,
    details: { model: 'flat' },
  };
}

export type UsageCharge = Extract<Charge, { kind: 'usage' }>;

/** Quantities of one meter in an interval, in smallest units; `before` null: nothing of the interval was billed yet. */
export type IntervalUsage = { readonly before: bigint | null; readonly total: bigint };

/**
 * A meter's line: the price of the interval's total less what was billed before. Each of the two is rounded once, so
 * that the lines of an interval that is billed in parts add up to the line of the interval billed as a whole.
 */
export function usageLine(
  charge: UsageCharge,
  usage: IntervalUsage,
  { currency, planVersionId }: LineContext,
): InvoiceLine {
  const rated = rateUsage(charge, usage);
  const { text, unitPrice } = explain(charge, usage, currency);
  return {
    kind: 'usage',
    chargeId: charge.id,
    meterId: charge.meter.id,
    planVersionId,
    description: `${charge.meter.name} (${text})`,
    label: charge.display_name,
    quantity: billedQuantity(charge, usage),
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
      tiers: rated.tiers,
      tiers_before: rated.tiersBefore,
      exact_total: plainText(rated.total),
      exact_before: plainText(rated.before),
    },
  };
}

function rateUsage(
  { price, included_units, meter }: UsageCharge,
  usage: IntervalUsage,
): {
  readonly total: Decimal;
  readonly before: Decimal;
  readonly tiers: readonly RatedTier[];
  readonly tiersBefore: readonly RatedTier[] | null;
} {
  const included = BigInt(included_units);
  const total = rateByTier(price, billableUnits(usage.total, included), meter.scale);
  if (usage.before === null) {
    return { total: total.amount, before: new Exact(0), tiers: total.tiers, tiersBefore: null };
  }
  const before = rateByTier(price, billableUnits(usage.before, included), meter.scale);
  return {
    total: total.amount,
    before: before.amount,
    tiers: total.tiers,
    tiersBefore: before.tiers,
  };
}

function billedQuantity(charge: UsageCharge, usage: IntervalUsage): bigint {
  const included = BigInt(charge.included_units);
  return billableUnits(usage.total, included) - billableUnits(usage.before ?? 0n, included);
}

type Explanation = { readonly text: string; readonly unitPrice: string | null };

/** The arithmetic in words. `× price` is printed only where it really gives the exact amount of the line. */
function explain(charge: UsageCharge, usage: IntervalUsage, currency: Currency): Explanation {
  const { price, meter } = charge;
  const included = BigInt(charge.included_units);
  const quantity = billedQuantity(charge, usage);
  const exact = rateMore(price, included, usage, meter.scale);
  if (included > 0n && usage.total <= included && exact.isZero()) {
    const used = formatQuantity(usage.total, meter.scale);
    return { text: `${used} of ${formatUnits(included, meter)} included`, unitPrice: null };
  }
  const past = included > 0n ? ` past ${formatQuantity(included, meter.scale)} included` : '';
  const units = `${formatUnits(quantity, meter)}${past}`;
  if (price.model === 'package') {
    const packages = packagesBegun(charge, usage);
    const noun = packages === 1n ? 'package' : 'packages';
    return {
      text: `${units}, ${formatQuantity(packages, 0)} ${noun} of ${formatUnitCount(price.package_size)} × ${formatUnitPrice(price.package_price, currency)}`,
      unitPrice: price.package_price,
    };
  }
  const { tiers } = rateByTier(price, billableUnits(usage.total, included), meter.scale);
  const last = tiers.at(-1);
  if (last === undefined) throw new RangeError('a price without tiers');
  const flatFee = usage.before === null && tiers.length === 1 ? last.flat_fee : '0';
  const simple = decimalOf(quantity, meter.scale).times(decimal(last.unit_price)).plus(flatFee);
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

function packagesBegun(charge: UsageCharge, usage: IntervalUsage): bigint {
  const { price, meter } = charge;
  if (price.model !== 'package') return 0n;
  const included = BigInt(charge.included_units);
  const upTo = (quantity: bigint): bigint =>
    packageCount(price.package_size, billableUnits(quantity, included), meter.scale);
  return upTo(usage.total) - upTo(usage.before ?? 0n);
}

function formatUnitCount(wholeUnits: string): string {
  return formatQuantity(BigInt(wholeUnits), 0);
}

/**
 * Units used past the credits: `Overage (500 credits × $0.03)`.
 * @throws RangeError when the terms have no price for them: such a plan could not have been published with overage on.
 */
export function overageLine(
  terms: CreditTerms,
  micro: { readonly before: bigint; readonly total: bigint },
  { currency, planVersionId }: LineContext,
): InvoiceLine {
  const price = overagePrice(terms);
  if (price === null) throw new RangeError('overage was recorded on a plan without a price for it');
  const minorOf = (quantity: bigint): Minor =>
    roundToMinor(decimalOf(quantity, 6).times(decimal(price)), currency);
  const quantity = micro.total - micro.before;
  return {
    kind: 'overage',
    chargeId: null,
    meterId: null,
    planVersionId,
    description: `Overage (${formatCreditUnits(quantity, terms.unit)} × ${formatUnitPrice(price, currency)})`,
    label: null,
    quantity,
    unitPrice: price,
    amountMinor: minorOf(micro.total) - minorOf(micro.before),
    details: {
      model: 'credits',
      unit: terms.unit,
      before_micro: micro.before.toString(),
      total_micro: micro.total.toString(),
    },
  };
}

/** The price of one credit past the balance: the overage's own rate, else the plan's credit price; null = not sold. */
export function overagePrice(terms: CreditTerms): string | null {
  return terms.overage?.credit_price ?? terms.credit_price;
}

/**
 * What a number of credits costs at a price per credit, rounded once (a top-up).
 * @throws RangeError when the price is not a plain decimal.
 */
export function priceOfCredits(micro: bigint, creditPrice: string, currency: Currency): Minor {
  const credits = decimalOf(micro).dividedBy(decimalOf(microPerCredit));
  return roundToMinor(credits.times(decimal(creditPrice)), currency);
}

/** The line of a late use: it names the period that it belongs to. */
export function asAdjustment(line: InvoiceLine, periodText: string): InvoiceLine {
  return { ...line, kind: 'adjustment', description: `${line.description}, ${periodText}` };
}
