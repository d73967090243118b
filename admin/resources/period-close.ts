/** A period that an operator closes before its end. */
import { z } from 'zod';

import { listInvoiceLines, listInvoices } from '../../store/invoice-reads.ts';
import { findPeriod, type Period } from '../../store/periods.ts';
import type { SubscriptionRead } from '../../store/subscription-reads.ts';
import type { Call } from '../call.ts';
import { object } from '../fields.ts';
import { notFound } from '../problems.ts';
import { operators, route, type Answer } from '../route.ts';
import {
  Invoice,
  invoiceExample,
  invoiceToWire,
  PeriodAnswer,
  periodExample,
  periodToWire,
} from './invoice-shapes.ts';
import { answers } from './shared.ts';
import { refused, updateIdOf } from './subscription-commands.ts';
import { requireSubscription } from './subscription-shapes.ts';

const PeriodClose = z
  .strictObject({
    object: z.literal('period_close'),
    period: PeriodAnswer,
    invoice_id: z.string().nullable(),
    invoice: Invoice.nullable().meta({
      description: 'Null while it is not closed, and when there was nothing to invoice.',
    }),
    workflow_id: z.string(),
  })
  .meta({ id: 'PeriodClose' });

const closeExample = {
  object: 'period_close',
  period: { ...periodExample, state: 'closed', closed_at: '2025-02-01T00:00:05.000Z' },
  invoice_id: invoiceExample.id,
  invoice: invoiceExample,
  workflow_id: `close/${periodExample.subscription_id}/0`,
};

export const closePeriod = route({
  operationId: 'closePeriod',
  method: 'post',
  path: '/subscriptions/{subscription_id}/periods/{period_id}/close',
  tag: 'Subscriptions',
  summary: 'Close a period now',
  description: `Cuts the period here, seals it, invoices it; the rest of its interval becomes the next period, and the boundary after
it stays. Waits up to 30 s; 202 when it goes on longer. Closing a closed period changes nothing and answers the same.`,
  roles: operators,
  bodyOptional: true,
  body: object({}),
  answers: answers(
    200,
    { description: 'Closed.', schema: PeriodClose, example: closeExample },
    {
      202: {
        description: 'Under way.',
        schema: PeriodClose,
        example: {
          ...closeExample,
          period: { ...periodExample, state: 'closing' },
          invoice_id: null,
          invoice: null,
        },
      },
    },
  ),
  problems: ['subscription_not_active', 'period_not_closable', 'workflow_engine_unavailable'],
  handle: async (call) => {
    const row = await requireSubscription(call);
    const period = await requirePeriod(call, row);
    if (period.state === 'closed') return closeAnswer(call, row, { period, status: 200 });
    await call.audit(call.db, {
      action: 'period.close',
      objectId: period.id,
      details: { subscription_id: row.id },
    });
    const deadline = performance.now() + call.deps.waits.closeMs;
    const begun = await call.deps.engine.closePeriod(
      row.id,
      { periodId: period.id },
      { updateId: updateIdOf(call, `close:${period.id}`), waitMs: call.deps.waits.workflowMs },
    );
    if (begun.kind === 'refused') throw refused(begun);
    if (begun.kind === 'slow') return closeAnswer(call, row, { period, status: 202 });
    const result = await call.deps.engine.closeResult(
      begun.value.closeWorkflowId,
      Math.max(1, deadline - performance.now()),
    );
    if (result.kind === 'refused') throw refused(result);
    const after = await requirePeriod(call, row);
    const isClosed = result.kind === 'done' && after.state === 'closed';
    return closeAnswer(call, row, { period: after, status: isClosed ? 200 : 202 });
  },
});

async function requirePeriod(call: Call, row: SubscriptionRead): Promise<Period> {
  const id = call.param('period_id');
  const period = await findPeriod(call.db, row.id, id);
  if (period === null) throw notFound('period of this subscription', id);
  return period;
}

async function closeAnswer(
  call: Call,
  row: SubscriptionRead,
  { period, status }: { readonly period: Period; readonly status: number },
): Promise<Answer> {
  const filter = {
    environment: call.environment,
    subscriberId: null,
    subscriptionId: row.id,
    periodId: period.id,
  };
  const page = await listInvoices(call.db, filter, { limit: 20, after: null });
  const issued = page.rows.find(({ state, kind }) => kind === 'period' && state !== 'void');
  const lines = issued === undefined ? [] : await listInvoiceLines(call.db, [issued.id]);
  return {
    status,
    body: {
      object: 'period_close',
      period: periodToWire(period),
      invoice_id: issued?.id ?? null,
      invoice: issued === undefined ? null : invoiceToWire(issued, lines),
      workflow_id: `close/${row.id}/${period.seq}`,
    },
  };
}
