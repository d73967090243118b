/** The keeper's link: what it publishes and reads, what falls due, and what it finds wrong with a server. */
import assert from 'node:assert/strict';

import { formatFact, parseFact } from '../../billing/usage-fact.ts';
import { openShardLink } from '../../shards/admin-client.ts';
import { connectShards } from '../../shards/fleet.ts';
import { operationsKey } from '../../shards/keys.ts';
import { ShardUnavailable } from '../../shards/port.ts';
import { formatSlotMap } from '../../shards/slot-map.ts';
import { freePort } from '../support/ports.ts';
import { startRedis } from '../support/redis.ts';
import {
  authorizeOf,
  constraintsOf,
  creditsFor,
  grantOf,
  mapOf,
  newSetting,
  openTestShard,
  segmentOf,
  settleOf,
  spanLimit,
  type TestShard,
} from './support.ts';

describe('shards/admin-client', () => {
  let shard: TestShard;
  before(async () => {
    shard = await openTestShard();
  });
  after(async () => shard.close());

  it('finds nothing wrong with a shard of ours, and says what is wrong with another Redis', async () => {
    assert.deepEqual(await shard.link.check(), []);
    const other = await startRedis({
      settings: { appendonly: 'no', 'maxmemory-policy': 'allkeys-lru' },
    });
    const link = openShardLink({ name: 'other', url: other.url });
    try {
      assert.deepEqual(await link.check(), [
        'appendonly is off: a restart would lose facts',
        'maxmemory-policy is allkeys-lru, not noeviction',
      ]);
    } finally {
      await link.close();
      await other.stop();
    }
  });

  it('rejects when nobody answers', async () => {
    const link = openShardLink({ name: 'nobody', url: `redis://127.0.0.1:${await freePort()}` });
    await assert.rejects(link.ping(), ShardUnavailable);
    await link.close();
  });

  it('keeps identity, epochs and watermark', async () => {
    assert.equal(await shard.link.readIdentity(), null);
    await shard.link.writeIdentity({ name: 's1', incarnation: 3 });
    assert.deepEqual(await shard.link.readIdentity(), { name: 's1', incarnation: 3 });
    await shard.link.writeEpochs(new Map([[5, 2]]));
    assert.equal((await shard.link.readEpochs()).get(5), 2);
    await shard.link.writeEpochs(new Map([[5, 1]]));
    assert.equal(await shard.link.readWatermark(), null);
    await shard.link.writeWatermark({ incarnation: 3, streamId: '17-4' });
    assert.deepEqual(await shard.link.readWatermark(), { incarnation: 3, streamId: '17-4' });
    assert.equal(await shard.link.hasScripts(1), true);
    assert.equal(await shard.link.hasScripts(2), false);
    const info = await shard.link.info();
    assert.match(info.runId, /^[0-9a-f]{40}$/);
    assert.ok(Math.abs((await shard.link.clockMs()) - Date.now()) < 60_000);
  });

  it('ends due holds on the shard’s own clock, and says what a bucket has lost', async () => {
    const setting = newSetting();
    const { subscriberId } = setting;
    const soonMs = Date.now() + 300;
    await shard.shards.apply(constraintsOf(setting, [segmentOf({ credits: creditsFor(1) })]));
    await shard.shards.credit(grantOf(setting, 1, 10, { expiresMs: soonMs }));
    const request = authorizeOf(setting, {
      ttlMs: 1,
      estimates: [{ meter: 'calls', quantity: 4 }],
    });
    const held = await shard.shards.authorize(request);
    const lasting = authorizeOf(setting, { estimates: [{ meter: 'calls', quantity: 1 }] });
    const keeps = await shard.shards.authorize(lasting);
    assert.ok(held.kind === 'ok' && keeps.kind === 'ok');

    await until(async () => (await shard.link.clockMs()) > held.atMs + 1);
    const mine = async (nowMs: number) =>
      (await shard.link.dueHolds(nowMs, 100)).filter((due) => due.subscriberId === subscriberId);
    assert.deepEqual(
      (await mine(held.atMs + 1)).map((due) => due.opId),
      [request.opId],
    );
    assert.deepEqual(await shard.link.expireHold({ subscriberId, opId: request.opId }, 1), {
      kind: 'expired',
    });
    assert.deepEqual(await shard.link.expireHold({ subscriberId, opId: lasting.opId }, 1), {
      kind: 'open',
    });
    assert.deepEqual(await mine(held.atMs + 1), []);

    // The bucket's own end is due like a hold's, without an operation.
    assert.deepEqual(await shard.link.expireHold({ subscriberId, opId: '' }, 1), { kind: 'gone' });
    await until(async () => (await shard.link.clockMs()) > soonMs);
    assert.deepEqual(
      (await mine(soonMs)).map((due) => due.opId),
      [''],
    );
    assert.deepEqual(await shard.link.expireHold({ subscriberId, opId: '' }, 1), {
      kind: 'expired',
    });
    assert.deepEqual(await mine(soonMs), []);
    // What is still held survived the expiry; what the settle does not keep goes the same way.
    const settled = await shard.shards.settle(
      settleOf(lasting, keeps, { actuals: [{ meter: 'calls', quantity: 0 }] }),
    );
    assert.equal(settled.kind === 'ok' && settled.availableMicro, 0);
    const expired = (await shard.facts(subscriberId)).filter((fact) => fact.kind === 'expired');
    assert.deepEqual(
      expired.map((fact) => fact.micro),
      [9, 1],
    );
  });

  it('gives back what a lost record held, when the sweeper comes late', async () => {
    const setting = newSetting();
    const { subscriberId } = setting;
    await shard.shards.apply(
      constraintsOf(setting, [
        segmentOf({ credits: creditsFor(1), limits: [spanLimit('calls', 100)] }),
      ]),
    );
    await shard.shards.credit(grantOf(setting, 1, 10));
    const ask = async (quantity: number) => {
      const request = authorizeOf(setting, { estimates: [{ meter: 'calls', quantity }] });
      return { request, held: await shard.shards.authorize(request) };
    };
    const lost = await ask(4);
    const kept = await ask(3);
    for (const parity of [0, 1] as const) {
      await shard.raw.hdel(operationsKey(subscriberId, parity), lost.request.opId);
    }
    assert.deepEqual(await shard.link.expireHold({ subscriberId, opId: lost.request.opId }, 1), {
      kind: 'expired',
    });
    const state = await shard.shards.read(subscriberId);
    assert.deepEqual(
      state?.buckets.map((bucket) => [bucket.availableMicro, bucket.heldMicro]),
      [[7, 3]],
    );
    assert.deepEqual([state.products[0]?.openHolds, state.products[0]?.limits[0]?.held], [1, 3]);
    const late = await shard.shards.settle(settleOf(lost.request, lost.held));
    assert.equal(late.kind, 'recorded');
    const settled = await shard.shards.settle(settleOf(kept.request, kept.held));
    assert.equal(settled.kind === 'ok' && settled.chargedMicro, 3);
  });

  it('writes facts that their reader gives back letter by letter', async () => {
    const setting = newSetting();
    const { subscriberId, productId } = setting;
    const segment = segmentOf({ overage: true, credits: creditsFor(2) });
    await shard.shards.apply(constraintsOf(setting, [segment]));
    const grant = grantOf(setting, 1, 10);
    await shard.shards.credit(grant);
    await shard.shards.credit({ ...grant, seq: 2, verb: 'debit', amountMicro: 3 });
    const request = authorizeOf(setting, {
      estimates: [
        { meter: 'calls', quantity: 4 },
        { meter: 'tokens', quantity: 500 },
      ],
    });
    const held = await shard.shards.authorize(request);
    await shard.shards.settle(settleOf(request, held, { flags: ['estimated'], status: 201 }));
    const unheld = authorizeOf(setting);
    await shard.shards.settle(settleOf(unheld, held, { opId: unheld.opId }));
    await shard.shards.record({
      subscriberId,
      opId: authorizeOf(setting).opId,
      productId,
      atMs: 5,
      quantities: [{ meter: 'calls', quantity: 2 }],
    });
    const entries = await shard.link.readStream('0-0', 10_000, 0);
    assert.ok(entries.length > 10);
    for (const { fact } of entries) assert.equal(formatFact(parseFact(fact)), fact);
    const [debit, usage, low, lateUsage, external] = await shard.facts(subscriberId);
    assert.ok(held.kind === 'ok');
    assert.deepEqual(debit?.kind === 'debit' && [debit.coreSeq, debit.takenMicro], [2, 3]);
    assert.deepEqual(usage, {
      kind: 'usage',
      opId: request.opId,
      subscriberId,
      subscriptionId: setting.subscriptionId,
      segmentId: segment.segmentId,
      atMs: held.atMs,
      productId,
      keyId: setting.keyId,
      status: 201,
      quantities: request.estimates,
      takes: [{ bucketId: grant.bucket.id, micro: 7 }],
      overageMicro: 1,
      writtenOffMicro: 0,
      flags: ['estimated'],
    });
    assert.deepEqual(low?.kind === 'low' && low.availableMicro, 0);
    assert.deepEqual(lateUsage?.kind === 'usage' && lateUsage.flags, ['unheld']);
    assert.deepEqual(
      external?.kind === 'usage' && [external.segmentId, external.subscriptionId, external.flags],
      ['', '', ['external']],
    );
  });

  it('reads the stream on from an id, waits for what comes, trims what is done', async () => {
    const setting = newSetting();
    await shard.shards.apply(constraintsOf(setting, [segmentOf()]));
    const lastId = await shard.link.lastStreamId();
    assert.deepEqual(await shard.link.readStream(lastId, 10, 0), []);
    const waiting = shard.link.readStream(lastId, 10, 5000);
    const request = authorizeOf(setting);
    const settled = await shard.shards.settle(
      settleOf(request, await shard.shards.authorize(request)),
    );
    assert.ok(settled.kind === 'ok');
    assert.deepEqual(
      (await waiting).map((entry) => entry.id),
      [settled.streamId],
    );
    await shard.link.trimStream(settled.streamId);
    assert.equal(await shard.link.streamLength(), 1);
    assert.equal(await shard.link.lastStreamId(), settled.streamId);
  });
});

