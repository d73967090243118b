import assert from 'node:assert/strict';

import { issueCreditNote } from '../../../store/credit-notes.ts';
import { inTransaction } from '../../../store/db.ts';
import { issueInvoice, markInvoicePaid } from '../../../store/invoices.ts';
import { startAdmin, type TestAdmin } from '../support.ts';
import { invoice as exampleInvoice, line as exampleLine } from './examples.ts';
import { readPdf } from './read-pdf.ts';

const at = new Date('2025-02-01T00:00:05Z');

describe('admin › documents › routes', () => {
  let admin: TestAdmin;
  let invoiceId = '';
  let creditNoteId = '';

  before(async () => {
    admin = await startAdmin();
    const subscriber = await admin.call('POST', '/api/v1/subscribers', {
      body: { name: 'Größenwahn GmbH', lookup_id: 'big' },
    });
    invoiceId = await issue(admin, String(subscriber.body['id']));
    creditNoteId = await credit(admin, invoiceId);
  });
  after(() => admin.stop());

  const file = async (path: string, token = admin.tokens.reader) => {
    const response = await fetch(`${admin.url}${path}`, {
      headers: { authorization: `Bearer ${token}` },
    });
    return { response, bytes: Buffer.from(await response.arrayBuffer()) };
  };

  it('answers an invoice as a file under its number, by id or number', async () => {
    const { response, bytes } = await file(`/api/v1/invoices/${invoiceId}.pdf`);
    assert.equal(response.status, 200);
    assert.equal(response.headers.get('content-type'), 'application/pdf');
    assert.equal(
      response.headers.get('content-disposition'),
      'inline; filename="INV-2025-0001.pdf"',
    );
    assert.equal(response.headers.get('cache-control'), 'no-store');
    assert.equal(Number(response.headers.get('content-length')), bytes.length);
    const [text = ''] = (await readPdf(bytes)).pages;
    for (const words of ['Rechnung INV-2025-0001', 'Größenwahn GmbH', '82,45', 'CN-2025-0001']) {
      assert.ok(text.includes(words), `${words} is not in ${text}`);
    }
    const again = await file('/api/v1/invoices/INV-2025-0001.pdf');
    assert.ok(again.bytes.equals(bytes));
  });

  it('is where the JSON of the invoice and of the credit note say', async () => {
    for (const path of [`/api/v1/invoices/${invoiceId}`, `/api/v1/credit_notes/${creditNoteId}`]) {
      const { body } = await admin.call('GET', path);
      assert.deepEqual([body['html_path'], body['pdf_path']], [`${path}.html`, `${path}.pdf`]);
    }
  });

  it('lists the credit notes of an invoice on it', async () => {
    const { text } = await admin.call('GET', `/api/v1/invoices/${invoiceId}.html`);
    assert.match(text, /Gutschrift CN-2025-0001, 3\. Feb\. 2025/);
    assert.match(text, /-82,45/);
  });

  it('answers a credit note as page and file', async () => {
    for (const ref of [creditNoteId, 'CN-2025-0001']) {
      const { text, status } = await admin.call('GET', `/api/v1/credit_notes/${ref}.html`);
      assert.equal(status, 200);
      assert.match(text, /<html lang="de-DE">/);
      assert.match(text, /Zu Rechnung:<\/dt><dd>INV-2025-0001/);
      assert.match(text, /Dem Guthaben gutgeschrieben/);
    }
    const { response, bytes } = await file(`/api/v1/credit_notes/${creditNoteId}.pdf`);
    assert.equal(
      response.headers.get('content-disposition'),
      'inline; filename="CN-2025-0001.pdf"',
    );
    assert.ok((await readPdf(bytes)).pages[0]?.includes('Gutschrift CN-2025-0001'));
  });

  it('shows a page in the browser with a link to its file, and the file', async () => {
    const cookie = { cookie: `access_token=${admin.tokens.reader}` };
    const page = await admin.call('GET', '/invoices/INV-2025-0001', {
      token: null,
      headers: cookie,
    });
    assert.ok(page.text.includes(`href="/invoices/${invoiceId}.pdf"`));
    const pdf = await admin.call('GET', `/invoices/${invoiceId}.pdf`, {
      token: null,
      headers: cookie,
    });
    assert.equal(pdf.headers.get('content-type'), 'application/pdf');
    const stranger = await admin.call('GET', `/invoices/${invoiceId}.pdf`, { token: null });
    assert.equal(stranger.status, 303);
  });

  it('knows no document of the other environment', async () => {
    for (const path of [
      `/api/v1/invoices/${invoiceId}.pdf`,
      `/api/v1/invoices/${invoiceId}.html`,
      `/api/v1/credit_notes/${creditNoteId}.pdf`,
      `/api/v1/credit_notes/${creditNoteId}.html`,
    ]) {
      assert.equal((await file(path, admin.liveToken)).response.status, 404);
    }
  });
});

async function issue(admin: TestAdmin, subscriberId: string): Promise<string> {
  const { document } = exampleInvoice();
  const line = exampleLine();
  return inTransaction(admin.db, async (tx) => {
    const invoice = await issueInvoice(
      tx,
      {
        environment: 'test',
        subscriberId,
        subscriptionId: null,
        periodId: null,
        kind: 'period',
        businessKey: 'period:documents:0:1',
        currency: 'EUR',
        subtotalMinor: 8245n,
        taxMinor: 0n,
        totalMinor: 8245n,
        periodStartAt: new Date('2025-01-01T00:00:00Z'),
        periodEndAt: new Date('2025-02-01T00:00:00Z'),
        document: {
          ...document,
          locale: 'de-DE',
          subscriber: { ...document.subscriber, name: 'Größenwahn GmbH' },
          taxation: { kind: 'exclusive', general: [], by_charge: {} },
        },
        lines: [
          {
            kind: 'usage',
            chargeId: null,
            meterId: null,
            planVersionId: null,
            description: line.description,
            label: line.label,
            quantity: line.quantity,
            unitPrice: line.unit_price,
            amountMinor: line.amount_minor,
            details: line.details,
          },
        ],
      },
      at,
    );
    await markInvoicePaid(tx, invoice.id, at);
    return invoice.id;
  });
}

async function credit(admin: TestAdmin, invoiceId: string): Promise<string> {
  return inTransaction(admin.db, async (tx) => {
    const issued = await issueCreditNote(tx, {
      invoiceId,
      businessKey: 'credit:documents',
      request: { kind: 'full' },
      reason: 'goodwill',
      to: 'balance',
      actor: 'test',
      at: new Date('2025-02-03T12:00:00Z'),
    });
    if (issued.kind !== 'issued') throw new Error(`refused: ${issued.code}`);
    return issued.note.id;
  });
}
