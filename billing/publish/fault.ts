import type { ProblemCode } from '../problem.ts';

/** Why a draft cannot be published, and what to do. */
export type Fault = {
  readonly code: ProblemCode;
  /** Where: `charges[1].price.tiers[0].unit_price`. */
  readonly field: string;
  readonly message: string;
  readonly mend: string;
};

/** What is wrong, quoting what was given, and what to do about it. */
export type Words = { readonly message: string; readonly mend: string };

/** A fault of one code at one place. */
export function fault(code: ProblemCode, field: string, words: Words): Fault {
  return { code, field, ...words };
}

/** A price that is no decimal from zero up with at most 12 places. */
export function malformedPrice(field: string, given: string): Fault {
  return fault('price_malformed', field, {
    message: `${JSON.stringify(given)} is not a price`,
    mend: 'Give a decimal from zero up with at most 12 places, such as "0.001".',
  });
}
