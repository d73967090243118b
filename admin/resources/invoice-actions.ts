/** What an operator does with an invoice: refresh, finalize, collect, void, issue again, mark paid, give up. */
import type { z } from 'zod';

import {
  type InvoiceAction,
  markUncollectible,
  payOutOfBand,
  voidInvoice,
} from '../../store/invoice-actions.ts';
import { findInvoiceRead, type InvoiceRead, listInvoiceLines } from '../../store/invoice-reads.ts';
import type { Db, Tx } from '../../store/db.ts';
import { refreshDraft, type Reissue, reissueInvoice } from '../../store/period-invoice.ts';
import { readPeriod } from '../../store/periods.ts';
import { summaries } from '../../workflows/contracts.ts';
import type { Call } from '../call.ts';
import { object, text } from '../fields.ts';
import { ApiProblem, notFound } from '../problems.ts';
import { type Answer, operators, route, type Route } from '../route.ts';
import { Invoice, invoiceExample, invoiceToWire } from './invoice-shapes.ts';
import { answers } from './shared.ts';

/** The invoice that a path names by its id or number. */
export async function requireInvoice(call: Call): Promise<InvoiceRead> {
  const ref = call.param('invoice_id');
  const invoice = await findInvoiceRead(call.db, call.environment, ref);
  if (invoice === null) throw notFound('invoice', ref);
  return invoice;
}

export async function invoiceWireOf(
  db: Db | Tx,
  invoice: { readonly id: string; readonly environment: InvoiceRead['environment'] },
) {
  const read = await findInvoiceRead(db, invoice.environment, invoice.id);
  if (read === null) throw notFound('invoice', invoice.id);
  return invoiceToWire(read, await listInvoiceLines(db, [invoice.id]));
}

function nameOf(invoice: { readonly number: string | null; readonly id: string }): string {
  return invoice.number ?? invoice.id;
}

const states = {
  draft: 'a draft',
  open: 'open',
  paid: 'paid',
  void: 'void',
  uncollectible: 'uncollectible',
} as const;

function wrongState(
  invoice: Pick<InvoiceRead, 'id' | 'number' | 'state'>,
  mend: string,
): ApiProblem {
  return new ApiProblem(
    'invoice_state',
    `Invoice ${nameOf(invoice)} is ${states[invoice.state]}. ${mend}`,
  );
}

/** What can be done instead, where an invoice is not owed. */
function mendOf(state: InvoiceRead['state']): string {
  switch (state) {
    case 'draft':
      return 'It owes nothing yet: finalize it first, or refresh it when something in it is wrong.';
    case 'paid':
      return 'What was paid is given back with a credit note.';
    case 'void':
      return 'Nothing is owed on it; the invoice of a period can be issued again.';
    case 'open':
    case 'uncollectible':
      return 'Read it again.';
    default:
      return state satisfies never;
  }
}

export function paymentInProgress(invoice: Pick<InvoiceRead, 'id' | 'number'>): ApiProblem {
  return new ApiProblem(
    'payment_in_progress',
    `An attempt to take the money of ${nameOf(invoice)} is under way; what becomes of it decides. Try again when it has ended.`,
  );
}

function refusalOf(invoice: InvoiceRead, refused: Extract<InvoiceAction, { kind: 'refused' }>) {
  switch (refused.code) {
    case 'wrong_state':
      return wrongState(
        { ...invoice, state: refused.invoice.state },
        mendOf(refused.invoice.state),
      );
    case 'payment_in_progress':
      return paymentInProgress(invoice);
    case 'has_credit_notes':
    case 'has_payments':
      return new ApiProblem(
        'invoice_has_credits',
        `A part of ${nameOf(invoice)} was ${refused.code === 'has_payments' ? 'paid' : 'credited'}, so it cannot be voided. Credit the rest: POST /api/v1/invoices/${invoice.id}/credit_notes {"full": true}.`,
      );
    case 'gives_back':
      return new ApiProblem(
        'invoice_state',
        `${nameOf(invoice)} gives back fees that a change of plan ended, so it cannot be voided. Credit it: POST /api/v1/invoices/${invoice.id}/credit_notes {"full": true}.`,
      );
    default:
      return refused.code satisfies never;
  }
}

