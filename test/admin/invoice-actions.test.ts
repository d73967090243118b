import assert from 'node:assert/strict';

import type { WorkflowEngine } from '../../admin/workflow-engine.ts';
import { inTransaction } from '../../store/db.ts';
import { newId } from '../../store/ids.ts';
import { findViolations } from '../../store/invariants.ts';
import { type Invoice, issueInvoice, type NewLine } from '../../store/invoices.ts';
import { ensurePayment, paymentKeys, recordOutcome } from '../../store/payments.ts';
import { invoicePeriod } from '../../store/period-invoice.ts';
import { beginClosing, listPeriods, openPeriods, type Period } from '../../store/periods.ts';
import { recordRefund } from '../../store/refunds.ts';
import { changeSubscription, lockSubscription } from '../../store/subscriptions.ts';
import {
  seedPlan,
  seedSubscriber,
  seedSubscription,
  seedWorld,
} from '../workflows/support/world.ts';
import { awayEngine, type Reply, startAdmin, type TestAdmin } from './support.ts';

const AT = new Date('2025-02-01T00:00:05Z');

describe('admin › what is done with invoices', () => {
  let admin: TestAdmin;
  let subscriberId: string;
  /** What the engine is asked, and what it answers; absent: it is away. */
  let engine: Partial<WorkflowEngine> = {};
  const asked: string[] = [];

  const through = (name: keyof WorkflowEngine) => (): unknown => {
    const own = engine[name];
    asked.push(name);
    return Reflect.apply(own ?? awayEngine[name], engine, []);
  };

  before(async () => {
    const names = ['finalizeNow', 'collect', 'retryNow', 'invoiceChanged', 'refund'] as const;
    const parts = Object.fromEntries(names.map((name) => [name, through(name)]));
    admin = await startAdmin({ engine: { ...awayEngine, ...parts } });
    subscriberId = await seedSubscriber(admin.db, 'card_ok');
  });
  after(async () => {
    await admin.stop();
  });
  beforeEach(() => {
    engine = { invoiceChanged: () => Promise.resolve() };
    asked.length = 0;
  });
  afterEach(async () => {
    assert.deepEqual(await findViolations(admin.db), []);
  });

  /** An open invoice of two lines, 100.00 and 20.50. */
  function issued(): Promise<Invoice> {
    const line: Omit<NewLine, 'description' | 'amountMinor'> = {
      ...{ kind: 'adjustment', chargeId: null, meterId: null, planVersionId: null },
      ...{ label: null, quantity: null, unitPrice: null, details: { model: 'flat' } },
    };
    return inTransaction(admin.db, (tx) =>
      issueInvoice(
        tx,
        {
          ...{ environment: 'test', subscriberId, subscriptionId: null, periodId: null },
          ...{ kind: 'change', businessKey: `change:${newId('pch')}`, currency: 'USD' },
          ...{ subtotalMinor: 12_050n, taxMinor: 0n, totalMinor: 12_050n },
          ...{ periodStartAt: null, periodEndAt: null },
          document: {
            ...{ v: 1, plan: null, time_zone: 'UTC', period_text: null },
            taxes: [{ label: 'Tax (0%)', percent: '0', base: '120.50', amount: '0.00' }],
            subscriber: {
              ...{ id: subscriberId, name: 'Ada', lookup_id: null },
              ...{ email: null, address: null, tax_id: null },
            },
          },
          lines: [
            { ...line, description: 'Base', amountMinor: 10_000n },
            { ...line, description: 'Extra', amountMinor: 2050n },
          ],
        },
        AT,
      ),
    );
  }

  async function attempt(invoice: Invoice): Promise<string> {
    const payment = await inTransaction(admin.db, (tx) =>
      ensurePayment(tx, {
        ...{ environment: 'test', subscriberId, kind: 'invoice', currency: 'USD' },
        ...{ businessKey: paymentKeys.invoice(invoice.id, 1), paymentMethod: 'card_ok' },
        amountMinor: invoice.amountDueMinor,
      }),
    );
    return payment.id;
  }
  async function pay(invoice: Invoice): Promise<void> {
    const paymentId = await attempt(invoice);
    const outcome = { kind: 'succeeded', providerRef: newId('pay') } as const;
    await inTransaction(admin.db, (tx) => recordOutcome(tx, { paymentId, outcome, at: AT }));
  }

  const act = (
    invoice: { readonly id: string },
    what: string,
    body?: unknown,
    headers: Readonly<Record<string, string>> = {},
  ): Promise<Reply> =>
    admin.call('POST', `/api/v1/invoices/${invoice.id}/${what}`, { body: body ?? {}, headers });
  const audits = async (invoice: { readonly id: string }): Promise<readonly string[]> =>
    (await admin.db('audit_log').where({ object_id: invoice.id }).orderBy('id')).map(
      (row) => row.action,
    );
  const lineIds = async (invoice: Invoice): Promise<readonly string[]> =>
    (await admin.db('invoice_lines').where({ invoice_id: invoice.id }).orderBy('position')).map(
      ({ id }) => id,
    );

  it('voids with a reason, once, and says it to the collection', async () => {
    const invoice = await issued();
    const key = { 'idempotency-key': `void-${invoice.id}` };
    const first = await act(invoice, 'void', { reason: 'Wrong company' }, key);
    assert.equal(first.status, 200);
    assert.deepEqual(
      [first.body['state'], first.body['void_reason'], first.body['still_due']],
      ['void', 'Wrong company', '0.00'],
    );
    assert.deepEqual(asked, ['invoiceChanged']);
    assert.equal((await act(invoice, 'void', { reason: 'Wrong company' }, key)).text, first.text);
    assert.equal((await act(invoice, 'void')).status, 200);
    assert.deepEqual(await audits(invoice), ['invoice.void']);
  });

  it('does what needs no workflow while the engine is away', async () => {
    engine = {};
    const paid = await act(await issued(), 'mark_paid', { reference: 'Transfer 17' });
    assert.equal(paid.status, 200);
    assert.deepEqual(
      ['state', 'paid_by', 'paid_reference'].map((name) => paid.body[name]),
      ['paid', 'out_of_band', 'Transfer 17'],
    );
    assert.ok(admin.logged.some(({ message }) => String(message).includes('was not told')));
    const invoice = await issued();
    assert.equal((await act(invoice, 'pay')).status, 503);
    const credited = await act(invoice, 'credit_notes', { full: true, reason: 'mistake' });
    assert.equal(credited.status, 201);
  });

  it('gives up, and still takes what comes elsewhere', async () => {
    const invoice = await issued();
    const lost = await act(invoice, 'mark_uncollectible');
    assert.deepEqual([lost.body['state'], lost.body['still_due']], ['uncollectible', '120.50']);
    const collected = await act(invoice, 'pay');
    assert.equal(collected.status, 409);
    assert.match(collected.text, /say that it was paid elsewhere/);
    assert.equal((await act(invoice, 'mark_paid')).body['state'], 'paid');
    const again = await act(invoice, 'void');
    assert.equal(again.body['code'], 'invoice_state');
    assert.match(again.text, /is paid.*credit note/);
    assert.deepEqual(await audits(invoice), ['invoice.mark_uncollectible', 'invoice.mark_paid']);
  });

  it('refuses everything while a payment is under way, and says that it may be tried again', async () => {
    const invoice = await issued();
    await attempt(invoice);
    const replies = [
      await act(invoice, 'void'),
      await act(invoice, 'mark_paid'),
      await act(invoice, 'mark_uncollectible'),
      await act(invoice, 'credit_notes', { full: true, reason: 'other' }),
    ];
    for (const reply of replies) {
      assert.equal(reply.status, 409);
      assert.deepEqual(
        [reply.body['code'], reply.body['retryable']],
        ['payment_in_progress', true],
      );
      assert.equal(reply.headers.get('retry-after'), '5');
    }
    await admin.db('payments').where({ state: 'pending' }).update({ state: 'canceled' });
  });

  it('collects now, and says why no money came', async () => {
    const invoice = await issued();
    const reply = (value: Awaited<ReturnType<WorkflowEngine['retryNow']>>) => {
      engine = { retryNow: () => Promise.resolve(value) };
      return act(invoice, 'pay');
    };
    const declined = await reply({
      kind: 'done',
      value: { state: 'declined', declineCode: 'card_declined' },
    });
    assert.deepEqual([declined.status, declined.body['code']], [402, 'payment_declined']);
    assert.match(declined.text, /card_declined/);
    const without = await reply({ kind: 'done', value: { state: 'no_method' } });
    assert.equal(without.body['code'], 'payment_method_needed');
    assert.equal((await reply({ kind: 'slow' })).status, 202);
    await pay(invoice);
    assert.equal((await reply({ kind: 'slow' })).body['still_due'], '0.00');
  });

  describe('credit notes', () => {
    it('of nothing are refused, which says nothing of what is left', async () => {
      const invoice = await issued();
      const [base] = await lineIds(invoice);
      const empty = await act(invoice, 'credit_notes', {
        lines: [{ line_id: base, amount: '0' }],
        reason: 'goodwill',
      });
      assert.deepEqual([empty.status, empty.body['code']], [422, 'credit_too_large']);
      assert.match(
        String(empty.body['detail']),
        /^This comes to nothing: .* \(\{"full": true\}\)\.$/,
      );
      await act(invoice, 'credit_notes', { full: true, reason: 'goodwill' });
      const again = await act(invoice, 'credit_notes', { full: true, reason: 'goodwill' });
      assert.match(String(again.body['detail']), /has nothing left to credit\.$/);
    });

    it('credit amounts of lines, first off what is due, and are found by number', async () => {
      const invoice = await issued();
      const [base, extra] = await lineIds(invoice);
      const made = await act(invoice, 'credit_notes', {
        lines: [
          { line_id: extra, amount: '20.50' },
          { line_id: base, amount: 4.5 },
        ],
        reason: 'service_issue',
        memo: 'Down for an hour',
      });
      assert.equal(made.status, 201, made.text);
      assert.deepEqual(
        ['total', 'due_reduced', 'to_balance', 'refund'].map((name) => made.body[name]),
        ['25.00', '25.00', '0.00', null],
      );
      const number = String(made.body['number']);
      assert.match(number, /^CN-\d{4}-\d{4}$/);
      const shown = await admin.call('GET', `/api/v1/credit_notes/${number}`);
      assert.deepEqual(shown.body, made.body);
      const after = await admin.call('GET', `/api/v1/invoices/${invoice.id}`);
      assert.deepEqual([after.body['still_due'], after.body['credited']], ['95.50', '25.00']);
      for (const path of [
        `/api/v1/invoices/${invoice.id}/credit_notes`,
        `/api/v1/credit_notes?invoice_id=${invoice.id}`,
      ]) {
        const { data } = (await admin.call('GET', path)).body;
        assert.deepEqual(data, [made.body]);
      }
      const voided = await act(invoice, 'void');
      assert.equal(voided.body['code'], 'invoice_has_credits');
    });

    it('are made once for an Idempotency-Key, also without the answer', async () => {
      const invoice = await issued();
      const body = { full: true, reason: 'duplicate' };
      const key = { 'idempotency-key': `credit-${invoice.id}` };
      const replies = await Promise.all([1, 2].map(() => act(invoice, 'credit_notes', body, key)));
      assert.ok(replies.some(({ status }) => status === 201));
      // As if the process had died before it kept its answer.
      await admin
        .db('idempotency_keys')
        .where({ key: key['idempotency-key'] })
        .update({ status: null, response: '{"object_id": "x"}', created_at: AT });
      const again = await act(invoice, 'credit_notes', body, key);
      assert.equal(again.status, 201);
      assert.equal((await admin.db('credit_notes').where({ invoice_id: invoice.id })).length, 1);
    });

    it('refund what was paid; what is not refunded is account balance', async () => {
      const invoice = await issued();
      await pay(invoice);
      const outcomes = [
        { kind: 'succeeded', providerRef: newId('ref') },
        { kind: 'failed', code: 'refund_declined' },
      ] as const;
      const states: unknown[] = [];
      const [base] = await lineIds(invoice);
      for (const outcome of outcomes) {
        engine = {
          refund: async () => {
            const [row] = await admin.db('refunds').where({ state: 'pending' });
            await inTransaction(admin.db, (tx) =>
              recordRefund(tx, { refundId: row.id, outcome, at: AT }),
            );
            return { kind: 'done', value: { state: outcome.kind } };
          },
        };
        const { body } = await act(invoice, 'credit_notes', {
          lines: [{ line_id: base, amount: '10' }],
          reason: 'goodwill',
          refund_to: 'payment_method',
        });
        states.push([body['refunded'], body['to_balance'], body['refund']]);
      }
      assert.deepEqual(states, [
        [
          '10.00',
          '0.00',
          {
            state: 'succeeded',
            failure_code: null,
            text: '$10.00 went back to the payment method.',
          },
        ],
        [
          '0.00',
          '10.00',
          {
            state: 'failed',
            failure_code: 'refund_declined',
            text: 'The payment provider did not give $10.00 back (refund_declined); it is account balance of the subscriber.',
          },
        ],
      ]);
      engine = {};
      const pending = await act(invoice, 'credit_notes', {
        lines: [{ line_id: base, amount: '10' }],
        reason: 'goodwill',
        refund_to: 'payment_method',
      });
      assert.equal(pending.status, 202);
    });

    it('say which amount is wrong, and how much is left', async () => {
      const invoice = await issued();
      const [base] = await lineIds(invoice);
      const ofLines = (...lines: readonly unknown[]): Promise<Reply> =>
        act(invoice, 'credit_notes', { lines, reason: 'other' });
      const above = await ofLines({ line_id: base, amount: '100.01' });
      assert.deepEqual(
        [above.status, above.body['code'], above.body['left']],
        [422, 'credit_too_large', '100.00'],
      );
      assert.match((await ofLines({ line_id: base, amount: '1.001' })).text, /at most 2 places/);
      const strange = await ofLines({ line_id: 'line_x', amount: '1' });
      assert.match(strange.text, /is no line of this invoice/);
      const twice = { line_id: base, amount: '1' };
      assert.match((await ofLines(twice, twice)).text, /is named twice/);
      assert.match((await ofLines()).text, /must name a line/);
      const neither = await act(invoice, 'credit_notes', { reason: 'other' });
      assert.match(neither.text, /one of the three/);
      await act(invoice, 'mark_paid');
      const none = await act(invoice, 'credit_notes', {
        ...{ full: true, reason: 'other', refund_to: 'payment_method' },
      });
      assert.equal(none.body['code'], 'nothing_to_refund');
    });
  });

  describe('drafts', () => {
    async function drafted(): Promise<{ readonly id: string; readonly period: Period }> {
      const { db } = admin;
      const planVersionId = await seedPlan(db, await seedWorld(db), { feeMinor: '2900' });
      const startAt = new Date('2025-01-01T00:00:00Z');
      const of = { subscriberId: await seedSubscriber(db, null), planVersionId, startAt };
      const subscriptionId = await seedSubscription(db, of);
      await db('operator_settings').update({ draft_grace_ms: 3_600_000 });
      const period = await inTransaction(db, async (tx) => {
        const now = new Date('2024-12-31T00:00:00Z');
        const pending = await lockSubscription(tx, subscriptionId);
        await openPeriods(
          tx,
          await changeSubscription(tx, pending, { kind: 'started', at: now }),
          now,
        );
        const [first] = await listPeriods(tx, subscriptionId);
        assert.ok(first);
        await beginClosing(tx, first);
        return first;
      });
      const result = await inTransaction(db, (tx) => invoicePeriod(tx, period.id, period.endAt));
      assert.ok(result.kind === 'draft');
      await db('operator_settings').update({ draft_grace_ms: 0 });
      return { id: result.invoice.id, period };
    }

    it('are shown, written anew, and final when the close says so; void ones are issued again', async () => {
      const { id, period } = await drafted();
      const fresh = await act({ id }, 'refresh');
      assert.deepEqual(
        ['state', 'number', 'total', 'finalize_at'].map((name) => fresh.body[name]),
        ['draft', null, '29.00', '2025-02-01T01:00:00.000Z'],
      );
      for (const what of ['void', 'mark_paid', 'mark_uncollectible', 'pay']) {
        assert.equal((await act({ id }, what)).body['code'], 'invoice_state', what);
      }
      engine = { finalizeNow: () => Promise.resolve({ kind: 'slow' }) };
      assert.equal((await act({ id }, 'finalize')).status, 202);
      engine = {
        finalizeNow: async () => {
          await inTransaction(admin.db, (tx) => invoicePeriod(tx, period.id, period.endAt, true));
          return { kind: 'done', value: { invoiceId: id } };
        },
      };
      const final = await act({ id }, 'finalize');
      assert.deepEqual([final.status, final.body['state']], [200, 'open']);
      assert.equal((await act({ id }, 'refresh')).body['code'], 'invoice_state');
      engine = { collect: () => Promise.resolve({ kind: 'done', value: null }) };
      assert.match((await act({ id }, 'reissue')).text, /Void it first/);
      await act({ id }, 'void');
      asked.length = 0;
      const again = await act({ id }, 'reissue');
      assert.deepEqual([again.status, again.body['reissue_of']], [201, id]);
      assert.deepEqual(asked, ['collect']);
      assert.equal((await act({ id }, 'reissue')).body['id'], again.body['id']);
      const old = await admin.call('GET', `/api/v1/invoices/${id}`);
      assert.equal(old.body['reissued_as'], again.body['id']);
    });

    it('an invoice of no period is not issued again', async () => {
      const invoice = await issued();
      await act(invoice, 'void');
      assert.match((await act(invoice, 'reissue')).text, /no invoice of a period/);
    });
  });

  it('is not for readers, nor for another environment', async () => {
    const invoice = await issued();
    for (const what of ['void', 'mark_paid', 'mark_uncollectible', 'pay', 'reissue', 'refresh']) {
      const path = `/api/v1/invoices/${invoice.id}/${what}`;
      const reader = await admin.call('POST', path, { token: admin.tokens.reader, body: {} });
      assert.equal(reader.status, 403, what);
      const live = await admin.call('POST', path, { token: admin.liveToken, body: {} });
      assert.equal(live.status, 404, what);
    }
  });
});
