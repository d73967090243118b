import assert from 'node:assert/strict';

import fc from 'fast-check';

import { type Coupon, discountLines } from '../../billing/discount.ts';
import type { AddOnTerm } from '../../billing/fees.ts';
import { archiveCoupon, findCoupon } from '../../store/coupons.ts';
import { type Db, openDb } from '../../store/db.ts';
import { newId } from '../../store/ids.ts';
import {
  listHeldCoupons,
  lockCoupons,
  readCoupons,
  recordCouponUses,
  removeCoupon,
} from '../../store/subscription-coupons.ts';
import { type TestDatabase, testDatabase } from '../support/postgres.ts';
import {
  attach,
  attached,
  definitionWith,
  feeCharge,
  seedCoupon,
  seedInvoice,
  usageCharge,
  use,
  voidInvoice,
} from './commerce-rows.ts';
import { type Party, seedParty, seedWorld, type World, write } from './fixture.ts';

const START = new Date('2025-01-01T00:00:00Z');
const LATER = new Date('2025-12-31T00:00:00Z');
const minute = (index: number): Date => new Date(START.getTime() + index * 60_000);

const amounts = { interval: fc.nat(2), fee: fc.bigInt(0n, 900n), isAhead: fc.boolean() };

const addOn: AddOnTerm = {
  id: 'sad_seats',
  name: 'Seats',
  kind: 'recurring',
  amountMinor: 500n,
  quantity: 3n,
  fromMs: 0,
  untilMs: null,
  taxRateIds: [],
};

