import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { Connection } from '@temporalio/client';
import { TestWorkflowEnvironment } from '@temporalio/testing';

import { freePort } from '../../bin/setup/ports.ts';
import { prepareNamespace, registerSearchAttributes } from '../../bin/setup/temporal-namespace.ts';
import { startTemporalServer } from '../../bin/setup/temporal-server.ts';
import { ensureTimeSkippingServer } from '../../bin/setup/time-skipping-server.ts';

/** A Temporal dev server of its own for a test: real server, file database with WAL, our search attributes. */
export type TestTemporal = {
  readonly address: string;
  readonly port: number;
  readonly namespace: string;
  readonly databaseFile: string;
  readonly stop: () => Promise<void>;
  /** SIGKILL; the file stays, for `restart`. */
  readonly kill9: () => Promise<void>;
  /** Stops it if it runs (orderly), then starts it again on the same port and file. */
  readonly restart: () => Promise<void>;
};

const NAMESPACE = 'default';

/** Starts a dev server; stop it in `after`. Without `dbFilename` its file goes with it. */
export async function devServer(
  options: { readonly dbFilename?: string; readonly port?: number } = {},
): Promise<TestTemporal> {
  const folder = mkdtempSync(join(tmpdir(), 'tollbook-temporal-'));
  const databaseFile = options.dbFilename ?? join(folder, 'temporal.db');
  const port = options.port ?? (await freePort());
  const address = `127.0.0.1:${port}`;
  const start = async (): ReturnType<typeof startTemporalServer> => {
    const started = await startTemporalServer({ port, folder, databaseFile, namespace: NAMESPACE });
    const connection = await Connection.connect({ address });
    await prepareNamespace(connection, NAMESPACE);
    await connection.close();
    return started;
  };
  let server = await start();
  return {
    address,
    port,
    namespace: NAMESPACE,
    databaseFile,
    stop: async () => {
      await server.stop();
      rmSync(folder, { recursive: true, force: true });
    },
    kill9: () => server.kill9(),
    restart: async () => {
      await server.stop();
      server = await start();
    },
  };
}

/**
 * An environment whose clock leaps over waits, with our search attributes. One per test file:
 * time is global in it. End it with `teardown()` after every worker has stopped.
 */
export async function timeSkipping(): Promise<TestWorkflowEnvironment> {
  const path = await ensureTimeSkippingServer();
  const create = (): Promise<TestWorkflowEnvironment> =>
    TestWorkflowEnvironment.createTimeSkipping({
      server: { executable: { type: 'existing-path', path } },
    });
  // The SDK gives the server five seconds; on a loaded machine the first try may miss them.
  const environment = await create().catch(create);
  await registerSearchAttributes(environment.connection, environment.namespace ?? NAMESPACE);
  return environment;
}
