import { ApplicationFailure } from '@temporalio/common';

import { overagePrice } from '../billing/line.ts';
import { inTransaction, type Tx } from '../store/db.ts';
import { invoiceAdvanceFees } from '../store/fees-ahead.ts';
import { findInvoice, hasFailedInvoice, type Invoice, invoiceKeys } from '../store/invoices.ts';
import {
  beginClosing,
  boundaryLeadMs,
  changeSegments,
  cutPeriod,
  endPeriods,
  findPeriod,
  listPeriods,
  openPeriods,
  type Period,
} from '../store/periods.ts';
import { findPlanChange, hasChangedPlan } from '../store/plan-change-reads.ts';
import {
  cancelScheduledChange,
  changePlan,
  type PlanChangeRefusal,
} from '../store/plan-changes.ts';
import { bumpRuntime } from '../store/projection.ts';
import { bringUpToDate } from '../store/subscription-roll.ts';
import {
  readSegmentStart,
  readSubscriptionView,
  type SubscriptionView,
} from '../store/subscription-view.ts';
import { changeSubscription, lockSubscription, type Subscription } from '../store/subscriptions.ts';
import { creditUnusedFees } from '../store/unused-fees.ts';
import { startCollection } from './close.ts';
import type { ActivityDeps } from './ports.ts';

export type { SubscriptionView } from '../store/subscription-view.ts';

/** What became of a command. A refusal changed nothing. */
export type CommandResult =
  | {
      readonly kind: 'done';
      readonly view: SubscriptionView;
      readonly effectiveAtMs: number;
      /** The period that the command was about, if it was about one. */
      readonly periodSeq: number | null;
    }
  | { readonly kind: 'refused'; readonly code: RefusalCode; readonly message: string };
export type RefusalCode =
  | 'subscription_canceled'
  | 'subscription_not_active'
  | 'period_not_found'
  | 'period_not_open'
  | 'overage_not_in_plan'
  | 'no_planned_change'
  | PlanChangeRefusal;

/** `nowMs` is the workflow's time: a repetition of the activity means the same instant. */
type Command = { readonly subscriptionId: string; readonly nowMs: number };

/** A first period that begins this soon has begun as far as money goes. */
const START_SOON_MS = 5000;
/** How long one attempt waits for the shard; the next attempt follows at once. */
const APPLIED_WAIT_MS = 5000;

type Done = {
  readonly effectiveAtMs: number;
  readonly periodSeq?: number;
  /** What the command issued; it is collected when something is due. */
  readonly invoice?: Invoice | null;
};
type Refused = Extract<CommandResult, { kind: 'refused' }>;

/**
 * The commands of a subscription. Each is one transaction under the lock of the subscription's row, brings the periods up
 * to date before it decides, and can be repeated: what is so already is left as it is.
 */
export function subscriptionActivities(deps: ActivityDeps) {
  return { ...commandActivities(deps), ...subscriptionSteps(deps) };
}

