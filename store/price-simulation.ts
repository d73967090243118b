/** What a period of a subscription would have cost under another plan, beside what it costs or did cost. */
import { isDeepStrictEqual } from 'node:util';

import { assembleInvoice, type InvoiceDraft, type InvoiceInput } from '../billing/invoice.ts';
import type { PlanDefinition } from '../billing/plan.ts';
import { creditUse, type MeterTotal, simulationNotes } from '../billing/price-simulation.ts';
import { aggregate, type UsagePartial } from '../billing/rate.ts';
import type { MeterUsage } from '../billing/runs.ts';
import type { Db, Tx } from './db.ts';
import { imagineFirstFees } from './fees-ahead.ts';
import { readInvoiceInput } from './invoice-input.ts';
import { allMeters, type MeterRow } from './meters.ts';
import { draftPeriodInvoice } from './period-invoice.ts';
import type { Period } from './periods.ts';
import { selectRow, selectRows } from './query.ts';
import { readSubscription, type Subscription } from './subscriptions.ts';

/** What the period really comes to: the invoice it has, else the estimate. */
export type ActualBill = {
  readonly invoice: { readonly id: string; readonly number: string | null } | null;
  readonly subtotalMinor: bigint;
  readonly totalMinor: bigint;
};

export type PeriodSimulation = {
  readonly draft: InvoiceDraft;
  /** Null: the period is closed and has no invoice that is not void. */
  readonly actual: ActualBill | null;
  readonly notes: readonly string[];
};

export type SimulatedVersion = {
  readonly id: string;
  /** Of a draft: as publishing it now would freeze it. */
  readonly definition: PlanDefinition;
};

/**
 * The interval of the period is given to the version, its invoice is worked out as the real one is, and all is taken
 * back: coupons, taxes, fees and parts of intervals are what they would be, and nothing is written. Credits are the
 * exception, for they were burned as they were: under other credit terms overage is what the burn table gives.
 * The caller has made sure that the version bills in the subscription's currency and on its days.
 */
export async function simulatePeriod(db: Db, of: Simulated): Promise<PeriodSimulation> {
  for (let attempt = 1; ; attempt += 1) {
    try {
      // oxlint-disable-next-line no-await-in-loop
      return await simulateOnce(db, of);
    } catch (error) {
      if (attempt === attemptsMax || !isOvertaken(error)) throw error;
    }
  }
}

type Simulated = {
  readonly subscriptionId: string;
  readonly period: Period;
  readonly version: SimulatedVersion;
  /** Before the subscription begins its first fees in advance are still to come. */
  readonly nowMs: number;
};

const attemptsMax = 3;

/** Somebody changed the subscription in the meantime, so that the snapshot is of before. */
function isOvertaken(error: unknown): boolean {
  return error instanceof Error && 'code' in error && error.code === '40001';
}

async function simulateOnce(db: Db, of: Simulated): Promise<PeriodSimulation> {
  const tx = await db.transaction({ isolationLevel: 'repeatable read' });
  try {
    const subscription = await readSubscription(tx, of.subscriptionId);
    const actual = await actualBill(tx, subscription, of);
    await takeVersion(tx, of);
    const changed = await readSubscription(tx, of.subscriptionId);
    await imagineFirstFees(tx, changed, of);
    const meters = await allMeters(tx, subscription.environment);
    const input = await readInvoiceInput(tx, changed, of.period);
    const { definition } = of.version;
    const isSameCredit = isDeepStrictEqual(definition.credits, subscription.definition.credits);
    const simulated = isSameCredit ? input : withBurned(input, definition, meters);
    return {
      draft: assembleInvoice(simulated),
      actual,
      notes: simulationNotes(definition, totalsOf(input.current.usage, meters)),
    };
  } finally {
    await tx.rollback();
  }
}

