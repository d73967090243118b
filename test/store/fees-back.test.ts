/** Fees that were billed for time which nobody has a use for: each day is given back once, by the next invoice. */
import assert from 'node:assert/strict';

import fc from 'fast-check';

import { subscriptionActivities } from '../../activities/subscription.ts';
import { insertAddOn } from '../../store/add-ons.ts';
import { issueCreditNote } from '../../store/credit-notes.ts';
import { type Db, inTransaction } from '../../store/db.ts';
import { newId } from '../../store/ids.ts';
import { findViolations } from '../../store/invariants.ts';
import { markUncollectible, payOutOfBand, voidInvoice } from '../../store/invoice-actions.ts';
import { findInvoiceRead } from '../../store/invoice-reads.ts';
import { findInvoice, type Invoice, invoiceKeys } from '../../store/invoices.ts';
import { explainLine } from '../../store/line-explanation.ts';
import { reissueInvoice } from '../../store/period-invoice.ts';
import { attachAddOn, endAddOn } from '../../store/subscription-add-ons.ts';
import { faultsOf, type World } from '../workflows/support/world.ts';
import { seedTaxRate } from './commerce-rows.ts';
import { begin, type Life, publish, seedCoupon, type Terms } from './life.ts';
import { withBooks } from './with-books.ts';

const start = new Date('2025-01-01T00:00:00Z');
/** Noon of the n-th day of 2025. */
const day = (n: number): Date => new Date(start.getTime() + (n - 0.5) * 86_400_000);
const february = day(36);