describe('shards/fleet', () => {
  it('keeps the highest version of what the shards publish, and outlives them', async () => {
    const shard = await openTestShard();
    const fleet = connectShards([{ name: 's1', url: shard.redis.url }], { pollMs: 20 });
    try {
      let changes = 0;
      fleet.onChange(() => {
        changes += 1;
      });
      assert.equal(fleet.map(), null);
      await assert.rejects(fleet.shards.read(newSetting().subscriberId), ShardUnavailable);
      await shard.link.writeMap(formatSlotMap(mapOf(shard.redis.url, 1, 1, 4)));
      assert.equal(await fleet.awaitMap(5000), true);
      assert.equal(fleet.map()?.version, 4);
      assert.equal(await fleet.shards.read(newSetting().subscriberId).catch(String), null);
      const good = {
        id: 'prod_1',
        environment: 'test',
        key: 'demo',
        hosts: [],
        upstream_url: 'http://127.0.0.1:1',
        reports_usage: false,
        routes: [],
      };
      await shard.link.writeCatalogue(
        JSON.stringify({ version: 9, products: [good, { ...good, upstream_url: 'nonsense' }] }),
      );
      await shard.link.writeWatermark({ incarnation: 1, streamId: '5-0' });
      await fleet.refresh();
      await until(() => Promise.resolve(fleet.watermark('s1') !== null));
      assert.deepEqual(fleet.catalogue(), { version: 9, products: [good] });
      assert.deepEqual(fleet.watermark('s1'), { incarnation: 1, streamId: '5-0' });
      assert.ok(changes >= 2);
      await shard.link.writeMap(formatSlotMap(mapOf(shard.redis.url, 1, 1, 3)));
      await shard.link.writeCatalogue('nonsense');
      await fleet.refresh();
      assert.equal(fleet.map()?.version, 4);
      await shard.redis.kill9();
      await fleet.refresh();
      assert.equal(fleet.map()?.version, 4);
      assert.equal(fleet.catalogue()?.version, 9);
      await assert.rejects(fleet.shards.read(newSetting().subscriberId), ShardUnavailable);
    } finally {
      await fleet.close();
      await shard.close();
    }
  });
});

/** Waits for what a real clock brings about. */
async function until(isSo: () => Promise<boolean>): Promise<void> {
  while (!(await isSo())) await new Promise((resolve) => setTimeout(resolve, 5));
}
