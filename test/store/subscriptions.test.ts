import assert from 'node:assert/strict';

import { type Db, inTransaction, openDb } from '../../store/db.ts';
import {
  changeSubscription,
  createSubscription,
  lockSubscription,
  readSubscription,
} from '../../store/subscriptions.ts';
import { type TestDatabase, testDatabase } from '../support/postgres.ts';
import {
  seedPlan,
  seedSubscriber,
  seedSubscription,
  seedWorld,
  type World,
} from '../workflows/support/world.ts';

describe('store/subscriptions', () => {
  let database: TestDatabase;
  let db: Db;
  let world: World;

  before(async () => {
    database = await testDatabase();
    db = openDb(database.url);
    world = await seedWorld(db);
  });
  after(async () => {
    await db.destroy();
    await database.drop();
  });

  const create = async (
    subscriberId: string,
    planVersionId: string,
    environment: 'test' | 'live' = 'test',
  ) =>
    inTransaction(db, (tx) =>
      createSubscription(tx, {
        environment,
        subscriberId,
        planVersionId,
        timeZone: 'Europe/Berlin',
      }),
    );

  it('writes a pending row that keeps its plan version, currency and zone', async () => {
    const planVersionId = await seedPlan(db, world, { feeMinor: '100' });
    const subscriberId = await seedSubscriber(db, null);
    const created = await create(subscriberId, planVersionId);
    assert.equal(created.kind, 'created');
    const row = await readSubscription(
      db,
      created.kind === 'created' ? created.subscriptionId : '',
    );
    assert.deepEqual(
      [row.state, row.planVersionId, row.currency, row.timeZone, row.version, row.overageEnabled],
      ['pending', planVersionId, 'USD', 'Europe/Berlin', 1, false],
    );
  });

  it('takes overage from the plan unless it is told', async () => {
    const credits = {
      unit: 'credit',
      included_micro: '1',
      overage: { enabled: true, credit_price: '1' },
      credit_price: '1',
      burn: [],
    };
    const planVersionId = await seedPlan(db, world, { credits });
    const byPlan = await seedSubscription(db, {
      subscriberId: await seedSubscriber(db, null),
      planVersionId,
    });
    assert.equal((await readSubscription(db, byPlan)).overageEnabled, true);
  });

  it('refuses overage on a plan that has no price for it: it would be used and never billed', async () => {
    const prepaid = {
      unit: 'credit',
      included_micro: '0',
      overage: null,
      credit_price: null,
      burn: [],
    };
    for (const terms of [{ credits: prepaid }, { feeMinor: '100' }]) {
      const planVersionId = await seedPlan(db, world, terms);
      const subscriberId = await seedSubscriber(db, null);
      const wanted = { environment: 'test', subscriberId, planVersionId, timeZone: 'UTC' } as const;
      const answers = [];
      for (const overageEnabled of [true, false]) {
        answers.push(
          await inTransaction(db, (tx) => createSubscription(tx, { ...wanted, overageEnabled })),
        );
      }
      const [refused, created] = answers;
      assert.deepEqual(refused, { kind: 'refused', code: 'overage_not_in_plan' });
      assert.equal(created?.kind, 'created');
    }
  });

  for (const [state, code] of [
    ['draft', 'plan_not_published'],
    ['archived', 'plan_archived'],
  ] as const) {
    it(`refuses a ${state} version: ${code}`, async () => {
      const planVersionId = await seedPlan(db, world, { feeMinor: '100', state });
      const refused = await create(await seedSubscriber(db, null), planVersionId);
      assert.deepEqual(refused, { kind: 'refused', code });
    });
  }

  it('does not find a plan of the other environment', async () => {
    const planVersionId = await seedPlan(db, world, { feeMinor: '100' });
    const refused = await create(await seedSubscriber(db, null), planVersionId, 'live');
    assert.deepEqual(refused, { kind: 'refused', code: 'plan_not_found' });
  });

  it('gives a subscriber one live subscription of a product, whoever asks at once', async () => {
    const planVersionId = await seedPlan(db, world, { feeMinor: '100' });
    const subscriberId = await seedSubscriber(db, null);
    const answers = await Promise.all(
      Array.from({ length: 6 }, () => create(subscriberId, planVersionId)),
    );
    const created = answers.filter((answer) => answer.kind === 'created');
    assert.equal(created.length, 1);
    const [id] = created.map((answer) => answer.subscriptionId);
    for (const answer of answers.filter((other) => other.kind === 'refused')) {
      assert.deepEqual(answer, {
        kind: 'refused',
        code: 'subscription_exists',
        subscriptionId: id,
      });
    }
  });

  it('refuses a change that was decided on an older version', async () => {
    const planVersionId = await seedPlan(db, world, { feeMinor: '100' });
    const subscriberId = await seedSubscriber(db, null);
    const id = await seedSubscription(db, { subscriberId, planVersionId });
    const stale = await readSubscription(db, id);
    const change = { kind: 'overage_set', enabled: true } as const;
    await inTransaction(db, async (tx) => {
      await changeSubscription(tx, await lockSubscription(tx, id), change);
    });
    await assert.rejects(
      inTransaction(db, (tx) => changeSubscription(tx, stale, change)),
      /was changed in between/,
    );
    assert.equal((await readSubscription(db, id)).version, 2);
  });
});
