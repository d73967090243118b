/** Plans, versions, charges and plan features as they go out. */
import { z } from 'zod';

import { formatCredits } from '../../billing/credits.ts';
import { formatAmount, isCurrency } from '../../billing/money.ts';
import type { CreditTerms, Price } from '../../billing/plan.ts';
import type { Reader } from '../../store/db.ts';
import { allMeters, type MeterRow } from '../../store/meters.ts';
import {
  listCharges,
  listPlanFeatures,
  planTypes,
  publishedVersion,
  type ChargeRow,
  type PlanFeatureRow,
  type PlanRow,
  type PlanVersionRow,
} from '../../store/plans.ts';
import { findProduct } from '../../store/products.ts';
import { instantText, wireInstant } from './shared.ts';

export const intervalUnits = ['hour', 'day', 'week', 'month', 'year'] as const;
export const resetIntervals = ['hour', 'day', 'week', 'month', 'year', 'period'] as const;

export const priceModels = [
  'per_unit',
  'graduated',
  'volume',
  'package',
  'stairstep',
  'percentage',
] as const satisfies readonly Price['model'][];

const status = z.enum(['draft', 'published', 'archived']);
const nextStep = z.string().nullable().meta({ description: 'What to do with a draft.' });

const price = z
  .strictObject({
    model: z.enum(priceModels),
    unit_price: z.string().optional(),
    tiers: z
      .array(
        z.strictObject({
          up_to: z.string().nullable(),
          unit_price: z.string().optional(),
          flat_fee: z.string(),
        }),
      )
      .optional(),
    package_size: z.string().optional(),
    package_price: z.string().optional(),
    round: z.enum(['up', 'down']).optional(),
    percent: z.string().optional(),
    fixed_fee: z.string().optional(),
    free_events: z.string().optional(),
  })
  .meta({ id: 'Price' });

const chargeFields = {
  id: z.string(),
  object: z.literal('charge'),
  type: z.enum(['RECURRING', 'USAGE', 'ONE_TIME']),
  display_name: z.string(),
  meter_id: z.string().nullable(),
  unit_price: z.string().nullable(),
  price: price.nullable(),
  price_source: z
    .enum(['charge', 'meter'])
    .meta({ description: "`meter`: the meter's usage_pricing_rules, frozen when published." }),
  amount: z.string().nullable(),
  included_units: z.string(),
  minimum: z.string().nullable(),
  maximum: z.string().nullable(),
  bill_in: z.enum(['advance', 'arrears']),
  tax_rate_ids: z
    .array(z.string())
    .meta({ description: "Empty: the subscriber's taxes hold, else the operator's." }),
  created_at: instantText(),
};
export const Charge = z.strictObject(chargeFields).meta({ id: 'Charge' });
export const ChargeOfDraft = z
  .strictObject({
    ...chargeFields,
    plan_id: z.string(),
    plan_version: z.number().int(),
    status,
    next_step: nextStep,
  })
  .meta({ id: 'ChargeOfDraft' });

const PlanFeatureAnswer = z
  .strictObject({
    object: z.literal('plan_feature'),
    feature_id: z.string(),
    lookup_id: z.string(),
    name: z.string(),
    limit: z.string().nullable(),
    limit_type: z.enum(['HARD', 'SOFT']),
    reset_interval: z.enum(resetIntervals),
  })
  .meta({ id: 'PlanFeature' });

const rateLimit = z
  .strictObject({
    kind: z.enum(['rate', 'concurrency']),
    name: z.string(),
    limit: z.number().int(),
    window_ms: z.number().int().optional(),
  })
  .meta({ id: 'RateLimit' });

const versionFields = {
  version: z.number().int(),
  version_id: z.string(),
  status,
  next_step: nextStep,
  currency: z.string(),
  billing_interval: z.enum(intervalUnits),
  billing_interval_count: z.number().int(),
  billing_time: z.enum(['anniversary', 'calendar']),
  base_price: z.string().nullable(),
  included_credits: z.string().nullable(),
  credit_unit: z.string().nullable(),
  credit_definition: z
    .string()
    .nullable()
    .meta({ description: 'What the product says one credit is; null on a plan without credits.' }),
  credit_price: z.string().nullable(),
  overage: z.strictObject({ enabled: z.boolean(), credit_price: z.string() }).nullable(),
  credit_rates: z.array(
    z.strictObject({ meter_id: z.string(), lookup_id: z.string(), credits: z.string() }),
  ),
  rate_limits: z.array(rateLimit),
  proration: z.enum(['day', 'second']),
  prices_include_tax: z.boolean(),
  commitment: z.string().nullable(),
  invoice_threshold: z.string().nullable(),
  charges: z.array(Charge),
  features: z.array(PlanFeatureAnswer),
  published_at: instantText().nullable(),
};

