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
  const read = readerOf(text, fields);
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
    quantities: read.pairs(9, 'quantities', meterGrammar).map(([meter, quantity]) => ({
      meter,
      quantity,
    })),
    takes: read.pairs(10, 'takes', rowGrammar).map(([bucketId, micro]) => ({ bucketId, micro })),
    overageMicro: read.integer(11, 'overage'),
    writtenOffMicro: read.integer(12, 'written_off'),
    flags: read.flags(13, 'flags'),
  };
}

const meterGrammar = /^[a-z][a-z0-9_]{1,62}$/;
const rowGrammar = /^[1-9][0-9]{0,18}$/;
const idBodyGrammar = /^[0-9a-z]{22}$/;

function isId(prefix: string): (value: string) => boolean {
  return (value) =>
    value.startsWith(`${prefix}_`) && idBodyGrammar.test(value.slice(prefix.length + 1));
}

type FieldReader = ReturnType<typeof readerOf>;

function readerOf(fact: string, fields: readonly string[]) {
  const at = (index: number): string => fields[index] ?? '';
  const require = (isRight: boolean, field: string): void => {
    if (!isRight) throw new MalformedFact(field, fact);
  };
  const integerOf = (text: string, field: string): number => {
    const value = parseQuantity(text);
    if (value === null) throw new MalformedFact(field, fact);
    return value;
  };
  const text = (index: number, field: string, isRight: (value: string) => boolean): string => {
    require(isRight(at(index)), field);
    return at(index);
  };
  const items = (index: number): string[] => (at(index) === '' ? [] : at(index).split(','));
  return {
    text,
    integer: (index: number, field: string, max?: number): number => {
      const value = integerOf(at(index), field);
      require(max === undefined || value <= max, field);
      return value;
    },
    id: (index: number, field: string, prefix: string) => text(index, field, isId(prefix)),
    idOrNone: (index: number, field: string, prefix: string) =>
      text(index, field, (value) => value === '' || isId(prefix)(value)),
    row: (index: number, field: string) => text(index, field, (value) => rowGrammar.test(value)),
    rowOrNone: (index: number, field: string) =>
      text(index, field, (value) => value === '' || rowGrammar.test(value)),
    pairs: (index: number, field: string, name: RegExp): [string, number][] =>
      items(index).map((item) => {
        const [left = '', right = '', ...more] = item.split(':');
        require(more.length === 0 && name.test(left), field);
        return [left, integerOf(right, field)];
      }),
    flags: (index: number, field: string): string[] => {
      const flags = items(index);
      require(flags.every((flag) => usageFlags.includes(flag)), field);
      return flags;
    },
  };
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