async function actualBill(
  tx: Tx,
  subscription: Subscription,
  { period, nowMs }: Simulated,
): Promise<ActualBill | null> {
  const row = await selectRow<{
    id: string;
    number: string | null;
    subtotal: bigint;
    total: bigint;
  }>(
    tx,
    `SELECT id, number, subtotal_minor AS subtotal, total_minor AS total FROM invoices
     WHERE period_id = ? AND kind = 'period' AND state <> 'void' ORDER BY created_at DESC LIMIT 1`,
    [period.id],
  );
  if (row !== null) {
    const { id, number, subtotal, total } = row;
    return { invoice: { id, number }, subtotalMinor: subtotal, totalMinor: total };
  }
  if (period.state === 'closed') return null;
  const estimate = await tx.transaction();
  try {
    await imagineFirstFees(estimate, subscription, { period, nowMs });
    const { subtotalMinor, totalMinor } = await draftPeriodInvoice(estimate, subscription, period);
    return { invoice: null, subtotalMinor, totalMinor };
  } finally {
    await estimate.rollback();
  }
}

/** The next interval too: its fees in advance are on this period's invoice. */
async function takeVersion(tx: Tx, of: Simulated): Promise<void> {
  const { version, subscriptionId, period } = of;
  // The subscription first, as whoever changes its segments locks it: two never wait for one another.
  await selectRows(tx, 'UPDATE subscriptions SET plan_version_id = ? WHERE id = ? RETURNING id', [
    version.id,
    subscriptionId,
  ]);
  await selectRows(
    tx,
    `UPDATE plan_versions SET definition = ? WHERE id = ? AND state = 'draft' RETURNING id`,
    [JSON.stringify(version.definition), version.id],
  );
  await selectRows(
    tx,
    `UPDATE segments SET plan_version_id = :version WHERE NOT void AND period_id IN (
       SELECT id FROM periods WHERE subscription_id = :subscription AND interval_index IN (:interval, :next))
     RETURNING id`,
    {
      version: version.id,
      subscription: subscriptionId,
      interval: period.intervalIndex,
      next: period.intervalIndex + 1,
    },
  );
}

function withBurned(
  input: InvoiceInput,
  definition: PlanDefinition,
  meters: readonly MeterRow[],
): InvoiceInput {
  const past = (rows: (usage: MeterUsage) => readonly UsagePartial[]): bigint =>
    definition.credits?.overage?.enabled === true
      ? creditUse(definition, burnedOf(input.current.usage, meters, rows)).pastMicro
      : 0n;
  const billedBefore = past((usage) => usage.billedBefore);
  const total = past((usage) => [...usage.billedBefore, ...usage.thisPeriod]);
  const overageMicro = { billedBefore, thisPeriod: total - billedBefore };
  return { ...input, current: { ...input.current, overageMicro } };
}

type Burned = { readonly meterKey: string; readonly quantity: bigint };

/** Credits are burned by each event, so that they add up whatever the meter's aggregation. */
function burnedOf(
  usage: readonly MeterUsage[],
  meters: readonly MeterRow[],
  rows: (usage: MeterUsage) => readonly UsagePartial[],
): readonly Burned[] {
  return usage.flatMap((ofMeter) => {
    const meter = meters.find(({ id }) => id === ofMeter.meterId);
    if (meter === undefined) return [];
    const aggregation = meter.aggregation === 'COUNT' ? 'COUNT' : 'SUM';
    return [{ meterKey: meter.lookup_id, quantity: aggregate(rows(ofMeter), aggregation) }];
  });
}

function totalsOf(
  usage: readonly MeterUsage[],
  meters: readonly MeterRow[],
): readonly MeterTotal[] {
  return burnedOf(usage, meters, ({ billedBefore, thisPeriod }) => [
    ...billedBefore,
    ...thisPeriod,
  ]).flatMap(({ meterKey, quantity }) => {
    const meter = meters.find(({ lookup_id }) => lookup_id === meterKey);
    return meter === undefined
      ? []
      : [{ meterId: meter.id, meterKey, scale: meter.scale, quantity, events: 0n }];
  });
}