export const Plan = z
  .strictObject({
    id: z.string(),
    object: z.literal('plan'),
    environment: z.enum(['test', 'live']),
    product_id: z.string(),
    lookup_id: z.string(),
    name: z.string(),
    type: z.enum(planTypes),
    published_version: z
      .number()
      .int()
      .nullable()
      .meta({ description: 'What a new subscription gets; null while nothing is published.' }),
    ...versionFields,
    created_at: instantText(),
    archived_at: instantText()
      .nullable()
      .meta({ description: 'From when on nobody could subscribe to it any more.' }),
  })
  .meta({ id: 'Plan' });

export const PlanVersion = z
  .strictObject({
    id: z.string(),
    object: z.literal('plan_version'),
    plan_id: z.string(),
    ...versionFields,
    created_at: instantText(),
  })
  .meta({ id: 'PlanVersion' });

/** One version with everything in it. */
export async function versionToWire(
  reader: Reader,
  plan: PlanRow,
  version: PlanVersionRow,
): Promise<Omit<z.output<typeof PlanVersion>, 'id' | 'object' | 'plan_id' | 'created_at'>> {
  const meters = await allMeters(reader, plan.environment);
  const charges = await listCharges(reader, version.id);
  const features = await listPlanFeatures(reader, version.id);
  const terms = version.credit_terms;
  return {
    version: version.version,
    version_id: version.id,
    status: version.state,
    next_step: nextStepOf(plan, version),
    currency: version.currency,
    billing_interval: version.interval_unit,
    billing_interval_count: version.interval_count,
    billing_time: version.billing_time,
    base_price: amountOf(version.base_price_minor, version.currency),
    included_credits: terms === null ? null : formatCredits(BigInt(terms.included_micro)),
    credit_unit: terms?.unit ?? null,
    credit_definition: terms === null ? null : await creditDefinitionOf(reader, plan),
    credit_price: terms?.credit_price ?? null,
    overage: terms?.overage ?? null,
    credit_rates: terms === null ? [] : ratesToWire(terms, meters),
    rate_limits: version.rate_limits.map((limit) => ({ ...limit })),
    proration: version.proration,
    prices_include_tax: version.prices_include_tax,
    commitment: amountOf(version.commitment_minor, version.currency),
    invoice_threshold: amountOf(version.invoice_threshold_minor, version.currency),
    charges: charges.map((charge) => chargeToWire(charge, version)),
    features: features.map((feature) => planFeatureToWire(feature)),
    published_at: wireInstant(version.published_at),
  };
}

async function creditDefinitionOf(reader: Reader, plan: PlanRow): Promise<string | null> {
  const product = await findProduct(reader, plan.environment, plan.product_id);
  return product?.credit_definition ?? null;
}

export async function planToWire(
  reader: Reader,
  plan: PlanRow,
  version: PlanVersionRow,
): Promise<z.output<typeof Plan>> {
  return {
    id: plan.id,
    object: 'plan',
    environment: plan.environment,
    product_id: plan.product_id,
    lookup_id: plan.lookup_id,
    name: plan.name,
    type: plan.type,
    published_version: (await publishedVersion(reader, plan.id))?.version ?? null,
    ...(await versionToWire(reader, plan, version)),
    created_at: wireInstant(plan.created_at),
    archived_at: wireInstant(plan.archived_at),
  };
}

/** How a draft is published, in words; null for a version that is. */
export function nextStepOf(
  plan: Pick<PlanRow, 'id' | 'archived_at'>,
  version: Pick<PlanVersionRow, 'state'>,
): string | null {
  if (plan.archived_at !== null) return null;
  return version.state === 'draft'
    ? `This is a draft: nobody can subscribe to it yet. Publish it with POST /api/v1/plans/${plan.id}/publish.`
    : null;
}

export function chargeToWire(
  row: ChargeRow,
  version: Pick<PlanVersionRow, 'currency' | 'definition'>,
): z.output<typeof Charge> {
  const frozen = version.definition?.charges.find(({ id }) => id === row.id);
  const own = row.price !== null && 'model' in row.price ? row.price : null;
  const shown = own ?? (frozen?.kind === 'usage' ? frozen.price : null);
  const amount = row.price !== null && 'amount_minor' in row.price ? row.price.amount_minor : null;
  return {
    id: row.id,
    object: 'charge',
    type: row.type,
    display_name: row.display_name,
    meter_id: row.meter_id,
    unit_price: shown?.model === 'per_unit' ? shown.unit_price : null,
    price: shown === null ? null : priceToWire(shown),
    price_source: row.type === 'USAGE' && own === null ? 'meter' : 'charge',
    amount: amount === null ? null : amountOf(BigInt(amount), version.currency),
    included_units: row.included_units.toString(),
    minimum: amountOf(row.minimum_minor, version.currency),
    maximum: amountOf(row.maximum_minor, version.currency),
    bill_in: row.bill_in,
    tax_rate_ids: [...row.tax_rate_ids],
    created_at: wireInstant(row.created_at),
  };
}

