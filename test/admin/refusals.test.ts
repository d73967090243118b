import assert from 'node:assert/strict';

import type { EngineReply } from '../../admin/workflow-engine.ts';
import { ShardUnavailable } from '../../shards/port.ts';
import { inTransaction, openDb } from '../../store/db.ts';
import { createSubscription } from '../../store/subscriptions.ts';
import { awayEngine, seedCatalogue, startAdmin, type TestAdmin } from './support.ts';

type Refusal = { readonly status: number; readonly code: string };

/** What the engine answers in the test that runs. */
let engineSays: Extract<EngineReply<never>, { kind: 'refused' }> | null = null;

function engineReply(): Promise<EngineReply<never>> {
  assert.ok(engineSays !== null);
  return Promise.resolve(engineSays);
}

describe('admin › each refusal has its status and its code', () => {
  let admin: TestAdmin;
  let subscriberId = '';
  let subscriptionId = '';
  let periodId = '';

  before(async () => {
    admin = await startAdmin({
      engine: {
        ...awayEngine,
        setOverage: engineReply,
        closePeriod: engineReply,
        topUp: async (topUpId) => {
          await admin.db.raw("UPDATE top_ups SET state = 'declined' WHERE id = ?", [topUpId]);
          return { kind: 'done', value: { state: 'declined' } };
        },
      },
    });
    await seedCatalogue(admin);
    await admin.call('POST', '/api/v1/plans', {
      body: {
        name: 'Payg',
        lookup_id: 'payg',
        type: 'USAGE',
        billing_interval: 'month',
        currency: 'USD',
      },
    });
    await admin.call('POST', '/api/v1/plans/payg/charges', {
      body: { type: 'USAGE', meter_id: 'api_calls', unit_price: 0.001, display_name: 'Calls' },
    });
    const plan = await admin.call('POST', '/api/v1/plans/payg/publish');
    assert.equal(plan.status, 200);
    const subscriber = await admin.call('POST', '/api/v1/subscribers', {
      body: { name: 'Ada', lookup_id: 'ada' },
    });
    subscriberId = String(subscriber.body['id']);
    ({ subscriptionId, periodId } = await insertSubscription(admin, subscriberId));
  });
  after(async () => admin.stop());

  async function refuses(
    reply: Promise<{ status: number; body: Readonly<Record<string, unknown>> }>,
    expected: Refusal,
  ): Promise<void> {
    const { status, body } = await reply;
    assert.deepEqual({ status, code: body['code'] }, expected);
    assert.equal(typeof body['detail'], 'string');
  }

  it('cross_origin: the cookie from elsewhere', async () => {
    const headers = {
      cookie: `access_token=${admin.tokens.admin}`,
      origin: 'https://evil.example',
    };
    await refuses(
      admin.call('POST', '/api/v1/subscribers', { token: null, headers, body: { name: 'Eve' } }),
      { status: 403, code: 'cross_origin' },
    );
  });

  it('unsupported_media_type: a form', async () => {
    const headers = { 'content-type': 'application/x-www-form-urlencoded' };
    await refuses(admin.call('POST', '/api/v1/subscribers', { headers, raw: 'name=Eve' }), {
      status: 415,
      code: 'unsupported_media_type',
    });
  });

  it('method_not_allowed: names the methods that are', async () => {
    const reply = await admin.call('PUT', '/api/v1/plans', { body: {} });
    assert.deepEqual(
      { status: reply.status, code: reply.body['code'] },
      { status: 405, code: 'method_not_allowed' },
    );
    assert.match(reply.headers.get('allow') ?? '', /GET/);
  });

  it('payload_too_large: a byte past 256 KiB', async () => {
    const raw = JSON.stringify({ name: 'x'.repeat(256 * 1024) });
    await refuses(admin.call('POST', '/api/v1/subscribers', { raw }), {
      status: 413,
      code: 'payload_too_large',
    });
  });

  it('in_use: a token that revokes itself', async () => {
    const tokens = await admin.call('GET', '/api/v1/service_tokens');
    const rows = tokens.body['data'];
    assert.ok(Array.isArray(rows));
    const own: unknown = rows.find((row: { name?: unknown }) => row.name === 'admin');
    const id = String(Reflect.get(Object(own), 'id'));
    await refuses(admin.call('POST', `/api/v1/service_tokens/${id}/revoke`), {
      status: 409,
      code: 'in_use',
    });
  });

  const topUp = { credits: '10', amount: '5.00', currency: 'USD' };
  it('payment_method_needed, then payment_declined', async () => {
    const path = `/api/v1/subscribers/${subscriberId}/top_ups`;
    await refuses(admin.call('POST', path, { body: topUp }), {
      status: 422,
      code: 'payment_method_needed',
    });
    await admin.call('PATCH', `/api/v1/subscribers/${subscriberId}`, {
      body: { payment_method: 'card_decline' },
    });
    await refuses(admin.call('POST', path, { body: topUp }), {
      status: 402,
      code: 'payment_declined',
    });
  });

  it('subscription_not_active: as the workflow says', async () => {
    engineSays = { kind: 'refused', code: 'subscription_canceled', message: 'It has ended.' };
    await refuses(
      admin.call('PATCH', `/api/v1/subscriptions/${subscriptionId}`, {
        body: { overage_enabled: true },
      }),
      { status: 409, code: 'subscription_not_active' },
    );
  });

  it('period_not_closable: as the workflow says', async () => {
    engineSays = { kind: 'refused', code: 'period_not_open', message: 'It has not begun.' };
    const path = `/api/v1/subscriptions/${subscriptionId}/periods/${periodId}/close`;
    await refuses(admin.call('POST', path), { status: 409, code: 'period_not_closable' });
  });

  it('overage_enabled on a plan without a price for it names the field', async () => {
    const other = await admin.call('POST', '/api/v1/subscribers', { body: { name: 'Bob' } });
    const reply = await admin.call('POST', '/api/v1/subscriptions', {
      body: { subscriber_id: other.body['id'], plan_id: 'payg', overage_enabled: true },
    });
    assert.equal(reply.status, 400);
    assert.deepEqual(reply.body['errors'], [
      {
        field: 'overage_enabled',
        message: 'cannot be true: the plan payg has no price for usage past its credits',
      },
    ]);
  });

  it('internal_error: tells the request id and nothing of the inside', async () => {
    const broken = await startAdmin({
      shards: { read: () => Promise.reject(new TypeError('secret detail')) },
    });
    try {
      const made = await broken.call('POST', '/api/v1/subscribers', { body: { name: 'Ada' } });
      const reply = await broken.call(
        'GET',
        `/api/v1/subscribers/${String(made.body['id'])}/balance`,
      );
      assert.deepEqual(
        { status: reply.status, code: reply.body['code'] },
        { status: 500, code: 'internal_error' },
      );
      assert.match(String(reply.body['detail']), /request id/);
      assert.doesNotMatch(reply.text, /secret detail|TypeError|\.ts/);
    } finally {
      await broken.stop();
    }
  });

  it('database_unavailable: Postgres away is 503, and nothing else', async () => {
    const away = openDb('postgres://nobody:x@127.0.0.1:9/none', { poolMax: 1 });
    const cut = await startAdmin({ db: away });
    try {
      await refuses(cut.call('GET', '/api/v1/plans'), {
        status: 503,
        code: 'database_unavailable',
      });
    } finally {
      await away.destroy();
      await cut.stop();
    }
  });

  it('a shard that is away does not hide what Postgres knows', async () => {
    assert.equal(new ShardUnavailable('shard-1', 'not_sent', 'away').outcome, 'not_sent');
    const reply = await admin.call('GET', `/api/v1/subscribers/${subscriberId}/balance`);
    assert.equal(reply.status, 200);
  });
});

/** A subscription as its workflow would have made it, without one. */
async function insertSubscription(
  admin: TestAdmin,
  subscriberId: string,
): Promise<{ subscriptionId: string; periodId: string }> {
  return inTransaction(admin.db, async (tx) => {
    const versions = await tx.raw<{ rows: { id: string }[] }>('SELECT id FROM plan_versions');
    const created = await createSubscription(tx, {
      environment: 'test',
      subscriberId,
      planVersionId: versions.rows[0]?.id ?? '',
      timeZone: 'UTC',
    });
    assert.equal(created.kind, 'created');
    const periodId = `per_${'a'.repeat(22)}`;
    await tx.raw(
      `INSERT INTO periods (id, subscription_id, seq, interval_index, interval_start_at, interval_end_at, start_at, end_at, state)
       VALUES (?, ?, 0, 0, now(), now() + interval '1 month', now(), now() + interval '1 month', 'open')`,
      [periodId, created.subscriptionId],
    );
    return { subscriptionId: created.subscriptionId, periodId };
  });
}
