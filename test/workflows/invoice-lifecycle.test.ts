import assert from 'node:assert/strict';

import type { TestWorkflowEnvironment } from '@temporalio/testing';

import { ProviderFault } from '../../payments/port.ts';
import { readAccountBalance } from '../../store/account-balance.ts';
import { issueCreditNote } from '../../store/credit-notes.ts';
import { inTransaction } from '../../store/db.ts';
import { findViolations } from '../../store/invariants.ts';
import { markUncollectible, payOutOfBand, voidInvoice } from '../../store/invoice-actions.ts';
import { issueInvoice } from '../../store/invoices.ts';
import { ensurePayment, paymentKeys, recordOutcome } from '../../store/payments.ts';
import { reissueInvoice } from '../../store/period-invoice.ts';
import { listPeriods, type Period } from '../../store/periods.ts';
import {
  closeUpdates,
  type CollectionResult,
  collectionSignals,
  collectionUpdates,
  type FinalizeNowReply,
  type PeriodCloseResult,
  type RefundResult,
  type RetryReply,
  subscriptionSignals,
  taskQueues,
  workflowIds,
} from '../../workflows/contracts.ts';
import { refund } from '../../workflows/index.ts';
import { timeSkipping } from '../support/temporal.ts';
import { until } from '../support/until.ts';
import {
  ofEnvironment,
  quietRuntime,
  type Rig,
  sleepUntil,
  startRig,
  whileTimePasses,
} from './support/rig.ts';
import {
  seedPlan,
  seedSubscriber,
  seedSubscription,
  seedUsage,
  seedWorld,
  type World,
} from './support/world.ts';

const HOUR_MS = 3_600_000;
const DAY_MS = 24 * HOUR_MS;

