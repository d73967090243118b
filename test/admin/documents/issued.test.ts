import assert from 'node:assert/strict';

import type { PrintedDocument } from '../../../admin/documents/printed-document.ts';
import { pdfOf } from '../../../admin/documents/pdf-document.ts';
import { readPrintedCreditNote, readPrintedInvoice } from '../../../admin/documents/read.ts';
import { findCreditNoteRead } from '../../../store/credit-note-reads.ts';
import { issueCreditNote } from '../../../store/credit-notes.ts';
import { type Db, inTransaction, openDb } from '../../../store/db.ts';
import { voidInvoice } from '../../../store/invoice-actions.ts';
import { findInvoiceRead } from '../../../store/invoice-reads.ts';
import { readOperatorSettings, updateOperatorSettings } from '../../../store/operator-settings.ts';
import { invoicePeriod, reissueInvoice } from '../../../store/period-invoice.ts';
import { beginClosing, listPeriods, openPeriods } from '../../../store/periods.ts';
import { changeSubscription, lockSubscription } from '../../../store/subscriptions.ts';
import { attached, seedCoupon, seedTaxRate } from '../../store/commerce-rows.ts';
import { type TestDatabase, testDatabase } from '../../support/postgres.ts';
import {
  seedPlan,
  seedSubscriber,
  seedSubscription,
  seedUsage,
  seedWorld,
  type World,
} from '../../workflows/support/world.ts';
import { readPdf } from './read-pdf.ts';

const START = new Date('2025-01-01T00:00:00Z');

