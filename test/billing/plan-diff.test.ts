import assert from 'node:assert/strict';
import fc from 'fast-check';
import { diffPlans, type PlanChange } from '../../billing/plan-diff.ts';
import type {
  Charge,
  CreditTerms,
  MeterDefinition,
  PlanDefinition,
  PlanFeature,
  Price,
  RateLimit,
} from '../../billing/plan.ts';
import { priceText } from '../../billing/price-text.ts';

const calls: MeterDefinition = {
  id: 'mtr_1',
  key: 'api_calls',
  name: 'API Calls',
  unit_one: 'call',
  unit_other: 'calls',
  scale: 0,
  aggregation: 'SUM',
};
const usage: Charge = {
  kind: 'usage',
  id: 'chg_1',
  display_name: 'Calls',
  meter: calls,
  price: { model: 'per_unit', unit_price: '0.001' },
  included_units: '0',
};
const fee: Charge = { kind: 'recurring', id: 'chg_2', display_name: 'Seat', amount_minor: '2900' };
const seats: PlanFeature = {
  id: 'feat_1',
  key: 'seats',
  meter_key: null,
  limit: '1000',
  limit_type: 'HARD',
  reset_interval: 'period',
};
const credits: CreditTerms = {
  unit: 'credit',
  included_micro: '1000000000',
  overage: { enabled: true, credit_price: '0.03' },
  credit_price: null,
  burn: [{ meter_key: 'api_calls', micro_per_unit: '1000000' }],
};

function plan(more: Partial<PlanDefinition> = {}): PlanDefinition {
  return {
    currency: 'USD',
    interval: { unit: 'month', count: 1 },
    billing_time: 'anniversary',
    charges: [usage, fee],
    features: [seats],
    rate_limits: [{ kind: 'rate', name: 'burst', limit: 100, window_ms: 60_000 }],
    credits: null,
    ...more,
  };
}

const paths = (changes: readonly PlanChange[]): string[] =>
  changes.map(({ kind, path }) => `${kind} ${path}`);

