/**
 * `npm run traffic -- 5000`: sends requests with the demo key of the stack that runs, with a progress bar.
 * `--key`, `--path` and `--concurrency` choose others.
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';

import { readStackConfig } from './config.ts';
import { readArguments, wholeNumber } from './demo/arguments.ts';
import { progressBar, sendRequests } from './demo/load.ts';
import { runMain } from './setup/main.ts';
import { SetupProblem } from './setup/problem.ts';
import { runningStack } from './setup/stack-file.ts';

await runMain(async () => {
  const { values, positionals } = readArguments({
    allowPositionals: true,
    options: {
      key: { type: 'string' },
      path: { type: 'string', default: '/demo/v1/cheap' },
      concurrency: { type: 'string', default: '32' },
    },
  });
  const count = wholeNumber(positionals[0] ?? '1000', 'the number of requests', 10_000_000);
  const concurrency = wholeNumber(values.concurrency, '--concurrency', 1024);
  const { stateDir } = readStackConfig(process.env);
  const stack = runningStack(stateDir);
  if (stack === null) throw new SetupProblem('Nothing runs here. Start everything with: npm start');
  const result = await sendRequests({
    gatewayUrls: (stack.environment['GATEWAY_URLS'] ?? '').split(','),
    path: values.path,
    key: values.key ?? demoKey(stateDir),
    count,
    concurrency,
    onProgress: progressBar('requests', count),
  });
  const codes = [...result.codes].map(([code, times]) => `${times} × ${code}`).join(', ');
  console.log(
    `Sent ${result.sent}: ${result.served} served, ${result.refused} refused${codes === '' ? '' : ` (${codes})`}, ${result.failed} failed.`,
  );
});
process.exit();

function demoKey(stateDir: string): string {
  const env = readFileSync(join(stateDir, 'demo.env'), 'utf8');
  const key = /^DEMO_KEY_PAYG=['"]?([^'"\n]+)/m.exec(env)?.[1];
  if (key === undefined)
    throw new SetupProblem(
      'The demo key is missing from demo.env. Give one with --key, or: npm run reset',
    );
  return key;
}
