/**
 * A subscription takes another plan: now or at the end of its interval. Everything here runs under the lock of
 * `lockSubscription`, on periods that are up to date; the caller bumps the runtime version in the same transaction.
 */
import { haveSameCalendar } from '../billing/plan-change.ts';
import type { PlanDefinition } from '../billing/plan.ts';
import { lockAccountBalance } from './account-balance.ts';
import { draftPlanChange, type PlanChangeDraft } from './change-input.ts';
import type { Reader, Tx } from './db.ts';
import { creditDifference, type CreditDifference, settleDifference } from './difference-grants.ts';
import { findInvoice, type Invoice, invoiceKeys, issueSubscriptionInvoice } from './invoices.ts';
import {
  boundaryLeadMs,
  changeSegments,
  intervalFrom,
  listPeriods,
  nextChangeAt,
  type Period,
  restartIntervals,
  rewriteIntervals,
} from './periods.ts';
import { findPlanChange, findScheduledChange, type PlanChange } from './plan-change-reads.ts';
import { selectRow } from './query.ts';
import { changeSubscription, overageAfter, type Subscription } from './subscriptions.ts';

export type PlanChangeRequest = {
  /** `pch_…`, chosen by whoever asks: asking again under it answers what was done. */
  readonly changeId: string;
  readonly toVersionId: string;
  /** `default`: an upgrade now, a downgrade at the end of the interval. */
  readonly when: 'now' | 'period_end' | 'default';
};

export type PlanChangeResult =
  | {
      readonly kind: 'changed';
      readonly effectiveAt: Date;
      /** What the change invoiced at once. */
      readonly invoice: Invoice | null;
      /** What was worked out; null when the change was made before, under the same id. */
      readonly draft: PlanChangeDraft | null;
    }
  | { readonly kind: 'refused'; readonly code: PlanChangeRefusal; readonly message: string };
export type PlanChangeRefusal =
  | 'subscription_canceled'
  | 'subscription_not_active'
  | 'plan_not_found'
  | 'plan_not_published'
  | 'plan_archived'
  | 'product_differs'
  | 'currency_differs'
  | 'tax_inclusion_differs'
  | 'plan_unchanged'
  | 'credits_already_spent';

type Refused = Extract<PlanChangeResult, { kind: 'refused' }>;
type Target = { readonly id: string; readonly planId: string; readonly definition: PlanDefinition };
/** All that is decided before anything is written. */
type Decision = {
  readonly target: Target;
  readonly draft: PlanChangeDraft;
  readonly resetsInterval: boolean;
  /** The period that the change holds from, or ends with. */
  readonly period: Period;
  readonly difference: Extract<CreditDifference, { kind: 'ok' }>;
};

/**
 * Changes the plan, now or planned, and issues the invoice of the change in the same transaction. A change that was
 * planned before gives way to this one. A refusal has written nothing.
 */
export async function changePlan(
  tx: Tx,
  subscription: Subscription,
  request: PlanChangeRequest,
  now: Date,
): Promise<PlanChangeResult> {
  const known = await findPlanChange(tx, request.changeId);
  if (known !== null) {
    const invoice = await findInvoice(tx, invoiceKeys.change(known.id));
    return { kind: 'changed', effectiveAt: known.effectiveAt, invoice, draft: null };
  }
  const decision = await decide(tx, subscription, request, now);
  if ('kind' in decision) return decision;
  await cancelScheduledChange(tx, subscription, now);
  const change = { request, decision, now };
  const { draft } = decision;
  const invoice =
    draft.timing.kind === 'now'
      ? await changeNow(tx, subscription, change)
      : await schedule(tx, subscription, change);
  return { kind: 'changed', effectiveAt: draft.effectiveAt, invoice, draft };
}

async function decide(
  tx: Tx,
  subscription: Subscription,
  request: PlanChangeRequest,
  now: Date,
): Promise<Decision | Refused> {
  const blocked = refusalOf(subscription);
  if (blocked !== null) return blocked;
  const target = await readTarget(tx, subscription, request.toVersionId);
  if ('kind' in target) return target;
  const place = await findPlace(tx, subscription, now);
  if ('kind' in place) return place;
  // Before the draft reads the balance, so that no other invoice applies the same money.
  await lockAccountBalance(tx, subscription);
  const draft = await draftPlanChange(tx, subscription, {
    toVersionId: target.id,
    at: place.isBoundary ? now : place.at,
    // A change that can only begin with the next interval is one at the end of this one.
    timing: place.isBoundary ? 'period_end' : request.when,
  });
  const isNow = draft.timing.kind === 'now';
  const resetsInterval = !haveSameCalendar(subscription.definition, target.definition);
  const { intervalIndex } = place.period;
  const difference: CreditDifference =
    isNow && !resetsInterval
      ? await creditDifference(tx, subscription, { intervalIndex, next: target.definition })
      : { kind: 'ok', withdrawn: [], granted: null };
  if (difference.kind === 'already_spent') {
    return refused(
      'credits_already_spent',
      `${difference.message}. Ask for the change at the end of the period (when: period_end).`,
    );
  }
  return { target, draft, resetsInterval, period: place.period, difference };
}

