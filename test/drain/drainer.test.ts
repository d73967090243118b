import assert from 'node:assert/strict';
import { setTimeout as sleep } from 'node:timers/promises';

import { findViolations, invariants } from '../../store/invariants.ts';
import { selectRow, selectRows } from '../../store/query.ts';
import {
  creditUsageForInterval,
  isDrained,
  listUsageEvents,
  usageForInterval,
} from '../../store/usage.ts';
import { voidGrant, walletBalances } from '../../store/wallets.ts';
import { type Party, write } from '../store/fixture.ts';
import {
  assertConserved,
  type Bench,
  countEvents,
  drainAll,
  giveCredits,
  openBench,
  rollupsOf,
  SHARD,
  usageFact,
} from './drainer-fixture.ts';

describe('drain/drainer', () => {
  let bench: Bench;
  let party: Party;

  before(async () => {
    bench = await openBench();
  });
  beforeEach(async () => {
    party = await bench.party();
  });
  afterEach(async () => {
    await assertConserved(bench.db);
  });
  after(async () => {
    await bench.close();
  });

  const segmentOf = (index: number): bigint => party.periods[index]?.segmentId ?? 0n;
  const periodOf = (index: number): string => party.periods[index]?.periodId ?? '';
  const close = (index: number): Promise<unknown> =>
    bench
      .db('periods')
      .where({ id: periodOf(index) })
      .update({ state: 'closed', closed_at: new Date() });
  const parkedReasons = async (): Promise<readonly string[]> =>
    (
      await selectRows<{ reason: string }>(
        bench.db,
        "SELECT reason FROM parked_facts ORDER BY split_part(stream_id, '-', 1)::bigint, split_part(stream_id, '-', 2)::bigint",
      )
    ).map(({ reason }) => reason);

  const moneyOf = new Set(['I1', 'I2', 'I3', 'I4', 'I5', 'I11', 'I12', 'I21', 'I25']);
  const violationsOfMoney = () =>
    findViolations(
      bench.db,
      invariants.filter(({ id }) => moneyOf.has(id)),
    );

  it('turns facts into events, hourly rollups and one ledger transaction a subscriber, and trims', async () => {
    const { bucketId } = await giveCredits(bench.db, party, { key: 'g', micro: 10_000_000n });
    const facts = Array.from({ length: 5 }, (_, index) =>
      usageFact(bench.world, party, {
        quantities: [
          { meter: 'api_calls', quantity: 1 },
          { meter: 'tokens', quantity: 100 * index },
        ],
        takes: [{ bucketId, micro: 1_000_000 }],
        overageMicro: index === 4 ? 250_000 : 0,
      }),
    );
    const ids = await bench.add(facts);
    const last = { shard: SHARD, incarnation: 1, streamId: ids.at(-1) ?? '' };
    assert.equal(await isDrained(bench.db, last), false);
    await drainAll(bench);
    assert.equal(await isDrained(bench.db, last), true);
    assert.equal(await bench.link.streamLength(), 0);
    assert.deepEqual(await bench.link.readWatermark(), { incarnation: 1, streamId: last.streamId });

    const usage = await usageForInterval(bench.db, party.subscriptionId, 0);
    assert.deepEqual(
      new Map(
        usage.map((row) => [
          row.meterKey,
          [row.quantity, row.eventCount, row.maxQuantity, row.latestQuantity],
        ]),
      ),
      new Map([
        ['api_calls', [5n, 5n, 1n, 1n]],
        ['tokens', [1000n, 5n, 400n, 400n]],
      ]),
    );
    const [credits] = await creditUsageForInterval(bench.db, party.subscriptionId, 0);
    assert.deepEqual([credits?.creditsMicro, credits?.overageMicro], [5_000_000n, 250_000n]);
    const [balance] = await walletBalances(bench.db, party.subscriberId);
    assert.deepEqual([balance?.available, balance?.spent], [5_000_000n, 5_000_000n]);
    const posts = await selectRows(
      bench.db,
      'SELECT business_key FROM ledger_txns WHERE kind = ?',
      ['spend'],
    );
    assert.deepEqual(posts, [{ business_key: `spend:${facts[0]?.opId}` }]);
  });

  it('adds nothing for an event that is resent, in the same batch, a later one, or after a change of its numbers', async () => {
    const { bucketId } = await giveCredits(bench.db, party, { key: 'g', micro: 10_000_000n });
    const fact = usageFact(bench.world, party, { takes: [{ bucketId, micro: 1_000_000 }] });
    const changed = { ...fact, quantities: [{ meter: 'api_calls', quantity: 9 }], takes: [] };
    await bench.add([fact, fact, changed]);
    await drainAll(bench);
    const before = await rollupsOf(bench.db, party);
    const drainer = bench.drainer();
    await bench.add([changed, usageFact(bench.world, party), fact]);
    await drainer.idle();
    assert.equal(drainer.stats().duplicates, 2);
    await drainer.stop();
    assert.deepEqual(before, [{ segmentId: segmentOf(0), adjusts: '', quantity: 1n, events: 1n }]);
    const [after] = await rollupsOf(bench.db, party);
    assert.deepEqual([after?.quantity, after?.events], [2n, 2n]);
    const [balance] = await walletBalances(bench.db, party.subscriberId);
    assert.equal(balance?.spent, 1_000_000n);
  });

  it('takes from the grants of a bucket the oldest first', async () => {
    const first = await giveCredits(bench.db, party, { key: '1', micro: 1_500_000n });
    const second = await giveCredits(bench.db, party, { key: '2', micro: 5_000_000n });
    assert.equal(first.bucketId, second.bucketId);
    await bench.add([
      usageFact(bench.world, party, { takes: [{ bucketId: first.bucketId, micro: 2_000_000 }] }),
    ]);
    await drainAll(bench);
    const left = await selectRows(
      bench.db,
      'SELECT id, remaining_micro FROM grants WHERE bucket_id = ?::bigint ORDER BY created_at',
      [first.bucketId],
    );
    assert.deepEqual(left, [
      { id: first.grantId, remaining_micro: 0n },
      { id: second.grantId, remaining_micro: 4_500_000n },
    ]);
  });

  it('finds the segment of a fact that names none by product and instant', async () => {
    const external = usageFact(bench.world, party, {
      subscriptionId: '',
      segmentId: '',
      keyId: '',
      status: 0,
      atMs: Date.UTC(2025, 1, 10),
      flags: ['external'],
    });
    const boundary = { ...external, opId: `${external.opId}0`, atMs: Date.UTC(2025, 1, 1) };
    await bench.add([external, boundary]);
    await drainAll(bench);
    assert.deepEqual(await rollupsOf(bench.db, party), [
      { segmentId: segmentOf(1), adjusts: '', quantity: 2n, events: 2n },
    ]);
  });

  it('puts an event of a closed period into the earliest open one, and says what it adjusts', async () => {
    const early = usageFact(bench.world, party);
    const late = usageFact(bench.world, party, { flags: ['late'] });
    await bench.add([early]);
    await drainAll(bench);
    await close(0);
    await bench.add([late]);
    await drainAll(bench);
    assert.deepEqual(await rollupsOf(bench.db, party), [
      { segmentId: segmentOf(0), adjusts: '', quantity: 1n, events: 1n },
      { segmentId: segmentOf(1), adjusts: periodOf(0), quantity: 1n, events: 1n },
    ]);
    const { events } = await listUsageEvents(bench.db, {
      environment: 'test',
      subscriptionId: party.subscriptionId,
      limit: 10,
    });
    assert.deepEqual(
      events.map(({ periodId, adjustsPeriodId }) => [periodId, adjustsPeriodId]),
      [
        [periodOf(1), periodOf(0)],
        [periodOf(0), null],
      ],
    );
  });

  it('puts an event of a subscription that has ended into its late period, which holds no time', async () => {
    for (const index of [0, 1, 2]) await close(index);
    for (const count of [1, 2]) {
      await bench.add(Array.from({ length: count }, () => usageFact(bench.world, party)));
      await drainAll(bench);
    }
    const late = await bench
      .db('periods')
      .where({ subscription_id: party.subscriptionId, is_late: true });
    assert.deepEqual(
      late.map((period) => [period.state, period.seq, period.start_at, period.end_at]),
      [['open', 3, new Date('2025-04-01'), new Date('2025-04-01')]],
    );
    const [segment] = await bench.db('segments').where({ period_id: late[0].id });
    assert.deepEqual(await rollupsOf(bench.db, party), [
      { segmentId: segment.id, adjusts: periodOf(0), quantity: 3n, events: 3n },
    ]);
  });

  it('posts expired credits once', async () => {
    const { bucketId } = await giveCredits(bench.db, party, { key: 'g', micro: 3_000_000n });
    await bench.add([
      {
        kind: 'expired',
        subscriberId: party.subscriberId,
        bucketId,
        micro: 2_000_000,
        atMs: Date.now(),
      },
    ]);
    await drainAll(bench);
    await drainAll(bench, { incarnation: 1 });
    const [balance] = await walletBalances(bench.db, party.subscriberId);
    assert.deepEqual(balance, {
      unit: 'credit',
      granted: 3_000_000n,
      available: 1_000_000n,
      spent: 0n,
      expired: 2_000_000n,
      refunded: 0n,
    });
  });

  it('posts for a void what the shard took, from the grant that was voided', async () => {
    const kept = await giveCredits(bench.db, party, { key: '1', micro: 3_000_000n });
    const voided = await giveCredits(bench.db, party, { key: '2', micro: 2_000_000n });
    const seq = await write(bench.db, (tx) => voidGrant(tx, voided.grantId));
    const fact = {
      kind: 'debit' as const,
      subscriberId: party.subscriberId,
      coreSeq: Number(seq),
      bucketId: kept.bucketId,
      takenMicro: 1_500_000,
      atMs: Date.now(),
    };
    await bench.add([fact, fact]);
    await drainAll(bench);
    const left = await selectRows<{ id: string; remaining_micro: bigint }>(
      bench.db,
      'SELECT id, remaining_micro FROM grants WHERE bucket_id = ?::bigint',
      [kept.bucketId],
    );
    assert.deepEqual(
      new Map(left.map((row) => [row.id, row.remaining_micro])),
      new Map([
        [kept.grantId, 3_000_000n],
        [voided.grantId, 500_000n],
      ]),
    );
    const [balance] = await walletBalances(bench.db, party.subscriberId);
    assert.deepEqual([balance?.available, balance?.refunded], [3_500_000n, 1_500_000n]);
  });

  it('asks the credits of an unheld use back, and pays with what the shard gave', async () => {
    const soon = await giveCredits(bench.db, party, {
      key: '1',
      micro: 700_000n,
      expiresAt: new Date('2025-06-01T00:00:00Z'),
    });
    const later = await giveCredits(bench.db, party, { key: '2', micro: 9_000_000n });
    const fact = usageFact(bench.world, party, { flags: ['unheld'] });
    await bench.add([fact, fact]);
    await drainAll(bench);
    const asked = await selectRows<{ seq: bigint }>(
      bench.db,
      `SELECT seq, bucket_id, amount_micro, business_key FROM core_log WHERE subscriber_id = ? AND verb = 'debit' ORDER BY seq`,
      [party.subscriberId],
    );
    assert.deepEqual(asked, [
      {
        seq: 3n,
        bucket_id: BigInt(soon.bucketId),
        amount_micro: 700_000n,
        business_key: `unheld:${fact.opId}`,
      },
      {
        seq: 4n,
        bucket_id: BigInt(later.bucketId),
        amount_micro: 300_000n,
        business_key: `unheld:${fact.opId}:2`,
      },
    ]);
    const debit = { kind: 'debit' as const, subscriberId: party.subscriberId, atMs: Date.now() };
    await bench.add([
      { ...debit, coreSeq: 3, bucketId: soon.bucketId, takenMicro: 0 },
      { ...debit, coreSeq: 4, bucketId: later.bucketId, takenMicro: 300_000 },
    ]);
    await drainAll(bench);
    const { events } = await listUsageEvents(bench.db, {
      environment: 'test',
      subscriberId: party.subscriberId,
      limit: 10,
    });
    assert.deepEqual(
      events.map((event) => [event.creditsMicro, event.writtenOffMicro]),
      [[300_000n, 700_000n]],
    );
    const [hour] = await creditUsageForInterval(bench.db, party.subscriptionId, 0);
    assert.deepEqual(
      [hour?.creditsMicro, hour?.writtenOffMicro, hour?.eventCount],
      [300_000n, 700_000n, 1n],
    );
  });

  it('asks credits for use from outside that its shard passed on uncounted, not for what it counted', async () => {
    const { bucketId } = await giveCredits(bench.db, party, { key: '1', micro: 9_000_000n });
    const outside = { flags: ['external'], keyId: '', status: 0 };
    const counted = usageFact(bench.world, party, {
      ...outside,
      takes: [{ bucketId, micro: 1_000_000 }],
    });
    const passedOn = usageFact(bench.world, party, { ...outside, segmentId: '' });
    await bench.add([counted, passedOn, passedOn]);
    await drainAll(bench);
    const asked = await selectRows(
      bench.db,
      "SELECT amount_micro, business_key FROM core_log WHERE subscriber_id = ? AND verb = 'debit'",
      [party.subscriberId],
    );
    assert.deepEqual(asked, [
      { amount_micro: 1_000_000n, business_key: `unheld:${passedOn.opId}` },
    ]);
    await bench.add([
      {
        kind: 'debit',
        subscriberId: party.subscriberId,
        coreSeq: 2,
        bucketId,
        takenMicro: 1_000_000,
        atMs: Date.now(),
      },
    ]);
    await drainAll(bench);
    const [balance] = await walletBalances(bench.db, party.subscriberId);
    assert.deepEqual([balance?.available, balance?.spent], [7_000_000n, 2_000_000n]);
  });

  const amountsOf = () =>
    selectRows(
      bench.db,
      `SELECT credits_micro AS credits, overage_micro AS overage, written_off_micro AS lost FROM usage_events
       WHERE subscriber_id = ? ORDER BY occurred_at`,
      [party.subscriberId],
    );

  it('bills as overage what credits do not cover of unheld use and of use that was passed on uncounted', async () => {
    await bench
      .db('segments')
      .where({ id: segmentOf(0).toString() })
      .update({ overage: true });
    const { bucketId } = await giveCredits(bench.db, party, { key: '1', micro: 1_400_000n });
    const outside = { flags: ['external'], keyId: '', status: 0, segmentId: '' };
    await bench.add([
      usageFact(bench.world, party, { flags: ['unheld'] }),
      usageFact(bench.world, party, outside),
      usageFact(bench.world, party, { flags: ['unheld'] }),
      // In the second month nothing is billed beyond the credits.
      usageFact(bench.world, party, { ...outside, atMs: Date.UTC(2025, 1, 10) }),
    ]);
    await drainAll(bench);
    assert.deepEqual(await amountsOf(), [
      { credits: 0n, overage: 0n, lost: 1_000_000n },
      { credits: 0n, overage: 600_000n, lost: 400_000n },
      { credits: 0n, overage: 1_000_000n, lost: 0n },
      { credits: 0n, overage: 0n, lost: 1_000_000n },
    ]);
    // The shard has less than was asked of it: the first use is paid in part, the second not at all.
    const debit = { kind: 'debit' as const, subscriberId: party.subscriberId, atMs: Date.now() };
    await bench.add([
      { ...debit, coreSeq: 2, bucketId, takenMicro: 700_000 },
      { ...debit, coreSeq: 3, bucketId, takenMicro: 0 },
    ]);
    await drainAll(bench);
    assert.deepEqual(await amountsOf(), [
      { credits: 700_000n, overage: 300_000n, lost: 0n },
      { credits: 0n, overage: 1_000_000n, lost: 0n },
      { credits: 0n, overage: 1_000_000n, lost: 0n },
      { credits: 0n, overage: 0n, lost: 1_000_000n },
    ]);
    const [hour] = await creditUsageForInterval(bench.db, party.subscriptionId, 0);
    assert.deepEqual(
      [hour?.creditsMicro, hour?.overageMicro, hour?.writtenOffMicro],
      [700_000n, 2_300_000n, 0n],
    );
    assert.deepEqual(await violationsOfMoney(), []);
  });

  it('bears what the shard does not pay of an unheld use once the period is closed', async () => {
    await bench
      .db('segments')
      .where({ id: segmentOf(0).toString() })
      .update({ overage: true });
    const { bucketId } = await giveCredits(bench.db, party, { key: '1', micro: 1_000_000n });
    await bench.add([usageFact(bench.world, party, { flags: ['unheld'] })]);
    await drainAll(bench);
    await close(0);
    const debit = { kind: 'debit' as const, subscriberId: party.subscriberId, atMs: Date.now() };
    await bench.add([{ ...debit, coreSeq: 2, bucketId, takenMicro: 250_000 }]);
    await drainAll(bench);
    assert.deepEqual(await amountsOf(), [{ credits: 250_000n, overage: 0n, lost: 750_000n }]);
    assert.deepEqual(await violationsOfMoney(), []);
  });

  it('writes off what a shard that lost its tail spends a second time, and keeps the use', async () => {
    const first = await giveCredits(bench.db, party, { key: '1', micro: 10_500_000n });
    const second = await giveCredits(bench.db, party, {
      key: '2',
      micro: 1_000_000n,
      expiresAt: new Date('2025-06-01T00:00:00Z'),
    });
    const spend = () =>
      usageFact(bench.world, party, {
        takes: [
          { bucketId: second.bucketId, micro: 100_000 },
          { bucketId: first.bucketId, micro: 1_000_000 },
        ],
      });
    const before = Array.from({ length: 10 }, spend);
    await bench.add(before);
    await drainAll(bench);
    // The shard has 10 credits again; what the gateway sends once more finds no record, and is known here.
    await bench.add(before.map((fact) => ({ ...fact, takes: [], flags: ['unheld'] })));
    const after = Array.from({ length: 5 }, spend);
    await bench.add(after.toReversed());
    const drainer = await drainAll(bench);
    assert.equal(drainer.stats().parked, 0);
    assert.deepEqual(await rollupsOf(bench.db, party), [
      { segmentId: segmentOf(0), adjusts: '', quantity: 15n, events: 15n },
    ]);
    const events = await selectRows(
      bench.db,
      `SELECT event_id AS id, bucket_ids, credits_micro AS credits, written_off_micro AS lost, ledger_txn_id IS NULL AS unposted
       FROM usage_events WHERE event_id = ANY (?::text[]) ORDER BY occurred_at`,
      [`{${after.map(({ opId }) => opId).join(',')}}`],
    );
    assert.deepEqual(
      events,
      after.map(({ opId }, index) =>
        index === 0
          ? {
              id: opId,
              bucket_ids: [first.bucketId],
              credits: 500_000n,
              lost: 600_000n,
              unposted: false,
            }
          : { id: opId, bucket_ids: [], credits: 0n, lost: 1_100_000n, unposted: true },
      ),
    );
    const [hour] = await creditUsageForInterval(bench.db, party.subscriptionId, 0);
    assert.deepEqual([hour?.creditsMicro, hour?.writtenOffMicro], [11_500_000n, 5_000_000n]);
    const [balance] = await walletBalances(bench.db, party.subscriberId);
    assert.deepEqual([balance?.available, balance?.spent], [0n, 11_500_000n]);
    assert.deepEqual(await violationsOfMoney(), []);
  });

  it('expires and gives back no more than the grants still have, when the shard has spent credits again', async () => {
    const expiring = await giveCredits(bench.db, party, {
      key: '1',
      micro: 3_000_000n,
      expiresAt: new Date('2025-06-01T00:00:00Z'),
    });
    const voided = await giveCredits(bench.db, party, { key: '2', micro: 2_000_000n });
    const seq = Number(await write(bench.db, (tx) => voidGrant(tx, voided.grantId)));
    await bench.add([
      usageFact(bench.world, party, {
        takes: [
          { bucketId: expiring.bucketId, micro: 2_000_000 },
          { bucketId: voided.bucketId, micro: 2_000_000 },
        ],
      }),
    ]);
    await drainAll(bench);
    const of = { subscriberId: party.subscriberId, atMs: Date.now() };
    const expired = { kind: 'expired' as const, ...of, bucketId: expiring.bucketId };
    await bench.add([
      { ...expired, micro: 3_000_000 },
      { ...expired, micro: 1_000_000 },
      { kind: 'debit', ...of, coreSeq: seq, bucketId: voided.bucketId, takenMicro: 1_500_000 },
    ]);
    const drainer = await drainAll(bench);
    assert.equal(drainer.stats().parked, 0);
    const [balance] = await walletBalances(bench.db, party.subscriberId);
    assert.deepEqual(
      [balance?.available, balance?.spent, balance?.expired, balance?.refunded],
      [0n, 4_000_000n, 1_000_000n, 0n],
    );
    const answered = await selectRows(
      bench.db,
      'SELECT taken_micro FROM core_log WHERE subscriber_id = ? AND seq = ?',
      [party.subscriberId, seq],
    );
    assert.deepEqual(answered, [{ taken_micro: 0n }]);
    assert.deepEqual(await violationsOfMoney(), []);
  });

  it('remembers where a period was sealed, and tells of a low balance once', async () => {
    const seal = {
      kind: 'seal' as const,
      subscriberId: party.subscriberId,
      periodId: periodOf(0),
      atMs: 1,
    };
    const low = {
      kind: 'low' as const,
      subscriberId: party.subscriberId,
      availableMicro: 5,
      atMs: 0,
    };
    const [sealed] = await bench.add([seal, low, seal]);
    await drainAll(bench);
    const period = await selectRow(
      bench.db,
      'SELECT sealed_shard, sealed_incarnation, sealed_stream_id FROM periods WHERE id = ?',
      [periodOf(0)],
    );
    assert.deepEqual(period, {
      sealed_shard: SHARD,
      sealed_incarnation: 1n,
      sealed_stream_id: sealed,
    });
    const told = await selectRows(
      bench.db,
      "SELECT payload FROM outbox WHERE topic = 'balance_low' AND payload->>'subscriber_id' = ?",
      [party.subscriberId],
    );
    assert.deepEqual(told, [
      {
        payload: {
          subscriber_id: party.subscriberId,
          available_micro: '5',
          at: '1970-01-01T00:00:00.000Z',
        },
      },
    ]);
  });

  it('parks what it cannot post, and posts all the others', async () => {
    const { bucketId } = await giveCredits(bench.db, party, { key: 'g', micro: 1_000_000n });
    const stranger = await bench.party();
    const good = Array.from({ length: 20 }, () => usageFact(bench.world, party));
    const bad = [
      'u|nonsense',
      usageFact(bench.world, party, { quantities: [{ meter: 'no_such_meter', quantity: 1 }] }),
      usageFact(bench.world, stranger, { takes: [{ bucketId, micro: 1 }] }),
      usageFact(bench.world, party, { segmentId: String(stranger.periods[0]?.segmentId) }),
      usageFact(bench.world, party, { segmentId: '', atMs: Date.UTC(2019, 0, 1) }),
      usageFact(bench.world, party, { opId: `20259999-gw0001-${Date.now().toString(36)}` }),
      {
        kind: 'expired' as const,
        subscriberId: stranger.subscriberId,
        bucketId,
        micro: 1,
        atMs: 1,
      },
    ];
    const before = await countEvents(bench.db);
    await bench.add(
      good.flatMap((fact, index) => (bad[index] === undefined ? [fact] : [fact, bad[index]])),
    );
    const drainer = await drainAll(bench);
    assert.equal((await countEvents(bench.db)) - before, good.length);
    assert.equal(drainer.stats().parked, bad.length);
    const reasons = await parkedReasons();
    for (const [index, expected] of [
      /malformed fact/,
      /no meter no_such_meter/,
      /is not one of/,
      /is not its own/,
      /no segment holds/,
      /malformed fact: op_id/,
      /is not one of/,
    ].entries()) {
      assert.match(reasons[index] ?? '', expected);
    }
    assert.equal(await bench.link.streamLength(), 0);
  });

  it('goes on where the earlier incarnation ended, and stops the earlier one', async () => {
    await bench.add([usageFact(bench.world, party)]);
    const older = bench.drainer();
    await older.idle();
    await older.stop();
    const drainer = bench.drainer({ incarnation: 2 });
    await bench.add([usageFact(bench.world, party)]);
    await drainer.idle();
    assert.equal(drainer.stats().events, 1);
    await drainer.stop();
    const stale = bench.drainer({ incarnation: 1 });
    while (stale.stats().failures === 0) await sleep(20);
    await stale.stop();
    assert.equal(stale.stats().entries, 0);
    await bench.db('shard_cursors').where({ incarnation: 2 }).delete();
  });
});
