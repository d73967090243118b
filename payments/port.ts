/**
 * What Tollbook asks of a payment provider. A decline is an answer, not an error. A call that rejects with
 * `ProviderFault` of kind `unavailable` has an unknown outcome: repeat it with the same key, or look the key up.
 */
export type PaymentProvider = {
  charge(request: ChargeRequest): Promise<ChargeOutcome>;
  lookup(idempotencyKey: string): Promise<ChargeOutcome | { readonly kind: 'not_found' }>;
  /** Gives back a part of what a charge took; all refunds of a charge give back no more than it took. */
  refund(request: RefundRequest): Promise<RefundAnswer>;
  lookupRefund(idempotencyKey: string): Promise<RefundAnswer | { readonly kind: 'not_found' }>;
};

export type RefundRequest = {
  /** Our refund id. */
  readonly idempotencyKey: string;
  /** The charge's, as `charge` gave it. */
  readonly providerRef: string;
  /** Positive, in minor units of `currency`. */
  readonly amountMinor: bigint;
  readonly currency: string;
};

export type RefundAnswer = ChargeOutcome;

export type ChargeRequest = {
  /** Our payment id: one key for each attempt, the same key for each repetition of that attempt. */
  readonly idempotencyKey: string;
  /** Positive, in minor units of `currency`. */
  readonly amountMinor: bigint;
  readonly currency: string;
  /** The provider's name of the payment method. */
  readonly method: string;
  readonly description: string;
};

export type ChargeOutcome =
  | { readonly kind: 'succeeded'; readonly providerRef: string }
  | { readonly kind: 'declined'; readonly providerRef: string; readonly code: string }
  | { readonly kind: 'pending'; readonly providerRef: string };

/** The provider did not decide. `refused`: our request is wrong and a repetition would be refused too. */
export class ProviderFault extends Error {
  override readonly name = 'ProviderFault';
  readonly kind: 'unavailable' | 'refused';
  readonly retryAfterMs: number | null;
  constructor(
    kind: 'unavailable' | 'refused',
    message: string,
    options: { readonly cause?: unknown; readonly retryAfterMs?: number } = {},
  ) {
    super(message, options.cause === undefined ? {} : { cause: options.cause });
    this.kind = kind;
    this.retryAfterMs = options.retryAfterMs ?? null;
  }
}
