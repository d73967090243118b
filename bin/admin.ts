/**
 * The admin service. Every change goes through its API; it starts workflows, and reads shards.
 *
 * On a loopback address the home page is open: whoever can reach it sits at this machine, and it shows no secret. On any
 * other address it asks for a service token, which it keeps in an HttpOnly cookie. The API always asks for a token.
 */
import { once } from 'node:events';
import { createServer } from 'node:http';

import pino from 'pino';

import { createAdminApp } from '../admin/app.ts';
import { digestOf } from '../admin/authenticate.ts';
import { createWorkflowEngine } from '../admin/workflow-engine.ts';
import { connectShards } from '../shards/fleet.ts';
import { openDb, type Db } from '../store/db.ts';
import { forgetOldKeys } from '../store/idempotency.ts';
import { ensureBootstrapToken } from '../store/tokens.ts';
import { readConfig, type Config } from './config.ts';
import { temporalConnectionOptions } from './temporal-connection.ts';

const DRAIN_MS = 20_000;
const HOUR_MS = 3_600_000;

const config = readConfig(process.env);
const log = pino({ level: config.logLevel, base: { process: 'admin' } });

try {
  await run(config);
} catch (error) {
  log.fatal(error, 'the admin service cannot start');
  process.exitCode = 1;
}

async function run(settings: Config): Promise<void> {
  const db = openDb(settings.databaseUrl, { name: 'tollbook-admin', poolMax: 10 });
  const fleet = connectShards(settings.shards);
  const engine = createWorkflowEngine({
    connection: temporalConnectionOptions(settings.temporal),
    namespace: settings.temporal.namespace,
  });
  const isLoopback = /^(127\.|::1$|localhost$)/.test(settings.host);
  const app = createAdminApp({
    db,
    shards: fleet.shards,
    engine,
    log,
    waits: { appliedMs: 2_000, workflowMs: 10_000, closeMs: 30_000, countedMs: 2_000 },
    home: {
      isOpen: isLoopback,
      temporalUiUrl: settings.temporalUiUrl,
      temporalNamespace: settings.temporal.namespace,
      gatewayUrls: settings.gatewayUrls,
      adminUrl: settings.adminUrl,
    },
    allowPrivateUpstreams: isLoopback,
  });
  const server = createServer(
    { headersTimeout: 10_000, requestTimeout: 30_000, keepAliveTimeout: 65_000 },
    app,
  );
  server.listen(settings.adminPort, settings.host);
  await once(server, 'listening');
  log.info({ url: settings.adminUrl }, 'the admin service listens');
  const chores = startChores(db, settings.adminToken);
  const stop = Promise.withResolvers<void>();
  for (const signal of ['SIGTERM', 'SIGINT'] as const) process.once(signal, () => stop.resolve());
  await stop.promise;
  chores.stop();
  const force = setTimeout(() => server.closeAllConnections(), DRAIN_MS);
  server.close();
  server.closeIdleConnections();
  await once(server, 'close');
  clearTimeout(force);
  await Promise.allSettled([engine.close(), fleet.close(), db.destroy()]);
  log.info('the admin service has ended');
}

/** Makes the bootstrap token known as soon as Postgres is there, and forgets old Idempotency-Keys each hour. */
function startChores(db: Db, adminToken: string | null): { stop(): void } {
  let timer: NodeJS.Timeout | null = null;
  let isStopped = false;
  const again = (work: () => Promise<void>, ms: number): void => {
    if (!isStopped) timer = setTimeout(() => void work(), ms);
  };
  const forget = async (): Promise<void> => {
    await forgetOldKeys(db).catch((error: unknown) => log.warn(error, 'old keys are kept'));
    again(forget, HOUR_MS);
  };
  const begin = async (): Promise<void> => {
    try {
      if (adminToken !== null) await ensureBootstrapToken(db, digestOf(adminToken));
    } catch (error) {
      log.warn(error, 'the bootstrap token is not known to Postgres yet');
      again(begin, 1_000);
      return;
    }
    again(forget, HOUR_MS);
  };
  void begin();
  return {
    stop() {
      isStopped = true;
      if (timer !== null) clearTimeout(timer);
    },
  };
}
