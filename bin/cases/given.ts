import { type Fields, isFields } from './read.ts';

/**
 * The input of a case, which remembers what was looked at: a field that no rule has read might have been meant to change
 * the answer, so that it is told.
 */
export class Given {
  readonly #fields: Fields;
  readonly #path: string;
  readonly #read = new Set<string>();
  readonly #parts: Given[] = [];

  constructor(fields: Fields, path = 'input') {
    this.#fields = fields;
    this.#path = path;
  }

  /** The value of a field as it stands; null when there is none. */
  take(name: string): unknown {
    this.#read.add(name);
    return Object.hasOwn(this.#fields, name) ? (this.#fields[name] ?? null) : null;
  }

  has(name: string): boolean {
    return this.take(name) !== null;
  }

  /** How messages call a field: `input.tiers[2].flat`. */
  pathOf(name: string): string {
    return `${this.#path}.${name}`;
  }

  /** The objects of a list, whose fields are remembered as these are. @throws TypeError when it is no list of objects. */
  partsOf(name: string): readonly Given[] {
    const value = this.take(name);
    if (!Array.isArray(value)) throw new TypeError(`${this.pathOf(name)} is no list`);
    const parts = value.map((item: unknown, index) => {
      const path = `${this.pathOf(name)}[${index}]`;
      if (!isFields(item)) throw new TypeError(`${path} is no object`);
      return new Given(item, path);
    });
    this.#parts.push(...parts);
    return parts;
  }

  /** The fields that nothing has read. Nulls say nothing, and remarks say something to people only. */
  unread(): readonly string[] {
    const own = Object.keys(this.#fields).filter(
      (name) => !this.#read.has(name) && !isRemark(name) && (this.#fields[name] ?? null) !== null,
    );
    return [
      ...own.map((name) => this.pathOf(name)),
      ...this.#parts.flatMap((part) => part.unread()),
    ];
  }
}

const remarks =
  /^(note|comment|remark|source|convention|description|explanation|title|label|id|name|reason|reference|ref|url|link|author|tag)s?$/i;

/** Whether a field describes a case instead of saying what to work out. */
export function isRemark(name: string): boolean {
  return remarks.test(name) || /^[_$#/]/.test(name);
}
