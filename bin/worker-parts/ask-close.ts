import { type Client, WorkflowNotFoundError } from '@temporalio/client';

import type { ThresholdWatch } from '../../activities/thresholds.ts';
import {
  type ClosePeriodArgs,
  type ClosePeriodReply,
  subscriptionUpdates,
  workflowIds,
} from '../../workflows/contracts.ts';

/**
 * Asks for the close of a period that has reached its threshold, under an id that is the same however often it is asked.
 * A workflow that is missing is started by the reconciler, and asked the next time.
 */
export function askCloseWith(client: Client): ThresholdWatch['askClose'] {
  return async ({ subscriptionId, periodId }) => {
    const handle = client.workflow.getHandle(workflowIds.subscription(subscriptionId));
    try {
      await handle.startUpdate<ClosePeriodReply, [ClosePeriodArgs]>(
        subscriptionUpdates.closePeriod,
        {
          args: [{ periodId, reason: 'threshold' }],
          updateId: `threshold:${periodId}`,
          waitForStage: 'ACCEPTED',
        },
      );
    } catch (error) {
      if (!(error instanceof WorkflowNotFoundError)) throw error;
    }
  };
}
