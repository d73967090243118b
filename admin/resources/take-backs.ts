/** Take-backs: credits of a top-up on their way back, until there is a credit note for them. */
import { z } from 'zod';

import { formatCredits, formatCreditUnits } from '../../billing/credits.ts';
import { formatAmount, formatMoney } from '../../billing/money.ts';
import type { TakeBackWish } from '../../billing/take-back.ts';
import { ShardUnavailable } from '../../shards/port.ts';
import type { CreditReason } from '../../store/credit-notes.ts';
import type { InvoiceRead } from '../../store/invoice-reads.ts';
import {
  findTakeBackRead,
  listTakeBacksOf,
  type TakeBackRead,
} from '../../store/take-back-reads.ts';
import { beginTakeBack, type TakeBackBegin } from '../../store/take-backs.ts';
import { summaries } from '../../workflows/contracts.ts';
import type { Call } from '../call.ts';
import { ApiProblem, notFound } from '../problems.ts';
import { readers, route, type Route } from '../route.ts';
import { requireInvoice } from './invoice-actions.ts';
import { storedCurrency } from './invoice-shapes.ts';
import {
  amountText,
  answers,
  instantText,
  listBody,
  listExample,
  listOfAnswers,
  wireInstant,
} from './shared.ts';

export const TakeBack = z
  .strictObject({
    id: z.string(),
    object: z.literal('take_back'),
    environment: z.enum(['test', 'live']),
    subscriber_id: z.string(),
    invoice_id: z.string(),
    invoice_number: z.string(),
    state: z.enum(['taking', 'taken', 'credited', 'refused']).meta({
      description:
        'taking: the shard has not said what it had; taken: its credit note is being issued; refused: nothing was left that money is given for.',
    }),
    unit: z.string(),
    credits_asked: z.string().meta({ description: 'At most so many are taken.', example: '720' }),
    amount_asked: amountText('Of the line of the invoice; null: all that is available.').nullable(),
    credits_taken: z.string().nullable().meta({ description: 'Null until it is known.' }),
    amount: amountText('Of the line, what is given back for them.').nullable(),
    currency: z.string(),
    credit_note_id: z.string().nullable(),
    created_at: instantText(),
  })
  .meta({ id: 'TakeBack' });

export const takeBackExample = {
  id: 'tkb_5h2k9x0q7w3m1n8b4v6c2z',
  object: 'take_back',
  environment: 'test',
  subscriber_id: 'sbr_5h2k9x0q7w3m1n8b4v6c2z',
  invoice_id: 'inv_5h2k9x0q7w3m1n8b4v6c2z',
  invoice_number: 'INV-2025-0042',
  state: 'taking',
  unit: 'credit',
  credits_asked: '720',
  amount_asked: '18.00',
  credits_taken: null,
  amount: null,
  currency: 'USD',
  credit_note_id: null,
  created_at: '2025-02-03T09:00:00.000Z',
} as const;

function toWire(row: TakeBackRead): z.output<typeof TakeBack> {
  const currency = storedCurrency(row.currency);
  const amount = (minor: bigint | null): string | null =>
    minor === null ? null : formatAmount(minor, currency);
  return {
    id: row.id,
    object: 'take_back',
    environment: row.environment,
    subscriber_id: row.subscriber_id,
    invoice_id: row.invoice_id,
    invoice_number: row.invoice_number,
    state: row.state,
    unit: row.unit,
    credits_asked: formatCredits(row.asked_micro),
    amount_asked: amount(row.asked_minor),
    credits_taken: row.taken_micro === null ? null : formatCredits(row.taken_micro),
    amount: amount(row.credited_minor),
    currency,
    credit_note_id: row.credit_note_id,
    created_at: wireInstant(row.created_at),
  };
}

export type TakeBackAnswer =
  | { readonly kind: 'credited'; readonly creditNoteId: string }
  | { readonly kind: 'pending'; readonly body: z.output<typeof TakeBack> };

/**
 * Takes credits of a top-up back and waits for the credit note. An engine that is away takes nothing from what was begun:
 * the reconciler starts it.
 */
export async function takeCreditsBack(
  call: Call,
  invoice: InvoiceRead,
  of: {
    readonly wish: TakeBackWish;
    readonly reason: CreditReason;
    readonly memo: string | undefined;
    readonly to: 'balance' | 'refund';
  },
): Promise<TakeBackAnswer> {
  const onShard = await readSpendable(call, invoice.subscriber_id);
  const takeBackId = await call.begin(async (tx) => {
    const begun = await beginTakeBack(tx, {
      invoiceId: invoice.id,
      businessKey: `api:${call.token.id}:${call.idempotency?.key ?? call.requestId}`,
      wish: of.wish,
      reason: of.reason,
      ...(of.memo === undefined ? {} : { memo: of.memo }),
      to: of.to,
      actor: `token:${call.token.id}`,
      onShard,
    });
    if (begun.kind === 'refused') throw refusal(begun, invoice);
    return {
      value: begun.takeBackId,
      audit: {
        action: 'take_back.create',
        objectId: begun.takeBackId,
        details: {
          invoice_id: invoice.id,
          amount_minor: of.wish.kind === 'all' ? null : of.wish.minor.toString(),
          refund_to: of.to,
        },
      },
    };
  });
  await awaitCredited(call, takeBackId, invoice);
  const row = await requireTakeBack(call, takeBackId);
  if (row.state === 'refused') throw tooLarge(invoice, { unit: row.unit, minor: 0n, micro: 0n });
  return row.credit_note_id === null
    ? { kind: 'pending', body: toWire(row) }
    : { kind: 'credited', creditNoteId: row.credit_note_id };
}

