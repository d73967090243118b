import type { UsageFact } from '../billing/usage-fact.ts';
import type { Reader, Tx } from './db.ts';
import { openLatePeriod } from './late-periods.ts';
import { numberArray, textArray } from './pg-array.ts';
import { selectRow, selectRows } from './query.ts';

/** Where an event belongs: its segment and period, or, for a period that is closed, where it is made good. */
export type PlacedFact = {
  readonly fact: UsageFact;
  readonly environment: string;
  readonly subscriptionId: string;
  readonly segmentId: bigint;
  readonly periodId: string;
  readonly planVersionId: string;
  /** Whether what credits do not cover was to be billed at that instant. */
  readonly hasOverage: boolean;
  /** The closed period that the use belongs to, '' for none. */
  readonly adjustsPeriodId: string;
};

export type Placement = {
  readonly placed: readonly PlacedFact[];
  readonly refused: { readonly fact: UsageFact; readonly reason: string }[];
};

/** A subscription's earliest open period is found and locked in at most so many rounds: each one needs a close between. */
const ROUNDS_MAX = 20;

/**
 * Finds the segment of each fact and locks the periods it touches FOR SHARE, ordered by id. A close takes FOR UPDATE on
 * its period, so either it waits for this transaction and bills these events, or this one waits for it and finds the
 * period closed: then the event goes to the subscription's earliest period that is not, or, when it has ended, to its
 * late period, and says which one it adjusts.
 */
export async function placeFacts(tx: Tx, facts: readonly UsageFact[]): Promise<Placement> {
  const named = await readSegments(tx, facts);
  const refused: Placement['refused'] = [];
  const resolved: PlacedFact[] = [];
  const lost: UsageFact[] = [];
  for (const fact of facts) {
    const segment = named.get(fact.segmentId);
    if (segment === undefined || segment.void) lost.push(fact);
    else if (!isOwn(segment, fact))
      refused.push({ fact, reason: `segment ${fact.segmentId} is not its own` });
    else resolved.push(placeIn(segment, fact));
  }
  const found = await findSegments(tx, lost);
  for (const fact of lost) {
    const segment = found.get(fact.opId);
    if (segment === undefined) refused.push({ fact, reason: 'no segment holds its instant' });
    else resolved.push(placeIn(segment, fact));
  }
  const closed = await lockPeriods(tx, new Set(resolved.map(({ periodId }) => periodId)));
  if (closed.size === 0) return { placed: resolved, refused };
  const late = resolved.filter(({ periodId }) => closed.has(periodId));
  const current = await lockCurrentSegments(tx, new Set(late.map((fact) => fact.subscriptionId)));
  const placed = resolved.map((fact) => {
    if (!closed.has(fact.periodId)) return fact;
    return { ...fact, adjustsPeriodId: fact.periodId, ...targetOf(current, fact.subscriptionId) };
  });
  return { placed, refused };
}

type SegmentRow = {
  readonly segmentId: bigint;
  readonly subscriptionId: string;
  readonly periodId: string;
  readonly planVersionId: string;
  readonly hasOverage: boolean;
  readonly void: boolean;
  readonly subscriberId: string;
  readonly productId: string;
  readonly environment: string;
};

const SEGMENT_COLUMNS = `s.id AS "segmentId", s.subscription_id AS "subscriptionId", s.period_id AS "periodId",
  s.plan_version_id AS "planVersionId", s.overage AS "hasOverage", s.void OR p.state = 'void' AS void, b.subscriber_id AS "subscriberId",
  b.product_id AS "productId", b.environment`;
const SEGMENT_TABLES = `segments s JOIN periods p ON p.id = s.period_id JOIN subscriptions b ON b.id = s.subscription_id`;

async function readSegments(
  tx: Tx,
  facts: readonly UsageFact[],
): Promise<ReadonlyMap<string, SegmentRow>> {
  const ids = [...new Set(facts.map((fact) => fact.segmentId))].filter((id) => id !== '');
  if (ids.length === 0) return new Map();
  const rows = await selectRows<SegmentRow>(
    tx,
    `SELECT ${SEGMENT_COLUMNS} FROM ${SEGMENT_TABLES} WHERE s.id = ANY (?::bigint[])`,
    [`{${ids.join(',')}}`],
  );
  return new Map(rows.map((row) => [String(row.segmentId), row]));
}

function isOwn(segment: SegmentRow, fact: UsageFact): boolean {
  return (
    segment.subscriberId === fact.subscriberId &&
    segment.productId === fact.productId &&
    (fact.subscriptionId === '' || fact.subscriptionId === segment.subscriptionId)
  );
}

function placeIn(segment: SegmentRow, fact: UsageFact): PlacedFact {
  const { environment, subscriptionId, segmentId, periodId, planVersionId, hasOverage } = segment;
  return {
    fact,
    environment,
    subscriptionId,
    segmentId,
    periodId,
    planVersionId,
    hasOverage,
    adjustsPeriodId: '',
  };
}

