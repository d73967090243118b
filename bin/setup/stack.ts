/**
 * The whole stack on one machine, as functions: `npm start` runs it in `.tollbook/` on the usual
 * ports, tests and the demo run it in a temporary folder on free ports. Parts that the
 * configuration gives (DATABASE_URL, TEMPORAL_ADDRESS, SHARDS, PAYMENTS_URL) are used, not started.
 */
import { randomBytes } from 'node:crypto';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

import { Connection } from '@temporalio/client';
import pg from 'pg';

import { localDatabaseUrl, localShards, localTemporal, type StackConfig } from '../config.ts';
import { temporalConnectionOptions } from '../temporal-connection.ts';
import { processStart, tryLock } from './lock.ts';
import { inheritedEnvironment, type MainOptions, startMain } from './main-process.ts';
import { repositoryFolder } from './paths.ts';
import { isPortFree, portHolder } from './ports.ts';
import { startPostgresServer } from './postgres-server.ts';
import { type PartName, prepareParts } from './prepare.ts';
import { SetupProblem, wordsOf } from './problem.ts';
import { startRedisServer } from './redis-server.ts';
import { runCommand } from './run.ts';
import {
  clearLeftovers,
  makeStateDir,
  removeStackFile,
  runningStack,
  writeStackFile,
} from './stack-file.ts';
import { type Part, supervise, type Supervised } from './supervisor.ts';
import { prepareNamespace } from './temporal-namespace.ts';
import { startTemporalServer } from './temporal-server.ts';

export type Stack = {
  readonly stateDir: string;
  /** Name → URL of everything that can be looked at or called. */
  readonly urls: Readonly<Record<string, string>>;
  /** Joins a further process to the stack. */
  readonly environment: Readonly<Record<string, string>>;
  readonly adminToken: string;
  /** The pid that runs under the name now (`gateway-1`, `shard-2`, `worker` …), or null while it restarts. */
  readonly pidOf: (name: string) => number | null;
  /** Stops everything in order; nothing is left running. A second call waits for the first. */
  readonly stop: () => Promise<void>;
};

export type StackOptions = {
  /** Told what happens, a line at a time. */
  readonly say: (line: string) => void;
  /** False leaves the demo catalogue out. */
  readonly isSeeded?: boolean;
  /** Aborted: the start is given up between two steps, and what was started is stopped. */
  readonly signal?: AbortSignal;
};

/**
 * Brings the stack up and keeps it up until `stop`.
 * Throws SetupProblem, with nothing left running, when it runs already, a port is taken, a part
 * cannot be had, or a process does not become ready.
 */
export async function startStack(config: StackConfig, options: StackOptions): Promise<Stack> {
  makeStateDir(config.stateDir);
  const release = lockStateDir(config.stateDir);
  const tiers: Supervised[][] = [];
  const stopTiers = async (): Promise<void> => {
    for (const tier of tiers.toReversed()) await Promise.all(tier.map((one) => one.stop()));
    removeStackFile(config.stateDir);
    release();
  };
  try {
    await clearAndCheck(config, options);
    return await bringUp(config, options, tiers, stopTiers);
  } catch (error) {
    await stopTiers();
    throw error;
  }
}

function lockStateDir(stateDir: string): () => void {
  const taken = tryLock(join(stateDir, 'lock'));
  if (typeof taken === 'function') return taken;
  const admin = runningStack(stateDir)?.urls['admin'];
  throw new SetupProblem(
    `The stack runs already (pid ${taken.pid}${admin === undefined ? '' : `, ${admin}`}).\n` +
      `  Stop it with Ctrl-C where it runs, or: kill ${taken.pid}\n` +
      '  A second one beside it needs its own STATE_DIR and ports (npm run doctor lists them).',
  );
}

async function clearAndCheck(config: StackConfig, { say }: StackOptions): Promise<void> {
  const cleared = await clearLeftovers(config.stateDir);
  if (cleared.length > 0) {
    say(`• The last run was killed; ended what it had left: ${cleared.join(', ')}`);
  }
  await prepareParts(partsWanted(config));
  const problems = await Promise.all(listenersOf(config).map(problemOfPort));
  const taken = problems.filter((problem) => problem !== null);
  if (taken.length > 0) throw new SetupProblem(taken.join('\n'));
}

