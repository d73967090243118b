import assert from 'node:assert/strict';

import fc from 'fast-check';

import { insertAddOn } from '../../store/add-ons.ts';
import { type Db, inTransaction } from '../../store/db.ts';
import { newId } from '../../store/ids.ts';
import { voidInvoice } from '../../store/invoice-actions.ts';
import { reissueInvoice } from '../../store/period-invoice.ts';
import { attachAddOn } from '../../store/subscription-add-ons.ts';
import { postUsage } from '../../store/usage-batch.ts';
import { faultsOf, type World } from '../workflows/support/world.ts';
import { begin, type Life, publish, seedCoupon } from './life.ts';
import { withBooks } from './with-books.ts';

const day = (text: string): Date => new Date(`${text}T12:00:00Z`);
const midnight = (text: string): Date => new Date(`${text}T00:00:00Z`);
const start = midnight('2025-01-01');
const tiers = [
  { up_to: '100', unit_price: '1', flat_fee: '0' },
  { up_to: null, unit_price: '0.1', flat_fee: '0' },
] as const;
const graduated = { model: 'graduated', tiers } as const;
const perCall = { model: 'per_unit', unit_price: '0.01' } as const;

describe('store/invoice-input', () => {
  let db: Db;
  let world: World;

  withBooks((books) => {
    ({ db, world } = books);
  });
  afterEach(async () => {
    assert.deepEqual(await faultsOf(db), []);
  });

  describe('late usage', () => {
    it('of two periods of one interval on one invoice is priced one after the other', async () => {
      const planVersionId = await publish(db, world, { price: graduated });
      const life = await begin(db, world, { planVersionId, startAt: start });
      const first = await life.cut(midnight('2025-01-16'));
      await life.use(day('2025-01-05'), 60n);
      assert.deepEqual(await life.texts(await life.close(first)), [
        'API Calls (60 calls × $1.00) 6000',
      ]);
      await life.close(await life.at(day('2025-01-20')));
      await life.use(day('2025-01-06'), 30n, day('2025-02-05'));
      await life.use(day('2025-01-21'), 30n, day('2025-02-05'));
      const february = await life.close(await life.at(day('2025-02-05')));
      // 60 + 30 lie in the first tier; of the other 30, 10 do.
      assert.deepEqual((await life.texts(february)).slice(1), [
        'API Calls (30 calls × $1.00), Jan 1 – Jan 15, 2025 3000',
        'API Calls (30 calls in 2 tiers), Jan 16 – Jan 31, 2025 1200',
      ]);
      // And the next invoice goes on from there.
      await life.use(day('2025-01-22'), 10n, day('2025-03-05'));
      const march = await life.close(await life.at(day('2025-03-05')));
      assert.deepEqual((await life.texts(march)).slice(1), [
        'API Calls (10 calls × $0.10), Jan 16 – Jan 31, 2025 100',
      ]);
    });

    it('of a stretch under an earlier plan has the prices of that plan', async () => {
      const old = await publish(db, world, { price: graduated });
      const next = await publish(db, world, { price: perCall, included: '100' });
      const life = await begin(db, world, { planVersionId: old, startAt: start });
      await life.use(day('2025-01-05'), 90n);
      await life.change(midnight('2025-01-11'), next);
      await life.use(day('2025-01-20'), 50n);
      assert.deepEqual(await life.texts(await life.close(await life.at(start))), [
        'API Calls (90 calls × $1.00), Jan 1 – Jan 11, 2025 9000',
        'API Calls (40 calls past 10 included × $0.01) 40',
      ]);
      await life.use(day('2025-01-06'), 20n, day('2025-02-05'));
      await life.use(day('2025-01-25'), 20n, day('2025-02-05'));
      const february = await life.close(await life.at(day('2025-02-05')));
      assert.deepEqual((await life.texts(february)).slice(1), [
        'API Calls (20 calls in 2 tiers), Jan 1 – Jan 11, 2025 1100',
        'API Calls (20 calls past 10 included × $0.01), Jan 11 – Jan 31, 2025 20',
      ]);
    });

    it('of a stretch that nobody used in time is a run of its own', async () => {
      const old = await publish(db, world, { price: perCall });
      const other = await publish(db, world, { price: graduated });
      const life = await begin(db, world, { planVersionId: old, startAt: start });
      await life.use(day('2025-01-05'), 10n);
      await life.change(midnight('2025-01-11'), other);
      await life.change(midnight('2025-01-13'), old);
      await life.use(day('2025-01-20'), 20n);
      assert.deepEqual(await life.texts(await life.close(await life.at(start))), [
        'API Calls (30 calls × $0.01) 30',
      ]);
      await life.use(day('2025-01-12'), 5n, day('2025-02-05'));
      const february = await life.close(await life.at(day('2025-02-05')));
      assert.deepEqual((await life.texts(february)).slice(1), [
        'API Calls (5 calls × $1.00), Jan 11 – Jan 13, 2025 500',
      ]);
    });
  });

  describe('fees', () => {
    it('in arrears are shared by days where the plan changes; the day of the change belongs to the new plan', async () => {
      const old = await publish(db, world, { fee: '3100' });
      const next = await publish(db, world, { fee: '6200' });
      const life = await begin(db, world, { planVersionId: old, startAt: start });
      assert.equal(await life.change(midnight('2025-01-11'), next), null);
      assert.deepEqual(await life.texts(await life.close(await life.at(start))), [
        'Fee 3100 (10 of 31 days) 1000',
        'Fee 6200 (21 of 31 days) 4200',
      ]);
      const february = await life.close(await life.at(day('2025-02-05')));
      assert.deepEqual(await life.texts(february), ['Fee 6200 6200']);
    });

    it('in arrears of a plan that was taken and left within a day are whole', async () => {
      const old = await publish(db, world, { fee: '3100' });
      const next = await publish(db, world, { fee: '6200' });
      const life = await begin(db, world, { planVersionId: old, startAt: start });
      await life.change(day('2025-01-11'), next);
      await life.change(new Date('2025-01-11T20:00:00Z'), old);
      assert.deepEqual(await life.texts(await life.close(await life.at(start))), ['Fee 3100 3100']);
    });

    it('in advance are billed at the start, then with the invoice of the interval before', async () => {
      const planVersionId = await publish(db, world, {
        fee: '3100',
        isAhead: true,
        price: perCall,
      });
      const life = await begin(db, world, { planVersionId, startAt: start });
      await life.use(day('2025-01-05'), 100n);
      assert.equal(await life.totalMinor(), 3_100n);
      const cut = await life.cut(midnight('2025-01-16'));
      assert.deepEqual(await life.texts(await life.close(cut)), [
        'API Calls (100 calls × $0.01) 100',
      ]);
      const rest = await life.close(await life.at(day('2025-01-20')));
      assert.deepEqual(await life.texts(rest), [
        'Fee 3100, Feb 1 – Feb 28, 2025 3100',
        'API Calls (0 calls × $0.01) 0',
      ]);
    });

    it('begin within a month by the calendar, also where the clocks change', async () => {
      const terms = { fee: '3100', billing_time: 'calendar' } as const;
      const planVersionId = await publish(db, world, terms);
      const life = await begin(db, world, {
        ...{ planVersionId, startAt: new Date('2025-03-30T00:30:00Z'), timeZone: 'Europe/Berlin' },
      });
      // 01:30 local time, half an hour before the clocks go forward: the 30th and the 31st are left.
      const march = await life.close(await life.at(day('2025-03-30')));
      assert.deepEqual(await life.texts(march), ['Fee 3100 (2 of 31 days) 200']);
      const april = await life.close(await life.at(day('2025-04-15')));
      assert.deepEqual(await life.texts(april), ['Fee 3100 3100']);
    });

    it('count the leap day', async () => {
      const planVersionId = await publish(db, world, { fee: '2900', billing_time: 'calendar' });
      const startAt = day('2024-02-29');
      const life = await begin(db, world, { planVersionId, startAt });
      const february = await life.close(await life.at(day('2024-02-29')));
      assert.deepEqual(await life.texts(february), ['Fee 2900 (1 of 29 days) 100']);
    });

    it('of hours are shared to the second, also over midnight', async () => {
      const hours = { interval: { unit: 'hour', count: 2 } } as const;
      const old = await publish(db, world, { ...hours, fee: '7200' });
      const next = await publish(db, world, { ...hours, fee: '14400' });
      const startAt = new Date('2025-01-01T23:00:00Z');
      const life = await begin(db, world, { planVersionId: old, startAt });
      await life.change(new Date('2025-01-01T23:29:58Z'), next);
      assert.deepEqual(await life.texts(await life.close(await life.at(startAt))), [
        'Fee 7200 (1800 of 7200 seconds) 1800',
        'Fee 14400 (5400 of 7200 seconds) 10800',
      ]);
    });

    it('are whole when the subscription is canceled, or by the days that were used', async () => {
      const planVersionId = await publish(db, world, { fee: '3100' });
      for (const [isProrated, text] of [
        [false, 'Fee 3100 3100'],
        [true, 'Fee 3100 (10 of 31 days) 1000'],
      ] as const) {
        const life = await begin(db, world, { planVersionId, startAt: start });
        await life.cancel(day('2025-01-11'), isProrated);
        assert.deepEqual(await life.texts(await life.close(await life.at(start))), [text]);
      }
    });

    it('are cut short by another interval, whose own begin at once', async () => {
      const old = await publish(db, world, { fee: '3100' });
      const year = { unit: 'year', count: 1 } as const;
      const next = await publish(db, world, { fee: '36500', isAhead: true, interval: year });
      const life = await begin(db, world, { planVersionId: old, startAt: start });
      const invoice = await life.change(day('2025-01-11'), next);
      assert.deepEqual(await life.texts(invoice), ['Fee 36500 36500']);
      const cut = await life.close(await life.at(start));
      assert.deepEqual(await life.texts(cut), ['Fee 3100 (10 of 31 days) 1000']);
    });

    it('that a void invoice billed are billed again by the next one of the interval, and then not by its reissue', async () => {
      const planVersionId = await publish(db, world, { fee: '3100' });
      const life = await begin(db, world, { planVersionId, startAt: start });
      const first = await life.close(await life.cut(midnight('2025-01-16')));
      await inTransaction(db, (tx) =>
        voidInvoice(tx, { invoiceId: first.id, reason: 'mistake', at: start }),
      );
      const rest = await life.close(await life.at(day('2025-01-20')));
      assert.deepEqual(await life.texts(rest), ['Fee 3100 3100']);
      const again = await inTransaction(db, (tx) => reissueInvoice(tx, first.id, start));
      assert.ok(again.kind === 'issued');
      assert.deepEqual(await life.texts(again.invoice), []);
    });
  });

  async function addOn(
    subscriptionId: string,
    type: 'RECURRING' | 'ONE_TIME',
    of: { readonly quantity: number; readonly from: Date },
  ): Promise<void> {
    await inTransaction(db, async (tx) => {
      const { id: addOnId } = await insertAddOn(tx, 'test', {
        ...{ product_id: world.productId, lookup_id: type.toLowerCase(), name: 'Seat', type },
        ...{ amount_minor: 500n, currency: 'USD', tax_rate_ids: [] },
      });
      const given = await attachAddOn(tx, {
        ...{ subscriptionId, addOnId, quantity: of.quantity, at: of.from },
      });
      assert.equal(given.kind, 'attached');
    });
  }

  it('the order of events, and how often they are told, change nothing', async () => {
    const old = await publish(db, world, { fee: '3100', price: graduated });
    const next = await publish(db, world, { fee: '6200', price: perCall, included: '100' });
    const event = fc.record({
      hour: fc.nat(31 * 24 - 1),
      quantity: fc.nat(60),
      isLate: fc.boolean(),
    });
    const events = fc.uniqueArray(event, {
      minLength: 1,
      maxLength: 12,
      selector: ({ hour }) => hour,
    });
    let told = 0;
    await fc.assert(
      fc.asyncProperty(events, fc.infiniteStream(fc.nat(99)), async (given, order) => {
        const drafts: string[] = [];
        for (const isShuffled of [false, true]) {
          const life = await begin(db, world, { planVersionId: old, startAt: start });
          const facts = given.map((one) => {
            told += 1;
            return { one, fact: factOf(life, { ...one, sequence: told }) };
          });
          const tell = async (isLate: boolean): Promise<void> => {
            const mine = facts.filter(({ one }) => one.isLate === isLate).map(({ fact }) => fact);
            const keys = new Map(mine.map((fact) => [fact, isShuffled ? order.next().value : 0]));
            const sorted = mine.toSorted((a, b) => (keys.get(a) ?? 0) - (keys.get(b) ?? 0));
            const twice = isShuffled ? [...sorted, ...sorted.toReversed()] : sorted;
            for (const fact of twice) await inTransaction(db, (tx) => postUsage(tx, [fact]));
          };
          await life.change(day('2025-01-11'), next);
          await tell(false);
          const january = await life.close(await life.at(start));
          await tell(true);
          const february = await life.close(await life.at(day('2025-02-05')));
          drafts.push(JSON.stringify([await life.texts(january), await life.texts(february)]));
        }
        assert.equal(drafts[0], drafts[1]);
      }),
      { numRuns: 6 },
    );
  });

  function factOf(
    { subscriberId, subscriptionId }: Life,
    of: { readonly hour: number; readonly quantity: number; readonly sequence: number },
  ) {
    return {
      ...({ kind: 'usage', opId: `20250102-gw0001-${of.sequence.toString(36)}` } as const),
      ...{ subscriberId, subscriptionId, segmentId: '', productId: world.productId },
      atMs: start.getTime() + of.hour * 3_600_000 + 5_000,
      ...{ keyId: newId('key'), status: 200, takes: [], writtenOffMicro: 0, flags: [] },
      quantities: [{ meter: `m_${world.meterId.slice(4, 14)}`, quantity: of.quantity }],
      overageMicro: 0,
    };
  }

  it('add-ons are billed for the days that they are held, one-time ones once', async () => {
    const planVersionId = await publish(db, world, { fee: '3100' });
    const life = await begin(db, world, { planVersionId, startAt: start });
    await addOn(life.subscriptionId, 'RECURRING', { quantity: 3, from: day('2025-01-22') });
    await addOn(life.subscriptionId, 'ONE_TIME', { quantity: 1, from: day('2025-01-22') });
    const january = await life.close(await life.at(start));
    assert.deepEqual(await life.texts(january), [
      'Fee 3100 3100',
      // 1500 × 10/31 = 483.87
      'Seat (3 × $5.00, 10 of 31 days) 484',
      'Seat 500',
    ]);
    const february = await life.close(await life.at(day('2025-02-05')));
    assert.deepEqual(await life.texts(february), ['Fee 3100 3100', 'Seat (3 × $5.00) 1500']);
  });

  it('a commitment counts what earlier invoices of the interval billed, fees ahead too', async () => {
    const terms = { price: perCall, isAhead: true, commitment_minor: '10000' };
    const planVersionId = await publish(db, world, { ...terms, fee: '3100' });
    const life = await begin(db, world, { planVersionId, startAt: start });
    await life.use(day('2025-01-05'), 1_000n);
    await life.close(await life.cut(midnight('2025-01-16')));
    const rest = await life.close(await life.at(day('2025-01-20')));
    assert.deepEqual(await life.texts(rest), [
      'Fee 3100, Feb 1 – Feb 28, 2025 3100',
      'API Calls (0 calls × $0.01) 0',
      'Commitment, at least $100.00 5900',
    ]);
  });

  it('a coupon for one interval is not taken off the fee of the next one', async () => {
    const couponId = await seedCoupon(db, { percent: '50' }, { duration: 'once' });
    const planVersionId = await publish(db, world, { fee: '3100', isAhead: true, price: perCall });
    const life = await begin(db, world, { planVersionId, startAt: start, couponIds: [couponId] });
    await life.use(day('2025-01-05'), 1_000n);
    const january = await life.close(await life.at(start));
    assert.deepEqual([await life.totalMinor(), january.totalMinor], [5_150n, 3_600n]);
  });
});
