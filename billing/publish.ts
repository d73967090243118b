import { formatCredits, microMax } from './credits.ts';
import { decimal } from './decimal.ts';
import { formatMoney, isCurrency, parseUnitPrice, placesOf } from './money.ts';
import type {
  Charge,
  CreditTerms,
  IntervalUnit,
  MeterDefinition,
  PercentagePrice,
  PlanDefinition,
  PlanFeature,
  Price,
  RateLimit,
  UsageCharge,
} from './plan.ts';
import type { ProblemCode } from './problem.ts';
import { quantityGrammar, quantityMax } from './quantity.ts';
import { rate as costOf } from './rate.ts';
import { includedMicroMax, shardLimits } from './shard-limits.ts';
import {
  checkedSteps,
  checkedTiers,
  malformedPrice,
  type TierRange,
  tiersOfRanges,
} from './tiers.ts';

/**
 * Publishing freezes a draft into the definition that rating, compiling and invoices read for ever after. The draft has
 * the shape of the stored rows, and nothing of it is trusted: all its faults are named together, each with its mend.
 */
export type PlanDraft = {
  readonly currency: string;
  readonly interval_unit: IntervalUnit;
  readonly interval_count: number;
  readonly billing_time: 'anniversary' | 'calendar';
  readonly base_price_minor: bigint | null;
  readonly credit_terms: CreditTerms | null;
  readonly rate_limits: readonly RateLimit[];
  readonly proration: 'day' | 'second';
  readonly prices_include_tax: boolean;
  readonly commitment_minor: bigint | null;
  readonly invoice_threshold_minor: bigint | null;
  readonly charges: readonly DraftCharge[];
  readonly features: readonly DraftFeature[];
  /** Every meter of the environment; a plan may name any of them. */
  readonly meters: readonly DraftMeter[];
  /** Every tax rate of the environment, archived ones among them. */
  readonly tax_rates: readonly DraftTaxRate[];
  /** What the product says one credit is; null or blank = it does not say. */
  readonly credit_definition: string | null;
};

export type DraftCharge = {
  readonly id: string;
  readonly type: 'RECURRING' | 'USAGE' | 'ONE_TIME';
  readonly display_name: string;
  readonly meter_id: string | null;
  /** Null on a usage charge: the meter's own pricing rules. */
  readonly price: Price | { readonly amount_minor: string } | null;
  readonly included_units: bigint;
  readonly bill_in: 'advance' | 'arrears';
  readonly minimum_minor: bigint | null;
  readonly maximum_minor: bigint | null;
  readonly tax_rate_ids: readonly string[];
};

export type DraftTaxRate = {
  readonly id: string;
  readonly lookup_id: string;
  readonly archived_at: Date | null;
};

export type DraftFeature = {
  readonly feature_id: string;
  readonly feature_key: string;
  readonly feature_name: string;
  readonly meter_key: string | null;
  readonly limit: bigint | null;
  readonly limit_type: PlanFeature['limit_type'];
  readonly reset_interval: PlanFeature['reset_interval'];
};

export type DraftMeter = {
  readonly id: string;
  readonly lookup_id: string;
  readonly name: string;
  readonly unit_one: string;
  readonly unit_other: string;
  readonly scale: number;
  readonly aggregation: MeterDefinition['aggregation'];
  readonly usage_pricing_rules: {
    readonly mode: 'GRADUATED' | 'VOLUME';
    readonly tiers: readonly TierRange[];
  } | null;
};

/** Why a draft cannot be published, and what to do. */
export type Fault = {
  readonly code: ProblemCode;
  /** Where: `charges[1].price.tiers[0].unit_price`. */
  readonly field: string;
  readonly message: string;
  readonly mend: string;
};

export type PublishResult =
  | { readonly kind: 'ok'; readonly definition: PlanDefinition }
  | { readonly kind: 'refused'; readonly faults: readonly Fault[] };

