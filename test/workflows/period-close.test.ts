import assert from 'node:assert/strict';

import { activityInfo } from '@temporalio/activity';
import { ApplicationFailure } from '@temporalio/common';
import type { TestWorkflowEnvironment } from '@temporalio/testing';

import type { SealResult } from '../../shards/port.ts';
import { listPeriods } from '../../store/periods.ts';
import {
  type PeriodCloseInput,
  type PeriodCloseResult,
  retryStep,
  taskQueues,
  workflowIds,
} from '../../workflows/contracts.ts';
import { periodClose } from '../../workflows/index.ts';
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

const sealed = {
  kind: 'sealed',
  shard: 'shard-1',
  incarnation: 1,
  streamId: '7-1',
} as const satisfies SealResult;

describe('workflows/periodClose', function () {
  this.timeout(120_000);
  let environment: TestWorkflowEnvironment;
  let rig: Rig;
  /** What the shard and the drain answer next; the last one stays. */
  let seals: (SealResult | Error)[] = [sealed];
  let drained: boolean[] = [true];
  const asked: string[] = [];
  /** The period that the test is about: subscriptions of earlier tests go on. */
  let watched = '';
  let isPostgresAway = false;

  before(async () => {
    quietRuntime();
    environment = await timeSkipping();
    rig = await startRig(ofEnvironment(environment), {
      cachedWorkflowsMax: 0,
      aroundActivity: {
        execute: async (input, next) => {
          const isAsked = JSON.stringify(input.args).includes(watched);
          if (isPostgresAway && isAsked && activityInfo().activityType === 'invoicePeriod') {
            throw new Error('Postgres is away');
          }
          return next(input);
        },
      },
      ports: {
        shards: {
          seal: ({ periodId }) => {
            if (periodId !== watched) return Promise.resolve({ ...sealed, streamId: '0-1' });
            asked.push('seal');
            const answer = seals.length > 1 ? seals.shift() : seals[0];
            if (answer instanceof Error || answer === undefined) return Promise.reject(answer);
            return Promise.resolve(answer);
          },
        },
        isDrained: (mark) => {
          if (mark.streamId === '0-1') return Promise.resolve(true);
          asked.push(`drained ${mark.shard} ${mark.incarnation} ${mark.streamId}`);
          return Promise.resolve((drained.length > 1 ? drained.shift() : drained[0]) ?? false);
        },
      },
    });
  });
  after(async () => {
    await rig.stop();
    await environment.teardown();
  });
  beforeEach(() => {
    seals = [sealed];
    drained = [true];
    asked.length = 0;
  });
  afterEach(async () => {
    assert.deepEqual(await faultsOf(rig.db), []);
  });

  type Ended = {
    readonly subscriptionId: string;
    readonly periodId: string;
    readonly endMs: number;
  };

  /** A subscription whose first period has just ended. */
  async function ended(feeMinor: string): Promise<Ended> {
    const planVersionId = await seedPlan(rig.db, await seedWorld(rig.db), { feeMinor });
    const subscriberId = await seedSubscriber(rig.db, 'card_ok');
    const startAt = new Date((await environment.currentTimeMs()) + 60_000);
    const subscriptionId = await seedSubscription(rig.db, { subscriberId, planVersionId, startAt });
    await rig.activate(subscriptionId);
    const [period] = await listPeriods(rig.db, subscriptionId, ['open']);
    assert.ok(period);
    watched = period.id;
    await sleepUntil(environment, period.endAt.getTime() + 1000);
    return { subscriptionId, periodId: period.id, endMs: period.endAt.getTime() };
  }

  function resultOf(subscriptionId: string): Promise<PeriodCloseResult> {
    const id = workflowIds.periodClose(subscriptionId, 0);
    // The subscription starts it by itself.
    const found = until(async () => {
      const handle = rig.client.workflow.getHandle<typeof periodClose>(id);
      return handle.describe().then(
        () => handle,
        () => null,
      );
    });
    return whileTimePasses(
      environment,
      found.then((handle) => handle.result()),
    );
  }

  it('asks the shard to seal, waits for the drain, and issues the invoice', async () => {
    const { subscriptionId, periodId } = await ended('2900');
    const { invoiceId } = await resultOf(subscriptionId);
    assert.deepEqual(asked.slice(0, 2), ['seal', 'drained shard-1 1 7-1']);
    const [invoice] = await rig.db('invoices').where({ id: invoiceId });
    assert.deepEqual([invoice.period_id, invoice.total_minor], [periodId, 2900n]);
  });

  it('ends without an invoice when the period is taken back, even after the close has begun', async () => {
    seals = [{ kind: 'not_over', nowMs: 0 }];
    const { subscriptionId, periodId } = await ended('2900');
    const closing = resultOf(subscriptionId);
    await until(() => (asked.includes('seal') ? true : null));
    // As the projector does with a period that its shard has missed.
    await rig.db('periods').where({ id: periodId }).update({ state: 'void' });
    seals = [sealed];
    assert.deepEqual(await closing, { periodId, invoiceId: null });
    assert.equal(await rig.db('invoices').where({ period_id: periodId }).first(), undefined);
  });

  it('waits for requests that are under way, and for a shard that has not come to the boundary', async () => {
    seals = [
      { kind: 'not_over', nowMs: 0 },
      { kind: 'open_holds', count: 3, lastExpiryMs: (await environment.currentTimeMs()) + 240_000 },
      { kind: 'open_holds', count: 1, lastExpiryMs: 0 },
      sealed,
    ];
    const { subscriptionId } = await ended('2900');
    await resultOf(subscriptionId);
    assert.deepEqual(asked.filter((what) => what === 'seal').length, 4);
  });

  it('does not invoice before the usage is in Postgres', async () => {
    drained = [false];
    const { subscriptionId, periodId } = await ended('2900');
    await until(() => (asked.length > 5 ? true : null));
    assert.deepEqual(await rig.db('invoices').where({ period_id: periodId }), []);
    drained = [true];
    const { invoiceId } = await resultOf(subscriptionId);
    assert.notEqual(invoiceId, null);
  });

  it('issues an invoice of zero, paid, for a period without anything to pay', async () => {
    const { subscriptionId } = await ended('0');
    const { invoiceId } = await resultOf(subscriptionId);
    const [invoice] = await rig.db('invoices').where({ id: invoiceId });
    assert.deepEqual([invoice.state, invoice.total_minor], ['paid', 0n]);
    assert.deepEqual(await rig.db('payments').where({ subscriber_id: invoice.subscriber_id }), []);
  });

  it('waits for a person when a step fails for good, and goes on when it is mended', async () => {
    seals = [ApplicationFailure.nonRetryable('the shard is of another make', 'strange')];
    const { subscriptionId } = await ended('2900');
    const handle = rig.client.workflow.getHandle(workflowIds.periodClose(subscriptionId, 0));
    await until(async () => {
      const { searchAttributes } = await handle.describe().catch(() => ({ searchAttributes: {} }));
      return 'NeedsAttention' in searchAttributes ? searchAttributes : null;
    });
    const { searchAttributes } = await handle.describe();
    assert.deepEqual(searchAttributes['NeedsAttention'], [true]);
    assert.deepEqual(searchAttributes['AttentionReason'], ['Seal: the shard is of another make']);
    seals = [sealed];
    const said = await handle.executeUpdate<string, []>(retryStep);
    assert.equal(said, 'Seal: the shard is of another make');
    await whileTimePasses(environment, handle.result());
    assert.deepEqual((await handle.describe()).searchAttributes['NeedsAttention'], [false]);
  });

  it('announces a step that lasts, and what it waits for', async () => {
    drained = [false];
    const { subscriptionId } = await ended('2900');
    const handle = rig.client.workflow.getHandle(workflowIds.periodClose(subscriptionId, 0));
    const announced = (step: string): Promise<true> =>
      whileTimePasses(
        environment,
        until(async () => {
          const { searchAttributes } = await handle.describe();
          return searchAttributes['CloseStep']?.[0] === step ? true : null;
        }),
      );
    await announced('draining');
    isPostgresAway = true;
    drained = [true];
    await announced('invoicing');
    isPostgresAway = false;
    await whileTimePasses(environment, handle.result());
    await announced('done');
  });

  it('run a second time, as after retention, changes no row', async () => {
    const { subscriptionId, periodId } = await ended('2900');
    const first = await resultOf(subscriptionId);
    await until(async () => {
      const open = await rig.db('invoices').where({ state: 'open' });
      const closing = await rig.db('periods').where({ state: 'closing' });
      return open.length + closing.length === 0 ? true : null;
    });
    const before = await checksum(rig.db);
    const input: PeriodCloseInput = { v: 1, subscriptionId, periodId, periodSeq: 0 };
    const again = await rig.client.workflow.start(periodClose, {
      workflowId: `${workflowIds.periodClose(subscriptionId, 0)}/again`,
      taskQueue: taskQueues.workflows,
      args: [input],
    });
    assert.deepEqual(await again.result(), first);
    assert.equal(await checksum(rig.db), before);
  });
});