/** One change of an invoice's state, audited where it changed something; then its collection is told. */
async function act(
  call: Call,
  what: {
    readonly action: string;
    readonly details: Readonly<Record<string, unknown>>;
    readonly run: (tx: Tx, invoiceId: string, at: Date) => Promise<InvoiceAction>;
  },
): Promise<Answer> {
  const invoice = await requireInvoice(call);
  const answer = await call.write(async (tx, now) => {
    const done = await what.run(tx, invoice.id, now);
    if (done.kind === 'refused') throw refusalOf(invoice, done);
    const { action, details } = what;
    return {
      answer: { status: 200, body: await invoiceWireOf(tx, invoice) },
      audit: done.changed ? { action, objectId: invoice.id, details } : null,
    };
  });
  await tellCollection(call, invoice);
  return answer;
}

/** What is done is done: a collection that is not told looks by itself before it takes any money. */
export async function tellCollection(call: Call, invoice: InvoiceRead): Promise<void> {
  try {
    await call.deps.engine.invoiceChanged(invoice, call.deps.waits.workflowMs);
  } catch (error) {
    call.deps.log.warn(
      { invoice_id: invoice.id, error: error instanceof Error ? error.message : String(error) },
      'the collection of an invoice was not told that it changed',
    );
  }
}

const ACTION_TAG = 'Invoices';
const drafted = {
  ...invoiceExample,
  state: 'draft',
  number: null,
  finalized_at: null,
  paid_at: null,
  paid_by: null,
  finalize_at: '2025-02-01T01:00:00.000Z',
  payment_status: 'none',
  still_due: '82.45',
} as const;

const refresh = route({
  operationId: 'refreshInvoice',
  method: 'post',
  path: '/invoices/{invoice_id}/refresh',
  tag: ACTION_TAG,
  summary: 'Write a draft anew',
  description:
    'With all usage that has come in since. When it becomes final it is written anew by itself.',
  roles: operators,
  answers: answers(200, {
    description: 'The draft as it is now.',
    schema: Invoice,
    example: drafted,
  }),
  problems: ['invoice_state'],
  handle: async (call) => {
    const invoice = await requireInvoice(call);
    return call.write(async (tx, now) => {
      const fresh = await refreshDraft(tx, invoice.id, now);
      if (fresh === null) {
        throw wrongState(
          invoice,
          'Only the draft of a period is written anew; what is final is corrected by credit notes.',
        );
      }
      return {
        answer: { status: 200, body: await invoiceWireOf(tx, invoice) },
        audit: { action: 'invoice.refresh', objectId: invoice.id },
      };
    });
  },
});

const finalize = route({
  operationId: 'finalizeInvoice',
  method: 'post',
  path: '/invoices/{invoice_id}/finalize',
  tag: ACTION_TAG,
  summary: 'Make a draft final now',
  description:
    'Asks the close of its period to wait no longer: it rates the period once more, gives the number and begins to collect.',
  roles: operators,
  answers: answers(
    200,
    { description: 'Final.', schema: Invoice, example: invoiceExample },
    { 202: { description: 'Its close goes on with it.', schema: Invoice, example: drafted } },
  ),
  problems: ['invoice_state', 'workflow_engine_unavailable', 'conflict'],
  handle: async (call) => {
    const invoice = await requireInvoice(call);
    if (invoice.state !== 'draft' && invoice.period_id !== null) {
      return { status: 200, body: await invoiceWireOf(call.db, invoice) };
    }
    if (invoice.state !== 'draft' || invoice.period_id === null) {
      throw wrongState(invoice, 'Only a draft is finalized.');
    }
    const { subscriptionId, seq } = await readPeriod(call.db, invoice.period_id);
    await call.audit(call.db, { action: 'invoice.finalize', objectId: invoice.id });
    const reply = await call.deps.engine.finalizeNow(
      { subscriptionId, periodSeq: seq },
      { updateId: call.idempotency?.key ?? call.requestId, waitMs: call.deps.waits.closeMs },
    );
    const body = await invoiceWireOf(call.db, invoice);
    if (reply.kind === 'refused' && body.state === 'draft') {
      throw new ApiProblem(
        'conflict',
        `The close of its period does not run: ${reply.message} It is started again within minutes; try again then.`,
      );
    }
    return { status: body.state === 'draft' ? 202 : 200, body };
  },
});

