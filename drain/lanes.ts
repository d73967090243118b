/**
 * Work on shards, one lane a shard: each has its own bound and its own back-off, so that a shard which is away or slow
 * holds up nobody else's subscribers. Work on one key (a subscriber) never overlaps with itself.
 */
import { ShardUnavailable } from '../shards/port.ts';

/** Calls in flight on one shard. A shard does one thing at a time anyway; this hides the way there and back. */
const LANE_WIDTH = 8;
const BACK_OFF_MS_MIN = 100;
const BACK_OFF_MS_MAX = 2_000;

type Work = () => Promise<void>;
/** `away`: it was not done, or not known to be, because of the shard; `failed`: because of something else. */
export type WorkEnd = 'done' | 'away' | 'failed';
type Piece = { work: Work; readonly end: PromiseWithResolvers<WorkEnd> };
type Lane = {
  readonly waiting: Map<string, Piece>;
  readonly running: Map<string, Promise<void>>;
  backOffMs: number;
  awayUntilMs: number;
};

export type Lanes = {
  /**
   * Runs `work` when its turn comes; answers how it ended. Two pieces that wait under one key become
   * one: the later `work` takes the place of the earlier. Nothing is kept for a shard that is away: the caller finds
   * what is not done when it looks again.
   */
  readonly add: (shard: string, key: string, work: Work) => Promise<WorkEnd>;
  /** Whether calls to the shard are being held back. */
  readonly isAway: (shard: string) => boolean;
  /** The shard is known to answer again: no more waiting. */
  readonly clear: (shard: string) => void;
  /** Pieces of work that wait or run. */
  readonly count: () => number;
  /** Drops what waits and waits for what runs. */
  readonly stop: () => Promise<void>;
};

/** `onFailure` is told what a piece of work threw, after the lane has drawn its conclusion from it. */
export function makeLanes(
  onFailure: (failure: {
    readonly shard: string;
    readonly key: string;
    readonly error: unknown;
  }) => void,
): Lanes {
  const lanes = new Map<string, Lane>();
  let isStopped = false;

  const laneOf = (shard: string): Lane => {
    const lane = lanes.get(shard) ?? {
      waiting: new Map<string, Piece>(),
      running: new Map<string, Promise<void>>(),
      backOffMs: 0,
      awayUntilMs: 0,
    };
    lanes.set(shard, lane);
    return lane;
  };

  const run = async (shard: string, key: string, piece: Piece): Promise<void> => {
    const lane = laneOf(shard);
    try {
      await piece.work();
      lane.backOffMs = 0;
      piece.end.resolve('done');
    } catch (error) {
      if (isOfShard(error) && !isAway(lane)) backOff(lane);
      onFailure({ shard, key, error });
      piece.end.resolve(isOfShard(error) ? 'away' : 'failed');
    } finally {
      lane.running.delete(key);
      pump(shard);
    }
  };

  const pump = (shard: string): void => {
    const lane = laneOf(shard);
    for (const [key, piece] of lane.waiting) {
      if (isStopped || lane.running.size >= LANE_WIDTH || isAway(lane)) return;
      if (lane.running.has(key)) continue;
      lane.waiting.delete(key);
      lane.running.set(key, run(shard, key, piece));
    }
  };

  return {
    add: async (shard, key, work) => {
      const lane = laneOf(shard);
      if (isStopped || isAway(lane)) return 'away';
      const piece = lane.waiting.get(key) ?? { work, end: Promise.withResolvers<WorkEnd>() };
      piece.work = work;
      lane.waiting.set(key, piece);
      pump(shard);
      return piece.end.promise;
    },
    isAway: (shard) => isAway(laneOf(shard)),
    clear: (shard) => {
      laneOf(shard).backOffMs = 0;
      laneOf(shard).awayUntilMs = 0;
    },
    count: () =>
      [...lanes.values()].reduce(
        (sum, { waiting, running }) => sum + waiting.size + running.size,
        0,
      ),
    stop: async () => {
      isStopped = true;
      for (const lane of lanes.values()) dropWaiting(lane);
      await Promise.all([...lanes.values()].flatMap(({ running }) => [...running.values()]));
    },
  };
}

/** A script that broke off has nothing against the shard: it is about the one subscriber that it was called for. */
export function isOfShard(error: unknown): error is ShardUnavailable {
  const hasBroken = error instanceof Error && /\bERR user_script/.test(error.message);
  return error instanceof ShardUnavailable && !hasBroken;
}

function backOff(lane: Lane): void {
  lane.backOffMs = Math.min(Math.max(lane.backOffMs * 2, BACK_OFF_MS_MIN), BACK_OFF_MS_MAX);
  lane.awayUntilMs = performance.now() + lane.backOffMs;
  dropWaiting(lane);
}

function dropWaiting(lane: Lane): void {
  for (const { end } of lane.waiting.values()) end.resolve('away');
  lane.waiting.clear();
}

function isAway(lane: Lane): boolean {
  return performance.now() < lane.awayUntilMs;
}
