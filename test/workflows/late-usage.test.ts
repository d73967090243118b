import assert from 'node:assert/strict';

import type { TestWorkflowEnvironment } from '@temporalio/testing';

import { billEndedSubscriptions } from '../../activities/late-usage.ts';
import { inTransaction } from '../../store/db.ts';
import { findViolations } from '../../store/invariants.ts';
import { listPeriods } from '../../store/periods.ts';
import { postUsage } from '../../store/usage-batch.ts';
import { type CancelReply, subscriptionUpdates, workflowIds } from '../../workflows/contracts.ts';
import { usageFact } from '../drain/drainer-fixture.ts';
import { timeSkipping } from '../support/temporal.ts';
import { until } from '../support/until.ts';
import { ofEnvironment, quietRuntime, type Rig, sleepUntil, startRig } from './support/rig.ts';
import {
  checksum,
  faultsOf,
  seedPlan,
  seedSubscriber,
  seedSubscription,
  seedWorld,
  type World,
} from './support/world.ts';

const DAY_MS = 86_400_000;

describe('workflows › late usage of a subscription that has ended', function () {
  this.timeout(120_000);
  let environment: TestWorkflowEnvironment;
  let rig: Rig;
  let world: World;

  before(async () => {
    quietRuntime();
    environment = await timeSkipping();
    rig = await startRig(ofEnvironment(environment));
    world = await seedWorld(rig.db);
  });
  after(async () => {
    await rig.stop();
    await environment.teardown();
  });

  it('is billed once, when nothing more can come, and paid', async () => {
    const { db } = rig;
    const planVersionId = await seedPlan(db, world, { feeMinor: '2900', unitPrice: '0.01' });
    const subscriberId = await seedSubscriber(db, 'card_ok');
    const startAt = new Date(await environment.currentTimeMs());
    const subscriptionId = await seedSubscription(db, { subscriberId, planVersionId, startAt });
    await rig.activate(subscriptionId);
    const used = async (afterMs: number, quantity: number): Promise<void> => {
      const party = { subscriberId, subscriptionId, apiKeyId: '', periods: [] };
      const meters = { api_calls: '', tokens: '' };
      const fact = usageFact({ ...world, planId: '', planVersionId, meterIds: meters }, party, {
        ...{ segmentId: '', atMs: startAt.getTime() + afterMs },
        quantities: [{ meter: `m_${world.meterId.slice(4, 14)}`, quantity }],
      });
      const outcome = await inTransaction(db, (tx) => postUsage(tx, [fact]));
      assert.equal(outcome.inserted, 1);
    };
    await sleepUntil(environment, startAt.getTime() + 2 * DAY_MS);
    await used(DAY_MS, 100);
    const reply = await rig.client.workflow
      .getHandle(workflowIds.subscription(subscriptionId))
      .executeUpdate<CancelReply, [unknown]>(subscriptionUpdates.cancel, {
        args: [{ when: 'period_end' }],
        updateId: 'end',
      });
    const endMs = Date.parse(reply.effectiveAt);
    const paid = (count: number): Promise<unknown> =>
      until(async () => {
        const rows = await db('invoices').where({ subscription_id: subscriptionId, state: 'paid' });
        return rows.length === count ? rows : null;
      });
    await sleepUntil(environment, endMs + 60_000);
    await paid(1);
    assert.deepEqual(
      (await listPeriods(db, subscriptionId)).map(({ state }) => state),
      ['closed'],
    );

    const sweep = async (): Promise<number> => {
      const now = new Date(await environment.currentTimeMs());
      return billEndedSubscriptions({ db, startWorkflow: rig.deps.startWorkflow }, now);
    };
    await used(2 * DAY_MS, 20);
    await sleepUntil(environment, endMs + 20 * DAY_MS);
    await used(3 * DAY_MS, 30);
    assert.equal(await sweep(), 0);
    await sleepUntil(environment, endMs + 36 * DAY_MS);
    const issued = await Promise.all([sweep(), sweep()]);
    assert.deepEqual(
      issued.toSorted((a, b) => a - b),
      [0, 1],
    );
    await paid(2);
    const invoices = await db('invoices')
      .where({ subscription_id: subscriptionId })
      .orderBy('number');
    assert.deepEqual(
      invoices.map((row) => [row.kind, row.business_key, row.total_minor, row.paid_by]),
      [
        ['period', `period:${subscriptionId}:0:1`, 3_000n, 'payment'],
        ['late', `late:${subscriptionId}:1`, 50n, 'payment'],
      ],
    );
    const response = await fetch(`${rig.sandbox.url}/_charges`);
    const charges: unknown = await response.json();
    assert.deepEqual(
      Object(charges).data.map((charge: { amount_minor: string }) => charge.amount_minor),
      ['3000', '50'],
    );

    const before = await checksum(db);
    assert.equal(await sweep(), 0);
    assert.equal(await checksum(db), before);
    assert.deepEqual(await faultsOf(db), []);
    // Events of another time came in now; the outbox has no reader here.
    const known = new Set(['I24', 'I27']);
    assert.deepEqual(
      (await findViolations(db)).filter(({ id }) => !known.has(id)),
      [],
    );
  });
});
