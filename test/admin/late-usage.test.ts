import assert from 'node:assert/strict';

import type { WorkflowEngine } from '../../admin/workflow-engine.ts';
import { findViolations } from '../../store/invariants.ts';
import { begin, type Life, publish } from '../store/life.ts';
import { seedWorld, type World } from '../workflows/support/world.ts';
import { awayEngine, type Reply, startAdmin, type TestAdmin } from './support.ts';

const day = (text: string): Date => new Date(`${text}T12:00:00Z`);
const start = new Date('2025-01-01T00:00:00Z');
const end = new Date('2025-02-01T00:00:00Z');

describe('admin › late usage of a subscription that has ended', () => {
  let admin: TestAdmin;
  let world: World;
  let engine: Partial<WorkflowEngine> = {};
  const collected: string[] = [];

  before(async () => {
    const collect: WorkflowEngine['collect'] = (id, wait) =>
      engine.collect === undefined ? awayEngine.collect(id, wait) : engine.collect(id, wait);
    admin = await startAdmin({ engine: { ...awayEngine, collect } });
    world = await seedWorld(admin.db);
  });
  after(async () => {
    await admin.stop();
  });
  beforeEach(() => {
    collected.length = 0;
    engine = {
      collect: (id) => {
        collected.push(id);
        return Promise.resolve({ kind: 'done', value: null });
      },
    };
  });
  afterEach(async () => {
    // Events of 2025 came in now.
    const found = (await findViolations(admin.db)).filter(({ id }) => id !== 'I24');
    assert.deepEqual(found, []);
  });

  async function living(): Promise<Life> {
    const price = { model: 'per_unit', unit_price: '1' } as const;
    const planVersionId = await publish(admin.db, world, { price, included: '10' });
    return begin(admin.db, world, { planVersionId, startAt: start });
  }
  async function ended(): Promise<Life> {
    const life = await living();
    await life.post(day('2025-01-10'), 8);
    await life.cancel(end, false);
    await life.close(await life.at(start));
    return life;
  }
  const bill = (
    { subscriptionId }: Pick<Life, 'subscriptionId'>,
    headers: Readonly<Record<string, string>> = {},
  ): Promise<Reply> =>
    admin.call('POST', `/api/v1/subscriptions/${subscriptionId}/bill_late_usage`, {
      body: {},
      headers,
    });
  const upcoming = ({ subscriptionId }: Life): Promise<Reply> =>
    admin.call('GET', `/api/v1/subscriptions/${subscriptionId}/upcoming_invoice`);
  const audits = async ({ subscriptionId }: Life): Promise<readonly string[]> =>
    (await admin.db('audit_log').where({ object_id: subscriptionId })).map((row) => row.action);

  it('is invoiced at once, as it was estimated, and collected', async () => {
    const life = await ended();
    await life.post(day('2025-01-20'), 5);
    const estimate = await upcoming(life);
    assert.equal(estimate.status, 200);
    assert.deepEqual([estimate.body['period'], estimate.body['total']], [null, '3.00']);

    const key = { 'idempotency-key': `late-${life.subscriptionId}` };
    const reply = await bill(life, key);
    assert.equal(reply.status, 201);
    const invoice = Object(reply.body['invoice']);
    assert.deepEqual(
      [invoice.kind, invoice.state, invoice.total, invoice.period_text],
      ['late', 'open', '3.00', 'Jan 1 – Jan 31, 2025'],
    );
    assert.deepEqual(
      [reply.body['invoice_id'], reply.body['text']],
      [invoice.id, `${invoice.number} bills what came in since the end.`],
    );
    assert.deepEqual(collected, [invoice.id]);
    assert.equal((await bill(life, key)).text, reply.text);
    assert.deepEqual(await audits(life), ['subscription.bill_late_usage']);

    const [line] = invoice.lines;
    const path = `/api/v1/invoices/${invoice.id}/lines/${line.id}/explain`;
    const told = await admin.call('GET', path);
    assert.equal(Object(told.body['recomputed']).is_exact, true);
    const ranges = Object(told.body['events']);
    assert.deepEqual(
      ranges.map((range: { readonly billed: string }) => range.billed),
      ['before', 'now'],
    );
    const behind = await admin.call('GET', ranges[1].path);
    const [event] = Object(behind.body['data']);
    assert.deepEqual([event.period_id, event.quantities[0].quantity], [invoice.period_id, '5']);
    for (const form of ['html', 'pdf']) {
      const page = await fetch(`${admin.url}${invoice[`${form}_path`]}`, {
        headers: { authorization: `Bearer ${admin.tokens.admin}` },
      });
      assert.equal(page.status, 200);
      const text = await page.text();
      if (form === 'html')
        assert.match(
          text,
          /API Calls \(3 calls past 10 included × \$1\.00\), Jan 1 – Jan 31, 2025/,
        );
    }
  });

  it('is there no more when it is asked for again: that is no fault', async () => {
    const life = await ended();
    const nothing = await bill(life);
    assert.deepEqual(
      [nothing.status, nothing.body['invoice'], nothing.body['text']],
      [200, null, 'Nothing came in since the end that is to be billed.'],
    );
    await life.post(day('2025-01-20'), 1);
    assert.equal((await bill(life)).status, 200);
    assert.equal((await upcoming(life)).status, 409);
    await life.post(day('2025-01-20'), 2);
    assert.equal((await bill(life)).status, 201);
    assert.equal((await bill(life)).status, 200);
    assert.equal((await audits(life)).length, 1);
  });

  it('subscription_not_ended: its next invoice bills it, or the last one that is to come', async () => {
    const life = await living();
    const going = await bill(life);
    assert.deepEqual([going.status, going.body['code']], [409, 'subscription_not_ended']);
    assert.match(String(going.body['detail']), /has not ended: the next invoice of it bills/);
    await life.cancel(end, false);
    const closing = await bill(life);
    assert.equal(closing.body['code'], 'subscription_not_ended');
    assert.match(String(closing.body['detail']), /its last invoice is not issued yet/);
    await life.close(await life.at(start));
    assert.equal((await bill(life)).status, 200);
    assert.equal((await bill({ subscriptionId: 'sub_0000000000000000000000' })).status, 404);
  });

  it('is invoiced also while nobody can begin to collect it', async () => {
    engine = {};
    const life = await ended();
    await life.post(day('2025-01-20'), 5);
    assert.equal((await bill(life)).status, 201);
    assert.ok(admin.logged.some(({ message }) => String(message).includes('was not started')));
  });

  it('of which an event is corrected gives the money back, and is issued again when it is void', async () => {
    const life = await ended();
    const eventId = await life.post(day('2025-01-20'), 5);
    const first = Object((await bill(life)).body['invoice']);
    const correct = (quantity: string): Promise<Reply> =>
      admin.call('POST', `/api/v1/usage_events/${eventId}/corrections`, {
        body: { quantities: [{ meter_id: world.meterId, quantity }], reason: 'Counted twice.' },
      });
    assert.equal((await correct('4')).status, 201);
    const credit = Object((await bill(life)).body['invoice']);
    assert.deepEqual(
      [credit.total, credit.balance_applied, credit.state],
      ['-1.00', '-1.00', 'paid'],
    );
    const act = (what: string): Promise<Reply> =>
      admin.call('POST', `/api/v1/invoices/${first.id}/${what}`, { body: {} });
    assert.equal((await act('void')).status, 200);
    const again = await act('reissue');
    assert.deepEqual(
      [again.status, again.body['kind'], again.body['total'], again.body['reissue_of']],
      [201, 'late', '3.00', first.id],
    );
  });
});
