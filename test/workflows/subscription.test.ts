import assert from 'node:assert/strict';

import { activityInfo } from '@temporalio/activity';
import { WithStartWorkflowOperation, WorkflowUpdateFailedError } from '@temporalio/client';
import { ApplicationFailure } from '@temporalio/common';
import type { TestWorkflowEnvironment } from '@temporalio/testing';

import type { CreditTerms } from '../../billing/plan.ts';
import { listPeriods, type Period } from '../../store/periods.ts';
import { readSubscription } from '../../store/subscriptions.ts';
import { upcomingInvoice } from '../../store/usage-summary.ts';
import {
  type CancelReply,
  type ClosePeriodReply,
  type SetOverageReply,
  subscriptionSignals,
  subscriptionUpdates,
  taskQueues,
  workflowIds,
  workflowTypes,
} from '../../workflows/contracts.ts';
import { timeSkipping } from '../support/temporal.ts';
import { until } from '../support/until.ts';
import { ofEnvironment, quietRuntime, type Rig, sleepUntil, startRig } from './support/rig.ts';
import {
  checksum,
  faultsOf,
  type PlanTerms,
  seedPlan,
  seedSubscriber,
  seedSubscription,
  seedUsage,
  seedWorld,
  type World,
} from './support/world.ts';

const byText = (a: string, b: string): number => a.localeCompare(b);

const credits: CreditTerms = {
  unit: 'credit',
  included_micro: '1000000000',
  overage: { enabled: true, credit_price: '0.03' },
  credit_price: '0.05',
  burn: [],
};

