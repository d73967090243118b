import assert from 'node:assert/strict';

import fc from 'fast-check';

import { clientHeaders } from '../../gateway/response-headers.ts';
import { creditsText, limitHeaders } from '../../gateway/limit-headers.ts';
import { hopByHop, neverFromClient } from '../../gateway/header-rules.ts';
import { upstreamHeaders } from '../../gateway/request-headers.ts';

const own = new Set([
  'x-request-id',
  'x-decision-id',
  'x-subscriber-id',
  'x-subscription-id',
  'x-forwarded-for',
  'x-forwarded-proto',
  'x-forwarded-host',
]);

/** What the upstream would see of these header lines. */
function seen(rawHeaders: readonly string[], isIdentityAsked = false): [string, string][] {
  const headers: Record<string, string> = {};
  for (let index = 0; index < rawHeaders.length; index += 2) {
    headers[(rawHeaders[index] ?? '').toLowerCase()] = rawHeaders[index + 1] ?? '';
  }
  const lines = upstreamHeaders(
    {
      request: { rawHeaders: [...rawHeaders], headers },
      opId: 'op',
      requestId: 'rid',
      address: '192.0.2.1',
    },
    { subscriberId: 'sbr_mine', subscriptionId: 'sub_mine' },
    { isIdentityAsked },
  );
  const pairs: [string, string][] = [];
  for (let index = 0; index < lines.length; index += 2) {
    pairs.push([lines[index] ?? '', lines[index + 1] ?? '']);
  }
  return pairs;
}

describe('gateway/request-headers', () => {
  it('drops a forged name that is spelt with underscores: many upstreams read both spellings as one', () => {
    const forged = [
      ...[
        'X_Subscriber_Id',
        'x_subscription_id',
        'X-Subscriber_Id',
        'x_forwarded_for',
        'X_Real_IP',
      ],
      ...['x_http_method_override', 'X_API_Key', 'transfer_encoding', 'x_internal_admin'],
    ];
    const lines = seen([...forged.flatMap((name) => [name, 'forged']), 'My_Own', 'kept']);
    assert.deepEqual(
      lines.filter(([name]) => !own.has(name)),
      [['my_own', 'kept']],
    );
    assert.ok(!lines.some(([, value]) => value === 'forged'));
  });

  it('drops hop-by-hop lines, credentials and forged names, and sets its own', () => {
    const forged = [
      ...['X-Subscriber-Id', 'X-Subscription-Id', 'X-Credits-Charged', 'X-Internal-Admin'],
      ...['X-Forwarded-For', 'X-Forwarded-Host', 'Forwarded', 'X-Real-IP', 'X-Decision-Id'],
      ...['Authorization', 'X-API-Key', 'Proxy-Authorization', 'X-HTTP-Method-Override'],
      ...['Keep-Alive', 'TE', 'Trailer', 'Upgrade', 'X-Original-URL', 'Expect'],
    ];
    const lines = seen([
      'Host',
      'h',
      'Accept',
      '*/*',
      ...forged.flatMap((name) => [name, 'forged']),
    ]);
    assert.ok(!lines.some(([, value]) => value === 'forged'));
    assert.deepEqual(
      lines.filter(([name]) => !own.has(name)),
      [['accept', '*/*']],
    );
    const by = new Map(lines);
    assert.equal(by.get('x-subscriber-id'), 'sbr_mine');
    assert.equal(by.get('x-forwarded-for'), '192.0.2.1');
    assert.equal(by.get('x-forwarded-host'), 'h');
  });

  for (const connection of [
    'close, X-Subscriber-Id',
    'x-subscriber-id',
    'X-SUBSCRIBER-ID , keep-alive',
    'keep-alive,x-decision-id,x-request-id',
    'x-forwarded-for,X-Secret-Flag',
  ]) {
    it(`keeps its own lines when Connection says ${connection}`, () => {
      const lines = seen([
        'Host',
        'h',
        'Connection',
        connection,
        'X-Secret-Flag',
        '1',
        'Accept',
        'a',
      ]);
      for (const name of own)
        assert.ok(
          lines.some(([found]) => found === name),
          name,
        );
      assert.equal(
        lines.some(([name]) => name === 'x-secret-flag'),
        !/x-secret-flag/i.test(connection),
      );
      assert.ok(lines.some(([name]) => name === 'accept'));
    });
  }

  it('asks for identity encoding when the body is read', () => {
    const lines = seen(['Host', 'h', 'Accept-Encoding', 'gzip, br'], true);
    assert.deepEqual(
      lines.filter(([name]) => name === 'accept-encoding'),
      [['accept-encoding', 'identity']],
    );
    assert.deepEqual(
      seen(['Host', 'h', 'Accept-Encoding', 'gzip']).filter(([name]) => name === 'accept-encoding'),
      [['accept-encoding', 'gzip']],
    );
  });

  it('sends no forbidden name, whatever the client sends', () => {
    const name = fc.oneof(
      fc.constantFrom(...hopByHop, ...neverFromClient, 'X-Credits-A', 'x-internal-b', 'Cookie'),
      fc.stringMatching(/^[A-Za-z-]{1,12}$/),
    );
    fc.assert(
      fc.property(fc.array(fc.tuple(name, fc.constantFrom('v', 'close', 'x-a, te'))), (lines) => {
        for (const [found, value] of seen(lines.flat())) {
          assert.ok(!hopByHop.has(found), found);
          assert.ok(own.has(found) || !neverFromClient.has(found), found);
          assert.ok(!found.startsWith('x-credits-') && !found.startsWith('x-internal-'), found);
          if (own.has(found))
            assert.ok(
              ['op', 'rid', 'sbr_mine', 'sub_mine', '192.0.2.1', 'http'].includes(value) ||
                found === 'x-forwarded-host',
            );
        }
      }),
    );
  });
});

describe('gateway/response-headers', () => {
  it('drops hop-by-hop lines and names of ours, keeps repeated lines', () => {
    const lines = clientHeaders(
      {
        'content-type': 'text/plain',
        'content-length': '3',
        'transfer-encoding': 'chunked',
        connection: 'close, x-hop',
        'x-hop': '1',
        'set-cookie': ['a=1', 'b=2'],
        'x-credits-charged': '0',
        ratelimit: '"x";r=1',
        'x-decision-id': 'theirs',
      },
      { isLengthKept: true },
    );
    assert.deepEqual(lines, [
      ...['content-type', 'text/plain', 'content-length', '3'],
      ...['set-cookie', 'a=1', 'set-cookie', 'b=2'],
    ]);
  });
});

describe('gateway/limit-headers', () => {
  it('writes credits without trailing zeros', () => {
    assert.deepEqual([0, 1, 1_000_000, 1_500_000, 250_000, 999_999_999_999_999].map(creditsText), [
      ...['0', '0.000001', '1', '1.5', '0.25', '999999999.999999'],
    ]);
  });

  it('lists windows and credits', () => {
    assert.deepEqual(
      limitHeaders(
        [
          { name: 'minute', limit: 60, left: 59, resetMs: 10_500 },
          { name: 'odd"name', limit: 5, left: -1, resetMs: 0 },
        ],
        { availableMicro: 2_500_000, heldMicro: 1_000_000 },
        10_000,
      ),
      [
        'RateLimit-Policy',
        '"minute";q=60, "odd_name";q=5, "credits";q=3;qu="credits"',
        'RateLimit',
        '"minute";r=59;t=1, "odd_name";r=0, "credits";r=2',
      ],
    );
    assert.deepEqual(limitHeaders([], null, 0), []);
  });
});
