import assert from 'node:assert/strict';

import { Client, Connection } from '@temporalio/client';
import { NativeConnection } from '@temporalio/worker';

import { reconcile } from '../../activities/reconcile.ts';
import { countActions } from '../../bench/actions.ts';
import {
  runningWorkflowIds,
  startWorkflowWith,
  workflowIdOf,
} from '../../bin/worker-parts/start-workflow.ts';
import { listPeriods, type Period } from '../../store/periods.ts';
import {
  type ClosePeriodReply,
  subscriptionUpdates,
  workflowIds,
} from '../../workflows/contracts.ts';
import { devServer, type TestTemporal } from '../support/temporal.ts';
import { until } from '../support/until.ts';
import { quietRuntime, type Rig, startRig } from './support/rig.ts';
import {
  faultsOf,
  seedPlan,
  seedSubscriber,
  seedSubscription,
  seedWorld,
} from './support/world.ts';

const HOUR_MS = 3_600_000;

/** On a real server: what its list shows, and what survives its end. */
describe('workflows › on a server', function () {
  this.timeout(120_000);
  let server: TestTemporal;
  let connection: NativeConnection;
  let clientConnection: Connection;
  let rig: Rig;
  let isDrained = true;

  before(async () => {
    quietRuntime();
    server = await devServer();
    connection = await NativeConnection.connect({ address: server.address });
    clientConnection = await Connection.connect({ address: server.address });
    const client = new Client({ connection: clientConnection, namespace: server.namespace });
    rig = await startRig(
      { client, connection, namespace: server.namespace },
      {
        ports: {
          isDrained: () => Promise.resolve(isDrained),
        },
      },
    );
  });
  after(async () => {
    await rig.stop();
    await clientConnection.close();
    await connection.close();
    await server.stop();
  });
  afterEach(async () => {
    assert.deepEqual(await faultsOf(rig.db), []);
  });

  type Subscribed = {
    readonly subscriptionId: string;
    readonly subscriberId: string;
    readonly period: Period;
  };

  /** By the hour; the first period is what is left of an hour that ends in `leftMs`. */
  async function subscribed(leftMs: number): Promise<Subscribed> {
    const planVersionId = await seedPlan(rig.db, await seedWorld(rig.db), {
      feeMinor: '2900',
      interval: { unit: 'hour', count: 1 },
    });
    const subscriberId = await seedSubscriber(rig.db, 'card_ok');
    const startAt = new Date(Date.now() - HOUR_MS + leftMs);
    const subscriptionId = await seedSubscription(rig.db, { subscriberId, planVersionId, startAt });
    await rig.deps.startWorkflow({
      kind: 'subscription',
      subscriptionId,
      activate: false,
      summary: { subscriberName: 'Ada', planName: 'Pro' },
    });
    await rig.activate(subscriptionId);
    const [period] = await listPeriods(rig.db, subscriptionId, ['open']);
    assert.ok(period);
    return { subscriptionId, subscriberId, period };
  }

  /** What the list of the Temporal UI finds. */
  async function found(query: string): Promise<readonly string[]> {
    const ids: string[] = [];
    for await (const { workflowId } of rig.client.workflow.list({ query })) ids.push(workflowId);
    return ids;
  }

  it('finds a subscription by subscriber, plan, state and next action', async () => {
    const { subscriptionId, subscriberId, period } = await subscribed(HOUR_MS - 1000);
    const id = workflowIds.subscription(subscriptionId);
    await until(async () => {
      const ids = await found(`SubscriberId="${subscriberId}" AND BillingState="active"`);
      return ids.includes(id) ? ids : null;
    });
    // First it is the beginning of the first period, two seconds ahead; then its end.
    const described = await until(async () => {
      const now = await rig.client.workflow.getHandle(id).describe();
      const [next] = now.searchAttributes['NextActionAt'] ?? [];
      return String(next) === String(period.endAt) ? now : null;
    });
    assert.deepEqual(described.searchAttributes['PeriodSeq'], [0]);
    assert.equal(await described.staticSummary(), 'Ada · Pro');
    const by = new Date(period.endAt.getTime() + 1000).toISOString();
    assert.ok((await found(`NextActionAt < "${by}"`)).includes(id));
  });

  it('finds a close by its invoice, its collection too, and says in the list how they have ended', async () => {
    const { subscriptionId, subscriberId, period } = await subscribed(HOUR_MS - 1000);
    const handle = rig.client.workflow.getHandle(workflowIds.subscription(subscriptionId));
    const { closeWorkflowId } = await handle.executeUpdate<ClosePeriodReply, [unknown]>(
      subscriptionUpdates.closePeriod,
      { args: [{ periodId: period.id }] },
    );
    const close = rig.client.workflow.getHandle(closeWorkflowId);
    const { invoiceId } = await close.result();
    const collect = workflowIds.collection(invoiceId);
    await rig.client.workflow.getHandle(collect).result();
    const ids = await until(async () => {
      const seen = await found(`InvoiceId="${invoiceId}" AND ExecutionStatus="Completed"`);
      return seen.length === 2 ? seen : null;
    });
    assert.deepEqual(new Set(ids), new Set([closeWorkflowId, collect]));
    const described = await close.describe();
    assert.deepEqual(described.searchAttributes['CloseStep'], ['done']);
    assert.equal(await described.staticSummary(), 'Close period 0 of Ada');
    const [payment] = await rig.db('payments').where({ subscriber_id: subscriberId });
    const pay = await rig.client.workflow.getHandle(workflowIds.payment(payment.id)).describe();
    assert.match((await pay.staticSummary()) ?? '', /^Pay INV-\d{4}-\d{4}$/);
    // The start of each says whom and what it is for: only the end is written, once.
    for (const id of [closeWorkflowId, collect, workflowIds.payment(payment.id)]) {
      const handleOf = rig.client.workflow.getHandle(id);
      const { searchAttributes } = await handleOf.describe();
      assert.deepEqual(searchAttributes['SubscriberId'], [subscriberId]);
      assert.equal((await countActions(rig.client, id, 0)).attribute_upserts, 1, id);
    }
  });

  it('finds a close by what it waits for', async () => {
    const { subscriptionId, subscriberId, period } = await subscribed(HOUR_MS - 1000);
    isDrained = false;
    const handle = rig.client.workflow.getHandle(workflowIds.subscription(subscriptionId));
    const { closeWorkflowId } = await handle.executeUpdate<ClosePeriodReply, [unknown]>(
      subscriptionUpdates.closePeriod,
      { args: [{ periodId: period.id }] },
    );
    const ids = await until(async () => {
      const seen = await found(`SubscriberId="${subscriberId}" AND CloseStep="draining"`);
      return seen.length > 0 ? seen : null;
    });
    assert.deepEqual(ids, [closeWorkflowId]);
    isDrained = true;
    await rig.client.workflow.getHandle(closeWorkflowId).result();
  });

  it('says in its details what it waits for, as long as a worker lives', async () => {
    const { subscriptionId, period } = await subscribed(HOUR_MS - 1000);
    const handle = rig.client.workflow.getHandle(workflowIds.subscription(subscriptionId));
    const details = JSON.stringify(await handle.query('__temporal_workflow_metadata'));
    const end = period.endAt.toISOString().slice(0, 19).replace('T', ' ');
    assert.match(details, new RegExp(`\\[ \\] Next: Period 0 ends at ${end}Z`));
  });

  it('rolls over late, at the same boundary, when the server was down across it', async () => {
    const { subscriptionId, period } = await subscribed(7000);
    await server.kill9();
    await until(() => (Date.now() > period.endAt.getTime() + 1000 ? true : null));
    await server.restart();
    await until(
      async () => {
        const [invoice] = await rig.db('invoices').where({ period_id: period.id });
        return invoice?.state === 'paid' ? true : null;
      },
      { withinMs: 90_000 },
    );
    const periods = await listPeriods(rig.db, subscriptionId);
    assert.deepEqual(
      periods.map(({ state, endAt }) => [state, endAt.getTime()]),
      ['closed', 'open', 'scheduled', 'scheduled'].map((state, index) => [
        state,
        period.endAt.getTime() + index * HOUR_MS,
      ]),
    );
    // The static summary does not survive continue-as-new; what the list is searched by does.
    const described = await rig.client.workflow
      .getHandle(workflowIds.subscription(subscriptionId))
      .describe();
    assert.deepEqual(described.searchAttributes['SubscriptionId'], [subscriptionId]);
    assert.deepEqual(described.searchAttributes['PeriodSeq'], [1]);
    // The run that goes on was started with it, and was told nothing: the invoice is paid.
    const { events } = await rig.client.workflow
      .getHandle(described.workflowId, described.runId)
      .fetchHistory();
    assert.ok(events);
    assert.ok(events.some((event) => event.timerStartedEventAttributes));
    const isAction = (event: NonNullable<typeof events>[number]): boolean =>
      Boolean(event.upsertWorkflowSearchAttributesEventAttributes) ||
      Boolean(event.workflowExecutionSignaledEventAttributes) ||
      Boolean(event.activityTaskScheduledEventAttributes);
    assert.equal(events.some(isAction), false);
  });

  const reconciled = (): Promise<number> =>
    reconcile(
      {
        db: rig.db,
        startWorkflow: startWorkflowWith(rig.client),
        idOf: workflowIdOf,
        runningIds: () => runningWorkflowIds(rig.client),
      },
      new Date(Date.now() + 120_000),
    );

  const isRunning = async (id: string): Promise<boolean> =>
    (await runningWorkflowIds(rig.client)).has(id);

  it('starts a subscription again that somebody terminated', async () => {
    const { subscriptionId } = await subscribed(HOUR_MS - 1000);
    const id = workflowIds.subscription(subscriptionId);
    await rig.client.workflow.getHandle(id).terminate();
    await until(async () => ((await isRunning(id)) ? null : true));
    await reconciled();
    await until(async () => ((await isRunning(id)) ? true : null));
    assert.equal(await reconciled(), 0);
  });

  it('finishes a close that somebody terminated, with one invoice', async () => {
    const { subscriptionId, period } = await subscribed(HOUR_MS - 1000);
    isDrained = false;
    const handle = rig.client.workflow.getHandle(workflowIds.subscription(subscriptionId));
    const { closeWorkflowId } = await handle.executeUpdate<ClosePeriodReply, [unknown]>(
      subscriptionUpdates.closePeriod,
      { args: [{ periodId: period.id }] },
    );
    await until(async () => ((await isRunning(closeWorkflowId)) ? true : null));
    await rig.client.workflow.getHandle(closeWorkflowId).terminate();
    await until(async () => ((await isRunning(closeWorkflowId)) ? null : true));
    isDrained = true;
    await reconciled();
    const { invoiceId } = await rig.client.workflow.getHandle(closeWorkflowId).result();
    const [invoice] = await rig.db('invoices').where({ id: invoiceId });
    assert.equal(invoice.period_id, period.id);
  });
});
