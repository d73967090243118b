import assert from 'node:assert/strict';

import type { Charge, PlanDefinition, Price } from '../../billing/plan.ts';
import type { UsageFact } from '../../billing/usage-fact.ts';
import { draftAdvanceInvoice } from '../../store/change-input.ts';
import { type Db, inTransaction, type Tx } from '../../store/db.ts';
import { invoiceAdvanceFees } from '../../store/fees-ahead.ts';
import { newId } from '../../store/ids.ts';
import { type InvoiceLineRead, listInvoiceLines } from '../../store/invoice-reads.ts';
import { type Invoice } from '../../store/invoices.ts';
import { draftPeriodInvoice, invoicePeriod } from '../../store/period-invoice.ts';
import {
  beginClosing,
  cutPeriod,
  endPeriods,
  listPeriods,
  openPeriods,
  type Period,
  rollPeriods,
} from '../../store/periods.ts';
import { changePlan } from '../../store/plan-changes.ts';
import { attachCoupon } from '../../store/subscription-coupons.ts';
import {
  changeSubscription,
  lockSubscription,
  readSubscription,
} from '../../store/subscriptions.ts';
import { postUsage } from '../../store/usage-batch.ts';
import { usageFact } from '../drain/drainer-fixture.ts';
import { seedSubscriber, seedSubscription, type World } from '../workflows/support/world.ts';

/** The life of one subscription, told to the store in the order of time, without shards and workflows. */
export type Life = ReturnType<typeof lifeOf>;

const meterOf = (world: World) => ({
  ...{ id: world.meterId, key: `m_${world.meterId.slice(4, 14)}`, name: 'API Calls' },
  ...{ unit_one: 'call', unit_other: 'calls', scale: 0, aggregation: 'SUM' as const },
});

export type Terms = Partial<Omit<PlanDefinition, 'charges'>> & {
  readonly fee?: string;
  readonly isAhead?: boolean;
  readonly price?: Price;
  readonly included?: string;
  readonly minimum?: string;
  readonly maximum?: string;
  readonly more?: readonly Charge[];
};

function definitionOf(world: World, terms: Terms): PlanDefinition {
  const { fee, isAhead, price, included, minimum, maximum, more, ...rest } = terms;
  return {
    ...{ currency: 'USD', interval: { unit: 'month', count: 1 }, billing_time: 'anniversary' },
    charges: [
      ...(fee === undefined
        ? []
        : [
            {
              ...({ kind: 'recurring', id: newId('chg'), display_name: `Fee ${fee}` } as const),
              amount_minor: fee,
              ...(isAhead === true && { bill_in: 'advance' as const }),
            },
          ]),
      ...(price === undefined
        ? []
        : [
            {
              ...({ kind: 'usage', id: newId('chg'), display_name: 'Calls' } as const),
              ...{ meter: meterOf(world), price, included_units: included ?? '0' },
              ...(minimum !== undefined && { minimum_minor: minimum }),
              ...(maximum !== undefined && { maximum_minor: maximum }),
            },
          ]),
      ...(more ?? []),
    ],
    ...{ features: [], rate_limits: [], credits: null },
    ...rest,
  };
}

/** A published version of a plan of its own. */
export async function publish(db: Db, world: World, terms: Terms): Promise<string> {
  const definition = definitionOf(world, terms);
  const planId = newId('plan');
  const id = newId('pver');
  await db('plans').insert({
    ...{ id: planId, environment: 'test', product_id: world.productId, name: 'Pro' },
    ...{ lookup_id: `plan-${planId.slice(5, 15)}`, type: 'HYBRID' },
  });
  await db('plan_versions').insert({
    ...{ id, plan_id: planId, version: 1, state: 'published', published_at: new Date() },
    ...{ currency: definition.currency, billing_time: definition.billing_time },
    ...{ interval_unit: definition.interval.unit, interval_count: definition.interval.count },
    definition: JSON.stringify(definition),
    invoice_threshold_minor: definition.invoice_threshold_minor ?? null,
  });
  return id;
}

