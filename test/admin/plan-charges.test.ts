import assert from 'node:assert/strict';

import {
  isJson,
  seedCatalogue,
  startAdmin,
  type Json,
  type Reply,
  type TestAdmin,
} from './support.ts';

describe('admin › plan charges', () => {
  let admin: TestAdmin;
  before(async () => {
    admin = await startAdmin();
    await seedCatalogue(admin);
    for (const scale of [0, 2, 3]) {
      // oxlint-disable-next-line no-await-in-loop
      await admin.call('POST', '/api/v1/meters', {
        body: { name: `Money ${scale}`, lookup_id: `money_${scale}`, unit: 'unit', scale },
      });
    }
    await admin.db('tax_rates').insert([
      {
        id: `txr_${'1'.repeat(22)}`,
        environment: 'test',
        lookup_id: 'vat',
        name: 'VAT',
        percent: '19',
      },
      {
        id: `txr_${'2'.repeat(22)}`,
        environment: 'test',
        lookup_id: 'old_vat',
        name: 'Old VAT',
        percent: '16',
        archived_at: new Date(),
      },
    ]);
  });
  after(() => admin.stop());

  const post = (path: string, body: unknown = {}): Promise<Reply> =>
    admin.call('POST', `/api/v1${path}`, { body });
  const plan = async (lookup_id: string, more: Json = {}): Promise<void> => {
    const reply = await post('/plans', {
      name: lookup_id,
      lookup_id,
      type: 'CUSTOM',
      billing_interval: 'month',
      currency: 'USD',
      ...more,
    });
    assert.equal(reply.status, 201, reply.text);
  };
  const definition = async (lookup_id: string): Promise<Json> => {
    const reply = await post(`/plans/${lookup_id}/publish`);
    assert.equal(reply.status, 200, reply.text);
    const row = await admin
      .db('plan_versions')
      .where({ id: String(reply.body['version_id']) })
      .first<{ definition: Json }>('definition');
    assert.ok(row !== undefined);
    return row.definition;
  };

  it('sells every model, as it was given and as it is frozen', async () => {
    await plan('models');
    const prices: readonly (readonly [string, Json, Json])[] = [
      [
        'api_calls',
        { model: 'stairstep', tiers: [{ up_to: 100, flat_fee: '5' }, { flat_fee: '9.50' }] },
        {
          model: 'stairstep',
          tiers: [
            { up_to: '100', flat_fee: '5' },
            { up_to: null, flat_fee: '9.5' },
          ],
        },
      ],
      [
        'money_2',
        { model: 'percentage', percent: 2.9, fixed_fee: '0.30', free_events: 10 },
        { model: 'percentage', percent: '2.9', fixed_fee: '0.3', free_events: '10' },
      ],
      [
        'money_0',
        { model: 'package', package_size: 1000, package_price: '0.50', round: 'DOWN' },
        { model: 'package', package_size: '1000', package_price: '0.5', round: 'down' },
      ],
    ];
    for (const [meter_id, price, answered] of prices) {
      // oxlint-disable-next-line no-await-in-loop
      const reply = await post('/plans/models/charges', { type: 'USAGE', meter_id, price });
      assert.equal(reply.status, 201, reply.text);
      assert.deepEqual(reply.body['price'], answered);
    }
    const { charges } = await definition('models');
    assert.ok(Array.isArray(charges));
    assert.deepEqual(
      charges.map((charge: unknown) => (isJson(charge) ? charge['price'] : null)),
      prices.map(([, , answered]) => answered),
    );
  });

  it('sells bounds, taxes, fees in advance and the terms of a plan, and freezes them', async () => {
    await plan('terms', {
      proration: 'SECOND',
      prices_include_tax: true,
      commitment: '500',
      invoice_threshold: 100,
    });
    const usage = await post('/plans/terms/charges', {
      type: 'USAGE',
      meter_id: 'api_calls',
      unit_price: '0.01',
      minimum: '5',
      maximum: '50.50',
      tax_rates: ['vat'],
    });
    assert.equal(usage.status, 201, usage.text);
    assert.deepEqual(
      [usage.body['minimum'], usage.body['maximum'], usage.body['tax_rate_ids']],
      ['5.00', '50.50', [`txr_${'1'.repeat(22)}`]],
    );
    const fee = await post('/plans/terms/charges', {
      type: 'RECURRING',
      amount: '29',
      bill_in: 'Advance',
    });
    assert.equal(fee.body['bill_in'], 'advance', fee.text);
    const shown = await admin.call('GET', '/api/v1/plans/terms');
    assert.deepEqual(
      ['proration', 'prices_include_tax', 'commitment', 'invoice_threshold'].map(
        (name) => shown.body[name],
      ),
      ['second', true, '500.00', '100.00'],
    );
    const frozen = await definition('terms');
    assert.deepEqual(
      ['proration', 'prices_include_tax', 'commitment_minor', 'invoice_threshold_minor'].map(
        (name) => frozen[name],
      ),
      ['second', true, '50000', '10000'],
    );
    const next = await post('/plans/terms/versions');
    assert.deepEqual(
      [next.body['proration'], next.body['commitment'], next.body['invoice_threshold']],
      ['second', '500.00', '100.00'],
    );
    const charges = next.body['charges'];
    assert.ok(Array.isArray(charges));
    const [copied] = charges.map((charge: unknown) => (isJson(charge) ? charge : {}));
    assert.deepEqual([copied?.['minimum'], copied?.['maximum']], ['5.00', '50.50']);
    const without = await admin.call('PATCH', '/api/v1/plans/terms', {
      body: { commitment: null, invoice_threshold: null },
    });
    assert.deepEqual([without.body['commitment'], without.body['invoice_threshold']], [null, null]);
  });

  it('refuses what does not go together, by field and with what is allowed', async () => {
    await plan('refused');
    const usage = { type: 'USAGE', meter_id: 'api_calls' };
    const cases: readonly (readonly [string, Json])[] = [
      ['price.percent', { ...usage, price: { model: 'per_unit', unit_price: 1, percent: 2 } }],
      ['price.percent', { ...usage, price: { model: 'percentage' } }],
      ['price.round', { ...usage, price: { model: 'per_unit', unit_price: 1, round: 'up' } }],
      ['price.tiers[0].unit_price', { ...usage, price: { model: 'volume', tiers: [{}] } }],
      [
        'price.tiers[0].unit_price',
        { ...usage, price: { model: 'stairstep', tiers: [{ unit_price: 1, flat_fee: 1 }] } },
      ],
      ['price.tiers[0].flat_fee', { ...usage, price: { model: 'stairstep', tiers: [{}] } }],
      ['minimum', { ...usage, unit_price: 1, minimum: 2, maximum: 1 }],
      ['maximum', { ...usage, unit_price: 1, maximum: 0 }],
      ['minimum', { ...usage, unit_price: 1, minimum: '1.001' }],
      ['tax_rates[0]', { ...usage, unit_price: 1, tax_rates: ['nobody'] }],
      ['tax_rates[1]', { ...usage, unit_price: 1, tax_rates: ['vat', 'old_vat'] }],
    ];
    for (const [field, body] of cases) {
      // oxlint-disable-next-line no-await-in-loop
      const reply = await post('/plans/refused/charges', body);
      assert.equal(reply.status, 400, `${JSON.stringify(body)}: ${reply.text}`);
      assert.ok(reply.text.includes(`"field":"${field}"`), reply.text);
    }
    const archived = await post('/plans/refused/charges', {
      ...usage,
      unit_price: 1,
      tax_rates: ['old_vat'],
    });
    assert.match(archived.text, /archived.*"allowed":\["vat"\]/);
    const zero = await admin.call('PATCH', '/api/v1/plans/refused', { body: { commitment: 0 } });
    assert.equal(zero.status, 400);
    assert.match(zero.text, /above zero/);
  });

  it('refuses to publish with a tax rate that was archived meanwhile', async () => {
    const id = `txr_${'3'.repeat(22)}`;
    await admin
      .db('tax_rates')
      .insert({ id, environment: 'test', lookup_id: 'short', name: 'Short', percent: '7' });
    await plan('taxed');
    const added = await post('/plans/taxed/charges', {
      type: 'RECURRING',
      amount: 5,
      tax_rates: [id],
    });
    assert.equal(added.status, 201, added.text);
    await admin.db('tax_rates').where({ id }).update({ archived_at: new Date() });
    const reply = await post('/plans/taxed/publish');
    assert.equal(reply.status, 422);
    assert.match(reply.text, /"code":"tax_rate_unusable".*tax rate \\"short\\" is archived/);
  });

  it('holds amounts to the places of their currency, 0, 2 and 3', async () => {
    const currencies = [
      { currency: 'JPY', fits: '1200', answered: '1200', tooFine: '1200.5', places: 'no decimal' },
      { currency: 'USD', fits: '12.5', answered: '12.50', tooFine: '12.505', places: 'up to 2' },
      { currency: 'KWD', fits: '1.25', answered: '1.250', tooFine: '1.2505', places: 'up to 3' },
    ];
    for (const { currency, fits, answered, tooFine, places } of currencies) {
      const name = `in_${currency.toLowerCase()}`;
      // oxlint-disable-next-line no-await-in-loop
      await plan(name, { currency, base_price: fits });
      const attempts: readonly (readonly [string, string, Json])[] = [
        ['PATCH', 'base_price', { base_price: tooFine }],
        ['PATCH', 'commitment', { commitment: tooFine }],
        ['PATCH', 'invoice_threshold', { invoice_threshold: tooFine }],
        ['POST', 'amount', { type: 'RECURRING', amount: tooFine }],
        [
          'POST',
          'maximum',
          { type: 'USAGE', meter_id: 'api_calls', unit_price: 1, maximum: tooFine },
        ],
      ];
      for (const [method, field, body] of attempts) {
        const path = `/api/v1/plans/${name}${method === 'POST' ? '/charges' : ''}`;
        // oxlint-disable-next-line no-await-in-loop
        const refused = await admin.call(method, path, { body });
        assert.equal(refused.status, 400, refused.text);
        assert.ok(refused.text.includes(`"field":"${field}"`), refused.text);
        assert.ok(refused.text.includes(`amount of ${currency} with ${places}`), refused.text);
      }
      // oxlint-disable-next-line no-await-in-loop
      const fee = await post(`/plans/${name}/charges`, { type: 'ONE_TIME', amount: fits });
      assert.equal(fee.body['amount'], answered);
      // oxlint-disable-next-line no-await-in-loop
      const frozen = await definition(name);
      assert.equal(frozen['currency'], currency);
      const charges = frozen['charges'];
      assert.ok(Array.isArray(charges));
      assert.deepEqual(
        charges.map((charge: unknown) => (isJson(charge) ? charge['amount_minor'] : null)),
        [answered.replace('.', ''), answered.replace('.', '')],
      );
    }
  });

  it('never reads an amount of one currency as one of another with other places', async () => {
    await plan('moves', { base_price: '29.00' });
    const patch = (body: Json): Promise<Reply> =>
      admin.call('PATCH', '/api/v1/plans/moves', { body });
    const silent = await patch({ currency: 'JPY' });
    assert.equal(silent.status, 400);
    assert.match(silent.text, /"field":"base_price"/);
    const said = await patch({ currency: 'JPY', base_price: '2900' });
    assert.equal(said.body['base_price'], '2900', said.text);
    const same = await patch({ currency: 'KRW' });
    assert.deepEqual([same.body['currency'], same.body['base_price']], ['KRW', '2900']);
    await post('/plans/moves/charges', { type: 'ONE_TIME', amount: '100' });
    const withCharge = await patch({ currency: 'USD', base_price: '29' });
    assert.match(withCharge.text, /"field":"currency".*take the charge out first/);
  });

  it('says what one credit is wherever a plan has credits', async () => {
    await admin.call('PATCH', '/api/v1/products/demo', {
      body: { credit_definition: 'One credit is one call.' },
    });
    await plan('credits', { credit_rates: [{ meter_id: 'api_calls', credits: 1 }] });
    await plan('no_credits');
    const read = async (name: string): Promise<unknown> =>
      (await admin.call('GET', `/api/v1/plans/${name}`)).body['credit_definition'];
    assert.equal(await read('credits'), 'One credit is one call.');
    assert.equal(await read('no_credits'), null);
    const acme = await post('/subscribers', { name: 'Acme' });
    const granted = await post(`/subscribers/${String(acme.body['id'])}/grants`, { credits: 5 });
    assert.equal(granted.status, 201, granted.text);
    const { body } = await admin.call(
      'GET',
      `/api/v1/subscribers/${String(acme.body['id'])}/balance`,
    );
    const [wallet] = Array.isArray(body['wallets']) ? body['wallets'] : [];
    assert.ok(isJson(wallet));
    assert.equal(wallet['credit_definition'], 'One credit is one call.');
    const signedIn = await admin.call('POST', '/sign_in', {
      token: null,
      raw: `token=${admin.tokens.reader}`,
      headers: { 'content-type': 'application/x-www-form-urlencoded', origin: admin.url },
    });
    const [cookie = ''] = (signedIn.headers.get('set-cookie') ?? '').split(';');
    const home = await admin.call('GET', '/', { token: null, headers: { cookie } });
    assert.ok(home.text.includes('5 credits left (One credit is one call.)'));
  });
});
