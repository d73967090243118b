/** Tiers as people write them, `from`–`to`; gaps and overlaps are refused by name before anything is stored. */
import type { z } from 'zod';

import type { Aggregation } from '../billing/plan.ts';
import { tiersOfRanges } from '../billing/publish/tiers.ts';
import type { UsagePricingRules } from '../store/meters.ts';
import { decimal, listOf, object, oneOf, quantity } from './fields.ts';
import { ApiProblem } from './problems.ts';

export const aggregations = [
  'SUM',
  'COUNT',
  'MAX',
  'LATEST',
  'UNIQUE_COUNT',
  'WEIGHTED_SUM',
] as const satisfies readonly Aggregation[];

export const pricingRules = object({
  mode: oneOf(['GRADUATED', 'VOLUME'], 'GRADUATED when absent. Read in any case.').optional(),
  tiers: listOf(
    object({
      from: quantity(
        'First whole unit of the tier: 0 in the first, the end of the one before plus 1 in the others.',
      ),
      to: quantity('Last whole unit of the tier; null or absent in the last one.')
        .nullable()
        .optional(),
      unit_price: decimal(),
      flat_fee: decimal('Due when the tier is entered.').optional(),
    }),
    50,
  ).min(1, 'must have at least one tier'),
}).meta({ description: 'Used by a charge on this meter that has no price of its own.' });

/** The rules as they are stored. Throws an ApiProblem that names each gap and overlap. */
export function readPricingRules(
  given: z.output<typeof pricingRules> | null | undefined,
  field: string,
): UsagePricingRules | null {
  if (given === null || given === undefined) return null;
  const tiers = given.tiers.map((tier) => ({
    from: tier.from.toString(),
    to: tier.to === null || tier.to === undefined ? null : tier.to.toString(),
    unit_price: tier.unit_price,
    flat_fee: tier.flat_fee ?? '0',
  }));
  const result = tiersOfRanges(tiers, `${field}.tiers`);
  if (result.kind === 'refused') {
    const [first] = result.faults;
    throw new ApiProblem(
      first?.code ?? 'tiers_malformed',
      first === undefined ? 'The tiers do not fit.' : `${first.message}. ${first.mend}`,
      {
        errors: result.faults.map(({ field: at, message, mend }) => ({
          field: at,
          message: `${message}. ${mend}`,
        })),
      },
    );
  }
  return { mode: given.mode ?? 'GRADUATED', tiers };
}
