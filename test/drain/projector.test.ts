import assert from 'node:assert/strict';

import { compileConstraints } from '../../billing/compile.ts';
import { startKeeper } from '../../drain/keeper.ts';
import { startProjector, type Projector } from '../../drain/projector.ts';
import { startPublisher } from '../../drain/publisher.ts';
import { openShardMap, type ShardMap } from '../../drain/shard-map.ts';
import type { Ticker } from '../../drain/ticker.ts';
import { createShards } from '../../shards/client.ts';
import { type Shards, ShardUnavailable } from '../../shards/port.ts';
import { inTransaction } from '../../store/db.ts';
import {
  bumpRuntime,
  readCompileInput,
  readProgress,
  waitForApplied,
} from '../../store/projection.ts';
import { readShards } from '../../store/slots.ts';
import { until } from '../support/until.ts';
import {
  type Catalogue,
  type Control,
  cutPeriod,
  deleteKeys,
  grant,
  openControl,
  quiet,
  seedCatalogue,
  seedSubscriber,
} from './control-fixture.ts';

const patient = { timeoutMs: 20_000 };

describe('drain/projector', () => {
  let control: Control;
  let catalogue: Catalogue;
  let map: ShardMap;
  let shards: Shards;
  let running: (Projector | Ticker)[];
  beforeEach(async () => {
    control = await openControl(2);
    catalogue = await seedCatalogue(control.db);
    await openShards();
    map = await openShardMap(control.db);
    shards = createShards({ mapSource: map.current });
    running = [];
  });
  afterEach(async () => {
    await Promise.all(running.map((one) => one.stop()));
    await shards.close();
    await control.close();
  });

  /** Opens every shard that is not open, with keepers that then leave. */
  const openShards = async (): Promise<void> => {
    const keepers = control.links.map((link) =>
      startKeeper({
        db: control.db,
        link,
        startDrainer: () => ({ stop: () => Promise.resolve() }),
        log: quiet,
        pingEachMs: 20,
      }),
    );
    await until(() => (keepers.every(({ status }) => status().state === 'open') ? true : null));
    await Promise.all(keepers.map((keeper) => keeper.stop()));
  };
  const project = (through: Shards = shards): Projector => {
    const projector = startProjector({
      db: control.db,
      shards: through,
      map,
      log: quiet,
      pollMs: 40,
    });
    running.push(projector);
    return projector;
  };
  const applied = async (id: string): Promise<void> => {
    assert.equal(await waitForApplied(control.db, id, {}, patient), true, 'never applied');
  };
  const held = async (id: string) => {
    const state = await shards.read(id);
    assert.ok(state !== null, 'the shard holds nothing');
    return state;
  };
  const call = (subscriber: { id: string; digest16: string }, op: string) =>
    shards.authorize({
      subscriberId: subscriber.id,
      opId: op,
      digest16: subscriber.digest16,
      productId: catalogue.productId,
      feature: 'demo_api',
      ttlMs: 60_000,
      estimates: [{ meter: 'demo_calls', quantity: 1 }],
    });
  const ids = opIds();

  it('puts on the shard what is compiled: limits, features, credits, segment, status', async () => {
    const ada = await seedSubscriber(control.db, catalogue);
    await grant(control.db, ada.id, 5);
    project();
    await applied(ada.id);
    const input = await readCompileInput(control.db, ada.id);
    assert.ok(input !== null);
    const [product] = compileConstraints(input).products;
    const segment = product?.segments[0];
    const state = await held(ada.id);
    assert.equal(state.version, 1);
    assert.equal(state.coreSeq, 1);
    assert.deepEqual(
      state.products.map((one) => ({
        productId: one.productId,
        segmentId: one.segmentId,
        untilMs: one.untilMs,
        status: one.status,
        overage: one.overage,
        features: one.features,
        limits: one.limits.map(({ name, meter, limit, hard }) => ({ name, meter, limit, hard })),
      })),
      [
        {
          productId: catalogue.productId,
          segmentId: segment?.segmentId,
          untilMs: segment?.untilMs,
          status: segment?.status,
          overage: segment?.overage,
          features: segment?.features,
          limits: segment?.limits.map(({ name, meter, limit, hard }) => ({
            name,
            meter,
            limit,
            hard,
          })),
        },
      ],
    );
    assert.deepEqual(
      state.buckets.map(({ unit, availableMicro, heldMicro }) => ({
        unit,
        availableMicro,
        heldMicro,
      })),
      [{ unit: 'credit', availableMicro: 5_000_000, heldMicro: 0 }],
    );
    assert.equal((await call(ada, ids())).kind, 'ok');
  });

  it('a revoked key is refused as soon as its revocation is applied', async () => {
    const ada = await seedSubscriber(control.db, catalogue);
    await grant(control.db, ada.id, 5);
    project();
    await applied(ada.id);
    assert.equal((await call(ada, ids())).kind, 'ok');
    const version = await inTransaction(control.db, async (tx) => {
      await tx('api_keys').where({ id: ada.keyId }).update({ revoked_at: new Date() });
      return bumpRuntime(tx, ada.id);
    });
    assert.equal(await waitForApplied(control.db, ada.id, { version }, patient), true);
    const refused = await call(ada, ids());
    assert.ok(refused.kind === 'refused');
    assert.equal(refused.refusal.code, 'invalid_credential');
  });

  it('applies concurrent bumps and grants, each subscriber in order, none lost', async () => {
    const seeded = Array.from({ length: 12 }, () => seedSubscriber(control.db, catalogue));
    const subscribers = await Promise.all(seeded);
    const projector = project();
    await Promise.all(
      subscribers.flatMap(({ id }) =>
        Array.from({ length: 8 }, async (_, index) => {
          if (index % 2 === 0) await grant(control.db, id, 1);
          else await inTransaction(control.db, (tx) => bumpRuntime(tx, id));
          projector.wake(id);
        }),
      ),
    );
    for (const { id } of subscribers) {
      await applied(id);
      const state = await held(id);
      assert.deepEqual([state.version, state.coreSeq], [5, 4]);
      assert.equal(sumOf(state.buckets), 4_000_000);
    }
  });

  it('never lets an older state overwrite a newer one', async () => {
    const ada = await seedSubscriber(control.db, catalogue);
    const older = await readCompileInput(control.db, ada.id);
    assert.ok(older !== null);
    await inTransaction(control.db, async (tx) => {
      await tx('api_keys').where({ id: ada.keyId }).update({ revoked_at: new Date() });
      await bumpRuntime(tx, ada.id);
    });
    project();
    await applied(ada.id);
    const answer = await shards.apply(compileConstraints(older));
    assert.equal(answer.kind, 'older');
    const refused = await call(ada, ids());
    assert.ok(refused.kind === 'refused' && refused.refusal.code === 'invalid_credential');
  });

  it('sends the credit log again from where the shard says that it is', async () => {
    const ada = await seedSubscriber(control.db, catalogue);
    for (let count = 0; count < 5; count++) await grant(control.db, ada.id, 1);
    // Postgres believes that three are applied; the shard has none of them.
    await control.db('subscribers').where({ id: ada.id }).update({ applied_core_seq: 3 });
    project();
    await applied(ada.id);
    const state = await held(ada.id);
    assert.equal(state.coreSeq, 5);
    assert.equal(sumOf(state.buckets), 5_000_000);
  });

  it('does each thing once when replies are lost', async () => {
    const ada = await seedSubscriber(control.db, catalogue);
    for (let count = 0; count < 3; count++) await grant(control.db, ada.id, 1);
    let lost = 0;
    const lossy: Shards = {
      ...shards,
      credit: async (entry) => {
        const answer = await shards.credit(entry);
        if (lost++ % 2 === 0)
          throw new ShardUnavailable('shard-1', 'unknown', 'the reply was lost');
        return answer;
      },
      apply: async (constraints) => {
        const answer = await shards.apply(constraints);
        if (lost++ < 7) throw new ShardUnavailable('shard-1', 'unknown', 'the reply was lost');
        return answer;
      },
    };
    project(lossy);
    await applied(ada.id);
    assert.equal(sumOf((await held(ada.id)).buckets), 3_000_000);
    assert.ok(lost >= 7);
  });

  it('a shard that is away holds up nobody on the others, and catches up by itself', async () => {
    const [first] = control.servers;
    assert.ok(first !== undefined);
    const projector = project();
    await until(() => (projector.isVerified() ? true : null));
    await first.kill9();
    const subscribers = await seedOnBoth(control, catalogue, map);
    assert.equal(await waitForApplied(control.db, subscribers.other.id, {}, patient), true);
    assert.equal((await readProgress(control.db, subscribers.away.id)).appliedVersion, 0n);
    await first.restart();
    await openShards();
    await applied(subscribers.away.id);
  });

  it('tells a shard again what it lost, before anybody asks: no credit is gone', async () => {
    const { away: ada } = await seedOnBoth(control, catalogue, map);
    await grant(control.db, ada.id, 7);
    const projector = project();
    await applied(ada.id);
    await until(() => (projector.isVerified() ? true : null));
    // What a power failure takes: the last second of the log. Here all that the shard knew of her.
    const [link] = control.links;
    assert.ok(link !== undefined);
    await deleteKeys(control.servers[0]?.url ?? '', ada.id);
    assert.equal(await shards.read(ada.id), null);
    await control.db('shards').where({ name: 'shard-1' }).update({ state: 'recovering' });
    await openShards();
    const state = await until(async () => {
      const read = await shards.read(ada.id).catch(() => null);
      return read !== null && read.version === 1 ? read : null;
    });
    assert.equal(state.coreSeq, 1);
    assert.equal(sumOf(state.buckets), 7_000_000);
    assert.equal((await call(ada, ids())).kind, 'ok');
  });

  it('moves a boundary that passed before the shard was told', async () => {
    const ada = await seedSubscriber(control.db, catalogue);
    project();
    await applied(ada.id);
    await cutPeriod(control.db, ada, Date.now() - 30_000);
    const version = (await readProgress(control.db, ada.id)).runtimeVersion;
    await waitForApplied(control.db, ada.id, { version: version + 1n }, patient);
    const [first] = ada.periods;
    const cut = await control.db('segments').where({ id: first?.segmentId }).first('until_at');
    const [product] = (await held(ada.id)).products;
    assert.equal(product?.segmentId, first?.segmentId);
    assert.equal(product?.untilMs, cut.until_at.getTime());
    assert.ok(cut.until_at.getTime() > Date.now() - 20_000);
  });

  it('takes a change of a segment that has begun before the shard was told, without a new boundary', async () => {
    const ada = await seedSubscriber(control.db, catalogue);
    project();
    await applied(ada.id);
    const [first] = ada.periods;
    const own = { subscription_id: ada.subscriptionId };
    await control.db('segments').where(own).update({ status: 'past_due' });
    const before = await control
      .db('segments')
      .where(own)
      .orderBy('id')
      .select('from_at', 'until_at');
    await inTransaction(control.db, (tx) => bumpRuntime(tx, ada.id));
    await applied(ada.id);
    assert.equal((await held(ada.id)).products[0]?.segmentId, first?.segmentId);
    const after = await control
      .db('segments')
      .where(own)
      .orderBy('id')
      .select('from_at', 'until_at');
    assert.deepEqual(after, before);
    const refused = await call(ada, ids());
    assert.equal(refused.kind === 'refused' && refused.refusal.code, 'payment_overdue');
  });

  it('ends on the shard a subscription whose end it missed, so that the next one can begin', async () => {
    const ada = await seedSubscriber(control.db, catalogue);
    project();
    await applied(ada.id);
    await Promise.all(running.splice(0).map((one) => one.stop()));
    await control
      .db('segments')
      .where({ subscription_id: ada.subscriptionId })
      .update({ void: true });
    await control
      .db('subscriptions')
      .where({ id: ada.subscriptionId })
      .update({ state: 'canceled', ended_at: new Date(Date.now() - 60_000) });
    await control.db.raw(
      `INSERT INTO subscriptions (id, environment, subscriber_id, product_id, plan_id, plan_version_id, state, currency, time_zone, anchor_at)
       SELECT 'sub_' || repeat('9', 22), environment, subscriber_id, product_id, plan_id, plan_version_id, 'active', currency, time_zone, anchor_at
       FROM subscriptions WHERE id = ?`,
      [ada.subscriptionId],
    );
    await control.db.raw(
      `INSERT INTO periods (id, subscription_id, seq, interval_index, interval_start_at, interval_end_at, start_at, end_at, state)
       VALUES ('per_' || repeat('9', 22), 'sub_' || repeat('9', 22), 0, 0, now() - interval '30 seconds', now() + interval '1 day',
               now() - interval '30 seconds', now() + interval '1 day', 'open')`,
    );
    await control.db.raw(
      `INSERT INTO segments (subscription_id, period_id, plan_version_id, from_at, until_at, status, overage)
       SELECT subscription_id, id, ?, start_at, end_at, 'active', false FROM periods WHERE id = 'per_' || repeat('9', 22)`,
      [catalogue.planVersionId],
    );
    await inTransaction(control.db, (tx) => bumpRuntime(tx, ada.id));
    project();
    await applied(ada.id);
    const segment = await control
      .db('segments')
      .where({ subscription_id: `sub_${'9'.repeat(22)}` })
      .first('id');
    await until(async () =>
      (await held(ada.id)).products[0]?.segmentId === segment.id.toString() ? true : null,
    );
    await applied(ada.id);
  });

  it('one subscriber whose credit log has a hole keeps nobody else from being told', async () => {
    const bad = await seedSubscriber(control.db, catalogue);
    const good = await seedSubscriber(control.db, catalogue);
    // A log with a hole: Postgres says that entries 1 and 2 exist, and they do not.
    await control.db('subscribers').where({ id: bad.id }).update({ core_seq: 2 });
    await grant(control.db, bad.id, 1);
    project();
    await applied(good.id);
    const progress = await readProgress(control.db, bad.id);
    assert.equal(progress.appliedCoreSeq, 0n);
  });

  it('revokes a key although the shard refuses an entry of the credit log', async () => {
    const ada = await seedSubscriber(control.db, catalogue);
    await grant(control.db, ada.id, 5);
    project();
    await applied(ada.id);
    // More than a shard can hold of one subscriber: it refuses this entry for ever.
    await grant(control.db, ada.id, 999_999_999);
    const version = await inTransaction(control.db, async (tx) => {
      await tx('api_keys').where({ id: ada.keyId }).update({ revoked_at: new Date() });
      return bumpRuntime(tx, ada.id);
    });
    assert.equal(await waitForApplied(control.db, ada.id, { version }, patient), true);
    const refused = await call(ada, ids());
    assert.ok(refused.kind === 'refused');
    assert.equal(refused.refusal.code, 'invalid_credential');
    assert.equal((await readProgress(control.db, ada.id)).appliedCoreSeq, 1n);
  });

  it('writes map and catalogue to every shard, again after each change and each opening', async () => {
    const publisher = startPublisher({
      db: control.db,
      map,
      links: control.links,
      log: quiet,
      pollMs: 30,
    });
    running.push(publisher);
    const allHave = (host: string) =>
      until(async () => {
        const catalogues = await Promise.all(control.links.map((link) => link.readCatalogue()));
        const maps = await Promise.all(control.links.map((link) => link.readMap()));
        const isDone =
          maps.every((one) => one?.version === map.current().version) &&
          catalogues.every((one) => one?.products[0]?.hosts.includes(host) === true);
        return isDone ? maps : null;
      });
    const maps = await allHave('demo.example.test');
    assert.deepEqual(maps[0]?.owners, map.current().owners);
    assert.deepEqual(maps[0]?.epochs, map.current().epochs);
    assert.deepEqual(
      maps[1]?.shards,
      (await readShards(control.db)).map(({ name, url, incarnation, state }) => ({
        name,
        url,
        incarnation,
        state,
      })),
    );
    await control.db('products').update({ hosts: ['new.example.test'] });
    await allHave('new.example.test');
    const [link] = control.links;
    assert.ok(link !== undefined);
    await deleteKeys(link.url, null);
    await control.db('shards').where({ name: 'shard-1' }).update({ state: 'recovering' });
    await openShards();
    await allHave('new.example.test');
    await control.db('products').update({ upstream_url: 'nonsense' });
    const others = await seedCatalogue(control.db, 'other');
    await until(async () => {
      const read = await link.readCatalogue();
      const served = read?.products.map(({ id }) => id) ?? [];
      return served.length === 1 && served[0] === others.productId ? true : null;
    });
  });
});

function sumOf(buckets: readonly { readonly availableMicro: number }[]): number {
  return buckets.reduce((sum, { availableMicro }) => sum + availableMicro, 0);
}

function opIds(): () => string {
  let sequence = 0;
  const day = new Date().toISOString().slice(0, 10).replaceAll('-', '');
  return () => `${day}-projector-${(sequence++).toString(36)}`;
}

async function seedOnBoth(control: Control, catalogue: Catalogue, map: ShardMap) {
  for (let tries = 0; tries < 60; tries++) {
    const [away, other] = await Promise.all([
      seedSubscriber(control.db, catalogue),
      seedSubscriber(control.db, catalogue),
    ]);
    if (map.shardOf(away.id) === 'shard-1' && map.shardOf(other.id) === 'shard-2') {
      return { away, other };
    }
  }
  throw new Error('no two subscribers on two shards');
}