function refused(code: PlanChangeRefusal, message: string): Refused {
  return { kind: 'refused', code, message };
}

function refusalOf({ id, state, cancelAt }: Subscription): Refused | null {
  if (state === 'canceled') {
    return refused(
      'subscription_canceled',
      `Subscription ${id} is canceled. Start another one with the plan that is wanted.`,
    );
  }
  if (state === 'pending') {
    return refused(
      'subscription_not_active',
      `Subscription ${id} is not active yet. Change its plan when it is.`,
    );
  }
  if (cancelAt === null) return null;
  return refused(
    'subscription_not_active',
    `Subscription ${id} ends at ${cancelAt.toISOString()}. Start another one then, with the plan that is wanted.`,
  );
}

type TargetRow = Target & {
  readonly productId: string;
  readonly environment: string;
  readonly state: 'draft' | 'published' | 'archived';
  readonly planArchivedAt: Date | null;
  readonly currency: string;
  readonly name: string;
  readonly version: number;
};

async function readTarget(
  db: Reader,
  subscription: Subscription,
  versionId: string,
): Promise<Target | Refused> {
  const row = await selectRow<TargetRow>(
    db,
    `SELECT v.id, v.plan_id AS "planId", v.definition, v.state, v.currency, v.version, p.name,
            p.product_id AS "productId", p.environment, p.archived_at AS "planArchivedAt"
     FROM plan_versions v JOIN plans p ON p.id = v.plan_id WHERE v.id = ?`,
    [versionId],
  );
  if (row === null || row.environment !== subscription.environment) {
    return refused('plan_not_found', `There is no plan version ${versionId}.`);
  }
  const name = `Version ${row.version} of ${row.name}`;
  if (row.id === subscription.planVersionId) {
    return refused(
      'plan_unchanged',
      `${name} is what the subscription has. To keep it in spite of a planned change, delete the planned change.`,
    );
  }
  if (row.productId !== subscription.productId) {
    return refused(
      'product_differs',
      `${name} is a plan of another product. Start a subscription to it beside this one.`,
    );
  }
  if (row.state === 'draft' || row.definition === null) {
    return refused('plan_not_published', `${name} is a draft. Publish it first.`);
  }
  if (row.planArchivedAt !== null) {
    return refused('plan_archived', `The plan ${row.name} is archived. Choose another plan.`);
  }
  if (row.state === 'archived') {
    return refused('plan_archived', `${name} is archived. Choose a version that is published.`);
  }
  if (row.currency !== subscription.currency) {
    return refused(
      'currency_differs',
      `${name} is in ${row.currency}, the subscription in ${subscription.currency}. Cancel it and start another one.`,
    );
  }
  // An invoice has both plans' fees on it, and its prices hold the tax or they do not.
  const isHeld = row.definition.prices_include_tax === true;
  if (isHeld !== (subscription.definition.prices_include_tax === true)) {
    return refused(
      'tax_inclusion_differs',
      `The prices of ${name} ${isHeld ? 'hold' : 'do not hold'} the tax, those of the subscription ${isHeld ? 'do not' : 'do'}. Publish a version that is priced alike, or cancel and start another subscription.`,
    );
  }
  return { id: row.id, planId: row.planId, definition: row.definition };
}

type Place = {
  readonly at: Date;
  /** Whether `at` is where the next interval begins. */
  readonly isBoundary: boolean;
  readonly period: Period;
};

/** From when a change can hold, and in which period it is asked for. */
async function findPlace(tx: Tx, subscription: Subscription, now: Date): Promise<Place | Refused> {
  const periods = await listPeriods(tx, subscription.id);
  const first = periods[0];
  const lead = new Date(now.getTime() + boundaryLeadMs);
  if (first === undefined || first.startAt > lead) {
    const begins =
      first === undefined ? 'has no period' : `begins at ${first.startAt.toISOString()}`;
    return refused(
      'subscription_not_active',
      `Subscription ${subscription.id} ${begins}. Change its plan then.`,
    );
  }
  const at = await nextChangeAt(tx, subscription.id, lead);
  const running = periods.find(({ endAt }) => endAt > now) ?? first;
  if (at >= running.intervalEndAt) return { at, period: running, isBoundary: true };
  // A change of a moment ago may have cut it at this very instant.
  const period = periods.find(({ startAt, endAt }) => startAt <= at && at < endAt) ?? running;
  return { at, period, isBoundary: false };
}

type Change = {
  readonly request: PlanChangeRequest;
  readonly decision: Decision;
  readonly now: Date;
};

