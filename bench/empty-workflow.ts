import { proxyActivities } from '@temporalio/workflow';

const ACTIVITIES = 8;

type Steps = { step(): Promise<void>; last(): Promise<void> };
const { step, last } = proxyActivities<Steps>({
  taskQueue: 'bench-activities',
  startToCloseTimeout: '10s',
});

/** As many steps as a close has, and nothing in them: what the engine itself costs. */
export async function emptyWorkflow(): Promise<void> {
  for (let n = 1; n < ACTIVITIES; n += 1) await step();
  await last();
}
