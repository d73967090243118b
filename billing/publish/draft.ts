import type {
  CreditTerms,
  IntervalUnit,
  MeterDefinition,
  PlanFeature,
  Price,
  RateLimit,
} from '../plan.ts';
import type { TierRange } from './tiers.ts';

/** A plan version before it is published, in the shape of the stored rows; nothing of it is trusted. */
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

/** One priced thing of a draft. A fee has an amount, usage a meter and a price, or the meter's own price. */
export type DraftCharge = {
  readonly id: string;
  readonly type: 'RECURRING' | 'USAGE' | 'ONE_TIME';
  readonly display_name: string;
  readonly meter_id: string | null;
  /** Null on a usage charge: the meter's own pricing rules. */
  readonly price: Price | { readonly amount_minor: string } | null;
  /** Of the meter's smallest unit, in each interval. */
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
  /** Of the meter's smallest unit; null = the feature is in the plan without a limit. */
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
  /** How many decimals of the unit its integers carry. */
  readonly scale: number;
  readonly aggregation: MeterDefinition['aggregation'];
  readonly usage_pricing_rules: {
    readonly mode: 'GRADUATED' | 'VOLUME';
    readonly tiers: readonly TierRange[];
  } | null;
};

/** The key of the meter that a charge is of; undefined for a fee, and where there is no such meter. */
export function meterKeyOf(
  charge: Pick<DraftCharge, 'meter_id'>,
  draft: PlanDraft,
): string | undefined {
  return draft.meters.find((meter) => meter.id === charge.meter_id)?.lookup_id;
}
