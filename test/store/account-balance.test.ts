import assert from 'node:assert/strict';

import { collectionActivities } from '../../activities/collection.ts';
import { lockAccountBalance, readAccountBalance } from '../../store/account-balance.ts';
import { type Db, inTransaction, openDb } from '../../store/db.ts';
import { findViolations, invariants } from '../../store/invariants.ts';
import { type Invoice, issueInvoice, type NewInvoice } from '../../store/invoices.ts';
import { accountBalances } from '../../store/ledger.ts';
import { invoicePeriod, type PeriodInvoicing } from '../../store/period-invoice.ts';
import {
  beginClosing,
  cutPeriod,
  listPeriods,
  openPeriods,
  type Period,
} from '../../store/periods.ts';
import { selectRow } from '../../store/query.ts';
import { changeSubscription, lockSubscription } from '../../store/subscriptions.ts';
import { upcomingInvoice } from '../../store/usage-summary.ts';
import { type TestDatabase, testDatabase } from '../support/postgres.ts';
import {
  checksum,
  faultsOf,
  seedPlan,
  seedSubscriber,
  seedSubscription,
  seedUsage,
  seedWorld,
  type World,
} from '../workflows/support/world.ts';

/** Those that speak of invoices and the ledger; usage is seeded here without its events. */
const ofMoney = new Set(['I1', 'I2', 'I10', 'I15', 'I16', 'I18', 'I28', 'I32', 'I33']);

