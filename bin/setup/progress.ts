/**
 * Runs something that may take long and says so on standard error: what and why at the start, a
 * sign of life every ten seconds, and how long it took. Standard output stays clean.
 */
export async function withProgress<T>(what: string, work: () => Promise<T>): Promise<T> {
  const startedAt = Date.now();
  const elapsed = (): string => {
    const seconds = Math.round((Date.now() - startedAt) / 1000);
    return seconds < 60 ? `${seconds} s` : `${Math.floor(seconds / 60)} min ${seconds % 60} s`;
  };
  say(`• ${what} …`);
  const ticker = setInterval(() => {
    say(`  … still at it after ${elapsed()}: ${what}`);
  }, 10_000);
  try {
    const result = await work();
    say(`✓ ${what}: done in ${elapsed()}`);
    return result;
  } finally {
    clearInterval(ticker);
  }
}

/** One line to the person at the keyboard. */
export function say(line: string): void {
  process.stderr.write(`${line}\n`);
}
