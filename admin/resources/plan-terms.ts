/** What a caller says about a plan version or a charge, turned into the rows that hold it. */
import type { z } from 'zod';

import { microMax, parseCredits } from '../../billing/credits.ts';
import { formatAmount, parseAmount, placesOf, type Currency } from '../../billing/money.ts';
import type { CreditTerms, Price, RateLimit, Step, Tier } from '../../billing/plan.ts';
import { checkedPrice } from '../../billing/publish/prices.ts';
import type { MeterRow } from '../../store/meters.ts';
import type { ChargeRow, NewCharge, TaxRateRef, VersionTerms } from '../../store/plans.ts';
import {
  currencyCode,
  decimal,
  flag,
  integer,
  listOf,
  matching,
  object,
  oneOf,
  quantity,
  reference,
  text,
} from '../fields.ts';
import { pricingRules, readPricingRules } from '../pricing-rules.ts';
import { ApiProblem, fieldProblem } from '../problems.ts';
import { intervalUnits, priceModels } from './plan-shapes.ts';
import { namedIn } from './shared.ts';

export const termFields = {
  currency: currencyCode().optional(),
  billing_interval: oneOf(intervalUnits).optional(),
  billing_interval_count: integer(1, 1000, 'Every how many of them; 1 when absent.').optional(),
  billing_time: oneOf(
    ['anniversary', 'calendar'],
    'Periods begin on the day of the start, or on the first of the calendar unit.',
  ).optional(),
  base_price: decimal('Fee for each interval, in the currency.').nullable().optional(),
  included_credits: decimal('Credits given for each interval.').nullable().optional(),
  credit_unit: matching(
    /^[a-z][a-z0-9_]{0,62}$/,
    'must be a word such as credit',
    'Name of the wallet; credit when absent.',
  ).optional(),
  credit_price: decimal('What one credit costs, up to 12 places.').nullable().optional(),
  overage: object({
    enabled: flag(),
    credit_price: decimal('Price of a credit past the included ones.').optional(),
  })
    .nullable()
    .optional()
    .meta({
      description: 'Usage past the credits: billed at this rate, or denied (enabled: false).',
    }),
  credit_rates: listOf(
    object({
      meter_id: reference('What is counted'),
      credits: decimal('Credits for one whole unit of the meter, up to 6 places.'),
    }),
    50,
    'The burn table: what one unit of each meter costs in credits.',
  ).optional(),
  rate_limits: listOf(
    object({
      kind: oneOf(['rate', 'concurrency'], 'rate when absent.').optional(),
      name: matching(/^[a-z][a-z0-9_-]{0,62}$/, 'must be a word such as per_minute'),
      limit: integer(1, 1_000_000_000),
      window_ms: integer(1, 86_400_000, 'Only for kind rate.').optional(),
    }),
    10,
  ).optional(),
  proration: oneOf(
    ['day', 'second'],
    'How a part of an interval is measured, for fees of a change or an early end; day when absent.',
  ).optional(),
  prices_include_tax: flag()
    .optional()
    .meta({ description: 'Whether the amounts hold the tax already; false when absent.' }),
  commitment: decimal(
    'The least that fees and usage of an interval come to; the invoice makes up what is missing.',
  )
    .nullable()
    .optional(),
  invoice_threshold: decimal(
    'Usage that costs so much is invoiced at once, before the interval ends.',
  )
    .nullable()
    .optional(),
};

const termsBody = object(termFields);
export type TermsInput = z.output<typeof termsBody>;

/** The terms of a version: what is given replaces what was. */
export function readTerms(
  given: TermsInput,
  before: VersionTerms,
  meters: readonly MeterRow[],
): VersionTerms {
  const currency = given.currency ?? currencyOf(before.currency);
  return {
    currency,
    interval_unit: given.billing_interval ?? before.interval_unit,
    interval_count: given.billing_interval_count ?? before.interval_count,
    billing_time: given.billing_time ?? before.billing_time,
    base_price_minor:
      given.base_price === undefined
        ? before.base_price_minor
        : readAmount(given.base_price, currency, 'base_price'),
    credit_terms: readCreditTerms(given, before.credit_terms, meters),
    rate_limits:
      given.rate_limits === undefined
        ? before.rate_limits
        : given.rate_limits.map((limit, index) => readRateLimit(limit, `rate_limits[${index}]`)),
    proration: given.proration ?? before.proration,
    prices_include_tax: given.prices_include_tax ?? before.prices_include_tax,
    commitment_minor: readBound(given, 'commitment', before.commitment_minor, currency),
    invoice_threshold_minor: readBound(
      given,
      'invoice_threshold',
      before.invoice_threshold_minor,
      currency,
    ),
  };
}