describe('billing/plan-diff › what changed', () => {
  const rows: readonly (readonly [
    string,
    Partial<PlanDefinition>,
    Partial<PlanDefinition>,
    string[],
    RegExp,
  ])[] = [
    ['nothing', {}, {}, [], /^$/],
    [
      'only ids',
      {},
      {
        charges: [
          { ...usage, id: 'chg_8' },
          { ...fee, id: 'chg_9' },
        ],
      },
      [],
      /^$/,
    ],
    ['only the order of charges', {}, { charges: [fee, usage] }, [], /^$/],
    [
      'a price',
      {},
      { charges: [{ ...usage, price: { model: 'per_unit', unit_price: '0.0005' } }, fee] },
      ['changed charges.usage.api_calls.price'],
      /The price of the charge "Calls" changes from \$0\.001 per unit to \$0\.0005 per unit\./,
    ],
    [
      'a model',
      {},
      {
        charges: [
          {
            ...usage,
            price: {
              model: 'graduated',
              tiers: [
                { up_to: '1000', unit_price: '0.002', flat_fee: '0' },
                { up_to: null, unit_price: '0.001', flat_fee: '5' },
              ],
            },
          },
          fee,
        ],
      },
      ['changed charges.usage.api_calls.price'],
      /to graduated, up to 1,000 at \$0\.002, all above at \$0\.001 plus \$5\.00\./,
    ],
    [
      'the bounds of a charge',
      { charges: [{ ...usage, minimum_minor: '500' }] },
      { charges: [{ ...usage, minimum_minor: '700', maximum_minor: '900' }] },
      ['changed charges.usage.api_calls.minimum', 'added charges.usage.api_calls.maximum'],
      /The maximum of the charge "Calls" is new: \$9\.00\./,
    ],
    [
      'included units, of a meter of a new scale',
      {},
      { charges: [{ ...usage, included_units: '1500', meter: { ...calls, scale: 3 } }, fee] },
      [
        'added charges.usage.api_calls.included_units',
        'changed charges.usage.api_calls.meter.scale',
      ],
      /The allowance of the charge "Calls" is new: 1\.5\./,
    ],
    [
      'a fee',
      {},
      { charges: [usage, { ...fee, amount_minor: '3900' }] },
      ['changed charges.recurring.seat.amount'],
      /from \$29\.00 to \$39\.00\./,
    ],
    [
      'when a fee is billed',
      {},
      { charges: [usage, { ...fee, bill_in: 'advance' }] },
      ['changed charges.recurring.seat.bill_in'],
      /from in arrears to in advance\./,
    ],
    [
      'the name of a fee',
      {},
      { charges: [usage, { ...fee, display_name: 'Licence' }] },
      ['changed charges.recurring.licence.display_name'],
      /from Seat to Licence\./,
    ],
    [
      'another fee in its place',
      {},
      { charges: [usage, { ...fee, display_name: 'Licence', amount_minor: '1' }] },
      ['added charges.recurring.licence', 'removed charges.recurring.seat'],
      /The charge "Seat" is gone; it was: \$29\.00\./,
    ],
    [
      'two fees of one name that change places',
      { charges: [fee, { ...fee, amount_minor: '1' }] },
      { charges: [{ ...fee, amount_minor: '1' }, fee] },
      [],
      /^$/,
    ],
    [
      'taxes of a charge',
      { charges: [{ ...fee, tax_rate_ids: ['txr_a', 'txr_b'] }] },
      { charges: [{ ...fee, tax_rate_ids: ['txr_b'] }] },
      ['changed charges.recurring.seat.tax_rates'],
      /from txr_a, txr_b to txr_b\./,
    ],
    [
      'the terms of the plan',
      { commitment_minor: '100' },
      { proration: 'second', prices_include_tax: true, invoice_threshold_minor: '5000' },
      [
        'changed proration',
        'changed prices_include_tax',
        'removed commitment',
        'added invoice_threshold',
      ],
      /The commitment of the plan is gone; it was \$1\.00\./,
    ],
    [
      'the interval',
      {},
      { interval: { unit: 'month', count: 3 }, billing_time: 'calendar' },
      ['changed interval', 'changed billing_time'],
      /from month to 3 months\./,
    ],
    [
      'the currency, and with it every amount',
      {},
      { currency: 'EUR' },
      [
        'changed currency',
        'changed charges.usage.api_calls.price',
        'changed charges.recurring.seat.amount',
      ],
      /from \$29\.00 to €29\.00\./,
    ],
    [
      'a limit, and what it does',
      {},
      { features: [{ ...seats, limit: null, limit_type: 'SOFT' }] },
      ['removed features.seats.limit', 'changed features.seats.limit_type'],
      /The limit of the feature "seats" is gone; it was 1,000\./,
    ],
    [
      'a feature for another',
      {},
      { features: [{ ...seats, key: 'rooms', limit: null }] },
      ['added features.rooms', 'removed features.seats'],
      /The feature "rooms" is new: without a limit\./,
    ],
    [
      'a rate limit',
      {},
      { rate_limits: [{ kind: 'rate', name: 'burst', limit: 100, window_ms: 1000 }] },
      ['changed rate_limits.burst.limit'],
      /from 100 in 1 minute to 100 in 1 second\./,
    ],
    [
      'another kind of rate limit',
      {},
      { rate_limits: [{ kind: 'concurrency', name: 'burst', limit: 100 }] },
      ['changed rate_limits.burst.limit'],
      /to 100 at once\./,
    ],
    ['credits', {}, { credits }, ['added credits'], /1,000 credits included; 1 credit for one/],
    [
      'what credits buy',
      { credits },
      {
        credits: {
          ...credits,
          overage: null,
          burn: [
            { meter_key: 'api_calls', micro_per_unit: '2000000' },
            { meter_key: 'tokens', micro_per_unit: '1' },
          ],
        },
      },
      [
        'removed credits.overage',
        'changed credits.burn.api_calls.credits',
        'added credits.burn.tokens',
      ],
      /from 1 credit for one smallest unit of api_calls to 2 credits/,
    ],
  ];
  for (const [name, before, after, expected, sentence] of rows) {
    it(name, () => {
      const changes = diffPlans(plan(before), plan(after));
      assert.deepEqual(paths(changes), expected);
      assert.match(changes.map((change) => change.sentence).join(' '), sentence);
    });
  }
});

