/** A printed document as a PDF: tagged, in embedded fonts, and byte for byte the same whenever it is made. */
import { isPrintable } from './fonts.ts';
import { type Element, ink, lineHeight, Sheet, style } from './pdf-sheet.ts';
import type { PrintedDocument, PrintedLine, Sum } from './printed-document.ts';
import type { Style } from './typesetter.ts';

const text = style(9.5);
const strong = style(9.5, 'bold');
const soft = style(8.5, 'regular', ink.soft);
const label = style(9.5, 'regular', ink.soft);
const small = style(8, 'regular', ink.soft);

/** The file. What no font holds is printed as □, and a note says so. */
export async function pdfOf(document: PrintedDocument): Promise<Buffer> {
  const sheet = new Sheet(document);
  seller(sheet, document);
  title(sheet, document);
  parties(sheet, document);
  lines(sheet, document);
  sums(sheet, document);
  paragraphs(sheet, notesOf(document), { style: soft, before: 18 });
  if (document.footer.length > 0) {
    sheet.y += 12;
    sheet.need(lineHeight(soft) * 2);
    sheet.rule(sheet.left, sheet.right, { color: ink.rule, weight: 0.5 });
    paragraphs(sheet, document.footer, { style: soft, before: 6 });
  }
  return sheet.finish((page, pages) => {
    if (document.mark?.stamped === true) sheet.stamp(document.mark.text);
    pageFoot(sheet, document.title, document.page(page, pages));
  });
}

function notesOf(document: PrintedDocument): readonly string[] {
  const isWhole = textsOf(document).every(isPrintable);
  return isWhole ? document.notes : [...document.notes, document.unprintable];
}

/** Every text of the document, in reading order. */
export function textsOf(document: PrintedDocument): readonly string[] {
  const { table } = document;
  return [
    ...document.from,
    document.title,
    ...(document.mark === null ? [] : [document.mark.text]),
    ...document.facts.flatMap((fact) => [`${fact.label}${document.colon.trimEnd()}`, fact.value]),
    `${document.to.label}${document.colon.trimEnd()}`,
    ...document.to.rows,
    ...[table.heading, table.item, table.amount],
    ...table.lines.flatMap((line) => [line.description, ...line.beneath, line.amount]),
    ...document.sums.flatMap((sum) => [
      sum.label,
      ...(sum.note === null ? [] : [sum.note]),
      sum.amount,
    ]),
    ...document.notes,
    ...document.footer,
  ];
}

/** Wrapped text as an element of its own, over pages where it must. */
function paragraph(
  sheet: Sheet,
  content: string,
  of: { readonly tag: string; readonly style: Style; readonly x?: number; readonly width?: number },
): void {
  const element = sheet.element(sheet.root, of.tag);
  const x = of.x ?? sheet.left;
  for (const row of sheet.type.wrap(content, of.style, of.width ?? sheet.right - x)) {
    sheet.need(lineHeight(of.style));
    sheet.put(element, row, { x, style: of.style });
    sheet.y += lineHeight(of.style);
  }
}

function paragraphs(
  sheet: Sheet,
  contents: readonly string[],
  of: { readonly style: Style; readonly before: number },
): void {
  sheet.y += of.before;
  for (const content of contents) paragraph(sheet, content, { tag: 'P', style: of.style });
}

function seller(sheet: Sheet, { from }: PrintedDocument): void {
  const [name, ...rest] = from;
  if (name === undefined) return;
  paragraph(sheet, name, { tag: 'P', style: style(12, 'bold') });
  for (const row of rest) paragraph(sheet, row, { tag: 'P', style: soft });
  sheet.y += 20;
}

function title(sheet: Sheet, document: PrintedDocument): void {
  const { mark } = document;
  const head = style(18, 'bold');
  const markStyle = { ...strong, color: mark === null ? ink.soft : toneOf(mark.tone) };
  const markWidth = mark === null ? 0 : sheet.type.width(mark.text, markStyle) + 16;
  const y = sheet.y;
  paragraph(sheet, document.title, { tag: 'H1', style: head, width: sheet.width - markWidth - 16 });
  if (mark !== null) {
    const after = sheet.y;
    sheet.y = y + 5;
    const x = sheet.right - markWidth;
    const box = { x, y: y + 1, width: markWidth, height: 19, color: markStyle.color };
    sheet.frame(box);
    sheet.put(sheet.element(sheet.root, 'P'), mark.text, { x: x + 8, style: markStyle });
    sheet.y = after;
  }
  sheet.y += 10;
}

