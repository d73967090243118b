import assert from 'node:assert/strict';
import fc from 'fast-check';
import {
  formatFact,
  MalformedFact,
  parseFact,
  type StreamFact,
  usageFlags,
} from '../../billing/usage-fact.ts';

/** Objects with a prototype, like those that the reader makes. */
function record<T extends object>(model: { [K in keyof T]: fc.Arbitrary<T[K]> }): fc.Arbitrary<T> {
  return fc.record<T>(model, { noNullPrototype: true });
}

const digits = '0123456789abcdefghijklmnopqrstuvwxyz'.split('');
const id = (prefix: string): fc.Arbitrary<string> =>
  fc
    .string({ unit: fc.constantFrom(...digits), minLength: 22, maxLength: 22 })
    .map((body) => `${prefix}_${body}`);
const amount = fc.integer({ min: 0, max: 999_999_999_999_999 });
const row = fc.bigInt({ min: 1n, max: 9_223_372_036_854_775_807n }).map(String);
const meter = fc.stringMatching(/^[a-z][a-z0-9_]{1,62}$/);

const usage: fc.Arbitrary<StreamFact> = record({
  kind: fc.constant('usage' as const),
  opId: fc.constantFrom(
    '20250131-abc123-1f',
    '20240229-xabcdefghijklmno-0',
    '20250131-abc123-1f.2',
  ),
  subscriberId: id('sbr'),
  subscriptionId: fc.oneof(id('sub'), fc.constant('')),
  segmentId: fc.oneof(row, fc.constant('')),
  atMs: amount,
  productId: id('prod'),
  keyId: fc.oneof(id('key'), fc.constant('')),
  status: fc.integer({ min: 0, max: 999 }),
  quantities: fc.array(record({ meter, quantity: amount }), { maxLength: 4 }),
  takes: fc.array(record({ bucketId: row, micro: amount }), { maxLength: 4 }),
  overageMicro: amount,
  writtenOffMicro: amount,
  flags: fc.subarray([...usageFlags]),
});
const fact: fc.Arbitrary<StreamFact> = fc.oneof(
  usage,
  record({
    kind: fc.constant('seal' as const),
    subscriberId: id('sbr'),
    periodId: id('per'),
    atMs: amount,
  }),
  record({
    kind: fc.constant('expired' as const),
    subscriberId: id('sbr'),
    bucketId: row,
    micro: amount,
    atMs: amount,
  }),
  record({
    kind: fc.constant('debit' as const),
    subscriberId: id('sbr'),
    coreSeq: amount,
    bucketId: row,
    takenMicro: amount,
    atMs: amount,
  }),
  record({
    kind: fc.constant('low' as const),
    subscriberId: id('sbr'),
    availableMicro: amount,
    atMs: amount,
  }),
);

const body = 'abcdefghijklmnopqrstuv';
const fields = [
  ...['u', '20250131-abc123-1f', `sbr_${body}`, `sub_${body}`, '12', '1738281600000'],
  ...[`prod_${body}`, `key_${body}`, '200', 'api_calls:1,tokens:20', '3:100', '0', '0', 'late'],
];

