/** Credit notes: what is given back of a final invoice. */
import { z } from 'zod';

import type { CreditRequest } from '../../billing/credit-note.ts';
import { formatCredits } from '../../billing/credits.ts';
import {
  type Currency,
  formatAmount,
  formatMoney,
  parseAmount,
  placesOf,
} from '../../billing/money.ts';
import {
  type CreditNoteLineRead,
  type CreditNoteRead,
  findCreditNoteRead,
  listCreditNoteLines,
  listCreditNotes,
  listCreditNotesOf,
} from '../../store/credit-note-reads.ts';
import { type CreditNoteIssue, issueCreditNote } from '../../store/credit-notes.ts';
import {
  type InvoiceLineRead,
  type InvoiceRead,
  listInvoiceLines,
} from '../../store/invoice-reads.ts';
import { summaries } from '../../workflows/contracts.ts';
import type { Call } from '../call.ts';
import { decimal, flag, lines, listOf, object, oneOf, pageQuery, reference } from '../fields.ts';
import { ApiProblem, fieldProblem, notFound } from '../problems.ts';
import { type Answer, operators, readers, route, type Route } from '../route.ts';
import { paymentInProgress, requireInvoice, tellCollection } from './invoice-actions.ts';
import { storedCurrency } from './invoice-shapes.ts';
import {
  amountText,
  answers,
  instantText,
  listBody,
  listExample,
  listOfAnswers,
  pageArgs,
  wireInstant,
} from './shared.ts';
import { subscriberIdOf } from './subscribers.ts';
import { TakeBack, takeBackExample, takeCreditsBack } from './take-backs.ts';

const reasons = [
  'duplicate',
  'mistake',
  'service_issue',
  'goodwill',
  'cancellation',
  'other',
] as const;

const CreditNote = z
  .strictObject({
    id: z.string(),
    object: z.literal('credit_note'),
    environment: z.enum(['test', 'live']),
    number: z.string(),
    invoice_id: z.string(),
    invoice_number: z.string(),
    subscriber_id: z.string(),
    reason: z.enum(reasons),
    memo: z.string().nullable(),
    currency: z.string(),
    lines: z.array(
      z.strictObject({
        line_id: z.string().meta({ description: 'Of the invoice.' }),
        description: z.string(),
        amount: amountText('Credited of the line, before its discounts.'),
        discount: amountText('The part of its discounts that goes with it.'),
      }),
    ),
    subtotal: amountText('Sum of the lines.'),
    discount: amountText('Sum of their discounts.'),
    taxes: z.array(
      z.strictObject({
        label: z.string(),
        percent: z.string(),
        base: z.string(),
        amount: z.string(),
      }),
    ),
    tax: amountText('Sum of the taxes.'),
    total: amountText('What is given back.'),
    due_reduced: amountText('Of the total, what was taken off what was still due.'),
    to_balance: amountText(
      'Of the total, what went to the account balance; also what could not be refunded.',
    ),
    refunded: amountText('Of the total, what goes or went back through the payment.'),
    refund: z
      .strictObject({
        state: z.enum(['pending', 'succeeded', 'failed']),
        failure_code: z.string().nullable(),
        text: z.string(),
      })
      .nullable(),
    credits_taken_back: z
      .strictObject({ credits: z.string(), unit: z.string() })
      .nullable()
      .meta({ description: 'Of the invoice of a top-up: what the subscriber no longer has.' }),
    total_text: z.string(),
    html_path: z.string(),
    pdf_path: z.string(),
    created_at: instantText(),
  })
  .meta({ id: 'CreditNote' });

