import assert from 'node:assert/strict';

import { htmlOf } from '../../../admin/documents/html-document.ts';
import { pdfOf, textsOf } from '../../../admin/documents/pdf-document.ts';
import { printInvoice } from '../../../admin/documents/print-invoice.ts';
import { examples, invoice, line } from './examples.ts';
import { readPdf } from './read-pdf.ts';

describe('admin › documents › PDF', function () {
  this.timeout(30_000);
  const documents = examples();

  for (const [name, document] of Object.entries(documents)) {
    it(`says what the page says: ${name}`, async () => {
      const pdf = (await readPdf(await pdfOf(document))).pages.join('');
      const html = visible(htmlOf(document));
      const texts = textsOf(document);
      assert.ok(texts.length > 10);
      for (const text of texts) {
        assert.ok(squeezed(html).includes(squeezed(text)), `the page lacks ${text}`);
        // Characters of no font are boxes, and then the PDF says what they are.
        const shown = /[\u0590-\u05ff\uac00-\ud7af]/u.test(text) ? /□/ : null;
        if (shown === null) {
          assert.ok(squeezed(pdf).includes(squeezed(text)), `the PDF lacks ${text} in\n${pdf}`);
        } else {
          assert.match(pdf, shown);
          assert.ok(squeezed(pdf).includes(squeezed(document.unprintable)));
        }
      }
    });

    it(`is the same file whenever it is made: ${name}`, async () => {
      const [first, second] = [await pdfOf(document), await pdfOf(document)];
      assert.ok(first.equals(second));
    });
  }

  it('is another file when the document is another', async () => {
    const of = (total_minor: bigint) =>
      pdfOf(printInvoice(invoice({ total_minor }), { lines: [line()], creditNotes: [] }));
    assert.ok(!(await of(8245n)).equals(await of(8246n)));
  });

  it('is tagged, names its language, title, author and date', async () => {
    const file = await readPdf(await pdfOf(documents['hard'] ?? fail()));
    assert.equal(file.isTagged, true);
    assert.equal(file.language, 'de-DE');
    assert.equal(file.info['Title'], 'Rechnung INV-2025-0107');
    assert.equal(file.info['Author'], 'Meridian Maps ＆ Data Ltd.');
    assert.equal(file.info['CreationDate'], 'D:20250401073000Z');
    const roles = file.roles[0] ?? [];
    assert.deepEqual(
      ['H1', 'H2', 'Table', 'TR', 'TH', 'TD', 'P'].filter((role) => !roles.includes(role)),
      [],
    );
  });

  it('is printed on Letter where letters are, else on A4', async () => {
    const size = async (name: string) =>
      (await readPdf(await pdfOf(documents[name] ?? fail()))).sizes[0]?.map(Math.round);
    assert.deepEqual(await size('simple'), [612, 792]);
    assert.deepEqual(await size('hard'), [595, 842]);
  });

  it('goes on over pages with the head of the table, numbers them, and keeps every line', async () => {
    const { pages } = await readPdf(await pdfOf(documents['long'] ?? fail()));
    assert.ok(pages.length >= 2);
    for (const [index, page] of pages.entries()) {
      assert.match(page, new RegExp(`Page ${index + 1} of ${pages.length}`));
      assert.match(page, /Item\s*Amount/);
    }
    const all = pages.join('');
    for (let region = 1; region <= 60; region += 1) assert.ok(all.includes(`Region ${region}:`));
  });

  it('breaks a line that is longer than a page', async () => {
    const label = Array.from({ length: 2500 }, (_, index) => `word${index}`).join(' ');
    const document = printInvoice(invoice(), { lines: [line({ label })], creditNotes: [] });
    const { pages } = await readPdf(await pdfOf(document));
    assert.ok(pages.length > 1);
    const all = squeezed(pages.join(''));
    assert.ok(all.includes('word0word1') && all.includes('word2499'));
  });

  it('breaks a word that is wider than the paper', async () => {
    const name = 'x'.repeat(400);
    const document = printInvoice(invoice(), {
      lines: [line({ label: name })],
      creditNotes: [],
    });
    const all = squeezed((await readPdf(await pdfOf(document))).pages.join(''));
    assert.ok(all.includes(name));
  });
});

function fail(): never {
  throw new Error('there is no such example');
}

/** Lines are broken elsewhere on paper; spaces there are a matter of place. */
function squeezed(text: string): string {
  return text.normalize('NFKC').replaceAll(/[\s\u00ad]+/gu, '');
}

function visible(html: string): string {
  const entities: Readonly<Record<string, string>> = {
    '&amp;': '&',
    '&lt;': '<',
    '&gt;': '>',
    '&quot;': '"',
    '&#39;': "'",
  };
  return html
    .slice(html.indexOf('<main>'))
    .replaceAll(/<[^>]+>/g, ' ')
    .replaceAll(/&[#a-z0-9]+;/g, (entity) => entities[entity] ?? entity);
}
