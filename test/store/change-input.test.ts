import assert from 'node:assert/strict';

import fc from 'fast-check';

import { draftPlanChange } from '../../store/change-input.ts';
import { type Db, inTransaction } from '../../store/db.ts';
import { newId } from '../../store/ids.ts';
import { voidInvoice } from '../../store/invoice-actions.ts';
import { invoicePeriod, reissueInvoice } from '../../store/period-invoice.ts';
import { rollPeriods } from '../../store/periods.ts';
import { changePlan } from '../../store/plan-changes.ts';
import { insertTaxRate } from '../../store/tax-rates.ts';
import { lockSubscription, readSubscription } from '../../store/subscriptions.ts';
import { faultsOf, type World } from '../workflows/support/world.ts';
import { begin, type Life, publish, seedCoupon, type Terms } from './life.ts';
import { withBooks } from './with-books.ts';

const day = (text: string): Date => new Date(`${text}T12:00:00Z`);
const midnight = (text: string): Date => new Date(`${text}T00:00:00Z`);
const start = midnight('2025-01-01');

describe('store/change-input', () => {
  let db: Db;
  let world: World;

  withBooks((books) => {
    ({ db, world } = books);
  });
  afterEach(async () => {
    assert.deepEqual(await faultsOf(db), []);
  });

  const ahead = (fee: string, more: Terms = {}): Promise<string> =>
    publish(db, world, { fee, isAhead: true, ...more });
  const arrears = (fee: string, more: Terms = {}): Promise<string> =>
    publish(db, world, { fee, ...more });
  const bills = async (life: Life, from: string, to: string): Promise<readonly string[]> => {
    const invoice = await life.change(day(from), to);
    return life.texts(invoice);
  };

  describe('what a change invoices at once', () => {
    it('ahead to ahead: the unused part of what was paid, and the new part', async () => {
      const life = await begin(db, world, { planVersionId: await ahead('3100'), startAt: start });
      assert.deepEqual(await bills(life, '2025-01-11', await ahead('6200')), [
        'Unused part of Fee 3100 (21 of 31 days) -2100',
        'Fee 6200 (21 of 31 days) 4200',
      ]);
      // The next change gives back what this one charged.
      assert.deepEqual(await bills(life, '2025-01-22', await ahead('9300')), [
        'Unused part of Fee 6200 (10 of 21 days) -2000',
        'Fee 9300 (10 of 31 days) 3000',
      ]);
      const january = await life.close(await life.at(start));
      assert.deepEqual(await life.texts(january), ['Fee 9300, Feb 1 – Feb 28, 2025 9300']);
    });

    it('arrears to ahead: the new part only; the old days are on the invoice of the period', async () => {
      const life = await begin(db, world, { planVersionId: await arrears('3100'), startAt: start });
      assert.deepEqual(await bills(life, '2025-01-11', await ahead('6200')), [
        'Fee 6200 (21 of 31 days) 4200',
      ]);
      assert.deepEqual(await life.texts(await life.close(await life.at(start))), [
        'Fee 3100 (10 of 31 days) 1000',
        'Fee 6200, Feb 1 – Feb 28, 2025 6200',
      ]);
    });

    it('ahead to arrears: the unused part only; the new days are on the invoice of the period', async () => {
      const life = await begin(db, world, { planVersionId: await ahead('3100'), startAt: start });
      assert.deepEqual(await bills(life, '2025-01-11', await arrears('6200')), [
        'Unused part of Fee 3100 (21 of 31 days) -2100',
      ]);
      assert.deepEqual(await life.texts(await life.close(await life.at(start))), [
        'Fee 6200 (21 of 31 days) 4200',
      ]);
    });

    it('arrears to arrears: nothing, unless an early close has billed the old fee', async () => {
      const [old, next] = [await arrears('3100'), await arrears('6200')];
      const life = await begin(db, world, { planVersionId: old, startAt: start });
      const first = await life.close(await life.cut(midnight('2025-01-06')));
      assert.deepEqual(await life.texts(first), ['Fee 3100 3100']);
      assert.deepEqual(await bills(life, '2025-01-11', next), [
        'Unused part of Fee 3100 (21 of 31 days) -2100',
        'Fee 6200 (21 of 31 days) 4200',
      ]);
      const rest = await life.close(await life.at(day('2025-01-20')));
      assert.deepEqual(await life.texts(rest), []);
    });

    it('another interval: the unused part, and a whole interval of the new plan', async () => {
      const year = { interval: { unit: 'year', count: 1 } } as const;
      const life = await begin(db, world, { planVersionId: await ahead('3100'), startAt: start });
      assert.deepEqual(await bills(life, '2025-01-11', await ahead('36500', year)), [
        'Unused part of Fee 3100 (21 of 31 days) -2100',
        'Fee 36500 36500',
      ]);
      assert.deepEqual(await life.texts(await life.close(await life.at(start))), []);
    });

    it('a downgrade waits for the end of the interval, and the invoice there has its fee', async () => {
      const life = await begin(db, world, { planVersionId: await ahead('3100'), startAt: start });
      const next = await ahead('1500');
      const subscription = await readSubscription(db, life.subscriptionId);
      const at = day('2025-01-11');
      const draft = await draftPlanChange(db, subscription, {
        ...{ toVersionId: next, at, timing: 'default' },
      });
      assert.deepEqual(draft, {
        timing: { kind: 'period_end' },
        ...{ effectiveAt: midnight('2025-02-01'), invoice: null },
      });
      assert.equal(await life.change(at, next, 'default'), null);
      assert.deepEqual(await life.texts(await life.close(await life.at(start))), [
        'Fee 1500, Feb 1 – Feb 28, 2025 1500',
      ]);
    });

    it('what was discounted is given back as it was paid, and the new fee is discounted before it is shared', async () => {
      const couponId = await seedCoupon(db, { amountMinor: '1000' });
      const of = { planVersionId: await ahead('4100'), startAt: start, couponIds: [couponId] };
      const life = await begin(db, world, of);
      assert.equal(await life.totalMinor(), 3_100n);
      assert.deepEqual(await bills(life, '2025-01-11', await ahead('7200')), [
        'Unused part of Fee 4100 (21 of 31 days) -2100',
        'Fee 7200, less $10.00 (21 of 31 days) 4200',
      ]);
    });

    it('a fixed amount is taken once in an interval, and by the first invoice of one that begins with the change', async () => {
      const couponIds = [await seedCoupon(db, { amountMinor: '1000' })];
      const of = { planVersionId: await arrears('3100'), startAt: start, couponIds };
      const life = await begin(db, world, of);
      const change = await life.change(day('2025-01-11'), await ahead('6200'));
      assert.equal(change?.totalMinor, 4_200n);
      const january = await life.close(await life.at(start));
      // 1000 of old days, all of it discounted; 6200 ahead, of which the next interval's 1000.
      assert.equal(january.totalMinor, 5_200n);
      const year = { interval: { unit: 'year', count: 1 } } as const;
      const yearly = await life.change(day('2025-02-15'), await ahead('36500', year));
      assert.deepEqual(await life.texts(yearly), [
        'Unused part of Fee 6200 (14 of 28 days) -2600',
        'Fee 36500, less $10.00 35500',
      ]);
      assert.equal(yearly?.totalMinor, 32_900n);
    });

    it('a fee that a draft has is given back at once, and the draft, rated anew, has it whole', async () => {
      const [old, next] = [await ahead('2800'), await ahead('5600')];
      const life = await begin(db, world, { planVersionId: old, startAt: start });
      await db('operator_settings').update({ draft_grace_ms: 3_000_000_000 });
      const january = await life.at(start);
      await inTransaction(db, async (tx) => {
        await rollPeriods(tx, await lockSubscription(tx, life.subscriptionId), january.endAt);
      });
      const invoice = (isUrgent: boolean) =>
        inTransaction(db, (tx) => invoicePeriod(tx, january.id, january.endAt, isUrgent));
      assert.equal((await invoice(false)).kind, 'draft');
      assert.deepEqual(await bills(life, '2025-02-15', next), [
        'Unused part of Fee 2800 (14 of 28 days) -1400',
        'Fee 5600 (14 of 28 days) 2800',
      ]);
      const final = await invoice(true);
      assert.ok(final.kind === 'invoiced');
      assert.deepEqual(await life.texts(final.invoice), ['Fee 2800, Feb 1 – Feb 28, 2025 2800']);
      await db('operator_settings').update({ draft_grace_ms: 0 });
    });

    it('a fee that was given back in part is billed whole again when its void invoice is issued again', async () => {
      const [old, next] = [await ahead('2800'), await ahead('5600')];
      const life = await begin(db, world, { planVersionId: old, startAt: start });
      const january = await life.close(await life.at(start));
      await life.change(day('2025-02-15'), next);
      const before = await life.totalMinor();
      await inTransaction(db, (tx) =>
        voidInvoice(tx, { invoiceId: january.id, reason: null, at: start }),
      );
      const again = await inTransaction(db, (tx) => reissueInvoice(tx, january.id, start));
      assert.ok(again.kind === 'issued');
      assert.deepEqual(await life.texts(again.invoice), ['Fee 2800, Feb 1 – Feb 28, 2025 2800']);
      assert.equal(await life.totalMinor(), before);
    });

    it('each side is taxed as its charge is', async () => {
      const taxId = await inTransaction(db, async (tx) => {
        const fields = { lookup_id: 'vat', name: 'VAT', percent: '20' };
        return (await insertTaxRate(tx, 'test', fields)).id;
      });
      const next = await publish(db, world, {
        more: [
          {
            ...{ kind: 'recurring', id: `chg_taxed${taxId.slice(4, 20)}`, display_name: 'Taxed' },
            ...{ amount_minor: '6200', bill_in: 'advance', tax_rate_ids: [taxId] },
          },
        ],
      });
      const old = await ahead('3100');
      const life = await begin(db, world, { planVersionId: old, startAt: start });
      const up = await life.change(day('2025-01-11'), next);
      // 4200 − 2100, and a fifth of the 4200 alone.
      assert.equal(up?.totalMinor, 2_940n);
      const down = await life.change(day('2025-01-11'), old);
      assert.equal(down?.totalMinor, -2_940n);
    });

    it('has fees of plans whose prices both hold the tax, or both do not: another change is refused', async () => {
      const life = await begin(db, world, { planVersionId: await ahead('3100'), startAt: start });
      const toVersionId = await ahead('6200', { prices_include_tax: true });
      const result = await inTransaction(db, async (tx) =>
        changePlan(
          tx,
          await lockSubscription(tx, life.subscriptionId),
          { changeId: newId('pch'), toVersionId, when: 'now' },
          day('2025-01-11'),
        ),
      );
      assert.ok(result.kind === 'refused');
      assert.equal(result.code, 'tax_inclusion_differs');
      assert.match(result.message, /hold the tax, those of the subscription do not/);
    });

    it('refuses another currency, and an instant without a period', async () => {
      const life = await begin(db, world, { planVersionId: await ahead('3100'), startAt: start });
      const subscription = await readSubscription(db, life.subscriptionId);
      const change = {
        at: day('2025-01-11'),
        timing: 'now',
        toVersionId: await ahead('1'),
      } as const;
      const euros = await ahead('1', { currency: 'EUR' });
      for (const wrong of [
        { toVersionId: euros },
        { at: day('2024-01-11') },
        { toVersionId: 'pver_none' },
      ]) {
        await assert.rejects(
          draftPlanChange(db, subscription, { ...change, ...wrong }),
          RangeError,
        );
      }
    });
  });

  describe('properties', () => {
    const minor = fc.integer({ min: 1, max: 99_999 }).map(String);
    const hour = fc.integer({ min: 1, max: 31 * 24 - 2 });
    const at = (hours: number): Date => new Date(start.getTime() + hours * 3_600_000);
    const zone = fc.constantFrom('UTC', 'Asia/Kolkata', 'America/New_York');
    const proration = fc.constantFrom('day', 'second');
    const coupon = fc.constantFrom('none', 'percent', 'fixed');

    async function couponsOf(kind: 'none' | 'percent' | 'fixed'): Promise<readonly string[]> {
      if (kind === 'none') return [];
      const off = kind === 'percent' ? { percent: '33.3' } : { amountMinor: '777' };
      return [await seedCoupon(db, off)];
    }

    it('a change and its undoing at once come to nothing: fees, tax, coupons, and all that follows', async () => {
      await fc.assert(
        fc.asyncProperty(
          fc.record({ old: minor, next: minor, hour, zone, proration, coupon }),
          fc.record({ oldAhead: fc.boolean(), newAhead: fc.boolean(), isCut: fc.boolean() }),
          async (of, { oldAhead, newAhead, isCut }) => {
            const terms = { proration: of.proration };
            const old = await publish(db, world, { ...terms, fee: of.old, isAhead: oldAhead });
            const next = await publish(db, world, { ...terms, fee: of.next, isAhead: newAhead });
            const couponIds = await couponsOf(of.coupon);
            const lives: bigint[] = [];
            for (const isChanged of [true, false]) {
              const life = await begin(db, world, {
                ...{ planVersionId: old, startAt: start, timeZone: of.zone, couponIds },
              });
              if (isCut) await life.close(await life.cut(at(of.hour / 2)));
              const before = await life.totalMinor();
              if (isChanged) {
                await life.change(at(of.hour), next);
                await life.change(at(of.hour), old);
              }
              assert.equal(await life.totalMinor(), before);
              await life.close(await life.at(new Date('2025-01-31T23:59:50Z')));
              lives.push(await life.totalMinor());
            }
            assert.equal(lives[0], lives[1]);
          },
        ),
        { numRuns: 12 },
      );
    });

    it('a chain of changes and early closes bills every day of the interval once, to half a cent for each line', async () => {
      const step = fc.record({ hour, fee: minor, isAhead: fc.boolean(), isCut: fc.boolean() });
      await fc.assert(
        fc.asyncProperty(
          fc.record({ first: minor, isAhead: fc.boolean(), zone: fc.constant('UTC') }),
          fc.uniqueArray(step, { maxLength: 5, selector: (one) => Math.floor(one.hour / 24) }),
          async (of, steps) => {
            const planVersionId = await publish(db, world, { fee: of.first, isAhead: of.isAhead });
            const life = await begin(db, world, { planVersionId, startAt: start });
            const sorted = steps.toSorted((a, b) => a.hour - b.hour);
            for (const one of sorted) {
              // An early close bills the interval's fees in arrears, which the change then gives back.
              if (one.isCut) {
                await life.close(await life.cut(new Date(at(one.hour).getTime() - 60_000)));
              }
              await life.change(
                at(one.hour),
                await publish(db, world, { fee: one.fee, isAhead: one.isAhead }),
              );
            }
            await life.close(await life.at(new Date('2025-01-31T23:59:50Z')));
            const lines = await db('invoice_lines')
              .join('invoices', 'invoices.id', 'invoice_lines.invoice_id')
              .where({ subscription_id: life.subscriptionId })
              .where('covers_start_at', '<', midnight('2025-02-01'))
              .select<{ amount_minor: bigint }[]>('amount_minor');
            const billed = lines.reduce((sum, line) => sum + line.amount_minor, 0n);
            const days = [0, ...sorted.map((one) => Math.floor(one.hour / 24)), 31];
            const fees = [of.first, ...sorted.map(({ fee }) => fee)];
            const exact = fees.reduce(
              (sum, fee, index) =>
                sum + BigInt(fee) * BigInt((days[index + 1] ?? 0) - (days[index] ?? 0)),
              0n,
            );
            const error = billed * 31n - exact;
            assert.ok(
              2n * (error < 0n ? -error : error) <= 31n * BigInt(lines.length),
              `${billed} is not ${exact} / 31`,
            );
          },
        ),
        { numRuns: 12 },
      );
    });
  });
});
