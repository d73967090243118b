/** `npm run reset`: removes the stack's state, so that the next start is the first one again. Caches stay. */
import { existsSync, rmSync } from 'node:fs';
import { join } from 'node:path';

import { readStackConfig } from './config.ts';
import { lockHolder } from './setup/lock.ts';
import { runMain } from './setup/main.ts';
import { SetupProblem } from './setup/problem.ts';
import { clearLeftovers, isStateDir } from './setup/stack-file.ts';

await runMain(async () => {
  const { stateDir, databaseUrl, shards, temporal } = readStackConfig(process.env);
  if (!existsSync(stateDir)) {
    console.log(`✓ There is nothing to reset: ${stateDir} does not exist.`);
    return;
  }
  if (!isStateDir(stateDir)) {
    throw new SetupProblem(
      `${stateDir} is not a state folder that npm start made: nothing was removed.\n` +
        '  Is STATE_DIR right?',
    );
  }
  const holder = lockHolder(join(stateDir, 'lock'));
  if (holder !== null) {
    throw new SetupProblem(
      `The stack is running (pid ${holder.pid}); its state cannot be removed under it.\n` +
        `  Stop it first: Ctrl-C where it runs, or: kill ${holder.pid}`,
    );
  }
  const cleared = await clearLeftovers(stateDir);
  if (cleared.length > 0) console.log(`• Ended what a killed run had left: ${cleared.join(', ')}`);
  rmSync(stateDir, { recursive: true, force: true });
  console.log(`✓ Removed ${stateDir}. npm start begins anew.`);
  const given = [
    ...(databaseUrl === null ? [] : ['DATABASE_URL']),
    ...(shards === null ? [] : ['SHARDS']),
    ...(temporal === null ? [] : ['TEMPORAL_ADDRESS']),
  ];
  if (given.length > 0) {
    console.log(`• What ${given.join(', ')} point to is yours: nothing was removed there.`);
  }
});
