import assert from 'node:assert/strict';

import type { TestWorkflowEnvironment } from '@temporalio/testing';

import { ProviderFault } from '../../payments/port.ts';
import { inTransaction } from '../../store/db.ts';
import { listPeriods } from '../../store/periods.ts';
import { createTopUp } from '../../store/top-ups.ts';
import { ensureWallet, walletBalances } from '../../store/wallets.ts';
import {
  collectionUpdates,
  taskQueues,
  type TopUpResult,
  workflowIds,
} from '../../workflows/contracts.ts';
import { topUp } from '../../workflows/index.ts';
import { timeSkipping } from '../support/temporal.ts';
import { until } from '../support/until.ts';
import {
  ofEnvironment,
  quietRuntime,
  type Rig,
  sleepUntil,
  startRig,
  whileTimePasses,
} from './support/rig.ts';
import {
  checksum,
  faultsOf,
  seedPlan,
  seedSubscriber,
  seedSubscription,
  seedWorld,
} from './support/world.ts';

const DAY_MS = 86_400_000;

describe('workflows/payment, collection and topUp', function () {
  this.timeout(120_000);
  let environment: TestWorkflowEnvironment;
  let rig: Rig;
  /** What lies between us and the provider at the moment. */
  let weather: 'clear' | 'answers_are_lost' | 'requests_are_lost' = 'clear';

  before(async () => {
    quietRuntime();
    environment = await timeSkipping();
    rig = await startRig(ofEnvironment(environment), {
      ports: {
        paymentTimeoutMs: 500,
        throughPayments: (provider) => ({
          ...provider,
          charge: async (request) => {
            if (weather === 'requests_are_lost') throw new ProviderFault('unavailable', 'lost');
            const outcome = await provider.charge(request);
            if (weather === 'answers_are_lost') throw new ProviderFault('unavailable', 'lost');
            return outcome;
          },
        }),
      },
    });
  });
  after(async () => {
    await rig.stop();
    await environment.teardown();
  });
  afterEach(async () => {
    weather = 'clear';
    assert.deepEqual(await faultsOf(rig.db), []);
  });

  async function chargesOf(key: string): Promise<readonly { readonly status: string }[]> {
    const response = await fetch(`${rig.sandbox.url}/_charges`);
    const body: { data: { idempotency_key: string; status: string }[] } = JSON.parse(
      await response.text(),
    );
    return body.data.filter((charge) => charge.idempotency_key === key);
  }

  type Bought = {
    readonly topUpId: string;
    readonly subscriberId: string;
    readonly result: TopUpResult;
  };

  async function bought(method: string | null): Promise<Bought> {
    const subscriberId = await seedSubscriber(rig.db, method);
    const { topUpId } = await inTransaction(rig.db, async (tx) =>
      createTopUp(tx, {
        environment: 'test',
        subscriberId,
        walletId: await ensureWallet(tx, { subscriberId, unit: 'credit' }),
        creditsMicro: 250_000_000n,
        amountMinor: 1250n,
        currency: 'USD',
        businessKey: `request:${subscriberId}`,
      }),
    );
    const handle = await rig.client.workflow.start(topUp, {
      workflowId: workflowIds.topUp(topUpId),
      taskQueue: taskQueues.workflows,
      args: [{ v: 1, topUpId }],
    });
    const result = await whileTimePasses(environment, handle.result());
    return { topUpId, subscriberId, result };
  }

  it('grants credits for money that came in, with a paid invoice', async () => {
    const { topUpId, subscriberId, result } = await bought('card_ok');
    assert.deepEqual(result, { state: 'granted' });
    const [row] = await rig.db('top_ups').where({ id: topUpId });
    const [invoice] = await rig.db('invoices').where({ id: row.invoice_id });
    assert.deepEqual([row.state, invoice.state, invoice.total_minor], ['granted', 'paid', 1250n]);
    const [balance] = await walletBalances(rig.db, subscriberId);
    assert.equal(balance?.available, 250_000_000n);
    assert.equal((await chargesOf(row.payment_id)).length, 1);
  });

  it('grants nothing when the card is declined, and says why', async () => {
    const { topUpId, subscriberId, result } = await bought('card_decline');
    assert.deepEqual(result, { state: 'declined', declineCode: 'card_declined' });
    const [row] = await rig.db('top_ups').where({ id: topUpId });
    assert.equal(row.state, 'declined');
    assert.deepEqual(await walletBalances(rig.db, subscriberId), []);
  });

  it('declines at once when there is nothing to pay with', async () => {
    const { result } = await bought(null);
    assert.deepEqual(result, { state: 'declined', declineCode: 'payment_method_missing' });
  });

  for (const method of ['card_timeout', 'card_error_once'] as const) {
    it(`${method}: the same key is asked again, and the money is taken once`, async () => {
      const { topUpId, result } = await bought(method);
      assert.deepEqual(result, { state: 'granted' });
      const [row] = await rig.db('top_ups').where({ id: topUpId });
      assert.equal((await chargesOf(row.payment_id)).length, 1);
    });
  }

  it('card_slow: an outcome that is still open is looked up until it is known', async () => {
    const { topUpId, result } = await bought('card_slow');
    assert.deepEqual(result, { state: 'granted' });
    const [row] = await rig.db('top_ups').where({ id: topUpId });
    assert.equal((await chargesOf(row.payment_id)).length, 1);
  });

  it('looks an unknown outcome up when every answer was lost', async () => {
    weather = 'answers_are_lost';
    const { topUpId, result } = await bought('card_ok');
    assert.deepEqual(result, { state: 'granted' });
    const [row] = await rig.db('top_ups').where({ id: topUpId });
    assert.equal((await chargesOf(row.payment_id)).length, 1);
  });

  it('charges again under the same key when no request arrived', async () => {
    weather = 'requests_are_lost';
    setTimeout(() => {
      weather = 'clear';
    }, 1500);
    const { topUpId, result } = await bought('card_ok');
    assert.deepEqual(result, { state: 'granted' });
    const payments = await rig.db('payments').where({ business_key: `topup:${topUpId}` });
    assert.equal(payments.length, 1);
    assert.equal((await chargesOf(payments[0].id)).length, 1);
  });

  it('retries a declined invoice after 1, 3, 5 and 7 days, is past due, and recovers when a person asks', async () => {
    const { db } = rig;
    const planVersionId = await seedPlan(db, await seedWorld(db), {
      feeMinor: '2900',
      interval: { unit: 'month', count: 3 },
    });
    const subscriberId = await seedSubscriber(db, 'card_decline');
    const startAt = new Date((await environment.currentTimeMs()) + 60_000);
    const subscriptionId = await seedSubscription(db, { subscriberId, planVersionId, startAt });
    await rig.activate(subscriptionId);
    const [first] = await listPeriods(db, subscriptionId, ['open']);
    assert.ok(first);
    await sleepUntil(environment, first.endAt.getTime() + 17 * DAY_MS);
    await settledAt('past_due');
    const [invoice] = await db('invoices').where({ subscription_id: subscriptionId });
    assert.deepEqual([invoice.state, invoice.payment_status], ['open', 'failed']);
    const tried = await db('payments').where({ subscriber_id: subscriberId }).orderBy('updated_at');
    assert.deepEqual(
      tried.map((row) => row.business_key),
      [1, 2, 3, 4, 5].map((attempt) => `invoice:${invoice.id}:${attempt}`),
    );
    const atMs = tried.map((row) => Number(row.updated_at));
    assert.deepEqual(
      atMs.slice(1).map((ms, index) => Math.round((ms - (atMs[index] ?? 0)) / DAY_MS)),
      [1, 3, 5, 7],
    );

    await db('subscribers').where({ id: subscriberId }).update({ payment_method: 'card_ok' });
    const handle = rig.client.workflow.getHandle(workflowIds.collection(invoice.id));
    await handle.executeUpdate(collectionUpdates.retryNow);
    assert.deepEqual(await whileTimePasses(environment, handle.result()), { state: 'paid' });
    await settledAt('active');
    const [paid] = await db('invoices').where({ id: invoice.id });
    assert.deepEqual([paid.state, paid.payment_status], ['paid', 'succeeded']);

    async function settledAt(state: string): Promise<void> {
      await until(async () => {
        const [row] = await db('subscriptions').where({ id: subscriptionId });
        const [segment] = await db('segments')
          .where({ subscription_id: subscriptionId })
          .orderBy('from_at', 'desc')
          .limit(1);
        return row.state === state && segment.status === state ? true : null;
      });
    }
  });

  it('a payment that was recorded is not taken again by a second run of anything', async () => {
    const { topUpId } = await bought('card_ok');
    const before = await checksum(rig.db);
    // As after the retention of a closed workflow: the id is free again.
    const handle = await rig.client.workflow.start(topUp, {
      workflowId: `${workflowIds.topUp(topUpId)}/again`,
      taskQueue: taskQueues.workflows,
      args: [{ v: 1, topUpId }],
    });
    assert.deepEqual(await whileTimePasses(environment, handle.result()), { state: 'granted' });
    assert.equal(await checksum(rig.db), before);
  });
});
