import type { InvoiceLine } from './line.ts';
import type { Minor } from './money.ts';

/** A threshold that the usage of an interval has reached, and what to invoice for it. */
export type ThresholdInvoice = { readonly thresholdMinor: Minor; readonly amountMinor: Minor };

/**
 * Whether usage must be invoiced before the interval ends: when what it costs so far has reached a threshold that what
 * was invoiced of it has not. The invoice is for all that is not invoiced yet; of several thresholds reached at once the
 * highest is named. At the end of the interval the rest is `rate(total) − rate(billed)` as ever.
 */
export function thresholdInvoice(
  thresholds: readonly Minor[],
  usage: { readonly ratedMinor: Minor; readonly billedMinor: Minor },
): ThresholdInvoice | null {
  const reached = thresholds.filter(
    (threshold) => threshold > usage.billedMinor && threshold <= usage.ratedMinor,
  );
  const highest = reached.reduce<Minor | null>(
    (most, threshold) => (most === null || threshold > most ? threshold : most),
    null,
  );
  if (highest === null) return null;
  return { thresholdMinor: highest, amountMinor: usage.ratedMinor - usage.billedMinor };
}

/**
 * What of an invoice counts towards a threshold: its usage and overage. Fees, late usage and what is missing to a minimum
 * do not: no usage of the period brings them forward.
 */
export function usageCost(
  lines: readonly Pick<InvoiceLine, 'kind' | 'details' | 'amountMinor'>[],
): Minor {
  return lines
    .filter(
      ({ kind, details }) =>
        (kind === 'usage' && details.model !== 'minimum') || kind === 'overage',
    )
    .reduce((sum, { amountMinor }) => sum + amountMinor, 0n);
}
