/** The port over a real shard: exactness under concurrency, idempotence, and every fence. */
import assert from 'node:assert/strict';

import { slotCount, slotOf } from '../../billing/slot.ts';
import { createShards } from '../../shards/client.ts';
import { operationsKey, stateKey } from '../../shards/keys.ts';
import { type AuthorizeResult, ShardUnavailable } from '../../shards/port.ts';
import { authorizeArguments } from '../../shards/script-arguments.ts';
import { scriptsOf } from '../../shards/scripts.ts';
import { startFlakyProxy } from './flaky-proxy.ts';
import {
  authorizeOf,
  constraintsOf,
  creditsFor,
  grantOf,
  mapOf,
  newSetting,
  openTestShard,
  segmentOf,
  type Setting,
  settleOf,
  spanLimit,
  type TestShard,
} from './support.ts';

/** A subscriber with these credits; a call costs one whole credit. */
async function withCredits(shard: TestShard, credits: number): Promise<Setting> {
  const setting = newSetting();
  const applied = await shard.shards.apply(
    constraintsOf(setting, [
      segmentOf({ credits: creditsFor(1_000_000), limits: [spanLimit('calls', 1_000_000)] }),
    ]),
  );
  assert.equal(applied.kind, 'applied');
  await shard.shards.credit(grantOf(setting, 1, credits * 1_000_000));
  return setting;
}

function codeOf(result: AuthorizeResult): string {
  return result.kind === 'ok' ? 'ok' : result.refusal.code;
}

function isUnavailable(outcome: 'not_sent' | 'unknown'): (error: unknown) => boolean {
  return (error) => {
    assert.ok(error instanceof ShardUnavailable, String(error));
    assert.equal(error.outcome, outcome, error.message);
    return true;
  };
}

