import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { promisify } from 'node:util';

import { seedCatalogue, startAdmin, type Json, isJson, type TestAdmin } from './support.ts';

const run = promisify(execFile);

/** The two commands of the Fluxrate page, byte for byte. */
const createPlan = `curl -X POST https://api.fluxrate.co/api/v1/plans \\
  -H "Content-Type: application/json" \\
  -H "Cookie: access_token=<token>" \\
  -d '{
    "name": "Pay-as-you-go",
    "lookup_id": "payg",
    "type": "USAGE",
    "billing_interval": "month",
    "currency": "USD"
  }'`;

const addCharge = `curl -X POST https://api.fluxrate.co/api/v1/plans/<plan_id>/charges \\
  -H "Content-Type: application/json" \\
  -H "Cookie: access_token=<token>" \\
  -d '{
    "type": "USAGE",
    "meter_id": "<meter_id>",
    "unit_price": 0.001,
    "display_name": "API calls ($0.001 each)"
  }'`;

describe('admin › the curl commands of the Fluxrate page', () => {
  let admin: TestAdmin;
  let meterId: string;
  before(async () => {
    admin = await startAdmin();
    ({ meterId } = await seedCatalogue(admin));
  });
  after(() => admin.stop());

  async function sh(command: string, ids: Readonly<Record<string, string>> = {}): Promise<Json> {
    const filled = Object.entries({ '<token>': admin.tokens.admin, ...ids }).reduce(
      (text, [name, value]) => text.replaceAll(name, value),
      command.replace('https://api.fluxrate.co', admin.url),
    );
    const { stdout } = await run('sh', ['-c', filled]);
    const parsed: unknown = JSON.parse(stdout);
    assert.ok(isJson(parsed), stdout);
    return parsed;
  }

  it('make a plan and a charge, as drafts that say how they are published', async () => {
    const plan = await sh(createPlan);
    assert.equal(plan['type'], 'USAGE');
    assert.equal(plan['billing_interval'], 'month');
    assert.equal(plan['status'], 'draft');
    assert.match(String(plan['next_step']), /POST \/api\/v1\/plans\/plan_\w+\/publish/);

    const charge = await sh(addCharge, {
      '<plan_id>': String(plan['id']),
      '<meter_id>': meterId,
    });
    assert.equal(charge['unit_price'], '0.001');
    assert.equal(charge['display_name'], 'API calls ($0.001 each)');
    assert.equal(charge['status'], 'draft');
    assert.match(String(charge['next_step']), /publish/);
  });

  it('work with lookup_ids wherever an id stands', async () => {
    await sh(createPlan.replaceAll('payg', 'payg-2'));
    const charge = await sh(addCharge, { '<plan_id>': 'payg-2', '<meter_id>': 'api_calls' });
    assert.equal(charge['meter_id'], meterId);
  });

  it('refuse to subscribe to the draft, and say what to do', async () => {
    await admin.call('POST', '/api/v1/subscribers', { body: { name: 'Acme', lookup_id: 'acme' } });
    const body = { subscriber_id: 'acme', plan_id: 'payg' };
    const refused = await admin.call('POST', '/api/v1/subscriptions', { body });
    assert.equal(refused.status, 409);
    assert.equal(refused.body['code'], 'plan_not_published');
    assert.match(String(refused.body['detail']), /POST \/api\/v1\/plans\/plan_\w+\/publish/);
  });

  it('need no product_id while there is one product, and say so when there are two', async () => {
    await admin.call('POST', '/api/v1/products', {
      body: { name: 'Second', upstream_url: 'http://127.0.0.1:9998' },
    });
    const refused = await sh(createPlan.replaceAll('payg', 'payg-3'));
    assert.equal(refused['code'], 'product_needed');
    assert.deepEqual(refused['errors'], [
      { field: 'product_id', message: 'is required', allowed: ['demo', 'second'] },
    ]);
  });
});
