import type { InvoiceInput } from './invoice.ts';
import type { InvoiceLine } from './line.ts';
import { type Minor, sumOf } from './money.ts';
import type { Span } from './ratio.ts';

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

/** An invoice's input as if its period ended at an instant: a level that stands costs nothing yet for the time to come. */
export function usedUntil(input: InvoiceInput, atMs: number): InvoiceInput {
  const until = <Of extends Span>(run: Of): Of => ({
    ...run,
    // No run is without time: of one that lies ahead a millisecond is left, which costs nothing.
    endMs: Math.max(run.startMs + 1, Math.min(run.endMs, atMs)),
  });
  return {
    ...input,
    current: until(input.current),
    earlier: input.earlier.map((run) => until(run)),
  };
}

/**
 * What of an invoice counts towards a threshold: its usage and overage. Fees, late usage and what is missing to a minimum
 * do not: no usage of the period brings them forward.
 */
export function usageCost(
  lines: readonly Pick<InvoiceLine, 'kind' | 'details' | 'amountMinor'>[],
): Minor {
  const counted = lines.filter(
    ({ kind, details }) => (kind === 'usage' && details.model !== 'minimum') || kind === 'overage',
  );
  return sumOf(counted.map(({ amountMinor }) => amountMinor));
}
