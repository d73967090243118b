import { ConfigProblem } from '../config.ts';
import { SetupProblem } from './problem.ts';
import { say } from './progress.ts';

/**
 * Runs a command of the person at the keyboard: a problem that they can mend is told in its own
 * words, without a stack; anything else is our mistake and shows one. Both end with exit code 1.
 */
export async function runMain(main: () => Promise<void>): Promise<void> {
  try {
    await main();
  } catch (error) {
    if (!(error instanceof SetupProblem) && !(error instanceof ConfigProblem)) throw error;
    say(`\n✗ ${error.message}`);
    process.exitCode = 1;
  }
}
