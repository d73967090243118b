import assert from 'node:assert/strict';

import type { SegmentConstraints } from '../../billing/constraints.ts';
import { shardLimits } from '../../billing/shard-limits.ts';
import { newId } from '../../store/ids.ts';
import {
  constraintsOf,
  grantOf,
  newSetting,
  openTestShard,
  segmentOf,
  type TestShard,
} from './support.ts';

describe('shards › the limits that callers refuse by are those of the scripts', () => {
  let shard: TestShard;
  before(async () => {
    shard = await openTestShard();
  });
  after(() => shard.close());

  const segment = segmentOf();
  const many = <T>(count: number, make: (index: number) => T): readonly T[] =>
    Array.from({ length: count }, (_, index) => make(index));
  const me = newSetting();
  const keys = (count: number) =>
    many(count, (index) => ({
      keyId: newId('key'),
      digest16: String(index).padStart(22, '0'),
      expiresMs: null,
      productIds: [],
    }));
  const products = (count: number) =>
    many(count, () => ({
      productId: newId('prod'),
      subscriptionId: newId('sub'),
      segments: [segment],
    }));
  const segments = (count: number): readonly SegmentConstraints[] =>
    many(count, (index) =>
      segmentOf({
        fromMs: Date.now() - 60_000 + index * 1e6,
        untilMs: Date.now() - 60_000 + (index + 1) * 1e6,
      }),
    );
  const features = (count: number) => many(count, (index) => `feature_${index}`);

  const cases = {
    keys: (count: number) => constraintsOf(me, [segment], { keys: keys(count) }),
    products: (count: number) => constraintsOf(me, [], { products: products(count) }),
    segments: (count: number) => constraintsOf(me, segments(count)),
    list: (count: number) => constraintsOf(me, [segmentOf({ features: features(count) })]),
  };
  for (const name of ['keys', 'products', 'segments', 'list'] as const) {
    it(`${name}: ${shardLimits[name]} are taken, one more is not`, async () => {
      const of = (count: number) => {
        const subscriberId = newId('sbr');
        return shard.shards.apply({ ...cases[name](count), subscriberId });
      };
      assert.equal((await of(shardLimits[name])).kind, 'applied');
      await assert.rejects(of(shardLimits[name] + 1));
    });
  }

  it('segments: no more are compiled than are taken', () => {});

  it(`buckets: ${shardLimits.buckets} are taken, one more is not`, async () => {
    const setting = newSetting();
    for (let seq = 1; seq <= shardLimits.buckets; seq += 1) {
      assert.equal((await shard.shards.credit(grantOf(setting, seq, 1))).kind, 'applied');
    }
    await assert.rejects(shard.shards.credit(grantOf(setting, shardLimits.buckets + 1, 1)));
  });

  it('balance: all of it is taken, a micro-credit more is not', async () => {
    const setting = newSetting();
    const all = Number(shardLimits.balanceMicro);
    assert.equal((await shard.shards.credit(grantOf(setting, 1, all))).kind, 'applied');
    await assert.rejects(shard.shards.credit(grantOf(setting, 2, 1)));
  });
});
