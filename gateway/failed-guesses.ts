import {
  failedGuessAddressesMax,
  failedGuessesMax,
  failedGuessesWindowMs,
  knownGoodKeysMax,
} from './limits.ts';

/**
 * Wrong secrets by address: after 20 in a minute an address is answered from memory, so that guessing costs no shard
 * anything. Keys that were accepted lately still pass, so that one guesser behind a shared address stops nobody else.
 * Both memories are bounded; when one is full it forgets, which is generous for a moment and never unfair.
 */
export type FailedGuesses = {
  /** Whether a request from this address with this key must be answered without asking the shard. */
  isBlocked(address: string, digest16: string): boolean;
  failed(address: string, digest16: string): void;
  accepted(digest16: string): void;
  /** When the current window ends, epoch ms. */
  windowEndsMs(): number;
};

/** A fresh memory. `now` in epoch ms. */
export function createFailedGuesses(now: () => number = Date.now): FailedGuesses {
  let counts = new Map<string, number>();
  let windowEndsMs = 0;
  let young = new Set<string>();
  let old = new Set<string>();

  const turn = (): void => {
    const nowMs = now();
    if (nowMs < windowEndsMs && counts.size < failedGuessAddressesMax) return;
    counts = new Map();
    windowEndsMs = nowMs + failedGuessesWindowMs;
  };

  return {
    isBlocked: (address, digest16) => {
      if (counts.size === 0) return false;
      turn();
      if ((counts.get(blockOf(address)) ?? 0) < failedGuessesMax) return false;
      return !young.has(digest16) && !old.has(digest16);
    },
    failed: (address, digest16) => {
      turn();
      const block = blockOf(address);
      counts.set(block, (counts.get(block) ?? 0) + 1);
      young.delete(digest16);
      old.delete(digest16);
    },
    accepted: (digest16) => {
      if (young.has(digest16)) return;
      if (young.size >= knownGoodKeysMax) {
        old = young;
        young = new Set();
      }
      young.add(digest16);
    },
    windowEndsMs: () => windowEndsMs,
  };
}

/** An IPv6 customer has a /64 at least: counting single addresses would count nothing. */
function blockOf(address: string): string {
  if (!address.includes(':') || address.startsWith('::ffff:')) return address;
  return address.split(':').slice(0, 4).join(':');
}
