import assert from 'node:assert/strict';
import fc from 'fast-check';
import type { Price, Tier } from '../../billing/plan.ts';
import { isProblemCode } from '../../billing/problem.ts';
import type {
  DraftCharge,
  DraftFeature,
  DraftMeter,
  PlanDraft,
} from '../../billing/publish/draft.ts';
import { publishPlan } from '../../billing/publish.ts';
import { checkedTiers, tiersOfRanges, type TierRange } from '../../billing/publish/tiers.ts';

const calls: DraftMeter = {
  id: 'mtr_1',
  lookup_id: 'api_calls',
  name: 'API Calls',
  unit_one: 'call',
  unit_other: 'calls',
  scale: 0,
  aggregation: 'SUM',
  usage_pricing_rules: null,
};
const perCall: Price = { model: 'per_unit', unit_price: '0.001' };

function charge(more: Partial<DraftCharge> = {}): DraftCharge {
  return {
    id: 'chg_1',
    type: 'USAGE',
    display_name: 'API calls',
    meter_id: 'mtr_1',
    price: perCall,
    included_units: 0n,
    bill_in: 'arrears',
    minimum_minor: null,
    maximum_minor: null,
    tax_rate_ids: [],
    ...more,
  };
}

function limit(more: Partial<DraftFeature> = {}): DraftFeature {
  return {
    feature_id: 'feat_1',
    feature_key: 'requests',
    feature_name: 'Requests a month',
    meter_key: 'api_calls',
    limit: 1_000n,
    limit_type: 'HARD',
    reset_interval: 'period',
    ...more,
  };
}

const credits = {
  unit: 'credit',
  included_micro: '1000000000',
  overage: { enabled: true, credit_price: '0.03' },
  credit_price: null,
  burn: [{ meter_key: 'api_calls', micro_per_unit: '1000000' }],
} as const;

const card = { model: 'percentage', percent: '2.9', fixed_fee: '0.3', free_events: '0' } as const;

const aggregations = ['SUM', 'COUNT', 'MAX', 'LATEST', 'UNIQUE_COUNT', 'WEIGHTED_SUM'] as const;

function steps(...of: readonly (readonly [string | null, string])[]): Price {
  return { model: 'stairstep', tiers: of.map(([up_to, flat_fee]) => ({ up_to, flat_fee })) };
}

function draft(more: Partial<PlanDraft> = {}): PlanDraft {
  return {
    currency: 'USD',
    interval_unit: 'month',
    interval_count: 1,
    billing_time: 'anniversary',
    base_price_minor: null,
    credit_terms: null,
    rate_limits: [],
    proration: 'day',
    prices_include_tax: false,
    commitment_minor: null,
    invoice_threshold_minor: null,
    charges: [charge()],
    features: [],
    meters: [calls],
    tax_rates: [],
    credit_definition: 'One credit is one call.',
    ...more,
  };
}

function codes(given: PlanDraft): string[] {
  const result = publishPlan(given);
  if (result.kind === 'ok') return [];
  for (const one of result.faults) {
    assert.ok(isProblemCode(one.code));
    assert.ok(one.field !== '' && one.message !== '');
    assert.match(one.mend, /\.$/);
  }
  return result.faults.map((one) => one.code);
}

function frozen(given: PlanDraft) {
  const result = publishPlan(given);
  assert.ok(result.kind === 'ok', JSON.stringify(result));
  return result.definition;
}

