import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { readStackConfig } from '../../bin/config.ts';
import { isListening } from '../../bin/setup/ports.ts';
import { readStackFile } from '../../bin/setup/stack-file.ts';
import { startStack } from '../../bin/setup/stack.ts';
import { emptyDatabase } from '../support/postgres.ts';
import { startRedis } from '../support/redis.ts';
import { testStackEnvironment } from '../support/stack.ts';
import { devServer } from '../support/temporal.ts';

describe('setup › parts that the environment gives', function () {
  this.timeout(200_000);

  it('are used, prepared and left running; only our own processes are started and stopped', async () => {
    const stateDir = mkdtempSync(join(tmpdir(), 'tollbook-given-'));
    const [database, shard, temporal] = await Promise.all([
      emptyDatabase(),
      startRedis(),
      devServer(),
    ]);
    try {
      const environment = {
        ...(await testStackEnvironment(stateDir, 1)),
        DATABASE_URL: database.url,
        SHARDS: `only=${shard.url}`,
        TEMPORAL_ADDRESS: temporal.address,
      };
      const stack = await startStack(readStackConfig(environment), { say: () => undefined });
      const names = readStackFile(stateDir)?.processes.map(({ name }) => name);
      assert.deepEqual(names?.toSorted(), [
        ...['admin', 'demo-upstream', 'drain', 'gateway-1', 'payments', 'worker'],
      ]);
      await stack.stop();
      assert.ok(await isListening(shard.port));
      assert.ok(await isListening(temporal.port));
    } finally {
      await Promise.all([shard.stop(), temporal.stop(), database.drop()]);
      rmSync(stateDir, { recursive: true, force: true });
    }
  });
});
