/** Several gateways spend one subscriber's credits at once: what they admit together is exact, with no tolerance. */
import assert from 'node:assert/strict';

import { createShards } from '../../shards/client.ts';
import type { Shards } from '../../shards/port.ts';
import {
  authorizeOf,
  constraintsOf,
  creditsFor,
  grantOf,
  newSetting,
  openTestShard,
  segmentOf,
  settleOf,
  spanLimit,
  type TestShard,
} from './support.ts';

const MICRO = 1_000_000;
/** On a busy machine a first connection takes its time. */
const connectionOptions = { commandTimeoutMs: 5_000, connectWaitMs: 5_000 };

describe('shards › several nodes', () => {
  let shard: TestShard;
  let nodes: readonly Shards[];
  before(async () => {
    shard = await openTestShard();
    nodes = Array.from({ length: 5 }, () =>
      createShards({ mapSource: () => shard.map, connectionOptions }),
    );
  });
  after(async () => {
    await Promise.all(nodes.map((node) => node.close()));
    await shard.close();
  });

  for (const count of [1, 3, 5]) {
    for (const [credits, cost] of [
      [10, 1],
      [100, 7],
      [500, 20],
      [1_000, 10],
    ] as const) {
      it(`${count} of them admit ⌊${credits} ÷ ${cost}⌋ calls, under any load`, async () => {
        for (const load of [0.8, 1, 1.2, 2]) {
          const calls = Math.ceil((credits / cost) * load);
          const admitted = await spend({ nodes: nodes.slice(0, count), credits, cost, calls });
          const wanted = Math.min(calls, Math.floor(credits / cost));
          assert.deepEqual(admitted, { calls: wanted, micro: wanted * cost * MICRO });
        }
      });
    }
  }

  async function spend(of: {
    readonly nodes: readonly Shards[];
    readonly credits: number;
    readonly cost: number;
    readonly calls: number;
  }): Promise<{ readonly calls: number; readonly micro: number }> {
    const setting = newSetting();
    const segment = segmentOf({
      credits: creditsFor(of.cost * MICRO),
      limits: [spanLimit('calls', 1_000_000)],
    });
    await shard.shards.apply(constraintsOf(setting, [segment]));
    await shard.shards.credit(grantOf(setting, 1, of.credits * MICRO));
    const answers = await Promise.all(
      Array.from({ length: of.calls }, async (_, n) => {
        const node = of.nodes[n % of.nodes.length];
        assert.ok(node);
        const request = authorizeOf(setting);
        const held = await node.authorize(request);
        if (held.kind === 'ok') await node.settle(settleOf(request, held));
        return held.kind;
      }),
    );
    const facts = await shard.facts(setting.subscriberId);
    const micro = facts.flatMap((fact) =>
      fact.kind === 'usage' ? fact.takes.map((take) => take.micro) : [],
    );
    return {
      calls: answers.filter((kind) => kind === 'ok').length,
      micro: micro.reduce((sum, one) => sum + one, 0),
    };
  }
});
