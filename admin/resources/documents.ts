/** Invoices and credit notes for people: as pages that print well, and as PDF. Both say the same. */
import { htmlOf } from '../documents/html-document.ts';
import { pdfAnswer } from '../documents/pdf-answer.ts';
import { readPrintedCreditNote, readPrintedInvoice } from '../documents/read.ts';
import { readers, route, type Route } from '../route.ts';
import { requireCreditNote } from './credit-notes.ts';
import { requireInvoice } from './invoice-actions.ts';
import { answers } from './shared.ts';

const pdf = answers(200, { description: 'PDF.', file: 'application/pdf' });

export const documentRoutes: readonly Route[] = [
  route({
    operationId: 'showInvoicePage',
    method: 'get',
    path: '/invoices/{invoice_id}.html',
    tag: 'Invoices',
    summary: 'The invoice as a page that prints well',
    description: "By id or number. In the subscriber's locale and time zone.",
    roles: readers,
    answers: answers(200, { description: 'HTML.' }),
    handle: async (call) => {
      const invoice = await requireInvoice(call);
      return { status: 200, html: htmlOf(await readPrintedInvoice(call.db, invoice)) };
    },
  }),
  route({
    operationId: 'showInvoicePdf',
    method: 'get',
    path: '/invoices/{invoice_id}.pdf',
    tag: 'Invoices',
    summary: 'The invoice as PDF',
    description: 'Says what the page says. The same invoice in the same state gives the same file.',
    roles: readers,
    answers: pdf,
    handle: async (call) => {
      const invoice = await requireInvoice(call);
      return pdfAnswer(await readPrintedInvoice(call.db, invoice), invoice.id);
    },
  }),
  route({
    operationId: 'showCreditNotePage',
    method: 'get',
    path: '/credit_notes/{credit_note_id}.html',
    tag: 'Credit notes',
    summary: 'The credit note as a page that prints well',
    description: "By id or number. In the subscriber's locale and time zone.",
    roles: readers,
    answers: answers(200, { description: 'HTML.' }),
    handle: async (call) => {
      const note = await requireCreditNote(call, call.param('credit_note_id'));
      return { status: 200, html: htmlOf(await readPrintedCreditNote(call.db, note)) };
    },
  }),
  route({
    operationId: 'showCreditNotePdf',
    method: 'get',
    path: '/credit_notes/{credit_note_id}.pdf',
    tag: 'Credit notes',
    summary: 'The credit note as PDF',
    description: 'Says what the page says.',
    roles: readers,
    answers: pdf,
    handle: async (call) => {
      const note = await requireCreditNote(call, call.param('credit_note_id'));
      return pdfAnswer(await readPrintedCreditNote(call.db, note), note.id);
    },
  }),
];
