import assert from 'node:assert/strict';

import { insertAddOn, type AddOnRow } from '../../store/add-ons.ts';
import { issueCreditNote } from '../../store/credit-notes.ts';
import { type Db, inTransaction, openDb } from '../../store/db.ts';
import { invoiceAdvanceFees } from '../../store/fees-ahead.ts';
import { newId } from '../../store/ids.ts';
import { findViolations, invariants } from '../../store/invariants.ts';
import { voidInvoice } from '../../store/invoice-actions.ts';
import type { Invoice } from '../../store/invoices.ts';
import { readOperatorSettings, updateOperatorSettings } from '../../store/operator-settings.ts';
import { invoicePeriod, reissueInvoice } from '../../store/period-invoice.ts';
import {
  beginClosing,
  cutPeriod,
  listPeriods,
  openPeriods,
  type Period,
} from '../../store/periods.ts';
import { changePlan } from '../../store/plan-changes.ts';
import { simulatePeriod } from '../../store/price-simulation.ts';
import { attachAddOn, endAddOn } from '../../store/subscription-add-ons.ts';
import { listHeldCoupons } from '../../store/subscription-coupons.ts';
import {
  changeSubscription,
  lockSubscription,
  readSubscription,
} from '../../store/subscriptions.ts';
import { upcomingInvoice } from '../../store/usage-summary.ts';
import { type TestDatabase, testDatabase } from '../support/postgres.ts';
import {
  type PlanTerms,
  seedPlan,
  seedSubscriber,
  seedSubscription,
  seedUsage,
  seedWorld,
  type World,
} from '../workflows/support/world.ts';
import { attached, seedCoupon, seedTaxRate } from './commerce-rows.ts';

/** Usage is seeded here without its events; these speak of invoices and the ledger. */
const ofMoney = new Set(['I1', 'I2', 'I10', 'I15', 'I16', 'I18', 'I28', 'I32', 'I33', 'I40']);
const START = new Date('2025-01-01T00:00:00Z');