describe('billing/plan-diff › every sentence', () => {
  const rich: PlanDefinition = plan({
    charges: [
      {
        ...usage,
        included_units: '1500',
        minimum_minor: '100',
        maximum_minor: '900',
        tax_rate_ids: ['txr_a'],
      },
      fee,
      { kind: 'one_time', id: 'chg_3', display_name: 'Setup', amount_minor: '500' },
    ],
    features: [{ ...seats, meter_key: 'api_calls' }],
    credits,
    commitment_minor: '100',
    invoice_threshold_minor: '200',
  });
  const other: PlanDefinition = {
    currency: 'USD',
    interval: { unit: 'year', count: 2 },
    billing_time: 'calendar',
    proration: 'second',
    prices_include_tax: true,
    commitment_minor: '300',
    invoice_threshold_minor: '400',
    charges: [
      {
        kind: 'usage',
        id: 'chg_7',
        display_name: 'Requests',
        meter: {
          ...{ id: 'mtr_1', key: 'requests', name: 'Requests', unit_one: 'request' },
          ...{ unit_other: 'requests', scale: 2, aggregation: 'COUNT' },
        },
        price: { model: 'per_unit', unit_price: '2' },
        included_units: '100',
        minimum_minor: '200',
        maximum_minor: '1000',
        tax_rate_ids: ['txr_b', 'txr_a'],
      },
      { ...fee, amount_minor: '3000', bill_in: 'advance', tax_rate_ids: ['txr_b'] },
      { kind: 'one_time', id: 'chg_8', display_name: 'Setup', amount_minor: '600' },
    ],
    features: [
      { ...seats, meter_key: 'tokens', limit: '5', limit_type: 'SOFT', reset_interval: 'day' },
    ],
    rate_limits: [{ kind: 'rate', name: 'burst', limit: 1000, window_ms: 86_400_000 }],
    credits: {
      unit: 'token',
      included_micro: '1000000',
      overage: { enabled: false, credit_price: '0.04' },
      credit_price: '0.5',
      burn: [{ meter_key: 'api_calls', micro_per_unit: '500000' }],
    },
  };
  const requests = 'the charge "Requests"';
  const sentences = [
    'The billing interval of the plan changes from month to 2 years.',
    'The billing time of the plan changes from anniversary to calendar.',
    'The proration of the plan changes from by the day to by the second.',
    'The tax of the plan changes from added to the prices to included in the prices.',
    'The commitment of the plan changes from $1.00 to $3.00.',
    'The invoice threshold of the plan changes from $2.00 to $4.00.',
    `The label of ${requests} changes from Calls to Requests.`,
    `The price of ${requests} changes from $0.001 per unit to $2.00 per unit.`,
    `The allowance of ${requests} changes from 1,500 to 1.`,
    `The minimum of ${requests} changes from $1.00 to $2.00.`,
    `The maximum of ${requests} changes from $9.00 to $10.00.`,
    `The meter key of ${requests} changes from api_calls to requests.`,
    `The meter name of ${requests} changes from API Calls to Requests.`,
    `The unit of ${requests} changes from call / calls to request / requests.`,
    `The scale of ${requests} changes from 0 to 2.`,
    `The aggregation of ${requests} changes from SUM to COUNT.`,
    `The own tax of ${requests} changes from txr_a to txr_a, txr_b.`,
    'The amount of the charge "Seat" changes from $29.00 to $30.00.',
    'The billing of the charge "Seat" changes from in arrears to in advance.',
    'The own tax of the charge "Seat" is new: txr_b.',
    'The amount of the charge "Setup" changes from $5.00 to $6.00.',
    'The limit of the feature "seats" changes from 1,000 to 5.',
    'The kind of limit of the feature "seats" changes from HARD to SOFT.',
    'The reset interval of the feature "seats" changes from period to day.',
    'The meter of the feature "seats" changes from api_calls to tokens.',
    'The limit of the rate limit "burst" changes from 100 in 1 minute to 1,000 in 1 day.',
    'The unit of the sale of credits changes from credit to token.',
    'The allowance of the sale of credits changes from 1,000 credits to 1 token.',
    'The price of a credit of the sale of credits is new: $0.50 per credit.',
    'The overage of the sale of credits changes from on, $0.03 per credit to off, $0.04 per credit.',
    'The amount of the burn rate of api_calls changes from 1 credit for one smallest unit of api_calls to 0.5 credits for one smallest unit of api_calls.',
  ];

  it('of what changed', () => {
    assert.deepEqual(
      diffPlans(rich, other).map(({ sentence }) => sentence),
      sentences,
    );
  });

  it('is at the path of what it is of', () => {
    assert.deepEqual(
      diffPlans(rich, other).map(({ path }) => path),
      [
        ...['interval', 'billing_time', 'proration', 'prices_include_tax', 'commitment'],
        'invoice_threshold',
        ...['display_name', 'price', 'included_units', 'minimum', 'maximum'].map(
          (name) => `charges.usage.requests.${name}`,
        ),
        ...['key', 'name', 'unit', 'scale', 'aggregation'].map(
          (name) => `charges.usage.requests.meter.${name}`,
        ),
        'charges.usage.requests.tax_rates',
        ...['amount', 'bill_in', 'tax_rates'].map((name) => `charges.recurring.seat.${name}`),
        'charges.one_time.setup.amount',
        ...['limit', 'limit_type', 'reset_interval', 'meter'].map(
          (name) => `features.seats.${name}`,
        ),
        'rate_limits.burst.limit',
        ...['unit', 'included', 'credit_price', 'overage'].map((name) => `credits.${name}`),
        'credits.burn.api_calls.credits',
      ],
    );
  });

  it('of what is new, and of what is gone', () => {
    const bare = plan({ charges: [], features: [], rate_limits: [] });
    const full = plan({
      charges: [
        usage,
        { ...usage, id: 'x', meter: { ...calls, id: 'mtr_2', key: 'tokens' } },
        fee,
        fee,
      ],
      features: [seats, { ...seats, key: 'rooms', limit: null }],
      rate_limits: [
        { kind: 'rate', name: 'a', limit: 1, window_ms: 1 },
        { kind: 'rate', name: 'b', limit: 1, window_ms: 2000 },
        { kind: 'rate', name: 'c', limit: 1, window_ms: 7_200_000 },
        { kind: 'concurrency', name: 'd', limit: 4 },
      ],
      credits,
    });
    assert.deepEqual(
      diffPlans(bare, full).map(({ path, after }) => [path, after]),
      [
        ['charges.usage.api_calls', '$0.001 per unit'],
        ['charges.usage.tokens', '$0.001 per unit'],
        ['charges.recurring.seat', '$29.00'],
        ['charges.recurring.seat_2', '$29.00'],
        ['features.seats', 'HARD limit of 1,000 each period'],
        ['features.rooms', 'without a limit'],
        ['rate_limits.a', '1 in 1 ms'],
        ['rate_limits.b', '1 in 2 seconds'],
        ['rate_limits.c', '1 in 2 hours'],
        ['rate_limits.d', '4 at once'],
        ['credits', '1,000 credits included; 1 credit for one smallest unit of api_calls'],
      ],
    );
    assert.deepEqual(
      diffPlans(full, bare).map(({ sentence }) => sentence),
      [
        'The charge "Calls" is gone; it was: $0.001 per unit.',
        'The charge "Calls" is gone; it was: $0.001 per unit.',
        'The charge "Seat" is gone; it was: $29.00.',
        'The charge "Seat" is gone; it was: $29.00.',
        'The feature "seats" is gone; it was: HARD limit of 1,000 each period.',
        'The feature "rooms" is gone; it was: without a limit.',
        'The rate limit "a" is gone; it was: 1 in 1 ms.',
        'The rate limit "b" is gone; it was: 1 in 2 seconds.',
        'The rate limit "c" is gone; it was: 1 in 2 hours.',
        'The rate limit "d" is gone; it was: 4 at once.',
        'The sale of credits is gone; it was: 1,000 credits included; 1 credit for one smallest unit of api_calls.',
      ],
    );
  });
});