describe('billing/usage-fact', () => {
  it('reads back as it was written (invariant 14)', () => {
    fc.assert(
      fc.property(fact, (given) => {
        assert.deepEqual(parseFact(formatFact(given)), given);
      }),
    );
  });

  it('reads the example', () => {
    assert.deepEqual(parseFact(fields.join('|')), {
      kind: 'usage',
      opId: '20250131-abc123-1f',
      subscriberId: `sbr_${body}`,
      subscriptionId: `sub_${body}`,
      segmentId: '12',
      atMs: 1_738_281_600_000,
      productId: `prod_${body}`,
      keyId: `key_${body}`,
      status: 200,
      quantities: [
        { meter: 'api_calls', quantity: 1 },
        { meter: 'tokens', quantity: 20 },
      ],
      takes: [{ bucketId: '3', micro: 100 }],
      overageMicro: 0,
      writtenOffMicro: 0,
      flags: ['late'],
    });
  });

  const bad: readonly (readonly [number, string, readonly string[]])[] = [
    [1, 'op_id', ['', '20250230-abc123-1f', 'x']],
    [2, 'subscriber', ['', 'sbr_', `sub_${body}`, `sbr_${body}x`, `sbr_${body.toUpperCase()}`]],
    [3, 'subscription', [`sbr_${body}`, 'sub_']],
    [4, 'segment', ['0', '-1', '01', '1.0', 'x']],
    [5, 'at_ms', ['', '-1', '1e3', '1.5', '1000000000000000']],
    [6, 'product', ['', `sub_${body}`]],
    [7, 'key', ['key_', `sub_${body}`]],
    [8, 'status', ['', '1000', '-1']],
    [
      9,
      'quantities',
      [
        'api_calls',
        'api_calls:',
        ':1',
        'Api:1',
        'api_calls:1:2',
        'api_calls:1,',
        'api_calls:1e3',
        'a:1',
      ],
    ],
    [10, 'takes', ['3', '0:1', 'x:1', '3:-1', ',', '3:1000000000000000']],
    [11, 'overage', ['', '-1', 'nan']],
    [12, 'written_off', ['', '1.5', 'inf']],
    [13, 'flags', ['LATE', 'late,', ',', 'nonsense']],
  ];
  for (const [index, field, values] of bad) {
    it(`refuses a malformed ${field} by name (invariant 14)`, () => {
      for (const value of values) {
        const text = fields.with(index, value).join('|');
        assert.throws(
          () => parseFact(text),
          (error) => error instanceof MalformedFact && error.field === field && error.fact === text,
          text,
        );
      }
    });
  }

  const sbr = `sbr_${body}`;
  const others: readonly (readonly [string, readonly (readonly [string, string])[]])[] = [
    [
      's',
      [
        ['subscriber', sbr],
        ['period', `per_${body}`],
        ['at_ms', '5'],
      ],
    ],
    [
      'e',
      [
        ['subscriber', sbr],
        ['bucket', '3'],
        ['micro', '100'],
        ['at_ms', '5'],
      ],
    ],
    [
      'd',
      [
        ['subscriber', sbr],
        ['core_seq', '7'],
        ['bucket', '3'],
        ['taken', '9'],
        ['at_ms', '5'],
      ],
    ],
    [
      'l',
      [
        ['subscriber', sbr],
        ['available', '0'],
        ['at_ms', '5'],
      ],
    ],
  ];
  for (const [kind, parts] of others) {
    it(`refuses a malformed field of ${kind} by name (invariant 14)`, () => {
      const right = [kind, ...parts.map(([, value]) => value)];
      assert.equal(formatFact(parseFact(right.join('|'))), right.join('|'));
      for (const [index, [field]] of parts.entries()) {
        const text = right.with(index + 1, '01').join('|');
        assert.throws(() => parseFact(text), { name: 'MalformedFact', field, fact: text }, text);
      }
    });
  }

  it('writes lists in their order, and a status up to 999', () => {
    const text = fields.with(8, '999').with(10, '3:100,4:200').with(13, 'late,slice').join('|');
    assert.equal(formatFact(parseFact(text)), text);
  });

  it('says which field of which text, of a long one its beginning', () => {
    const text = `u|${'x'.repeat(1_000)}`;
    assert.throws(() => parseFact(text), {
      message: `malformed fact: field count in "u|${'x'.repeat(398)}"`,
      fact: text,
    });
  });

  it('refuses other kinds and other numbers of fields', () => {
    for (const text of ['', 'x|1', 'u', 'S|a|b|1', '|', 'uu|1']) {
      assert.throws(() => parseFact(text), { name: 'MalformedFact', field: 'kind' }, text);
    }
    for (const text of [`${fields.join('|')}|`, fields.slice(0, -1).join('|'), `s|sbr_${body}|1`]) {
      assert.throws(() => parseFact(text), { name: 'MalformedFact', field: 'field count' }, text);
    }
  });
});
