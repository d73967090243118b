/** Where a subscription stands in its current period: what it used, and what the invoice would be now. */
import type { InvoiceDraft } from '../billing/invoice.ts';
import { aggregate, averageLevel } from '../billing/rate.ts';
import type { Db, Reader, Tx } from './db.ts';
import { imagineFirstFees } from './fees-ahead.ts';
import { draftLateInvoice } from './late-invoice.ts';
import { draftPeriodInvoice } from './period-invoice.ts';
import { findLatePeriod, listPeriods, type Period } from './periods.ts';
import { lockSubscription, readSubscription } from './subscriptions.ts';
import { usageForInterval, type UsageRow } from './usage.ts';

export type UpcomingInvoice = {
  /** Null: the subscription has ended, and what came in since then is to be invoiced by itself. */
  readonly period: Period | null;
  readonly draft: InvoiceDraft;
};

/**
 * The invoice of the period that `nowMs` lies in, or, of a subscription that has ended, of what came in since, as of what
 * is committed, with the account balance that is there to be applied; equal to the cent to the final one if nothing is
 * used or invoiced in between. Null before the first period, and after the last when nothing more is to be billed.
 */
export async function upcomingInvoice(
  db: Db,
  subscriptionId: string,
  nowMs: number,
): Promise<UpcomingInvoice | null> {
  const next = await currentPeriod(db, subscriptionId, nowMs);
  if (next !== null && next.seq === 0 && next.startAt.getTime() > nowMs) {
    return {
      period: next,
      draft: await draftOnceBegun(db, subscriptionId, { period: next, nowMs }),
    };
  }
  return atOneInstant(db, async (tx) => {
    const period = await currentPeriod(tx, subscriptionId, nowMs);
    const subscription = await readSubscription(tx, subscriptionId);
    if (period !== null) {
      return { period, draft: await draftPeriodInvoice(tx, subscription, period) };
    }
    const late = await findLatePeriod(tx, subscriptionId);
    const draft = late === null ? null : await draftLateInvoice(tx, subscription, late);
    return draft === null ? null : { period: null, draft };
  });
}

/** Of a subscription that has not begun. Nothing is written. */
async function draftOnceBegun(
  db: Db,
  subscriptionId: string,
  of: { readonly period: Period; readonly nowMs: number },
): Promise<InvoiceDraft> {
  const tx = await db.transaction();
  try {
    const subscription = await lockSubscription(tx, subscriptionId);
    await imagineFirstFees(tx, subscription, of);
    return await draftPeriodInvoice(tx, subscription, of.period);
  } finally {
    await tx.rollback();
  }
}

/** One meter in the current period, in its smallest unit. */
export type MeterUse = {
  readonly meterId: string;
  readonly meterKey: string;
  readonly quantity: bigint;
  readonly eventCount: bigint;
};

export type SubscriptionUsage = { readonly period: Period; readonly meters: readonly MeterUse[] };

/**
 * What was used in the period that `nowMs` lies in, by meter key, under each meter's aggregation and as corrected. What
 * came too late for an earlier period is no use of this one. Null as for `upcomingInvoice`.
 */
export async function subscriptionUsage(
  db: Db,
  subscriptionId: string,
  nowMs: number,
): Promise<SubscriptionUsage | null> {
  return atOneInstant(db, async (tx) => {
    const period = await currentPeriod(tx, subscriptionId, nowMs);
    if (period === null) return null;
    const rows = await usageForInterval(tx, subscriptionId, period.intervalIndex);
    const inTime = rows.filter((row) => row.adjustsPeriodId === '');
    const meters = [...Map.groupBy(inTime, (row) => row.meterId).values()].flatMap((ofMeter) =>
      useOf(ofMeter, period),
    );
    return { period, meters: meters.toSorted((a, b) => (a.meterKey < b.meterKey ? -1 : 1)) };
  });
}

/** Of an interval's rows of a meter. A level of an earlier part goes on to stand, though nobody says so again. */
function useOf(ofMeter: readonly UsageRow[], period: Period): readonly MeterUse[] {
  const own = ofMeter.filter((row) => row.periodId === period.id);
  const [first] = ofMeter;
  if (first === undefined) return [];
  const { meterId, meterKey, aggregation } = first;
  const eventCount = aggregate(own, 'COUNT');
  if (aggregation !== 'WEIGHTED_SUM') {
    if (own.length === 0) return [];
    return [{ meterId, meterKey, quantity: aggregate(own, aggregation), eventCount }];
  }
  const quantity = averageLevel(
    ofMeter.flatMap(({ levels = [] }) => levels),
    {
      during: { startMs: period.startAt.getTime(), endMs: period.endAt.getTime() },
      over: { startMs: period.intervalStartAt.getTime(), endMs: period.intervalEndAt.getTime() },
    },
  );
  return own.length === 0 && quantity === 0n ? [] : [{ meterId, meterKey, quantity, eventCount }];
}

async function atOneInstant<T>(db: Db, read: (tx: Tx) => Promise<T>): Promise<T> {
  return db.transaction(read, { isolationLevel: 'repeatable read', readOnly: true });
}

/** By its instants: a period is not `open` before its workflow has woken. */
async function currentPeriod(
  db: Reader,
  subscriptionId: string,
  nowMs: number,
): Promise<Period | null> {
  const periods = await listPeriods(db, subscriptionId, ['scheduled', 'open', 'closing']);
  const ahead = periods.filter((period) => period.endAt.getTime() > nowMs);
  // One that is about to begin counts: a subscription that was just started has an estimate.
  return ahead[0] ?? null;
}