function partsWanted(config: StackConfig): readonly PartName[] {
  const wanted: Readonly<Record<PartName, boolean>> = {
    postgres: config.databaseUrl === null,
    redis: config.shards === null,
    temporal: config.temporal === null,
    'time-skipping': false,
  };
  return (['postgres', 'redis', 'temporal'] as const).filter((part) => wanted[part]);
}

/** Everything that listens, and the variable that moves it. */
export type Listener = { readonly name: string; readonly port: number; readonly variable: string };

/** The ports that the stack of this configuration needs. */
export function listenersOf(config: StackConfig): readonly Listener[] {
  const { ports } = config;
  const one = (name: string, port: number, variable: string): Listener => ({
    name,
    port,
    variable,
  });
  return [
    ...(config.databaseUrl === null ? [one('postgres', ports.postgres, 'POSTGRES_PORT')] : []),
    ...(config.shards === null
      ? ports.shards.map((port, index) => one(`shard-${index + 1}`, port, 'SHARD_PORTS'))
      : []),
    ...(config.temporal === null
      ? [
          one('temporal', ports.temporal, 'TEMPORAL_PORT'),
          one('temporal-ui', ports.temporalUi, 'TEMPORAL_UI_PORT'),
        ]
      : []),
    ...(config.paymentsUrl === null ? [one('payments', ports.payments, 'PAYMENTS_PORT')] : []),
    one('demo-upstream', ports.demoUpstream, 'DEMO_UPSTREAM_PORT'),
    one('drain', ports.drain, 'DRAIN_PORT'),
    one('worker', ports.worker, 'WORKER_PORT'),
    one('admin', ports.admin, 'ADMIN_PORT'),
    ...ports.gateways.map((port, index) => one(`gateway-${index + 1}`, port, 'GATEWAY_PORTS')),
  ];
}

/** Why the listener cannot have its port, with what to change, or null. */
export async function problemOfPort(listener: Listener): Promise<string | null> {
  if (await isPortFree(listener.port)) return null;
  const holder = await portHolder(listener.port);
  return (
    `Port ${listener.port} (${listener.name}) is in use${holder === null ? '' : ` by ${holder}`}.\n` +
    `  Stop that, or choose another port: ${listener.variable}=… npm start`
  );
}

const STILL_WAITING_MS = 10_000;

async function bringUp(
  config: StackConfig,
  options: StackOptions,
  tiers: Supervised[][],
  stopTiers: () => Promise<void>,
): Promise<Stack> {
  const { stateDir, ports } = config;
  const adminToken = config.adminToken ?? tokenOf(stateDir);
  const environment = environmentOf(config, adminToken);
  const urls = urlsOf(config, environment);
  let isReady = false;
  const write = (): void => {
    const processes = tiers.flat().flatMap((one) => processOf(one));
    writeStackFile(stateDir, {
      version: 1,
      pid: process.pid,
      startedAt: processStart(process.pid) ?? 'unknown',
      isReady,
      urls,
      environment,
      processes,
    });
  };
  const report = { say: options.say, onChange: write };
  const startTier = async (parts: readonly Part[]): Promise<void> => {
    options.signal?.throwIfAborted();
    const tier: Supervised[] = [];
    tiers.push(tier);
    const waitingFor = new Set(parts.map(({ name }) => name));
    const ticker = setInterval(() => {
      options.say(`  … still waiting for ${[...waitingFor].join(', ')}`);
    }, STILL_WAITING_MS);
    const started = await Promise.allSettled(
      parts.map(async (part) => {
        tier.push(await supervise(part, report));
        waitingFor.delete(part.name);
      }),
    );
    clearInterval(ticker);
    write();
    const failed = started.find((result) => result.status === 'rejected');
    if (failed !== undefined) throw failed.reason;
  };
  const main = (
    name: string,
    program: string,
    port: number,
    own: Readonly<Record<string, string>> = {},
  ): Part => ({
    name,
    start: () =>
      startMain({
        ...{ name, program, port, logFolder: join(stateDir, 'logs') },
        environment: { ...environment, ...own },
      } satisfies MainOptions),
  });

  options.say('• Starting Postgres, the shards and Temporal …');
  await startTier(serverParts(config));
  await prepareServers(config, options);
  options.say('• Bringing the schema up to date …');
  await runProgram('migrate', environment);
  options.say('• Starting our own processes …');
  await startTier([
    ...(config.paymentsUrl === null ? [main('payments', 'payments-sandbox', ports.payments)] : []),
    main('demo-upstream', 'demo-upstream', ports.demoUpstream),
    main('drain', 'drain', ports.drain),
  ]);
  await startTier([
    main('worker', 'worker', ports.worker),
    main('admin', 'admin', ports.admin),
    ...ports.gateways.map((port, index) =>
      main(`gateway-${index + 1}`, 'gateway', port, gatewayEnvironment(config, index)),
    ),
  ]);
  if (options.isSeeded !== false) {
    options.say('• Setting up the demo catalogue …');
    await runProgram('seed', environment);
  }
  isReady = true;
  write();
  let stopping: Promise<void> | null = null;
  return {
    stateDir,
    urls,
    environment,
    adminToken,
    pidOf: (name) =>
      tiers
        .flat()
        .find((one) => one.name === name)
        ?.pid() ?? null,
    stop: () => {
      stopping ??= stopTiers();
      return stopping;
    },
  };
}

