/**
 * One admitted request, from its hold to its end. It ends exactly once, whatever happens first: the upstream's end, its
 * error, the client's leaving, a timeout, the end of the process. Later endings find it ended and do nothing.
 */
import type { SettleRequest, SettleResult } from '../shards/port.ts';
import type { Hold, Outcome } from './exchange.ts';
import type { Journal } from './journal.ts';
import { holdRenewAfterMs } from './limits.ts';
import type { Log } from './log.ts';
import type { Metrics } from './metrics.ts';
import type { Settler } from './settler.ts';
import type { FleetPort } from './fleet-port.ts';

export type OperationDeps = {
  readonly fleet: Pick<FleetPort, 'shards'>;
  readonly journal: Journal;
  readonly settler: Settler;
  readonly log: Log;
  readonly metrics: Metrics;
};

export type Ending = {
  /** The shard's answer to the first attempt; null when it failed and is being repeated. Never rejects. */
  readonly settled: Promise<SettleResult | null>;
};

export class Operation {
  readonly hold: Hold;
  readonly #deps: OperationDeps;
  #isEnded = false;
  #renewedMs = performance.now();

  constructor(hold: Hold, deps: OperationDeps) {
    this.hold = hold;
    this.#deps = deps;
  }

  get isEnded(): boolean {
    return this.#isEnded;
  }

  /**
   * Ends it, if nothing has yet: journal and shard are told in parallel.
   * @param onWritten called when the client may have the last byte; an error says that neither journal nor shard took it.
   * @returns null when it had ended before; `onWritten` is then never called
   */
  end(outcome: Outcome, onWritten: (error: Error | null) => void = () => {}): Ending | null {
    if (this.#isEnded) return null;
    this.#isEnded = true;
    const { journal, settler, metrics } = this.#deps;
    metrics.ended(nameOf(outcome));
    const request = settleRequestOf(this.hold, outcome);
    let settled: Promise<SettleResult | null> = Promise.resolve(null);
    const file = journal.append(request, (error) => {
      if (error === null) onWritten(null);
      else void this.#proveByShard(error, settled, onWritten);
    });
    settled = settler.settle(request, file);
    return { settled };
  }

  /** Without a journal the shard's answer is the proof; with neither the client must not take its answer for complete. */
  async #proveByShard(
    error: Error,
    settled: Promise<SettleResult | null>,
    onWritten: (error: Error | null) => void,
  ): Promise<void> {
    this.#deps.log.error({ error }, 'the journal cannot be written');
    const result = await settled;
    onWritten(result === null ? error : null);
  }

  /** Keeps the hold of a long request alive. */
  renewIfOld(nowMs: number): void {
    if (this.#isEnded || nowMs - this.#renewedMs < holdRenewAfterMs) return;
    this.#renewedMs = nowMs;
    void this.#renew(nowMs);
  }

  async #renew(nowMs: number): Promise<void> {
    try {
      const request = settleRequestOf(this.hold, { kind: 'release', status: 0 });
      await this.#deps.fleet.shards.settle({ ...request, verb: 'extend' });
    } catch (error) {
      // Tried again at the next look; if all fail the hold expires and the settle is a late one, which is still charged.
      this.#renewedMs = nowMs - holdRenewAfterMs;
      this.#deps.log.warn({ opId: this.hold.opId, error }, 'a hold could not be renewed');
    }
  }
}

/**
 * Takes back a hold whose authorize has no answer: it may exist or may still be on its way. The release leaves a
 * tombstone, so that an authorize that arrives later has no effect.
 */
export function releaseUndecided(
  ids: { readonly subscriberId: string; readonly productId: string; readonly opId: string },
  deps: Pick<OperationDeps, 'journal' | 'settler'>,
): void {
  const nowMs = Date.now();
  const request: SettleRequest = {
    ...ids,
    generation: 0,
    atMs: nowMs,
    segmentId: '',
    subscriptionId: '',
    keyId: '',
    verb: 'release',
    status: 503,
    actuals: [],
    flags: [],
  };
  const file = deps.journal.append(request, () => {});
  void deps.settler.settle(request, file);
}

function settleRequestOf(hold: Hold, outcome: Outcome): SettleRequest {
  return {
    subscriberId: hold.subscriberId,
    opId: hold.opId,
    generation: hold.generation,
    atMs: hold.atMs,
    segmentId: hold.segmentId,
    subscriptionId: hold.subscriptionId,
    productId: hold.productId,
    keyId: hold.keyId,
    verb: outcome.kind,
    status: outcome.status,
    actuals: outcome.kind === 'settle' ? outcome.actuals : [],
    flags: outcome.kind === 'settle' && outcome.isEstimated ? ['estimated'] : [],
  };
}

function nameOf(outcome: Outcome): string {
  if (outcome.kind === 'release') return 'released';
  return outcome.isEstimated ? 'estimated' : 'settled';
}
