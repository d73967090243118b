import { givenCreditLimits } from '../billing/shard-limits.ts';
import type { Reader, Tx } from './db.ts';
import { newId } from './ids.ts';
import { accountBalances, type AccountKind, postLedger } from './ledger.ts';
import { selectRows } from './query.ts';

export type CoreVerb = 'grant' | 'void' | 'debit';

export type CoreLogEntry = {
  readonly subscriberId: string;
  readonly verb: CoreVerb;
  /** buckets.id. */
  readonly bucketId: bigint;
  readonly amountMicro: bigint;
  readonly businessKey: string;
};

/**
 * Appends to the subscriber's gap-free log of credit changes, which the projector carries to the shard in order.
 * Locks the subscriber row until the transaction ends, so sequence numbers are taken one after the other.
 * Repeating a `businessKey` writes nothing and gives the old number. Throws when the subscriber does not exist.
 */
export async function appendCoreLog(tx: Tx, entry: CoreLogEntry): Promise<bigint> {
  await lockSubscriber(tx, entry.subscriberId);
  const old = await selectRows<{ seq: bigint }>(
    tx,
    'SELECT seq FROM core_log WHERE business_key = ?',
    [entry.businessKey],
  );
  if (old[0] !== undefined) return old[0].seq;
  const bumped = await selectRows<{ core_seq: bigint }>(
    tx,
    'UPDATE subscribers SET core_seq = core_seq + 1 WHERE id = ? RETURNING core_seq',
    [entry.subscriberId],
  );
  const seq = bumped[0]?.core_seq;
  if (seq === undefined) throw new Error(`subscriber ${entry.subscriberId} does not exist`);
  await selectRows(
    tx,
    `INSERT INTO core_log (subscriber_id, seq, verb, bucket_id, amount_micro, business_key)
     VALUES (?, ?, ?, ?, ?, ?)`,
    [entry.subscriberId, seq, entry.verb, entry.bucketId, entry.amountMicro, entry.businessKey],
  );
  return seq;
}

/** The subscriber's clock: Postgres' own, moved by the offset of a test clock. */
async function lockSubscriber(tx: Tx, subscriberId: string): Promise<{ readonly now: Date }> {
  const locked = await selectRows<{ now: Date }>(
    tx,
    `SELECT now() + clock_offset_ms * interval '1 millisecond' AS now
     FROM subscribers WHERE id = ? FOR NO KEY UPDATE`,
    [subscriberId],
  );
  const row = locked[0];
  if (row === undefined) throw new Error(`subscriber ${subscriberId} does not exist`);
  return row;
}

/** The id of the subscriber's wallet for a unit of credit (`credit`, `token`…), made when it is not there yet. */
export async function ensureWallet(
  tx: Tx,
  wallet: { readonly subscriberId: string; readonly unit: string },
): Promise<string> {
  await selectRows(
    tx,
    `INSERT INTO wallets (id, subscriber_id, unit) VALUES (?, ?, ?)
     ON CONFLICT (subscriber_id, unit) DO NOTHING`,
    [newId('wal'), wallet.subscriberId, wallet.unit],
  );
  const found = await selectRows<{ id: string }>(
    tx,
    'SELECT id FROM wallets WHERE subscriber_id = ? AND unit = ?',
    [wallet.subscriberId, wallet.unit],
  );
  const id = found[0]?.id;
  if (id === undefined) throw new Error(`wallet of ${wallet.subscriberId} vanished`);
  return id;
}

export type CreditGrant = {
  readonly environment: string;
  readonly subscriberId: string;
  readonly unit: string;
  /** The business fact, for instance `top_up:<id>` or `recurring:<subscription>:<interval>`. */
  readonly businessKey: string;
  readonly source: 'top_up' | 'recurring' | 'manual';
  readonly amountMicro: bigint;
  readonly class: 'promotional' | 'paid';
  /** Low burns first; 100 when absent. */
  readonly priority?: number;
  readonly effectiveAt: Date;
  /** Null: never. */
  readonly expiresAt: Date | null;
  /** Meter keys that the credits may pay for; empty or absent: every meter. */
  readonly scope?: readonly string[];
  readonly paymentId?: string;
  readonly periodId?: string;
  /** What was paid for it, in minor units of `currency`. */
  readonly costMinor?: bigint;
  readonly currency?: string;
};

export type Granted = {
  readonly grantId: string;
  readonly bucketId: bigint;
  readonly coreSeq: bigint;
};

/**
 * Gives credits: grant, ledger transaction `grant:{businessKey}` (world −, available +) and an entry of the core log,
 * in the caller's transaction. Repeating a `businessKey` writes nothing and gives the same answer.
 */
