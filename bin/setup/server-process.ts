import { type ChildProcess, spawn } from 'node:child_process';
import {
  closeSync,
  existsSync,
  openSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
} from 'node:fs';

import { SetupProblem } from './problem.ts';

export type ServerCommand = {
  /** For messages: `redis-server on port 7001`. */
  readonly name: string;
  readonly file: string;
  readonly arguments: readonly string[];
  readonly environment?: NodeJS.ProcessEnv;
  readonly cwd?: string;
  /** Standard output and error are appended to this file. */
  readonly logFile: string;
  /** Asked every 50 ms until it says true, the process has ended, or the time is over. */
  readonly isReady: () => Promise<boolean>;
  readonly readyWithinMs: number;
  /** The signal for an orderly stop; SIGTERM unless said otherwise. */
  readonly stopSignal?: NodeJS.Signals;
  /** An orderly stop that takes longer becomes a SIGKILL; 10 s unless said otherwise. */
  readonly stopWithinMs?: number;
};

/** How a process ended, in words: `exit code 1`, `signal SIGKILL`. */
export type Ending = string;

/** A server that runs as a child in its own process group. */
export type ServerProcess = {
  readonly pid: number;
  /** Settles when the process has ended, whoever ended it. */
  readonly ended: Promise<Ending>;
  readonly isRunning: () => boolean;
  /** Orderly stop, then SIGKILL. A second call waits for the first. */
  readonly stop: () => Promise<void>;
  /** SIGKILL at once, to the whole group. */
  readonly kill9: () => Promise<void>;
};

const STOP_WITHIN_MS = 10_000;
const LOG_TAIL_LINES = 15;

/**
 * Servers that run now. When this process exits by itself (not by SIGKILL) without having stopped
 * them, they are killed, so that a failing test or a thrown error leaves nothing behind.
 */
const running = new Set<number>();
process.once('exit', () => {
  for (const pid of running) killGroup(pid, 'SIGKILL');
});
// Without a handler of the program itself a signal would end it with no exit event at all.
for (const [signal, code] of [
  ['SIGINT', 130],
  ['SIGTERM', 143],
  ['SIGHUP', 129],
] as const) {
  process.on(signal, () => {
    if (process.listenerCount(signal) === 1) process.exit(code);
  });
}

/**
 * Starts the server and waits until it is ready.
 * Throws SetupProblem with the end of its log when it ends early or does not become ready.
 */
export async function startServer(command: ServerCommand): Promise<ServerProcess> {
  rotateLog(command.logFile);
  const log = openSync(command.logFile, 'a');
  const child = spawn(command.file, [...command.arguments], {
    detached: true,
    stdio: ['ignore', log, log],
    env: command.environment ?? process.env,
    ...(command.cwd === undefined ? {} : { cwd: command.cwd }),
  });
  closeSync(log);
  const server = await serverOf(child, command);
  const deadline = Date.now() + command.readyWithinMs;
  while (!(await command.isReady())) {
    if (!server.isRunning()) {
      throw new SetupProblem(`${command.name} ended while starting:\n${logTail(command.logFile)}`);
    }
    if (Date.now() > deadline) {
      await server.kill9();
      throw new SetupProblem(
        `${command.name} was not ready within ${command.readyWithinMs / 1000} s:\n${logTail(command.logFile)}`,
      );
    }
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  return server;
}

function serverOf(child: ChildProcess, command: ServerCommand): Promise<ServerProcess> {
  return new Promise((resolve, reject) => {
    const ended = new Promise<Ending>((done) => {
      child.once('exit', (code, signal) => {
        if (child.pid !== undefined) running.delete(child.pid);
        done(signal === null ? `exit code ${code}` : `signal ${signal}`);
      });
    });
    child.once('error', (cause) => {
      reject(new SetupProblem(`${command.name} could not be started: ${cause.message}`, { cause }));
    });
    child.once('spawn', () => {
      const { pid } = child;
      if (pid === undefined) throw new Error('a spawned process has a pid');
      running.add(pid);
      const isRunning = (): boolean => running.has(pid);
      const kill9 = async (): Promise<void> => {
        if (isRunning()) killGroup(pid, 'SIGKILL');
        await ended;
      };
      const stop = async (): Promise<void> => {
        if (!isRunning()) return;
        child.kill(command.stopSignal ?? 'SIGTERM');
        const force = setTimeout(() => {
          killGroup(pid, 'SIGKILL');
        }, command.stopWithinMs ?? STOP_WITHIN_MS);
        await ended;
        clearTimeout(force);
      };
      resolve({ pid, ended, isRunning, stop, kill9 });
    });
  });
}

/** Signals a process group; a group that is gone is no error. */
export function killGroup(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(-pid, signal);
  } catch (error) {
    if (!(error instanceof Error && 'code' in error && error.code === 'ESRCH')) throw error;
  }
}

function logTail(file: string): string {
  return readFileSync(file, 'utf8').trimEnd().split('\n').slice(-LOG_TAIL_LINES).join('\n');
}

const LOG_BYTES_MAX = 64 * 1024 * 1024;

/** Called before a start: a log that has grown too long becomes `<file>.old`, one generation kept. */
function rotateLog(file: string): void {
  if (!existsSync(file) || statSync(file).size < LOG_BYTES_MAX) return;
  rmSync(`${file}.old`, { force: true });
  renameSync(file, `${file}.old`);
}
