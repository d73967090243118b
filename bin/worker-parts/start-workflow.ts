import { type Client, WorkflowExecutionAlreadyStartedError } from '@temporalio/client';

import type { StartWorkflow, WorkflowRequest } from '../../activities/ports.ts';
import {
  type CollectionInput,
  type PeriodCloseInput,
  type RefundInput,
  type SubscriptionInput,
  summaries,
  type TakeBackInput,
  taskQueues,
  type TopUpInput,
  workflowIds,
  workflowTypes,
} from '../../workflows/contracts.ts';
import { type Attributes, startAttributes } from '../../workflows/search-attributes.ts';

type Start = {
  readonly type: string;
  readonly workflowId: string;
  readonly staticSummary: string;
  readonly input:
    | SubscriptionInput
    | PeriodCloseInput
    | CollectionInput
    | TopUpInput
    | RefundInput
    | TakeBackInput;
  /** What the starter knows of what it is found by; the workflow itself adds the rest. */
  readonly attributes?: Attributes;
  /** What moves money runs once for its id, and again only when an operator has terminated it before its end. */
  readonly reuse: 'ALLOW_DUPLICATE' | 'ALLOW_DUPLICATE_FAILED_ONLY';
};

/** The port through which activities start workflows: started before is success. */
export function startWorkflowWith(client: Client): StartWorkflow {
  return async (request) => {
    const start = startOf(request);
    try {
      await client.workflow.start(start.type, {
        workflowId: start.workflowId,
        taskQueue: taskQueues.workflows,
        args: [start.input],
        staticSummary: start.staticSummary,
        typedSearchAttributes: startAttributes(start.attributes ?? {}),
        workflowIdConflictPolicy: 'USE_EXISTING',
        workflowIdReusePolicy: start.reuse,
      });
    } catch (error) {
      if (!(error instanceof WorkflowExecutionAlreadyStartedError)) throw error;
    }
  };
}

function startOf(request: WorkflowRequest): Start {
  switch (request.kind) {
    case 'subscription':
      return {
        type: workflowTypes.subscription,
        workflowId: workflowIds.subscription(request.subscriptionId),
        staticSummary: summaries.subscription(request.summary),
        input: {
          v: 1,
          subscriptionId: request.subscriptionId,
          ...(request.activate ? { activate: true } : {}),
        },
        attributes: { SubscriptionId: request.subscriptionId },
        reuse: 'ALLOW_DUPLICATE',
      };
    case 'periodClose':
      return {
        type: workflowTypes.periodClose,
        workflowId: workflowIds.periodClose(request.subscriptionId, request.periodSeq),
        staticSummary: summaries.periodClose(request.summary),
        input: {
          v: 1,
          subscriptionId: request.subscriptionId,
          periodId: request.periodId,
          periodSeq: request.periodSeq,
        },
        attributes: {
          SubscriptionId: request.subscriptionId,
          PeriodSeq: request.periodSeq,
          CloseStep: 'sealing',
          ...(request.subscriberId !== undefined && { SubscriberId: request.subscriberId }),
          ...(request.planId !== undefined && { PlanId: request.planId }),
        },
        reuse: 'ALLOW_DUPLICATE_FAILED_ONLY',
      };
    case 'collection':
      return {
        type: workflowTypes.collection,
        workflowId: workflowIds.collection(request.invoiceId),
        staticSummary: summaries.collection(request.summary),
        input: { v: 1, invoiceId: request.invoiceId },
        attributes: {
          InvoiceId: request.invoiceId,
          AttemptNo: 1,
          BillingState: 'collecting',
          ...(request.subscriberId !== undefined && { SubscriberId: request.subscriberId }),
          ...(request.subscriptionId !== undefined && { SubscriptionId: request.subscriptionId }),
        },
        reuse: 'ALLOW_DUPLICATE_FAILED_ONLY',
      };
    case 'refund':
      return {
        type: workflowTypes.refund,
        workflowId: workflowIds.refund(request.refundId),
        staticSummary: summaries.refund(request.summary),
        input: { v: 1, refundId: request.refundId },
        reuse: 'ALLOW_DUPLICATE_FAILED_ONLY',
      };
    case 'takeBack':
      return {
        type: workflowTypes.takeBack,
        workflowId: workflowIds.takeBack(request.takeBackId),
        staticSummary: summaries.takeBack(request.summary),
        input: { v: 1, takeBackId: request.takeBackId },
        reuse: 'ALLOW_DUPLICATE_FAILED_ONLY',
      };
    case 'topUp':
      return {
        type: workflowTypes.topUp,
        workflowId: workflowIds.topUp(request.topUpId),
        staticSummary: summaries.topUp(request.summary),
        input: { v: 1, topUpId: request.topUpId },
        reuse: 'ALLOW_DUPLICATE_FAILED_ONLY',
      };
    default:
      return request satisfies never;
  }
}

/** The id under which a request's workflow runs. */
export function workflowIdOf(request: WorkflowRequest): string {
  return startOf(request).workflowId;
}

/** Ids of every workflow that runs now. */
export async function runningWorkflowIds(client: Client): Promise<ReadonlySet<string>> {
  const ids = new Set<string>();
  for await (const { workflowId } of client.workflow.list({ query: 'ExecutionStatus="Running"' })) {
    ids.add(workflowId);
  }
  return ids;
}
