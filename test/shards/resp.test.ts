/** Replies are the same however they are cut, and nothing that is no reply is taken for one. */
import assert from 'node:assert/strict';

import fc from 'fast-check';

import {
  encodeCommand,
  NoReply,
  ReplyError,
  ReplyReader,
  type RespValue,
} from '../../shards/resp.ts';

function encodeReply(value: RespValue): string {
  if (value === null) return '$-1\r\n';
  if (typeof value === 'number') return `:${value}\r\n`;
  if (typeof value === 'string') return `$${Buffer.byteLength(value)}\r\n${value}\r\n`;
  if (value instanceof ReplyError) return `-${value.message}\r\n`;
  return `*${value.length}\r\n${value.map(encodeReply).join('')}`;
}

function readAll(chunks: readonly Buffer[]): RespValue[] {
  const replies: RespValue[] = [];
  const reader = new ReplyReader((reply) => replies.push(reply));
  for (const chunk of chunks) reader.push(chunk);
  return replies;
}

const { value: anyReply } = fc.letrec<{ value: RespValue; list: readonly RespValue[] }>((tie) => ({
  value: fc.oneof(
    { maxDepth: 3 },
    fc.maxSafeInteger(),
    fc.string({ unit: 'binary' }),
    fc.constant(null),
    fc.stringMatching(/^[A-Z]{2,8} [ -~é]{0,10}$/).map((line) => new ReplyError(line)),
    tie('list'),
  ),
  list: fc.array(tie('value'), { maxLength: 6 }),
}));

describe('shards/resp', () => {
  it('reads a reply that is cut at every byte', () => {
    const replies: RespValue[] = [
      ['ok', 12, 'sub_é€😀', null, [-7, [], new ReplyError('ERR inside')]],
      new ReplyError('NOSCRIPT No matching script.'),
      '',
      'a\r\nb',
      Number.MAX_SAFE_INTEGER,
    ];
    const bytes = Buffer.from(replies.map(encodeReply).join(''));
    for (let at = 0; at <= bytes.length; at += 1) {
      assert.deepEqual(readAll([bytes.subarray(0, at), bytes.subarray(at)]), replies);
    }
    const single = [...bytes].map((byte) => Buffer.from([byte]));
    assert.deepEqual(readAll(single), replies);
    assert.deepEqual(readAll([Buffer.from('+PONG\r\n*-1\r\n')]), ['PONG', null]);
  });

  it('reads any replies in any pieces', () => {
    fc.assert(
      fc.property(
        fc.array(anyReply, { maxLength: 5 }),
        fc.array(fc.nat({ max: 40 }), { minLength: 1 }),
        (replies, sizes) => {
          const bytes = Buffer.from(replies.map(encodeReply).join(''));
          const chunks: Buffer[] = [];
          for (let at = 0, n = 0; at < bytes.length; n += 1) {
            const end = at + (sizes[n % sizes.length] ?? 0) + 1;
            chunks.push(bytes.subarray(at, end));
            at = end;
          }
          assert.deepEqual(readAll(chunks), replies);
        },
      ),
    );
  });

  it('throws on what is no reply, and on nothing less', () => {
    for (const text of [
      'HTTP/1.1 400\r\n',
      '$3\r\nabcd\r\n',
      '$-2\r\n',
      '$x\r\n',
      ':\r\n',
      ':1.5\r\n',
      ':9007199254740992\r\n',
      ':12345678901234567890',
      ':1\rx',
      '*-2\r\n',
      '*1\r\n'.repeat(40),
      '$99999999999\r\n',
    ]) {
      assert.throws(() => readAll([Buffer.from(text)]), NoReply, JSON.stringify(text));
    }
    for (const text of ['', '*', '*2\r\n:1\r\n', '$5\r\nabc', '$0\r\n\r', ':-', '-ERR half']) {
      assert.deepEqual(readAll([Buffer.from(text)]), [], JSON.stringify(text));
    }
  });

  it('writes lengths in bytes', () => {
    assert.equal(encodeCommand(['GET', 'k']), '*2\r\n$3\r\nGET\r\n$1\r\nk\r\n');
    assert.equal(encodeCommand(['é', '']), '*2\r\n$2\r\né\r\n$0\r\n\r\n');
  });
});
