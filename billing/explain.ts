import { trueUp } from './commitment.ts';
import { decimal, type Decimal, decimalOf, Exact } from './decimal.ts';
import { type InvoiceLine, type LineDetails } from './line.ts';
import { type Currency, type Minor, roundToMinor } from './money.ts';
import { packageCount, type RatedTier } from './rate.ts';
import { prorate, type Ratio } from './ratio.ts';

/**
 * The amount of a line, worked out anew from what its details say and nothing else: quantities of tiers times their
 * prices, a basis times its part, a bound less what was rated. It equals the line's amount, or the line does not explain
 * itself.
 * @throws RangeError when the details hold a number that is none, name a price that the line lacks, or contradict
 * themselves.
 */
export function amountFromDetails(
  line: Pick<InvoiceLine, 'details' | 'quantity' | 'unitPrice'>,
  currency: Currency,
): Minor {
  const { details } = line;
  switch (details.model) {
    case 'flat':
      return roundToMinor(times(line.quantity, line.unitPrice), currency);
    case 'prorated':
      return prorate(BigInt(details.basis_minor), partIn(details));
    case 'credits':
      return creditsOf(details, line.unitPrice, currency);
    case 'minimum':
    case 'maximum':
      return boundMoved(details);
    case 'commitment':
      return trueUp({
        commitmentMinor: BigInt(details.commitment_minor),
        feeMinor: 0n,
        usageMinor: BigInt(details.spent_minor),
        ratio: partIn(details),
      });
    case 'per_unit':
    case 'graduated':
    case 'volume':
    case 'package':
    case 'stairstep':
    case 'percentage':
      return usageOf(details, currency);
    default:
      return details satisfies never;
  }
}

type Of<Model extends LineDetails['model']> = Extract<LineDetails, { readonly model: Model }>;
type UsageDetails = Extract<LineDetails, { readonly tiers: readonly RatedTier[] }>;

function partIn(details: { readonly numerator: string; readonly denominator: string }): Ratio {
  return { numerator: BigInt(details.numerator), denominator: BigInt(details.denominator) };
}

function times(quantity: bigint | null, unitPrice: string | null): Decimal {
  if (quantity === null || unitPrice === null) {
    throw new RangeError('a fee without its quantity or price');
  }
  return decimalOf(quantity).times(decimal(unitPrice));
}

function creditsOf(details: Of<'credits'>, price: string | null, currency: Currency): Minor {
  if (price === null) throw new RangeError('credits without their price');
  const upTo = (micro: string): Minor =>
    roundToMinor(decimalOf(BigInt(micro), 6).times(decimal(price)), currency);
  return upTo(details.total_micro) - upTo(details.before_micro);
}

/** What the bound moved the whole by, less what it had moved the part that was billed before. */
function boundMoved(details: Of<'minimum' | 'maximum'>): Minor {
  const { model, minimum_part: part, bound_minor: bound } = details;
  if (model === 'minimum' && part !== undefined) {
    const due = prorate(BigInt(part.basis_minor), partIn(part));
    if (due !== BigInt(bound)) throw new RangeError('a minimum that is not the part of its basis');
  }
  return (
    BigInt(details.bounded_minor) -
    BigInt(details.rated_minor) -
    (BigInt(details.bounded_before_minor) - BigInt(details.rated_before_minor))
  );
}

function usageOf(details: UsageDetails, currency: Currency): Minor {
  const upTo = (tiers: readonly RatedTier[]): Minor =>
    roundToMinor(
      tiers.reduce((sum, tier) => sum.plus(amountOfTier(tier, details)), new Exact(0)),
      currency,
    );
  return upTo(details.tiers) - (details.tiers_before === null ? 0n : upTo(details.tiers_before));
}

function amountOfTier(tier: RatedTier, { package: of }: UsageDetails): Decimal {
  if (of === undefined) {
    return decimal(tier.quantity).times(decimal(tier.unit_price)).plus(decimal(tier.flat_fee));
  }
  const quantity = decimal(tier.quantity);
  const scale = quantity.decimalPlaces();
  const units = BigInt(quantity.times(new Exact(10).pow(scale)).toFixed(0));
  const packages = packageCount(of.size, units, scale, of.round);
  return decimalOf(packages).times(decimal(tier.unit_price));
}
