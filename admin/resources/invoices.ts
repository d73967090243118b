import { listInvoiceLines, listInvoices } from '../../store/invoice-reads.ts';
import { explainLine } from '../../store/line-explanation.ts';
import { object, oneOf, pageQuery, reference } from '../fields.ts';
import { ApiProblem } from '../problems.ts';
import { readers, route, type Route } from '../route.ts';
import { Invoice, invoiceExample, invoiceToWire } from './invoice-shapes.ts';
import {
  explanationExample,
  explanationToWire,
  LineExplanationAnswer,
} from './line-explanation.ts';
import { requireInvoice } from './invoice-actions.ts';
import { answers, listBody, listExample, listOfAnswers, pageArgs } from './shared.ts';
import { subscriberIdOf } from './subscribers.ts';

export const invoiceRoutes: readonly Route[] = [
  route({
    operationId: 'listInvoices',
    method: 'get',
    path: '/invoices',
    tag: 'Invoices',
    summary: 'List invoices',
    roles: readers,
    query: object({
      ...pageQuery,
      subscriber_id: reference('Of this subscriber').optional(),
      subscription_id: reference('Of this subscription').optional(),
      period_id: reference('Of this period').optional(),
      state: oneOf(['draft', 'open', 'paid', 'void', 'uncollectible'], 'In this state').optional(),
    }),
    answers: answers(200, {
      description: 'Newest first.',
      schema: listOfAnswers(Invoice, 'InvoiceList'),
      example: listExample(invoiceExample),
    }),
    handle: async (call, { query }) => {
      const page = await listInvoices(
        call.db,
        {
          environment: call.environment,
          subscriberId: (await subscriberIdOf(call, query.subscriber_id)) ?? null,
          subscriptionId: query.subscription_id ?? null,
          periodId: query.period_id ?? null,
          state: query.state ?? null,
        },
        pageArgs(query),
      );
      const lines = await listInvoiceLines(
        call.db,
        page.rows.map(({ id }) => id),
      );
      const byInvoice = Map.groupBy(lines, (line) => line.invoice_id);
      return {
        status: 200,
        body: listBody(page, (row) => invoiceToWire(row, byInvoice.get(row.id) ?? [])),
      };
    },
  }),
  route({
    operationId: 'showInvoice',
    method: 'get',
    path: '/invoices/{invoice_id}',
    tag: 'Invoices',
    summary: 'Show an invoice',
    description: 'By id or number.',
    roles: readers,
    answers: answers(200, { description: 'It.', schema: Invoice, example: invoiceExample }),
    handle: async (call) => {
      const invoice = await requireInvoice(call);
      return {
        status: 200,
        body: invoiceToWire(invoice, await listInvoiceLines(call.db, [invoice.id])),
      };
    },
  }),
  route({
    operationId: 'explainInvoiceLine',
    method: 'get',
    path: '/invoices/{invoice_id}/lines/{line_id}/explain',
    tag: 'Invoices',
    summary: 'Take an invoice line apart',
    description: `What the line was worked out from: the charge as it was published, the tiers with their quantities, the hours of usage or
credits behind it, and where to page through the events. Its amount is worked out anew from both the details and the hours.
All hours of the interval are in the answer.`,
    roles: readers,
    answers: answers(200, {
      description: 'Where the amount comes from.',
      schema: LineExplanationAnswer,
      example: explanationExample,
    }),
    handle: async (call) => {
      const invoice = await requireInvoice(call);
      const lines = await listInvoiceLines(call.db, [invoice.id]);
      const line = lines.find(({ id }) => id === call.param('line_id'));
      if (line === undefined) {
        const ref = JSON.stringify(call.param('line_id').slice(0, 80));
        throw new ApiProblem(
          'not_found',
          `Invoice ${invoice.number ?? invoice.id} has no line ${ref}.`,
        );
      }
      const told = await explainLine(call.db, invoice, { line, lines });
      return { status: 200, body: explanationToWire(invoice, line, told) };
    },
  }),
];
