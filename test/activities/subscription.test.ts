import assert from 'node:assert/strict';

import fc from 'fast-check';

import { makeDbActivities } from '../../activities/index.ts';
import type { ActivityDeps, WorkflowRequest } from '../../activities/ports.ts';
import { reconcile } from '../../activities/reconcile.ts';
import { workflowIdOf } from '../../bin/worker-parts/start-workflow.ts';
import { type Db, openDb } from '../../store/db.ts';
import { listPeriods } from '../../store/periods.ts';
import { readSubscriptionView } from '../../store/subscription-view.ts';
import { type TestDatabase, testDatabase } from '../support/postgres.ts';
import {
  checksum,
  faultsOf,
  seedPlan,
  seedSubscriber,
  seedSubscription,
  seedWorld,
} from '../workflows/support/world.ts';

const DAY_MS = 86_400_000;
const byText = (a: string, b: string): number => a.localeCompare(b);
const startMs = Date.parse('2027-01-31T00:00:00Z');

describe('activities/subscription', function () {
  this.timeout(120_000);
  let database: TestDatabase;
  let db: Db;
  let activities: ReturnType<typeof makeDbActivities>;
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
  });
  after(async () => {
    await db.destroy();
    await database.drop();
  });

  async function activated(): Promise<string> {
    const planVersionId = await seedPlan(db, await seedWorld(db), {
      feeMinor: '100',
      credits: {
        unit: 'credit',
        included_micro: '1000000',
        overage: { enabled: true, credit_price: '0.03' },
        credit_price: null,
        burn: [],
      },
    });
    const subscriberId = await seedSubscriber(db, null);
    const startAt = new Date(startMs);
    const subscriptionId = await seedSubscription(db, { subscriberId, planVersionId, startAt });
    await activities.activateSubscription({ subscriptionId, nowMs: startMs - DAY_MS });
    return subscriptionId;
  }

  /** Segments tile the periods that are not void, and nothing overlaps. */
  async function tilingFaults(subscriptionId: string): Promise<readonly unknown[]> {
    const answer = await db.raw<{ rows: readonly unknown[] }>(
      `WITH covered AS (
         SELECT p.id, p.seq, p.start_at, p.end_at, min(g.from_at) AS from_at, max(g.until_at) AS until_at,
                sum(g.until_at - g.from_at) AS length
         FROM periods p LEFT JOIN segments g ON g.period_id = p.id AND NOT g.void
         WHERE p.subscription_id = ? GROUP BY p.id)
       SELECT seq FROM covered WHERE from_at IS DISTINCT FROM start_at OR until_at IS DISTINCT FROM end_at
         OR length IS DISTINCT FROM end_at - start_at`,
      [subscriptionId],
    );
    return answer.rows;
  }

  it('catches up with several boundaries at once when it wakes late', async () => {
    const subscriptionId = await activated();
    const view = await activities.rollSubscription({
      subscriptionId,
      nowMs: Date.parse('2027-07-01T00:00:00Z'),
    });
    assert.deepEqual(
      view.closing.map(({ periodSeq }) => periodSeq),
      [0, 1, 2, 3, 4],
    );
    assert.equal(view.current?.periodSeq, 5);
    assert.equal(view.current.endAtMs, Date.parse('2027-07-31T00:00:00Z'));
    const ahead = await listPeriods(db, subscriptionId, ['open', 'scheduled']);
    assert.equal(ahead.length, 3);
    // Credits of intervals that nobody could spend in are not granted.
    const grants = await db('grants').whereLike('business_key', `recurring:${subscriptionId}:%`);
    const keys = grants.map((grant) => String(grant.business_key)).toSorted(byText);
    assert.deepEqual(
      keys,
      [0, 1, 5, 6].map((index) => `recurring:${subscriptionId}:${index}`),
    );
    assert.deepEqual(await tilingFaults(subscriptionId), []);
  });

  it('rolling twice at one instant changes no row', async () => {
    const subscriptionId = await activated();
    const at = { subscriptionId, nowMs: startMs + 40 * DAY_MS };
    await activities.rollSubscription(at);
    const before = await checksum(db);
    await activities.rollSubscription(at);
    assert.equal(await checksum(db), before);
  });

  it('bumps the runtime version with each change that a shard must learn, and only then', async () => {
    const subscriptionId = await activated();
    const version = async (): Promise<number> =>
      (await readSubscriptionView(db, subscriptionId)).runtimeVersion;
    const first = await version();
    const nowMs = startMs + DAY_MS;
    await activities.setOverage({ subscriptionId, nowMs, enabled: true });
    assert.equal(await version(), first);
    await activities.setOverage({ subscriptionId, nowMs, enabled: false });
    assert.equal(await version(), first + 1);
    await activities.rollSubscription({ subscriptionId, nowMs });
    assert.equal(await version(), first + 1);
  });

  it('keeps the tiling whatever commands come in whatever order', async () => {
    const command = fc.oneof(
      { weight: 3, arbitrary: fc.constant({ kind: 'roll' as const }) },
      { weight: 3, arbitrary: fc.constant({ kind: 'close' as const }) },
      {
        weight: 3,
        arbitrary: fc.record({ kind: fc.constant('overage' as const), enabled: fc.boolean() }),
      },
      {
        weight: 1,
        arbitrary: fc.record({
          kind: fc.constant('cancel' as const),
          when: fc.constantFrom('now' as const, 'period_end' as const),
        }),
      },
    );
    const step = fc.record({ command, passMs: fc.nat({ max: 50 * DAY_MS }) });
    await fc.assert(
      fc.asyncProperty(fc.array(step, { minLength: 1, maxLength: 10 }), async (steps) => {
        const subscriptionId = await activated();
        let nowMs = startMs;
        for (const next of steps) {
          nowMs += next.passMs;
          await perform(subscriptionId, nowMs, next.command);
          assert.deepEqual(await tilingFaults(subscriptionId), []);
        }
        assert.deepEqual(await faultsOf(db), []);
        const periods = await listPeriods(db, subscriptionId);
        assert.deepEqual(
          periods.map(({ seq }) => seq),
          periods.map((_, index) => index),
        );
      }),
      { numRuns: 40 },
    );
  });

  type Step =
    | { readonly kind: 'roll' | 'close' }
    | { readonly kind: 'overage'; readonly enabled: boolean }
    | { readonly kind: 'cancel'; readonly when: 'now' | 'period_end' };

  async function perform(subscriptionId: string, nowMs: number, step: Step): Promise<void> {
    const args = { subscriptionId, nowMs };
    switch (step.kind) {
      case 'roll':
        await activities.rollSubscription(args);
        return;
      case 'close': {
        const { current } = await activities.rollSubscription(args);
        await activities.closePeriodNow({ ...args, periodId: current?.periodId ?? '' });
        return;
      }
      case 'overage':
        await activities.setOverage({ ...args, enabled: step.enabled });
        return;
      case 'cancel':
        await activities.cancelSubscription({ ...args, when: step.when });
        return;
      default:
        step satisfies never;
    }
  }

  it('reconciles: starts what Postgres says must run and Temporal does not have', async () => {
    const subscriptionId = await activated();
    await activities.rollSubscription({ subscriptionId, nowMs: startMs + 40 * DAY_MS });
    started.length = 0;
    const run = (running: readonly string[]): Promise<number> =>
      reconcile(
        {
          db,
          startWorkflow: (request) => {
            started.push(request);
            return Promise.resolve();
          },
          idOf: workflowIdOf,
          runningIds: () => Promise.resolve(new Set(running)),
        },
        new Date(startMs + 400 * DAY_MS),
      );
    await run([]);
    const ids = started.map((request) => workflowIdOf(request));
    assert.ok(ids.includes(`sub/${subscriptionId}`));
    assert.ok(ids.includes(`close/${subscriptionId}/0`));
    assert.equal(await run(ids), 0);
  });
});