function commandActivities(deps: ActivityDeps) {
  const command = async (
    { subscriptionId, nowMs }: Command,
    run: (tx: Tx, subscription: Subscription, now: Date) => Promise<Done | Refused>,
  ): Promise<CommandResult> => {
    const answer = await inTransaction(deps.db, async (tx) => {
      const now = new Date(nowMs);
      const subscription = await bringUpToDate(tx, await lockSubscription(tx, subscriptionId), now);
      const done = await run(tx, subscription, now);
      return { done, view: await readSubscriptionView(tx, subscriptionId) };
    });
    const { done, view } = answer;
    await startCloses(deps, view);
    if ('kind' in done) return done;
    const { effectiveAtMs, periodSeq = null, invoice } = done;
    if (invoice?.state === 'open') await startCollection(deps, invoice);
    return { kind: 'done', view, effectiveAtMs, periodSeq };
  };

  return {
    rollSubscription: async (args: Command): Promise<SubscriptionView> => {
      const rolled = await command(args, (_tx, _subscription, now) =>
        Promise.resolve({ effectiveAtMs: now.getTime() }),
      );
      if (rolled.kind === 'refused') throw new Error(rolled.message);
      return rolled.view;
    },
    activateSubscription: (args: Command): Promise<CommandResult> => command(args, activate),
    cancelSubscription: (
      args: Command & { readonly when: 'now' | 'period_end'; readonly prorate?: boolean },
    ): Promise<CommandResult> =>
      command(args, (tx, subscription, now) =>
        cancel(tx, subscription, { now, when: args.when, prorate: args.prorate ?? false }),
      ),
    closePeriodNow: (
      args: Command & { readonly periodId: string; readonly reason?: 'close_now' | 'threshold' },
    ): Promise<CommandResult> =>
      command(args, (tx, subscription, now) =>
        closeNow(tx, subscription, {
          now,
          periodId: args.periodId,
          reason: args.reason ?? 'close_now',
        }),
      ),
    /** `changeId` makes a repetition of it harmless: it answers what the first one did. */
    changePlan: (
      args: Command & {
        readonly changeId: string;
        readonly planVersionId: string;
        readonly when: 'now' | 'period_end' | 'default';
      },
    ): Promise<CommandResult> =>
      command(args, (tx, subscription, now) => takePlan(tx, subscription, { ...args, now })),
    /** Takes back the change of plan that waits for its day. */
    cancelPlanChange: (args: Command & { readonly changeId: string }): Promise<CommandResult> =>
      command(args, (tx, subscription, now) =>
        keepPlan(tx, subscription, { now, changeId: args.changeId }),
      ),
    setOverage: (args: Command & { readonly enabled: boolean }): Promise<CommandResult> =>
      command(args, (tx, subscription, now) =>
        setOverage(tx, subscription, { now, enabled: args.enabled }),
      ),
    /** Past due as long as the collection of an invoice of the subscription has failed. */
    refreshStanding: (args: Command): Promise<CommandResult> => command(args, refreshStanding),
  };
}

function subscriptionSteps(deps: ActivityDeps) {
  return {
    loadSubscription: ({ subscriptionId }: { subscriptionId: string }): Promise<SubscriptionView> =>
      readSubscriptionView(deps.db, subscriptionId),
    /** Answers when the shard knows; throws `not_applied` to be tried again. */
    awaitApplied: async (args: {
      readonly subscriptionId: string;
      readonly subscriberId: string;
      readonly runtimeVersion: number;
      readonly coreSeq: number;
      readonly atMs: number;
    }): Promise<{ readonly view: SubscriptionView; readonly effectiveAtMs: number }> => {
      const wanted = { version: BigInt(args.runtimeVersion), coreSeq: BigInt(args.coreSeq) };
      const options = { timeoutMs: APPLIED_WAIT_MS };
      if (!(await deps.waitForApplied(args.subscriberId, wanted, options))) {
        throw ApplicationFailure.retryable(
          `the shard of ${args.subscriberId} has not applied version ${args.runtimeVersion} yet`,
          'not_applied',
        );
      }
      const at = new Date(args.atMs);
      const moved = await readSegmentStart(deps.db, args.subscriptionId, at);
      return {
        view: await readSubscriptionView(deps.db, args.subscriptionId),
        effectiveAtMs: (moved ?? at).getTime(),
      };
    },
  };
}

/** Periods that are over get their close, which goes on by itself; what was started before is left as it is. */
async function startCloses(deps: ActivityDeps, view: SubscriptionView): Promise<void> {
  const { subscriptionId, subscriberId, subscriberName, planId } = view;
  for (const { periodId, periodSeq } of view.closing) {
    await deps.startWorkflow({
      kind: 'periodClose',
      ...{ subscriptionId, periodId, periodSeq, subscriberId, planId },
      summary: { subscriberName, periodSeq },
    });
  }
}

async function activate(tx: Tx, subscription: Subscription, now: Date): Promise<Done | Refused> {
  if (subscription.state === 'canceled') return isCanceled(subscription);
  if (subscription.state !== 'pending') return begin(tx, subscription, now);
  const started = await changeSubscription(tx, subscription, { kind: 'started', at: now });
  const period = await openPeriods(tx, started, now);
  await bumpRuntime(tx, subscription.subscriberId);
  const invoice = await invoiceFirstFees(tx, started, { period, now });
  return { effectiveAtMs: period.startAt.getTime(), invoice };
}

