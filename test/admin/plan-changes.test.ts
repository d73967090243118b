import assert from 'node:assert/strict';

import type { EngineReply } from '../../admin/workflow-engine.ts';
import { makeDbActivities } from '../../activities/index.ts';
import type { CommandResult } from '../../activities/subscription.ts';
import { type Db, inTransaction } from '../../store/db.ts';
import { createSubscription } from '../../store/subscriptions.ts';
import {
  awayEngine,
  isJson,
  type Json,
  seedCatalogue,
  startAdmin,
  type TestAdmin,
} from './support.ts';

/** The engine of these tests runs the activities themselves: everything but Temporal is real. */
describe('admin › changes of plan', function () {
  this.timeout(60_000);
  let admin: TestAdmin;
  let activities: ReturnType<typeof makeDbActivities>;
  const collected: string[] = [];

  before(async () => {
    admin = await startAdmin({
      engine: {
        ...awayEngine,
        changePlan: async (subscriptionId, args) =>
          replyOf(
            await activities.changePlan({ subscriptionId, nowMs: Date.now(), ...args }),
            ({ effectiveAtMs }) => ({ effectiveAt: new Date(effectiveAtMs).toISOString() }),
          ),
        cancelPlanChange: async (subscriptionId, args) =>
          replyOf(
            await activities.cancelPlanChange({ subscriptionId, nowMs: Date.now(), ...args }),
            () => args,
          ),
      },
    });
    activities = activitiesOn(admin.db, collected);
    await seedCatalogue(admin);
    for (const [id, amount] of [
      ['small', '10.00'],
      ['large', '30.00'],
    ] as const) {
      await sell(id, { type: 'RECURRING', display_name: 'Fee', amount, bill_in: 'ADVANCE' });
    }
  });
  after(async () => admin.stop());

  async function sell(lookupId: string, charge: Json, currency = 'USD'): Promise<void> {
    const plan = await admin.call('POST', '/api/v1/plans', {
      body: {
        name: lookupId,
        lookup_id: lookupId,
        type: 'HYBRID',
        billing_interval: 'month',
        currency,
      },
    });
    assert.equal(plan.status, 201, plan.text);
    const charged = await admin.call('POST', `/api/v1/plans/${lookupId}/charges`, { body: charge });
    assert.equal(charged.status, 201, charged.text);
    const published = await admin.call('POST', `/api/v1/plans/${lookupId}/publish`);
    assert.equal(published.status, 200, published.text);
  }

  async function subscribed(planId: string): Promise<string> {
    const subscriber = await admin.call('POST', '/api/v1/subscribers', { body: { name: 'Ada' } });
    const answer = await admin.db.raw<{ rows: { id: string }[] }>(
      `SELECT v.id FROM plan_versions v JOIN plans p ON p.id = v.plan_id WHERE p.lookup_id = ?`,
      [planId],
    );
    const created = await inTransaction(admin.db, (tx) =>
      createSubscription(tx, {
        environment: 'test',
        subscriberId: String(subscriber.body['id']),
        planVersionId: answer.rows[0]?.id ?? '',
        timeZone: 'UTC',
      }),
    );
    assert.ok(created.kind === 'created');
    const { subscriptionId } = created;
    // Begun a while ago, so that there is a period to change in.
    const nowMs = Date.now() - 60_000;
    await admin
      .db('subscriptions')
      .where({ id: subscriptionId })
      .update({ anchor_at: new Date(nowMs) });
    await activities.activateSubscription({ subscriptionId, nowMs });
    return `/api/v1/subscriptions/${subscriptionId}`;
  }

  it('says what to do where the plan is not on sale', async () => {
    const path = await subscribed('small');
    await sell('gone', { type: 'RECURRING', display_name: 'Fee', amount: '9.00' });
    const archived = await admin.call('POST', '/api/v1/plans/gone/archive');
    assert.equal(archived.status, 200, archived.text);
    const made = await admin.call('POST', '/api/v1/plans', {
      body: {
        ...{ name: 'unsold', lookup_id: 'unsold', type: 'HYBRID' },
        ...{ billing_interval: 'month', currency: 'USD' },
      },
    });
    assert.equal(made.status, 201, made.text);
    const publish = `POST /api/v1/plans/${String(made.body['id'])}/publish`;
    for (const to of ['change_plan', 'change_plan/preview']) {
      for (const [body, code, words] of [
        [{ plan_id: 'gone' }, 'plan_archived', 'Choose another one from GET /api/v1/plans.'],
        [{ plan_id: 'unsold' }, 'plan_not_published', `Publish it with ${publish}`],
        [{ plan_id: 'gone', version: 1 }, 'plan_archived', 'Choose another plan.'],
      ] as const) {
        const refused = await admin.call('POST', `${path}/${to}`, { body });
        assert.deepEqual([refused.status, refused.body['code']], [409, code], refused.text);
        assert.ok(refused.text.includes(words), refused.text);
      }
    }
  });

  it('shows what a change does, writes nothing by it, and then does just that', async () => {
    const path = await subscribed('small');
    const body = { plan_id: 'large' };
    const before = await admin.db('invoices').count();
    const shown = await admin.call('POST', `${path}/change_plan/preview`, {
      body,
      token: admin.tokens['reader'] ?? null,
    });
    assert.equal(shown.status, 200, shown.text);
    assert.deepEqual(await admin.db('invoices').count(), before);
    assert.deepEqual(
      [shown.body['when'], shown.body['fee_before'], shown.body['fee_after']],
      ['now', '10.00', '30.00'],
    );
    const expected = shown.body['change_invoice'];
    assert.ok(isJson(expected));

    const headers = { 'idempotency-key': 'upgrade-1' };
    const done = await admin.call('POST', `${path}/change_plan`, { body, headers });
    assert.equal(done.status, 200, done.text);
    assert.equal(done.body['state'], 'applied');
    const invoice = await admin.call('GET', `/api/v1/invoices/${String(done.body['invoice_id'])}`);
    for (const field of ['total', 'amount_due', 'subtotal', 'tax'])
      assert.equal(invoice.body[field], expected[field], field);
    assert.ok(collected.includes(String(done.body['invoice_id'])));
    const after = await admin.call('GET', `${path}/upcoming_invoice`);
    const upcoming = shown.body['upcoming_invoice'];
    assert.ok(isJson(upcoming));
    assert.equal(after.body['total'], upcoming['total']);
    assert.deepEqual(after.body['lines'], upcoming['lines']);
    const again = await admin.call('POST', `${path}/change_plan`, { body, headers });
    assert.deepEqual(again.body, done.body);
    const listed = await admin.call('GET', `${path}/plan_changes`);
    assert.ok(Array.isArray(listed.body['data']) && listed.body['data'].length === 1);
  });

  it('plans a downgrade, shows it with the subscription, and takes it back', async () => {
    const path = await subscribed('large');
    const none = await admin.call('DELETE', `${path}/change_plan`);
    assert.equal(none.status, 404);
    const planned = await admin.call('POST', `${path}/change_plan`, { body: { plan_id: 'small' } });
    assert.equal(planned.status, 200, planned.text);
    assert.deepEqual([planned.body['state'], planned.body['invoice_id']], ['scheduled', null]);
    const held = await admin.call('GET', path);
    const pending = held.body['pending_change'];
    assert.ok(isJson(pending));
    assert.deepEqual(
      [pending['plan_name'], pending['effective_at']],
      ['small', planned.body['effective_at']],
    );
    const kept = await admin.call('DELETE', `${path}/change_plan`);
    assert.equal(kept.status, 200, kept.text);
    assert.equal(kept.body['pending_change'], null);
    const listed = await admin.call('GET', `${path}/plan_changes`);
    const [row] = Array.isArray(listed.body['data']) ? listed.body['data'] : [];
    assert.ok(isJson(row));
    assert.equal(row['state'], 'canceled');
  });

  it('refuses with a mend: the plan that it has, another currency, a draft, a version that is not there', async () => {
    const path = await subscribed('small');
    await sell('euro', { type: 'RECURRING', display_name: 'Fee', amount: '5' }, 'EUR');
    await admin.call('POST', '/api/v1/plans', {
      body: {
        name: 'sketch',
        lookup_id: 'sketch',
        type: 'HYBRID',
        billing_interval: 'month',
        currency: 'USD',
      },
    });
    const cases = [
      [{ plan_id: 'small' }, 409, 'plan_unchanged'],
      [{ plan_id: 'euro' }, 409, 'currency_differs'],
      [{ plan_id: 'sketch' }, 409, 'plan_not_published'],
      [{ plan_id: 'large', version: 7 }, 404, 'not_found'],
      [{ plan_id: 'nobody' }, 404, 'not_found'],
      [{ plan_id: 'large', when: 'soon' }, 400, 'invalid_request'],
    ] as const;
    for (const [body, status, code] of cases) {
      for (const call of ['change_plan', 'change_plan/preview']) {
        const reply = await admin.call('POST', `${path}/${call}`, { body });
        assert.deepEqual([reply.status, reply.body['code']], [status, code], reply.text);
        assert.ok(String(reply.body['detail']).length > 10);
      }
    }
  });
});

function replyOf<T>(
  result: CommandResult,
  value: (done: Extract<CommandResult, { kind: 'done' }>) => T,
): EngineReply<T> {
  if (result.kind === 'refused') return result;
  return { kind: 'done', value: value(result) };
}

function activitiesOn(db: Db, collected: string[]): ReturnType<typeof makeDbActivities> {
  const notHere = () => Promise.reject(new Error('not here'));
  return makeDbActivities({
    db,
    shards: { seal: notHere },
    payments: { charge: notHere, lookup: notHere, refund: notHere, lookupRefund: notHere },
    startWorkflow: (request) => {
      if (request.kind === 'collection') collected.push(request.invoiceId);
      return Promise.resolve();
    },
    waitForApplied: () => Promise.resolve(true),
    isDrained: () => Promise.resolve(true),
  });
}
