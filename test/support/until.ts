import { setTimeout as sleep } from 'node:timers/promises';

/**
 * Asks until the answer is not null, then gives it. The bound exists so that a test that can never
 * succeed fails with a name; it is generous, since no test here asserts how long something takes.
 */
export async function until<T>(
  ask: () => T | null | Promise<T | null>,
  options: { readonly withinMs?: number; readonly what?: string } = {},
): Promise<T> {
  const deadline = Date.now() + (options.withinMs ?? 30_000);
  for (;;) {
    const answer = await ask();
    if (answer !== null) return answer;
    if (Date.now() > deadline) throw new Error(`never happened: ${options.what ?? ask.toString()}`);
    await sleep(20);
  }
}
