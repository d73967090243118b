import assert from 'node:assert/strict';

import { routes } from '../../admin/routes.ts';
import { seedCatalogue, startAdmin, type TestAdmin } from './support.ts';

const badQuantities: readonly string[] = [
  '-1',
  '-0',
  '0.5',
  '1.0',
  '1e3',
  '1E3',
  '1e-3',
  '1000000000000000',
  '9007199254740992',
  '9007199254740993',
  '1e400',
  '-1e400',
  '0.1e1',
  '100000000000000000000000',
  'true',
  'false',
  'null',
  '[]',
  '[1]',
  '{}',
  '{"source":"1"}',
  '""',
  '" "',
  '" 1"',
  '"1 "',
  '"+1"',
  '"-1"',
  '"-0"',
  '"0.5"',
  '"1.0"',
  '"1e3"',
  '"0x10"',
  '"0b1"',
  '"0o7"',
  '"NaN"',
  '"Infinity"',
  '"-Infinity"',
  '"01"',
  '"00"',
  '"1_000"',
  '"1,000"',
  '"1000000000000000"',
  '"9007199254740992"',
  '"９"',
  '"١"',
  '"১২"',
  '"²"',
  '"1\\u0000"',
  '"1\\n"',
  '"\\t1"',
  '"1n"',
  '"null"',
  '"undefined"',
  '"[1]"',
  '"\\u00a01"',
  '"1;drop"',
  '"⅕"',
  '"一"',
  '"1'.padEnd(300, '0') + '"',
  '"‑1"',
  '"1\\u200b"',
  '"true"',
];

