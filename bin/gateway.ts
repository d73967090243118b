/** One gateway process: `node bin/gateway.ts`. Start as many as needed, each with a GATEWAY_NAME and port of its own. */
import { startGateway } from '../gateway/gateway.ts';
import { JournalLocked } from '../gateway/journal-lock.ts';
import { createLog } from '../gateway/log.ts';
import { connectShards } from '../shards/fleet.ts';
import { ConfigProblem, readConfig } from './config.ts';
import type { Config } from './config.ts';

/** Requests in flight may take this long after SIGTERM; with the settles behind them it stays below 25 s. */
const drainMs = 20_000;

try {
  await main(readConfig(process.env));
} catch (error) {
  const isTold = error instanceof ConfigProblem || error instanceof JournalLocked;
  console.error(isTold ? `gateway: ${error.message}` : error);
  process.exitCode = 1;
}

async function main(config: Config): Promise<void> {
  const log = createLog({ level: config.logLevel, name: config.gatewayName });
  const fleet = connectShards(config.shards);
  try {
    const gateway = await startGateway({
      host: config.host,
      port: config.gatewayPort,
      journalDir: config.journalDir,
      fleet,
      log,
      drainMs,
    });
    await new Promise<void>((resolve) => {
      process.once('SIGTERM', resolve);
      process.once('SIGINT', resolve);
    });
    await gateway.close();
  } finally {
    await fleet.close();
  }
}
