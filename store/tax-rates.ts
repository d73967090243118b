/**
 * Tax rates. A rate never changes, so that an old invoice can be worked out again; a new percentage is a new rate. An
 * archived rate cannot be given to anything any more, and still applies where it was given.
 */
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

export type TaxRateRow = {
  readonly id: string;
  readonly environment: Environment;
  readonly lookup_id: string;
  readonly name: string;
  /** A plain decimal from 0 to 100 with at most six places. */
  readonly percent: string;
  readonly created_at: Date;
  readonly archived_at: Date | null;
};

/** One rate of the environment by id or lookup_id, archived or not. */
export async function findTaxRate(
  reader: Reader,
  environment: Environment,
  ref: string,
): Promise<TaxRateRow | null> {
  return selectNamed(reader, { table: 'tax_rates' }, environment, ref);
}

export async function listTaxRates(
  reader: Reader,
  environment: Environment,
  page: PageArgs,
): Promise<Page<TaxRateRow>> {
  return selectPageOf(reader, { table: 'tax_rates' }, environment, page);
}

/** Inserts a rate. Rejects with unique_violation when the lookup_id is taken. */
export async function insertTaxRate(
  tx: Tx,
  environment: Environment,
  fields: Pick<TaxRateRow, 'lookup_id' | 'name' | 'percent'>,
): Promise<TaxRateRow> {
  return insertedRow(
    tx,
    'INSERT INTO tax_rates (id, environment, lookup_id, name, percent) VALUES (?, ?, ?, ?, ?) RETURNING *',
    [newId('txr'), environment, fields.lookup_id, fields.name, fields.percent],
  );
}

/** Archives a rate; one that is archived stays as it is. */
export async function archiveTaxRate(tx: Tx, id: string, at: Date): Promise<TaxRateRow> {
  return insertedRow(
    tx,
    'UPDATE tax_rates SET archived_at = coalesce(archived_at, ?) WHERE id = ? RETURNING *',
    [at, id],
  );
}

/** The rates of these ids that exist, by id. */
export async function taxRatesById(
  reader: Reader,
  environment: string,
  ids: readonly string[],
): Promise<ReadonlyMap<string, TaxRateRow>> {
  if (ids.length === 0) return new Map();
  const rows = await selectRows<TaxRateRow>(
    reader,
    'SELECT * FROM tax_rates WHERE environment = ? AND id = ANY (?::text[])',
    [environment, ids],
  );
  return new Map(rows.map((row) => [row.id, row]));
}
