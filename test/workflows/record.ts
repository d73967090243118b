/**
 * Records the histories that `replay.test.ts` replays: `node test/workflows/record.ts`. Record again, and say so in the
 * change, only when a workflow may no longer be replayed from its old histories: running subscriptions have such ones.
 */
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

import type { WorkflowHandle } from '@temporalio/client';
import { historyToJSON } from '@temporalio/common/lib/proto-utils.js';
import type { TestWorkflowEnvironment } from '@temporalio/testing';

import { ProviderFault } from '../../payments/port.ts';
import { issueCreditNote } from '../../store/credit-notes.ts';
import { inTransaction } from '../../store/db.ts';
import { newId } from '../../store/ids.ts';
import { listPeriods, type Period } from '../../store/periods.ts';
import { beginTakeBack } from '../../store/take-backs.ts';
import { createTopUp } from '../../store/top-ups.ts';
import { ensureWallet } from '../../store/wallets.ts';
import {
  collectionUpdates,
  subscriptionUpdates,
  taskQueues,
  workflowIds,
} from '../../workflows/contracts.ts';
import { refund, takeBack, topUp } from '../../workflows/index.ts';
import { buyCredits, shardAnswers } from '../store/top-up-stage.ts';
import { mochaHooks } from '../support/at-end.ts';
import { timeSkipping } from '../support/temporal.ts';
import {
  ofEnvironment,
  quietRuntime,
  type Rig,
  sleepUntil,
  startRig,
  whileTimePasses,
} from './support/rig.ts';
import { seedPlan, seedSubscriber, seedSubscription, seedWorld } from './support/world.ts';

const folder = fileURLToPath(new URL('./histories', import.meta.url));
const DAY_MS = 86_400_000;

const weather = { areAnswersLost: false };
const seals = [
  { kind: 'not_over', nowMs: 0 },
  { kind: 'open_holds', count: 2, lastExpiryMs: 0 },
] as const;
let asked = 0;

async function save(handle: WorkflowHandle, type: string, scenario: string): Promise<void> {
  const history = historyToJSON(await handle.fetchHistory());
  const { events } = JSON.parse(history, (name, value: unknown) => {
    // Who ran it and from where is of no interest, and is no matter for a repository.
    if (typeof value !== 'string') return value;
    if (/identity|requestId|workerVersion/i.test(name)) return 'worker';
    return name === 'stackTrace' ? '' : value;
  });
  mkdirSync(join(folder, type), { recursive: true });
  writeFileSync(join(folder, type, `${scenario}.json`), `${JSON.stringify({ events })}\n`);
  console.log(`${type}/${scenario}: ${events.length} events`);
}

async function main(environment: TestWorkflowEnvironment, rig: Rig): Promise<void> {
  const subscriptionId = await recordSubscription(environment, rig);
  const { client, db } = rig;
  await save(
    client.workflow.getHandle(workflowIds.periodClose(subscriptionId, 0)),
    'periodClose',
    'holds-then-paid',
  );
  const [invoice] = await db('invoices').where({ subscription_id: subscriptionId });
  await save(
    client.workflow.getHandle(workflowIds.collection(invoice.id)),
    'collection',
    'paid-at-once',
  );
  const [payment] = await db('payments').where({ business_key: `invoice:${invoice.id}:1` });
  await save(client.workflow.getHandle(workflowIds.payment(payment.id)), 'payment', 'succeeded');
  await recordDunning(environment, rig);
  await recordTopUps(environment, rig);
  await recordPlanChanges(environment, rig);
  await recordRefund(environment, rig, invoice.id);
  await recordTakeBacks(environment, rig);
}

async function started(
  rig: Rig,
  environment: TestWorkflowEnvironment,
  method: string,
): Promise<{ readonly subscriptionId: string; readonly period: Period }> {
  const planVersionId = await seedPlan(rig.db, await seedWorld(rig.db), {
    feeMinor: '2900',
    credits: {
      unit: 'credit',
      included_micro: '1000000',
      overage: { enabled: true, credit_price: '0.03' },
      credit_price: null,
      burn: [],
    },
  });
  const subscriberId = await seedSubscriber(rig.db, method);
  const subscriptionId = await seedSubscription(rig.db, { subscriberId, planVersionId });
  await whileTimePasses(environment, rig.activate(subscriptionId));
  const [period] = await listPeriods(rig.db, subscriptionId, ['open']);
  if (period === undefined) throw new Error('no period is open');
  return { subscriptionId, period };
}

