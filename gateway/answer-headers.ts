import type { IncomingHttpHeaders } from 'node:http';

import type { Hold } from './exchange.ts';
import { creditsText, limitHeaders } from './limit-headers.ts';
import { clientHeaders } from './response-headers.ts';

export type AnswerHead = {
  readonly headers: IncomingHttpHeaders;
  readonly hold: Hold;
  readonly requestId: string;
  /** Micro-credits; null: not known (yet). */
  readonly charge: {
    readonly chargedMicro: number | null;
    readonly availableMicro: number | null;
  };
  readonly isLengthKept: boolean;
  readonly hasTrailer: boolean;
};

/** The head of an answer that was let through: the upstream's lines, then what the client may know of limits and credits. */
export function answerHeaders(head: AnswerHead): string[] {
  const { hold, charge } = head;
  const lines = clientHeaders(head.headers, { isLengthKept: head.isLengthKept });
  lines.push('X-Request-Id', head.requestId, 'X-Decision-Id', hold.opId);
  // What was bought with a key belongs to its holder; a product that wants caches says so itself.
  if (head.headers['cache-control'] === undefined) lines.push('Cache-Control', 'no-store');
  const available = charge.availableMicro ?? hold.availableMicro;
  const credits =
    available === null ? null : { availableMicro: available, heldMicro: hold.heldMicro };
  lines.push(...limitHeaders(hold.windows, credits, Date.now()));
  if (available === null) return lines;
  lines.push('X-Credits-Reserved', creditsText(hold.heldMicro));
  if (charge.chargedMicro !== null) {
    lines.push(...creditLines({ chargedMicro: charge.chargedMicro }));
  }
  if (hold.overageMicro > 0) lines.push('X-Credits-Overage', creditsText(hold.overageMicro));
  lines.push('X-Credits-Remaining', creditsText(available));
  if (head.hasTrailer) lines.push('Trailer', 'X-Credits-Charged');
  return lines;
}

/** What a request cost, as a header or trailer. */
export function creditLines(cost: { readonly chargedMicro: number }): string[] {
  return ['X-Credits-Charged', creditsText(cost.chargedMicro)];
}
