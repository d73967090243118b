import assert from 'node:assert/strict';

import fc from 'fast-check';

import { JsonNumber, readJson } from '../../admin/json.ts';

const plain = (value: unknown): unknown => {
  if (value instanceof JsonNumber) return Number(value.source);
  if (Array.isArray(value)) return value.map((item) => plain(item));
  if (typeof value !== 'object' || value === null) return value;
  return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, plain(item)]));
};

describe('admin › readJson', () => {
  it('reads every JSON document as JSON.parse does, but for what it refuses', () => {
    fc.assert(
      fc.property(fc.json({ maxDepth: 5 }), (text) => {
        const reading = readJson(text);
        if (reading.kind === 'ok') assert.deepEqual(plain(reading.value), JSON.parse(text));
        else assert.match(reading.message, /twice|property|nested|keys/);
      }),
      { numRuns: 1_000 },
    );
  });

  it('never throws, and takes nothing that JSON.parse refuses', () => {
    fc.assert(
      fc.property(
        fc.string({ unit: fc.constantFrom(...Array.from('{}[]",:\\ \n01.e-+truefalsn"u')) }),
        (text) => {
          if (readJson(text).kind === 'ok') assert.doesNotThrow(() => JSON.parse(text));
        },
      ),
      { numRuns: 5_000 },
    );
  });

  it('finds a key that is given twice at any depth, however it is spelled', () => {
    const key = fc.string({ minLength: 1, maxLength: 8 }).filter((text) => text !== '__proto__');
    fc.assert(
      fc.property(key, fc.nat(8), (name, depth) => {
        const escaped = Array.from(name).map((c) =>
          c.length === 1 ? `\\u${c.charCodeAt(0).toString(16).padStart(4, '0')}` : c,
        );
        const object = `{${JSON.stringify(name)}:1,"${escaped.join('')}":2}`;
        const reading = readJson('[{"x":'.repeat(depth) + object + '}]'.repeat(depth));
        assert.equal(reading.kind, 'refused');
      }),
    );
  });

  it('keeps the source of a number', () => {
    const reading = readJson('{"a":0.10,"b":-0,"c":1e3,"d":12345678901234567890.123}');
    assert.ok(reading.kind === 'ok');
    assert.deepEqual(reading.value, {
      a: new JsonNumber('0.10'),
      b: new JsonNumber('-0'),
      c: new JsonNumber('1e3'),
      d: new JsonNumber('12345678901234567890.123'),
    });
  });
});