/** Overage off, close now, a refused command, a rollover that continues as new; then, in the next run, a cancellation. */
async function recordSubscription(environment: TestWorkflowEnvironment, rig: Rig): Promise<string> {
  const { subscriptionId, period } = await started(rig, environment, 'card_ok');
  const id = workflowIds.subscription(subscriptionId);
  const update = (name: string, args: unknown): Promise<unknown> =>
    whileTimePasses(
      environment,
      rig.client.workflow.getHandle(id).executeUpdate<unknown, [unknown]>(name, { args: [args] }),
    );
  await update(subscriptionUpdates.setOverage, { enabled: false });
  await update(subscriptionUpdates.closePeriod, { periodId: 'per_none' }).catch(() => undefined);
  await update(subscriptionUpdates.closePeriod, { periodId: period.id });
  await environment.sleep('1 minute');
  const first = rig.client.workflow.getHandle(
    id,
    (await rig.client.workflow.getHandle(id).describe()).runId,
  );
  await sleepUntil(environment, period.endAt.getTime() + DAY_MS);
  await save(first, 'subscription', 'close-now-and-rollover');
  await update(subscriptionUpdates.cancel, { when: 'now' });
  await environment.sleep('1 minute');
  await save(rig.client.workflow.getHandle(id), 'subscription', 'carried-over-and-canceled');
  return subscriptionId;
}

/** A subscription that begins later, an upgrade, a refused change, a planned one that is taken back, one that holds. */
async function recordPlanChanges(environment: TestWorkflowEnvironment, rig: Rig): Promise<void> {
  const world = await seedWorld(rig.db);
  const [small, large] = [
    await seedPlan(rig.db, world, { feeMinor: '1000', billIn: 'advance' }),
    await seedPlan(rig.db, world, { feeMinor: '3000', billIn: 'advance' }),
  ];
  const startMs = (await environment.currentTimeMs()) + DAY_MS;
  const subscriptionId = await seedSubscription(rig.db, {
    subscriberId: await seedSubscriber(rig.db, 'card_ok'),
    planVersionId: small,
    startAt: new Date(startMs),
  });
  await whileTimePasses(environment, rig.activate(subscriptionId));
  await sleepUntil(environment, startMs + DAY_MS);
  const handle = rig.client.workflow.getHandle(workflowIds.subscription(subscriptionId));
  const update = (name: string, args: unknown): Promise<unknown> =>
    whileTimePasses(environment, handle.executeUpdate<unknown, [unknown]>(name, { args: [args] }));
  const change = async (planVersionId: string): Promise<string> => {
    const changeId = newId('pch');
    await update(subscriptionUpdates.changePlan, { changeId, planVersionId, when: 'default' });
    return changeId;
  };
  await change(large);
  await change(large).catch(() => undefined);
  const changeId = await change(small);
  await update(subscriptionUpdates.cancelPlanChange, { changeId });
  await change(small);
  const first = rig.client.workflow.getHandle(handle.workflowId, (await handle.describe()).runId);
  await sleepUntil(environment, startMs + 40 * DAY_MS);
  await save(first, 'subscription', 'begins-later-and-changes-plans');
  await update(subscriptionUpdates.cancel, { when: 'now', prorate: true });
  await environment.sleep('1 minute');
  await save(handle, 'subscription', 'canceled-and-prorated');
}

/** The whole of a paid invoice goes back to the card. */
async function recordRefund(
  environment: TestWorkflowEnvironment,
  rig: Rig,
  invoiceId: string,
): Promise<void> {
  const issued = await inTransaction(rig.db, (tx) =>
    issueCreditNote(tx, {
      invoiceId,
      businessKey: `refund:${invoiceId}`,
      request: { kind: 'full' },
      reason: 'mistake',
      to: 'refund',
      actor: 'record',
      at: new Date(),
    }),
  );
  if (issued.kind !== 'issued' || issued.refundId === null) throw new Error('nothing to refund');
  const { refundId } = issued;
  const handle = await rig.client.workflow.start(refund, {
    workflowId: workflowIds.refund(refundId),
    taskQueue: taskQueues.workflows,
    args: [{ v: 1, refundId }],
  });
  await whileTimePasses(environment, handle.result());
  await save(handle, 'refund', 'succeeded');
}

