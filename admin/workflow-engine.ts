/**
 * The one door from the admin API to Temporal. It connects when it is first needed, and again after a failure: while the
 * engine is away only the calls that need it are refused, with 503.
 */
import {
  Client,
  Connection,
  WithStartWorkflowOperation,
  WorkflowUpdateFailedError,
  isGrpcServiceError,
  type ConnectionOptions,
  type Workflow,
} from '@temporalio/client';

import {
  subscriptionSignals,
  subscriptionUpdates,
  taskQueues,
  workflowIds,
  workflowTypes,
  type ActivateReply,
  type CancelArgs,
  type CancelPlanChangeArgs,
  type CancelPlanChangeReply,
  type CancelReply,
  type ChangePlanArgs,
  type ChangePlanReply,
  type ClosePeriodArgs,
  type ClosePeriodReply,
  type PeriodCloseResult,
  type SetOverageArgs,
  type SetOverageReply,
  type SubscriptionInput,
  type TopUpInput,
  type TopUpResult,
  closeUpdates,
  collectionSignals,
  collectionUpdates,
  type CollectionInput,
  type FinalizeNowReply,
  type RefundInput,
  type RefundResult,
  type RetryReply,
  type TakeBackInput,
  type TakeBackResult,
} from '../workflows/contracts.ts';
import { ApiProblem } from './problems.ts';

/** `slow`: the engine has the command and goes on with it; the answer did not come in time. */
export type EngineReply<T> =
  | { readonly kind: 'done'; readonly value: T }
  | { readonly kind: 'slow' }
  /** The workflow refused: a condition in snake_case and its words. */
  | { readonly kind: 'refused'; readonly code: string; readonly message: string };

type Wait = { readonly updateId: string; readonly waitMs: number };
/** What the engine's list says of the workflow that is started: one line, no secret. */
type Summary = { readonly summary: string };

export type WorkflowEngine = {
  /** Starts the subscription's workflow if it does not run, and activates it. */
  activate(subscriptionId: string, wait: Wait & Summary): Promise<EngineReply<ActivateReply>>;
  cancel(subscriptionId: string, args: CancelArgs, wait: Wait): Promise<EngineReply<CancelReply>>;
  closePeriod(
    subscriptionId: string,
    args: ClosePeriodArgs,
    wait: Wait,
  ): Promise<EngineReply<ClosePeriodReply>>;
  /** Waits for the result of a period close. */
  closeResult(closeWorkflowId: string, waitMs: number): Promise<EngineReply<PeriodCloseResult>>;
  setOverage(
    subscriptionId: string,
    args: SetOverageArgs,
    wait: Wait,
  ): Promise<EngineReply<SetOverageReply>>;
  /** Answers when the gateways enforce the new plan, or know of the planned one. */
  changePlan(
    subscriptionId: string,
    args: ChangePlanArgs,
    wait: Wait,
  ): Promise<EngineReply<ChangePlanReply>>;
  cancelPlanChange(
    subscriptionId: string,
    args: CancelPlanChangeArgs,
    wait: Wait,
  ): Promise<EngineReply<CancelPlanChangeReply>>;
  /** Starts the top-up's workflow if it does not run, and waits for its result. */
  topUp(
    topUpId: string,
    wait: { readonly waitMs: number } & Summary,
  ): Promise<EngineReply<TopUpResult>>;
  /** Asks the close of a period to make its draft final, and waits for that. */
  finalizeNow(
    close: { readonly subscriptionId: string; readonly periodSeq: number },
    wait: Wait,
  ): Promise<EngineReply<FinalizeNowReply>>;
  /** Starts the collection of an invoice if it does not run. */
  collect(
    invoiceId: string,
    wait: { readonly waitMs: number } & Summary,
  ): Promise<EngineReply<null>>;
  /** The same, and asks for an attempt now and waits for what comes of it. */
  retryNow(invoiceId: string, wait: Wait & Summary): Promise<EngineReply<RetryReply>>;
  /** Tells the collection of an invoice, where one runs, to look at it, and its subscription to look at its standing. */
  invoiceChanged(
    invoice: { readonly id: string; readonly subscription_id: string | null },
    waitMs: number,
  ): Promise<void>;
  /** Starts the refund's workflow if it does not run, and waits for its result. */
  refund(
    refundId: string,
    wait: { readonly waitMs: number } & Summary,
  ): Promise<EngineReply<RefundResult>>;
  /** Starts the take-back's workflow if it does not run, and waits for its result. */
  takeBack(
    takeBackId: string,
    wait: { readonly waitMs: number } & Summary,
  ): Promise<EngineReply<TakeBackResult>>;
  close(): Promise<void>;
};