export async function grantCredits(tx: Tx, grant: CreditGrant): Promise<Granted> {
  const { now } = await lockSubscriber(tx, grant.subscriberId);
  const old = await selectRows<{ id: string; bucket_id: bigint; seq: bigint }>(
    tx,
    `SELECT g.id, g.bucket_id, l.seq FROM grants g JOIN core_log l ON l.business_key = 'grant:' || g.business_key
     WHERE g.business_key = ?`,
    [grant.businessKey],
  );
  const known = old[0];
  if (known !== undefined) {
    return { grantId: known.id, bucketId: known.bucket_id, coreSeq: known.seq };
  }
  const walletId = await ensureWallet(tx, grant);
  const bucketId = await ensureBucket(tx, { walletId, grant, now });
  const grantId = newId('grant');
  await tx('grants').insert({
    id: grantId,
    wallet_id: walletId,
    bucket_id: bucketId,
    business_key: grant.businessKey,
    source: grant.source,
    amount_micro: grant.amountMicro,
    remaining_micro: grant.amountMicro,
    payment_id: grant.paymentId ?? null,
    period_id: grant.periodId ?? null,
    cost_minor: grant.costMinor ?? 0n,
    currency: grant.currency ?? null,
  });
  const asset = `credit:${grant.unit}`;
  await postLedger(tx, {
    environment: grant.environment,
    kind: 'grant',
    businessKey: `grant:${grant.businessKey}`,
    entries: [
      { asset, kind: 'world', subscriberId: null, amount: -grant.amountMicro },
      { asset, kind: 'available', subscriberId: grant.subscriberId, amount: grant.amountMicro },
    ],
  });
  const coreSeq = await appendCoreLog(tx, {
    subscriberId: grant.subscriberId,
    verb: 'grant',
    bucketId,
    amountMicro: grant.amountMicro,
    businessKey: `grant:${grant.businessKey}`,
  });
  return { grantId, bucketId, coreSeq };
}

type BucketTerms = Pick<CreditGrant, 'priority' | 'class' | 'scope' | 'effectiveAt' | 'expiresAt'>;

export type CreditRoom =
  | { readonly kind: 'ok' }
  /** With these credits, the subscriber would hold `wouldBeMicro` that were given or bought. */
  | { readonly kind: 'balance_full'; readonly wouldBeMicro: bigint }
  /** These credits would need a bucket of their own, and there are as many as there may be. */
  | { readonly kind: 'buckets_full' };

/**
 * Whether credits may be given or sold: a shard that is full refuses them, and all that come after them. Top-ups that are
 * being paid count as if they had come. Locks the subscriber row until the transaction ends, so that what is asked is
 * still so when it is written. Whatever was let in before under `businessKey` is let in again.
 */
export async function creditRoom(
  tx: Tx,
  wanted: BucketTerms & {
    readonly subscriberId: string;
    readonly unit: string;
    readonly amountMicro: bigint;
    readonly businessKey: string;
  },
): Promise<CreditRoom> {
  const { now } = await lockSubscriber(tx, wanted.subscriberId);
  const known = await selectRows(
    tx,
    `SELECT 1 FROM grants WHERE business_key = :key UNION ALL SELECT 1 FROM top_ups WHERE business_key = :key`,
    { key: wanted.businessKey },
  );
  if (known.length > 0) return { kind: 'ok' };
  const held = await selectRows<{ bucket_id: bigint; micro: bigint }>(
    tx,
    `SELECT g.bucket_id, sum(g.remaining_micro) AS micro
     FROM wallets w JOIN buckets b ON b.wallet_id = w.id JOIN grants g ON g.bucket_id = b.id
     WHERE w.subscriber_id = ? AND (b.expires_at IS NULL OR b.expires_at > ?)
       AND g.source <> 'recurring' AND g.voided_at IS NULL AND g.remaining_micro > 0
     GROUP BY g.bucket_id`,
    [wanted.subscriberId, now],
  );
  const [coming] = await selectRows<{ micro: bigint }>(
    tx,
    `SELECT coalesce(sum(credits_micro), 0) AS micro FROM top_ups WHERE subscriber_id = ? AND state = 'pending'`,
    [wanted.subscriberId],
  );
  const wouldBeMicro = held.reduce(
    (sum, { micro }) => sum + micro,
    wanted.amountMicro + (coming?.micro ?? 0n),
  );
  if (wouldBeMicro > givenCreditLimits.balanceMicro) return { kind: 'balance_full', wouldBeMicro };
  const walletId = await ensureWallet(tx, wanted);
  const joined = await findBucket(tx, { walletId, grant: wanted, now });
  const others = held.filter(({ bucket_id: id }) => id !== joined);
  return others.length < givenCreditLimits.buckets ? { kind: 'ok' } : { kind: 'buckets_full' };
}

