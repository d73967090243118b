import { holdTtlMs } from './limits.ts';
import type { Arrival, Caller, Hold, Target } from './exchange.ts';
import type { FailedGuesses } from './failed-guesses.ts';
import type { Refusal } from './refusal.ts';
import type { AuthorizeResult, ShardRefusal, Shards } from '../shards/port.ts';
import { ShardUnavailable } from '../shards/port.ts';

export type Admission =
  | { readonly kind: 'ok'; readonly hold: Hold }
  | Refusal
  /** Nobody could decide: 503, never forwarded. `isOutcomeKnown` false: the hold may exist and must be released. */
  | {
      readonly kind: 'undecided';
      readonly shard: string;
      readonly isOutcomeKnown: boolean;
      readonly cause: unknown;
    };

/** Asks the subscriber's shard, in one script, whether the request may pass, and holds what it may cost. */
export async function admit(
  arrival: Arrival,
  caller: Caller,
  target: Target,
  deps: {
    readonly fleet: { readonly shards: Pick<Shards, 'authorize'> };
    readonly guesses: FailedGuesses;
    /** How long a decision may take. */
    readonly decisionMs: number;
  },
): Promise<Admission> {
  try {
    const result = await inTime(
      deps.fleet.shards.authorize({
        subscriberId: caller.subscriberId,
        opId: arrival.opId,
        digest16: caller.digest16,
        productId: target.product.id,
        feature: target.feature,
        ttlMs: holdTtlMs,
        estimates: target.estimates,
      }),
      deps.decisionMs,
    );
    if (result.kind === 'refused') {
      if (result.refusal.code === 'invalid_credential') {
        deps.guesses.failed(arrival.address, caller.digest16);
      }
      return refusalOf(result.refusal);
    }
    deps.guesses.accepted(caller.digest16);
    // Named one by one: a spread of the result costs a microsecond.
    return {
      kind: 'ok',
      hold: {
        subscriptionId: result.subscriptionId,
        segmentId: result.segmentId,
        keyId: result.keyId,
        atMs: result.atMs,
        generation: result.generation,
        heldMicro: result.heldMicro,
        overageMicro: result.overageMicro,
        availableMicro: result.availableMicro,
        windows: result.windows,
        subscriberId: caller.subscriberId,
        productId: target.product.id,
        opId: arrival.opId,
        estimates: target.estimates,
      },
    };
  } catch (error) {
    if (error instanceof ShardUnavailable) {
      const { shard, outcome } = error;
      return { kind: 'undecided', shard, isOutcomeKnown: outcome === 'not_sent', cause: error };
    }
    // Not a word of the port: a fault of ours or an answer that cannot be read. It is not forwarded either.
    return { kind: 'undecided', shard: 'unknown', isOutcomeKnown: false, cause: error };
  }
}

/**
 * The shard client has its own timeouts; this one also covers its waits for a connection and a newer map. One clock serves
 * all requests: a timer of its own would cost each of them more than anything else here.
 */
function inTime(deciding: Promise<AuthorizeResult>, decisionMs: number): Promise<AuthorizeResult> {
  return new Promise((resolve, reject) => {
    const waiting: Waiting = {
      endMs: performance.now() + decisionMs,
      isOver: false,
      giveUp: () => {
        reject(new ShardUnavailable('?', 'unknown', 'no decision in time'));
      },
    };
    expectBy(waiting);
    deciding.then(
      (result) => {
        waiting.isOver = true;
        resolve(result);
      },
      (error: unknown) => {
        waiting.isOver = true;
        reject(error instanceof Error ? error : new Error('the shard failed', { cause: error }));
      },
    );
  });
}

type Waiting = { readonly endMs: number; isOver: boolean; readonly giveUp: () => void };
const clockEveryMs = 10;
let queue: Waiting[] = [];
let clock: NodeJS.Timeout | null = null;

function expectBy(waiting: Waiting): void {
  queue.push(waiting);
  clock ??= setInterval(tick, clockEveryMs);
}

function tick(): void {
  const nowMs = performance.now();
  for (const waiting of queue) {
    if (!waiting.isOver && waiting.endMs <= nowMs) {
      waiting.isOver = true;
      waiting.giveUp();
    }
  }
  queue = queue.filter(({ isOver }) => !isOver);
  if (queue.length > 0 || clock === null) return;
  clearInterval(clock);
  clock = null;
}

function refusalOf(refusal: ShardRefusal): Refusal {
  return { kind: 'refused', ...refusal };
}