/** An amount above zero, or none. */
function readBound(
  given: TermsInput,
  field: 'commitment' | 'invoice_threshold',
  before: bigint | null,
  currency: Currency,
): bigint | null {
  const amount = given[field];
  if (amount === undefined) return before;
  const minor = readAmount(amount, currency, field);
  if (minor === 0n) throw fieldProblem(field, 'must be above zero; null takes it away');
  return minor;
}

/** Amounts are kept in the smallest unit of their currency: in one of other places they would be other amounts. */
export function refuseRescaling(
  given: TermsInput,
  before: VersionTerms,
  charges: readonly ChargeRow[],
): void {
  const from = currencyOf(before.currency);
  const to = given.currency ?? from;
  if (placesOf(from) === placesOf(to)) return;
  const kept = [
    {
      field: 'base_price',
      isKept: before.base_price_minor !== null && given.base_price === undefined,
    },
    {
      field: 'commitment',
      isKept: before.commitment_minor !== null && given.commitment === undefined,
    },
    {
      field: 'invoice_threshold',
      isKept: before.invoice_threshold_minor !== null && given.invoice_threshold === undefined,
    },
  ].find(({ isKept }) => isKept);
  if (kept !== undefined) {
    throw fieldProblem(
      kept.field,
      `must be given anew: it is an amount of ${from} with ${placesOf(from)} places, and ${to} has ${placesOf(to)}`,
    );
  }
  const charge = charges.find(
    ({ price, minimum_minor, maximum_minor }) =>
      (price !== null && 'amount_minor' in price) ||
      minimum_minor !== null ||
      maximum_minor !== null,
  );
  if (charge === undefined) return;
  throw fieldProblem(
    'currency',
    `cannot become ${to} while the charge ${charge.id} (${charge.display_name}) has an amount of ${from}, which has other places: take the charge out first`,
  );
}

export function currencyOf(text_: string): Currency {
  const read = currencyCode().safeParse(text_);
  if (!read.success) throw new Error(`${text_} is not a currency that is billed in`);
  return read.data;
}

/** Minor units of an amount that fits the currency's places. @throws ApiProblem naming `field` when it does not. */
export function readAmount(given: string | null, currency: Currency, field: string): bigint | null {
  if (given === null) return null;
  const minor = parseAmount(given, currency);
  if (minor === null) {
    const places = placesOf(currency);
    throw fieldProblem(
      field,
      `must be an amount of ${currency} with ${places === 0 ? 'no decimal places' : `up to ${places} decimal places`}, such as "${formatAmount(5n * 10n ** BigInt(places), currency)}"`,
    );
  }
  return minor;
}

function readCreditTerms(
  given: TermsInput,
  before: CreditTerms | null,
  meters: readonly MeterRow[],
): CreditTerms | null {
  const { included_credits, credit_price, credit_unit, overage, credit_rates } = given;
  const isGiven = [included_credits, credit_price, credit_unit, overage, credit_rates].some(
    (value) => value !== undefined,
  );
  if (!isGiven) return before;
  const price = credit_price === undefined ? (before?.credit_price ?? null) : credit_price;
  const terms: CreditTerms = {
    unit: credit_unit ?? before?.unit ?? 'credit',
    included_micro:
      included_credits === undefined
        ? (before?.included_micro ?? '0')
        : readCredits(included_credits ?? '0', 'included_credits').toString(),
    overage:
      overage === undefined
        ? (before?.overage ?? null)
        : overage === null
          ? null
          : { enabled: overage.enabled, credit_price: readOveragePrice(overage, price) },
    credit_price: price,
    burn:
      credit_rates === undefined
        ? (before?.burn ?? [])
        : credit_rates.map((rate, index) => readRate(rate, meters, `credit_rates[${index}]`)),
  };
  const isEmpty =
    terms.included_micro === '0' &&
    terms.overage === null &&
    terms.credit_price === null &&
    terms.burn.length === 0;
  return isEmpty ? null : terms;
}

function readOveragePrice(
  overage: { readonly enabled: boolean; readonly credit_price?: string | undefined },
  creditPrice: string | null,
): string {
  const price = overage.credit_price ?? creditPrice;
  if (price !== null) return price;
  throw fieldProblem(
    'overage.credit_price',
    'is required: the plan has no credit_price to fall back on',
  );
}

