import type {
  CreditTerms,
  IntervalUnit,
  PlanDefinition,
  Price,
  RateLimit,
} from '../billing/plan.ts';
import type { Reader, Tx } from './db.ts';
import { newId } from './ids.ts';
import {
  insertedRow,
  selectNamed,
  selectPage,
  selectPageOf,
  selectRow,
  selectRows,
  type Environment,
  type Page,
  type PageArgs,
} from './query.ts';

export const planTypes = ['FLAT', 'USAGE', 'HYBRID', 'CREDITS', 'CUSTOM'] as const;
export type PlanType = (typeof planTypes)[number];

export type PlanRow = {
  readonly id: string;
  readonly environment: Environment;
  readonly product_id: string;
  readonly lookup_id: string;
  readonly name: string;
  readonly type: PlanType;
  readonly created_at: Date;
  readonly archived_at: Date | null;
};

export type PlanVersionRow = {
  readonly id: string;
  readonly plan_id: string;
  readonly version: number;
  readonly state: 'draft' | 'published' | 'archived';
  readonly currency: string;
  readonly interval_unit: IntervalUnit;
  readonly interval_count: number;
  readonly billing_time: 'anniversary' | 'calendar';
  readonly base_price_minor: bigint | null;
  readonly credit_terms: CreditTerms | null;
  readonly rate_limits: readonly RateLimit[];
  readonly proration: 'day' | 'second';
  readonly prices_include_tax: boolean;
  readonly commitment_minor: bigint | null;
  readonly invoice_threshold_minor: bigint | null;
  readonly definition: PlanDefinition | null;
  readonly published_at: Date | null;
  readonly created_at: Date;
};

/** Price of a usage charge, or the amount of the two others. Null: a usage charge that takes its meter's prices. */
export type ChargePrice = Price | { readonly amount_minor: string };

export type ChargeRow = {
  readonly id: string;
  readonly plan_version_id: string;
  readonly position: number;
  readonly type: 'RECURRING' | 'USAGE' | 'ONE_TIME';
  readonly meter_id: string | null;
  readonly display_name: string;
  readonly price: ChargePrice | null;
  readonly included_units: bigint;
  readonly bill_in: 'advance' | 'arrears';
  /** Of usage charges only: the least and the most that an interval costs. */
  readonly minimum_minor: bigint | null;
  readonly maximum_minor: bigint | null;
  readonly tax_rate_ids: readonly string[];
  readonly created_at: Date;
};

/** A tax rate as a charge names it. */
export type TaxRateRef = {
  readonly id: string;
  readonly lookup_id: string;
  readonly archived_at: Date | null;
};

/** What a charge is made of, before it has a place in a version. */
export type NewCharge = Omit<ChargeRow, 'id' | 'plan_version_id' | 'position' | 'created_at'>;

export type PlanFeatureRow = {
  readonly plan_version_id: string;
  readonly feature_id: string;
  readonly feature_key: string;
  readonly feature_name: string;
  readonly meter_key: string | null;
  readonly limit: bigint | null;
  readonly limit_type: 'HARD' | 'SOFT';
  readonly reset_interval: 'hour' | 'day' | 'week' | 'month' | 'year' | 'period';
};

export type VersionTerms = Pick<
  PlanVersionRow,
  | 'currency'
  | 'interval_unit'
  | 'interval_count'
  | 'billing_time'
  | 'base_price_minor'
  | 'credit_terms'
  | 'rate_limits'
  | 'proration'
  | 'prices_include_tax'
  | 'commitment_minor'
  | 'invoice_threshold_minor'
>;

/** One plan of the environment by id or lookup_id. */
export async function findPlan(
  reader: Reader,
  environment: Environment,
  ref: string,
): Promise<PlanRow | null> {
  return selectNamed(reader, { table: 'plans' }, environment, ref);
}

export async function listPlans(
  reader: Reader,
  environment: Environment,
  page: PageArgs,
): Promise<Page<PlanRow>> {
  return selectPageOf(reader, { table: 'plans' }, environment, page);
}

/** Inserts a plan with its first draft. Rejects with unique_violation when the lookup_id is taken. */
export async function insertPlan(
  tx: Tx,
  plan: Pick<PlanRow, 'environment' | 'product_id' | 'lookup_id' | 'name' | 'type'>,
  terms: VersionTerms,
): Promise<{ readonly plan: PlanRow; readonly version: PlanVersionRow }> {
  const row = await insertedRow<PlanRow>(
    tx,
    'INSERT INTO plans (id, environment, product_id, lookup_id, name, type) VALUES (?, ?, ?, ?, ?, ?) RETURNING *',
    [newId('plan'), plan.environment, plan.product_id, plan.lookup_id, plan.name, plan.type],
  );
  return { plan: row, version: await insertVersion(tx, row.id, 1, terms) };
}