/** The frozen definition of a draft, or every fault of it. */
export function publishPlan(draft: PlanDraft): PublishResult {
  const faults: Fault[] = [
    ...intervalFaults(draft),
    ...draft.rate_limits.flatMap(rateLimitFaults),
    ...repeatFaults(draft.rate_limits, 'rate_limits'),
    ...featureFaults(draft),
    ...creditFaults(draft),
    ...nameFaults(draft),
    ...doubleChargeFaults(draft),
    ...idleFaults(draft),
  ];
  const { currency } = draft;
  const charges = draft.charges.flatMap((charge, index) => {
    const built = freezeCharge(charge, draft, `charges[${index}]`);
    faults.push(...built.faults);
    return built.charge === null ? [] : [built.charge];
  });
  faults.push(...reachFaults(draft, charges), ...purposeFaults(draft));
  if (!isCurrency(currency) || faults.length > 0) return { kind: 'refused', faults };
  return {
    kind: 'ok',
    definition: {
      currency,
      interval: { unit: draft.interval_unit, count: draft.interval_count },
      billing_time: draft.billing_time,
      charges: [...basePrice(draft), ...charges],
      features: draft.features.map(freezeFeature),
      rate_limits: draft.rate_limits,
      credits: draft.credit_terms,
      ...billingTerms(draft),
    },
  };
}

/** What is the default is left out: the definitions of before say nothing of it either. */
function billingTerms(
  draft: PlanDraft,
): Pick<
  PlanDefinition,
  'proration' | 'prices_include_tax' | 'commitment_minor' | 'invoice_threshold_minor'
> {
  const { commitment_minor: commitment, invoice_threshold_minor: threshold } = draft;
  return {
    ...(draft.proration !== 'day' && { proration: draft.proration }),
    ...(draft.prices_include_tax && { prices_include_tax: true }),
    ...(commitment !== null && { commitment_minor: commitment.toString() }),
    ...(threshold !== null && { invoice_threshold_minor: threshold.toString() }),
  };
}

function basePrice({ base_price_minor: amount }: PlanDraft): Charge[] {
  if (amount === null || amount === 0n) return [];
  return [
    {
      kind: 'recurring',
      id: 'base_price',
      display_name: 'Base price',
      amount_minor: amount.toString(),
    },
  ];
}

function freezeFeature(feature: DraftFeature): PlanFeature {
  return {
    id: feature.feature_id,
    key: feature.feature_key,
    meter_key: feature.meter_key,
    limit: feature.limit === null ? null : feature.limit.toString(),
    limit_type: feature.limit_type,
    reset_interval: feature.reset_interval,
  };
}

type Frozen<T> = { readonly charge: T | null; readonly faults: readonly Fault[] };

function freezeCharge(charge: DraftCharge, draft: PlanDraft, field: string): Frozen<Charge> {
  const built =
    charge.type === 'USAGE'
      ? freezeUsage(charge, draft, field)
      : freezeFee(charge, charge.type === 'RECURRING' ? 'recurring' : 'one_time', field);
  return {
    charge: built.charge,
    faults: [...advanceFaults(charge, field), ...taxFaults(charge, draft, field), ...built.faults],
  };
}

function advanceFaults(charge: DraftCharge, field: string): Fault[] {
  if (charge.bill_in === 'arrears' || charge.type === 'RECURRING') return [];
  return [
    fault('charge_in_advance', `${field}.bill_in`, {
      message: `the ${charge.type} charge ${JSON.stringify(charge.display_name)} is billed in advance, which is for recurring fees`,
      mend: 'Use bill_in arrears, or a RECURRING charge.',
    }),
  ];
}

function taxFaults(charge: DraftCharge, draft: PlanDraft, field: string): Fault[] {
  return charge.tax_rate_ids.flatMap((id) => {
    const taxRate = draft.tax_rates.find((candidate) => candidate.id === id);
    if (taxRate !== undefined && taxRate.archived_at === null) return [];
    const name = JSON.stringify(taxRate?.lookup_id ?? id);
    return [
      fault('tax_rate_unusable', `${field}.tax_rates`, {
        message:
          taxRate === undefined ? `there is no tax rate ${name}` : `tax rate ${name} is archived`,
        mend: 'Take the charge out and add it with a tax rate that is in use, or without one.',
      }),
    ];
  });
}

/** The taxes of a charge, where it has its own. */
function taxesOf({ tax_rate_ids }: DraftCharge): { readonly tax_rate_ids?: readonly string[] } {
  return tax_rate_ids.length === 0 ? {} : { tax_rate_ids };
}

