/** What a run used of the machine, from /proc (Linux). Without it figures are requests only, and no sample is void. */
import { spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { accessSync, constants, readFileSync } from 'node:fs';
import { delimiter, join } from 'node:path';

const tickMs = 10;

/** CPU that a process has used, in microseconds, its threads together; null where it cannot be known. */
export function cpuMicros(pid: number): number | null {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    return (Number(fields[11]) + Number(fields[12])) * tickMs * 1000;
  } catch {
    return null;
  }
}

/** Share of each core that was busy between two readings. */
export type CoreTimes = readonly { readonly busy: number; readonly total: number }[];

export function coreTimes(): CoreTimes | null {
  try {
    return readFileSync('/proc/stat', 'utf8')
      .split('\n')
      .filter((line) => /^cpu\d+ /.test(line))
      .map((line) => {
        const ticks = line.trim().split(/\s+/).slice(1).map(Number);
        const total = ticks.reduce((sum, tick) => sum + tick, 0);
        return { busy: total - (ticks[3] ?? 0) - (ticks[4] ?? 0), total };
      });
  } catch {
    return null;
  }
}

export function busyShare(
  before: CoreTimes | null,
  after: CoreTimes | null,
  core: number,
): number | null {
  const a = before?.[core];
  const b = after?.[core];
  if (a === undefined || b === undefined || b.total === a.total) return null;
  return (b.busy - a.busy) / (b.total - a.total);
}

/** Whether a program is on the PATH. */
export function findProgram(name: string): string | null {
  for (const folder of (process.env['PATH'] ?? '').split(delimiter)) {
    const file = join(folder, name);
    try {
      accessSync(file, constants.X_OK);
      return file;
    } catch {
      // Not here.
    }
  }
  return null;
}

/** Starts a program on one core where the machine can do that. */
export function spawnOn(
  core: number,
  command: readonly string[],
  options: { readonly env?: NodeJS.ProcessEnv; readonly isQuiet?: boolean } = {},
): ChildProcess {
  const taskset = findProgram('taskset');
  const [program = '', ...rest] =
    taskset === null ? command : [taskset, '-c', String(core), ...command];
  return spawn(program, rest, {
    env: { ...process.env, ...options.env },
    stdio: ['ignore', options.isQuiet === false ? 'inherit' : 'ignore', 'inherit'],
  });
}
