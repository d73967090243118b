import assert from 'node:assert/strict';

import fc from 'fast-check';

import { makeDbActivities } from '../../activities/index.ts';
import type { ActivityDeps, WorkflowRequest } from '../../activities/ports.ts';
import type { CommandResult } from '../../activities/subscription.ts';
import { type Db, openDb } from '../../store/db.ts';
import { newId } from '../../store/ids.ts';
import { findViolations } from '../../store/invariants.ts';
import { listPeriods } from '../../store/periods.ts';
import { findScheduledChange } from '../../store/plan-change-reads.ts';
import { readSubscription } from '../../store/subscriptions.ts';
import { type TestDatabase, testDatabase } from '../support/postgres.ts';
import {
  checksum,
  faultsOf,
  type PlanTerms,
  seedPlan,
  seedSubscriber,
  seedSubscription,
  seedWorld,
  type World,
} from '../workflows/support/world.ts';

const DAY_MS = 86_400_000;
const LEAD_MS = 2000;
const startMs = Date.parse('2027-01-31T00:00:00Z');

function creditsOf(included: string) {
  return {
    unit: 'credit',
    included_micro: included,
    overage: { enabled: true, credit_price: '0.03' },
    credit_price: null,
    burn: [],
  };
}

describe('activities/subscription › change of plan', function () {
  this.timeout(180_000);
  let database: TestDatabase;
  let db: Db;
  let activities: ReturnType<typeof makeDbActivities>;
  let world: World;
  const started: WorkflowRequest[] = [];

  before(async () => {
    database = await testDatabase();
    db = openDb(database.url);
    const deps: ActivityDeps = {
      db,
      shards: { seal: () => Promise.reject(new Error('not here')) },
      payments: {
        charge: () => Promise.reject(new Error('not here')),
        lookup: () => Promise.reject(new Error('not here')),
        refund: () => Promise.reject(new Error('not here')),
        lookupRefund: () => Promise.reject(new Error('not here')),
      },
      startWorkflow: (request) => {
        started.push(request);
        return Promise.resolve();
      },
      waitForApplied: () => Promise.resolve(true),
      isDrained: () => Promise.resolve(true),
    };
    activities = makeDbActivities(deps);
    world = await seedWorld(db);
  });
  after(async () => {
    await db.destroy();
    await database.drop();
  });

  const plan = (terms: PlanTerms): Promise<string> => seedPlan(db, world, terms);

  async function activated(planVersionId: string): Promise<string> {
    const subscriberId = await seedSubscriber(db, null);
    const startAt = new Date(startMs);
    const subscriptionId = await seedSubscription(db, { subscriberId, planVersionId, startAt });
    await activities.activateSubscription({ subscriptionId, nowMs: startMs - DAY_MS });
    return subscriptionId;
  }

  type When = 'now' | 'period_end' | 'default';
  const change = (
    subscriptionId: string,
    planVersionId: string,
    nowMs: number,
    when: When = 'default',
  ): Promise<CommandResult> =>
    activities.changePlan({
      subscriptionId,
      planVersionId,
      nowMs,
      when,
      changeId: newId('pch'),
    });

  /** Version, from and until of the segments that count, in order. */
  async function segmentsOf(subscriptionId: string): Promise<readonly (readonly unknown[])[]> {
    const rows = await db('segments')
      .where({ subscription_id: subscriptionId, void: false })
      .orderBy('from_at')
      .select('plan_version_id', 'from_at', 'until_at');
    return rows.map((row) => [
      row.plan_version_id,
      row.from_at.toISOString(),
      row.until_at.toISOString(),
    ]);
  }

  const faults = async (): Promise<readonly unknown[]> => [
    ...(await faultsOf(db)),
    ...(await findViolations(db)).filter(({ kind }) => kind === 'always'),
  ];

  it('an upgrade holds two seconds later, in this interval and in those after it; the period is not cut', async () => {
    const small = await plan({ feeMinor: '1000' });
    const large = await plan({ feeMinor: '3000' });
    const subscriptionId = await activated(small);
    const nowMs = startMs + 10 * DAY_MS;
    const result = await change(subscriptionId, large, nowMs);
    assert.ok(result.kind === 'done');
    assert.equal(result.effectiveAtMs, nowMs + LEAD_MS);
    assert.equal((await readSubscription(db, subscriptionId)).planVersionId, large);
    const at = new Date(nowMs + LEAD_MS).toISOString();
    assert.deepEqual(await segmentsOf(subscriptionId), [
      [small, '2027-01-31T00:00:00.000Z', at],
      [large, at, '2027-02-28T00:00:00.000Z'],
      [large, '2027-02-28T00:00:00.000Z', '2027-03-31T00:00:00.000Z'],
      [large, '2027-03-31T00:00:00.000Z', '2027-04-30T00:00:00.000Z'],
    ]);
    assert.equal((await listPeriods(db, subscriptionId)).length, 3);
    assert.deepEqual(await faults(), []);
  });

  it('asked again under its id, it changes no row and answers the same', async () => {
    const subscriptionId = await activated(await plan({ feeMinor: '1000' }));
    const args = {
      subscriptionId,
      planVersionId: await plan({ feeMinor: '3000' }),
      nowMs: startMs + 10 * DAY_MS,
      when: 'default',
      changeId: newId('pch'),
    } as const;
    const first = await activities.changePlan(args);
    const before = await checksum(db);
    const again = await activities.changePlan(args);
    assert.equal(await checksum(db), before);
    assert.ok(first.kind === 'done' && again.kind === 'done');
    assert.equal(again.effectiveAtMs, first.effectiveAtMs);
  });

  it('a downgrade waits for the end of the interval: later segments have it at once, the subscription on the day', async () => {
    const large = await plan({ feeMinor: '3000', credits: creditsOf('5000000') });
    const small = await plan({ feeMinor: '1000', credits: creditsOf('1000000') });
    const subscriptionId = await activated(large);
    const result = await change(subscriptionId, small, startMs + 10 * DAY_MS);
    assert.ok(result.kind === 'done');
    assert.equal(new Date(result.effectiveAtMs).toISOString(), '2027-02-28T00:00:00.000Z');
    assert.equal((await readSubscription(db, subscriptionId)).planVersionId, large);
    assert.deepEqual(
      (await segmentsOf(subscriptionId)).map(([version]) => version),
      [large, small, small],
    );
    assert.deepEqual(await liveGrants(subscriptionId), [
      ['2027-01-31T00:00:00.000Z', '5000000'],
      ['2027-02-28T00:00:00.000Z', '1000000'],
    ]);
    await activities.rollSubscription({
      subscriptionId,
      nowMs: Date.parse('2027-02-28T00:00:00Z'),
    });
    assert.equal((await readSubscription(db, subscriptionId)).planVersionId, small);
    assert.equal(await findScheduledChange(db, subscriptionId), null);
    assert.deepEqual(
      (await segmentsOf(subscriptionId)).map(([version]) => version),
      [large, small, small, small],
    );
    assert.deepEqual(await faults(), []);
  });

  it('another change takes the place of the planned one; taken back, the plan goes on as it was', async () => {
    const large = await plan({ feeMinor: '3000', credits: creditsOf('5000000') });
    const small = await plan({ feeMinor: '1000', credits: creditsOf('1000000') });
    const yearly = await plan({ feeMinor: '2000', interval: { unit: 'year', count: 1 } });
    const subscriptionId = await activated(large);
    const nowMs = startMs + 10 * DAY_MS;
    await change(subscriptionId, small, nowMs);
    await change(subscriptionId, yearly, nowMs, 'period_end');
    assert.deepEqual(await segmentsOf(subscriptionId), [
      [large, '2027-01-31T00:00:00.000Z', '2027-02-28T00:00:00.000Z'],
      [yearly, '2027-02-28T00:00:00.000Z', '2028-02-28T00:00:00.000Z'],
      [yearly, '2028-02-28T00:00:00.000Z', '2029-02-28T00:00:00.000Z'],
    ]);
    assert.deepEqual(await liveGrants(subscriptionId), [['2027-01-31T00:00:00.000Z', '5000000']]);
    const planned = await findScheduledChange(db, subscriptionId);
    assert.equal(planned?.toVersionId, yearly);
    const args = { subscriptionId, nowMs, changeId: planned.id };
    assert.equal((await activities.cancelPlanChange(args)).kind, 'done');
    const before = await checksum(db);
    assert.equal((await activities.cancelPlanChange(args)).kind, 'done');
    assert.equal(await checksum(db), before);
    assert.deepEqual(await segmentsOf(subscriptionId), [
      [large, '2027-01-31T00:00:00.000Z', '2027-02-28T00:00:00.000Z'],
      [large, '2027-02-28T00:00:00.000Z', '2027-03-31T00:00:00.000Z'],
      [large, '2027-03-31T00:00:00.000Z', '2027-04-30T00:00:00.000Z'],
    ]);
    assert.deepEqual(await liveGrants(subscriptionId), [
      ['2027-01-31T00:00:00.000Z', '5000000'],
      ['2027-02-28T00:00:00.000Z', '5000000'],
    ]);
    assert.deepEqual(await faults(), []);
  });

  it('another interval begins at once: the old one is cut and closes, the anchor moves, periods tile', async () => {
    const monthly = await plan({ feeMinor: '1000', credits: creditsOf('1000000') });
    const yearly = await plan({
      feeMinor: '9000',
      interval: { unit: 'year', count: 1 },
      credits: creditsOf('7000000'),
    });
    const subscriptionId = await activated(monthly);
    const nowMs = startMs + 10 * DAY_MS;
    const result = await change(subscriptionId, yearly, nowMs);
    assert.ok(result.kind === 'done');
    const at = new Date(nowMs + LEAD_MS);
    assert.deepEqual(
      (await segmentsOf(subscriptionId)).map((segment) => segment.slice(0, 2)),
      [
        [monthly, '2027-01-31T00:00:00.000Z'],
        [yearly, at.toISOString()],
        [yearly, '2028-02-10T00:00:02.000Z'],
        [yearly, '2029-02-10T00:00:02.000Z'],
      ],
    );
    const periods = await listPeriods(db, subscriptionId);
    assert.deepEqual(
      periods.map((period) => [period.seq, period.intervalIndex, period.state, period.cutReason]),
      [
        [0, 0, 'closing', 'interval_change'],
        [1, 1, 'open', null],
        [2, 2, 'scheduled', null],
        [3, 3, 'scheduled', null],
      ],
    );
    const subscription = await readSubscription(db, subscriptionId);
    assert.deepEqual([subscription.anchorAt, subscription.intervalBase], [at, 1]);
    // Those of the month are taken back; those of the year are there at once.
    assert.deepEqual(await liveGrants(subscriptionId), [
      [new Date(nowMs).toISOString(), '7000000'],
      ['2028-02-10T00:00:02.000Z', '7000000'],
    ]);
    await activities.rollSubscription({ subscriptionId, nowMs: nowMs + 800 * DAY_MS });
    assert.equal((await listPeriods(db, subscriptionId)).at(-1)?.intervalIndex, 5);
    assert.deepEqual(await faults(), []);
  });

  it('an upgrade grants the difference of the credits; undone, it is taken back', async () => {
    const small = await plan({ feeMinor: '1000', credits: creditsOf('1000000') });
    const large = await plan({ feeMinor: '3000', credits: creditsOf('5000000') });
    const subscriptionId = await activated(small);
    const nowMs = startMs + 10 * DAY_MS;
    await change(subscriptionId, large, nowMs);
    assert.deepEqual(await liveGrants(subscriptionId), [
      ['2027-01-31T00:00:00.000Z', '1000000'],
      ['2027-01-31T00:00:00.000Z', '4000000'],
      ['2027-02-28T00:00:00.000Z', '5000000'],
    ]);
    await change(subscriptionId, small, nowMs + 60_000, 'now');
    assert.deepEqual(await liveGrants(subscriptionId), [
      ['2027-01-31T00:00:00.000Z', '1000000'],
      ['2027-02-28T00:00:00.000Z', '1000000'],
    ]);
    assert.deepEqual(await faults(), []);
  });

  it('a downgrade now is refused when the credits that the upgrade brought are spent', async () => {
    const small = await plan({ feeMinor: '1000', credits: creditsOf('1000000') });
    const large = await plan({ feeMinor: '3000', credits: creditsOf('5000000') });
    const subscriptionId = await activated(small);
    const nowMs = startMs + 10 * DAY_MS;
    await change(subscriptionId, large, nowMs);
    const brought = db('grants').whereLike('business_key', `recurring:${subscriptionId}:0:pch_%`);
    await brought.clone().update({ remaining_micro: '3999999' });
    const before = await checksum(db);
    const result = await change(subscriptionId, small, nowMs + 60_000, 'now');
    assert.ok(result.kind === 'refused');
    assert.equal(result.code, 'credits_already_spent');
    assert.match(result.message, /period_end/);
    assert.equal(await checksum(db), before);
    assert.equal((await change(subscriptionId, small, nowMs + 60_000, 'period_end')).kind, 'done');
    await brought.clone().update({ remaining_micro: '4000000' });
  });

  it('refuses, with a mend and without a trace, what cannot be', async () => {
    const mine = await plan({ feeMinor: '1000' });
    const subscriptionId = await activated(mine);
    const before = await checksum(db);
    const elsewhere = await seedPlan(db, await seedWorld(db), { feeMinor: '1000' });
    const cases = [
      [mine, 'plan_unchanged', /planned change/],
      [elsewhere, 'product_differs', /beside this one/],
      [await plan({ state: 'draft' }), 'plan_not_published', /Publish it/],
      [await plan({ feeMinor: '5', state: 'archived' }), 'plan_archived', /published/],
      [newId('pver'), 'plan_not_found', /no plan version/],
    ] as const;
    for (const [versionId, code, words] of cases) {
      const result = await change(subscriptionId, versionId, startMs + DAY_MS);
      assert.ok(result.kind === 'refused');
      assert.equal(result.code, code);
      assert.match(result.message, words);
    }
    const early = await change(subscriptionId, await plan({ feeMinor: '5' }), startMs - DAY_MS / 2);
    assert.ok(early.kind === 'refused');
    assert.equal(early.code, 'subscription_not_active');
    assert.equal(await checksum(db), before);
    await activities.cancelSubscription({
      subscriptionId,
      nowMs: startMs + DAY_MS,
      when: 'period_end',
    });
    const ending = await change(subscriptionId, await plan({ feeMinor: '5' }), startMs + DAY_MS);
    assert.ok(ending.kind === 'refused');
    assert.match(ending.message, /ends at 2027-02-28/);
  });

  /** Beginning and amount of the recurring grants that are not taken back, in order. */
  async function liveGrants(subscriptionId: string): Promise<readonly (readonly unknown[])[]> {
    const answer = await db.raw<{ rows: { at: Date; amount: bigint }[] }>(
      `SELECT b.effective_at AS at, g.amount_micro AS amount FROM grants g JOIN buckets b ON b.id = g.bucket_id
       WHERE starts_with(g.business_key, ?) AND g.voided_at IS NULL ORDER BY at, amount`,
      [`recurring:${subscriptionId}:`],
    );
    return answer.rows.map((row) => [row.at.toISOString(), row.amount.toString()]);
  }

  it('an interval begins in no period that is being closed, also within the two seconds before its cut', async () => {
    const monthly = await plan({ feeMinor: '1000' });
    const yearly = await plan({ feeMinor: '20000', interval: { unit: 'year', count: 1 } });
    const subscriptionId = await activated(monthly);
    const changed = await change(subscriptionId, yearly, startMs, 'now');
    assert.ok(changed.kind === 'done');
    const nowMs = startMs + 1;
    const periodId = changed.view.current?.periodId ?? '';
    await activities.closePeriodNow({ subscriptionId, nowMs, periodId });
    const back = await change(subscriptionId, monthly, nowMs, 'now');
    assert.ok(back.kind === 'done');
    const periods = await listPeriods(db, subscriptionId);
    assert.deepEqual(
      periods.slice(0, 3).map(({ startAt, state }) => [startAt.getTime() - startMs, state]),
      [
        [0, 'closing'],
        [2000, 'closing'],
        [2001, 'open'],
      ],
    );
    assert.deepEqual(await faults(), []);
  });

  it('keeps periods, segments and money whole, whatever changes come in whatever order', async () => {
    const versions = [
      await plan({ feeMinor: '1000', unitPrice: '0.001' }),
      await plan({ feeMinor: '3000', credits: creditsOf('5000000') }),
      await plan({ feeMinor: '2000', credits: creditsOf('1000000'), unitPrice: '0.002' }),
      await plan({ feeMinor: '20000', interval: { unit: 'year', count: 1 } }),
      await plan({ feeMinor: '700', interval: { unit: 'week', count: 2 } }),
      await plan({ feeMinor: '1500', billingTime: 'calendar' }),
    ];
    const step = fc.record({
      passMs: fc.oneof(fc.nat({ max: 50 * DAY_MS }), fc.nat({ max: 3000 })),
      version: fc.nat({ max: versions.length - 1 }),
      when: fc.constantFrom<When>('now', 'period_end', 'default'),
      kind: fc.oneof(
        { weight: 6, arbitrary: fc.constant('change' as const) },
        { weight: 1, arbitrary: fc.constant('keep' as const) },
        { weight: 1, arbitrary: fc.constant('close' as const) },
        { weight: 1, arbitrary: fc.constant('overage' as const) },
        { weight: 1, arbitrary: fc.constant('cancel' as const) },
      ),
    });
    await fc.assert(
      fc.asyncProperty(fc.array(step, { minLength: 1, maxLength: 8 }), async (steps) => {
        const subscriptionId = await activated(versions[0] ?? '');
        let nowMs = startMs;
        for (const next of steps) {
          nowMs += next.passMs;
          const args = { subscriptionId, nowMs };
          const { current } = await activities.rollSubscription(args);
          if (next.kind === 'change') {
            await change(subscriptionId, versions[next.version] ?? '', nowMs, next.when);
          } else if (next.kind === 'keep') {
            const planned = await findScheduledChange(db, subscriptionId);
            await activities.cancelPlanChange({ ...args, changeId: planned?.id ?? newId('pch') });
          } else if (next.kind === 'close') {
            await activities.closePeriodNow({ ...args, periodId: current?.periodId ?? '' });
          } else if (next.kind === 'overage') {
            await activities.setOverage({ ...args, enabled: next.version % 2 === 0 });
          } else {
            await activities.cancelSubscription({ ...args, when: 'period_end' });
          }
          const periods = await listPeriods(db, subscriptionId);
          assert.deepEqual(
            periods.map(({ seq }) => seq),
            periods.map((_, index) => index),
          );
        }
        assert.deepEqual(await faults(), []);
      }),
      { numRuns: 40 },
    );
  });
});