/** Credits of a top-up are taken back for money, after the shard has been waited for; and once there are none. */
async function recordTakeBacks(environment: TestWorkflowEnvironment, rig: Rig): Promise<void> {
  for (const scenario of ['credited', 'refused'] as const) {
    const subscriberId = await seedSubscriber(rig.db, 'card_ok');
    const { invoiceId } = await buyCredits(rig.db, subscriberId, { credits: 100, minor: 1000n });
    const begun = await inTransaction(rig.db, (tx) =>
      beginTakeBack(tx, {
        ...{ invoiceId, businessKey: `note:${invoiceId}`, wish: { kind: 'all' }, to: 'refund' },
        ...{ reason: 'goodwill', actor: 'record', onShard: null },
      }),
    );
    if (begun.kind === 'refused') throw new Error(begun.code);
    const { takeBackId } = begun;
    const handle = await rig.client.workflow.start(takeBack, {
      workflowId: workflowIds.takeBack(takeBackId),
      taskQueue: taskQueues.workflows,
      args: [{ v: 1, takeBackId }],
    });
    await environment.sleep('5 seconds');
    await shardAnswers(rig.db, takeBackId, (wanted) => (scenario === 'credited' ? wanted : 0n));
    await whileTimePasses(environment, handle.result());
    await save(handle, 'takeBack', scenario);
  }
}

async function recordDunning(environment: TestWorkflowEnvironment, rig: Rig): Promise<void> {
  const { subscriptionId, period } = await started(rig, environment, 'card_decline');
  await sleepUntil(environment, period.endAt.getTime() + 20 * DAY_MS);
  const [invoice] = await rig.db('invoices').where({ subscription_id: subscriptionId });
  const handle = rig.client.workflow.getHandle(workflowIds.collection(invoice.id));
  await rig
    .db('subscribers')
    .where({ id: invoice.subscriber_id })
    .update({ payment_method: 'card_ok' });
  await handle.executeUpdate(collectionUpdates.retryNow);
  await whileTimePasses(environment, handle.result());
  await save(handle, 'collection', 'declined-past-due-paid');
  const [declined] = await rig.db('payments').where({ business_key: `invoice:${invoice.id}:1` });
  await save(
    rig.client.workflow.getHandle(workflowIds.payment(declined.id)),
    'payment',
    'declined',
  );
  await rig.client.workflow.getHandle(workflowIds.subscription(subscriptionId)).terminate();
}

async function recordTopUps(environment: TestWorkflowEnvironment, rig: Rig): Promise<void> {
  for (const [method, scenario] of [
    ['card_ok', 'granted'],
    ['card_decline', 'declined'],
    ['card_ok', 'looked-up'],
  ] as const) {
    weather.areAnswersLost = scenario === 'looked-up';
    const subscriberId = await seedSubscriber(rig.db, method);
    const { topUpId } = await inTransaction(rig.db, async (tx) =>
      createTopUp(tx, {
        environment: 'test',
        subscriberId,
        walletId: await ensureWallet(tx, { subscriberId, unit: 'credit' }),
        creditsMicro: 1_000_000n,
        amountMinor: 100n,
        currency: 'USD',
        businessKey: `request:${subscriberId}`,
      }),
    );
    const handle = await rig.client.workflow.start(topUp, {
      workflowId: workflowIds.topUp(topUpId),
      taskQueue: taskQueues.workflows,
      args: [{ v: 1, topUpId }],
    });
    await whileTimePasses(environment, handle.result());
    if (!weather.areAnswersLost) {
      await save(handle, 'topUp', scenario);
      continue;
    }
    const [payment] = await rig.db('payments').where({ business_key: `topup:${topUpId}` });
    await save(
      rig.client.workflow.getHandle(workflowIds.payment(payment.id)),
      'payment',
      'unknown-then-looked-up',
    );
  }
}

quietRuntime();
const environment = await timeSkipping();
const rig = await startRig(ofEnvironment(environment), {
  ports: {
    shards: {
      seal: () => {
        const answer = seals[asked];
        asked += 1;
        return Promise.resolve(
          answer ?? { kind: 'sealed', shard: 'shard-1', incarnation: 1, streamId: '1-0' },
        );
      },
    },
    throughPayments: (provider) => ({
      ...provider,
      charge: async (request) => {
        const outcome = await provider.charge(request);
        if (weather.areAnswersLost) throw new ProviderFault('unavailable', 'the answer was lost');
        return outcome;
      },
    }),
  },
});
try {
  await main(environment, rig);
} finally {
  await rig.stop();
  await environment.teardown();
  await mochaHooks.afterAll();
}
