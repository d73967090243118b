import { isEventId } from './op-id.ts';
import { parseQuantity } from './quantity.ts';

/**
 * The facts that a shard's scripts append to its stream, one text field each, and their readers.
 * The format is written in Lua (`shards/scripts`) and read here; both are held to the same examples by
 * `test/shards/facts.test.ts`. Fields are separated by `|`, list items by `,`, pairs by `:`.
 *
 *   u|op_id|subscriber|subscription|segment|at_ms|product|key|status|meter:quantity,…|bucket:micro,…|overage|written_off|flags
 *   s|subscriber|period|at_ms                      sealed: no usage of this period can follow but as `late`
 *   e|subscriber|bucket|micro|at_ms                expired credits
 *   d|subscriber|core_seq|bucket|taken|at_ms       what a void or debit of the core log really took
 *   l|subscriber|available|at_ms                   balance_low: the edge below the threshold
 */
export type UsageFact = {
  readonly kind: 'usage';
  readonly opId: string;
  readonly subscriberId: string;
  /** Empty, like `segmentId`, when the shard could not say. */
  readonly subscriptionId: string;
  /** Empty when the shard could not say (an `unheld` or external event of an earlier segment): Postgres finds it by `atMs`. */
  readonly segmentId: string;
  readonly atMs: number;
  readonly productId: string;
  readonly keyId: string;
  readonly status: number;
  readonly quantities: readonly { readonly meter: string; readonly quantity: number }[];
  readonly takes: readonly { readonly bucketId: string; readonly micro: number }[];
  readonly overageMicro: number;
  readonly writtenOffMicro: number;
  /** `late`, `unheld`, `estimated`, `external`, `over_limit`, `slice`. */
  readonly flags: readonly string[];
};
export type SealFact = {
  readonly kind: 'seal';
  readonly subscriberId: string;
  readonly periodId: string;
  readonly atMs: number;
};
export type ExpiredFact = {
  readonly kind: 'expired';
  readonly subscriberId: string;
  readonly bucketId: string;
  readonly micro: number;
  readonly atMs: number;
};
export type DebitFact = {
  readonly kind: 'debit';
  readonly subscriberId: string;
  readonly coreSeq: number;
  readonly bucketId: string;
  readonly takenMicro: number;
  readonly atMs: number;
};
export type LowFact = {
  readonly kind: 'low';
  readonly subscriberId: string;
  readonly availableMicro: number;
  readonly atMs: number;
};
export type StreamFact = UsageFact | SealFact | ExpiredFact | DebitFact | LowFact;

/** Every flag that a usage fact may carry. */
export const usageFlags: readonly string[] = [
  'late',
  'unheld',
  'estimated',
  'external',
  'over_limit',
  'slice',
];

/** A text that no script of ours writes. `field` names what is wrong; the whole text is in `fact`. */
export class MalformedFact extends Error {
  readonly field: string;
  readonly fact: string;
  constructor(field: string, fact: string) {
    super(`malformed fact: ${field} in ${JSON.stringify(fact.slice(0, 400))}`);
    this.name = 'MalformedFact';
    this.field = field;
    this.fact = fact;
  }
}

/**
 * Reads one entry of a shard's stream, strictly: every field is present, in its grammar and in its bounds.
 * Quantities are in the meter's smallest unit, credits in micro-credits, instants in epoch milliseconds.
 * @throws MalformedFact naming the field.
 */
export function parseFact(text: string): StreamFact {
  const kind = text.slice(0, 2);
  const count = counts[kind];
  if (count === undefined) throw new MalformedFact('kind', text);
  const fields = text.split('|');
  if (fields.length !== count) throw new MalformedFact('field count', text);
  const read = new FieldReader(text, fields);
  switch (kind) {
    case 'u|':
      return readUsage(read);
    case 's|':
      return {
        kind: 'seal',
        subscriberId: read.id(1, 'subscriber', 'sbr'),
        periodId: read.id(2, 'period', 'per'),
        atMs: read.integer(3, 'at_ms'),
      };
    case 'e|':
      return {
        kind: 'expired',
        subscriberId: read.id(1, 'subscriber', 'sbr'),
        bucketId: read.row(2, 'bucket'),
        micro: read.integer(3, 'micro'),
        atMs: read.integer(4, 'at_ms'),
      };
    case 'd|':
      return {
        kind: 'debit',
        subscriberId: read.id(1, 'subscriber', 'sbr'),
        coreSeq: read.integer(2, 'core_seq'),
        bucketId: read.row(3, 'bucket'),
        takenMicro: read.integer(4, 'taken'),
        atMs: read.integer(5, 'at_ms'),
      };
    default:
      return {
        kind: 'low',
        subscriberId: read.id(1, 'subscriber', 'sbr'),
        availableMicro: read.integer(2, 'available'),
        atMs: read.integer(3, 'at_ms'),
      };
  }
}

const counts: Readonly<Record<string, number>> = { 'u|': 14, 's|': 4, 'e|': 5, 'd|': 6, 'l|': 4 };

