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
};

export type IntervalUnit = 'hour' | 'day' | 'week' | 'month' | 'year';

export type Charge =
  | {
      readonly kind: 'recurring';
      readonly id: string;
      readonly display_name: string;
      readonly amount_minor: string;
    }
  | {
      readonly kind: 'one_time';
      readonly id: string;
      readonly display_name: string;
      readonly amount_minor: string;
    }
  | {
      readonly kind: 'usage';
      readonly id: string;
      readonly display_name: string;
      readonly meter: MeterDefinition;
      readonly price: Price;
      /** Integer string in the meter's smallest unit: what the fee already pays for in each interval. */
      readonly included_units: string;
    };

/** The meter as it was when the version was published: a later rename changes no invoice line that quotes it. */
export type MeterDefinition = {
  readonly id: string;
  readonly key: string;
  readonly name: string;
  readonly unit_one: string;
  readonly unit_other: string;
  readonly scale: number;
  readonly aggregation: Aggregation;
};
export type Aggregation = 'SUM' | 'COUNT' | 'MAX' | 'LATEST' | 'UNIQUE_COUNT' | 'WEIGHTED_SUM';

/** Unit prices are decimal strings per whole unit of the meter, in major units of the currency, up to 12 places. */
export type Price =
  | { readonly model: 'per_unit'; readonly unit_price: string }
  | { readonly model: 'graduated' | 'volume'; readonly tiers: readonly Tier[] }
  | { readonly model: 'package'; readonly package_size: string; readonly package_price: string };
/** `up_to` is inclusive, an integer string in whole units; null = no upper bound (last tier only). */
export type Tier = {
  readonly up_to: string | null;
  readonly unit_price: string;
  readonly flat_fee: string;
};

export type PlanFeature = {
  readonly id: string;
  readonly key: string;
  readonly meter_key: string | null;
  /** Integer string in the meter's smallest unit; null = the feature is in the plan without a limit. */
  readonly limit: string | null;
  readonly limit_type: 'HARD' | 'SOFT';
  readonly reset_interval: 'hour' | 'day' | 'week' | 'month' | 'year' | 'period';
};

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
  readonly included_micro: string;
  readonly overage: { readonly enabled: boolean; readonly credit_price: string } | null;
  readonly credit_price: string | null;
  /** The burn table: what one smallest unit of each meter costs. */
  readonly burn: readonly { readonly meter_key: string; readonly micro_per_unit: string }[];
};
