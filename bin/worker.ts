/** The worker: runs the billing workflows and their activities. `node bin/worker.ts`. */
import { setTimeout as sleep } from 'node:timers/promises';

import { Client, Connection } from '@temporalio/client';
import {
  DefaultLogger,
  NativeConnection,
  type NativeConnectionOptions,
  Runtime,
  type Worker,
} from '@temporalio/worker';
import { type Logger, pino } from 'pino';

import { billEndedSubscriptions } from '../activities/late-usage.ts';
import type { ActivityDeps } from '../activities/ports.ts';
import { reconcile } from '../activities/reconcile.ts';
import { cutAtThresholds } from '../activities/thresholds.ts';
import { sandboxProvider } from '../payments/sandbox-client.ts';
import { connectShards } from '../shards/fleet.ts';
import { type Db, openDb } from '../store/db.ts';
import { waitForApplied } from '../store/projection.ts';
import { isDrained } from '../store/usage.ts';
import { type Config, ConfigProblem, readConfig } from './config.ts';
import { temporalConnectionOptions } from './temporal-connection.ts';
import { askCloseWith } from './worker-parts/ask-close.ts';
import { serveWorkerHealth } from './worker-parts/health.ts';
import {
  runningWorkflowIds,
  startWorkflowWith,
  workflowIdOf,
} from './worker-parts/start-workflow.ts';
import { bundleWorkflows, createWorkers } from './worker-parts/workers.ts';

const RECONCILE_EVERY_MS = 60_000;
const CONNECT_PAUSE_MS = 500;
const POOL_MAX = 24;

async function main(): Promise<void> {
  const config = readConfig(process.env);
  const log = pino({ name: 'worker', level: config.logLevel });
  // The runtime's own signal handling drains the workers; `run` then comes back, and the rest is closed here.
  Runtime.install({
    logger: new DefaultLogger('WARN', ({ level, message, meta }) => {
      // Each worker serves one kind of task, on purpose.
      if (!/^No (activities|workflows) registered/.test(message))
        log.warn({ level, meta }, message);
    }),
    shutdownSignals: ['SIGTERM', 'SIGINT'],
  });
  const ending = new AbortController();
  for (const signal of ['SIGTERM', 'SIGINT'] as const) {
    process.once(signal, () => {
      log.info({ signal }, 'the worker ends');
      ending.abort();
    });
  }

  const db = openDb(config.databaseUrl, { name: 'tollbook-worker', poolMax: POOL_MAX });
  const fleet = connectShards(config.shards);
  let workers: readonly Worker[] = [];
  const health = await serveWorkerHealth({
    host: config.host,
    port: config.workerPort,
    db,
    workers: () => workers,
  });
  try {
    const bundle = await bundleWorkflows();
    const temporal = await connectWhenThere(config, log, ending.signal);
    if (temporal === null) return;
    const { client, connection } = temporal;
    const startWorkflow = startWorkflowWith(client);
    const deps: ActivityDeps = {
      db,
      shards: fleet.shards,
      payments: sandboxProvider({ url: config.paymentsUrl }),
      startWorkflow,
      waitForApplied: (subscriberId, wanted, options) =>
        waitForApplied(db, subscriberId, wanted, options),
      isDrained: (mark) => isDrained(db, mark),
    };
    workers = await createWorkers({
      connection,
      namespace: config.temporal.namespace,
      deps,
      bundle,
    });
    log.info({ address: config.temporal.address }, 'the worker runs');
    const reconciling = keepReconciling({ db, client, log, signal: ending.signal });
    await Promise.all(workers.map((worker) => worker.run()));
    ending.abort();
    await reconciling;
    await connection.close();
    await client.connection.close();
    log.info('the worker has ended');
  } finally {
    ending.abort();
    await health.close();
    await fleet.close();
    await db.destroy();
  }
}

type Temporal = { readonly client: Client; readonly connection: NativeConnection };

/** A server that is not there yet is waited for, until the process is told to end. */
async function connectWhenThere(
  config: Config,
  log: Logger,
  signal: AbortSignal,
): Promise<Temporal | null> {
  const options = temporalConnectionOptions(config.temporal);
  const { namespace } = config.temporal;
  while (!signal.aborted) {
    try {
      const connection = await NativeConnection.connect(nativeOptions(options));
      const client = new Client({ connection: await Connection.connect(options), namespace });
      return { client, connection };
    } catch (error) {
      log.warn({ err: error }, 'Temporal is not there yet');
      await sleep(CONNECT_PAUSE_MS, undefined, { signal }).catch(() => undefined);
    }
  }
  return null;
}

/** The same options, as the native side types them. */
function nativeOptions({
  address,
  tls,
  apiKey,
}: ReturnType<typeof temporalConnectionOptions>): NativeConnectionOptions {
  return {
    ...(address === undefined ? {} : { address }),
    ...(tls === undefined ? {} : { tls }),
    ...(typeof apiKey === 'string' ? { apiKey } : {}),
  };
}

async function keepReconciling(of: {
  readonly db: Db;
  readonly client: Client;
  readonly log: Logger;
  readonly signal: AbortSignal;
}): Promise<void> {
  const { db, client, log, signal } = of;
  const startWorkflow = startWorkflowWith(client);
  while (!signal.aborted) {
    try {
      const started = await reconcile(
        { db, startWorkflow, idOf: workflowIdOf, runningIds: () => runningWorkflowIds(client) },
        new Date(),
      );
      if (started > 0) log.warn({ started }, 'workflows were missing and are started');
    } catch (error) {
      log.error({ err: error }, 'looking for missing workflows failed');
    }
    try {
      const { asked } = await cutAtThresholds({ db, askClose: askCloseWith(client) }, new Date());
      if (asked > 0) log.info({ asked }, 'periods have reached their thresholds and are cut');
    } catch (error) {
      log.error({ err: error }, 'looking for periods at their thresholds failed');
    }
    try {
      const issued = await billEndedSubscriptions({ db, startWorkflow }, new Date());
      if (issued > 0) log.info({ issued }, 'late usage of subscriptions that have ended is billed');
    } catch (error) {
      log.error({ err: error }, 'billing late usage of subscriptions that have ended failed');
    }
    await sleep(RECONCILE_EVERY_MS, undefined, { signal }).catch(() => undefined);
  }
}

try {
  await main();
} catch (error) {
  console.error(error instanceof ConfigProblem ? error.message : error);
  process.exitCode = 1;
}
