import {
  ActivityFailure,
  allHandlersFinished,
  ApplicationFailure,
  condition,
  defineSignal,
  defineUpdate,
  makeContinueAsNewFunc,
  setHandler,
  sleep,
  workflowInfo,
} from '@temporalio/workflow';

import type { CommandResult, SubscriptionView } from '../activities/subscription.ts';
import { db, waiting } from './activities.ts';
import {
  type AnswerBook,
  type Answered,
  answerBook,
  commandQueue,
  type Waiting,
} from './command-queue.ts';
import {
  type ActivateReply,
  type CancelArgs,
  type CancelPlanChangeArgs,
  type CancelPlanChangeReply,
  type CancelReply,
  type ChangePlanArgs,
  type ChangePlanReply,
  type ClosePeriodArgs,
  type ClosePeriodReply,
  type SetOverageArgs,
  type SetOverageReply,
  type SubscriptionInput,
  subscriptionSignals,
  subscriptionUpdates,
  workflowIds,
} from './contracts.ts';
import { type Desk, instantText, openDesk, reasonOf } from './desk.ts';
import { type Attributes, startAttributes } from './search-attributes.ts';

/** A subscription that begins this soon is awaited, so that `activate` answers when requests are served. */
const START_AWAITED_MS = 5000;

/** Updates that were answered in earlier runs, by kind. */
type AnsweredUpdates = {
  readonly activate: readonly Answered<ActivateReply>[];
  readonly cancel: readonly Answered<CancelReply>[];
  readonly closePeriod: readonly Answered<ClosePeriodReply>[];
  readonly setOverage: readonly Answered<SetOverageReply>[];
  readonly changePlan: readonly Answered<ChangePlanReply>[];
  readonly cancelPlanChange: readonly Answered<CancelPlanChangeReply>[];
};
/** What a run hands to the next one, so that it need not load what was read a moment ago. */
type Carried = { readonly answered?: AnsweredUpdates; readonly view?: SubscriptionView };

type Books = {
  readonly activate: AnswerBook<ActivateReply>;
  readonly cancel: AnswerBook<CancelReply>;
  readonly closePeriod: AnswerBook<ClosePeriodReply>;
  readonly setOverage: AnswerBook<SetOverageReply>;
  readonly changePlan: AnswerBook<ChangePlanReply>;
  readonly cancelPlanChange: AnswerBook<CancelPlanChangeReply>;
};

function openBooks(answered: AnsweredUpdates | undefined): Books {
  return {
    activate: answerBook(answered?.activate ?? []),
    cancel: answerBook(answered?.cancel ?? []),
    closePeriod: answerBook(answered?.closePeriod ?? []),
    setOverage: answerBook(answered?.setOverage ?? []),
    changePlan: answerBook(answered?.changePlan ?? []),
    cancelPlanChange: answerBook(answered?.cancelPlanChange ?? []),
  };
}

function answeredUpdates(books: Books): AnsweredUpdates {
  return {
    activate: books.activate.all(),
    cancel: books.cancel.all(),
    closePeriod: books.closePeriod.all(),
    setOverage: books.setOverage.all(),
    changePlan: books.changePlan.all(),
    cancelPlanChange: books.cancelPlanChange.all(),
  };
}

type Command =
  | { readonly kind: 'activate' }
  | ({ readonly kind: 'cancel' } & Pick<CancelArgs, 'when' | 'prorate'>)
  | ({ readonly kind: 'closePeriod' } & ClosePeriodArgs)
  | { readonly kind: 'setOverage'; readonly enabled: boolean }
  | ({ readonly kind: 'changePlan' } & ChangePlanArgs)
  | ({ readonly kind: 'cancelPlanChange' } & CancelPlanChangeArgs);

type Done = Extract<CommandResult, { kind: 'done' }>;

/** What one run of the workflow holds; everything that lasts is in Postgres. */
type Run = {
  view: SubscriptionView;
  /** Whether what the first period begins with has been seen to. */
  hasBegun: boolean;
  readonly nudge: Nudge;
  readonly desk: Desk;
};

/** Something in Postgres may have changed. */
type Nudge = { isSet: boolean };

/**
 * One subscription, from its start to its end. It is the only one that changes the subscription's periods: commands
 * arrive as updates and wait in line, boundaries by timer. Each rollover continues as new, so the history stays short.
 */
