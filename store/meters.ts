import type { Aggregation } from '../billing/plan.ts';
import type { TierRange } from '../billing/publish/tiers.ts';
import type { Reader, Tx } from './db.ts';
import { newId } from './ids.ts';
import {
  insertedRow,
  selectNamed,
  selectPageOf,
  selectRows,
  type Environment,
  type Page,
  type PageArgs,
} from './query.ts';

/** Tiers as they were given, see `TierRange`. */
export type UsagePricingRules = {
  readonly mode: 'GRADUATED' | 'VOLUME';
  readonly tiers: readonly TierRange[];
};

export type MeterRow = {
  readonly id: string;
  readonly environment: Environment;
  readonly lookup_id: string;
  readonly name: string;
  readonly unit_one: string;
  readonly unit_other: string;
  readonly scale: number;
  readonly aggregation: Aggregation;
  readonly usage_pricing_rules: UsagePricingRules | null;
  readonly created_at: Date;
};

export type MeterFields = Omit<MeterRow, 'id' | 'environment' | 'created_at'>;

/** One meter of the environment by id or lookup_id. */
export async function findMeter(
  reader: Reader,
  environment: Environment,
  ref: string,
): Promise<MeterRow | null> {
  return selectNamed(reader, { table: 'meters' }, environment, ref);
}

/** All meters of the environment; a catalogue holds dozens, not thousands. */
export async function allMeters(
  reader: Reader,
  environment: Environment,
): Promise<readonly MeterRow[]> {
  return selectRows(reader, 'SELECT * FROM meters WHERE environment = ? ORDER BY created_at, id', [
    environment,
  ]);
}

export async function listMeters(
  reader: Reader,
  environment: Environment,
  page: PageArgs,
): Promise<Page<MeterRow>> {
  return selectPageOf(reader, { table: 'meters' }, environment, page);
}

/** Inserts a meter. Rejects with unique_violation when the lookup_id is taken. */
export async function insertMeter(
  tx: Tx,
  environment: Environment,
  fields: MeterFields,
): Promise<MeterRow> {
  return insertedRow(
    tx,
    `INSERT INTO meters (id, environment, lookup_id, name, unit_one, unit_other, scale, aggregation, usage_pricing_rules)
     VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) RETURNING *`,
    [
      newId('mtr'),
      environment,
      fields.lookup_id,
      fields.name,
      fields.unit_one,
      fields.unit_other,
      fields.scale,
      fields.aggregation,
      fields.usage_pricing_rules === null ? null : JSON.stringify(fields.usage_pricing_rules),
    ],
  );
}

/** Writes what may change of a meter: its words and its prices. Key, scale and aggregation never change: usage was counted by them. */
export async function updateMeter(
  tx: Tx,
  id: string,
  fields: Pick<MeterFields, 'name' | 'unit_one' | 'unit_other' | 'usage_pricing_rules'>,
): Promise<MeterRow> {
  return insertedRow(
    tx,
    `UPDATE meters SET name = ?, unit_one = ?, unit_other = ?, usage_pricing_rules = ? WHERE id = ? RETURNING *`,
    [
      fields.name,
      fields.unit_one,
      fields.unit_other,
      fields.usage_pricing_rules === null ? null : JSON.stringify(fields.usage_pricing_rules),
      id,
    ],
  );
}