async function insertVersion(
  tx: Tx,
  planId: string,
  version: number,
  terms: VersionTerms,
): Promise<PlanVersionRow> {
  return insertedRow(
    tx,
    `INSERT INTO plan_versions (id, plan_id, version, currency, interval_unit, interval_count, billing_time,
       base_price_minor, credit_terms, rate_limits, proration, prices_include_tax, commitment_minor,
       invoice_threshold_minor) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) RETURNING *`,
    [newId('pver'), planId, version, ...termBindings(terms)],
  );
}

function termBindings(terms: VersionTerms): readonly (string | number | bigint | boolean | null)[] {
  return [
    terms.currency,
    terms.interval_unit,
    terms.interval_count,
    terms.billing_time,
    terms.base_price_minor,
    terms.credit_terms === null ? null : JSON.stringify(terms.credit_terms),
    JSON.stringify(terms.rate_limits),
    terms.proration,
    terms.prices_include_tax,
    terms.commitment_minor,
    terms.invoice_threshold_minor,
  ];
}

/** Writes the words of a plan; they are not part of any version. */
export async function updatePlan(
  tx: Tx,
  id: string,
  words: Pick<PlanRow, 'name' | 'type'>,
): Promise<PlanRow> {
  return insertedRow(tx, 'UPDATE plans SET name = ?, type = ? WHERE id = ? RETURNING *', [
    words.name,
    words.type,
    id,
  ]);
}

/** Writes all terms of a draft. The trigger refuses a version that is published. */
export async function updateDraft(
  tx: Tx,
  versionId: string,
  terms: VersionTerms,
): Promise<PlanVersionRow> {
  return insertedRow(
    tx,
    `UPDATE plan_versions SET currency = ?, interval_unit = ?, interval_count = ?, billing_time = ?,
       base_price_minor = ?, credit_terms = ?, rate_limits = ?, proration = ?, prices_include_tax = ?,
       commitment_minor = ?, invoice_threshold_minor = ? WHERE id = ? RETURNING *`,
    [...termBindings(terms), versionId],
  );
}

/** The draft of a plan, locked until the transaction ends, so that charges and publishing do not overtake each other. */
export async function lockDraft(tx: Tx, planId: string): Promise<PlanVersionRow | null> {
  return selectRow(
    tx,
    `SELECT * FROM plan_versions WHERE plan_id = ? AND state = 'draft' FOR UPDATE`,
    [planId],
  );
}

/** The draft if there is one, else the newest version. */
export async function currentVersion(
  reader: Reader,
  planId: string,
): Promise<PlanVersionRow | null> {
  return selectRow(
    reader,
    'SELECT * FROM plan_versions WHERE plan_id = ? ORDER BY version DESC LIMIT 1',
    [planId],
  );
}

/** The newest version that can be subscribed to. */
export async function publishedVersion(
  reader: Reader,
  planId: string,
): Promise<PlanVersionRow | null> {
  return selectRow(
    reader,
    `SELECT v.* FROM plan_versions v JOIN plans p ON p.id = v.plan_id
     WHERE v.plan_id = ? AND v.state = 'published' AND p.archived_at IS NULL ORDER BY v.version DESC LIMIT 1`,
    [planId],
  );
}

export async function findVersion(
  reader: Reader,
  planId: string,
  version: number,
): Promise<PlanVersionRow | null> {
  return selectRow(reader, 'SELECT * FROM plan_versions WHERE plan_id = ? AND version = ?', [
    planId,
    version,
  ]);
}

export async function listVersions(
  reader: Reader,
  planId: string,
  page: PageArgs,
): Promise<Page<PlanVersionRow>> {
  return selectPage(
    reader,
    {
      columns: 't.*',
      from: 'plan_versions t',
      where: 't.plan_id = :planId',
      bindings: { planId },
    },
    page,
  );
}

export async function listCharges(
  reader: Reader,
  versionId: string,
): Promise<readonly ChargeRow[]> {
  return selectRows(reader, 'SELECT * FROM charges WHERE plan_version_id = ? ORDER BY position', [
    versionId,
  ]);
}

/** Appends a charge to a draft that the transaction holds locked. */
export async function insertCharge(
  tx: Tx,
  versionId: string,
  charge: NewCharge,
): Promise<ChargeRow> {
  return insertedRow(
    tx,
    `INSERT INTO charges (id, plan_version_id, position, type, meter_id, display_name, price, included_units, bill_in,
       minimum_minor, maximum_minor, tax_rate_ids)
     VALUES (:id, :version, (SELECT coalesce(max(position), 0) + 1 FROM charges WHERE plan_version_id = :version),
       :type, :meter, :name, :price, :included, :bill_in, :minimum, :maximum, :taxes) RETURNING *`,
    {
      id: newId('chg'),
      version: versionId,
      type: charge.type,
      meter: charge.meter_id,
      name: charge.display_name,
      price: charge.price === null ? null : JSON.stringify(charge.price),
      included: charge.included_units,
      bill_in: charge.bill_in,
      minimum: charge.minimum_minor,
      maximum: charge.maximum_minor,
      taxes: charge.tax_rate_ids,
    },
  );
}