async function schedule(
  tx: Tx,
  subscription: Subscription,
  { request, decision, now }: Change,
): Promise<null> {
  await insertChange(tx, subscription, { request, decision });
  await rewriteIntervals(tx, subscription, {
    fromIndex: await intervalFrom(tx, subscription.id, decision.draft.effectiveAt),
    key: request.changeId,
    now,
    isOtherCalendar: decision.resetsInterval,
  });
  return null;
}

async function changeNow(
  tx: Tx,
  subscription: Subscription,
  change: Change,
): Promise<Invoice | null> {
  const { request, decision } = change;
  const { draft, resetsInterval } = decision;
  await insertChange(tx, subscription, { request, decision });
  const changed = await takePlan(tx, subscription, {
    target: decision.target,
    reset: resetsInterval
      ? { anchorAt: draft.effectiveAt, intervalBase: decision.period.intervalIndex + 1 }
      : null,
  });
  await (resetsInterval ? beginInterval(tx, changed, change) : goOn(tx, changed, change));
  if (draft.invoice === null) return null;
  return issueSubscriptionInvoice(tx, {
    subscription: changed,
    period: null,
    kind: 'change',
    businessKey: invoiceKeys.change(request.changeId),
    intervalIndex: decision.period.intervalIndex + (resetsInterval ? 1 : 0),
    draft: draft.invoice,
    at: change.now,
  });
}

/** The interval ends here and one of another length begins. */
async function beginInterval(tx: Tx, changed: Subscription, change: Change): Promise<void> {
  await restartIntervals(tx, changed, {
    at: change.decision.draft.effectiveAt,
    now: change.now,
    key: change.request.changeId,
  });
}

/** The interval goes on under the new plan; so do those after it. */
async function goOn(tx: Tx, changed: Subscription, change: Change): Promise<void> {
  const { decision, now, request } = change;
  const { changeId } = request;
  const { difference, period } = decision;
  await settleDifference(tx, changed, { difference, period, changeId });
  await rewriteIntervals(tx, changed, {
    fromIndex: period.intervalIndex + 1,
    key: changeId,
    now,
    isOtherCalendar: false,
  });
  await changeSegments(tx, changed, {
    at: new Date(now.getTime() + boundaryLeadMs),
    overage: changed.overageEnabled,
    status: changed.state === 'past_due' ? 'past_due' : 'active',
  });
}

async function takePlan(
  tx: Tx,
  subscription: Subscription,
  to: {
    readonly target: Target;
    readonly reset: { readonly anchorAt: Date; readonly intervalBase: number } | null;
  },
): Promise<Subscription> {
  return changeSubscription(tx, subscription, {
    kind: 'plan_changed',
    planId: to.target.planId,
    planVersionId: to.target.id,
    definition: to.target.definition,
    overageEnabled: overageAfter(subscription, to.target.definition),
    reset: to.reset,
  });
}

async function insertChange(
  tx: Tx,
  subscription: Subscription,
  { request, decision }: Pick<Change, 'request' | 'decision'>,
): Promise<void> {
  const { draft, target, resetsInterval } = decision;
  await tx('plan_changes').insert({
    id: request.changeId,
    environment: subscription.environment,
    subscription_id: subscription.id,
    from_version_id: subscription.planVersionId,
    to_version_id: target.id,
    timing: draft.timing.kind,
    resets_interval: resetsInterval,
    effective_at: draft.effectiveAt,
    state: draft.timing.kind === 'now' ? 'applied' : 'scheduled',
  });
}

/** Takes back a change that is planned; the intervals ahead get the subscription's own terms again. Null: none was. */
export async function cancelScheduledChange(
  tx: Tx,
  subscription: Subscription,
  now: Date,
): Promise<PlanChange | null> {
  const change = await findScheduledChange(tx, subscription.id);
  if (change === null) return null;
  const fromIndex = await intervalFrom(tx, subscription.id, change.effectiveAt);
  await setState(tx, change.id, 'canceled');
  await rewriteIntervals(tx, subscription, {
    fromIndex,
    key: `${change.id}:undone`,
    now,
    isOtherCalendar: change.resetsInterval,
  });
  return change;
}

/** A planned change whose day has come: from here on the subscription has the new plan, as its intervals do already. */
export async function applyScheduledChange(
  tx: Tx,
  subscription: Subscription,
  now: Date,
): Promise<Subscription> {
  const change = await findScheduledChange(tx, subscription.id);
  if (change === null || change.effectiveAt > now) return subscription;
  const { effectiveAt, resetsInterval } = change;
  const intervalBase = await intervalFrom(tx, subscription.id, effectiveAt);
  await setState(tx, change.id, 'applied');
  return takePlan(tx, subscription, {
    target: { id: change.toVersionId, planId: change.toPlanId, definition: change.definition },
    reset: resetsInterval ? { anchorAt: effectiveAt, intervalBase } : null,
  });
}

async function setState(tx: Tx, changeId: string, state: 'applied' | 'canceled'): Promise<void> {
  await tx.raw('UPDATE plan_changes SET state = ? WHERE id = ?', [state, changeId]);
}
