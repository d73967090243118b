/** A JSON object whose fields nobody has checked yet. */
export type Fields = { readonly [name: string]: unknown };

export type Example = {
  readonly id: string;
  readonly kind: string;
  readonly input: Fields;
  readonly expect: Fields;
  readonly runnable: boolean;
};

export type ReadResult =
  | { readonly kind: 'ok'; readonly examples: readonly Example[] }
  | { readonly kind: 'unreadable'; readonly why: string };

/** The examples of a file's text, or why it holds none. */
export function readExamples(text: string): ReadResult {
  const parsed = parse(text);
  if (parsed.kind === 'unreadable') return parsed;
  const { value } = parsed;
  if (!isFields(value) || !Array.isArray(value['cases'])) {
    return { kind: 'unreadable', why: 'it has no list "cases"' };
  }
  const list: readonly unknown[] = value['cases'];
  const bad = list.findIndex((item) => exampleOf(item) === null);
  if (bad >= 0) {
    return {
      kind: 'unreadable',
      why: `cases[${bad}] lacks an id, a kind, an object "input" or an object "expect"`,
    };
  }
  return { kind: 'ok', examples: list.flatMap((item) => exampleOf(item) ?? []) };
}

function parse(
  text: string,
): { readonly kind: 'ok'; readonly value: unknown } | Extract<ReadResult, { kind: 'unreadable' }> {
  try {
    const value: unknown = JSON.parse(text);
    return { kind: 'ok', value };
  } catch (error) {
    return {
      kind: 'unreadable',
      why: `it is not JSON: ${error instanceof Error ? error.message : String(error)}`,
    };
  }
}

function exampleOf(item: unknown): Example | null {
  if (!isFields(item)) return null;
  const { id, kind, input, expect, runnable } = item;
  if (typeof id !== 'string' || typeof kind !== 'string') return null;
  // What is not runnable is only counted, so its shape does not matter.
  if (runnable !== true) return { id, kind, input: {}, expect: {}, runnable: false };
  if (!isFields(input) || !isFields(expect)) return null;
  return { id, kind, input, expect, runnable: true };
}

/** Whether a value is a JSON object. */
export function isFields(value: unknown): value is Fields {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