function processOf(one: Supervised): readonly { name: string; pid: number; startedAt: string }[] {
  const pid = one.pid();
  const startedAt = pid === null ? null : processStart(pid);
  return pid === null || startedAt === null ? [] : [{ name: one.name, pid, startedAt }];
}

/** Made once for each state folder, so that commands of yesterday still work today. */
function tokenOf(stateDir: string): string {
  const file = join(stateDir, 'admin-token');
  if (existsSync(file)) return readFileSync(file, 'utf8').trim();
  const token = `tbk_${randomBytes(24).toString('base64url')}`;
  writeFileSync(file, `${token}\n`, { mode: 0o600 });
  return token;
}

function environmentOf(config: StackConfig, adminToken: string): Record<string, string> {
  const { ports, host } = config;
  const temporal = config.temporal ?? localTemporal(ports.temporal);
  const shards = config.shards ?? localShards(ports.shards);
  const at = (port: number): string => `http://127.0.0.1:${port}`;
  return {
    HOST: host,
    STATE_DIR: config.stateDir,
    LOG_LEVEL: config.logLevel,
    DATABASE_URL: config.databaseUrl ?? localDatabaseUrl(ports.postgres),
    TEMPORAL_ADDRESS: temporal.address,
    TEMPORAL_NAMESPACE: temporal.namespace,
    TEMPORAL_UI_URL: at(ports.temporalUi),
    SHARDS: shards.map(({ name, url }) => `${name}=${url}`).join(','),
    ADMIN_PORT: String(ports.admin),
    ADMIN_URL: at(ports.admin),
    ADMIN_TOKEN: adminToken,
    GATEWAY_PORTS: ports.gateways.join(','),
    GATEWAY_URLS: ports.gateways.map(at).join(','),
    DRAIN_PORT: String(ports.drain),
    WORKER_PORT: String(ports.worker),
    PAYMENTS_PORT: String(ports.payments),
    PAYMENTS_URL: config.paymentsUrl ?? at(ports.payments),
    DEMO_UPSTREAM_PORT: String(ports.demoUpstream),
    DEMO_UPSTREAM_URL: at(ports.demoUpstream),
  };
}

function gatewayEnvironment(config: StackConfig, index: number): Record<string, string> {
  const name = `gateway-${index + 1}`;
  return {
    GATEWAY_NAME: name,
    GATEWAY_PORT: String(config.ports.gateways[index]),
    // Nearly all that a request makes dies with it: a young generation that seldom fills copies less of it.
    NODE_OPTIONS: `${process.env['NODE_OPTIONS'] ?? ''} --max-semi-space-size=32`.trim(),
    JOURNAL_DIR: join(config.stateDir, 'journal', name),
  };
}

