import assert from 'node:assert/strict';

import { routes } from '../../admin/routes.ts';
import { isJson, seedCatalogue, startAdmin, type TestAdmin } from './support.ts';

describe('admin › environments and lists', () => {
  let admin: TestAdmin;
  const ids = new Map<string, string>();

  before(async () => {
    admin = await startAdmin();
    const { productId, meterId, featureId } = await seedCatalogue(admin);
    const post = async (path: string, body: unknown): Promise<string> => {
      const reply = await admin.call('POST', `/api/v1${path}`, { body });
      assert.ok(reply.status < 300 || reply.status === 503, reply.text);
      return String(reply.body['id']);
    };
    const route = await post('/products/demo/routes', { method: 'get', path: '/v1/x' });
    const plan = await post('/plans', {
      name: 'P',
      lookup_id: 'payg',
      type: 'USAGE',
      billing_interval: 'month',
      currency: 'USD',
    });
    const charge = await post('/plans/payg/charges', {
      type: 'USAGE',
      meter_id: 'api_calls',
      unit_price: '0.001',
    });
    await post('/plans/payg/publish', {});
    const subscriber = await post('/subscribers', { name: 'Acme', lookup_id: 'acme' });
    const key = await post('/subscribers/acme/api_keys', {});
    await post('/subscriptions', { subscriber_id: 'acme', plan_id: 'payg' });
    const subscription = await admin.db('subscriptions').first('id');
    const coupon = await post('/coupons', { name: 'Launch', lookup_id: 'LAUNCH', percent: '10' });
    const rate = await post('/tax_rates', { name: 'VAT', lookup_id: 'vat', percent: '19' });
    const addOn = await post('/add_ons', {
      name: 'Seats',
      type: 'RECURRING',
      amount: '5',
      currency: 'USD',
    });
    for (const [name, id] of Object.entries({
      product_id: productId,
      route_id: route,
      plan_id: plan,
      charge_id: charge,
      feature_id: featureId,
      meter_id: meterId,
      subscriber_id: subscriber,
      api_key_id: key,
      subscription_id: String(subscription.id),
      coupon_id: coupon,
      tax_rate_id: rate,
      add_on_id: addOn,
    })) {
      ids.set(name, id);
    }
  });
  after(() => admin.stop());

  it('answers 404 for every id of another environment, on every route', async () => {
    let asked = 0;
    for (const route of routes.filter(({ path }) => path.includes('{'))) {
      const path = route.path.replaceAll(
        /\{(\w+)\}/g,
        (_, name: string) => ids.get(name) ?? 'nobody',
      );
      // oxlint-disable-next-line no-await-in-loop
      const reply = await admin.call(route.method.toUpperCase(), `/api/v1${path}`, {
        token: admin.liveToken,
        headers: { 'x-tenant': 'test', 'x-environment': 'test' },
        ...bodyOf(route.operationId),
      });
      assert.equal(reply.status, 404, `${route.operationId}: ${reply.status} ${reply.text}`);
      assert.ok(!/Acme|0\.001|api_calls/.test(reply.text), reply.text);
      asked += 1;
    }
    assert.ok(asked > 25);
  });

  it('lists nothing of another environment', async () => {
    for (const route of routes.filter(
      ({ path, method }) => method === 'get' && !path.includes('{'),
    )) {
      // oxlint-disable-next-line no-await-in-loop
      const reply = await admin.call('GET', `/api/v1${route.path}`, { token: admin.liveToken });
      assert.equal(reply.status, 200);
      const expected = everywhere[route.operationId] ?? 0;
      assert.equal(listOf(reply.body['data']).length, expected, route.operationId);
    }
  });

  it('refuses references into another environment by field', async () => {
    const reply = await admin.call('POST', '/api/v1/features', {
      token: admin.liveToken,
      body: { name: 'Foreign', meter_id: ids.get('meter_id') },
    });
    assert.equal(reply.status, 400);
    assert.match(reply.text, /names no meter of this environment/);
    const started = await admin.call('POST', '/api/v1/subscriptions', {
      token: admin.liveToken,
      body: { subscriber_id: ids.get('subscriber_id'), plan_id: ids.get('plan_id') },
    });
    assert.equal(started.status, 404);
  });

  it('pages through a list once, newest first, whatever comes in between', async () => {
    for (let number = 0; number < 23; number += 1) {
      // oxlint-disable-next-line no-await-in-loop
      await admin.call('POST', '/api/v1/features', {
        body: { name: `F ${number}`, lookup_id: `f_${number}` },
      });
    }
    const seen: string[] = [];
    let cursor = '';
    do {
      // oxlint-disable-next-line no-await-in-loop
      const page = await admin.call(
        'GET',
        `/api/v1/features?limit=5${cursor === '' ? '' : `&cursor=${cursor}`}`,
      );
      assert.equal(page.status, 200);
      seen.push(...listOf(page.body['data']).map((row) => String(row['lookup_id'])));
      if (seen.length === 5) {
        // oxlint-disable-next-line no-await-in-loop
        await admin.call('POST', '/api/v1/features', {
          body: { name: 'Later', lookup_id: 'later' },
        });
      }
      const next = page.body['next_cursor'];
      cursor = typeof next === 'string' ? next : '';
      assert.equal(page.body['has_more'], cursor !== '');
    } while (cursor !== '');
    assert.equal(seen.length, 24);
    assert.equal(new Set(seen).size, 24);
    assert.equal(seen[0], 'f_22');
    assert.equal(seen.at(-1), 'api_calls');
  });

  it('bounds a page', async () => {
    for (const limit of ['0', '101', '1e9', '-1', '1.5', 'x', '', '1000000000']) {
      // oxlint-disable-next-line no-await-in-loop
      assert.equal((await admin.call('GET', `/api/v1/plans?limit=${limit}`)).status, 400, limit);
    }
    assert.equal((await admin.call('GET', '/api/v1/plans?limit=100')).status, 200);
    assert.equal((await admin.call('GET', '/api/v1/plans?cursor=%27%3B--')).status, 400);
    assert.equal((await admin.call('GET', '/api/v1/usage_events?cursor=abc')).status, 400);
  });
});