// Named one by one: what comes back from jsonb has its keys in another order.
function priceToWire(given: Price): z.output<typeof price> {
  switch (given.model) {
    case 'per_unit':
      return { model: given.model, unit_price: given.unit_price };
    case 'graduated':
    case 'volume':
      return {
        model: given.model,
        tiers: given.tiers.map(({ up_to, unit_price, flat_fee }) => ({
          up_to,
          unit_price,
          flat_fee,
        })),
      };
    case 'package': {
      const { model, package_size, package_price, round } = given;
      return { model, package_size, package_price, round: round ?? 'up' };
    }
    case 'stairstep':
      return {
        model: given.model,
        tiers: given.tiers.map(({ up_to, flat_fee }) => ({ up_to, flat_fee })),
      };
    case 'percentage': {
      const { model, percent, fixed_fee, free_events } = given;
      return { model, percent, fixed_fee, free_events };
    }
    default:
      return given satisfies never;
  }
}

function planFeatureToWire(row: PlanFeatureRow): z.output<typeof PlanFeatureAnswer> {
  return {
    object: 'plan_feature',
    feature_id: row.feature_id,
    lookup_id: row.feature_key,
    name: row.feature_name,
    limit: row.limit === null ? null : row.limit.toString(),
    limit_type: row.limit_type,
    reset_interval: row.reset_interval,
  };
}

function ratesToWire(
  terms: CreditTerms,
  meters: readonly MeterRow[],
): z.output<typeof Plan>['credit_rates'] {
  return terms.burn.map(({ meter_key, micro_per_unit }) => {
    const meter = meters.find(({ lookup_id }) => lookup_id === meter_key);
    const perWholeUnit = BigInt(micro_per_unit) * 10n ** BigInt(meter?.scale ?? 0);
    return {
      meter_id: meter?.id ?? meter_key,
      lookup_id: meter_key,
      credits: formatCredits(perWholeUnit),
    };
  });
}

/** Minor units as a decimal string in their currency; null stays null. */
export function amountOf(minor: bigint | null, currency: string): string | null {
  if (minor === null) return null;
  if (!isCurrency(currency)) throw new Error(`${currency} is not a currency that is billed in`);
  return formatAmount(minor, currency);
}

const chargeExample = {
  id: 'chg_5h2k9x0q7w3m1n8b4v6c2z',
  object: 'charge',
  type: 'USAGE',
  display_name: 'API calls ($0.001 each)',
  meter_id: 'mtr_5h2k9x0q7w3m1n8b4v6c2z',
  unit_price: '0.001',
  price: { model: 'per_unit', unit_price: '0.001' },
  price_source: 'charge',
  amount: null,
  included_units: '0',
  minimum: null,
  maximum: null,
  bill_in: 'arrears',
  tax_rate_ids: [],
  created_at: '2026-01-01T00:00:00.000Z',
};
const versionExample = {
  version: 1,
  version_id: 'pver_5h2k9x0q7w3m1n8b4v6c2z',
  status: 'draft',
  next_step:
    'This is a draft: nobody can subscribe to it yet. Publish it with POST /api/v1/plans/plan_5h2k9x0q7w3m1n8b4v6c2z/publish.',
  currency: 'USD',
  billing_interval: 'month',
  billing_interval_count: 1,
  billing_time: 'anniversary',
  base_price: null,
  included_credits: null,
  credit_unit: null,
  credit_definition: null,
  credit_price: null,
  overage: null,
  credit_rates: [],
  rate_limits: [],
  proration: 'day',
  prices_include_tax: false,
  commitment: null,
  invoice_threshold: null,
  charges: [chargeExample],
  features: [],
  published_at: null,
};
export const planExample = {
  id: 'plan_5h2k9x0q7w3m1n8b4v6c2z',
  object: 'plan',
  environment: 'test',
  product_id: 'prod_5h2k9x0q7w3m1n8b4v6c2z',
  lookup_id: 'payg',
  name: 'Pay-as-you-go',
  type: 'USAGE',
  published_version: null,
  ...versionExample,
  created_at: '2026-01-01T00:00:00.000Z',
  archived_at: null,
};
export const planVersionExample = {
  id: 'pver_5h2k9x0q7w3m1n8b4v6c2z',
  object: 'plan_version',
  plan_id: 'plan_5h2k9x0q7w3m1n8b4v6c2z',
  ...versionExample,
  created_at: '2026-01-01T00:00:00.000Z',
};
export const chargeOfDraftExample = {
  ...chargeExample,
  plan_id: 'plan_5h2k9x0q7w3m1n8b4v6c2z',
  plan_version: 1,
  status: 'draft',
  next_step: versionExample.next_step,
};
