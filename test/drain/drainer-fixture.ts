import assert from 'node:assert/strict';

import { Redis } from 'ioredis';

import { formatFact, type StreamFact, type UsageFact } from '../../billing/usage-fact.ts';
import { type Drainer, type DrainerOptions, runDrainer } from '../../drain/drainer.ts';
import { openShardLink, type ShardLink } from '../../shards/admin-client.ts';
import { type Db, openDb } from '../../store/db.ts';
import { selectRow, selectRows } from '../../store/query.ts';
import { grantCredits } from '../../store/wallets.ts';
import { type Party, seedParty, seedWorld, type World, write } from '../store/fixture.ts';
import { type TestDatabase, testDatabase } from '../support/postgres.ts';
import { startRedis, type TestRedis } from '../support/redis.ts';

export const SHARD = 'a';
/** The first millisecond of the second day of the open period. */
const DAY_2 = Date.UTC(2025, 0, 2);

/** A shard's Redis, a database and what is needed to put facts into the one and look for them in the other. */
export type Bench = {
  readonly redis: TestRedis;
  readonly database: TestDatabase;
  readonly db: Db;
  readonly link: ShardLink;
  readonly stream: Redis;
  readonly world: World;
  readonly party: () => Promise<Party>;
  readonly drainer: (options?: Partial<DrainerOptions>) => Drainer;
  readonly add: (facts: readonly (StreamFact | string)[]) => Promise<readonly string[]>;
  readonly close: () => Promise<void>;
};

export async function openBench(): Promise<Bench> {
  const [redis, database] = await Promise.all([startRedis(), testDatabase()]);
  const db = openDb(database.url);
  const link = openShardLink({ name: SHARD, url: redis.url });
  const stream = new Redis(redis.url, { maxRetriesPerRequest: null });
  await db('shards').insert({ name: SHARD, url: redis.url, incarnation: 1, state: 'open' });
  const world = await seedWorld(db);
  const drainers: Drainer[] = [];
  return {
    redis,
    database,
    db,
    link,
    stream,
    world,
    party: () => seedParty(db, world),
    drainer: (options = {}) => {
      const drainer = runDrainer({
        db,
        databaseUrl: database.url,
        link,
        shard: SHARD,
        incarnation: 1,
        log: quiet,
        blockMs: 40,
        ...options,
      });
      drainers.push(drainer);
      return drainer;
    },
    add: async (facts) => {
      const pipeline = stream.pipeline();
      for (const fact of facts) {
        pipeline.xadd('tb:u', '*', 'f', typeof fact === 'string' ? fact : formatFact(fact));
      }
      const answers = await pipeline.exec();
      return (answers ?? []).map(([error, id]) => {
        assert.equal(error, null);
        return String(id);
      });
    },
    close: async () => {
      await Promise.all(drainers.map((drainer) => drainer.stop()));
      stream.disconnect();
      await link.close();
      await db.destroy();
      await Promise.all([redis.stop(), database.drop()]);
    },
  };
}

const quiet = { info: () => {}, warn: () => {}, error: () => {} };

/** Drains what is there with a drainer of its own. */
export async function drainAll(
  bench: Bench,
  options: Partial<DrainerOptions> = {},
): Promise<Drainer> {
  const drainer = bench.drainer(options);
  await drainer.idle();
  await drainer.stop();
  return drainer;
}

let sequence = 0;

/** A call of the party in its first period; `over` changes what the test is about. */
export function usageFact(world: World, party: Party, over: Partial<UsageFact> = {}): UsageFact {
  sequence += 1;
  return {
    kind: 'usage',
    opId: `20250102-gw0001-${sequence.toString(36)}`,
    subscriberId: party.subscriberId,
    subscriptionId: party.subscriptionId,
    segmentId: String(party.periods[0]?.segmentId),
    atMs: DAY_2 + sequence,
    productId: world.productId,
    keyId: party.apiKeyId,
    status: 200,
    quantities: [{ meter: 'api_calls', quantity: 1 }],
    takes: [],
    overageMicro: 0,
    writtenOffMicro: 0,
    flags: [],
    ...over,
  };
}

