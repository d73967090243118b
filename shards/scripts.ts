/**
 * The scripts as they are loaded into one shard. Each text begins with `#!lua`, so that Redis refuses it before its
 * first line when it must not write (READONLY, OOM, MISCONF, NOREPLICAS), and names the shard and its incarnation: a
 * restarted, promoted or wiped server has no such text in its cache and answers NOSCRIPT. That is the fence, so nothing
 * here ever falls back to EVAL.
 */
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';

/** Each script and the parts of Lua that go before it. */
const parts = {
  authorize: ['arguments', 'operations', 'credits', 'segments', 'holds'],
  settle: ['arguments', 'operations', 'credits', 'segments', 'holds'],
  record: ['arguments', 'operations', 'credits', 'segments'],
  apply: ['arguments', 'credits', 'segments'],
  credit: ['arguments', 'credits'],
  seal: ['arguments', 'segments'],
  expire: ['arguments', 'operations', 'credits', 'segments', 'recount'],
  read: ['arguments', 'credits', 'segments'],
} as const satisfies Record<string, readonly string[]>;

export type ScriptName = keyof typeof parts;
export type Script = { readonly text: string; readonly sha: string };
export type ScriptSet = Readonly<Record<ScriptName, Script>>;

const sources = new Map<string, string>();
const sets = new Map<string, ScriptSet>();

/** The scripts of one incarnation of one shard. */
export function scriptsOf(shard: string, incarnation: number): ScriptSet {
  const name = `${shard}:${incarnation}`;
  const known = sets.get(name);
  if (known !== undefined) return known;
  const set: ScriptSet = {
    authorize: script('authorize', name),
    settle: script('settle', name),
    record: script('record', name),
    apply: script('apply', name),
    credit: script('credit', name),
    seal: script('seal', name),
    expire: script('expire', name),
    read: script('read', name),
  };
  sets.set(name, set);
  return set;
}

function script(name: ScriptName, incarnation: string): Script {
  const shared = parts[name].map((part) => source(`parts/${part}`)).join('\n');
  const body = withoutUnused(`${shared}\n${source(name)}`);
  const text = `#!lua\n-- tollbook ${name} for ${JSON.stringify(incarnation)}\n${body}`;
  return { text, sha: createHash('sha1').update(text).digest('hex') };
}

/** A function at the left margin: up to the `end` at the left margin, or within one line. */
const functionForm = /^local function (\w+)\((?:.*\bend|.*(?:\n(?!end\b).*)*\nend)$\n?/gm;

/**
 * Leaves out the shared functions that a script does not name: Lua makes each of them anew at every call, about 0.1 µs
 * apiece (fifty of them are a tenth of an authorize).
 */
function withoutUnused(text: string): string {
  const kept = text.replaceAll(functionForm, (whole, name: string) =>
    text.split(new RegExp(`\\b${name}\\b`)).length > 2 ? whole : '',
  );
  return kept === text ? text : withoutUnused(kept);
}

function source(path: string): string {
  const known = sources.get(path);
  if (known !== undefined) return known;
  const text = readFileSync(new URL(`./scripts/${path}.lua`, import.meta.url), 'utf8');
  sources.set(path, text);
  return text;
}
