/** Sets text of mixed scripts in a PDF: measures it, breaks it into lines, draws it on a baseline. */
import type PdfWriter from 'pdfkit';

import { fontBytes, runsOf, type Weight } from './fonts.ts';

type Pdf = InstanceType<typeof PdfWriter>;

export type Style = { readonly size: number; readonly weight: Weight; readonly color: string };

/** Scripts that are written without spaces: a line may end after each of their characters, but not before these marks. */
const token =
  /[ \u3000]+|[\p{sc=Han}\p{sc=Hiragana}\p{sc=Katakana}][、。，．）」』】：；！？ー々ぁぃぅぇぉっゃゅょァィゥェォッャュョ]*|[^ \u3000\p{sc=Han}\p{sc=Hiragana}\p{sc=Katakana}]+/gu;

const graphemes = new Intl.Segmenter('en', { granularity: 'grapheme' });

export class Typesetter {
  private readonly pdf: Pdf;
  private readonly registered = new Set<string>();
  private readonly widths = new Map<string, number>();

  constructor(pdf: Pdf) {
    this.pdf = pdf;
  }

  /** In points. */
  width(text: string, style: Style): number {
    const key = `${style.size} ${style.weight} ${text}`;
    const width = this.widths.get(key) ?? this.measure(text, style);
    this.widths.set(key, width);
    return width;
  }

  private measure(text: string, style: Style): number {
    return runsOf(text, style.weight).reduce((sum, run) => {
      this.use(run.face, style);
      return sum + this.pdf.widthOfString(run.text);
    }, 0);
  }

  /** The lines of a text that is to be no wider than `widthMax`; a word that is wider is broken where it must. */
  wrap(text: string, style: Style, widthMax: number): readonly string[] {
    if (this.width(text, style) <= widthMax) return [text];
    const lines: string[] = [];
    let line = '';
    for (const piece of this.pieces(text, style, widthMax)) {
      if (line === '' || this.width((line + piece).trimEnd(), style) <= widthMax) {
        line += piece;
      } else {
        lines.push(line.trimEnd());
        line = piece.trimStart();
      }
    }
    const last = line.trimEnd();
    return last === '' && lines.length > 0 ? lines : [...lines, last];
  }

  /** Words, and of words that are wider than a line their characters. */
  private pieces(text: string, style: Style, widthMax: number): readonly string[] {
    return (text.match(token) ?? []).flatMap((piece) =>
      this.width(piece, style) <= widthMax
        ? [piece]
        : Array.from(graphemes.segment(piece), ({ segment }) => segment),
    );
  }

  /** One line, from `x` to the right; `baseline` in points from the top of the page. */
  draw(text: string, at: { readonly x: number; readonly baseline: number }, style: Style): void {
    let { x } = at;
    for (const run of runsOf(text, style.weight)) {
      this.use(run.face, style);
      this.pdf.fillColor(style.color);
      this.pdf.text(run.text, x, at.baseline, { lineBreak: false, baseline: 'alphabetic' });
      x += this.pdf.widthOfString(run.text);
    }
  }

  private use(face: string, style: Style): void {
    if (!this.registered.has(face)) {
      this.pdf.registerFont(face, fontBytes(face));
      this.registered.add(face);
    }
    this.pdf.font(face).fontSize(style.size);
  }
}