function freezeFee(
  charge: DraftCharge,
  kind: 'recurring' | 'one_time',
  field: string,
): Frozen<Charge> {
  const { price } = charge;
  if (price === null || !('amount_minor' in price)) {
    return refusedCharge('price_missing', `${field}.price`, {
      message: 'a fee needs an amount',
      mend: 'Give the charge an amount, such as "29.00".',
    });
  }
  if (!quantityGrammar.test(price.amount_minor)) {
    return { charge: null, faults: [malformedPrice(`${field}.price`, price.amount_minor)] };
  }
  const { id, display_name, bill_in } = charge;
  const fee = { id, display_name, amount_minor: price.amount_minor, ...taxesOf(charge) };
  return {
    charge:
      kind === 'recurring' && bill_in === 'advance' ? { kind, ...fee, bill_in } : { kind, ...fee },
    faults: [],
  };
}

function freezeUsage(charge: DraftCharge, draft: PlanDraft, field: string): Frozen<Charge> {
  const meter = draft.meters.find((candidate) => candidate.id === charge.meter_id);
  if (meter === undefined) {
    return refusedCharge('meter_unknown', `${field}.meter_id`, {
      message: `there is no meter ${JSON.stringify(charge.meter_id)}`,
      mend: 'Name a meter that exists.',
    });
  }
  const price = freezePrice(charge, meter, field);
  const included = freeTier(draft, meter) ?? charge.included_units;
  const faults = [
    ...meterFaults(meter, `${field}.meter_id`),
    ...price.faults,
    ...percentageFaults(price.price, { meter, draft, field }),
    ...boundFaults(charge, draft, field),
  ];
  if (included < 0n || included > BigInt(quantityMax)) {
    faults.push(
      fault('validation_failed', `${field}.included_units`, {
        message: `included_units ${included} is out of bounds`,
        mend: `Give a whole number from 0 to ${quantityMax}.`,
      }),
    );
  }
  if (faults.length > 0 || price.price === null) return { charge: null, faults };
  const { minimum_minor: minimum, maximum_minor: maximum } = charge;
  return {
    charge: {
      kind: 'usage',
      id: charge.id,
      display_name: charge.display_name,
      meter: freezeMeter(meter),
      price: price.price,
      included_units: included.toString(),
      ...(minimum !== null && { minimum_minor: minimum.toString() }),
      ...(maximum !== null && { maximum_minor: maximum.toString() }),
      ...taxesOf(charge),
    },
    faults,
  };
}

/** A percentage is of money: the meter must add amounts up, and to the currency's smallest unit at least. */
function percentageFaults(
  price: Price | null,
  { meter, draft, field }: { meter: DraftMeter; draft: PlanDraft; field: string },
): Fault[] {
  if (price?.model !== 'percentage') return [];
  if (meter.aggregation !== 'SUM') {
    return [
      fault('percentage_meter', `${field}.meter_id`, {
        message: `a percentage is of an amount of money, and meter ${meter.lookup_id} is a ${meter.aggregation}`,
        mend: 'Use a SUM meter that adds up amounts, or another price model.',
      }),
    ];
  }
  if (!isCurrency(draft.currency) || meter.scale >= placesOf(draft.currency)) return [];
  const places = placesOf(draft.currency);
  return [
    fault('percentage_meter', `${field}.meter_id`, {
      message: `meter ${meter.lookup_id} has the scale ${meter.scale}: amounts of ${draft.currency} with ${places} places do not fit in it`,
      mend: `Use a meter with a scale of at least ${places}, so that its smallest unit is no more than that of the currency.`,
    }),
  ];
}

function boundFaults(charge: DraftCharge, draft: PlanDraft, field: string): Fault[] {
  const { minimum_minor: minimum, maximum_minor: maximum } = charge;
  const spell = (minor: bigint): string =>
    isCurrency(draft.currency) ? formatMoney(minor, draft.currency) : minor.toString();
  if (maximum !== null && maximum <= 0n) {
    return [
      fault('charge_bounds', `${field}.maximum`, {
        message: `the charge ${JSON.stringify(charge.display_name)} costs at most nothing, so it never bills`,
        mend: 'Give a maximum above zero, or none.',
      }),
    ];
  }
  if (minimum === null || maximum === null || minimum <= maximum) return [];
  return [
    fault('charge_bounds', `${field}.minimum`, {
      message: `the minimum ${spell(minimum)} of ${JSON.stringify(charge.display_name)} is above its maximum ${spell(maximum)}`,
      mend: `Give a minimum of at most ${spell(maximum)}, or raise the maximum.`,
    }),
  ];
}

