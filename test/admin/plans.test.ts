import assert from 'node:assert/strict';

import {
  isJson,
  seedCatalogue,
  startAdmin,
  type Json,
  type Reply,
  type TestAdmin,
} from './support.ts';

describe('admin › plans', () => {
  let admin: TestAdmin;
  before(async () => {
    admin = await startAdmin();
    await seedCatalogue(admin);
  });
  after(() => admin.stop());

  const post = (path: string, body: unknown = {}): Promise<Reply> =>
    admin.call('POST', `/api/v1${path}`, { body });
  const plan = async (lookup_id: string, more: Json = {}): Promise<void> => {
    const reply = await post('/plans', {
      name: lookup_id,
      lookup_id,
      type: 'usage',
      billing_interval: 'MONTH',
      currency: 'usd',
      ...more,
    });
    assert.equal(reply.status, 201, reply.text);
  };
  const faults = (reply: Reply): readonly string[] => {
    const list = reply.body['faults'];
    return Array.isArray(list)
      ? list.map((fault: unknown) => (isJson(fault) ? String(fault['code']) : ''))
      : [];
  };

  it('reads enums in any case and answers them in their own', async () => {
    await plan('case');
    const { body } = await admin.call('GET', '/api/v1/plans/case');
    assert.deepEqual(
      [body['type'], body['billing_interval'], body['currency']],
      ['USAGE', 'month', 'USD'],
    );
  });

  it('refuses to publish what neither rations nor bills, with the mend', async () => {
    await plan('idle');
    const reply = await post('/plans/idle/publish');
    assert.equal(reply.status, 422);
    assert.equal(reply.body['code'], 'publish_refused');
    assert.deepEqual(faults(reply), ['neither_rations_nor_bills']);
    assert.match(reply.text, /Add a charge/);
  });

  it('names every fault at once', async () => {
    await post('/meters', { name: 'Bare', lookup_id: 'bare' });
    await plan('faulty', {
      included_credits: '10',
      credit_rates: [{ meter_id: 'api_calls', credits: '1' }],
    });
    await post('/plans/faulty/charges', { type: 'USAGE', meter_id: 'bare' });
    const reply = await post('/plans/faulty/publish');
    assert.equal(reply.status, 422);
    for (const code of ['meter_unnamed', 'price_missing', 'credit_definition_missing']) {
      assert.ok(faults(reply).includes(code), `${code}: ${reply.text}`);
    }
    const { body } = await admin.call('GET', '/api/v1/plans/faulty');
    assert.equal(body['status'], 'draft');
  });

  it('freezes a version: everything that would change it is refused, by us and by Postgres', async () => {
    await plan('frozen');
    const charge = await post('/plans/frozen/charges', {
      type: 'USAGE',
      meter_id: 'api_calls',
      unit_price: 0.001,
    });
    const published = await post('/plans/frozen/publish');
    assert.equal(published.body['status'], 'published');
    assert.equal(published.body['next_step'], null);
    const chargeId = String(charge.body['id']);
    for (const refused of [
      await post('/plans/frozen/charges', { type: 'ONE_TIME', amount: '1' }),
      await post('/plans/frozen/features', { feature_id: 'api_calls' }),
      await admin.call('PATCH', '/api/v1/plans/frozen', { body: { base_price: '1' } }),
      await admin.call('DELETE', `/api/v1/plans/frozen/charges/${chargeId}`),
    ]) {
      assert.equal(refused.status, 409, refused.text);
      assert.equal(refused.body['code'], 'plan_version_published');
    }
    await assert.rejects(admin.db('charges').where({ id: chargeId }).update({ display_name: 'x' }));
    const renamed = await admin.call('PATCH', '/api/v1/plans/frozen', {
      body: { name: 'New name' },
    });
    assert.equal(renamed.body['name'], 'New name');
    assert.equal((await post('/plans/frozen/publish')).body['version'], 1);
  });

  it('begins the next version with all that the last one holds', async () => {
    await plan('next');
    await post('/plans/next/charges', {
      type: 'USAGE',
      meter_id: 'api_calls',
      unit_price: '0.001',
    });
    await post('/plans/next/features', { feature_id: 'api_calls', limit: 5, limit_type: 'soft' });
    await post('/plans/next/publish');
    const draft = await post('/plans/next/versions');
    assert.equal(draft.status, 201);
    assert.equal(draft.body['version'], 2);
    assert.equal(draft.body['published_version'], 1);
    assert.equal((await post('/plans/next/versions')).body['code'], 'draft_exists');
    await post('/plans/next/charges', { type: 'RECURRING', amount: 5 });
    await post('/plans/next/publish');
    const list = await admin.call('GET', '/api/v1/plans/next/versions');
    const versions = Array.isArray(list.body['data']) ? list.body['data'] : [];
    const charges = versions.map((version: unknown) =>
      isJson(version) && Array.isArray(version['charges']) ? version['charges'].length : -1,
    );
    assert.deepEqual(charges, [2, 1]);
    const first = await admin.call('GET', '/api/v1/plans/next/versions/1');
    assert.equal(first.body['status'], 'published');
    assert.equal((await admin.call('GET', '/api/v1/plans/next/versions/3')).status, 404);
    assert.equal((await admin.call('GET', '/api/v1/plans/next/versions/1e0')).status, 404);
  });

  it("takes a meter's tiers over when the charge has none, and freezes them", async () => {
    const tier = (from: number, to: number | null, unit_price: number) => ({
      from,
      to,
      unit_price,
    });
    const rules = {
      tiers: [tier(0, 1000, 0.002), tier(1001, 10_000, 0.001), tier(10_001, null, 0.0005)],
    };
    const meter = await post('/meters', {
      name: 'Tiered Calls',
      lookup_id: 'tiered_calls',
      unit: 'call',
      usage_pricing_rules: rules,
    });
    assert.deepEqual(meter.body['unit'], { one: 'call', other: 'calls' });
    await plan('tiered');
    await post('/plans/tiered/charges', { type: 'USAGE', meter_id: 'tiered_calls' });
    const published = await post('/plans/tiered/publish');
    assert.equal(published.status, 200, published.text);
    await admin.call('PATCH', '/api/v1/meters/tiered_calls', {
      body: { usage_pricing_rules: null },
    });
    const { text } = await admin.call('GET', '/api/v1/plans/tiered');
    assert.ok(text.includes('"model":"graduated"'), text);
    assert.ok(text.includes('{"up_to":"10000","unit_price":"0.001","flat_fee":"0"}'), text);
  });

  it('refuses gaps and overlaps of tiers by name', async () => {
    const cases: readonly (readonly [string, readonly (readonly [number, number | null])[]])[] = [
      [
        'tier_gap',
        [
          [0, 10],
          [12, null],
        ],
      ],
      ['tier_gap', [[5, null]]],
      ['tier_gap', [[0, 10]]],
      [
        'tier_overlap',
        [
          [0, 10],
          [9, null],
        ],
      ],
      [
        'tier_overlap',
        [
          [0, null],
          [11, null],
        ],
      ],
    ];
    for (const [code, ranges] of cases) {
      const tiers = ranges.map(([from, to]) => ({ from, to, unit_price: 1 }));
      // oxlint-disable-next-line no-await-in-loop
      const reply = await post('/meters', {
        name: 'Gap',
        lookup_id: 'gap',
        usage_pricing_rules: { tiers },
      });
      assert.equal(reply.body['code'], code, `${JSON.stringify(ranges)}: ${reply.text}`);
      assert.ok(reply.status === 422 || reply.status === 400);
      assert.match(reply.text, /"field":"usage_pricing_rules\.tiers/);
    }
  });

  it('refuses charges whose parts do not go together, by field', async () => {
    await plan('parts');
    const cases: readonly (readonly [string, Json])[] = [
      ['meter_id', { type: 'USAGE', unit_price: 1 }],
      ['meter_id', { type: 'USAGE', meter_id: 'nobody', unit_price: 1 }],
      ['amount', { type: 'USAGE', meter_id: 'api_calls', amount: 1 }],
      ['amount', { type: 'RECURRING' }],
      ['amount', { type: 'RECURRING', amount: '1.001' }],
      ['meter_id', { type: 'RECURRING', amount: 1, meter_id: 'api_calls' }],
      [
        'price',
        {
          type: 'USAGE',
          meter_id: 'api_calls',
          unit_price: 1,
          price: { model: 'per_unit', unit_price: 1 },
        },
      ],
      ['price.tiers', { type: 'USAGE', meter_id: 'api_calls', price: { model: 'volume' } }],
      [
        'price.unit_price',
        {
          type: 'USAGE',
          meter_id: 'api_calls',
          price: { model: 'volume', tiers: [], unit_price: 1 },
        },
      ],
      ['bill_in', { type: 'ONE_TIME', amount: 1, bill_in: 'advance' }],
      ['bill_in', { type: 'USAGE', meter_id: 'api_calls', unit_price: 1, bill_in: 'advance' }],
      ['minimum', { type: 'RECURRING', amount: 1, minimum: 1 }],
      ['type', { type: 'MONTHLY' }],
    ];
    for (const [field, body] of cases) {
      // oxlint-disable-next-line no-await-in-loop
      const reply = await post('/plans/parts/charges', body);
      assert.equal(reply.status, 400, `${JSON.stringify(body)}: ${reply.text}`);
      assert.ok(reply.text.includes(`"field":"${field}"`), reply.text);
    }
  });

  it('keeps credits exact: a burn rate must be whole micro-credits of the smallest unit', async () => {
    await post('/meters', { name: 'Dollars', lookup_id: 'dollars', unit: 'dollar', scale: 6 });
    await plan('burn', {
      credit_rates: [{ meter_id: 'dollars', credits: '2' }],
      credit_price: '0.01',
    });
    const fine = await admin.call('GET', '/api/v1/plans/burn');
    assert.ok(fine.text.includes('"lookup_id":"dollars","credits":"2"'), fine.text);
    const refused = await admin.call('PATCH', '/api/v1/plans/burn', {
      body: { credit_rates: [{ meter_id: 'dollars', credits: '2.5' }] },
    });
    assert.equal(refused.status, 400);
  });

  it('takes a lookup_id once', async () => {
    await plan('twice');
    const again = await post('/plans', {
      name: 'x',
      lookup_id: 'twice',
      type: 'FLAT',
      billing_interval: 'day',
      currency: 'EUR',
    });
    assert.equal(again.status, 409);
    assert.equal(again.body['code'], 'already_exists');
    assert.deepEqual(again.body['errors'], [
      { field: 'lookup_id', message: 'is taken by another' },
    ]);
  });
});
