import assert from 'node:assert/strict';

import fc from 'fast-check';
import { inTransaction } from '../../store/db.ts';
import { invoicePeriod } from '../../store/period-invoice.ts';
import { beginClosing, cutPeriod, listPeriods, openPeriods } from '../../store/periods.ts';
import { changeSubscription, lockSubscription } from '../../store/subscriptions.ts';
import { attached, seedCoupon, seedTaxRate } from '../store/commerce-rows.ts';
import { seedSubscriber, seedSubscription, seedUsage } from '../workflows/support/world.ts';
import {
  isJson,
  seedCatalogue,
  startAdmin,
  type Json,
  type Reply,
  type TestAdmin,
} from './support.ts';

const dayMs = 86_400_000;

describe('admin › price simulation', () => {
  let admin: TestAdmin;
  let meterId: string;
  let names = 0;
  before(async () => {
    admin = await startAdmin();
    await seedCatalogue(admin);
    await admin.call('PATCH', '/api/v1/products/demo', {
      body: { credit_definition: 'One credit is one call.' },
    });
    for (const [lookup_id, scale] of [
      ['calls', 0],
      ['money', 2],
    ] as const) {
      // oxlint-disable-next-line no-await-in-loop
      const made = await post('/meters', {
        ...{ name: lookup_id, lookup_id, unit: 'unit', scale, aggregation: 'SUM' },
      });
      if (lookup_id === 'calls') meterId = String(made.body['id']);
    }
  });
  after(() => admin.stop());

  const post = async (path: string, body: unknown = {}): Promise<Reply> =>
    admin.call('POST', `/api/v1${path}`, { body });
  const ok = async (path: string, body: unknown = {}): Promise<Json> => {
    const reply = await post(path, body);
    assert.ok(reply.status < 300, `${path}: ${reply.text}`);
    return reply.body;
  };

  /** A published plan; answers its lookup_id and version id. */
  async function plan(
    charges: readonly Json[],
    more: Json = {},
  ): Promise<{ readonly name: string; readonly versionId: string }> {
    names += 1;
    const name = `plan-${names}`;
    await ok('/plans', {
      ...{ name, lookup_id: name, type: 'CUSTOM', billing_interval: 'month', currency: 'USD' },
      ...more,
    });
    for (const charge of charges) {
      // oxlint-disable-next-line no-await-in-loop
      await ok(`/plans/${name}/charges`, charge);
    }
    const published = await ok(`/plans/${name}/publish`);
    return { name, versionId: String(published['version_id']) };
  }

  const perCall = (unit_price: string, more: Json = {}): Json => ({
    ...{ type: 'USAGE', meter_id: 'calls', unit_price, display_name: 'Calls' },
    ...more,
  });

  /** A subscription whose period runs for ten days already. */
  async function subscribe(
    planVersionId: string,
    used: bigint,
    options: { readonly isCut?: boolean } = {},
  ): Promise<string> {
    const startAt = new Date(Math.floor(Date.now() / 1000) * 1000 - 10 * dayMs);
    const subscriberId = await seedSubscriber(admin.db, null);
    const subscriptionId = await seedSubscription(admin.db, {
      ...{ subscriberId, planVersionId, startAt },
    });
    await inTransaction(admin.db, async (tx) => {
      const pending = await lockSubscription(tx, subscriptionId);
      const started = await changeSubscription(tx, pending, { kind: 'started', at: startAt });
      const first = await openPeriods(tx, started, new Date(startAt.getTime() - dayMs));
      if (options.isCut === true) {
        await cutPeriod(tx, first, {
          at: new Date(startAt.getTime() + 5 * dayMs),
          reason: 'close_now',
        });
      }
    });
    for (const day of [1, 7]) {
      // oxlint-disable-next-line no-await-in-loop
      await seedUsage(admin.db, {
        ...{ subscriptionId, meterId, quantity: used / 2n },
        at: new Date(startAt.getTime() + day * dayMs),
      });
    }
    if (options.isCut === true) await close(subscriptionId);
    return subscriptionId;
  }

  async function close(subscriptionId: string): Promise<string> {
    const periods = await listPeriods(admin.db, subscriptionId);
    const period = periods.find(({ state }) => state !== 'closed');
    assert.ok(period);
    await inTransaction(admin.db, (tx) => beginClosing(tx, period));
    const result = await inTransaction(admin.db, (tx) => invoicePeriod(tx, period.id, new Date()));
    assert.equal(result.kind, 'invoiced');
    await admin.db('periods').where({ id: period.id }).update({ state: 'closed' });
    return period.id;
  }

  const simulate = (name: string, body: Json): Promise<Json> => ok(`/plans/${name}/simulate`, body);
  const upcoming = async (subscriptionId: string): Promise<Json> =>
    (await admin.call('GET', `/api/v1/subscriptions/${subscriptionId}/upcoming_invoice`)).body;
  const bill = (from: Json): Json =>
    Object.fromEntries(
      ['period', 'period_text', 'lines', 'subtotal', 'discounts', 'taxes', 'tax', 'total'].map(
        (name) => [name, from[name]],
      ),
    );
  const texts = (from: Json): readonly unknown[] =>
    (Array.isArray(from['lines']) ? from['lines'] : []).map((line: unknown) =>
      isJson(line) ? [line['description'], line['amount']] : null,
    );

  it("of a subscription's own plan over its own period is its upcoming invoice", async () => {
    const taxRate = await seedTaxRate(admin.db, 'VAT', '19');
    const terms = fc.record({
      unit: fc.constantFrom('0.001', '0.0333', '1.5'),
      included: fc.constantFrom(0, 50),
      minimum: fc.constantFrom(null, '3', '40'),
      fee: fc.constantFrom('advance', 'arrears'),
      commitment: fc.constantFrom(null, '120'),
      inclusive: fc.boolean(),
      isTaxed: fc.boolean(),
      hasCoupon: fc.boolean(),
      isCut: fc.boolean(),
      used: fc.constantFrom(0n, 100n, 12_346n),
    });
    await fc.assert(
      fc.asyncProperty(terms, async (of) => {
        const tax_rates = of.isTaxed ? [taxRate] : [];
        const { name, versionId } = await plan(
          [
            { type: 'RECURRING', amount: '29', bill_in: of.fee, tax_rates },
            { type: 'ONE_TIME', amount: '5' },
            perCall(of.unit, {
              included_units: of.included,
              tax_rates,
              ...(of.minimum !== null && { minimum: of.minimum }),
            }),
          ],
          {
            prices_include_tax: of.inclusive,
            ...(of.commitment !== null && { commitment: of.commitment }),
          },
        );
        const subscriptionId = await subscribe(versionId, of.used, { isCut: of.isCut });
        if (of.hasCoupon) {
          const coupon = await seedCoupon(admin.db);
          await attached(admin.db, subscriptionId, coupon.id, new Date(Date.now() - dayMs));
        }
        const simulated = await simulate(name, { subscription_id: subscriptionId });
        const real = await upcoming(subscriptionId);
        assert.deepEqual(bill(simulated), bill(real));
        assert.equal(simulated['difference'], '0.00');
        assert.deepEqual(simulated['actual'], {
          ...{ invoice_id: null, invoice_number: null },
          ...{ subtotal: real['subtotal'], total: real['total'] },
        });
        const period_id = await close(subscriptionId);
        const after = await simulate(name, { subscription_id: subscriptionId, period_id });
        const issued = await admin.call(
          'GET',
          `/api/v1/invoices/${String(isJson(after['actual']) ? after['actual']['invoice_id'] : '')}`,
        );
        assert.deepEqual(
          [
            issued.body['subtotal'],
            issued.body['discount'],
            issued.body['tax'],
            issued.body['total'],
          ],
          [real['subtotal'], real['discount'], real['tax'], real['total']],
        );
        assert.deepEqual([after['total'], after['difference']], [real['total'], '0.00']);
      }),
      { numRuns: 20 },
    );
  });

  it('says what another plan, or a draft of the same, would change, and writes nothing', async () => {
    const { name, versionId } = await plan([
      { type: 'RECURRING', amount: '29' },
      perCall('0.01', { included_units: 1000 }),
    ]);
    const other = await plan([perCall('0.02')]);
    const subscriptionId = await subscribe(versionId, 3000n);
    const own = await simulate(name, { subscription_id: subscriptionId });
    assert.equal(own['total'], '49.00');
    const cheaper = await simulate(other.name, { subscription_id: subscriptionId });
    assert.deepEqual([cheaper['total'], cheaper['difference']], ['60.00', '11.00']);
    const draft = await ok(`/plans/${name}/versions`);
    await admin.call('PATCH', `/api/v1/plans/${name}`, { body: { base_price: '10' } });
    const next = await simulate(name, { subscription_id: subscriptionId, version: 2 });
    assert.deepEqual([next['total'], next['difference']], ['59.00', '10.00']);
    const row = await admin
      .db('plan_versions')
      .where({ id: String(draft['version_id']) })
      .first<Json>('definition', 'state');
    assert.deepEqual(row, { definition: null, state: 'draft' });
    const versions = await admin
      .db('segments')
      .where({ subscription_id: subscriptionId })
      .distinct('plan_version_id');
    assert.deepEqual(versions, [{ plan_version_id: versionId }]);
    assert.deepEqual(bill(await upcoming(subscriptionId)), bill(own));
  });

  it('goes on for who has an archived plan, to whom it is still billed', async () => {
    const { name, versionId } = await plan([perCall('0.01')]);
    const subscriptionId = await subscribe(versionId, 1000n);
    const before = await upcoming(subscriptionId);
    await ok(`/plans/${name}/archive`);
    assert.deepEqual(bill(await upcoming(subscriptionId)), bill(before));
    const simulated = await simulate(name, { subscription_id: subscriptionId });
    assert.deepEqual([simulated['total'], simulated['difference']], ['10.00', '0.00']);
    await close(subscriptionId);
    const [invoice] = await admin.db('invoices').where({ subscription_id: subscriptionId });
    assert.ok(isJson(invoice));
    assert.equal(invoice['total_minor'], 1_000n);
  });

  it('prices a closed period beside the invoice that it has', async () => {
    const { versionId } = await plan([perCall('0.01')]);
    const other = await plan([perCall('0.03')]);
    const subscriptionId = await subscribe(versionId, 1000n);
    const period_id = await close(subscriptionId);
    const simulated = await simulate(other.name, { subscription_id: subscriptionId, period_id });
    const { actual } = simulated;
    assert.ok(isJson(actual));
    assert.match(String(actual['invoice_number']), /^INV-/);
    assert.deepEqual(
      [simulated['total'], actual['total'], simulated['difference']],
      ['30.00', '10.00', '20.00'],
    );
  });

  it('burns credits by the table where the plan sells other credits', async () => {
    const { versionId } = await plan([perCall('0.01')]);
    const credits = {
      credit_rates: [{ meter_id: 'calls', credits: '2' }],
      included_credits: '500',
    };
    const billed = await plan([], { ...credits, overage: { enabled: true, credit_price: '0.1' } });
    const denied = await plan([], credits);
    const subscriptionId = await subscribe(versionId, 1000n);
    const past = await simulate(billed.name, { subscription_id: subscriptionId });
    assert.deepEqual(texts(past), [['Overage (1,500 credits × $0.10)', '150.00']]);
    assert.match(JSON.stringify(past['notes']), /2,000 credits, of which the plan includes 500/);
    const without = await simulate(denied.name, { subscription_id: subscriptionId });
    assert.equal(without['total'], '0.00');
    assert.match(JSON.stringify(without['notes']), /the last 1,500 credits would have been denied/);
  });

  it('prices usage that is named, for every model and with what an invoice does not say', async () => {
    const { name } = await plan(
      [
        { type: 'RECURRING', amount: '29', bill_in: 'advance', display_name: 'Seat' },
        { type: 'ONE_TIME', amount: '5', display_name: 'Setup' },
        perCall('0.01', { included_units: 100, maximum: '20' }),
        {
          ...{ type: 'USAGE', meter_id: 'money', display_name: 'Cards' },
          price: { model: 'percentage', percent: '2.9', fixed_fee: '0.30' },
        },
        {
          ...{ type: 'USAGE', meter_id: 'api_calls', display_name: 'API calls' },
          price: { model: 'stairstep', tiers: [{ up_to: 10, flat_fee: 1 }, { flat_fee: 3 }] },
        },
      ],
      { commitment: '100' },
    );
    const amounts = (of: Json): readonly unknown[] =>
      texts(of).map((one) => (Array.isArray(one) ? one[1] : ''));
    const none = await simulate(name, { usage: [] });
    assert.deepEqual(amounts(none), ['29.00', '0.00', '0.00', '1.00', '70.00']);
    const some = await simulate(name, {
      usage: [
        { meter_id: 'calls', quantity: 10_100 },
        { meter_id: 'money', quantity: 100_000, events: 10 },
        { meter_id: 'api_calls', quantity: 11 },
      ],
      first_invoice: true,
    });
    // 10,000 × $0.01 is held at $20; 2.9 % of $1,000 and 10 × $0.30; above 10 calls. With the seat of this interval, which
    // was billed before it, that is 89 of the 100 that were promised.
    assert.deepEqual(
      new Set(amounts(some)),
      new Set(['29.00', '5.00', '100.00', '-80.00', '32.00', '3.00', '11.00']),
    );
    assert.equal(some['subscription_id'], null);
    const lines = Array.isArray(some['lines']) ? some['lines'] : [];
    const aggregations = lines.flatMap((line: unknown) =>
      isJson(line) && isJson(line['details']) && 'aggregation' in line['details']
        ? [line['details']['aggregation']]
        : [],
    );
    assert.ok(aggregations.includes('COUNT') && aggregations.includes('SUM'));
  });

  it('taxes named usage as for a subscriber, in every currency', async () => {
    const taxRate = await seedTaxRate(admin.db, 'VAT', '19');
    const made = await ok('/subscribers', { name: 'Taxed', tax_rates: [taxRate] });
    const subscriber_id = String(made['id']);
    for (const [currency, subtotal, tax, total] of [
      ['JPY', '12', '2', '14'],
      ['USD', '12.34', '2.34', '14.68'],
      ['KWD', '12.340', '2.345', '14.685'],
    ] as const) {
      // oxlint-disable-next-line no-await-in-loop
      const { name } = await plan([perCall('0.01')], { currency });
      // oxlint-disable-next-line no-await-in-loop
      const simulated = await simulate(name, {
        usage: [{ meter_id: 'calls', quantity: 1_234 }],
        ...{ subscriber_id },
      });
      assert.deepEqual(
        [simulated['subtotal'], simulated['tax'], simulated['total']],
        [subtotal, tax, total],
        currency,
      );
    }
  });

  it('takes coupons off named usage, in their order', async () => {
    const { name } = await plan([
      { type: 'RECURRING', amount: '20', bill_in: 'advance' },
      { type: 'RECURRING', amount: '10' },
      perCall('0.01'),
    ]);
    const usage = [{ meter_id: 'calls', quantity: 1_000 }];
    const discounts = async (...coupons: readonly string[]): Promise<unknown> =>
      (await simulate(name, { usage, coupons }))['discounts'];
    const tenth = await seedCoupon(admin.db, { duration: 'forever' });
    const once = await seedCoupon(admin.db);
    const fees = await seedCoupon(admin.db, { applies_to: 'fees', duration: 'forever' });
    const fixed = await seedCoupon(admin.db, { amount_minor: 500n });
    const euros = await seedCoupon(admin.db, { amount_minor: 500n, currency: 'EUR' });
    assert.deepEqual(await discounts(tenth.lookup_id), [{ name: tenth.name, amount: '4.00' }]);
    assert.deepEqual(await discounts(once.id), [{ name: once.name, amount: '2.00' }]);
    assert.deepEqual(await discounts(fixed.id, tenth.id, fees.id), [
      { name: fees.name, amount: '3.00' },
      { name: fixed.name, amount: '5.00' },
      { name: tenth.name, amount: '3.20' },
    ]);
    for (const [field, coupons] of [
      ['coupons[0]', ['NOBODY']],
      ['coupons[0]', [euros.id]],
      ['coupons[1]', [tenth.id, tenth.lookup_id]],
    ] as const) {
      // oxlint-disable-next-line no-await-in-loop
      const refused = await post(`/plans/${name}/simulate`, { usage, coupons });
      assert.equal(refused.status, 400, refused.text);
      assert.ok(refused.text.includes(`"field":"${field}"`), refused.text);
    }
  });

  it('notes limits, and meters without a price', async () => {
    const { name } = await plan([], { base_price: '9' });
    await ok(`/plans/${name}/versions`);
    await ok(`/plans/${name}/features`, { feature_id: 'api_calls', limit: 1000 });
    const simulated = await simulate(name, {
      version: 2,
      usage: [{ meter_id: 'api_calls', quantity: 1500 }],
    });
    assert.equal(simulated['total'], '9.00');
    assert.deepEqual(simulated['notes'], [
      'The limit of api_calls stops at 1,000: of 1,500 what is above would have been denied.',
      'The plan has no price for api_calls.',
    ]);
  });

  it('counts credits of named usage, and takes overage that is told', async () => {
    const { name } = await plan([], {
      credit_rates: [{ meter_id: 'calls', credits: '1' }],
      included_credits: '100',
      overage: { enabled: true, credit_price: '0.05' },
      base_price: '10',
    });
    const usage = [{ meter_id: 'calls', quantity: 300 }];
    assert.equal((await simulate(name, { usage }))['total'], '20.00');
    assert.equal((await simulate(name, { usage, overage_credits: '40' }))['total'], '12.00');
  });

  it('refuses what it cannot work out, by field', async () => {
    const { name, versionId } = await plan([
      perCall('0.01'),
      {
        ...{ type: 'USAGE', meter_id: 'money', display_name: 'Cards' },
        price: { model: 'percentage', percent: '1', fixed_fee: '0.30' },
      },
    ]);
    const euros = await plan([perCall('0.01')], { currency: 'EUR' });
    const yearly = await plan([perCall('0.01')], { billing_interval: 'year' });
    const subscription_id = await subscribe(versionId, 2n);
    const cases: readonly (readonly [string, string, Json])[] = [
      [name, 'usage', {}],
      [name, 'usage', { usage: [], subscription_id }],
      [name, 'subscriber_id', { subscriber_id: 'x', subscription_id }],
      [name, 'subscriber_id', { subscriber_id: 'nobody', usage: [] }],
      [name, 'period_id', { usage: [], period_id: 'per_1' }],
      [name, 'period_id', { subscription_id, period_id: 'per_1' }],
      [name, 'subscription_id', { subscription_id: 'sub_1' }],
      [name, 'version', { usage: [], version: 7 }],
      [name, 'overage_credits', { usage: [], overage_credits: '1' }],
      [name, 'usage[0].meter_id', { usage: [{ meter_id: 'nobody', quantity: 1 }] }],
      [name, 'usage[0].events', { usage: [{ meter_id: 'money', quantity: 1 }] }],
      [
        name,
        'usage[1].meter_id',
        {
          usage: [
            { meter_id: 'calls', quantity: 1 },
            { meter_id: 'calls', quantity: 1 },
          ],
        },
      ],
      [euros.name, 'subscription_id', { subscription_id }],
      [yearly.name, 'subscription_id', { subscription_id }],
    ];
    for (const [of, field, body] of cases) {
      // oxlint-disable-next-line no-await-in-loop
      const refused = await post(`/plans/${of}/simulate`, body);
      assert.equal(refused.status, 400, `${field}: ${refused.text}`);
      assert.ok(refused.text.includes(`"field":"${field}"`), `${field}: ${refused.text}`);
    }
    const reader = await admin.call('POST', `/api/v1/plans/${name}/simulate`, {
      ...{ token: admin.tokens.reader, body: { usage: [] } },
    });
    assert.equal(reader.status, 200, reader.text);
  });
});
