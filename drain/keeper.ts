/**
 * Keeps one shard usable. A shard that restarted answers no script, because their texts carry its incarnation and it has
 * forgotten them: that is the fence. The keeper notices within half a second and opens it again in the next incarnation:
 *
 *   closed in Postgres → what survived in the stream is committed → gateways may re-send → next incarnation's scripts,
 *   epochs and identity → open in Postgres, which is the moment from which anybody calls it.
 *
 * A crash anywhere in between is no harm: the incarnation is taken last, so the next keeper does the same steps again.
 * A shard that has lost its data, or has somebody else's, stays closed and says so.
 */
import { setTimeout as sleep } from 'node:timers/promises';

import type { Logger } from 'pino';

import type { ShardIdentity, ShardLink } from '../shards/admin-client.ts';
import type { Db } from '../store/db.ts';
import { recountLost } from '../store/external-events.ts';
import {
  beginRecovery,
  hasHeldAnything,
  openShard,
  readEpochs,
  readShard,
  type ShardRow,
} from '../store/slots.ts';
import { isDrained } from '../store/usage.ts';

const PING_EACH_MS = 500;
const DRAINED_LOOK_EACH_MS = 25;

export type KeeperDeps = {
  readonly db: Db;
  readonly link: KeeperLink;
  /** Drains the shard's stream of that incarnation until stopped. */
  readonly startDrainer: (incarnation: number) => { readonly stop: () => Promise<void> };
  readonly log: Logger;
  readonly pingEachMs?: number;
  /**
   * How long recovery waits before it opens, so that gateways can hand in what they hold. At present they can do so only
   * after it is open, so any wait would be for nothing: 0 when absent, 10 s at most.
   */
  readonly resendWaitMs?: number;
};
export type KeeperLink = Pick<
  ShardLink,
  | 'name'
  | 'url'
  | 'check'
  | 'hasScripts'
  | 'loadScripts'
  | 'writeEpochs'
  | 'readIdentity'
  | 'writeIdentity'
  | 'lastStreamId'
>;

/**
 * `open`: serves. `recovering`: on its way to be opened. `away`: does not answer; opened again when it does and has
 * restarted. `closed`: will not open by itself; `reason` says what to do.
 */
export type KeeperStatus = {
  readonly state: 'open' | 'recovering' | 'away' | 'closed';
  readonly incarnation: number;
  readonly reason: string;
};

export type Keeper = {
  readonly status: () => KeeperStatus;
  /** Ends after the step in hand, its drainer too. The shard stays as it is. */
  readonly stop: () => Promise<void>;
};

/** Starts to keep the shard of `link`, which must be registered. */
export function startKeeper(deps: KeeperDeps): Keeper {
  const stopping = new AbortController();
  const drainer = makeDrainerSlot(deps);
  let status: KeeperStatus = { state: 'recovering', incarnation: 0, reason: 'not looked at yet' };
  const become = (next: KeeperStatus): void => {
    const isNews = next.state !== status.state || next.reason !== status.reason;
    status = next;
    if (isNews) tell(deps, next);
  };
  const done = (async () => {
    while (!stopping.signal.aborted) {
      try {
        await keepOnce(deps, { become, drainer, signal: stopping.signal });
      } catch (error) {
        const reason = error instanceof Error ? error.message : String(error);
        if (!stopping.signal.aborted) become({ ...status, state: 'away', reason });
      }
      const pauseMs = deps.pingEachMs ?? PING_EACH_MS;
      await sleep(pauseMs, undefined, { signal: stopping.signal }).catch(() => {});
    }
    await drainer.stop();
  })();
  return {
    status: () => status,
    stop: async () => {
      stopping.abort();
      await done;
    },
  };
}

function tell({ log, link }: KeeperDeps, { state, incarnation, reason }: KeeperStatus): void {
  const fields = { shard: link.name, incarnation };
  if (state === 'closed') log.error(fields, reason);
  else if (state === 'away') log.warn({ ...fields, reason }, 'a shard cannot be reached');
  else log.info({ ...fields, reason }, `a shard is ${state}`);
}

type Turn = {
  readonly become: (status: KeeperStatus) => void;
  readonly drainer: DrainerSlot;
  readonly signal: AbortSignal;
};

async function keepOnce(deps: KeeperDeps, turn: Turn): Promise<void> {
  const { db, link } = deps;
  const row = await readShard(db, link.name);
  if (row === null) throw new Error(`shard ${link.name} is not registered`);
  const { incarnation } = row;
  const identity = await link.readIdentity();
  // A crash in the first second after the first opening may have taken the identity: then nothing else is missing either.
  const isBlank = identity === null && !(await hasHeldAnything(db, row.name));
  const fault = isBlank ? null : faultOf(row, identity);
  if (fault !== null) {
    await beginRecovery(db, row.name);
    await turn.drainer.stop();
    turn.become({ state: 'closed', incarnation, reason: fault });
    return;
  }
  if (incarnation > 0) await turn.drainer.run(incarnation);
  if (row.state === 'open' && (await link.hasScripts(incarnation))) {
    turn.become({ state: 'open', incarnation, reason: '' });
    return;
  }
  await recover(deps, row, turn);
}

