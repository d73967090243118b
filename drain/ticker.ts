/** A look that is taken every so often, sooner when somebody calls, and never twice at once. */
import { setTimeout as sleep } from 'node:timers/promises';

export type Ticker = {
  /** Look now; when a look is being taken, once more after it. */
  readonly wake: () => void;
  /** No further look; waits for the one that is being taken. */
  readonly stop: () => Promise<void>;
};

/** Looks at once, then every `eachMs`. A look that throws is reported, and the next one comes as it would have. */
export function startTicker(options: {
  readonly eachMs: number;
  readonly look: () => Promise<void>;
  readonly onTrouble: (error: unknown) => void;
}): Ticker {
  const stopping = new AbortController();
  let called = new AbortController();
  const done = (async () => {
    while (!stopping.signal.aborted) {
      called = new AbortController();
      try {
        await options.look();
      } catch (error) {
        options.onTrouble(error);
        // Whoever calls all the time must not make a failing look spin.
        called = new AbortController();
      }
      const signal = AbortSignal.any([stopping.signal, called.signal]);
      await sleep(options.eachMs, undefined, { signal }).catch(() => {});
    }
  })();
  return {
    wake: () => {
      called.abort();
    },
    stop: async () => {
      stopping.abort();
      await done;
    },
  };
}
