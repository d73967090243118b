/**
 * Every Redis key of a shard, one function or constant a format. The braces are the hash tag: all that one decision
 * needs lies under one subscriber.
 */

/** All that stays of an idle subscriber: constraints, counters, buckets, API keys. */
export function stateKey(subscriberId: string): string {
  return `{${subscriberId}}:s`;
}

/** Operations of the even and the odd five minutes: open holds and tombstones. */
export function operationsKey(subscriberId: string, parity: 0 | 1): string {
  return `{${subscriberId}}:d${parity}`;
}

/** Hash: slot → epoch. A slot that is absent is not served. */
export const epochsKey = 'tb:e';
/** Sorted set: what falls due (holds, expiring buckets) by epoch millisecond. */
export const dueKey = 'tb:x';
/** Stream of facts, one field `f` an entry (`billing/usage-fact.ts`). */
export const factsKey = 'tb:u';
/** String: the slot map in JSON. */
export const mapKey = 'tb:map';
/** String: the catalogue in JSON. */
export const catalogueKey = 'tb:cat';
/** Hash: shard name → `<incarnation>:<stream id>`, all facts up to which Postgres has committed. */
export const watermarkKey = 'tb:wm';
/** String: `<shard name>:<incarnation>`, whose data this is. */
export const identityKey = 'tb:id';