describe('store › fees given back', () => {
  let db: Db;
  let world: World;

  withBooks((books) => {
    ({ db, world } = books);
  });
  afterEach(async () => {
    assert.deepEqual(await faultsOf(db), []);
    const known = new Set(['I24', 'I25', 'I27']);
    assert.deepEqual(
      (await findViolations(db)).filter(({ id }) => !known.has(id)),
      [],
    );
  });

  const plan = (fee: string, more: Terms = {}): Promise<string> =>
    publish(db, world, { fee, ...more });
  const ahead = (fee: string, more: Terms = {}): Promise<string> =>
    plan(fee, { isAhead: true, ...more });
  const living = (planVersionId: string, couponIds: readonly string[] = []): Promise<Life> =>
    begin(db, world, { planVersionId, startAt: start, couponIds });

  /** A seat of 31.00 from a day on. Answers what it is held as. */
  async function seat({ subscriptionId }: Life, at = start): Promise<string> {
    return inTransaction(db, async (tx) => {
      const lookup_id = `seat-${newId('sad').slice(4, 16)}`;
      const { id: addOnId } = await insertAddOn(tx, 'test', {
        ...{ product_id: world.productId, lookup_id, name: 'Seat', type: 'RECURRING' },
        ...{ amount_minor: 3_100n, currency: 'USD', tax_rate_ids: [] },
      });
      const given = await attachAddOn(tx, { subscriptionId, addOnId, quantity: 1, at });
      return given.kind === 'attached' ? given.held.id : assert.fail(given.code);
    });
  }
  async function end({ subscriptionId }: Life, heldId: string, at: Date): Promise<void> {
    const ending = await inTransaction(db, (tx) => endAddOn(tx, { subscriptionId, heldId, at }));
    assert.equal(ending.kind, 'ended');
  }
  async function cut(life: Life, at: Date): Promise<Invoice> {
    const period = await life.cut(at);
    return life.close((await life.periods()).find(({ id }) => id === period.id) ?? assert.fail());
  }
  const closeAt = async (life: Life, at: Date): Promise<Invoice> => life.close(await life.at(at));

  async function cancel({ subscriptionId }: Life, at: Date): Promise<void> {
    const { cancelSubscription } = subscriptionActivities({
      ...{ db, payments: { charge: never, lookup: never, refund: never, lookupRefund: never } },
      ...{ startWorkflow: () => Promise.resolve(), shards: { seal: never } },
      ...{ isDrained: never, waitForApplied: never },
    });
    const args = { subscriptionId, nowMs: at.getTime(), when: 'now', prorate: true } as const;
    assert.equal((await cancelSubscription(args)).kind, 'done');
  }
  const advanceOf = async (life: Life): Promise<Invoice> =>
    (await findInvoice(db, invoiceKeys.advance(life.subscriptionId, 0))) ?? assert.fail();
  const giveUp = ({ id: invoiceId }: Invoice): Promise<unknown> =>
    inTransaction(db, (tx) => markUncollectible(tx, { invoiceId, at: start }));
  const pay = ({ id: invoiceId }: Invoice): Promise<unknown> =>
    inTransaction(db, (tx) => payOutOfBand(tx, { invoiceId, reference: null, at: start }));

  /** What invoices that are not void charged, less what credit notes gave back. */
  async function paidInAll(life: Life): Promise<bigint> {
    const ids = db('invoices').where({ subscription_id: life.subscriptionId }).select('id');
    const notes: readonly { readonly total_minor: bigint }[] = await db('credit_notes')
      .whereIn('invoice_id', ids)
      .select('total_minor');
    return (await life.totalMinor()) - notes.reduce((sum, note) => sum + note.total_minor, 0n);
  }

  describe('of an add-on that ends after an early close', () => {
    it('the days that are left are on the next invoice, once, and explained', async () => {
      const life = await living(await plan('0'));
      const held = await seat(life);
      assert.deepEqual((await life.texts(await cut(life, day(6)))).at(-1), 'Seat 3100');
      await end(life, held, day(21));
      const rest = await closeAt(life, day(22));
      assert.deepEqual(await life.texts(rest), ['Unused part of Seat (11 of 31 days) -1100']);
      const invoice = (await findInvoiceRead(db, 'test', rest.id)) ?? assert.fail();
      const lines = await life.linesOf(rest);
      for (const line of lines) {
        assert.ok((await explainLine(db, invoice, { line, lines })).recomputed.isExact);
      }
      assert.deepEqual(await life.texts(await closeAt(life, february)), ['Fee 0 0']);
    });

    it('nothing is given back of one that ended before it was billed', async () => {
      const life = await living(await plan('0'));
      const held = await seat(life);
      await end(life, held, day(4));
      assert.deepEqual(
        (await life.texts(await cut(life, day(6)))).at(-1),
        'Seat (3 of 31 days) 300',
      );
      assert.deepEqual(await life.texts(await closeAt(life, day(22))), []);
    });

    it('what was really paid is given back, of which no coupon takes anything again', async () => {
      const life = await living(await plan('3100'), [await seedCoupon(db, { percent: '10' })]);
      const held = await seat(life);
      assert.equal((await cut(life, day(6))).totalMinor, 5_580n);
      await end(life, held, day(21));
      // 11 of 31 days of 27.90.
      assert.equal((await closeAt(life, day(22))).totalMinor, -990n);
    });

    it('with the tax that was paid for it, though none is due any more', async () => {
      const life = await living(await plan('0'));
      const rate = await seedTaxRate(db, 'VAT', '19');
      const subscriber = db('subscribers').where({ id: life.subscriberId });
      await subscriber.clone().update({ tax_rate_ids: [rate] });
      const held = await seat(life);
      assert.equal((await cut(life, day(6))).totalMinor, 3_689n);
      await end(life, held, day(21));
      await subscriber.update({ tax_status: 'exempt', tax_exempt_reason: 'a school' });
      // 11 of 31 days: 11.00 and 2.09.
      assert.equal((await closeAt(life, day(22))).totalMinor, -1_309n);
    });

    it('nothing is given back of what a credit note gave back', async () => {
      const life = await living(await plan('0'));
      const held = await seat(life);
      const early = await cut(life, day(6));
      const position = (await life.linesOf(early)).findIndex((line) => line.charge_id === held);
      await inTransaction(db, (tx) =>
        issueCreditNote(tx, {
          ...{ invoiceId: early.id, businessKey: `story:${early.id}`, reason: 'goodwill' },
          ...{ request: { kind: 'lines', amounts: new Map([[position, 3_100n]]) } },
          ...{ to: 'balance', actor: 'story', at: start },
        }),
      );
      await end(life, held, day(21));
      assert.deepEqual(await life.texts(await closeAt(life, day(22))), []);
    });

    it('a prorated end of the subscription does not give the same days back again', async () => {
      const life = await living(await plan('0'));
      const held = await seat(life);
      await cut(life, day(6));
      await end(life, held, day(11));
      const last = await life.at(day(12));
      await cancel(life, day(21));
      await life.close(last);
      assert.equal(await paidInAll(life), 1_000n);
    });

    it('nor does a change to another interval', async () => {
      const life = await living(await plan('0'));
      const held = await seat(life);
      await cut(life, day(6));
      await end(life, held, day(11));
      const last = await life.at(day(12));
      const year = { interval: { unit: 'year', count: 1 } } as const;
      const change = await life.change(day(21), await plan('1', year));
      assert.deepEqual(await life.texts(change), ['Unused part of Seat (11 of 31 days) -1100']);
      assert.deepEqual(await life.texts(await life.close(last)), [
        'Unused part of Seat (10 of 31 days) -1000',
      ]);
    });

    it('invoices that are made void and issued again charge and give back the same', async () => {
      const life = await living(await plan('0'));
      const held = await seat(life);
      const early = await cut(life, day(6));
      await end(life, held, day(21));
      const rest = await closeAt(life, day(22));
      for (const { id } of [rest, early]) {
        await inTransaction(db, (tx) =>
          voidInvoice(tx, { invoiceId: id, reason: null, at: start }),
        );
        await inTransaction(db, (tx) => reissueInvoice(tx, id, start));
        assert.equal(await life.totalMinor(), 2_000n);
      }
    });

    it('each day that it is held is paid once, wherever the interval is cut, and whatever ends', async () => {
      const days = fc.integer({ min: 2, max: 30 });
      const story = fc.record({
        ...{ from: fc.integer({ min: 1, max: 30 }), cuts: fc.uniqueArray(days, { maxLength: 3 }) },
        ...{ ends: fc.option(days), cancels: fc.option(days) },
      });
      await fc.assert(
        fc.asyncProperty(story, async ({ from, cuts, ends, cancels }) => {
          const life = await living(await plan('0'));
          const over = cancels ?? 32;
          const until = Math.min(Math.max(ends ?? 32, from), over);
          const steps = [
            ...cuts.map((on) => ({ on: on + 0.1, kind: 'cut' as const })),
            ...(ends === null ? [] : [{ on: until + 0.2, kind: 'end' as const }]),
            { on: from - 0.2, kind: 'begin' as const },
          ]
            .filter(({ on }) => on < over)
            .toSorted((a, b) => a.on - b.on);
          let held = '';
          for (const { on, kind } of steps) {
            if (kind === 'begin') held = await seat(life, day(on));
            else if (kind === 'cut') await cut(life, day(on));
            else await end(life, held, day(on));
          }
          const last = await life.at(day(cancels === null ? 31.4 : cancels - 0.4));
          if (cancels !== null) await cancel(life, day(cancels));
          await life.close(last);
          const paid = held === '' ? 0 : Math.max(until - from, 0) * 100;
          assert.equal(
            await paidInAll(life),
            BigInt(paid),
            JSON.stringify({ from, cuts, ends, cancels }),
          );
        }),
        { numRuns: 20 },
      );
    });
  });

  describe('of an invoice that was given up when the plan changed, and paid since', () => {
    it('what is not used of it is on the next invoice, once', async () => {
      const life = await living(await ahead('3100'));
      await giveUp(await advanceOf(life));
      assert.deepEqual(await life.texts(await life.change(day(11), await ahead('6200'))), [
        'Fee 6200 (21 of 31 days) 4200',
      ]);
      await pay(await advanceOf(life));
      assert.deepEqual(await life.texts(await closeAt(life, start)), [
        'Fee 6200, Feb 1 – Feb 28, 2025 6200',
        'Unused part of Fee 3100 (21 of 31 days) -2100',
      ]);
      assert.deepEqual(await life.texts(await closeAt(life, february)), [
        'Fee 6200, Mar 1 – Mar 31, 2025 6200',
      ]);
    });

    it('also when it is paid after its interval was invoiced', async () => {
      const life = await living(await ahead('3100'));
      await giveUp(await advanceOf(life));
      await life.change(day(11), await ahead('6200'));
      assert.deepEqual(await life.texts(await closeAt(life, start)), [
        'Fee 6200, Feb 1 – Feb 28, 2025 6200',
      ]);
      await pay(await advanceOf(life));
      assert.deepEqual(await life.texts(await closeAt(life, february)), [
        'Fee 6200, Mar 1 – Mar 31, 2025 6200',
        'Unused part of Fee 3100 (21 of 31 days), Jan 11 – Jan 31, 2025 -2100',
      ]);
      assert.deepEqual((await life.texts(await closeAt(life, day(70)))).length, 1);
    });

    it('also where the change began another interval', async () => {
      const year = { interval: { unit: 'year', count: 1 } } as const;
      for (const isInTime of [true, false]) {
        const life = await living(await ahead('3100'));
        await giveUp(await advanceOf(life));
        const old = await life.at(start);
        await life.change(day(11), await ahead('36500', year));
        if (isInTime) await pay(await advanceOf(life));
        const texts = await life.texts(await life.close(old));
        if (!isInTime) await pay(await advanceOf(life));
        await cut(life, day(41));
        const unused = 'Unused part of Fee 3100 (21 of 31 days)';
        assert.deepEqual(texts, isInTime ? [`${unused} -2100`] : []);
        // 31.00 less what was not used of it, and a year.
        assert.equal(await life.totalMinor(), 1_000n + 36_500n);
      }
    });

    it('nothing where the change was undone, or nothing was changed', async () => {
      const old = await ahead('3100');
      const life = await living(old);
      await giveUp(await advanceOf(life));
      await life.change(day(11), await ahead('6200'));
      await life.change(day(11), old);
      await pay(await advanceOf(life));
      await closeAt(life, start);
      const other = await living(old);
      await giveUp(await advanceOf(other));
      await pay(await advanceOf(other));
      await closeAt(other, start);
      for (const each of [life, other]) assert.equal(await each.totalMinor(), 6_200n);
    });

    it('nothing of what a prorated end took off what was owed', async () => {
      const life = await living(await ahead('3100'));
      await giveUp(await advanceOf(life));
      const last = await life.at(start);
      await cancel(life, day(11));
      await pay(await advanceOf(life));
      await life.close(last);
      assert.equal(await paidInAll(life), 1_000n);
    });

    it('nor of what a later change gave back', async () => {
      const life = await living(await ahead('3100'));
      await giveUp(await advanceOf(life));
      await life.change(day(11), await ahead('6200'));
      await pay(await advanceOf(life));
      // 11 days of the old fee too: it is paid by now.
      assert.deepEqual(await life.texts(await life.change(day(21), await ahead('9300'))), [
        'Unused part of Fee 3100 (11 of 31 days) -1100',
        'Unused part of Fee 6200 (11 of 21 days) -2200',
        'Fee 9300 (11 of 31 days) 3300',
      ]);
      await closeAt(life, start);
      assert.equal(await life.totalMinor(), 1_000n + 2_000n + 3_300n + 9_300n);
    });

    it('what a change gave back is charged anew by its undoing, though the invoice was given up since', async () => {
      const old = await ahead('3100');
      const life = await living(old);
      await life.change(day(11), await ahead('6200'));
      await giveUp(await advanceOf(life));
      assert.deepEqual(await life.texts(await life.change(day(21), old, 'now')), [
        'Unused part of Fee 6200 (11 of 21 days) -2200',
        'Fee 3100 (11 of 31 days) 1100',
      ]);
    });

    it('each day is paid once in the end, whatever was changed, cut, given up and paid in between', async () => {
      const plans = await Promise.all([
        ...['3100', '6200'].map((fee) => ahead(fee)),
        ...['9300', '12400'].map((fee) => plan(fee)),
      ]);
      /** Fees of a day in January. */
      const daily = [100, 200, 300, 400];
      const step = fc.oneof(
        fc.record({ kind: fc.constant('change' as const), to: fc.nat(3) }),
        fc.record({ kind: fc.constant('cut' as const) }),
        fc.record({ kind: fc.constantFrom('give up' as const, 'pay' as const), which: fc.nat(5) }),
      );
      const steps = fc.array(fc.tuple(fc.integer({ min: 1, max: 3 }), step), { maxLength: 9 });
      const invoicesOf = ({ subscriptionId }: Life, state: string): Promise<readonly Invoice[]> =>
        db('invoices').where({ subscription_id: subscriptionId, state }).orderBy('created_at');
      await fc.assert(
        fc.asyncProperty(fc.nat(3), steps, async (first, taken) => {
          const life = await living(plans[first] ?? assert.fail());
          const days: number[] = [];
          let current = first;
          for (const [wait, one] of taken) {
            days.push(...Array.from({ length: wait }, () => daily[current] ?? 0));
            const at = day(days.length + 1);
            if (one.kind === 'cut') {
              await cut(life, at);
            } else if (one.kind !== 'change') {
              const state = one.kind === 'pay' ? 'uncollectible' : 'open';
              const found = await invoicesOf(life, state);
              const chosen = found[one.which % Math.max(1, found.length)];
              if (chosen !== undefined) await (one.kind === 'pay' ? pay : giveUp)(chosen);
            } else if (one.to !== current) {
              current = one.to;
              await life.change(at, plans[current] ?? assert.fail(), 'now');
            }
          }
          days.push(...Array.from({ length: 31 - days.length }, () => daily[current] ?? 0));
          await closeAt(life, new Date('2025-01-31T23:00:00Z'));
          for (const one of await invoicesOf(life, 'uncollectible')) await pay(one);
          await closeAt(life, february);
          const billed = await db('invoice_lines as l')
            .join('invoices as i', 'i.id', 'l.invoice_id')
            .where({ 'i.subscription_id': life.subscriptionId })
            .where('l.covers_start_at', '<', new Date('2025-02-01T00:00:00Z'))
            .select<{ amount_minor: bigint }[]>('l.amount_minor');
          assert.equal(
            billed.reduce((sum, line) => sum + Number(line.amount_minor), 0),
            days.reduce((sum, fee) => sum + fee, 0),
          );
        }),
        { numRuns: 20 },
      );
    });
  });
});

function never(): Promise<never> {
  return Promise.reject(new Error('not here'));
}