function freezeMeter(meter: DraftMeter): MeterDefinition {
  return {
    id: meter.id,
    key: meter.lookup_id,
    name: meter.name,
    unit_one: meter.unit_one,
    unit_other: meter.unit_other,
    scale: meter.scale,
    aggregation: meter.aggregation,
  };
}

/**
 * A soft limit beside a usage charge on the same meter is the free tier: the limit becomes the charge's included units.
 * Of several, the greatest counts.
 */
function freeTier(draft: PlanDraft, meter: DraftMeter): bigint | null {
  return draft.features.reduce<bigint | null>((greatest, feature) => {
    const isFreeTier = feature.limit_type === 'SOFT' && feature.meter_key === meter.lookup_id;
    if (!isFreeTier || feature.limit === null) return greatest;
    return greatest === null || feature.limit > greatest ? feature.limit : greatest;
  }, null);
}

type FrozenPrice = { readonly price: Price | null; readonly faults: readonly Fault[] };

function freezePrice(charge: DraftCharge, meter: DraftMeter, field: string): FrozenPrice {
  const { price } = charge;
  if (price !== null && 'model' in price) return checkedPrice(price, `${field}.price`);
  const rules = meter.usage_pricing_rules;
  if (price !== null || rules === null) {
    const missing = fault('price_missing', `${field}.price`, {
      message: `neither the charge nor its meter ${meter.lookup_id} has a price per unit`,
      mend: 'Give the charge a unit_price or tiers, or the meter usage_pricing_rules.',
    });
    return { price: null, faults: [missing] };
  }
  const result = tiersOfRanges(rules.tiers, `meters.${meter.lookup_id}.usage_pricing_rules.tiers`);
  if (result.kind === 'refused') return { price: null, faults: result.faults };
  const model = rules.mode === 'VOLUME' ? 'volume' : 'graduated';
  return { price: { model, tiers: result.tiers }, faults: [] };
}

/** A price with canonical decimals, or its faults. */
export function checkedPrice(price: Price, field: string): FrozenPrice {
  switch (price.model) {
    case 'per_unit': {
      const unitPrice = parseUnitPrice(price.unit_price);
      return unitPrice === null
        ? { price: null, faults: [malformedPrice(`${field}.unit_price`, price.unit_price)] }
        : { price: { model: 'per_unit', unit_price: unitPrice }, faults: [] };
    }
    case 'graduated':
    case 'volume': {
      const result = checkedTiers(price.tiers, `${field}.tiers`);
      return result.kind === 'refused'
        ? { price: null, faults: result.faults }
        : { price: { model: price.model, tiers: result.tiers }, faults: [] };
    }
    case 'package': {
      const packagePrice = parseUnitPrice(price.package_price);
      const isSized = quantityGrammar.test(price.package_size) && price.package_size !== '0';
      if (packagePrice !== null && isSized) {
        return { price: { ...price, package_price: packagePrice }, faults: [] };
      }
      const bad = packagePrice === null ? 'package_price' : 'package_size';
      return { price: null, faults: [malformedPrice(`${field}.${bad}`, price[bad])] };
    }
    case 'stairstep': {
      const result = checkedSteps(price.tiers, `${field}.tiers`);
      return result.kind === 'refused'
        ? { price: null, faults: result.faults }
        : { price: { model: 'stairstep', tiers: result.steps }, faults: [] };
    }
    case 'percentage':
      return checkedPercentage(price, field);
    default:
      return price satisfies never;
  }
}

function checkedPercentage(price: PercentagePrice, field: string): FrozenPrice {
  const percent = parseUnitPrice(price.percent);
  const fixedFee = parseUnitPrice(price.fixed_fee);
  const faults: Fault[] = [];
  if (percent === null) {
    faults.push(malformedPrice(`${field}.percent`, price.percent));
  } else if (decimal(percent).gt(100)) {
    faults.push(
      fault('price_malformed', `${field}.percent`, {
        message: `${percent} percent is more than the whole amount`,
        mend: 'Give a percentage from 0 to 100, such as "2.9".',
      }),
    );
  }
  if (fixedFee === null) faults.push(malformedPrice(`${field}.fixed_fee`, price.fixed_fee));
  if (!quantityGrammar.test(price.free_events)) {
    faults.push(
      fault('price_malformed', `${field}.free_events`, {
        message: `${JSON.stringify(price.free_events)} is no number of events`,
        mend: `Give a whole number from 0 to ${quantityMax}.`,
      }),
    );
  }
  if (percent === null || fixedFee === null || faults.length > 0) return { price: null, faults };
  const { free_events } = price;
  return {
    price: { model: 'percentage', percent, fixed_fee: fixedFee, free_events },
    faults: [],
  };
}

