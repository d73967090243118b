/** What comes in after a subscription's end: it is billed once, by itself, at the prices of the period it belongs to. */
import assert from 'node:assert/strict';
import { setTimeout as sleep } from 'node:timers/promises';

import { billEndedSubscriptions } from '../../activities/late-usage.ts';
import type { WorkflowRequest } from '../../activities/ports.ts';
import type { Price } from '../../billing/plan.ts';
import { readAccountBalance } from '../../store/account-balance.ts';
import { type Db, inTransaction } from '../../store/db.ts';
import { newId } from '../../store/ids.ts';
import { findViolations } from '../../store/invariants.ts';
import { voidInvoice } from '../../store/invoice-actions.ts';
import { findInvoiceRead, listInvoiceLines } from '../../store/invoice-reads.ts';
import type { Invoice } from '../../store/invoices.ts';
import { billLateUsage, type LateBilling } from '../../store/late-invoice.ts';
import { explainLine } from '../../store/line-explanation.ts';
import { invoicePeriod, refreshDraft, reissueInvoice } from '../../store/period-invoice.ts';
import { beginClosing } from '../../store/periods.ts';
import { readCompileInput, retimeBoundary } from '../../store/projection.ts';
import { correctUsageEvent } from '../../store/usage-corrections.ts';
import { listUsageEvents } from '../../store/usage.ts';
import { upcomingInvoice } from '../../store/usage-summary.ts';
import { faultsOf, type World } from '../workflows/support/world.ts';
import { begin, type Life, publish, seedCoupon, type Terms } from './life.ts';
import { withBooks } from './with-books.ts';

const day = (text: string): Date => new Date(`${text}T12:00:00Z`);
const start = new Date('2025-01-01T00:00:00Z');
const end = new Date('2025-02-01T00:00:00Z');
const DAY_MS = 86_400_000;
const daysOn = (days: number): Date => new Date(end.getTime() + days * DAY_MS);

/** A dollar each up to ten, fifty cents after. */
const tiers: Price = {
  model: 'graduated',
  tiers: [
    { up_to: '10', unit_price: '1', flat_fee: '0' },
    { up_to: null, unit_price: '0.5', flat_fee: '0' },
  ],
};
const each = (unit_price: string): Price => ({ model: 'per_unit', unit_price });

