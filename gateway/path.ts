/**
 * Reads the request target so that gateway and upstream cannot understand two different paths: what one server decodes
 * or normalises and another does not is refused, because the route decides the price.
 */
export type RequestPath = {
  /** As it was sent, without the query. */
  readonly raw: string;
  /** '' or `?…`, as it was sent. */
  readonly query: string;
  /** Decoded and in lower case: many upstreams match without regard to case, so the price does too. */
  readonly segments: readonly string[];
};

/** Null: not a path that all servers read alike (`..`, `//`, `%2f`, a backslash, control characters, bad escapes). */
export function readPath(target: string): RequestPath | null {
  if (target.charCodeAt(0) !== 47) return null;
  const queryAt = target.indexOf('?');
  const raw = queryAt === -1 ? target : target.slice(0, queryAt);
  const query = queryAt === -1 ? '' : target.slice(queryAt);
  if (raw.includes('#') || query.includes('#')) return null;
  const parts = raw.split('/');
  const segments: string[] = [];
  for (let index = 1; index < parts.length; index += 1) {
    const part = parts[index] ?? '';
    // A last slash is tolerated, as most servers do.
    if (part === '' && index === parts.length - 1) break;
    const segment = readSegment(part);
    if (segment === null) return null;
    segments.push(segment);
  }
  return { raw, query, segments };
}

/** The path behind its first segment: `/weather/v1/x` → `/v1/x`, `/weather` → `/`. */
export function withoutFirstSegment(path: RequestPath): RequestPath {
  const slashAt = path.raw.indexOf('/', 1);
  return {
    raw: slashAt === -1 ? '/' : path.raw.slice(slashAt),
    query: path.query,
    segments: path.segments.slice(1),
  };
}

function readSegment(part: string): string | null {
  let text = part;
  if (part.includes('%')) {
    try {
      text = decodeURIComponent(part);
    } catch {
      return null;
    }
  }
  if (text === '' || text === '.' || text === '..') return null;
  for (let index = 0; index < text.length; index += 1) {
    const code = text.charCodeAt(index);
    // Control characters and space, `/` and `\` that were escaped, `;` (path parameters hide dots from some servers),
    // and a second layer of escapes.
    if (code <= 32 || code === 127 || code === 47 || code === 92 || code === 59 || code === 37) {
      return null;
    }
  }
  return text.toLowerCase();
}
