/**
 * Ends what fell due on one shard, each second: holds whose gateway never settled them, and credits that expired. The
 * script decides on the shard's own clock and is idempotent, so a sweep that is cut off is simply taken up again.
 */
import type { Logger } from 'pino';

import type { Due, ExpireResult, ShardLink } from '../shards/admin-client.ts';
import { ShardUnavailable } from '../shards/port.ts';
import { startTicker } from './ticker.ts';

const SWEEP_EACH_MS = 1_000;
const SWEEP_READ_MAX = 500;
/** Expiries in flight: requests come first. */
const SWEEP_WIDTH = 8;

export type SweeperDeps = {
  readonly link: Pick<ShardLink, 'name' | 'clockMs' | 'dueHolds' | 'expireHold'>;
  /** The incarnation that is open; null while none is, and then nothing is swept. */
  readonly incarnation: () => number | null;
  readonly log: Logger;
  readonly sweepEachMs?: number;
  readonly onSwept?: (kind: ExpireResult['kind']) => void;
};

export type Sweeper = {
  readonly stop: () => Promise<void>;
};

/** Starts sweeping; it goes on until stopped. */
export function startSweeper(deps: SweeperDeps): Sweeper {
  const ticker = startTicker({
    eachMs: deps.sweepEachMs ?? SWEEP_EACH_MS,
    look: () => sweep(deps),
    onTrouble: (error) => {
      // The keeper reports a shard that is away or restarted.
      if (error instanceof ShardUnavailable) return;
      deps.log.error({ shard: deps.link.name, err: error }, 'due holds could not be ended');
    },
  });
  return { stop: () => ticker.stop() };
}

/** Takes pages until one is not full, or ended nothing: what stays due is for the next turn. */
async function sweep(deps: SweeperDeps): Promise<void> {
  for (;;) {
    const incarnation = deps.incarnation();
    if (incarnation === null) return;
    const page = await deps.link.dueHolds(await deps.link.clockMs(), SWEEP_READ_MAX);
    const endedCount = await expireAll(deps, page, incarnation);
    if (page.length < SWEEP_READ_MAX || endedCount === 0) return;
  }
}

async function expireAll(
  { link, onSwept }: SweeperDeps,
  page: readonly Due[],
  incarnation: number,
): Promise<number> {
  let endedCount = 0;
  const waiting = page.values();
  const worker = async (): Promise<void> => {
    for (const due of waiting) {
      const { kind } = await link.expireHold(due, incarnation);
      onSwept?.(kind);
      if (kind !== 'open') endedCount++;
    }
  };
  await Promise.all(Array.from({ length: SWEEP_WIDTH }, worker));
  return endedCount;
}
