import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

import { Client } from '@temporalio/client';
import type { TestWorkflowEnvironment } from '@temporalio/testing';
import {
  type ActivityInboundCallsInterceptor,
  DefaultLogger,
  makeTelemetryFilterString,
  type NativeConnection,
  Runtime,
  type Worker,
  type WorkflowBundle,
} from '@temporalio/worker';

import type { ActivityDeps } from '../../../activities/ports.ts';
import { startWorkflowWith } from '../../../bin/worker-parts/start-workflow.ts';
import { bundleWorkflows, createWorkers } from '../../../bin/worker-parts/workers.ts';
import type { PaymentProvider } from '../../../payments/port.ts';
import { sandboxProvider } from '../../../payments/sandbox-client.ts';
import { type Sandbox, startSandbox } from '../../../payments/sandbox-server.ts';
import { type Db, openDb } from '../../../store/db.ts';
import { testDatabase } from '../../support/postgres.ts';
import {
  type ActivateReply,
  type SubscriptionInput,
  subscriptionUpdates,
  taskQueues,
  workflowIds,
} from '../../../workflows/contracts.ts';
import { subscription } from '../../../workflows/index.ts';

/** What the shard and the drain answer in a test of workflows: everything else is real. */
export type Ports = Partial<Pick<ActivityDeps, 'shards' | 'isDrained' | 'waitForApplied'>> & {
  /** How long the provider's client waits for an answer. */
  readonly paymentTimeoutMs?: number;
  /** Puts something between the workflows and the provider. */
  readonly throughPayments?: (provider: PaymentProvider) => PaymentProvider;
};

export type Rig = {
  readonly db: Db;
  readonly client: Client;
  readonly sandbox: Sandbox;
  readonly deps: ActivityDeps;
  /** Starts `sub/…` and waits until it is active. */
  activate(subscriptionId: string): Promise<ActivateReply>;
  stop(): Promise<void>;
};

let bundle: Promise<WorkflowBundle> | null = null;
let isQuiet = false;

/** The runtime of this process; its own warnings are noise in a test's output. */
export function quietRuntime(): void {
  if (isQuiet) return;
  isQuiet = true;
  Runtime.install({
    logger: new DefaultLogger('ERROR', () => undefined),
    telemetryOptions: { logging: { filter: makeTelemetryFilterString({ core: 'ERROR' }) } },
  });
}

/** One bundle for all tests of the process. */
export function sharedBundle(): Promise<WorkflowBundle> {
  bundle ??= bundleWorkflows();
  return bundle;
}

export type RigOptions = {
  readonly ports?: Ports;
  /** 0: every workflow task replays the whole history. */
  readonly cachedWorkflowsMax?: number;
  readonly aroundActivity?: ActivityInboundCallsInterceptor;
};

/** Workers with real activities on a fresh database and a sandbox provider, against any Temporal server. */
export async function startRig(
  server: {
    readonly client: Client;
    readonly connection: NativeConnection;
    readonly namespace: string;
  },
  options: RigOptions = {},
): Promise<Rig> {
  const { client } = server;
  const database = await testDatabase();
  const db = openDb(database.url, { poolMax: 10 });
  const folder = mkdtempSync(join(tmpdir(), 'tollbook-workflows-'));
  const sandbox = await startSandbox({
    file: join(folder, 'payments.jsonl'),
    host: '127.0.0.1',
    port: 0,
    slowMs: 800,
  });
  const deps = makeDeps({ db, client, sandbox, ports: options.ports ?? {} });
  const workers = await createWorkers({
    connection: server.connection,
    namespace: server.namespace,
    deps,
    bundle: await sharedBundle(),
    stickyTimeout: '1s',
    ...(options.cachedWorkflowsMax === undefined
      ? {}
      : { cachedWorkflowsMax: options.cachedWorkflowsMax }),
    ...(options.aroundActivity === undefined ? {} : { aroundActivity: options.aroundActivity }),
  });
  const running = workers.map((worker) => worker.run());
  return {
    db,
    client,
    sandbox,
    deps,
    activate: (subscriptionId) => activate(client, subscriptionId),
    stop: async () => {
      await stopWorkers(workers);
      await Promise.all(running);
      await sandbox.stop();
      await db.destroy();
      await database.drop();
      rmSync(folder, { recursive: true, force: true });
    },
  };
}

async function stopWorkers(workers: readonly Worker[]): Promise<void> {
  for (const worker of workers) if (worker.getState() === 'RUNNING') worker.shutdown();
}

function makeDeps(of: {
  readonly db: Db;
  readonly client: Client;
  readonly sandbox: Sandbox;
  readonly ports: Ports;
}): ActivityDeps {
  const { db, ports } = of;
  const provider = sandboxProvider({
    url: of.sandbox.url,
    ...(ports.paymentTimeoutMs === undefined ? {} : { timeoutMs: ports.paymentTimeoutMs }),
  });
  return {
    db,
    payments: ports.throughPayments?.(provider) ?? provider,
    startWorkflow: startWorkflowWith(of.client),
    shards: ports.shards ?? {
      seal: () =>
        Promise.resolve({ kind: 'sealed', shard: 'shard-1', incarnation: 1, streamId: '1-0' }),
    },
    isDrained: ports.isDrained ?? (() => Promise.resolve(true)),
    waitForApplied: ports.waitForApplied ?? (() => Promise.resolve(true)),
  };
}

async function activate(client: Client, subscriptionId: string): Promise<ActivateReply> {
  const input: SubscriptionInput = { v: 1, subscriptionId };
  const handle = await client.workflow.start(subscription, {
    workflowId: workflowIds.subscription(subscriptionId),
    taskQueue: taskQueues.workflows,
    args: [input],
    workflowIdConflictPolicy: 'USE_EXISTING',
  });
  return handle.executeUpdate<ActivateReply, []>(subscriptionUpdates.activate, {
    updateId: `activate-${subscriptionId}`,
  });
}

/** Real time for what is under way to be done; only then is skipped time needed. */
const REAL_PAUSE_MS = 100;
const SKIPPED_MS = 3000;

/**
 * Lets skipped time pass until the promise settles. What lies a second or two ahead is better awaited in real time, which
 * goes on by itself.
 */
export async function whileTimePasses<T>(
  environment: TestWorkflowEnvironment,
  promise: Promise<T>,
): Promise<T> {
  const state = { isSettled: false };
  const settled = promise.finally(() => {
    state.isSettled = true;
  });
  // A rejection is reported by the await at the end.
  settled.catch(() => undefined);
  for (;;) {
    await sleep(REAL_PAUSE_MS);
    if (state.isSettled) return settled;
    await environment.sleep(SKIPPED_MS);
  }
}

/** Skips time until the instant (epoch ms) has come; it may be later then. */
export async function sleepUntil(
  environment: TestWorkflowEnvironment,
  atMs: number,
): Promise<void> {
  const leftMs = atMs - (await environment.currentTimeMs());
  if (leftMs > 0) await environment.sleep(leftMs);
}

export function ofEnvironment(environment: TestWorkflowEnvironment): {
  readonly client: Client;
  readonly connection: NativeConnection;
  readonly namespace: string;
} {
  const namespace = environment.namespace ?? 'default';
  return {
    // Not the environment's own client, whose `result()` lets time run by itself: two that do so at once break its clock.
    client: new Client({ connection: environment.connection, namespace }),
    connection: environment.nativeConnection,
    namespace,
  };
}
