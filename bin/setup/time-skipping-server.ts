import { spawn, spawnSync } from 'node:child_process';
import {
  chmodSync,
  existsSync,
  mkdirSync,
  readdirSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

import { withLock } from './lock.ts';
import { cacheFolder } from './paths.ts';
import { freePort, isListening } from './ports.ts';
import { SetupProblem, wordsOf } from './problem.ts';
import { say, withProgress } from './progress.ts';
import { runCommand, which } from './run.ts';

const VERSION = '1.38.0';
const MAIN_CLASS = 'io.temporal.testserver.TestServer';
/** A small heap, one compiler tier and one collector thread: it starts in a second, not in four. */
const JAVA_FLAGS = ['-XX:+UseSerialGC', '-XX:TieredStopAtLevel=1', '-Xmx512m'];

/** The wrapper script of an installed server, or null; nothing is downloaded. */
export function findTimeSkippingServer(): string | null {
  const file = join(installFolder(), 'temporal-test-server');
  return existsSync(file) ? file : null;
}

/**
 * The executable for `TestWorkflowEnvironment.createTimeSkipping`: Temporal's Java test server from
 * Maven Central, behind a script, with a class-data archive so that a loaded machine still starts it
 * within the five seconds that the SDK allows. Throws SetupProblem with what to install.
 */
export async function ensureTimeSkippingServer(): Promise<string> {
  const found = findTimeSkippingServer();
  if (found !== null) return found;
  return withLock(join(cacheFolder(), 'time-skipping.lock'), async () => {
    const madeByAnother = findTimeSkippingServer();
    if (madeByAnother !== null) return madeByAnother;
    const missing = ['java', 'mvn'].filter((program) => which(program) === null);
    if (missing.length > 0) throw new SetupProblem(javaInstruction(missing));
    return withProgress(
      'Fetching the time-skipping test server (once, 33 MB, from Maven)',
      install,
    );
  });
}

/** What to do when Java or Maven is missing. */
export function javaInstruction(missing: readonly string[]): string {
  return [
    `The tests that skip months need ${missing.join(' and ')} (Java 11 or later).`,
    '  Debian, Ubuntu: sudo apt-get install -y default-jre-headless maven',
    '  macOS:          brew install openjdk maven',
  ].join('\n');
}

/** A class-data archive fits one Java only, so each Java has its own folder. */
function installFolder(): string {
  const shown = spawnSync('java', ['-version'], { encoding: 'utf8' });
  const version = /version "([^"]+)"/.exec(shown.stderr)?.[1] ?? 'unknown';
  return join(cacheFolder(), `time-skipping-${VERSION}.1-java-${version}`);
}

async function install(): Promise<string> {
  const folder = installFolder();
  const partial = `${folder}.partial-${process.pid}`;
  mkdirSync(partial, { recursive: true });
  try {
    await fetchJars(partial);
    rmSync(folder, { recursive: true, force: true });
    renameSync(partial, folder);
  } catch (cause) {
    throw new SetupProblem(`The time-skipping server could not be fetched: ${wordsOf(cause)}`, {
      cause,
    });
  } finally {
    rmSync(partial, { recursive: true, force: true });
  }
  await makeArchive(folder);
  const wrapper = join(folder, 'temporal-test-server');
  // `exec`: the SDK stops the server by killing this very process.
  const command = [...JAVA_FLAGS, `-XX:SharedArchiveFile=${archiveOf(folder)}`, '-Xshare:auto'];
  const words = [...command, '-cp', classPath(folder), MAIN_CLASS].map((word) => `'${word}'`);
  writeFileSync(`${wrapper}.partial`, `#!/bin/sh\nexec java ${words.join(' ')} "$@"\n`);
  chmodSync(`${wrapper}.partial`, 0o755);
  renameSync(`${wrapper}.partial`, wrapper);
  return wrapper;
}

async function fetchJars(folder: string): Promise<void> {
  const pom = join(folder, 'pom.xml');
  writeFileSync(
    pom,
    `<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>tollbook</groupId><artifactId>time-skipping</artifactId><version>1</version>
  <dependencies><dependency>
    <groupId>io.temporal</groupId><artifactId>temporal-test-server</artifactId><version>${VERSION}</version>
  </dependency><dependency>
    <groupId>org.slf4j</groupId><artifactId>slf4j-nop</artifactId><version>1.7.36</version>
  </dependency></dependencies>
</project>
`,
  );
  await runCommand('mvn', [
    ...['--batch-mode', '--quiet', '--file', pom],
    ...['dependency:copy-dependencies', `-DoutputDirectory=${join(folder, 'lib')}`],
    '-DincludeScope=runtime',
  ]);
}

/** Spelled out and sorted: an archive is only used with the very class path it was made with. */
function classPath(folder: string): string {
  const lib = join(folder, 'lib');
  return readdirSync(lib)
    .filter((name) => name.endsWith('.jar'))
    .toSorted()
    .map((name) => join(lib, name))
    .join(':');
}

function archiveOf(folder: string): string {
  return join(folder, 'classes.jsa');
}

/** One run that loads the server's classes; Java writes the archive when it ends. Without it all works, slower. */
async function makeArchive(folder: string): Promise<void> {
  const port = await freePort();
  const child = spawn(
    'java',
    [
      ...JAVA_FLAGS,
      `-XX:ArchiveClassesAtExit=${archiveOf(folder)}`,
      ...['-cp', classPath(folder), MAIN_CLASS, String(port)],
    ],
    { stdio: 'ignore' },
  );
  const ended = new Promise<void>((resolve) => {
    child.once('exit', () => {
      resolve();
    });
    child.once('error', () => {
      resolve();
    });
  });
  try {
    for (let attempt = 0; attempt < 200 && !(await isListening(port)); attempt += 1) {
      await sleep(100);
    }
    await exercise(port);
  } catch (error) {
    say(`  the warm-up of the time-skipping server did not work (${wordsOf(error)})`);
  }
  child.kill('SIGTERM');
  await ended;
}

/** A first call makes the server load what each test's first call needs. */
async function exercise(port: number): Promise<void> {
  const { Connection, Client } = await import('@temporalio/client');
  const connection = await Connection.connect({ address: `127.0.0.1:${port}` });
  try {
    const client = new Client({ connection });
    const handle = await client.workflow.start('warm-up', {
      workflowId: 'warm-up',
      taskQueue: 'nobody',
    });
    await handle.describe();
    await handle.terminate();
  } finally {
    await connection.close();
  }
}
