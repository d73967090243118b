import assert from 'node:assert/strict';

import { postUsage } from '../../store/usage-batch.ts';
import { usageForInterval } from '../../store/usage.ts';
import { usageFact } from '../drain/drainer-fixture.ts';
import { type Party, seedParty, seedWorld, type World, write } from '../store/fixture.ts';
import { isJson, startAdmin, type Json, type Reply, type TestAdmin } from './support.ts';

describe('admin › usage_events/{id}/corrections', () => {
  let admin: TestAdmin;
  let world: World;
  let party: Party;
  before(async () => {
    admin = await startAdmin();
    world = await seedWorld(admin.db);
    party = await seedParty(admin.db, world);
  });
  after(() => admin.stop());

  async function used(
    ...quantities: readonly { readonly meter: string; readonly quantity: number }[]
  ): Promise<string> {
    const fact = usageFact(world, party, { quantities });
    await write(admin.db, (tx) => postUsage(tx, [fact]));
    return fact.opId;
  }
  const calls = (quantity: number) => ({ meter: 'api_calls', quantity });
  const correct = (id: string, body: Json, headers: Record<string, string> = {}): Promise<Reply> =>
    admin.call('POST', `/api/v1/usage_events/${id}/corrections`, { body, headers });
  const to = (quantity: number | string, more: Json = {}): Json => ({
    quantities: [{ meter_id: 'api_calls', quantity }],
    reason: 'Counted twice.',
    ...more,
  });
  const show = (id: string): Promise<Reply> => admin.call('GET', `/api/v1/usage_events/${id}`);
  const corrections = (reply: Reply): readonly Json[] => {
    const list = reply.body['corrections'];
    return Array.isArray(list) ? list.filter((item) => isJson(item)) : [];
  };

  it('shows the event as it came in, with its corrections in order', async () => {
    const id = await used(calls(12), { meter: 'tokens', quantity: 5 });
    assert.deepEqual((await show(id)).body['corrections'], []);
    const first = await correct(id, to(10));
    assert.equal(first.status, 201, first.text);
    const second = await correct(id, { void: true, reason: 'A test call.' });
    assert.equal(second.status, 201, second.text);
    const { body, status } = await show(id);
    assert.equal(status, 200);
    assert.deepEqual(body, second.body);
    assert.deepEqual([body['corrected'], body['event_id']], [true, id]);
    assert.deepEqual(body['quantities'], [
      { meter_id: world.meterIds.api_calls, quantity: '12' },
      { meter_id: world.meterIds.tokens, quantity: '5' },
    ]);
    const told = corrections(await show(id)).map((one) => [
      one['meter_id'] === world.meterIds.api_calls ? 'api_calls' : 'tokens',
      one['quantity_before'],
      one['quantity_after'],
      one['event_count_delta'],
      one['reason'],
    ]);
    assert.deepEqual(told[0], ['api_calls', '12', '10', 0, 'Counted twice.']);
    assert.deepEqual(
      told.slice(1).toSorted(([a], [b]) => (String(a) < String(b) ? -1 : 1)),
      [
        ['api_calls', '10', '0', -1, 'A test call.'],
        ['tokens', '5', '0', -1, 'A test call.'],
      ],
    );
    const [one] = corrections(second);
    assert.equal(one?.['period_id'], party.periods[0]?.periodId);
    assert.equal(one?.['adjusts_period_id'], null);
    assert.match(String(one?.['actor']), /^token:tok_/);
  });

  it('is marked in the list, by either name of the meter, and written to the audit log', async () => {
    const [wrong, right] = [await used(calls(3)), await used(calls(4))];
    const body = { ...to(2), quantities: [{ meter_id: world.meterIds.api_calls, quantity: '2' }] };
    assert.equal((await correct(wrong, body)).status, 201);
    const reply = await admin.call('GET', '/api/v1/usage_events?limit=100');
    const data = reply.body['data'];
    const rows = Array.isArray(data) ? data.filter((row) => isJson(row)) : [];
    const marks = new Map(rows.map((row) => [row['event_id'], row['corrected']]));
    assert.deepEqual([marks.get(wrong), marks.get(right)], [true, false]);
    const [entry] = await admin.db('audit_log').where({ object_id: wrong });
    assert.equal(entry?.action, 'usage_events.correct');
    assert.equal(entry?.details.reason, 'Counted twice.');
  });

  it('happens once for an Idempotency-Key, also twenty times at once', async () => {
    const id = await used(calls(9));
    const headers = { 'idempotency-key': 'correct-1' };
    const replies = await Promise.all(
      Array.from({ length: 20 }, () => correct(id, to(8), headers)),
    );
    assert.ok(replies.every(({ status }) => [201, 409].includes(status)));
    const again = await correct(id, to(8), headers);
    assert.equal(again.status, 201, again.text);
    assert.equal(corrections(await show(id)).length, 1);
    assert.equal((await correct(id, to(7), headers)).body['code'], 'idempotency_key_reused');
  });

  it('refuses, with what to do', async () => {
    const id = await used(calls(6));
    const rows: readonly (readonly [Json, number, string, RegExp])[] = [
      [
        { reason: 'x' },
        400,
        'invalid_request',
        /quantities must name a meter, unless void is true/,
      ],
      [to(1, { void: true }), 400, 'invalid_request', /quantities cannot stand beside void/],
      [{ void: true }, 400, 'invalid_request', /reason/],
      [to(1, { reason: ' ' }), 400, 'invalid_request', /reason/],
      [to(-1), 400, 'invalid_request', /quantity must be a whole number/],
      [
        { ...to(1), quantities: [{ meter_id: 'tokens', quantity: 1 }] },
        400,
        'invalid_request',
        /quantities\[0\].meter_id names no meter of this event/,
      ],
      [
        { ...to(1), quantities: [1, 2].map((quantity) => ({ meter_id: 'api_calls', quantity })) },
        400,
        'invalid_request',
        /quantities\[1\].meter_id names a meter a second time/,
      ],
      [to(6), 409, 'nothing_to_correct', /already/],
    ];
    for (const [body, status, code, words] of rows) {
      const reply = await correct(id, body);
      assert.deepEqual([reply.status, reply.body['code']], [status, code], reply.text);
      assert.match(reply.text, words);
    }
    for (const unknown of ['20250102-gw0001-nobody', 'nobody']) {
      assert.equal((await correct(unknown, to(1))).status, 404);
      assert.equal((await show(unknown)).status, 404);
    }
    const live = { token: admin.liveToken };
    const elsewhere = await admin.call('GET', `/api/v1/usage_events/${id}`, live);
    assert.equal(elsewhere.status, 404);
    assert.equal(corrections(await show(id)).length, 0);
  });

  it('names what a correction cannot reach: other aggregations, credits', async () => {
    await admin.db('meters').where({ id: world.meterIds.tokens }).update({ aggregation: 'MAX' });
    const levels = await used({ meter: 'tokens', quantity: 5 });
    const max = await correct(levels, { void: true, reason: 'x' });
    assert.deepEqual([max.status, max.body['code']], [409, 'event_not_correctable']);
    assert.match(String(max.body['detail']), /tokens is a MAX.*credit note/);
    const paid = await used(calls(1));
    await admin.db('usage_events').where({ event_id: paid }).update({ written_off_micro: 1 });
    assert.match(String((await correct(paid, to(0))).body['detail']), /took credits.*grant/);
    const rows = await usageForInterval(admin.db, party.subscriptionId, 1);
    assert.deepEqual(rows, []);
  });
});
