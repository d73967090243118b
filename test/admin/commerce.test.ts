import assert from 'node:assert/strict';

import { attachExtras } from '../../admin/resources/attach-extras.ts';
import { ApiProblem } from '../../admin/problems.ts';
import { inTransaction } from '../../store/db.ts';
import {
  isJson,
  seedCatalogue,
  startAdmin,
  type Json,
  type Reply,
  type TestAdmin,
} from './support.ts';

describe('admin › what is sold beside plans', () => {
  let admin: TestAdmin;
  let meterId: string;
  before(async () => {
    admin = await startAdmin();
    ({ meterId } = await seedCatalogue(admin));
    await post('/plans', {
      name: 'Pay',
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
    assert.equal((await post('/plans/payg/publish')).status, 200);
    await post('/coupons', { name: 'Ten', lookup_id: 'TEN', percent: '10', duration: 'forever' });
    await post('/add_ons', {
      name: 'Seats',
      lookup_id: 'seats',
      type: 'RECURRING',
      amount: '5',
      currency: 'USD',
    });
  });
  after(() => admin.stop());

  const send = (method: string, path: string, body?: unknown): Promise<Reply> =>
    admin.call(method, `/api/v1${path}`, body === undefined ? {} : { body });
  const post = (path: string, body: unknown = {}): Promise<Reply> => send('POST', path, body);
  const codeOf = ({ status, body }: Reply): string => `${status} ${String(body['code'])}`;
  const faultOf = (reply: Reply): string => {
    const [first]: readonly unknown[] = Array.isArray(reply.body['errors'])
      ? reply.body['errors']
      : [];
    return isJson(first) ? `${String(first['field'])} ${String(first['message'])}` : reply.text;
  };
  const dataOf = (reply: Reply): readonly Json[] =>
    Array.isArray(reply.body['data']) ? reply.body['data'].filter((row) => isJson(row)) : [];
  const actionsOn = async (objectId: string): Promise<readonly unknown[]> => {
    const rows: readonly { action: unknown }[] = await admin
      .db('audit_log')
      .where({ object_id: objectId })
      .orderBy('id');
    return rows.map(({ action }) => action);
  };
  let subscribers = 0;
  /** A subscription that is pending, since there is no engine here. */
  const subscribe = async (): Promise<string> => {
    subscribers += 1;
    await post('/subscribers', { name: 'Ada', lookup_id: `ada-${subscribers}` });
    await post('/subscriptions', { subscriber_id: `ada-${subscribers}`, plan_id: 'payg' });
    const { body } = await send('GET', `/subscriptions?subscriber_id=ada-${subscribers}`);
    const [row]: readonly unknown[] = Array.isArray(body['data']) ? body['data'] : [];
    assert.ok(isJson(row));
    return String(row['id']);
  };

  describe('tax rates', () => {
    it('are made, listed, shown and archived, each change with an audit record', async () => {
      const made = await post('/tax_rates', { name: 'VAT', percent: 19.0, lookup_id: 'vat-de' });
      assert.equal(made.status, 201, made.text);
      assert.equal(made.body['percent'], '19');
      assert.equal((await post('/tax_rates', { name: 'VAT', percent: '7' })).status, 201);
      const listed = await send('GET', '/tax_rates?limit=1');
      assert.deepEqual([dataOf(listed).length, listed.body['has_more']], [1, true]);
      const second = await send(
        'GET',
        `/tax_rates?limit=1&cursor=${String(listed.body['next_cursor'])}`,
      );
      assert.equal(dataOf(second)[0]?.['lookup_id'], 'vat-de');
      const archived = await post('/tax_rates/vat-de/archive');
      assert.match(String(archived.body['archived_at']), /^20/);
      const again = await post('/tax_rates/vat-de/archive');
      assert.equal(again.body['archived_at'], archived.body['archived_at']);
      assert.deepEqual(await send('GET', '/tax_rates/vat-de').then(({ body }) => body), again.body);
      assert.deepEqual(await actionsOn(String(made.body['id'])), [
        'tax_rate.create',
        'tax_rate.archive',
        'tax_rate.archive',
      ]);
    });

    it('are meant by their id, also where another one has that id for its name', async () => {
      const meant = await post('/tax_rates', { name: 'Z', percent: '1', lookup_id: 'zz' });
      const id = String(meant.body['id']);
      const other = await post('/tax_rates', { name: 'Other', percent: '2', lookup_id: id });
      assert.equal(other.status, 201, other.text);
      const seats = { name: 'Seats', type: 'RECURRING', amount: '1', currency: 'USD' };
      const made = await post('/add_ons', { ...seats, lookup_id: 'taxed', tax_rates: [id] });
      assert.deepEqual(made.body['tax_rate_ids'], [id], made.text);
      assert.equal((await send('GET', `/tax_rates/${id}`)).body['percent'], '1');
    });

    it('never change', async () => {
      await post('/tax_rates', { name: 'GST', percent: '5', lookup_id: 'gst' });
      assert.equal((await send('PATCH', '/tax_rates/gst', { percent: '5' })).status, 200);
      for (const body of [{ percent: '6' }, { name: 'HST' }]) {
        // oxlint-disable-next-line no-await-in-loop
        const reply = await send('PATCH', '/tax_rates/gst', body);
        assert.equal(codeOf(reply), '409 tax_rate_final');
        assert.match(
          String(reply.body['detail']),
          /Make a new rate with POST \/api\/v1\/tax_rates/,
        );
      }
    });

    it('are percentages', async () => {
      for (const percent of ['100', '0', '8.875', '0.000001', 100]) {
        // oxlint-disable-next-line no-await-in-loop
        const reply = await post('/tax_rates', {
          name: 'Tax',
          percent,
          lookup_id: `t${String(percent).replace('.', '-')}-${typeof percent}`,
        });
        assert.equal(reply.status, 201, reply.text);
      }
      for (const percent of ['100.1', '101', '-1', '0.0000001', '1e2', '', null, '19%']) {
        // oxlint-disable-next-line no-await-in-loop
        const reply = await post('/tax_rates', { name: 'Tax', percent, lookup_id: 'bad' });
        assert.equal(reply.status, 400, `${percent}: ${reply.text}`);
        assert.match(faultOf(reply), /^percent must be/);
      }
    });
  });

  describe('coupons', () => {
    it('take a percentage or an amount off', async () => {
      const percent = await post('/coupons', {
        name: 'Launch',
        lookup_id: 'LAUNCH20',
        percent: '20',
        applies_to: 'meters',
        meter_ids: ['api_calls', meterId],
        duration: 'REPEATING',
        duration_intervals: 3,
        max_redemptions: 5,
        redeem_by: '2999-01-01T00:00:00Z',
      });
      assert.equal(percent.status, 201, percent.text);
      const { id, created_at, ...shown } = percent.body;
      assert.match(`${String(id)} ${String(created_at)}`, /^cpn_\w{22} 20/);
      assert.deepEqual(shown, {
        object: 'coupon',
        environment: 'test',
        lookup_id: 'LAUNCH20',
        name: 'Launch',
        percent: '20',
        amount: null,
        currency: null,
        applies_to: 'meters',
        meter_ids: [meterId],
        duration: 'repeating',
        duration_intervals: 3,
        max_redemptions: 5,
        times_redeemed: 0,
        redeem_by: '2999-01-01T00:00:00.000Z',
        archived_at: null,
      });
      const amount = await post('/coupons', { name: 'Ten off', amount: 10, currency: 'usd' });
      assert.deepEqual(
        [amount.body['amount'], amount.body['currency'], amount.body['lookup_id']],
        ['10.00', 'USD', 'ten-off'],
      );
      assert.equal(
        codeOf(await post('/coupons', { name: 'x', lookup_id: 'LAUNCH20', percent: '1' })),
        '409 already_exists',
      );
    });

    it('say what does not go together', async () => {
      const cases: readonly (readonly [Json, RegExp])[] = [
        [{}, /^percent is required, or amount/],
        [{ percent: '0' }, /^percent must be above 0/],
        [{ percent: '100.5' }, /^percent must be from 0 to 100/],
        [{ percent: '5', amount: '1' }, /^amount does not go with percent/],
        [{ percent: '5', currency: 'USD' }, /^currency goes with amount only/],
        [{ amount: '5' }, /^currency is required with amount/],
        [{ amount: '0', currency: 'USD' }, /^amount must be above 0/],
        [{ amount: '0.001', currency: 'USD' }, /^amount must be an amount of USD/],
        [{ amount: '1.5', currency: 'JPY' }, /^amount must be an amount of JPY/],
        [{ percent: '5', applies_to: 'meters' }, /^meter_ids is required/],
        [{ percent: '5', meter_ids: ['api_calls'] }, /^meter_ids goes with applies_to meters/],
        [
          { percent: '5', applies_to: 'meters', meter_ids: ['api_calls', 'nothing'] },
          /^meter_ids\[1\] names no meter/,
        ],
        [{ percent: '5', duration: 'repeating' }, /^duration_intervals is required/],
        [{ percent: '5', duration_intervals: 2 }, /^duration_intervals goes with/],
        [{ percent: '5', redeem_by: '2020-01-01T00:00:00Z' }, /^redeem_by must lie in the future/],
        [{ percent: '5', max_redemptions: 0 }, /^max_redemptions must be/],
        [{ percent: '5', duration: 'twice' }, /^duration must be one of once, repeating, forever/],
      ];
      for (const [fields, fault] of cases) {
        // oxlint-disable-next-line no-await-in-loop
        const reply = await post('/coupons', { name: 'Bad', ...fields });
        assert.equal(reply.status, 400, JSON.stringify(fields));
        assert.match(faultOf(reply), fault);
      }
      assert.equal(
        dataOf(await send('GET', '/coupons')).some(({ name }) => name === 'Bad'),
        false,
      );
    });

    it('cannot be made or archived by a reader, and are made once under an Idempotency-Key', async () => {
      const forbidden = await admin.call('POST', '/api/v1/coupons/TEN/archive', {
        token: admin.tokens.reader,
        body: {},
      });
      assert.equal(codeOf(forbidden), '403 forbidden');
      const body = { name: 'Once only', percent: '1' };
      const headers = { 'idempotency-key': 'coupon-1' };
      const first = await admin.call('POST', '/api/v1/coupons', { body, headers });
      const again = await admin.call('POST', '/api/v1/coupons', { body, headers });
      assert.equal(first.status, 201);
      assert.equal(again.text, first.text);
    });
  });

  it('add-ons are of a product, with an amount in a currency and taxes of their own', async () => {
    await post('/tax_rates', { name: 'Reduced', percent: '7', lookup_id: 'reduced' });
    const made = await post('/add_ons', {
      name: 'Setup',
      type: 'one_time',
      amount: '99.9',
      currency: 'USD',
      tax_rates: ['reduced'],
    });
    assert.equal(made.status, 201, made.text);
    const rate = await send('GET', '/tax_rates/reduced');
    assert.deepEqual(
      [made.body['type'], made.body['amount'], made.body['lookup_id'], made.body['tax_rate_ids']],
      ['ONE_TIME', '99.90', 'setup', [rate.body['id']]],
    );
    const bad = { name: 'Bad', type: 'RECURRING', currency: 'USD', amount: '1' };
    assert.match(faultOf(await post('/add_ons', { ...bad, amount: '1.001' })), /^amount must be/);
    assert.match(
      faultOf(await post('/add_ons', { ...bad, tax_rates: ['none'] })),
      /^tax_rates\[0\] names no tax rate/,
    );
    assert.match(
      faultOf(await post('/add_ons', { ...bad, product_id: 'none' })),
      /^product_id names no product/,
    );
    await post('/tax_rates/reduced/archive');
    assert.match(
      faultOf(await post('/add_ons', { ...bad, tax_rates: ['reduced'] })),
      /^tax_rates\[0\] names the tax rate reduced, which is archived/,
    );
    const archived = await post('/add_ons/setup/archive');
    assert.match(String(archived.body['archived_at']), /^20/);
    assert.deepEqual((await send('GET', '/add_ons/setup')).body, archived.body);
  });

  it('operator settings are shown and changed, one at a time, per environment', async () => {
    const before = await send('GET', '/operator_settings');
    assert.deepEqual(before.body, {
      object: 'operator_settings',
      environment: 'test',
      name: null,
      address: null,
      email: null,
      tax_id: null,
      footer: null,
      locale: 'en-US',
      draft_grace_ms: 0,
      tax_rate_ids: [],
    });
    const { body: rate } = await post('/tax_rates', {
      name: 'USt',
      percent: '19',
      lookup_id: 'ust',
    });
    const changed = await send('PATCH', '/operator_settings', {
      name: 'Example GmbH',
      address: 'Hauptstr. 1\n10115 Berlin',
      locale: 'DE-de',
      draft_grace_ms: 3_024_000_000,
      tax_rates: ['ust', 'ust'],
    });
    assert.equal(changed.status, 200, changed.text);
    const shown = {
      ...before.body,
      name: 'Example GmbH',
      address: 'Hauptstr. 1\n10115 Berlin',
      locale: 'de-DE',
      draft_grace_ms: 3_024_000_000,
      tax_rate_ids: [rate['id']],
    };
    assert.deepEqual(changed.body, shown);
    const footer = await send('PATCH', '/operator_settings', { footer: 'Danke.', name: null });
    assert.deepEqual(footer.body, { ...shown, footer: 'Danke.', name: null });
    for (const [fields, fault] of [
      [{ locale: 'xx-Nowhere-1' }, /^locale must be a language tag/],
      [{ locale: 'english' }, /^locale must be a language tag/],
      [{ locale: '' }, /^locale must be/],
      [{ locale: null }, /^locale must be/],
      [{ draft_grace_ms: 3_024_000_001 }, /^draft_grace_ms must be/],
      [{ email: 'nobody' }, /^email must be/],
      [{ tax_rates: ['missing'] }, /^tax_rates\[0\] names no tax rate/],
    ] as const) {
      // oxlint-disable-next-line no-await-in-loop
      assert.match(faultOf(await send('PATCH', '/operator_settings', fields)), fault);
    }
    const live = await admin.call('GET', '/api/v1/operator_settings', { token: admin.liveToken });
    assert.deepEqual([live.body['environment'], live.body['address']], ['live', null]);
    assert.deepEqual(await actionsOn('test'), [
      'operator_settings.change',
      'operator_settings.change',
    ]);
    await send('PATCH', '/operator_settings', { draft_grace_ms: 0, tax_rates: [] });
  });

  it('subscribers have taxes and a language of their own', async () => {
    const { body: rate } = await post('/tax_rates', {
      name: 'MwSt',
      percent: '8.1',
      lookup_id: 'mwst',
    });
    const made = await post('/subscribers', { name: 'Ada', lookup_id: 'taxed' });
    const taxes = (reply: Reply): readonly unknown[] =>
      ['tax_status', 'tax_exempt_reason', 'tax_rate_ids', 'locale'].map((key) => reply.body[key]);
    assert.deepEqual(taxes(made), ['taxable', null, null, null]);
    const patch = (body: Json): Promise<Reply> => send('PATCH', '/subscribers/taxed', body);
    assert.deepEqual(taxes(await patch({ tax_rates: ['mwst'], locale: 'fr-ch' })), [
      'taxable',
      null,
      [rate['id']],
      'fr-CH',
    ]);
    assert.deepEqual(taxes(await patch({ name: 'Ada L.' })), [
      'taxable',
      null,
      [rate['id']],
      'fr-CH',
    ]);
    assert.match(
      faultOf(await patch({ tax_exempt_reason: 'Charity' })),
      /^tax_exempt_reason goes with tax_status exempt only/,
    );
    assert.deepEqual(
      taxes(await patch({ tax_status: 'EXEMPT', tax_exempt_reason: 'Charity', tax_rates: [] })),
      ['exempt', 'Charity', [], 'fr-CH'],
    );
    assert.deepEqual(taxes(await patch({ tax_id: 'CHE-1' })), ['exempt', 'Charity', [], 'fr-CH']);
    assert.deepEqual(
      taxes(await patch({ tax_status: 'reverse_charge', tax_rates: null, locale: null })),
      ['reverse_charge', null, null, null],
    );
    assert.match(
      faultOf(await patch({ tax_rates: ['none'] })),
      /^tax_rates\[0\] names no tax rate/,
    );
    assert.match(faultOf(await patch({ tax_status: 'unknown' })), /^tax_status must be one of/);
    const exempt = await post('/subscribers', {
      name: 'Eve',
      tax_status: 'exempt',
      tax_exempt_reason: 'Embassy',
      tax_rates: ['mwst'],
      locale: 'ja',
    });
    assert.deepEqual(taxes(exempt), ['exempt', 'Embassy', [rate['id']], 'ja']);
  });

  describe('coupons of a subscription', () => {
    it('are given, listed and taken away by any of their names', async () => {
      const id = await subscribe();
      const given = await post(`/subscriptions/${id}/coupons`, { coupon_id: 'TEN' });
      assert.equal(given.status, 201, given.text);
      assert.deepEqual(
        [given.body['lookup_id'], given.body['percent'], given.body['intervals_used']],
        ['TEN', '10', 0],
      );
      const held = await post(`/subscriptions/${id}/coupons`, { coupon_id: 'TEN' });
      assert.equal(codeOf(held), '409 coupon_held');
      assert.equal(held.body['subscription_coupon_id'], given.body['id']);
      assert.deepEqual(dataOf(await send('GET', `/subscriptions/${id}/coupons`)), [given.body]);
      const taken = await send('DELETE', `/subscriptions/${id}/coupons/TEN`);
      assert.deepEqual({ ...taken.body, removed_at: null }, given.body);
      const again = await send(
        'DELETE',
        `/subscriptions/${id}/coupons/${String(given.body['id'])}`,
      );
      assert.deepEqual(again.body, taken.body);
      assert.equal((await post(`/subscriptions/${id}/coupons`, { coupon_id: 'TEN' })).status, 201);
      const newest = await send('DELETE', `/subscriptions/${id}/coupons/TEN`);
      assert.notEqual(newest.body['id'], given.body['id']);
      assert.equal(
        codeOf(await send('DELETE', `/subscriptions/${id}/coupons/NEVER`)),
        '404 not_found',
      );
      const other = await subscribe();
      assert.equal(
        codeOf(await send('DELETE', `/subscriptions/${other}/coupons/${String(given.body['id'])}`)),
        '404 not_found',
      );
      const actions = await actionsOn(id);
      assert.ok(actions.includes('subscription.coupon_add'));
      assert.ok(actions.includes('subscription.coupon_remove'));
    });

    it('are refused in words: archived, expired, used up, of another currency, unknown', async () => {
      const id = await subscribe();
      const give = (coupon_id: string): Promise<Reply> =>
        post(`/subscriptions/${id}/coupons`, { coupon_id });
      await post('/coupons', { name: 'a', lookup_id: 'GONE', percent: '1' });
      await post('/coupons/GONE/archive');
      assert.equal(codeOf(await give('GONE')), '409 coupon_archived');
      await post('/coupons', {
        name: 'b',
        lookup_id: 'LATE',
        percent: '1',
        redeem_by: '2999-01-01T00:00:00Z',
      });
      await admin.db('coupons').where({ lookup_id: 'LATE' }).update({ redeem_by: '2020-01-01' });
      const late = await give('LATE');
      assert.equal(codeOf(late), '409 coupon_expired');
      assert.match(String(late.body['detail']), /until 2020-01-01T00:00:00/);
      await post('/coupons', { name: 'c', lookup_id: 'EURO', amount: '1', currency: 'EUR' });
      const euro = await give('EURO');
      assert.equal(codeOf(euro), '409 currency_differs');
      assert.match(String(euro.body['detail']), /is of EUR, and the subscription of USD/);
      await post('/coupons', { name: 'd', lookup_id: 'FEW', percent: '1', max_redemptions: 1 });
      assert.equal((await give('FEW')).status, 201);
      const used = await post(`/subscriptions/${await subscribe()}/coupons`, { coupon_id: 'FEW' });
      assert.equal(codeOf(used), '409 coupon_used_up');
      assert.match(String(used.body['detail']), /can be redeemed once, and was/);
      assert.equal((await send('GET', '/coupons/FEW')).body['times_redeemed'], 1);
      assert.match(faultOf(await give('NOTHING')), /^coupon_id names no coupon/);
    });

    it('are given to at most max_redemptions of twenty that ask at once', async () => {
      await post('/coupons', { name: 'e', lookup_id: 'RUSH', percent: '1', max_redemptions: 3 });
      const ids: string[] = [];
      for (let index = 0; index < 20; index += 1) {
        // oxlint-disable-next-line no-await-in-loop
        ids.push(await subscribe());
      }
      const replies = await Promise.all(
        ids.map((id) => post(`/subscriptions/${id}/coupons`, { coupon_id: 'RUSH' })),
      );
      const codes = Map.groupBy(replies, ({ status }) => status);
      assert.deepEqual([codes.get(201)?.length, codes.get(409)?.length], [3, 17]);
      assert.equal((await send('GET', '/coupons/RUSH')).body['times_redeemed'], 3);
    });

    it('are not for a subscription that is canceled', async () => {
      const id = await subscribe();
      await admin
        .db('subscriptions')
        .where({ id })
        .update({ state: 'canceled', ended_at: new Date(), cancel_at: new Date() });
      for (const [path, body] of [
        ['coupons', { coupon_id: 'TEN' }],
        ['add_ons', { add_on_id: 'seats' }],
      ] as const) {
        // oxlint-disable-next-line no-await-in-loop
        const reply = await post(`/subscriptions/${id}/${path}`, body);
        assert.equal(codeOf(reply), '409 subscription_not_active');
      }
    });
  });

  describe('add-ons of a subscription', () => {
    it('are given in a quantity, several times, listed and ended', async () => {
      const id = await subscribe();
      const give = (body: Json): Promise<Reply> => post(`/subscriptions/${id}/add_ons`, body);
      const three = await give({ add_on_id: 'seats', quantity: 3 });
      assert.equal(three.status, 201, three.text);
      assert.deepEqual(
        [three.body['quantity'], three.body['amount'], three.body['until_at']],
        [3, '5.00', null],
      );
      const one = await give({ add_on_id: 'seats' });
      assert.equal(one.body['quantity'], 1);
      assert.deepEqual(dataOf(await send('GET', `/subscriptions/${id}/add_ons`)), [
        three.body,
        one.body,
      ]);
      const ended = await send('DELETE', `/subscriptions/${id}/add_ons/seats`);
      assert.equal(ended.body['id'], one.body['id']);
      assert.match(String(ended.body['until_at']), /^20/);
      const first = await send(
        'DELETE',
        `/subscriptions/${id}/add_ons/${String(three.body['id'])}`,
      );
      assert.equal(first.body['id'], three.body['id']);
      assert.equal(
        codeOf(await send('DELETE', `/subscriptions/${id}/add_ons/setup`)),
        '404 not_found',
      );
      for (const quantity of [0, -1, 1.5, 1_000_001]) {
        // oxlint-disable-next-line no-await-in-loop
        const reply = await give({ add_on_id: 'seats', quantity });
        assert.match(faultOf(reply), /^quantity must be a whole number from 1 to 1000000/);
      }
    });

    it('are refused in words: archived, of another currency or product, unknown', async () => {
      const id = await subscribe();
      const give = (add_on_id: string): Promise<Reply> =>
        post(`/subscriptions/${id}/add_ons`, { add_on_id });
      await post('/products', {
        name: 'Other',
        lookup_id: 'other',
        upstream_url: 'http://127.0.0.1:9998',
      });
      const like = {
        name: 'x',
        type: 'RECURRING',
        amount: '1',
        currency: 'USD',
        product_id: 'demo',
      };
      await post('/add_ons', { ...like, lookup_id: 'old' });
      await post('/add_ons/old/archive');
      await post('/add_ons', { ...like, lookup_id: 'euro', currency: 'EUR' });
      await post('/add_ons', { ...like, lookup_id: 'foreign', product_id: 'other' });
      assert.equal(codeOf(await give('old')), '409 add_on_archived');
      assert.equal(codeOf(await give('euro')), '409 currency_differs');
      assert.equal(codeOf(await give('foreign')), '409 product_differs');
      assert.match(faultOf(await give('none')), /^add_on_id names no add-on/);
      const unnamed = await post('/add_ons', { ...like, lookup_id: 'y', product_id: undefined });
      assert.equal(codeOf(unnamed), '422 product_needed');
      assert.match(unnamed.text, /which one this add-on is of/);
    });

    it('a one-time one of a period that is over was billed, and is not taken back', async () => {
      const id = await subscribe();
      await post('/add_ons', {
        name: 'Onboarding',
        lookup_id: 'onboarding',
        type: 'ONE_TIME',
        amount: '50',
        currency: 'USD',
        product_id: 'demo',
      });
      const given = await post(`/subscriptions/${id}/add_ons`, { add_on_id: 'onboarding' });
      assert.equal(given.status, 201, given.text);
      await admin
        .db('subscription_add_ons')
        .where({ id: String(given.body['id']) })
        .update({ from_at: '2025-01-15' });
      await admin.db('periods').insert({
        id: 'per_0000000000000000000000',
        subscription_id: id,
        seq: 0,
        interval_index: 0,
        interval_start_at: '2025-01-01',
        interval_end_at: '2025-02-01',
        start_at: '2025-01-01',
        end_at: '2025-02-01',
        state: 'closing',
      });
      const refused = await send('DELETE', `/subscriptions/${id}/add_ons/onboarding`);
      assert.equal(codeOf(refused), '409 add_on_billed');
      assert.match(String(refused.body['detail']), /credit note/);
    });
  });

  describe('what a subscription is started with', () => {
    const attach = (subscriptionId: string, extras: Parameters<typeof attachExtras>[1]['extras']) =>
      inTransaction(admin.db, (tx, at) =>
        attachExtras(tx, { environment: 'test', subscriptionId, extras, at }),
      );
    const problemOf = async (work: Promise<unknown>): Promise<ApiProblem> =>
      work.then(
        () => assert.fail('it was taken'),
        (error: unknown) => {
          assert.ok(error instanceof ApiProblem);
          return error;
        },
      );

    it('is attached in the order given, and once where the wish comes twice', async () => {
      const id = await subscribe();
      await post('/coupons', { name: 'Z', lookup_id: 'Z', percent: '1' });
      const extras = {
        coupons: ['Z', 'TEN'],
        add_ons: [{ add_on_id: 'seats', quantity: 4 }],
      };
      await attach(id, extras);
      await attach(id, extras);
      const coupons = dataOf(await send('GET', `/subscriptions/${id}/coupons`));
      assert.deepEqual(
        coupons.map((row) => row['lookup_id']),
        ['Z', 'TEN'],
      );
      const addOns = dataOf(await send('GET', `/subscriptions/${id}/add_ons`));
      assert.deepEqual(
        addOns.map((row) => [row['lookup_id'], row['quantity']]),
        [['seats', 4]],
      );
    });

    it('comes with the subscription, whose start it refuses', async () => {
      await post('/subscribers', { name: 'Bob', lookup_id: 'bob' });
      const start = (extras: Json): Promise<Reply> =>
        post('/subscriptions', { subscriber_id: 'bob', plan_id: 'payg', ...extras });
      assert.match(faultOf(await start({ coupons: ['NOTHING'] })), /^coupons\[0\] names no coupon/);
      assert.match(
        faultOf(await start({ add_ons: [{ add_on_id: 'seats', quantity: 0 }] })),
        /^add_ons\[0\]\.quantity must be a whole number/,
      );
      assert.equal(codeOf(await start({ coupons: ['GONE'] })), '409 coupon_archived');
      assert.deepEqual(dataOf(await send('GET', '/subscriptions?subscriber_id=bob')), []);
      // The engine is away: what is in Postgres already stays, and is gone on with.
      const wish = { coupons: ['TEN'], add_ons: [{ add_on_id: 'seats', quantity: 2 }] };
      assert.equal(codeOf(await start(wish)), '503 workflow_engine_unavailable');
      assert.equal(codeOf(await start(wish)), '503 workflow_engine_unavailable');
      const [subscription] = dataOf(await send('GET', '/subscriptions?subscriber_id=bob'));
      const id = String(subscription?.['id']);
      assert.equal(dataOf(await send('GET', `/subscriptions/${id}/coupons`)).length, 1);
      assert.deepEqual(
        dataOf(await send('GET', `/subscriptions/${id}/add_ons`)).map((row) => row['quantity']),
        [2],
      );
    });

    it('is refused whole, naming the entry', async () => {
      const id = await subscribe();
      const unknown = await problemOf(attach(id, { coupons: ['TEN', 'nothing'] }));
      assert.equal(unknown.errors[0]?.field, 'coupons[1]');
      const twice = await problemOf(attach(id, { coupons: ['TEN', 'TEN'] }));
      assert.match(twice.detail, /a second time/);
      const addOn = await problemOf(
        attach(id, { coupons: ['TEN'], add_ons: [{ add_on_id: 'nothing' }] }),
      );
      assert.equal(addOn.errors[0]?.field, 'add_ons[0].add_on_id');
      assert.equal(
        (await problemOf(attach(id, { coupons: ['TEN', 'GONE'] }))).code,
        'coupon_archived',
      );
      assert.deepEqual(dataOf(await send('GET', `/subscriptions/${id}/coupons`)), []);
    });
  });
});
