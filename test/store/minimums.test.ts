/** The least that a meter costs, in intervals of which a subscription has only a part. */
import assert from 'node:assert/strict';

import fc from 'fast-check';

import { type Db, inTransaction } from '../../store/db.ts';
import { findViolations, invariants } from '../../store/invariants.ts';
import { findInvoiceRead, type InvoiceLineRead } from '../../store/invoice-reads.ts';
import type { Invoice } from '../../store/invoices.ts';
import { billLateUsage } from '../../store/late-invoice.ts';
import { explainLine } from '../../store/line-explanation.ts';
import { simulatePeriod } from '../../store/price-simulation.ts';
import { readSubscription } from '../../store/subscriptions.ts';
import { faultsOf, type World } from '../workflows/support/world.ts';
import { begin, type Life, publish, type Terms } from './life.ts';
import { withBooks } from './with-books.ts';

const day = (text: string): Date => new Date(`${text}T12:00:00Z`);
const midnight = (text: string): Date => new Date(`${text}T00:00:00Z`);
const start = midnight('2025-01-01');
const price = { model: 'per_unit', unit_price: '0.01' } as const;

describe('store › minimums', () => {
  let db: Db;
  let world: World;

  withBooks((books) => {
    ({ db, world } = books);
  });
  afterEach(async () => {
    assert.deepEqual(await faultsOf(db), []);
    const money = invariants.filter(({ id }) => ['I15', 'I16', 'I17', 'I18', 'I34'].includes(id));
    assert.deepEqual(await findViolations(db, money), []);
  });

  const atLeast = (minimum: string, more: Terms = {}): Promise<string> =>
    publish(db, world, { price, minimum, ...more });
  const living = async (terms: Terms, startAt = start): Promise<Life> =>
    begin(db, world, { planVersionId: await atLeast('3100', terms), startAt });

  /** The lines of an invoice, each of which is explained by its details and by the hours behind it. */
  async function explained(life: Life, invoice: Invoice): Promise<readonly string[]> {
    const read = (await findInvoiceRead(db, 'test', invoice.id)) ?? assert.fail();
    const lines: readonly InvoiceLineRead[] = await life.linesOf(invoice);
    for (const line of lines) {
      const { recomputed } = await explainLine(db, read, { line, lines });
      assert.ok(recomputed.isExact, line.description);
      assert.equal(recomputed.fromHoursMinor, line.amount_minor, line.description);
    }
    return life.texts(invoice);
  }

  it('are due for the days of the month that a subscription by the calendar begins in', async () => {
    const life = await living({ billing_time: 'calendar' }, midnight('2025-01-22'));
    await life.use(day('2025-01-25'), 100n);
    const first = await life.at(day('2025-01-25'));
    assert.deepEqual(await explained(life, await life.close(first)), [
      'API Calls (100 calls × $0.01) 100',
      'API Calls, at least $10.00 ($31.00, 10 of 31 days) 900',
    ]);
    // The next month is whole.
    assert.deepEqual(await explained(life, await life.close(await life.at(day('2025-02-05')))), [
      'API Calls (0 calls × $0.01) 0',
      'API Calls, at least $31.00 3100',
    ]);
  });

  it('hold late usage against the part that was due', async () => {
    const life = await living({ billing_time: 'calendar' }, midnight('2025-01-22'));
    await life.close(await life.at(day('2025-01-25')));
    await life.use(day('2025-01-26'), 1_500n, day('2025-02-05'));
    const february = await life.close(await life.at(day('2025-02-05')));
    assert.deepEqual((await explained(life, february)).slice(2), [
      'API Calls (1,500 calls × $0.01), Jan 22 – Jan 31, 2025 1500',
      'API Calls, at least $10.00 ($31.00, 10 of 31 days), Jan 22 – Jan 31, 2025 -1000',
    ]);
  });

  it('are due by the second where the plan says so', async () => {
    const terms = { billing_time: 'calendar', proration: 'second' } as const;
    const life = await living(terms, day('2025-01-22'));
    const texts = await explained(life, await life.close(await life.at(day('2025-01-25'))));
    assert.equal(texts[1], 'API Calls, at least $9.50 ($31.00, 820800 of 2678400 seconds) 950');
  });

  it('are due for the days up to an end that is prorated, and whole where it is not', async () => {
    for (const [isProrated, expected] of [
      [true, 'API Calls, at least $10.00 ($31.00, 10 of 31 days) 1000'],
      [false, 'API Calls, at least $31.00 3100'],
    ] as const) {
      const life = await living({});
      const period = await life.at(start);
      await life.cancel(day('2025-01-11'), isProrated);
      const texts = await explained(life, await life.close(period));
      assert.equal(texts[1], expected);
    }
  });

  it('hold what comes in after a prorated end against the part that was due', async () => {
    const life = await living({});
    const period = await life.at(start);
    await life.cancel(day('2025-01-11'), true);
    await life.close(period);
    await life.post(day('2025-01-05'), 1_500);
    const { subscriptionId } = life;
    const of = { subscriptionId, at: day('2025-01-12'), isOver: false };
    const billing = await inTransaction(db, (tx) => billLateUsage(tx, of));
    const invoice = billing.kind === 'issued' ? billing.invoice : assert.fail(billing.kind);
    assert.deepEqual(await explained(life, invoice), [
      'API Calls (1,500 calls × $0.01), Jan 1 – Jan 11, 2025 1500',
      'API Calls, at least $10.00 ($31.00, 10 of 31 days), Jan 1 – Jan 11, 2025 -1000',
    ]);
  });

  it('are due for the days up to a change to another interval', async () => {
    const year = { interval: { unit: 'year', count: 1 } } as const;
    const life = await living({});
    const period = await life.at(start);
    await life.change(day('2025-01-11'), await publish(db, world, { fee: '36500', ...year }));
    const texts = await explained(life, await life.close(period));
    assert.equal(texts[1], 'API Calls, at least $10.00 ($31.00, 10 of 31 days) 1000');
  });

  it('are whole where the interval is only cut, and where its plan changes: under the terms that it ends with', async () => {
    const life = await living({});
    await life.cut(day('2025-01-06'));
    assert.deepEqual(await explained(life, await life.close(await life.at(start))), [
      'API Calls (0 calls × $0.01) 0',
    ]);
    await life.use(day('2025-01-09'), 5n);
    await life.change(day('2025-01-11'), await atLeast('6200'));
    const rest = await life.close(await life.at(day('2025-01-20')));
    assert.equal((await explained(life, rest)).at(-1), 'API Calls, at least $62.00 6200');
  });

  it('are simulated as they are billed', async () => {
    const life = await living({ billing_time: 'calendar' }, midnight('2025-01-22'));
    await life.use(day('2025-01-25'), 100n);
    const { definition, planVersionId } = await readSubscription(db, life.subscriptionId);
    const { draft, actual } = await simulatePeriod(db, {
      ...{ subscriptionId: life.subscriptionId, period: await life.at(day('2025-01-25')) },
      version: { id: planVersionId, definition },
      nowMs: day('2025-01-25').getTime(),
    });
    assert.deepEqual([draft.subtotalMinor, actual?.subtotalMinor], [1_000n, 1_000n]);
  });

  it('however an interval is cut, and wherever it begins and ends, it costs its part at least, and that once', async () => {
    const hours = fc.record({
      begin: fc.constantFrom(0, 7, 21),
      cuts: fc.uniqueArray(fc.integer({ min: 22, max: 26 }), { maxLength: 3 }),
      end: fc.constantFrom(27, 29, null),
      uses: fc.array(fc.record({ on: fc.integer({ min: 22, max: 26 }), calls: fc.nat(800) }), {
        maxLength: 4,
      }),
    });
    await fc.assert(
      fc.asyncProperty(hours, async ({ begin: from, cuts, end, uses }) => {
        const on = (n: number): Date => new Date(start.getTime() + n * 86_400_000);
        const life = await living({ billing_time: 'calendar' }, on(from));
        const steps = [
          ...cuts.map((at) => ({ at: at + 0.75, calls: null })),
          ...uses.map(({ on: at, calls }) => ({ at: at + 0.5, calls })),
        ].toSorted((a, b) => a.at - b.at);
        for (const { at, calls } of steps) {
          if (calls === null) {
            await life.cut(on(at));
            await life.close(await life.at(on(at - 0.001)));
          } else {
            await life.use(on(at), BigInt(calls));
          }
        }
        const last = await life.at(on(26.9));
        if (end !== null) await life.cancel(on(end), true);
        await life.close(last);
        const used = uses.reduce((sum, { calls }) => sum + calls, 0);
        const days = (end ?? 31) - from;
        assert.equal(await life.totalMinor(), BigInt(Math.max(used, days * 100)));
      }),
      { numRuns: 25 },
    );
  });
});
