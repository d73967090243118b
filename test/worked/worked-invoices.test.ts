/**
 * The invoices of docs/worked-invoices.md: set up through the API, used, closed by the workflows, and compared with what
 * the page says, to the letter. By hand is there; here is what the system prints.
 */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';

import { type Json, listOf, printed, type Stage, startStage } from './stage.ts';

const PAGE = new URL('../../docs/worked-invoices.md', import.meta.url);

/** The blocks of the page that show what the system printed, by the heading that they stand under. */
function blocksOfPage(): ReadonlyMap<string, string> {
  const text = readFileSync(PAGE, 'utf8');
  const found = [
    ...text.matchAll(/<!-- printed: (?<name>[\w-]+) -->\n+```text\n(?<block>.*?)\n```/gs),
  ];
  return new Map(found.map(({ groups }) => [groups?.['name'] ?? '', groups?.['block'] ?? '']));
}

const id = (of: Json): string => String(of['id']);

describe('docs/worked-invoices.md', () => {
  let stage: Stage;
  const seen = new Map<string, string>();
  const plans = new Map<string, string>();
  const people = new Map<string, string>();
  const subscriptions = new Map<string, string>();

  before(async function () {
    this.timeout(180_000);
    stage = await startStage();
  });
  after(async () => {
    await stage.stop();
  });

  async function plan(name: string, terms: Json, charges: readonly Json[]): Promise<void> {
    const made = await stage.call('POST', '/plans', {
      name,
      type: 'CUSTOM',
      currency: 'USD',
      billing_interval: 'month',
      ...terms,
    });
    for (const charge of charges) await stage.call('POST', `/plans/${id(made)}/charges`, charge);
    await stage.call('POST', `/plans/${id(made)}/publish`, {});
    plans.set(name, id(made));
  }

  async function subscribe(
    name: string,
    who: Json,
    what: Json & { readonly plan: string },
  ): Promise<void> {
    const subscriber = await stage.call('POST', '/subscribers', {
      name,
      payment_method: 'card_ok',
      ...who,
    });
    people.set(name, id(subscriber));
    const { plan: planName, ...rest } = what;
    const subscription = await stage.call('POST', '/subscriptions', {
      subscriber_id: id(subscriber),
      plan_id: plans.get(planName),
      ...rest,
    });
    subscriptions.set(name, id(subscription));
  }

  const use = (name: string, at: string, meter: string, quantity: number): Promise<void> =>
    stage.use([{ subscriberId: people.get(name) ?? '', at, meter, quantity }]);

  const invoicesOf = (name: string, count: number): Promise<readonly Json[]> =>
    stage.invoices(subscriptions.get(name) ?? '', count);

  async function show(block: string, name: string, place: number): Promise<Json> {
    const invoice = (await invoicesOf(name, place)).at(place - 1) ?? {};
    seen.set(block, printed(invoice));
    return invoice;
  }

  it('sets up the catalogue', async function () {
    this.timeout(60_000);
    await stage.call('POST', '/products', {
      name: 'Weather',
      lookup_id: 'weather',
      upstream_url: 'http://127.0.0.1:1',
      credit_definition: 'One credit is one map tile.',
    });
    const meters = [
      ['calls', 'API Calls', 'call', 'calls'],
      ['images', 'Images', 'image', 'images'],
      ['exports', 'Exports', 'export', 'exports'],
      ['tiles', 'Map Tiles', 'tile', 'tiles'],
    ] as const;
    for (const [lookupId, name, one, other] of meters) {
      const unit = { one, other };
      await stage.call('POST', '/meters', { lookup_id: lookupId, name, unit, aggregation: 'SUM' });
    }
    for (const [lookupId, name, percent] of [
      ['standard', 'VAT', '19'],
      ['reduced', 'Reduced VAT', '7'],
      ['nyc', 'NYC sales tax', '8.875'],
    ]) {
      await stage.call('POST', '/tax_rates', { lookup_id: lookupId, name, percent });
    }
    await stage.call('POST', '/coupons', {
      name: 'Partner 10%',
      lookup_id: 'PARTNER',
      percent: '10',
      duration: 'forever',
    });
    await stage.call('POST', '/coupons', {
      name: 'Calls voucher',
      lookup_id: 'CALLS20',
      amount: '20.00',
      currency: 'USD',
      applies_to: 'meters',
      meter_ids: ['calls'],
    });
    await stage.call('POST', '/coupons', {
      name: 'Launch 12.5%',
      lookup_id: 'LAUNCH',
      percent: '12.5',
    });
    await stage.call('POST', '/coupons', {
      name: 'Studio 25%',
      lookup_id: 'STUDIO',
      percent: '25',
      applies_to: 'fees',
      duration: 'repeating',
      duration_intervals: 3,
    });
    await stage.call('POST', '/coupons', {
      name: 'Welcome €10',
      lookup_id: 'WELCOME',
      amount: '10.00',
      currency: 'EUR',
    });
    await stage.call('POST', '/add_ons', {
      name: 'Priority support',
      lookup_id: 'priority',
      type: 'RECURRING',
      amount: '31.00',
      currency: 'USD',
    });

    const perCall = (unitPrice: string, rest: Json = {}): Json => ({
      type: 'USAGE',
      meter_id: 'calls',
      unit_price: unitPrice,
      ...rest,
    });
    const fee = (amount: string, name: string, rest: Json = {}): Json => ({
      type: 'RECURRING',
      amount,
      display_name: name,
      ...rest,
    });
    await plan('Pay as you go', {}, [perCall('0.001')]);
    await plan('Pro', {}, [
      fee('49.00', 'Pro plan'),
      {
        type: 'USAGE',
        meter_id: 'calls',
        included_units: '10000',
        price: {
          model: 'graduated',
          tiers: [
            { up_to: '50000', unit_price: '0.002' },
            { up_to: null, unit_price: '0.001', flat_fee: '5' },
          ],
        },
      },
      {
        type: 'USAGE',
        meter_id: 'exports',
        price: { model: 'package', package_size: '1000', package_price: '0.50' },
      },
    ]);
    await plan('Mixed', {}, [
      fee('100.00', 'Mixed plan', { tax_rates: ['standard'] }),
      perCall('0.0123', { tax_rates: ['reduced'] }),
      {
        type: 'USAGE',
        meter_id: 'images',
        price: {
          model: 'volume',
          tiers: [
            { up_to: '1000', unit_price: '0.05' },
            { up_to: null, unit_price: '0.04', flat_fee: '2' },
          ],
        },
      },
    ]);
    const calendar = { billing_time: 'calendar' };
    await plan('Team', calendar, [
      fee('290.00', 'Team'),
      perCall('0.002', { included_units: '1000' }),
    ]);
    await plan('Business', calendar, [
      fee('620.00', 'Business'),
      perCall('0.001', { included_units: '10000' }),
    ]);
    const studio = {
      ...calendar,
      currency: 'EUR',
      included_credits: '1000',
      credit_price: '0.04',
      overage: { enabled: true, credit_price: '0.03' },
      credit_rates: [{ meter_id: 'tiles', credits: '1' }],
    };
    const tiered = (first: string): Json => ({
      type: 'USAGE',
      meter_id: 'calls',
      tax_rates: ['reduced'],
      price: {
        model: 'graduated',
        tiers: [
          { up_to: '10000', unit_price: first },
          { up_to: null, unit_price: '0.0007' },
        ],
      },
    });
    await plan('Studio', studio, [
      fee('87.00', 'Studio', { bill_in: 'advance' }),
      tiered('0.0015'),
    ]);
    await plan('Studio Max', studio, [
      fee('155.00', 'Studio Max', { bill_in: 'advance' }),
      tiered('0.0011'),
    ]);
  });

  it('sets up the subscribers', async function () {
    this.timeout(60_000);
    await subscribe('Ada', {}, { plan: 'Pay as you go', start_at: '2028-02-01T00:00:00Z' });
    await subscribe(
      'Bo',
      { tax_rates: ['standard'] },
      { plan: 'Pro', start_at: '2028-02-01T00:00:00Z', coupons: ['PARTNER'] },
    );
    await subscribe(
      'Cy',
      { tax_rates: ['standard'] },
      { plan: 'Mixed', start_at: '2028-02-01T00:00:00Z', coupons: ['LAUNCH', 'CALLS20'] },
    );
    await subscribe(
      'Dee',
      { time_zone: 'America/New_York', tax_rates: ['nyc'] },
      {
        plan: 'Team',
        start_at: '2028-02-10T05:00:00Z',
        add_ons: [{ add_on_id: 'priority', quantity: 1 }],
      },
    );
    await subscribe(
      'Eve',
      { time_zone: 'Europe/Berlin', tax_rates: ['standard'], tax_id: 'DE123456789' },
      {
        plan: 'Studio',
        start_at: '2028-02-09T23:00:00Z',
        coupons: ['STUDIO', 'WELCOME'],
      },
    );
  });

  it('February is used and closed', async function () {
    this.timeout(120_000);
    await stage.at('2028-02-10T12:00:00Z');
    await use('Ada', '2028-02-29T23:59:59.999Z', 'calls', 82_450);
    await use('Bo', '2028-02-14T08:00:00Z', 'calls', 100_001);
    await use('Bo', '2028-02-15T08:00:00Z', 'exports', 2345);
    await use('Cy', '2028-02-11T08:00:00Z', 'calls', 12_345);
    await use('Cy', '2028-02-12T08:00:00Z', 'images', 1500);
    await use('Dee', '2028-02-29T12:00:00Z', 'calls', 5000);
    await use('Eve', '2028-02-20T12:00:00Z', 'calls', 9000);
    await stage.at('2028-03-02T00:00:00Z');
    await show('1', 'Ada', 1);
    await show('2', 'Bo', 1);
    await show('3', 'Cy', 1);
    await show('4-february', 'Dee', 1);
    await show('5-advance', 'Eve', 1);
    await show('5-february', 'Eve', 2);
  });

  it('March brings changes of plan, late usage, credits and a summer time', async function () {
    this.timeout(120_000);
    await use('Dee', '2028-03-03T12:00:00Z', 'calls', 8000);
    await stage.at('2028-03-12T12:00:00Z');
    await stage.call('POST', `/subscriptions/${subscriptions.get('Dee') ?? ''}/change_plan`, {
      plan_id: plans.get('Business'),
    });
    await use('Dee', '2028-03-20T12:00:00Z', 'calls', 6500);
    // Reported on 12 March, done in February: with 9,000 billed, 1,000 are left of the first tier.
    await use('Eve', '2028-02-28T12:00:00Z', 'calls', 3000);
    await use('Eve', '2028-03-15T12:00:00Z', 'calls', 4000);
    const buckets = await stage
      .db<{ id: bigint; effective_at: Date }>('buckets')
      .orderBy('effective_at');
    const march = buckets.find(
      ({ effective_at }) => effective_at.toISOString() === '2028-02-29T23:00:00.000Z',
    );
    await stage.use([
      {
        subscriberId: people.get('Eve') ?? '',
        at: '2028-03-16T12:00:00Z',
        meter: 'tiles',
        quantity: 1250,
        takes: [{ bucketId: String(march?.id), micro: 1_000_000_000 }],
        overageMicro: 250_000_000,
      },
    ]);
    await stage.at('2028-03-26T12:00:00Z');
    await stage.call('POST', `/subscriptions/${subscriptions.get('Eve') ?? ''}/change_plan`, {
      plan_id: plans.get('Studio Max'),
    });
    await use('Eve', '2028-03-28T12:00:00Z', 'calls', 2000);
    const february = (await invoicesOf('Eve', 2)).at(1) ?? {};
    const line = listOf(february['lines']).find((one) =>
      String(one['description']).startsWith('API Calls'),
    );
    await stage.call('POST', `/invoices/${id(february)}/credit_notes`, {
      lines: [{ line_id: line?.['id'], amount: '3.00' }],
      reason: 'service_issue',
      refund_to: 'balance',
    });
    await stage.at('2028-04-02T00:00:00Z');
    await show('4-march', 'Dee', 2);
    await show('5-change', 'Eve', 3);
    await show('5-march', 'Eve', 4);
  });

  it('prints what the page says', () => {
    const page = blocksOfPage();
    assert.equal(seen.size, 9);
    assert.deepEqual(Object.fromEntries(seen), Object.fromEntries(page));
  });

  it('leaves books that hold', async () => {
    assert.deepEqual(await stage.violations(), []);
  });
});
