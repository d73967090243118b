/**
 * `npm test`: fetches what the tests need, then runs mocha. Arguments go to mocha, so
 * `npm test -- test/billing/money.test.ts` runs one file; without a file all are run.
 */
import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { join } from 'node:path';

import { runMain } from './setup/main.ts';
import { repositoryFolder } from './setup/paths.ts';
import { type PartName, prepareParts } from './setup/prepare.ts';

const ALL = 'test/**/*.test.ts';

await runMain(async () => {
  const given = process.argv.slice(2);
  await prepareParts(partsWanted());
  const hasFile = given.some(
    (word) => !word.startsWith('-') && existsSync(word.split('*')[0] ?? ''),
  );
  const mocha = join(repositoryFolder, 'node_modules', 'mocha', 'bin', 'mocha.js');
  const child = spawn(process.execPath, [mocha, ...(hasFile ? [] : [ALL]), ...given], {
    cwd: repositoryFolder,
    stdio: 'inherit',
  });
  for (const signal of ['SIGTERM', 'SIGINT', 'SIGHUP'] as const) {
    process.on(signal, () => {
      if (signal !== 'SIGINT' || !process.stdin.isTTY) child.kill(signal);
    });
  }
  await new Promise<void>((resolve) => {
    child.once('exit', (code) => {
      process.exitCode = code ?? 1;
      resolve();
    });
  });
});

/** A Postgres that is given replaces the embedded one; the others are started and killed by tests. */
function partsWanted(): readonly PartName[] {
  const parts: readonly PartName[] = ['redis', 'temporal', 'time-skipping'];
  const given = process.env['DATABASE_URL'];
  return given === undefined || given === '' ? ['postgres', ...parts] : parts;
}