const example = {
  id: 'cn_5h2k9x0q7w3m1n8b4v6c2z',
  object: 'credit_note',
  environment: 'test',
  number: 'CN-2025-0001',
  invoice_id: 'inv_5h2k9x0q7w3m1n8b4v6c2z',
  invoice_number: 'INV-2025-0042',
  subscriber_id: 'sbr_5h2k9x0q7w3m1n8b4v6c2z',
  reason: 'service_issue',
  memo: 'Down for an hour on Jan 12',
  currency: 'USD',
  lines: [
    {
      line_id: 'line_5h2k9x0q7w3m1n8b4v6c2z',
      description: 'API Calls (82,450 calls × $0.001)',
      amount: '10.00',
      discount: '0.00',
    },
  ],
  subtotal: '10.00',
  discount: '0.00',
  taxes: [{ label: 'Tax (0%)', percent: '0', base: '10.00', amount: '0.00' }],
  tax: '0.00',
  total: '10.00',
  due_reduced: '0.00',
  to_balance: '10.00',
  refunded: '0.00',
  refund: null,
  credits_taken_back: null,
  total_text: '$10.00',
  html_path: '/api/v1/credit_notes/cn_5h2k9x0q7w3m1n8b4v6c2z.html',
  pdf_path: '/api/v1/credit_notes/cn_5h2k9x0q7w3m1n8b4v6c2z.pdf',
  created_at: '2025-02-03T09:00:00.000Z',
} as const;

function toWire(
  row: CreditNoteRead,
  noteLines: readonly CreditNoteLineRead[],
): z.output<typeof CreditNote> {
  const currency = storedCurrency(row.currency);
  const amount = (minor: bigint): string => formatAmount(minor, currency);
  const isFailed = row.refund_state === 'failed';
  return {
    id: row.id,
    object: 'credit_note',
    environment: row.environment,
    number: row.number,
    invoice_id: row.invoice_id,
    invoice_number: row.document.invoice_number,
    subscriber_id: row.subscriber_id,
    reason: row.reason,
    memo: row.memo,
    currency,
    lines: noteLines.map((line) => ({
      line_id: line.invoice_line_id,
      description: line.description,
      amount: amount(line.amount_minor),
      discount: amount(line.discount_minor),
    })),
    subtotal: amount(row.subtotal_minor),
    discount: amount(row.discount_minor),
    taxes: row.document.taxes.map((tax) => ({ ...tax })),
    tax: amount(row.tax_minor),
    total: amount(row.total_minor),
    due_reduced: amount(row.due_reduced_minor),
    to_balance: amount(row.balance_minor + (isFailed ? row.refund_minor : 0n)),
    refunded: amount(isFailed ? 0n : row.refund_minor),
    refund:
      row.refund_state === null
        ? null
        : { state: row.refund_state, failure_code: row.refund_failure_code, text: refundText(row) },
    credits_taken_back:
      row.credits_micro === null || row.credit_unit === null
        ? null
        : { credits: formatCredits(row.credits_micro), unit: row.credit_unit },
    total_text: formatMoney(row.total_minor, currency),
    html_path: `/api/v1/credit_notes/${row.id}.html`,
    pdf_path: `/api/v1/credit_notes/${row.id}.pdf`,
    created_at: wireInstant(row.created_at),
  };
}

function refundText(row: CreditNoteRead): string {
  const money = formatMoney(row.refund_minor, storedCurrency(row.currency));
  switch (row.refund_state) {
    case 'succeeded':
      return `${money} went back to the payment method.`;
    case 'failed':
      return `The payment provider did not give ${money} back (${row.refund_failure_code ?? 'no reason given'}); it is account balance of the subscriber.`;
    case 'pending':
    case null:
      return `${money} is on its way back to the payment method.`;
    default:
      return row.refund_state satisfies never;
  }
}