/**
 * A grant that is effective already joins a bucket of its group that is effective too: a shard keeps few
 * buckets, and a bucket for each of a hundred top-ups would differ in nothing but its beginning.
 */
async function ensureBucket(
  tx: Tx,
  args: { readonly walletId: string; readonly grant: BucketTerms; readonly now: Date },
): Promise<bigint> {
  const found = await findBucket(tx, args);
  if (found !== null) return found;
  const { walletId, grant } = args;
  const made = await selectRows<{ id: bigint }>(
    tx,
    `INSERT INTO buckets (wallet_id, priority, class, scope, expires_at, effective_at)
     VALUES (?, ?, ?, ?::text[], ?, ?) RETURNING id`,
    [...groupOf(walletId, grant), grant.effectiveAt],
  );
  const id = made[0]?.id;
  if (id === undefined) throw new Error(`no bucket was made in ${walletId}`);
  return id;
}

async function findBucket(
  tx: Tx,
  args: { readonly walletId: string; readonly grant: BucketTerms; readonly now: Date },
): Promise<bigint | null> {
  const { walletId, grant, now } = args;
  const isEffective = grant.effectiveAt.getTime() <= now.getTime();
  const found = await selectRows<{ id: bigint }>(
    tx,
    `SELECT id FROM buckets WHERE wallet_id = ? AND priority = ? AND class = ? AND scope = ?::text[]
       AND expires_at IS NOT DISTINCT FROM ?::timestamptz
       AND (effective_at = ? OR (?::boolean AND effective_at <= ?))
     ORDER BY effective_at DESC, id LIMIT 1`,
    [...groupOf(walletId, grant), grant.effectiveAt, isEffective, grant.effectiveAt],
  );
  return found[0]?.id ?? null;
}

/** Grants that are alike in this may share a bucket. */
function groupOf(walletId: string, grant: BucketTerms) {
  const scope = [...new Set(grant.scope ?? [])].toSorted();
  return [walletId, grant.priority ?? 100, grant.class, scope, grant.expiresAt];
}

/**
 * Takes a grant back as far as it is unspent: marks it and writes the intent to the core log under `void:{grantId}`.
 * The shard answers what it took; the drain then posts exactly that (available −, refunded +).
 * Null when the grant was voided before or nothing of it is left.
 */
export async function voidGrant(tx: Tx, grantId: string): Promise<bigint | null> {
  const voided = await selectRows<{
    bucket_id: bigint;
    remaining_micro: bigint;
    subscriber_id: string;
  }>(
    tx,
    `UPDATE grants g SET voided_at = now() FROM wallets w
     WHERE g.id = ? AND g.voided_at IS NULL AND w.id = g.wallet_id
     RETURNING g.bucket_id, g.remaining_micro, w.subscriber_id`,
    [grantId],
  );
  const grant = voided[0];
  if (grant === undefined || grant.remaining_micro === 0n) return null;
  return appendCoreLog(tx, {
    subscriberId: grant.subscriber_id,
    verb: 'void',
    bucketId: grant.bucket_id,
    amountMicro: grant.remaining_micro,
    businessKey: `void:${grantId}`,
  });
}

/** All in micro-credits of `unit`; `granted` = available + spent + expired + refunded. `available` includes what is held. */
export type WalletBalance = {
  readonly unit: string;
  readonly granted: bigint;
  readonly available: bigint;
  readonly spent: bigint;
  readonly expired: bigint;
  readonly refunded: bigint;
};

/** What the ledger says of each of the subscriber's wallets, by unit. A wallet without any entry is not listed. */
export async function walletBalances(
  tx: Reader,
  subscriberId: string,
): Promise<readonly WalletBalance[]> {
  const byUnit = new Map<string, Map<AccountKind, bigint>>();
  for (const account of await accountBalances(tx, subscriberId)) {
    if (!account.asset.startsWith('credit:')) continue;
    const unit = account.asset.slice('credit:'.length);
    const kinds = byUnit.get(unit) ?? new Map<AccountKind, bigint>();
    byUnit.set(unit, kinds.set(account.kind, account.amount));
  }
  return [...byUnit].map(([unit, kinds]) => {
    const of = (kind: AccountKind): bigint => kinds.get(kind) ?? 0n;
    const parts = {
      available: of('available'),
      spent: of('spent'),
      expired: of('expired'),
      refunded: of('refunded'),
    };
    const granted = parts.available + parts.spent + parts.expired + parts.refunded;
    return { unit, granted, ...parts };
  });
}