/** Decimal credits in micro-credits. */
export function readCredits(given: string, field: string): bigint {
  const micro = parseCredits(given);
  if (micro === null) {
    throw fieldProblem(field, 'must be credits from 0 to 999999999.999999, with up to 6 places');
  }
  return micro;
}

function readRate(
  rate: { readonly meter_id: string; readonly credits: string },
  meters: readonly MeterRow[],
  field: string,
): CreditTerms['burn'][number] {
  const meter = findMeterOf(meters, rate.meter_id, `${field}.meter_id`);
  const micro = readCredits(rate.credits, `${field}.credits`);
  const smallestUnits = 10n ** BigInt(meter.scale);
  if (micro % smallestUnits !== 0n || micro > microMax) {
    throw fieldProblem(
      `${field}.credits`,
      `must be a whole number of micro-credits for the smallest unit of ${meter.lookup_id}, which has ${meter.scale} decimals`,
    );
  }
  return { meter_key: meter.lookup_id, micro_per_unit: (micro / smallestUnits).toString() };
}

/** The meter that a field names, or an ApiProblem with those there are. */
export function findMeterOf(meters: readonly MeterRow[], ref: string, field: string): MeterRow {
  const meter = namedIn(meters, ref);
  if (meter === undefined) {
    throw fieldProblem(
      field,
      'names no meter of this environment',
      meters.slice(0, 20).map(({ lookup_id }) => lookup_id),
    );
  }
  return meter;
}

function readRateLimit(
  given: NonNullable<TermsInput['rate_limits']>[number],
  field: string,
): RateLimit {
  const { name, limit, window_ms } = given;
  if (given.kind === 'concurrency') {
    if (window_ms !== undefined)
      throw fieldProblem(`${field}.window_ms`, 'goes with kind rate only');
    return { kind: 'concurrency', name, limit };
  }
  if (window_ms === undefined)
    throw fieldProblem(`${field}.window_ms`, 'is required for kind rate');
  return { kind: 'rate', name, limit, window_ms };
}

export const chargeBody = object({
  type: oneOf(['RECURRING', 'USAGE', 'ONE_TIME']),
  meter_id: reference('What a USAGE charge counts').optional(),
  display_name: text(120, "The price's label on the invoice.").optional(),
  unit_price: decimal(
    'Price of one whole unit, as a JSON number or a string; answered as a string.',
  ).optional(),
  price: object({
    model: oneOf(priceModels),
    unit_price: decimal().optional(),
    tiers: listOf(
      object({
        up_to: quantity('Last whole unit of the tier; null in the last one.').nullable().optional(),
        unit_price: decimal('Not for stairstep.').optional(),
        flat_fee: decimal('Due when the tier is entered; the price of a stairstep.').optional(),
      }),
      50,
    ).optional(),
    package_size: quantity('Whole units in a package.').optional(),
    package_price: decimal('Price of each started package.').optional(),
    round: oneOf(
      ['up', 'down'],
      'Whether a package that is not full counts; up when absent.',
    ).optional(),
    percent: decimal(
      'Part of the amount that the meter counts, in percent: 2.9. The meter sums up money.',
    ).optional(),
    fixed_fee: decimal('Of each event; 0 when absent.').optional(),
    free_events: quantity(
      'Events in each interval without the fixed fee; 0 when absent.',
    ).optional(),
  }).optional(),
  usage_pricing_rules: pricingRules.optional(),
  included_units: quantity(
    "What the fee already pays for in each interval, in the meter's smallest unit.",
  ).optional(),
  amount: decimal('Of a RECURRING or ONE_TIME charge, in the currency.').optional(),
  minimum: decimal(
    'The least that a USAGE charge costs in an interval, in the currency. Of an interval that a subscription has in part it is prorated, as the plan says.',
  ).optional(),
  maximum: decimal(
    'The most that a USAGE charge costs in an interval, in the currency; never prorated.',
  ).optional(),
  bill_in: oneOf(
    ['arrears', 'advance'],
    'arrears when absent. advance is for RECURRING charges: the fee is billed before its interval begins.',
  ).optional(),
  tax_rates: listOf(
    reference('A tax rate'),
    10,
    "The charge's own taxes; without any, those of the subscriber hold, else those of the operator.",
  ).optional(),
});
export type ChargeInput = z.output<typeof chargeBody>;

/** What a charge refers to. */
type ChargeContext = {
  readonly currency: Currency;
  readonly meters: readonly MeterRow[];
  readonly taxRates: readonly TaxRateRef[];
};