describe('workflows/subscription', function () {
  this.timeout(120_000);
  let environment: TestWorkflowEnvironment;
  let rig: Rig;
  let world: World;
  const nothing = (): Promise<void> => Promise.resolve();
  /** What happens while a rollover is under way. */
  let afterRoll: (args: readonly unknown[]) => Promise<void> = nothing;

  before(async () => {
    quietRuntime();
    environment = await timeSkipping();
    rig = await startRig(ofEnvironment(environment), {
      // Every workflow task replays its whole history: what is not deterministic fails here.
      cachedWorkflowsMax: 0,
      aroundActivity: {
        execute: async (input, next) => {
          const result = await next(input);
          if (activityInfo().activityType === 'rollSubscription') await afterRoll(input.args);
          return result;
        },
      },
    });
    world = await seedWorld(rig.db);
  });
  after(async () => {
    await rig.stop();
    await environment.teardown();
  });
  afterEach(async () => {
    assert.deepEqual(await faultsOf(rig.db), []);
  });

  /** A product of its own for each test, so that each has the world to itself. */
  async function subscribed(terms: PlanTerms): Promise<string> {
    const planVersionId = await seedPlan(rig.db, await seedWorld(rig.db), terms);
    const subscriberId = await seedSubscriber(rig.db, 'card_ok');
    const subscriptionId = await seedSubscription(rig.db, {
      subscriberId,
      planVersionId,
      startAt: new Date(await environment.currentTimeMs()),
    });
    await rig.activate(subscriptionId);
    return subscriptionId;
  }

  function updated<R>(
    subscriptionId: string,
    name: string,
    of: { readonly args: unknown; readonly id: string },
  ): Promise<R> {
    const handle = rig.client.workflow.getHandle(workflowIds.subscription(subscriptionId));
    return handle.executeUpdate<R, [unknown]>(name, { args: [of.args], updateId: of.id });
  }

  async function openPeriod(subscriptionId: string): Promise<Period> {
    const [period] = await listPeriods(rig.db, subscriptionId, ['open']);
    assert.ok(period);
    return period;
  }

  async function closed(subscriptionId: string, count: number): Promise<void> {
    await until(async () => {
      const done = await listPeriods(rig.db, subscriptionId, ['closed']);
      return done.length >= count ? done : null;
    });
  }

  it('activates once: a second activation answers the same and changes no row', async () => {
    const subscriptionId = await subscribed({ feeMinor: '2900' });
    const before = await checksum(rig.db);
    const handle = rig.client.workflow.getHandle(workflowIds.subscription(subscriptionId));
    const again = await handle.executeUpdate(subscriptionUpdates.activate, { updateId: 'other' });
    assert.deepEqual(again, { state: 'active', periodId: (await openPeriod(subscriptionId)).id });
    assert.equal(await checksum(rig.db), before);
    assert.deepEqual(
      (await listPeriods(rig.db, subscriptionId)).map(({ seq, state }) => [seq, state]),
      [
        [0, 'open'],
        [1, 'scheduled'],
        [2, 'scheduled'],
      ],
    );
  });

  it('closes a period now: fee and included units once, and the rest of the interval at the same prices', async () => {
    const planVersionId = await seedPlan(rig.db, world, {
      feeMinor: '9900',
      unitPrice: '0.0005',
      includedUnits: '100000',
    });
    const subscriberId = await seedSubscriber(rig.db, 'card_ok');
    const subscriptionId = await seedSubscription(rig.db, {
      subscriberId,
      planVersionId,
      startAt: new Date(await environment.currentTimeMs()),
    });
    await rig.activate(subscriptionId);
    const use = async (quantity: bigint): Promise<void> => {
      const at = new Date((await environment.currentTimeMs()) + 1000);
      await seedUsage(rig.db, { subscriptionId, meterId: world.meterId, at, quantity });
    };
    const first = await openPeriod(subscriptionId);
    await use(150_000n);
    const nowMs = await environment.currentTimeMs();
    const estimate = await upcomingInvoice(rig.db, subscriptionId, nowMs);
    const reply = await updated<ClosePeriodReply>(subscriptionId, 'closePeriod', {
      args: { periodId: first.id },
      id: 'close-1',
    });
    assert.deepEqual(reply, { closeWorkflowId: `close/${subscriptionId}/0`, periodSeq: 0 });
    await closed(subscriptionId, 1);
    const second = await openPeriod(subscriptionId);
    assert.equal(second.intervalIndex, first.intervalIndex);
    await use(20_000n);
    await sleepUntil(environment, second.endAt.getTime() + 1000);
    await closed(subscriptionId, 2);

    await until(async () => {
      const open = await rig
        .db('invoices')
        .where({ subscription_id: subscriptionId, state: 'open' });
      return open.length === 0 ? true : null;
    });
    const invoices = await rig
      .db('invoices')
      .whereIn('period_id', [first.id, second.id])
      .select('period_id', 'total_minor')
      .orderBy('period_start_at');
    // 99.00 + 50,000 × 0.0005 = 124.00; then 20,000 × 0.0005 = 10.00 without a second fee.
    assert.deepEqual(invoices, [
      { period_id: first.id, total_minor: 12_400n },
      { period_id: second.id, total_minor: 1_000n },
    ]);
    assert.equal(estimate?.draft.totalMinor, 12_400n);

    const before = await checksum(rig.db);
    const again = await updated<ClosePeriodReply>(subscriptionId, 'closePeriod', {
      args: { periodId: first.id },
      id: 'close-again',
    });
    assert.deepEqual(again, reply);
    assert.equal(await checksum(rig.db), before);
  });

  it('answers a repeated update with its first reply, also after it continued as new', async () => {
    const subscriptionId = await subscribed({ feeMinor: '100', credits });
    const off = { args: { enabled: false }, id: 'key-1' };
    const reply = await updated<SetOverageReply>(subscriptionId, 'setOverage', off);
    const handle = rig.client.workflow.getHandle(workflowIds.subscription(subscriptionId));
    const run = (await handle.describe()).runId;
    await sleepUntil(environment, (await openPeriod(subscriptionId)).endAt.getTime() + 1000);
    await until(async () => ((await handle.describe()).runId === run ? null : true));
    // Other arguments: the id decides.
    const again = await updated<SetOverageReply>(subscriptionId, 'setOverage', {
      ...off,
      args: { enabled: true },
    });
    assert.deepEqual(again, reply);
    const rows = await rig
      .db('subscriptions')
      .where({ id: subscriptionId })
      .select('overage_enabled');
    assert.deepEqual(rows, [{ overage_enabled: false }]);
    await closed(subscriptionId, 1);
  });

  it('hears of a collection that fails while it rolls over', async () => {
    const planVersionId = await seedPlan(rig.db, await seedWorld(rig.db), { feeMinor: '100' });
    const subscriberId = await seedSubscriber(rig.db, 'card_decline');
    const subscriptionId = await seedSubscription(rig.db, {
      subscriberId,
      planVersionId,
      startAt: new Date(await environment.currentTimeMs()),
    });
    await rig.activate(subscriptionId);
    const first = await openPeriod(subscriptionId);
    const of = { subscription_id: subscriptionId };
    await updated(subscriptionId, 'closePeriod', { args: { periodId: first.id }, id: 'now' });
    await until(async () => {
      const [payment] = await rig.db('payments').where({ subscriber_id: subscriberId });
      return payment?.state === 'declined' ? true : null;
    });
    afterRoll = async (args) => {
      if (!JSON.stringify(args).includes(subscriptionId)) return;
      afterRoll = nothing;
      await rig
        .db('invoices')
        .where(of)
        .where({ state: 'open' })
        .update({ payment_status: 'failed' });
      const handle = rig.client.workflow.getHandle(workflowIds.subscription(subscriptionId));
      await handle.signal(subscriptionSignals.standingChanged);
    };
    const { endAt } = await openPeriod(subscriptionId);
    // Over its end, and not as far as the collection's own last attempt.
    await sleepUntil(environment, endAt.getTime() + 1000);
    await until(async () => {
      const [row] = await rig.db('subscriptions').where({ id: subscriptionId });
      return row.state === 'past_due' ? true : null;
    });
  });

  it('turns overage off and on in a segment of its own, without a hole', async () => {
    const subscriptionId = await subscribed({ feeMinor: '100', credits });
    const off = await updated<SetOverageReply>(subscriptionId, 'setOverage', {
      args: { enabled: false },
      id: 'off',
    });
    const segments = await rig
      .db('segments')
      .where({ subscription_id: subscriptionId })
      .orderBy('from_at')
      .select('from_at', 'until_at', 'overage');
    assert.deepEqual(
      segments.map((segment) => segment.overage),
      [true, false, false, false],
    );
    assert.equal(segments[1].from_at.toISOString(), off.effectiveAt);
    for (const [index, segment] of segments.slice(1).entries()) {
      assert.deepEqual(segment.from_at, segments[index].until_at);
    }
  });

  it('refuses overage that the plan has no price for', async () => {
    const subscriptionId = await subscribed({ feeMinor: '100' });
    const asked = updated(subscriptionId, 'setOverage', { args: { enabled: true }, id: 'on' });
    await assert.rejects(asked, refusedWith('overage_not_in_plan'));
  });

  it('refuses to close a period that has not begun, or that it does not have', async () => {
    const subscriptionId = await subscribed({ feeMinor: '100' });
    const [later] = await listPeriods(rig.db, subscriptionId, ['scheduled']);
    const close = (periodId: string): Promise<unknown> =>
      updated(subscriptionId, 'closePeriod', { args: { periodId }, id: `close-${periodId}` });
    await assert.rejects(close(later?.id ?? ''), refusedWith('period_not_open'));
    await assert.rejects(close('per_0000000000000000000000'), refusedWith('period_not_found'));
  });

  it('grants included credits one interval ahead, once', async () => {
    const subscriptionId = await subscribed({ feeMinor: '100', credits });
    const granted = async (): Promise<readonly string[]> => {
      const rows = await rig
        .db('grants')
        .whereLike('business_key', `recurring:${subscriptionId}:%`);
      return rows.map((row) => String(row.business_key).split(':')[2] ?? '').toSorted(byText);
    };
    assert.deepEqual(await granted(), ['0', '1']);
    await sleepUntil(environment, (await openPeriod(subscriptionId)).endAt.getTime() + 1000);
    await closed(subscriptionId, 1);
    assert.deepEqual((await granted()).slice(0, 3), ['0', '1', '2']);
  });

  it('cancels at the end of the period: later periods are void, their credits taken back, the last one billed', async () => {
    const subscriptionId = await subscribed({ feeMinor: '100', credits });
    const reply = await updated<CancelReply>(subscriptionId, 'cancel', {
      args: { when: 'period_end' },
      id: 'cancel',
    });
    const last = (await listPeriods(rig.db, subscriptionId)).at(-1);
    assert.ok(last);
    assert.deepEqual(reply, { state: 'active', effectiveAt: last.endAt.toISOString() });
    assert.equal((await listPeriods(rig.db, subscriptionId, ['void'])).length, 2);
    const { subscriberId } = await readSubscription(rig.db, subscriptionId);
    const voided = await rig
      .db('core_log')
      .where({ verb: 'void', subscriber_id: subscriberId })
      .select('amount_micro');
    assert.deepEqual(voided, [{ amount_micro: 1_000_000_000n }]);
    await sleepUntil(environment, last.endAt.getTime() + 1000);
    await closed(subscriptionId, last.seq + 1);
    const handle = rig.client.workflow.getHandle(workflowIds.subscription(subscriptionId));
    assert.deepEqual(await handle.result(), { state: 'canceled' });
    const [row] = await rig.db('subscriptions').where({ id: subscriptionId });
    assert.deepEqual([row.state, row.ended_at], ['canceled', last.endAt]);
  });

  it('cancels now: access ends in two seconds, and what was used is billed', async () => {
    const subscriptionId = await subscribed({ feeMinor: '100' });
    const reply = await updated<CancelReply>(subscriptionId, 'cancel', {
      args: { when: 'now' },
      id: 'cancel',
    });
    assert.equal(reply.state, 'canceled');
    await closed(subscriptionId, 1);
    // The close ends although nobody is left who wants to know.
    const close = rig.client.workflow.getHandle(workflowIds.periodClose(subscriptionId, 0));
    await close.result();
    const segments = await rig
      .db('segments')
      .where({ subscription_id: subscriptionId })
      .orderBy('from_at')
      .select('from_at', 'status');
    assert.deepEqual(
      segments.map(({ status }) => status),
      ['active', 'inactive', 'inactive', 'inactive'],
    );
    assert.equal(segments[1].from_at.toISOString(), reply.effectiveAt);
  });

  it('takes commands that come at once one after the other', async () => {
    const subscriptionId = await subscribed({ feeMinor: '100', credits });
    const { id: periodId } = await openPeriod(subscriptionId);
    const [, , closing, canceled] = await Promise.all([
      asked(subscriptionId, 'setOverage', { enabled: false }),
      asked(subscriptionId, 'setOverage', { enabled: true }),
      asked(subscriptionId, 'closePeriod', { periodId }),
      asked(subscriptionId, 'cancel', { when: 'period_end' }),
    ]);
    assert.deepEqual(closing, { closeWorkflowId: `close/${subscriptionId}/0`, periodSeq: 0 });
    assert.ok(canceled);
    await closed(subscriptionId, 1);
    const periods = await listPeriods(rig.db, subscriptionId);
    assert.deepEqual(
      periods.map(({ seq, state }) => [seq, state]),
      [
        [0, 'closed'],
        [1, 'open'],
      ],
    );
    const segments = await rig
      .db('segments')
      .where({ period_id: periods[1]?.id })
      .orderBy('from_at');
    assert.equal(segments[0].from_at.getTime(), periods[0]?.endAt.getTime());
    assert.equal(segments.at(-1).until_at.getTime(), periods[1]?.endAt.getTime());
    // Whichever of the two came last.
    const [row] = await rig.db('subscriptions').where({ id: subscriptionId });
    assert.equal(segments.at(-1).overage, row.overage_enabled);

    function asked(id: string, name: string, args: unknown): Promise<unknown> {
      const handle = rig.client.workflow.getHandle(workflowIds.subscription(id));
      return handle.executeUpdate<unknown, [unknown]>(name, { args: [args] });
    }
  });

  it('refuses arguments that mean nothing before anything is written', async () => {
    const subscriptionId = await subscribed({ feeMinor: '100' });
    const asked = updated(subscriptionId, 'cancel', { args: { when: 'later' }, id: 'x' });
    await assert.rejects(asked, refusedWith('invalid_argument'));
  });

  it('starts with its first update, as the admin API does it', async () => {
    const planVersionId = await seedPlan(rig.db, await seedWorld(rig.db), { feeMinor: '100' });
    const subscriberId = await seedSubscriber(rig.db, 'card_ok');
    const subscriptionId = await seedSubscription(rig.db, {
      subscriberId,
      planVersionId,
      startAt: new Date(await environment.currentTimeMs()),
    });
    const start = (): Promise<unknown> =>
      rig.client.workflow.executeUpdateWithStart(subscriptionUpdates.activate, {
        updateId: 'one-key',
        startWorkflowOperation: new WithStartWorkflowOperation(workflowTypes.subscription, {
          workflowId: workflowIds.subscription(subscriptionId),
          taskQueue: taskQueues.workflows,
          args: [{ v: 1, subscriptionId }],
          workflowIdConflictPolicy: 'USE_EXISTING',
        }),
      });
    const replies = await Promise.all([start(), start(), start()]);
    const expected = { state: 'active', periodId: (await openPeriod(subscriptionId)).id };
    assert.deepEqual(replies, [expected, expected, expected]);
  });
});

function refusedWith(code: string): (error: unknown) => boolean {
  return (error) =>
    error instanceof WorkflowUpdateFailedError &&
    error.cause instanceof ApplicationFailure &&
    error.cause.type === code;
}
