import { ApplicationFailure } from '@temporalio/common';

import { ProviderFault } from '../payments/port.ts';

/** Faults in data or program are tried this often (a race ends by itself), then a person looks at them. */
const FAULT_ATTEMPTS_MAX = 4;

/**
 * What Temporal is told of an error: the world failing is retried; a fault that a repetition meets again stops the
 * retries, and the workflow asks for attention. `attempt` counts from 1.
 */
export function toFailure(error: unknown, attempt: number): unknown {
  if (error instanceof ApplicationFailure) return error;
  if (error instanceof ProviderFault) return providerFailure(error);
  const type = faultType(error);
  if (type === null || !(error instanceof Error)) return error;
  return ApplicationFailure.create({
    message: error.message,
    type,
    nonRetryable: attempt >= FAULT_ATTEMPTS_MAX,
    cause: error,
  });
}

function providerFailure(fault: ProviderFault): ApplicationFailure {
  return ApplicationFailure.create({
    message: fault.message,
    type: fault.kind === 'refused' ? 'provider_refused' : 'provider_unavailable',
    nonRetryable: fault.kind === 'refused',
    cause: fault,
    ...(fault.retryAfterMs === null ? {} : { nextRetryDelay: fault.retryAfterMs }),
  });
}

/** Null: the world failed, not we. Postgres' classes: 22 and 23 data, 42 statement, P0001 a trigger of ours. */
function faultType(error: unknown): 'data_fault' | 'program_fault' | null {
  if (error instanceof RangeError || error instanceof ReferenceError) return 'program_fault';
  if (!(error instanceof Error) || !('code' in error) || typeof error.code !== 'string') {
    return error instanceof TypeError ? 'program_fault' : null;
  }
  return /^(22|23|42)...$|^P0001$/.test(error.code) ? 'data_fault' : null;
}