export async function subscription(
  input: SubscriptionInput & Carried,
): Promise<{ readonly state: string }> {
  const { subscriptionId } = input;
  const desk = openDesk();
  const queue = commandQueue<Command, Done>();
  const books = openBooks(input.answered);
  const run: { current: Run | null } = { current: null };
  const nudge: Nudge = { isSet: false };
  const handling = { queue, books, run, subscriptionId };
  handleUpdates(handling);
  handlePlanChanges(handling);
  for (const signal of Object.values(subscriptionSignals)) {
    setHandler(defineSignal(signal), () => {
      nudge.isSet = true;
    });
  }

  const view =
    input.view ??
    (await desk.attend('Load', () =>
      db('Load the subscription').loadSubscription({ subscriptionId }),
    ));
  const state: Run = { view, hasBegun: false, nudge, desk };
  run.current = state;
  if (input.activate === true && view.state === 'pending') {
    await execute(state, { kind: 'activate' });
  }
  let isRenewal = false;
  for (;;) {
    show(state);
    if (state.view.state === 'canceled' && queue.isEmpty()) break;
    await untilSomethingIsDue(
      state,
      () => !queue.isEmpty() || (isRenewal && allHandlersFinished()),
    );
    if (beginsNow(state)) await begin(state);
    for (let next = queue.take(); next !== undefined; next = queue.take()) {
      await answerCommand(state, next);
    }
    if (nudge.isSet) await refresh(state);
    if (isDue(state)) {
      await roll(state);
      isRenewal = true;
    }
    isRenewal ||= workflowInfo().continueAsNewSuggested;
    const isQuiet = queue.isEmpty() && allHandlersFinished() && !nudge.isSet;
    if (isRenewal && isQuiet && state.view.state !== 'canceled') {
      const { view: next } = state;
      // What it is found by goes into the first event of the next run: there it costs nothing.
      await makeContinueAsNewFunc<typeof subscription>({
        typedSearchAttributes: startAttributes(attributesOf(state)),
      })({ v: 1, subscriptionId, answered: answeredUpdates(books), view: next });
    }
  }
  await condition(() => queue.isEmpty() && allHandlersFinished());
  return { state: state.view.state };
}

type Handling = {
  readonly queue: ReturnType<typeof commandQueue<Command, Done>>;
  readonly books: Books;
  readonly run: { readonly current: Run | null };
  readonly subscriptionId: string;
};

function handleUpdates(of: Handling): void {
  const { queue, books, run, subscriptionId } = of;
  setHandler(defineUpdate<ActivateReply>(subscriptionUpdates.activate), () =>
    books.activate.answer(async () => {
      const done = await queue.submit({ kind: 'activate' });
      const { effectiveAtMs, view } = await applied(done);
      const leftMs = effectiveAtMs - Date.now();
      if (leftMs > 0 && leftMs <= START_AWAITED_MS) {
        await sleep(leftMs, { summary: 'The first period begins' });
      }
      return { state: view.state, periodId: view.current?.periodId ?? '' };
    }),
  );
  setHandler(
    defineUpdate<CancelReply, [CancelArgs]>(subscriptionUpdates.cancel),
    (args) =>
      books.cancel.answer(async () => {
        const { when, prorate = false } = args;
        const done = await queue.submit({ kind: 'cancel', when, prorate });
        const isOver = (): boolean => run.current?.view.state === 'canceled';
        if (args.when === 'now') await condition(isOver);
        return {
          state: isOver() ? 'canceled' : done.view.state,
          effectiveAt: new Date(done.effectiveAtMs).toISOString(),
        };
      }),
    { validator: requireCancelArgs },
  );
  setHandler(
    defineUpdate<ClosePeriodReply, [ClosePeriodArgs]>(subscriptionUpdates.closePeriod),
    ({ periodId, reason = 'close_now' }) =>
      books.closePeriod.answer(async () => {
        const { periodSeq } = await queue.submit({ kind: 'closePeriod', periodId, reason });
        if (periodSeq === null) throw refusal('period_not_found', `no period ${periodId}`);
        return { closeWorkflowId: workflowIds.periodClose(subscriptionId, periodSeq), periodSeq };
      }),
  );
  setHandler(
    defineUpdate<SetOverageReply, [SetOverageArgs]>(subscriptionUpdates.setOverage),
    ({ enabled }) =>
      books.setOverage.answer(async () => {
        const done = await queue.submit({ kind: 'setOverage', enabled });
        const { effectiveAtMs } = await applied(done);
        return { effectiveAt: new Date(effectiveAtMs).toISOString() };
      }),
  );
}

