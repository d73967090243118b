/** Lives in which several things happen to the same money: nothing of it is lost, or billed twice. */
import assert from 'node:assert/strict';

import fc from 'fast-check';

import { subscriptionActivities } from '../../activities/subscription.ts';
import { insertAddOn } from '../../store/add-ons.ts';
import { issueCreditNote } from '../../store/credit-notes.ts';
import { type Db, inTransaction } from '../../store/db.ts';
import { newId } from '../../store/ids.ts';
import { findViolations } from '../../store/invariants.ts';
import { type InvoiceAction, markUncollectible, voidInvoice } from '../../store/invoice-actions.ts';
import { findInvoice, type Invoice, invoiceKeys } from '../../store/invoices.ts';
import { listPeriods } from '../../store/periods.ts';
import { attachAddOn } from '../../store/subscription-add-ons.ts';
import { attachCoupon } from '../../store/subscription-coupons.ts';
import { invoicePeriod, reissueInvoice } from '../../store/period-invoice.ts';
import {
  faultsOf,
  seedSubscriber,
  seedSubscription,
  type World,
} from '../workflows/support/world.ts';
import { begin, type Life, publish, seedCoupon, type Terms } from './life.ts';
import { withBooks } from './with-books.ts';

const day = (text: string): Date => new Date(`${text}T12:00:00Z`);
const midnight = (text: string): Date => new Date(`${text}T00:00:00Z`);
const start = midnight('2025-01-01');

