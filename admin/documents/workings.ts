/** How the amount of a line comes about, in figures of the reader's locale. The description says it in English. */
import { type Decimal, decimal, decimalOf, Exact, plainText } from '../../billing/decimal.ts';
import type { MinimumPart } from '../../billing/line.ts';
import type { Currency } from '../../billing/money.ts';
import type { InvoiceLineRead } from '../../store/invoice-reads.ts';
import type { Formats } from './formats.ts';
import type { Words } from './words.ts';

/** How a document writes. */
export type Hand = {
  readonly words: Words;
  readonly formats: Formats;
  readonly currency: Currency;
};

type Details = InvoiceLineRead['details'];
type UsageDetails = Extract<Details, { readonly tiers: unknown }>;
type BoundDetails = Extract<Details, { readonly bound_minor: string }>;
type CommitmentDetails = Extract<Details, { readonly commitment_minor: string }>;

const microPlaces = 6;

/** Rows of arithmetic; none where the description has it all in the reader's own language. */
export function workingsOf(line: InvoiceLineRead, hand: Hand): readonly string[] {
  const { details } = line;
  if (!('model' in details)) return [];
  if ('tiers' in details) return usageWorkings(line, details, hand);
  switch (details.model) {
    case 'prorated':
      return partWorkings(details, hand);
    case 'credits':
      return simpleProduct(line, microPlaces, hand);
    case 'flat':
      return line.quantity === 1n ? [] : simpleProduct(line, 0, hand);
    case 'minimum':
    case 'maximum':
      return boundWorkings(details, hand);
    case 'commitment':
      return [
        `${commitmentText(details, hand)} − ${hand.formats.money(BigInt(details.spent_minor))}`,
      ];
    default:
      return details satisfies never;
  }
}

function boundWorkings(details: BoundDetails, hand: Hand): readonly string[] {
  const { words, formats } = hand;
  const { model, minimum_part: due } = details;
  const part = model === 'maximum' || due === undefined ? [] : partWorkings(due, hand);
  if (words.language === 'en') return part;
  const bound = formats.money(BigInt(details.bound_minor));
  const { atLeast, atMost } = words.workings;
  return [...part, model === 'minimum' ? atLeast(bound) : atMost(bound)];
}

function commitmentText(
  { commitment_minor: basis_minor, numerator, denominator }: CommitmentDetails,
  hand: Hand,
): string {
  const [part] = partWorkings({ basis_minor, numerator, denominator }, hand);
  return part ?? hand.formats.money(BigInt(basis_minor));
}

function partWorkings(
  { basis_minor, numerator, denominator }: MinimumPart,
  { formats }: Hand,
): readonly string[] {
  if (numerator === denominator) return [];
  const part = `${formats.quantity(numerator)}/${formats.quantity(denominator)}`;
  return [`${formats.money(BigInt(basis_minor))} × ${part}`];
}

/** English descriptions carry `quantity × price` themselves; in another language the figures are written again. */
function simpleProduct(line: InvoiceLineRead, scale: number, hand: Hand): readonly string[] {
  const { quantity, unit_price } = line;
  if (hand.words.language === 'en' || quantity === null || unit_price === null) return [];
  return [product(decimalOf(quantity, scale), unit_price, hand)];
}

function product(quantity: Decimal, unitPrice: string, { formats }: Hand): string {
  return `${formats.quantity(plainText(quantity))} × ${formats.price(unitPrice)}`;
}

function usageWorkings(
  line: InvoiceLineRead,
  details: UsageDetails,
  hand: Hand,
): readonly string[] {
  const exact = decimal(details.exact_total).minus(decimal(details.exact_before));
  const single = singleProduct(line, details, exact);
  if (single !== null) {
    return hand.words.language === 'en' ? [] : [product(single, line.unit_price ?? '0', hand)];
  }
  return [...tierRows(details, hand), ...billedBefore(details, hand)];
}

/** What was multiplied by the one price that explains the line: units, or packages. */
function singleProduct(
  line: InvoiceLineRead,
  details: UsageDetails,
  exact: Decimal,
): Decimal | null {
  if (line.unit_price === null || line.quantity === null) return null;
  const price = decimal(line.unit_price);
  const units = decimalOf(line.quantity, details.scale);
  if (units.times(price).eq(exact)) return units;
  if (details.package === undefined || price.isZero()) return null;
  const packages = exact.dividedBy(price);
  return packages.isInteger() ? packages : null;
}

/** One row for each tier that was entered; of a single one the English description says it. */
function tierRows(details: UsageDetails, hand: Hand): readonly string[] {
  const entered = details.tiers.filter(
    ({ quantity, amount }) => !decimal(quantity).isZero() || !decimal(amount).isZero(),
  );
  if (entered.length < 2 && hand.words.language === 'en') return [];
  return entered.map((tier) => tierRow(tier, details, hand));
}

function tierRow(tier: UsageDetails['tiers'][number], { model }: UsageDetails, hand: Hand): string {
  const { formats } = hand;
  const fee = decimal(tier.flat_fee);
  const quantity = decimal(tier.quantity);
  const amount = formats.price(tier.amount);
  const isProduct = quantity.times(decimal(tier.unit_price)).plus(fee).eq(decimal(tier.amount));
  // A step has one price however many units it holds, and of packages only the begun ones count.
  if (model === 'stairstep' || !isProduct) return `${formats.quantity(tier.quantity)}: ${amount}`;
  const units =
    model === 'percentage'
      ? `${formats.quantity(tier.quantity)} × ${formats.percent(percentText(tier.unit_price))}`
      : product(quantity, tier.unit_price, hand);
  return `${units}${fee.isZero() ? '' : ` + ${formats.price(tier.flat_fee)}`} = ${amount}`;
}

function percentText(fraction: string): string {
  return plainText(decimal(fraction).times(100));
}

function billedBefore(details: UsageDetails, { words, formats }: Hand): readonly string[] {
  if (details.before === null || new Exact(details.exact_before).isZero()) return [];
  return [
    words.workings.billedBefore(
      formats.price(details.exact_total),
      formats.price(details.exact_before),
    ),
  ];
}
