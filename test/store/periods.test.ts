import assert from 'node:assert/strict';

import { compileConstraints } from '../../billing/compile.ts';
import type { SegmentConstraints } from '../../billing/constraints.ts';
import { type Db, inTransaction, openDb } from '../../store/db.ts';
import { boundaryLeadMs, changeSegments, openPeriods } from '../../store/periods.ts';
import { readCompileInput } from '../../store/projection.ts';
import { changeSubscription, lockSubscription } from '../../store/subscriptions.ts';
import { type TestDatabase, testDatabase } from '../support/postgres.ts';
import {
  seedPlan,
  seedSubscriber,
  seedSubscription,
  seedWorld,
  type World,
} from '../workflows/support/world.ts';

const credits = {
  unit: 'credit',
  included_micro: '0',
  overage: { enabled: false, credit_price: '1' },
  credit_price: '1',
  burn: [],
};

describe('store/periods › changeSegments', () => {
  let database: TestDatabase;
  let db: Db;
  let world: World;
  let subscriberId: string;
  let subscriptionId: string;
  let startMs: number;

  before(async () => {
    database = await testDatabase();
    db = openDb(database.url, { poolMax: 4 });
    world = await seedWorld(db);
  });
  beforeEach(async () => {
    startMs = Date.now() - 60_000;
    subscriberId = await seedSubscriber(db, null);
    subscriptionId = await seedSubscription(db, {
      subscriberId,
      planVersionId: await seedPlan(db, world, { feeMinor: '2900', credits }),
      startAt: new Date(startMs),
    });
    await inTransaction(db, async (tx) => {
      const pending = await lockSubscription(tx, subscriptionId);
      const at = new Date(startMs);
      await openPeriods(tx, await changeSubscription(tx, pending, { kind: 'started', at }), at);
    });
  });
  after(async () => {
    await db.destroy();
    await database.drop();
  });

  const change = async (
    atMs: number,
    to: { readonly overage: boolean; readonly status?: 'past_due' },
  ): Promise<number> =>
    inTransaction(db, async (tx) => {
      const begins = await changeSegments(tx, await lockSubscription(tx, subscriptionId), {
        at: new Date(atMs),
        overage: to.overage,
        status: to.status ?? 'active',
      });
      return begins.getTime();
    });
  const told = async (): Promise<readonly SegmentConstraints[]> => {
    const input = await readCompileInput(db, subscriberId);
    assert.ok(input !== null);
    return compileConstraints(input).products[0]?.segments ?? [];
  };
  const intervalEnds = async (): Promise<readonly number[]> => {
    const rows = await db('periods')
      .where({ subscription_id: subscriptionId })
      .orderBy('seq')
      .select('interval_end_at');
    return rows.map((row: { interval_end_at: Date }) => row.interval_end_at.getTime());
  };

  it('keeps what a shard is told two boundaries ahead, however many changes come in a moment', async () => {
    const ends = await intervalEnds();
    const firstMs = Date.now() + boundaryLeadMs;
    for (let turn = 0; turn < 12; turn += 1) {
      // Each a little later than the one before, all before the first has begun.
      await change(firstMs + turn * 100, { overage: turn % 2 === 0 });
      const segments = await told();
      assert.ok(segments.length <= 5);
      assert.equal(segments.at(-1)?.untilMs, ends.at(-1), `after ${turn + 1} changes`);
    }
  });

  it('keeps it there while changes come and begin, one after the other', async () => {
    const ends = await intervalEnds();
    // As of the past: each segment but the last has begun and is over when it is read.
    for (let turn = 0; turn < 9; turn += 1) {
      await change(startMs + 10_000 + turn * 2_500, { overage: turn % 2 === 0 });
    }
    const begins = Date.now() + boundaryLeadMs;
    await change(begins, { overage: true });
    await change(begins + 1_000, { overage: false });
    assert.equal((await told()).at(-1)?.untilMs, ends.at(-1));
  });

  it('a change joins the one that has not begun: same segment, same beginning, the last word counts', async () => {
    const firstMs = Date.now() + boundaryLeadMs;
    assert.equal(await change(firstMs, { overage: true }), firstMs);
    const before = await told();
    assert.equal(
      await change(firstMs + 900, { overage: true, status: 'past_due' }),
      firstMs,
      'it holds from the beginning of the segment that it joins',
    );
    const after = await told();
    const spans = (segments: readonly SegmentConstraints[]) =>
      segments.map(({ segmentId, fromMs, untilMs }) => [segmentId, fromMs, untilMs]);
    assert.deepEqual(spans(after), spans(before));
    assert.deepEqual(
      after.map(({ status, overage }) => [status, overage]),
      [['active', false], ...after.slice(1).map(() => ['past_due', true])],
    );
  });

  it('a change after the one before has begun is a segment of its own: what has begun is history', async () => {
    const firstMs = startMs + 10_000;
    await change(firstMs, { overage: true });
    assert.equal(
      await change(firstMs + boundaryLeadMs, { overage: false }),
      firstMs + boundaryLeadMs,
    );
    const rows = await db('segments')
      .where({ subscription_id: subscriptionId })
      .orderBy('from_at')
      .select('from_at', 'overage');
    assert.deepEqual(
      rows
        .slice(1, 3)
        .map((row: { from_at: Date; overage: boolean }) => [row.from_at.getTime(), row.overage]),
      [
        [firstMs, true],
        [firstMs + boundaryLeadMs, false],
      ],
    );
  });
});
