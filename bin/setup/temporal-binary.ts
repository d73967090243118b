import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, renameSync, rmSync } from 'node:fs';
import { join } from 'node:path';

import { withLock } from './lock.ts';
import { cacheFolder } from './paths.ts';
import { SetupProblem, wordsOf } from './problem.ts';
import { say, withProgress } from './progress.ts';
import { runCommand, which } from './run.ts';

/** The version that is known to build from the Go module proxy (server 1.29.1, Web UI 2.42.1). */
const GO_MODULE = 'github.com/temporalio/cli/cmd/temporal@v1.5.1';
const DOWNLOAD_HOST = 'https://temporal.download/';
const PROBE_WITHIN_MS = 4000;
const DOWNLOAD_WITHIN_MS = 180_000;

/** The `temporal` program on PATH or in the cache, or null; nothing is downloaded. */
export function findTemporal(): string | null {
  const onPath = which('temporal');
  if (onPath !== null) return onPath;
  return [builtFile(), downloadedFile()].find((file) => isUsable(file)) ?? null;
}

/**
 * The `temporal` program: found, else downloaded by Temporal's own SDK, else built with Go into the
 * cache. Throws SetupProblem with the ways to mend it.
 */
export async function ensureTemporal(): Promise<string> {
  const found = findTemporal();
  if (found !== null) return found;
  return withLock(join(cacheFolder(), 'temporal.lock'), async () => {
    const madeByAnother = findTemporal();
    if (madeByAnother !== null) return madeByAnother;
    return (await download()) ?? (await build());
  });
}

function builtFile(): string {
  return join(cacheFolder(), 'go-bin', 'temporal');
}

function downloadedFile(): string {
  return join(cacheFolder(), 'downloaded', 'temporal');
}

function isUsable(file: string): boolean {
  return existsSync(file) && spawnSync(file, ['--version']).status === 0;
}

async function download(): Promise<string | null> {
  if (!(await isReachable())) return null;
  const folder = join(cacheFolder(), 'downloaded');
  mkdirSync(folder, { recursive: true });
  try {
    await withProgress('Downloading the Temporal server (once, about 60 MB)', async () => {
      // The SDK knows its own download protocol; a server started and stopped leaves the file.
      const { TestWorkflowEnvironment } = await import('@temporalio/testing');
      const started = TestWorkflowEnvironment.createLocal({
        server: { executable: { type: 'cached-download', downloadDir: folder, version: 'v1.5.1' } },
      });
      const environment = await within(DOWNLOAD_WITHIN_MS, started);
      await environment.teardown();
    });
  } catch (error) {
    say(`  the download did not work (${wordsOf(error)})`);
    return null;
  }
  const file = readdirSync(folder).find((name) => name.startsWith('temporal'));
  if (file === undefined) return null;
  renameSync(join(folder, file), downloadedFile());
  return isUsable(downloadedFile()) ? downloadedFile() : null;
}

async function isReachable(): Promise<boolean> {
  try {
    await fetch(DOWNLOAD_HOST, { signal: AbortSignal.timeout(PROBE_WITHIN_MS) });
    return true;
  } catch {
    return false;
  }
}

async function within<T>(ms: number, work: Promise<T>): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => {
      reject(new Error(`not done within ${ms / 1000} s`));
    }, ms);
  });
  try {
    return await Promise.race([work, late]);
  } finally {
    clearTimeout(timer);
  }
}

async function build(): Promise<string> {
  if (which('go') === null) throw new SetupProblem(temporalInstruction());
  const partial = join(cacheFolder(), `go-bin.partial-${process.pid}`);
  try {
    await withProgress(
      'Building the Temporal server with Go (once on this machine, 5 to 12 minutes)',
      () =>
        runCommand('go', ['install', GO_MODULE], {
          environment: { ...process.env, GOBIN: partial },
        }),
    );
    mkdirSync(join(cacheFolder(), 'go-bin'), { recursive: true });
    renameSync(join(partial, 'temporal'), builtFile());
  } catch (cause) {
    throw new SetupProblem(`${temporalInstruction()}\n\n${wordsOf(cause)}`, { cause });
  } finally {
    rmSync(partial, { recursive: true, force: true });
  }
  return builtFile();
}

/** What to do when no Temporal server can be had. */
export function temporalInstruction(): string {
  return [
    'No Temporal server. One of these mends it:',
    '  brew install temporal                      (macOS)',
    `  go install ${GO_MODULE}   (needs Go 1.24 or later; then put $(go env GOPATH)/bin on PATH)`,
    '  TEMPORAL_ADDRESS=host:7233                 (a Temporal that runs already)',
  ].join('\n');
}
