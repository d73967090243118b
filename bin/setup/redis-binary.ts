import { spawnSync } from 'node:child_process';
import { existsSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

import { withLock } from './lock.ts';
import { cacheFolder } from './paths.ts';
import { SetupProblem, wordsOf } from './problem.ts';
import { withProgress } from './progress.ts';
import { runCommand, which } from './run.ts';

/** The programs that can be a shard, first usable wins. */
const PROGRAMS = ['redis-server', 'valkey-server'];
/** Scripts begin with `#!lua`, which Redis 7 brought; every Valkey has it. */
const MAJOR_MIN = 7;

/** The path of a usable redis-server or valkey-server on PATH, or null. */
export function findRedis(): string | null {
  for (const program of PROGRAMS) {
    const file = which(program);
    if (file !== null && majorOf(file) >= MAJOR_MIN) return file;
  }
  return null;
}

function majorOf(file: string): number {
  const shown = spawnSync(file, ['--version'], { encoding: 'utf8' });
  return Number(/v=(\d+)/.exec(shown.stdout)?.[1] ?? 0);
}

/**
 * The program for the shards: found, else installed where this account may (root on Debian or
 * Ubuntu). Throws SetupProblem with the command for everybody else.
 */
export async function ensureRedis(): Promise<string> {
  const found = findRedis();
  if (found !== null) return found;
  if (process.getuid?.() !== 0 || which('apt-get') === null) {
    throw new SetupProblem(redisInstruction());
  }
  return withLock(join(cacheFolder(), 'redis.lock'), async () => {
    const madeByAnother = findRedis();
    if (madeByAnother !== null) return madeByAnother;
    try {
      await withProgress('Installing redis-server with apt', install);
    } catch (cause) {
      throw new SetupProblem(`${redisInstruction()}\n\n${wordsOf(cause)}`, { cause });
    }
    const installed = findRedis();
    if (installed === null) throw new SetupProblem(redisInstruction());
    return installed;
  });
}

const POLICY = '/usr/sbin/policy-rc.d';

async function install(): Promise<void> {
  const environment = { ...process.env, DEBIAN_FRONTEND: 'noninteractive' };
  await runCommand('apt-get', ['update'], { environment });
  // The package would start a server of its own; this is Debian's way to say no.
  const isPolicyOurs = !existsSync(POLICY);
  if (isPolicyOurs) writeFileSync(POLICY, '#!/bin/sh\nexit 101\n', { mode: 0o755 });
  try {
    const packages = ['install', '-y', '--no-install-recommends', 'redis-server'];
    await runCommand('apt-get', packages, { environment });
  } finally {
    if (isPolicyOurs) rmSync(POLICY, { force: true });
  }
}

/** How the person at the keyboard gets a Redis. */
export function redisInstruction(platform: NodeJS.Platform = process.platform): string {
  const command =
    platform === 'darwin'
      ? 'brew install redis                                   (or: brew install valkey)'
      : 'sudo apt-get update && sudo apt-get install -y redis-server   (or redis or valkey of your system)';
  return [
    `No redis-server or valkey-server of version ${MAJOR_MIN} or later. One of these mends it:`,
    `  ${command}`,
    '  SHARDS=shard-1=redis://host:6379,…                  (servers that run already)',
  ].join('\n');
}
