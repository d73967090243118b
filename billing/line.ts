import { formatCreditUnits, microPerCredit } from './credits.ts';
import { decimal, decimalOf } from './decimal.ts';
import { type Currency, formatAmount, formatUnitPrice, type Minor, roundToMinor } from './money.ts';
import type { Charge, CreditTerms, Price } from './plan.ts';
import type { RatedTier } from './rate.ts';
import { prorate, type Ratio, type Span } from './ratio.ts';

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
    }
  | {
      readonly model: 'credits';
      readonly unit: string;
      readonly before_micro: string;
      readonly total_micro: string;
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
    }
  | {
      readonly model: 'commitment';
      readonly commitment_minor: string;
      readonly missing_minor: string;
    }
  | {
      /** A part of a fee: `basis` × `numerator` / `denominator`, rounded once. */
      readonly model: 'prorated';
      readonly basis_minor: string;
      readonly numerator: string;
      readonly denominator: string;
    };

/** What a line belongs to. */
export type LineContext = { readonly currency: Currency; readonly planVersionId: string };

/** A fee: recurring or once. */
export function feeLine(
  charge: Extract<Charge, { kind: 'recurring' | 'one_time' }>,
  context: LineContext,
): InvoiceLine {
  const { currency, planVersionId } = context;
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

/** A fee for a part of its interval, rounded once: `Pro (15 of 31 days)`. The whole gives `feeLine`. */
export function partOfFeeLine(
  charge: Extract<Charge, { kind: 'recurring' | 'one_time' }>,
  part: { readonly ratio: Ratio; readonly text: string },
  context: LineContext,
): InvoiceLine {
  const whole = feeLine(charge, context);
  const { numerator, denominator } = part.ratio;
  if (numerator === denominator) return whole;
  return {
    ...whole,
    description: `${charge.display_name} (${part.text})`,
    unitPrice: null,
    amountMinor: prorate(whole.amountMinor, part.ratio),
    details: {
      model: 'prorated',
      basis_minor: charge.amount_minor,
      numerator: numerator.toString(),
      denominator: denominator.toString(),
    },
  };
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
