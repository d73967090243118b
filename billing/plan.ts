import type { Currency } from './money.ts';

/**
 * The commercial model of a plan version, as it is frozen into `plan_versions.definition` when the version is published.
 * Amounts are decimal strings here (it is stored as JSON); `money.ts` turns them into minor units where they are computed.
 */
export type PlanDefinition = {
  readonly currency: Currency;
  readonly interval: { readonly unit: IntervalUnit; readonly count: number };
  readonly billing_time: 'anniversary' | 'calendar';
  readonly charges: readonly Charge[];
  readonly features: readonly PlanFeature[];
  readonly rate_limits: readonly RateLimit[];
  readonly credits: CreditTerms | null;
  /** How a part of an interval is measured: by calendar days, which is the default, or to the second. */
  readonly proration?: 'day' | 'second';
  /** Whether the amounts hold the tax already; default: it comes on top. */
  readonly prices_include_tax?: boolean;
  /** Integer string in minor units: the least that fees and usage of an interval come to together. */
  readonly commitment_minor?: string;
  /** Integer string in minor units: usage that costs so much is invoiced before the interval ends. */
  readonly invoice_threshold_minor?: string;
};

export type IntervalUnit = 'hour' | 'day' | 'week' | 'month' | 'year';

export type Charge =
  | {
      readonly kind: 'recurring';
      readonly id: string;
      readonly display_name: string;
      /** Integer string in minor units, for each interval. */
      readonly amount_minor: string;
      /** Default arrears. */
      readonly bill_in?: 'advance' | 'arrears';
      readonly tax_rate_ids?: TaxRateIds;
    }
  | {
      readonly kind: 'one_time';
      readonly id: string;
      readonly display_name: string;
      /** Integer string in minor units, due once with the first invoice. */
      readonly amount_minor: string;
      readonly tax_rate_ids?: TaxRateIds;
    }
  | {
      readonly kind: 'usage';
      readonly id: string;
      readonly display_name: string;
      readonly meter: MeterDefinition;
      readonly price: Price;
      /** Integer string in the meter's smallest unit: what the fee already pays for in each interval. */
      readonly included_units: string;
      /** Integer string in minor units: the least that the charge costs in an interval; a line makes up what is missing. */
      readonly minimum_minor?: string;
      /** Integer string in minor units: the most that the charge costs in an interval; a line takes off what is above. */
      readonly maximum_minor?: string;
      readonly tax_rate_ids?: TaxRateIds;
    };

/** The taxes of one charge; absent or empty: those of the subscriber, else those of the operator. */
type TaxRateIds = readonly string[];

export type UsageCharge = Extract<Charge, { kind: 'usage' }>;

/** What of a plan an invoice is worked out from. */
export type BillableDefinition = Pick<
  PlanDefinition,
  'currency' | 'credits' | 'charges' | 'proration' | 'prices_include_tax' | 'commitment_minor'
>;

/** The meter as it was when the version was published: a later rename changes no invoice line that quotes it. */
export type MeterDefinition = {
  readonly id: string;
  readonly key: string;
  readonly name: string;
  readonly unit_one: string;
  readonly unit_other: string;
  /** 0–9: how many decimals of the unit its integers carry. `dollars` with 6: $0.0042 is recorded as 4200. */
  readonly scale: number;
  readonly aggregation: Aggregation;
};
export type Aggregation = 'SUM' | 'COUNT' | 'MAX' | 'LATEST' | 'UNIQUE_COUNT' | 'WEIGHTED_SUM';

/** Unit prices are decimal strings per whole unit of the meter, in major units of the currency, up to 12 places. */
export type Price =
  | { readonly model: 'per_unit'; readonly unit_price: string }
  | { readonly model: 'graduated' | 'volume'; readonly tiers: readonly Tier[] }
  | PackagePrice
  /** The whole quantity falls in one step and costs that step's flat fee. */
  | { readonly model: 'stairstep'; readonly tiers: readonly Step[] }
  | PercentagePrice;

/**
 * A part of the amount that the meter counts (whole units are major units of the currency), and a fee for each event
 * past the free ones. Free units are the charge's `included_units`.
 */
export type PercentagePrice = {
  readonly model: 'percentage';
  /** Plain decimal, 0–100. */
  readonly percent: string;
  /** Of each event past the free ones, in major units. */
  readonly fixed_fee: string;
  /** Integer string. */
  readonly free_events: string;
};

/** A price for each package that is begun, or, with `round: 'down'`, for each that is full. */
export type PackagePrice = {
  readonly model: 'package';
  /** Integer string in whole units, above zero. */
  readonly package_size: string;
  /** Of one package, in major units. */
  readonly package_price: string;
  /** Default up. */
  readonly round?: 'up' | 'down';
};

/** `up_to` as in `Tier`. */
export type Step = { readonly up_to: string | null; readonly flat_fee: string };
/**
 * `up_to` is inclusive, an integer string in whole units; null = no upper bound (last tier only). The flat fee, in major
 * units, is due when the tier is entered, that of the first tier also without any usage.
 */
export type Tier = {
  readonly up_to: string | null;
  readonly unit_price: string;
  readonly flat_fee: string;
};

/** Something that the plan contains, and the quota on it: HARD refuses what is above, SOFT counts it. */
export type PlanFeature = {
  readonly id: string;
  readonly key: string;
  readonly meter_key: string | null;
  /** Integer string in the meter's smallest unit; null = the feature is in the plan without a limit. */
  readonly limit: string | null;
  readonly limit_type: 'HARD' | 'SOFT';
  readonly reset_interval: 'hour' | 'day' | 'week' | 'month' | 'year' | 'period';
};

/** How often the gateway lets requests through, or how many at once; windows in milliseconds. */
export type RateLimit =
  | {
      readonly kind: 'rate';
      readonly name: string;
      readonly limit: number;
      readonly window_ms: number;
    }
  | { readonly kind: 'concurrency'; readonly name: string; readonly limit: number };

/** Credits as the unit of sale. Micro-credits are integer strings, prices decimal strings per whole credit. */
export type CreditTerms = {
  readonly unit: string;
  /** Granted with each interval. */
  readonly included_micro: string;
  /** Usage past the credits: billed in arrears where it is enabled, else refused. */
  readonly overage: { readonly enabled: boolean; readonly credit_price: string } | null;
  /** What a credit costs past the balance where `overage` has no price of its own; null = not sold. */
  readonly credit_price: string | null;
  /** The burn table: what one smallest unit of each meter costs. */
  readonly burn: readonly { readonly meter_key: string; readonly micro_per_unit: string }[];
};
