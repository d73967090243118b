import type { Minor } from './money.ts';
import { prorate, type Ratio, wholeRatio } from './ratio.ts';

/** What a subscriber promised to spend in each interval, and what of it was spent; in minor units of one currency. */
export type CommitmentTerms = {
  readonly commitmentMinor: Minor;
  /** The recurring fee of a whole interval: it counts towards the commitment. */
  readonly feeMinor: Minor;
  /** Everything else that was billed for the interval and counts: usage, overage. */
  readonly usageMinor?: Minor;
  /** The part of an interval that the period covers; default the whole. */
  readonly ratio?: Ratio;
};

/**
 * What is missing to the commitment, never below zero. The commitment and the fee are prorated and rounded each on its
 * own, because each is printed as an amount of its own; their difference is what is due.
 */
export function trueUp(terms: CommitmentTerms): Minor {
  const ratio = terms.ratio ?? wholeRatio;
  const spent = prorate(terms.feeMinor, ratio) + (terms.usageMinor ?? 0n);
  const missing = prorate(terms.commitmentMinor, ratio) - spent;
  return missing > 0n ? missing : 0n;
}
