import assert from 'node:assert/strict';
import { crc32 as zipCrc32 } from 'node:zlib';
import fc from 'fast-check';
import { apiKeyLength, crc32, formatApiKey, parseApiKey, secretOf } from '../../billing/api-key.ts';

const alphabet = '0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz_-. é\n';
const key = fc
  .record({
    environment: fc.constantFrom('test' as const, 'live' as const),
    subscriberBody: fc.string({
      unit: fc.constantFrom(...'0123456789abcdefghijklmnopqrstuvwxyz'.split('')),
      minLength: 22,
      maxLength: 22,
    }),
    secret: fc.uint8Array({ minLength: 32, maxLength: 32 }).map(secretOf),
  })
  .map((parts) => ({ parts, text: formatApiKey(parts) }));

describe('billing/api-key', () => {
  it('has a golden vector', () => {
    const text = formatApiKey({
      environment: 'test',
      subscriberBody: 'abcdefghijklmnopqrstuv',
      secret: secretOf(new Uint8Array(32).fill(255)),
    });
    assert.equal(
      text,
      'tb_test_abcdefghijklmnopqrstuv_yhjskwdA6OZ1AL1YmHWZWm8LLG7HjnuCA2j5rOw8Xp1_2yIbKQ',
    );
    assert.equal(text.length, apiKeyLength);
  });

  it('checks with the CRC-32 that everybody uses', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'grapheme-ascii' }), (text) => {
        assert.equal(crc32(text), zipCrc32(text));
      }),
    );
  });

  it('reads back who it belongs to', () => {
    fc.assert(
      fc.property(key, ({ parts, text }) => {
        assert.deepEqual(parseApiKey(text), {
          kind: 'ok',
          environment: parts.environment,
          subscriberId: `sbr_${parts.subscriberBody}`,
        });
      }),
    );
  });

  it('refuses every change of a single character (invariant 13)', () => {
    fc.assert(
      fc.property(
        key,
        fc.nat(),
        fc.constantFrom(...alphabet.split('')),
        ({ text }, at, character) => {
          const index = at % text.length;
          fc.pre(text[index] !== character);
          const changed = text.slice(0, index) + character + text.slice(index + 1);
          assert.deepEqual(parseApiKey(changed), { kind: 'refused' });
        },
      ),
      { numRuns: 2000 },
    );
  });

  it('refuses what is cut, doubled, or swapped', () => {
    fc.assert(
      fc.property(key, fc.nat(), ({ text }, at) => {
        const index = at % text.length;
        const cut = text.slice(0, index) + text.slice(index + 1);
        const doubled = text.slice(0, index) + text.slice(index - 1);
        const mutations = [
          cut,
          doubled,
          `${text}\n`,
          ` ${text}`,
          text.toUpperCase(),
          text.repeat(2),
        ];
        for (const mutation of mutations) {
          if (mutation !== text) assert.equal(parseApiKey(mutation).kind, 'refused', mutation);
        }
      }),
    );
    assert.equal(parseApiKey('').kind, 'refused');
  });

  it('refuses parts that do not fit, and secrets of another size', () => {
    assert.throws(
      () => formatApiKey({ environment: 'live', subscriberBody: 'ABC', secret: 'x' }),
      RangeError,
    );
    assert.throws(() => secretOf(new Uint8Array(31)), RangeError);
    assert.match(secretOf(new Uint8Array(32)), /^0{43}$/);
  });
});