describe('workflows/invoice lifecycle', function () {
  this.timeout(120_000);
  let environment: TestWorkflowEnvironment;
  let rig: Rig;
  let world: World;
  /** What lies between us and the provider at the moment. */
  let weather: 'clear' | 'answers_are_lost' | 'requests_are_lost' = 'clear';

  before(async () => {
    quietRuntime();
    environment = await timeSkipping();
    rig = await startRig(ofEnvironment(environment), {
      ports: {
        paymentTimeoutMs: 500,
        throughPayments: (provider) => ({
          ...provider,
          refund: async (request) => {
            if (weather === 'requests_are_lost') throw new ProviderFault('unavailable', 'lost');
            const outcome = await provider.refund(request);
            if (weather === 'answers_are_lost') throw new ProviderFault('unavailable', 'lost');
            return outcome;
          },
        }),
      },
    });
    world = await seedWorld(rig.db);
  });
  after(async () => {
    await rig.stop();
    await environment.teardown();
  });
  afterEach(async () => {
    weather = 'clear';
    await setGrace(0);
    const found = await findViolations(rig.db);
    // Usage is seeded as hours, without the events behind them; the outbox has no reader here.
    assert.deepEqual(
      found.filter(({ id }) => id !== 'I25' && id !== 'I27'),
      [],
    );
  });

  const setGrace = (ms: number): Promise<unknown> =>
    rig.db('operator_settings').where({ environment: 'test' }).update({ draft_grace_ms: ms });

  type Subscribed = {
    readonly subscriptionId: string;
    readonly subscriberId: string;
    readonly period: Period;
  };

  async function subscribed(method: string): Promise<Subscribed> {
    const { db } = rig;
    const planVersionId = await seedPlan(db, world, {
      feeMinor: '2900',
      unitPrice: '0.01',
      interval: { unit: 'month', count: 3 },
    });
    const subscriberId = await seedSubscriber(db, method);
    const startAt = new Date((await environment.currentTimeMs()) + 60_000);
    const subscriptionId = await seedSubscription(db, { subscriberId, planVersionId, startAt });
    await rig.activate(subscriptionId);
    const [period] = await listPeriods(db, subscriptionId, ['open']);
    return { subscriptionId, subscriberId, period: period ?? assert.fail() };
  }

  type InvoiceRow = Readonly<{
    id: string;
    state: string;
    number: string | null;
    total_minor: bigint;
    paid_by: string | null;
  }>;
  const invoiceOf = ({ period }: Subscribed, state: string): Promise<InvoiceRow> =>
    until(async () => {
      const [row] = await rig.db('invoices').where({ period_id: period.id, state });
      return row ?? null;
    });

  async function finalOf({ subscriptionId, period }: Subscribed): Promise<PeriodCloseResult> {
    const id = workflowIds.periodClose(subscriptionId, period.seq);
    const handle = rig.client.workflow.getHandle(id);
    const result: Promise<PeriodCloseResult> = handle.result();
    return whileTimePasses(environment, result);
  }

  const used = (of: Subscribed, quantity: bigint): Promise<void> =>
    seedUsage(rig.db, {
      ...of,
      meterId: world.meterId,
      at: new Date(of.period.startAt.getTime() + HOUR_MS),
      quantity,
    });

  describe('a draft', () => {
    it('waits for the time that the operator gives it, and bills what came in the while', async () => {
      await setGrace(3 * DAY_MS);
      const it = await subscribed('card_ok');
      await used(it, 100n);
      await sleepUntil(environment, it.period.endAt.getTime() + DAY_MS);
      const draft = await invoiceOf(it, 'draft');
      assert.deepEqual([draft.number, draft.total_minor], [null, 3000n]);
      await used(it, 200n);
      await sleepUntil(environment, it.period.endAt.getTime() + 2 * DAY_MS);
      assert.equal((await invoiceOf(it, 'draft')).id, draft.id);
      await sleepUntil(environment, it.period.endAt.getTime() + 4 * DAY_MS);
      const { invoiceId } = await finalOf(it);
      assert.equal(invoiceId, draft.id);
      const paid = await invoiceOf(it, 'paid');
      assert.deepEqual([paid.id, paid.total_minor], [draft.id, 3200n]);
    });

    it('is final as soon as somebody asks, who hears when it is', async () => {
      await setGrace(30 * DAY_MS);
      const it = await subscribed('card_ok');
      await sleepUntil(environment, it.period.endAt.getTime() + HOUR_MS);
      const draft = await invoiceOf(it, 'draft');
      const id = workflowIds.periodClose(it.subscriptionId, it.period.seq);
      const handle = rig.client.workflow.getHandle(id);
      const reply: Promise<FinalizeNowReply> = handle.executeUpdate(closeUpdates.finalizeNow);
      assert.deepEqual(await whileTimePasses(environment, reply), { invoiceId: draft.id });
      const paid = await invoiceOf(it, 'paid');
      assert.equal(paid.id, draft.id);
      const spentMs = (await environment.currentTimeMs()) - it.period.endAt.getTime();
      assert.ok(spentMs < 10 * DAY_MS, `${spentMs} ms`);
    });
  });

  describe('a collection', () => {
    async function unpaid(): Promise<Subscribed & { readonly invoice: InvoiceRow }> {
      const it = await subscribed('card_decline');
      await sleepUntil(environment, it.period.endAt.getTime() + 2 * DAY_MS);
      return { ...it, invoice: await invoiceOf(it, 'open') };
    }
    const handleOf = ({ id }: { readonly id: string }) =>
      rig.client.workflow.getHandle(workflowIds.collection(id));
    const attemptsOf = async ({ subscriberId }: Subscribed): Promise<number> =>
      (await rig.db('payments').where({ subscriber_id: subscriberId })).length;

    async function told(invoice: InvoiceRow): Promise<CollectionResult> {
      await handleOf(invoice).signal(collectionSignals.invoiceChanged);
      const result: Promise<CollectionResult> = handleOf(invoice).result();
      return whileTimePasses(environment, result);
    }
    const standing = (it: Subscribed, state: string): Promise<true> =>
      until(async () => {
        const [row] = await rig.db('subscriptions').where({ id: it.subscriptionId });
        return row.state === state ? true : null;
      });

    it('ends when its invoice is void, and the one issued for it is collected', async () => {
      const it = await unpaid();
      const { invoice } = it;
      const before = await attemptsOf(it);
      await inTransaction(rig.db, (tx) =>
        voidInvoice(tx, { invoiceId: invoice.id, reason: null, at: new Date() }),
      );
      assert.deepEqual(await told(invoice), { state: 'void' });
      assert.equal(await attemptsOf(it), before);
      await rig
        .db('subscribers')
        .where({ id: it.subscriberId })
        .update({ payment_method: 'card_ok' });
      const at = new Date(await environment.currentTimeMs());
      const again = await inTransaction(rig.db, (tx) => reissueInvoice(tx, invoice.id, at));
      assert.ok(again.kind === 'issued');
      const number = again.invoice.number ?? '';
      await rig.deps.startWorkflow({
        kind: 'collection',
        invoiceId: again.invoice.id,
        summary: { number },
      });
      const result: Promise<CollectionResult> = handleOf(again.invoice).result();
      assert.deepEqual(await whileTimePasses(environment, result), { state: 'paid' });
    });

    it('that nobody told finds its invoice void before it takes any money', async () => {
      const it = await unpaid();
      const before = await attemptsOf(it);
      await inTransaction(rig.db, (tx) =>
        voidInvoice(tx, { invoiceId: it.invoice.id, reason: null, at: new Date() }),
      );
      await sleepUntil(environment, it.period.endAt.getTime() + 6 * DAY_MS);
      const result: Promise<CollectionResult> = handleOf(it.invoice).result();
      assert.deepEqual(await whileTimePasses(environment, result), { state: 'void' });
      assert.equal(await attemptsOf(it), before);
    });

    it('ends when the invoice is paid elsewhere, also after its policy, and the subscription is active again', async () => {
      const it = await unpaid();
      await sleepUntil(environment, it.period.endAt.getTime() + 20 * DAY_MS);
      await standing(it, 'past_due');
      await inTransaction(rig.db, (tx) =>
        payOutOfBand(tx, { invoiceId: it.invoice.id, reference: null, at: new Date() }),
      );
      assert.deepEqual(await told(it.invoice), { state: 'paid' });
      await standing(it, 'active');
      assert.equal((await invoiceOf(it, 'paid')).paid_by, 'out_of_band');
    });

    it('ends when the invoice is given up, and the subscription stays past due until it is paid', async () => {
      const it = await unpaid();
      await inTransaction(rig.db, (tx) =>
        markUncollectible(tx, { invoiceId: it.invoice.id, at: new Date() }),
      );
      assert.deepEqual(await told(it.invoice), { state: 'uncollectible' });
      await standing(it, 'past_due');
      await inTransaction(rig.db, (tx) =>
        payOutOfBand(tx, { invoiceId: it.invoice.id, reference: null, at: new Date() }),
      );
      await rig.client.workflow
        .getHandle(workflowIds.subscription(it.subscriptionId))
        .signal(subscriptionSignals.standingChanged);
      await standing(it, 'active');
    });

    it('takes what a credit note has left due, and says what came of an attempt that was asked for', async () => {
      const it = await unpaid();
      const { invoice } = it;
      const declined: Promise<RetryReply> = handleOf(invoice).executeUpdate(
        collectionUpdates.retryNow,
      );
      assert.deepEqual(await whileTimePasses(environment, declined), {
        state: 'declined',
        declineCode: 'card_declined',
      });
      await inTransaction(rig.db, (tx) =>
        issueCreditNote(tx, {
          ...{ invoiceId: invoice.id, businessKey: 'half', reason: 'goodwill', to: 'balance' },
          ...{ request: { kind: 'lines', amounts: new Map([[0, 900n]]) } },
          ...{ actor: 'test', at: new Date() },
        }),
      );
      await rig
        .db('subscribers')
        .where({ id: it.subscriberId })
        .update({ payment_method: 'card_ok' });
      const paid: Promise<RetryReply> = handleOf(invoice).executeUpdate(collectionUpdates.retryNow);
      assert.deepEqual(await whileTimePasses(environment, paid), { state: 'paid' });
      const [payment] = await rig
        .db('payments')
        .where({ subscriber_id: it.subscriberId, state: 'succeeded' });
      assert.equal(payment.amount_minor, 2000n);
    });
  });

  describe('a refund', () => {
    type Refunded = {
      readonly result: RefundResult;
      readonly subscriberId: string;
      readonly refundId: string;
    };
    async function refunded(method: string, days = 0): Promise<Refunded> {
      const subscriberId = await seedSubscriber(rig.db, method);
      const invoiceId = await paidInvoice(subscriberId, method);
      const issued = await inTransaction(rig.db, (tx) =>
        issueCreditNote(tx, {
          ...{ invoiceId, businessKey: `refund:${invoiceId}`, reason: 'mistake' },
          ...{ request: { kind: 'full' }, to: 'refund', actor: 'test', at: new Date() },
        }),
      );
      assert.ok(issued.kind === 'issued' && issued.refundId !== null);
      const { refundId } = issued;
      const handle = await rig.client.workflow.start(refund, {
        workflowId: workflowIds.refund(refundId),
        taskQueue: taskQueues.workflows,
        args: [{ v: 1, refundId }],
      });
      for (let day = 0; day < days; day += 1) await environment.sleep(DAY_MS);
      const result = await whileTimePasses(environment, handle.result());
      return { result, subscriberId, refundId };
    }
    /** An invoice of 29.00 that the provider took the money of. */
    async function paidInvoice(subscriberId: string, method: string): Promise<string> {
      const owner = { environment: 'test', subscriberId, currency: 'USD' } as const;
      const subscriber = { id: subscriberId, name: 'Ada', lookup_id: null, email: null };
      const { invoice, payment } = await inTransaction(rig.db, async (tx) => {
        const issued = await issueInvoice(
          tx,
          {
            ...{ ...owner, subscriptionId: null, periodId: null, kind: 'change' },
            ...{ businessKey: `change:${subscriberId}`, subtotalMinor: 2900n, taxMinor: 0n },
            ...{ totalMinor: 2900n, periodStartAt: null, periodEndAt: null },
            document: {
              ...{ v: 1, plan: null, time_zone: 'UTC', period_text: null, taxes: [] },
              subscriber: { ...subscriber, address: null, tax_id: null },
            },
            lines: [
              {
                ...{ kind: 'adjustment', chargeId: null, meterId: null, planVersionId: null },
                ...{ description: 'A line', label: null, quantity: null, unitPrice: null },
                ...{ amountMinor: 2900n, details: { model: 'flat' } },
              },
            ],
          },
          new Date(),
        );
        const row = await ensurePayment(tx, {
          ...{ ...owner, kind: 'invoice', businessKey: paymentKeys.invoice(issued.id, 1) },
          ...{ amountMinor: 2900n, paymentMethod: method },
        });
        return { invoice: issued, payment: row };
      });
      const outcome = await rig.deps.payments.charge({
        ...{ idempotencyKey: payment.id, amountMinor: 2900n, currency: 'USD', method },
        description: 'A line',
      });
      assert.ok(outcome.kind === 'succeeded');
      await inTransaction(rig.db, (tx) =>
        recordOutcome(tx, { paymentId: payment.id, outcome, at: new Date() }),
      );
      return invoice.id;
    }

    const refundsAt = async (key: string): Promise<number> => {
      const response = await fetch(`${rig.sandbox.url}/_refunds`);
      const body: { data: { idempotency_key: string }[] } = JSON.parse(await response.text());
      return body.data.filter((made) => made.idempotency_key === key).length;
    };
    const balanceOf = ({ subscriberId }: Refunded): Promise<bigint> =>
      readAccountBalance(rig.db, { environment: 'test', subscriberId, currency: 'USD' });

    it('gives the money back', async () => {
      const done = await refunded('card_ok');
      assert.deepEqual(done.result, { state: 'succeeded' });
      assert.deepEqual([await refundsAt(done.refundId), await balanceOf(done)], [1, 0n]);
    });

    it('that the provider refuses becomes account balance', async () => {
      const done = await refunded('card_no_refund');
      assert.deepEqual(done.result, { state: 'failed', failureCode: 'refund_declined' });
      assert.equal(await balanceOf(done), 2900n);
    });

    it('whose every answer is lost is looked up, and made once', async () => {
      weather = 'answers_are_lost';
      const done = await refunded('card_ok');
      assert.deepEqual(done.result, { state: 'succeeded' });
      assert.deepEqual([await refundsAt(done.refundId), await balanceOf(done)], [1, 0n]);
    });

    it('that never arrives becomes account balance when its key is too old', async () => {
      weather = 'requests_are_lost';
      const done = await refunded('card_ok', 3);
      assert.deepEqual(done.result, { state: 'failed', failureCode: 'not_arrived' });
      assert.deepEqual([await refundsAt(done.refundId), await balanceOf(done)], [0, 2900n]);
    });
  });
});
