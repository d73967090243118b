import { execFile } from 'node:child_process';
import { createConnection, createServer } from 'node:net';
import { promisify } from 'node:util';

const run = promisify(execFile);

/** Below the kernel's ephemeral range, so that an outgoing connection does not take the port first. */
const PORT_FIRST = 20_000;
const PORT_COUNT = 12_000;
const ATTEMPTS_MAX = 200;

/**
 * A TCP port on 127.0.0.1 that nobody listens on now. Another process may still take it before the
 * caller does; servers started on it retry with another one.
 */
export async function freePort(): Promise<number> {
  for (let attempt = 0; attempt < ATTEMPTS_MAX; attempt += 1) {
    const port = PORT_FIRST + Math.floor(Math.random() * PORT_COUNT);
    if (await isPortFree(port)) return port;
  }
  throw new Error(`no free port found between ${PORT_FIRST} and ${PORT_FIRST + PORT_COUNT}`);
}

/** Whether 127.0.0.1:port can be listened on. */
export function isPortFree(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const server = createServer();
    server.once('error', () => {
      resolve(false);
    });
    server.listen({ port, host: '127.0.0.1', exclusive: true }, () => {
      server.close(() => {
        resolve(true);
      });
    });
  });
}

/** Whether something accepts a TCP connection on 127.0.0.1:port within half a second. */
export function isListening(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = createConnection({ port, host: '127.0.0.1', timeout: 500 });
    const answer = (listening: boolean) => (): void => {
      socket.destroy();
      resolve(listening);
    };
    socket.once('connect', answer(true));
    socket.once('error', answer(false));
    socket.once('timeout', answer(false));
  });
}

/** The process that listens on the port, in words (`redis-server, pid 812`), where that can be known. */
export async function portHolder(port: number): Promise<string | null> {
  try {
    const { stdout } = await run('ss', ['-ltnpH', `sport = :${port}`]);
    const found = /\(\("([^"]+)",pid=(\d+)/.exec(stdout);
    if (found !== null) return `${found[1]}, pid ${found[2]}`;
  } catch {
    // ss is Linux only; lsof is tried next.
  }
  try {
    const { stdout } = await run('lsof', ['-nP', `-iTCP:${port}`, '-sTCP:LISTEN', '-Fcp']);
    const pid = /^p(\d+)/m.exec(stdout)?.[1];
    const name = /^c(.+)/m.exec(stdout)?.[1];
    if (pid !== undefined) return `${name ?? 'a process'}, pid ${pid}`;
  } catch {
    // Nobody can say.
  }
  return null;
}
