import type { ProblemCode } from '../billing/problem.ts';

/** Why a request is not forwarded, as data; `refuse.ts` makes the answer of it. */
export type Refusal = {
  readonly kind: 'refused';
  readonly code: ProblemCode;
  readonly detail?: string;
  /** Where the code's own status does not fit. */
  readonly status?: number;
  /** What decided, and its numbers. */
  readonly level?: string;
  readonly name?: string;
  readonly limit?: number;
  readonly used?: number;
  readonly held?: number;
  readonly retryable?: boolean;
  /** Epoch ms; 0 or absent: not by time. */
  readonly resetMs?: number;
  readonly retryAfterSeconds?: number;
  /** What the upstream said, where it said something. */
  readonly originStatus?: number;
  /** The connection cannot be trusted for another request. */
  readonly closes?: boolean;
};