describe('billing/publish › freezes', () => {
  for (const aggregation of aggregations) {
    it(`a charge for a ${aggregation}`, () => {
      const [only] = frozen(draft({ meters: [{ ...calls, aggregation }] })).charges;
      assert.equal(only?.kind === 'usage' && only.meter.aggregation, aggregation);
    });
  }

  it('every term of a charge and of the plan, and leaves the defaults out', () => {
    const taxes = ['txr_1'];
    const definition = frozen(
      draft({
        proration: 'second',
        prices_include_tax: true,
        commitment_minor: 9_900n,
        invoice_threshold_minor: 5_000n,
        tax_rates: [{ id: 'txr_1', lookup_id: 'vat', archived_at: null }],
        charges: [
          charge({
            price: steps(['10', '1.50'], [null, '2']),
            minimum_minor: 100n,
            maximum_minor: 200n,
            tax_rate_ids: taxes,
          }),
          charge({
            id: 'fee',
            type: 'RECURRING',
            display_name: 'Seat',
            meter_id: null,
            price: { amount_minor: '500' },
            bill_in: 'advance',
          }),
        ],
      }),
    );
    const { charges, proration, prices_include_tax, commitment_minor, invoice_threshold_minor } =
      definition;
    assert.deepEqual(
      { proration, prices_include_tax, commitment_minor, invoice_threshold_minor },
      {
        proration: 'second',
        prices_include_tax: true,
        commitment_minor: '9900',
        invoice_threshold_minor: '5000',
      },
    );
    assert.deepEqual(
      charges.map(({ kind, tax_rate_ids }) => ({ kind, tax_rate_ids })),
      [
        { kind: 'usage', tax_rate_ids: taxes },
        { kind: 'recurring', tax_rate_ids: undefined },
      ],
    );
    const [usage, fee] = charges;
    assert.ok(usage?.kind === 'usage' && fee?.kind === 'recurring');
    assert.deepEqual(usage.price, steps(['10', '1.5'], [null, '2']));
    assert.deepEqual([usage.minimum_minor, usage.maximum_minor], ['100', '200']);
    assert.deepEqual(fee, {
      kind: 'recurring',
      id: 'fee',
      display_name: 'Seat',
      amount_minor: '500',
      bill_in: 'advance',
    });
    assert.deepEqual(
      Object.keys(frozen(draft())).filter((key) => !(key in definition)),
      [],
    );
    assert.ok(!('proration' in frozen(draft())));
  });

  it('pay as you go', () => {
    assert.deepEqual(
      frozen(draft({ charges: [charge({ price: { model: 'per_unit', unit_price: '0.0010' } })] })),
      {
        currency: 'USD',
        interval: { unit: 'month', count: 1 },
        billing_time: 'anniversary',
        charges: [
          {
            kind: 'usage',
            id: 'chg_1',
            display_name: 'API calls',
            meter: {
              id: 'mtr_1',
              key: 'api_calls',
              name: 'API Calls',
              unit_one: 'call',
              unit_other: 'calls',
              scale: 0,
              aggregation: 'SUM',
            },
            price: perCall,
            included_units: '0',
          },
        ],
        features: [],
        rate_limits: [],
        credits: null,
      },
    );
  });

  it('a base price and credits with any plan: the base price is the first charge', () => {
    const definition = frozen(
      draft({ base_price_minor: 4_900n, charges: [], credit_terms: credits }),
    );
    assert.deepEqual(definition.charges, [
      { kind: 'recurring', id: 'base_price', display_name: 'Base price', amount_minor: '4900' },
    ]);
    assert.deepEqual(definition.credits, credits);
    assert.deepEqual(frozen(draft({ base_price_minor: 0n })).charges.length, 1);
  });

  it('fees, features and rate limits', () => {
    const definition = frozen(
      draft({
        charges: [
          charge({ type: 'RECURRING', meter_id: null, price: { amount_minor: '2900' } }),
          charge({ id: 'chg_2', type: 'ONE_TIME', meter_id: null, price: { amount_minor: '500' } }),
        ],
        features: [limit()],
        rate_limits: [{ kind: 'rate', name: 'burst', limit: 5, window_ms: 1_000 }],
      }),
    );
    const name = { display_name: 'API calls' };
    assert.deepEqual(definition.charges, [
      { kind: 'recurring', id: 'chg_1', ...name, amount_minor: '2900' },
      { kind: 'one_time', id: 'chg_2', ...name, amount_minor: '500' },
    ]);
    assert.deepEqual(definition.features, [
      {
        id: 'feat_1',
        key: 'requests',
        meter_key: 'api_calls',
        limit: '1000',
        limit_type: 'HARD',
        reset_interval: 'period',
      },
    ]);
  });

  it('a soft limit beside a usage charge becomes its included units: the free tier', () => {
    const included = (features: readonly DraftFeature[]): string => {
      const [first] = frozen(draft({ features })).charges;
      assert.ok(first?.kind === 'usage');
      return first.included_units;
    };
    assert.equal(included([limit({ limit_type: 'SOFT' })]), '1000');
    assert.equal(included([limit({ limit_type: 'SOFT', reset_interval: 'month' })]), '1000');
    assert.equal(included([limit({ limit_type: 'SOFT', limit: null })]), '0');
    const other = limit({
      feature_id: 'feat_2',
      feature_key: 'more',
      feature_name: 'More',
      limit: 2_000n,
    });
    assert.equal(
      included([{ ...other, limit_type: 'SOFT' }, limit({ limit_type: 'SOFT' })]),
      '2000',
    );
    assert.equal(
      included([limit({ limit_type: 'SOFT' }), { ...other, limit_type: 'SOFT' }]),
      '2000',
    );
    const elsewhere = { ...other, limit_type: 'SOFT', meter_key: 'tokens' } as const;
    assert.equal(included([limit({ limit_type: 'SOFT' }), elsewhere]), '1000');
    assert.equal(included([limit()]), '0');
  });

  it('a charge without a price takes its meter’s rules', () => {
    const rules = {
      mode: 'GRADUATED',
      tiers: [
        { from: '0', to: '1000', unit_price: '0.002' },
        { from: '1001', to: '10000', unit_price: '0.001' },
        { from: '10001', to: null, unit_price: '0.0005' },
      ],
    } as const;
    const meters = [{ ...calls, usage_pricing_rules: rules }];
    const [first] = frozen(draft({ charges: [charge({ price: null })], meters })).charges;
    assert.ok(first?.kind === 'usage');
    assert.deepEqual(first.price, {
      model: 'graduated',
      tiers: [
        { up_to: '1000', unit_price: '0.002', flat_fee: '0' },
        { up_to: '10000', unit_price: '0.001', flat_fee: '0' },
        { up_to: null, unit_price: '0.0005', flat_fee: '0' },
      ],
    });
    const volume = [{ ...calls, usage_pricing_rules: { ...rules, mode: 'VOLUME' as const } }];
    const [second] = frozen(draft({ charges: [charge({ price: null })], meters: volume })).charges;
    assert.ok(second?.kind === 'usage');
    assert.equal(second.price.model, 'volume');
    const own: Price = {
      model: 'volume',
      tiers: [{ up_to: null, unit_price: '0.50', flat_fee: '1.0' }],
    };
    const [third] = frozen(draft({ charges: [charge({ price: own })], meters })).charges;
    assert.deepEqual(third?.kind === 'usage' && third.price, {
      model: 'volume',
      tiers: [{ up_to: null, unit_price: '0.5', flat_fee: '1' }],
    });
  });
});

