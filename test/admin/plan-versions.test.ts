import assert from 'node:assert/strict';

import {
  isJson,
  seedCatalogue,
  startAdmin,
  type Json,
  type Reply,
  type TestAdmin,
} from './support.ts';

describe('admin › plan versions', () => {
  let admin: TestAdmin;
  before(async () => {
    admin = await startAdmin();
    await seedCatalogue(admin);
    await admin.call('POST', '/api/v1/subscribers', { body: { name: 'Acme', lookup_id: 'acme' } });
  });
  after(() => admin.stop());

  const post = (path: string, body: unknown = {}): Promise<Reply> =>
    admin.call('POST', `/api/v1${path}`, { body });
  const get = (path: string): Promise<Reply> => admin.call('GET', `/api/v1${path}`);
  const plan = async (lookup_id: string, more: Json = {}): Promise<void> => {
    const reply = await post('/plans', {
      name: lookup_id,
      lookup_id,
      type: 'FLAT',
      billing_interval: 'month',
      currency: 'USD',
      base_price: '10',
      ...more,
    });
    assert.equal(reply.status, 201, reply.text);
  };
  const audits = async (action: string): Promise<number> => {
    const rows = await admin.db('audit_log').where({ action });
    return rows.length;
  };

  it('archives a plan: it is sold no more, and says why', async () => {
    await plan('old');
    const id = (await post('/plans/old/publish')).body['id'];
    const archived = await post('/plans/old/archive');
    assert.equal(archived.status, 200, archived.text);
    assert.deepEqual(
      [archived.body['status'], archived.body['published_version'], archived.body['next_step']],
      ['archived', null, null],
    );
    assert.match(String(archived.body['archived_at']), /^\d{4}-/);
    const again = await post('/plans/old/archive');
    assert.equal(again.body['archived_at'], archived.body['archived_at']);
    const refusals = [
      await post('/subscriptions', { subscriber_id: 'acme', plan_id: 'old' }),
      await post('/plans/old/versions'),
    ];
    for (const refused of refusals) {
      assert.equal(refused.status, 409, refused.text);
      assert.equal(refused.body['code'], 'plan_archived');
    }
    assert.ok(refusals[0]?.text.includes('Choose another one'));
    const records = await admin
      .db('audit_log')
      .where({ action: 'plan.archive', object_id: String(id) });
    assert.equal(records.length, 1);
  });

  it('keeps a draft from being published after its plan was archived', async () => {
    await plan('late');
    await post('/plans/late/archive');
    const refused = await post('/plans/late/publish');
    assert.equal(refused.body['code'], 'plan_archived', refused.text);
    assert.equal((await get('/plans/late')).body['status'], 'draft');
  });

  it('says what a version changes, a draft among them', async () => {
    await plan('grows');
    await post('/plans/grows/charges', {
      type: 'USAGE',
      meter_id: 'api_calls',
      unit_price: '0.001',
    });
    await post('/plans/grows/publish');
    const draft = await post('/plans/grows/versions');
    const same = await get('/plans/grows/versions/2/diff');
    assert.deepEqual([same.status, same.body['changes']], [200, []], same.text);
    await admin.call('PATCH', '/api/v1/plans/grows', { body: { base_price: '12' } });
    const [charge] = Array.isArray(draft.body['charges']) ? draft.body['charges'] : [];
    assert.ok(isJson(charge));
    await admin.call('DELETE', `/api/v1/plans/grows/charges/${String(charge['id'])}`);
    await post('/plans/grows/charges', {
      type: 'USAGE',
      meter_id: 'api_calls',
      unit_price: '0.0005',
    });
    const { body } = await get('/plans/grows/versions/2/diff');
    assert.deepEqual([body['version'], body['against']], [2, 1]);
    const changes = Array.isArray(body['changes']) ? body['changes'] : [];
    assert.deepEqual(
      changes.map((change: unknown) => (isJson(change) ? change['path'] : '')),
      ['charges.recurring.base_price.amount', 'charges.usage.api_calls.price'],
    );
    const back = await get('/plans/grows/versions/1/diff?against=2');
    assert.match(back.text, /from \$12\.00 to \$10\.00\./);
    for (const [path, field] of [
      ['/plans/grows/versions/1/diff', 'against'],
      ['/plans/grows/versions/2/diff?against=7', 'against'],
      ['/plans/grows/versions/2/diff?against=x', 'against'],
    ]) {
      // oxlint-disable-next-line no-await-in-loop
      const refused = await get(path ?? '');
      assert.equal(refused.status, 400, refused.text);
      assert.ok(refused.text.includes(`"field":"${field}"`), refused.text);
    }
    await admin.call('PATCH', '/api/v1/plans/grows', { body: { commitment: '1' } });
    const faulty = await get('/plans/grows/versions/2/diff');
    assert.equal(faulty.body['code'], 'publish_refused', faulty.text);
  });

  it('names the taxes of charges as invoices do', async () => {
    await post('/tax_rates', { name: 'VAT', percent: '19', lookup_id: 'vat' });
    await plan('taxed', { base_price: null });
    const fee = { type: 'RECURRING', amount: '10', display_name: 'Seat' };
    const made = await post('/plans/taxed/charges', fee);
    assert.equal(made.status, 201, made.text);
    await post('/plans/taxed/features', { feature_id: 'api_calls' });
    const published = await post('/plans/taxed/publish');
    assert.equal(published.status, 200, published.text);
    const draft = await post('/plans/taxed/versions');
    const [charge] = Array.isArray(draft.body['charges']) ? draft.body['charges'] : [];
    assert.ok(isJson(charge));
    await admin.call('DELETE', `/api/v1/plans/taxed/charges/${String(charge['id'])}`);
    await post('/plans/taxed/charges', { ...fee, tax_rates: ['vat'] });
    const { text } = await get('/plans/taxed/versions/2/diff');
    assert.match(text, /The own tax of the charge \\"Seat\\" is new: VAT \(19%\)\./);
  });

  it('takes a version back: the one before is sold again', async () => {
    await plan('steps');
    await post('/plans/steps/publish');
    await post('/plans/steps/versions');
    const draft = await post('/plans/steps/versions/2/archive');
    assert.equal(draft.status, 409);
    assert.match(draft.text, /is a draft/);
    await post('/plans/steps/publish');
    assert.equal((await get('/plans/steps')).body['published_version'], 2);
    const second = await post('/plans/steps/versions/2/archive');
    assert.equal(second.body['status'], 'archived', second.text);
    assert.equal((await get('/plans/steps')).body['published_version'], 1);
    const last = await post('/plans/steps/versions/1/archive');
    assert.equal(last.status, 409);
    assert.match(last.text, /only one on sale/);
    assert.equal((await get('/plans/steps/versions/1')).body['status'], 'published');
    assert.equal((await post('/plans/steps/versions/9/archive')).status, 404);
    assert.equal(await audits('plan.archive_version'), 1);
  });
});
