import assert from 'node:assert/strict';

import fc from 'fast-check';

import type { CreditRequest } from '../../billing/credit-note.ts';
import { readAccountBalance } from '../../store/account-balance.ts';
import { type CreditNoteIssue, issueCreditNote } from '../../store/credit-notes.ts';
import { type Db, inTransaction, openDb, type Tx } from '../../store/db.ts';
import { newId } from '../../store/ids.ts';
import { findViolations } from '../../store/invariants.ts';
import {
  type InvoiceAction,
  markUncollectible,
  payOutOfBand,
  voidInvoice,
} from '../../store/invoice-actions.ts';
import { readInvoiceMoney } from '../../store/invoice-money.ts';
import {
  hasFailedInvoice,
  type Invoice,
  issueInvoice,
  lockInvoice,
  readInvoice,
} from '../../store/invoices.ts';
import { accountBalances } from '../../store/ledger.ts';
import { ensurePayment, nextAttempt, paymentKeys, recordOutcome } from '../../store/payments.ts';
import {
  invoicePeriod,
  type PeriodInvoicing,
  refreshDraft,
  reissueInvoice,
} from '../../store/period-invoice.ts';
import { beginClosing, listPeriods, openPeriods, type Period } from '../../store/periods.ts';
import { recordRefund } from '../../store/refunds.ts';
import { attachCoupon } from '../../store/subscription-coupons.ts';
import { changeSubscription, lockSubscription } from '../../store/subscriptions.ts';
import { type TestDatabase, testDatabase } from '../support/postgres.ts';
import {
  checksum,
  type PlanTerms,
  seedPlan,
  seedSubscriber,
  seedSubscription,
  seedUsage,
  seedWorld,
  type World,
} from '../workflows/support/world.ts';

const FEB = new Date('2025-02-01T00:00:00Z');
const HOUR_MS = 3_600_000;