type Words = { readonly message: string; readonly mend: string };

function fault(code: ProblemCode, field: string, words: Words): Fault {
  return { code, field, ...words };
}

function refusedCharge(code: ProblemCode, field: string, words: Words): Frozen<never> {
  return { charge: null, faults: [fault(code, field, words)] };
}

function meterFaults(meter: DraftMeter, field: string): Fault[] {
  const faults: Fault[] = [];
  if ([meter.name, meter.unit_one, meter.unit_other].some((word) => word.trim() === '')) {
    faults.push(
      fault('meter_unnamed', field, {
        message: `meter ${meter.lookup_id} has no name or no unit`,
        mend: 'Give it a name and a unit {one, other}: invoices quote them.',
      }),
    );
  }
  const isWhole = meter.aggregation === 'COUNT' || meter.aggregation === 'UNIQUE_COUNT';
  if (isWhole && meter.scale !== 0) {
    faults.push(
      fault('meter_scale', field, {
        message: `meter ${meter.lookup_id} is a ${meter.aggregation} and has the scale ${meter.scale}`,
        mend: 'A COUNT or UNIQUE_COUNT counts whole things: give it the scale 0.',
      }),
    );
  }
  return faults;
}

function intervalFaults(draft: PlanDraft): Fault[] {
  const faults: Fault[] = [];
  if (!isCurrency(draft.currency)) {
    faults.push(
      fault('currency_unknown', 'currency', {
        message: `${JSON.stringify(draft.currency)} is no currency that can be billed in`,
        mend: 'Use an ISO 4217 code in upper case, such as USD.',
      }),
    );
  }
  if (!Number.isInteger(draft.interval_count) || draft.interval_count < 1) {
    faults.push(
      fault('validation_failed', 'interval_count', {
        message: `interval_count ${draft.interval_count} is not a whole number from 1`,
        mend: 'Give 1 for every interval, 3 for every third.',
      }),
    );
  }
  if (draft.base_price_minor !== null && draft.base_price_minor < 0n) {
    faults.push(malformedPrice('base_price', draft.base_price_minor.toString()));
  }
  return faults;
}