/** Why the data on this server must not be used for this shard, in words for an operator; null when it may. */
function faultOf(row: ShardRow, identity: ShardIdentity | null): string | null {
  const where = `${row.name} (${withoutPassword(row.url)})`;
  if (identity === null) {
    return (
      `${where} has lost its data: it was opened in incarnation ${row.incarnation} and now holds nothing. It stays closed, ` +
      'because it would forget what its subscribers have used. Restore its append-only file and restart Redis.'
    );
  }
  if (identity.name !== row.name || row.incarnation === 0) {
    // Incarnation 1 of the same name: the very first opening was interrupted.
    if (identity.name === row.name && identity.incarnation === 1) return null;
    return (
      `${where} holds the data of ${identity.name}, incarnation ${identity.incarnation}, and stays closed. ` +
      'Point it at its own Redis, or at an empty one if it is new.'
    );
  }
  // One behind: the identity's write was in the last second before a power failure. One ahead: opening was interrupted.
  if (Math.abs(identity.incarnation - row.incarnation) <= 1) return null;
  return (
    `${where} holds incarnation ${identity.incarnation}, but ${row.incarnation} was opened last: its data or the database ` +
    'comes from a backup. It stays closed. Restore the append-only file of the last incarnation and restart Redis.'
  );
}

function withoutPassword(url: string): string {
  const parsed = URL.parse(url);
  return parsed === null ? 'no valid url' : `${parsed.protocol}//${parsed.host}`;
}

async function recover(deps: KeeperDeps, row: ShardRow, turn: Turn): Promise<void> {
  const { db, link, log } = deps;
  const { name, incarnation } = row;
  const isFirst = incarnation === 0;
  if (!isFirst && (await beginRecovery(db, name))) {
    log.warn({ shard: name, incarnation }, 'a shard has restarted: nothing is served from it');
  }
  const faults = await link.check();
  if (faults.length > 0) {
    const reason = `${name} (${withoutPassword(row.url)}) cannot be opened: ${faults.join('; ')}.`;
    turn.become({ state: 'closed', incarnation, reason });
    return;
  }
  const reason = isFirst ? 'it is opened for the first time' : 'it is opened anew';
  turn.become({ state: 'recovering', incarnation, reason });
  if (!isFirst) {
    await untilDrained(deps, incarnation, turn.signal);
    const lost = await recountLost(db, name);
    if (lost > 0)
      log.warn({ shard: name, lost }, 'usage from outside was lost: it is counted again');
    const resendWaitMs = Math.min(deps.resendWaitMs ?? 0, 10_000);
    await sleep(resendWaitMs, undefined, { signal: turn.signal });
  }
  const next = incarnation + 1;
  await link.loadScripts(next);
  await link.writeEpochs(await readEpochs(db, name));
  await link.writeIdentity({ name, incarnation: next });
  // From here on the shard serves; whoever else tried at the same time has loaded the very same scripts.
  if (!(await openShard(db, name, { from: incarnation, to: next }))) return;
  await turn.drainer.run(next);
  turn.become({ state: 'open', incarnation: next, reason: '' });
}

/** Nothing is added to the stream of a shard without scripts, so its end stays where it is. */
async function untilDrained(
  { db, link }: KeeperDeps,
  incarnation: number,
  signal: AbortSignal,
): Promise<void> {
  const streamId = await link.lastStreamId();
  if (streamId === '0-0') return;
  while (!(await isDrained(db, { shard: link.name, incarnation, streamId }))) {
    await sleep(DRAINED_LOOK_EACH_MS, undefined, { signal });
  }
}

type DrainerSlot = {
  readonly run: (incarnation: number) => Promise<void>;
  readonly stop: () => Promise<void>;
};

/** At most one drainer, of the incarnation that was asked for last. */
function makeDrainerSlot({ startDrainer }: KeeperDeps): DrainerSlot {
  let current: { readonly incarnation: number; readonly stop: () => Promise<void> } | null = null;
  const stop = async (): Promise<void> => {
    const ending = current;
    current = null;
    await ending?.stop();
  };
  return {
    run: async (incarnation) => {
      if (current?.incarnation === incarnation) return;
      await stop();
      current = { incarnation, stop: startDrainer(incarnation).stop };
    },
    stop,
  };
}