/** Changes of plan: in force at the gateway when they are answered, or planned. */
function handlePlanChanges({ queue, books }: Handling): void {
  setHandler(
    defineUpdate<ChangePlanReply, [ChangePlanArgs]>(subscriptionUpdates.changePlan),
    ({ changeId, planVersionId, when }) =>
      books.changePlan.answer(async () => {
        const done = await queue.submit({ kind: 'changePlan', changeId, planVersionId, when });
        const { effectiveAtMs } = await applied(done);
        return { effectiveAt: new Date(effectiveAtMs).toISOString() };
      }),
    { validator: requireChangeArgs },
  );
  setHandler(
    defineUpdate<CancelPlanChangeReply, [CancelPlanChangeArgs]>(
      subscriptionUpdates.cancelPlanChange,
    ),
    ({ changeId }) =>
      books.cancelPlanChange.answer(async () => {
        await applied(await queue.submit({ kind: 'cancelPlanChange', changeId }));
        return { changeId };
      }),
  );
}

function requireChangeArgs({ when }: ChangePlanArgs): void {
  if (when !== 'now' && when !== 'period_end' && when !== 'default') {
    throw refusal('invalid_argument', 'when is now, period_end or default');
  }
}

function requireCancelArgs({ when }: CancelArgs): void {
  if (when !== 'now' && when !== 'period_end') {
    throw refusal('invalid_argument', 'when is now or period_end');
  }
}

function refusal(code: string, message: string): ApplicationFailure {
  return ApplicationFailure.nonRetryable(message, code);
}

/** Until the subscriber's shard enforces what the command changed. */
async function applied(
  done: Done,
): Promise<{ readonly view: SubscriptionView; readonly effectiveAtMs: number }> {
  const { subscriptionId, subscriberId, runtimeVersion, coreSeq } = done.view;
  return waiting('Wait until the gateway enforces it', '10m').awaitApplied({
    subscriptionId,
    subscriberId,
    runtimeVersion,
    coreSeq,
    atMs: done.effectiveAtMs,
  });
}

async function untilSomethingIsDue(run: Run, isAsked: () => boolean): Promise<void> {
  const wake = (): boolean => isAsked() || run.nudge.isSet;
  const next = nextAction(run);
  if (next === null) {
    await condition(wake);
    return;
  }
  const leftMs = next.atMs - Date.now();
  if (leftMs > 0) await condition(wake, leftMs, { summary: next.what });
}

type NextAction = { readonly atMs: number; readonly what: string };

/**
 * What has been seen to when its first period begins has nothing to wait for then: the update that asked for it waits on
 * its own, and two timers of one instant would only be in each other's way.
 */
function nextAction({ view, hasBegun }: Pick<Run, 'view' | 'hasBegun'>): NextAction | null {
  if (view.state === 'pending' || view.state === 'canceled') return null;
  const { cancelAtMs, current } = view;
  if (cancelAtMs !== null && (current === null || cancelAtMs <= current.endAtMs)) {
    return { atMs: cancelAtMs, what: `Ends at ${instantText(cancelAtMs)}` };
  }
  if (current === null) return null;
  if (!hasBegun && current.periodSeq === 0 && current.startAtMs > Date.now()) {
    return { atMs: current.startAtMs, what: `Begins at ${instantText(current.startAtMs)}` };
  }
  return {
    atMs: current.endAtMs,
    what: `Period ${current.periodSeq} ends at ${instantText(current.endAtMs)}`,
  };
}

function isDue(run: Run): boolean {
  const next = nextAction(run);
  return next !== null && next.atMs <= Date.now();
}

/** Runs one command and tells its caller. A refusal or a fault is the caller's; the subscription goes on. */
async function answerCommand(run: Run, { command, resolve, reject }: Waiting<Command, Done>) {
  try {
    resolve(await execute(run, command));
  } catch (error) {
    if (error instanceof ApplicationFailure) reject(error);
    else if (error instanceof ActivityFailure) reject(refusal('command_failed', reasonOf(error)));
    else throw error;
  }
}