describe('store: invoices with coupons, add-ons and taxes', () => {
  let database: TestDatabase;
  let db: Db;
  let world: World;
  let names = 0;

  before(async () => {
    database = await testDatabase();
    db = openDb(database.url, { poolMax: 6 });
    world = await seedWorld(db);
    const vat = await seedTaxRate(db, 'VAT', '19');
    const settings = await readOperatorSettings(db, 'test');
    await inTransaction(db, (tx) =>
      updateOperatorSettings(tx, 'test', { ...settings, taxRateIds: [vat] }),
    );
  });
  after(async () => {
    await db.destroy();
    await database.drop();
  });
  afterEach(async () => {
    const chosen = invariants.filter(({ id }) => ofMoney.has(id));
    assert.deepEqual(await findViolations(db, chosen), []);
  });

  async function subscribe(fields: object = {}, terms: PlanTerms = {}): Promise<string> {
    const planVersionId = await seedPlan(db, world, {
      feeMinor: '9900',
      unitPrice: '0.01',
      ...terms,
    });
    const subscriberId = await seedSubscriber(db, null);
    await db('subscribers')
      .where({ id: subscriberId })
      .update({ tax_id: 'X', ...fields });
    const subscriptionId = await seedSubscription(db, {
      subscriberId,
      planVersionId,
      startAt: START,
    });
    const now = new Date('2024-12-31T00:00:00Z');
    await inTransaction(db, async (tx) => {
      const pending = await lockSubscription(tx, subscriptionId);
      const started = await changeSubscription(tx, pending, { kind: 'started', at: now });
      await openPeriods(tx, started, now);
    });
    return subscriptionId;
  }

  async function addOn(
    subscriptionId: string,
    fields: Partial<AddOnRow>,
    of: { readonly quantity: number; readonly at: string },
  ): Promise<string> {
    names += 1;
    const attachment = await inTransaction(db, async (tx) => {
      const row = await insertAddOn(tx, 'test', {
        product_id: world.productId,
        lookup_id: `add-${names}`,
        name: 'Seats',
        type: 'RECURRING',
        amount_minor: 500n,
        currency: 'USD',
        tax_rate_ids: [],
        ...fields,
      });
      const at = new Date(of.at);
      return attachAddOn(tx, { subscriptionId, addOnId: row.id, quantity: of.quantity, at });
    });
    return attachment.kind === 'attached' ? attachment.held.id : assert.fail(attachment.code);
  }

  const use = (subscriptionId: string, at: string, quantity: bigint): Promise<void> =>
    seedUsage(db, { subscriptionId, meterId: world.meterId, at: new Date(at), quantity });

  async function periodAt(subscriptionId: string, seq: number): Promise<Period> {
    const period = (await listPeriods(db, subscriptionId))[seq];
    assert.ok(period);
    return period;
  }

  /** The invoice of a period that ends; what was to come just before is the same to the cent. */
  async function close(subscriptionId: string, seq: number): Promise<Invoice> {
    const period = await periodAt(subscriptionId, seq);
    const coming = await upcomingInvoice(db, subscriptionId, period.endAt.getTime() - 1);
    await inTransaction(db, (tx) => beginClosing(tx, period));
    const result = await inTransaction(db, (tx) => invoicePeriod(tx, period.id, period.endAt));
    const invoice = result.kind === 'invoiced' ? result.invoice : assert.fail(result.kind);
    await db('periods')
      .where({ id: period.id })
      .update({ state: 'closed', closed_at: period.endAt });
    await db('periods')
      .where({ subscription_id: subscriptionId, seq: seq + 1 })
      .update({ state: 'open' });
    assert.equal(coming?.draft.totalMinor, invoice.totalMinor);
    return invoice;
  }

  async function linesOf(invoice: Invoice): Promise<readonly string[]> {
    const rows: readonly { description: string; amount_minor: bigint; discount_minor: bigint }[] =
      await db('invoice_lines').where({ invoice_id: invoice.id }).orderBy('position');
    return rows.map(
      ({ description, amount_minor, discount_minor }) =>
        `${description}: ${amount_minor} − ${discount_minor}`,
    );
  }
  const sums = ({ subtotalMinor, taxMinor, totalMinor }: Invoice): readonly bigint[] => [
    subtotalMinor,
    taxMinor,
    totalMinor,
  ];

  it('three months: fees, usage, seats from the 10th, a setup, two coupons, tax on what is left', async () => {
    const id = await subscribe();
    const twenty = await seedCoupon(db, {
      percent: '20',
      applies_to: 'fees',
      duration: 'repeating',
      duration_intervals: 2,
    });
    const ten = await seedCoupon(db, { amount_minor: 1000n, duration: 'forever' });
    await attached(db, id, ten.id, START);
    await attached(db, id, twenty.id, START);
    await addOn(id, {}, { quantity: 3, at: '2025-01-10T15:00:00Z' });
    await addOn(
      id,
      { name: 'Setup', type: 'ONE_TIME', amount_minor: 5000n },
      { quantity: 1, at: '2025-01-05T00:00:00Z' },
    );
    await use(id, '2025-01-20T12:00:00Z', 10_000n);

    // 9900 + 10000 + 1500 × 22/31 + 5000; 20 % of the fees 10965, then 1000; 19 % of 22772.
    const january = await close(id, 0);
    assert.deepEqual(sums(january), [25_965n, 4327n, 27_099n], String(await linesOf(january)));
    // 9900 + 1500, the coupon's second interval.
    assert.deepEqual(sums(await close(id, 1)), [11_400n, 1543n, 9663n]);
    // Its third: only the fixed amount is left.
    assert.deepEqual(sums(await close(id, 2)), [11_400n, 1976n, 12_376n]);
    const held = await listHeldCoupons(db, id);
    assert.deepEqual(
      held.map(({ lookup_id, intervals_used }) => [lookup_id, intervals_used]),
      [
        [ten.lookup_id, 3],
        [twenty.lookup_id, 2],
      ],
    );
  });

  it('a void invoice gives its coupon back, and its new issue takes it again', async () => {
    const id = await subscribe();
    await attached(db, id, (await seedCoupon(db, { percent: '50' })).id, START);
    const first = await close(id, 0);
    assert.deepEqual(sums(first), [9900n, 941n, 5891n]);
    await inTransaction(db, (tx) =>
      voidInvoice(tx, { invoiceId: first.id, reason: null, at: new Date() }),
    );
    assert.equal((await listHeldCoupons(db, id))[0]?.intervals_used, 0);
    const reissue = await inTransaction(db, (tx) => reissueInvoice(tx, first.id, new Date()));
    assert.ok(reissue.kind === 'issued');
    assert.deepEqual(sums(reissue.invoice), sums(first));
    assert.deepEqual(sums(await close(id, 1)), [9900n, 1881n, 11_781n]);
  });

  it('void, and not issued again: the coupon is for the next interval', async () => {
    const id = await subscribe();
    await attached(db, id, (await seedCoupon(db, { percent: '50' })).id, START);
    const first = await close(id, 0);
    await inTransaction(db, (tx) =>
      voidInvoice(tx, { invoiceId: first.id, reason: null, at: new Date() }),
    );
    assert.deepEqual(sums(await close(id, 1)), [9900n, 941n, 5891n]);
    const reissue = await inTransaction(db, (tx) => reissueInvoice(tx, first.id, new Date()));
    assert.ok(reissue.kind === 'issued');
    assert.deepEqual(sums(reissue.invoice), [9900n, 1881n, 11_781n]);
  });

  it('a fixed amount is shared by the invoices of an interval that was cut', async () => {
    const id = await subscribe();
    const coupon = await seedCoupon(db, {
      amount_minor: 15_000n,
      duration: 'repeating',
      duration_intervals: 1,
    });
    await attached(db, id, coupon.id, START);
    await use(id, '2025-01-02T12:00:00Z', 1000n);
    const at = new Date('2025-01-11T00:00:00Z');
    const whole = await periodAt(id, 0);
    await inTransaction(db, (tx) => cutPeriod(tx, whole, { at, reason: 'close_now' }));
    // 9900 + 1000, all of it off; of 15000 are 4100 left.
    assert.deepEqual(sums(await close(id, 0)), [10_900n, 0n, 0n]);
    await use(id, '2025-01-20T12:00:00Z', 6000n);
    // 6000 − 4100 = 1900, and 19 % of that.
    assert.deepEqual(sums(await close(id, 1)), [6000n, 361n, 2261n]);
    assert.deepEqual(sums(await close(id, 2)), [9900n, 1881n, 11_781n]);
  });

  it('a draft holds what it takes of a coupon: the estimate of the next month does not count on it', async () => {
    const id = await subscribe();
    const coupon = await seedCoupon(db, { amount_minor: 10_000n });
    await attached(db, id, coupon.id, START);
    const settings = await readOperatorSettings(db, 'test');
    const grace = (draftGraceMs: number): Promise<unknown> =>
      inTransaction(db, (tx) => updateOperatorSettings(tx, 'test', { ...settings, draftGraceMs }));
    await grace(3_600_000);
    const january = await periodAt(id, 0);
    await inTransaction(db, (tx) => beginClosing(tx, january));
    await db('periods').where({ subscription_id: id, seq: 1 }).update({ state: 'open' });
    const invoiceAt = (ms: number): ReturnType<typeof invoicePeriod> =>
      inTransaction(db, (tx) =>
        invoicePeriod(tx, january.id, new Date(january.endAt.getTime() + ms)),
      );
    const draft = await invoiceAt(0);
    assert.ok(draft.kind === 'draft');
    assert.deepEqual(sums(draft.invoice), [9900n, 0n, 0n]);
    const coming = await upcomingInvoice(db, id, january.endAt.getTime() + 1000);
    assert.equal(coming?.draft.totalMinor, 11_781n);
    // What comes in meanwhile still counts, and the coupon is on it too.
    await use(id, '2025-01-20T12:00:00Z', 200n);
    const final = await invoiceAt(3_600_000);
    assert.ok(final.kind === 'invoiced');
    assert.deepEqual(sums(final.invoice), [10_100n, 19n, 119n]);
    assert.equal(final.invoice.id, draft.invoice.id);
    await grace(0);
    await db('periods').where({ id: january.id }).update({ state: 'closed', closed_at: START });
    assert.deepEqual(sums(await close(id, 1)), [9900n, 1881n, 11_781n]);
  });

  describe('a fee in advance', () => {
    /** The invoice of the first interval's fee, at the start. */
    async function ahead(subscriptionId: string): Promise<Invoice> {
      const period = await periodAt(subscriptionId, 0);
      const invoice = await inTransaction(db, async (tx) =>
        invoiceAdvanceFees(tx, await lockSubscription(tx, subscriptionId), { period, now: START }),
      );
      return invoice ?? assert.fail('no invoice');
    }

    it('once: the first fee and the usage of its month, and not the second fee beside that', async () => {
      const id = await subscribe({}, { billIn: 'advance' });
      await attached(db, id, (await seedCoupon(db, { percent: '50' })).id, START);
      await use(id, '2025-01-20T12:00:00Z', 1000n);
      assert.deepEqual(sums(await ahead(id)), [9900n, 941n, 5891n]);
      // 9900 + 1000 − 500, and 19 % of that.
      assert.deepEqual(sums(await close(id, 0)), [10_900n, 1976n, 12_376n]);
      assert.deepEqual(sums(await close(id, 1)), [9900n, 1881n, 11_781n]);
    });

    it('before the subscription begins, the estimate of its first month counts on the first fee', async () => {
      const id = await subscribe({}, { billIn: 'advance' });
      const voucher = await seedCoupon(db, { amount_minor: 12_000n, duration: 'once' });
      await attached(db, id, voucher.id, START);
      const nowMs = START.getTime() - 60_000;
      const early = await upcomingInvoice(db, id, nowMs);
      const { planVersionId, definition } = await readSubscription(db, id);
      const { draft, actual } = await simulatePeriod(db, {
        ...{ subscriptionId: id, period: await periodAt(id, 0), nowMs },
        version: { id: planVersionId, definition },
      });
      assert.equal((await db('invoices').where({ subscription_id: id })).length, 0);
      await ahead(id);
      // The voucher is used by the first fee: nothing of it is left for the second, and nothing of it comes twice.
      assert.deepEqual(sums(await close(id, 0)), [9900n, 1881n, 11_781n]);
      assert.equal(early?.draft.totalMinor, 11_781n);
      assert.deepEqual([draft.totalMinor, actual?.totalMinor], [11_781n, 11_781n]);
    });

    it('whose invoice was made void just before is on the estimate, as it will be on the invoice', async () => {
      const id = await subscribe({}, { billIn: 'advance' });
      const { id: invoiceId } = await ahead(id);
      await inTransaction(db, (tx) => voidInvoice(tx, { invoiceId, reason: null, at: START }));
      const early = await upcomingInvoice(db, id, START.getTime() - 1000);
      assert.equal(early?.draft.totalMinor, 2n * 11_781n);
      assert.deepEqual(sums(await close(id, 0)), [19_800n, 3762n, 23_562n]);
    });

    it('for two months: the first and the second fee, and the usage of both', async () => {
      const id = await subscribe({}, { billIn: 'advance' });
      const coupon = await seedCoupon(db, {
        amount_minor: 1000n,
        duration: 'repeating',
        duration_intervals: 2,
      });
      await attached(db, id, coupon.id, START);
      // 9900 − 1000, each time.
      assert.deepEqual(sums(await ahead(id)), [9900n, 1691n, 10_591n]);
      assert.deepEqual(sums(await close(id, 0)), [9900n, 1691n, 10_591n]);
      await use(id, '2025-02-20T12:00:00Z', 1000n);
      assert.deepEqual(sums(await close(id, 1)), [10_900n, 2071n, 12_971n]);
      assert.equal((await listHeldCoupons(db, id))[0]?.intervals_used, 2);
    });

    it('a coupon that comes in mid-month is for the next fee, where nothing was used', async () => {
      const id = await subscribe({}, { billIn: 'advance' });
      await ahead(id);
      const coupon = await seedCoupon(db, { percent: '50' });
      await attached(db, id, coupon.id, new Date('2025-01-15T00:00:00Z'));
      const first = await close(id, 0);
      assert.deepEqual(sums(first), [9900n, 941n, 5891n]);
      const { rows } = await db.raw<{ rows: readonly { document: { discounts: unknown } }[] }>(
        'SELECT document FROM invoices WHERE id = ?',
        [first.id],
      );
      assert.deepEqual(rows[0]?.document.discounts, [{ name: coupon.name, amount: '49.50' }]);
      assert.deepEqual(sums(await close(id, 1)), [9900n, 1881n, 11_781n]);
    });

    /** The invoice of a change of plan at once. */
    async function change(subscriptionId: string, terms: PlanTerms, at: string): Promise<Invoice> {
      const toVersionId = await seedPlan(db, world, { billIn: 'advance', ...terms });
      const result = await inTransaction(db, async (tx) =>
        changePlan(
          tx,
          await lockSubscription(tx, subscriptionId),
          { changeId: newId('pch'), toVersionId, when: 'now' },
          new Date(at),
        ),
      );
      if (result.kind === 'refused') assert.fail(result.code);
      return result.invoice ?? assert.fail('no invoice');
    }
    const taxesOf = async ({ id }: Invoice): Promise<readonly (readonly [string, string])[]> => {
      const row: { document: { taxes: readonly { label: string; amount: string }[] } } | undefined =
        await db('invoices').where({ id }).first('document');
      return (row?.document.taxes ?? []).map(({ label, amount }) => [label, amount]);
    };

    it('that a change gives back takes back the tax that was paid with it', async () => {
      const id = await subscribe({}, { billIn: 'advance' });
      // 9900, and 19 % of it.
      assert.deepEqual(sums(await ahead(id)), [9900n, 1881n, 11_781n]);
      const { subscriber_id: subscriberId } = await db('subscriptions').where({ id }).first();
      await db('subscribers').where({ id: subscriberId }).update({ tax_status: 'reverse_charge' });
      // 16 of 31 days: 5109.68 → 5110 back with 971 of tax; 19800 × 16/31 → 10219, without any.
      const upgrade = await change(id, { feeMinor: '19800' }, '2025-01-16T12:00:00Z');
      assert.deepEqual(sums(upgrade), [5109n, -971n, 4138n]);
      assert.deepEqual(await taxesOf(upgrade), [
        ['Reverse charge (0%)', '0.00'],
        ['VAT (19%)', '-9.71'],
      ]);
      // What is credited of it is taxed as it was.
      const issue = await inTransaction(db, (tx) =>
        issueCreditNote(tx, {
          ...{ invoiceId: upgrade.id, businessKey: `all:${upgrade.id}`, reason: 'mistake' },
          ...{ request: { kind: 'full' }, to: 'balance', actor: 'test', at: START },
        }),
      );
      assert.equal(issue.kind === 'issued' && issue.note.totalMinor, 4138n);
      assert.deepEqual(sums(await close(id, 0)), [19_800n, 0n, 19_800n]);
    });

    const usesOf = async (heldId: string): Promise<readonly (readonly [number, bigint])[]> => {
      const rows: readonly { interval_index: number; amount_minor: bigint }[] = await db(
        'coupon_uses',
      )
        .where({ subscription_coupon_id: heldId })
        .orderBy('interval_index');
      return rows.map((row) => [row.interval_index, row.amount_minor]);
    };

    it('a coupon that an upgrade was the first to take is used by its month, and not by the next fee', async () => {
      const id = await subscribe({}, { billIn: 'advance' });
      await ahead(id);
      const heldId = await attached(
        db,
        id,
        (await seedCoupon(db, { percent: '50' })).id,
        new Date('2025-01-10T00:00:00Z'),
      );
      // 16 of 31 days: 9900 back, and half of 19800.
      const upgrade = await change(id, { feeMinor: '19800' }, '2025-01-16T12:00:00Z');
      assert.deepEqual(sums(upgrade), [0n, 0n, 0n]);
      assert.deepEqual(await usesOf(heldId), [[0, 0n]]);
      // 19 % of 19800.
      assert.deepEqual(sums(await close(id, 0)), [19_800n, 3762n, 23_562n]);
    });

    it('a change of the interval takes the amount of the new one, which its usage does not have again', async () => {
      const id = await subscribe({}, { billIn: 'advance' });
      const coupon = await seedCoupon(db, {
        amount_minor: 1000n,
        duration: 'repeating',
        duration_intervals: 2,
      });
      const heldId = await attached(db, id, coupon.id, START);
      assert.deepEqual(sums(await ahead(id)), [9900n, 1691n, 10_591n]);
      const yearly = { feeMinor: '99000', interval: { unit: 'year', count: 1 } } as const;
      // 8900 × 16/31 back; 99000 − 1000.
      const changed = await change(id, yearly, '2025-01-16T12:00:00Z');
      assert.equal(changed.subtotalMinor, 98_000n - 4594n);
      assert.deepEqual(await usesOf(heldId), [
        [0, 1000n],
        [1, 1000n],
      ]);
      assert.equal((await listHeldCoupons(db, id))[0]?.intervals_used, 2);
    });

    it('what a coupon took for two intervals is one row of the document', async () => {
      const id = await subscribe({}, { billIn: 'advance' });
      const coupon = await seedCoupon(db, {
        percent: '10',
        duration: 'repeating',
        duration_intervals: 9,
      });
      await attached(db, id, coupon.id, START);
      await ahead(id);
      await use(id, '2025-01-20T12:00:00Z', 1000n);
      const { rows } = await db.raw<{ rows: readonly { document: { discounts: unknown } }[] }>(
        'SELECT document FROM invoices WHERE id = ?',
        [(await close(id, 0)).id],
      );
      assert.deepEqual(rows[0]?.document.discounts, [{ name: coupon.name, amount: '10.90' }]);
    });
  });

  it('an add-on that ends is billed for its days, and no more', async () => {
    const id = await subscribe();
    const held = await addOn(
      id,
      { amount_minor: 3100n },
      { quantity: 1, at: '2025-01-01T00:00:00Z' },
    );
    assert.deepEqual(sums(await close(id, 0)), [13_000n, 2470n, 15_470n]);
    await inTransaction(db, (tx) =>
      endAddOn(tx, { subscriptionId: id, heldId: held, at: new Date('2025-02-15T12:00:00Z') }),
    );
    // Feb 1 – 14 of 28 days, as the day of a change belongs to what comes after it.
    assert.deepEqual(sums(await close(id, 1)), [9900n + 1550n, 2176n, 13_626n]);
    assert.deepEqual(sums(await close(id, 2)), [9900n, 1881n, 11_781n]);
  });

  it('an add-on with its own rate, an exempt subscriber, and one who accounts for the tax himself', async () => {
    const reduced = await seedTaxRate(db, 'VAT', '7');
    const like = [
      { amount_minor: 1000n, tax_rate_ids: [reduced] },
      { quantity: 1, at: '2025-01-01T00:00:00Z' },
    ] as const;
    const taxed = await subscribe();
    await addOn(taxed, ...like);
    const invoice = await close(taxed, 0);
    // 19 % of 9900 and 7 % of 1000.
    assert.deepEqual(sums(invoice), [10_900n, 1881n + 70n, 12_851n]);
    for (const tax_status of ['exempt', 'reverse_charge']) {
      // oxlint-disable-next-line no-await-in-loop
      const id = await subscribe({ tax_status });
      // oxlint-disable-next-line no-await-in-loop
      await addOn(id, ...like);
      // oxlint-disable-next-line no-await-in-loop
      assert.deepEqual(sums(await close(id, 0)), [10_900n, 0n, 10_900n]);
    }
  });
});