function readUsage(read: FieldReader): UsageFact {
  return {
    kind: 'usage',
    opId: read.text(1, 'op_id', isEventId),
    subscriberId: read.id(2, 'subscriber', 'sbr'),
    subscriptionId: read.idOrNone(3, 'subscription', 'sub'),
    segmentId: read.rowOrNone(4, 'segment'),
    atMs: read.integer(5, 'at_ms'),
    productId: read.id(6, 'product', 'prod'),
    keyId: read.idOrNone(7, 'key', 'key'),
    status: read.integer(8, 'status', 999),
    quantities: read.pairs(9, 'quantities', readQuantity),
    takes: read.pairs(10, 'takes', readTake),
    overageMicro: read.integer(11, 'overage'),
    writtenOffMicro: read.integer(12, 'written_off'),
    flags: read.flags(13, 'flags'),
  };
}

const meterGrammar = /^[a-z][a-z0-9_]{1,62}$/;
const rowGrammar = /^[1-9][0-9]{0,18}$/;
const idGrammars = {
  sbr: /^sbr_[0-9a-z]{22}$/,
  sub: /^sub_[0-9a-z]{22}$/,
  per: /^per_[0-9a-z]{22}$/,
  prod: /^prod_[0-9a-z]{22}$/,
  key: /^key_[0-9a-z]{22}$/,
} as const;
type IdPrefix = keyof typeof idGrammars;

/** What a pair of a list says, or null when its left side is not in its grammar. */
type ReadPair<Pair> = (left: string, right: number) => Pair | null;

const readQuantity: ReadPair<UsageFact['quantities'][number]> = (meter, quantity) =>
  meterGrammar.test(meter) ? { meter, quantity } : null;
const readTake: ReadPair<UsageFact['takes'][number]> = (bucketId, micro) =>
  rowGrammar.test(bucketId) ? { bucketId, micro } : null;

/** The fields of one fact, by their place. The drain reads each of a shard's facts with one, so it makes no closures. */
class FieldReader {
  readonly #fact: string;
  readonly #fields: readonly string[];

  constructor(fact: string, fields: readonly string[]) {
    this.#fact = fact;
    this.#fields = fields;
  }

  text(index: number, field: string, isRight: (value: string) => boolean): string {
    const value = this.#at(index);
    if (!isRight(value)) throw this.#malformed(field);
    return value;
  }

  integer(index: number, field: string, max?: number): number {
    const value = this.#integerOf(this.#at(index), field);
    if (max !== undefined && value > max) throw this.#malformed(field);
    return value;
  }

  id(index: number, field: string, prefix: IdPrefix): string {
    return this.#matching(index, field, idGrammars[prefix]);
  }

  idOrNone(index: number, field: string, prefix: IdPrefix): string {
    return this.#at(index) === '' ? '' : this.id(index, field, prefix);
  }

  row(index: number, field: string): string {
    return this.#matching(index, field, rowGrammar);
  }

  rowOrNone(index: number, field: string): string {
    return this.#at(index) === '' ? '' : this.row(index, field);
  }

  pairs<Pair>(index: number, field: string, read: ReadPair<Pair>): Pair[] {
    return this.#items(index).map((item) => {
      const colon = item.indexOf(':');
      const pair = read(item.slice(0, colon), this.#integerOf(item.slice(colon + 1), field));
      if (colon < 0 || pair === null) throw this.#malformed(field);
      return pair;
    });
  }

  flags(index: number, field: string): string[] {
    const flags = this.#items(index);
    if (!flags.every((flag) => usageFlags.includes(flag))) throw this.#malformed(field);
    return flags;
  }

  #at(index: number): string {
    return this.#fields[index] ?? '';
  }

  #items(index: number): string[] {
    const list = this.#at(index);
    return list === '' ? [] : list.split(',');
  }

  #matching(index: number, field: string, grammar: RegExp): string {
    const value = this.#at(index);
    if (!grammar.test(value)) throw this.#malformed(field);
    return value;
  }

  #integerOf(text: string, field: string): number {
    const value = parseQuantity(text);
    if (value === null) throw this.#malformed(field);
    return value;
  }

  #malformed(field: string): MalformedFact {
    return new MalformedFact(field, this.#fact);
  }
}

/** The text of a fact as a script writes it; `parseFact` gives the same fact back. */
export function formatFact(fact: StreamFact): string {
  return fieldsOf(fact).join('|');
}

function fieldsOf(fact: StreamFact): readonly (string | number)[] {
  switch (fact.kind) {
    case 'usage':
      return [
        'u',
        fact.opId,
        fact.subscriberId,
        fact.subscriptionId,
        fact.segmentId,
        fact.atMs,
        fact.productId,
        fact.keyId,
        fact.status,
        fact.quantities.map(({ meter, quantity }) => `${meter}:${quantity}`).join(','),
        fact.takes.map(({ bucketId, micro }) => `${bucketId}:${micro}`).join(','),
        fact.overageMicro,
        fact.writtenOffMicro,
        fact.flags.join(','),
      ];
    case 'seal':
      return ['s', fact.subscriberId, fact.periodId, fact.atMs];
    case 'expired':
      return ['e', fact.subscriberId, fact.bucketId, fact.micro, fact.atMs];
    case 'debit':
      return ['d', fact.subscriberId, fact.coreSeq, fact.bucketId, fact.takenMicro, fact.atMs];
    case 'low':
      return ['l', fact.subscriberId, fact.availableMicro, fact.atMs];
    default:
      return fact satisfies never;
  }
}
