import { mkdirSync } from 'node:fs';
import { join } from 'node:path';

import { isListening } from './ports.ts';
import { searchAttributes } from '../../workflows/contracts.ts';
import { type ServerProcess, startServer } from './server-process.ts';
import { ensureTemporal } from './temporal-binary.ts';

export type TemporalOptions = {
  readonly port: number;
  /** No Web UI without it. */
  readonly uiPort?: number;
  /** Holds the log and, unless `databaseFile` says otherwise, the SQLite file. */
  readonly folder: string;
  /** Null keeps everything in memory. */
  readonly databaseFile?: string | null;
  readonly namespace: string;
};

/**
 * Starts the Temporal dev server on 127.0.0.1 with its history in a file. The namespace's retention
 * and search attributes of an existing file are the affair of `prepareNamespace`.
 */
export async function startTemporalServer(options: TemporalOptions): Promise<ServerProcess> {
  const file = await ensureTemporal();
  mkdirSync(options.folder, { recursive: true });
  const databaseFile =
    options.databaseFile === undefined ? join(options.folder, 'temporal.db') : options.databaseFile;
  return startServer({
    name: `temporal server on port ${options.port}`,
    file,
    arguments: [
      ...['server', 'start-dev', '--ip', '127.0.0.1', '--port', String(options.port)],
      ...(options.uiPort === undefined
        ? ['--headless']
        : ['--ui-ip', '127.0.0.1', '--ui-port', String(options.uiPort)]),
      ...['--namespace', options.namespace, '--log-level', 'warn', '--log-format', 'json'],
      ...(databaseFile === null ? [] : ['--db-filename', databaseFile, ...pragmas]),
      ...Object.entries(searchAttributes).flatMap(([name, type]) => [
        '--search-attribute',
        `${name}=${type}`,
      ]),
      ...dynamicConfig.flatMap((setting) => ['--dynamic-config-value', setting]),
    ],
    // A person's own Temporal profile must not reach into our server.
    environment: { ...process.env, TEMPORAL_CONFIG_FILE: '/dev/null' },
    logFile: join(options.folder, 'temporal.log'),
    isReady: () => isListening(options.port),
    readyWithinMs: 60_000,
  });
}

/** SQLite's default journal allows 18 workflow starts a second, this one 49 on the same machine. */
const pragmas = ['--sqlite-pragma', 'journal_mode=wal', '--sqlite-pragma', 'synchronous=normal'];

const dynamicConfig = [
  // Priority and fairness are off by default in this server.
  'matching.useNewMatcher=true',
  'matching.enableFairness=true',
  'frontend.enableUpdateWorkflowExecution=true',
  'frontend.enableUpdateWorkflowExecutionAsyncAccepted=true',
];
