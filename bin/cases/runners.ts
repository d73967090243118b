import { anchored, calendarRunners } from './calendar.ts';
import { changeRunners } from './changes.ts';
import { differences, isErrorExpected, spell } from './compare.ts';
import { Given } from './given.ts';
import { moneyRunners } from './money.ts';
import { priceRunners } from './prices.ts';
import { prorationRunners } from './proration.ts';
import { type Example, type Fields, spellJson } from './read.ts';

/** What production code answers to an input; `expect` only tells which dates are asked for. */
type Runner = (given: Given, expect: Fields) => Fields;

const runners: Readonly<Record<string, Runner>> = {
  ...moneyRunners,
  ...priceRunners,
  ...calendarRunners,
  ...changeRunners,
  ...prorationRunners,
};

/** Kinds whose conventions are not ours, and what is done instead. */
const otherwise: Readonly<Record<string, string>> = {
  'proration.fixed30': 'a day is a part of the real days of its period',
  'proration.day_inclusive_end': 'a period ends before its end, and the day of a change is new',
  'proration.max_consumption': 'what was used of an allowance gives no part of a fee back',
  'units.round': 'a quantity is rated as it was counted',
};

/** What came of an example. */
export type Verdict = {
  /** What differs from what it expects, in words. None: it passes. */
  readonly faults: readonly string[];
  /** Fields of its input that no rule has read, in words: were they meant to change the answer, it would be another one. */
  readonly unread: readonly string[];
};

/** Runs an example. One that expects an error passes when the rules refuse its input. */
export function verdictOf({ kind, input, expect }: Example): Verdict {
  const failed = (...faults: readonly string[]): Verdict => ({ faults, unread: [] });
  const run = runnerOf(kind);
  if (run === null) return failed(unanswered(kind));
  const given = new Given(input);
  try {
    const actual = run(given, expect);
    if (isErrorExpected(expect)) {
      return failed(`expected ${spellJson(expect)}, got an answer: ${spell(actual)}`);
    }
    return {
      faults: differences(actual, expect),
      unread: given.unread().map((name) => `no rule of ${kind} reads ${name}`),
    };
  } catch (error) {
    if (isErrorExpected(expect) && error instanceof RangeError) return failed();
    const message = error instanceof Error ? error.message : String(error);
    return failed(`expected ${spellJson(expect)}, got the error: ${message}`);
  }
}

/** Null for a kind that nothing answers. Any interval may follow `anchor.`. */
function runnerOf(kind: string): Runner | null {
  if (Object.hasOwn(runners, kind)) return runners[kind] ?? null;
  const word = /^anchor\.(.+)$/.exec(kind)?.[1];
  if (word === undefined) return null;
  try {
    return anchored(word);
  } catch {
    return null;
  }
}

function unanswered(kind: string): string {
  const rule = Object.hasOwn(otherwise, kind) ? otherwise[kind] : undefined;
  const why = rule === undefined ? '' : `; our rule is another one: ${rule}`;
  return `no rule of billing/ answers the kind ${kind}${why}`;
}
