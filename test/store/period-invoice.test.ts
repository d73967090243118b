import assert from 'node:assert/strict';

import { type Db, inTransaction, openDb } from '../../store/db.ts';
import { type Invoice, issueInvoice, type NewInvoice } from '../../store/invoices.ts';
import { invoicePeriod } from '../../store/period-invoice.ts';
import { beginClosing, listPeriods, openPeriods, type Period } from '../../store/periods.ts';
import { changeSubscription, lockSubscription } from '../../store/subscriptions.ts';
import { upcomingInvoice } from '../../store/usage-summary.ts';
import { type TestDatabase, testDatabase } from '../support/postgres.ts';
import {
  checksum,
  faultsOf,
  type PlanTerms,
  seedPlan,
  seedSubscriber,
  seedSubscription,
  seedUsage,
  seedWorld,
  type World,
} from '../workflows/support/world.ts';

describe('store/period-invoice', () => {
  let database: TestDatabase;
  let db: Db;
  let world: World;

  before(async () => {
    database = await testDatabase();
    db = openDb(database.url, { poolMax: 12 });
    world = await seedWorld(db);
  });
  after(async () => {
    await db.destroy();
    await database.drop();
  });
  afterEach(async () => {
    assert.deepEqual(await faultsOf(db), []);
  });

  type Subscribed = { readonly subscriptionId: string; readonly periods: readonly Period[] };

  async function subscribed(terms: PlanTerms): Promise<Subscribed> {
    const planVersionId = await seedPlan(db, world, terms);
    const subscriberId = await seedSubscriber(db, null);
    const startAt = new Date('2025-01-01T00:00:00Z');
    const subscriptionId = await seedSubscription(db, { subscriberId, planVersionId, startAt });
    const now = new Date('2024-12-31T00:00:00Z');
    await inTransaction(db, async (tx) => {
      const pending = await lockSubscription(tx, subscriptionId);
      const started = await changeSubscription(tx, pending, { kind: 'started', at: now });
      await openPeriods(tx, started, now);
    });
    return { subscriptionId, periods: await listPeriods(db, subscriptionId) };
  }

  async function close(period: Period | undefined): Promise<Invoice> {
    assert.ok(period);
    await inTransaction(db, (tx) => beginClosing(tx, period));
    const result = await inTransaction(db, (tx) => invoicePeriod(tx, period.id, period.endAt));
    assert.equal(result.kind, 'invoiced');
    return result.kind === 'invoiced' ? result.invoice : assert.fail();
  }

  function used(subscribedTo: Subscribed, index: number, quantity: bigint): Promise<void> {
    const period = subscribedTo.periods[index];
    assert.ok(period);
    const at = new Date(period.startAt.getTime() + 3_600_000);
    return seedUsage(db, { ...subscribedTo, meterId: world.meterId, at, quantity });
  }

  async function linesOf(invoice: Invoice): Promise<readonly unknown[]> {
    return db('invoice_lines')
      .where({ invoice_id: invoice.id })
      .orderBy('position')
      .select('kind', 'description', 'label', 'amount_minor');
  }

  it('prints the example of the Fluxrate page', async () => {
    const it = await subscribed({ unitPrice: '0.001' });
    await used(it, 0, 82_450n);
    const invoice = await close(it.periods[0]);
    assert.deepEqual(await linesOf(invoice), [
      {
        kind: 'usage',
        description: 'API Calls (82,450 calls × $0.001)',
        label: 'Standard rate',
        amount_minor: 8245n,
      },
    ]);
    assert.deepEqual([invoice.totalMinor, invoice.state], [8245n, 'open']);
    const [row] = await db('invoices').where({ id: invoice.id });
    assert.equal(row.document.period_text, 'Jan 1 – Jan 31, 2025');
    assert.deepEqual(row.document.taxes, [
      { label: 'Tax (0%)', percent: '0', base: '82.45', amount: '0.00' },
    ]);
    assert.match(row.number, /^INV-2025-\d{4}$/);
  });

  it('estimates to the cent what it then invoices', async () => {
    const it = await subscribed({ feeMinor: '9900', unitPrice: '0.0005', includedUnits: '100000' });
    await used(it, 0, 150_000n);
    const estimate = await upcomingInvoice(db, it.subscriptionId, Date.parse('2025-01-20'));
    const invoice = await close(it.periods[0]);
    assert.equal(estimate?.draft.totalMinor, 12_400n);
    assert.equal(invoice.totalMinor, 12_400n);
    assert.deepEqual(
      await linesOf(invoice),
      estimate.draft.lines.map((line) => ({
        kind: line.kind,
        description: line.description,
        label: line.label,
        amount_minor: line.amountMinor,
      })),
    );
  });

  it('issues one invoice for a period, however many close it at once, and later ones change no row', async () => {
    const it = await subscribed({ feeMinor: '2900' });
    const period = it.periods[0];
    assert.ok(period);
    await inTransaction(db, (tx) => beginClosing(tx, period));
    const closes = await Promise.all(
      Array.from({ length: 8 }, () =>
        inTransaction(db, (tx) => invoicePeriod(tx, period.id, period.endAt)),
      ),
    );
    const ids = closes.map((result) => (result.kind === 'invoiced' ? result.invoice.id : ''));
    assert.equal(new Set(ids).size, 1);
    const before = await checksum(db);
    await inTransaction(db, (tx) => invoicePeriod(tx, period.id, new Date()));
    assert.equal(await checksum(db), before);
  });

  it('bills late usage on the next invoice, as a line that names its period, on top of its included units', async () => {
    const it = await subscribed({ unitPrice: '0.001', includedUnits: '1000' });
    await used(it, 0, 800n);
    const first = await close(it.periods[0]);
    assert.equal(first.totalMinor, 0n);
    const late = it.periods[0];
    const at = new Date('2025-02-02T00:00:00Z');
    assert.ok(late);
    await seedUsage(db, {
      ...it,
      meterId: world.meterId,
      at,
      quantity: 50_200n,
      adjustsPeriodId: late.id,
    });
    await used(it, 1, 2000n);
    const second = await close(it.periods[1]);
    // 800 + 50,200 − 1,000 included = 50,000 × 0.001; February's own: (2,000 − 1,000) × 0.001.
    assert.deepEqual(
      (await db('invoice_lines').where({ invoice_id: second.id }).orderBy('position')).map(
        (line) => [line.kind, line.amount_minor],
      ),
      [
        ['usage', 100n],
        ['adjustment', 5000n],
      ],
    );
    // Later still: what was billed as late before counts as billed.
    await seedUsage(db, {
      ...it,
      meterId: world.meterId,
      at: new Date('2025-03-02T00:00:00Z'),
      quantity: 1000n,
      adjustsPeriodId: late.id,
    });
    const third = await close(it.periods[2]);
    assert.equal(third.totalMinor, 100n);
  });

  it('refuses to invoice a period that is not closing', async () => {
    const it = await subscribed({ feeMinor: '2900' });
    const period = it.periods[0];
    assert.ok(period);
    await assert.rejects(
      inTransaction(db, (tx) => invoicePeriod(tx, period.id, period.endAt)),
      /is open, not closing/,
    );
  });
});

