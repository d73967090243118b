import type { DebitFact, ExpiredFact, LowFact, SealFact } from '../billing/usage-fact.ts';
import type { Tx } from './db.ts';
import {
  type BucketOwner,
  type BucketTake,
  readBucketOwners,
  lockGrantRest,
  takeFromGrant,
  takeFromGrants,
} from './grant-remainders.ts';
import { isPosted, postLedger } from './ledger.ts';
import { selectRow, selectRows } from './query.ts';
import type { StreamName } from './stream-cursors.ts';
import { readTakeBack, settleTakeBack, takeBackOf } from './take-backs.ts';
import { appendCoreLog } from './wallets.ts';

/** The stream's facts that are not usage. A fact that names something unknown throws FactRefused, before any write. */
export class FactRefused extends Error {
  constructor(reason: string) {
    super(reason);
    this.name = 'FactRefused';
  }
}

/** Where the fact stands; what makes the key of its effect. */
export type FactPlace = StreamName & { readonly streamId: string };
const placeKey = (place: FactPlace): string =>
  `${place.shard}:${place.incarnation}:${place.streamId}`;

/** Credits that went with their bucket, as far as the grants still had them: available −, expired +. */
export async function postExpired(tx: Tx, place: FactPlace, fact: ExpiredFact): Promise<void> {
  const owner = await ownerOf(tx, fact);
  const businessKey = `expired:${placeKey(place)}`;
  if (await isPosted(tx, businessKey)) return;
  const amount = await takeFromBucket(tx, { bucketId: owner.bucketId, micro: BigInt(fact.micro) });
  if (amount === 0n) return;
  const asset = `credit:${owner.unit}`;
  await postLedger(tx, {
    environment: owner.environment,
    kind: 'expired',
    businessKey,
    entries: [
      { asset, kind: 'available', subscriberId: owner.subscriberId, amount: -amount },
      { asset, kind: 'expired', subscriberId: owner.subscriberId, amount },
    ],
  });
}

/** Takes what the shard took from one bucket, and gives how much of it the grants had. */
async function takeFromBucket(tx: Tx, take: BucketTake): Promise<bigint> {
  const lacking = await takeFromGrants(tx, [take]);
  return take.micro - (lacking.get(take.bucketId) ?? 0n);
}

async function ownerOf(
  tx: Tx,
  fact: { readonly bucketId: string; readonly subscriberId: string },
): Promise<BucketOwner> {
  const owner = (await readBucketOwners(tx, [fact.bucketId])).get(fact.bucketId);
  if (owner?.subscriberId !== fact.subscriberId) {
    throw new FactRefused(`bucket ${fact.bucketId} is not one of ${fact.subscriberId}`);
  }
  return owner;
}

type LoggedDebit = {
  readonly verb: 'grant' | 'void' | 'debit';
  readonly bucket_id: bigint;
  readonly amount_micro: bigint;
  readonly business_key: string;
  readonly taken_micro: bigint | null;
};

/**
 * What the shard really took for a void or a debit of the core log: exactly that is posted, once for each entry, as far
 * as the grants still had it. The debit of an unheld use turns into its spend; everything else is given back
 * (available −, refunded +). A void and a take-back name a grant, which the shard does not know: what it took of others
 * in the bucket, for usage had eaten into the one, goes back to it.
 */
export async function postDebit(tx: Tx, fact: DebitFact): Promise<void> {
  const owner = await ownerOf(tx, fact);
  const logged = await selectRow<LoggedDebit>(
    tx,
    `SELECT verb, bucket_id, amount_micro, business_key, taken_micro FROM core_log
     WHERE subscriber_id = ? AND seq = ? FOR UPDATE`,
    [fact.subscriberId, fact.coreSeq],
  );
  if (logged === null || logged.verb === 'grant' || logged.bucket_id !== owner.bucketId) {
    throw new FactRefused(`the core log has no such debit: ${fact.subscriberId}, ${fact.coreSeq}`);
  }
  if (logged.taken_micro !== null) return;
  const taken = BigInt(fact.takenMicro);
  if (taken > logged.amount_micro) throw new FactRefused('it took more than was asked for');
  const { amount, restMicro } = await takeFor(tx, logged, {
    bucketId: owner.bucketId,
    micro: taken,
  });
  await selectRows(tx, 'UPDATE core_log SET taken_micro = ? WHERE subscriber_id = ? AND seq = ?', [
    amount + restMicro,
    fact.subscriberId,
    fact.coreSeq,
  ]);
  if (restMicro > 0n) {
    await appendCoreLog(tx, {
      ...{ subscriberId: fact.subscriberId, verb: 'grant', bucketId: owner.bucketId },
      ...{ amountMicro: restMicro, businessKey: `${logged.business_key}:rest` },
    });
  }
  const eventId = /^unheld:([^:]+)/.exec(logged.business_key)?.[1];
  if (eventId !== undefined) {
    await payUnheld(tx, { eventId, owner, asked: logged.amount_micro, amount });
  }
  if (amount === 0n) return;
  const asset = `credit:${owner.unit}`;
  const kind = eventId === undefined ? 'refunded' : 'spent';
  await postLedger(tx, {
    environment: owner.environment,
    kind: eventId === undefined ? logged.verb : 'unheld',
    businessKey: `${logged.verb}:${fact.subscriberId}:${fact.coreSeq}`,
    entries: [
      { asset, kind: 'available', subscriberId: fact.subscriberId, amount: -amount },
      { asset, kind, subscriberId: fact.subscriberId, amount },
    ],
  });
}

