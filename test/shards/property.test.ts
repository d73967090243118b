/**
 * Random histories of one subscriber, run against the model and the scripts: the same answer to every step, and at the end
 * every granted credit is available, held, spent, expired or debited, as the facts in the stream say.
 */
import assert from 'node:assert/strict';

import fc from 'fast-check';

import type { ScriptName } from '../../shards/scripts.ts';
import type { Command, Plan } from './command.ts';
import { createModel } from './model.ts';
import { createScriptsSubject, loadStandingClock } from './scripts-subject.ts';
import { openTestShard, type TestShard } from './support.ts';

const op = fc.integer({ min: 0, max: 12 }).map((n) => `op${n}`);
const quantity = fc.integer({ min: 0, max: 30 });
const quantities = fc.oneof(
  fc.record({ calls: quantity }),
  fc.record({ tokens: quantity }),
  fc.record({ calls: quantity, tokens: quantity }),
);

/** A step of time is a command too; all of a history lies within two generations, so that no record is dropped. */
const step: fc.Arbitrary<Command | { readonly do: 'wait'; readonly ms: number }> = fc.oneof(
  {
    weight: 6,
    arbitrary: fc
      .tuple(op, quantities, fc.constantFrom(1, 5000, 60_000))
      .map(([name, amounts, ttl]) => ({ do: 'authorize' as const, op: name, ttl, ...amounts })),
  },
  {
    weight: 5,
    arbitrary: fc
      .tuple(op, quantities)
      .map(([name, amounts]) => ({ do: 'settle' as const, op: name, ...amounts })),
  },
  { weight: 2, arbitrary: op.map((name) => ({ do: 'release' as const, op: name })) },
  { weight: 2, arbitrary: op.map((name) => ({ do: 'expire' as const, op: name })) },
  { weight: 1, arbitrary: op.map((name) => ({ do: 'extend' as const, op: name })) },
  {
    weight: 1,
    arbitrary: fc
      .tuple(op, fc.integer({ min: 1, max: 4 }), quantity)
      .map(([name, k, calls]) => ({ do: 'slice' as const, op: name, k, calls })),
  },
  {
    weight: 1,
    arbitrary: fc
      .tuple(op, quantity)
      .map(([name, calls]) => ({ do: 'record' as const, op: name, calls })),
  },
  {
    weight: 2,
    arbitrary: fc
      .tuple(
        fc.record({
          id: fc.integer({ min: 1, max: 6 }),
        }),
        fc.integer({ min: 0, max: 60 }),
        fc.constantFrom(
          'grant' as const,
          'grant' as const,
          'grant' as const,
          'void' as const,
          'debit' as const,
        ),
      )
      .map(([{ id }, micro, verb]) => ({ do: verb, bucket: bucketOf(id), micro })),
  },
  {
    weight: 1,
    arbitrary: fc.integer({ min: 1, max: 4 }).map((period) => ({ do: 'seal' as const, period })),
  },
  {
    weight: 3,
    arbitrary: fc
      .constantFrom(1, 999, 4999, 5000, 12_000)
      .map((ms) => ({ do: 'wait' as const, ms })),
  },
  { weight: 1, arbitrary: fc.constant({ do: 'read' as const }) },
);

/** What a bucket is depends on its id alone: a second grant to it adds to it. */
function bucketOf(id: number) {
  return {
    id,
    priority: id % 2,
    promotional: id % 3 === 0,
    ...(id % 2 === 0 ? { expires: id * 8000 } : {}),
    ...(id === 5 ? { effective: 10_000 } : {}),
    ...(id === 3 ? { scope: ['tokens'] } : {}),
  };
}

function plansOf(overage: readonly boolean[]): Plan[] {
  return overage.map((isOn, index) => ({
    id: index + 1,
    period: index + 1,
    from: index * 20_000,
    until: (index + 1) * 20_000,
    overage: isOn,
    concurrency: 6,
    rate: { limit: 7, windowMs: 3000 },
    limits: [
      { name: 'calls', limit: 120, window: [index * 20_000, (index + 1) * 20_000] as const },
      { name: 'calls_each', limit: 60, window: 7000 },
      { name: 'tokens', meter: 'tokens', limit: 200, soft: true, window: [0, 80_000] as const },
    ],
    price: { calls: 1, tokens: 2 },
  }));
}

describe('shards/scripts › any history', () => {
  let shard: TestShard;
  let sha: (name: ScriptName) => string;
  before(async () => {
    shard = await openTestShard();
    sha = await loadStandingClock(shard);
  });
  after(async () => shard.close());

  it('is answered as the model answers it, and conserves credits', async () => {
    const histories = fc.tuple(
      fc.array(fc.boolean(), { minLength: 1, maxLength: 4 }),
      fc.array(step, { minLength: 20, maxLength: 60 }),
    );
    await fc.assert(
      fc.asyncProperty(histories, async ([overage, steps]) => {
        const base = (Math.floor(Date.now() / 300_000) + 1) * 300_000;
        const model = createModel();
        const scripts = createScriptsSubject(shard, sha, base);
        const commands: Command[] = [
          { do: 'at', ms: 0 },
          { do: 'apply', version: 1, plans: plansOf(overage) },
          { do: 'grant', bucket: bucketOf(1), micro: 40 },
        ];
        let now = 0;
        for (const one of steps) {
          if (one.do !== 'wait') commands.push(one);
          else {
            now += one.ms;
            commands.push({ do: 'at', ms: now });
          }
        }
        commands.push({ do: 'read' });
        for (const [index, command] of commands.entries()) {
          const [expected, said] = [await model.run(command), await scripts.run(command)];
          if (expected !== said) {
            const history = commands.slice(0, index + 1).map((one) => JSON.stringify(one));
            assert.equal(said, expected, history.join('\n'));
          }
        }
        await assertConserved(shard, scripts.setting.subscriberId, model.totals());
      }),
      { numRuns: Number(process.env['PROPERTY_RUNS'] ?? 150), endOnFailure: false },
    );
  }).timeout(600_000);
});

async function assertConserved(
  shard: TestShard,
  subscriberId: string,
  totals: ReturnType<ReturnType<typeof createModel>['totals']>,
): Promise<void> {
  assert.equal(
    totals.granted,
    totals.free + totals.held + totals.spent + totals.expired + totals.debited,
    'the model conserves',
  );
  assert.ok(totals.free >= 0 && totals.held >= 0);
  const told = { spent: 0, debited: 0, overage: 0, writtenOff: 0 };
  const seen = new Set<string>();
  for (const fact of await shard.facts(subscriberId)) {
    if (fact.kind === 'debit') told.debited += fact.takenMicro;
    if (fact.kind !== 'usage') continue;
    assert.ok(!seen.has(fact.opId), `one event for ${fact.opId}`);
    seen.add(fact.opId);
    told.spent += fact.takes.reduce((sum, take) => sum + take.micro, 0);
    told.overage += fact.overageMicro;
    told.writtenOff += fact.writtenOffMicro;
  }
  assert.deepEqual(told, {
    spent: totals.spent,
    debited: totals.debited,
    overage: totals.overage,
    writtenOff: totals.writtenOff,
  });
}
