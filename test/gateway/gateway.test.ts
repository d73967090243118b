import assert from 'node:assert/strict';
import { request as httpRequest } from 'node:http';
import type { IncomingHttpHeaders, RequestOptions } from 'node:http';

import { failedGuessesMax } from '../../gateway/limits.ts';
import { formatApiKey, parseApiKey } from '../../billing/api-key.ts';
import { randomBody } from '../../store/ids.ts';
import { until } from '../support/until.ts';
import { answerOk, openStage, productAt, rawRequest } from './stage.ts';
import type { Stage, Subscriber } from './stage.ts';

type Answer = {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  readonly trailers: NodeJS.Dict<string>;
  readonly body: string;
};

describe('gateway (real shard)', () => {
  let stage: Stage;
  before(async () => {
    stage = await openStage();
  });
  after(() => stage.close());

  function ask(
    path: string,
    options: Omit<RequestOptions, 'headers'> & {
      readonly headers?: Record<string, string>;
      readonly key?: string;
      readonly body?: string;
    } = {},
  ): Promise<Answer> {
    const { key, body, headers, ...rest } = options;
    return new Promise((resolve, reject) => {
      const sent = httpRequest(
        `${stage.url()}${path}`,
        {
          agent: false,
          headers: {
            ...(key === undefined ? {} : { authorization: `Bearer ${key}` }),
            ...headers,
          },
          ...rest,
        },
        (response) => {
          let text = '';
          response.setEncoding('utf8');
          response.on('data', (chunk: string) => {
            text += chunk;
          });
          response.on('error', reject);
          response.on('end', () => {
            resolve({
              status: response.statusCode ?? 0,
              headers: response.headers,
              trailers: response.trailers,
              body: text,
            });
          });
        },
      );
      sent.on('error', reject);
      sent.end(body);
    });
  }

  const codeOf = (answer: Answer): string => {
    assert.equal(answer.headers['content-type'], 'application/problem+json');
    assert.equal(answer.headers['cache-control'], 'no-store');
    const problem: unknown = JSON.parse(answer.body);
    assert.ok(typeof problem === 'object' && problem !== null);
    assert.ok('code' in problem && 'status' in problem);
    assert.equal(problem.status, answer.status);
    return `${answer.status} ${String(problem.code)}`;
  };

  const upstreamSaw = async (work: () => Promise<unknown>): Promise<number> => {
    const before = stage.upstream.requests.length;
    await work();
    return stage.upstream.requests.length - before;
  };

  const idle = (subscriber: Subscriber): Promise<true> =>
    until(async () => {
      const { products, buckets } = await stage.state(subscriber);
      const open = products.reduce((sum, { openHolds }) => sum + openHolds, 0);
      return open === 0 && buckets.every(({ heldMicro }) => heldMicro === 0) ? true : null;
    });

  it('forwards, charges, and says what it cost', async () => {
    const subscriber = await stage.subscribe({ credits: 10 });
    const answer = await ask('/weather/v1/cheap?city=a%20b', { key: subscriber.key });
    assert.equal(answer.status, 200);
    assert.equal(answer.body, '{"ok":true}');
    assert.equal(answer.headers['x-credits-reserved'], '1');
    assert.equal(answer.headers['x-credits-charged'], '1');
    assert.equal(answer.headers['x-credits-remaining'], '9');
    assert.equal(answer.headers['ratelimit'], '"credits";r=9');
    const seen = stage.upstream.requests.at(-1);
    assert.equal(seen?.url, '/v1/cheap?city=a%20b');
    assert.equal(seen.headers['x-subscriber-id'], subscriber.id);
    assert.equal(seen.headers['x-decision-id'], answer.headers['x-decision-id']);
    assert.equal(seen.headers.authorization, undefined);
    await idle(subscriber);
    const usage = (await stage.usage()).filter(
      ({ subscriberId }) => subscriberId === subscriber.id,
    );
    assert.deepEqual(
      usage.map(({ opId, status, quantities, flags }) => ({ opId, status, quantities, flags })),
      [
        {
          opId: answer.headers['x-decision-id'],
          status: 200,
          quantities: [{ meter: 'calls', quantity: 1 }],
          flags: [],
        },
      ],
    );
  });

  it('takes the key in X-API-Key, and the product by host with its path as it is', async () => {
    const { key } = await stage.subscribe();
    const answer = await ask('/v1/cheap', { headers: { 'x-api-key': key, host: 'weather.test' } });
    assert.equal(answer.status, 200);
    assert.equal(stage.upstream.requests.at(-1)?.url, '/v1/cheap');
    assert.equal(answer.headers['x-credits-charged'], undefined);
  });

  it('passes request id and trace context on', async () => {
    const { key } = await stage.subscribe();
    const traceparent = '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01';
    const headers = { 'x-request-id': 'mine-1', traceparent };
    const answer = await ask('/weather/v1/cheap', { key, headers });
    assert.equal(answer.headers['x-request-id'], 'mine-1');
    assert.equal(stage.upstream.requests.at(-1)?.headers['x-request-id'], 'mine-1');
    assert.equal(stage.upstream.requests.at(-1)?.headers['traceparent'], traceparent);
    const odd = await ask('/weather/v1/cheap', { key, headers: { 'x-request-id': 'a b"c' } });
    assert.equal(odd.headers['x-request-id'], odd.headers['x-decision-id']);
  });

  describe('refusals', () => {
    const past = (): number => Date.now() - 1_000;
    const rows: readonly {
      readonly code: string;
      readonly path?: string;
      readonly terms?: Parameters<Stage['subscribe']>[0];
      /** Requests that are served before. */
      readonly served?: number;
      readonly has?: readonly string[];
    }[] = [
      { code: '404 product_not_found', path: '/climate/v1/cheap' },
      { code: '404 route_not_found', path: '/weather/v2/cheap' },
      { code: '400 invalid_request', path: '/weather/v1//vip' },
      { code: '403 feature_not_enabled', path: '/weather/v1/vip' },
      { code: '402 payment_overdue', terms: { segment: { status: 'past_due' } } },
      { code: '403 subscription_inactive', terms: { segment: { status: 'inactive' } } },
      {
        code: '503 constraints_expired',
        terms: { segment: { untilMs: Date.now() - 1 } },
        has: ['retry-after'],
      },
      { code: '402 credit_exhausted', terms: { credits: 0 } },
      { code: '402 credit_exhausted', terms: { credits: 2 }, served: 2 },
      { code: '402 request_exceeds_balance', path: '/weather/v1/json', terms: { credits: 99 } },
      {
        code: '429 limit_exceeded',
        served: 3,
        has: ['ratelimit', 'ratelimit-policy'],
        terms: {
          segment: {
            limits: [
              {
                name: 'calls-a-month',
                level: 'subscription',
                meter: 'calls',
                limit: 3,
                hard: true,
                window: { kind: 'span', fromMs: 0, untilMs: Date.now() + 86_400_000 },
              },
            ],
          },
        },
      },
      {
        code: '429 rate_limited',
        served: 2,
        has: ['retry-after', 'ratelimit'],
        terms: {
          segment: { rates: [{ kind: 'rate', name: 'hour', limit: 2, windowMs: 3_600_000 }] },
        },
      },
    ];
    for (const { code, path = '/weather/v1/cheap', terms, served = 0, has = [] } of rows) {
      it(`${code} after ${served} served`, async () => {
        const { key } = await stage.subscribe(terms);
        for (let index = 0; index < served; index += 1) {
          assert.equal((await ask(path, { key })).status, 200);
        }
        const saw = await upstreamSaw(async () => {
          const answer = await ask(path, { key });
          assert.equal(codeOf(answer), code);
          for (const name of has) assert.ok(answer.headers[name] !== undefined, name);
        });
        assert.equal(saw, 0);
      });
    }

    it('401 key_expired', async () => {
      const { key } = await stage.subscribe({ keyExpiresMs: past() });
      assert.equal(codeOf(await ask('/weather/v1/cheap', { key })), '401 key_expired');
    });

    it('401 missing_credential and invalid_credential, without asking a shard', async () => {
      const { key } = await stage.subscribe();
      const none = await ask('/weather/v1/cheap');
      assert.equal(codeOf(none), '401 missing_credential');
      assert.match(none.headers['www-authenticate'] ?? '', /^Bearer/);
      const before = stage.decisions();
      const typo = `${key.slice(0, -1)}${key.endsWith('a') ? 'b' : 'a'}`;
      for (const bad of ['x', typo, `${key} `.repeat(2), 'Bearer', 'é']) {
        const headers = { 'x-api-key': Buffer.from(bad).toString('latin1') };
        assert.equal(codeOf(await ask('/weather/v1/cheap', { headers })), '401 invalid_credential');
      }
      assert.equal(
        codeOf(await ask('/weather/v1/cheap', { headers: { authorization: 'Basic eDp5' } })),
        '401 invalid_credential',
      );
      assert.equal(stage.decisions(), before);
      await ask('/weather/v1/cheap', { key });
      assert.equal(stage.decisions(), before + 1);
    });

    it('403/401 for a key of another product, 404 for one of another environment', async () => {
      const { key } = await stage.subscribe();
      const parsed = parseApiKey(key);
      assert.ok(parsed.kind === 'ok');
      const live = formatApiKey({
        environment: 'live',
        subscriberBody: parsed.subscriberId.slice(4),
        secret: randomBody(43),
      });
      assert.equal(codeOf(await ask('/weather/v1/cheap', { key: live })), '404 product_not_found');
    });

    it('429 from memory after 20 wrong secrets; a good key still passes', async () => {
      const good = await stage.subscribe();
      assert.equal((await ask('/weather/v1/cheap', { key: good.key })).status, 200);
      const wrong = (): string =>
        formatApiKey({
          environment: 'test',
          subscriberBody: good.id.slice(4),
          secret: randomBody(43),
        });
      for (let index = 0; index < failedGuessesMax; index += 1) {
        const answer = await ask('/weather/v1/cheap', { key: wrong() });
        if (index === 0) assert.equal(codeOf(answer), '401 invalid_credential');
      }
      const blocked = await ask('/weather/v1/cheap', { key: wrong() });
      assert.equal(codeOf(blocked), '429 too_many_attempts');
      assert.ok(Number(blocked.headers['retry-after']) > 0);
      assert.equal((await ask('/weather/v1/cheap', { key: good.key })).status, 200);
      await stage.restartGateway();
    });

    it('serves exactly what the credits allow, whatever comes at once', async () => {
      const subscriber = await stage.subscribe({ credits: 25 });
      const saw = await upstreamSaw(async () => {
        const answers = await Promise.all(
          Array.from({ length: 80 }, () => ask('/weather/v1/cheap', { key: subscriber.key })),
        );
        assert.equal(answers.filter(({ status }) => status === 200).length, 25);
        const codes = new Set(answers.filter(({ status }) => status !== 200).map(codeOf));
        assert.ok([...codes].every((code) => /^402 credit(s_in_flight|_exhausted)$/.test(code)));
      });
      assert.equal(saw, 25);
      await idle(subscriber);
    });
  });

  describe('reports of usage', () => {
    const reported = async (
      path: string,
      answer: {
        readonly headers?: Record<string, string | string[]>;
        readonly body: string;
        readonly chunked?: boolean;
      },
    ): Promise<{ answer: Answer; quantity: number; flags: readonly string[] }> => {
      const subscriber = await stage.subscribe({ credits: 5_000 });
      stage.upstream.handler = (request, response) => {
        request.resume();
        response.writeHead(200, {
          ...(answer.chunked === true ? {} : { 'content-length': Buffer.byteLength(answer.body) }),
          ...answer.headers,
        });
        if (answer.chunked === true) response.write(answer.body.slice(0, 5));
        response.end(answer.chunked === true ? answer.body.slice(5) : answer.body);
      };
      const got = await ask(path, { key: subscriber.key });
      assert.equal(got.body, answer.body);
      await idle(subscriber);
      const [fact, more] = (await stage.usage()).filter(
        ({ subscriberId }) => subscriberId === subscriber.id,
      );
      assert.ok(fact !== undefined && more === undefined);
      return { answer: got, quantity: fact.quantities[0]?.quantity ?? -1, flags: fact.flags };
    };
    after(() => {
      stage.upstream.handler = answerOk;
    });

    const body = '{"usage":{"output":42}}';
    const events = 'data: {"delta":"x"}\n\ndata: {"usage":{"output":42}}\n\ndata: [DONE]\n\n';

    it('a header, a body, a stream', async () => {
      for (const [path, given] of [
        ['/weather/v1/header', { headers: { 'X-Usage': '42' }, body: 'x' }],
        ['/weather/v1/json', { body }],
        ['/weather/v1/json', { body, chunked: true }],
        [
          '/weather/v1/sse',
          { body: events, headers: { 'content-type': 'text/event-stream' }, chunked: true },
        ],
      ] as const) {
        const { quantity, flags, answer } = await reported(path, given);
        assert.deepEqual([quantity, flags], [42, []]);
        const charged = answer.headers['x-credits-charged'] ?? answer.trailers['x-credits-charged'];
        assert.equal(charged, '42');
        assert.equal(answer.headers['x-credits-reserved'], '100');
        assert.equal(
          stage.upstream.requests.at(-1)?.headers['accept-encoding'],
          path.endsWith('header') ? undefined : 'identity',
        );
      }
    });

    const unbelievable: readonly [string, Record<string, string | string[]>][] = [
      ['-5', { 'X-Usage': '-5' }],
      ['1e9', { 'X-Usage': '1e9' }],
      ['1000000000', { 'X-Usage': '1000000000' }],
      ['nan', { 'X-Usage': 'nan' }],
      ['two headers', { 'X-Usage': ['1', '2'] }],
      ['none', {}],
    ];
    for (const [what, headers] of unbelievable) {
      it(`${what} is not believed: the estimate is charged, and it is told`, async () => {
        const { quantity, flags, answer } = await reported('/weather/v1/header', {
          headers,
          body: 'x',
        });
        assert.deepEqual([quantity, flags], [100, ['estimated']]);
        assert.equal(answer.headers['x-credits-charged'], '100');
        assert.match(
          stage.logged(),
          new RegExp(`${String(answer.headers['x-decision-id'])}.*no usable report`),
        );
      });
    }

    it('is ignored for a product that does not report', async () => {
      await stage.publish([productAt(stage.upstream.url, { reports_usage: false })]);
      const { quantity, flags } = await reported('/weather/v1/header', {
        headers: { 'X-Usage': '1' },
        body: 'x',
      });
      assert.deepEqual([quantity, flags], [100, []]);
      await stage.publish([productAt(stage.upstream.url)]);
    });
  });

  it('a faulty product takes no other product with it, and a new catalogue is in force at once', async () => {
    const { key } = await stage.subscribe();
    const broken = {
      ...productAt('http://x', { id: 'prod_0000000000000000000002', key: 'broken' }),
      upstream_url: 'gopher://x',
    };
    await stage.publish([broken, productAt(stage.upstream.url, { key: 'weather2' })]);
    assert.equal((await ask('/weather2/v1/cheap', { key })).status, 200);
    assert.equal(codeOf(await ask('/weather/v1/cheap', { key })), '404 product_not_found');
    assert.equal(codeOf(await ask('/broken/v1/cheap', { key })), '404 product_not_found');
    await stage.publish([productAt(stage.upstream.url)]);
  });

  it('answers health, readiness and metrics, but not on a product’s host', async () => {
    assert.equal((await ask('/healthz')).status, 200);
    assert.deepEqual(JSON.parse((await ask('/readyz')).body), { status: 'ready', missing: [] });
    const metrics = (await ask('/metrics')).body;
    assert.match(metrics, /tollbook_gateway_decisions_total\{code="allowed"\} \d+/);
    assert.match(metrics, /tollbook_gateway_open_holds 0/);
    assert.doesNotMatch(metrics, /sbr_|tb_test_/);
    assert.equal((await ask('/metrics', { headers: { host: 'weather.test' } })).status, 401);
  });

  it('refuses a WebSocket', async () => {
    const answer = await rawRequest(
      stage.gateway.port,
      'GET /weather/v1/x HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n',
    );
    assert.match(answer, /^HTTP\/1\.1 501 /);
    assert.match(answer, /WebSocket/);
  });

  it('names no secret in its log', async () => {
    const subscriber = await stage.subscribe();
    const canary = `canary${randomBody(10)}`;
    const headers = {
      'x-secret': canary,
      cookie: canary,
      'user-agent': canary,
      'x-request-id': 'ok',
    };
    const failing = (what: string): Promise<unknown> =>
      ask(`/weather/v1/${what}?q=${canary}`, {
        key: subscriber.key,
        headers,
        method: 'POST',
        body: canary,
      }).catch(() => null);
    await failing('cheap');
    stage.upstream.handler = (request) => request.socket.destroy();
    await failing('cheap');
    stage.upstream.handler = (request, response) => {
      request.resume();
      response.writeHead(500, { 'x-canary': canary });
      response.end(canary);
    };
    await failing('cheap');
    await failing(`nope/${canary}/../x`);
    await ask(`/weather/v1/x`, { headers: { authorization: `Bearer ${canary}` } });
    stage.upstream.handler = answerOk;
    assert.match(stage.logged(), /the upstream failed/);
    assert.ok(!stage.logged().includes(canary));
    assert.ok(!stage.logged().includes(subscriber.key));
    assert.ok(!stage.logged().includes(subscriber.key.split('_')[3] ?? '?'));
  });
});