/** By bucket, what the next request could take; null: the shard does not answer, or does not know the subscriber yet. */
async function readSpendable(
  call: Call,
  subscriberId: string,
): Promise<ReadonlyMap<string, bigint> | null> {
  try {
    const state = await call.deps.shards.read(subscriberId);
    if (state === null) return null;
    return new Map(state.buckets.map(({ id, availableMicro }) => [id, BigInt(availableMicro)]));
  } catch (error) {
    if (error instanceof ShardUnavailable) return null;
    throw error;
  }
}

async function awaitCredited(call: Call, takeBackId: string, invoice: InvoiceRead): Promise<void> {
  const summary = summaries.takeBack({ number: invoice.number ?? invoice.id });
  const wait = { waitMs: call.deps.waits.workflowMs, summary };
  await call.deps.engine.takeBack(takeBackId, wait).catch((error: unknown) => {
    call.deps.log.warn(
      { take_back_id: takeBackId, error: error instanceof Error ? error.message : String(error) },
      'a take-back was not started; the reconciler will',
    );
  });
}

function refusal(
  refused: Extract<TakeBackBegin, { kind: 'refused' }>,
  invoice: InvoiceRead,
): ApiProblem {
  const name = invoice.number ?? invoice.id;
  switch (refused.code) {
    case 'above_available':
      return tooLarge(invoice, {
        unit: refused.unit,
        minor: refused.leftMinor,
        micro: refused.leftMicro,
      });
    case 'in_progress':
      return new ApiProblem(
        'take_back_in_progress',
        `Credits of ${name} are being taken back already: GET /api/v1/invoices/${invoice.id}/take_backs says how far that is.`,
      );
    case 'nothing_to_refund':
      return new ApiProblem(
        'nothing_to_refund',
        `No payment through the provider is left on ${name} to give back. Use refund_to: balance.`,
      );
    default:
      return refused satisfies never;
  }
}

function tooLarge(
  invoice: InvoiceRead,
  left: { readonly unit: string; readonly minor: bigint; readonly micro: bigint },
): ApiProblem {
  const currency = storedCurrency(invoice.currency);
  const credits = formatCreditUnits(left.micro, left.unit);
  const name = invoice.number ?? invoice.id;
  const before = invoice.tax_minor > 0n && !invoice.tax_included ? ' before its taxes' : '';
  return new ApiProblem(
    'credit_too_large',
    left.minor === 0n
      ? `Nothing of ${name} can be given back: ${credits} that it sold are left, neither spent nor held by a request.`
      : `At most ${formatMoney(left.minor, currency)} of ${name}${before} can be given back, for ${credits} that are neither spent nor held by a request.`,
    {
      extra: { left: formatAmount(left.minor, currency), credits_left: formatCredits(left.micro) },
    },
  );
}

async function requireTakeBack(call: Call, id: string): Promise<TakeBackRead> {
  const row = await findTakeBackRead(call.db, call.environment, id);
  if (row === null) throw notFound('take-back', id);
  return row;
}

export const takeBackRoutes: readonly Route[] = [
  route({
    operationId: 'listInvoiceTakeBacks',
    method: 'get',
    path: '/invoices/{invoice_id}/take_backs',
    tag: 'Credit notes',
    summary: 'List the take-backs of a top-up invoice',
    roles: readers,
    answers: answers(200, {
      description: 'Oldest first.',
      schema: listOfAnswers(TakeBack, 'TakeBacksOfInvoice'),
      example: listExample(takeBackExample),
    }),
    handle: async (call) => {
      const invoice = await requireInvoice(call);
      const rows = await listTakeBacksOf(call.db, invoice.id);
      return { status: 200, body: listBody({ rows, hasMore: false }, toWire) };
    },
  }),
  route({
    operationId: 'showTakeBack',
    method: 'get',
    path: '/take_backs/{take_back_id}',
    tag: 'Credit notes',
    summary: 'Show a take-back',
    description: 'Credits of a top-up that a credit note takes back, while it is not issued yet.',
    roles: readers,
    answers: answers(200, { description: 'It.', schema: TakeBack, example: takeBackExample }),
    handle: async (call) => ({
      status: 200,
      body: toWire(await requireTakeBack(call, call.param('take_back_id'))),
    }),
  }),
];