/** Gives the party a bucket with credits; micro-credits. */
export async function giveCredits(
  db: Db,
  party: Party,
  grant: { readonly key: string; readonly micro: bigint; readonly expiresAt?: Date },
): Promise<{ readonly bucketId: string; readonly grantId: string }> {
  const { bucketId, grantId } = await write(db, (tx) =>
    grantCredits(tx, {
      environment: 'test',
      subscriberId: party.subscriberId,
      unit: 'credit',
      businessKey: `${grant.key}:${party.subscriberId}`,
      source: 'manual',
      amountMicro: grant.micro,
      class: 'paid',
      effectiveAt: new Date('2024-12-01T00:00:00Z'),
      expiresAt: grant.expiresAt ?? null,
    }),
  );
  return { bucketId: String(bucketId), grantId };
}

export async function countEvents(db: Db): Promise<number> {
  const row = await selectRow<{ count: bigint }>(db, 'SELECT count(*) AS count FROM usage_events');
  return Number(row?.count ?? 0n);
}

/** Rollups summed as far as the tests ask: by segment and what they adjust. */
export function rollupsOf(
  db: Db,
  party: Party,
): Promise<
  readonly {
    readonly segmentId: bigint;
    readonly adjusts: string;
    readonly quantity: bigint;
    readonly events: bigint;
  }[]
> {
  return selectRows(
    db,
    `SELECT segment_id AS "segmentId", adjusts_period_id AS adjusts, sum(quantity) AS quantity,
       sum(event_count) AS events
     FROM usage_rollups WHERE subscription_id = ? GROUP BY 1, 2 ORDER BY 1, 2`,
    [party.subscriptionId],
  );
}

/**
 * What must hold whatever was interrupted: events = rollups = ledger = grants, seen from the events, for everybody in
 * the database.
 */
export async function assertConserved(db: Db): Promise<void> {
  const broken = await selectRows(
    db,
    `WITH e AS (SELECT subscription_id, segment_id, coalesce(adjusts_period_id, '') AS adjusts, m.meter_id,
         sum(m.quantity) AS quantity, count(*) AS events
       FROM usage_events u, unnest(u.meter_ids, u.quantities) AS m(meter_id, quantity) GROUP BY 1, 2, 3, 4),
     r AS (SELECT subscription_id, segment_id, adjusts_period_id AS adjusts, meter_id, sum(quantity) AS quantity,
         sum(event_count) AS events FROM usage_rollups GROUP BY 1, 2, 3, 4)
     SELECT 'rollups' AS what, e.*::text AS left, r.*::text AS right FROM e
       FULL JOIN r USING (subscription_id, segment_id, adjusts, meter_id)
       WHERE (e.quantity, e.events) IS DISTINCT FROM (r.quantity, r.events)
     UNION ALL
     SELECT 'spent', u.subscriber_id, u.micro || ' <> ' || coalesce(l.micro, 0) FROM
       (SELECT subscriber_id, sum(credits_micro) AS micro FROM usage_events GROUP BY 1) u
       LEFT JOIN (SELECT a.subscriber_id, sum(e.amount) AS micro FROM accounts a JOIN ledger_entries e ON e.account_id = a.id
         WHERE a.kind = 'spent' GROUP BY 1) l USING (subscriber_id)
       WHERE u.micro <> coalesce(l.micro, 0)
     UNION ALL
     SELECT 'remaining', w.subscriber_id, sum(g.remaining_micro) || ' <> ' || coalesce(max(l.micro), 0) FROM grants g
       JOIN wallets w ON w.id = g.wallet_id
       LEFT JOIN (SELECT a.subscriber_id, a.asset, sum(e.amount) AS micro FROM accounts a
         JOIN ledger_entries e ON e.account_id = a.id WHERE a.kind = 'available' GROUP BY 1, 2) l
         ON l.subscriber_id = w.subscriber_id AND l.asset = 'credit:' || w.unit
       GROUP BY w.id, w.subscriber_id HAVING sum(g.remaining_micro) <> coalesce(max(l.micro), 0)`,
  );
  assert.deepEqual(broken, []);
}