export async function seedCoupon(
  db: Db,
  off: { readonly percent?: string; readonly amountMinor?: string },
  more: Readonly<Record<string, unknown>> = {},
): Promise<string> {
  const id = newId('cpn');
  await db('coupons').insert({
    ...{ id, environment: 'test', lookup_id: `C${id.slice(4, 14)}`, name: 'Off' },
    ...{ percent: off.percent ?? null, amount_minor: off.amountMinor ?? null },
    ...{ currency: off.amountMinor === undefined ? null : 'USD', duration: 'forever' },
    ...more,
  });
  return id;
}

export async function begin(
  db: Db,
  world: World,
  of: {
    readonly planVersionId: string;
    readonly startAt: Date;
    readonly timeZone?: string;
    readonly couponIds?: readonly string[];
  },
) {
  const subscriberId = await seedSubscriber(db, null);
  const subscriptionId = await seedSubscription(db, { subscriberId, ...of });
  const now = new Date(of.startAt.getTime() - 86_400_000);
  await inTransaction(db, async (tx) => {
    for (const couponId of of.couponIds ?? []) {
      const given = await attachCoupon(tx, { subscriptionId, couponId, at: now });
      assert.equal(given.kind, 'attached');
    }
    const pending = await lockSubscription(tx, subscriptionId);
    const started = await changeSubscription(tx, pending, { kind: 'started', at: now });
    const period = await openPeriods(tx, started, now);
    await invoiceAdvanceFees(tx, started, { period, now });
    assert.equal(await draftAdvanceInvoice(tx, started, period), null);
  });
  return lifeOf(db, world, { subscriberId, subscriptionId });
}

