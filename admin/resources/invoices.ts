import {
  findInvoiceRead,
  listInvoiceLines,
  listInvoices,
  type InvoiceRead,
} from '../../store/invoice-reads.ts';
import { findSubscriber } from '../../store/subscribers.ts';
import type { Call } from '../call.ts';
import { object, pageQuery, reference } from '../fields.ts';
import { invoicePage } from '../invoice-page.ts';
import { notFound } from '../problems.ts';
import { readers, route, type Route } from '../route.ts';
import { Invoice, invoiceExample, invoiceToWire } from './invoice-shapes.ts';
import { answers, listBody, listExample, listOfAnswers, pageArgs } from './shared.ts';

async function requireInvoice(call: Call): Promise<InvoiceRead> {
  const ref = call.param('invoice_id');
  const invoice = await findInvoiceRead(call.db, call.environment, ref);
  if (invoice === null) throw notFound('invoice', ref);
  return invoice;
}

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
    }),
    answers: answers(200, {
      description: 'Newest first.',
      schema: listOfAnswers(Invoice, 'InvoiceList'),
      example: listExample(invoiceExample),
    }),
    handle: async (call, { query }) => {
      const subscriber =
        query.subscriber_id === undefined
          ? null
          : await findSubscriber(call.db, call.environment, query.subscriber_id);
      const page = await listInvoices(
        call.db,
        {
          environment: call.environment,
          // An id that names nobody has no invoices.
          subscriberId: subscriber?.id ?? query.subscriber_id ?? null,
          subscriptionId: query.subscription_id ?? null,
          periodId: query.period_id ?? null,
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
    operationId: 'showInvoicePage',
    method: 'get',
    path: '/invoices/{invoice_id}.html',
    tag: 'Invoices',
    summary: 'The invoice as a page that prints well',
    roles: readers,
    answers: answers(200, { description: 'HTML.' }),
    handle: async (call) => {
      const invoice = await requireInvoice(call);
      return {
        status: 200,
        html: invoicePage(invoice, await listInvoiceLines(call.db, [invoice.id])),
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
];