describe('billing/price-text', () => {
  const tiers = [
    { up_to: '1000', unit_price: '0.002', flat_fee: '0' },
    { up_to: null, unit_price: '0.001', flat_fee: '5' },
  ];
  const rows: readonly (readonly [Price, string])[] = [
    [{ model: 'per_unit', unit_price: '0.5' }, '$0.50 per unit'],
    [
      { model: 'graduated', tiers },
      'graduated, up to 1,000 at $0.002, all above at $0.001 plus $5.00',
    ],
    [{ model: 'volume', tiers }, 'volume, up to 1,000 at $0.002, all above at $0.001 plus $5.00'],
    [
      {
        model: 'stairstep',
        tiers: [
          { up_to: '10', flat_fee: '1' },
          { up_to: null, flat_fee: '3' },
        ],
      },
      'in steps, up to 10 for $1.00, all above for $3.00',
    ],
    [
      { model: 'package', package_size: '1000', package_price: '0.5' },
      '$0.50 for each begun package of 1,000',
    ],
    [
      { model: 'package', package_size: '1000', package_price: '0.5', round: 'up' },
      '$0.50 for each begun package of 1,000',
    ],
    [
      { model: 'package', package_size: '1000', package_price: '0.5', round: 'down' },
      '$0.50 for each full package of 1,000',
    ],
    [
      { model: 'percentage', percent: '2.9', fixed_fee: '0.3', free_events: '0' },
      '2.9% plus $0.30 for each event',
    ],
    [
      { model: 'percentage', percent: '2.9', fixed_fee: '0.3', free_events: '1000' },
      '2.9% plus $0.30 for each event past the first 1,000',
    ],
  ];
  for (const [of, text] of rows) it(text, () => assert.equal(priceText(of, 'USD'), text));
});

