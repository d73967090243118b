import assert from 'node:assert/strict';

import { answerOk, openStage, rawRequest } from './stage.ts';
import type { Stage } from './stage.ts';

describe('gateway: bytes that two servers could read differently', () => {
  let stage: Stage;
  let key = '';
  before(async () => {
    stage = await openStage();
    ({ key } = await stage.subscribe());
  });
  after(() => stage.close());

  const head = (line: string, ...headers: string[]): string =>
    [line, 'Host: weather.test', `X-API-Key: ${key}`, ...headers, '', ''].join('\r\n');
  const hidden = 'GET /v1/hidden HTTP/1.1\r\nHost: weather.test\r\n\r\n';

  /** The paths that the upstream saw. */
  const sent = async (bytes: string): Promise<{ answer: string; seen: string[] }> => {
    const before = stage.upstream.requests.length;
    const answer = await rawRequest(stage.gateway.port, bytes, 600);
    const seen = stage.upstream.requests.slice(before);
    return { answer, seen: seen.map(({ method, url }) => `${method} ${url}`) };
  };

  const refused: readonly [string, () => string][] = [
    [
      'content-length and chunked',
      () =>
        head('POST /v1/x HTTP/1.1', 'Content-Length: 4', 'Transfer-Encoding: chunked') +
        '0\r\n\r\n' +
        hidden,
    ],
    [
      'chunked and content-length',
      () =>
        head('POST /v1/x HTTP/1.1', 'Transfer-Encoding: chunked', 'Content-Length: 4') +
        '0\r\n\r\n' +
        hidden,
    ],
    [
      'two lengths',
      () =>
        head('POST /v1/x HTTP/1.1', 'Content-Length: 0', `Content-Length: ${hidden.length}`) +
        hidden,
    ],
    [
      'two equal lengths',
      () => head('POST /v1/x HTTP/1.1', 'Content-Length: 0', 'Content-Length: 0'),
    ],
    ['a list of lengths', () => head('POST /v1/x HTTP/1.1', 'Content-Length: 0, 40') + hidden],
    ['a signed length', () => head('POST /v1/x HTTP/1.1', 'Content-Length: +4') + 'abcd'],
    ['a hex length', () => head('POST /v1/x HTTP/1.1', 'Content-Length: 0x4') + 'abcd'],
    [
      'chunked twice',
      () =>
        head('POST /v1/x HTTP/1.1', 'Transfer-Encoding: chunked', 'Transfer-Encoding: chunked') +
        '0\r\n\r\n',
    ],
    [
      'chunked, identity',
      () => head('POST /v1/x HTTP/1.1', 'Transfer-Encoding: chunked, identity') + '0\r\n\r\n',
    ],
    [
      'gzip, chunked',
      () => head('POST /v1/x HTTP/1.1', 'Transfer-Encoding: gzip, chunked') + '0\r\n\r\n',
    ],
    ['xchunked', () => head('POST /v1/x HTTP/1.1', 'Transfer-Encoding: xchunked') + '0\r\n\r\n'],
    [
      'a space before the colon',
      () => head('POST /v1/x HTTP/1.1', 'Transfer-Encoding : chunked') + '0\r\n\r\n',
    ],
    ['obs-fold', () => head('GET /v1/x HTTP/1.1', 'X-A: b', ' Content-Length: 40')],
    [
      'a folded coding',
      () => head('POST /v1/x HTTP/1.1', 'Transfer-Encoding:', ' chunked') + '0\r\n\r\n' + hidden,
    ],
    ['a bare CR', () => head('GET /v1/x HTTP/1.1', 'X-A: b\rX-B: c')],
    ['a bare LF', () => `GET /v1/x HTTP/1.1\nHost: weather.test\nX-API-Key: ${key}\n\n`],
    ['NUL in a value', () => head('GET /v1/x HTTP/1.1', 'X-A: a\0b')],
    ['a space in a name', () => head('GET /v1/x HTTP/1.1', 'X A: b')],
    ['two hosts', () => head('GET /v1/x HTTP/1.1', 'Host: other')],
    ['no host', () => `GET /v1/x HTTP/1.1\r\nX-API-Key: ${key}\r\n\r\n`],
    ['two keys', () => head('GET /v1/x HTTP/1.1', `X-API-Key: ${key}`)],
    ['another scheme of target', () => head('GET http://weather.test/v1/x HTTP/1.1')],
    ['an asterisk', () => head('OPTIONS * HTTP/1.1')],
    [
      'a bad chunk size',
      () => head('POST /v1/x HTTP/1.1', 'Transfer-Encoding: chunked') + 'zz\r\nab\r\n0\r\n\r\n',
    ],
    [
      'a huge chunk size',
      () => head('POST /v1/x HTTP/1.1', 'Transfer-Encoding: chunked') + 'fffffffffffffffff\r\n',
    ],
    [
      'a chunk without its end',
      () =>
        head('POST /v1/x HTTP/1.1', 'Transfer-Encoding: chunked') +
        '1\r\nabc\r\n0\r\n\r\n' +
        hidden,
    ],
    ['a long header', () => head('GET /v1/x HTTP/1.1', `X-A: ${'a'.repeat(20_000)}`)],
    ['a long target', () => head(`GET /v1/${'a'.repeat(9_000)} HTTP/1.1`)],
    ['nonsense', () => 'EHLO example.org\r\n\r\n'],
    [
      'another expectation',
      () => head('POST /v1/x HTTP/1.1', 'Expect: 200-maybe', 'Content-Length: 0'),
    ],
    ['HTTP/2', () => 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n'],
  ];
  for (const [what, bytes] of refused) {
    it(`refuses ${what}`, async () => {
      const { answer, seen } = await sent(bytes());
      assert.match(answer, /^HTTP\/1\.1 4\d\d /);
      assert.equal(answer.match(/HTTP\/1\.1 /g)?.length, 1, answer);
      // What is broken in the middle of a body is known only after its head went on; it is cut there, and nothing
      // behind it is ever read as a request.
      assert.ok(
        seen.every((line) => line === 'POST /v1/x'),
        seen.join(),
      );
      assert.ok(!seen.some((line) => line.includes('hidden')));
    });
  }

  for (const method of ['DELETE', 'OPTIONS', 'GET', 'HEAD', 'POST']) {
    it(`a chunked ${method} is one request for the upstream, with its body inside`, async () => {
      const bodies: string[] = [];
      stage.upstream.handler = (request, response) => {
        let body = '';
        request.on('data', (chunk: Buffer) => {
          body += chunk.toString();
        });
        request.on('end', () => {
          bodies.push(body);
          response.end('{"ok":true}');
        });
      };
      const { answer, seen } = await sent(
        head(`${method} /v1/x HTTP/1.1`, 'Transfer-Encoding: chunked') +
          `${hidden.length.toString(16)}\r\n${hidden}\r\n0\r\n\r\n`,
      );
      stage.upstream.handler = answerOk;
      assert.match(answer, /^HTTP\/1\.1 200 /);
      assert.deepEqual(seen, [`${method} /v1/x`]);
      assert.deepEqual(bodies, [hidden]);
    });
  }

  it('keeps two requests on one connection apart', async () => {
    const { answer, seen } = await sent(
      head('POST /v1/a HTTP/1.1', 'Content-Length: 3') + 'abc' + head('GET /v1/b HTTP/1.1'),
    );
    assert.equal(answer.match(/HTTP\/1\.1 200/g)?.length, 2);
    assert.deepEqual(seen, ['POST /v1/a', 'GET /v1/b']);
  });

  it('asks for an expected body only after the decision', async () => {
    const continued = await sent(
      head('POST /v1/x HTTP/1.1', 'Expect: 100-continue', 'Content-Length: 2') + 'ab',
    );
    assert.match(continued.answer, /^HTTP\/1\.1 100 Continue\r\n\r\nHTTP\/1\.1 200 /);
    assert.equal(stage.upstream.requests.at(-1)?.headers.expect, undefined);
    const denied = await sent(
      `POST /v1/x HTTP/1.1\r\nHost: weather.test\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n`,
    );
    assert.match(denied.answer, /^HTTP\/1\.1 401 /);
  });
});
