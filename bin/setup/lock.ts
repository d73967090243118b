import { execFileSync } from 'node:child_process';
import { linkSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { dirname } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

import { say } from './progress.ts';

/** Who holds a lock: a pid alone is not enough, since pids are given out again. */
export type LockHolder = { readonly pid: number; readonly startedAt: string };

/**
 * When the process started, as exactly as the system tells it (Linux: clock ticks since boot, which
 * no change of the clock moves), or null when there is no such process.
 */
export function processStart(pid: number): string | null {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
    // The second field is the program's name and may hold spaces and brackets; the 22nd is the start.
    const [state, ...fields] = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    // A zombie has ended: nobody has asked for its exit code yet.
    return state === 'Z' ? null : (fields[18] ?? null);
  } catch {
    if (process.platform === 'linux') return null;
  }
  try {
    const shown = execFileSync('ps', ['-o', 'lstart=', '-p', String(pid)], {
      encoding: 'utf8',
      env: { ...process.env, LC_ALL: 'C' },
    });
    return shown.trim() === '' ? null : shown.trim();
  } catch {
    return null;
  }
}

/** The live holder of the lock, or null when it is free or its holder is dead (stale). */
export function lockHolder(file: string): LockHolder | null {
  const holder = readHolder(file);
  if (holder === null) return null;
  return processStart(holder.pid) === holder.startedAt ? holder : null;
}

function readHolder(file: string): LockHolder | null {
  try {
    const read: unknown = JSON.parse(readFileSync(file, 'utf8'));
    if (typeof read !== 'object' || read === null) return null;
    if (!('pid' in read) || typeof read.pid !== 'number') return null;
    if (!('startedAt' in read) || typeof read.startedAt !== 'string') return null;
    return { pid: read.pid, startedAt: read.startedAt };
  } catch {
    return null;
  }
}

/**
 * Takes the lock or says who holds it; never waits. A lock whose holder has died is taken over.
 * @returns a function that releases it, or the live holder
 */
export function tryLock(file: string): (() => void) | LockHolder {
  mkdirSync(dirname(file), { recursive: true });
  const mine: LockHolder = { pid: process.pid, startedAt: processStart(process.pid) ?? 'unknown' };
  const draft = `${file}.${process.pid}`;
  writeFileSync(draft, JSON.stringify(mine));
  try {
    for (;;) {
      try {
        // A hard link to a finished file: it is there with its content, or not at all.
        linkSync(draft, file);
        return () => {
          rmSync(file, { force: true });
        };
      } catch (error) {
        if (!(error instanceof Error && 'code' in error && error.code === 'EEXIST')) throw error;
      }
      const holder = lockHolder(file);
      if (holder !== null) return holder;
      removeStale(file);
    }
  } finally {
    rmSync(draft, { force: true });
  }
}

/**
 * Renamed first, so that of two processes that find it stale only one removes it. What was renamed
 * is looked at again: another process may have taken the lock since, and gets it back.
 */
function removeStale(file: string): void {
  const aside = `${file}.stale.${process.pid}`;
  try {
    renameSync(file, aside);
    if (lockHolder(aside) !== null) linkSync(aside, file);
  } catch {
    // Gone, or taken by a third one: the caller looks again.
  }
  rmSync(aside, { force: true });
}

const LOCK_POLL_MS = 500;

/** Runs the work while holding the lock; waits, and says for whom, while another set-up holds it. */
export async function withLock<T>(file: string, work: () => Promise<T>): Promise<T> {
  let hasSaid = false;
  for (;;) {
    const taken = tryLock(file);
    if (typeof taken === 'function') {
      try {
        return await work();
      } finally {
        taken();
      }
    }
    if (!hasSaid) say(`• Waiting for another set-up (pid ${taken.pid}) to finish …`);
    hasSaid = true;
    await sleep(LOCK_POLL_MS);
  }
}