describe('store/account-balance', () => {
  let database: TestDatabase;
  let db: Db;
  let world: World;
  let subscriberId: string;

  before(async () => {
    database = await testDatabase();
    db = openDb(database.url, { poolMax: 4 });
    world = await seedWorld(db);
  });
  after(async () => {
    await db.destroy();
    await database.drop();
  });
  beforeEach(async () => {
    subscriberId = await seedSubscriber(db, 'card_ok');
  });
  afterEach(async () => {
    assert.deepEqual(await faultsOf(db), []);
    const chosen = invariants.filter(({ id }) => ofMoney.has(id));
    assert.equal(chosen.length, ofMoney.size);
    assert.deepEqual(await findViolations(db, chosen), []);
  });

  /** A published version whose thousand first calls are $0.002 each, and all of them $0.001 from one more on. */
  async function seedVolumePlan(): Promise<string> {
    const like = await seedPlan(db, world, { unitPrice: '0.001' });
    const planVersionId = await seedPlan(db, world, { state: 'draft' });
    const price = {
      model: 'volume',
      tiers: [
        { up_to: '1000', unit_price: '0.002', flat_fee: '0' },
        { up_to: null, unit_price: '0.001', flat_fee: '0' },
      ],
    };
    await db.raw(
      `UPDATE plan_versions SET state = 'published', published_at = now(), definition = jsonb_set(
         (SELECT definition FROM plan_versions WHERE id = ?), '{charges,0,price}', ?::jsonb) WHERE id = ?`,
      [like, JSON.stringify(price), planVersionId],
    );
    return planVersionId;
  }

  async function subscribe(planVersionId: string): Promise<string> {
    const startAt = new Date('2025-01-01T00:00:00Z');
    const subscriptionId = await seedSubscription(db, { subscriberId, planVersionId, startAt });
    const now = new Date('2024-12-31T00:00:00Z');
    await inTransaction(db, async (tx) => {
      const pending = await lockSubscription(tx, subscriptionId);
      const started = await changeSubscription(tx, pending, { kind: 'started', at: now });
      await openPeriods(tx, started, now);
    });
    return subscriptionId;
  }

  async function invoiceOf(period: Period | undefined): Promise<Invoice> {
    assert.ok(period);
    await inTransaction(db, (tx) => beginClosing(tx, period));
    const result = await inTransaction(db, (tx) => invoicePeriod(tx, period.id, period.endAt));
    return result.kind === 'invoiced' ? result.invoice : assert.fail(result.kind);
  }

  function use(subscriptionId: string, at: string, quantity: bigint): Promise<void> {
    return seedUsage(db, { subscriptionId, meterId: world.meterId, at: new Date(at), quantity });
  }

  function balance(currency = 'USD'): Promise<bigint> {
    return readAccountBalance(db, { environment: 'test', subscriberId, currency });
  }

  async function ledgerOf(kind: string): Promise<bigint> {
    const accounts = await accountBalances(db, subscriberId);
    return accounts.find((account) => account.kind === kind)?.amount ?? 0n;
  }

  /** An invoice of one line, as an adjustment makes it. */
  function adjustment(key: string, totalMinor: bigint, more: Partial<NewInvoice> = {}): NewInvoice {
    return {
      environment: 'test',
      subscriberId,
      subscriptionId: null,
      periodId: null,
      kind: 'change',
      businessKey: `change:${subscriberId}:${key}`,
      currency: 'USD',
      subtotalMinor: totalMinor,
      taxMinor: 0n,
      totalMinor,
      periodStartAt: null,
      periodEndAt: null,
      document: {
        v: 1,
        subscriber: {
          id: subscriberId,
          lookup_id: null,
          name: 'Ada',
          email: null,
          address: null,
          tax_id: null,
        },
        plan: null,
        time_zone: 'UTC',
        period_text: null,
        taxes: [],
      },
      lines: [
        {
          kind: 'adjustment',
          chargeId: null,
          meterId: null,
          planVersionId: null,
          description: 'A line',
          label: null,
          quantity: null,
          unitPrice: null,
          amountMinor: totalMinor,
          details: { model: 'flat' },
        },
      ],
      ...more,
    };
  }

  function issue(invoice: NewInvoice): Promise<Invoice> {
    return inTransaction(db, (tx) => issueInvoice(tx, invoice, new Date('2025-01-15T00:00:00Z')));
  }

  function give(minor: bigint, currency = 'USD'): Promise<Invoice> {
    return issue(
      adjustment(`given ${currency}`, -minor, { currency, balanceAppliedMinor: -minor }),
    );
  }

  it('is taken by a close while a change of the same subscription waits for it', async () => {
    const subscriptionId = await subscribe(await seedVolumePlan());
    const [january] = await listPeriods(db, subscriptionId);
    assert.ok(january);
    await give(100n);
    await inTransaction(db, (tx) => beginClosing(tx, january));
    const owner = { environment: 'test', subscriberId, currency: 'USD' };
    const isHeld = Promise.withResolvers<void>();
    const isLocked = Promise.withResolvers<void>();
    const change = inTransaction(db, async (tx) => {
      await lockSubscription(tx, subscriptionId);
      isLocked.resolve();
      await isHeld.promise;
      await lockAccountBalance(tx, owner);
    });
    const close = inTransaction(db, async (tx) => {
      await lockAccountBalance(tx, owner);
      isHeld.resolve();
      await isLocked.promise;
      // Its invoice refers to the subscription that the other one holds.
      return invoicePeriod(tx, january.id, january.endAt);
    });
    const [, closed] = await Promise.all([change, close]);
    assert.equal(closed.kind, 'invoiced');
  });

  it('gets what a period closed early costs too much, and gives it to the next invoice', async () => {
    const subscriptionId = await subscribe(await seedVolumePlan());
    const [january, february] = await listPeriods(db, subscriptionId);
    assert.ok(january);
    await use(subscriptionId, '2025-01-02T00:00:00Z', 1000n);
    const rest = await inTransaction(db, (tx) =>
      cutPeriod(tx, january, { at: new Date('2025-01-10T00:00:00Z'), reason: 'close_now' }),
    );
    const first = await invoiceOf({ ...january, endAt: rest.startAt });
    assert.equal(first.totalMinor, 200n);

    // 1,001 calls at $0.001 are $1.00; $2.00 were billed.
    await use(subscriptionId, '2025-01-12T00:00:00Z', 1n);
    const credit = await upcomingInvoice(db, subscriptionId, Date.parse('2025-01-13'));
    assert.deepEqual(
      [credit?.draft.totalMinor, credit?.draft.balanceAppliedMinor, credit?.draft.amountDueMinor],
      [-100n, -100n, 0n],
    );
    const second = await invoiceOf(rest);
    assert.deepEqual(
      [second.state, second.totalMinor, second.balanceAppliedMinor, second.amountDueMinor],
      ['paid', -100n, -100n, 0n],
    );
    assert.equal(second.paidAt?.getTime(), rest.endAt.getTime());
    assert.equal(await balance(), 100n);
    assert.deepEqual(
      [await ledgerOf('account_balance'), await ledgerOf('receivable')],
      [-100n, 200n],
    );
    const before = await checksum(db);
    await inTransaction(db, (tx) => invoicePeriod(tx, rest.id, rest.endAt));
    assert.equal(await checksum(db), before);

    await use(subscriptionId, '2025-02-02T00:00:00Z', 3000n);
    const estimate = await upcomingInvoice(db, subscriptionId, Date.parse('2025-02-20'));
    const third = await invoiceOf(february);
    assert.deepEqual(
      [third.state, third.totalMinor, third.balanceAppliedMinor, third.amountDueMinor],
      ['open', 300n, 100n, 200n],
    );
    const { draft } = estimate ?? assert.fail();
    assert.deepEqual(
      [draft.totalMinor, draft.balanceAppliedMinor, draft.amountDueMinor],
      [third.totalMinor, third.balanceAppliedMinor, third.amountDueMinor],
    );
    assert.equal(await balance(), 0n);
    assert.equal(await ledgerOf('receivable'), 400n);
  });

  it('is applied up to the total, and what it pays for is not collected', async () => {
    await give(1000n);
    const subscriptionId = await subscribe(await seedPlan(db, world, { feeMinor: '800' }));
    const [january, february] = await listPeriods(db, subscriptionId);
    const covered = await invoiceOf(january);
    assert.deepEqual(
      [covered.state, covered.balanceAppliedMinor, covered.amountDueMinor],
      ['paid', 800n, 0n],
    );
    assert.equal(await balance(), 200n);
    const partly = await invoiceOf(february);
    assert.deepEqual(
      [partly.state, partly.balanceAppliedMinor, partly.amountDueMinor],
      ['open', 200n, 600n],
    );
    assert.equal(await balance(), 0n);

    const unused = (): Promise<never> => Promise.reject(new Error('not here'));
    const collection = collectionActivities({
      db,
      shards: { seal: unused },
      payments: { charge: unused, lookup: unused, refund: unused, lookupRefund: unused },
      startWorkflow: unused,
      waitForApplied: unused,
      isDrained: unused,
    });
    const nothing = await collection.prepareInvoicePayment({ invoiceId: covered.id });
    assert.deepEqual(nothing.payment, { kind: 'settled', state: 'paid' });
    const { payment } = await collection.prepareInvoicePayment({ invoiceId: partly.id });
    assert.ok(payment.kind === 'ready');
    const row = await selectRow<{ minor: bigint }>(
      db,
      'SELECT amount_minor AS minor FROM payments WHERE id = ?',
      [payment.paymentId],
    );
    assert.equal(row?.minor, 600n);
  });

  it('is used by one of two invoices that are issued at the same time, the other has the rest', async () => {
    await give(100n);
    const other = await seedWorld(db);
    const one = await subscribe(await seedPlan(db, world, { feeMinor: '80' }));
    const two = await subscribe(await seedPlan(db, other, { feeMinor: '80' }));
    const [ofOne] = await listPeriods(db, one);
    const [ofTwo] = await listPeriods(db, two);
    assert.ok(ofOne && ofTwo);
    await inTransaction(db, async (tx) => {
      await beginClosing(tx, ofOne);
      await beginClosing(tx, ofTwo);
    });
    const second: Promise<PeriodInvoicing>[] = [];
    const earlier = await inTransaction(db, async (tx) => {
      const first = await invoicePeriod(tx, ofOne.id, ofOne.endAt);
      second.push(inTransaction(db, (tx2) => invoicePeriod(tx2, ofTwo.id, ofTwo.endAt)));
      await someoneWaits(db);
      return first;
    });
    const [later] = await Promise.all(second);
    assert.ok(earlier.kind === 'invoiced' && later?.kind === 'invoiced');
    assert.deepEqual(
      [earlier.invoice.balanceAppliedMinor, earlier.invoice.amountDueMinor],
      [80n, 0n],
    );
    assert.deepEqual([later.invoice.balanceAppliedMinor, later.invoice.amountDueMinor], [20n, 60n]);
    assert.equal(await balance(), 0n);
  });

  it('is kept for each currency', async () => {
    await give(500n, 'EUR');
    const subscriptionId = await subscribe(await seedPlan(db, world, { feeMinor: '800' }));
    const [january] = await listPeriods(db, subscriptionId);
    const invoice = await invoiceOf(january);
    assert.deepEqual([invoice.balanceAppliedMinor, invoice.amountDueMinor], [0n, 800n]);
    assert.deepEqual([await balance('EUR'), await balance()], [500n, 0n]);
  });

  it('gives no more than it has, nothing to a negative total, and never more than is owed', async () => {
    await give(100n);
    for (const [total, applied, why] of [
      [300n, 101n, /a balance of 100 does not give 101/],
      [50n, 51n, /takes no balance of 51/],
      [50n, -1n, /takes no balance of -1/],
      [-50n, 0n, /takes no balance of 0/],
      [-50n, -51n, /takes no balance of -51/],
    ] as const) {
      const refused = adjustment('refused', total, { balanceAppliedMinor: applied });
      await assert.rejects(issue(refused), why);
    }
    assert.equal(await balance(), 100n);
  });
});

/** Returns once a transaction of this database waits for the lock of another one. */
async function someoneWaits(db: Db): Promise<void> {
  for (;;) {
    const waiting = await selectRow(
      db,
      `SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock' LIMIT 1`,
    );
    if (waiting !== null) return;
    await new Promise((resolve) => {
      setTimeout(resolve, 10);
    });
  }
}
