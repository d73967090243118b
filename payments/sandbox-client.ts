import { z } from 'zod';

import { type ChargeOutcome, type PaymentProvider, ProviderFault } from './port.ts';

/** Above the provider's usual answer, below the activity's own limit of 20 s. */
const TIMEOUT_MS = 12_000;

const chargeAnswer = z.object({
  id: z.string(),
  status: z.enum(['succeeded', 'declined', 'pending']),
  decline_code: z.string().nullable(),
});

/**
 * The sandbox provider at `url`. Its calls reject with `ProviderFault`: `unavailable` when the outcome is unknown
 * (no answer in `timeoutMs`, a broken connection, a 5xx or 429), `refused` when the request itself is wrong.
 */
export function sandboxProvider(options: {
  readonly url: string;
  readonly timeoutMs?: number;
}): PaymentProvider {
  const timeoutMs = options.timeoutMs ?? TIMEOUT_MS;
  return {
    charge: async (request) => {
      const response = await call(`${options.url}/charges`, timeoutMs, {
        method: 'POST',
        headers: {
          'content-type': 'application/json',
          'idempotency-key': request.idempotencyKey,
        },
        body: JSON.stringify({
          amount_minor: request.amountMinor.toString(),
          currency: request.currency,
          method: request.method,
          description: request.description,
        }),
      });
      return outcomeOf(response);
    },
    lookup: async (idempotencyKey) => {
      const url = `${options.url}/charges/by-key/${encodeURIComponent(idempotencyKey)}`;
      const response = await call(url, timeoutMs, {});
      if (response.status === 404) return { kind: 'not_found' };
      return outcomeOf(response);
    },
    refund: async (request) => {
      const response = await call(`${options.url}/refunds`, timeoutMs, {
        method: 'POST',
        headers: {
          'content-type': 'application/json',
          'idempotency-key': request.idempotencyKey,
        },
        body: JSON.stringify({
          charge: request.providerRef,
          amount_minor: request.amountMinor.toString(),
          currency: request.currency,
        }),
      });
      return outcomeOf(response);
    },
    lookupRefund: async (idempotencyKey) => {
      const url = `${options.url}/refunds/by-key/${encodeURIComponent(idempotencyKey)}`;
      const response = await call(url, timeoutMs, {});
      if (response.status === 404) return { kind: 'not_found' };
      return outcomeOf(response);
    },
  };
}

type Answer = {
  readonly status: number;
  readonly text: string;
  readonly retryAfter: string | null;
};

/** The body is read within the same time: a provider that stops in mid-answer has not answered. */
async function call(url: string, timeoutMs: number, init: RequestInit): Promise<Answer> {
  try {
    const response = await fetch(url, { ...init, signal: AbortSignal.timeout(timeoutMs) });
    const text = await response.text();
    return { status: response.status, text, retryAfter: response.headers.get('retry-after') };
  } catch (cause) {
    throw new ProviderFault('unavailable', 'the payment provider did not answer', { cause });
  }
}

function outcomeOf(answer: Answer): ChargeOutcome {
  if (answer.status >= 500 || answer.status === 429) {
    const seconds = Number(answer.retryAfter ?? Number.NaN);
    throw new ProviderFault('unavailable', `the payment provider answered ${answer.status}`, {
      ...(Number.isFinite(seconds) ? { retryAfterMs: seconds * 1000 } : {}),
    });
  }
  if (answer.status !== 200) {
    throw new ProviderFault(
      'refused',
      `the payment provider refused the request (${answer.status}): ${answer.text.slice(0, 300)}`,
    );
  }
  const charge = parseCharge(answer.text);
  switch (charge.status) {
    case 'succeeded':
      return { kind: 'succeeded', providerRef: charge.id };
    case 'declined':
      return { kind: 'declined', providerRef: charge.id, code: charge.decline_code ?? 'declined' };
    case 'pending':
      return { kind: 'pending', providerRef: charge.id };
    default:
      return charge.status satisfies never;
  }
}

/** An answer that cannot be read says nothing about the money. */
function parseCharge(text: string): z.infer<typeof chargeAnswer> {
  try {
    return chargeAnswer.parse(JSON.parse(text));
  } catch (cause) {
    throw new ProviderFault('unavailable', 'the payment provider answered unreadably', { cause });
  }
}