async function execute(run: Run, command: Command): Promise<Done> {
  const result = await perform(run.view.subscriptionId, command);
  if (result.kind === 'refused') throw refusal(result.code, result.message);
  run.view = result.view;
  if (command.kind === 'activate') {
    run.hasBegun = result.effectiveAtMs - Date.now() <= START_AWAITED_MS;
  }
  return result;
}

function beginsNow({ view, hasBegun }: Run): boolean {
  if (hasBegun || view.state === 'pending' || view.state === 'canceled') return false;
  return view.current?.periodSeq === 0 && view.current.startAtMs <= Date.now();
}

/** The first period of a subscription that was made before its start begins: what is billed ahead is billed now. */
async function begin(run: Run): Promise<void> {
  const { subscriptionId } = run.view;
  const result = await run.desk.attend('Begin', () =>
    db('Begin the first period').activateSubscription({ subscriptionId, nowMs: Date.now() }),
  );
  run.hasBegun = true;
  if (result.kind === 'done') run.view = result.view;
}

async function perform(subscriptionId: string, command: Command): Promise<CommandResult> {
  const args = { subscriptionId, nowMs: Date.now() };
  switch (command.kind) {
    case 'activate':
      return db('Open the first periods').activateSubscription(args);
    case 'cancel': {
      const { when, prorate = false } = command;
      return db(`Cancel (${when})`).cancelSubscription({ ...args, when, prorate });
    }
    case 'closePeriod': {
      const { periodId, reason = 'close_now' } = command;
      return db(`Cut the period (${reason})`).closePeriodNow({ ...args, periodId, reason });
    }
    case 'changePlan': {
      const { changeId, planVersionId, when } = command;
      return db(`Change the plan (${when})`).changePlan({
        ...args,
        changeId,
        planVersionId,
        when,
      });
    }
    case 'cancelPlanChange':
      return db('Keep the plan').cancelPlanChange({ ...args, changeId: command.changeId });
    case 'setOverage':
      return db(`Overage ${command.enabled ? 'on' : 'off'}`).setOverage({
        ...args,
        enabled: command.enabled,
      });
    default:
      return command satisfies never;
  }
}

/** A boundary has passed, or several: the worker may have been away. */
async function roll(run: Run): Promise<void> {
  const { subscriptionId } = run.view;
  run.view = await run.desk.attend('Rollover', () =>
    db('Close the period, write the next interval ahead').rollSubscription({
      subscriptionId,
      nowMs: Date.now(),
    }),
  );
}

/** A collection has failed, or was settled after all: is the subscription in good standing? */
async function refresh(run: Run): Promise<void> {
  run.nudge.isSet = false;
  const { subscriptionId } = run.view;
  const result = await run.desk.attend('Standing', () =>
    db('Look at unpaid invoices').refreshStanding({ subscriptionId, nowMs: Date.now() }),
  );
  if (result.kind === 'done') run.view = result.view;
}

function attributesOf(run: Run): Attributes {
  const { view } = run;
  return {
    SubscriberId: view.subscriberId,
    SubscriptionId: view.subscriptionId,
    PlanId: view.planId,
    BillingState: view.state,
    NextActionAt: nextAction(run)?.atMs ?? null,
    ...(view.current === null ? {} : { PeriodSeq: view.current.periodSeq }),
  };
}

function show(run: Run): void {
  const { view, desk } = run;
  const next = nextAction(run);
  desk.tag(attributesOf(run));
  desk.head(`**${view.subscriberName}** · ${view.planName} · ${view.state}`);
  if (view.current !== null) {
    const { periodSeq, startAtMs, endAtMs } = view.current;
    desk.note(
      'Period',
      'runs',
      `${periodSeq}, ${instantText(startAtMs)} – ${instantText(endAtMs)}`,
    );
  }
  const closes = view.closing.map(({ periodSeq }) =>
    workflowIds.periodClose(view.subscriptionId, periodSeq),
  );
  if (closes.length > 0) desk.note('Closes', 'done', `${closes.join(', ')} started`);
  const { plannedChange } = view;
  if (plannedChange === null) desk.note('Plan', 'runs', view.planName);
  else {
    const { planName, atMs } = plannedChange;
    desk.note('Plan', 'waits', `${view.planName}, ${planName} from ${instantText(atMs)} on`);
  }
  desk.note('Next', 'waits', next?.what ?? 'nothing by itself');
}
