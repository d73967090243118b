/** Subscriptions that ended before their late usage was billed: it lay beside that of its own closed period. */
import assert from 'node:assert/strict';
import { readdirSync } from 'node:fs';
import { join } from 'node:path';

import type { Knex } from 'knex';

import { repositoryFolder } from '../../bin/setup/paths.ts';
import { type Db, openDb } from '../../store/db.ts';
import { newId } from '../../store/ids.ts';
import { findViolations } from '../../store/invariants.ts';
import { billLateUsage } from '../../store/late-invoice.ts';
import { emptyDatabase, type TestDatabase } from '../support/postgres.ts';
import { type Party, seedParty, seedWorld, type World, write } from './fixture.ts';

type Migration = { readonly up: (knex: Knex) => Promise<void> };

describe('migrations › late usage of subscriptions that have ended', () => {
  let database: TestDatabase;
  let db: Db;
  let world: World;

  async function migrate(isMeant: (name: string) => boolean): Promise<void> {
    const folder = join(repositoryFolder, 'migrations');
    for (const name of readdirSync(folder).toSorted()) {
      if (!isMeant(name)) continue;
      // oxlint-disable-next-line no-await-in-loop
      const { up }: Migration = await import(join(folder, name));
      // oxlint-disable-next-line no-await-in-loop
      await db.transaction((tx) => up(tx));
    }
  }
  const isBefore = (name: string): boolean => name < '0003';

  before(async () => {
    database = await emptyDatabase();
    db = openDb(database.url, { poolMax: 4 });
    await migrate(isBefore);
    world = { ...(await seedWorld(db)), planVersionId: newId('pver') };
    const { api_calls: id } = world.meterIds;
    await db('plan_versions').insert({
      ...{ id: world.planVersionId, plan_id: world.planId, version: 2, state: 'published' },
      ...{ published_at: new Date(), currency: 'USD', interval_unit: 'month' },
      definition: JSON.stringify({
        ...{ currency: 'USD', interval: { unit: 'month', count: 1 }, billing_time: 'anniversary' },
        charges: [
          {
            ...{ kind: 'usage', id: newId('chg'), display_name: 'Calls', included_units: '0' },
            meter: {
              id,
              key: 'api_calls',
              name: 'Calls',
              unit_one: 'call',
              unit_other: 'calls',
              scale: 0,
              aggregation: 'SUM',
            },
            price: { model: 'per_unit', unit_price: '1' },
          },
        ],
        ...{ features: [], rate_limits: [] },
        credits: {
          ...{ unit: 'credit', included_micro: '0', credit_price: '0.02', burn: [] },
          overage: { enabled: true, credit_price: '0.03' },
        },
      }),
    });
  });
  after(async () => {
    await db.destroy();
    await database.drop();
  });

  /** January and February were used and closed; what would have come after is void. */
  async function ended(): Promise<Party> {
    const party = await seedParty(db, world);
    const [january = '', february = '', march = ''] = party.periods.map(({ periodId }) => periodId);
    const closed = { state: 'closed', closed_at: new Date() };
    await db('periods').whereIn('id', [january, february]).update(closed);
    await db('periods').where({ id: march }).update({ state: 'void' });
    await db('segments').where({ period_id: march }).update({ status: 'inactive' });
    const end = { state: 'canceled', ended_at: new Date('2025-03-01') };
    await db('subscriptions').where({ id: party.subscriptionId }).update(end);
    return party;
  }

  let events = 0;
  /** An event with all that is counted of it; `isLate`: as it was kept when it adjusted the period that it lay in. */
  async function used(
    { subscriptionId, subscriberId }: Party,
    of: { readonly segmentId: bigint; readonly periodId: string },
    { atIso, isLate }: { readonly atIso: string; readonly isLate: boolean },
  ): Promise<void> {
    events += 1;
    const at = new Date(atIso);
    const hour = new Date(Math.floor(at.getTime() / 3_600_000) * 3_600_000);
    const adjusts_period_id = isLate ? of.periodId : '';
    const key = {
      subscription_id: subscriptionId,
      segment_id: String(of.segmentId),
      adjusts_period_id,
    };
    const meter_id = world.meterIds.api_calls;
    const event_id = `${atIso.slice(0, 10).replaceAll('-', '')}-gw0001-${events}`;
    await db('usage_events').insert({
      ...{ ...key, period_id: of.periodId, adjusts_period_id: isLate ? of.periodId : null },
      ...{
        event_day: atIso.slice(0, 10),
        event_id,
        environment: 'test',
        subscriber_id: subscriberId,
      },
      ...{ product_id: world.productId, occurred_at: at, status: 200 },
      ...{ meter_ids: [meter_id], quantities: [2], overage_micro: 1_000_000 },
    });
    await db.raw(
      `INSERT INTO usage_rollups AS r (subscription_id, segment_id, meter_id, hour, adjusts_period_id, quantity, event_count,
         max_quantity, latest_quantity, latest_at) VALUES (?, ?, ?, ?, ?, 2, 1, 2, 2, ?)
       ON CONFLICT (subscription_id, segment_id, meter_id, hour, adjusts_period_id)
       DO UPDATE SET quantity = r.quantity + 2, event_count = r.event_count + 1, latest_at = excluded.latest_at`,
      [subscriptionId, key.segment_id, meter_id, hour, adjusts_period_id, at],
    );
    await db.raw(
      `INSERT INTO credit_rollups AS r (subscription_id, segment_id, hour, adjusts_period_id, event_count, credits_micro,
         overage_micro, written_off_micro) VALUES (?, ?, ?, ?, 1, 0, 1000000, 0)
       ON CONFLICT (subscription_id, segment_id, hour, adjusts_period_id)
       DO UPDATE SET event_count = r.event_count + 1, overage_micro = r.overage_micro + 1000000`,
      [subscriptionId, key.segment_id, hour, adjusts_period_id],
    );
    await db('usage_values')
      .insert({ ...key, meter_id, value_digest: Buffer.alloc(16, 7), first_at: at })
      .onConflict()
      .ignore();
    await db('usage_levels').insert({ ...key, meter_id, at, event_id, quantity: 3 });
  }

  it('lies in a late period afterwards, whole, and is billed; all else is as it was', async () => {
    const gone = await ended();
    const [january, february] = gone.periods;
    assert.ok(january && february);
    // A change of state in mid-hour: what came late for its two segments shares an hour.
    await db('segments')
      .where({ id: String(january.segmentId) })
      .update({ until_at: new Date('2025-01-20T00:30:00Z') });
    const [second] = await db('segments')
      .insert({
        ...{ subscription_id: gone.subscriptionId, period_id: january.periodId },
        ...{ plan_version_id: world.planVersionId, status: 'past_due', overage: false },
        ...{ from_at: '2025-01-20T00:30:00Z', until_at: '2025-02-01T00:00:00Z' },
      })
      .returning<{ id: bigint }[]>('id');
    assert.ok(second);
    const rest = { ...january, segmentId: second.id };
    await used(gone, january, { atIso: '2025-01-20T00:10:00Z', isLate: false });
    await used(gone, january, { atIso: '2025-01-20T00:11:00Z', isLate: true });
    await used(gone, rest, { atIso: '2025-01-20T00:40:00Z', isLate: true });
    await used(gone, february, { atIso: '2025-02-20T00:40:00Z', isLate: true });
    const going = await seedParty(db, world);
    const [first] = going.periods;
    assert.ok(first);
    await used(going, first, { atIso: '2025-01-20T00:10:00Z', isLate: false });
    const countedBefore = await counted(gone);
    const goingBefore = await counted(going);

    await migrate((name) => !isBefore(name));

    assert.deepEqual(await counted(going), goingBefore);
    assert.deepEqual(await counted(gone), countedBefore);
    const late = await db('periods').where({ is_late: true });
    assert.deepEqual(
      late.map((row) => [row.subscription_id, row.seq, row.state, row.start_at, row.end_at]),
      [[gone.subscriptionId, 2, 'open', new Date('2025-03-01'), new Date('2025-03-01')]],
    );
    const segment = await db('segments').where({ period_id: late[0].id }).first();
    for (const [table, rows] of [
      ['usage_rollups', 2],
      ['credit_rollups', 2],
      ['usage_values', 2],
      ['usage_levels', 3],
      ['usage_events', 3],
    ] as const) {
      assert.equal((await db(table).where({ segment_id: segment.id })).length, rows, table);
    }
    const sound = (await findViolations(db)).filter(({ id }) =>
      ['I13', 'I14', 'I25', 'I44'].includes(id),
    );
    assert.deepEqual(sound, []);

    const at = new Date('2025-06-01');
    const of = { subscriptionId: gone.subscriptionId, at, isOver: true };
    const billing = await write(db, (tx) => billLateUsage(tx, of));
    const lines =
      billing.kind === 'issued'
        ? await db('invoice_lines').where({ invoice_id: billing.invoice.id }).orderBy('position')
        : [];
    assert.deepEqual(
      lines.map((line) => [line.description, line.amount_minor]),
      [
        ['Calls (4 calls × $1.00), Jan 1 – Jan 31, 2025', 400n],
        ['Overage (2 credits × $0.03), Jan 1 – Jan 31, 2025', 6n],
        ['Calls (2 calls × $1.00), Feb 1 – Feb 28, 2025', 200n],
        ['Overage (1 credit × $0.03), Feb 1 – Feb 28, 2025', 3n],
      ],
    );
  });

  /** What of it counts for which closed period, wherever it lies. */
  async function counted({ subscriptionId }: Party): Promise<readonly unknown[]> {
    const answer = await db.raw<{ rows: readonly unknown[] }>(
      `SELECT adjusts_period_id, hour, sum(quantity)::int AS quantity, sum(event_count)::int AS events, max(latest_at) AS latest
       FROM usage_rollups WHERE subscription_id = :id GROUP BY 1, 2
       UNION ALL SELECT adjusts_period_id, hour, sum(overage_micro)::int, sum(event_count)::int, NULL
       FROM credit_rollups WHERE subscription_id = :id GROUP BY 1, 2 ORDER BY 1, 2, 3`,
      { id: subscriptionId },
    );
    return answer.rows;
  }
});