describe('store/late-invoice', () => {
  let db: Db;
  let world: World;

  withBooks((books) => {
    ({ db, world } = books);
  });
  afterEach(async () => {
    // Whatever a story leaves open is billed, so that every invariant holds of all of it.
    await sweep();
    assert.deepEqual(await faultsOf(db), []);
    // Events of 2025 came in now.
    assert.deepEqual(
      (await findViolations(db)).filter(({ id }) => id !== 'I24'),
      [],
    );
  });

  const living = async (terms: Terms, more: { couponIds?: readonly string[] } = {}) =>
    begin(db, world, { planVersionId: await publish(db, world, terms), startAt: start, ...more });

  /** A subscription of January that used `quantity` in time. */
  async function ended(terms: Terms, quantity: number): Promise<Life> {
    const life = await living(terms);
    if (quantity > 0) await life.post(day('2025-01-10'), quantity);
    await life.cancel(end, false);
    await life.close(await life.at(start));
    return life;
  }

  const bill = ({ subscriptionId }: Life, at = daysOn(1)): Promise<LateBilling> =>
    inTransaction(db, (tx) => billLateUsage(tx, { subscriptionId, at, isOver: false }));

  async function billed(life: Life): Promise<Invoice> {
    const estimate = await upcomingInvoice(db, life.subscriptionId, Date.now());
    const billing = await bill(life);
    const invoice = billing.kind === 'issued' ? billing.invoice : assert.fail(billing.kind);
    assert.equal(estimate?.period, null);
    assert.deepEqual(
      [estimate.draft.totalMinor, estimate.draft.amountDueMinor, estimate.draft.taxMinor],
      [invoice.totalMinor, invoice.amountDueMinor, invoice.taxMinor],
    );
    await explains(invoice);
    return invoice;
  }

  /** Every line follows from what its explanation says, from the hours behind it, and from the events behind those. */
  async function explains({ id }: Invoice): Promise<void> {
    const invoice = (await findInvoiceRead(db, 'test', id)) ?? assert.fail();
    const lines = await listInvoiceLines(db, [id]);
    const corrections = await db('usage_corrections').where({
      subscription_id: invoice.subscription_id,
    });
    for (const line of lines) {
      const told = await explainLine(db, invoice, { line, lines });
      assert.ok(told.recomputed.isExact, JSON.stringify(line.details));
      assert.equal(told.recomputed.fromHoursMinor, line.amount_minor);
      for (const { meterId, eventCount, ...range } of corrections.length === 0 ? told.events : []) {
        const filter = { environment: 'test', meterId: meterId ?? undefined, limit: 100 };
        const { events } = await listUsageEvents(db, { ...filter, ...range });
        assert.equal(BigInt(events.length), eventCount);
      }
    }
  }

  async function sweep(now = new Date()): Promise<readonly WorkflowRequest[]> {
    const started: WorkflowRequest[] = [];
    const startWorkflow = async (request: WorkflowRequest): Promise<void> => {
      started.push(request);
    };
    await billEndedSubscriptions({ db, startWorkflow }, now);
    return started;
  }

  const invoicesOf = ({ subscriptionId }: Life) =>
    db('invoices').where({ subscription_id: subscriptionId }).orderBy('created_at');

  function correct(eventId: string, quantity: bigint | null) {
    return inTransaction(db, (tx) =>
      correctUsageEvent(tx, {
        ...{ environment: 'test', eventId, reason: 'counted twice', actor: 'token:tok_1' },
        request:
          quantity === null
            ? { kind: 'void' }
            : { kind: 'quantities', quantities: [{ meterId: world.meterId, quantity }] },
      }),
    );
  }

  describe('an invoice of its own', () => {
    it('has the lines that a next invoice would have had: re-rated with the tiers of their period', async () => {
      const life = await ended({ price: tiers, fee: '3100' }, 8);
      await life.post(day('2025-01-20'), 4);
      const invoice = await billed(life);
      assert.deepEqual(await life.texts(invoice), [
        'API Calls (4 calls in 2 tiers), Jan 1 – Jan 31, 2025 300',
      ]);
      const [, row] = await invoicesOf(life);
      assert.deepEqual(
        [row.kind, row.business_key, row.state, row.document.period_text],
        ['late', `late:${life.subscriptionId}:1`, 'open', 'Jan 1 – Jan 31, 2025'],
      );
      assert.deepEqual([row.period_start_at, row.period_end_at], [start, end]);
      assert.equal(await life.totalMinor(), 3_100n + 1_100n);
    });

    it('is issued once: asked again, nothing is left, and no row changes', async () => {
      const life = await ended({ price: tiers }, 8);
      await life.post(day('2025-01-20'), 4);
      await billed(life);
      const rows = await invoicesOf(life);
      assert.deepEqual(await bill(life), { kind: 'nothing' });
      assert.deepEqual(await sweep(), []);
      assert.equal(await upcomingInvoice(db, life.subscriptionId, Date.now()), null);
      assert.deepEqual(await invoicesOf(life), rows);
    });

    it('leaves what comes after it to the next one, which goes on in the tiers', async () => {
      const life = await ended({ price: tiers }, 4);
      await life.post(day('2025-01-20'), 4);
      assert.equal((await billed(life)).totalMinor, 400n);
      await life.post(day('2025-01-21'), 4);
      const second = await billed(life);
      assert.deepEqual(
        [second.businessKey, second.totalMinor],
        [`late:${life.subscriptionId}:2`, 300n],
      );
    });

    it('names each period, and goes over all that were too late', async () => {
      const life = await living({ price: tiers });
      await life.post(day('2025-01-10'), 9);
      await life.cancel(new Date('2025-03-01T00:00:00Z'), false);
      const [january, february] = await life.periods();
      assert.ok(january && february);
      await life.close(january);
      await life.close(february);
      await life.post(day('2025-02-10'), 1);
      await life.post(day('2025-01-11'), 2);
      const invoice = await billed(life);
      assert.deepEqual(await life.texts(invoice), [
        'API Calls (2 calls in 2 tiers), Jan 1 – Jan 31, 2025 150',
        'API Calls (1 call × $1.00), Feb 1 – Feb 28, 2025 100',
      ]);
      const read = await findInvoiceRead(db, 'test', invoice.id);
      assert.equal(read?.document.period_text, 'Jan 1 – Feb 28, 2025');
    });

    it('has the versions of a plan that changed in the period, each with its prices', async () => {
      const life = await living({ price: each('1') });
      await life.post(day('2025-01-05'), 1);
      await life.change(day('2025-01-11'), await publish(db, world, { price: each('5') }));
      await life.post(day('2025-01-20'), 1);
      await life.cancel(end, false);
      await life.close(await life.at(start));
      await life.post(day('2025-01-06'), 2);
      await life.post(day('2025-01-21'), 2);
      assert.deepEqual(
        (await life.linesOf(await billed(life))).map((line) => line.amount_minor),
        [200n, 1_000n],
      );
    });

    it('bills of a charge with a minimum what goes beyond it, and stops at the maximum', async () => {
      const life = await ended({ price: each('1'), minimum: '1000', maximum: '1500' }, 4);
      await life.post(day('2025-01-20'), 5);
      // Nine dollars: less than the ten that were billed.
      assert.deepEqual(await bill(life), { kind: 'nothing' });
      await life.post(day('2025-01-20'), 3);
      assert.equal((await billed(life)).totalMinor, 200n);
      await life.post(day('2025-01-20'), 30);
      assert.equal((await billed(life)).totalMinor, 300n);
    });

    it('bills overage of credits that came late at the price of its plan', async () => {
      const life = await ended(
        {
          credits: {
            ...{ unit: 'credit', included_micro: '0', credit_price: '0.02', burn: [] },
            overage: { enabled: true, credit_price: '0.03' },
          },
        },
        0,
      );
      await life.post(day('2025-01-20'), 1, { overageMicro: 500_000_000 });
      const invoice = await billed(life);
      assert.deepEqual(await life.texts(invoice), [
        'Overage (500 credits × $0.03), Jan 1 – Jan 31, 2025 1500',
      ]);
    });

    it('bills what a gateway used whose hold was lost, at the price of overage', async () => {
      const key = `m_${world.meterId.slice(4, 14)}`;
      const life = await ended(
        {
          credits: {
            ...{ unit: 'credit', included_micro: '0', credit_price: '0.02' },
            burn: [{ meter_key: key, micro_per_unit: '1000000' }],
            overage: { enabled: true, credit_price: '0.03' },
          },
        },
        0,
      );
      await life.post(day('2025-01-20'), 100, { flags: ['unheld'] });
      assert.equal((await billed(life)).totalMinor, 300n);
    });

    it('takes a fixed amount of a coupon once, however many late invoices there are', async () => {
      const couponId = await seedCoupon(db, { amountMinor: '1000' });
      const life = await living({ price: each('1'), fee: '3100' }, { couponIds: [couponId] });
      await life.cancel(end, false);
      assert.equal((await life.close(await life.at(start))).discountMinor, 1_000n);
      const late: (readonly [bigint, string])[] = [];
      for (const quantity of [8, 5, 4]) {
        await life.post(day('2025-01-20'), quantity);
        const { discountMinor, state } = await billed(life);
        late.push([discountMinor, state]);
      }
      assert.deepEqual(late, [
        [800n, 'paid'],
        [200n, 'open'],
        [0n, 'open'],
      ]);
    });

    it('has the coupons of a further interval, and the tax and the balance of any invoice', async () => {
      const forever = await seedCoupon(db, { percent: '10' });
      const once = await seedCoupon(db, { percent: '50' }, { duration: 'once' });
      const rateId = newId('txr');
      await db('tax_rates').insert({
        ...{ id: rateId, environment: 'test', name: 'VAT', percent: '20' },
        lookup_id: `vat-${rateId.slice(4, 12)}`,
      });
      const life = await living({ price: each('1') }, { couponIds: [forever, once] });
      await db('subscribers')
        .where({ id: life.subscriberId })
        .update({ tax_rate_ids: [rateId] });
      const used = await life.post(day('2025-01-10'), 10);
      await life.cancel(end, false);
      await life.close(await life.at(start));
      // The half of the first coupon is used up; a tenth of each invoice is taken off.
      await life.post(day('2025-01-20'), 10);
      const first = await billed(life);
      assert.deepEqual(
        [first.discountMinor, first.taxMinor, first.totalMinor],
        [100n, 180n, 1_080n],
      );
      await correct(used, 5n);
      const credit = await billed(life);
      assert.deepEqual([credit.subtotalMinor, credit.state], [-500n, 'paid']);
      assert.equal(await readAccountBalance(db, credit), -credit.totalMinor);
      await life.post(day('2025-01-20'), 20);
      const second = await billed(life);
      assert.equal(second.balanceAppliedMinor, -credit.totalMinor);
    });
  });

  describe('is refused, or there is none', () => {
    it('while the subscription goes on, or its last invoice is to come', async () => {
      const life = await living({ price: each('1') });
      assert.deepEqual(await bill(life), { kind: 'refused', code: 'not_ended' });
      await life.cancel(end, false);
      assert.deepEqual(await bill(life), { kind: 'refused', code: 'last_invoice_to_come' });
      await life.close(await life.at(start));
      assert.deepEqual(await bill(life), { kind: 'nothing' });
    });

    it('while the last invoice is a draft: what comes counts in the draft', async () => {
      await db('operator_settings')
        .where({ environment: 'test' })
        .update({ draft_grace_ms: DAY_MS });
      const life = await living({ price: each('1') });
      await life.cancel(end, false);
      const period = await life.at(start);
      await inTransaction(db, (tx) => beginClosing(tx, period));
      const drafted = await inTransaction(db, (tx) => invoicePeriod(tx, period.id, end));
      await db('operator_settings').where({ environment: 'test' }).update({ draft_grace_ms: 0 });
      assert.equal(drafted.kind, 'draft');
      await life.post(day('2025-01-20'), 3);
      assert.deepEqual(await bill(life), { kind: 'refused', code: 'last_invoice_to_come' });
      if (drafted.kind === 'draft') {
        const { id } = drafted.invoice;
        const fresh = await inTransaction(db, (tx) => refreshDraft(tx, id, daysOn(0.5)));
        assert.equal(fresh?.totalMinor, 300n);
      }
      const done = await inTransaction(db, (tx) => invoicePeriod(tx, period.id, daysOn(2)));
      assert.equal(done.kind === 'invoiced' && done.invoice.totalMinor, 300n);
      assert.deepEqual(await bill(life), { kind: 'nothing' });
    });

    it('of what costs nothing, which still counts for what comes after it', async () => {
      const life = await ended({ price: each('1'), included: '10' }, 4);
      await life.post(day('2025-01-20'), 5);
      assert.deepEqual(await bill(life), { kind: 'nothing' });
      assert.equal(await upcomingInvoice(db, life.subscriptionId, Date.now()), null);
      // Nothing more can come: what costs nothing is done with, without an invoice.
      assert.deepEqual(await sweep(), []);
      const late = await db('periods').where({
        subscription_id: life.subscriptionId,
        is_late: true,
      });
      assert.deepEqual(
        late.map(({ state }) => state),
        ['closed'],
      );
      await life.post(day('2025-01-21'), 5);
      assert.equal((await billed(life)).totalMinor, 400n);
    });

    it('where it would be another one of the same period', async () => {
      const life = await ended({ price: each('1') }, 0);
      await life.post(day('2025-01-20'), 1);
      const { id } = await billed(life);
      const copy = `INSERT INTO invoices (id, environment, subscriber_id, subscription_id, period_id, kind, business_key, state, currency, document)
        SELECT ?, environment, subscriber_id, subscription_id, period_id, kind, business_key || 'x', 'draft', currency, document FROM invoices WHERE id = ?`;
      await assert.rejects(db.raw(copy, [newId('inv'), id]), /one_late_invoice/);
    });
  });

  describe('comes by itself', () => {
    it('35 days and an hour after the end, and not before', async () => {
      const life = await ended({ price: each('1') }, 0);
      await life.post(day('2025-01-20'), 3);
      const due = 35 + 1 / 24;
      assert.deepEqual(await sweep(daysOn(due)), []);
      const [request, ...others] = await sweep(new Date(daysOn(due).getTime() + 1));
      const [, invoice] = await invoicesOf(life);
      assert.deepEqual(
        [request, others],
        [{ kind: 'collection', invoiceId: invoice.id, summary: { number: invoice.number } }, []],
      );
      assert.equal(invoice.total_minor, 300n);
      assert.deepEqual(await sweep(daysOn(100)), []);
    });

    it('once, when several sweeps and an operator come at the same time', async () => {
      for (let run = 0; run < 10; run += 1) {
        const life = await ended({ price: each('1') }, 0);
        await life.post(day('2025-01-20'), 3);
        await Promise.all([sweep(), sweep(), bill(life), sweep()]);
        assert.deepEqual(
          (await invoicesOf(life)).map((row) => [row.kind, row.total_minor]),
          [
            ['period', 0n],
            ['late', 300n],
          ],
        );
      }
    });

    it('for every other subscription when it fails for one, and says that it failed', async () => {
      const lives = [];
      for (let index = 0; index < 3; index += 1) {
        const life = await ended({ price: each('1') }, 0);
        await life.post(day('2025-01-20'), 3);
        lives.push(life);
      }
      let calls = 0;
      const startWorkflow = async (): Promise<void> => {
        calls += 1;
        if (calls === 1) throw new Error('no workflow server');
      };
      await assert.rejects(
        billEndedSubscriptions({ db, startWorkflow }, new Date()),
        ({ errors }: AggregateError) => String(errors) === 'Error: no workflow server',
      );
      assert.equal(calls, 3);
      for (const life of lives) assert.equal((await invoicesOf(life)).length, 2);
    });

    it('loses and doubles nothing that a gateway brings while it is billed', async () => {
      const sizes = new Set<string>();
      for (let run = 0; run < 30; run += 1) {
        const life = await ended({ price: tiers }, 8);
        const came = [0, 1, 2].map((index) =>
          sleep((run * (index + 3)) % 11).then(() => life.post(day('2025-01-20'), 2)),
        );
        // At once, after what came first, or after everything.
        const waitedFor = [sleep(run % 9), Promise.any(came), Promise.all(came)][run % 3];
        await Promise.all([...came, waitedFor?.then(() => bill(life))]);
        await sweep();
        const late = (await invoicesOf(life)).slice(1);
        sizes.add(String(late.map((row) => row.total_minor)));
        // Fourteen calls, in however many invoices.
        assert.equal(await life.totalMinor(), 1_200n);
      }
      assert.ok(sizes.size > 1, 'only one order came about');
    });
  });

  describe('corrections', () => {
    it('of what was billed in time give it back to the account balance', async () => {
      const life = await living({ price: tiers });
      const wrong = await life.post(day('2025-01-10'), 12);
      await life.cancel(end, false);
      await life.close(await life.at(start));
      assert.deepEqual(await correct(wrong, 9n), { kind: 'corrected' });
      const invoice = await billed(life);
      assert.deepEqual([invoice.totalMinor, invoice.state], [-200n, 'paid']);
      assert.equal(await readAccountBalance(db, invoice), 200n);
    });

    it('of late usage are billed with it, or, once that is invoiced, by the next invoice', async () => {
      const life = await ended({ price: each('1') }, 0);
      const late = await life.post(day('2025-01-20'), 10);
      await correct(late, 7n);
      assert.equal((await billed(life)).totalMinor, 700n);
      await correct(late, 9n);
      assert.equal((await billed(life)).totalMinor, 200n);
      await correct(late, null);
      assert.equal((await billed(life)).totalMinor, -900n);
    });
  });

  describe('void', () => {
    const makeVoid = async ({ id }: Invoice): Promise<void> => {
      const done = await inTransaction(db, (tx) =>
        voidInvoice(tx, { invoiceId: id, reason: null, at: daysOn(2) }),
      );
      assert.equal(done.kind, 'done');
    };
    const reissue = ({ id }: Invoice) =>
      inTransaction(db, (tx) => reissueInvoice(tx, id, daysOn(3)));

    it('is issued again under the next number, from the same usage as it is corrected', async () => {
      const life = await ended({ price: each('1') }, 0);
      const wrong = await life.post(day('2025-01-20'), 10);
      const first = await billed(life);
      await makeVoid(first);
      await correct(wrong, 4n);
      // Until then nothing is billed by anybody.
      assert.deepEqual(await bill(life), { kind: 'nothing' });
      const again = await reissue(first);
      const invoice = again.kind === 'issued' ? again.invoice : assert.fail(again.kind);
      assert.deepEqual(
        [invoice.businessKey, invoice.totalMinor, invoice.reissueOf],
        [`late:${life.subscriptionId}:2`, 400n, first.id],
      );
      await explains(invoice);
      assert.equal((await reissue(first)).kind, 'known');
      await life.post(day('2025-01-20'), 1);
      assert.equal((await billed(life)).businessKey, `late:${life.subscriptionId}:3`);
    });

    it('takes a key of its own, also while another one is issued', async () => {
      for (let run = 0; run < 12; run += 1) {
        const life = await ended({ price: each('1') }, 0);
        await life.post(day('2025-01-20'), 1);
        const first = await billed(life);
        await makeVoid(first);
        await life.post(day('2025-01-20'), 2);
        const [again, next] = await Promise.all([
          sleep(run % 4).then(() => reissue(first)),
          sleep(run % 3).then(() => bill(life)),
        ]);
        const issued = [again, next].map((one) =>
          one.kind === 'issued' ? one.invoice : assert.fail(one.kind),
        );
        assert.deepEqual(
          issued.map(({ totalMinor }) => totalMinor),
          [100n, 200n],
        );
        const numbers = issued.map(({ businessKey }) => businessKey.split(':')[2]);
        assert.deepEqual(new Set(numbers), new Set(['2', '3']));
      }
    });

    it('waits for that before an event of it is corrected that another was rated on top of', async () => {
      const life = await ended({ price: tiers }, 0);
      const wrong = await life.post(day('2025-01-20'), 10);
      const first = await billed(life);
      await life.post(day('2025-01-20'), 2);
      assert.equal((await billed(life)).totalMinor, 100n);
      await makeVoid(first);
      assert.equal((await correct(wrong, 4n)).kind, 'void_invoice');
      assert.equal((await reissue(first)).kind, 'issued');
      assert.deepEqual(await correct(wrong, 4n), { kind: 'corrected' });
      assert.equal((await billed(life)).totalMinor, 600n - 1_100n);
    });

    it('is not issued again when nothing is left of it', async () => {
      const life = await ended({ price: each('1') }, 0);
      const wrong = await life.post(day('2025-01-20'), 10);
      const first = await billed(life);
      assert.deepEqual(await reissue(first), { kind: 'refused', code: 'not_void' });
      await makeVoid(first);
      await correct(wrong, null);
      assert.deepEqual(await reissue(first), { kind: 'refused', code: 'nothing_left' });
    });

    it('of the last period is issued again without what came late: that has its own', async () => {
      const life = await living({ price: tiers, fee: '3100' });
      await life.post(day('2025-01-10'), 8);
      // In mid-period: its fee is whole, whatever comes after.
      await life.cancel(day('2025-01-25'), false);
      const last = await life.close(await life.at(start));
      await life.post(day('2025-01-20'), 4);
      await billed(life);
      await makeVoid(last);
      const again = await reissue(last);
      assert.equal(again.kind === 'issued' && again.invoice.totalMinor, last.totalMinor);
      assert.equal(await life.totalMinor(), 3_100n + 1_100n);
    });
  });

  it('is told to no shard, however near the end is', async () => {
    const life = await ended({ price: each('1') }, 0);
    await life.post(day('2025-01-20'), 1);
    const { subscriptionId } = life;
    const segments = () => db('segments').where({ subscription_id: subscriptionId }).orderBy('id');
    const before = await segments();
    const { id } = before.at(-1);
    const endAt = async (at: Date): Promise<void> => {
      await db('subscriptions').where({ id: subscriptionId }).update({ ended_at: at });
      await db('segments').where({ id }).update({ from_at: at, until_at: at });
    };
    await endAt(new Date(Date.now() + 600_000));
    const told = await readCompileInput(db, life.subscriberId);
    await endAt(end);
    assert.deepEqual(told?.subscriptions, []);
    assert.deepEqual(await segments(), before);
  });

  it('lies at no boundary that a shard could have missed', async () => {
    const life = await ended({ price: each('1') }, 0);
    await life.post(day('2025-01-20'), 1);
    const segments = () =>
      db('segments').where({ subscription_id: life.subscriptionId }).orderBy('id');
    const before = await segments();
    const late = before.at(-1);
    assert.deepEqual([late.from_at, late.until_at, late.status], [end, end, 'inactive']);
    // The shard still runs January, and believes it to go on: it learns of its end, and of nothing else.
    const held = [{ segmentId: String(before[0].id), untilMs: daysOn(3).getTime() }];
    assert.ok(await retimeBoundary(db, life.subscriberId, end.getTime() - 500, held));
    assert.deepEqual((await segments()).at(-1), late);
    await db('segments').where({ id: before[0].id }).update({ until_at: end });
    assert.equal((await billed(life)).totalMinor, 100n);
  });
});
