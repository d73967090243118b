import assert from 'node:assert/strict';

import fc from 'fast-check';

import type { MeterRule } from '../../billing/catalogue.ts';
import { EventStream } from '../../gateway/event-stream.ts';
import { readPointer, pointerTokens } from '../../gateway/json-pointer.ts';
import { reportJsonBytesMax } from '../../gateway/limits.ts';
import { meterFor } from '../../gateway/measure.ts';
import type { Measured } from '../../gateway/measure.ts';

const tokens = { meter: 'tokens', estimate: 100, max_actual: 1_000 };
const inHeader: MeterRule = { ...tokens, source: { kind: 'header', name: 'X-Usage' } };
const inJson: MeterRule = { ...tokens, source: { kind: 'json', pointer: '/usage/output' } };
const inEvents: MeterRule = { ...tokens, source: { kind: 'sse', pointer: '/usage/output' } };

type Answer = {
  readonly status?: number;
  readonly headers?: Record<string, string | string[]>;
  readonly body?: string | Buffer;
  readonly isComplete?: boolean;
  readonly isBelieved?: boolean;
};

function measured(rule: MeterRule, answer: Answer): Measured {
  const meter = meterFor(
    {
      product: { reports_usage: answer.isBelieved ?? true },
      meters: [rule],
      estimates: [{ meter: rule.meter, quantity: rule.estimate }],
    },
    answer.status ?? 200,
    answer.headers ?? {},
  );
  if (answer.body !== undefined) meter.push(Buffer.from(answer.body));
  return meter.result(answer.isComplete ?? true);
}

function quantity(result: Measured): string {
  return `${result.actuals[0]?.quantity}${result.isEstimated ? ` ${result.faults[0]?.reason}` : ''}`;
}

describe('gateway/measure', () => {
  const rows: readonly [string, MeterRule, Answer, string][] = [
    ['a header', inHeader, { headers: { 'x-usage': '42' } }, '42'],
    ['a header of 0', inHeader, { headers: { 'x-usage': '0' } }, '0'],
    ['a header at the maximum', inHeader, { headers: { 'x-usage': '1000' } }, '1000'],
    ['a header above it', inHeader, { headers: { 'x-usage': '1001' } }, '100 out_of_range'],
    ['a negative header', inHeader, { headers: { 'x-usage': '-5' } }, '100 not_an_integer'],
    ['1e9', inHeader, { headers: { 'x-usage': '1e9' } }, '100 not_an_integer'],
    ['nan', inHeader, { headers: { 'x-usage': 'nan' } }, '100 not_an_integer'],
    ['hex', inHeader, { headers: { 'x-usage': '0x10' } }, '100 not_an_integer'],
    ['a float', inHeader, { headers: { 'x-usage': '4.2' } }, '100 not_an_integer'],
    ['unicode digits', inHeader, { headers: { 'x-usage': '٤٢' } }, '100 not_an_integer'],
    ['a blank', inHeader, { headers: { 'x-usage': '' } }, '100 not_an_integer'],
    ['two headers', inHeader, { headers: { 'x-usage': ['1', '2'] } }, '100 repeated'],
    ['two in one line', inHeader, { headers: { 'x-usage': '1, 2' } }, '100 repeated'],
    ['no header', inHeader, {}, '100 missing'],
    ['no header on a client error', inHeader, { status: 422 }, '0'],
    ['a header on a client error', inHeader, { status: 422, headers: { 'x-usage': '3' } }, '3'],
    [
      'a header that is not believed',
      inHeader,
      { headers: { 'x-usage': '1' }, isBelieved: false },
      '100',
    ],
    ['a body', inJson, { body: '{"usage":{"output":42}}' }, '42'],
    ['a negative body', inJson, { body: '{"usage":{"output":-5}}' }, '100 out_of_range'],
    ['1e9 in a body', inJson, { body: '{"usage":{"output":1e9}}' }, '100 out_of_range'],
    ['nan in a body', inJson, { body: '{"usage":{"output":nan}}' }, '100 unreadable'],
    ['a string', inJson, { body: '{"usage":{"output":"42"}}' }, '100 not_an_integer'],
    ['a float in a body', inJson, { body: '{"usage":{"output":4.5}}' }, '100 not_an_integer'],
    ['a list', inJson, { body: '{"usage":{"output":[42]}}' }, '100 not_an_integer'],
    ['no usage', inJson, { body: '{}' }, '100 missing'],
    ['no body', inJson, { body: '' }, '100 unreadable'],
    [
      'half a body',
      inJson,
      { body: '{"usage":{"output":42}}', isComplete: false },
      '100 unreadable',
    ],
    [
      'a packed body',
      inJson,
      { body: '{"usage":{"output":42}}', headers: { 'content-encoding': 'gzip' } },
      '100 unreadable',
    ],
    [
      'a body above the bound',
      inJson,
      { body: `{"pad":"${'x'.repeat(reportJsonBytesMax)}","usage":{"output":42}}` },
      '100 unreadable',
    ],
    [
      'prototype names',
      { ...inJson, source: { kind: 'json', pointer: '/__proto__/x' } },
      { body: '{}' },
      '100 missing',
    ],
    ['an event', inEvents, { body: 'data: {"usage":{"output":42}}\n\n' }, '42'],
    [
      'the last event',
      inEvents,
      { body: 'data: {"usage":{"output":1}}\n\ndata: {"usage":{"output":42}}\n\ndata: [DONE]\n\n' },
      '42',
    ],
    [
      'null at the end',
      inEvents,
      { body: 'data: {"usage":{"output":7}}\n\ndata: {"usage":null}\n\n' },
      '7',
    ],
    ['no empty line at the end', inEvents, { body: 'data:{"usage":{"output":42}}' }, '42'],
    [
      'an event above the maximum',
      inEvents,
      { body: 'data: {"usage":{"output":1001}}\n\n' },
      '100 out_of_range',
    ],
    [
      'a stream without usage',
      inEvents,
      { body: 'data: {"delta":"usage output"}\n\n' },
      '100 missing',
    ],
    [
      'half a stream',
      inEvents,
      { body: 'data: {"usage":{"output":1}}\n\n', isComplete: false },
      '100 unreadable',
    ],
  ];
  for (const [what, rule, answer, expected] of rows) {
    it(`${what} → ${expected}`, () => {
      assert.equal(quantity(measured(rule, answer)), expected);
    });
  }
});

