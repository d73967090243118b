import assert from 'node:assert/strict';

import type { TestWorkflowEnvironment } from '@temporalio/testing';

import { inTransaction } from '../../store/db.ts';
import { listPeriods } from '../../store/periods.ts';
import { createTopUp } from '../../store/top-ups.ts';
import { ensureWallet, walletBalances } from '../../store/wallets.ts';
import { subscriptionUpdates, taskQueues, workflowIds } from '../../workflows/contracts.ts';
import { topUp } from '../../workflows/index.ts';
import { timeSkipping } from '../support/temporal.ts';
import {
  ofEnvironment,
  quietRuntime,
  type Rig,
  sleepUntil,
  startRig,
  whileTimePasses,
} from './support/rig.ts';
import {
  faultsOf,
  seedPlan,
  seedSubscriber,
  seedSubscription,
  seedWorld,
} from './support/world.ts';

/** As when a worker dies after each commit, before it could say so: every activity runs to its end, then again. */
describe('workflows › with every activity run twice', function () {
  this.timeout(120_000);
  let environment: TestWorkflowEnvironment;
  let rig: Rig;
  const repeated = new Set<string>();

  before(async () => {
    quietRuntime();
    environment = await timeSkipping();
    rig = await startRig(ofEnvironment(environment), {
      aroundActivity: {
        execute: async (input, next) => {
          await next(input);
          repeated.add(JSON.stringify(Object.keys(Object(input.args[0]))));
          return next(input);
        },
      },
    });
  });
  after(async () => {
    await rig.stop();
    await environment.teardown();
  });

  it('bills, collects, grants and cancels each thing once', async () => {
    const { db } = rig;
    const planVersionId = await seedPlan(db, await seedWorld(db), {
      feeMinor: '2900',
      credits: {
        unit: 'credit',
        included_micro: '1000000',
        overage: { enabled: true, credit_price: '0.03' },
        credit_price: null,
        burn: [],
      },
    });
    const subscriberId = await seedSubscriber(db, 'card_decline');
    const startAt = new Date(await environment.currentTimeMs());
    const subscriptionId = await seedSubscription(db, { subscriberId, planVersionId, startAt });
    await whileTimePasses(environment, rig.activate(subscriptionId));
    const handle = rig.client.workflow.getHandle(workflowIds.subscription(subscriptionId));
    const update = (name: string, args: unknown): Promise<unknown> =>
      whileTimePasses(
        environment,
        handle.executeUpdate<unknown, [unknown]>(name, { args: [args] }),
      );
    const [period] = await listPeriods(db, subscriptionId, ['open']);
    assert.ok(period);
    await update(subscriptionUpdates.setOverage, { enabled: false });
    await update(subscriptionUpdates.closePeriod, { periodId: period.id });
    await environment.sleep(10_000);
    await db('subscribers').where({ id: subscriberId }).update({ payment_method: 'card_ok' });
    await sleepUntil(environment, period.endAt.getTime() + 60_000);
    await update(subscriptionUpdates.cancel, { when: 'now' });
    await environment.sleep(10_000);
    await whileTimePasses(environment, handle.result());

    const { topUpId } = await inTransaction(db, async (tx) =>
      createTopUp(tx, {
        environment: 'test',
        subscriberId,
        walletId: await ensureWallet(tx, { subscriberId, unit: 'credit' }),
        creditsMicro: 5_000_000n,
        amountMinor: 500n,
        currency: 'USD',
        businessKey: 'request:1',
      }),
    );
    const bought = await rig.client.workflow.start(topUp, {
      workflowId: workflowIds.topUp(topUpId),
      taskQueue: taskQueues.workflows,
      args: [{ v: 1, topUpId }],
    });
    await whileTimePasses(environment, bought.result());

    assert.deepEqual(await faultsOf(db), []);
    const invoices = await db('invoices')
      .where({ subscriber_id: subscriberId })
      .orderBy('number_in_series')
      .select('kind', 'state', 'total_minor');
    assert.deepEqual(invoices, [
      { kind: 'period', state: 'paid', total_minor: 2900n },
      { kind: 'period', state: 'paid', total_minor: 0n },
      { kind: 'period', state: 'paid', total_minor: 2900n },
      { kind: 'top_up', state: 'paid', total_minor: 500n },
    ]);
    const payments = await db('payments').orderBy('created_at').select('state');
    assert.deepEqual(
      payments.map(({ state }) => state),
      ['declined', 'succeeded', 'succeeded', 'succeeded'],
    );
    const cash = await db.raw<{ rows: { sum: bigint }[] }>(
      `SELECT sum(e.amount)::numeric AS sum FROM ledger_entries e JOIN accounts a ON a.id = e.account_id WHERE a.kind = 'cash'`,
    );
    assert.equal(cash.rows[0]?.sum, 2900n + 2900n + 500n);
    const [wallet] = await walletBalances(db, subscriberId);
    // Three intervals' credits were granted (the third is taken back through the core log), and five were bought.
    assert.equal(wallet?.available, 8_000_000n);
    assert.deepEqual(
      (await db('core_log').select('verb'))
        .map(({ verb }) => verb)
        .toSorted((a, b) => (a < b ? -1 : 1)),
      ['grant', 'grant', 'grant', 'grant', 'void'],
    );
    assert.ok(repeated.size > 0);
  });
});