/** Takes a charge out of a draft; false when the draft has no such charge. */
export async function deleteCharge(tx: Tx, versionId: string, id: string): Promise<boolean> {
  const rows = await selectRows(
    tx,
    'DELETE FROM charges WHERE plan_version_id = ? AND id = ? RETURNING id',
    [versionId, id],
  );
  return rows.length > 0;
}

/** Every tax rate of the environment that a charge may name, archived ones among them. */
export async function taxRateRefs(
  reader: Reader,
  environment: Environment,
): Promise<readonly TaxRateRef[]> {
  return selectRows(
    reader,
    'SELECT id, lookup_id, archived_at FROM tax_rates WHERE environment = ? ORDER BY lookup_id',
    [environment],
  );
}

export async function listPlanFeatures(
  reader: Reader,
  versionId: string,
): Promise<readonly PlanFeatureRow[]> {
  return selectRows(
    reader,
    `SELECT pf.*, f.lookup_id AS feature_key, f.name AS feature_name, m.lookup_id AS meter_key
     FROM plan_features pf JOIN features f ON f.id = pf.feature_id LEFT JOIN meters m ON m.id = f.meter_id
     WHERE pf.plan_version_id = ? ORDER BY f.lookup_id`,
    [versionId],
  );
}

/** Puts a feature into a draft, or replaces its limit there. */
export async function putPlanFeature(
  tx: Tx,
  versionId: string,
  feature: Pick<PlanFeatureRow, 'feature_id' | 'limit' | 'limit_type' | 'reset_interval'>,
): Promise<void> {
  await selectRows(
    tx,
    `INSERT INTO plan_features (plan_version_id, feature_id, "limit", limit_type, reset_interval) VALUES (?, ?, ?, ?, ?)
     ON CONFLICT (plan_version_id, feature_id) DO UPDATE
       SET "limit" = excluded."limit", limit_type = excluded.limit_type, reset_interval = excluded.reset_interval`,
    [versionId, feature.feature_id, feature.limit, feature.limit_type, feature.reset_interval],
  );
}

/** Takes a feature out of a draft; false when it was not in it. */
export async function deletePlanFeature(
  tx: Tx,
  versionId: string,
  featureId: string,
): Promise<boolean> {
  const rows = await selectRows(
    tx,
    'DELETE FROM plan_features WHERE plan_version_id = ? AND feature_id = ? RETURNING feature_id',
    [versionId, featureId],
  );
  return rows.length > 0;
}

/** Freezes a draft with what was compiled from it. */
export async function publishVersion(
  tx: Tx,
  versionId: string,
  definition: PlanDefinition,
  now: Date,
): Promise<PlanVersionRow> {
  return insertedRow(
    tx,
    `UPDATE plan_versions SET state = 'published', definition = ?, published_at = ? WHERE id = ? RETURNING *`,
    [JSON.stringify(definition), now, versionId],
  );
}

/**
 * Takes a plan and all its versions off sale; its draft stays as it is. Who has subscribed is not touched. A plan that is
 * archived already keeps its instant.
 */
export async function archivePlan(tx: Tx, planId: string, now: Date): Promise<PlanRow> {
  const plan = await insertedRow<PlanRow>(
    tx,
    'UPDATE plans SET archived_at = coalesce(archived_at, ?::timestamptz) WHERE id = ? RETURNING *',
    [now, planId],
  );
  await selectRows(
    tx,
    `UPDATE plan_versions SET state = 'archived' WHERE plan_id = ? AND state = 'published' RETURNING id`,
    [planId],
  );
  return plan;
}

/** Takes one version off sale; null when it is a draft. */
export async function archiveVersion(
  tx: Tx,
  version: PlanVersionRow,
): Promise<PlanVersionRow | null> {
  return selectRow(
    tx,
    `UPDATE plan_versions SET state = 'archived' WHERE id = ? AND state <> 'draft' RETURNING *`,
    [version.id],
  );
}

/** A new draft with everything that `source` holds. The plan's row is locked: two calls do not make the same number. */
export async function copyToDraft(tx: Tx, source: PlanVersionRow): Promise<PlanVersionRow> {
  await selectRow(tx, 'SELECT id FROM plans WHERE id = ? FOR UPDATE', [source.plan_id]);
  const newest = await currentVersion(tx, source.plan_id);
  const draft = await insertVersion(tx, source.plan_id, (newest?.version ?? 0) + 1, source);
  for (const charge of await listCharges(tx, source.id)) {
    // One by one, to keep their order; a plan has a handful.
    // oxlint-disable-next-line no-await-in-loop
    await insertCharge(tx, draft.id, charge);
  }
  await tx.raw(
    `INSERT INTO plan_features (plan_version_id, feature_id, "limit", limit_type, reset_interval)
     SELECT ?, feature_id, "limit", limit_type, reset_interval FROM plan_features WHERE plan_version_id = ?`,
    [draft.id, source.id],
  );
  return draft;
}