describe('billing/publish › refuses, each by name and with its mend', () => {
  const bare = { charges: [] };
  const tiers = (...given: readonly [string | null, string][]): DraftCharge =>
    charge({
      price: {
        model: 'graduated',
        tiers: given.map(([up_to, unit_price]) => ({ up_to, unit_price, flat_fee: '0' })),
      },
    });
  const meter = (more: Partial<DraftMeter>): Partial<PlanDraft> => ({
    meters: [{ ...calls, ...more }],
  });
  const rows: readonly (readonly [string, Partial<PlanDraft>, readonly string[]])[] = [
    ['nothing at all', bare, ['neither_rations_nor_bills']],
    [
      'features only',
      { ...bare, features: [limit({ limit: null })] },
      ['neither_rations_nor_bills'],
    ],
    [
      'a soft limit only',
      { ...bare, features: [limit({ limit_type: 'SOFT' })] },
      ['neither_rations_nor_bills'],
    ],
    [
      'a fee of zero only',
      { charges: [charge({ type: 'RECURRING', meter_id: null, price: { amount_minor: '0' } })] },
      ['neither_rations_nor_bills'],
    ],
    ['a base price of zero only', { ...bare, base_price_minor: 0n }, ['neither_rations_nor_bills']],
    ['a hard limit only: it rations', { ...bare, features: [limit()] }, []],
    [
      'a rate limit only: it rations',
      { ...bare, rate_limits: [{ kind: 'concurrency', name: 'c', limit: 1 }] },
      [],
    ],
    [
      'a hard limit at the included units',
      { charges: [charge({ included_units: 1_000n })], features: [limit()] },
      ['unreachable_charge'],
    ],
    [
      'a hard limit above the included units',
      { charges: [charge({ included_units: 999n })], features: [limit()] },
      [],
    ],
    [
      'a hard limit of zero each day',
      { features: [limit({ limit: 0n, reset_interval: 'day' })] },
      ['unreachable_charge'],
    ],
    [
      'a daily hard limit below the monthly included units',
      {
        charges: [charge({ included_units: 5_000n })],
        features: [limit({ reset_interval: 'day' })],
      },
      [],
    ],
    [
      'a free tier that resets each day',
      { features: [limit({ limit_type: 'SOFT', reset_interval: 'day' })] },
      ['limit_reset_unsupported'],
    ],
    [
      'a daily soft limit on what is not charged',
      {
        ...bare,
        base_price_minor: 1n,
        features: [limit({ limit_type: 'SOFT', reset_interval: 'day' })],
      },
      [],
    ],
    [
      'a monthly limit on a yearly plan',
      { interval_unit: 'year', features: [limit({ reset_interval: 'month' })] },
      ['limit_reset_unsupported'],
    ],
    [
      'a yearly limit on a plan of 12 months',
      { interval_count: 12, features: [limit({ reset_interval: 'year' })] },
      [],
    ],
    [
      'a limit without a meter',
      { features: [limit({ meter_key: null })] },
      ['limit_without_meter'],
    ],
    ['a limit out of bounds', { features: [limit({ limit: 10n ** 15n })] }, ['validation_failed']],
    [
      'more features than a shard takes',
      {
        features: Array.from({ length: 129 }, (_, index) =>
          limit({ feature_key: `feature_${index}`, feature_name: `Feature ${index}`, limit: null }),
        ),
      },
      ['validation_failed'],
    ],
    [
      'as many features as a shard takes',
      {
        features: Array.from({ length: 128 }, (_, index) =>
          limit({ feature_key: `feature_${index}`, feature_name: `Feature ${index}`, limit: null }),
        ),
      },
      [],
    ],
    ['a limit below zero', { ...bare, features: [limit({ limit: -1n })] }, ['validation_failed']],
    ['the greatest limit', { features: [limit({ limit: 10n ** 15n - 1n })] }, []],
    [
      'a yearly limit on a monthly plan',
      { features: [limit({ reset_interval: 'year' })] },
      ['limit_reset_unsupported'],
    ],
    [
      'a yearly limit on a plan of 12 weeks',
      {
        interval_unit: 'week',
        interval_count: 12,
        features: [limit({ reset_interval: 'year' })],
      },
      ['limit_reset_unsupported'],
    ],
    [
      'a monthly limit on a plan of 12 months',
      { interval_count: 12, features: [limit({ reset_interval: 'month' })] },
      ['limit_reset_unsupported'],
    ],
    [
      'a monthly limit on a plan of 3 months',
      { interval_count: 3, features: [limit({ reset_interval: 'month' })] },
      ['limit_reset_unsupported'],
    ],
    [
      'a yearly limit on a yearly plan',
      { interval_unit: 'year', features: [limit({ reset_interval: 'year' })] },
      [],
    ],
    [
      'a daily soft limit beside a charge of another meter',
      {
        meters: [calls, { ...calls, id: 'mtr_2', lookup_id: 'tokens', name: 'Tokens' }],
        charges: [charge({ meter_id: 'mtr_2' })],
        features: [limit({ limit_type: 'SOFT', reset_interval: 'day' })],
      },
      [],
    ],
    [
      'a hard limit below what is included of another meter',
      {
        meters: [calls, { ...calls, id: 'mtr_2', lookup_id: 'tokens', name: 'Tokens' }],
        charges: [charge({ meter_id: 'mtr_2', included_units: 5_000n })],
        features: [limit()],
      },
      [],
    ],
    [
      'a limit that a charge with a fault of its own could not reach either',
      {
        charges: [charge({ included_units: 5_000n, minimum_minor: 2n, maximum_minor: 1n })],
        features: [limit()],
      },
      ['charge_bounds'],
    ],
    [
      'a limit at the included units of a charge with a flat fee, which is due without usage',
      {
        charges: [
          charge({
            included_units: 1_000n,
            price: {
              model: 'graduated',
              tiers: [{ up_to: null, unit_price: '1', flat_fee: '5' }],
            },
          }),
        ],
        features: [limit()],
      },
      ['unreachable_charge'],
    ],
    ['a feature twice', { features: [limit(), limit()] }, ['duplicate_name']],
    ['an unknown currency', { currency: 'usd' }, ['currency_unknown']],
    ['no intervals', { interval_count: 0 }, ['validation_failed']],
    ['a negative base price', { base_price_minor: -1n }, ['price_malformed']],
    ['an unknown meter', { charges: [charge({ meter_id: 'mtr_9' })] }, ['meter_unknown']],
    ['a meter without a name', meter({ name: ' ' }), ['meter_unnamed']],
    ['a meter without a unit', meter({ unit_other: '' }), ['meter_unnamed']],
    ['a count with a scale', meter({ aggregation: 'COUNT', scale: 2 }), ['meter_scale']],
    ['unique counts of parts', meter({ aggregation: 'UNIQUE_COUNT', scale: 2 }), ['meter_scale']],
    ['no price anywhere', { charges: [charge({ price: null })] }, ['price_missing']],
    [
      'an amount on a usage charge',
      { charges: [charge({ price: { amount_minor: '1' } })] },
      ['price_missing'],
    ],
    [
      'a unit price on a fee',
      { charges: [charge({ type: 'RECURRING', meter_id: null })] },
      ['price_missing'],
    ],
    [
      'a fee that is no amount',
      { charges: [charge({ type: 'RECURRING', meter_id: null, price: { amount_minor: '-5' } })] },
      ['price_malformed'],
    ],
    [
      'a negative price',
      { charges: [charge({ price: { model: 'per_unit', unit_price: '-1' } })] },
      ['price_malformed'],
    ],
    [
      'a price of 13 places',
      { charges: [charge({ price: { model: 'per_unit', unit_price: '0.0000000000001' } })] },
      ['price_malformed'],
    ],
    [
      'a package of nothing',
      { charges: [charge({ price: { model: 'package', package_size: '0', package_price: '1' } })] },
      ['price_malformed'],
    ],
    [
      'a package without a price',
      { charges: [charge({ price: { model: 'package', package_size: '1', package_price: '' } })] },
      ['price_malformed'],
    ],
    ['steps that end', { charges: [charge({ price: steps(['10', '1']) })] }, ['tier_gap']],
    [
      'a bad fee of a step',
      { charges: [charge({ price: steps([null, '-1']) })] },
      ['price_malformed'],
    ],
    ['a percentage of money', { ...meter({ scale: 2 }), charges: [charge({ price: card })] }, []],
    [
      'a percentage of calls',
      { ...meter({ aggregation: 'COUNT' }), charges: [charge({ price: card })] },
      ['percentage_meter'],
    ],
    [
      'a percentage of a meter that knows no cents',
      { ...meter({ scale: 1 }), charges: [charge({ price: card })] },
      ['percentage_meter'],
    ],
    [
      'a percentage of whole yen',
      { ...meter({ scale: 0 }), currency: 'JPY', charges: [charge({ price: card })] },
      [],
    ],
    [
      'a percentage of dinars in cents',
      { ...meter({ scale: 2 }), currency: 'KWD', charges: [charge({ price: card })] },
      ['percentage_meter'],
    ],
    [
      'more than the whole amount',
      { ...meter({ scale: 2 }), charges: [charge({ price: { ...card, percent: '100.1' } })] },
      ['price_malformed'],
    ],
    [
      'every part of a percentage',
      {
        ...meter({ scale: 2 }),
        charges: [charge({ price: { ...card, percent: '', fixed_fee: '-1', free_events: '0.5' } })],
      },
      ['price_malformed', 'price_malformed', 'price_malformed'],
    ],
    [
      'a minimum above the maximum',
      { charges: [charge({ minimum_minor: 2n, maximum_minor: 1n })] },
      ['charge_bounds'],
    ],
    ['bounds that meet', { charges: [charge({ minimum_minor: 2n, maximum_minor: 2n })] }, []],
    [
      'a maximum of nothing',
      { charges: [charge({ minimum_minor: null, maximum_minor: 0n })] },
      ['charge_bounds'],
    ],
    [
      'an archived tax rate',
      {
        charges: [charge({ tax_rate_ids: ['txr_1'] })],
        tax_rates: [{ id: 'txr_1', lookup_id: 'vat', archived_at: new Date(0) }],
      },
      ['tax_rate_unusable'],
    ],
    [
      'a tax rate that is not there',
      { charges: [charge({ tax_rate_ids: ['txr_1'] })] },
      ['tax_rate_unusable'],
    ],
    [
      'a threshold that nothing reaches',
      { ...bare, base_price_minor: 1n, invoice_threshold_minor: 1n },
      ['term_without_effect'],
    ],
    [
      'a threshold on fees',
      {
        charges: [charge({ type: 'RECURRING', meter_id: null, price: { amount_minor: '5' } })],
        credit_terms: { ...credits, overage: null },
        invoice_threshold_minor: 1n,
      },
      ['term_without_effect'],
    ],
    ['credits alone: they ration', { ...bare, credit_terms: { ...credits, overage: null } }, []],
    [
      'a threshold of overage',
      { ...bare, credit_terms: credits, base_price_minor: 1n, invoice_threshold_minor: 1n },
      [],
    ],
    [
      'a commitment that the fees come to',
      {
        base_price_minor: 10n,
        charges: [
          charge(),
          charge({ id: 'f', type: 'RECURRING', meter_id: null, price: { amount_minor: '5' } }),
        ],
        commitment_minor: 15n,
      },
      ['term_without_effect'],
    ],
    ['a commitment above the fees', { base_price_minor: 10n, commitment_minor: 11n }, []],
    ['a plan of a commitment alone', { ...bare, commitment_minor: 11n }, []],
    ['billing in advance', { charges: [charge({ bill_in: 'advance' })] }, ['charge_in_advance']],
    [
      'included units out of bounds',
      { charges: [charge({ included_units: -1n })] },
      ['validation_failed'],
    ],
    [
      'more included units than a quantity may be',
      { charges: [charge({ included_units: 10n ** 15n })] },
      ['validation_failed'],
    ],
    ['the most included units', { charges: [charge({ included_units: 10n ** 15n - 1n })] }, []],
    [
      'a maximum alone, a minimum alone',
      {
        meters: [calls, { ...calls, id: 'mtr_2', lookup_id: 'tokens', name: 'Tokens' }],
        charges: [
          charge({ maximum_minor: 1n }),
          charge({ id: 'chg_2', meter_id: 'mtr_2', minimum_minor: 1n }),
        ],
      },
      [],
    ],
    [
      'a fee without a price',
      { charges: [charge({ type: 'RECURRING', meter_id: null, price: null })] },
      ['price_missing'],
    ],
    [
      'rules of a meter that leave a gap',
      {
        ...meter({
          usage_pricing_rules: {
            mode: 'VOLUME',
            tiers: [
              { from: '0', to: '10', unit_price: '1' },
              { from: '12', to: null, unit_price: '1' },
            ],
          },
        }),
        charges: [charge({ price: null })],
      },
      ['tier_gap'],
    ],
    [
      'a meter charged twice',
      { charges: [charge(), charge({ id: 'chg_2' })] },
      ['duplicate_charge'],
    ],
    [
      'tiers that fall',
      { charges: [tiers(['10', '1'], ['5', '1'], [null, '1'])] },
      ['tier_overlap'],
    ],
    ['tiers that end', { charges: [tiers(['10', '1'])] }, ['tier_gap']],
    [
      'an open tier in the middle',
      { charges: [tiers([null, '1'], [null, '1'])] },
      ['tier_overlap'],
    ],
    ['a tier up to zero', { charges: [tiers(['0', '1'], [null, '1'])] }, ['tiers_malformed']],
    ['a tier up to a half', { charges: [tiers(['0.5', '1'], [null, '1'])] }, ['tiers_malformed']],
    ['no tiers', { charges: [tiers()] }, ['tiers_malformed']],
    ['a bad price in a tier', { charges: [tiers(['10', 'x'], [null, '1'])] }, ['price_malformed']],
    [
      'a rate of zero',
      { rate_limits: [{ kind: 'rate', name: 'r', limit: 0, window_ms: 1 }] },
      ['rate_limit_malformed'],
    ],
    [
      'a window of zero',
      { rate_limits: [{ kind: 'rate', name: 'r', limit: 1, window_ms: 0 }] },
      ['rate_limit_malformed'],
    ],
    [
      'a window of one millisecond',
      { rate_limits: [{ kind: 'rate', name: 'r', limit: 1, window_ms: 1 }] },
      [],
    ],
    [
      'two rates of one name',
      {
        rate_limits: [
          { kind: 'concurrency', name: 'r', limit: 1 },
          { kind: 'concurrency', name: 'r', limit: 2 },
        ],
      },
      ['duplicate_name'],
    ],
    [
      'credits that nobody explains',
      { credit_terms: credits, credit_definition: ' ' },
      ['credit_definition_missing'],
    ],
    [
      'credits that cannot be spent',
      { credit_terms: { ...credits, burn: [] } },
      ['credit_terms_malformed'],
    ],
    [
      'credits that cost nothing',
      { credit_terms: { ...credits, burn: [{ meter_key: 'api_calls', micro_per_unit: '0' }] } },
      ['credit_terms_malformed'],
    ],
    [
      'a burn of an unknown meter',
      { credit_terms: { ...credits, burn: [{ meter_key: 'nope', micro_per_unit: '1' }] } },
      ['meter_unknown'],
    ],
    [
      'a burn of one of two meters',
      {
        meters: [calls, { ...calls, id: 'mtr_2', lookup_id: 'tokens', name: 'Tokens' }],
        credit_terms: credits,
      },
      [],
    ],
    ...['-1', '0.5', '1000000000000000', 'x'].map(
      (micro_per_unit) =>
        [
          `a burn of ${micro_per_unit}`,
          {
            meters: [calls, { ...calls, id: 'mtr_2', lookup_id: 'tokens', name: 'Tokens' }],
            credit_terms: {
              ...credits,
              burn: [...credits.burn, { meter_key: 'tokens', micro_per_unit }],
            },
          },
          ['credit_terms_malformed'],
        ] as const,
    ),
    [
      'the most that a unit costs',
      {
        credit_terms: {
          ...credits,
          burn: [{ meter_key: 'api_calls', micro_per_unit: '999999999999999' }],
        },
      },
      [],
    ],
    [
      'included credits that are no number',
      { credit_terms: { ...credits, included_micro: '1.5' } },
      ['credit_terms_malformed'],
    ],
    [
      'credits that nothing at all explains',
      { credit_terms: credits, credit_definition: null },
      ['credit_definition_missing'],
    ],
    [
      'a burn twice',
      { credit_terms: { ...credits, burn: [...credits.burn, ...credits.burn] } },
      ['duplicate_name'],
    ],
    [
      'more included credits than a wallet has room for',
      { credit_terms: { ...credits, included_micro: '125000000000001' } },
      ['credit_terms_malformed'],
    ],
    ['as many as it has', { credit_terms: { ...credits, included_micro: '125000000000000' } }, []],
    [
      'too many included credits',
      { credit_terms: { ...credits, included_micro: '1000000000000000' } },
      ['credit_terms_malformed'],
    ],
    [
      'a credit unit that goes on past its key',
      { credit_terms: { ...credits, unit: 'credit!' } },
      ['credit_terms_malformed'],
    ],
    [
      'a credit unit without a key',
      { credit_terms: { ...credits, unit: 'Credit' } },
      ['credit_terms_malformed'],
    ],
    [
      'a bad credit price',
      { credit_terms: { ...credits, credit_price: '-1' } },
      ['price_malformed'],
    ],
    [
      'a bad overage price',
      { credit_terms: { ...credits, overage: { enabled: false, credit_price: 'x' } } },
      ['price_malformed'],
    ],
  ];
  for (const [name, more, expected] of rows) {
    it(`${name}: ${expected.length === 0 ? 'fine' : expected.join(', ')}`, () => {
      assert.deepEqual(codes(draft(more)), expected);
    });
  }

  it('names that differ only in case or plural', () => {
    const alike: readonly (readonly [Partial<DraftMeter>, boolean])[] = [
      [{ lookup_id: 'calls_made', name: 'api call' }, true],
      [{ lookup_id: 'api_call', name: 'Something else' }, true],
      [{ lookup_id: 'other', name: 'API-Calls' }, true],
      [{ lookup_id: 'other', name: 'Apic Alls' }, true],
      [{ lookup_id: 'other', name: 'Batch Calls' }, false],
    ];
    for (const [more, isAlike] of alike) {
      const second: DraftMeter = { ...calls, id: 'mtr_2', ...more };
      const given = draft({
        meters: [calls, second],
        charges: [charge(), charge({ id: 'chg_2', meter_id: 'mtr_2' })],
      });
      assert.deepEqual(codes(given), isAlike ? ['ambiguous_name'] : [], second.name);
      assert.deepEqual(codes({ ...given, charges: [charge()] }), []);
    }
    const features = [
      limit(),
      limit({ feature_id: 'feat_2', feature_key: 'request', feature_name: 'R' }),
    ];
    assert.deepEqual(codes(draft({ features })), ['ambiguous_name']);
    const queries = { ...calls, id: 'mtr_2', lookup_id: 'query', name: 'Query' };
    const plural = { ...calls, id: 'mtr_3', lookup_id: 'q', name: 'Queries' };
    const both = [charge({ meter_id: 'mtr_2' }), charge({ id: 'chg_2', meter_id: 'mtr_3' })];
    assert.deepEqual(codes(draft({ meters: [queries, plural], charges: both })), [
      'ambiguous_name',
    ]);
  });

  const places: readonly (readonly [Partial<PlanDraft>, readonly string[]])[] = [
    [{ features: [limit(), limit()] }, ['features[1]']],
    [
      {
        rate_limits: [
          { kind: 'concurrency', name: 'r', limit: 1 },
          { kind: 'rate', name: 'r', limit: 1, window_ms: 0 },
        ],
      },
      ['rate_limits[1]', 'rate_limits[1]'],
    ],
    [
      { features: [limit({ limit: -1n, reset_interval: 'year' })] },
      ['features[0].limit', 'features[0].reset_interval', 'features[0].limit'],
    ],
    [
      {
        credit_terms: {
          ...{ unit: '', included_micro: '-1', overage: null, credit_price: '-1' },
          burn: [
            { meter_key: 'api_calls', micro_per_unit: '0' },
            { meter_key: 'api_calls', micro_per_unit: '-1' },
          ],
        },
      },
      [
        ...[
          'unit',
          'included_credits',
          'burn',
          'burn[1].credits_per_unit',
          'burn[1]',
          'credit_price',
        ].map((field) => `credit_terms.${field}`),
      ],
    ],
    [
      { credit_terms: { ...credits, burn: [{ meter_key: 'api_calls', micro_per_unit: '0' }] } },
      ['credit_terms.burn'],
    ],
    [
      {
        charges: [
          charge({ price: { model: 'package', package_size: '0', package_price: '1' } }),
          charge({
            id: 'chg_2',
            price: { model: 'package', package_size: '1', package_price: '-1' },
          }),
        ],
      },
      ['charges[1].meter_id', 'charges[0].price.package_size', 'charges[1].price.package_price'],
    ],
    [
      {
        ...meter({ usage_pricing_rules: { mode: 'VOLUME', tiers: [] } }),
        charges: [charge({ price: null })],
      },
      ['meters.api_calls.usage_pricing_rules.tiers'],
    ],
  ];
  for (const [more, fields] of places) {
    it(`each fault where it is: ${fields.join(', ')}`, () => {
      const result = publishPlan(draft(more));
      assert.ok(result.kind === 'refused');
      assert.deepEqual(
        result.faults.map((one) => one.field),
        fields,
      );
    });
  }

  it('names of what a feature counts and of what credits are spent on', () => {
    const second: DraftMeter = { ...calls, id: 'mtr_2', lookup_id: 'calls_made', name: 'api call' };
    const meters = [calls, second];
    const counted = limit({ meter_key: 'calls_made', limit: null });
    assert.deepEqual(codes(draft({ meters, features: [counted] })), ['ambiguous_name']);
    const spent = { ...credits, burn: [{ meter_key: 'calls_made', micro_per_unit: '1' }] };
    assert.deepEqual(codes(draft({ meters, credit_terms: spent })), ['ambiguous_name']);
    assert.deepEqual(codes(draft({ meters })), []);
  });

  it('all faults together, each where it is', () => {
    const result = publishPlan(
      draft({
        currency: 'XXX',
        charges: [
          charge({ meter_id: 'nope' }),
          charge({ price: { model: 'per_unit', unit_price: '' } }),
        ],
      }),
    );
    assert.ok(result.kind === 'refused');
    assert.deepEqual(
      result.faults.map((one) => `${one.code} ${one.field}`),
      [
        'currency_unknown currency',
        'meter_unknown charges[0].meter_id',
        'price_malformed charges[1].price.unit_price',
      ],
    );
  });
});