function rateLimitFaults(rate: RateLimit, index: number): Fault[] {
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

function repeatFaults(items: readonly { readonly name: string }[], field: string): Fault[] {
  return items.flatMap(({ name }, index) =>
    items.findIndex((item) => item.name === name) === index
      ? []
      : [
          fault('duplicate_name', `${field}[${index}]`, {
            message: `the name ${name} occurs twice`,
            mend: 'Give each its own name.',
          }),
        ],
  );
}

function featureFaults(draft: PlanDraft): Fault[] {
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
  if (!isOfInterval(feature, draft) && (isLong || isFreeTier)) {
    faults.push(
      fault('limit_reset_unsupported', `${field}.reset_interval`, {
        message: `the limit of ${feature.feature_key} resets every ${feature.reset_interval}, the plan bills every ${spellInterval(draft)}`,
        mend: 'Use reset_interval period.',
      }),
    );
  }
  return faults;
}

function isOfInterval(feature: DraftFeature, draft: PlanDraft): boolean {
  const { reset_interval: reset } = feature;
  if (reset === 'period') return true;
  if (reset === 'year' && draft.interval_unit === 'month' && draft.interval_count === 12)
    return true;
  return reset === draft.interval_unit && draft.interval_count === 1;
}

function spellInterval(draft: PlanDraft): string {
  return draft.interval_count === 1
    ? draft.interval_unit
    : `${draft.interval_count} ${draft.interval_unit}s`;
}

function meterKeyOf(charge: Pick<DraftCharge, 'meter_id'>, draft: PlanDraft): string | undefined {
  return draft.meters.find((meter) => meter.id === charge.meter_id)?.lookup_id;
}

function creditFaults(draft: PlanDraft): Fault[] {
  const terms = draft.credit_terms;
  if (terms === null) return [];
  const faults: Fault[] = [];
  if ((draft.credit_definition ?? '').trim() === '') {
    faults.push(
      fault('credit_definition_missing', 'credit_definition', {
        message: 'the product sells credits and does not say what one credit is',
        mend: 'Set credit_definition of the product, for instance to "One credit is one call".',
      }),
    );
  }
  const malformed = (field: string, words: Words): void => {
    faults.push(fault('credit_terms_malformed', `credit_terms.${field}`, words));
  };
  if (!/^[a-z][a-z0-9_]{0,62}$/.test(terms.unit)) {
    malformed('unit', { message: 'the unit has no key', mend: 'Use credit, or another word.' });
  }
  if (!isMicro(terms.included_micro) || BigInt(terms.included_micro) > includedMicroMax) {
    malformed('included_credits', {
      message: 'included_credits is out of bounds',
      mend: `Give a decimal from 0 to ${formatCredits(includedMicroMax)} with at most 6 places.`,
    });
  }
  if (!terms.burn.some((rate) => isMicro(rate.micro_per_unit) && rate.micro_per_unit !== '0')) {
    malformed('burn', {
      message: 'no meter costs credits, so they could never be spent',
      mend: 'Say how many credits one unit of a meter costs.',
    });
  }
  return [...faults, ...burnFaults(terms, draft), ...overageFaults(terms)];
}

function isMicro(text: string): boolean {
  return quantityGrammar.test(text) && BigInt(text) <= microMax;
}

function burnFaults(terms: CreditTerms, draft: PlanDraft): Fault[] {
  const unknown = terms.burn.flatMap((rate, index) =>
    draft.meters.some((meter) => meter.lookup_id === rate.meter_key)
      ? []
      : [
          fault('meter_unknown', `credit_terms.burn[${index}].meter`, {
            message: `there is no meter ${JSON.stringify(rate.meter_key)}`,
            mend: 'Name a meter that exists.',
          }),
        ],
  );
  const malformed = terms.burn.flatMap((rate, index) =>
    isMicro(rate.micro_per_unit)
      ? []
      : [
          fault('credit_terms_malformed', `credit_terms.burn[${index}].credits_per_unit`, {
            message: `the cost of one unit of ${rate.meter_key} is out of bounds`,
            mend: 'Give credits per unit so that one smallest unit costs whole micro-credits.',
          }),
        ],
  );
  const repeats = repeatFaults(
    terms.burn.map((rate) => ({ name: rate.meter_key })),
    'credit_terms.burn',
  );
  return [...unknown, ...malformed, ...repeats];
}

function overageFaults(terms: CreditTerms): Fault[] {
  const price = terms.overage?.credit_price ?? null;
  const bad = [
    { field: 'credit_terms.credit_price', given: terms.credit_price },
    { field: 'credit_terms.overage.credit_price', given: price },
  ].flatMap(({ field, given }) =>
    given !== null && parseUnitPrice(given) === null ? [malformedPrice(field, given)] : [],
  );
  if (terms.overage?.enabled === true && (price ?? terms.credit_price) === null) {
    bad.push(
      fault('overage_price_missing', 'credit_terms.overage', {
        message: 'overage is on and has no price',
        mend: 'Give overage.credit_price, or credit_price.',
      }),
    );
  }
  return bad;
}

/** Subscribers read these names on invoices and in refusals: two that look alike are a trap. */
function nameFaults(draft: PlanDraft): Fault[] {
  const used = new Set([
    ...draft.charges.map((charge) => meterKeyOf(charge, draft)),
    ...draft.features.map((feature) => feature.meter_key),
    ...(draft.credit_terms?.burn ?? []).map((rate) => rate.meter_key),
  ]);
  const meters = draft.meters
    .filter((meter) => used.has(meter.lookup_id))
    .map((meter) => ({ id: meter.id, names: [meter.name, meter.lookup_id] }));
  const features = draft.features.map((feature) => ({
    id: feature.feature_id,
    names: [feature.feature_name, feature.feature_key],
  }));
  return [
    ...alikeFaults(meters, 'meters'),
    ...alikeFaults(features, 'features'),
    ...labelFaults(draft.charges),
  ];
}

/** Two charges may have one label; labels that only nearly are one are taken for each other. */
function labelFaults(charges: readonly DraftCharge[]): Fault[] {
  const labels = [...new Set(charges.map((charge) => charge.display_name))];
  return alikeFaults(
    labels.map((label) => ({ id: label, names: [label] })),
    'charges',
  );
}

type Named = { readonly id: string; readonly names: readonly string[] };

function alikeFaults(items: readonly Named[], field: string): Fault[] {
  return items.flatMap((item, index) =>
    items.slice(0, index).flatMap((other) => {
      if (other.id === item.id) return [];
      const alike = item.names.find((name) =>
        other.names.some((otherName) => singular(name) === singular(otherName)),
      );
      if (alike === undefined) return [];
      return [
        fault('ambiguous_name', field, {
          message: `${JSON.stringify(other.names[0])} and ${JSON.stringify(item.names[0])} differ only in case or plural`,
          mend: 'Rename one of them, or use one for both.',
        }),
      ];
    }),
  );
}

function singular(name: string): string {
  const letters = name.toLowerCase().replaceAll(/[^\p{L}\p{N}]/gu, '');
  return letters.replace(/ies$/, 'y').replace(/s$/, '');
}

function doubleChargeFaults(draft: PlanDraft): Fault[] {
  const metered = draft.charges.map((charge) => charge.meter_id);
  return metered.flatMap((meterId, index) =>
    meterId === null || metered.indexOf(meterId) === index
      ? []
      : [
          fault('duplicate_charge', `charges[${index}].meter_id`, {
            message: `meter ${meterKeyOf({ meter_id: meterId }, draft) ?? meterId} is charged twice`,
            mend: 'Remove one of the two charges, or use tiers.',
          }),
        ],
  );
}

/** Terms that could never matter are mistakes: what was meant is something else. */
function idleFaults(draft: PlanDraft): Fault[] {
  const { commitment_minor: commitment, invoice_threshold_minor: threshold } = draft;
  const faults: Fault[] = [];
  const hasUsage =
    draft.charges.some((charge) => charge.type === 'USAGE') ||
    draft.credit_terms?.overage?.enabled === true;
  if (threshold !== null && !hasUsage) {
    faults.push(
      fault('term_without_effect', 'invoice_threshold', {
        message: 'nothing that is used costs anything, so the threshold is never reached',
        mend: 'Add a USAGE charge or overage, or remove invoice_threshold.',
      }),
    );
  }
  const fees = recurringMinor(draft);
  if (commitment !== null && commitment <= fees) {
    faults.push(
      fault('term_without_effect', 'commitment', {
        message: 'the recurring fees alone come to the commitment, so it never costs anything',
        mend: 'Give a commitment above the recurring fees, which count towards it, or remove it.',
      }),
    );
  }
  return faults;
}

function recurringMinor(draft: PlanDraft): bigint {
  return draft.charges.reduce((sum, { type, price }) => {
    const isFee = type === 'RECURRING' && price !== null && 'amount_minor' in price;
    return isFee && quantityGrammar.test(price.amount_minor)
      ? sum + BigInt(price.amount_minor)
      : sum;
  }, draft.base_price_minor ?? 0n);
}

/** A hard limit at or below what is included, or within units that cost nothing, lets no billable unit through. */
function reachFaults(draft: PlanDraft, charges: readonly Charge[]): Fault[] {
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

function purposeFaults(draft: PlanDraft): Fault[] {
  // A fee whose price is missing or malformed has its own fault: it is meant to bill.
  const isFree = (charge: DraftCharge): boolean =>
    charge.price !== null && 'amount_minor' in charge.price && charge.price.amount_minor === '0';
  const bills =
    (draft.base_price_minor ?? 0n) > 0n ||
    (draft.commitment_minor ?? 0n) > 0n ||
    draft.charges.some((charge) => !isFree(charge));
  const rations =
    draft.rate_limits.length > 0 ||
    draft.credit_terms !== null ||
    draft.features.some((feature) => feature.limit_type === 'HARD' && feature.limit !== null);
  if (bills || rations) return [];
  return [
    fault('neither_rations_nor_bills', 'charges', {
      message: 'the plan has no charge, no hard limit, no rate limit and no credits',
      mend: 'Add a charge, a HARD limit, a rate limit, or credits.',
    }),
  ];
}
