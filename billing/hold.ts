import {
  type Debit,
  expireGrants,
  giveBack,
  type Purse,
  spendable,
  spendHeld,
  take,
  type Taken,
} from './burn-down.ts';

/**
 * Reserve → settle, release or expire: the model that the shard's scripts follow. A hold takes credits and room under
 * caps at once, whole or not at all; whatever is repeated answers as it did and changes nothing.
 */
export type Wallet = {
  readonly purses: readonly Purse[];
  readonly holds: ReadonlyMap<string, Hold>;
  /** Counters of units in their current windows. */
  readonly caps: readonly Cap[];
};

/** A cap on units in a window: holds count at once. */
export type Cap = { readonly name: string; readonly limit: bigint; readonly counted: bigint };

export type Hold =
  | {
      readonly state: 'open';
      readonly meter: string;
      readonly units: bigint;
      readonly taken: Taken;
      readonly expiresAtMs: number;
    }
  | { readonly state: 'released' }
  | { readonly state: 'expired'; readonly meter: string }
  /** `late`: settled after the hold had expired, from what was available then. */
  | { readonly state: 'settled' | 'late'; readonly charged: bigint; readonly overage: bigint };

export type Reservation = {
  readonly id: string;
  readonly meter: string;
  readonly units: bigint;
  readonly micro: bigint;
  readonly atMs: number;
  readonly lengthMs: number;
};

export type ReserveOutcome = 'held' | 'duplicate' | 'over_cap' | 'out_of_credits';

/** Holds credits and room under every cap, or nothing. */
export function reserve(
  wallet: Wallet,
  wish: Reservation,
): { readonly wallet: Wallet; readonly outcome: ReserveOutcome } {
  if (wallet.holds.has(wish.id)) return { wallet, outcome: 'duplicate' };
  if (wallet.caps.some(({ limit, counted }) => counted + wish.units > limit)) {
    return { wallet, outcome: 'over_cap' };
  }
  if (spendable(wallet.purses, wish.atMs, wish.meter) < wish.micro) {
    return { wallet, outcome: 'out_of_credits' };
  }
  const { purses, taken } = take(wallet.purses, wish, 'held');
  const { meter, units, atMs, lengthMs } = wish;
  const hold: Hold = { state: 'open', meter, units, taken, expiresAtMs: atMs + lengthMs };
  return {
    wallet: {
      purses,
      caps: countedMore(wallet.caps, units),
      holds: withHold(wallet, wish.id, hold),
    },
    outcome: 'held',
  };
}

export type SettleOutcome =
  | { readonly kind: 'settled' | 'late'; readonly charged: bigint; readonly overage: bigint }
  | { readonly kind: 'already'; readonly hold: Hold }
  | { readonly kind: 'unknown' };

/** What a use really cost, in units of its meter and in micro-credits. */
export type Actual = { readonly units: bigint; readonly micro: bigint; readonly atMs: number };

/**
 * Settles a hold with what was really used: what is below the hold goes back to its grants, what is above is taken while
 * the balance allows, never below zero, and the rest is overage.
 */
export function settle(
  wallet: Wallet,
  id: string,
  actual: Actual,
): { readonly wallet: Wallet; readonly outcome: SettleOutcome } {
  const hold = wallet.holds.get(id);
  if (hold === undefined) return { wallet, outcome: { kind: 'unknown' } };
  if (hold.state === 'expired') return settleLate(wallet, { id, meter: hold.meter, actual });
  if (hold.state !== 'open') return { wallet, outcome: { kind: 'already', hold } };
  const held = hold.taken.reduce((sum, { micro }) => sum + micro, 0n);
  const below = actual.micro < held ? held - actual.micro : 0n;
  const { purses, kept } = giveBack(
    wallet.purses,
    { taken: hold.taken, micro: below, atMs: actual.atMs },
    'held',
  );
  const excess: Debit = {
    micro: actual.micro > held ? actual.micro - held : 0n,
    atMs: actual.atMs,
    meter: hold.meter,
  };
  const more = take(spendHeld(purses, kept), excess, 'spent');
  const result = { charged: actual.micro - more.short, overage: more.short };
  return {
    wallet: {
      purses: more.purses,
      caps: countedMore(wallet.caps, actual.units - hold.units),
      holds: withHold(wallet, id, { state: 'settled', ...result }),
    },
    outcome: { kind: 'settled', ...result },
  };
}

function settleLate(
  wallet: Wallet,
  late: { readonly id: string; readonly meter: string; readonly actual: Actual },
): { readonly wallet: Wallet; readonly outcome: SettleOutcome } {
  const { id, meter, actual } = late;
  const { purses, short } = take(wallet.purses, { ...actual, meter }, 'spent');
  const result = { charged: actual.micro - short, overage: short };
  return {
    wallet: {
      purses,
      caps: countedMore(wallet.caps, actual.units),
      holds: withHold(wallet, id, { state: 'late', ...result }),
    },
    outcome: { kind: 'late', ...result },
  };
}

/** Gives a hold back whole; one that is no longer open stays as it is. */
export function release(wallet: Wallet, id: string, atMs: number): Wallet {
  return close(wallet, id, { atMs, to: () => ({ state: 'released' }) });
}

/** Gives back every hold whose time is over, and lets grants expire. */
export function expire(wallet: Wallet, atMs: number): Wallet {
  const due = [...wallet.holds].flatMap(([id, hold]) =>
    hold.state === 'open' && hold.expiresAtMs <= atMs ? [id] : [],
  );
  const closed = due.reduce(
    (current, id) => close(current, id, { atMs, to: ({ meter }) => ({ state: 'expired', meter }) }),
    wallet,
  );
  return { ...closed, purses: expireGrants(closed.purses, atMs) };
}

function close(
  wallet: Wallet,
  id: string,
  how: { readonly atMs: number; readonly to: (hold: Extract<Hold, { state: 'open' }>) => Hold },
): Wallet {
  const hold = wallet.holds.get(id);
  if (hold?.state !== 'open') return wallet;
  const micro = hold.taken.reduce((sum, one) => sum + one.micro, 0n);
  const { purses } = giveBack(wallet.purses, { taken: hold.taken, micro, atMs: how.atMs }, 'held');
  return {
    purses,
    caps: countedMore(wallet.caps, -hold.units),
    holds: withHold(wallet, id, how.to(hold)),
  };
}

function countedMore(caps: readonly Cap[], units: bigint): readonly Cap[] {
  return caps.map((cap) => ({ ...cap, counted: cap.counted + units }));
}

function withHold(wallet: Wallet, id: string, hold: Hold): ReadonlyMap<string, Hold> {
  return new Map([...wallet.holds, [id, hold]]);
}
