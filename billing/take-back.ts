/**
 * Credits of a top-up that are taken back for money. Both directions follow one line: of the credits taken back so far,
 * the money is what they cost, rounded down to the minor unit. So never is money given back for credits that stay, and
 * notes add up, however a top-up is cut: all its credits give back all its price. (Only where a micro-credit costs more
 * than a minor unit may an amount be less than what it takes a whole one for.)
 */
import type { Minor } from './money.ts';

/** What a top-up sold: its credits, and what the line of its invoice charged for them. */
export type Sale = { readonly creditsMicro: bigint; readonly priceMinor: Minor };

/** What earlier take-backs of the sale took and gave. */
export type TakenBefore = { readonly micro: bigint; readonly minor: Minor };

/** All that is still available, or as much as gives back an amount of the line. */
export type TakeBackWish =
  | { readonly kind: 'all' }
  | { readonly kind: 'amount'; readonly minor: Minor };

/** What a take-back comes to: credits that are taken, and the amount of the line that is given back for them. */
export type TakeBackTerms = { readonly micro: bigint; readonly minor: Minor };

/** What `micro` more credits give back: what all so far cost, rounded down, less what was given back before. */
export function moneyBack(sale: Sale, before: TakenBefore, micro: bigint): Minor {
  return ((before.micro + micro) * sale.priceMinor) / sale.creditsMicro - before.minor;
}

/** The fewest credits that cost `minor` more, rounded up to a micro-credit; one at least. */
export function creditsBack(sale: Sale, before: TakenBefore, minor: Minor): bigint {
  const cost = (before.minor + minor) * sale.creditsMicro;
  const micro = (cost + sale.priceMinor - 1n) / sale.priceMinor - before.micro;
  return micro < 1n ? 1n : micro;
}

/**
 * What a take-back comes to when `haveMicro` are there. An amount that they do not cover gives back what they cost. What
 * costs less than a minor unit is not taken: nothing could be given for it.
 */
export function takeBack(
  sale: Sale,
  before: TakenBefore,
  wish: TakeBackWish,
  haveMicro: bigint,
): TakeBackTerms {
  const worth = haveMicro === 0n ? 0n : moneyBack(sale, before, haveMicro);
  if (worth === 0n) return { micro: 0n, minor: 0n };
  if (wish.kind === 'all') return { micro: haveMicro, minor: worth };
  const minor = wish.minor < worth ? wish.minor : worth;
  return { micro: creditsBack(sale, before, minor), minor };
}

/**
 * How much of a grant is neither spent nor held, where the ledger may not know yet what was spent, and the shard knows
 * its bucket only. Grants that share a bucket are used up oldest first, so what the ledger does not know of lies with the
 * older ones first, and what requests under way hold too.
 */
export function availableOfGrant(
  /** By the ledger: what is left of the grant, and of the older grants in its bucket. */
  grant: { readonly remainingMicro: bigint; readonly olderMicro: bigint },
  /** What is left of all grants of the bucket by the ledger, and what the shard would let a request take. */
  bucket: { readonly ledgerMicro: bigint; readonly shardMicro: bigint },
): bigint {
  const gone = bucket.ledgerMicro - bucket.shardMicro - grant.olderMicro;
  if (gone <= 0n) return grant.remainingMicro;
  return gone >= grant.remainingMicro ? 0n : grant.remainingMicro - gone;
}
