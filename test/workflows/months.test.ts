import assert from 'node:assert/strict';

import type { TestWorkflowEnvironment } from '@temporalio/testing';

import { listPeriods } from '../../store/periods.ts';
import { timeSkipping } from '../support/temporal.ts';
import { until } from '../support/until.ts';
import { ofEnvironment, quietRuntime, type Rig, sleepUntil, startRig } from './support/rig.ts';
import {
  faultsOf,
  seedPlan,
  seedSubscriber,
  seedSubscription,
  seedUsage,
  seedWorld,
  type World,
} from './support/world.ts';

/** By hand, from the calendar: a subscription anchored on 31 January, clamped to each month's end. */
const boundaries = [
  '2027-01-31',
  '2027-02-28',
  '2027-03-31',
  '2027-04-30',
  '2027-05-31',
  '2027-06-30',
  '2027-07-31',
  '2027-08-31',
  '2027-09-30',
  '2027-10-31',
  '2027-11-30',
  '2027-12-31',
  '2028-01-31',
  '2028-02-29',
  '2028-03-31',
  '2028-04-30',
  '2028-05-31',
  '2028-06-30',
  '2028-07-31',
  '2028-08-31',
  '2028-09-30',
  '2028-10-31',
  '2028-11-30',
  '2028-12-31',
  '2029-01-31',
].map((day) => `${day}T00:00:00.000Z`);

describe('workflows/subscription › over months', () => {
  let environment: TestWorkflowEnvironment;
  let rig: Rig;
  let world: World;

  before(async function () {
    this.timeout(120_000);
    quietRuntime();
    environment = await timeSkipping();
    // Every workflow task replays its whole history: what is not deterministic fails here.
    rig = await startRig(ofEnvironment(environment), { cachedWorkflowsMax: 0 });
    world = await seedWorld(rig.db);
  });
  after(async () => {
    await rig.stop();
    await environment.teardown();
  });

  it('bills 24 months of a subscription anchored on the 31st, each boundary on its day', async function () {
    this.timeout(180_000);
    const { db } = rig;
    const planVersionId = await seedPlan(db, world, { feeMinor: '2900', unitPrice: '0.001' });
    const subscriberId = await seedSubscriber(db, 'card_ok');
    const startAt = new Date(boundaries[0] ?? '');
    const subscriptionId = await seedSubscription(db, { subscriberId, planVersionId, startAt });
    const reply = await rig.activate(subscriptionId);
    assert.equal(reply.state, 'active');

    // Usage is put in as far ahead as segments are written, so that it is there whenever a boundary passes.
    let seeded = 0;
    const seedAhead = async (untilMonth: number): Promise<void> => {
      for (; seeded < Math.min(untilMonth, 24); seeded += 1) {
        const at = new Date(Date.parse(boundaries[seeded] ?? '') + 3_600_000);
        const quantity = BigInt(1000 * seeded);
        await seedUsage(db, { subscriptionId, meterId: world.meterId, at, quantity });
      }
    };
    for (let month = 0; month < 24; month += 1) {
      await seedAhead(month + 3);
      await sleepUntil(environment, Date.parse(boundaries[month + 1] ?? '') + 60_000);
      await until(async () => {
        const paid = await db('invoices').where({ state: 'paid' });
        return paid.length > month ? true : null;
      });
    }

    const periods = await listPeriods(db, subscriptionId);
    assert.deepEqual(
      periods
        .slice(0, 24)
        .map((period) => [period.startAt.toISOString(), period.endAt.toISOString(), period.state]),
      boundaries.slice(0, 24).map((start, index) => [start, boundaries[index + 1], 'closed']),
    );
    assert.deepEqual(
      periods.slice(-3).map((period) => period.state),
      ['open', 'scheduled', 'scheduled'],
    );
    const invoices = await db('invoices')
      .select('number', 'total_minor', 'state')
      .orderBy('period_start_at')
      .limit(24);
    assert.deepEqual(
      invoices,
      boundaries.slice(1).map((end, month) => ({
        number: `INV-${end.slice(0, 4)}-${numberInYear(end)}`,
        total_minor: BigInt(2900 + 100 * month),
        state: 'paid',
      })),
    );
    assert.deepEqual(await faultsOf(db), []);
  });
});

/** The place of an invoice finalized at `end` in its year's series. */
function numberInYear(end: string): string {
  const place = boundaries
    .slice(1)
    .filter((other) => other.slice(0, 4) === end.slice(0, 4) && other <= end).length;
  return String(place).padStart(4, '0');
}
