import { ensureRedis } from './redis-binary.ts';
import { SetupProblem } from './problem.ts';
import { findPostgresBinaries } from './postgres-server.ts';
import { ensureTemporal } from './temporal-binary.ts';
import { ensureTimeSkippingServer } from './time-skipping-server.ts';

/** The parts that are servers of others; each is found, fetched or explained. */
export type PartName = 'postgres' | 'redis' | 'temporal' | 'time-skipping';

const ensure: Readonly<Record<PartName, () => Promise<unknown>>> = {
  postgres: () => Promise.resolve().then(findPostgresBinaries),
  redis: ensureRedis,
  temporal: ensureTemporal,
  'time-skipping': ensureTimeSkippingServer,
};

/**
 * Makes sure that the parts are there, fetching what is missing.
 * Throws one SetupProblem that names everything that cannot be had, not only the first.
 */
export async function prepareParts(parts: readonly PartName[]): Promise<void> {
  const results = await Promise.allSettled(parts.map((part) => ensure[part]()));
  const problems = results.flatMap((result) =>
    result.status === 'rejected' ? [result.reason] : [],
  );
  const unexpected = problems.find((problem) => !(problem instanceof SetupProblem));
  if (unexpected !== undefined) throw unexpected;
  if (problems.length > 0) {
    throw new SetupProblem(problems.map((problem: Error) => problem.message).join('\n\n'));
  }
}
