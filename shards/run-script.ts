import type { Redis } from 'ioredis';

import { dueKey, epochsKey, factsKey, operationsKey, stateKey } from './keys.ts';
import type { Reply } from './replies.ts';
import { type ScriptName, scriptsOf } from './scripts.ts';

/** Where a call goes: the shard's identity chooses the script's text, slot and epoch are its fence. */
export type Target = {
  readonly shard: string;
  readonly incarnation: number;
  readonly slot: number;
  readonly epoch: number;
};

/**
 * The words of one call after `EVALSHA`. Every script takes the same six keys, and slot, epoch and subscriber before its
 * own arguments.
 */
export function scriptWords(
  name: ScriptName,
  target: Target,
  subscriberId: string,
  rest: readonly string[],
): readonly [sha: string, keyCount: '6', ...string[]] {
  return [
    scriptsOf(target.shard, target.incarnation)[name].sha,
    '6',
    stateKey(subscriberId),
    operationsKey(subscriberId, 0),
    operationsKey(subscriberId, 1),
    epochsKey,
    dueKey,
    factsKey,
    String(target.slot),
    String(target.epoch),
    subscriberId,
    ...rest,
  ];
}

/** Runs one script by raw EVALSHA, once. */
export async function runScript(
  redis: Redis,
  name: ScriptName,
  target: Target,
  [subscriberId, ...rest]: readonly [string, ...string[]],
): Promise<Reply> {
  const reply = await redis.evalsha(...scriptWords(name, target, subscriberId, rest));
  if (!Array.isArray(reply)) throw new TypeError(`${name} answered no list`);
  return reply;
}
