import type { Fields } from './read.ts';
import { calendarRunners } from './calendar.ts';
import { changeRunners } from './changes.ts';
import { moneyRunners } from './money.ts';
import { priceRunners } from './prices.ts';

/** What production code answers to an input; `expect` only tells which dates are asked for. */
export type Runner = (input: Fields, expect: Fields) => Fields;

const runners: Readonly<Record<string, Runner>> = {
  ...moneyRunners,
  ...priceRunners,
  ...calendarRunners,
  ...changeRunners,
};

/** Null for a kind that nothing answers. */
export function runnerOf(kind: string): Runner | null {
  return Object.hasOwn(runners, kind) ? (runners[kind] ?? null) : null;
}
