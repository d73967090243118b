import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { readStackConfig } from '../../bin/config.ts';
import { freePort } from '../../bin/setup/ports.ts';
import { type Stack, startStack } from '../../bin/setup/stack.ts';

/** The whole stack for a test: real processes on free ports, state in a temporary folder. */
export type TestStack = Stack & {
  /** What the supervisor said so far. */
  readonly lines: readonly string[];
};

/**
 * Starts everything that `npm start` starts. `stop` ends it and deletes its state.
 * Takes about ten seconds on two cores; share one in a file.
 */
export async function startTestStack(
  options: { readonly isSeeded?: boolean; readonly gateways?: number } = {},
): Promise<TestStack> {
  const stateDir = mkdtempSync(join(tmpdir(), 'tollbook-stack-'));
  const lines: string[] = [];
  const environment = await testStackEnvironment(stateDir, options.gateways);
  const stack = await startStack(readStackConfig(environment), {
    say: (line) => {
      lines.push(line);
    },
    isSeeded: options.isSeeded ?? false,
  });
  return {
    ...stack,
    lines,
    stop: async () => {
      await stack.stop();
      rmSync(stateDir, { recursive: true, force: true });
    },
  };
}

/** The variables that put a stack into the folder and on free ports; for a child process add them to its own. */
export async function testStackEnvironment(
  stateDir: string,
  gateways = 2,
): Promise<Readonly<Record<string, string>>> {
  const ports = await freePorts(11 + gateways);
  const next = (): string => String(ports.pop());
  return {
    STATE_DIR: stateDir,
    POSTGRES_PORT: next(),
    SHARD_PORTS: [next(), next(), next()].join(','),
    TEMPORAL_PORT: next(),
    TEMPORAL_UI_PORT: next(),
    PAYMENTS_PORT: next(),
    DEMO_UPSTREAM_PORT: next(),
    DRAIN_PORT: next(),
    WORKER_PORT: next(),
    ADMIN_PORT: next(),
    GATEWAY_PORTS: Array.from({ length: gateways }, next).join(','),
  };
}

async function freePorts(count: number): Promise<number[]> {
  const ports = new Set<number>();
  while (ports.size < count) ports.add(await freePort());
  return [...ports];
}
