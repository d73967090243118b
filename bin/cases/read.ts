/** A JSON object whose fields nobody has checked yet. */
export type Fields = { readonly [name: string]: unknown };

/** A number as the file spells it: a float would lose the digits of a great one and the end of a long one. */
export class JsonNumber {
  readonly source: string;
  constructor(source: string) {
    this.source = source;
  }
}

export type Example = {
  readonly id: string;
  readonly kind: string;
  readonly input: Fields;
  readonly expect: Fields;
};

/** One of a file's cases: run, left alone because it does not ask to be run, or asking for it in a shape that cannot be. */
export type Entry =
  | { readonly kind: 'example'; readonly example: Example }
  | { readonly kind: 'skipped' }
  | { readonly kind: 'malformed'; readonly id: string; readonly why: string };

export type ReadResult =
  | { readonly kind: 'ok'; readonly entries: readonly Entry[] }
  | { readonly kind: 'unreadable'; readonly why: string };

/** The cases of a file's text, or why it holds none. Numbers arrive as `JsonNumber`. */
export function readExamples(text: string): ReadResult {
  const parsed = parse(text);
  if (parsed.kind === 'unreadable') return parsed;
  const { value } = parsed;
  if (!isFields(value) || !Array.isArray(value['cases'])) {
    return { kind: 'unreadable', why: 'it has no list "cases"' };
  }
  return { kind: 'ok', entries: value['cases'].map(entryOf) };
}

function parse(
  text: string,
): { readonly kind: 'ok'; readonly value: unknown } | Extract<ReadResult, { kind: 'unreadable' }> {
  try {
    const value: unknown = JSON.parse(text.replace(/^\uFEFF/, ''), keepNumbers);
    return { kind: 'ok', value };
  } catch (error) {
    return {
      kind: 'unreadable',
      why: `it is not JSON: ${error instanceof Error ? error.message : String(error)}`,
    };
  }
}

function keepNumbers(
  this: unknown,
  _name: string,
  value: unknown,
  context?: { readonly source?: string },
): unknown {
  return typeof value === 'number' ? new JsonNumber(context?.source ?? String(value)) : value;
}

function entryOf(item: unknown, index: number): Entry {
  const place = `cases[${index}]`;
  if (!isFields(item)) return { kind: 'malformed', id: place, why: 'it is no object' };
  const { id, kind, input, expect, runnable } = item;
  // What is not runnable is only counted, so its shape does not matter.
  if (runnable === undefined || runnable === null || runnable === false) return { kind: 'skipped' };
  const name = typeof id === 'string' && id !== '' ? id : place;
  const malformed = (why: string): Entry => ({ kind: 'malformed', id: name, why });
  if (runnable !== true) return malformed('"runnable" is neither true nor false');
  if (typeof kind !== 'string') return malformed('it lacks a text "kind"');
  if (!isFields(input)) return malformed('it lacks an object "input"');
  if (!isFields(expect)) return malformed('it lacks an object "expect"');
  return { kind: 'example', example: { id: name, kind, input, expect } };
}

/** Whether a value is a JSON object. */
export function isFields(value: unknown): value is Fields {
  return (
    typeof value === 'object' &&
    value !== null &&
    !Array.isArray(value) &&
    !(value instanceof JsonNumber)
  );
}

/** JSON again, in one line, with every number as it was spelled. */
export function spellJson(value: unknown): string {
  if (value instanceof JsonNumber) return value.source;
  if (Array.isArray(value)) return `[${value.map(spellJson).join(',')}]`;
  if (!isFields(value)) return JSON.stringify(value) ?? 'nothing';
  const pairs = Object.entries(value).map(
    ([name, item]) => `${JSON.stringify(name)}:${spellJson(item)}`,
  );
  return `{${pairs.join(',')}}`;
}
