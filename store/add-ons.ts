/** Add-ons: what can be bought beside a plan, once or in each interval. One never changes; a new price is a new add-on. */
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

export type AddOnRow = {
  readonly id: string;
  readonly environment: Environment;
  readonly product_id: string;
  readonly lookup_id: string;
  readonly name: string;
  readonly type: 'RECURRING' | 'ONE_TIME';
  /** Of one. */
  readonly amount_minor: bigint;
  readonly currency: string;
  readonly tax_rate_ids: readonly string[];
  readonly created_at: Date;
  readonly archived_at: Date | null;
};

/** One add-on of the environment by id or lookup_id, archived or not. */
export async function findAddOn(
  reader: Reader,
  environment: Environment,
  ref: string,
): Promise<AddOnRow | null> {
  return selectNamed(reader, { table: 'add_ons' }, environment, ref);
}

export async function listAddOns(
  reader: Reader,
  environment: Environment,
  page: PageArgs,
): Promise<Page<AddOnRow>> {
  return selectPageOf(reader, { table: 'add_ons' }, environment, page);
}

/** Inserts an add-on. Rejects with unique_violation when the lookup_id is taken. */
export async function insertAddOn(
  tx: Tx,
  environment: Environment,
  fields: Omit<AddOnRow, 'id' | 'environment' | 'created_at' | 'archived_at'>,
): Promise<AddOnRow> {
  return insertedRow(
    tx,
    `INSERT INTO add_ons (id, environment, product_id, lookup_id, name, type, amount_minor, currency, tax_rate_ids)
     VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) RETURNING *`,
    [
      newId('add'),
      environment,
      fields.product_id,
      fields.lookup_id,
      fields.name,
      fields.type,
      fields.amount_minor,
      fields.currency,
      fields.tax_rate_ids,
    ],
  );
}

/** Archives an add-on; subscriptions that hold it keep it. */
export async function archiveAddOn(tx: Tx, id: string, at: Date): Promise<AddOnRow> {
  return insertedRow(
    tx,
    'UPDATE add_ons SET archived_at = coalesce(archived_at, ?) WHERE id = ? RETURNING *',
    [at, id],
  );
}
