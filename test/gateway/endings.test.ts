import assert from 'node:assert/strict';
import { once } from 'node:events';
import { request as httpRequest } from 'node:http';
import type { ClientRequest, IncomingMessage, ServerResponse } from 'node:http';
import { connect, createServer } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';

import fc from 'fast-check';

import type { UsageFact } from '../../billing/usage-fact.ts';
import { requestBodyBytesMax } from '../../gateway/limits.ts';
import { until } from '../support/until.ts';
import { answerOk, openStage, productAt } from './stage.ts';
import type { Stage, Subscriber } from './stage.ts';

describe('gateway: every request ends once', () => {
  let stage: Stage;
  let subscriber: Subscriber;
  before(async () => {
    stage = await openStage({ upstreamTimes: { headersMs: 1_000, idleMs: 1_000 } });
  });
  beforeEach(async () => {
    stage.upstream.handler = answerOk;
    subscriber = await stage.subscribe({ credits: 1_000_000 });
  });
  after(() => stage.close());

  const send = (path: string, options: object = {}): ClientRequest =>
    httpRequest(`${stage.url()}/weather${path}`, {
      agent: false,
      headers: { 'x-api-key': subscriber.key },
      ...options,
    });
  const answerOf = async (sent: ClientRequest): Promise<IncomingMessage> => {
    sent.end();
    const [response]: IncomingMessage[] = await once(sent, 'response');
    assert.ok(response !== undefined);
    return response;
  };
  const textOf = async (response: IncomingMessage): Promise<string> => {
    let text = '';
    for await (const chunk of response) text += String(chunk);
    return text;
  };
  /** The events of the subscriber, once no hold is open. */
  const settled = async (): Promise<UsageFact[]> => {
    await until(async () => {
      const { products, buckets } = await stage.state(subscriber);
      const isIdle =
        products.every(({ openHolds }) => openHolds === 0) &&
        buckets.every(({ heldMicro }) => heldMicro === 0);
      return isIdle && stage.gateway.openHolds() === 0 ? true : null;
    });
    return (await stage.usage()).filter(({ subscriberId }) => subscriberId === subscriber.id);
  };
  const told = (facts: readonly UsageFact[]): string[] =>
    facts.map(({ quantities, flags }) => [quantities[0]?.quantity, ...flags].join(' '));

  it('an upstream error is released, and answered by a problem of ours', async () => {
    for (const [status, expected] of [
      [500, 502],
      [503, 502],
      [504, 504],
    ] as const) {
      stage.upstream.handler = (request, response) => {
        request.resume();
        response.writeHead(status, { 'retry-after': '7' });
        response.end('secret inside');
      };
      const response = await answerOf(send('/v1/x'));
      assert.equal(response.statusCode, expected);
      assert.equal(response.headers['retry-after'], '7');
      const text = await textOf(response);
      assert.match(text, new RegExp(`"code":"origin_unavailable".*`));
      assert.match(text, new RegExp(`"origin_status":${status}`));
      assert.doesNotMatch(text, /secret/);
    }
    assert.deepEqual(await settled(), []);
  });

  it('a client error of the upstream is charged', async () => {
    stage.upstream.handler = (request, response) => {
      request.resume();
      response.writeHead(422).end('{"why":"so"}');
    };
    const response = await answerOf(send('/v1/x'));
    assert.equal(response.statusCode, 422);
    assert.equal(await textOf(response), '{"why":"so"}');
    assert.deepEqual(told(await settled()), ['1']);
  });

  it('an upstream that hangs up, cannot be reached or is silent is released', async () => {
    stage.upstream.handler = (request) => request.socket.destroy();
    assert.equal((await answerOf(send('/v1/x'))).statusCode, 502);
    stage.upstream.handler = (request) => request.resume();
    assert.equal((await answerOf(send('/v1/x'))).statusCode, 504);
    assert.deepEqual(await settled(), []);
  });

  it('half a document is cut for the client too, and released', async () => {
    stage.upstream.handler = (request, response) => {
      request.resume();
      response.writeHead(200, { 'content-length': 100 });
      response.write('half', () => response.destroy());
    };
    await assert.rejects(textOf(await answerOf(send('/v1/x'))));
    stage.upstream.handler = (request, response) => {
      request.resume();
      response.writeHead(200);
      response.write('half', () => response.destroy());
    };
    await assert.rejects(textOf(await answerOf(send('/v1/x'))));
    assert.deepEqual(await settled(), []);
  });

  it('half a stream of events is charged by the estimate', async () => {
    stage.upstream.handler = (request, response) => {
      request.resume();
      response.writeHead(200, { 'content-type': 'text/event-stream' });
      response.write('data: {"usage":{"output":3}}\n\n', () => response.destroy());
    };
    await assert.rejects(textOf(await answerOf(send('/v1/sse'))));
    assert.deepEqual(told(await settled()), ['100 estimated']);
  });

  it('a client that leaves before any answer is not charged, and the upstream is stopped', async () => {
    let upstreamClosed = false;
    const arrived = new Promise<void>((resolve) => {
      stage.upstream.handler = (request, response) => {
        request.resume();
        response.once('close', () => {
          upstreamClosed = true;
        });
        resolve();
      };
    });
    const sent = send('/v1/x');
    sent.on('error', () => {});
    sent.end();
    await arrived;
    sent.destroy();
    assert.deepEqual(await settled(), []);
    await until(() => (upstreamClosed ? true : null));
  });

  it('a client that leaves in the middle is charged: fixed by the estimate, reported by the report', async () => {
    const leave = async (path: string, rest: string): Promise<void> => {
      stage.upstream.handler = (request, response) => {
        request.resume();
        response.writeHead(200, { 'content-type': 'text/event-stream', 'x-usage': '7' });
        response.write('data: {"delta":"a"}\n\n');
        setTimeout(() => response.end(rest), 100);
      };
      const response = await answerOf(send(path));
      await once(response, 'data');
      response.destroy();
    };
    await leave('/v1/x', 'data: b\n\n');
    assert.deepEqual(told(await settled()), ['1']);
    await leave('/v1/header', 'data: b\n\n');
    assert.deepEqual(told(await settled()), ['1', '7']);
    await leave('/v1/sse', 'data: {"usage":{"output":42}}\n\n');
    assert.deepEqual(told(await settled()), ['1', '7', '42']);
    await leave('/v1/sse', 'data: b\n\n');
    assert.deepEqual(told(await settled()), ['1', '7', '42', '100 estimated']);
  });

  it('a body above the limit is refused; while streaming its hold is released', async () => {
    const declared = send('/v1/x', {
      method: 'POST',
      headers: { 'x-api-key': subscriber.key, 'content-length': requestBodyBytesMax + 1 },
    });
    declared.on('error', () => {});
    declared.flushHeaders();
    const [refused]: IncomingMessage[] = await once(declared, 'response');
    assert.equal(refused?.statusCode, 413);
    declared.destroy();

    let taken = 0;
    stage.upstream.handler = (request, response) => {
      request.on('data', (chunk: Buffer) => {
        taken += chunk.length;
      });
      request.on('error', () => {});
      request.on('end', () => response.end('{}'));
    };
    const chunked = send('/v1/x', { method: 'POST' });
    chunked.on('error', () => {});
    const answered = once(chunked, 'response');
    const piece = Buffer.alloc(1024 * 1024);
    let left = requestBodyBytesMax / piece.length + 1;
    const write = (): void => {
      while (left > 0 && !chunked.destroyed) {
        left -= 1;
        if (!chunked.write(piece)) {
          chunked.once('drain', write);
          return;
        }
      }
      if (!chunked.destroyed) chunked.end();
    };
    write();
    const [response]: IncomingMessage[] = await answered;
    assert.equal(response?.statusCode, 413);
    assert.ok(taken <= requestBodyBytesMax);
    chunked.destroy();
    assert.deepEqual(await settled(), []);
  });

  it('bytes pass as they are, however they are cut', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.uint8Array({ minLength: 1, maxLength: 3_000 }), {
          minLength: 1,
          maxLength: 12,
        }),
        fc.boolean(),
        fc.constantFrom('/v1/x', '/v1/sse', '/v1/json'),
        async (chunks, isDeclared, path) => {
          const whole = Buffer.concat(chunks);
          stage.upstream.handler = (request, response) => {
            request.resume();
            response.writeHead(200, {
              'content-type': 'text/event-stream',
              ...(isDeclared ? { 'content-length': whole.length } : {}),
            });
            void (async () => {
              for (const [index, chunk] of chunks.entries()) {
                response.write(chunk);
                if (index % 3 === 0) await sleep(1);
              }
              response.end();
            })();
          };
          const response = await answerOf(send(path));
          const got: Buffer[] = [];
          response.on('data', (chunk: Buffer) => got.push(chunk));
          await once(response, 'end');
          assert.ok(whole.equals(Buffer.concat(got)));
        },
      ),
      { numRuns: 40 },
    );
    assert.equal((await settled()).length, 40);
  });

  it('an event reaches the client when it is said, not later', async () => {
    let go: ServerResponse | null = null;
    stage.upstream.handler = (request, response) => {
      request.resume();
      response.writeHead(200, { 'content-type': 'text/event-stream' });
      response.flushHeaders();
      go = response;
    };
    const response = await answerOf(send('/v1/sse'));
    const upstream = await until(() => go);
    for (const event of ['data: 1\n\n', 'data: 2\n\n']) {
      upstream.write(event);
      const [chunk]: Buffer[] = await once(response, 'data');
      assert.equal(String(chunk), event);
    }
    upstream.end('data: {"usage":{"output":2}}\n\n');
    await textOf(response);
    assert.equal(response.trailers['x-credits-charged'], '2');
  });

  it('an upstream that speaks badly is cut or refused, and the process lives', async () => {
    let said = '';
    const odd = createServer((socket) => {
      socket.on('error', () => {});
      socket.once('data', () => socket.end(said, 'latin1'));
    });
    await new Promise<void>((resolve) => {
      odd.listen(0, '127.0.0.1', resolve);
    });
    const address = odd.address();
    assert.ok(typeof address === 'object' && address !== null);
    await stage.publish([productAt(`http://127.0.0.1:${address.port}`)]);
    const answers: (number | string)[] = [];
    for (const text of [
      'HTTP/1.1 200 OK\r\nX-A: a\x01b\r\nContent-Length: 2\r\n\r\nok',
      'HTTP/1.1 200 OK\r\nX-A: a\x7fb\r\nContent-Length: 2\r\n\r\nok',
      'HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 20\r\n\r\nok',
      'HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n',
      'HTTP/1.1 200 OK\r\nX A: b\r\nContent-Length: 2\r\n\r\nok',
      'HTTP/1.1 099 Odd\r\n\r\n',
      'HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n',
      'HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok',
      'nonsense\r\n\r\n',
      '',
    ]) {
      said = text;
      try {
        const response = await answerOf(send('/v1/x'));
        await textOf(response);
        answers.push(response.statusCode ?? 0);
      } catch {
        answers.push('cut');
      }
    }
    for (const answer of answers) assert.ok([200, 502, 'cut'].includes(answer), answers.join());
    assert.equal(answers[7], 200, 'early hints are passed over');
    assert.equal(answers.at(-1), 502);
    await stage.publish([productAt(stage.upstream.url)]);
    odd.close();
    assert.equal((await answerOf(send('/v1/x'))).statusCode, 200);
    await settled();
  });

  it('a slow client slows the upstream down, and nothing is lost', async () => {
    const total = 48 * 1024 * 1024;
    let written = 0;
    stage.upstream.handler = (request, response) => {
      request.resume();
      response.writeHead(200, { 'content-length': total });
      const piece = Buffer.alloc(256 * 1024, 7);
      const write = (): void => {
        while (written < total) {
          written += piece.length;
          if (!response.write(piece)) {
            response.once('drain', write);
            return;
          }
        }
        response.end();
      };
      write();
    };
    const response = await answerOf(send('/v1/x'));
    response.pause();
    // As much as all the buffers on the way hold, and then no more.
    let before = -1;
    await until(() => {
      const isStill = written === before;
      before = written;
      return isStill ? true : null;
    });
    assert.ok(written < total / 2, `${written} of ${total}`);
    let got = 0;
    response.on('data', (chunk: Buffer) => {
      got += chunk.length;
    });
    response.resume();
    await once(response, 'end');
    assert.equal(got, total);
    assert.deepEqual(told(await settled()), ['1']);
  });

  it('clients that leave at any moment leave no hold and no connection behind', async () => {
    stage.upstream.handler = (request, response) => {
      request.resume();
      setTimeout(() => {
        response.writeHead(200, { 'content-type': 'text/event-stream' });
        let index = 0;
        const timer = setInterval(() => {
          index += 1;
          response.write(`data: {"delta":"${'x'.repeat(2_000)}"}\n\n`);
          if (index < 4) return;
          clearInterval(timer);
          response.end('data: {"usage":{"output":4}}\n\n');
        }, 2);
      }, 3);
    };
    const bytes = `GET /weather/v1/sse HTTP/1.1\r\nHost: h\r\nX-API-Key: ${subscriber.key}\r\n\r\n`;
    for (let round = 0; round < 10; round += 1) {
      await Promise.all(
        Array.from({ length: 40 }, async () => {
          const socket = connect(stage.gateway.port, '127.0.0.1');
          socket.on('error', () => {});
          socket.resume();
          socket.write(bytes);
          await sleep(Math.random() * 25);
          if (Math.random() < 0.5) socket.destroy();
          else socket.resetAndDestroy();
        }),
      );
    }
    const facts = await settled();
    assert.ok(facts.length <= 400);
    for (const line of told(facts)) assert.ok(['4', '100 estimated'].includes(line), line);
    // The gateway still works at full width.
    stage.upstream.handler = answerOk;
    const answers = await Promise.all(Array.from({ length: 50 }, () => answerOf(send('/v1/x'))));
    assert.ok(answers.every(({ statusCode }) => statusCode === 200));
    for (const answer of answers) answer.resume();
    await settled();
  });

  it('a long request keeps its hold by renewing it', async () => {
    // The clock of the relays is moved, not waited for.
    let end = (): void => {};
    stage.upstream.handler = (request, response) => {
      request.resume();
      response.writeHead(200, { 'content-type': 'text/event-stream' });
      response.write('data: a\n\n');
      end = () => response.end('data: {"usage":{"output":9}}\n\n');
    };
    const response = await answerOf(send('/v1/sse'));
    await once(response, 'data');
    const due = async (): Promise<number> => {
      const [first] = (await stage.link.dueHolds(Date.now() + 600_000, 100)).filter(
        ({ subscriberId }) => subscriberId === subscriber.id,
      );
      return first?.dueMs ?? 0;
    };
    const before = await due();
    assert.ok(before > 0);
    stage.gateway.look(performance.now() + 30_000);
    await until(async () => ((await due()) > before ? true : null));
    end();
    response.resume();
    assert.deepEqual(told(await settled()), ['9']);
  });

  it('a stream that never ends is cut after 15 minutes, and charged: its period can be sealed', async () => {
    stage.upstream.handler = (request, response) => {
      request.resume();
      response.writeHead(200, { 'content-type': 'text/event-stream' });
      response.write('data: a\n\n');
    };
    const response = await answerOf(send('/v1/sse'));
    await once(response, 'data');
    response.on('error', () => {});
    const ended = new Promise((resolve) => {
      response.once('close', resolve);
    });
    stage.gateway.look(performance.now() + 16 * 60_000);
    await ended;
    // What is still read for the report of a client that left is cut as well.
    stage.gateway.look(performance.now() + 16 * 60_000);
    assert.equal((await settled()).length, 1);
  });

  it('the end of the process lets requests finish, and cuts and charges what does not', async () => {
    const streams: ServerResponse[] = [];
    stage.upstream.handler = (request, response) => {
      request.resume();
      response.writeHead(200, { 'content-type': 'text/event-stream' });
      response.write('data: a\n\n');
      streams.push(response);
    };
    const finishing = await answerOf(send('/v1/sse'));
    const cut = await answerOf(send('/v1/sse'));
    await Promise.all([once(finishing, 'data'), once(cut, 'data')]);
    const restarted = stage.restartGateway();
    await sleep(20);
    await assert.rejects(answerOf(send('/v1/x')));
    streams[0]?.end('data: {"usage":{"output":5}}\n\n');
    await textOf(finishing);
    await assert.rejects(textOf(cut));
    await restarted;
    assert.deepEqual(told(await settled()), ['5', '100 estimated']);
  });
});
