import type { MeterRule } from '../billing/catalogue.ts';
import type { Reader, Tx } from './db.ts';
import { newId } from './ids.ts';
import {
  insertedRow,
  selectNamed,
  selectPageOf,
  selectRow,
  selectRows,
  type Environment,
  type Page,
  type PageArgs,
} from './query.ts';

export type ProductRow = {
  readonly id: string;
  readonly environment: Environment;
  readonly lookup_id: string;
  readonly name: string;
  readonly hosts: readonly string[];
  readonly upstream_url: string;
  readonly reports_usage: boolean;
  readonly credit_definition: string | null;
  readonly created_at: Date;
  readonly updated_at: Date;
};

export type RouteRow = {
  readonly id: string;
  readonly product_id: string;
  readonly method: string;
  readonly path: string;
  readonly feature_id: string | null;
  readonly rules: readonly MeterRule[];
  readonly created_at: Date;
};

export type ProductFields = Pick<
  ProductRow,
  'lookup_id' | 'name' | 'hosts' | 'upstream_url' | 'reports_usage' | 'credit_definition'
>;

/** One product of the environment by id or lookup_id. */
export async function findProduct(
  reader: Reader,
  environment: Environment,
  ref: string,
): Promise<ProductRow | null> {
  return selectNamed(reader, { table: 'products' }, environment, ref);
}

/** The environment's product when it has exactly one; else how many it has. */
export async function onlyProduct(
  reader: Reader,
  environment: Environment,
): Promise<{ readonly product: ProductRow | null; readonly lookupIds: readonly string[] }> {
  const rows = await selectRows<ProductRow>(
    reader,
    'SELECT * FROM products WHERE environment = ? ORDER BY created_at LIMIT 20',
    [environment],
  );
  return {
    product: rows.length === 1 ? (rows[0] ?? null) : null,
    lookupIds: rows.map(({ lookup_id }) => lookup_id),
  };
}

export async function listProducts(
  reader: Reader,
  environment: Environment,
  page: PageArgs,
): Promise<Page<ProductRow>> {
  return selectPageOf(reader, { table: 'products' }, environment, page);
}

/** Inserts a product. Rejects with unique_violation when the lookup_id is taken. */
export async function insertProduct(
  tx: Tx,
  environment: Environment,
  fields: ProductFields,
): Promise<ProductRow> {
  return insertedRow(
    tx,
    `INSERT INTO products (id, environment, lookup_id, name, hosts, upstream_url, reports_usage, credit_definition)
     VALUES (?, ?, ?, ?, ?, ?, ?, ?) RETURNING *`,
    [
      newId('prod'),
      environment,
      fields.lookup_id,
      fields.name,
      fields.hosts,
      fields.upstream_url,
      fields.reports_usage,
      fields.credit_definition,
    ],
  );
}

/** Writes all changeable fields of a product. */
export async function updateProduct(
  tx: Tx,
  id: string,
  fields: ProductFields,
): Promise<ProductRow> {
  return insertedRow(
    tx,
    `UPDATE products SET lookup_id = ?, name = ?, hosts = ?, upstream_url = ?, reports_usage = ?, credit_definition = ?,
       updated_at = now() WHERE id = ? RETURNING *`,
    [
      fields.lookup_id,
      fields.name,
      fields.hosts,
      fields.upstream_url,
      fields.reports_usage,
      fields.credit_definition,
      id,
    ],
  );
}

/** Hosts of other products, in any environment, that are among `hosts`. */
export async function hostsInUse(
  reader: Reader,
  hosts: readonly string[],
  exceptProductId: string | null,
): Promise<readonly string[]> {
  const rows = await selectRows<{ readonly host: string }>(
    reader,
    `SELECT DISTINCT h AS host FROM products p, unnest(p.hosts) h
     WHERE h = ANY(?::text[]) AND p.id IS DISTINCT FROM ?`,
    [hosts, exceptProductId],
  );
  return rows.map(({ host }) => host);
}

export async function listRoutes(reader: Reader, productId: string): Promise<readonly RouteRow[]> {
  return selectRows(reader, 'SELECT * FROM routes WHERE product_id = ? ORDER BY path, method', [
    productId,
  ]);
}

export async function findRoute(
  reader: Reader,
  productId: string,
  id: string,
): Promise<RouteRow | null> {
  return selectRow(reader, 'SELECT * FROM routes WHERE product_id = ? AND id = ?', [productId, id]);
}

/** Writes the rule of (method, path): a repeat replaces it, so that a seed can be run again. */
export async function putRoute(
  tx: Tx,
  route: {
    readonly productId: string;
    readonly method: string;
    readonly path: string;
    readonly featureId: string | null;
    readonly rules: readonly MeterRule[];
  },
): Promise<{ readonly row: RouteRow; readonly created: boolean }> {
  const { created, ...row } = await insertedRow<RouteRow & { readonly created: boolean }>(
    tx,
    `INSERT INTO routes (id, product_id, method, path, feature_id, rules) VALUES (?, ?, ?, ?, ?, ?)
     ON CONFLICT (product_id, method, path) DO UPDATE SET feature_id = excluded.feature_id, rules = excluded.rules
     RETURNING *, (xmax = 0) AS created`,
    [
      newId('rte'),
      route.productId,
      route.method,
      route.path,
      route.featureId,
      JSON.stringify(route.rules),
    ],
  );
  return { row, created };
}

export async function deleteRoute(tx: Tx, id: string): Promise<void> {
  await tx.raw('DELETE FROM routes WHERE id = ?', [id]);
}
