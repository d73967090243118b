import { fileURLToPath } from 'node:url';

import { activityInfo } from '@temporalio/activity';
import {
  type ActivityInboundCallsInterceptor,
  bundleWorkflowCode,
  type NativeConnection,
  Worker,
  type WorkerOptions,
  type WorkflowBundle,
} from '@temporalio/worker';

import { toFailure } from '../../activities/faults.ts';
import { makeDbActivities, makeProviderActivities } from '../../activities/index.ts';
import type { ActivityDeps } from '../../activities/ports.ts';
import { taskQueues } from '../../workflows/contracts.ts';

/** Above the longest call of the provider's client; below what a process is given to end. */
const SHUTDOWN_GRACE = '20s';
const CACHED_WORKFLOWS_MAX = 500;
const DB_ACTIVITIES_MAX = 20;
const PROVIDER_ACTIVITIES_MAX = 10;

export type WorkersOptions = {
  readonly connection: NativeConnection;
  readonly namespace: string;
  readonly deps: ActivityDeps;
  /** From `bundleWorkflows`, so that several workers share one. */
  readonly bundle: WorkflowBundle;
  /** A worker that was killed is asked for so long before another one is. */
  readonly stickyTimeout?: string;
  /** 0 replays every workflow at each step: a test of determinism. */
  readonly cachedWorkflowsMax?: number;
  /** Put around every activity, for instance to let it fail. */
  readonly aroundActivity?: ActivityInboundCallsInterceptor;
};

/** The bundle of all workflows; takes some seconds. */
export async function bundleWorkflows(): Promise<WorkflowBundle> {
  return bundleWorkflowCode({
    workflowsPath: fileURLToPath(new URL('../../workflows/index.ts', import.meta.url)),
    logger: silent,
  });
}

const nothing = (): void => undefined;
const silent = {
  log: nothing,
  trace: nothing,
  debug: nothing,
  info: nothing,
  warn: nothing,
  error: nothing,
};

/** One worker a queue: workflows, Postgres, provider. A slow provider holds up nothing else. */
export async function createWorkers(options: WorkersOptions): Promise<readonly Worker[]> {
  const { connection, namespace, deps } = options;
  const common: Pick<WorkerOptions, 'connection' | 'namespace' | 'shutdownGraceTime'> = {
    connection,
    namespace,
    shutdownGraceTime: SHUTDOWN_GRACE,
  };
  const { aroundActivity } = options;
  const interceptors: WorkerOptions['interceptors'] = {
    activity: [
      ...(aroundActivity === undefined ? [] : [() => ({ inbound: aroundActivity })]),
      () => ({
        inbound: {
          execute: async (input, next) => {
            try {
              return await next(input);
            } catch (error) {
              throw toFailure(error, activityInfo().attempt);
            }
          },
        },
      }),
    ],
  };
  return Promise.all([
    Worker.create({
      ...common,
      taskQueue: taskQueues.workflows,
      workflowBundle: options.bundle,
      maxCachedWorkflows: options.cachedWorkflowsMax ?? CACHED_WORKFLOWS_MAX,
      stickyQueueScheduleToStartTimeout: options.stickyTimeout ?? '2s',
    }),
    Worker.create({
      ...common,
      interceptors,
      taskQueue: taskQueues.db,
      activities: makeDbActivities(deps),
      maxConcurrentActivityTaskExecutions: DB_ACTIVITIES_MAX,
    }),
    Worker.create({
      ...common,
      interceptors,
      taskQueue: taskQueues.psp,
      activities: makeProviderActivities(deps),
      maxConcurrentActivityTaskExecutions: PROVIDER_ACTIVITIES_MAX,
    }),
  ]);
}