/** A charge as it is stored. Throws an ApiProblem that names the field at fault. */
export function readCharge(given: ChargeInput, context: ChargeContext): NewCharge {
  if (given.bill_in === 'advance' && given.type !== 'RECURRING') {
    throw fieldProblem(
      'bill_in',
      `must be arrears for a ${given.type} charge: only a recurring fee is known before its interval`,
      ['arrears'],
    );
  }
  return given.type === 'USAGE' ? readUsageCharge(given, context) : readFee(given, context);
}

function readUsageCharge(given: ChargeInput, context: ChargeContext): NewCharge {
  const { meters } = context;
  if (given.meter_id === undefined) {
    throw fieldProblem(
      'meter_id',
      'is required for a USAGE charge',
      meters.slice(0, 20).map(({ lookup_id }) => lookup_id),
    );
  }
  if (given.amount !== undefined) throw fieldProblem('amount', 'does not go with a USAGE charge');
  const meter = findMeterOf(meters, given.meter_id, 'meter_id');
  return {
    type: 'USAGE',
    meter_id: meter.id,
    display_name: given.display_name ?? meter.name,
    price: readPrice(given),
    included_units: given.included_units ?? 0n,
    bill_in: 'arrears',
    ...readBounds(given, context.currency),
    tax_rate_ids: readTaxRates(given.tax_rates, context.taxRates),
  };
}

function readBounds(
  given: ChargeInput,
  currency: Currency,
): Pick<NewCharge, 'minimum_minor' | 'maximum_minor'> {
  const { minimum, maximum } = given;
  const minimumMinor = readAmount(minimum ?? null, currency, 'minimum');
  const maximumMinor = readAmount(maximum ?? null, currency, 'maximum');
  if (maximumMinor === 0n) {
    throw fieldProblem('maximum', 'must be above zero: the charge would never cost anything');
  }
  if (minimumMinor !== null && maximumMinor !== null && minimumMinor > maximumMinor) {
    throw fieldProblem('minimum', `must not be above the maximum, ${maximum}`);
  }
  // Nothing to make up to is no minimum.
  return { minimum_minor: minimumMinor === 0n ? null : minimumMinor, maximum_minor: maximumMinor };
}

/** The ids of tax rates that may be given, each once. @throws ApiProblem naming the entry of `tax_rates` that may not. */
export function readTaxRates(
  given: readonly string[] | undefined,
  taxRates: readonly TaxRateRef[],
): readonly string[] {
  const ids = (given ?? []).map((ref, index) => {
    const field = `tax_rates[${index}]`;
    const found = namedIn(taxRates, ref);
    const usable = taxRates.filter(({ archived_at }) => archived_at === null);
    const allowed = usable.slice(0, 20).map(({ lookup_id }) => lookup_id);
    if (found === undefined) {
      throw fieldProblem(field, 'names no tax rate of this environment', allowed);
    }
    if (found.archived_at !== null) {
      throw fieldProblem(
        field,
        `names the tax rate ${found.lookup_id}, which is archived`,
        allowed,
      );
    }
    return found.id;
  });
  return [...new Set(ids)];
}

function readFee(given: ChargeInput, context: ChargeContext): NewCharge {
  for (const field of [
    'meter_id',
    'unit_price',
    'price',
    'usage_pricing_rules',
    'included_units',
    'minimum',
    'maximum',
  ] as const) {
    if (given[field] !== undefined) {
      throw fieldProblem(field, `does not go with a ${given.type} charge; give amount`);
    }
  }
  if (given.amount === undefined) {
    throw fieldProblem('amount', `is required for a ${given.type} charge`);
  }
  const minor = readAmount(given.amount, context.currency, 'amount') ?? 0n;
  return {
    type: given.type,
    meter_id: null,
    display_name: given.display_name ?? (given.type === 'RECURRING' ? 'Subscription' : 'Setup fee'),
    price: { amount_minor: minor.toString() },
    included_units: 0n,
    bill_in: given.bill_in ?? 'arrears',
    minimum_minor: null,
    maximum_minor: null,
    tax_rate_ids: readTaxRates(given.tax_rates, context.taxRates),
  };
}

