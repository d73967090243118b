/**
 * The facts that a shard's scripts append to its stream, one text field each, and their readers.
 * The format is written in Lua (`shards/scripts`) and read here; both are held to the same examples by
 * `test/shards/facts.test.ts`. Fields are separated by `|`, list items by `,`, pairs by `:`.
 *
 *   u|op_id|subscriber|subscription|segment|at_ms|product|key|status|meter:quantity,…|bucket:micro,…|overage|written_off|flags
 *   s|subscriber|period|at_ms                      sealed: no usage of this period can follow but as `late`
 *   e|subscriber|bucket|micro|at_ms                expired credits
 *   d|subscriber|core_seq|bucket|taken|at_ms       what a void or debit of the core log really took
 *   l|subscriber|available|at_ms                   balance_low: the edge below the threshold
 */
export type UsageFact = {
  readonly kind: 'usage';
  readonly opId: string;
  readonly subscriberId: string;
  readonly subscriptionId: string;
  /** Empty when the shard could not say (an `unheld` or external event of an earlier segment): Postgres finds it by `atMs`. */
  readonly segmentId: string;
  readonly atMs: number;
  readonly productId: string;
  readonly keyId: string;
  readonly status: number;
  readonly quantities: readonly { readonly meter: string; readonly quantity: number }[];
  readonly takes: readonly { readonly bucketId: string; readonly micro: number }[];
  readonly overageMicro: number;
  readonly writtenOffMicro: number;
  /** `late`, `unheld`, `estimated`, `external`, `over_limit`, `slice`. */
  readonly flags: readonly string[];
};
export type SealFact = {
  readonly kind: 'seal';
  readonly subscriberId: string;
  readonly periodId: string;
  readonly atMs: number;
};
export type ExpiredFact = {
  readonly kind: 'expired';
  readonly subscriberId: string;
  readonly bucketId: string;
  readonly micro: number;
  readonly atMs: number;
};
export type DebitFact = {
  readonly kind: 'debit';
  readonly subscriberId: string;
  readonly coreSeq: number;
  readonly bucketId: string;
  readonly takenMicro: number;
  readonly atMs: number;
};
export type LowFact = {
  readonly kind: 'low';
  readonly subscriberId: string;
  readonly availableMicro: number;
  readonly atMs: number;
};
export type StreamFact = UsageFact | SealFact | ExpiredFact | DebitFact | LowFact;