describe('billing/publish › words', () => {
  const say = (more: Partial<PlanDraft>): readonly (readonly [string, string, string])[] => {
    const result = publishPlan(draft(more));
    assert.ok(result.kind === 'refused');
    return result.faults.map(({ field, message, mend }) => [field, message, mend]);
  };
  const money = { ...calls, scale: 2 };

  it('of a fee in advance that is none', () => {
    assert.deepEqual(say({ charges: [charge({ bill_in: 'advance' })] }), [
      [
        'charges[0].bill_in',
        'the USAGE charge "API calls" is billed in advance, which is for recurring fees',
        'Use bill_in arrears, or a RECURRING charge.',
      ],
    ]);
  });

  it('of tax rates', () => {
    const tax_rates = [{ id: 'txr_1', lookup_id: 'vat', archived_at: new Date(0) }];
    assert.deepEqual(say({ charges: [charge({ tax_rate_ids: ['txr_1', 'txr_2'] })], tax_rates }), [
      [
        'charges[0].tax_rates',
        'tax rate "vat" is archived',
        'Take the charge out and add it with a tax rate that is in use, or without one.',
      ],
      [
        'charges[0].tax_rates',
        'there is no tax rate "txr_2"',
        'Take the charge out and add it with a tax rate that is in use, or without one.',
      ],
    ]);
  });

  it('of percentages', () => {
    const counted = { ...money, scale: 0, aggregation: 'COUNT' } as const;
    assert.deepEqual(say({ meters: [counted], charges: [charge({ price: card })] }), [
      [
        'charges[0].meter_id',
        'a percentage is of an amount of money, and meter api_calls is a COUNT',
        'Use a SUM meter that adds up amounts, or another price model.',
      ],
    ]);
    assert.deepEqual(
      say({ meters: [money], currency: 'KWD', charges: [charge({ price: card })] }),
      [
        [
          'charges[0].meter_id',
          'meter api_calls has the scale 2: amounts of KWD with 3 places do not fit in it',
          'Use a meter with a scale of at least 3, so that its smallest unit is no more than that of the currency.',
        ],
      ],
    );
    const bad = { ...card, percent: '101', fixed_fee: 'x', free_events: '-1' };
    assert.deepEqual(say({ meters: [money], charges: [charge({ price: bad })] }), [
      [
        'charges[0].price.percent',
        '101 percent is more than the whole amount',
        'Give a percentage from 0 to 100, such as "2.9".',
      ],
      [
        'charges[0].price.fixed_fee',
        '"x" is not a price',
        'Give a decimal from zero up with at most 12 places, such as "0.001".',
      ],
      [
        'charges[0].price.free_events',
        '"-1" is no number of events',
        'Give a whole number from 0 to 999999999999999.',
      ],
    ]);
    const all = { ...card, percent: '100' };
    assert.deepEqual(codes(draft({ meters: [money], charges: [charge({ price: all })] })), []);
  });

  it('of limits that reset when the plan does not bill', () => {
    const monthly = limit({ reset_interval: 'month' });
    const mend = 'Use reset_interval period.';
    assert.deepEqual(say({ interval_count: 3, features: [monthly] }), [
      [
        'features[0].reset_interval',
        'the limit of requests resets every month, the plan bills every 3 months',
        mend,
      ],
    ]);
    assert.deepEqual(say({ interval_unit: 'year', features: [monthly] }), [
      [
        'features[0].reset_interval',
        'the limit of requests resets every month, the plan bills every year',
        mend,
      ],
    ]);
  });

  it('of a meter that is charged twice', () => {
    const twice = [charge(), charge({ id: 'chg_2' })];
    assert.deepEqual(say({ charges: twice }), [
      [
        'charges[1].meter_id',
        'meter api_calls is charged twice',
        'Remove one of the two charges, or use tiers.',
      ],
    ]);
    const unknown = twice.map((one) => ({ ...one, meter_id: 'mtr_9' }));
    assert.equal(say({ charges: unknown })[0]?.[1], 'meter mtr_9 is charged twice');
  });

  it('of bounds', () => {
    assert.deepEqual(say({ charges: [charge({ minimum_minor: 200n, maximum_minor: 100n })] }), [
      [
        'charges[0].minimum',
        'the minimum $2.00 of "API calls" is above its maximum $1.00',
        'Give a minimum of at most $1.00, or raise the maximum.',
      ],
    ]);
    assert.deepEqual(say({ charges: [charge({ maximum_minor: 0n })] }), [
      [
        'charges[0].maximum',
        'the charge "API calls" costs at most nothing, so it never bills',
        'Give a maximum above zero, or none.',
      ],
    ]);
  });

  it('of terms that can never matter', () => {
    assert.deepEqual(
      say({
        charges: [],
        base_price_minor: 100n,
        invoice_threshold_minor: 1n,
        commitment_minor: 100n,
      }),
      [
        [
          'invoice_threshold',
          'nothing that is used costs anything, so the threshold is never reached',
          'Add a USAGE charge or overage, or remove invoice_threshold.',
        ],
        [
          'commitment',
          'the recurring fees alone come to the commitment, so it never costs anything',
          'Give a commitment above the recurring fees, which count towards it, or remove it.',
        ],
      ],
    );
    const off = { ...credits, overage: { enabled: false, credit_price: '1' } };
    const without = { charges: [], base_price_minor: 1n, invoice_threshold_minor: 1n };
    assert.deepEqual(codes(draft({ ...without, credit_terms: off })), ['term_without_effect']);
    const once = charge({ type: 'ONE_TIME', meter_id: null, price: { amount_minor: '500' } });
    assert.deepEqual(codes(draft({ charges: [charge(), once], commitment_minor: 500n })), []);
  });

  it('of a charge that a limit keeps from billing', () => {
    const free = [
      { up_to: '1000', unit_price: '0', flat_fee: '0' },
      { up_to: null, unit_price: '0.01', flat_fee: '0' },
    ];
    const tiered = charge({ price: { model: 'graduated', tiers: free } });
    assert.deepEqual(say({ charges: [tiered], features: [limit({ limit: 1_000n })] }), [
      [
        'features[0].limit',
        'the hard limit 1000 of requests stops usage before the charge "API calls" bills any: up to it, usage costs nothing',
        'Raise the limit above what costs nothing, make it SOFT, or remove the charge.',
      ],
    ]);
    assert.deepEqual(
      say({ charges: [charge({ included_units: 7n })], features: [limit({ limit: 7n })] }),
      [
        [
          'features[0].limit',
          'the hard limit 7 of requests stops usage before the charge "API calls" bills any: 7 units are included',
          'Raise the limit above 7, make it SOFT, or remove the charge.',
        ],
      ],
    );
    const rows: readonly (readonly [string, Partial<DraftCharge>, bigint, readonly string[]])[] = [
      ['the next unit costs something', { price: { model: 'graduated', tiers: free } }, 1_001n, []],
      [
        'a free tier after included units',
        { ...tiered, included_units: 5n },
        1_005n,
        ['unreachable_charge'],
      ],
      ['past both', { ...tiered, included_units: 5n }, 1_006n, []],
      ['it is free at any quantity', { price: { model: 'per_unit', unit_price: '0' } }, 5n, []],
      ['it has a minimum', { ...tiered, minimum_minor: 1n }, 5n, []],
      [
        'not one package is full',
        { price: { model: 'package', package_size: '10', package_price: '1', round: 'down' } },
        9n,
        ['unreachable_charge'],
      ],
      [
        'one package is full',
        { price: { model: 'package', package_size: '10', package_price: '1', round: 'down' } },
        10n,
        [],
      ],
      [
        'every event has a fee past the free ones',
        { price: { ...card, percent: '0', free_events: '3' } },
        4n,
        [],
      ],
      [
        'no event has a fee',
        { price: { ...card, percent: '0', free_events: '3' } },
        3n,
        ['unreachable_charge'],
      ],
    ];
    for (const [name, more, most, expected] of rows) {
      const given = draft({
        currency: 'JPY',
        charges: [charge(more)],
        features: [limit({ limit: most })],
      });
      assert.deepEqual(codes(given), expected, name);
    }
    const daily = draft({
      charges: [tiered],
      features: [limit({ limit: 1_000n, reset_interval: 'day' })],
    });
    assert.deepEqual(codes(daily), [], 'thirty days of it cost something');
  });

  it('of labels that are nearly one', () => {
    const fees = (...names: readonly string[]): readonly DraftCharge[] =>
      names.map((display_name, index) =>
        charge({
          ...{ id: `chg_${index}`, type: 'RECURRING', display_name, meter_id: null },
          price: { amount_minor: '100' },
        }),
      );
    assert.deepEqual(say({ charges: fees('Seat', 'seats') }), [
      [
        'charges',
        '"Seat" and "seats" differ only in case or plural',
        'Rename one of them, or use one for both.',
      ],
    ]);
    assert.deepEqual(codes(draft({ charges: fees('Seat', 'Seat', 'Licence') })), []);
  });

  it('of steps', () => {
    const price = steps(['10', '1'], ['5', '2'], [null, '-1']);
    assert.deepEqual(
      say({ charges: [charge({ price })] }).map(([field]) => field),
      ['charges[0].price.tiers[1]', 'charges[0].price.tiers[2].flat_fee'],
    );
  });
});

