/** Levels over time (seats, gigabytes stored): whatever happens to the terms, what stands goes on to stand. */
import assert from 'node:assert/strict';

import fc from 'fast-check';

import type { Charge, Price } from '../../billing/plan.ts';
import { type Db, inTransaction, openDb } from '../../store/db.ts';
import { newId } from '../../store/ids.ts';
import { findViolations, invariants } from '../../store/invariants.ts';
import { findInvoiceRead } from '../../store/invoice-reads.ts';
import type { Invoice } from '../../store/invoices.ts';
import { explainLine } from '../../store/line-explanation.ts';
import { postUsage } from '../../store/usage-batch.ts';
import { subscriptionUsage } from '../../store/usage-summary.ts';
import { usageFact } from '../drain/drainer-fixture.ts';
import { type TestDatabase, testDatabase } from '../support/postgres.ts';
import { faultsOf, seedWorld, type World } from '../workflows/support/world.ts';
import { begin, type Life, publish } from './life.ts';

const start = new Date('2025-01-01T00:00:00Z');
const HOUR_MS = 3_600_000;
const JANUARY_HOURS = 744;
/** The n-th hour of 2025. Terms change two seconds after they are asked to. */
const hour = (n: number): Date => new Date(start.getTime() + n * HOUR_MS);
const day = (n: number): Date => hour((n - 1) * 24);
const justBefore = (at: Date): Date => new Date(at.getTime() - 2_000);