/** Asked again, or because the first period of a subscription that was to start later begins now. */
async function begin(tx: Tx, subscription: Subscription, now: Date): Promise<Done> {
  const current = await currentPeriod(tx, subscription);
  const [first] = await listPeriods(tx, subscription.id);
  const effectiveAtMs = (current?.startAt ?? now).getTime();
  if (first === undefined) return { effectiveAtMs };
  // Also when the workers were away for all of the first period: nothing else bills its fees in advance.
  const isAsBegun = !(await hasChangedPlan(tx, subscription.id));
  // The first attempt may have issued it and died before its collection was started.
  const invoice =
    (await findInvoice(tx, invoiceKeys.advance(subscription.id, first.intervalIndex))) ??
    (isAsBegun ? await invoiceFirstFees(tx, subscription, { period: first, now }) : null);
  return { effectiveAtMs, invoice };
}

/** Fees in advance are billed when the time that they are for begins, however early the subscription is made. */
async function invoiceFirstFees(
  tx: Tx,
  subscription: Subscription,
  { period, now }: { readonly period: Period; readonly now: Date },
): Promise<Invoice | null> {
  if (period.startAt.getTime() - now.getTime() > START_SOON_MS) return null;
  return invoiceAdvanceFees(tx, subscription, { period, now });
}

async function takePlan(
  tx: Tx,
  subscription: Subscription,
  args: PlanChangeRequestOf & { readonly now: Date },
): Promise<Done | Refused> {
  const request = { changeId: args.changeId, toVersionId: args.planVersionId, when: args.when };
  const result = await changePlan(tx, subscription, request, args.now);
  if (result.kind === 'refused') return result;
  await bumpRuntime(tx, subscription.subscriberId);
  return { effectiveAtMs: result.effectiveAt.getTime(), invoice: result.invoice };
}

type PlanChangeRequestOf = {
  readonly changeId: string;
  readonly planVersionId: string;
  readonly when: 'now' | 'period_end' | 'default';
};

async function keepPlan(
  tx: Tx,
  subscription: Subscription,
  { now, changeId }: { readonly now: Date; readonly changeId: string },
): Promise<Done | Refused> {
  const known = await findPlanChange(tx, changeId);
  if (known?.subscriptionId !== subscription.id || known.state === 'applied') {
    const message = `subscription ${subscription.id} has no planned change of plan`;
    return { kind: 'refused', code: 'no_planned_change', message };
  }
  if (known.state === 'canceled') return { effectiveAtMs: now.getTime() };
  await cancelScheduledChange(tx, subscription, now);
  await bumpRuntime(tx, subscription.subscriberId);
  return { effectiveAtMs: now.getTime() };
}

function isCanceled(subscription: Subscription): Refused {
  return {
    kind: 'refused',
    code: 'subscription_canceled',
    message: `subscription ${subscription.id} is canceled`,
  };
}

async function cancel(
  tx: Tx,
  subscription: Subscription,
  {
    now,
    when,
    prorate,
  }: { readonly now: Date; readonly when: 'now' | 'period_end'; readonly prorate: boolean },
): Promise<Done | Refused> {
  const { endedAt, cancelAt, state } = subscription;
  if (state === 'canceled') return { effectiveAtMs: (endedAt ?? now).getTime() };
  const current = await currentPeriod(tx, subscription);
  const [first] = await listPeriods(tx, subscription.id);
  if (current === null || first === undefined || first.startAt > now) {
    // Nothing has begun, so there is nothing to bill.
    await cancelScheduledChange(tx, subscription, now);
    await endPeriods(tx, subscription, first?.startAt ?? now);
    await changeSubscription(tx, subscription, { kind: 'ended', at: now });
    await bumpRuntime(tx, subscription.subscriberId);
    return { effectiveAtMs: now.getTime() };
  }
  const at = when === 'now' ? soonestCut(current, now) : current.endAt;
  if (cancelAt !== null && cancelAt <= at) return { effectiveAtMs: cancelAt.getTime() };
  await cancelScheduledChange(tx, subscription, now);
  await endPeriods(tx, subscription, at);
  const ending = await changeSubscription(tx, subscription, {
    kind: 'cancel_planned',
    at,
    prorate,
  });
  if (prorate) await creditUnusedFees(tx, ending, { at, now });
  await bumpRuntime(tx, subscription.subscriberId);
  return { effectiveAtMs: at.getTime() };
}

