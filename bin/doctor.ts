/**
 * `npm run doctor`: what this machine has and lacks for `npm start` and `npm test`, with the command
 * that mends each; fetches and changes nothing. Exit code 1 when something needed is missing.
 */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { connect } from 'node:net';

import { readStackConfig, type StackConfig } from './config.ts';
import { lockHolder } from './setup/lock.ts';
import { runMain } from './setup/main.ts';
import { cacheFolder } from './setup/paths.ts';
import { findPostgresBinaries } from './setup/postgres-server.ts';
import { wordsOf } from './setup/problem.ts';
import { findRedis, redisInstruction } from './setup/redis-binary.ts';
import { which } from './setup/run.ts';
import { listenersOf, problemOfPort } from './setup/stack.ts';
import { readStackFile, runningStack } from './setup/stack-file.ts';
import { findTemporal, temporalInstruction } from './setup/temporal-binary.ts';
import { findTimeSkippingServer, javaInstruction } from './setup/time-skipping-server.ts';

/** `missing` is needed and cannot come by itself; `later` comes by itself with the next start or test. */
type Finding = {
  readonly kind: 'good' | 'later' | 'missing';
  readonly what: string;
  readonly detail: string;
};

const marks = { good: '✓', later: '•', missing: '✗' } as const;

await runMain(async () => {
  const config = readStackConfig(process.env);
  const findings = [
    good('Node', `${process.version} (${process.execPath})`),
    postgresFinding(config),
    redisFinding(config),
    temporalFinding(config),
    timeSkippingFinding(),
    ...(await givenFindings(config)),
    ...stackFindings(config),
    ...(await portFindings(config)),
    ...lockFindings(config),
  ];
  for (const { kind, what, detail } of findings) {
    console.log(
      `${marks[kind]} ${what.padEnd(15)} ${detail.replaceAll('\n', `\n${' '.repeat(18)}`)}`,
    );
  }
  const missing = findings.filter(({ kind }) => kind === 'missing').length;
  console.log(
    missing === 0
      ? '\n✓ Nothing stands in the way of npm start and npm test.'
      : `\n✗ ${missing} to mend, see above.`,
  );
  if (missing > 0) process.exitCode = 1;
});

function good(what: string, detail: string): Finding {
  return { kind: 'good', what, detail };
}

function postgresFinding({ databaseUrl }: StackConfig): Finding {
  if (databaseUrl !== null) return good('Postgres', 'given by DATABASE_URL');
  try {
    return good('Postgres', findPostgresBinaries());
  } catch (error) {
    return { kind: 'missing', what: 'Postgres', detail: wordsOf(error) };
  }
}

function redisFinding({ shards }: StackConfig): Finding {
  if (shards !== null) return good('Redis', `given by SHARDS (${shards.length})`);
  const found = findRedis();
  if (found !== null) return good('Redis', found);
  const canInstall = process.getuid?.() === 0 && which('apt-get') !== null;
  return canInstall
    ? { kind: 'later', what: 'Redis', detail: 'not here; the next start installs it with apt' }
    : { kind: 'missing', what: 'Redis', detail: redisInstruction() };
}

function temporalFinding({ temporal }: StackConfig): Finding {
  if (temporal !== null) return good('Temporal', 'given by TEMPORAL_ADDRESS');
  const found = findTemporal();
  if (found !== null) return good('Temporal', found);
  return which('go') === null
    ? {
        kind: 'missing',
        what: 'Temporal',
        detail: `not here; the next start tries to download it. Should that fail:\n${temporalInstruction()}`,
      }
    : {
        kind: 'later',
        what: 'Temporal',
        detail:
          'not here; the next start downloads it or builds it with Go (once, up to 12 minutes)',
      };
}

function timeSkippingFinding(): Finding {
  const what = 'Time skipping';
  const missing = ['java', 'mvn'].filter((program) => which(program) === null);
  const found = missing.includes('java') ? null : findTimeSkippingServer();
  if (found !== null) return good(what, found);
  return missing.length === 0
    ? { kind: 'later', what, detail: 'not here; the next npm test fetches it with Maven (20 s)' }
    : { kind: 'missing', what, detail: javaInstruction(missing) };
}

/** Servers that the configuration gives must answer, or the start will stand still. */
async function givenFindings(config: StackConfig): Promise<readonly Finding[]> {
  const given = [
    ...(config.databaseUrl === null ? [] : [['DATABASE_URL', config.databaseUrl, 5432] as const]),
    ...(config.temporal === null
      ? []
      : [['TEMPORAL_ADDRESS', `tcp://${config.temporal.address}`, 7233] as const]),
    ...(config.shards ?? []).map(({ name, url }) => [`SHARDS ${name}`, url, 6379] as const),
  ];
  return Promise.all(
    given.map(async ([what, url, portOtherwise]) => {
      const { hostname, port } = new URL(url);
      const target = { host: hostname, port: port === '' ? portOtherwise : Number(port) };
      const at = `${target.host}:${target.port}`;
      return (await answers(target))
        ? good(what, `${at} answers`)
        : { kind: 'missing', what, detail: `nothing answers at ${at}` };
    }),
  );
}

function answers(target: { readonly host: string; readonly port: number }): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect({ ...target, timeout: 3000 });
    const answer = (does: boolean) => (): void => {
      socket.destroy();
      resolve(does);
    };
    socket.once('connect', answer(true));
    socket.once('error', answer(false));
    socket.once('timeout', answer(false));
  });
}

function stackFindings({ stateDir }: StackConfig): readonly Finding[] {
  const running = runningStack(stateDir);
  if (running !== null) {
    return [good('Stack', `runs (pid ${running.pid}), ${running.urls['admin'] ?? ''}`)];
  }
  return readStackFile(stateDir) === null
    ? [good('Stack', 'does not run')]
    : [
        {
          kind: 'later',
          what: 'Stack',
          detail: 'was killed; the next start ends what it left running and resumes its state',
        },
      ];
}

async function portFindings(config: StackConfig): Promise<readonly Finding[]> {
  // A stack that runs, or whose leftovers the next start ends, holds its ports rightly.
  if (readStackFile(config.stateDir) !== null) return [];
  const listeners = listenersOf(config);
  const problems = (await Promise.all(listeners.map(problemOfPort))).filter((one) => one !== null);
  if (problems.length === 0) {
    const ports = listeners.map(({ port }) => port).join(', ');
    return [good('Ports', `${ports} are free`)];
  }
  return problems.map((detail) => ({ kind: 'missing', what: 'Ports', detail }));
}

function lockFindings({ stateDir }: StackConfig): readonly Finding[] {
  const files = [
    join(stateDir, 'lock'),
    ...['temporal', 'redis', 'time-skipping'].map((name) => join(cacheFolder(), `${name}.lock`)),
  ];
  return files
    .filter((file) => existsSync(file))
    .map((file) => {
      const holder = lockHolder(file);
      return holder === null
        ? { kind: 'later', what: 'Lock', detail: `${file} is stale; the next start takes it over` }
        : good('Lock', `${file} is held by pid ${holder.pid}`);
    });
}
