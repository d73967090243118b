import { parseArgs, type ParseArgsConfig } from 'node:util';

import { SetupProblem } from '../setup/problem.ts';

/** The words after the command, as `parseArgs` of Node reads them. Throws SetupProblem where it does not know one. */
export function readArguments<const C extends ParseArgsConfig>(
  config: C,
): ReturnType<typeof parseArgs<C>> {
  try {
    return parseArgs(config);
  } catch (cause) {
    throw new SetupProblem(cause instanceof Error ? cause.message : String(cause), { cause });
  }
}

/** A whole number from 1 to `max`. Throws SetupProblem that names what it is for, what was given and what is allowed. */
export function wholeNumber(text: string, name: string, max: number): number {
  const value = Number(text);
  if (/^[0-9]+$/.test(text) && value >= 1 && value <= max) return value;
  throw new SetupProblem(
    `${name} must be a whole number from 1 to ${max}, not ${JSON.stringify(text)}`,
  );
}