describe('store/invoices', () => {
  let database: TestDatabase;
  let db: Db;
  let subscriberId: string;

  before(async () => {
    database = await testDatabase();
    db = openDb(database.url, { poolMax: 12 });
    subscriberId = await seedSubscriber(db, null);
  });
  after(async () => {
    await db.destroy();
    await database.drop();
  });

  function invoiceOf(key: string): NewInvoice {
    return {
      environment: 'test',
      subscriberId,
      subscriptionId: null,
      periodId: null,
      kind: 'change',
      businessKey: key,
      currency: 'USD',
      subtotalMinor: 100n,
      taxMinor: 0n,
      totalMinor: 100n,
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
          amountMinor: 100n,
          details: { model: 'flat' },
        },
      ],
    };
  }

  it('numbers without gap or repeat, also when every third transaction fails after it took its number', async () => {
    const at = new Date('2025-06-01T00:00:00Z');
    await Promise.allSettled(
      Array.from({ length: 30 }, (_, index) =>
        inTransaction(db, async (tx) => {
          await issueInvoice(tx, invoiceOf(`change:${index}`), at);
          if (index % 3 === 0) throw new Error('the process died');
        }),
      ),
    );
    const numbers = await db('invoices').select('number').orderBy('number');
    assert.deepEqual(
      numbers.map((row) => row.number),
      Array.from({ length: 20 }, (_, index) => `INV-2025-${String(index + 1).padStart(4, '0')}`),
    );
  });

  it('begins anew each year, for the year of finalizing', async () => {
    const invoice = await inTransaction(db, (tx) =>
      issueInvoice(tx, invoiceOf('change:next'), new Date('2026-01-01T00:00:00Z')),
    );
    assert.equal(invoice.number, 'INV-2026-0001');
  });

  it('refuses lines that do not make its totals', async () => {
    await assert.rejects(
      inTransaction(db, (tx) =>
        issueInvoice(
          tx,
          { ...invoiceOf('change:wrong'), subtotalMinor: 99n, totalMinor: 99n },
          new Date(),
        ),
      ),
      /do not make a subtotal/,
    );
  });

  it('is frozen by Postgres once it has a number', async () => {
    await assert.rejects(
      db('invoices').where({ business_key: 'change:next' }).update({ total_minor: 1 }),
      /is final and never changes/,
    );
  });
});