describe('gateway/event-stream', () => {
  it('finds the same events however the bytes are cut', () => {
    const line = fc.constantFrom(
      'data: {"a":"é"}',
      'data:x',
      'event: y',
      ': comment',
      '',
      'data',
      'id: 1',
      'data: ünï',
    );
    const end = fc.constantFrom('\n', '\r\n', '\r');
    fc.assert(
      fc.property(
        fc.array(fc.tuple(line, end), { maxLength: 30 }),
        fc.array(fc.nat(200), { maxLength: 30 }),
        (lines, cuts) => {
          const bytes = Buffer.from(lines.flat().join(''));
          const whole = events([bytes]);
          const points = [...new Set(cuts.map((cut) => cut % (bytes.length + 1)))].toSorted(
            (a, b) => a - b,
          );
          const chunks = [0, ...points].map((from, index) =>
            bytes.subarray(from, points[index] ?? bytes.length),
          );
          assert.deepEqual(events(chunks), whole);
          assert.deepEqual(events([...bytes].map((byte) => Buffer.from([byte]))), whole);
        },
      ),
      { numRuns: 500 },
    );
  });

  it('reads lines as the specification does', () => {
    assert.deepEqual(events([Buffer.from('data: a\ndata:b\r\n\r\nevent: x\rdata:  c\r\r')]), [
      'a\nb',
      ' c',
    ]);
  });

  it('passes over an event that is too long, and finds the next', () => {
    const long = Buffer.from(`data: ${'x'.repeat(300 * 1024)}`);
    assert.deepEqual(events([long, Buffer.from('\n\ndata: y\n\n')]), ['y']);
    assert.deepEqual(events([long, long, Buffer.from('\n'), Buffer.from('data: y\n\n')]), ['y']);
  });
});

describe('gateway/json-pointer', () => {
  it('follows RFC 6901', () => {
    const document = { a: { 'b/c': [{ 'd~e': 1 }] }, '': 2 };
    assert.equal(readPointer(document, pointerTokens('/a/b~1c/0/d~0e')), 1);
    assert.equal(readPointer(document, pointerTokens('/')), 2);
    assert.equal(readPointer(document, pointerTokens('')), document);
    assert.equal(readPointer(document, pointerTokens('/a/b~1c/00')), undefined);
    assert.equal(readPointer(document, pointerTokens('/constructor')), undefined);
  });
});

function events(chunks: readonly Buffer[]): string[] {
  const found: string[] = [];
  const stream = new EventStream((data) => {
    found.push(data);
  });
  for (const chunk of chunks) stream.push(chunk);
  stream.end();
  return found;
}
