import assert from 'node:assert/strict';

import { planTemplateKeys } from '../../billing/plan-templates.ts';
import {
  isJson,
  seedCatalogue,
  startAdmin,
  type Json,
  type Reply,
  type TestAdmin,
} from './support.ts';

describe('admin › plan templates', () => {
  let admin: TestAdmin;
  let templates: readonly Json[];
  before(async () => {
    admin = await startAdmin();
    await seedCatalogue(admin);
    const { body } = await admin.call('GET', '/api/v1/plan_templates');
    templates = Array.isArray(body['data']) ? body['data'].filter((one) => isJson(one)) : [];
  });
  after(() => admin.stop());

  const post = (path: string, body: unknown = {}): Promise<Reply> =>
    admin.call('POST', `/api/v1${path}`, { body });
  const exampleOf = (key: string): Json => {
    const example = templates.find((one) => one['template'] === key)?.['example'];
    assert.ok(isJson(example));
    return example;
  };
  const explain = (credit_definition: string | null): Promise<Reply> =>
    admin.call('PATCH', '/api/v1/products/demo', { body: { credit_definition } });
  const fieldOf = (reply: Reply): unknown => {
    const [first] = Array.isArray(reply.body['errors']) ? reply.body['errors'] : [];
    return isJson(first) ? first['field'] : null;
  };

  it('are six, each with an example', () => {
    assert.deepEqual(
      templates.map((one) => one['template']),
      planTemplateKeys,
    );
  });

  it('make drafts that publish without a fault', async () => {
    await explain('One credit is one call.');
    for (const key of planTemplateKeys) {
      // oxlint-disable-next-line no-await-in-loop
      const made = await post('/plans', { ...exampleOf(key), lookup_id: key });
      assert.equal(made.status, 201, `${key}: ${made.text}`);
      assert.equal(made.body['status'], 'draft');
      // oxlint-disable-next-line no-await-in-loop
      const published = await post(`/plans/${key}/publish`);
      assert.equal(published.status, 200, `${key}: ${published.text}`);
    }
    const [record] = await admin
      .db('audit_log')
      .where({ action: 'plan.create' })
      .orderBy('id', 'desc')
      .limit(1);
    assert.ok(isJson(record));
    assert.deepEqual(record['details'], { template: 'custom' });
  });

  it('are what their names say', async () => {
    const shown = async (key: string): Promise<Json> =>
      (await admin.call('GET', `/api/v1/plans/${key}`)).body;
    const charges = (plan: Json): readonly unknown[] =>
      (Array.isArray(plan['charges']) ? plan['charges'] : []).map((charge: unknown) =>
        isJson(charge) ? [charge['type'], charge['unit_price'], charge['included_units']] : null,
      );
    const limits = (plan: Json): readonly unknown[] =>
      (Array.isArray(plan['features']) ? plan['features'] : []).map((feature: unknown) =>
        isJson(feature) ? [feature['limit'], feature['limit_type']] : null,
      );
    const flat = await shown('flat_subscription');
    assert.deepEqual([flat['type'], flat['base_price']], ['FLAT', '29.00']);
    assert.deepEqual([charges(flat), limits(flat)], [[], [[null, 'HARD']]]);
    const included = await shown('included_usage');
    assert.deepEqual([charges(included), limits(included)], [[], [['10000', 'HARD']]]);
    const overage = await shown('subscription_with_overage');
    assert.equal(overage['base_price'], '29.00');
    assert.deepEqual(charges(overage), [['USAGE', '0.001', '10000']]);
    const payg = await shown('pay_as_you_go');
    assert.deepEqual([payg['type'], payg['base_price']], ['USAGE', null]);
    assert.deepEqual(charges(payg), [['USAGE', '0.001', '0']]);
    const prepaid = await shown('prepaid_credits');
    assert.deepEqual([prepaid['credit_price'], prepaid['overage']], ['0.01', null]);
    const custom = await shown('custom');
    assert.deepEqual(
      [custom['base_price'], custom['included_credits'], custom['overage']],
      ['29.00', '1000', { enabled: true, credit_price: '0.01' }],
    );
    for (const plan of [prepaid, custom]) {
      const [rate] = Array.isArray(plan['credit_rates']) ? plan['credit_rates'] : [];
      assert.ok(isJson(rate));
      assert.deepEqual([rate['lookup_id'], rate['credits']], ['api_calls', '1']);
    }
  });

  it('say what is missing, each thing by its name', async () => {
    for (const key of planTemplateKeys) {
      const needs = templates.find((one) => one['template'] === key)?.['needs'];
      assert.ok(Array.isArray(needs) && needs.length > 0);
      for (const need of needs) {
        const body = Object.fromEntries(
          Object.entries(exampleOf(key)).filter(([field]) => field !== need),
        );
        // oxlint-disable-next-line no-await-in-loop
        const refused = await post('/plans', { ...body, lookup_id: 'incomplete' });
        assert.equal(refused.status, 400, `${key} without ${String(need)}: ${refused.text}`);
        assert.equal(fieldOf(refused), need);
      }
    }
    const noMeters = await post('/plans', { ...exampleOf('pay_as_you_go'), meters: [] });
    assert.match(noMeters.text, /"allowed":\["api_calls"\]/);
  });

  it('refuse what they have no use for, and what is not there', async () => {
    const payg = { ...exampleOf('pay_as_you_go'), lookup_id: 'never' };
    const cases: readonly (readonly [string, Json])[] = [
      ['base_price', { ...payg, base_price: '5' }],
      ['included_units', { ...payg, included_units: 5 }],
      ['meters[0]', { ...payg, meters: ['nobody'] }],
      ['features[0]', { ...payg, features: ['nobody'] }],
      ['template', { ...payg, template: 'freemium' }],
      ['type', { name: 'Never', billing_interval: 'month', currency: 'USD' }],
      [
        'unit_price',
        { name: 'Never', type: 'FLAT', billing_interval: 'month', currency: 'USD', unit_price: 1 },
      ],
    ];
    for (const [field, body] of cases) {
      // oxlint-disable-next-line no-await-in-loop
      const refused = await post('/plans', body);
      assert.equal(refused.status, 400, `${field}: ${refused.text}`);
      assert.equal(fieldOf(refused), field, refused.text);
    }
    await post('/features', { name: 'Support', lookup_id: 'support' });
    const unmetered = await post('/plans', {
      ...exampleOf('included_usage'),
      features: ['support'],
    });
    assert.equal(fieldOf(unmetered), 'features', unmetered.text);
    await explain(null);
    const unexplained = await post('/plans', {
      ...exampleOf('prepaid_credits'),
      lookup_id: 'vague',
    });
    assert.equal(unexplained.status, 400);
    assert.match(unexplained.text, /does not say what one credit is/);
  });
});
