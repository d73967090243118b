import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';

import { type Drainer, runDrainer } from '../../drain/drainer.ts';
import { type Db, openDb } from '../../store/db.ts';
import { findViolations } from '../../store/invariants.ts';
import { readCoreLog } from '../../store/projection.ts';
import { selectRow } from '../../store/query.ts';
import { isDrained, listUsageEvents } from '../../store/usage.ts';
import { grantCredits, voidGrant, walletBalances } from '../../store/wallets.ts';
import {
  constraintsOf,
  openTestShard,
  segmentOf,
  type Setting,
  type TestShard,
} from '../shards/support.ts';
import { type Party, seedParty, seedWorld, type World, write } from '../store/fixture.ts';
import { type TestDatabase, testDatabase } from '../support/postgres.ts';

const DAY_MS = 86_400_000;
const MICRO = 1_000_000;

/** The real scripts on a real shard, drained into a real Postgres: the two balances are one. */
describe('drain/drainer › what the scripts write', () => {
  let database: TestDatabase;
  let db: Db;
  let shard: TestShard;
  let drainer: Drainer;
  let world: World;
  let party: Party;
  let setting: Setting;
  let opNumber = 0;
  let applied = 0n;
  let segment: ReturnType<typeof segmentOf>;

  before(async () => {
    [database, shard] = await Promise.all([testDatabase(), openTestShard()]);
    db = openDb(database.url);
    await db('shards').insert({ name: 's1', url: shard.redis.url, incarnation: 1, state: 'open' });
    world = await seedWorld(db);
    const quiet = (): void => {};
    drainer = runDrainer({
      db,
      databaseUrl: database.url,
      link: shard.link,
      shard: 's1',
      incarnation: 1,
      log: { info: quiet, warn: quiet, error: quiet },
      blockMs: 40,
    });
  });
  beforeEach(async () => {
    const now = Date.now();
    const at = (days: number): string => new Date(now + days * DAY_MS).toISOString();
    party = await seedParty(db, world, [
      [at(-1), at(29)],
      [at(29), at(59)],
      [at(59), at(89)],
    ]);
    applied = 0n;
    setting = {
      subscriberId: party.subscriberId,
      productId: world.productId,
      subscriptionId: party.subscriptionId,
      keyId: party.apiKeyId,
      digest16: randomBytes(16).toString('base64url'),
    };
    segment = segmentOf({
      segmentId: String(party.periods[0]?.segmentId),
      periodId: party.periods[0]?.periodId ?? '',
      fromMs: now - DAY_MS,
      untilMs: now + 29 * DAY_MS,
      credits: { unit: 'credit', rates: [{ meter: 'api_calls', microPerUnit: MICRO }] },
    });
    const result = await shard.shards.apply(constraintsOf(setting, [segment]));
    assert.equal(result.kind, 'applied');
  });
  afterEach(async () => {
    assert.deepEqual(await findViolations(db), []);
  });
  after(async () => {
    await drainer.stop();
    await shard.close();
    await db.destroy();
    await database.drop();
  });

  const give = (key: string, credits: number): Promise<{ grantId: string }> =>
    write(db, (tx) =>
      grantCredits(tx, {
        environment: 'test',
        subscriberId: party.subscriberId,
        unit: 'credit',
        businessKey: `${key}:${party.subscriberId}`,
        source: 'manual',
        amountMicro: BigInt(credits * MICRO),
        class: 'paid',
        effectiveAt: new Date(Date.now() - DAY_MS),
        expiresAt: null,
      }),
    );

  /** What the projector does: the core log, in order. */
  const project = async (): Promise<void> => {
    for (const entry of await readCoreLog(db, party.subscriberId, {
      afterSeq: applied,
      limit: 100,
    })) {
      const result = await shard.shards.credit({
        subscriberId: party.subscriberId,
        seq: Number(entry.seq),
        verb: entry.verb,
        amountMicro: Number(entry.amountMicro),
        bucket: {
          id: String(entry.bucketId),
          unit: entry.unit,
          priority: entry.priority,
          class: entry.class,
          effectiveMs: entry.effectiveAt.getTime(),
          expiresMs: entry.expiresAt?.getTime() ?? null,
          scope: entry.scope,
        },
      });
      assert.equal(result.kind, 'applied');
      applied = entry.seq;
    }
  };

  const newOp = (): string => {
    opNumber += 1;
    return `${new Date().toISOString().slice(0, 10).replaceAll('-', '')}-drainer1-${opNumber.toString(36)}`;
  };

  const settleRequest = (
    opId: string,
    over: {
      readonly verb: 'settle' | 'release';
      readonly generation: number;
      readonly calls: number;
    },
  ): Parameters<TestShard['shards']['settle']>[0] => ({
    subscriberId: party.subscriberId,
    opId,
    generation: over.generation,
    atMs: Date.now(),
    segmentId: String(party.periods[0]?.segmentId),
    subscriptionId: party.subscriptionId,
    productId: world.productId,
    keyId: party.apiKeyId,
    verb: over.verb,
    status: 200,
    actuals: [{ meter: 'api_calls', quantity: over.calls }],
    flags: [],
  });

  /** One request: held for one call, then settled for `calls`, or released. Gives whether it was let in. */
  const request = async (verb: 'settle' | 'release', calls = 1): Promise<boolean> => {
    const opId = newOp();
    const answer = await shard.shards.authorize({
      subscriberId: party.subscriberId,
      opId,
      digest16: setting.digest16,
      productId: world.productId,
      feature: '',
      ttlMs: 60_000,
      estimates: [{ meter: 'api_calls', quantity: 1 }],
    });
    if (answer.kind === 'refused') return false;
    const result = await shard.shards.settle(
      settleRequest(opId, { verb, generation: answer.generation, calls }),
    );
    assert.equal(result.kind, 'ok');
    return true;
  };

  const assertBalancesAgree = async (): Promise<bigint> => {
    await drainer.idle();
    const state = await shard.shards.read(party.subscriberId);
    const onShard = (state?.buckets ?? []).reduce(
      (sum, bucket) => sum + BigInt(bucket.availableMicro) + BigInt(bucket.heldMicro),
      0n,
    );
    const [balance] = await walletBalances(db, party.subscriberId);
    assert.equal(balance?.available, onShard);
    return onShard;
  };

  it('agrees with the ledger after a crowd of settles, releases and refusals', async () => {
    await give('a', 30);
    await give('b', 20);
    await project();
    const served = await Promise.all(
      Array.from({ length: 200 }, (_, index) => request(index % 4 === 3 ? 'release' : 'settle')),
    );
    assert.ok(served.includes(false), 'nobody was refused: the crowd was too small');
    // All that is left is spent one after the other, so that exactly the credits were served.
    while (await request('settle'));
    assert.equal(await assertBalancesAgree(), 0n);
    const count = await selectRow<{ count: bigint }>(
      db,
      'SELECT count(*) AS count FROM usage_events WHERE subscriber_id = ?',
      [party.subscriberId],
    );
    assert.equal(count?.count, 50n);
  });

  it('agrees when an actual is above its hold, and above the balance', async () => {
    await give('a', 5);
    await project();
    assert.ok(await request('settle', 3));
    assert.ok(await request('settle', 4));
    assert.equal(await assertBalancesAgree(), 0n);
    const { events } = await listUsageEvents(db, {
      environment: 'test',
      subscriberId: party.subscriberId,
      limit: 10,
    });
    const sum = (of: 'creditsMicro' | 'writtenOffMicro' | 'overageMicro'): bigint =>
      events.reduce((total, event) => total + event[of], 0n);
    assert.deepEqual(
      [sum('creditsMicro'), sum('writtenOffMicro'), sum('overageMicro')],
      [5_000_000n, 2_000_000n, 0n],
    );
  });

  it('agrees after a use that the shard knew no hold of was asked back', async () => {
    await give('a', 5);
    await project();
    const opId = newOp();
    const result = await shard.shards.settle(
      settleRequest(opId, { verb: 'settle', generation: 0, calls: 2 }),
    );
    assert.equal(result.kind, 'recorded');
    await drainer.idle();
    await project();
    assert.equal(await assertBalancesAgree(), 3_000_000n);
    const { events } = await listUsageEvents(db, {
      environment: 'test',
      subscriberId: party.subscriberId,
      limit: 10,
    });
    assert.deepEqual(
      events.map((event) => [event.eventId, event.creditsMicro, event.writtenOffMicro]),
      [[opId, 2_000_000n, 0n]],
    );
  });

  it('agrees after a grant was voided', async () => {
    const { grantId } = await give('a', 5);
    await give('b', 2);
    await project();
    assert.ok(await request('settle'));
    await drainer.idle();
    await write(db, (tx) => voidGrant(tx, grantId));
    await project();
    assert.equal(await assertBalancesAgree(), 2_000_000n);
    const [balance] = await walletBalances(db, party.subscriberId);
    assert.equal(balance?.refunded, 4_000_000n);
  });

  it('gives back of a grant that was voided what usage meanwhile left of it, and nothing of another', async () => {
    const { grantId } = await give('a', 5);
    await give('b', 2);
    await project();
    await write(db, (tx) => voidGrant(tx, grantId));
    assert.ok(await request('settle', 2));
    await project();
    await drainer.idle();
    await project();
    assert.equal(await assertBalancesAgree(), 2_000_000n);
    const [balance] = await walletBalances(db, party.subscriberId);
    assert.deepEqual([balance?.spent, balance?.refunded], [2_000_000n, 3_000_000n]);
  });

  it('has the seal of a period behind everything that went before it', async () => {
    await give('a', 5);
    await project();
    for (let index = 0; index < 5; index += 1) await request('settle');
    const ending = { ...segment, untilMs: Date.now() + 2_000 };
    const cut = await shard.shards.apply(constraintsOf(setting, [ending], { version: 2 }));
    assert.equal(cut.kind, 'applied');
    const seal = (): ReturnType<TestShard['shards']['seal']> =>
      shard.shards.seal({
        subscriberId: party.subscriberId,
        productId: world.productId,
        periodId: segment.periodId,
      });
    let sealed = await seal();
    while (sealed.kind !== 'sealed') {
      await sleep(50);
      sealed = await seal();
    }
    const mark = { shard: 's1', incarnation: sealed.incarnation, streamId: sealed.streamId };
    while (!(await isDrained(db, mark))) await sleep(20);
    const row = await selectRow<{ events: bigint; sealed_stream_id: string }>(
      db,
      `SELECT p.sealed_stream_id, (SELECT count(*) FROM usage_events u WHERE u.period_id = p.id) AS events
       FROM periods p WHERE p.id = ?`,
      [segment.periodId],
    );
    assert.deepEqual(row, { sealed_stream_id: sealed.streamId, events: 5n });
  });
});
