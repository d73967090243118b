/**
 * The fonts that a PDF is set in, each embedded with the glyphs that it uses: Noto Sans for Latin, Greek, Cyrillic and
 * Devanagari, BIZ UDPGothic for Japanese. What neither holds is printed as □, and the document then says so.
 */
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

import * as fontkit from 'fontkit';

export type Weight = 'regular' | 'bold';

/** A stretch of text in one font. */
export type Run = { readonly face: string; readonly text: string };

type Face = {
  readonly bytes: Buffer;
  /** The code points that it has glyphs for. */
  readonly holds: ReadonlySet<number>;
};

const noto = '@expo-google-fonts/noto-sans';
const biz = '@expo-google-fonts/biz-udpgothic';

/** In the order in which they are asked. To print another script, add a font that holds it. */
const files: Readonly<Record<Weight, readonly string[]>> = {
  regular: [
    `${noto}/400Regular/NotoSans_400Regular.ttf`,
    `${biz}/400Regular/BIZUDPGothic_400Regular.ttf`,
  ],
  bold: [`${noto}/700Bold/NotoSans_700Bold.ttf`, `${biz}/700Bold/BIZUDPGothic_700Bold.ttf`],
};

const faces = new Map<string, Face>();

/** A font file, read when it is first needed and kept: the large ones are for a few documents only. */
function faceOf(file: string): Face {
  const known = faces.get(file);
  if (known !== undefined) return known;
  const bytes = readFileSync(fileURLToPath(import.meta.resolve(file)));
  const font = fontkit.create(bytes);
  if (!('characterSet' in font)) throw new Error(`${file} is a collection, not a font`);
  const face: Face = { bytes, holds: new Set(font.characterSet) };
  faces.set(file, face);
  return face;
}

/** The font's file, for whoever embeds it. */
export function fontBytes(face: string): Buffer {
  return faceOf(face).bytes;
}

/** What stands for a character that no font holds. */
const missing = '□';

const graphemes = new Intl.Segmenter('en', { granularity: 'grapheme' });

/**
 * The text in stretches of one font each, in its order. A character with its marks stays in one font, and follows the
 * stretch before it where that font holds it.
 */
export function runsOf(text: string, weight: Weight): readonly Run[] {
  const shownText = printable(text);
  // Nearly every text is in the first font, and then it need not be looked at character by character.
  const [first] = files[weight];
  if (first !== undefined && isHeld(shownText, first)) return [{ face: first, text: shownText }];
  const runs: { face: string; text: string }[] = [];
  for (const { segment } of graphemes.segment(shownText)) {
    const face = faceFor(segment, weight);
    const shown = face === null ? missing : segment;
    const name = face ?? faceFor(missing, weight) ?? '';
    const last = runs.at(-1);
    if (last?.face === name) last.text += shown;
    else runs.push({ face: name, text: shown });
  }
  return runs;
}

/** Whether every character of the text is in one of the fonts. */
export function isPrintable(text: string): boolean {
  const shownText = printable(text);
  const [first] = files.regular;
  if (first !== undefined && isHeld(shownText, first)) return true;
  return [...graphemes.segment(shownText)].every(
    ({ segment }) => faceFor(segment, 'regular') !== null,
  );
}

/** Without controls and marks of direction, which no font draws. */
function printable(text: string): string {
  return text
    .replaceAll(/[\p{Cc}\p{Zl}\p{Zp}]+/gu, ' ')
    .replaceAll(/(?![\u200c\u200d])\p{Cf}/gu, '');
}

function faceFor(grapheme: string, weight: Weight): string | null {
  return files[weight].find((file) => isHeld(grapheme, file)) ?? null;
}

function isHeld(text: string, file: string): boolean {
  const { holds } = faceOf(file);
  for (const character of text) {
    if (!holds.has(character.codePointAt(0) ?? 0)) return false;
  }
  return true;
}
