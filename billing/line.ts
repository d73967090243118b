import { formatCreditUnits } from './credits.ts';
import { decimal, decimalOf } from './decimal.ts';
import type { Fee, UnusedFee } from './fees.ts';
import { type Currency, formatAmount, formatUnitPrice, type Minor, roundToMinor } from './money.ts';
import { formatPeriod, isoInstant } from './periods.ts';
import type { CreditTerms, Price } from './plan.ts';
import type { RatedTier } from './rate.ts';
import { prorate, type Span } from './ratio.ts';

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
  /** The time that a fee, or what is given back of one, is for; absent or null on all other lines. */
  readonly covers?: Span | null;
};

export type LineDetails =
  | { readonly model: 'flat' }
  | {
      readonly model: Price['model'];
      readonly aggregation: string;
      readonly meter_key: string;
      readonly scale: number;
      readonly included_units: string;
      /** Quantities of the whole interval in smallest units; `before` null: nothing of it was billed before. */
      readonly before: string | null;
      readonly total: string;
      /** Of an average over time: the level that earlier terms left standing when these began. */
      readonly level_at_start?: string;
      /** What a package price counts by. */
      readonly package?: { readonly size: string; readonly round: 'up' | 'down' };
      /** Numbers of events, where the price has a fee for each. */
      readonly events_before?: string;
      readonly events_total?: string;
      /** The split of what is billable of `total`, and of `before` when a part of the interval was billed already. */
      readonly tiers: readonly RatedTier[];
      readonly tiers_before: readonly RatedTier[] | null;
      /** Exact amounts in major units; the line is round(total) − round(before). */
      readonly exact_total: string;
      readonly exact_before: string;
      readonly run?: RunDetails;
    }
  | {
      readonly model: 'credits';
      readonly unit: string;
      readonly before_micro: string;
      readonly total_micro: string;
      readonly run?: RunDetails;
    }
  | {
      /** Brings what a charge costs in the interval up to its minimum or down to its maximum. */
      readonly model: 'minimum' | 'maximum';
      readonly bound_minor: string;
      /** Usage of the interval as it was rated, and the part of it that was billed before, both without this line. */
      readonly rated_minor: string;
      readonly rated_before_minor: string;
      /** The two within the bounds that were due. */
      readonly bounded_minor: string;
      readonly bounded_before_minor: string;
      /** How the least that is due comes about, where the subscription has a part of the interval. */
      readonly minimum_part?: MinimumPart;
    }
  | {
      /** The part of the commitment, `numerator` / `denominator`, that fees and usage of the interval do not come to. */
      readonly model: 'commitment';
      readonly commitment_minor: string;
      readonly numerator: string;
      readonly denominator: string;
      readonly spent_minor: string;
    }
  | {
      /** A part of a fee: `basis` × `numerator` / `denominator`, rounded once. */
      readonly model: 'prorated';
      readonly basis_minor: string;
      readonly numerator: string;
      readonly denominator: string;
    };

/** A part of a charge's minimum: `basis` × `numerator` / `denominator`, rounded once. */
export type MinimumPart = {
  readonly basis_minor: string;
  readonly numerator: string;
  readonly denominator: string;
};

/** The time that usage is of, under one plan version; of late usage that of its period. Instants, half-open. */
export type RunDetails = { readonly start_at: string; readonly end_at: string };

/** What a line belongs to. */
export type LineContext = {
  readonly currency: Currency;
  readonly planVersionId: string;
  /** Of usage and credits. */
  readonly span?: Span;
};

/** The details that a line says its time by. */
export function runDetails({ span }: LineContext): { readonly run?: RunDetails } {
  return span === undefined
    ? {}
    : { run: { start_at: isoInstant(span.startMs), end_at: isoInstant(span.endMs) } };
}

/** A fee, rounded once: `Pro`, `Pro (15 of 31 days)`, `Seats (3 × $5.00, 15 of 31 days)`, `Pro, Feb 1 – Feb 28, 2025`. */
export function feeLine(
  fee: Fee,
  { currency, zone }: { currency: Currency; zone: string },
): InvoiceLine {
  const { quantity, part, covers } = fee;
  const whole = fee.amountMinor * quantity;
  const each = formatAmount(fee.amountMinor, currency);
  const arithmetic = [
    ...(quantity === 1n ? [] : [`${quantity} × ${formatUnitPrice(each, currency)}`]),
    ...(part === null ? [] : [part.text]),
  ];
  const text = arithmetic.length === 0 ? fee.name : `${fee.name} (${arithmetic.join(', ')})`;
  const names =
    (fee.isAhead || fee.isBefore === true) && covers !== null
      ? `, ${formatPeriod(covers.startMs, covers.endMs, zone)}`
      : '';
  const line = {
    kind: fee.kind,
    chargeId: fee.chargeId,
    meterId: null,
    planVersionId: fee.planVersionId,
    description: `${text}${names}`,
    label: null,
    quantity,
    covers,
  };
  if (part === null) {
    return { ...line, unitPrice: each, amountMinor: whole, details: { model: 'flat' } };
  }
  const { numerator, denominator } = part.ratio;
  return {
    ...line,
    unitPrice: null,
    amountMinor: prorate(whole, part.ratio),
    details: {
      model: 'prorated',
      basis_minor: whole.toString(),
      numerator: numerator.toString(),
      denominator: denominator.toString(),
    },
  };
}

/** A part of what was paid for a fee, given back: `Unused part of Seats (11 of 31 days)`. */
export function unusedLine(fee: UnusedFee, { zone }: { readonly zone: string }): InvoiceLine {
  const { chargeId, planVersionId, name, paidMinor, part, covers, isBefore } = fee;
  const { numerator, denominator } = part.ratio;
  const when = isBefore ? `, ${formatPeriod(covers.startMs, covers.endMs, zone)}` : '';
  return {
    kind: 'adjustment',
    chargeId,
    meterId: null,
    planVersionId,
    description: `Unused part of ${name} (${part.text})${when}`,
    label: null,
    quantity: 1n,
    unitPrice: null,
    amountMinor: prorate(-paidMinor, part.ratio),
    details: {
      model: 'prorated',
      basis_minor: (-paidMinor).toString(),
      numerator: numerator.toString(),
      denominator: denominator.toString(),
    },
    covers,
  };
}

/**
 * Units used past the credits: `Overage (500 credits × $0.03)`.
 * @throws RangeError when the terms have no price for them: such a plan could not have been published with overage on.
 */
export function overageLine(
  terms: CreditTerms,
  micro: { readonly before: bigint; readonly total: bigint },
  context: LineContext,
): InvoiceLine {
  const { currency, planVersionId } = context;
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
      ...runDetails(context),
    },
  };
}

/** The price of one credit past the balance: the overage's own rate, else the plan's credit price; null = not sold. */
export function overagePrice(terms: CreditTerms): string | null {
  return terms.overage?.credit_price ?? terms.credit_price;
}

/** The line of a late use: it names the period that it belongs to. */
export function asAdjustment(line: InvoiceLine, periodText: string): InvoiceLine {
  return { ...line, kind: 'adjustment', description: `${line.description}, ${periodText}` };
}
