import assert from 'node:assert/strict';

import { markCounted } from '../../store/external-events.ts';
import { newId } from '../../store/ids.ts';
import {
  isJson,
  seedCatalogue,
  startAdmin,
  type Json,
  type Reply,
  type TestAdmin,
} from './support.ts';

describe('admin › usage_events', () => {
  let admin: TestAdmin;
  before(async () => {
    admin = await startAdmin();
    await seedCatalogue(admin);
    const post = (path: string, body: unknown) => admin.call('POST', `/api/v1${path}`, { body });
    await post('/plans', {
      name: 'P',
      lookup_id: 'payg',
      type: 'USAGE',
      billing_interval: 'month',
      currency: 'USD',
    });
    await post('/plans/payg/charges', { type: 'USAGE', meter_id: 'api_calls', unit_price: 1 });
    await post('/plans/payg/publish', {});
    await post('/subscribers', { name: 'Acme', lookup_id: 'acme' });
    await post('/subscribers', { name: 'Idle', lookup_id: 'idle' });
    await post('/subscribers', { name: 'Back', lookup_id: 'back' });
    await subscribe('acme', { fromDay: -40, untilDay: 30 });
    await subscribe('back', { fromDay: -20, untilDay: -10, isCanceled: true });
    await subscribe('back', { fromDay: -1, untilDay: 30 });
  });
  after(() => admin.stop());

  const DAY_MS = 86_400_000;
  const inDays = (days: number): Date => new Date(Date.now() + days * DAY_MS);

  /** A subscription as its activation leaves it: with one period of one segment. */
  async function subscribe(
    subscriber: string,
    span: { readonly fromDay: number; readonly untilDay: number; readonly isCanceled?: boolean },
  ): Promise<void> {
    const created = await admin.call('POST', '/api/v1/subscriptions', {
      body: { subscriber_id: subscriber, plan_id: 'payg' },
    });
    const subscription = await admin
      .db('subscriptions as t')
      .join('subscribers as s', 's.id', 't.subscriber_id')
      .where({ 's.lookup_id': subscriber, 't.state': 'pending' })
      .first('t.id', 't.plan_version_id');
    assert.ok(subscription !== undefined, created.text);
    const [from, until] = [inDays(span.fromDay), inDays(span.untilDay)];
    const periodId = newId('per');
    await admin.db('periods').insert({
      id: periodId,
      subscription_id: subscription.id,
      seq: 0,
      interval_index: 0,
      interval_start_at: from,
      interval_end_at: until,
      start_at: from,
      end_at: until,
      state: 'open',
    });
    await admin.db('segments').insert({
      subscription_id: subscription.id,
      period_id: periodId,
      plan_version_id: subscription.plan_version_id,
      from_at: from,
      until_at: until,
      status: 'active',
      overage: false,
    });
    await admin
      .db('subscriptions')
      .where({ id: subscription.id })
      .update(
        span.isCanceled === true
          ? { state: 'canceled', started_at: from, cancel_at: until, ended_at: until }
          : { state: 'active', started_at: from },
      );
  }

  const record = (events: readonly Json[], token = admin.tokens.ingest): Promise<Reply> =>
    admin.call('POST', '/api/v1/usage_events', { body: { events }, token });
  const event = (id: string, more: Json = {}): Json => ({
    id,
    subscriber_id: 'acme',
    meter_id: 'api_calls',
    quantity: 3,
    ...more,
  });
  const results = (reply: Reply): readonly Json[] => {
    const list = reply.body['results'];
    return Array.isArray(list) ? list.filter((item) => isJson(item)) : [];
  };
  const statuses = (reply: Reply) => results(reply).map(({ status }) => status);

  it('writes an event down once for ever; a repeat is free, another content a conflict', async () => {
    const first = await record([event('a', { occurred_at: new Date().toISOString() })]);
    assert.equal(first.status, 200, first.text);
    assert.deepEqual(statuses(first), ['accepted']);
    const at = await admin.db('external_events').where({ id: 'a' }).first('body');
    const occurred_at = new Date(Number(at.body.at_ms)).toISOString();
    const same = await record([event('a', { occurred_at })]);
    assert.deepEqual(statuses(same), ['duplicate']);
    assert.equal(results(same)[0]?.['event_id'], results(first)[0]?.['event_id']);
    const other = await record([event('a', { occurred_at, quantity: 4 })]);
    assert.deepEqual(statuses(other), ['conflict']);
    assert.equal(results(other)[0]?.['code'], 'duplicate_request');
    const source = await record([event('a', { source: 'batch' })]);
    assert.deepEqual(statuses(source), ['accepted']);
  });

  it('compares an event that names no time at the time of the first', async () => {
    await record([event('undated')]);
    assert.deepEqual(statuses(await record([event('undated')])), ['duplicate']);
    assert.deepEqual(statuses(await record([event('undated', { quantity: 9 })])), ['conflict']);
  });

  it('says what the shard said, also to a repeat', async () => {
    const first = await record([event('counted')]);
    await markCounted(admin.db, String(results(first)[0]?.['event_id']), {
      kind: 'counted',
      over_limit: true,
      charged_micro: 2_500_000,
      overage_micro: 500_000,
    });
    const again = results(await record([event('counted')]))[0] ?? {};
    assert.equal(again['status'], 'duplicate');
    assert.equal(again['over_limit'], true);
    assert.equal(again['credits_charged'], '2.5');
    assert.equal(again['credits_overage'], '0.5');
  });

  it('gives each row its own result: a bad one does not hold up the others', async () => {
    const daysAgo = (days: number) => inDays(-days).toISOString();
    const reply = await record([
      event('r1'),
      event('r2', { subscriber_id: 'nobody' }),
      event('r3', { meter_id: 'nothing' }),
      event('r4', { subscriber_id: 'idle' }),
      event('r5', { product_id: 'nope' }),
      event('r6', { occurred_at: daysAgo(36) }),
      event('r7', { occurred_at: daysAgo(34) }),
      event('r8', { occurred_at: new Date(Date.now() + 10 * 60_000).toISOString() }),
      event('r1'),
      event('r1', { quantity: 0 }),
    ]);
    assert.deepEqual(
      results(reply).map(({ status, code }) => code ?? status),
      [
        'accepted',
        'not_found',
        'meter_unknown',
        'subscription_inactive',
        'product_not_found',
        'validation_failed',
        'accepted',
        'validation_failed',
        'duplicate',
        'duplicate_request',
      ],
    );
    const rows = await admin.db('external_events').whereIn('id', ['r1', 'r7']).select('id');
    assert.equal(rows.length, 2);
  });

  it('takes use of up to 35 days ago and 5 minutes ahead, and says so', async () => {
    const minutes = (id: string, fromNow: number) =>
      event(id, { occurred_at: new Date(Date.now() + fromNow * 60_000).toISOString() });
    const old = -35 * 24 * 60;
    const reply = await record([
      minutes('late', old + 1),
      minutes('too-late', old - 1),
      minutes('soon', 4.5),
      minutes('too-soon', 5.5),
    ]);
    assert.deepEqual(
      results(reply).map(({ id, status, code, message }) => [id, code ?? status, message]),
      [
        ['late', 'accepted', null],
        ['too-late', 'validation_failed', 'occurred_at is more than 35 days ago'],
        ['soon', 'accepted', null],
        ['too-soon', 'validation_failed', 'occurred_at is more than 5 minutes ahead'],
      ],
    );
  });

  it('takes the value that a UNIQUE_COUNT counts once, and only there', async () => {
    const meters = { users: 'UNIQUE_COUNT', seats: 'WEIGHTED_SUM' };
    for (const [lookup_id, aggregation] of Object.entries(meters)) {
      const body = { name: lookup_id, lookup_id, unit: 'one', aggregation };
      assert.equal((await admin.call('POST', '/api/v1/meters', { body })).status, 201);
    }
    const of = (id: string, more: Json): Json => ({ id, subscriber_id: 'acme', ...more });
    const reply = await record([
      of('v1', { meter_id: 'users', value: 'ada' }),
      of('v2', { meter_id: 'users', quantity: 2 }),
      of('v3', { meter_id: 'seats', quantity: 5, value: 'ada' }),
      of('v4', {
        quantities: [
          { meter_id: 'users', value: 'grace' },
          { meter_id: 'seats', quantity: 7 },
        ],
      }),
    ]);
    assert.deepEqual(
      results(reply).map(({ status, message }) => [status, message]),
      [
        ['accepted', null],
        ['refused', 'the meter users counts what differs: give a value'],
        ['refused', 'the meter seats is a WEIGHTED_SUM: only a UNIQUE_COUNT takes a value'],
        ['accepted', null],
      ],
    );
    const rows = await admin.db('external_events').whereIn('id', ['v1', 'v4']).orderBy('id');
    assert.deepEqual(
      rows.map(({ body }) => body.quantities),
      [
        [{ meter: 'users', quantity: 1, value: 'ada' }],
        [
          { meter: 'users', quantity: 1, value: 'grace' },
          { meter: 'seats', quantity: 7 },
        ],
      ],
    );
    const again = (value: string) => record([of('v1', { meter_id: 'users', value })]);
    assert.deepEqual(statuses(await again('ada')), ['duplicate']);
    assert.deepEqual(statuses(await again('eve')), ['conflict']);
    const faulty: readonly (readonly [Json, RegExp])[] = [
      [{ meter_id: 'users' }, /events\[0\].quantity is required/],
      [{ meter_id: 'users', value: '' }, /value must not be empty/],
      [{ meter_id: 'users', value: 'x'.repeat(201) }, /value must have at most 200 characters/],
      [{ quantities: [{ meter_id: 'users' }] }, /quantities\[0\].quantity is required/],
      [{ value: 'a', quantities: [{ meter_id: 'users', value: 'a' }] }, /cannot stand beside/],
    ];
    for (const [more, words] of faulty) {
      const refused = await record([of('v5', more)]);
      assert.equal(refused.status, 400);
      assert.match(refused.text, words);
    }
  });

  it('refuses use of a time that no subscription to the product held', async () => {
    const at = (id: string, days: number) =>
      event(id, { subscriber_id: 'back', occurred_at: inDays(days).toISOString() });
    const reply = await record([at('b1', -30), at('b2', -15), at('b3', -5), at('b4', -0.5)]);
    assert.deepEqual(
      results(reply).map(({ status, code }) => [status, code]),
      [
        ['refused', 'subscription_inactive'],
        ['accepted', null],
        ['refused', 'subscription_inactive'],
        ['accepted', null],
      ],
    );
    assert.match(String(results(reply)[0]?.['message']), /no subscription to the product held at/);
    const rows = await admin.db('external_events').whereLike('id', 'b_').orderBy('id').select('id');
    assert.deepEqual(rows, [{ id: 'b2' }, { id: 'b4' }]);
  });

  it('tells a repeat what became of the event, also after the subscription has ended', async () => {
    await record([event('ended')]);
    await admin.db('segments').update({ void: true });
    try {
      assert.deepEqual(statuses(await record([event('ended'), event('new')])), [
        'duplicate',
        'refused',
      ]);
    } finally {
      await admin.db('segments').update({ void: false });
    }
  });

  it('takes 1 to 100 events, and several meters in one', async () => {
    const many = (count: number) => Array.from({ length: count }, (_, index) => event(`m${index}`));
    assert.equal((await record([])).status, 400);
    assert.equal((await record(many(101))).status, 400);
    assert.equal(results(await record(many(100))).length, 100);
    const { meter_id: _meter, quantity: _quantity, ...bare } = event('multi');
    const quantities = [{ meter_id: 'api_calls', quantity: 2 }];
    assert.deepEqual(statuses(await record([{ ...bare, quantities }])), ['accepted']);
    assert.equal((await record([event('mixed', { quantities })])).status, 400);
    assert.equal((await record([bare])).status, 400);
  });

  it('writes 20 at the same time down once', async () => {
    const occurred_at = new Date().toISOString();
    const replies = await Promise.all(
      Array.from({ length: 20 }, () => record([event('race', { occurred_at })])),
    );
    const all = replies.flatMap(statuses);
    assert.equal(all.filter((status) => status === 'accepted').length, 1);
    assert.equal(all.filter((status) => status === 'duplicate').length, 19);
  });
});