/** What is asked for, by the positions of the lines. */
function requestOf(
  given: {
    readonly full?: boolean | undefined;
    readonly amount?: string | undefined;
    readonly lines?: readonly { readonly line_id: string; readonly amount: string }[] | undefined;
  },
  invoice: InvoiceRead,
  invoiceLines: readonly InvoiceLineRead[],
): CreditRequest {
  const ways = [given.full === true, given.amount !== undefined, given.lines !== undefined];
  if (ways.filter(Boolean).length !== 1) {
    throw fieldProblem('full', 'or amount, or lines must be given, one of the three');
  }
  const currency = storedCurrency(invoice.currency);
  if (given.amount !== undefined) {
    if (invoiceLines.length !== 1) {
      throw fieldProblem('amount', 'fits an invoice of one line; name lines of this one');
    }
    return { kind: 'lines', amounts: new Map([[0, minorOf('amount', given.amount, currency)]]) };
  }
  if (given.lines === undefined) return { kind: 'full' };
  if (given.lines.length === 0) throw fieldProblem('lines', 'must name a line');
  const amounts = new Map<number, bigint>();
  for (const [index, { line_id, amount }] of given.lines.entries()) {
    const line = invoiceLines.find(({ id }) => id === line_id);
    if (line === undefined) {
      const known = invoiceLines.map(({ id }) => id);
      throw fieldProblem(`lines[${index}].line_id`, 'is no line of this invoice', known);
    }
    if (amounts.has(line.position)) {
      throw fieldProblem(`lines[${index}].line_id`, 'is named twice');
    }
    amounts.set(line.position, minorOf(`lines[${index}].amount`, amount, currency));
  }
  return { kind: 'lines', amounts };
}

function minorOf(field: string, amount: string, currency: Currency): bigint {
  const minor = parseAmount(amount, currency);
  if (minor !== null) return minor;
  throw fieldProblem(field, `must have at most ${placesOf(currency)} places in ${currency}`);
}

function refusal(
  refused: Extract<CreditNoteIssue, { kind: 'refused' }>,
  invoice: InvoiceRead,
  invoiceLines: readonly InvoiceLineRead[],
  request: CreditRequest,
): ApiProblem {
  const name = invoice.number ?? invoice.id;
  switch (refused.code) {
    case 'above_line': {
      const line = invoiceLines[refused.position];
      const left = formatMoney(refused.leftMinor, storedCurrency(invoice.currency));
      return new ApiProblem(
        'credit_too_large',
        refused.leftMinor < 0n
          ? `Line ${line?.id ?? ''} gives ${left} already; such a line is credited only with all others ({"full": true}).`
          : `Line ${line?.id ?? ''} (${line?.description ?? ''}) has ${left} left to credit.`,
        {
          extra: {
            line_id: line?.id ?? null,
            left: formatAmount(refused.leftMinor, storedCurrency(invoice.currency)),
          },
        },
      );
    }
    case 'nothing_to_credit':
      return new ApiProblem(
        'credit_too_large',
        request.kind === 'full'
          ? `${name} has nothing left to credit.`
          : `This comes to nothing: the discounts of its lines go back too. Credit more of ${name}, or all that is left ({"full": true}).`,
      );
    case 'not_creditable':
      return new ApiProblem(
        'invoice_state',
        invoice.state === 'draft'
          ? `${name} is a draft: it is not final yet, so correct what it is made of and refresh it.`
          : `${name} is void: nothing of it counts any more.`,
      );
    case 'payment_in_progress':
      return paymentInProgress(invoice);
    case 'nothing_to_refund':
      return new ApiProblem(
        'nothing_to_refund',
        `No payment through the provider is left on ${name} to give back. Use refund_to: balance.`,
      );
    default:
      return refused satisfies never;
  }
}