describe('store/subscription-coupons', () => {
  let database: TestDatabase;
  let db: Db;
  let world: World;
  let party: Party;

  before(async () => {
    database = await testDatabase();
    db = openDb(database.url, { poolMax: 24 });
    world = await seedWorld(db);
  });
  after(async () => {
    await db.destroy();
    await database.drop();
  });
  beforeEach(async () => {
    party = await seedParty(db, world);
  });

  const read = (
    intervalIndex: number,
    more: Partial<Parameters<typeof readCoupons>[1]> = {},
  ): Promise<readonly Coupon[]> =>
    readCoupons(db, {
      subscriptionId: party.subscriptionId,
      intervalIndex,
      definition: definitionWith([
        feeCharge('fee'),
        usageCharge('calls', world.meterIds.api_calls),
        usageCharge('tokens', world.meterIds.tokens),
      ]),
      addOns: [addOn],
      at: LATER,
      ...more,
    });
  const give = async (fields: Parameters<typeof seedCoupon>[1], at = START): Promise<string> =>
    attached(db, party.subscriptionId, (await seedCoupon(db, fields)).id, at);
  const invoice = (state: 'draft' | 'open', periodId: string | null = null): Promise<string> =>
    seedInvoice(db, { ...party, periodId, state });
  const idsOf = (coupons: readonly Coupon[]): readonly string[] => coupons.map(({ id }) => id);

  describe('what a coupon is taken off', () => {
    it('the invoice, by a percentage', async () => {
      const id = await give({ percent: '12.5' });
      const [coupon] = await read(0);
      assert.equal(coupon?.id, id);
      assert.deepEqual(coupon?.off, { kind: 'percent', percent: '12.5' });
      assert.deepEqual(coupon?.on, { kind: 'invoice' });
    });

    it('fees: the recurring charges and the recurring add-ons', async () => {
      await give({ applies_to: 'fees' });
      const once: AddOnTerm = { ...addOn, id: 'sad_setup', kind: 'one_time' };
      const [coupon] = await read(0, { addOns: [addOn, once] });
      assert.deepEqual(coupon?.on, { kind: 'lines', chargeIds: ['fee', 'sad_seats'] });
    });

    it('meters: the usage charges of these', async () => {
      await give({ applies_to: 'meters', meter_ids: [world.meterIds.tokens] });
      assert.deepEqual((await read(0))[0]?.on, { kind: 'lines', chargeIds: ['tokens'] });
    });

    it('nothing, where the plan has no such charge or another currency', async () => {
      await give({ applies_to: 'meters', meter_ids: [newId('mtr')] });
      assert.deepEqual(await read(0), []);
      await give({ amount_minor: 500n });
      const definition = definitionWith([], { currency: 'EUR' });
      assert.deepEqual(await read(0, { definition }), []);
    });
  });

  it('stand in the order in which they were attached, also within one millisecond', async () => {
    const ids: string[] = [];
    for (let index = 0; index < 12; index += 1) {
      // One after the other: their order is what is tested.
      // oxlint-disable-next-line no-await-in-loop
      ids.push(await give({ amount_minor: 100n }));
    }
    assert.deepEqual(idsOf(await read(0)), ids);
    assert.deepEqual(
      (await listHeldCoupons(db, party.subscriptionId)).map(({ id }) => id),
      ids,
    );
  });

  it('count from the instant of their attachment to that of their removal', async () => {
    const id = await give({ duration: 'forever' }, minute(10));
    const removed = await write(db, (tx) =>
      removeCoupon(tx, { subscriptionId: party.subscriptionId, heldId: id, at: minute(20) }),
    );
    assert.deepEqual(removed?.removed_at, minute(20));
    const heldAt = async (at: Date): Promise<readonly string[]> => idsOf(await read(0, { at }));
    assert.deepEqual(await heldAt(minute(9)), []);
    assert.deepEqual(await heldAt(minute(10)), [id]);
    assert.deepEqual(await heldAt(minute(19)), [id]);
    assert.deepEqual(await heldAt(minute(20)), []);
    const again = await write(db, (tx) =>
      removeCoupon(tx, { subscriptionId: party.subscriptionId, heldId: id, at: minute(30) }),
    );
    assert.deepEqual(again?.removed_at, minute(20));
    const other = await seedParty(db, world);
    const foreign = await write(db, (tx) =>
      removeCoupon(tx, { subscriptionId: other.subscriptionId, heldId: id, at: minute(30) }),
    );
    assert.equal(foreign, null);
  });

  describe('how long a coupon lasts', () => {
    it('once: every invoice of one interval, and none of another', async () => {
      const id = await give({ duration: 'once' });
      await use(db, await invoice('open'), 4, { [id]: 10n });
      assert.deepEqual(idsOf(await read(4)), [id]);
      assert.deepEqual(idsOf(await read(5)), []);
      assert.deepEqual(idsOf(await read(3)), []);
    });

    it('repeating: so many intervals, however many invoices each has', async () => {
      const id = await give({ duration: 'repeating', duration_intervals: 2 });
      await use(db, await invoice('open'), 0, { [id]: 10n });
      await use(db, await invoice('open'), 0, { [id]: 10n });
      assert.deepEqual(idsOf(await read(1)), [id]);
      await use(db, await invoice('open'), 1, { [id]: 10n });
      assert.deepEqual(idsOf(await read(1)), [id]);
      assert.deepEqual(idsOf(await read(2)), []);
      const [held] = await listHeldCoupons(db, party.subscriptionId);
      assert.equal(held?.intervals_used, 2);
    });

    it('forever', async () => {
      const id = await give({ duration: 'forever' });
      for (let index = 0; index < 3; index += 1) {
        // oxlint-disable-next-line no-await-in-loop
        await use(db, await invoice('open'), index, { [id]: 10n });
      }
      assert.deepEqual(idsOf(await read(3)), [id]);
    });

    it('an invoice that is voided gives its use back', async () => {
      const id = await give({ duration: 'once' });
      const first = await invoice('open');
      await use(db, first, 0, { [id]: 10n });
      assert.deepEqual(idsOf(await read(1)), []);
      await voidInvoice(db, first);
      assert.deepEqual(idsOf(await read(1)), [id]);
      assert.equal((await listHeldCoupons(db, party.subscriptionId))[0]?.intervals_used, 0);
    });

    it('an invoice that it took nothing off is no use', async () => {
      const id = await give({ duration: 'once' });
      await use(db, await invoice('open'), 0, { [id]: 0n });
      assert.deepEqual(idsOf(await read(1)), [id]);
    });

    describe('with fees of the next interval on the same invoice', () => {
      const ahead = { kind: 'only', chargeIds: ['fee'] } as const;
      const own = { kind: 'except', chargeIds: ['fee'] } as const;
      const readAhead = (index: number): Promise<readonly Coupon[]> =>
        read(index, { aheadChargeIds: ['fee'] });
      const discount = async (
        index: number,
        fee: bigint,
        calls: bigint,
      ): Promise<readonly bigint[]> => {
        const lines = [
          { chargeId: 'fee', amountMinor: fee },
          { chargeId: 'calls', amountMinor: calls },
        ];
        const discounts = discountLines(lines, await readAhead(index));
        const invoiceId = await invoice('open');
        await write(db, (tx) =>
          recordCouponUses(tx, { invoiceId, intervalIndex: index, discounts }),
        );
        const left = lines.map(({ amountMinor }, at) =>
          discounts.reduce((sum, { shares }) => sum - (shares[at] ?? 0n), amountMinor),
        );
        return left;
      };

      it('is two uses: of this interval, and of the next', async () => {
        const id = await give({ duration: 'repeating', duration_intervals: 3 });
        const off = { kind: 'percent', percent: '10' };
        const name = (await read(0))[0]?.name;
        assert.deepEqual(await readAhead(0), [
          { id, name, off, on: { kind: 'invoice', among: own } },
          { id, name, off, on: { kind: 'invoice', among: ahead }, isAhead: true },
        ]);
        assert.deepEqual(await discount(0, 1000n, 500n), [900n, 450n]);
        const uses: readonly { interval_index: number; amount_minor: bigint }[] = await db(
          'coupon_uses',
        )
          .where({ subscription_coupon_id: id })
          .orderBy('interval_index');
        assert.deepEqual(
          uses.map((row) => [row.interval_index, row.amount_minor]),
          [
            [0, 50n],
            [1, 100n],
          ],
        );
        // The third interval is the fee's; its usage comes with the invoice after.
        assert.deepEqual(await discount(1, 1000n, 500n), [900n, 450n]);
        assert.deepEqual(await discount(2, 1000n, 500n), [1000n, 450n]);
        assert.deepEqual(await discount(3, 1000n, 500n), [1000n, 500n]);
      });

      it('is one use of the interval that comes first, where only one is left', async () => {
        await give({ duration: 'once' });
        assert.deepEqual(await discount(0, 1000n, 500n), [1000n, 450n]);
        assert.deepEqual(await discount(1, 1000n, 500n), [1000n, 500n]);
      });

      it('is of the next one, where this one has nothing to take it off', async () => {
        await give({ duration: 'once' });
        assert.deepEqual(await discount(0, 1000n, 0n), [900n, 0n]);
        // Its usage is of the same interval as that fee.
        assert.deepEqual(await discount(1, 1000n, 500n), [1000n, 450n]);
        assert.deepEqual(await discount(2, 1000n, 500n), [1000n, 500n]);
      });

      it('has the amount of each interval, however its invoices share it', async () => {
        await give({ amount_minor: 600n, duration: 'repeating', duration_intervals: 2 });
        assert.deepEqual(await discount(0, 500n, 1000n), [0n, 400n]);
        // Of the second interval 100 are left.
        assert.deepEqual(await discount(1, 500n, 1000n), [500n, 900n]);
        assert.deepEqual(await discount(2, 500n, 1000n), [500n, 1000n]);
      });

      it('of a coupon for fees only it is the next one alone; an endless percentage is not split', async () => {
        const fees = await give({ applies_to: 'fees', duration: 'once' });
        const endless = await give({ duration: 'forever' });
        const coupons = await readAhead(0);
        assert.deepEqual(
          coupons.map(({ id, on, isAhead }) => [id, on, isAhead]),
          [
            [fees, { kind: 'lines', chargeIds: ['sad_seats'] }, undefined],
            [fees, { kind: 'lines', chargeIds: ['fee'] }, true],
            [endless, { kind: 'invoice' }, undefined],
          ],
        );
        assert.deepEqual(await discount(0, 1000n, 500n), [810n, 450n]);
        assert.deepEqual(idsOf(await readAhead(1)), [fees, endless]);
        assert.deepEqual(await discount(1, 1000n, 500n), [900n, 450n]);
      });
    });
  });

  describe('a fixed amount', () => {
    it('is once per interval: later invoices of the interval have what is left', async () => {
      const id = await give({ amount_minor: 1000n, duration: 'forever' });
      const offOf = async (index: number): Promise<readonly Coupon['off'][]> =>
        (await read(index)).map(({ off }) => off);
      await use(db, await invoice('open'), 0, { [id]: 300n });
      assert.deepEqual(await offOf(0), [{ kind: 'fixed', amountMinor: 700n }]);
      const second = await invoice('open');
      await use(db, second, 0, { [id]: 700n });
      assert.deepEqual(await offOf(0), []);
      assert.deepEqual(await offOf(1), [{ kind: 'fixed', amountMinor: 1000n }]);
      await voidInvoice(db, second);
      assert.deepEqual(await offOf(0), [{ kind: 'fixed', amountMinor: 700n }]);
    });

    it('a draft that is rewritten takes anew what it took; drafts of other periods keep theirs', async () => {
      const [first, second] = party.periods;
      assert.ok(first !== undefined && second !== undefined);
      const id = await give({ amount_minor: 1000n });
      const draft = await invoice('draft', first.periodId);
      await use(db, draft, 0, { [id]: 400n });
      const leftOf = async (periodId: string): Promise<readonly Coupon['off'][]> =>
        (await read(0, { periodId })).map(({ off }) => off);
      assert.deepEqual(await leftOf(first.periodId), [{ kind: 'fixed', amountMinor: 1000n }]);
      assert.deepEqual(await leftOf(second.periodId), [{ kind: 'fixed', amountMinor: 600n }]);
      await use(db, draft, 0, { [id]: 150n });
      assert.deepEqual(await leftOf(second.periodId), [{ kind: 'fixed', amountMinor: 850n }]);
      const rows: unknown = await db('coupon_uses').where({ invoice_id: draft });
      assert.ok(Array.isArray(rows) && rows.length === 1);
    });
  });

  it('never last longer, nor take more of an interval, than they say, whatever is issued, rewritten and voided', async () => {
    const step = fc.oneof(
      { weight: 4, arbitrary: fc.record({ kind: fc.constant('issue' as const), ...amounts }) },
      { weight: 3, arbitrary: fc.record({ kind: fc.constant('draft' as const), ...amounts }) },
      { weight: 2, arbitrary: fc.record({ kind: fc.constant('void' as const), nth: fc.nat(20) }) },
    );
    await fc.assert(
      fc.asyncProperty(fc.array(step, { minLength: 4, maxLength: 16 }), async (steps) => {
        party = await seedParty(db, world);
        const limits = new Map([
          [await give({ duration: 'once' }), { intervals: 1, perInterval: null }],
          [
            await give({ duration: 'repeating', duration_intervals: 2, amount_minor: 700n }),
            { intervals: 2, perInterval: 700n },
          ],
          [
            await give({ duration: 'forever', amount_minor: 250n, applies_to: 'fees' }),
            { intervals: Infinity, perInterval: 250n },
          ],
        ]);
        await play(steps);
        const uses = await db('coupon_uses as u')
          .join('invoices as i', 'i.id', 'u.invoice_id')
          .whereNot('i.state', 'void')
          .select<Use[]>('u.subscription_coupon_id', 'u.interval_index', 'u.amount_minor')
          .whereIn('u.subscription_coupon_id', [...limits.keys()]);
        for (const [id, { intervals, perInterval }] of limits) {
          const own = uses.filter((row) => row.subscription_coupon_id === id);
          const byInterval = Map.groupBy(own, (row) => row.interval_index);
          assert.ok(byInterval.size <= intervals, `${byInterval.size} intervals`);
          for (const rows of byInterval.values()) {
            const taken = rows.reduce((sum, row) => sum + row.amount_minor, 0n);
            assert.ok(perInterval === null || taken <= perInterval, `${taken} of ${perInterval}`);
          }
        }
      }),
      { numRuns: 40 },
    );
  });

  type Use = {
    readonly subscription_coupon_id: string;
    readonly interval_index: number;
    readonly amount_minor: bigint;
  };
  type Step =
    | {
        readonly kind: 'issue' | 'draft';
        readonly interval: number;
        readonly fee: bigint;
        /** The fee is of the next interval. */
        readonly isAhead: boolean;
      }
    | { readonly kind: 'void'; readonly nth: number };

  /** Invoices as they are worked out and issued: read, discount, record. A draft is of its interval's period, and rewritten. */
  async function play(steps: readonly Step[]): Promise<void> {
    const issued: string[] = [];
    const drafts = new Map<number, string>();
    for (const step of steps) {
      if (step.kind === 'void') {
        const [invoiceId] = issued.splice(step.nth % Math.max(1, issued.length), 1);
        // oxlint-disable-next-line no-await-in-loop
        if (invoiceId !== undefined) await voidInvoice(db, invoiceId);
        continue;
      }
      const periodId = party.periods[step.interval]?.periodId ?? null;
      let invoiceId = step.kind === 'draft' ? drafts.get(step.interval) : undefined;
      // oxlint-disable-next-line no-await-in-loop
      invoiceId ??= await (step.kind === 'draft' ? invoice('draft', periodId) : invoice('open'));
      // oxlint-disable-next-line no-await-in-loop
      const coupons = await read(step.interval, {
        ...(step.kind === 'draft' && periodId !== null && { periodId }),
        ...(step.isAhead && { aheadChargeIds: ['fee'] }),
      });
      const lines = [
        { chargeId: 'fee', amountMinor: step.fee },
        { chargeId: 'calls', amountMinor: step.fee / 2n },
      ];
      const uses = {
        invoiceId,
        intervalIndex: step.interval,
        discounts: discountLines(lines, coupons),
      };
      // oxlint-disable-next-line no-await-in-loop
      await write(db, (tx) => recordCouponUses(tx, uses));
      if (step.kind === 'draft') drafts.set(step.interval, invoiceId);
      else issued.push(invoiceId);
    }
  }

  describe('two invoices that read a coupon at once', () => {
    it('do not both take a fixed amount of one interval', async () => {
      const id = await give({ amount_minor: 1000n, duration: 'forever' });
      await use(db, await invoice('open'), 0, { [id]: 400n });
      const both = await Promise.allSettled([
        use(db, await invoice('open'), 0, { [id]: 600n }),
        use(db, await invoice('open'), 0, { [id]: 600n }),
      ]);
      assert.deepEqual(both.map(({ status }) => status).toSorted(), ['fulfilled', 'rejected']);
      const rejected = both.find((one) => one.status === 'rejected');
      assert.match(String(rejected?.reason), new RegExp(`${id} was used up in between`));
      assert.deepEqual(await read(0), []);
      await use(db, await invoice('open'), 1, { [id]: 1000n });
    });

    it('do not both make it last longer', async () => {
      const id = await give({ duration: 'repeating', duration_intervals: 2 });
      await use(db, await invoice('open'), 0, { [id]: 10n });
      const both = await Promise.allSettled([
        use(db, await invoice('open'), 1, { [id]: 10n }),
        use(db, await invoice('open'), 2, { [id]: 10n }),
      ]);
      assert.deepEqual(both.map(({ status }) => status).toSorted(), ['fulfilled', 'rejected']);
    });
  });

  describe('what cannot be attached', () => {
    const refusalOf = async (couponId: string, at = START): Promise<unknown> => {
      const attachment = await attach(db, party.subscriptionId, couponId, at);
      return attachment.kind === 'refused' ? attachment.code : attachment.kind;
    };

    it('what is archived, too late, of another currency, or not there', async () => {
      assert.equal(await refusalOf(newId('cpn')), 'coupon_not_found');
      const archived = await seedCoupon(db);
      await write(db, (tx) => archiveCoupon(tx, archived.id, START));
      assert.equal(await refusalOf(archived.id), 'coupon_archived');
      const timely = await seedCoupon(db, { redeem_by: minute(5) });
      assert.equal(await refusalOf(timely.id, minute(6)), 'redeem_by_passed');
      assert.equal(await refusalOf(timely.id, minute(5)), 'attached');
      const euros = await seedCoupon(db, { amount_minor: 1n, currency: 'EUR' });
      assert.equal(await refusalOf(euros.id), 'currency_differs');
    });

    it('what is held already, until it is removed; both attachments are redemptions', async () => {
      const coupon = await seedCoupon(db, { max_redemptions: 2 });
      const heldId = await attached(db, party.subscriptionId, coupon.id, START);
      assert.deepEqual(await attach(db, party.subscriptionId, coupon.id, START), {
        kind: 'refused',
        code: 'already_held',
        heldId,
      });
      await write(db, (tx) =>
        removeCoupon(tx, { subscriptionId: party.subscriptionId, heldId, at: START }),
      );
      assert.equal(await refusalOf(coupon.id), 'attached');
      assert.equal((await findCoupon(db, 'test', coupon.lookup_id))?.times_redeemed, 2);
      const other = await seedParty(db, world);
      const attachment = await attach(db, other.subscriptionId, coupon.id, START);
      assert.deepEqual(attachment, {
        kind: 'refused',
        code: 'max_redemptions_reached',
        maxRedemptions: 2,
      });
    });

    it('more than max_redemptions of twenty that ask at once', async () => {
      const coupon = await seedCoupon(db, { max_redemptions: 7 });
      const parties: Party[] = [];
      for (let index = 0; index < 20; index += 1) {
        // oxlint-disable-next-line no-await-in-loop
        parties.push(await seedParty(db, world));
      }
      const attachments = await Promise.all(
        parties.map(({ subscriptionId }) => attach(db, subscriptionId, coupon.id, START)),
      );
      const counts = Map.groupBy(attachments, (one) =>
        one.kind === 'refused' ? one.code : one.kind,
      );
      assert.deepEqual(
        [counts.get('attached')?.length, counts.get('max_redemptions_reached')?.length],
        [7, 13],
      );
      assert.equal((await findCoupon(db, 'test', coupon.id))?.times_redeemed, 7);
    });

    it('one coupon twice to one subscription, by twenty that ask at once', async () => {
      const coupon = await seedCoupon(db);
      const attachments = await Promise.all(
        Array.from({ length: 20 }, () => attach(db, party.subscriptionId, coupon.id, START)),
      );
      assert.equal(attachments.filter(({ kind }) => kind === 'attached').length, 1);
    });

    it('does not deadlock where two lock the same coupons in another order', async () => {
      const first = await seedCoupon(db);
      const second = await seedCoupon(db);
      const lockAll = (ids: readonly string[]): Promise<void> =>
        write(db, (tx) => lockCoupons(tx, ids));
      await Promise.all(
        Array.from({ length: 20 }, (_, index) =>
          lockAll(index % 2 === 0 ? [first.id, second.id] : [second.id, first.id]),
        ),
      );
    });
  });
});