describe('store/invoice lifecycle', () => {
  let database: TestDatabase;
  let db: Db;
  let world: World;

  before(async () => {
    database = await testDatabase();
    db = openDb(database.url, { poolMax: 12 });
    world = await seedWorld(db);
    await taxed('19');
  });
  after(async () => {
    await db.destroy();
    await database.drop();
  });
  afterEach(async () => {
    await db('operator_settings').where({ environment: 'test' }).update({ draft_grace_ms: 0 });
    assert.deepEqual(await faults(), []);
  });

  /** Usage is seeded as hours, without the events behind them. */
  async function faults(): Promise<readonly string[]> {
    const found = await findViolations(db);
    return found
      .filter(({ id }) => id !== 'I25')
      .map(({ id, subject, detail }) => `${id} ${subject}: ${detail}`);
  }

  async function taxed(percent: string): Promise<void> {
    const id = newId('txr');
    await db('tax_rates').insert({
      id,
      environment: 'test',
      lookup_id: 'vat',
      name: 'VAT',
      percent,
    });
    await db.raw(
      `UPDATE operator_settings SET tax_rate_ids = ARRAY[?] WHERE environment = 'test'`,
      [id],
    );
  }

  type Subscribed = {
    readonly subscriberId: string;
    readonly subscriptionId: string;
    readonly periods: readonly Period[];
  };

  async function subscribed(
    terms: PlanTerms,
    coupon: { readonly percent: string } | null = null,
  ): Promise<Subscribed> {
    const planVersionId = await seedPlan(db, world, terms);
    const subscriberId = await seedSubscriber(db, 'card_ok');
    const startAt = new Date('2025-01-01T00:00:00Z');
    const subscriptionId = await seedSubscription(db, { subscriberId, planVersionId, startAt });
    const now = new Date('2024-12-31T00:00:00Z');
    await inTransaction(db, async (tx) => {
      const pending = await lockSubscription(tx, subscriptionId);
      const started = await changeSubscription(tx, pending, { kind: 'started', at: now });
      await openPeriods(tx, started, now);
    });
    if (coupon !== null) await give(subscriptionId, coupon.percent, now);
    return { subscriberId, subscriptionId, periods: await listPeriods(db, subscriptionId) };
  }

  async function give(subscriptionId: string, percent: string, at: Date): Promise<void> {
    const couponId = newId('cpn');
    await db('coupons').insert({
      ...{ id: couponId, environment: 'test', lookup_id: `C${couponId.slice(4, 12)}` },
      ...{ name: 'Off', percent, duration: 'once' },
    });
    const given = await inTransaction(db, (tx) =>
      attachCoupon(tx, { subscriptionId, couponId, at }),
    );
    assert.equal(given.kind, 'attached');
  }

  async function closing(of: Subscribed, index = 0): Promise<Period> {
    const period = of.periods[index] ?? assert.fail();
    await inTransaction(db, (tx) => beginClosing(tx, period));
    return period;
  }

  function invoiced(period: Period, at: Date, isUrgent = false): Promise<PeriodInvoicing> {
    return inTransaction(db, (tx) => invoicePeriod(tx, period.id, at, isUrgent));
  }

  async function closed(of: Subscribed, index = 0): Promise<Invoice> {
    const period = await closing(of, index);
    const result = await invoiced(period, period.endAt);
    return result.kind === 'invoiced' ? result.invoice : assert.fail(result.kind);
  }

  const used = (of: Subscribed, quantity: bigint, index = 0): Promise<void> =>
    seedUsage(db, {
      ...of,
      meterId: world.meterId,
      at: new Date((of.periods[index]?.startAt.getTime() ?? 0) + HOUR_MS),
      quantity,
    });

  async function pay(invoice: Invoice): Promise<string> {
    return inTransaction(db, async (tx) => {
      const paymentId = await attempt(tx, invoice);
      const outcome = { kind: 'succeeded', providerRef: newId('pay') } as const;
      await recordOutcome(tx, { paymentId, outcome, at: FEB });
      return paymentId;
    });
  }

  async function attempt(tx: Tx, { id }: Invoice): Promise<string> {
    const invoice = await lockInvoice(tx, id);
    const { dueMinor } = await readInvoiceMoney(tx, invoice);
    const payment = await ensurePayment(tx, {
      ...invoice,
      kind: 'invoice',
      businessKey: paymentKeys.invoice(id, await nextAttempt(tx, invoice)),
      amountMinor: dueMinor,
      paymentMethod: 'card_ok',
    });
    return payment.id;
  }

  function credit(
    invoice: Invoice,
    request: CreditRequest,
    more: { readonly to?: 'balance' | 'refund'; readonly key?: string } = {},
  ): Promise<CreditNoteIssue> {
    return inTransaction(db, (tx) =>
      issueCreditNote(tx, {
        invoiceId: invoice.id,
        businessKey: more.key ?? newId('cn'),
        request,
        reason: 'goodwill',
        to: more.to ?? 'balance',
        actor: 'test',
        at: FEB,
        whilePaying: 'refuse',
      }),
    );
  }

  const ofLines = (...amounts: readonly bigint[]): CreditRequest => ({
    kind: 'lines',
    amounts: new Map(amounts.entries()),
  });

  async function issued(
    invoice: Invoice,
    request: CreditRequest,
    more: Parameters<typeof credit>[2] = {},
  ): Promise<Extract<CreditNoteIssue, { kind: 'issued' }>> {
    const result = await credit(invoice, request, more);
    return result.kind === 'issued' ? result : assert.fail(result.code);
  }

  const voided = ({ id }: Invoice): Promise<InvoiceAction> =>
    inTransaction(db, (tx) => voidInvoice(tx, { invoiceId: id, reason: 'wrong', at: FEB }));
  const paidElsewhere = ({ id }: Invoice): Promise<InvoiceAction> =>
    inTransaction(db, (tx) => payOutOfBand(tx, { invoiceId: id, reference: 'T-1', at: FEB }));
  const givenUp = ({ id }: Invoice): Promise<InvoiceAction> =>
    inTransaction(db, (tx) => markUncollectible(tx, { invoiceId: id, at: FEB }));
  const reissued = async ({ id }: Invoice): Promise<Invoice> => {
    const result = await inTransaction(db, (tx) => reissueInvoice(tx, id, FEB));
    return result.kind === 'refused' ? assert.fail(result.code) : result.invoice;
  };

  /** What the subscriber's accounts hold, zero ones left out. */
  async function accounts({ subscriberId }: Subscribed): Promise<Readonly<Record<string, bigint>>> {
    const all = await accountBalances(db, subscriberId);
    return Object.fromEntries(
      all.filter(({ amount }) => amount !== 0n).map(({ kind, amount }) => [kind, amount]),
    );
  }
  const balance = ({ subscriberId }: Subscribed): Promise<bigint> =>
    readAccountBalance(db, { environment: 'test', subscriberId, currency: 'USD' });
  const linesOf = async ({ id }: Invoice): Promise<readonly unknown[]> =>
    db('invoice_lines')
      .where({ invoice_id: id })
      .orderBy('position')
      .select('description', 'amount_minor', 'discount_minor', 'details');

  describe('drafts', () => {
    const grace = (ms: number): Promise<unknown> =>
      db('operator_settings').where({ environment: 'test' }).update({ draft_grace_ms: ms });

    it('wait for their time, take in what comes late, and become final in the same row', async () => {
      await grace(2 * HOUR_MS);
      const it = await subscribed({ unitPrice: '0.01' }, { percent: '50' });
      await used(it, 1000n);
      const period = await closing(it);
      const first = await invoiced(period, FEB);
      assert.ok(first.kind === 'draft');
      assert.deepEqual([first.invoice.number, first.invoice.totalMinor], [null, 595n]);
      assert.equal(first.finalizeAt.getTime(), FEB.getTime() + 2 * HOUR_MS);
      assert.deepEqual(await accounts(it), {});
      await used(it, 1000n);
      const again = await invoiced(period, new Date(FEB.getTime() + HOUR_MS));
      assert.ok(again.kind === 'draft');
      assert.equal(again.invoice.totalMinor, 595n);
      const fresh = await inTransaction(db, (tx) => refreshDraft(tx, first.invoice.id, FEB));
      assert.equal(fresh?.totalMinor, 1190n);
      await used(it, 2000n);
      const last = await invoiced(period, first.finalizeAt);
      assert.ok(last.kind === 'invoiced');
      assert.equal(last.invoice.id, first.invoice.id);
      assert.deepEqual([last.invoice.state, last.invoice.totalMinor], ['open', 2380n]);
      assert.deepEqual(await accounts(it), { receivable: 2380n });
      const before = await checksum(db);
      await invoiced(period, new Date());
      assert.equal(await inTransaction(db, (tx) => refreshDraft(tx, first.invoice.id, FEB)), null);
      assert.equal(await checksum(db), before);
    });

    it('are final at once when somebody asks, whatever the operator has set since', async () => {
      await grace(35 * 24 * HOUR_MS);
      const it = await subscribed({ feeMinor: '1000' });
      const period = await closing(it);
      assert.equal((await invoiced(period, FEB)).kind, 'draft');
      await grace(0);
      assert.equal((await invoiced(period, FEB)).kind, 'draft');
      const urgent = await Promise.all([invoiced(period, FEB, true), invoiced(period, FEB, true)]);
      const ids = urgent.map((one) => (one.kind === 'invoiced' ? one.invoice.id : one.kind));
      assert.equal(new Set(ids).size, 1);
    });

    it('leave the balance alone until they are final', async () => {
      const it = await subscribed({ feeMinor: '1000' });
      const paid = await closed(it);
      await pay(paid);
      await issued(paid, { kind: 'full' });
      assert.equal(await balance(it), 1190n);
      await grace(HOUR_MS);
      const period = await closing(it, 1);
      const draft = await invoiced(period, period.endAt);
      assert.ok(draft.kind === 'draft');
      assert.deepEqual([draft.invoice.amountDueMinor, await balance(it)], [0n, 1190n]);
      await invoiced(period, period.endAt, true);
      assert.equal(await balance(it), 0n);
    });
  });

  describe('void and issued again', () => {
    it('gives back what it took and bills the same under the next number', async () => {
      const it = await subscribed({ feeMinor: '1000', unitPrice: '0.01' }, { percent: '25' });
      await used(it, 333n);
      const credited = await closed(await subscribedTo(it));
      assert.ok(credited.balanceAppliedMinor > 0n);
      const before = await accounts(it);
      const done = await voided(credited);
      assert.ok(done.kind === 'done' && done.changed);
      assert.deepEqual(await accounts(it), { account_balance: -100n });
      assert.equal(await hasFailedInvoice(db, it.subscriptionId), false);
      const again = await voided(credited);
      assert.ok(again.kind === 'done' && !again.changed);
      const next = await reissued(credited);
      assert.deepEqual(await linesOf(next), await linesOf(credited));
      assert.deepEqual(await accounts(it), before);
      assert.equal(next.reissueOf, credited.id);
      assert.equal(next.discountMinor, credited.discountMinor);
      assert.ok(next.discountMinor > 0n);
      assert.equal((await reissued(credited)).id, next.id);
      const sum = await checksum(db);
      const period = it.periods[0] ?? assert.fail();
      const closedAgain = await invoiced(period, new Date());
      assert.ok(closedAgain.kind === 'invoiced');
      assert.equal(closedAgain.invoice.id, next.id);
      assert.equal(await checksum(db), sum);
      // And once more.
      await voided(next);
      const third = await reissued(next);
      assert.deepEqual([third.reissueOf, third.totalMinor], [next.id, credited.totalMinor]);
      assert.equal((await reissued(credited)).id, third.id);
    });

    /** The same with an account balance of 1.00. */
    async function subscribedTo(it: Subscribed): Promise<Subscribed> {
      const { subscriberId } = it;
      await inTransaction(db, (tx) =>
        issueInvoice(tx, { ...plain(subscriberId, -100n), balanceAppliedMinor: -100n }, FEB),
      );
      return it;
    }

    it('ten at once make one', async () => {
      const it = await subscribed({ feeMinor: '1000' });
      const first = await closed(it);
      await voided(first);
      const all = await Promise.all(Array.from({ length: 10 }, () => reissued(first)));
      assert.equal(new Set(all.map(({ id }) => id)).size, 1);
    });

    it('is refused where money or credit has come to it, and of what is no period', async () => {
      const it = await subscribed({ feeMinor: '1000' });
      const paid = await closed(it);
      await pay(paid);
      const refusedPaid = await voided(paid);
      assert.ok(refusedPaid.kind === 'refused');
      assert.equal(refusedPaid.code, 'wrong_state');
      const partly = await closed(it, 1);
      await issued(partly, ofLines(100n));
      const refused = await voided(partly);
      assert.ok(refused.kind === 'refused');
      assert.equal(refused.code, 'has_credit_notes');
      const other = await inTransaction(db, (tx) =>
        issueInvoice(tx, plain(it.subscriberId, 100n), FEB),
      );
      await voided(other);
      const again = await inTransaction(db, (tx) => reissueInvoice(tx, other.id, FEB));
      assert.deepEqual(again, { kind: 'refused', code: 'not_of_a_period' });
      const open = await inTransaction(db, (tx) => reissueInvoice(tx, partly.id, FEB));
      assert.deepEqual(open, { kind: 'refused', code: 'not_void' });
    });
  });

  function plain(subscriberId: string, minor: bigint): Parameters<typeof issueInvoice>[1] {
    const subscriber = { id: subscriberId, name: 'Ada', lookup_id: null };
    return {
      ...{ environment: 'test', subscriberId, subscriptionId: null, periodId: null },
      ...{ kind: 'change', businessKey: `change:${newId('pch')}`, currency: 'USD' },
      ...{ subtotalMinor: minor, taxMinor: 0n, totalMinor: minor },
      ...{ periodStartAt: null, periodEndAt: null },
      document: {
        ...{ v: 1, plan: null, time_zone: 'UTC', period_text: null, taxes: [] },
        subscriber: { ...subscriber, email: null, address: null, tax_id: null },
      },
      lines: [
        {
          ...{ kind: 'adjustment', chargeId: null, meterId: null, planVersionId: null },
          ...{ description: 'A line', label: null, quantity: null, unitPrice: null },
          amountMinor: minor,
          details: { model: 'flat' },
        },
      ],
    };
  }

  describe('paid elsewhere, given up', () => {
    it('becomes cash without a payment, and a loss that may still be paid', async () => {
      const it = await subscribed({ feeMinor: '1000' });
      const first = await closed(it);
      await paidElsewhere(first);
      assert.deepEqual(await accounts(it), {});
      assert.equal((await readInvoice(db, first.id)).paidBy, 'out_of_band');
      const second = await closed(it, 1);
      await givenUp(second);
      assert.deepEqual(await accounts(it), {});
      assert.equal(await hasFailedInvoice(db, it.subscriptionId), true);
      const repeated = await givenUp(second);
      assert.ok(repeated.kind === 'done' && !repeated.changed);
      await paidElsewhere(second);
      assert.equal(await hasFailedInvoice(db, it.subscriptionId), false);
      const third = await closed(it, 2);
      await givenUp(third);
      await voided(third);
      assert.deepEqual(await accounts(it), {});
    });

    it('waits for an attempt that is under way, and refuses what is settled', async () => {
      const it = await subscribed({ feeMinor: '1000' });
      const invoice = await closed(it);
      const paymentId = await inTransaction(db, (tx) => attempt(tx, invoice));
      for (const act of [voided, paidElsewhere, givenUp]) {
        const refused = await act(invoice);
        assert.ok(refused.kind === 'refused');
        assert.equal(refused.code, 'payment_in_progress');
      }
      const credited = await credit(invoice, { kind: 'full' });
      assert.ok(credited.kind === 'refused');
      assert.equal(credited.code, 'payment_in_progress');
      const outcome = { kind: 'declined', providerRef: null, code: 'no' } as const;
      await inTransaction(db, (tx) => recordOutcome(tx, { paymentId, outcome, at: FEB }));
      assert.equal((await paidElsewhere(invoice)).kind, 'done');
      const late = await voided(invoice);
      assert.ok(late.kind === 'refused');
      assert.equal(late.code, 'wrong_state');
    });

    it('money that comes for an invoice that owes nothing any more is account balance', async () => {
      const it = await subscribed({ feeMinor: '1000' });
      const invoice = await closed(it);
      const paymentId = await inTransaction(db, (tx) => attempt(tx, invoice));
      // As an automatic credit does while a payment runs: what the payment takes stays due.
      const note = await inTransaction(db, (tx) =>
        issueCreditNote(tx, {
          ...{ invoiceId: invoice.id, businessKey: newId('cn'), request: { kind: 'full' } },
          ...{ reason: 'cancellation', to: 'balance', actor: 'test', at: FEB },
        }),
      );
      assert.ok(note.kind === 'issued');
      assert.equal(note.note.dueReducedMinor, 0n);
      const outcome = { kind: 'succeeded', providerRef: newId('pay') } as const;
      await inTransaction(db, (tx) => recordOutcome(tx, { paymentId, outcome, at: FEB }));
      assert.equal((await readInvoice(db, invoice.id)).state, 'paid');
      assert.deepEqual(await accounts(it), { account_balance: -1190n });
    });
  });

  describe('credit notes', () => {
    it('take what is due first; an invoice of which nothing stays due is paid', async () => {
      const it = await subscribed({ feeMinor: '1000' });
      const invoice = await closed(it);
      const half = await issued(invoice, ofLines(500n));
      assert.deepEqual([half.note.totalMinor, half.note.dueReducedMinor], [595n, 595n]);
      assert.match(half.note.number, /^CN-2025-\d{4}$/);
      assert.deepEqual(await accounts(it), { receivable: 595n });
      const { dueMinor } = await readInvoiceMoney(db, invoice);
      assert.equal(dueMinor, 595n);
      const rest = await issued(invoice, { kind: 'full' });
      assert.equal(rest.note.totalMinor, 595n);
      const paid = await readInvoice(db, invoice.id);
      assert.deepEqual([paid.state, paid.paidBy], ['paid', 'nothing_due']);
      const nothing = await credit(invoice, { kind: 'full' });
      assert.ok(nothing.kind === 'refused');
      assert.equal(nothing.code, 'nothing_to_credit');
    });

    it('go back with their discount and tax, in the end to the last cent', async () => {
      const it = await subscribed({ feeMinor: '999', unitPrice: '0.01' }, { percent: '33.333' });
      await used(it, 777n);
      const invoice = await closed(it);
      await pay(invoice);
      let total = 0n;
      for (const request of [ofLines(1n, 1n), ofLines(331n), ofLines(0n, 333n)]) {
        total += (await issued(invoice, request)).note.totalMinor;
      }
      total += (await issued(invoice, { kind: 'full' })).note.totalMinor;
      assert.equal(total, invoice.totalMinor);
      assert.equal(await balance(it), invoice.totalMinor);
    });

    it('take tax out of prices that hold it, in the books too', async () => {
      const it = await subscribed({ feeMinor: '1190', areGross: true });
      const invoice = await closed(it);
      assert.deepEqual([invoice.totalMinor, invoice.taxMinor], [1190n, 190n]);
      const posted = async (key: string): Promise<Readonly<Record<string, bigint>>> =>
        Object.fromEntries(
          (
            await db('ledger_entries as e')
              .join('ledger_txns as t', 't.id', 'e.txn_id')
              .join('accounts as a', 'a.id', 'e.account_id')
              .where('t.business_key', key)
              .select('a.kind', 'e.amount')
          ).map((row) => [row.kind, row.amount]),
        );
      assert.deepEqual(await posted(`invoice:${invoice.id}`), {
        ...{ receivable: 1190n, revenue: -1000n, tax_payable: -190n },
      });
      const { note } = await issued(invoice, ofLines(595n));
      assert.deepEqual(await posted(`credit_note:${note.id}`), {
        ...{ receivable: -595n, revenue: 500n, tax_payable: 95n },
      });
    });

    it('go back to the payment as far as it brought it; what does not arrive is account balance', async () => {
      const it = await subscribed({ feeMinor: '1000' });
      const invoice = await closed(it);
      await pay(invoice);
      const back = await issued(invoice, ofLines(400n), { to: 'refund' });
      assert.deepEqual([back.note.refundMinor, back.note.balanceMinor], [476n, 0n]);
      assert.deepEqual(await accounts(it), { refund_payable: -476n });
      assert.ok(back.refundId !== null);
      const args = { refundId: back.refundId, at: FEB };
      const outcome = { kind: 'succeeded', providerRef: newId('ref') } as const;
      await inTransaction(db, (tx) => recordRefund(tx, { ...args, outcome }));
      await inTransaction(db, (tx) =>
        recordRefund(tx, { ...args, outcome: { kind: 'failed', code: 'later' } }),
      );
      assert.deepEqual(await accounts(it), {});
      const vain = await issued(invoice, { kind: 'full' }, { to: 'refund' });
      assert.equal(vain.note.refundMinor, 714n);
      const failed = { kind: 'failed', code: 'refund_declined' } as const;
      await inTransaction(db, (tx) =>
        recordRefund(tx, { refundId: vain.refundId ?? '', outcome: failed, at: FEB }),
      );
      assert.deepEqual(await accounts(it), { account_balance: -714n });
    });

    it('are refused where there is nothing to refund, nothing to credit, nothing final', async () => {
      const it = await subscribed({ feeMinor: '1000' });
      const invoice = await closed(it);
      await paidElsewhere(invoice);
      const codes = [
        await credit(invoice, { kind: 'full' }, { to: 'refund' }),
        await credit(invoice, ofLines(1001n)),
        await credit(invoice, ofLines(0n, 1n)),
        await credit(await closed(await subscribed({})), { kind: 'full' }),
      ].map((result) => (result.kind === 'refused' ? result.code : result.kind));
      assert.deepEqual(codes, [
        'nothing_to_refund',
        'above_line',
        'above_line',
        'nothing_to_credit',
      ]);
      const second = await closed(it, 1);
      await voided(second);
      const ofVoid = await credit(second, { kind: 'full' });
      assert.ok(ofVoid.kind === 'refused');
      assert.equal(ofVoid.code, 'not_creditable');
    });

    it('twelve at once never exceed the line, and number without a gap among new invoices', async () => {
      const it = await subscribed({ feeMinor: '1000' });
      const invoice = await closed(it);
      const others = Array.from({ length: 12 }, (_, index) =>
        inTransaction(db, async (tx) => {
          await issueInvoice(tx, plain(it.subscriberId, 10n), FEB);
          if (index % 3 === 0) throw new Error('the process died');
        }).catch(() => 'died'),
      );
      const results = await Promise.all(
        Array.from({ length: 12 }, (_, index) =>
          credit(invoice, ofLines(150n), { key: `parallel:${invoice.id}:${index}` }),
        ),
      );
      await Promise.all(others);
      assert.equal(results.filter(({ kind }) => kind === 'issued').length, 6);
      const repeated = await credit(invoice, ofLines(150n), { key: `parallel:${invoice.id}:0` });
      assert.deepEqual(repeated, results[0]);
      for (const row of await db('credit_notes').where({ invoice_id: invoice.id })) {
        assert.equal(row.due_reduced_minor, row.total_minor);
      }
    });

    it('credit what was given up, and nothing of a negative invoice', async () => {
      const it = await subscribed({ feeMinor: '1000' });
      const invoice = await closed(it);
      await givenUp(invoice);
      await issued(invoice, { kind: 'full' });
      assert.equal((await readInvoice(db, invoice.id)).state, 'paid');
      const negative = await inTransaction(db, (tx) =>
        issueInvoice(tx, { ...plain(it.subscriberId, -100n), balanceAppliedMinor: -100n }, FEB),
      );
      assert.deepEqual([negative.state, negative.paidBy], ['paid', 'nothing_due']);
      const result = await credit(negative, { kind: 'full' });
      assert.ok(result.kind === 'refused');
      assert.equal(result.code, 'nothing_to_credit');
    });
  });

  it('whatever is done at once, nothing waits for itself and the books hold', async () => {
    for (let round = 0; round < 4; round += 1) {
      const it = await subscribed({ feeMinor: '1000', unitPrice: '0.01' }, { percent: '10' });
      await used(it, 500n);
      const invoices = [await closed(it), await closed(it, 1)];
      const [first, second] = invoices;
      assert.ok(first !== undefined && second !== undefined);
      const last = await closing(it, 2);
      const paymentId = await inTransaction(db, (tx) => attempt(tx, first));
      const acts: readonly (() => Promise<unknown>)[] = [
        ...invoices.flatMap((invoice) => [
          () => voided(invoice),
          () => paidElsewhere(invoice),
          () => givenUp(invoice),
          () => credit(invoice, ofLines(100n), { to: 'refund' }),
          () => credit(invoice, { kind: 'full' }),
          () => credit(invoice, ofLines(250n)),
          () => inTransaction(db, (tx) => reissueInvoice(tx, invoice.id, FEB)),
        ]),
        () =>
          inTransaction(db, async (tx) => {
            const outcome = { kind: 'succeeded', providerRef: newId('pay') } as const;
            await recordOutcome(tx, { paymentId, outcome, at: FEB });
          }),
        () => invoiced(last, last.endAt),
        () => invoiced(last, last.endAt),
      ];
      const turn = round * 5;
      const mixed = [...acts.slice(turn), ...acts.slice(0, turn)];
      const results = await Promise.allSettled(mixed.map((act) => act()));
      assert.deepEqual(
        results.filter(({ status }) => status === 'rejected'),
        [],
      );
      assert.deepEqual(await faults(), []);
    }
  });

  it('whatever is done in whatever order, the books hold', async () => {
    const action = fc.oneof(
      ...(
        ['close', 'draft', 'pay', 'decline', 'elsewhere', 'give up', 'void', 'reissue'] as const
      ).map((kind) => fc.record({ kind: fc.constant(kind), pick: fc.nat(99) })),
      fc.record({
        kind: fc.constant('credit' as const),
        pick: fc.nat(99),
        minor: fc.bigInt({ min: 0n, max: 900n }),
        to: fc.constantFrom('balance' as const, 'refund' as const),
      }),
      fc.record({
        kind: fc.constant('refund' as const),
        pick: fc.nat(99),
        isGood: fc.boolean(),
      }),
    );
    await fc.assert(
      fc.asyncProperty(
        fc.array(action, { minLength: 4, maxLength: 14 }),
        fc.constantFrom(null, { percent: '12.5' }),
        fc.record({ areGross: fc.boolean(), billIn: fc.constantFrom('advance', 'arrears') }),
        async (actions, coupon, terms) => {
          const it = await subscribed({ feeMinor: '777', unitPrice: '0.03', ...terms }, coupon);
          await used(it, 123n);
          await used(it, 77n, 1);
          let closedCount = 0;
          for (const one of actions) {
            const all: readonly Invoice[] = await Promise.all(
              (
                await db('invoices').where({ subscription_id: it.subscriptionId }).orderBy('id')
              ).map(({ id }: { readonly id: string }) => readInvoice(db, id)),
            );
            const invoice = all[one.pick % Math.max(1, all.length)];
            if (one.kind === 'close' || one.kind === 'draft') {
              const period = it.periods[closedCount];
              if (period === undefined) continue;
              if (one.kind === 'draft') {
                await db('operator_settings').update({ draft_grace_ms: HOUR_MS });
              }
              await inTransaction(db, (tx) => beginClosing(tx, period));
              const result = await invoiced(period, period.endAt);
              await db('operator_settings').update({ draft_grace_ms: 0 });
              if (result.kind === 'draft') await invoiced(period, period.endAt, true);
              closedCount += 1;
              continue;
            }
            if (invoice === undefined) continue;
            switch (one.kind) {
              case 'pay':
                if (invoice.state === 'open') await pay(invoice);
                break;
              case 'decline':
                if (invoice.state === 'open') {
                  await inTransaction(db, async (tx) => {
                    const paymentId = await attempt(tx, invoice);
                    const outcome = { kind: 'declined', providerRef: null, code: 'no' } as const;
                    await recordOutcome(tx, { paymentId, outcome, at: FEB });
                  });
                }
                break;
              case 'elsewhere':
                await paidElsewhere(invoice);
                break;
              case 'give up':
                await givenUp(invoice);
                break;
              case 'void':
                await voided(invoice);
                break;
              case 'reissue':
                await inTransaction(db, (tx) => reissueInvoice(tx, invoice.id, FEB));
                break;
              case 'credit':
                await credit(
                  invoice,
                  one.minor === 0n ? { kind: 'full' } : ofLines(one.minor),
                  one,
                );
                break;
              case 'refund':
                for (const { id } of await db('refunds')
                  .where({ subscriber_id: it.subscriberId, state: 'pending' })
                  .limit(1)) {
                  const outcome = one.isGood
                    ? ({ kind: 'succeeded', providerRef: newId('ref') } as const)
                    : ({ kind: 'failed', code: 'no' } as const);
                  await inTransaction(db, (tx) =>
                    recordRefund(tx, { refundId: id, outcome, at: FEB }),
                  );
                }
                break;
              default:
                assert.fail(one.kind);
            }
          }
          assert.deepEqual(await faults(), []);
        },
      ),
      { numRuns: 40 },
    );
  }).timeout(120_000);
});