const decimals = fc.constantFrom('0', '0.001', '0.5', '2', '12.25');
const minors = fc.constantFrom('1', '500', '2900');
const bound = fc.constantFrom('10', '1000');
const price: fc.Arbitrary<Price> = fc.oneof(
  fc.record({ model: fc.constant('per_unit' as const), unit_price: decimals }),
  fc.record({
    model: fc.constantFrom('graduated' as const, 'volume' as const),
    tiers: fc.tuple(bound, decimals, decimals, decimals).map(([up_to, a, b, flat_fee]) => [
      { up_to, unit_price: a, flat_fee },
      { up_to: null, unit_price: b, flat_fee: '0' },
    ]),
  }),
  fc.record({
    model: fc.constant('stairstep' as const),
    tiers: fc.tuple(bound, decimals, decimals).map(([up_to, a, b]) => [
      { up_to, flat_fee: a },
      { up_to: null, flat_fee: b },
    ]),
  }),
  fc.record({
    model: fc.constant('package' as const),
    package_size: bound,
    package_price: decimals,
    round: fc.constantFrom('up' as const, 'down' as const),
  }),
  fc.record({
    model: fc.constant('percentage' as const),
    percent: decimals,
    fixed_fee: decimals,
    free_events: fc.constantFrom('0', '10'),
  }),
);
const taxes = fc.subarray(['txr_a', 'txr_b'], { minLength: 1 });
const usageCharge = (key: string): fc.Arbitrary<Charge> =>
  fc
    .record(
      {
        display_name: fc.constantFrom('Calls', 'Tokens'),
        scale: fc.constantFrom(0, 3),
        unit_one: fc.constantFrom('call', 'token'),
        aggregation: fc.constantFrom('SUM' as const, 'MAX' as const),
        price,
        included_units: fc.constantFrom('0', '10', '10000'),
        minimum_minor: minors,
        maximum_minor: minors,
        tax_rate_ids: taxes,
      },
      {
        requiredKeys: [
          'display_name',
          'scale',
          'unit_one',
          'aggregation',
          'price',
          'included_units',
        ],
      },
    )
    .map(({ scale, unit_one, aggregation, ...rest }) => ({
      kind: 'usage' as const,
      id: `chg_${key}`,
      meter: { ...calls, id: `mtr_${key}`, key, scale, unit_one, aggregation },
      ...rest,
    }));
