import { ActivityFailure, type ActivityOptions, proxyActivities } from '@temporalio/workflow';

import type { DbActivities, ProviderActivities } from '../activities/index.ts';
import { taskQueues } from './contracts.ts';

/**
 * Every activity is bounded in both ways: one attempt, and all of them. Without the second bound a time-skipping test
 * would leap ten years, and a fault would be tried for as long.
 */
const dbOptions: ActivityOptions = {
  taskQueue: taskQueues.db,
  startToCloseTimeout: '10s',
  scheduleToCloseTimeout: '24h',
  retry: { initialInterval: '200ms', backoffCoefficient: 2, maximumInterval: '30s' },
};

/** Tried so often, for some ten seconds: what has not succeeded by then lasts, and is worth saying. */
const soonOptions: ActivityOptions = {
  ...dbOptions,
  retry: { ...dbOptions.retry, maximumAttempts: 6 },
};

/** Waits for somebody else's work: looked at again soon, for as long as it may take. */
const awaitOptions: ActivityOptions = {
  ...dbOptions,
  startToCloseTimeout: '15s',
  retry: { initialInterval: '100ms', backoffCoefficient: 1.5, maximumInterval: '5s' },
};

/** Longer than the provider's client waits. After three attempts the outcome is unknown, and is looked up. */
const providerOptions: ActivityOptions = {
  taskQueue: taskQueues.psp,
  startToCloseTimeout: '20s',
  scheduleToCloseTimeout: '15m',
  retry: {
    initialInterval: '2s',
    backoffCoefficient: 2,
    maximumInterval: '60s',
    maximumAttempts: 3,
  },
};

/** Activities on Postgres; `summary` is what the Temporal UI says beside the step. */
export function db(summary: string): DbActivities {
  return proxyActivities<DbActivities>({ ...dbOptions, summary });
}

/** The same, for a step of which the workflow says so when it does not succeed soon; `hasLasted` is how it failed then. */
export function soon(summary: string): DbActivities {
  return proxyActivities<DbActivities>({ ...soonOptions, summary });
}

export function hasLasted(error: unknown): boolean {
  return error instanceof ActivityFailure && error.retryState === 'MAXIMUM_ATTEMPTS_REACHED';
}

/** Activities that wait for a shard, the projector or the drain. */
export function waiting(
  summary: string,
  scheduleToCloseTimeout: '10m' | '24h' = '24h',
): DbActivities {
  return proxyActivities<DbActivities>({ ...awaitOptions, scheduleToCloseTimeout, summary });
}

/** Calls of the payment provider. */
export function provider(summary: string): ProviderActivities {
  return proxyActivities<ProviderActivities>({ ...providerOptions, summary });
}