describe('shards/client', () => {
  let shard: TestShard;
  before(async () => {
    shard = await openTestShard();
  });
  after(async () => shard.close());

  it('serves exactly the 250 calls that are paid for, however many ask at once', async () => {
    const setting = await withCredits(shard, 250);
    const said = new Map<string, number>();
    await Promise.all(
      Array.from({ length: 64 }, async () => {
        for (let n = 0; n < 12; n++) {
          const request = authorizeOf(setting);
          const result = await shard.shards.authorize(request);
          said.set(codeOf(result), (said.get(codeOf(result)) ?? 0) + 1);
          if (result.kind === 'ok') await shard.shards.settle(settleOf(request, result));
        }
      }),
    );
    assert.equal(said.get('ok'), 250);
    const refused = (said.get('credits_in_flight') ?? 0) + (said.get('credit_exhausted') ?? 0);
    assert.equal(refused, 64 * 12 - 250);
    assert.equal(codeOf(await shard.shards.authorize(authorizeOf(setting))), 'credit_exhausted');
    const facts = await shard.facts(setting.subscriberId);
    assert.equal(facts.filter((fact) => fact.kind === 'usage').length, 250);
    assert.equal(facts.filter((fact) => fact.kind === 'low').length, 1);
  });

  it('gives every call the same effect once, however often it arrives', async () => {
    const setting = await withCredits(shard, 10);
    const state = async (): Promise<string> => {
      const { subscriberId } = setting;
      const keys = [
        stateKey(subscriberId),
        operationsKey(subscriberId, 0),
        operationsKey(subscriberId, 1),
      ];
      return JSON.stringify([
        await Promise.all(
          keys.map(async (key) =>
            Object.entries(await shard.raw.hgetall(key)).toSorted(([a], [b]) => (a < b ? -1 : 1)),
          ),
        ),
        await shard.raw.zrange('tb:x', '0', '-1'),
        await shard.link.streamLength(),
      ]);
    };
    const repeat = async (call: () => Promise<{ kind: string }>): Promise<string[]> => {
      const kinds = [(await call()).kind];
      const once = await state();
      for (let k = 0; k < 5; k++) kinds.push((await call()).kind);
      assert.equal(await state(), once);
      return [...new Set(kinds)];
    };
    const request = authorizeOf(setting);
    let held: AuthorizeResult | undefined;
    const authorize = async (): Promise<AuthorizeResult> => {
      const result = await shard.shards.authorize(request);
      held ??= result;
      return result;
    };
    assert.deepEqual(await repeat(authorize), ['ok', 'refused']);
    assert.ok(held);
    const settle = settleOf(request, held);
    assert.deepEqual(await repeat(() => shard.shards.settle(settle)), ['ok', 'already']);
    const grant = grantOf(setting, 2, 5);
    assert.deepEqual(await repeat(() => shard.shards.credit(grant)), ['applied', 'already']);
    const debit = { ...grantOf(setting, 3, 5), verb: 'debit' as const };
    assert.deepEqual(await repeat(() => shard.shards.credit(debit)), ['applied', 'already']);
    const record = {
      subscriberId: setting.subscriberId,
      opId: authorizeOf(setting).opId,
      productId: setting.productId,
      atMs: Date.now(),
      quantities: [{ meter: 'calls', quantity: 2 }],
    };
    assert.deepEqual(await repeat(() => shard.shards.record(record)), ['ok', 'already']);
    const constraints = { ...constraintsOf(newSetting(), [segmentOf()]), ...setting, version: 7 };
    assert.deepEqual(await repeat(() => shard.shards.apply({ ...constraints, products: [] })), [
      'applied',
      'same',
    ]);
    const gap = await shard.shards.credit({ ...grant, seq: 9 });
    assert.deepEqual(gap, { kind: 'gap', seq: 3 });
  });

  it('stops a revoked key at the next request', async () => {
    const setting = newSetting();
    const segment = segmentOf();
    await shard.shards.apply(constraintsOf(setting, [segment]));
    assert.equal(codeOf(await shard.shards.authorize(authorizeOf(setting))), 'ok');
    await shard.shards.apply(constraintsOf(setting, [segment], { version: 2, keys: [] }));
    assert.equal(codeOf(await shard.shards.authorize(authorizeOf(setting))), 'invalid_credential');
  });

  it('counts a settle into the segment of its authorize, across a real boundary', async () => {
    const setting = newSetting();
    const boundary = Date.now() + 150;
    const [first, second] = [
      segmentOf({ untilMs: boundary }),
      segmentOf({ fromMs: boundary, untilMs: boundary + 3_600_000 }),
    ];
    await shard.shards.apply(constraintsOf(setting, [first, second]));
    const segments = new Set<string>();
    for (let now = 0; now < boundary + 50;) {
      const request = authorizeOf(setting);
      const held = await shard.shards.authorize(request);
      assert.ok(held.kind === 'ok');
      now = held.atMs;
      segments.add(held.segmentId);
      assert.equal(held.segmentId, now < boundary ? first.segmentId : second.segmentId);
      await shard.shards.settle(settleOf(request, held));
    }
    assert.equal(segments.size, 2);
    const { subscriberId, productId } = setting;
    const sealed = await shard.shards.seal({ subscriberId, productId, periodId: first.periodId });
    assert.equal(sealed.kind, 'sealed');
    for (const fact of await shard.facts(subscriberId)) {
      if (fact.kind !== 'usage') continue;
      assert.equal(fact.segmentId, fact.atMs < boundary ? first.segmentId : second.segmentId);
    }
  });

  it('moves a test clock: the offset is in the very segment', async () => {
    const setting = newSetting();
    const segment = segmentOf({ limits: [spanLimit('calls', 1)] });
    const next = segmentOf({
      fromMs: segment.untilMs,
      untilMs: segment.untilMs + 1000,
      limits: [spanLimit('calls', 1)],
    });
    await shard.shards.apply(constraintsOf(setting, [segment, next]));
    const clockOffsetMs = segment.untilMs - Date.now() + 5000;
    await shard.shards.apply(
      constraintsOf(setting, [segment, next], { version: 2, clockOffsetMs }),
    );
    const result = await shard.shards.authorize(authorizeOf(setting));
    assert.equal(codeOf(result), 'constraints_expired');
    const applied = await shard.shards.apply(
      constraintsOf(setting, [segment, next], { version: 3 }),
    );
    assert.equal(applied.kind, 'applied');
    assert.equal(codeOf(await shard.shards.authorize(authorizeOf(setting))), 'ok');
  });

  it('asks again once of a newer map when an epoch is stale, which had no effect', async () => {
    const setting = await withCredits(shard, 5);
    let map = mapOf(shard.redis.url, 1, 0, 1);
    let refreshed = 0;
    const shards = createShards({
      mapSource: () => map,
      refreshMap: () => {
        refreshed += 1;
        map = mapOf(shard.redis.url, 1, 1, 2);
        return Promise.resolve();
      },
      connectionOptions: { connectWaitMs: 2000, commandTimeoutMs: 2000 },
    });
    try {
      assert.equal(codeOf(await shards.authorize(authorizeOf(setting))), 'ok');
      assert.equal(refreshed, 1);
      assert.equal((await shard.shards.read(setting.subscriberId))?.products[0]?.openHolds, 1);
    } finally {
      await shards.close();
    }
    const stale = createShards({
      mapSource: () => mapOf(shard.redis.url, 1, 2, 3),
      connectionOptions: { connectWaitMs: 2000 },
    });
    try {
      await assert.rejects(stale.authorize(authorizeOf(setting)), isUnavailable('not_sent'));
    } finally {
      await stale.close();
    }
  });

  it('admits nothing while the stream of facts is full', async () => {
    const setting = await withCredits(shard, 5);
    const bound = 'local FACTS_MAX = 2000000';
    const { text } = scriptsOf('s1', 1).authorize;
    assert.ok(text.includes(bound));
    const sha = await shard.raw.script('LOAD', text.replace(bound, 'local FACTS_MAX = 0'));
    const { subscriberId } = setting;
    await shard.raw.xadd('tb:u', '*', 'f', `s|${subscriberId}|per_0000000000000000000000|1`);
    const reply = await shard.raw.evalsha(
      String(sha),
      6,
      stateKey(subscriberId),
      operationsKey(subscriberId, 0),
      operationsKey(subscriberId, 1),
      'tb:e',
      'tb:x',
      'tb:u',
      String(slotOf(subscriberId)),
      '1',
      subscriberId,
      ...authorizeArguments(authorizeOf(setting)),
    );
    assert.deepEqual(reply, ['stream_full']);
    assert.equal((await shard.shards.read(subscriberId))?.products[0]?.openHolds, 0);
  });

  it('serves nothing by a map that does not know the shard to be open', async () => {
    const setting = newSetting();
    const maps = [
      null,
      { ...mapOf(shard.redis.url), owners: new Int16Array(slotCount).fill(-1) },
      {
        ...mapOf(shard.redis.url),
        shards: [
          { name: 's1', url: shard.redis.url, incarnation: 1, state: 'recovering' as const },
        ],
      },
    ];
    for (const map of maps) {
      const shards = createShards({ mapSource: () => map });
      await assert.rejects(shards.read(setting.subscriberId), isUnavailable('not_sent'));
      await shards.close();
    }
  });

  it('is fenced by another incarnation: the script is not there, and nothing loads it', async () => {
    const setting = await withCredits(shard, 5);
    const shards = createShards({
      mapSource: () => mapOf(shard.redis.url, 2),
      connectionOptions: { connectWaitMs: 2000 },
    });
    await assert.rejects(shards.authorize(authorizeOf(setting)), isUnavailable('not_sent'));
    await assert.rejects(shards.authorize(authorizeOf(setting)), isUnavailable('not_sent'));
    await shards.close();
  });

  it('is fenced after kill −9 and restart, with its data there, until the next incarnation opens', async () => {
    const own = await openTestShard();
    try {
      const setting = await withCredits(own, 5);
      const request = authorizeOf(setting);
      const held = await own.shards.authorize(request);
      // The log is synced each second; what this test is about is the fence.
      await own.raw.config('SET', 'appendfsync', 'always');
      await own.shards.credit(grantOf(setting, 2, 1_000_000));
      await own.redis.kill9();
      await assert.rejects(own.shards.authorize(authorizeOf(setting)), ShardUnavailable);
      await own.redis.restart();
      await assert.rejects(own.shards.settle(settleOf(request, held)), isUnavailable('not_sent'));
      assert.equal(await own.link.hasScripts(1), false);
      assert.equal(await own.raw.hget('tb:e', String(slotOf(setting.subscriberId))), '1');
      await own.link.loadScripts(2);
      own.map = mapOf(own.redis.url, 2);
      const settled = await own.shards.settle(settleOf(request, held));
      assert.equal(settled.kind, 'ok');
      const state = await own.shards.read(setting.subscriberId);
      assert.equal(
        state?.buckets.reduce((sum, bucket) => sum + bucket.availableMicro, 0),
        5_000_000,
      );
    } finally {
      await own.close();
    }
  });

  it('gives up on a server that stands still, and never sends twice', async () => {
    const own = await openTestShard();
    try {
      const setting = await withCredits(own, 5);
      const shards = createShards({ mapSource: () => own.map });
      const warm = authorizeOf(setting);
      await shards.authorize(warm).catch(() => null);
      process.kill(own.redis.pid(), 'SIGSTOP');
      const late = authorizeOf(setting);
      await assert.rejects(shards.authorize(late), isUnavailable('unknown'));
      process.kill(own.redis.pid(), 'SIGCONT');
      // The call may still run after it was given up; the release that follows ends it either way.
      await own.shards.settle(settleOf(late, okResult, { verb: 'release', actuals: [] }));
      await own.shards.settle(settleOf(warm, okResult, { verb: 'release', actuals: [] }));
      const state = await own.shards.read(setting.subscriberId);
      assert.deepEqual(
        state?.buckets.map((bucket) => [bucket.availableMicro, bucket.heldMicro]),
        [[5_000_000, 0]],
      );
      await shards.close();
    } finally {
      await own.close();
    }
  });

  it('has an effect once when the reply is lost', async () => {
    const setting = await withCredits(shard, 100);
    const proxy = await startFlakyProxy(shard.redis.port);
    const shards = createShards({
      mapSource: () => mapOf(proxy.url),
      connectionOptions: { connectWaitMs: 5000, commandTimeoutMs: 1000 },
    });
    try {
      for (let round = 1; round <= 5; round++) {
        await shards.read(setting.subscriberId);
        const request = authorizeOf(setting);
        proxy.loseReplies(true);
        await assert.rejects(shards.authorize(request), isUnavailable('unknown'));
        proxy.loseReplies(false);
        // A call after the reconnect would have carried a re-sent one with it.
        const state = await shards.read(setting.subscriberId);
        assert.equal(state?.products[0]?.openHolds, round);
        assert.equal(state.buckets[0]?.availableMicro, (100 - round) * 1_000_000);
        assert.equal(codeOf(await shards.authorize(request)), 'duplicate_request');
      }
    } finally {
      await shards.close();
      await proxy.close();
    }
  });
});

const okResult: AuthorizeResult = {
  kind: 'ok',
  version: 1,
  subscriptionId: '',
  segmentId: '',
  keyId: '',
  atMs: 0,
  generation: Math.floor(Date.now() / 300_000),
  heldMicro: 0,
  overageMicro: 0,
  availableMicro: null,
  windows: [],
};
