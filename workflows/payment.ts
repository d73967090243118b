import { ActivityFailure, ApplicationFailure, isCancellation, sleep } from '@temporalio/workflow';

import type { ChargeOutcome, PaymentOutcome } from '../activities/payment.ts';
import { db, provider } from './activities.ts';
import type { PaymentInput, PaymentResult } from './contracts.ts';
import { type Desk, openDesk } from './desk.ts';

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
/** Providers forget a key after a day: from then on a charge that they do not know was never made. */
const KEY_LIFE_MS = 23 * HOUR_MS;
/** By then somebody has to ask the provider in another way. */
const ATTENTION_AFTER_MS = 72 * HOUR_MS;

type Known = ChargeOutcome | { readonly kind: 'not_found' } | { readonly kind: 'unknown' };

/**
 * One attempt to take money, under one key of the provider, until it is certain what became of it. It answers with data:
 * a decline is an outcome. It never makes a second key: a new attempt is a new payment.
 */
export async function payment(input: PaymentInput): Promise<PaymentResult> {
  const { paymentId } = input;
  const desk = openDesk();
  const startedAtMs = Date.now();
  const { subscriberId, what } = await desk.attend('Load', () =>
    db('Load the payment').loadPayment({ paymentId }),
  );
  desk.head(`Pay ${what}`);
  desk.tag({ SubscriberId: subscriberId, BillingState: 'pending' });
  desk.note('Charge', 'runs');
  let known = await charge(desk, paymentId);
  for (let look = 0; ; look += 1) {
    const outcome = finalOutcome(known, Date.now() - startedAtMs);
    if (outcome !== null) return record(desk, paymentId, outcome);
    if (look === 0) await record(desk, paymentId, { kind: 'unknown' });
    if (Date.now() - startedAtMs > ATTENTION_AFTER_MS) {
      desk.ask('the provider has not said for three days whether the money was taken');
    }
    const waitMs = LOOKUP_WAITS_MS[look] ?? 12 * HOUR_MS;
    await sleep(waitMs, { summary: 'Ask the provider what became of it' });
    known = await lookUp(paymentId);
    // The charge never arrived: the same key again.
    if (known.kind === 'not_found' && Date.now() - startedAtMs < KEY_LIFE_MS) {
      known = await charge(desk, paymentId);
    }
  }
}

function finalOutcome(known: Known, ageMs: number): PaymentOutcome | null {
  switch (known.kind) {
    case 'succeeded':
    case 'declined':
      return known;
    case 'not_found':
      return ageMs < KEY_LIFE_MS ? null : { kind: 'canceled' };
    case 'pending':
    case 'unknown':
      return null;
    default:
      return known satisfies never;
  }
}

/** A request that the provider refuses is our fault: a person mends it, then the same key is tried again. */
async function charge(desk: Desk, paymentId: string): Promise<Known> {
  return desk.attend('Charge', () =>
    orUnknown(() => provider('Take the money').chargePayment({ paymentId })),
  );
}

async function lookUp(paymentId: string): Promise<Known> {
  return orUnknown(() =>
    provider('Ask the provider what became of it').lookUpPayment({ paymentId }),
  );
}

/** A provider that did not answer, however often it was asked, may have taken the money. */
async function orUnknown(ask: () => Promise<Known>): Promise<Known> {
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

async function record(
  desk: Desk,
  paymentId: string,
  outcome: PaymentOutcome,
): Promise<PaymentResult> {
  const recorded = await desk.attend('Record', () =>
    db(`Record: ${outcome.kind}`).recordPayment({ paymentId, outcome, nowMs: Date.now() }),
  );
  desk.tag({ BillingState: recorded.state });
  desk.note('Charge', recorded.state === 'unknown' ? 'waits' : 'done', recorded.state);
  if (recorded.state === 'declined') {
    return { state: 'declined', declineCode: recorded.declineCode ?? 'declined' };
  }
  return { state: recorded.state === 'succeeded' ? 'succeeded' : 'canceled' };
}
