import assert from 'node:assert/strict';

import { compileConstraints } from '../../billing/compile.ts';
import { type Db, inTransaction } from '../../store/db.ts';
import {
  bumpRuntime,
  markApplied,
  readCompileInput,
  readLagging,
  readProgress,
  retimeBoundary,
  waitForApplied,
} from '../../store/projection.ts';
import { selectRows } from '../../store/query.ts';
import {
  type Catalogue,
  type Control,
  cutPeriod,
  grant,
  openControl,
  seedCatalogue,
  seedSubscriber,
  type Subscriber,
} from '../drain/control-fixture.ts';

describe('store/projection', () => {
  let control: Control;
  let db: Db;
  let catalogue: Catalogue;
  let ada: Subscriber;
  before(async () => {
    control = await openControl(0);
    db = control.db;
    catalogue = await seedCatalogue(db);
    await db('shards').insert({ name: 'a', url: 'redis://a' });
    await db.raw("INSERT INTO slots SELECT s, 'a', 1 FROM generate_series(0, 4095) s");
  });
  after(() => control.close());
  beforeEach(async () => {
    ada = await seedSubscriber(db, catalogue);
  });
  afterEach(() => db.raw('UPDATE subscribers SET applied_version = runtime_version'));

  it('numbers concurrent bumps without a gap', async () => {
    const bumps = Array.from({ length: 20 }, () =>
      inTransaction(db, (tx) => bumpRuntime(tx, ada.id)),
    );
    const versions = (await Promise.all(bumps)).map(Number).toSorted((a, b) => a - b);
    assert.deepEqual(
      versions,
      Array.from({ length: 20 }, (_, index) => index + 2),
    );
    await assert.rejects(
      inTransaction(db, (tx) => bumpRuntime(tx, 'sbr_nobody')),
      /no subscriber/,
    );
  });

  it('marks only upward, and never past what is committed', async () => {
    await inTransaction(db, (tx) => bumpRuntime(tx, ada.id));
    await markApplied(db, ada.id, { version: 2n });
    await markApplied(db, ada.id, { version: 1n });
    await markApplied(db, ada.id, { version: 900n, coreSeq: 900n });
    const progress = await readProgress(db, ada.id);
    assert.equal(progress.appliedVersion, 2n);
    assert.equal(progress.appliedCoreSeq, 0n);
  });

  it('finds who lags, without shards that are away and subscribers that failed', async () => {
    const find = async (exceptShards: string[], exceptIds: string[]): Promise<string[]> =>
      (await readLagging(db, { exceptShards, exceptIds, limit: 100 })).map(({ id }) => id);
    assert.deepEqual(await find([], []), [ada.id]);
    assert.deepEqual(await find(['a'], []), []);
    assert.deepEqual(await find([], [ada.id]), []);
    await markApplied(db, ada.id, { version: 1n });
    assert.deepEqual(await find([], []), []);
    await grant(db, ada.id, 1);
    assert.deepEqual(await find([], []), [ada.id]);
  });

  it('waits for what is committed now, and gives up in time', async () => {
    assert.equal(await waitForApplied(db, ada.id, {}, { timeoutMs: 30 }), false);
    const waiting = waitForApplied(db, ada.id, { version: 1n }, { timeoutMs: 20_000 });
    await markApplied(db, ada.id, { version: 1n });
    assert.equal(await waiting, true);
    assert.equal(await waitForApplied(db, ada.id, { version: 2n }, { timeoutMs: 30 }), false);
  });

  it('compiles what is live: keys that are not revoked, segments that run or come', async () => {
    const constraints = compileConstraints(await input(ada.id));
    assert.equal(constraints.version, 1);
    assert.deepEqual(constraints.keys, [
      { keyId: ada.keyId, digest16: ada.digest16, expiresMs: null, productIds: [] },
    ]);
    assert.equal(constraints.products.length, 1);
    assert.deepEqual(
      constraints.products[0]?.segments.map(({ segmentId, periodId, fromMs, untilMs }) => ({
        segmentId,
        periodId,
        startMs: fromMs,
        endMs: untilMs,
      })),
      ada.periods.map(({ segmentId, periodId, startMs, endMs }) => ({
        segmentId,
        periodId,
        startMs,
        endMs,
      })),
    );
    await db('api_keys').where({ id: ada.keyId }).update({ revoked_at: new Date() });
    assert.deepEqual((await input(ada.id)).keys, []);
  });

  it('tells the current segment however many were cut off in the last minutes', async () => {
    const nowMs = Date.now();
    const [first] = ada.periods;
    assert.ok(first !== undefined);
    const instants = [9, 8, 7, 6, 5, 4, 3, 2, 1].map((ago) => new Date(nowMs - ago * 10_000));
    const ends = [...instants.slice(1), new Date(first.endMs)];
    await db('segments').where({ id: first.segmentId }).update({ until_at: instants[0] });
    for (const [index, fromAt] of instants.entries()) {
      await db.raw(
        `INSERT INTO segments (subscription_id, period_id, plan_version_id, from_at, until_at, status, overage)
         SELECT subscription_id, period_id, plan_version_id, ?, ?, status, overage FROM segments WHERE id = ?`,
        [fromAt, ends[index] ?? fromAt, first.segmentId],
      );
    }
    const told = (await input(ada.id)).subscriptions[0]?.segments ?? [];
    assert.deepEqual(
      told.map(({ fromMs }) => fromMs),
      [nowMs - 20_000, nowMs - 10_000, ada.periods[1]?.startMs, ada.periods[2]?.startMs],
    );
  });

  it('lets a canceled subscription run to its end, and not beside the next one', async () => {
    const cancel = (endedMs: number) =>
      db('subscriptions')
        .where({ id: ada.subscriptionId })
        .update({ state: 'canceled', ended_at: new Date(endedMs) });
    await cancel(Date.now() - 1);
    assert.equal((await input(ada.id)).subscriptions.length, 0);
    await cancel(Date.now() + 60_000);
    assert.equal((await input(ada.id)).subscriptions.length, 1);
    await db.raw(
      `INSERT INTO subscriptions (id, environment, subscriber_id, product_id, plan_id, plan_version_id, state, currency, time_zone, anchor_at)
       SELECT 'sub_' || repeat('9', 22), environment, subscriber_id, product_id, plan_id, plan_version_id, 'pending', currency, time_zone, anchor_at
       FROM subscriptions WHERE id = ?`,
      [ada.subscriptionId],
    );
    assert.equal((await input(ada.id)).subscriptions.length, 0);
    await db('subscriptions')
      .where({ id: `sub_${'9'.repeat(22)}` })
      .del();
  });

  const input = async (id: string) => {
    const read = await readCompileInput(db, id);
    assert.ok(read !== null);
    return read;
  };
  const segments = () =>
    selectRows<{
      id: bigint;
      from: Date;
      until: Date;
      void: boolean;
      start: Date;
      end: Date;
      state: string;
    }>(
      db,
      `SELECT g.id, g.from_at AS from, g.until_at AS until, g.void, p.start_at AS start, p.end_at AS end, p.state
       FROM segments g JOIN periods p ON p.id = g.period_id WHERE g.subscription_id = ? ORDER BY g.from_at`,
      [ada.subscriptionId],
    );

  describe('retimeBoundary', () => {
    it('moves a cut that the shard never saw to two seconds ahead of it, for segments and periods alike', async () => {
      const nowMs = Date.now();
      const [first] = ada.periods;
      assert.ok(first !== undefined);
      const cut = await cutPeriod(db, ada, nowMs - 60_000);
      const held = [{ segmentId: first.segmentId, untilMs: first.endMs }];
      assert.equal(await retimeBoundary(db, ada.id, nowMs, held), true);
      const [earlier, later] = await segments();
      assert.ok(earlier !== undefined && later !== undefined);
      assert.equal(later.id.toString(), cut.segmentId);
      for (const instant of [earlier.until, earlier.end, later.from, later.start]) {
        assert.equal(instant.getTime(), nowMs + 2_000);
      }
      assert.equal((await readProgress(db, ada.id)).runtimeVersion, 3n);
      assert.equal(compileConstraints(await input(ada.id)).products[0]?.segments.length, 4);
    });

    it('makes the newest of several missed cuts the one that counts', async () => {
      const nowMs = Date.now();
      const [first] = ada.periods;
      assert.ok(first !== undefined);
      const missed = await cutPeriod(db, ada, nowMs - 60_000);
      await db.raw(`UPDATE segments SET until_at = ? WHERE id = ?`, [
        new Date(nowMs - 30_000),
        missed.segmentId,
      ]);
      await db.raw(
        `INSERT INTO segments (subscription_id, period_id, plan_version_id, from_at, until_at, status, overage)
         SELECT subscription_id, period_id, plan_version_id, ?, ?, status, true FROM segments WHERE id = ?`,
        [new Date(nowMs - 30_000), new Date(first.endMs), missed.segmentId],
      );
      const held = [{ segmentId: first.segmentId, untilMs: first.endMs }];
      assert.equal(await retimeBoundary(db, ada.id, nowMs, held), true);
      const now = await segments();
      assert.deepEqual(
        now.slice(0, 3).map((row) => row.void),
        [false, true, false],
      );
      assert.equal(now[0]?.until.getTime(), nowMs + 2_000);
      assert.equal(now[2]?.from.getTime(), nowMs + 2_000);
      assert.equal(now[2]?.start.getTime(), nowMs + 2_000);
    });

    it('voids a cut whose interval is over: the shard has rolled on without it', async () => {
      const [first, second] = ada.periods;
      assert.ok(first !== undefined && second !== undefined);
      await cutPeriod(db, ada, first.endMs - 60_000);
      const held = [{ segmentId: first.segmentId, untilMs: first.endMs }];
      assert.equal(await retimeBoundary(db, ada.id, first.endMs + 5_000, held), true);
      const now = await segments();
      assert.deepEqual(
        now.map((row) => [row.void, row.state]),
        [
          [false, 'open'],
          [true, 'void'],
          [false, 'scheduled'],
          [false, 'scheduled'],
        ],
      );
      assert.equal(now[0]?.until.getTime(), first.endMs);
      assert.equal(now[0]?.end.getTime(), first.endMs);
    });

    it('lets a subscription that was cut short run on to the new boundary', async () => {
      const nowMs = Date.now();
      const [first, second, third] = ada.periods;
      assert.ok(first !== undefined && second !== undefined && third !== undefined);
      await db('segments')
        .whereIn('id', [second.segmentId, third.segmentId])
        .update({ void: true });
      await db('segments')
        .where({ id: first.segmentId })
        .update({ until_at: new Date(nowMs - 1_000) });
      await db('periods')
        .where({ id: first.periodId })
        .update({ end_at: new Date(nowMs - 1_000) });
      const held = [{ segmentId: first.segmentId, untilMs: first.endMs }];
      assert.equal(await retimeBoundary(db, ada.id, nowMs, held), true);
      const [only] = (await segments()).filter((row) => !row.void);
      assert.equal(only?.until.getTime(), nowMs + 2_000);
      assert.equal(only.end.getTime(), nowMs + 2_000);
    });

    it('changes nothing when the shard knows every boundary that has passed', async () => {
      const [first] = ada.periods;
      assert.ok(first !== undefined);
      const before = await segments();
      const held = [{ segmentId: first.segmentId, untilMs: first.endMs }];
      assert.equal(await retimeBoundary(db, ada.id, Date.now(), held), false);
      assert.equal(await retimeBoundary(db, ada.id, first.endMs + 1, held), false);
      assert.deepEqual(await segments(), before);
      assert.equal((await readProgress(db, ada.id)).runtimeVersion, 1n);
    });
  });
});
