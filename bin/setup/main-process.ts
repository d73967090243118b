import { mkdirSync } from 'node:fs';
import { join } from 'node:path';

import { repositoryFolder } from './paths.ts';
import { type ServerProcess, startServer } from './server-process.ts';

/** One of our own processes: `node bin/<program>.ts`, ready when its /readyz says 200. */
export type MainOptions = {
  readonly name: string;
  /** `gateway` for bin/gateway.ts. */
  readonly program: string;
  readonly port: number;
  readonly environment: Readonly<Record<string, string>>;
  readonly logFolder: string;
};

const READY_WITHIN_MS = 90_000;
/** The processes themselves finish within 25 s: open requests, activities in flight. */
const STOP_WITHIN_MS = 28_000;
const PROBE_WITHIN_MS = 2000;

export function startMain(options: MainOptions): Promise<ServerProcess> {
  mkdirSync(options.logFolder, { recursive: true });
  return startServer({
    name: `${options.name} on port ${options.port}`,
    file: process.execPath,
    arguments: [join('bin', `${options.program}.ts`)],
    cwd: repositoryFolder,
    environment: { ...inheritedEnvironment(), ...options.environment },
    logFile: join(options.logFolder, `${options.name}.log`),
    isReady: () => saysReady(`http://127.0.0.1:${options.port}/readyz`),
    readyWithinMs: READY_WITHIN_MS,
    stopWithinMs: STOP_WITHIN_MS,
  });
}

/** The outer environment without what npm added for its own script. */
export function inheritedEnvironment(): NodeJS.ProcessEnv {
  return Object.fromEntries(
    Object.entries(process.env).filter(([name]) => !name.startsWith('npm_')),
  );
}

async function saysReady(url: string): Promise<boolean> {
  try {
    const answer = await fetch(url, { signal: AbortSignal.timeout(PROBE_WITHIN_MS) });
    await answer.body?.cancel();
    return answer.status === 200;
  } catch {
    return false;
  }
}
