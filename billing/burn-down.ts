/**
 * Credits as a model without time of its own: which grants a debit takes from, what goes back where, what expires. The
 * shard decides for real, on balances; this says what it must decide, and the ledger's checks are stated against it.
 * Amounts are micro-credits, instants epoch milliseconds.
 */
export type Grant = {
  readonly id: string;
  readonly class: 'paid' | 'promotional';
  readonly amountMicro: bigint;
  /** Low first. */
  readonly priority: number;
  readonly effectiveAtMs: number;
  /** Exclusive; null = never. */
  readonly expiresAtMs: number | null;
  /** Meter keys that it may be spent on; null = every meter. */
  readonly scope: readonly string[] | null;
  /** Order of granting: the older is taken first where all else is equal. */
  readonly seq: number;
};

/** Where the credits of a grant are. They add up to its amount at every moment. */
export type Purse = Grant & {
  readonly available: bigint;
  readonly held: bigint;
  readonly spent: bigint;
  readonly expired: bigint;
  readonly refunded: bigint;
};
type Place = 'available' | 'held' | 'spent' | 'expired' | 'refunded';

/** What a debit or a hold took, in the order of taking. */
export type Taken = readonly { readonly grantId: string; readonly micro: bigint }[];

/** A debit: how much, when, and for which meter. */
export type Debit = { readonly micro: bigint; readonly atMs: number; readonly meter: string };

/** A grant of which nothing was used. */
export function purseOf(grant: Grant): Purse {
  return { ...grant, available: grant.amountMicro, held: 0n, spent: 0n, expired: 0n, refunded: 0n };
}

/**
 * The grants that may be spent on a meter at an instant, in the order in which they are: priority (low first), soonest
 * expiry (never last), promotional before paid, oldest.
 */
export function burnOrder(purses: readonly Purse[], atMs: number, meter: string): Purse[] {
  return purses
    .filter(
      ({ effectiveAtMs, expiresAtMs, scope }) =>
        effectiveAtMs <= atMs &&
        (expiresAtMs === null || atMs < expiresAtMs) &&
        (scope === null || scope.includes(meter)),
    )
    .toSorted(
      (a, b) =>
        a.priority - b.priority ||
        byExpiry(a.expiresAtMs, b.expiresAtMs) ||
        Number(a.class === 'paid') - Number(b.class === 'paid') ||
        a.seq - b.seq,
    );
}

function byExpiry(a: number | null, b: number | null): number {
  if (a === b) return 0;
  if (a === null) return 1;
  return b === null ? -1 : a - b;
}

/** What can be spent on a meter at an instant. */
export function spendable(purses: readonly Purse[], atMs: number, meter: string): bigint {
  return burnOrder(purses, atMs, meter).reduce((sum, purse) => sum + purse.available, 0n);
}

/**
 * Takes up to an amount, in burn-down order, and says what was short of it (overage, or written off).
 * @throws RangeError when the amount is negative.
 */
export function take(
  purses: readonly Purse[],
  debit: Debit,
  to: 'held' | 'spent',
): { readonly purses: readonly Purse[]; readonly taken: Taken; readonly short: bigint } {
  if (debit.micro < 0n) throw new RangeError('a debit is never negative');
  const order = burnOrder(purses, debit.atMs, debit.meter);
  const { taken, left } = split(
    order.map((purse) => ({ grantId: purse.id, micro: purse.available })),
    debit.micro,
  );
  return { purses: moveAll(purses, taken, () => ['available', to]), taken, short: left };
}

/** The first `micro` of a list of amounts, and what the list was short of it. */
function split(amounts: Taken, micro: bigint): { readonly taken: Taken; readonly left: bigint } {
  let left = micro;
  const taken = amounts.flatMap(({ grantId, micro: amount }) => {
    const part = amount < left ? amount : left;
    left -= part;
    return part === 0n ? [] : [{ grantId, micro: part }];
  });
  return { taken, left };
}

/**
 * Gives back the last `micro` of what was taken, in the reverse of the order of taking; credits of a grant whose expiry
 * has passed meanwhile expire instead. Answers what stays taken.
 * @throws RangeError when more is to go back than was taken.
 */
export function giveBack(
  purses: readonly Purse[],
  given: { readonly taken: Taken; readonly micro: bigint; readonly atMs: number },
  from: 'held' | 'spent',
): { readonly purses: readonly Purse[]; readonly kept: Taken } {
  const { taken: back, left } = split(given.taken.toReversed(), given.micro);
  if (left > 0n || given.micro < 0n) throw new RangeError('more goes back than was taken');
  const total = given.taken.reduce((sum, { micro }) => sum + micro, 0n);
  return {
    purses: moveAll(purses, back, (purse) => [
      from,
      purse.expiresAtMs !== null && purse.expiresAtMs <= given.atMs ? 'expired' : 'available',
    ]),
    kept: split(given.taken, total - given.micro).taken,
  };
}

/** What was held is spent. */
export function spendHeld(purses: readonly Purse[], taken: Taken): readonly Purse[] {
  return moveAll(purses, taken, () => ['held', 'spent']);
}

/** What is available of grants that have expired by an instant, expires. What is held stays so until it is settled. */
export function expireGrants(purses: readonly Purse[], atMs: number): readonly Purse[] {
  return purses.map((purse) =>
    purse.expiresAtMs !== null && purse.expiresAtMs <= atMs
      ? moved(purse, purse.available, ['available', 'expired'])
      : purse,
  );
}

/** Takes back what is left of a grant (a refund, a mistake, a cancelled renewal); what was spent stays spent. */
export function voidGrant(purses: readonly Purse[], grantId: string): readonly Purse[] {
  return purses.map((purse) =>
    purse.id === grantId ? moved(purse, purse.available, ['available', 'refunded']) : purse,
  );
}

type Way = readonly [from: Place, to: Place];

function moveAll(
  purses: readonly Purse[],
  amounts: Taken,
  way: (purse: Purse) => Way,
): readonly Purse[] {
  return purses.map((purse) =>
    amounts
      .filter(({ grantId }) => grantId === purse.id)
      .reduce((current, { micro }) => moved(current, micro, way(purse)), purse),
  );
}

function moved(purse: Purse, micro: bigint, [from, to]: Way): Purse {
  return { ...purse, [from]: purse[from] - micro, [to]: purse[to] + micro };
}
