import { randomInt } from 'node:crypto';

import { formatOpId } from '../billing/op-id.ts';

const alphabet = '0123456789abcdefghijklmnopqrstuvwxyz';
const dayMs = 86_400_000;

/**
 * Names the attempts of one gateway process: day, incarnation, sequence. The incarnation is random and new at each
 * start, so that a sequence never has to be remembered; it begins with `g`, as names from outside begin with `x`.
 */
export function createOpIds(now: () => number = Date.now): () => string {
  const incarnation = `g${Array.from({ length: 13 }, () => alphabet.charAt(randomInt(36))).join('')}`;
  let sequence = 0;
  let dayEndsMs = 0;
  let day = '';
  return () => {
    const nowMs = now();
    if (nowMs >= dayEndsMs || nowMs < dayEndsMs - dayMs) {
      day = new Date(nowMs).toISOString().slice(0, 10).replaceAll('-', '');
      dayEndsMs = (Math.floor(nowMs / dayMs) + 1) * dayMs;
      // Checks the grammar once a day; the rest of the day is concatenation.
      formatOpId({ day, incarnation, sequence });
    }
    sequence += 1;
    return `${day}-${incarnation}-${sequence.toString(36)}`;
  };
}