const create = route({
  operationId: 'createCreditNote',
  method: 'post',
  path: '/invoices/{invoice_id}/credit_notes',
  tag: 'Credit notes',
  summary: 'Credit an invoice',
  description: `All that is left of it, or amounts of its lines; discounts and taxes of the lines go with them. The total is first taken off
what is still due; the rest goes to the account balance, or back to where the payment came from. A refund that the payment provider does
not make becomes account balance. Of the invoice of a top-up only credits that are neither spent nor held are given back: they are
taken back first, as many as the amount paid for (full: all that are left), and the note is for what they cost. While that takes
its time the answer is 202 with the take-back; GET /take_backs/{id} then names the note.`,
  roles: operators,
  body: object({
    full: flag().optional().meta({ description: 'All that is left of every line.' }),
    lines: listOf(
      object({
        line_id: reference('Line of the invoice'),
        amount: decimal('Of the line, before its discounts.'),
      }),
      500,
      'Instead of full.',
    ).optional(),
    amount: decimal('Instead of full, of an invoice of one line, before its discounts.').optional(),
    reason: oneOf(reasons),
    memo: lines(1000, 'Printed on the credit note.').optional(),
    refund_to: oneOf(
      ['balance', 'payment_method'],
      'What is not still due goes there; balance when absent.',
    ).optional(),
  }),
  bodyExample: {
    lines: [{ line_id: example.lines[0].line_id, amount: '10.00' }],
    reason: 'service_issue',
    memo: example.memo,
  },
  answers: answers(
    201,
    { description: 'Credited.', schema: CreditNote, example },
    {
      202: {
        description: 'Credited, its refund is under way; or credits are being taken back for it.',
        schema: z.union([CreditNote, TakeBack]).meta({ id: 'CreditNoteOrTakeBack' }),
        example: takeBackExample,
      },
    },
  ),
  problems: [
    'invoice_state',
    'credit_too_large',
    'nothing_to_refund',
    'payment_in_progress',
    'take_back_in_progress',
  ],
  handle: async (call, { body }) => {
    const invoice = await requireInvoice(call);
    const invoiceLines = await listInvoiceLines(call.db, [invoice.id]);
    const request = requestOf(body, invoice, invoiceLines);
    if (invoice.kind === 'top_up') return creditTopUp(call, { invoice, request, body });
    const issued = await call.begin(async (tx, now) => {
      const result = await issueCreditNote(tx, {
        invoiceId: invoice.id,
        businessKey: `api:${call.token.id}:${call.idempotency?.key ?? call.requestId}`,
        request,
        reason: body.reason,
        ...(body.memo === undefined ? {} : { memo: body.memo }),
        to: body.refund_to === 'payment_method' ? 'refund' : 'balance',
        actor: `token:${call.token.id}`,
        at: now,
        whilePaying: 'refuse',
      });
      if (result.kind === 'refused') throw refusal(result, invoice, invoiceLines, request);
      return {
        value: result,
        audit: {
          action: 'credit_note.create',
          objectId: result.note.id,
          details: {
            invoice_id: invoice.id,
            number: result.note.number,
            total_minor: result.note.totalMinor.toString(),
          },
        },
      };
    });
    if (issued.note.dueReducedMinor > 0n) await tellCollection(call, invoice);
    if (issued.refundId !== null) await refund(call, issued.refundId, issued.note.number);
    const note = await readNote(call, issued.note.id);
    return { status: note.refund?.state === 'pending' ? 202 : 201, body: note };
  },
});

/** Its credits are taken back first; the note is for what they cost. */
async function creditTopUp(
  call: Call,
  of: {
    readonly invoice: InvoiceRead;
    readonly request: CreditRequest;
    readonly body: {
      readonly reason: (typeof reasons)[number];
      readonly memo?: string | undefined;
      readonly refund_to?: 'balance' | 'payment_method' | undefined;
    };
  },
): Promise<Answer> {
  const { invoice, request, body } = of;
  const minor = request.kind === 'full' ? null : (request.amounts.get(0) ?? 0n);
  if (minor !== null && minor <= 0n) throw fieldProblem('amount', 'must be above 0');
  const answer = await takeCreditsBack(call, invoice, {
    wish: minor === null ? { kind: 'all' } : { kind: 'amount', minor },
    reason: body.reason,
    memo: body.memo,
    to: body.refund_to === 'payment_method' ? 'refund' : 'balance',
  });
  if (answer.kind === 'pending') return { status: 202, body: answer.body };
  const issued = await requireCreditNote(call, answer.creditNoteId);
  if (issued.refund_id !== null) await refund(call, issued.refund_id, issued.number);
  const note = await readNote(call, issued.id);
  return { status: note.refund?.state === 'pending' ? 202 : 201, body: note };
}