describe('store › levels', () => {
  let database: TestDatabase;
  let db: Db;
  let world: World;
  let meterId: string;

  before(async () => {
    database = await testDatabase();
    db = openDb(database.url, { poolMax: 8 });
    world = await seedWorld(db);
    meterId = newId('mtr');
    await db('meters').insert({
      ...{ id: meterId, environment: 'test', lookup_id: 'seats', aggregation: 'WEIGHTED_SUM' },
      ...{ name: 'seats', unit_one: 'seat', unit_other: 'seats' },
    });
  });
  after(async () => {
    await db.destroy();
    await database.drop();
  });
  afterEach(async () => {
    assert.deepEqual(await faultsOf(db), []);
    const money = invariants.filter(({ id }) =>
      ['I13', 'I15', 'I16', 'I18', 'I34', 'I35'].includes(id),
    );
    assert.deepEqual(await findViolations(db, money), []);
  });

  const plan = (price: Price): Promise<string> => {
    const charge: Charge = {
      ...{ kind: 'usage', id: newId('chg'), display_name: 'Seats', price, included_units: '0' },
      meter: {
        ...{ id: meterId, key: 'seats', name: 'seats', unit_one: 'seat', unit_other: 'seats' },
        ...{ scale: 0, aggregation: 'WEIGHTED_SUM' },
      },
    };
    return publish(db, world, { more: [charge] });
  };
  const each = (unit_price: string): Promise<string> => plan({ model: 'per_unit', unit_price });
  const living = (planVersionId: string): Promise<Life> =>
    begin(db, world, { planVersionId, startAt: start });

  /** As the drain posts it: of a closed period it is late. */
  async function set(life: Life, at: Date, quantity: number): Promise<void> {
    const { productId } = world;
    const party = { ...life, apiKeyId: '', periods: [] };
    const none = {
      productId,
      planId: '',
      planVersionId: '',
      meterIds: { api_calls: '', tokens: '' },
    };
    const fact = usageFact(none, party, {
      ...{ segmentId: '', atMs: at.getTime(), quantities: [{ meter: 'seats', quantity }] },
    });
    const outcome = await inTransaction(db, (tx) => postUsage(tx, [fact]));
    assert.deepEqual([outcome.inserted, outcome.refused], [1, []]);
  }

  /** The part that ends here is invoiced; the interval goes on. */
  async function cut(life: Life, at: Date): Promise<Invoice> {
    const period = await life.cut(at);
    return life.close((await life.periods()).find(({ id }) => id === period.id) ?? assert.fail());
  }

  async function explained(life: Life, invoice: Invoice): Promise<readonly string[]> {
    const read = (await findInvoiceRead(db, 'test', invoice.id)) ?? assert.fail();
    const lines = await life.linesOf(invoice);
    for (const line of lines) {
      const { recomputed, usage } = await explainLine(db, read, { line, lines });
      assert.ok(recomputed.isExact, line.description);
      assert.equal(recomputed.fromHoursMinor, line.amount_minor, line.description);
      assert.ok('total' in line.details);
      assert.equal(String(usage?.total), line.details.total);
    }
    return life.texts(invoice);
  }
  const closeOf = async (life: Life, at: Date): Promise<readonly string[]> =>
    explained(life, await life.close(await life.at(at)));

  it('go on to stand when the price changes, and the line says what stood', async () => {
    const life = await living(await each('10'));
    await set(life, start, 31);
    await life.change(justBefore(day(11)), await each('20'));
    const invoice = await life.close(await life.at(start));
    assert.deepEqual(await explained(life, invoice), [
      'seats (10 seats × $10.00), Jan 1 – Jan 10, 2025 10000',
      'seats (21 seats × $20.00) 42000',
    ]);
    const [, rest] = await life.linesOf(invoice);
    assert.ok(rest !== undefined && 'level_at_start' in rest.details);
    assert.equal(rest.details.level_at_start, '31');
  });

  it('are billed to the end of the terms that they were set under, also where an early close lies between', async () => {
    const life = await living(await each('10'));
    await set(life, start, 31);
    assert.deepEqual(await explained(life, await cut(life, day(6))), [
      'seats (5 seats × $10.00) 5000',
    ]);
    const now = await subscriptionUsage(db, life.subscriptionId, day(7).getTime());
    assert.deepEqual(
      now?.meters.map(({ quantity, eventCount }) => [quantity, eventCount]),
      [[26n, 0n]],
    );
    await life.change(justBefore(day(11)), await each('20'));
    assert.deepEqual(await closeOf(life, day(12)), [
      'seats (5 seats × $10.00), Jan 1 – Jan 10, 2025 5000',
      'seats (21 seats × $20.00) 42000',
    ]);
  });

  it('are billed by the terms that they stand under, also where nobody says so under them', async () => {
    const life = await living(await each('10'));
    await set(life, start, 31);
    await life.change(justBefore(day(11)), await each('20'));
    await life.change(justBefore(day(21)), await each('30'));
    assert.deepEqual(await explained(life, await cut(life, day(26))), [
      'seats (10 seats × $10.00), Jan 1 – Jan 10, 2025 10000',
      'seats (10 seats × $20.00), Jan 11 – Jan 20, 2025 20000',
      'seats (5 seats × $30.00) 15000',
    ]);
    assert.deepEqual(await closeOf(life, day(27)), ['seats (6 seats × $30.00) 18000']);
  });

  it('show nothing of a change that is undone', async () => {
    const [old, next] = [await each('10'), await each('20')];
    const life = await living(old);
    await set(life, start, 31);
    await life.change(justBefore(day(11)), next);
    await life.change(justBefore(day(12)), old);
    assert.deepEqual(await closeOf(life, start), ['seats (31 seats × $10.00) 31000']);
  });

  it('begin at zero in each interval', async () => {
    const life = await living(await each('10'));
    await set(life, start, 31);
    await closeOf(life, start);
    assert.deepEqual(await closeOf(life, hour(JANUARY_HOURS + 5)), ['seats (0 seats × $10.00) 0']);
  });

  it('that come late change the bill of the terms that they belong to, and of no others', async () => {
    const life = await living(await each('10'));
    await set(life, start, 31);
    await life.change(justBefore(day(11)), await each('20'));
    await closeOf(life, start);
    await set(life, day(6), 62);
    const february = await closeOf(life, hour(JANUARY_HOURS + 5));
    assert.deepEqual(february.slice(1), ['seats (5 seats × $10.00), Jan 1 – Jan 10, 2025 5000']);
  });

  it('cost the same wherever the interval is cut, and wherever another version has the same price', async () => {
    const step = fc.record({
      on: fc.integer({ min: 1, max: JANUARY_HOURS - 2 }),
      // Negative: nothing is set; the interval is cut, or the version changes to its twin.
      seats: fc.oneof(fc.nat(9), fc.constantFrom(-1, -2)),
    });
    const twins = [await each('1'), await each('1')];
    await fc.assert(
      fc.asyncProperty(
        fc.uniqueArray(step, { selector: ({ on }) => on, maxLength: 8 }),
        async (given) => {
          const steps = given.toSorted((a, b) => a.on - b.on);
          let version = 0;
          const life = await living(twins[0] ?? assert.fail());
          for (const { on, seats } of steps) {
            // So many that an hour of one of them is one whole seat of the month.
            if (seats >= 0) await set(life, hour(on), seats * JANUARY_HOURS);
            else if (seats === -1) await explained(life, await cut(life, hour(on)));
            else {
              version = 1 - version;
              await life.change(justBefore(hour(on)), twins[version] ?? assert.fail());
            }
          }
          await closeOf(life, hour(JANUARY_HOURS - 1));
          const levels = steps.filter(({ seats }) => seats >= 0);
          const expected = levels.reduce((sum, { on, seats }, index) => {
            const until = levels[index + 1]?.on ?? JANUARY_HOURS;
            return sum + seats * (until - on) * 100;
          }, 0);
          assert.equal(await life.totalMinor(), BigInt(expected));
        },
      ),
      { numRuns: 20 },
    );
  });

  it('cost at each instant what the plan of that instant asks, whatever is cut and changed', async () => {
    const step = fc.record({
      on: fc.integer({ min: 1, max: JANUARY_HOURS - 2 }),
      // -1: the interval is cut; -2: another plan, at a price of its own.
      seats: fc.oneof(fc.nat(9), fc.constantFrom(-1, -2)),
    });
    await fc.assert(
      fc.asyncProperty(
        fc.uniqueArray(step, { selector: ({ on }) => on, maxLength: 9 }),
        async (given) => {
          const steps = given.toSorted((a, b) => a.on - b.on);
          let [price, level, from, expected] = [1, 0, 0, 0];
          const life = await living(await each('1'));
          for (const { on, seats } of [...steps, { on: JANUARY_HOURS, seats: 0 }]) {
            expected += level * price * (on - from) * 100;
            from = on;
            if (on === JANUARY_HOURS) break;
            if (seats >= 0) {
              level = seats;
              await set(life, hour(on), seats * JANUARY_HOURS);
            } else if (seats === -1) {
              await explained(life, await cut(life, hour(on)));
            } else {
              price += 1;
              await life.change(justBefore(hour(on)), await each(String(price)), 'now');
            }
          }
          await closeOf(life, hour(JANUARY_HOURS - 1));
          assert.equal(await life.totalMinor(), BigInt(expected), JSON.stringify(steps));
        },
      ),
      { numRuns: 20 },
    );
  });
});
