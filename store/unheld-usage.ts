import type { CreditTerms } from '../billing/plan.ts';
import type { Tx } from './db.ts';
import { textArray } from './pg-array.ts';
import { selectRows } from './query.ts';
import type { UsageEntry } from './usage-batch.ts';
import type { PlacedFact } from './usage-placement.ts';
import { rewriteEvents } from './usage-spend.ts';
import { appendCoreLog } from './wallets.ts';

/**
 * Use whose hold the shard no longer knew (it was lost, or its tombstone had gone), and use from outside that lies before
 * or after the shard's current segment: the shard changed no balance. What the credits should have paid is asked back
 * through the core log; until the shard has answered, it is written off. What they cannot pay is overage, where the
 * event's segment has it.
 */
const isUnheld = ({ fact }: PlacedFact): boolean =>
  fact.flags.includes('unheld') || (fact.flags.includes('external') && fact.segmentId === '');

/** By operation id, the micro-credits that the unheld facts cost by the burn table of their plan version. */
export async function priceUnheld(
  tx: Tx,
  placed: readonly PlacedFact[],
): Promise<ReadonlyMap<string, bigint>> {
  const unheld = placed.filter(isUnheld);
  if (unheld.length === 0) return new Map();
  const rows = await selectRows<{ id: string; credits: CreditTerms | null }>(
    tx,
    `SELECT id, definition->'credits' AS credits FROM plan_versions WHERE id = ANY (?::text[])`,
    [textArray([...new Set(unheld.map(({ planVersionId }) => planVersionId))])],
  );
  const terms = new Map(rows.map((row) => [row.id, row.credits]));
  const costs = new Map<string, bigint>();
  for (const { fact, planVersionId } of unheld) {
    const burn = new Map(
      (terms.get(planVersionId)?.burn ?? []).map((rate) => [rate.meter_key, rate.micro_per_unit]),
    );
    let cost = 0n;
    for (const { meter, quantity } of fact.quantities) {
      cost += BigInt(quantity) * BigInt(burn.get(meter) ?? '0');
    }
    if (cost > 0n) costs.set(fact.opId, cost);
  }
  return costs;
}

/**
 * Writes the debits of new unheld events: `unheld:{event id}`, and `…:2` and so on when one bucket does not suffice.
 * Gives the events as they then stand: what no credits are left for is overage where the segment has it.
 */
export async function askForUnheld(
  tx: Tx,
  fresh: readonly UsageEntry[],
): Promise<readonly UsageEntry[]> {
  const owed = fresh
    .filter((entry) => entry.unheldMicro > 0n)
    .toSorted(
      ({ fact: a }, { fact: b }) =>
        Number(a.subscriberId > b.subscriberId) - Number(a.subscriberId < b.subscriberId) ||
        a.atMs - b.atMs,
    );
  const billed = new Map<string, UsageEntry>();
  for (const entry of owed) {
    const { fact, planVersionId, unheldMicro } = entry;
    const buckets = await readSpendable(tx, { fact, planVersionId });
    let left = unheldMicro;
    let part = 1;
    for (const bucket of buckets) {
      if (left === 0n) break;
      const amountMicro = bucket.micro < left ? bucket.micro : left;
      await appendCoreLog(tx, {
        subscriberId: fact.subscriberId,
        verb: 'debit',
        bucketId: bucket.bucketId,
        amountMicro,
        businessKey: part === 1 ? `unheld:${fact.opId}` : `unheld:${fact.opId}:${part}`,
      });
      left -= amountMicro;
      part += 1;
    }
    if (left > 0n && entry.hasOverage) {
      const overageMicro = entry.overageMicro + left;
      const writtenOffMicro = entry.writtenOffMicro - left;
      billed.set(fact.opId, { ...entry, overageMicro, writtenOffMicro });
    }
  }
  if (billed.size === 0) return fresh;
  await rewriteEvents(tx, [...billed.values()]);
  return fresh.map((entry) => billed.get(entry.fact.opId) ?? entry);
}

/** In the order of burning, what is left of each bucket that may pay for the fact, less what is already asked back. */
function readSpendable(
  tx: Tx,
  args: Pick<PlacedFact, 'fact' | 'planVersionId'>,
): Promise<readonly { readonly bucketId: bigint; readonly micro: bigint }[]> {
  return selectRows(
    tx,
    `SELECT id AS "bucketId", micro FROM (
       SELECT b.*, (SELECT coalesce(sum(g.remaining_micro), 0) FROM grants g WHERE g.bucket_id = b.id)
         - (SELECT coalesce(sum(l.amount_micro), 0) FROM core_log l
            WHERE l.subscriber_id = w.subscriber_id AND l.bucket_id = b.id AND l.verb <> 'grant' AND l.taken_micro IS NULL)
         AS micro
       FROM buckets b JOIN wallets w ON w.id = b.wallet_id
       WHERE w.subscriber_id = ?
         AND w.unit = (SELECT v.definition->'credits'->>'unit' FROM plan_versions v WHERE v.id = ?)
         AND b.effective_at <= to_timestamp(?::bigint / 1000.0)
         AND (b.expires_at IS NULL OR b.expires_at > to_timestamp(?::bigint / 1000.0))
         AND (b.scope = '{}' OR b.scope && ?::text[])
     ) AS spendable
     WHERE micro > 0
     ORDER BY priority, expires_at NULLS LAST, class DESC, effective_at, id`,
    [
      args.fact.subscriberId,
      args.planVersionId,
      args.fact.atMs,
      args.fact.atMs,
      textArray(args.fact.quantities.map(({ meter }) => meter)),
    ],
  );
}
