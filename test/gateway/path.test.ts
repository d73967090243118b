import assert from 'node:assert/strict';

import fc from 'fast-check';

import { readPath, withoutFirstSegment } from '../../gateway/path.ts';

describe('gateway/path', () => {
  const readable: readonly [string, readonly string[], string][] = [
    ['/', [], ''],
    ['/weather', ['weather'], ''],
    ['/weather/', ['weather'], ''],
    ['/Weather/V1/Cheap', ['weather', 'v1', 'cheap'], ''],
    ['/v1/%63heap', ['v1', 'cheap'], ''],
    ['/v1/caf%C3%A9', ['v1', 'café'], ''],
    ['/v1/a?x=/../%2f', ['v1', 'a'], '?x=/../%2f'],
    ['/v1/a?', ['v1', 'a'], '?'],
    ['/v1/a.b', ['v1', 'a.b'], ''],
    ['/v1/...', ['v1', '...'], ''],
  ];
  for (const [target, segments, query] of readable) {
    it(`reads ${target}`, () => {
      const path = readPath(target);
      assert.deepEqual(path?.segments, segments);
      assert.equal(path.query, query);
      assert.equal(path.raw + path.query, target);
    });
  }

  for (const target of [
    '',
    '*',
    'http://other/v1',
    'v1',
    '//v1',
    '/v1//cheap',
    '/v1/../expensive',
    '/v1/./cheap',
    '/v1/%2e%2e/expensive',
    '/v1/%2E/x',
    '/v1/cheap%2f..%2fexpensive',
    '/v1/cheap%5c..%5cexpensive',
    '/v1/cheap\\x',
    '/v1/cheap;/../expensive',
    '/v1/%252e%252e/x',
    '/v1/%00',
    '/v1/%zz',
    '/v1/%',
    '/v1/%ff',
    '/v1/x#y',
    '/v1/%20',
  ]) {
    it(`refuses ${JSON.stringify(target)}`, () => {
      assert.equal(readPath(target), null);
    });
  }

  it('never lets a segment through that a URL parser would read as another path', () => {
    fc.assert(
      fc.property(
        fc.array(fc.constantFrom('/', '.', '%2e', '%2f', '%5c', 'a', 'B', ';', '\\', '%25', '?')),
        (parts) => {
          const target = `/${parts.join('')}`;
          const path = readPath(target);
          if (path === null) return;
          const parsed = new URL(`http://h${path.raw}`);
          assert.equal(parsed.pathname, path.raw);
          assert.equal(
            decodeURIComponent(parsed.pathname).toLowerCase().replace(/\/$/, ''),
            path.segments.map((segment) => `/${segment}`).join(''),
          );
        },
      ),
      { numRuns: 2_000 },
    );
  });

  it('takes the product off the front', () => {
    const path = readPath('/weather/v1/cheap?q=1');
    assert.ok(path !== null);
    assert.deepEqual(withoutFirstSegment(path), {
      raw: '/v1/cheap',
      query: '?q=1',
      segments: ['v1', 'cheap'],
    });
    const bare = readPath('/weather');
    assert.ok(bare !== null);
    assert.deepEqual(withoutFirstSegment(bare), { raw: '/', query: '', segments: [] });
  });
});