export type EngineSettings = {
  readonly connection: ConnectionOptions;
  readonly namespace: string;
};

const CONNECT_MS = 3_000;
const PROBE_MS = 1_500;

/** An engine at an address; connects on first use. */
export function createWorkflowEngine(settings: EngineSettings): WorkflowEngine {
  const link = lazyClient(settings);
  const update = <T>(
    subscriptionId: string,
    name: string,
    call: { readonly args: unknown; readonly wait: Wait },
  ): Promise<EngineReply<T>> =>
    link.use(call.wait.waitMs, (client) =>
      client.workflow
        .getHandle(workflowIds.subscription(subscriptionId))
        .executeUpdate<T, [unknown]>(name, { args: [call.args], updateId: call.wait.updateId }),
    );
  return {
    activate: (subscriptionId, wait) =>
      link.use(wait.waitMs, (client) => activate(client, subscriptionId, wait)),
    cancel: (id, args, wait) => update(id, subscriptionUpdates.cancel, { args, wait }),
    closePeriod: (id, args, wait) => update(id, subscriptionUpdates.closePeriod, { args, wait }),
    setOverage: (id, args, wait) => update(id, subscriptionUpdates.setOverage, { args, wait }),
    changePlan: (id, args, wait) => update(id, subscriptionUpdates.changePlan, { args, wait }),
    cancelPlanChange: (id, args, wait) =>
      update(id, subscriptionUpdates.cancelPlanChange, { args, wait }),
    closeResult: (id, waitMs) =>
      link.use(waitMs, async (client): Promise<PeriodCloseResult> =>
        client.workflow.getHandle(id).result(),
      ),
    topUp: (id, wait) => link.use(wait.waitMs, (client) => topUp(client, id, wait.summary)),
    finalizeNow: ({ subscriptionId, periodSeq }, wait) =>
      link.use(wait.waitMs, (client) =>
        client.workflow
          .getHandle(workflowIds.periodClose(subscriptionId, periodSeq))
          .executeUpdate<FinalizeNowReply, []>(closeUpdates.finalizeNow, {
            updateId: wait.updateId,
          }),
      ),
    collect: (id, wait) =>
      link.use(wait.waitMs, async (client) => {
        await startOnce(client, collectionStart(id, wait.summary));
        return null;
      }),
    retryNow: (id, wait) => link.use(wait.waitMs, (client) => retryNow(client, id, wait)),
    invoiceChanged: (invoice, waitMs) => invoiceChanged(link, invoice, waitMs),
    refund: (id, wait) => link.use(wait.waitMs, (client) => refund(client, id, wait.summary)),
    takeBack: (id, wait) => link.use(wait.waitMs, (client) => takeBack(client, id, wait.summary)),
    close: () => link.close(),
  };
}

type Link = ReturnType<typeof lazyClient>;
type Started = {
  readonly type: string;
  readonly workflowId: string;
  readonly input: CollectionInput | RefundInput | TakeBackInput | TopUpInput;
  readonly summary: string;
};

