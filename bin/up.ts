/**
 * `npm start`: the whole stack on this machine, kept running until Ctrl-C. A process that dies is
 * started again; a second start resumes the same state; nothing is left running afterwards.
 */
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

import { readStackConfig } from './config.ts';
import { runMain } from './setup/main.ts';
import { wordsOf } from './setup/problem.ts';
import { type Stack, startStack } from './setup/stack.ts';

/** A start that was interrupted gets this long to unwind by itself. */
const UNWIND_WITHIN_MS = 20_000;
/** A terminal and npm may both pass on one Ctrl-C. */
const SAME_SIGNAL_MS = 1000;

const stopping = new AbortController();
const isStopping = new Promise<void>((resolve) => {
  stopping.signal.addEventListener('abort', () => {
    resolve();
  });
});
listenToSignals();

await runMain(async () => {
  const startedAt = Date.now();
  const starting = startStack(readStackConfig(process.env), {
    say: (line) => {
      console.log(line);
    },
    signal: stopping.signal,
  });
  const stack = await Promise.race([starting, isStopping]);
  if (stack === undefined) {
    await unwind(starting);
    return;
  }
  console.log(firstScreen(stack, Date.now() - startedAt));
  await isStopping;
  await stack.stop();
  console.log('✓ Everything is stopped. npm start resumes where this ended.');
});
// Ends whatever an interrupted start may still have going.
process.exit();

function listenToSignals(): void {
  let firstAt = 0;
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
    process.on(signal, () => {
      const isSecond =
        signal === 'SIGINT' && firstAt !== 0 && Date.now() - firstAt > SAME_SIGNAL_MS;
      if (isSecond) {
        console.log('✗ Stopped at once; what ran was killed.');
        process.exit(130);
      }
      if (firstAt !== 0) return;
      firstAt = Date.now();
      console.log('\n• Stopping … (again to stop at once)');
      stopping.abort();
    });
  }
}

async function unwind(starting: Promise<Stack>): Promise<void> {
  const unwound = starting.then(
    (stack) => stack.stop(),
    () => undefined,
  );
  await Promise.race([unwound, sleep(UNWIND_WITHIN_MS)]);
}

/** The table of what runs, the subscribers, and three commands to try as they are. */
function firstScreen(stack: Stack, tookMs: number): string {
  const { urls, stateDir } = stack;
  const demo = readDemo(join(stateDir, 'demo.env'));
  const rows: readonly (readonly [string, string | undefined])[] = [
    ['Home page', urls['admin']],
    ['API reference', `${urls['admin']}/docs`],
    ['Gateways', [urls['gateway-1'], urls['gateway-2']].filter(Boolean).join('  ')],
    ['Temporal UI', urls['temporal-ui']],
    ['Demo API', urls['demo-upstream']],
    ['Database', urls['database']],
    ['Logs', join(stateDir, 'logs')],
  ];
  const table = rows
    .filter(([, value]) => value !== undefined && value !== '')
    .map(([name, value]) => `  ${name.padEnd(14)} ${value}`);
  return [
    '',
    `✓ Tollbook runs (${(tookMs / 1000).toFixed(1)} s).`,
    '',
    ...table,
    ...(demo === null ? [] : demoLines(demo, stateDir)),
    '',
    'Ctrl-C stops everything. More requests: npm run traffic -- 5000. A fresh start: npm run reset.',
  ].join('\n');
}

type Demo = Readonly<Record<string, string>>;

function readDemo(file: string): Demo | null {
  if (!existsSync(file)) return null;
  try {
    return Object.fromEntries(
      readFileSync(file, 'utf8')
        .split('\n')
        .filter((line) => /^[A-Z_]+=/.test(line))
        .map((line) => {
          const at = line.indexOf('=');
          return [line.slice(0, at), line.slice(at + 1).replace(/^(['"])(.*)\1$/, '$2')];
        }),
    );
  } catch (error) {
    console.log(`• ${file} cannot be read (${wordsOf(error)})`);
    return null;
  }
}

function demoLines(demo: Demo, stateDir: string): readonly string[] {
  const served = `${demo['GATEWAY_URL']}/demo/v1/cheap`;
  const bill = `${demo['ADMIN_URL']}/api/v1/subscriptions/${demo['DEMO_SUBSCRIPTION_PAYG']}/upcoming_invoice`;
  const bearer = (key: string | undefined): string => `-H 'Authorization: Bearer ${key}'`;
  return [
    '',
    `  Key of a subscriber who pays per request   ${demo['DEMO_KEY_PAYG']}`,
    `  Key of a subscriber without credits        ${demo['DEMO_KEY_PREPAID']}`,
    `  (also in ${join(stateDir, 'demo.env')})`,
    '',
    'Try a request that is served, one that is refused, and the bill so far:',
    '',
    `  curl -i ${bearer(demo['DEMO_KEY_PAYG'])} ${served}`,
    `  curl -i ${bearer(demo['DEMO_KEY_PREPAID'])} ${served}`,
    `  curl -s ${bearer(demo['ADMIN_TOKEN'])} ${bill}`,
  ];
}