describe('admin › documents of invoices that were really issued', () => {
  let database: TestDatabase;
  let db: Db;
  let world: World;

  before(async () => {
    database = await testDatabase();
    db = openDb(database.url, { poolMax: 4 });
    world = await seedWorld(db);
    const rates = [await seedTaxRate(db, 'TVA', '20'), await seedTaxRate(db, 'Éco', '0.5')];
    const settings = await readOperatorSettings(db, 'test');
    await inTransaction(db, (tx) =>
      updateOperatorSettings(tx, 'test', {
        ...settings,
        name: 'Cartes & Cie',
        address: '1 rue Haute\n69001 Lyon',
        footer: 'SIREN 123 456 789',
        locale: 'fr-FR',
        taxRateIds: rates,
      }),
    );
  });
  after(async () => {
    await db.destroy();
    await database.drop();
  });

  /** The invoice of January: a fee of 99.00 and 10,000 calls at 0.01, with 10 % off. */
  async function issue(subscriber: object = {}): Promise<string> {
    const planVersionId = await seedPlan(db, world, { feeMinor: '9900', unitPrice: '0.01' });
    const subscriberId = await seedSubscriber(db, null);
    await db('subscribers')
      .where({ id: subscriberId })
      .update({ name: 'Ada', ...subscriber });
    const id = await seedSubscription(db, { subscriberId, planVersionId, startAt: START });
    const now = new Date('2024-12-31T00:00:00Z');
    await inTransaction(db, async (tx) => {
      const pending = await lockSubscription(tx, id);
      await openPeriods(
        tx,
        await changeSubscription(tx, pending, { kind: 'started', at: now }),
        now,
      );
    });
    const coupon = await seedCoupon(db, { name: 'Bienvenue', percent: '10' });
    await attached(db, id, coupon.id, START);
    const at = new Date('2025-01-20T12:00:00Z');
    await seedUsage(db, { subscriptionId: id, meterId: world.meterId, at, quantity: 10_000n });
    const [period] = await listPeriods(db, id);
    assert.ok(period);
    await inTransaction(db, (tx) => beginClosing(tx, period));
    const result = await inTransaction(db, (tx) => invoicePeriod(tx, period.id, period.endAt));
    if (result.kind !== 'invoiced') assert.fail(result.kind);
    await db('periods')
      .where({ id: period.id })
      .update({ state: 'closed', closed_at: period.endAt });
    return result.invoice.id;
  }

  async function print(invoiceId: string): Promise<PrintedDocument> {
    const invoice = await findInvoiceRead(db, 'test', invoiceId);
    assert.ok(invoice);
    return readPrintedInvoice(db, invoice);
  }

  const sums = (document: PrintedDocument): readonly string[] =>
    document.sums.map(({ label, note, amount }) =>
      [label, ...(note === null ? [] : [note]), amount]
        .join(' | ')
        .replaceAll(/[\u00a0\u202f]/g, ' '),
    );

  it("says what the operator is, in the operator's language where the subscriber has none", async () => {
    const document = await print(await issue());
    assert.deepEqual(document.from.slice(0, 3), ['Cartes & Cie', '1 rue Haute', '69001 Lyon']);
    assert.deepEqual(document.footer, ['SIREN 123 456 789']);
    // 99.00 + 100.00 − 19.90 = 179.10; 20 % of it and half a percent of it.
    assert.deepEqual(sums(document), [
      'Sous-total | 199,00 $US',
      'Bienvenue | -19,90 $US',
      'TVA (20 %) | sur 179,10 $US | 35,82 $US',
      'Éco (0,5 %) | sur 179,10 $US | 0,90 $US',
      'Total | 215,82 $US',
    ]);
  });

  it("is in the subscriber's own language, and under reverse charge says why", async () => {
    const document = await print(
      await issue({ locale: 'ja-JP', tax_status: 'reverse_charge', tax_id: 'T1' }),
    );
    assert.equal(document.language, 'ja-JP');
    assert.ok(document.notes.some((note) => note.startsWith('リバースチャージ方式')));
    assert.equal(sums(document).at(-1), '合計 | $179.10');
  });

  it('names the invoice that it stands for, and the one that stands for it', async () => {
    const first = await issue();
    const at = new Date('2025-02-03T00:00:00Z');
    await inTransaction(db, (tx) => voidInvoice(tx, { invoiceId: first, reason: null, at }));
    const again = await inTransaction(db, (tx) => reissueInvoice(tx, first, at));
    assert.ok(again.kind === 'issued');
    const [old, next] = [await print(first), await print(again.invoice.id)];
    const fact = (document: PrintedDocument, label: string): string | undefined =>
      document.facts.find((one) => one.label === label)?.value;
    assert.equal(fact(old, 'Remplacée par'), next.number);
    assert.equal(fact(next, 'Remplace'), old.number);
    assert.equal(old.mark?.stamped, true);
    assert.deepEqual(sums(next), sums(old));
  });

  it('prints a credit note over a part of a line, with its share of coupon and taxes', async () => {
    const invoiceId = await issue();
    const issued = await inTransaction(db, (tx) =>
      issueCreditNote(tx, {
        invoiceId,
        businessKey: `credit:${invoiceId}`,
        request: { kind: 'lines', amounts: new Map([[1, 5000n]]) },
        reason: 'mistake',
        to: 'balance',
        actor: 'test',
        at: new Date('2025-02-04T00:00:00Z'),
      }),
    );
    assert.ok(issued.kind === 'issued');
    const note = await findCreditNoteRead(db, 'test', issued.note.number);
    assert.ok(note);
    const document = await readPrintedCreditNote(db, note);
    // 50.00 − 5.00 = 45.00; its taxes 9.00 and 0.23 (0.225).
    assert.deepEqual(sums(document), [
      'Sous-total | 50,00 $US',
      'Remise | -5,00 $US',
      'TVA (20 %) | sur 45,00 $US | 9,00 $US',
      'Éco (0,5 %) | sur 45,00 $US | 0,23 $US',
      'Total de l’avoir | 54,23 $US',
      'Déduit du montant à payer | 54,23 $US',
    ]);
    const invoice = await print(invoiceId);
    assert.deepEqual(sums(invoice).slice(-2), [
      `Avoir ${issued.note.number}, 4 févr. 2025 | -54,23 $US`,
      'Reste à payer | 161,59 $US',
    ]);
    const [text = ''] = (await readPdf(await pdfOf(invoice))).pages;
    assert.ok(text.includes('Reste à payer'));
  });
});