function collectionStart(invoiceId: string, summary: string): Started {
  const input: CollectionInput = { v: 1, invoiceId };
  const workflowId = workflowIds.collection(invoiceId);
  return { type: workflowTypes.collection, workflowId, input, summary };
}

/** What moves money runs once for its id: one that has run to its end already is success. */
async function startOnce(client: Client, start: Started): Promise<void> {
  try {
    await client.workflow.start(start.type, {
      workflowId: start.workflowId,
      taskQueue: taskQueues.workflows,
      args: [start.input],
      staticSummary: start.summary,
      workflowIdConflictPolicy: 'USE_EXISTING',
      workflowIdReusePolicy: 'ALLOW_DUPLICATE_FAILED_ONLY',
    });
  } catch (error) {
    if (!isNamed(error, 'WorkflowExecutionAlreadyStartedError')) throw error;
  }
}

async function retryNow(
  client: Client,
  invoiceId: string,
  { updateId, summary }: { readonly updateId: string } & Summary,
): Promise<RetryReply> {
  const start = collectionStart(invoiceId, summary);
  const startWorkflowOperation = new WithStartWorkflowOperation(start.type, {
    workflowId: start.workflowId,
    taskQueue: taskQueues.workflows,
    args: [start.input],
    staticSummary: summary,
    workflowIdConflictPolicy: 'USE_EXISTING',
  });
  return client.workflow.executeUpdateWithStart<Workflow, RetryReply, []>(
    collectionUpdates.retryNow,
    { updateId, startWorkflowOperation },
  );
}

/** A workflow that has ended, or was never needed, has nothing to look at. */
async function invoiceChanged(
  link: Link,
  invoice: { readonly id: string; readonly subscription_id: string | null },
  waitMs: number,
): Promise<void> {
  const signal = (workflowId: string, name: string): Promise<unknown> =>
    link.use(waitMs, (client) => client.workflow.getHandle(workflowId).signal(name));
  await signal(workflowIds.collection(invoice.id), collectionSignals.invoiceChanged);
  if (invoice.subscription_id === null) return;
  // Of an invoice that was given up no collection is left to say it.
  await signal(
    workflowIds.subscription(invoice.subscription_id),
    subscriptionSignals.standingChanged,
  );
}

async function refund(client: Client, refundId: string, summary: string): Promise<RefundResult> {
  const input: RefundInput = { v: 1, refundId };
  const workflowId = workflowIds.refund(refundId);
  await startOnce(client, { type: workflowTypes.refund, workflowId, input, summary });
  const result: RefundResult = await client.workflow.getHandle(workflowId).result();
  return result;
}

async function takeBack(
  client: Client,
  takeBackId: string,
  summary: string,
): Promise<TakeBackResult> {
  const input: TakeBackInput = { v: 1, takeBackId };
  const workflowId = workflowIds.takeBack(takeBackId);
  await startOnce(client, { type: workflowTypes.takeBack, workflowId, input, summary });
  const result: TakeBackResult = await client.workflow.getHandle(workflowId).result();
  return result;
}

async function activate(
  client: Client,
  subscriptionId: string,
  { updateId, summary }: { readonly updateId: string } & Summary,
): Promise<ActivateReply> {
  const input: SubscriptionInput = { v: 1, subscriptionId };
  const startWorkflowOperation = new WithStartWorkflowOperation(workflowTypes.subscription, {
    workflowId: workflowIds.subscription(subscriptionId),
    taskQueue: taskQueues.workflows,
    args: [input],
    staticSummary: summary,
    workflowIdConflictPolicy: 'USE_EXISTING',
  });
  return client.workflow.executeUpdateWithStart<Workflow, ActivateReply, []>(
    subscriptionUpdates.activate,
    { updateId, startWorkflowOperation },
  );
}

async function topUp(client: Client, topUpId: string, summary: string): Promise<TopUpResult> {
  const input: TopUpInput = { v: 1, topUpId };
  const workflowId = workflowIds.topUp(topUpId);
  await startOnce(client, { type: workflowTypes.topUp, workflowId, input, summary });
  const result: TopUpResult = await client.workflow.getHandle(workflowId).result();
  return result;
}