const HOLDS_INSTANT = `b.subscriber_id = n.subscriber_id AND b.product_id = n.product_id
  AND s.from_at <= to_timestamp(n.at_ms / 1000.0) AND s.until_at > to_timestamp(n.at_ms / 1000.0)
  AND NOT s.void AND p.state <> 'void'`;

/** Whether a subscription to the product holds the instant (epoch ms), so that use of then has a place. */
export async function hasPlace(
  reader: Reader,
  use: { readonly subscriberId: string; readonly productId: string; readonly atMs: number },
): Promise<boolean> {
  const row = await selectRow(
    reader,
    `SELECT 1 AS found FROM (SELECT ?::text AS subscriber_id, ?::text AS product_id, ?::bigint AS at_ms) AS n
     JOIN ${SEGMENT_TABLES} ON ${HOLDS_INSTANT} LIMIT 1`,
    [use.subscriberId, use.productId, use.atMs],
  );
  return row !== null;
}

/** The segment, by operation id, that held the instant of a fact whose shard could not tell. */
async function findSegments(
  tx: Tx,
  facts: readonly UsageFact[],
): Promise<ReadonlyMap<string, SegmentRow>> {
  if (facts.length === 0) return new Map();
  const rows = await selectRows<SegmentRow & { readonly opId: string }>(
    tx,
    `SELECT DISTINCT ON (n.op_id) n.op_id AS "opId", ${SEGMENT_COLUMNS}
     FROM unnest(?::text[], ?::text[], ?::text[], ?::text[], ?::bigint[])
       AS n(op_id, subscriber_id, product_id, subscription_id, at_ms)
     JOIN ${SEGMENT_TABLES}
       ON n.subscription_id IN ('', b.id) AND ${HOLDS_INSTANT}
     ORDER BY n.op_id, s.id DESC`,
    [
      textArray(facts.map((fact) => fact.opId)),
      textArray(facts.map((fact) => fact.subscriberId)),
      textArray(facts.map((fact) => fact.productId)),
      textArray(facts.map((fact) => fact.subscriptionId)),
      numberArray(facts.map((fact) => fact.atMs)),
    ],
  );
  return new Map(rows.map((row) => [row.opId, row]));
}

/** Locks and gives those of the periods that are closed: after the lock, none of the others can become so. */
export async function lockPeriods(
  tx: Tx,
  periodIds: ReadonlySet<string>,
): Promise<ReadonlySet<string>> {
  if (periodIds.size === 0) return new Set();
  const rows = await selectRows<{ id: string; state: string }>(
    tx,
    'SELECT id, state FROM periods WHERE id = ANY (?::text[]) ORDER BY id FOR SHARE',
    [textArray([...periodIds])],
  );
  return new Set(rows.filter(({ state }) => state === 'closed').map(({ id }) => id));
}

type Target = Pick<PlacedFact, 'segmentId' | 'periodId' | 'planVersionId'>;

/** Where late use of the subscription is billed. */
export async function lockCurrentSegment(tx: Tx, subscriptionId: string): Promise<Target> {
  return targetOf(await lockCurrentSegments(tx, new Set([subscriptionId])), subscriptionId);
}

function targetOf(current: ReadonlyMap<string, Target>, subscriptionId: string): Target {
  const target = current.get(subscriptionId);
  if (target === undefined) {
    throw new Error(`${subscriptionId} has no period that takes late use; trying again finds one`);
  }
  return target;
}

/**
 * By subscription, the first segment of its earliest period that is neither closed nor void, with the period locked. One
 * that has ended gets a late period for it.
 */
async function lockCurrentSegments(
  tx: Tx,
  subscriptionIds: ReadonlySet<string>,
): Promise<ReadonlyMap<string, Target>> {
  const wanted = new Set(subscriptionIds);
  const current = new Map<string, Target>();
  for (let round = 0; wanted.size > 0 && round < ROUNDS_MAX; round += 1) {
    const rows = await selectRows<Target & { readonly subscriptionId: string }>(
      tx,
      `SELECT DISTINCT ON (s.subscription_id) s.subscription_id AS "subscriptionId", s.id AS "segmentId",
         s.period_id AS "periodId", s.plan_version_id AS "planVersionId"
       FROM segments s JOIN periods p ON p.id = s.period_id
       WHERE s.subscription_id = ANY (?::text[]) AND NOT s.void AND p.state NOT IN ('closed', 'void')
       ORDER BY s.subscription_id, s.from_at`,
      [textArray([...wanted])],
    );
    const found = new Set(rows.map(({ subscriptionId }) => subscriptionId));
    // Sorted, to prevent deadlocks between two drains that open the same ones.
    const ended = [...wanted].filter((id) => !found.has(id)).toSorted();
    for (const subscriptionId of ended) await openLatePeriod(tx, subscriptionId);
    const closed = await lockPeriods(tx, new Set(rows.map(({ periodId }) => periodId)));
    for (const { subscriptionId, ...target } of rows) {
      if (closed.has(target.periodId)) continue;
      current.set(subscriptionId, target);
      wanted.delete(subscriptionId);
    }
  }
  return current;
}
