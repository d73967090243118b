/** What a reader of PDFs other than the writer of them finds in a file. */
import { getDocumentProxy } from 'unpdf';

export type ReadPdf = {
  readonly pages: readonly string[];
  readonly language: unknown;
  readonly info: Readonly<Record<string, unknown>>;
  readonly isTagged: boolean;
  /** Sizes in points, of each page. */
  readonly sizes: readonly (readonly [number, number])[];
  /** Roles of the structure, in reading order, of each page. */
  readonly roles: readonly (readonly string[])[];
};

export async function readPdf(file: Buffer): Promise<ReadPdf> {
  const pdf = await getDocumentProxy(new Uint8Array(file), { verbosity: 0 });
  const numbers = Array.from({ length: pdf.numPages }, (_, index) => index + 1);
  const pages = await Promise.all(numbers.map((number) => pdf.getPage(number)));
  const texts = await Promise.all(pages.map((page) => page.getTextContent()));
  const trees = await Promise.all(pages.map((page) => page.getStructTree()));
  const { info } = await pdf.getMetadata();
  const marks = await pdf.getMarkInfo();
  return {
    pages: texts.map(({ items }) =>
      items.map((item) => ('str' in item ? item.str + (item.hasEOL ? '\n' : '') : '')).join(''),
    ),
    language: 'Language' in info ? info.Language : null,
    info: Object.fromEntries(Object.entries(info)),
    isTagged: marks?.Marked === true,
    sizes: pages.map(({ view }) => [Number(view[2]), Number(view[3])]),
    roles: trees.map((tree) => rolesOf(tree)),
  };
}

function rolesOf(node: unknown): readonly string[] {
  if (typeof node !== 'object' || node === null) return [];
  const role = 'role' in node && typeof node.role === 'string' ? [node.role] : [];
  const children: readonly unknown[] =
    'children' in node && Array.isArray(node.children) ? node.children : [];
  return [...role, ...children.flatMap(rolesOf)];
}