const feeCharge: fc.Arbitrary<Charge> = fc.oneof(
  fc.record(
    {
      kind: fc.constant('recurring' as const),
      id: fc.constantFrom('a', 'b'),
      display_name: fc.constantFrom('Seat', 'Licence'),
      amount_minor: minors,
      bill_in: fc.constantFrom('advance' as const, 'arrears' as const),
      tax_rate_ids: taxes,
    },
    { requiredKeys: ['kind', 'id', 'display_name', 'amount_minor'] },
  ),
  fc.record({
    kind: fc.constant('one_time' as const),
    id: fc.constantFrom('a', 'b'),
    display_name: fc.constantFrom('Seat', 'Setup'),
    amount_minor: minors,
  }),
);
const charges = fc
  .tuple(
    fc.option(usageCharge('api_calls')),
    fc.option(usageCharge('tokens')),
    fc.array(feeCharge, { maxLength: 3 }),
  )
  .map(([a, b, fees]) => [...[a, b].filter((one) => one !== null), ...fees]);
const features: fc.Arbitrary<readonly PlanFeature[]> = fc.uniqueArray(
  fc.record({
    id: fc.constantFrom('feat_1', 'feat_2'),
    key: fc.constantFrom('seats', 'rooms'),
    meter_key: fc.constantFrom(null, 'api_calls'),
    limit: fc.constantFrom(null, '0', '1000'),
    limit_type: fc.constantFrom('HARD' as const, 'SOFT' as const),
    reset_interval: fc.constantFrom('day' as const, 'period' as const),
  }),
  { selector: ({ key }) => key },
);
const rateLimits: fc.Arbitrary<readonly RateLimit[]> = fc.uniqueArray(
  fc.oneof(
    fc.record({
      kind: fc.constant('rate' as const),
      name: fc.constantFrom('burst', 'daily'),
      limit: fc.constantFrom(1, 100),
      window_ms: fc.constantFrom(1, 1000, 60_000, 90_000, 86_400_000),
    }),
    fc.record({
      kind: fc.constant('concurrency' as const),
      name: fc.constantFrom('burst', 'daily'),
      limit: fc.constantFrom(1, 100),
    }),
  ),
  { selector: ({ name }) => name },
);
const creditTerms: fc.Arbitrary<CreditTerms> = fc.record({
  unit: fc.constantFrom('credit', 'token'),
  included_micro: fc.constantFrom('0', '1000000', '1'),
  overage: fc.option(fc.record({ enabled: fc.boolean(), credit_price: decimals })),
  credit_price: fc.option(decimals),
  burn: fc.uniqueArray(
    fc.record({
      meter_key: fc.constantFrom('api_calls', 'tokens'),
      micro_per_unit: fc.constantFrom('1', '1000000'),
    }),
    { selector: ({ meter_key }) => meter_key },
  ),
});
const definition: fc.Arbitrary<PlanDefinition> = fc.record(
  {
    currency: fc.constantFrom('USD' as const, 'JPY' as const),
    interval: fc.record({
      unit: fc.constantFrom('month' as const, 'year' as const),
      count: fc.constantFrom(1, 3),
    }),
    billing_time: fc.constantFrom('anniversary' as const, 'calendar' as const),
    charges,
    features,
    rate_limits: rateLimits,
    credits: fc.option(creditTerms),
    proration: fc.constantFrom('day' as const, 'second' as const),
    prices_include_tax: fc.boolean(),
    commitment_minor: minors,
    invoice_threshold_minor: minors,
  },
  {
    requiredKeys: [
      'currency',
      'interval',
      'billing_time',
      'charges',
      'features',
      'rate_limits',
      'credits',
    ],
  },
);

