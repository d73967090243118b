import type { Charge, CreditTerms, IntervalUnit, PlanDefinition } from '../../../billing/plan.ts';
import { type Db, inTransaction } from '../../../store/db.ts';
import { newId } from '../../../store/ids.ts';
import { createSubscription } from '../../../store/subscriptions.ts';

/** Rows of a commercial world for the tests of subscriptions: a product with one meter, plans, subscribers, usage. */
export type World = { readonly productId: string; readonly meterId: string };

export async function seedWorld(db: Db): Promise<World> {
  const productId = newId('prod');
  const meterId = newId('mtr');
  await db('products').insert({
    id: productId,
    environment: 'test',
    lookup_id: `p-${productId.slice(5, 15)}`,
    name: 'Weather API',
    upstream_url: 'http://127.0.0.1:1',
  });
  await db('meters').insert({
    id: meterId,
    environment: 'test',
    lookup_id: `m_${meterId.slice(4, 14)}`,
    name: 'API Calls',
    unit_one: 'call',
    unit_other: 'calls',
    aggregation: 'SUM',
  });
  return { productId, meterId };
}

export type PlanTerms = {
  readonly interval?: { readonly unit: IntervalUnit; readonly count: number };
  readonly billingTime?: 'anniversary' | 'calendar';
  /** Minor units; absent: no fee. */
  readonly feeMinor?: string;
  /** Of the fee; default arrears. */
  readonly billIn?: 'advance' | 'arrears';
  /** What usage may cost before it is billed in mid-period, minor units. */
  readonly thresholdMinor?: string;
  /** Price of a call; absent: calls are not billed. */
  readonly unitPrice?: string;
  readonly includedUnits?: string;
  readonly credits?: CreditTerms;
  /** Prices hold the tax; default: it is added. */
  readonly areGross?: boolean;
  readonly state?: 'draft' | 'published' | 'archived';
};

/** A published plan version; answers its id. */
export async function seedPlan(db: Db, world: World, terms: PlanTerms): Promise<string> {
  const planId = newId('plan');
  const planVersionId = newId('pver');
  const state = terms.state ?? 'published';
  const definition = definitionOf(world, terms);
  await db('plans').insert({
    id: planId,
    environment: 'test',
    product_id: world.productId,
    lookup_id: `plan-${planId.slice(5, 15)}`,
    name: 'Pro',
    type: 'HYBRID',
  });
  await db('plan_versions').insert({
    id: planVersionId,
    plan_id: planId,
    version: 1,
    state,
    published_at: state === 'draft' ? null : new Date(),
    currency: 'USD',
    interval_unit: definition.interval.unit,
    interval_count: definition.interval.count,
    billing_time: definition.billing_time,
    invoice_threshold_minor: terms.thresholdMinor ?? null,
    definition: state === 'draft' ? null : JSON.stringify(definition),
  });
  return planVersionId;
}

function definitionOf(world: World, terms: PlanTerms): PlanDefinition {
  const charges: Charge[] = [];
  if (terms.feeMinor !== undefined) {
    charges.push({
      kind: 'recurring',
      id: newId('chg'),
      display_name: 'Pro plan',
      amount_minor: terms.feeMinor,
      ...(terms.billIn !== undefined && { bill_in: terms.billIn }),
    });
  }
  if (terms.unitPrice !== undefined) {
    charges.push({
      kind: 'usage',
      id: newId('chg'),
      display_name: 'Standard rate',
      meter: {
        id: world.meterId,
        key: `m_${world.meterId.slice(4, 14)}`,
        name: 'API Calls',
        unit_one: 'call',
        unit_other: 'calls',
        scale: 0,
        aggregation: 'SUM',
      },
      price: { model: 'per_unit', unit_price: terms.unitPrice },
      included_units: terms.includedUnits ?? '0',
    });
  }
  return {
    currency: 'USD',
    interval: terms.interval ?? { unit: 'month', count: 1 },
    billing_time: terms.billingTime ?? 'anniversary',
    charges,
    features: [],
    rate_limits: [],
    credits: terms.credits ?? null,
    ...(terms.areGross === true && { prices_include_tax: true }),
    ...(terms.thresholdMinor !== undefined && { invoice_threshold_minor: terms.thresholdMinor }),
  };
}

export async function seedSubscriber(db: Db, paymentMethod: string | null): Promise<string> {
  const id = newId('sbr');
  await db('subscribers').insert({
    id,
    environment: 'test',
    name: 'Ada',
    slot: 7,
    payment_method: paymentMethod,
  });
  return id;
}

