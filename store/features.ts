import type { Reader, Tx } from './db.ts';
import { newId } from './ids.ts';
import {
  insertedRow,
  selectNamed,
  selectPageOf,
  type Environment,
  type Page,
  type PageArgs,
} from './query.ts';

export type FeatureRow = {
  readonly id: string;
  readonly environment: Environment;
  readonly lookup_id: string;
  readonly name: string;
  readonly meter_id: string | null;
  readonly created_at: Date;
};

/** One feature of the environment by id or lookup_id. */
export async function findFeature(
  reader: Reader,
  environment: Environment,
  ref: string,
): Promise<FeatureRow | null> {
  return selectNamed(reader, { table: 'features' }, environment, ref);
}

export async function listFeatures(
  reader: Reader,
  environment: Environment,
  page: PageArgs,
): Promise<Page<FeatureRow>> {
  return selectPageOf(reader, { table: 'features' }, environment, page);
}

/** Inserts a feature. Rejects with unique_violation when the lookup_id is taken. */
export async function insertFeature(
  tx: Tx,
  environment: Environment,
  fields: Pick<FeatureRow, 'lookup_id' | 'name' | 'meter_id'>,
): Promise<FeatureRow> {
  return insertedRow(
    tx,
    'INSERT INTO features (id, environment, lookup_id, name, meter_id) VALUES (?, ?, ?, ?, ?) RETURNING *',
    [newId('feat'), environment, fields.lookup_id, fields.name, fields.meter_id],
  );
}

/** A feature's name may change; what it counts may not, since plans that are published rely on it. */
export async function updateFeature(tx: Tx, id: string, name: string): Promise<FeatureRow> {
  return insertedRow(tx, 'UPDATE features SET name = ? WHERE id = ? RETURNING *', [name, id]);
}
