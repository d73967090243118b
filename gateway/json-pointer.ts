/** The tokens of an RFC 6901 pointer. */
export function pointerTokens(pointer: string): readonly string[] {
  return pointer
    .split('/')
    .slice(1)
    .map((token) => token.replaceAll('~1', '/').replaceAll('~0', '~'));
}

/** What the tokens lead to in a parsed JSON document; undefined when they lead nowhere. Own properties only. */
export function readPointer(document: unknown, tokens: readonly string[]): unknown {
  let at: unknown = document;
  for (const token of tokens) {
    if (Array.isArray(at)) {
      if (!/^(0|[1-9]\d{0,8})$/.test(token)) return undefined;
      const items: readonly unknown[] = at;
      at = items[Number(token)];
    } else if (typeof at === 'object' && at !== null && Object.hasOwn(at, token)) {
      at = Object.getOwnPropertyDescriptor(at, token)?.value;
    } else {
      return undefined;
    }
  }
  return at;
}
