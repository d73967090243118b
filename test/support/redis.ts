import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { freePort } from '../../bin/setup/ports.ts';
import { startRedisServer } from '../../bin/setup/redis-server.ts';

/** A shard of its own for a test: real Redis, append-only file, noeviction. */
export type TestRedis = {
  readonly port: number;
  readonly url: string;
  readonly folder: string;
  readonly pid: () => number;
  /** Orderly stop; deletes the folder if this helper made it. */
  readonly stop: () => Promise<void>;
  /** SIGKILL; the folder stays, for `restart`. */
  readonly kill9: () => Promise<void>;
  /** Stops it if it runs (orderly), then starts it again on the same port and folder. */
  readonly restart: () => Promise<void>;
};

/** Starts a redis-server; stop it in `after`. Without `port` a free one, without `dir` an own temporary folder. */
export async function startRedis(
  options: {
    readonly port?: number;
    readonly dir?: string;
    readonly settings?: Readonly<Record<string, string>>;
  } = {},
): Promise<TestRedis> {
  const folder = options.dir ?? mkdtempSync(join(tmpdir(), 'tollbook-redis-'));
  const port = options.port ?? (await freePort());
  const start = (): ReturnType<typeof startRedisServer> =>
    startRedisServer({ port, folder, settings: options.settings ?? {} });
  let server = await start();
  return {
    port,
    url: `redis://127.0.0.1:${port}`,
    folder,
    pid: () => server.pid,
    stop: async () => {
      await server.stop();
      if (options.dir === undefined) rmSync(folder, { recursive: true, force: true });
    },
    kill9: () => server.kill9(),
    restart: async () => {
      await server.stop();
      server = await start();
    },
  };
}
