import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { readStackConfig } from '../../bin/config.ts';
import { type DemoStack, fromEnvironment } from '../../bin/demo/stack.ts';
import { startStack, type Stack } from '../../bin/setup/stack.ts';
import { atEnd } from '../support/at-end.ts';
import { freePort } from '../support/ports.ts';

export type SystemStack = DemoStack & {
  readonly stack: Stack;
  readonly databaseUrl: string;
  /** Where the demo upstream writes one line for each answer that it gave. */
  readonly answerLog: string;
};

let running: Promise<SystemStack> | undefined;

/**
 * The whole product, started once for all system tests, on free ports and in a folder of its own: the same start that
 * `npm start` makes. It is stopped, and its folder removed, when the tests end.
 */
export function systemStack(): Promise<SystemStack> {
  running ??= start();
  return running;
}

async function start(): Promise<SystemStack> {
  const stateDir = mkdtempSync(join(tmpdir(), 'tollbook-system-'));
  const answerLog = join(stateDir, 'upstream-answers.log');
  process.env['ANSWER_LOG'] = answerLog;
  const ports = [...new Set(await Promise.all(Array.from({ length: 20 }, freePort)))];
  const port = (index: number): string => String(ports[index]);
  const config = readStackConfig({
    STATE_DIR: stateDir,
    LOG_LEVEL: 'info',
    POSTGRES_PORT: port(0),
    SHARD_PORTS: ports.slice(1, 4).join(','),
    TEMPORAL_PORT: port(4),
    TEMPORAL_UI_PORT: port(5),
    PAYMENTS_PORT: port(6),
    DEMO_UPSTREAM_PORT: port(7),
    DRAIN_PORT: port(8),
    WORKER_PORT: port(9),
    ADMIN_PORT: port(10),
    GATEWAY_PORTS: ports.slice(11, 13).join(','),
  });
  const said: string[] = [];
  const stack = await startStack(config, { say: (line) => said.push(line) });
  delete process.env['ANSWER_LOG'];
  atEnd(async () => {
    await stack.stop();
    rmSync(stateDir, { recursive: true, force: true });
  });
  const demo = fromEnvironment(stack.environment, stack.urls, stack.stop);
  return { ...demo, stack, databaseUrl: stack.environment['DATABASE_URL'] ?? '', answerLog };
}
