/** The sandbox payment provider as a process of its own: `node bin/payments-sandbox.ts`. */
import { join } from 'node:path';

import { pino } from 'pino';

import { startSandbox } from '../payments/sandbox-server.ts';
import { readConfig } from './config.ts';

const config = readConfig(process.env);
const log = pino({ level: config.logLevel, base: { process: 'payments-sandbox' } });

const sandbox = await startSandbox({
  file: join(config.stateDir, 'payments.jsonl'),
  host: config.host,
  port: config.paymentsPort,
});
log.info({ url: sandbox.url }, 'the sandbox payment provider listens');

for (const signal of ['SIGTERM', 'SIGINT'] as const) {
  process.once(signal, () => {
    void stop();
  });
}

async function stop(): Promise<void> {
  await sandbox.stop();
  log.info('stopped');
}
