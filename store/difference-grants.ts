/**
 * Included credits when a plan changes in mid-interval: more are granted at once as the difference, fewer take the
 * unspent part of such differences back. What the interval began with stays.
 */
import { formatCredits } from '../billing/credits.ts';
import type { PlanDefinition } from '../billing/plan.ts';
import type { Reader, Tx } from './db.ts';
import type { Period } from './periods.ts';
import { selectRows } from './query.ts';
import type { Subscription } from './subscriptions.ts';
import { grantCredits, voidGrant } from './wallets.ts';

/** What a change does to the credits of the interval that runs. */
export type CreditDifference =
  | {
      readonly kind: 'ok';
      /** Grants of earlier differences that are taken back. */
      readonly withdrawn: readonly string[];
      readonly granted: { readonly unit: string; readonly amountMicro: bigint } | null;
    }
  | { readonly kind: 'already_spent'; readonly message: string };

type Difference = {
  readonly id: string;
  readonly amountMicro: bigint;
  readonly remainingMicro: bigint;
};

/** Reads only; `settleDifference` writes what it answered. */
export async function creditDifference(
  db: Reader,
  subscription: Subscription,
  change: { readonly intervalIndex: number; readonly next: PlanDefinition },
): Promise<CreditDifference> {
  const old = subscription.definition.credits;
  const terms = change.next.credits;
  const included = includedMicro(change.next);
  if (terms !== null && old?.unit !== terms.unit) {
    return {
      kind: 'ok',
      withdrawn: [],
      granted: included === 0n ? null : { unit: terms.unit, amountMicro: included },
    };
  }
  const more = included - includedMicro(subscription.definition);
  const unit = (terms ?? old)?.unit;
  if (more === 0n || unit === undefined) return { kind: 'ok', withdrawn: [], granted: null };
  if (more > 0n) return { kind: 'ok', withdrawn: [], granted: { unit, amountMicro: more } };
  return takenBack(await readDifferences(db, subscription.id, change.intervalIndex), {
    lessMicro: -more,
    unit,
  });
}

function includedMicro({ credits }: PlanDefinition): bigint {
  return BigInt(credits?.included_micro ?? '0');
}

/** Differences go as a whole; what of them is to stay is granted again, so that their spent part is counted once. */
function takenBack(
  differences: readonly Difference[],
  { lessMicro, unit }: { readonly lessMicro: bigint; readonly unit: string },
): CreditDifference {
  const sum = (of: (difference: Difference) => bigint): bigint =>
    differences.reduce((total, difference) => total + of(difference), 0n);
  const given = sum(({ amountMicro }) => amountMicro);
  const stays = given > lessMicro ? given - lessMicro : 0n;
  const spent = given - sum(({ remainingMicro }) => remainingMicro);
  if (spent > stays) {
    const message = `${formatCredits(spent - stays)} of the credits that this interval's change of plan brought are spent`;
    return { kind: 'already_spent', message };
  }
  const amountMicro = stays - spent;
  return {
    kind: 'ok',
    withdrawn: differences.map(({ id }) => id),
    granted: amountMicro === 0n ? null : { unit, amountMicro },
  };
}

async function readDifferences(
  db: Reader,
  subscriptionId: string,
  intervalIndex: number,
): Promise<readonly Difference[]> {
  return selectRows<Difference>(
    db,
    `SELECT id, amount_micro AS "amountMicro", remaining_micro AS "remainingMicro" FROM grants
     WHERE starts_with(business_key, ?) AND voided_at IS NULL ORDER BY created_at, id`,
    [`recurring:${subscriptionId}:${intervalIndex}:pch_`],
  );
}

/** Grants and takes back what `creditDifference` answered, for the interval of `period`. */
export async function settleDifference(
  tx: Tx,
  subscription: Subscription,
  change: {
    readonly difference: Extract<CreditDifference, { kind: 'ok' }>;
    readonly period: Period;
    readonly changeId: string;
  },
): Promise<void> {
  const { difference, period, changeId } = change;
  const { withdrawn, granted } = difference;
  if (granted !== null) {
    await grantCredits(tx, {
      environment: subscription.environment,
      subscriberId: subscription.subscriberId,
      unit: granted.unit,
      businessKey: `recurring:${subscription.id}:${period.intervalIndex}:${changeId}`,
      source: 'recurring',
      amountMicro: granted.amountMicro,
      class: 'promotional',
      // With the beginning and the end of the interval's own credits, so that it joins their bucket.
      effectiveAt: period.intervalStartAt,
      expiresAt: period.intervalEndAt,
      periodId: period.id,
      currency: subscription.currency,
    });
  }
  for (const grantId of withdrawn) await voidGrant(tx, grantId);
}