/** The reconciler starts what is not started here. */
async function refund(call: Call, refundId: string, number: string): Promise<void> {
  const wait = { waitMs: call.deps.waits.workflowMs, summary: summaries.refund({ number }) };
  await call.deps.engine.refund(refundId, wait).catch((error: unknown) => {
    call.deps.log.warn(
      { refund_id: refundId, error: error instanceof Error ? error.message : String(error) },
      'a refund was not started; the reconciler will',
    );
  });
}

/** The credit note, by id or number, or 404. */
export async function requireCreditNote(call: Call, ref: string): Promise<CreditNoteRead> {
  const note = await findCreditNoteRead(call.db, call.environment, ref);
  if (note === null) throw notFound('credit note', ref);
  return note;
}

async function readNote(call: Call, ref: string): Promise<z.output<typeof CreditNote>> {
  const note = await requireCreditNote(call, ref);
  return toWire(note, await listCreditNoteLines(call.db, [note.id]));
}

const list = route({
  operationId: 'listCreditNotes',
  method: 'get',
  path: '/credit_notes',
  tag: 'Credit notes',
  summary: 'List credit notes',
  roles: readers,
  query: object({
    ...pageQuery,
    subscriber_id: reference('Of this subscriber').optional(),
    invoice_id: reference('On this invoice').optional(),
  }),
  answers: answers(200, {
    description: 'Newest first.',
    schema: listOfAnswers(CreditNote, 'CreditNoteList'),
    example: listExample(example),
  }),
  handle: async (call, { query }) => {
    const page = await listCreditNotes(
      call.db,
      {
        environment: call.environment,
        subscriberId: (await subscriberIdOf(call, query.subscriber_id)) ?? null,
        invoiceId: query.invoice_id ?? null,
      },
      pageArgs(query),
    );
    const byNote = await linesByNote(call, page.rows);
    return { status: 200, body: listBody(page, (row) => toWire(row, byNote.get(row.id) ?? [])) };
  },
});

const listOfInvoice = route({
  operationId: 'listInvoiceCreditNotes',
  method: 'get',
  path: '/invoices/{invoice_id}/credit_notes',
  tag: 'Credit notes',
  summary: 'List the credit notes of an invoice',
  roles: readers,
  answers: answers(200, {
    description: 'Oldest first.',
    schema: listOfAnswers(CreditNote, 'CreditNotesOfInvoice'),
    example: listExample(example),
  }),
  handle: async (call) => {
    const invoice = await requireInvoice(call);
    const rows = await listCreditNotesOf(call.db, invoice.id);
    const byNote = await linesByNote(call, rows);
    return {
      status: 200,
      body: listBody({ rows, hasMore: false }, (row) => toWire(row, byNote.get(row.id) ?? [])),
    };
  },
});

async function linesByNote(
  call: Call,
  notes: readonly CreditNoteRead[],
): Promise<ReadonlyMap<string, readonly CreditNoteLineRead[]>> {
  const ids = notes.map(({ id }) => id);
  return Map.groupBy(await listCreditNoteLines(call.db, ids), (line) => line.credit_note_id);
}

const show = route({
  operationId: 'showCreditNote',
  method: 'get',
  path: '/credit_notes/{credit_note_id}',
  tag: 'Credit notes',
  summary: 'Show a credit note',
  description: 'By id or number.',
  roles: readers,
  answers: answers(200, { description: 'It.', schema: CreditNote, example }),
  handle: async (call) => ({
    status: 200,
    body: await readNote(call, call.param('credit_note_id')),
  }),
});

export const creditNoteRoutes: readonly Route[] = [create, listOfInvoice, list, show];