describe('admin › hostile requests', () => {
  let admin: TestAdmin;
  before(async () => {
    admin = await startAdmin();
    await seedCatalogue(admin);
    await admin.call('POST', '/api/v1/subscribers', { body: { name: 'Acme', lookup_id: 'acme' } });
  });
  after(() => admin.stop());

  const rowsOf = async (table: string): Promise<number> => {
    const answer = await admin.db(table).count<{ count: bigint }[]>('* as count');
    return Number(answer[0]?.count ?? -1);
  };

  it('refuses properties that nobody may set, on every route that takes a body', async () => {
    for (const route of routes.filter(({ body }) => body !== null)) {
      const path = `/api/v1${route.path.replaceAll(/\{\w+\}/g, 'nobody')}`;
      for (const name of [
        'tenant_id',
        'balance',
        'state',
        'environment_id',
        'created_at',
        'remaining_micro',
      ]) {
        const reply = await admin.call(route.method.toUpperCase(), path, { body: { [name]: 'x' } });
        assert.equal(reply.status, 400, `${route.operationId} ${name}: ${reply.text}`);
        const errors = JSON.stringify(reply.body['errors']);
        assert.ok(errors.includes(`"field":"${name}"`), errors);
      }
    }
  });

  it('names what is allowed', async () => {
    const unknown = await admin.call('POST', '/api/v1/features', {
      body: { name: 'F', nane: 'F' },
    });
    assert.deepEqual(unknown.body['errors'], [
      {
        field: 'nane',
        message: 'is not a property here',
        allowed: ['name', 'lookup_id', 'meter_id'],
      },
    ]);
    const choice = await admin.call('POST', '/api/v1/plans', {
      body: { name: 'P', type: 'FREE', billing_interval: 'month', currency: 'USD' },
    });
    assert.deepEqual(choice.body['errors'], [
      {
        field: 'type',
        message: 'must be one of FLAT, USAGE, HYBRID, CREDITS, CUSTOM',
        allowed: ['FLAT', 'USAGE', 'HYBRID', 'CREDITS', 'CUSTOM'],
      },
    ]);
  });

  it(`refuses ${badQuantities.length} bad quantities as usage and as limits`, async () => {
    assert.ok(badQuantities.length >= 60);
    await admin.call('POST', '/api/v1/plans', {
      body: {
        name: 'Limits',
        lookup_id: 'limits',
        type: 'FLAT',
        billing_interval: 'month',
        currency: 'USD',
      },
    });
    for (const [index, bad] of badQuantities.entries()) {
      const event = `{"events":[{"id":"bad-${index}","subscriber_id":"acme","meter_id":"api_calls","quantity":${bad}}]}`;
      const usage = await admin.call('POST', '/api/v1/usage_events', { raw: event });
      assert.equal(usage.status, 400, `${bad}: ${usage.text}`);
      // A limit of null is none; everything else is as bad there.
      if (bad === 'null') continue;
      const limit = await admin.call('POST', '/api/v1/plans/limits/features', {
        raw: `{"feature_id":"api_calls","limit":${bad}}`,
      });
      assert.equal(limit.status, 400, `${bad}: ${limit.text}`);
    }
    assert.equal(await rowsOf('external_events'), 0);
    assert.equal(await rowsOf('plan_features'), 0);
  });

  it('takes a price from its source text, whatever its size', async () => {
    await admin.call('POST', '/api/v1/plans', {
      body: {
        name: 'Prices',
        lookup_id: 'prices',
        type: 'USAGE',
        billing_interval: 'month',
        currency: 'USD',
      },
    });
    for (const [given, answered] of [
      ['0.001', '0.001'],
      ['0.10', '0.1'],
      ['"0.0005"', '0.0005'],
      ['5e-7', '0.0000005'],
      ['0.000000000001', '0.000000000001'],
      ['123456789012345.123456789012', '123456789012345.123456789012'],
      ['9007199254740993', null],
      ['0.0000000000001', null],
      ['-0.001', null],
      ['"-1"', null],
      ['"1e-3"', null],
      ['"0,1"', null],
      ['""', null],
      ['[]', null],
    ] as const) {
      const reply = await admin.call('POST', '/api/v1/plans/prices/charges', {
        raw: `{"type":"USAGE","meter_id":"api_calls","unit_price":${given}}`,
      });
      assert.equal(reply.status, answered === null ? 400 : 201, `${given}: ${reply.text}`);
      if (answered !== null) assert.equal(reply.body['unit_price'], answered);
    }
  });

  it('refuses keys that are given twice, also when they are spelled differently', async () => {
    for (const raw of [
      '{"name":"A","name":"B"}',
      '{"name":"A","n\\u0061me":"B"}',
      '{"events":[{"id":"1","quantity":1,"quantity":-5}]}',
    ]) {
      const path = raw.includes('events') ? '/api/v1/usage_events' : '/api/v1/features';
      const reply = await admin.call('POST', path, { raw });
      assert.equal(reply.status, 400, reply.text);
      assert.equal(reply.body['code'], 'invalid_json');
      assert.match(reply.text, /is given twice/);
    }
  });

  it('refuses keys that name a prototype, and changes none', async () => {
    const payloads = [
      '{"__proto__":{"polluted":true}}',
      '{"constructor":{"prototype":{"polluted":true}}}',
      '{"name":"x","prototype":{}}',
      '{"\\u005f_proto__":{"polluted":true}}',
      '{"events":[{"__proto__":{"polluted":true}}]}',
      '[{"__proto__":1}]',
    ];
    for (const route of routes.filter(({ body }) => body !== null)) {
      const path = `/api/v1${route.path.replaceAll(/\{\w+\}/g, 'nobody')}`;
      for (const raw of payloads) {
        const reply = await admin.call(route.method.toUpperCase(), path, { raw });
        assert.equal(reply.status, 400, `${route.operationId} ${raw}: ${reply.text}`);
      }
    }
    for (const query of [
      '__proto__=1',
      'a[__proto__][x]=1',
      'limit[__proto__]=1',
      'limit=1&limit=2',
    ]) {
      const reply = await admin.call('GET', `/api/v1/plans?${query}`);
      assert.equal(reply.status, 400, query);
    }
    assert.equal(Reflect.get({}, 'polluted'), undefined);
  });

  it('bounds size and depth', async () => {
    const big = (bytes: number): string => `{"name":"${'x'.repeat(bytes - 11)}"}`;
    const fits = await admin.call('POST', '/api/v1/features', { raw: big(256 * 1024) });
    assert.equal(fits.status, 400);
    const over = await admin.call('POST', '/api/v1/features', { raw: big(256 * 1024 + 1) });
    assert.equal(over.status, 413);
    const deep = (levels: number): string => '['.repeat(levels) + ']'.repeat(levels);
    const allowedDepth = await admin.call('POST', '/api/v1/features', { raw: deep(20) });
    assert.equal(allowedDepth.body['code'], 'invalid_request');
    const tooDeep = await admin.call('POST', '/api/v1/features', { raw: deep(21) });
    assert.equal(tooDeep.body['code'], 'invalid_json');
    assert.equal(
      (await admin.call('POST', '/api/v1/features', { raw: deep(100_000) })).status,
      400,
    );
  });

  it('takes JSON only, in UTF-8, uncompressed', async () => {
    const sent = (headers: Record<string, string>, raw = '{"name":"F"}') =>
      admin.call('POST', '/api/v1/features', { raw, headers });
    assert.equal((await sent({ 'content-type': 'text/plain' })).status, 415);
    assert.equal((await sent({ 'content-type': 'application/x-www-form-urlencoded' })).status, 415);
    assert.equal((await sent({ 'content-encoding': 'gzip' })).status, 415);
    assert.equal((await sent({}, '')).status, 400);
    assert.equal((await sent({}, '{')).status, 400);
    assert.equal((await sent({}, 'null')).status, 400);
    assert.equal((await sent({}, '7')).status, 400);
  });

  it('refuses a cookie call that another site could have made', async () => {
    const cookie = { cookie: `access_token=${admin.tokens.admin}` };
    const sent = (headers: Record<string, string>) =>
      admin.call('POST', '/api/v1/features', {
        token: null,
        raw: '{"name":"Cookie","lookup_id":"cookie"}',
        headers: { ...cookie, ...headers },
      });
    assert.equal((await sent({ 'content-type': 'text/plain' })).status, 415);
    assert.equal((await sent({ origin: 'https://evil.example' })).status, 403);
    assert.equal((await sent({ origin: 'null' })).status, 403);
    assert.equal((await sent({ 'sec-fetch-site': 'cross-site' })).status, 403);
    assert.equal((await sent({ 'sec-fetch-site': 'same-site' })).status, 403);
    const form = await admin.call('POST', '/api/v1/plans/payg/publish', {
      token: null,
      headers: cookie,
    });
    assert.equal(form.status, 415);
    assert.equal(await rowsOf('features'), 1);
    assert.equal((await sent({ origin: admin.url })).status, 201);
    assert.equal(
      (await admin.call('GET', '/api/v1/features', { token: null, headers: cookie })).status,
      200,
    );
  });

  it('keeps control characters and markup where they can do no harm', async () => {
    for (const bad of ['a\r\nSet-Cookie: x=1', 'a\u0000b', 'a\u2028b', '\ud800']) {
      const reply = await admin.call('POST', '/api/v1/subscribers', { body: { name: bad } });
      assert.equal(reply.status, 400, JSON.stringify(bad));
    }
    for (const id of ["x'; DROP TABLE plans; --", '{tag}', '..%2f..', '%00', 'a b', '*']) {
      const reply = await admin.call('GET', `/api/v1/plans/${encodeURIComponent(id)}`);
      assert.equal(reply.status, 404, id);
    }
    assert.equal((await admin.call('GET', '/api/v1/plans/%ff')).status < 500, true);
  });

  it('answers a failure without its inside, and never logs a secret', async () => {
    const canary = 'canary-4711-secret';
    await admin.call('POST', '/api/v1/features', {
      token: canary,
      body: { name: canary },
      headers: { 'idempotency-key': canary, cookie: `access_token=${canary}`, 'x-api-key': canary },
    });
    await admin.call('GET', `/api/v1/plans?cursor=${canary}&token=${canary}`);
    const text = JSON.stringify(admin.logged);
    assert.ok(!text.includes(canary));
    assert.ok(!text.includes(admin.tokens.admin));
    assert.ok(admin.logged.length > 0);
  });

  it('says what it does not know, at every path', async () => {
    const missing = await admin.call('GET', '/api/v1/no_such_thing');
    assert.equal(missing.status, 404);
    const method = await admin.call('DELETE', '/api/v1/plans');
    assert.equal(method.status, 405);
    assert.equal(method.headers.get('allow'), 'POST, GET');
    assert.equal(method.headers.get('cache-control'), 'no-store');
    assert.equal(method.headers.get('content-type'), 'application/problem+json; charset=utf-8');
  });
});
