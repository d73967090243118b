import type { Tx } from './db.ts';
import { rollPeriods } from './periods.ts';
import { applyScheduledChange } from './plan-changes.ts';
import { bumpRuntime } from './projection.ts';
import { changeSubscription, type Subscription } from './subscriptions.ts';

/**
 * Brings a locked subscription up to `now`, as everything that is decided about it needs it: a planned change whose day
 * has come holds, periods that are over are closing, intervals are written ahead, a subscription that has ended is over.
 */
export async function bringUpToDate(
  tx: Tx,
  subscription: Subscription,
  now: Date,
): Promise<Subscription> {
  if (subscription.state === 'pending') return subscription;
  const current = await applyScheduledChange(tx, subscription, now);
  const { changed } = await rollPeriods(tx, current, now);
  const { cancelAt, state } = current;
  const isOver = state !== 'canceled' && cancelAt !== null && cancelAt <= now;
  if (changed || isOver) await bumpRuntime(tx, current.subscriberId);
  return isOver ? changeSubscription(tx, current, { kind: 'ended', at: cancelAt }) : current;
}