/** What a definition says, without ids and order, and with the defaults written out: computed apart from the diff. */
function said(of: PlanDefinition): unknown {
  const sorted = (items: readonly unknown[]): string[] =>
    items.map((item) => JSON.stringify(item)).toSorted();
  const charge = (given: Charge): unknown => {
    const common = {
      kind: given.kind,
      name: given.display_name,
      taxes: sorted(given.tax_rate_ids ?? []),
    };
    if (given.kind === 'one_time') return { ...common, amount: given.amount_minor };
    if (given.kind === 'recurring')
      return { ...common, amount: given.amount_minor, bill_in: given.bill_in ?? 'arrears' };
    const { meter, included_units, minimum_minor = null, maximum_minor = null } = given;
    return { ...common, meter, included_units, minimum_minor, maximum_minor, price: given.price };
  };
  return {
    currency: of.currency,
    interval: of.interval,
    billing_time: of.billing_time,
    proration: of.proration ?? 'day',
    inclusive: of.prices_include_tax ?? false,
    commitment: of.commitment_minor ?? null,
    threshold: of.invoice_threshold_minor ?? null,
    charges: sorted(of.charges.map(charge)),
    features: sorted(of.features.map(({ id, ...rest }) => ({ ...rest, hasId: id !== '' }))),
    rate_limits: sorted(of.rate_limits),
    credits: of.credits === null ? null : { ...of.credits, burn: sorted(of.credits.burn) },
  };
}

const isSame = (a: unknown, b: unknown): boolean => JSON.stringify(a) === JSON.stringify(b);

describe('billing/plan-diff › properties', () => {
  it('is empty for equal plans, and only for them', () => {
    fc.assert(
      fc.property(definition, definition, (a, b) => {
        assert.deepEqual(diffPlans(a, a), []);
        assert.equal(diffPlans(a, b).length === 0, isSame(said(a), said(b)));
      }),
      { numRuns: 500 },
    );
  });

  it('names the one part that was replaced, and nothing else', () => {
    const roots: Readonly<Record<string, readonly string[]>> = {
      interval: ['interval'],
      billing_time: ['billing_time'],
      charges: ['charges'],
      features: ['features'],
      rate_limits: ['rate_limits'],
      credits: ['credits'],
      proration: ['proration'],
      prices_include_tax: ['prices_include_tax'],
      commitment_minor: ['commitment'],
      invoice_threshold_minor: ['invoice_threshold'],
    };
    const part = fc.constantFrom(...Object.keys(roots));
    fc.assert(
      fc.property(definition, definition, part, (a, other, key) => {
        const b: PlanDefinition = { ...a, ...pick(other, key) };
        const found = new Set(diffPlans(a, b).map(({ path }) => path.split('.')[0]));
        assert.deepEqual([...found], isSame(said(a), said(b)) ? [] : roots[key]);
      }),
      { numRuns: 500 },
    );
  });

  it('reads backwards as it reads forwards', () => {
    fc.assert(
      fc.property(definition, definition, (a, b) => {
        const backwards = { added: 'removed', removed: 'added', changed: 'changed' } as const;
        const forth = diffPlans(a, b).map(({ kind, before, after }) => [kind, before, after]);
        const back = diffPlans(b, a).map(({ kind, before, after }) => [
          backwards[kind],
          after,
          before,
        ]);
        const sorted = (list: readonly unknown[]): string[] =>
          list.map((item) => JSON.stringify(item)).toSorted();
        assert.deepEqual(sorted(back), sorted(forth));
      }),
      { numRuns: 300 },
    );
  });

  it('says one sentence of each change, at a path of its own', () => {
    fc.assert(
      fc.property(definition, definition, (a, b) => {
        const changes = diffPlans(a, b);
        for (const { sentence, before, after, kind } of changes) {
          assert.match(sentence, /^The .*\.$/);
          assert.notEqual(before, after);
          assert.deepEqual(
            [before === null, after === null],
            [kind === 'added', kind === 'removed'],
          );
        }
        const places = changes.map(({ kind, path }) => `${kind} ${path}`);
        assert.equal(new Set(places).size, places.length);
      }),
      { numRuns: 300 },
    );
  });

  it('prices have the same words only when they are the same', () => {
    fc.assert(
      fc.property(price, price, (a, b) => {
        assert.equal(priceText(a, 'USD') === priceText(b, 'USD'), isSame(a, b));
      }),
      { numRuns: 1000 },
    );
  });
});

function pick(from: PlanDefinition, key: string): Partial<PlanDefinition> {
  return Object.fromEntries(Object.entries(from).filter(([name]) => name === key));
}
