import { ActivityFailure, ApplicationFailure, isCancellation, sleep } from '@temporalio/workflow';

import type { Desk } from './desk.ts';

const MINUTE_MS = 60_000;
const HOUR_MS = 60 * MINUTE_MS;
/** When an outcome is unknown, the provider is asked after these waits, then every 12 hours. */
const LOOKUP_WAITS_MS = [
  10_000,
  MINUTE_MS,
  5 * MINUTE_MS,
  30 * MINUTE_MS,
  2 * HOUR_MS,
  12 * HOUR_MS,
] as const;
/** Providers forget a key after a day: from then on what they do not know was never done. */
const KEY_LIFE_MS = 23 * HOUR_MS;
/** By then somebody has to ask the provider in another way. */
const ATTENTION_AFTER_MS = 72 * HOUR_MS;

export type Unsure =
  | { readonly kind: 'pending' }
  | { readonly kind: 'not_found' }
  | { readonly kind: 'unknown' };

/** One thing that the provider is to do, under one key. */
export type ProviderTask<Outcome extends { readonly kind: string }> = {
  /** What it is called on the desk. */
  readonly name: string;
  /** Asks for it; the same key however often. */
  readonly request: () => Promise<Outcome | Unsure>;
  /** What the provider knows of the key. */
  readonly lookUp: () => Promise<Outcome | Unsure>;
  /** The first time that the provider did not say. */
  readonly unclear: () => Promise<void>;
  /** What a person is told after three days without an answer. */
  readonly question: string;
};

/**
 * Asks the provider, and goes on asking, until it is certain what became of the request. `never_done`: it never arrived,
 * and its key is too old to be used again.
 */
export async function untilCertain<Outcome extends { readonly kind: string }>(
  desk: Desk,
  task: ProviderTask<Outcome>,
): Promise<Outcome | { readonly kind: 'never_done' }> {
  const startedAtMs = Date.now();
  const age = (): number => Date.now() - startedAtMs;
  const request = (): Promise<Outcome | Unsure> =>
    desk.attend(task.name, () => orUnknown(task.request));
  let known = await request();
  for (let look = 0; ; look += 1) {
    if (!isUnsure(known)) return known;
    if (known.kind === 'not_found' && age() >= KEY_LIFE_MS) return { kind: 'never_done' };
    if (look === 0) await task.unclear();
    if (age() > ATTENTION_AFTER_MS) desk.ask(task.question);
    const waitMs = LOOKUP_WAITS_MS[look] ?? 12 * HOUR_MS;
    await sleep(waitMs, { summary: 'Ask the provider what became of it' });
    known = await orUnknown(task.lookUp);
    // The request never arrived: the same key again.
    if (known.kind === 'not_found' && age() < KEY_LIFE_MS) known = await request();
  }
}

function isUnsure(known: { readonly kind: string }): known is Unsure {
  return known.kind === 'pending' || known.kind === 'not_found' || known.kind === 'unknown';
}

/**
 * A provider that did not answer, however often it was asked, may have done it. A request that it refuses is our fault:
 * a person mends it, then the same key is tried again.
 */
async function orUnknown<T>(ask: () => Promise<T>): Promise<T | { readonly kind: 'unknown' }> {
  try {
    return await ask();
  } catch (error) {
    if (isCancellation(error) || !(error instanceof ActivityFailure)) throw error;
    const isRefused =
      error.cause instanceof ApplicationFailure && error.cause.nonRetryable === true;
    if (isRefused) throw error;
    return { kind: 'unknown' };
  }
}
