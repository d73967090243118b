/** The drain process: keeps the shards open, tells them what Postgres decides, brings their usage to Postgres. */
import { pino } from 'pino';

import { startDrain } from '../drain/process.ts';
import { NewerSchema, OlderSchema } from '../store/migrate.ts';
import { ConfigProblem, readConfig } from './config.ts';

/** What is in hand (a batch, a recovery step) ends by itself long before; this is for what hangs. */
const STOP_WITHIN_MS = 24_000;

async function main(): Promise<void> {
  const config = readConfig(process.env);
  const log = pino({ name: 'drain', level: config.logLevel });
  const drain = await startDrain({
    databaseUrl: config.databaseUrl,
    shards: config.shards,
    host: config.host,
    port: config.drainPort,
    log,
  });
  log.info({ host: config.host, port: drain.port }, 'the drain runs');
  const stop = (signal: NodeJS.Signals): void => {
    log.info({ signal }, 'the drain ends');
    setTimeout(() => {
      log.error('the drain did not end in time');
      process.exit(1);
    }, STOP_WITHIN_MS).unref();
    void drain.stop().then(() => {
      process.exitCode = 0;
    });
  };
  process.once('SIGTERM', stop);
  process.once('SIGINT', stop);
}

/** What an operator can mend is told in a sentence; anything else with its stack. */
function wordsOf(error: unknown): unknown {
  if (error instanceof ConfigProblem) return error.message;
  if (error instanceof NewerSchema || error instanceof OlderSchema) return error.message;
  if (error instanceof Error && 'code' in error && error.code === 'EADDRINUSE') {
    return `${error.message}: set DRAIN_PORT to a free port, or end what listens there.`;
  }
  return error;
}

try {
  await main();
} catch (error) {
  console.error(wordsOf(error));
  process.exitCode = 1;
}