/** Lists that are not of an environment, or begin with what asks. */
const everywhere: Readonly<Record<string, number>> = { listServiceTokens: 1, listPlanTemplates: 6 };

/** A body that fits, so that the id is what is refused. */
function bodyOf(operationId: string): { readonly body?: unknown } {
  const bodies: Readonly<Record<string, unknown>> = {
    changeProduct: { name: 'x' },
    putRoute: { method: 'GET', path: '/x' },
    changeMeter: { name: 'x' },
    changeFeature: { name: 'x' },
    changePlan: { name: 'x' },
    addCharge: { type: 'ONE_TIME', amount: '1' },
    addPlanFeature: { feature_id: 'x' },
    publishPlan: {},
    createPlanVersion: {},
    simulatePlan: { usage: [] },
    changeSubscriber: { name: 'x' },
    createApiKey: {},
    revokeApiKey: {},
    changeSubscription: { overage_enabled: true },
    cancelSubscription: {},
    changeSubscriptionPlan: { plan_id: 'x' },
    previewPlanChange: { plan_id: 'x' },
    closePeriod: {},
    correctUsageEvent: { reason: 'x', quantities: [{ meter_id: 'x', quantity: 1 }] },
    createCreditNote: { full: true, reason: 'other' },
    changeTaxRate: { percent: '1' },
    addSubscriptionCoupon: { coupon_id: 'x' },
    addSubscriptionAddOn: { add_on_id: 'x' },
    createTopUp: { credits: '1', amount: '1', currency: 'USD' },
    createGrant: { credits: '1' },
    revokeServiceToken: {},
  };
  const body = bodies[operationId];
  return body === undefined ? {} : { body };
}

function listOf(value: unknown): readonly Readonly<Record<string, unknown>>[] {
  return Array.isArray(value) ? value.filter((item) => isJson(item)) : [];
}
