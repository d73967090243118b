import assert from 'node:assert/strict';

import { awayEngine, seedCatalogue, startAdmin, type TestAdmin } from './support.ts';

describe('admin › Idempotency-Key', () => {
  let admin: TestAdmin;
  before(async () => {
    admin = await startAdmin();
    await seedCatalogue(admin);
    await admin.call('POST', '/api/v1/subscribers', { body: { name: 'Acme', lookup_id: 'acme' } });
  });
  after(() => admin.stop());

  const send = (key: string, body: unknown, path = '/api/v1/subscribers', token?: string) =>
    admin.call('POST', path, {
      body,
      headers: { 'idempotency-key': key },
      ...(token === undefined ? {} : { token }),
    });
  const count = async (table: string, where: Record<string, unknown> = {}): Promise<number> => {
    const rows = await admin.db(table).where(where).count<{ count: bigint }[]>('* as count');
    return Number(rows[0]?.count ?? -1);
  };

  it('answers a repeat with the same status and the same bytes, and has one effect', async () => {
    const first = await send('one', { name: 'One' });
    const again = await send('one', { name: 'One' });
    assert.equal(first.status, 201);
    assert.equal(again.status, 201);
    assert.equal(again.text, first.text);
    assert.equal(again.headers.get('idempotency-replayed'), 'true');
    assert.equal(await count('subscribers', { name: 'One' }), 1);
  });

  it('refuses another body or another path under the same key', async () => {
    await send('two', { name: 'Two' });
    const body = await send('two', { name: 'Other' });
    assert.equal(body.status, 422);
    assert.equal(body.body['code'], 'idempotency_key_reused');
    const path = await send('two', { name: 'Two' }, '/api/v1/features');
    assert.equal(path.status, 422);
  });

  it('keeps the keys of two tokens apart', async () => {
    await send('three', { name: 'Three' });
    const other = await send('three', { name: 'Three' }, undefined, admin.tokens.operator);
    assert.equal(other.status, 201);
    assert.equal(other.headers.get('idempotency-replayed'), null);
    assert.equal(await count('subscribers', { name: 'Three' }), 2);
  });

  it('does it once for 20 at the same time; the others get the same answer or 409 in flight', async () => {
    const replies = await Promise.all(
      Array.from({ length: 20 }, () => send('twenty', { name: 'Twenty' })),
    );
    assert.equal(await count('subscribers', { name: 'Twenty' }), 1);
    const done = replies.filter(({ status }) => status === 201);
    assert.ok(done.length >= 1);
    assert.equal(new Set(done.map(({ text }) => text)).size, 1);
    for (const { status, body } of replies.filter((reply) => reply.status !== 201)) {
      assert.equal(status, 409);
      assert.equal(body['code'], 'idempotency_key_in_flight');
      assert.equal(body['retryable'], true);
    }
    assert.equal((await send('twenty', { name: 'Twenty' })).text, done[0]?.text);
  });

  it('gives credits once, however often the grant is repeated', async () => {
    for (let repeat = 0; repeat < 3; repeat += 1) {
      // oxlint-disable-next-line no-await-in-loop
      const reply = await send('gift', { credits: 250 }, '/api/v1/subscribers/acme/grants');
      assert.equal(reply.status, 201);
    }
    assert.equal(await count('grants'), 1);
  });

  it('lets a call that was refused be made again with the same key', async () => {
    const refused = await send('mend', { name: 'Mend', time_zone: 'Mars/Olympus' });
    assert.equal(refused.status, 400);
    assert.equal((await send('mend', { name: 'Mend' })).status, 201);
  });

  it('shows a secret again to its owner, and keeps nothing readable of it', async () => {
    const path = '/api/v1/subscribers/acme/api_keys';
    const first = await send('key', { name: 'k' }, path);
    const again = await send('key', { name: 'k' }, path);
    assert.equal(again.text, first.text);
    const secret = String(first.body['secret']);
    assert.match(secret, /^tb_test_[0-9a-z]{22}_[0-9A-Za-z]{43}_[0-9A-Za-z]{6}$/);
    const token = await send('token', { name: 't', role: 'reader' }, '/api/v1/service_tokens');
    const rows = [
      await admin.db('idempotency_keys').select(),
      await admin.db('api_keys').select(),
      await admin.db('service_tokens').select(),
      await admin.db('audit_log').select(),
    ];
    const dump = JSON.stringify(rows, (_, value: unknown) =>
      typeof value === 'bigint' ? value.toString() : value,
    );
    assert.ok(dump.includes('sealed'));
    assert.ok(!dump.includes(secret));
    assert.ok(!dump.includes(secret.split('_')[3] ?? '?'));
    assert.ok(!dump.includes(String(token.body['token'])));
    assert.equal(await count('api_keys'), 1);
  });

  it('goes on with what an earlier try has made when the engine comes back', async () => {
    let isAway = true;
    const other = await startAdmin({
      engine: {
        ...awayEngine,
        activate: (id) =>
          isAway
            ? awayEngine.activate(id, { updateId: '', waitMs: 1, summary: '' })
            : Promise.resolve({ kind: 'slow' }),
      },
    });
    try {
      await seedCatalogue(other);
      const post = (path: string, body: unknown) => other.call('POST', `/api/v1${path}`, { body });
      await post('/plans', {
        name: 'P',
        lookup_id: 'payg',
        type: 'USAGE',
        billing_interval: 'month',
        currency: 'USD',
      });
      await post('/plans/payg/charges', {
        type: 'USAGE',
        meter_id: 'api_calls',
        unit_price: '0.001',
      });
      assert.equal((await post('/plans/payg/publish', {})).status, 200);
      await post('/subscribers', { name: 'Acme', lookup_id: 'acme' });
      const start = () =>
        other.call('POST', '/api/v1/subscriptions', {
          body: { subscriber_id: 'acme', plan_id: 'payg' },
          headers: { 'idempotency-key': 'start' },
        });
      const away = await start();
      assert.equal(away.status, 503);
      assert.equal(away.body['code'], 'workflow_engine_unavailable');
      assert.equal(away.headers.get('retry-after'), '5');
      isAway = false;
      const slow = await start();
      assert.equal(slow.status, 202, slow.text);
      assert.equal(slow.body['state'], 'pending');
      const rows = await other.db('subscriptions').select();
      assert.equal(rows.length, 1);
      // Without a key the pending one is gone on with, too.
      const plain = await post('/subscriptions', { subscriber_id: 'acme', plan_id: 'payg' });
      assert.equal(plain.body['id'], slow.body['id']);
    } finally {
      await other.stop();
    }
  });
});
