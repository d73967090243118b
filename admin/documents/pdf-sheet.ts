/** Sheets of paper that are written from top to bottom: lines, rules, and what goes on every page once all are there. */
import PdfWriter from 'pdfkit';

import type { Weight } from './fonts.ts';
import type { PrintedDocument } from './printed-document.ts';
import { type Style, Typesetter } from './typesetter.ts';

declare global {
  // The library knows it; its types do not yet.
  namespace PDFKit.Mixins {
    interface StructureElementOptions {
      scope?: 'Column' | 'Row';
    }
  }
}

type Pdf = InstanceType<typeof PdfWriter>;
export type Element = ReturnType<Pdf['struct']>;

/** Points. */
const marginX = 50;
const marginTop = 48;
const marginBottom = 64;

export const ink = {
  text: '#1b1f24',
  soft: '#57606a',
  rule: '#c4cad1',
  good: '#116329',
  bad: '#a40e26',
} as const;

export function style(size: number, weight: Weight = 'regular', color: string = ink.text): Style {
  return { size, weight, color };
}

/** From one baseline to the next. */
export function lineHeight(of: Style): number {
  return of.size * 1.42;
}

export class Sheet {
  readonly left = marginX;
  readonly right: number;
  /** Where the next line begins, in points from the top of the page. */
  y = marginTop;
  readonly type: Typesetter;
  /** The reading order of the document, for those who have it read out. */
  readonly root: Element;
  /** Drawn at the top of each new page while it is set. */
  runningHead: (() => void) | null = null;
  private readonly pdf: Pdf;
  private readonly bottom: number;
  private readonly done: Promise<Buffer>;

  constructor(document: PrintedDocument) {
    // Titles reach the XML metadata as they are, so what means something in XML gives way to its wide twin.
    const plain = (text: string): string =>
      text.replaceAll('&', '＆').replaceAll('<', '＜').replaceAll('>', '＞');
    this.pdf = new PdfWriter({
      size: document.paper,
      margin: 0,
      // No standard font: every glyph is embedded.
      font: '',
      bufferPages: true,
      pdfVersion: '1.7',
      tagged: true,
      displayTitle: true,
      lang: document.language,
      info: {
        Title: plain(document.title),
        ...(document.from[0] === undefined ? {} : { Author: plain(document.from[0]) }),
        Creator: 'Tollbook',
        CreationDate: document.datedAt,
        ModDate: document.datedAt,
      },
    });
    this.done = collect(this.pdf);
    this.right = this.pdf.page.width - marginX;
    this.bottom = this.pdf.page.height - marginBottom;
    this.type = new Typesetter(this.pdf);
    this.root = this.pdf.struct('Document');
    this.pdf.addStructure(this.root);
  }

  get width(): number {
    return this.right - this.left;
  }

  /** A new element of the structure, within `parent`. */
  element(parent: Element, tag: string, options: { readonly scope?: 'Column' | 'Row' } = {}) {
    const child = this.pdf.struct(tag, options);
    parent.add(child);
    return child;
  }

  /** Begins a new page unless so much room is left on this one. @returns Whether it did. */
  need(height: number): boolean {
    const isShort = this.y + height > this.bottom && this.y > marginTop;
    if (isShort) {
      this.pdf.addPage();
      this.y = marginTop;
      this.runningHead?.();
    }
    return isShort;
  }

  /** Whether so much would fit on a page of its own. */
  fitsOnPage(height: number): boolean {
    return height <= this.bottom - marginTop - 40;
  }

  /** Draws one line at `y`, as content of an element. It does not go on to the next line. */
  put(element: Element, text: string, at: { readonly x: number; readonly style: Style }): void {
    const baseline = this.y + at.style.size;
    element.add(() => this.type.draw(text, { x: at.x, baseline }, at.style));
  }

  /** The same, ending at `right`. */
  putRight(
    element: Element,
    text: string,
    at: { readonly right: number; readonly style: Style },
  ): void {
    this.put(element, text, { x: at.right - this.type.width(text, at.style), style: at.style });
  }

  /** Draws what belongs to no element: rules, running heads, page numbers. */
  artifact(draw: () => void): void {
    this.pdf.markContent('Artifact');
    draw();
    this.pdf.endMarkedContent();
  }

  /** A horizontal rule at `y`. */
  rule(from: number, to: number, of: { readonly color: string; readonly weight: number }): void {
    this.artifact(() => {
      this.pdf
        .moveTo(from, this.y)
        .lineTo(to, this.y)
        .lineWidth(of.weight)
        .strokeColor(of.color)
        .stroke();
    });
  }

  /** A frame with round corners. */
  frame(box: { x: number; y: number; width: number; height: number; color: string }): void {
    this.artifact(() => {
      this.pdf
        .roundedRect(box.x, box.y, box.width, box.height, 4)
        .lineWidth(1.2)
        .strokeColor(box.color)
        .stroke();
    });
  }

  /** Pale letters across the paper. */
  stamp(text: string): void {
    const { width, height } = this.pdf.page;
    const plain = style(100, 'bold', '#000000');
    // A long word is made as small as it must be.
    const size = Math.min(96, (100 * (width - 2 * marginX)) / this.type.width(text, plain));
    const fitted = { ...plain, size };
    this.artifact(() => {
      this.pdf.save();
      this.pdf.rotate(-30, { origin: [width / 2, height / 2] });
      this.pdf.fillOpacity(0.07);
      const x = (width - this.type.width(text, fitted)) / 2;
      this.type.draw(text, { x, baseline: height / 2 + size / 3 }, fitted);
      this.pdf.restore();
    });
  }

  /** Finishes every page and gives the file. */
  async finish(onEachPage: (page: number, pages: number) => void): Promise<Buffer> {
    const { start, count } = this.pdf.bufferedPageRange();
    for (let page = 0; page < count; page += 1) {
      this.pdf.switchToPage(start + page);
      this.y = this.bottom + 24;
      onEachPage(page + 1, count);
    }
    this.root.end();
    this.pdf.end();
    return this.done;
  }
}

async function collect(pdf: Pdf): Promise<Buffer> {
  const chunks: Buffer[] = [];
  return new Promise((resolve, reject) => {
    pdf.on('data', (chunk: Buffer) => chunks.push(chunk));
    pdf.on('error', reject);
    pdf.on('end', () => resolve(Buffer.concat(chunks)));
  });
}
