import assert from 'node:assert/strict';

import { startKeeper } from '../../drain/keeper.ts';
import { startProjector, type Projector } from '../../drain/projector.ts';
import { openShardMap } from '../../drain/shard-map.ts';
import { createShards } from '../../shards/client.ts';
import type { RefusalCode, Shards } from '../../shards/port.ts';
import { inTransaction } from '../../store/db.ts';
import { newId } from '../../store/ids.ts';
import { changePlan } from '../../store/plan-changes.ts';
import { bumpRuntime, waitForApplied } from '../../store/projection.ts';
import { selectRow } from '../../store/query.ts';
import { lockSubscription } from '../../store/subscriptions.ts';
import { until } from '../support/until.ts';
import {
  type Catalogue,
  type Control,
  grant,
  openControl,
  quiet,
  seedCatalogue,
  seedSubscriber,
  type Subscriber,
} from './control-fixture.ts';

/** A change of plan as a gateway feels it: on a real shard, through the projector. */
describe('drain › change of plan on a shard', function () {
  this.timeout(60_000);
  let control: Control;
  let catalogue: Catalogue;
  let shards: Shards;
  let running: readonly { stop(): Promise<void> }[];
  let sequence = 0;

  before(async () => {
    control = await openControl(1);
    catalogue = await seedCatalogue(control.db);
    catalogue = { ...catalogue, planVersionId: await version('3') };
    const [link] = control.links;
    assert.ok(link !== undefined);
    const keeper = startKeeper({
      db: control.db,
      link,
      startDrainer: () => ({ stop: () => Promise.resolve() }),
      log: quiet,
      pingEachMs: 20,
    });
    await until(() => (keeper.status().state === 'open' ? true : null));
    const map = await openShardMap(control.db);
    shards = createShards({ mapSource: map.current });
    const projector: Projector = startProjector({
      db: control.db,
      shards,
      map,
      log: quiet,
      pollMs: 40,
    });
    running = [keeper, projector];
  });
  after(async () => {
    await Promise.all(running.map((one) => one.stop()));
    await shards.close();
    await control.close();
  });

  /** Another published version of the plan, with another limit. */
  async function version(limit: string): Promise<string> {
    const id = newId('pver');
    await control.db.raw(
      `INSERT INTO plan_versions (id, plan_id, version, state, published_at, currency, interval_unit, definition)
       SELECT ?, plan_id, (SELECT max(version) + 1 FROM plan_versions w WHERE w.plan_id = v.plan_id), state, published_at,
              currency, interval_unit, jsonb_set(definition, '{features,0,limit}', to_jsonb(?::text))
       FROM plan_versions v WHERE id = ?`,
      [id, limit, catalogue.planVersionId],
    );
    return id;
  }

  async function change(subscriber: Subscriber, toVersionId: string): Promise<Date> {
    const effectiveAt = await inTransaction(control.db, async (tx) => {
      const subscription = await lockSubscription(tx, subscriber.subscriptionId);
      const request = { changeId: newId('pch'), toVersionId, when: 'now' } as const;
      const result = await changePlan(tx, subscription, request, new Date());
      assert.ok(result.kind === 'changed');
      await bumpRuntime(tx, subscriber.id);
      return result.effectiveAt;
    });
    const known = await waitForApplied(control.db, subscriber.id, {}, { timeoutMs: 20_000 });
    assert.equal(known, true, 'never applied');
    return effectiveAt;
  }

  const call = async (subscriber: Subscriber): Promise<'ok' | RefusalCode> => {
    sequence += 1;
    const day = new Date().toISOString().slice(0, 10).replaceAll('-', '');
    const answer = await shards.authorize({
      subscriberId: subscriber.id,
      opId: `${day}-change-${sequence.toString(36)}`,
      digest16: subscriber.digest16,
      productId: catalogue.productId,
      feature: 'demo_api',
      ttlMs: 60_000,
      estimates: [{ meter: 'demo_calls', quantity: 1 }],
    });
    return answer.kind === 'ok' ? 'ok' : answer.refusal.code;
  };

  /** Until the shard says otherwise than it did: the change has begun. */
  const untilSegmentOf = (subscriber: Subscriber, versionId: string): Promise<true> =>
    until(async () => {
      const state = await shards.read(subscriber.id);
      const segmentId = state?.products[0]?.segmentId;
      if (segmentId === undefined) return null;
      // A shard steps into the next segment with the call that finds it begun.
      await call(subscriber);
      const row = await selectRow(
        control.db,
        'SELECT 1 FROM segments WHERE id = ? AND plan_version_id = ?',
        [segmentId, versionId],
      );
      return row === null ? null : true;
    });

  it('keeps the counters: more is allowed by the difference of the limits, from the instant of the change on', async () => {
    const ada = await seedSubscriber(control.db, catalogue);
    await grant(control.db, ada.id, 100);
    assert.equal(await waitForApplied(control.db, ada.id, {}, { timeoutMs: 20_000 }), true);
    const answers = [await call(ada), await call(ada), await call(ada), await call(ada)];
    assert.deepEqual(answers.slice(0, 3), ['ok', 'ok', 'ok']);
    const denied = answers[3];
    assert.notEqual(denied, 'ok');

    const large = await version('5');
    const effectiveAt = await change(ada, large);
    assert.ok(effectiveAt.getTime() > Date.now() - 60_000);
    const state = await shards.read(ada.id);
    assert.equal(state?.products[0]?.untilMs, effectiveAt.getTime());
    // 3 of 5 are used: the first that is let in is the fourth.
    await until(async () => ((await call(ada)) === 'ok' ? true : null));
    assert.ok(Date.now() >= effectiveAt.getTime() - 1000);
    assert.equal(await call(ada), 'ok');
    assert.equal(await call(ada), denied);

    // A smaller plan: more is used than it allows, and nothing more is.
    const small = await version('4');
    await change(ada, small);
    await untilSegmentOf(ada, small);
    assert.equal(await call(ada), denied);
    const [limit] = (await shards.read(ada.id))?.products[0]?.limits ?? [];
    assert.equal(limit?.limit, 4);
  });
});
