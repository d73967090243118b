/**
 * A part of the set-up cannot be had or cannot start. The message is for the person at the
 * keyboard: what is missing and the exact command or variable that mends it; no stack is shown.
 */
export class SetupProblem extends Error {
  override readonly name = 'SetupProblem';
}

/** The words of any thrown value, for a message to a person. */
export function wordsOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