const voidRoute = route({
  operationId: 'voidInvoice',
  method: 'post',
  path: '/invoices/{invoice_id}/void',
  tag: ACTION_TAG,
  summary: 'Void an invoice',
  description: `Withdraws an invoice that is owed: nothing of it counts any more, the account balance that it took returns, its coupons are
unused. Its number stays taken. The invoice of a period can be issued again; fees of other invoices are billed by the next one. The invoice of a
change of plan that gives fees back is not voided, but credited.`,
  roles: operators,
  body: object({ reason: text(500, 'Why; it is kept with the invoice.').optional() }),
  bodyOptional: true,
  bodyExample: { reason: 'Sent to the wrong company' },
  answers: answers(200, {
    description: 'Void.',
    schema: Invoice,
    example: { ...invoiceExample, state: 'void' },
  }),
  problems: ['invoice_state', 'invoice_has_credits', 'payment_in_progress'],
  handle: (call, { body }) =>
    act(call, {
      action: 'invoice.void',
      details: { reason: body.reason ?? null },
      run: (tx, invoiceId, at) => voidInvoice(tx, { invoiceId, reason: body.reason ?? null, at }),
    }),
});

const reissue = route({
  operationId: 'reissueInvoice',
  method: 'post',
  path: '/invoices/{invoice_id}/reissue',
  tag: ACTION_TAG,
  summary: 'Issue a void invoice again',
  description:
    'Of a period, or of late usage: rated anew from the same usage, under the next number. A second call answers the invoice that the first one made.',
  roles: operators,
  answers: answers(201, {
    description: 'The new invoice.',
    schema: Invoice,
    example: invoiceExample,
  }),
  problems: ['invoice_state'],
  handle: async (call) => {
    const invoice = await requireInvoice(call);
    const answer = await call.write(async (tx, now) => {
      const reissued = await reissueInvoice(tx, invoice.id, now);
      if (reissued.kind === 'refused') {
        throw notReissued(invoice, reissued.code);
      }
      return {
        answer: {
          status: 201,
          body: await invoiceWireOf(tx, { ...invoice, id: reissued.invoice.id }),
        },
        audit:
          reissued.kind === 'known'
            ? null
            : {
                action: 'invoice.reissue',
                objectId: reissued.invoice.id,
                details: { reissue_of: invoice.id, number: reissued.invoice.number },
              },
      };
    });
    const issued = 'body' in answer ? Invoice.safeParse(answer.body).data : undefined;
    if (issued !== undefined) await collect(call, issued);
    return answer;
  },
});

function notReissued(
  invoice: InvoiceRead,
  code: Extract<Reissue, { kind: 'refused' }>['code'],
): ApiProblem {
  switch (code) {
    case 'not_void':
      return wrongState(invoice, 'Void it first: only a void invoice is issued again.');
    case 'not_of_a_period':
      return new ApiProblem(
        'invoice_state',
        `${nameOf(invoice)} is no invoice of a period. What it billed is billed by the next invoice of the subscription.`,
      );
    case 'nothing_left':
      return new ApiProblem(
        'invoice_state',
        `The events that ${nameOf(invoice)} billed were corrected since: nothing is left to bill, and nothing needs to be done.`,
      );
    default:
      return code satisfies never;
  }
}

/** Begins to collect an invoice that was issued just now. The reconciler starts what is not started here. */
export async function collect(
  call: Call,
  issued: Pick<z.output<typeof Invoice>, 'id' | 'number' | 'state'>,
): Promise<void> {
  if (issued.state !== 'open') return;
  const summary = summaries.collection({ number: issued.number ?? '' });
  const wait = { waitMs: call.deps.waits.workflowMs, summary };
  await call.deps.engine.collect(issued.id, wait).catch((error: unknown) => {
    call.deps.log.warn(
      { invoice_id: issued.id, error: error instanceof Error ? error.message : String(error) },
      'the collection of an invoice was not started; the reconciler will',
    );
  });
}

