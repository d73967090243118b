/** The connection of the hot path: order, one end for each call, and what a server may do to it. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer, type AddressInfo, type Socket } from 'node:net';

import { Redis } from 'ioredis';

import { NotConnected, openPipe, type Pipe } from '../../shards/pipe.ts';
import { encodeCommand, type RespValue } from '../../shards/resp.ts';
import { freePort } from '../support/ports.ts';
import { startRedis } from '../support/redis.ts';

const options = { commandTimeoutMs: 5000 };

async function ask(pipe: Pipe, ...words: string[]): Promise<RespValue> {
  await pipe.awaitReady(5000);
  return new Promise((resolve, reject) => {
    pipe.send(encodeCommand(words), resolve, reject);
  });
}

/** A server that greets as Redis does and then does as it is told. */
async function startServer(onCall: (socket: Socket, text: string) => void) {
  const sockets = new Set<Socket>();
  const calls: string[] = [];
  const server = createServer((socket) => {
    sockets.add(socket);
    socket.on('error', () => {});
    socket.on('data', (data) => {
      const text = data.toString();
      if (text === encodeCommand(['PING'])) socket.write('+PONG\r\n');
      else {
        calls.push(text);
        onCall(socket, text);
      }
    });
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const address: AddressInfo | string | null = server.address();
  assert.ok(address !== null && typeof address === 'object');
  return {
    url: `redis://127.0.0.1:${address.port}`,
    calls,
    connections: () => sockets.size,
    close: () => {
      for (const socket of sockets) socket.destroy();
      server.close();
    },
  };
}

describe('shards/pipe', () => {
  it('answers each of many calls with its own reply, and sends those of a turn together', async () => {
    const redis = await startRedis();
    const pipe = openPipe(redis.url, options);
    try {
      const texts = Array.from({ length: 2000 }, (_, n) => `é${'x'.repeat(n % 300)}${n}`);
      assert.deepEqual(await Promise.all(texts.map((text) => ask(pipe, 'ECHO', text))), texts);
      await assert.rejects(ask(pipe, 'EVALSHA', '0'.repeat(40), '0'), /^ReplyError: NOSCRIPT/);
      const nested = 'return {1, {"a", false}, redis.status_reply("fine")}';
      assert.deepEqual(await ask(pipe, 'EVAL', nested, '0'), [1, ['a', null], 'fine']);
    } finally {
      pipe.close();
      await redis.stop();
    }
  });

  it('signs in and chooses the database of the address, or does not become ready', async () => {
    const redis = await startRedis();
    const raw = new Redis({ port: redis.port, db: 3 });
    await raw.config('SET', 'requirepass', 'p@ss');
    const [good, bad] = [
      openPipe(`redis://:p%40ss@127.0.0.1:${redis.port}/3`, options),
      openPipe(`redis://:wrong@127.0.0.1:${redis.port}`, options),
    ];
    try {
      await ask(good, 'SET', 'where', 'three');
      assert.equal(await raw.get('where'), 'three');
      await bad.awaitReady(200);
      assert.equal(bad.isReady(), false);
      await assert.rejects(ask(bad, 'GET', 'where'), NotConnected);
    } finally {
      good.close();
      bad.close();
      await raw.config('SET', 'requirepass', '');
      raw.disconnect();
      await redis.stop();
    }
  }).timeout(20_000);

  it('ends every call once when the server hangs up, sends none again, and comes back', async () => {
    let isDown = true;
    const server = await startServer((socket) => {
      if (isDown) socket.end();
      else socket.write('+late\r\n');
    });
    const pipe = openPipe(server.url, options);
    try {
      await pipe.awaitReady(5000);
      let ends = 0;
      const outcomes = await Promise.all(
        Array.from(
          { length: 50 },
          (_, n) =>
            new Promise<string>((resolve) => {
              const end = (what: unknown): void => {
                ends += 1;
                resolve(String(what));
              };
              pipe.send(encodeCommand(['LOST', String(n)]), end, end);
            }),
        ),
      );
      assert.deepEqual([...new Set(outcomes)], ['Error: the connection was lost']);
      isDown = false;
      assert.equal(await ask(pipe, 'NEW'), 'late');
      assert.equal(ends, 50);
      assert.equal(server.connections(), 2);
      assert.equal(server.calls.join('').split('LOST').length - 1, 50);
      assert.equal(server.calls.at(-1), encodeCommand(['NEW']));
    } finally {
      pipe.close();
      server.close();
    }
  });

  it('gives a late reply to nobody, and the next one to its own call', async () => {
    let first: Socket | null = null;
    const server = await startServer((socket, text) => {
      if (text.includes('SLOW')) first = socket;
      else (first ?? socket).write('+slow\r\n+quick\r\n');
    });
    const pipe = openPipe(server.url, { commandTimeoutMs: 30 });
    try {
      await assert.rejects(ask(pipe, 'SLOW'), /no reply in time/);
      assert.equal(await ask(pipe, 'QUICK'), 'quick');
      assert.equal(server.connections(), 1);
    } finally {
      pipe.close();
      server.close();
    }
  });

  it('leaves a server that says nothing any more, and one that says what nobody asked', async () => {
    const silent = await startServer(() => {});
    const noisy = await startServer((socket) => socket.write('+one\r\n+two\r\n'));
    const garbled = await startServer((socket) => socket.write('what?\r\n'));
    const pipes = [silent, noisy, garbled].map(({ url }) =>
      openPipe(url, { commandTimeoutMs: 60_000 }),
    );
    try {
      const [toSilent, toNoisy, toGarbled] = pipes;
      assert.ok(toSilent && toNoisy && toGarbled);
      const lost = assert.rejects(ask(toSilent, 'A'), /the connection was lost/);
      assert.equal(await ask(toNoisy, 'A'), 'one');
      await assert.rejects(ask(toGarbled, 'A'), /the connection was lost/);
      await lost;
      while (noisy.connections() < 2 || silent.connections() < 2) {
        await new Promise((resolve) => setTimeout(resolve, 5));
      }
    } finally {
      for (const pipe of pipes) pipe.close();
      for (const server of [silent, noisy, garbled]) server.close();
    }
  }).timeout(20_000);

  it('tells what waits when it is closed, and does not call itself connected to nobody', async () => {
    const server = await startServer(() => {});
    const pipe = openPipe(server.url, options);
    const waiting = assert.rejects(ask(pipe, 'A'), /the connection was closed/);
    while (server.calls.length === 0) await new Promise((resolve) => setTimeout(resolve, 5));
    pipe.close();
    await waiting;
    await assert.rejects(ask(pipe, 'A'), NotConnected);
    server.close();
    const nobody = openPipe(`redis://127.0.0.1:${await freePort()}`, options);
    await nobody.awaitReady(50);
    assert.equal(nobody.isReady(), false);
    nobody.close();
  });
});
