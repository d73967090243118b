import assert from 'node:assert/strict';
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

import { inTransaction } from '../../store/db.ts';
import {
  type Invoice,
  issueInvoice,
  markInvoicePaid,
  type NewInvoice,
} from '../../store/invoices.ts';
import { seedCatalogue, startAdmin, type TestAdmin } from './support.ts';

const snapshotFile = join(import.meta.dirname, '..', 'snapshots', 'example-invoice.html');

describe('admin › pages', () => {
  let admin: TestAdmin;
  let invoiceId = '';

  before(async () => {
    admin = await startAdmin();
    await seedCatalogue(admin);
    const subscriber = await admin.call('POST', '/api/v1/subscribers', {
      body: {
        name: 'Acme <b>& Sons</b>',
        lookup_id: 'acme',
        address: '1 Main Street\nSpringfield',
      },
    });
    invoiceId = await issueExample(admin, String(subscriber.body['id']));
  });
  after(() => admin.stop());

  it('shows the example invoice of the Fluxrate page as it is known', async () => {
    const { text, status } = await admin.call('GET', `/api/v1/invoices/${invoiceId}.html`);
    assert.equal(status, 200);
    const words = text
      .slice(text.indexOf('<h1>'))
      .replaceAll(/<[^>]+>/g, ' ')
      .replaceAll(/\s+/g, ' ');
    assert.match(words, /Invoice: INV-2025-0042/);
    assert.match(words, /Period: Jan 1 – Jan 31, 2025/);
    assert.match(
      words,
      /API Calls \(82,450 calls × \$0\.001\) API calls \(\$0\.001 each\) \$82\.45/,
    );
    assert.match(words, /Subtotal \$82\.45 Tax \(0%\) \$0\.00 Total \$82\.45/);
    assert.ok(text.includes('Acme &lt;b&gt;&amp; Sons&lt;/b&gt;'));
    assert.ok(!text.includes('<b>'));
  });

  it('looks byte for byte as it was reviewed (UPDATE_SNAPSHOTS=1 writes it anew)', async () => {
    const { text } = await admin.call('GET', '/api/v1/invoices/INV-2025-0042.html');
    if (process.env['UPDATE_SNAPSHOTS'] === '1') {
      mkdirSync(join(snapshotFile, '..'), { recursive: true });
      writeFileSync(snapshotFile, text);
    }
    assert.ok(existsSync(snapshotFile));
    assert.equal(text, readFileSync(snapshotFile, 'utf8'));
  });

  it('answers the same invoice as JSON, by id or number', async () => {
    const { body } = await admin.call('GET', '/api/v1/invoices/INV-2025-0042');
    assert.equal(body['id'], invoiceId);
    assert.deepEqual(
      [
        body['state'],
        body['subtotal'],
        body['tax'],
        body['total'],
        body['total_text'],
        body['currency'],
      ],
      ['paid', '82.45', '0.00', '82.45', '$82.45', 'USD'],
    );
    const list = await admin.call('GET', '/api/v1/invoices?subscriber_id=acme');
    assert.ok(list.text.includes(invoiceId));
    const none = await admin.call('GET', '/api/v1/invoices?subscriber_id=nobody');
    assert.deepEqual(none.body['data'], []);
  });

  it('shows what an invoice took from the account balance or gave to it, and then what is due', async () => {
    const { body } = await admin.call('POST', '/api/v1/subscribers', { body: { name: 'Ada' } });
    const told = async (totalMinor: bigint, balanceAppliedMinor: bigint) => {
      const of = { totalMinor, balanceAppliedMinor };
      const { id } = await issueWithBalance(admin, String(body['id']), of);
      const json = (await admin.call('GET', `/api/v1/invoices/${id}`)).body;
      const { text } = await admin.call('GET', `/api/v1/invoices/${id}.html`);
      const words = text.replaceAll(/<[^>]+>/g, ' ').replaceAll(/\s+/g, ' ');
      const amounts = ['state', 'total', 'balance_applied', 'amount_due'].map((key) => json[key]);
      return { amounts, foot: words.slice(words.indexOf('Total '), words.indexOf(' All amounts')) };
    };
    assert.deepEqual(await told(-100n, -100n), {
      amounts: ['paid', '-1.00', '-1.00', '0.00'],
      foot: 'Total -$1.00 To account balance $1.00 Amount due $0.00 The total is below zero: $1.00 was added to your account balance.',
    });
    assert.deepEqual(await told(8245n, 100n), {
      amounts: ['open', '82.45', '1.00', '81.45'],
      foot: 'Total $82.45 From account balance -$1.00 Amount due $81.45',
    });
    assert.deepEqual(await told(500n, 0n), {
      amounts: ['open', '5.00', '0.00', '5.00'],
      foot: 'Total $5.00',
    });
  });

  it('asks who is there before it shows a subscriber, and keeps the token in an HttpOnly cookie', async () => {
    const stranger = await admin.call('GET', '/', { token: null });
    assert.equal(stranger.status, 200);
    assert.ok(stranger.text.includes('action="/sign_in"'));
    assert.ok(!stranger.text.includes('Acme'));
    assert.equal((await admin.call('GET', `/invoices/${invoiceId}`, { token: null })).status, 303);

    const signIn = (token: string, headers: Record<string, string> = {}) =>
      admin.call('POST', '/sign_in', {
        token: null,
        raw: `token=${token}`,
        headers: { 'content-type': 'application/x-www-form-urlencoded', ...headers },
      });
    assert.equal((await signIn('wrong')).status, 401);
    assert.equal((await signIn(admin.tokens.ingest)).status, 401);
    assert.equal(
      (await signIn(admin.tokens.reader, { origin: 'https://evil.example' })).status,
      401,
    );
    const signedIn = await signIn(admin.tokens.reader, { origin: admin.url });
    assert.equal(signedIn.status, 303);
    const cookie = signedIn.headers.get('set-cookie') ?? '';
    assert.match(cookie, /HttpOnly; SameSite=Strict; Path=\//);

    const session = { cookie: cookie.split(';')[0] ?? '' };
    const home = await admin.call('GET', '/', { token: null, headers: session });
    assert.ok(home.text.includes('Acme &lt;b&gt;'));
    assert.ok(home.text.includes('INV-2025-0042'));
    assert.ok(!home.text.includes(admin.tokens.reader));
    assert.ok(!/<script/i.test(home.text));
    const page = await admin.call('GET', `/invoices/${invoiceId}`, {
      token: null,
      headers: session,
    });
    assert.ok(page.text.includes('INV-2025-0042'));
  });

  it('is open on this machine where the installation says so, but not under a foreign name', async () => {
    const open = await startAdmin({
      home: {
        isOpen: true,
        temporalUiUrl: 'http://127.0.0.1:9/',
        temporalNamespace: 'default',
        gatewayUrls: ['http://127.0.0.1:9'],
        adminUrl: 'http://127.0.0.1:7070',
      },
    });
    try {
      await open.call('POST', '/api/v1/subscribers', { body: { name: 'Open Sesame' } });
      const here = await open.call('GET', '/', { token: null });
      assert.ok(here.text.includes('Open Sesame'));
      assert.ok(here.text.includes('does not answer'));
      const forwarded = await open.call('GET', '/', {
        token: null,
        headers: { 'x-forwarded-for': '203.0.113.7' },
      });
      assert.ok(!forwarded.text.includes('Open Sesame'));
    } finally {
      await open.stop();
    }
  });

  it('tells a supervisor how it is', async () => {
    assert.equal((await admin.call('GET', '/healthz', { token: null })).status, 200);
    assert.equal((await admin.call('GET', '/readyz', { token: null })).status, 200);
    const metrics = await admin.call('GET', '/metrics', { token: null });
    assert.match(metrics.text, /process_cpu_seconds_total/);
  });
});

/** The example of the Fluxrate page: 82,450 calls at $0.001, the forty-second invoice of 2025. */
async function issueExample(admin: TestAdmin, subscriberId: string): Promise<string> {
  await admin
    .db('invoice_series')
    .insert({ environment: 'test', series: 'INV-2025', last_number: 41 });
  return inTransaction(admin.db, async (tx) => {
    const at = new Date('2025-02-01T00:00:05Z');
    const invoice = await issueInvoice(tx, exampleInvoice(subscriberId), at);
    await markInvoicePaid(tx, invoice.id, at);
    return invoice.id;
  });
}

function exampleInvoice(subscriberId: string): NewInvoice {
  return {
    environment: 'test',
    subscriberId,
    subscriptionId: null,
    periodId: null,
    kind: 'period',
    businessKey: 'period:example:0:1',
    currency: 'USD',
    subtotalMinor: 8245n,
    taxMinor: 0n,
    totalMinor: 8245n,
    periodStartAt: new Date('2025-01-01T00:00:00Z'),
    periodEndAt: new Date('2025-02-01T00:00:00Z'),
    document: {
      v: 1,
      subscriber: {
        id: subscriberId,
        lookup_id: 'acme',
        name: 'Acme <b>& Sons</b>',
        email: 'billing@acme.example',
        address: '1 Main Street\nSpringfield',
        tax_id: null,
      },
      plan: {
        id: 'plan_0000000000000000000000',
        lookup_id: 'payg',
        name: 'Pay-as-you-go',
        version: 1,
        product: 'Demo API',
      },
      time_zone: 'UTC',
      period_text: 'Jan 1 – Jan 31, 2025',
      taxes: [{ label: 'Tax (0%)', percent: '0', base: '82.45', amount: '0.00' }],
    },
    lines: [
      {
        kind: 'usage',
        chargeId: null,
        meterId: null,
        planVersionId: null,
        description: 'API Calls (82,450 calls × $0.001)',
        label: 'API calls ($0.001 each)',
        quantity: 82_450n,
        unitPrice: '0.001',
        amountMinor: 8245n,
        details: { model: 'flat' },
      },
    ],
  };
}

/** The example for another amount, with what it takes from the account balance or gives to it. */
function issueWithBalance(
  admin: TestAdmin,
  subscriberId: string,
  of: { readonly totalMinor: bigint; readonly balanceAppliedMinor: bigint },
): Promise<Invoice> {
  const example = exampleInvoice(subscriberId);
  return inTransaction(admin.db, (tx) =>
    issueInvoice(
      tx,
      {
        ...example,
        ...of,
        businessKey: `period:balance:${of.totalMinor}:1`,
        subtotalMinor: of.totalMinor,
        lines: example.lines.map((line) => ({ ...line, amountMinor: of.totalMinor })),
      },
      new Date('2025-02-01T00:00:05Z'),
    ),
  );
}
