import assert from 'node:assert/strict';

import { WorkflowUpdateFailedError } from '@temporalio/client';
import { ApplicationFailure } from '@temporalio/common';
import type { TestWorkflowEnvironment } from '@temporalio/testing';

import { cutAtThresholds } from '../../activities/thresholds.ts';
import { askCloseWith } from '../../bin/worker-parts/ask-close.ts';
import { newId } from '../../store/ids.ts';
import { listPeriods, type Period } from '../../store/periods.ts';
import { findScheduledChange } from '../../store/plan-change-reads.ts';
import { readSubscription } from '../../store/subscriptions.ts';
import { type ChangePlanReply, workflowIds } from '../../workflows/contracts.ts';
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
  type PlanTerms,
  seedPlan,
  seedSubscriber,
  seedSubscription,
  seedUsage,
  seedWorld,
  type World,
} from './support/world.ts';

const DAY_MS = 86_400_000;

describe('workflows/subscription › change of plan', function () {
  this.timeout(180_000);
  let environment: TestWorkflowEnvironment;
  let rig: Rig;
  let world: World;

  before(async () => {
    quietRuntime();
    environment = await timeSkipping();
    // Every workflow task replays its whole history: what is not deterministic fails here.
    rig = await startRig(ofEnvironment(environment), { cachedWorkflowsMax: 0 });
  });
  beforeEach(async () => {
    world = await seedWorld(rig.db);
  });
  after(async () => {
    await rig.stop();
    await environment.teardown();
  });
  afterEach(async () => {
    assert.deepEqual(await faultsOf(rig.db), []);
  });

  const plan = (terms: PlanTerms): Promise<string> => seedPlan(rig.db, world, terms);

  async function subscribed(planVersionId: string): Promise<string> {
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

  type When = 'now' | 'period_end' | 'default';
  const change = (
    subscriptionId: string,
    planVersionId: string,
    when: When = 'default',
  ): Promise<ChangePlanReply> => {
    const changeId = newId('pch');
    const args = { changeId, planVersionId, when };
    return updated<ChangePlanReply>(subscriptionId, 'changePlan', { args, id: changeId });
  };

  async function openPeriod(subscriptionId: string): Promise<Period> {
    return until(async () => {
      const [period] = await listPeriods(rig.db, subscriptionId, ['open']);
      return period ?? null;
    });
  }

  async function closed(subscriptionId: string, count: number): Promise<void> {
    await until(async () => {
      const done = await listPeriods(rig.db, subscriptionId, ['closed']);
      return done.length >= count ? done : null;
    });
  }

  /** Kind and total of the invoices, once all of them are paid. */
  async function paid(
    subscriptionId: string,
    count: number,
  ): Promise<readonly (readonly unknown[])[]> {
    const settled = until(async () => {
      const rows = await rig
        .db('invoices')
        .where({ subscription_id: subscriptionId, state: 'paid' })
        .orderBy(['finalized_at', 'number_in_series'])
        .select('kind', 'total_minor');
      return rows.length >= count ? rows : null;
    });
    const rows = await whileTimePasses(environment, settled);
    return rows.map((row) => [row.kind, row.total_minor]);
  }

  it('goes through months with an upgrade, a planned downgrade and a prorated end; every invoice is paid once', async () => {
    const small = await plan({ feeMinor: '1000', billIn: 'advance' });
    const large = await plan({ feeMinor: '3000', billIn: 'advance' });
    const subscriptionId = await subscribed(small);
    const first = await openPeriod(subscriptionId);
    assert.deepEqual(await paid(subscriptionId, 1), [['advance', 1000n]]);

    await sleepUntil(environment, first.startAt.getTime() + 10 * DAY_MS);
    await change(subscriptionId, large);
    assert.equal((await readSubscription(rig.db, subscriptionId)).planVersionId, large);
    const withChange = await paid(subscriptionId, 2);
    const [kind, total] = withChange[1] ?? [];
    assert.equal(kind, 'change');
    assert.ok(typeof total === 'bigint' && total > 1000n && total < 2000n);

    await sleepUntil(environment, first.endAt.getTime() + 1000);
    await closed(subscriptionId, 1);
    assert.deepEqual((await paid(subscriptionId, 3)).at(-1), ['period', 3000n]);

    const second = await openPeriod(subscriptionId);
    const planned = await change(subscriptionId, small);
    assert.equal(planned.effectiveAt, second.intervalEndAt.toISOString());
    assert.equal((await readSubscription(rig.db, subscriptionId)).planVersionId, large);
    await sleepUntil(environment, second.endAt.getTime() + 1000);
    await closed(subscriptionId, 2);
    assert.equal((await readSubscription(rig.db, subscriptionId)).planVersionId, small);
    assert.deepEqual((await paid(subscriptionId, 4)).at(-1), ['period', 1000n]);

    const third = await openPeriod(subscriptionId);
    await sleepUntil(environment, third.startAt.getTime() + 10 * DAY_MS);
    await whileTimePasses(
      environment,
      updated(subscriptionId, 'cancel', { args: { when: 'now', prorate: true }, id: 'end' }),
    );
    await closed(subscriptionId, 3);
    const notes = await rig
      .db('credit_notes')
      .join('invoices', 'invoices.id', 'credit_notes.invoice_id')
      .where({ subscription_id: subscriptionId })
      .select('credit_notes.reason', 'credit_notes.total_minor');
    assert.equal(notes.length, 1);
    assert.ok(notes[0].total_minor > 500n && notes[0].total_minor < 1000n);
    assert.deepEqual((await readSubscription(rig.db, subscriptionId)).state, 'canceled');
  });

  it('answers the same for the same update, also after the workflow has continued as new', async () => {
    const subscriptionId = await subscribed(await plan({ feeMinor: '1000' }));
    const first = await openPeriod(subscriptionId);
    const args = {
      changeId: newId('pch'),
      planVersionId: await plan({ feeMinor: '3000' }),
      when: 'default',
    };
    const ask = (): Promise<ChangePlanReply> =>
      updated<ChangePlanReply>(subscriptionId, 'changePlan', { args, id: 'one-key' });
    const [one, two] = await Promise.all([ask(), ask()]);
    assert.deepEqual(one, two);
    await sleepUntil(environment, first.endAt.getTime() + 1000);
    await closed(subscriptionId, 1);
    await openPeriod(subscriptionId);
    // The collection goes on by itself.
    await until(async () => {
      const open = await rig
        .db('invoices')
        .where({ subscription_id: subscriptionId, state: 'open' });
      return open.length === 0 ? true : null;
    });
    const before = await checksum(rig.db);
    assert.deepEqual(await ask(), one);
    assert.equal(await checksum(rig.db), before);
  });

  it('refuses with the code of the refusal, and takes a planned change back', async () => {
    const version = await plan({ feeMinor: '3000' });
    const subscriptionId = await subscribed(version);
    await assert.rejects(change(subscriptionId, version), refusedWith('plan_unchanged'));
    await change(subscriptionId, await plan({ feeMinor: '1000' }));
    const planned = await findScheduledChange(rig.db, subscriptionId);
    assert.ok(planned);
    const args = { changeId: planned.id };
    await updated(subscriptionId, 'cancelPlanChange', { args, id: 'keep' });
    assert.equal(await findScheduledChange(rig.db, subscriptionId), null);
    const other = { args: { changeId: newId('pch') }, id: 'keep-2' };
    await assert.rejects(
      updated(subscriptionId, 'cancelPlanChange', other),
      refusedWith('no_planned_change'),
    );
    const wrong = { args: { ...args, planVersionId: version, when: 'soon' }, id: 'wrong' };
    await assert.rejects(
      updated(subscriptionId, 'changePlan', wrong),
      refusedWith('invalid_argument'),
    );
  });

  it('a subscription that starts later is billed ahead when it begins, and not before', async () => {
    const startMs = (await environment.currentTimeMs()) + 20 * DAY_MS;
    const subscriptionId = await seedSubscription(rig.db, {
      subscriberId: await seedSubscriber(rig.db, 'card_ok'),
      planVersionId: await plan({ feeMinor: '1000', billIn: 'advance' }),
      startAt: new Date(startMs),
    });
    await rig.activate(subscriptionId);
    const issued = (): Promise<readonly unknown[]> =>
      rig.db('invoices').where({ subscription_id: subscriptionId });
    await sleepUntil(environment, startMs - DAY_MS);
    assert.deepEqual(await issued(), []);
    await sleepUntil(environment, startMs + 1000);
    assert.deepEqual(await paid(subscriptionId, 1), [['advance', 1000n]]);
    const { endAt } = await openPeriod(subscriptionId);
    await sleepUntil(environment, endAt.getTime() + 1000);
    await closed(subscriptionId, 1);
    assert.equal((await issued()).length, 2);
  });

  it('another interval closes the old one by itself and goes on by its own calendar', async () => {
    const monthly = await plan({ feeMinor: '3000' });
    const weekly = await plan({ feeMinor: '700', interval: { unit: 'week', count: 1 } });
    const subscriptionId = await subscribed(monthly);
    const first = await openPeriod(subscriptionId);
    await sleepUntil(environment, first.startAt.getTime() + 3 * DAY_MS);
    const { effectiveAt } = await change(subscriptionId, weekly);
    await sleepUntil(environment, Date.parse(effectiveAt) + 1000);
    await closed(subscriptionId, 1);
    const second = await openPeriod(subscriptionId);
    assert.equal(second.startAt.toISOString(), effectiveAt);
    assert.equal(second.endAt.getTime() - second.startAt.getTime(), 7 * DAY_MS);
    await sleepUntil(environment, second.endAt.getTime() + 1000);
    await closed(subscriptionId, 2);
    assert.deepEqual((await paid(subscriptionId, 2)).at(-1), ['period', 700n]);
  });

  it('bills usage at its threshold, once, and the rest of the interval at what is left of it', async () => {
    const terms = { feeMinor: '1000', unitPrice: '0.01', includedUnits: '100' };
    const subscriptionId = await subscribed(await plan({ ...terms, thresholdMinor: '500' }));
    const use = async (quantity: bigint): Promise<void> => {
      const at = new Date((await environment.currentTimeMs()) + 1000);
      await seedUsage(rig.db, { subscriptionId, meterId: world.meterId, at, quantity });
    };
    const look = async (): Promise<number> => {
      const { asked } = await cutAtThresholds(
        { db: rig.db, askClose: askCloseWith(rig.client) },
        new Date(await environment.currentTimeMs()),
      );
      return asked;
    };
    await sleepUntil(environment, (await environment.currentTimeMs()) + 60_000);
    assert.equal(await look(), 0);
    await use(599n);
    // 4.99 of usage, and the fee, which does not count.
    assert.equal(await look(), 0);
    await use(1n);
    assert.equal(await look(), 1);
    // Again, before and after the workflow has cut the period.
    await look();
    await sleepUntil(environment, (await environment.currentTimeMs()) + 10_000);
    await closed(subscriptionId, 1);
    assert.equal(await look(), 0);
    await use(499n);
    assert.equal(await look(), 0);
    await use(1n);
    assert.equal(await look(), 1);
    await sleepUntil(environment, (await environment.currentTimeMs()) + 10_000);
    await closed(subscriptionId, 2);
    const last = await openPeriod(subscriptionId);
    await use(100n);
    await sleepUntil(environment, last.endAt.getTime() + 1000);
    await closed(subscriptionId, 3);
    assert.deepEqual(await paid(subscriptionId, 3), [
      ['period', 1500n],
      ['period', 500n],
      ['period', 100n],
    ]);
    assert.deepEqual(
      (await listPeriods(rig.db, subscriptionId)).slice(0, 3).map(({ cutReason }) => cutReason),
      ['threshold', 'threshold', null],
    );
  });
});

function refusedWith(code: string): (error: unknown) => boolean {
  return (error) =>
    error instanceof WorkflowUpdateFailedError &&
    error.cause instanceof ApplicationFailure &&
    error.cause.type === code;
}