const markPaid = route({
  operationId: 'markInvoicePaid',
  method: 'post',
  path: '/invoices/{invoice_id}/mark_paid',
  tag: ACTION_TAG,
  summary: 'Say that an invoice was paid elsewhere',
  description:
    'All that is still due came by a bank transfer, in cash, …: nothing is taken from the payment method. Also one that was given up.',
  roles: operators,
  body: object({ reference: text(200, 'What the payment is known by.').optional() }),
  bodyOptional: true,
  bodyExample: { reference: 'Transfer 2025-02-03, ACME' },
  answers: answers(200, {
    description: 'Paid.',
    schema: Invoice,
    example: {
      ...invoiceExample,
      paid_by: 'out_of_band',
      paid_reference: 'Transfer 2025-02-03, ACME',
    },
  }),
  problems: ['invoice_state', 'payment_in_progress'],
  handle: (call, { body }) =>
    act(call, {
      action: 'invoice.mark_paid',
      details: { reference: body.reference ?? null },
      run: (tx, invoiceId, at) =>
        payOutOfBand(tx, { invoiceId, reference: body.reference ?? null, at }),
    }),
});

const giveUp = route({
  operationId: 'markInvoiceUncollectible',
  method: 'post',
  path: '/invoices/{invoice_id}/mark_uncollectible',
  tag: ACTION_TAG,
  summary: 'Give up on the money of an invoice',
  description:
    'What is still due becomes a loss, and nobody tries to take it any more. The subscription stays past due until it is marked paid, credited or voided.',
  roles: operators,
  answers: answers(200, {
    description: 'Given up.',
    schema: Invoice,
    example: {
      ...invoiceExample,
      state: 'uncollectible',
      payment_status: 'failed',
      paid_at: null,
      paid_by: null,
      still_due: '82.45',
      given_up_at: '2025-03-01T00:00:00.000Z',
    },
  }),
  problems: ['invoice_state', 'payment_in_progress'],
  handle: (call) =>
    act(call, {
      action: 'invoice.mark_uncollectible',
      details: {},
      run: (tx, invoiceId, at) => markUncollectible(tx, { invoiceId, at }),
    }),
});

const payNow = route({
  operationId: 'payInvoice',
  method: 'post',
  path: '/invoices/{invoice_id}/pay',
  tag: ACTION_TAG,
  summary: 'Collect an invoice now',
  description:
    "Takes what is still due from the subscriber's payment method at once, whatever day the next attempt was planned for.",
  roles: operators,
  answers: answers(
    200,
    { description: 'Paid.', schema: Invoice, example: invoiceExample },
    {
      202: {
        description: 'The attempt is under way.',
        schema: Invoice,
        example: {
          ...invoiceExample,
          state: 'open',
          payment_status: 'pending',
          paid_at: null,
          paid_by: null,
          still_due: '82.45',
        },
      },
    },
  ),
  problems: [
    'invoice_state',
    'payment_declined',
    'payment_method_needed',
    'workflow_engine_unavailable',
  ],
  handle: async (call) => {
    const invoice = await requireInvoice(call);
    if (invoice.state === 'paid')
      return { status: 200, body: await invoiceWireOf(call.db, invoice) };
    if (invoice.state === 'uncollectible') {
      throw wrongState(
        invoice,
        'It was given up: say that it was paid elsewhere, or credit or void it.',
      );
    }
    if (invoice.state !== 'open') throw wrongState(invoice, mendOf(invoice.state));
    await call.audit(call.db, { action: 'invoice.pay', objectId: invoice.id });
    const reply = await call.deps.engine.retryNow(invoice.id, {
      updateId: call.idempotency?.key ?? call.requestId,
      waitMs: call.deps.waits.workflowMs,
      summary: summaries.collection({ number: nameOf(invoice) }),
    });
    const body = await invoiceWireOf(call.db, invoice);
    if (reply.kind === 'done' && body.state === 'open') {
      if (reply.value.state === 'no_method') {
        throw new ApiProblem(
          'payment_method_needed',
          `The subscriber has no payment method. Set one with PATCH /api/v1/subscribers/${invoice.subscriber_id}.`,
        );
      }
      throw new ApiProblem(
        'payment_declined',
        `The payment of ${nameOf(invoice)} was declined: ${reply.value.declineCode ?? reply.value.state}.`,
      );
    }
    return { status: body.state === 'open' ? 202 : 200, body };
  },
});

export const invoiceActionRoutes: readonly Route[] = [
  refresh,
  finalize,
  payNow,
  markPaid,
  giveUp,
  voidRoute,
  reissue,
];