describe('billing/publish/tiers › tiersOfRanges', () => {
  const range = (from: string, to: string | null): TierRange => ({ from, to, unit_price: '1' });
  const bounds = (ranges: readonly TierRange[]): readonly (string | null)[] | string => {
    const result = tiersOfRanges(ranges, 'tiers');
    return result.kind === 'ok'
      ? result.tiers.map((tier) => tier.up_to)
      : result.faults.map((one) => `${one.code}: ${one.message}`).join('; ');
  };
  const rows: readonly (readonly [
    string,
    readonly TierRange[],
    readonly (string | null)[] | string,
  ])[] = [
    [
      'as on the Fluxrate page',
      [range('0', '1000'), range('1001', '10000'), range('10001', null)],
      ['1000', '10000', null],
    ],
    ['from 1', [range('1', '10'), range('11', null)], ['10', null]],
    [
      'each from the end of the one before',
      [range('0', '10'), range('10', '20'), range('20', null)],
      ['10', '20', null],
    ],
    ['in any order', [range('11', null), range('0', '10')], ['10', null]],
    ['one open tier', [range('0', null)], [null]],
    [
      'a gap',
      [range('0', '1000'), range('2000', null)],
      'tier_gap: nothing prices 1001–1999, between 0–1000 and 2000+',
    ],
    [
      'an overlap',
      [range('0', '1000'), range('500', null)],
      'tier_overlap: 0–1000 and 500+ overlap',
    ],
    ['two open ends', [range('0', null), range('5', null)], 'tier_overlap: 0+ and 5+ overlap'],
    ['a late start', [range('5', null)], 'tier_gap: nothing prices the units before 5'],
    ['an early end', [range('0', '10')], 'tier_gap: nothing prices what is above 10'],
    [
      'a number twice',
      [range('0', '10'), range('10', '10'), range('11', null)],
      'tier_overlap: 0–10 and 10–10 overlap',
    ],
    ['backwards', [range('10', '5')], 'tiers_malformed: 10–5 is no range of whole units'],
    ['parts of units', [range('0', '1.5')], 'tiers_malformed: 0–1.5 is no range of whole units'],
    ['nothing', [], 'tiers_malformed: there are no tiers'],
    ['a bound twice', [range('0', '10'), range('10', null)], ['10', null]],
  ];
  for (const [name, ranges, expected] of rows) {
    it(name, () => {
      assert.deepEqual(bounds(ranges), expected);
    });
  }
  it('a gap is mended from either side', () => {
    const mend = (ranges: readonly TierRange[]): readonly string[] => {
      const result = tiersOfRanges(ranges, 'tiers');
      return result.kind === 'ok' ? [] : result.faults.map((one) => `${one.field}: ${one.mend}`);
    };
    assert.deepEqual(mend([range('0', '1000'), range('2000', null)]), [
      'tiers: Let 0–1000 end at 1999, or 2000+ begin at 1001.',
    ]);
    assert.deepEqual(mend([range('5', null)]), ['tiers: Let the first tier begin at 0.']);
    assert.deepEqual(mend([range('0', '10'), range('11', 'x')]), [
      'tiers[1]: Bounds are whole numbers that rise; the last tier has no end.',
    ]);
  });
  it('bounds that are equal overlap', () => {
    const tier = (up_to: string | null): Tier => ({ up_to, unit_price: '1', flat_fee: '0' });
    const result = checkedTiers([tier('10'), tier('10'), tier(null)], 'tiers');
    assert.ok(result.kind === 'refused');
    assert.deepEqual(
      result.faults.map(({ code, field, message }) => [code, field, message]),
      [
        [
          'tier_overlap',
          'tiers[1]',
          'up_to 10 does not lie above the tier before, which ends at 10',
        ],
      ],
    );
  });
  it('prices are made canonical, flat fees too', () => {
    const result = tiersOfRanges(
      [{ from: '0', to: null, unit_price: '1e-3', flat_fee: '2.50' }],
      'tiers',
    );
    assert.deepEqual(result, {
      kind: 'ok',
      tiers: [{ up_to: null, unit_price: '0.001', flat_fee: '2.5' }],
    });
  });
  it('whatever is accepted prices every unit exactly once', () => {
    const bound = fc.integer({ min: 1, max: 12 });
    const nearlyRight = fc
      .tuple(
        fc.uniqueArray(bound, { maxLength: 3 }),
        fc.array(fc.integer({ min: -1, max: 2 }), { maxLength: 4 }),
      )
      .map(([cuts, slips]) => {
        const ends = cuts.toSorted((a, b) => a - b);
        return [...ends, null].map((to, index) => ({
          from: `${Math.max(0, index === 0 ? 0 : (ends[index - 1] ?? 0) + (slips[index] ?? 1))}`,
          to: to === null ? null : `${to}`,
          unit_price: '1',
        }));
      });
    let accepted = 0;
    fc.assert(
      fc.property(nearlyRight, (ranges) => {
        const result = tiersOfRanges(ranges, 'tiers');
        if (result.kind === 'refused') return;
        accepted += 1;
        for (let unit = 1; unit <= 14; unit++) {
          const holders = ranges.filter(
            (one) => BigInt(one.from) <= unit && (one.to === null || unit <= BigInt(one.to)),
          );
          // Where a tier begins at the end of the one before, that unit belongs to the lower tier.
          const isSeam = holders.length === 2 && holders[0]?.to === holders[1]?.from;
          assert.ok(holders.length === 1 || isSeam, `${unit}`);
        }
        assert.deepEqual(checkedTiers(result.tiers, 'tiers'), result);
      }),
      { numRuns: 1_000 },
    );
    assert.ok(accepted > 100, `${accepted}`);
  });
});

describe('billing/publish › overage', () => {
  it('refuses overage that is on and has no price', () => {
    const terms = { ...credits, overage: { enabled: true, credit_price: null } };
    // @ts-expect-error A row of an older release may lack the price that the type asks for.
    const published = publishPlan(draft({ credit_terms: terms }));
    assert.equal(published.kind, 'refused');
    assert.deepEqual(published.faults, [
      {
        code: 'overage_price_missing',
        field: 'credit_terms.overage',
        message: 'overage is on and has no price',
        mend: 'Give overage.credit_price, or credit_price.',
      },
    ]);
  });
});