function toneOf(tone: 'good' | 'bad' | 'soft'): string {
  return ink[tone];
}

/** Facts on the left; who it is for on the right. */
function parties(sheet: Sheet, document: PrintedDocument): void {
  const top = sheet.y;
  const gap = 28;
  const half = (sheet.width - gap) / 2;
  const name = (of: string): string => `${of}${document.colon.trimEnd()}`;
  const labelWidth = Math.min(
    half / 2,
    Math.max(0, ...document.facts.map((fact) => sheet.type.width(name(fact.label), label))) + 10,
  );
  for (const fact of document.facts) {
    const element = sheet.element(sheet.root, 'P');
    const labels = sheet.type.wrap(name(fact.label), label, labelWidth - 6);
    const values = sheet.type.wrap(fact.value, text, half - labelWidth);
    for (let row = 0; row < Math.max(labels.length, values.length); row += 1) {
      const [left, right] = [labels[row], values[row]];
      if (left !== undefined) sheet.put(element, left, { x: sheet.left, style: label });
      if (right !== undefined)
        sheet.put(element, right, { x: sheet.left + labelWidth, style: text });
      sheet.y += lineHeight(text);
    }
  }
  const after = sheet.y;
  sheet.y = top;
  const x = sheet.left + half + gap;
  paragraph(sheet, name(document.to.label), { tag: 'H2', style: label, x });
  for (const [index, row] of document.to.rows.entries()) {
    paragraph(sheet, row, { tag: 'P', style: index === 0 ? strong : text, x });
  }
  sheet.y = Math.max(after, sheet.y) + 18;
}

function lines(sheet: Sheet, { table }: PrintedDocument): void {
  sheet.need(100);
  paragraph(sheet, table.heading, { tag: 'H2', style: style(12, 'bold') });
  sheet.y += 4;
  const element = sheet.element(sheet.root, 'Table');
  const columns = { item: table.item, amount: table.amount };
  const head = sheet.element(element, 'TR');
  sheet.put(sheet.element(head, 'TH', { scope: 'Column' }), columns.item, {
    x: sheet.left,
    style: soft,
  });
  sheet.putRight(sheet.element(head, 'TH', { scope: 'Column' }), columns.amount, {
    right: sheet.right,
    style: soft,
  });
  underHead(sheet);
  // The head of the table again, on the pages that it goes on to; it is read out once.
  sheet.runningHead = () => {
    sheet.artifact(() => {
      const baseline = sheet.y + soft.size;
      sheet.type.draw(columns.item, { x: sheet.left, baseline }, soft);
      const x = sheet.right - sheet.type.width(columns.amount, soft);
      sheet.type.draw(columns.amount, { x, baseline }, soft);
    });
    underHead(sheet);
  };
  const amountWidth =
    Math.max(72, ...table.lines.map(({ amount }) => sheet.type.width(amount, text))) + 20;
  for (const line of table.lines) tableLine(sheet, element, { line, amountWidth });
  sheet.runningHead = null;
}

function underHead(sheet: Sheet): void {
  sheet.y += lineHeight(soft) + 2;
  sheet.rule(sheet.left, sheet.right, { color: ink.soft, weight: 0.8 });
  sheet.y += 5;
}