function lazyClient(settings: EngineSettings): {
  use<T>(waitMs: number, work: (client: Client) => Promise<T>): Promise<EngineReply<T>>;
  close(): Promise<void>;
} {
  let opening: Promise<{ client: Client; connection: Connection }> | null = null;
  const open = async (): Promise<{ client: Client; connection: Connection }> => {
    const connection = await Connection.connect({
      ...settings.connection,
      connectTimeout: CONNECT_MS,
    });
    return { connection, client: new Client({ connection, namespace: settings.namespace }) };
  };
  return {
    async use(waitMs, work) {
      opening ??= open();
      const { client, connection } = await opening.catch((error: unknown) => {
        opening = null;
        throw unavailable(error);
      });
      // Asked first: a client that has lost its server tries in silence until the whole wait is over.
      await connection
        .withDeadline(Date.now() + PROBE_MS, () => connection.workflowService.getSystemInfo({}))
        .catch((error: unknown) => {
          throw unavailable(error);
        });
      return withinTime(waitMs, () =>
        connection.withDeadline(Date.now() + waitMs, () => work(client)),
      );
    },
    async close() {
      const opened = await opening?.catch(() => null);
      opening = null;
      await opened?.connection.close();
    },
  };
}

async function withinTime<T>(waitMs: number, work: () => Promise<T>): Promise<EngineReply<T>> {
  const { promise: late, resolve } = Promise.withResolvers<EngineReply<T>>();
  const timer = setTimeout(() => resolve({ kind: 'slow' }), waitMs);
  const answer = work()
    .then((value): EngineReply<T> => ({ kind: 'done', value }))
    .catch((error: unknown) => replyOf<T>(error));
  // The loser of the race still ends; its failure has been turned into a reply or is told by the winner.
  answer.catch(() => undefined);
  try {
    return await Promise.race([answer, late]);
  } finally {
    clearTimeout(timer);
  }
}

/** gRPC: DEADLINE_EXCEEDED and CANCELLED mean that we stopped waiting; NOT_FOUND that the workflow has ended. */
function replyOf<T>(error: unknown): EngineReply<T> {
  const refusal = refusalOf(error);
  if (refusal !== null) return { kind: 'refused', ...refusal };
  const code = grpcCodeOf(error);
  if (code === 1 || code === 4) return { kind: 'slow' };
  if (code === 5) {
    return { kind: 'refused', code: 'workflow_not_running', message: 'Its workflow has ended.' };
  }
  if (code !== null) throw unavailable(error);
  throw error;
}

function refusalOf(error: unknown): { readonly code: string; readonly message: string } | null {
  if (!(error instanceof WorkflowUpdateFailedError) && !isNamed(error, 'WorkflowFailedError')) {
    return null;
  }
  const cause: unknown = error instanceof Error ? error.cause : null;
  const message = cause instanceof Error ? cause.message : 'The workflow refused.';
  const type: unknown = cause instanceof Error && 'type' in cause ? cause.type : null;
  return { code: typeof type === 'string' ? type : 'refused', message };
}

function grpcCodeOf(error: unknown): number | null {
  for (let at = error; at instanceof Error; at = at.cause) {
    if (isGrpcServiceError(at)) return at.code;
    if (isNamed(at, 'WorkflowNotFoundError')) return 5;
    if (isNamed(at, 'WorkflowUpdateRPCTimeoutOrCancelledError')) return 4;
  }
  return null;
}

function isNamed(error: unknown, name: string): boolean {
  return error instanceof Error && error.name === name;
}

function unavailable(cause: unknown): ApiProblem {
  return new ApiProblem(
    'workflow_engine_unavailable',
    'Temporal does not answer. What needs no workflow goes on working; try this again in a few seconds.',
    { cause },
  );
}