function lifeOf(
  db: Db,
  world: World,
  ids: { readonly subscriberId: string; readonly subscriptionId: string },
) {
  const { subscriptionId } = ids;
  const periods = (): Promise<readonly Period[]> => listPeriods(db, subscriptionId);
  const at = async (instant: Date): Promise<Period> => {
    const found = (await periods()).find(
      ({ startAt, endAt }) => startAt <= instant && instant < endAt,
    );
    return found ?? assert.fail(`no period at ${instant.toISOString()}`);
  };
  const locked = <T>(work: (tx: Tx) => Promise<T>): Promise<T> => inTransaction(db, work);
  return {
    ...ids,
    periods,
    at,

    /** As the drain leaves it: of `occurredAt`, counted where it lies, or, of a closed period, at `countedAt`. */
    async use(occurredAt: Date, quantity: bigint, countedAt: Date = occurredAt): Promise<void> {
      const of = await at(occurredAt);
      const isLate = countedAt > occurredAt;
      await db.raw(
        `INSERT INTO usage_rollups (subscription_id, segment_id, meter_id, hour, adjusts_period_id, quantity, event_count,
           max_quantity, latest_quantity, latest_at)
         SELECT g.subscription_id, g.id, :meter, date_trunc('hour', :occurred::timestamptz), :adjusts, :quantity::numeric, 1,
           :quantity::bigint, :quantity::bigint, :occurred
         FROM segments g WHERE g.subscription_id = :id AND NOT g.void AND g.from_at <= :counted AND g.until_at > :counted
         ON CONFLICT (subscription_id, segment_id, meter_id, hour, adjusts_period_id)
         DO UPDATE SET quantity = usage_rollups.quantity + excluded.quantity,
           event_count = usage_rollups.event_count + 1, latest_at = GREATEST(usage_rollups.latest_at, excluded.latest_at)`,
        {
          ...{ id: subscriptionId, meter: world.meterId, adjusts: isLate ? of.id : '' },
          ...{ occurred: occurredAt, counted: countedAt, quantity: quantity.toString() },
        },
      );
    },

    /** As the drain posts it, whatever has become of its period. Answers the event's id. */
    async post(occurredAt: Date, quantity: number, over: Partial<UsageFact> = {}): Promise<string> {
      const fact = usageFact(
        { ...world, planId: '', planVersionId: '', meterIds: { api_calls: '', tokens: '' } },
        { ...ids, apiKeyId: '', periods: [] },
        {
          ...{ segmentId: '', atMs: occurredAt.getTime() },
          ...{ quantities: [{ meter: meterOf(world).key, quantity }], ...over },
        },
      );
      const outcome = await locked((tx) => postUsage(tx, [fact]));
      assert.deepEqual([outcome.inserted, outcome.refused], [1, []]);
      return fact.opId;
    },

    /** Two seconds later segments carry the new version. Answers the invoice of the change. */
    async change(
      now: Date,
      toVersionId: string,
      when: 'now' | 'period_end' | 'default' = 'now',
    ): Promise<Invoice | null> {
      return locked(async (tx) => {
        const subscription = await lockSubscription(tx, subscriptionId);
        const request = { changeId: newId('pch'), toVersionId, when };
        const result = await changePlan(tx, subscription, request, now);
        return result.kind === 'changed' ? result.invoice : assert.fail(result.message);
      });
    },

    async cut(instant: Date): Promise<Period> {
      const period = await at(instant);
      await locked(async (tx) => {
        await lockSubscription(tx, subscriptionId);
        await cutPeriod(tx, period, { at: instant, reason: 'close_now' });
      });
      return period;
    },

    async cancel(instant: Date, isProrated: boolean): Promise<void> {
      await locked(async (tx) => {
        const subscription = await lockSubscription(tx, subscriptionId);
        await endPeriods(tx, subscription, instant);
        await tx.raw(
          `UPDATE subscriptions SET state = 'canceled', cancel_at = ?, ended_at = ?, cancel_prorate = ?, version = version + 1
           WHERE id = ?`,
          [instant, instant, isProrated, subscriptionId],
        );
      });
    },

    /** Closes the period that begins or runs at an instant; the estimate just before it is the invoice. */
    async close(period: Period): Promise<Invoice> {
      await locked(async (tx) => {
        const subscription = await lockSubscription(tx, subscriptionId);
        if (subscription.state !== 'canceled') await rollPeriods(tx, subscription, period.endAt);
        await beginClosing(tx, period);
      });
      const fresh = (await periods()).find(({ id }) => id === period.id) ?? assert.fail();
      const estimate = await draftPeriodInvoice(
        db,
        await readSubscription(db, subscriptionId),
        fresh,
      );
      const result = await locked((tx) => invoicePeriod(tx, period.id, period.endAt));
      assert.equal(result.kind, 'invoiced');
      if (result.kind !== 'invoiced') assert.fail();
      assert.deepEqual(
        (await listInvoiceLines(db, [result.invoice.id])).map((line) => [
          line.description,
          line.amount_minor,
        ]),
        estimate.lines.map((line) => [line.description, line.amountMinor]),
      );
      assert.equal(estimate.totalMinor, result.invoice.totalMinor);
      return result.invoice;
    },

    async linesOf(invoice: Invoice | null): Promise<readonly InvoiceLineRead[]> {
      return invoice === null ? [] : listInvoiceLines(db, [invoice.id]);
    },

    /** `Fee 3100 (10 of 31 days) 10.00`, and so on. */
    async texts(invoice: Invoice | null): Promise<readonly string[]> {
      const lines = invoice === null ? [] : await listInvoiceLines(db, [invoice.id]);
      return lines.map((line) => `${line.description} ${line.amount_minor}`);
    },

    /** All that was ever invoiced to it, before the balance. */
    async totalMinor(): Promise<bigint> {
      const rows = await db('invoices')
        .where({ subscription_id: subscriptionId })
        .whereNot({ state: 'void' })
        .select<{ total_minor: bigint }[]>('total_minor');
      return rows.reduce((sum, row) => sum + row.total_minor, 0n);
    },
  };
}
