import { closeActivities } from './close.ts';
import { collectionActivities } from './collection.ts';
import { paymentActivities, providerActivities } from './payment.ts';
import type { ActivityDeps } from './ports.ts';
import { refundActivities, refundProviderActivities } from './refund.ts';
import { subscriptionActivities } from './subscription.ts';
import { takeBackActivities } from './take-back.ts';
import { topUpActivities } from './top-up.ts';

/** The activities of queue `billing-db`. */
export function makeDbActivities(deps: ActivityDeps) {
  return {
    ...subscriptionActivities(deps),
    ...closeActivities(deps),
    ...collectionActivities(deps),
    ...paymentActivities(deps),
    ...refundActivities(deps),
    ...takeBackActivities(deps),
    ...topUpActivities(deps),
  };
}
export type DbActivities = ReturnType<typeof makeDbActivities>;

/** The activities of queue `billing-psp`. */
export function makeProviderActivities(deps: Pick<ActivityDeps, 'db' | 'payments'>) {
  return { ...providerActivities(deps), ...refundProviderActivities(deps) };
}
export type ProviderActivities = ReturnType<typeof makeProviderActivities>;
