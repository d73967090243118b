import type { WindowState } from '../shards/port.ts';

const microPerCredit = 1_000_000;

/** Micro-credits as a decimal number of credits without trailing zeros: 1_500_000 → `1.5`. */
export function creditsText(micro: number): string {
  const whole = Math.floor(micro / microPerCredit);
  const rest = micro % microPerCredit;
  if (rest === 0) return String(whole);
  return `${whole}.${String(rest).padStart(6, '0').replace(/0+$/, '')}`;
}

/**
 * `RateLimit-Policy` and `RateLimit` (lists of items, draft-ietf-httpapi-ratelimit-headers-10) for windows and credits.
 * The credit policy's quota is what could be spent before this request; values are hints, never promises.
 * @returns flat header lines, none when there is nothing to tell
 */
export function limitHeaders(
  windows: readonly WindowState[],
  credits: { readonly availableMicro: number; readonly heldMicro: number } | null,
  nowMs: number,
): string[] {
  if (windows.length === 0 && credits === null) return [];
  let policy = '';
  let state = '';
  for (const window of windows) {
    const name = quoted(window.name);
    policy += `${policy === '' ? '' : ', '}${name};q=${window.limit}`;
    state += `${state === '' ? '' : ', '}${name};r=${Math.max(0, window.left)}`;
    if (window.resetMs > 0) state += `;t=${secondsUntil(window.resetMs, nowMs)}`;
  }
  if (credits !== null) {
    const before = Math.floor((credits.availableMicro + credits.heldMicro) / microPerCredit);
    policy += `${policy === '' ? '' : ', '}"credits";q=${before};qu="credits"`;
    state += `${state === '' ? '' : ', '}"credits";r=${Math.floor(credits.availableMicro / microPerCredit)}`;
  }
  return ['RateLimit-Policy', policy, 'RateLimit', state];
}

/** Whole seconds until an instant, rounded up, at least 0. */
export function secondsUntil(instantMs: number, nowMs: number): number {
  return Math.max(0, Math.ceil((instantMs - nowMs) / 1000));
}

/** A structured-field string; names come from plans, so anything that does not fit one is replaced. */
function quoted(name: string): string {
  return `"${name.replace(/[^\x20-\x7e]|["\\]/g, '_')}"`;
}
