/**
 * Reads a JSON body strictly: no repeated key, no key that names a prototype, bounded depth and size, and every
 * number as its source text. A price must not pass through a float, and a quantity of `1e3` or `-0` must be seen as written.
 */
export class JsonNumber {
  readonly source: string;
  constructor(source: string) {
    this.source = source;
  }
}

export type JsonReading =
  | { readonly kind: 'ok'; readonly value: unknown }
  | { readonly kind: 'refused'; readonly message: string; readonly field: string };

const DEPTH_MAX = 20;
const KEYS_MAX = 2_000;
const forbiddenKeys: ReadonlySet<string> = new Set(['__proto__', 'constructor', 'prototype']);

/** Parses `text`; numbers arrive as `JsonNumber`. */
export function readJson(text: string): JsonReading {
  const fault = structureFault(text);
  if (fault !== null) return { kind: 'refused', ...fault };
  try {
    const value: unknown = JSON.parse(text, keepNumbers);
    return { kind: 'ok', value };
  } catch (error) {
    const message = error instanceof SyntaxError ? shortSyntaxMessage(error) : 'is not JSON';
    return { kind: 'refused', message, field: 'body' };
  }
}

function keepNumbers(
  this: unknown,
  _key: string,
  value: unknown,
  context?: { readonly source?: string },
): unknown {
  return typeof value === 'number' ? new JsonNumber(context?.source ?? String(value)) : value;
}

// V8's message quotes the body: only its first half says something of use.
function shortSyntaxMessage(error: SyntaxError): string {
  const position = /at position (\d+)/.exec(error.message);
  return position === null
    ? 'is not JSON (it ends too early or is empty)'
    : `is not JSON: the fault is at character ${position[1] ?? ''}`;
}

type Frame =
  | { readonly kind: 'object'; readonly keys: Set<string>; expectsKey: boolean }
  | { readonly kind: 'array' };

/** One pass over the text, before it is parsed; it need not be valid JSON. */
function structureFault(text: string): { readonly message: string; readonly field: string } | null {
  const stack: Frame[] = [];
  let keyCount = 0;
  for (let at = 0; at < text.length; at += 1) {
    const character = text.charAt(at);
    const top = stack.at(-1);
    if (character === '"') {
      const end = endOfString(text, at);
      if (top?.kind === 'object' && top.expectsKey) {
        const key = keyOf(text.slice(at, end + 1));
        keyCount += 1;
        const fault = keyFault(key, top.keys, keyCount);
        if (fault !== null) return fault;
        top.keys.add(key);
        top.expectsKey = false;
      }
      at = end;
    } else if (character === '{' || character === '[') {
      stack.push(
        character === '{'
          ? { kind: 'object', keys: new Set(), expectsKey: true }
          : { kind: 'array' },
      );
      if (stack.length > DEPTH_MAX) {
        return { field: 'body', message: `is nested deeper than ${DEPTH_MAX} levels` };
      }
    } else if (character === '}' || character === ']') {
      stack.pop();
    } else if (character === ',' && top?.kind === 'object') {
      top.expectsKey = true;
    }
  }
  return null;
}

function keyFault(
  key: string,
  known: ReadonlySet<string>,
  keyCount: number,
): { readonly message: string; readonly field: string } | null {
  if (forbiddenKeys.has(key)) return { field: key, message: 'is not a property here' };
  if (known.has(key)) return { field: key.slice(0, 80), message: 'is given twice' };
  if (keyCount > KEYS_MAX) return { field: 'body', message: `has more than ${KEYS_MAX} keys` };
  return null;
}

function endOfString(text: string, start: number): number {
  for (let at = start + 1; at < text.length; at += 1) {
    const character = text.charAt(at);
    if (character === '\\') at += 1;
    else if (character === '"') return at;
  }
  return text.length;
}

// Keys are compared as they mean: "\u005f_proto__" is __proto__.
function keyOf(quoted: string): string {
  try {
    return String(JSON.parse(quoted));
  } catch {
    return quoted;
  }
}