function urlsOf(
  config: StackConfig,
  environment: Readonly<Record<string, string>>,
): Record<string, string> {
  const { ports } = config;
  const at = (port: number): string => `http://127.0.0.1:${port}`;
  return {
    admin: at(ports.admin),
    ...Object.fromEntries(ports.gateways.map((port, index) => [`gateway-${index + 1}`, at(port)])),
    ...(config.temporal === null ? { 'temporal-ui': at(ports.temporalUi) } : {}),
    'demo-upstream': at(ports.demoUpstream),
    payments: environment['PAYMENTS_URL'] ?? '',
    database: environment['DATABASE_URL'] ?? '',
  };
}

/** Postgres, shards and Temporal, as far as the configuration does not give them. */
function serverParts(config: StackConfig): readonly Part[] {
  const { stateDir, ports } = config;
  const postgres: Part = {
    name: 'postgres',
    start: async () => {
      const folder = join(stateDir, 'postgres');
      const server = await startPostgresServer({ port: ports.postgres, folder, isDurable: true });
      return server.process;
    },
  };
  const shards = ports.shards.map((port, index): Part => ({
    name: `shard-${index + 1}`,
    start: () => startRedisServer({ port, folder: join(stateDir, `shard-${index + 1}`) }),
  }));
  const temporal: Part = {
    name: 'temporal',
    start: () =>
      startTemporalServer({
        port: ports.temporal,
        uiPort: ports.temporalUi,
        folder: join(stateDir, 'temporal'),
        namespace: localTemporal(ports.temporal).namespace,
      }),
  };
  return [
    ...(config.databaseUrl === null ? [postgres] : []),
    ...(config.shards === null ? shards : []),
    ...(config.temporal === null ? [temporal] : []),
  ];
}

/** What a server that runs still lacks: the database in Postgres, our attributes in Temporal. */
async function prepareServers(config: StackConfig, { say }: StackOptions): Promise<void> {
  if (config.databaseUrl === null) await createDatabase(localDatabaseUrl(config.ports.postgres));
  const temporal = config.temporal ?? localTemporal(config.ports.temporal);
  const connection = await connectTemporal(temporalConnectionOptions(temporal));
  try {
    await prepareNamespace(connection, temporal.namespace);
  } catch (error) {
    if (config.temporal === null) throw error;
    // Temporal Cloud keeps these for its own console and tools.
    say(
      `• Temporal did not let us set retention and search attributes (${wordsOf(error)}); set them there.`,
    );
  } finally {
    await connection.close();
  }
}

async function connectTemporal(
  options: ReturnType<typeof temporalConnectionOptions>,
): Promise<Connection> {
  try {
    return await Connection.connect(options);
  } catch (cause) {
    throw new SetupProblem(`Temporal at ${options.address} does not answer: ${wordsOf(cause)}`, {
      cause,
    });
  }
}

async function createDatabase(url: string): Promise<void> {
  const administered = new URL(url);
  const name = administered.pathname.slice(1);
  administered.pathname = '/postgres';
  const client = new pg.Client({ connectionString: administered.href });
  await client.connect();
  try {
    const known = await client.query('SELECT 1 FROM pg_database WHERE datname = $1', [name]);
    if (known.rowCount === 0)
      await client.query(`CREATE DATABASE ${client.escapeIdentifier(name)}`);
  } finally {
    await client.end();
  }
}

const PROGRAM_WITHIN_MS = 120_000;

/** Runs one of our programs to its end. Throws SetupProblem with what it said when it fails. */
async function runProgram(
  program: string,
  environment: Readonly<Record<string, string>>,
): Promise<void> {
  try {
    await runCommand(process.execPath, [join('bin', `${program}.ts`)], {
      cwd: repositoryFolder,
      environment: { ...inheritedEnvironment(), ...environment },
      withinMs: PROGRAM_WITHIN_MS,
    });
  } catch (cause) {
    throw new SetupProblem(wordsOf(cause), { cause });
  }
}