/** What is posted of what the shard took, and what goes back to it; both are there in the grants of the bucket. */
async function takeFor(
  tx: Tx,
  logged: LoggedDebit,
  take: BucketTake,
): Promise<{ readonly amount: bigint; readonly restMicro: bigint }> {
  const takeBackId = takeBackOf(logged.business_key);
  const grantId =
    takeBackId === null
      ? (/^void:(grant_.+)$/.exec(logged.business_key)?.[1] ?? null)
      : (await readTakeBack(tx, takeBackId)).grantId;
  if (grantId === null) return { amount: await takeFromBucket(tx, take), restMicro: 0n };
  const rest = await lockGrantRest(tx, grantId);
  const found = take.micro < rest.bucketMicro ? take.micro : rest.bucketMicro;
  const own = found < rest.remainingMicro ? found : rest.remainingMicro;
  const amount = takeBackId === null ? own : await settleTakeBack(tx, takeBackId, own);
  await takeFromGrant(tx, grantId, amount);
  return { amount, restMicro: found - amount };
}

/**
 * The event and its hour say what was paid after all, which a closed period may still learn: neither is billed. The rest
 * of what was asked is overage where the event's instant had it, unless the period that would bill it has closed.
 */
async function payUnheld(
  tx: Tx,
  args: {
    readonly eventId: string;
    readonly owner: BucketOwner;
    readonly asked: bigint;
    readonly amount: bigint;
  },
): Promise<void> {
  const { eventId, owner, amount } = args;
  const rest = args.asked - amount;
  const overage = rest > 0n && (await isRestBilled(tx, eventId)) ? rest : 0n;
  if (amount + overage === 0n) return;
  const paid = await selectRow(
    tx,
    `WITH event AS (
       UPDATE usage_events SET credits_micro = credits_micro + CAST(:amount AS bigint),
         overage_micro = overage_micro + CAST(:overage AS bigint),
         written_off_micro = written_off_micro - CAST(:amount AS bigint) - CAST(:overage AS bigint),
         bucket_ids = CASE WHEN CAST(:amount AS bigint) > 0 THEN bucket_ids || CAST(:bucket AS bigint) ELSE bucket_ids END,
         bucket_micro = CASE WHEN CAST(:amount AS bigint) > 0 THEN bucket_micro || CAST(:amount AS bigint) ELSE bucket_micro END
       WHERE event_day = to_date(left(:event, 8), 'YYYYMMDD') AND event_id = :event
       RETURNING subscription_id, segment_id, occurred_at, adjusts_period_id
     )
     UPDATE credit_rollups r SET credits_micro = r.credits_micro + CAST(:amount AS bigint),
       overage_micro = r.overage_micro + CAST(:overage AS bigint),
       written_off_micro = r.written_off_micro - CAST(:amount AS bigint) - CAST(:overage AS bigint)
     FROM event e
     WHERE r.subscription_id = e.subscription_id AND r.segment_id = e.segment_id
       AND r.hour = date_bin('1 hour', e.occurred_at, 'epoch') AND r.adjusts_period_id = coalesce(e.adjusts_period_id, '')
     RETURNING 1`,
    { event: eventId, amount, overage, bucket: owner.bucketId },
  );
  if (paid === null) throw new FactRefused(`event ${eventId}, which it pays for, is not there`);
}

/**
 * Whether the segment that holds the event's instant has overage and the period that bills the event is not closed; that
 * is locked FOR SHARE, so that no close finalizes between.
 */
async function isRestBilled(tx: Tx, eventId: string): Promise<boolean> {
  const period = await selectRow<{ state: string; overage: boolean | null }>(
    tx,
    `SELECT p.state, (
         SELECT bool_or(s.overage) FROM segments s
         WHERE s.period_id = coalesce(u.adjusts_period_id, u.period_id) AND NOT s.void
           AND s.from_at <= u.occurred_at AND s.until_at > u.occurred_at
       ) AS overage
     FROM usage_events u JOIN periods p ON p.id = u.period_id
     WHERE u.event_day = to_date(left(:event, 8), 'YYYYMMDD') AND u.event_id = :event FOR SHARE OF p`,
    { event: eventId },
  );
  return period?.overage === true && period.state !== 'closed';
}

/** Remembers where the stream stood when the period was sealed; the close waits until that is committed. */
export async function postSeal(tx: Tx, place: FactPlace, fact: SealFact): Promise<void> {
  await selectRows(
    tx,
    `UPDATE periods SET sealed_shard = ?, sealed_incarnation = ?, sealed_stream_id = ?
     WHERE id = ? AND sealed_stream_id IS NULL`,
    [place.shard, place.incarnation, place.streamId, fact.periodId],
  );
}

/** The edge below the threshold, for whoever tells the subscriber or tops up. */
export async function postLow(tx: Tx, place: FactPlace, fact: LowFact): Promise<void> {
  await selectRows(
    tx,
    `INSERT INTO outbox (topic, business_key, payload) VALUES ('balance_low', ?, ?::jsonb)
     ON CONFLICT (business_key) DO NOTHING`,
    [
      `balance_low:${placeKey(place)}`,
      JSON.stringify({
        subscriber_id: fact.subscriberId,
        available_micro: String(fact.availableMicro),
        at: new Date(fact.atMs).toISOString(),
      }),
    ],
  );
}