describe('store › stories', () => {
  let db: Db;
  let world: World;

  withBooks((books) => {
    ({ db, world } = books);
  });
  afterEach(async () => {
    assert.deepEqual(await faultsOf(db), []);
    // Usage is seeded as hours, without the events behind them; life's clock is not the database's.
    const known = new Set(['I24', 'I25', 'I27']);
    assert.deepEqual(
      (await findViolations(db)).filter(({ id }) => !known.has(id)),
      [],
    );
  });

  const ahead = (fee: string, more: Terms = {}): Promise<string> =>
    publish(db, world, { fee, isAhead: true, ...more });
  const arrears = (fee: string, more: Terms = {}): Promise<string> =>
    publish(db, world, { fee, ...more });
  const living = (planVersionId: string, couponIds: readonly string[] = []): Promise<Life> =>
    begin(db, world, { planVersionId, startAt: start, couponIds });
  const makeVoid = ({ id }: Pick<Invoice, 'id'>): Promise<InvoiceAction> =>
    inTransaction(db, (tx) => voidInvoice(tx, { invoiceId: id, reason: null, at: start }));
  const advanceOf = async (life: Life): Promise<Invoice> =>
    (await findInvoice(db, invoiceKeys.advance(life.subscriptionId, 0))) ?? assert.fail();

  const credit = async (
    invoice: Pick<Invoice, 'id'>,
    position: number,
    amountMinor: bigint,
  ): Promise<void> => {
    const issue = await inTransaction(db, (tx) =>
      issueCreditNote(tx, {
        ...{ invoiceId: invoice.id, businessKey: `story:${invoice.id}`, reason: 'goodwill' },
        ...{ request: { kind: 'lines', amounts: new Map([[position, amountMinor]]) } },
        ...{ to: 'balance', actor: 'story', at: start },
      }),
    );
    assert.equal(issue.kind, 'issued');
  };

  const activities = (): ReturnType<typeof subscriptionActivities> =>
    subscriptionActivities({
      ...{ db, payments: { charge: never, lookup: never, refund: never, lookupRefund: never } },
      ...{ startWorkflow: () => Promise.resolve(), shards: { seal: never } },
      ...{ isDrained: never, waitForApplied: never },
    });

  async function creditedMinor({ subscriptionId }: Life): Promise<bigint> {
    const invoices = db('invoices').where({ subscription_id: subscriptionId }).select('id');
    const notes: readonly { readonly total_minor: bigint }[] = await db('credit_notes')
      .whereIn('invoice_id', invoices)
      .select('total_minor');
    return notes.reduce((sum, note) => sum + note.total_minor, 0n);
  }

  /** A seat of 31.00 from the start on. Answers what it is held as. */
  async function addOn({ subscriptionId }: Life): Promise<string> {
    return inTransaction(db, async (tx) => {
      const { id: addOnId } = await insertAddOn(tx, 'test', {
        ...{
          product_id: world.productId,
          lookup_id: `seat-${newId('sad').slice(4, 16)}`,
          name: 'Seat',
        },
        ...{ type: 'RECURRING', amount_minor: 3_100n, currency: 'USD', tax_rate_ids: [] },
      });
      const given = await attachAddOn(tx, { subscriptionId, addOnId, quantity: 1, at: start });
      return given.kind === 'attached' ? given.held.id : assert.fail(given.code);
    });
  }

  describe('fees whose invoice is void', () => {
    it('are billed by the next invoice of a period, once', async () => {
      const life = await living(await ahead('3100'));
      await makeVoid(await advanceOf(life));
      assert.deepEqual(await life.texts(await life.close(await life.at(start))), [
        'Fee 3100 3100',
        'Fee 3100, Feb 1 – Feb 28, 2025 3100',
      ]);
      assert.deepEqual(await life.texts(await life.close(await life.at(day('2025-02-05')))), [
        'Fee 3100, Mar 1 – Mar 31, 2025 3100',
      ]);
    });

    it('are billed so also when their interval is invoiced already', async () => {
      const life = await living(await ahead('3100'));
      await life.close(await life.at(start));
      await makeVoid(await advanceOf(life));
      assert.deepEqual(await life.texts(await life.close(await life.at(day('2025-02-05')))), [
        'Fee 3100, Jan 1 – Jan 31, 2025 3100',
        'Fee 3100, Mar 1 – Mar 31, 2025 3100',
      ]);
      assert.deepEqual(await life.texts(await life.close(await life.at(day('2025-03-05')))), [
        'Fee 3100, Apr 1 – Apr 30, 2025 3100',
      ]);
    });

    it('are billed whole when a change of plan gave a part of them back', async () => {
      const life = await living(await ahead('3100'));
      const change = await life.change(day('2025-01-11'), await ahead('6200'));
      assert.equal(change?.totalMinor, 2_100n);
      await makeVoid(await advanceOf(life));
      assert.deepEqual(await life.texts(await life.close(await life.at(start))), [
        'Fee 3100 3100',
        'Fee 6200, Feb 1 – Feb 28, 2025 6200',
      ]);
    });

    it('are billed for the days before a change of plan that came after', async () => {
      const life = await living(await ahead('3100'));
      await makeVoid(await advanceOf(life));
      assert.deepEqual(
        await life.texts(await life.change(day('2025-01-11'), await ahead('6200'))),
        ['Fee 6200 (21 of 31 days) 4200'],
      );
      assert.deepEqual(await life.texts(await life.close(await life.at(start))), [
        'Fee 3100 (10 of 31 days) 1000',
        'Fee 6200, Feb 1 – Feb 28, 2025 6200',
      ]);
    });

    it('of a change of plan that gave nothing back are billed for the days that it was for', async () => {
      const life = await living(await arrears('3100'));
      const change = await life.change(day('2025-01-11'), await ahead('6200'));
      await makeVoid(change ?? assert.fail());
      assert.deepEqual(await life.texts(await life.close(await life.at(start))), [
        'Fee 3100 (10 of 31 days) 1000',
        'Fee 6200 (21 of 31 days) 4200',
        'Fee 6200, Feb 1 – Feb 28, 2025 6200',
      ]);
    });

    it('are not those of a change of plan that gave fees back: it stands, and is credited', async () => {
      const life = await living(await ahead('3100'));
      const change = await life.change(day('2025-01-11'), await ahead('6200'));
      const answer = await makeVoid(change ?? assert.fail());
      assert.deepEqual([answer.kind, 'code' in answer && answer.code], ['refused', 'gives_back']);
      await life.close(await life.at(start));
      assert.equal(await life.totalMinor(), 3_100n + 2_100n + 6_200n);
    });
  });

  describe('a fixed amount', () => {
    it('goes along with every change of plan of its interval', async () => {
      const life = await living(await ahead('4100'), [
        await seedCoupon(db, { amountMinor: '1000' }),
      ]);
      await life.change(day('2025-01-11'), await ahead('7200'));
      const [second, third] = [await ahead('10300'), await ahead('13400')];
      assert.deepEqual(await life.texts(await life.change(day('2025-01-12'), second)), [
        'Unused part of Fee 7200 (20 of 21 days) -4000',
        'Fee 10300, less $10.00 (20 of 31 days) 6000',
      ]);
      assert.deepEqual(await life.texts(await life.change(day('2025-01-13'), third)), [
        'Unused part of Fee 10300 (19 of 20 days) -5700',
        'Fee 13400, less $10.00 (19 of 31 days) 7600',
      ]);
    });

    it('goes along also in an interval that a change of plan began', async () => {
      const year = { interval: { unit: 'year', count: 1 } } as const;
      const life = await living(await ahead('4100'), [
        await seedCoupon(db, { amountMinor: '1000' }),
      ]);
      await life.change(day('2025-01-11'), await ahead('37500', year));
      assert.deepEqual(
        await life.texts(await life.change(day('2025-01-12'), await ahead('74000', year))),
        [
          'Unused part of Fee 37500 (364 of 365 days) -36400',
          'Fee 74000, less $10.00 (364 of 365 days) 72800',
        ],
      );
    });

    it('is not taken twice because a credit note gave back a part of the fee', async () => {
      const life = await living(await ahead('3100'));
      const advance = await advanceOf(life);
      await credit(advance, 0, 310n);
      const couponId = await seedCoupon(db, { amountMinor: '1000' });
      await inTransaction(db, (tx) =>
        attachCoupon(tx, { subscriptionId: life.subscriptionId, couponId, at: day('2025-01-05') }),
      );
      // The invoice of the period takes it.
      assert.deepEqual(
        await life.texts(await life.change(day('2025-01-11'), await ahead('6200'))),
        ['Unused part of Fee 3100 (21 of 31 days) -1890', 'Fee 6200 (21 of 31 days) 4200'],
      );
    });
  });

  describe('a prorated end gives back', () => {
    const end = async (life: Life, at: Date): Promise<bigint> => {
      const { subscriptionId } = life;
      const { cancelSubscription } = activities();
      const args = { subscriptionId, nowMs: at.getTime(), when: 'now', prorate: true } as const;
      assert.equal((await cancelSubscription(args)).kind, 'done');
      return creditedMinor(life);
    };

    it('the unused part of what credit notes left of a fee', async () => {
      const life = await living(await ahead('3100'));
      await credit(await advanceOf(life), 0, 1_550n);
      // Half of it was given back, of the other half 21 of 31 days are left.
      assert.equal(await end(life, day('2025-01-11')), 1_550n + 1_050n);
    });

    it('add-ons that an early close billed, also when the plan has changed since', async () => {
      const life = await living(await arrears('3100'));
      await addOn(life);
      await life.cut(midnight('2025-01-06'));
      await life.close(await life.at(start));
      await life.change(day('2025-01-11'), await arrears('6200'));
      // 11 of 21 days of the new fee, 11 of 31 of the add-on.
      assert.equal(await end(life, day('2025-01-21')), 2_200n + 1_100n);
    });

    it('the fee once that a change of plan gave back and another one took again', async () => {
      const [old, next] = [await ahead('3100'), await arrears('6200')];
      const life = await living(old);
      await life.change(day('2025-01-11'), next);
      await life.change(day('2025-01-16'), old);
      assert.equal(await end(life, day('2025-01-21')), 1_100n);
    });

    it('nothing of a fee that was taken again for what a void invoice had billed', async () => {
      const old = await ahead('3100');
      const life = await living(old);
      await life.change(day('2025-01-11'), await ahead('6200'));
      await makeVoid(await advanceOf(life));
      await life.change(day('2025-01-16'), old);
      assert.equal(await end(life, day('2025-01-21')), 0n);
      await life.close(await life.at(start));
      // 10 days of the old fee, 5 of the new one, 5 of the old one.
      assert.equal(await life.totalMinor(), 1_000n + 1_000n + 500n);
    });

    it('nothing of a fee that another interval has taken the place of', async () => {
      const year = { interval: { unit: 'year', count: 1 } } as const;
      const life = await living(await ahead('3100'));
      await life.change(day('2025-01-11'), await arrears('36500', year));
      assert.equal(await end(life, day('2025-01-21')), 0n);
    });
  });

  it('a fee that a fixed amount takes whole is billed for its time, and not again by the period', async () => {
    const life = await living(await arrears('1000'), [
      await seedCoupon(db, { amountMinor: '1500' }),
    ]);
    await life.cut(midnight('2025-01-06'));
    await life.close(await life.at(start));
    assert.deepEqual(
      await life.texts(await life.change(day('2025-01-11'), await arrears('1500'))),
      ['Fee 1500, less $15.00 (21 of 31 days) 0'],
    );
    assert.deepEqual(await life.texts(await life.close(await life.at(day('2025-01-20')))), []);
    assert.equal(await life.totalMinor(), 0n);
  });

  it('what is due without usage is billed once, also when a plan is left and taken again after an early close', async () => {
    const tiers = [{ up_to: null, unit_price: '1', flat_fee: '5' }] as const;
    const price = { model: 'graduated', tiers } as const;
    const [old, next] = [await publish(db, world, { price }), await publish(db, world, { price })];
    const life = await living(old);
    await life.cut(midnight('2025-01-06'));
    await life.close(await life.at(start));
    await life.change(day('2025-01-10'), next);
    await life.change(day('2025-01-11'), old);
    await life.close(await life.at(day('2025-01-20')));
    assert.equal(await life.totalMinor(), 500n);
  });

  it('a commitment is met by usage whose invoice is void until it is issued again', async () => {
    const perCall = { model: 'per_unit', unit_price: '1' } as const;
    const terms = { fee: '1000', price: perCall, commitment_minor: '20000' };
    const life = await living(await publish(db, world, terms));
    await life.use(day('2025-01-03'), 30n);
    await life.cut(midnight('2025-01-06'));
    const early = await life.close(await life.at(start));
    await makeVoid(early);
    await life.use(day('2025-01-10'), 50n);
    await life.close(await life.at(day('2025-01-20')));
    await inTransaction(db, (tx) => reissueInvoice(tx, early.id, day('2025-02-02')));
    assert.equal(await life.totalMinor(), 20_000n);
  });

  it('changes of plan a moment apart, each to another interval, use a coupon for the interval that begins', async () => {
    const years = (count: number) => ({ interval: { unit: 'year', count } }) as const;
    const life = await living(await ahead('4100'), [await seedCoupon(db, { amountMinor: '1000' })]);
    const now = day('2025-01-11');
    const later = (ms: number): Date => new Date(now.getTime() + ms);
    assert.equal((await life.change(now, await ahead('37500', years(1))))?.totalMinor, 34_400n);
    const second = await life.change(later(500), await ahead('74000', years(2)));
    assert.deepEqual(await life.texts(second), [
      'Unused part of Fee 37500 -36500',
      'Fee 74000, less $10.00 73000',
    ]);
    const third = await life.change(later(900), await ahead('111000', years(2)));
    assert.deepEqual(await life.texts(third), [
      'Unused part of Fee 74000 -73000',
      'Fee 111000, less $10.00 110000',
    ]);
    assert.deepEqual(await life.texts(await life.close(await life.at(start))), []);
  });

  it('a fee whose invoice was given up was not paid: a change of plan gives nothing of it back', async () => {
    const life = await living(await ahead('3100'));
    const { id: invoiceId } = await advanceOf(life);
    await inTransaction(db, (tx) => markUncollectible(tx, { invoiceId, at: start }));
    assert.deepEqual(await life.texts(await life.change(day('2025-01-11'), await ahead('6200'))), [
      'Fee 6200 (21 of 31 days) 4200',
    ]);
  });

  it('fees in advance of a first period that nobody was there for are billed all the same', async () => {
    const hour = { interval: { unit: 'hour', count: 1 } } as const;
    const planVersionId = await ahead('3600', hour);
    const subscriberId = await seedSubscriber(db, null);
    const of = { subscriberId, planVersionId, startAt: start };
    const subscriptionId = await seedSubscription(db, of);
    const { activateSubscription } = activities();
    await activateSubscription({ subscriptionId, nowMs: start.getTime() - 3_600_000 });
    const now = new Date('2025-01-01T02:30:00Z');
    for (const _ of ['once', 'and again']) {
      const done = await activateSubscription({ subscriptionId, nowMs: now.getTime() });
      assert.equal(done.kind, 'done');
    }
    for (const { id } of await listPeriods(db, subscriptionId, ['closing'])) {
      await inTransaction(db, (tx) => invoicePeriod(tx, id, now));
    }
    const fees = await db('invoice_lines as l')
      .join('invoices as i', 'i.id', 'l.invoice_id')
      .where({ 'i.subscription_id': subscriptionId })
      .orderBy('l.covers_start_at')
      .select<{ covers_start_at: Date }[]>('l.covers_start_at');
    assert.deepEqual(
      fees.map(({ covers_start_at: at }) => at.toISOString().slice(11, 13)),
      ['00', '01', '02'],
    );
  });

  describe('over any run of changes, early closes, voids and reissues', () => {
    type Step =
      | { readonly kind: 'change'; readonly to: number }
      | { readonly kind: 'cut' }
      | { readonly kind: 'void' | 'reissue'; readonly which: number };
    /** Fees of a day in January, of the plans of `plansOf`. */
    const daily = [100, 200, 300, 400] as const;
    const plansOf = (): Promise<readonly string[]> =>
      Promise.all([ahead('3100'), ahead('6200'), arrears('9300'), arrears('12400')]);
    const invoicesOf = ({ subscriptionId }: Life, state: string): Promise<readonly Invoice[]> =>
      db('invoices').where({ subscription_id: subscriptionId, state }).orderBy('created_at');
    const issueAgain = ({ id }: Invoice, at: Date): Promise<unknown> =>
      inTransaction(db, (tx) => reissueInvoice(tx, id, at));

    async function take(life: Life, step: Step, at: Date): Promise<void> {
      switch (step.kind) {
        case 'change':
          break;
        case 'cut':
          await life.cut(at);
          await life.close(await life.at(new Date(at.getTime() - 1)));
          break;
        case 'void': {
          const open = await invoicesOf(life, 'open');
          const chosen = open[step.which % Math.max(1, open.length)];
          if (chosen !== undefined) await makeVoid(chosen);
          break;
        }
        case 'reissue': {
          const withdrawn = await invoicesOf(life, 'void');
          const chosen = withdrawn[step.which % Math.max(1, withdrawn.length)];
          if (chosen !== undefined) await issueAgain(chosen, at);
          break;
        }
        default:
          step satisfies never;
      }
    }

    it('each day is billed once, at the fee of the plan that it belongs to', async function () {
      this.timeout(60_000);
      const plans = await plansOf();
      const step = fc.oneof(
        fc.record({ kind: fc.constant('change' as const), to: fc.nat(3) }),
        fc.record({ kind: fc.constant('cut' as const) }),
        fc.record({ kind: fc.constantFrom('void' as const, 'reissue' as const), which: fc.nat(5) }),
      );
      const steps = fc.array(fc.tuple(fc.integer({ min: 1, max: 3 }), step), { maxLength: 8 });
      await fc.assert(
        fc.asyncProperty(fc.nat(3), steps, async (first, taken) => {
          const life = await living(plans[first] ?? assert.fail());
          const days: number[] = [];
          let plan = first;
          for (const [wait, one] of taken) {
            days.push(...Array.from({ length: wait }, () => daily[plan] ?? 0));
            const at = day(`2025-01-${String(days.length + 1).padStart(2, '0')}`);
            if (one.kind === 'change' && one.to !== plan) {
              plan = one.to;
              await life.change(at, plans[plan] ?? assert.fail());
            }
            await take(life, one, at);
          }
          days.push(...Array.from({ length: 31 - days.length }, () => daily[plan] ?? 0));
          await life.close(await life.at(new Date('2025-01-31T23:00:00Z')));
          for (const one of await invoicesOf(life, 'void')) await issueAgain(one, start);
          await life.close(await life.at(day('2025-02-05')));
          const billed = await db('invoice_lines as l')
            .join('invoices as i', 'i.id', 'l.invoice_id')
            .where({ 'i.subscription_id': life.subscriptionId })
            .whereNot({ 'i.state': 'void' })
            .where('l.covers_start_at', '<', midnight('2025-02-01'))
            .select<{ amount_minor: bigint }[]>('l.amount_minor');
          assert.equal(
            billed.reduce((sum, line) => sum + Number(line.amount_minor), 0),
            days.reduce((sum, fee) => sum + fee, 0),
          );
        }),
        { numRuns: 40 },
      );
    });
  });
});

function never(): Promise<never> {
  return Promise.reject(new Error('not here'));
}
