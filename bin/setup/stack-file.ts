import { existsSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

import { processStart } from './lock.ts';
import { killGroup } from './server-process.ts';

/** One running process of the stack; the start time tells it from a later one with the same pid. */
export type StackProcess = {
  readonly name: string;
  readonly pid: number;
  readonly startedAt: string;
};

/**
 * `.tollbook/stack.json`: what runs and where, for `npm run demo`, `traffic`, `reset`, `doctor`
 * and for the next start after a supervisor was killed.
 */
export type StackFile = {
  readonly version: 1;
  /** The supervisor. */
  readonly pid: number;
  readonly startedAt: string;
  /** True once everything is up and the catalogue is there. */
  readonly isReady: boolean;
  readonly urls: Readonly<Record<string, string>>;
  /** The environment that every process of the stack runs with; a further process can join with it. */
  readonly environment: Readonly<Record<string, string>>;
  readonly processes: readonly StackProcess[];
};

/** Tells a state folder of ours from any other folder that STATE_DIR may name by mistake. */
const MARKER = 'README';
const MARKER_TEXT = 'State of a Tollbook stack. `npm run reset` removes this folder.\n';

/** Makes the folder and marks it as ours. */
export function makeStateDir(stateDir: string): void {
  mkdirSync(stateDir, { recursive: true });
  writeFileSync(join(stateDir, MARKER), MARKER_TEXT);
}

/** Whether `makeStateDir` made it: nothing else may be removed as a whole. */
export function isStateDir(stateDir: string): boolean {
  const file = join(stateDir, MARKER);
  return existsSync(file) && readFileSync(file, 'utf8') === MARKER_TEXT;
}

function stackFileOf(stateDir: string): string {
  return join(stateDir, 'stack.json');
}

/** Written beside and renamed: a reader sees the whole old one or the whole new one. */
export function writeStackFile(stateDir: string, stack: StackFile): void {
  const file = stackFileOf(stateDir);
  mkdirSync(dirname(file), { recursive: true });
  writeFileSync(`${file}.partial`, `${JSON.stringify(stack, null, 2)}\n`, { mode: 0o600 });
  renameSync(`${file}.partial`, file);
}

export function removeStackFile(stateDir: string): void {
  rmSync(stackFileOf(stateDir), { force: true });
}

/** The stack of this state folder as last written, or null. Its supervisor may be dead. */
export function readStackFile(stateDir: string): StackFile | null {
  try {
    const read: unknown = JSON.parse(readFileSync(stackFileOf(stateDir), 'utf8'));
    return isStackFile(read) ? read : null;
  } catch {
    return null;
  }
}

function isStackFile(value: unknown): value is StackFile {
  return (
    typeof value === 'object' &&
    value !== null &&
    'version' in value &&
    value.version === 1 &&
    'processes' in value &&
    Array.isArray(value.processes)
  );
}

/** The stack that runs in this state folder now, or null. */
export function runningStack(stateDir: string): StackFile | null {
  const stack = readStackFile(stateDir);
  if (stack === null) return null;
  return processStart(stack.pid) === stack.startedAt ? stack : null;
}

const GONE_WITHIN_MS = 10_000;

/**
 * Ends what a supervisor that was killed has left running, most dependent first, and removes its
 * file. A process that only carries an old pid is left alone.
 * @returns the names of what was ended
 */
export async function clearLeftovers(stateDir: string): Promise<readonly string[]> {
  const stack = readStackFile(stateDir);
  if (stack === null) return [];
  const isAlive = ({ pid, startedAt }: StackProcess): boolean => processStart(pid) === startedAt;
  const left = stack.processes.filter(isAlive).toReversed();
  for (const { pid, name } of left) killGroup(pid, name === 'postgres' ? 'SIGINT' : 'SIGTERM');
  const deadline = Date.now() + GONE_WITHIN_MS;
  while (left.some(isAlive)) {
    if (Date.now() > deadline) {
      for (const one of left.filter(isAlive)) killGroup(one.pid, 'SIGKILL');
    }
    await sleep(50);
  }
  removeStackFile(stateDir);
  return left.map(({ name }) => name);
}