/** In two seconds, but within the period: it may have been cut a moment ago, or end by itself. */
function soonestCut(current: Period, now: Date): Date {
  const cutMs = Math.max(now.getTime() + boundaryLeadMs, current.startAt.getTime());
  return new Date(Math.min(cutMs, current.endAt.getTime()));
}

async function currentPeriod(tx: Tx, subscription: Subscription): Promise<Period | null> {
  const { current } = await readSubscriptionView(tx, subscription.id);
  return current === null ? null : findPeriod(tx, subscription.id, current.periodId);
}

/** Ends the period in two seconds and hands it to its close; the rest of its interval becomes the next period. */
async function closeNow(
  tx: Tx,
  subscription: Subscription,
  {
    now,
    periodId,
    reason,
  }: {
    readonly now: Date;
    readonly periodId: string;
    readonly reason: 'close_now' | 'threshold';
  },
): Promise<Done | Refused> {
  const period = await findPeriod(tx, subscription.id, periodId);
  if (period === null || period.state === 'void') {
    const message = `subscription ${subscription.id} has no period ${periodId}`;
    return { kind: 'refused', code: 'period_not_found', message };
  }
  if (period.state === 'closing' || period.state === 'closed') {
    return { effectiveAtMs: period.endAt.getTime(), periodSeq: period.seq };
  }
  const cut = new Date(now.getTime() + boundaryLeadMs);
  if (period.state === 'scheduled' || period.startAt >= cut) {
    const message = `period ${periodId} begins at ${period.startAt.toISOString()}`;
    return { kind: 'refused', code: 'period_not_open', message };
  }
  // It ends by itself before it could be cut.
  if (period.endAt <= cut) return { effectiveAtMs: period.endAt.getTime(), periodSeq: period.seq };
  await cutPeriod(tx, period, { at: cut, reason });
  await beginClosing(tx, period);
  await bumpRuntime(tx, subscription.subscriberId);
  return { effectiveAtMs: cut.getTime(), periodSeq: period.seq };
}

async function setOverage(
  tx: Tx,
  subscription: Subscription,
  { now, enabled }: { readonly now: Date; readonly enabled: boolean },
): Promise<Done | Refused> {
  if (subscription.state === 'canceled') return isCanceled(subscription);
  const terms = subscription.definition.credits;
  if (enabled && (terms === null || overagePrice(terms) === null)) {
    const message = `the plan of ${subscription.id} has no price for usage past its credits`;
    return { kind: 'refused', code: 'overage_not_in_plan', message };
  }
  if (subscription.overageEnabled === enabled) return { effectiveAtMs: now.getTime() };
  const changed = await changeSubscription(tx, subscription, { kind: 'overage_set', enabled });
  return writeSegments(tx, changed, now);
}

async function writeSegments(tx: Tx, subscription: Subscription, now: Date): Promise<Done> {
  const at = await changeSegments(tx, subscription, {
    at: new Date(now.getTime() + boundaryLeadMs),
    overage: subscription.overageEnabled,
    status: subscription.state === 'past_due' ? 'past_due' : 'active',
  });
  await bumpRuntime(tx, subscription.subscriberId);
  return { effectiveAtMs: at.getTime() };
}

async function refreshStanding(
  tx: Tx,
  subscription: Subscription,
  now: Date,
): Promise<Done | Refused> {
  const { state } = subscription;
  if (state === 'canceled' || state === 'pending') return { effectiveAtMs: now.getTime() };
  const wanted = (await hasFailedInvoice(tx, subscription.id)) ? 'past_due' : 'active';
  if (wanted === state) return { effectiveAtMs: now.getTime() };
  const changed = await changeSubscription(tx, subscription, {
    kind: 'standing_set',
    state: wanted,
  });
  return writeSegments(tx, changed, now);
}