/** Kept on one page where it fits on one; its amount stands beside its first line. */
function tableLine(
  sheet: Sheet,
  table: Element,
  { line, amountWidth }: { readonly line: PrintedLine; readonly amountWidth: number },
): void {
  const width = sheet.width - amountWidth;
  const rows = [
    ...sheet.type.wrap(line.description, text, width).map((row) => ({ row, of: text })),
    ...line.beneath
      .flatMap((beneath) => sheet.type.wrap(beneath, soft, width))
      .map((row) => ({ row, of: soft })),
  ];
  const height = rows.reduce((sum, { of }) => sum + lineHeight(of), 0) + 6;
  const isKept = sheet.fitsOnPage(height);
  if (isKept) sheet.need(height);
  const tr = sheet.element(table, 'TR');
  const item = sheet.element(tr, 'TD');
  const amount = sheet.element(tr, 'TD');
  const putAmount = (): void =>
    sheet.putRight(amount, line.amount, { right: sheet.right, style: text });
  const top = sheet.y;
  for (const [index, { row, of }] of rows.entries()) {
    if (!isKept) sheet.need(lineHeight(of));
    sheet.put(item, row, { x: sheet.left, style: of });
    if (!isKept && index === 0) putAmount();
    sheet.y += lineHeight(of);
  }
  if (isKept) {
    const after = sheet.y;
    sheet.y = top;
    putAmount();
    sheet.y = after;
  }
  sheet.y += 3;
  sheet.rule(sheet.left, sheet.right, { color: ink.rule, weight: 0.5 });
  sheet.y += 4;
}

/** On the right half; a sum keeps its label and amount together. */
function sums(sheet: Sheet, document: PrintedDocument): void {
  sheet.y += 6;
  const left = sheet.left + sheet.width * 0.4;
  const amountWidth =
    Math.max(60, ...document.sums.map(({ amount }) => sheet.type.width(amount, strong))) + 14;
  const laidOut = document.sums.map((sum) => layOut(sheet, sum, sheet.right - left - amountWidth));
  const height = laidOut.reduce((all, rows) => all + rows.length * lineHeight(text) + 5, 0);
  if (sheet.fitsOnPage(height)) sheet.need(height);
  const element = sheet.element(sheet.root, 'Table');
  for (const [index, sum] of document.sums.entries()) {
    sumRow(sheet, element, { sum, rows: laidOut[index] ?? [], left });
  }
}

/** A row of a sum's label, with the note behind it where it ends. */
type SumRow = { readonly label: string; readonly note: string };

function layOut(
  sheet: Sheet,
  { label: name, note, weight }: Sum,
  width: number,
): readonly SumRow[] {
  const of = weight === 'total' ? strong : text;
  const rows = sheet.type.wrap(name, of, width).map((row) => ({ label: row, note: '' }));
  if (note === null) return rows;
  const last = rows.at(-1)?.label ?? '';
  const room = width - sheet.type.width(`${last} `, of);
  return sheet.type.width(note, label) <= room
    ? [...rows.slice(0, -1), { label: last, note }]
    : [...rows, ...sheet.type.wrap(note, label, width).map((row) => ({ label: '', note: row }))];
}

function sumRow(
  sheet: Sheet,
  table: Element,
  {
    sum,
    rows,
    left,
  }: { readonly sum: Sum; readonly rows: readonly SumRow[]; readonly left: number },
): void {
  const isTotal = sum.weight === 'total';
  const of = isTotal ? strong : text;
  sheet.need(rows.length * lineHeight(of) + 5);
  if (isTotal) {
    sheet.rule(left, sheet.right, { color: ink.soft, weight: 0.8 });
    sheet.y += 4;
  }
  const tr = sheet.element(table, 'TR');
  const head = sheet.element(tr, 'TH', { scope: 'Row' });
  const amount = sheet.element(tr, 'TD');
  const top = sheet.y;
  for (const row of rows) {
    if (row.label !== '') sheet.put(head, row.label, { x: left, style: of });
    const x = left + (row.label === '' ? 0 : sheet.type.width(`${row.label} `, of));
    if (row.note !== '') sheet.put(head, row.note, { x, style: label });
    sheet.y += lineHeight(of);
  }
  const after = sheet.y;
  sheet.y = top;
  sheet.putRight(amount, sum.amount, { right: sheet.right, style: of });
  sheet.y = after + 2;
}

function pageFoot(sheet: Sheet, left: string, right: string): void {
  const baseline = sheet.y + small.size;
  sheet.artifact(() => {
    sheet.type.draw(left, { x: sheet.left, baseline }, small);
    sheet.type.draw(right, { x: sheet.right - sheet.type.width(right, small), baseline }, small);
  });
}
