import { mkdirSync } from 'node:fs';
import { createConnection } from 'node:net';
import { join } from 'node:path';

import { ensureRedis } from './redis-binary.ts';
import { type ServerProcess, startServer } from './server-process.ts';

export type RedisOptions = {
  readonly port: number;
  /** The shard's own folder; its append-only file survives a restart in it. */
  readonly folder: string;
  /** Further `--name value` settings. */
  readonly settings?: Readonly<Record<string, string>>;
};

/**
 * Starts one shard: its own process, port and folder, append-only file synced each second, never
 * evicting, no snapshots. Throws SetupProblem when there is no Redis or it does not start.
 */
export async function startRedisServer(options: RedisOptions): Promise<ServerProcess> {
  const file = await ensureRedis();
  mkdirSync(options.folder, { recursive: true });
  const settings: Readonly<Record<string, string>> = {
    port: String(options.port),
    bind: '127.0.0.1',
    dir: options.folder,
    appendonly: 'yes',
    appendfsync: 'everysec',
    'maxmemory-policy': 'noeviction',
    save: '',
    // A subscriber at rest then fits one compact block: about 1.5 KiB instead of 1.9 (bench/shard.ts).
    'hash-max-listpack-value': '1024',
    daemonize: 'no',
    ...options.settings,
  };
  return startServer({
    name: `redis-server on port ${options.port}`,
    file,
    arguments: Object.entries(settings).flatMap(([name, value]) => [`--${name}`, value]),
    logFile: join(options.folder, 'redis.log'),
    isReady: () => answersPing(options.port),
    readyWithinMs: 30_000,
  });
}

/** Whether a Redis on 127.0.0.1:port answers PONG, that is, has loaded its log. */
function answersPing(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = createConnection({ port, host: '127.0.0.1', timeout: 1000 });
    const answer = (ready: boolean): void => {
      socket.destroy();
      resolve(ready);
    };
    socket.once('connect', () => socket.write('PING\r\n'));
    socket.once('data', (data) => {
      answer(data.toString('latin1').startsWith('+PONG'));
    });
    socket.once('error', () => {
      answer(false);
    });
    socket.once('timeout', () => {
      answer(false);
    });
    socket.once('close', () => {
      answer(false);
    });
  });
}