/** The charge's own price; null when it has none and takes its meter's. */
function readPrice(given: ChargeInput): Price | null {
  const ways = ['unit_price', 'price', 'usage_pricing_rules'] as const;
  const [first, second] = ways.filter((way) => given[way] !== undefined);
  if (first !== undefined && second !== undefined) {
    throw fieldProblem(second, `cannot stand beside ${first}: a charge has one price`);
  }
  if (given.unit_price !== undefined) return { model: 'per_unit', unit_price: given.unit_price };
  if (given.usage_pricing_rules !== undefined) {
    const rules = readPricingRules(given.usage_pricing_rules, 'usage_pricing_rules');
    if (rules === null) return null;
    return {
      model: rules.mode === 'VOLUME' ? 'volume' : 'graduated',
      tiers: rules.tiers.map(({ to, unit_price, flat_fee }) => ({
        up_to: to,
        unit_price,
        flat_fee: flat_fee ?? '0',
      })),
    };
  }
  return given.price === undefined ? null : readPriceObject(given.price);
}

function readPriceObject(given: NonNullable<ChargeInput['price']>): Price {
  const checked = checkedPrice(priceOfModel(given), 'price');
  if (checked.price !== null) return checked.price;
  const [first] = checked.faults;
  throw new ApiProblem(
    first?.code ?? 'price_malformed',
    first === undefined ? 'The price does not fit.' : `${first.message}. ${first.mend}`,
    {
      errors: checked.faults.map(({ field, message, mend }) => ({
        field,
        message: `${message}. ${mend}`,
      })),
    },
  );
}

/** What each model is made of; what it can do without stands after. */
const priceFields = {
  per_unit: { needs: ['unit_price'], takes: [] },
  graduated: { needs: ['tiers'], takes: [] },
  volume: { needs: ['tiers'], takes: [] },
  package: { needs: ['package_size', 'package_price'], takes: ['round'] },
  stairstep: { needs: ['tiers'], takes: [] },
  percentage: { needs: ['percent'], takes: ['fixed_fee', 'free_events'] },
} as const satisfies Record<
  Price['model'],
  { readonly needs: readonly string[]; readonly takes: readonly string[] }
>;

type PriceInput = NonNullable<ChargeInput['price']>;
type PriceField = Exclude<keyof PriceInput, 'model'>;

function priceOfModel(given: PriceInput): Price {
  const { needs, takes }: { needs: readonly string[]; takes: readonly string[] } =
    priceFields[given.model];
  for (const [field, value] of Object.entries(given)) {
    if (field === 'model' || value === undefined) continue;
    if (needs.includes(field) || takes.includes(field)) continue;
    throw fieldProblem(`price.${field}`, `does not go with model ${given.model}`, [
      ...needs,
      ...takes,
    ]);
  }
  const need = (field: PriceField): never => {
    throw fieldProblem(`price.${field}`, `is required for model ${given.model}`);
  };
  switch (given.model) {
    case 'per_unit':
      return { model: 'per_unit', unit_price: given.unit_price ?? need('unit_price') };
    case 'graduated':
    case 'volume':
      return { model: given.model, tiers: (given.tiers ?? need('tiers')).map(readTier) };
    case 'stairstep':
      return { model: given.model, tiers: (given.tiers ?? need('tiers')).map(readStep) };
    case 'package':
      return {
        model: 'package',
        package_size: (given.package_size ?? need('package_size')).toString(),
        package_price: given.package_price ?? need('package_price'),
        ...(given.round !== undefined && { round: given.round }),
      };
    case 'percentage':
      return {
        model: 'percentage',
        percent: given.percent ?? need('percent'),
        fixed_fee: given.fixed_fee ?? '0',
        free_events: (given.free_events ?? 0n).toString(),
      };
    default:
      return given.model satisfies never;
  }
}

type TierInput = NonNullable<PriceInput['tiers']>[number];

function readTier(tier: TierInput, index: number): Tier {
  if (tier.unit_price === undefined) {
    throw fieldProblem(`price.tiers[${index}].unit_price`, 'is required for graduated and volume');
  }
  return {
    up_to: tier.up_to?.toString() ?? null,
    unit_price: tier.unit_price,
    flat_fee: tier.flat_fee ?? '0',
  };
}

function readStep(tier: TierInput, index: number): Step {
  const field = `price.tiers[${index}]`;
  if (tier.unit_price !== undefined) {
    throw fieldProblem(
      `${field}.unit_price`,
      'does not go with model stairstep: a step costs its flat_fee, whatever the quantity in it',
    );
  }
  if (tier.flat_fee === undefined) {
    throw fieldProblem(`${field}.flat_fee`, 'is required for model stairstep');
  }
  return { up_to: tier.up_to?.toString() ?? null, flat_fee: tier.flat_fee };
}