/** A subscription in state `pending`, as the admin API leaves it. */
export async function seedSubscription(
  db: Db,
  of: {
    readonly subscriberId: string;
    readonly planVersionId: string;
    readonly startAt?: Date;
    readonly timeZone?: string;
  },
): Promise<string> {
  const created = await inTransaction(db, (tx) =>
    createSubscription(tx, {
      environment: 'test',
      subscriberId: of.subscriberId,
      planVersionId: of.planVersionId,
      startAt: of.startAt,
      timeZone: of.timeZone ?? 'UTC',
    }),
  );
  if (created.kind === 'refused') throw new Error(`refused: ${created.code}`);
  return created.subscriptionId;
}

/** Usage as the drain leaves it: one rollup row in the segment that `at` lies in. */
export async function seedUsage(
  db: Db,
  of: {
    readonly subscriptionId: string;
    readonly meterId: string;
    readonly at: Date;
    readonly quantity: bigint;
    /** The closed period that it comes too late for. */
    readonly adjustsPeriodId?: string;
  },
): Promise<void> {
  await db.raw(
    `INSERT INTO usage_rollups (subscription_id, segment_id, meter_id, hour, adjusts_period_id, quantity, event_count,
                                max_quantity, latest_quantity, latest_at)
     SELECT g.subscription_id, g.id, ?, date_trunc('hour', ?::timestamptz), ?, ?, 1, ?, ?, ? FROM segments g
     WHERE g.subscription_id = ? AND NOT g.void AND g.from_at <= ? AND g.until_at > ?
     ON CONFLICT (subscription_id, segment_id, meter_id, hour, adjusts_period_id)
     DO UPDATE SET quantity = usage_rollups.quantity + excluded.quantity,
                   event_count = usage_rollups.event_count + excluded.event_count`,
    [
      of.meterId,
      of.at,
      of.adjustsPeriodId ?? '',
      of.quantity.toString(),
      of.quantity.toString(),
      of.quantity.toString(),
      of.at,
      of.subscriptionId,
      of.at,
      of.at,
    ],
  );
}

const watched = [
  'subscriptions',
  'periods',
  'segments',
  'grants',
  'core_log',
  'payments',
  'invoices',
  'invoice_lines',
  'invoice_series',
  'top_ups',
  'ledger_txns',
  'ledger_entries',
  'accounts',
] as const;

/** One digest over all rows of the tables that hold money or time: equal before and after means no row changed. */
export async function checksum(db: Db): Promise<string> {
  const parts: string[] = [];
  for (const table of watched) {
    const answer = await db.raw<{ rows: { digest: string }[] }>(
      `SELECT coalesce(md5(string_agg(t::text, '|' ORDER BY t::text)), '') AS digest FROM ${table} t`,
    );
    parts.push(`${table} ${answer.rows[0]?.digest ?? ''}`);
  }
  return parts.join('\n');
}

/** What must hold after every test: the ledger sums to zero, numbers have no gap, a closed period has one invoice. */
export async function faultsOf(db: Db): Promise<readonly string[]> {
  const answer = await db.raw<{ rows: { fault: string }[] }>(
    `SELECT 'ledger of ' || a.asset || ' sums to ' || sum(e.amount) AS fault
       FROM ledger_entries e JOIN accounts a ON a.id = e.account_id GROUP BY a.environment, a.asset HAVING sum(e.amount) <> 0
     UNION ALL
     SELECT 'series ' || s.series || ' has a gap' FROM invoice_series s
       WHERE s.last_number <> (SELECT count(*) FROM (SELECT environment, series FROM invoices
         UNION ALL SELECT environment, series FROM credit_notes) n WHERE n.environment = s.environment AND n.series = s.series)
     UNION ALL
     SELECT 'period ' || p.id || ' is closed with ' || count(i.id) || ' invoices'
       FROM periods p LEFT JOIN invoices i ON i.period_id = p.id AND i.kind = 'period' AND i.state <> 'void'
       WHERE p.state = 'closed' AND NOT p.is_late GROUP BY p.id HAVING count(i.id) <> 1
     UNION ALL
     SELECT 'receivable of ' || a.subscriber_id || ' is ' || sum(e.amount) || ', its open invoices are not'
       FROM accounts a JOIN ledger_entries e ON e.account_id = a.id WHERE a.kind = 'receivable' GROUP BY a.subscriber_id
       HAVING sum(e.amount) <> coalesce((SELECT sum(i.amount_due_minor
           - coalesce((SELECT sum(n.due_reduced_minor) FROM credit_notes n WHERE n.invoice_id = i.id), 0)) FROM invoices i
         WHERE i.subscriber_id = a.subscriber_id AND i.state = 'open'), 0)
     UNION ALL
     SELECT 'subscription ' || a.subscription_id || ' has a hole after period ' || a.seq
       FROM periods a JOIN periods b ON b.subscription_id = a.subscription_id AND b.seq = a.seq + 1
       WHERE a.end_at <> b.start_at AND a.state <> 'void' AND b.state <> 'void'`,
  );
  return answer.rows.map((row) => row.fault);
}
