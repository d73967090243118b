/** What every gateway knows of the products, read from the catalogue's rows as of one instant. */
import { z } from 'zod';

import type { Catalogue, CatalogueProduct } from '../billing/catalogue.ts';
import type { Db, Tx } from './db.ts';
import { selectRows } from './query.ts';
import { readRuntimeVersions } from './slots.ts';

/** A product that is left out of the snapshot, and why, in words for an operator. */
export type CatalogueFault = {
  readonly productId: string;
  readonly productKey: string;
  readonly reason: string;
};

const quantityMax = 999_999_999_999_999;
const pointer = z.string().regex(/^(\/([^~/]|~[01])*)*$/, 'is no RFC 6901 pointer');
const quantity = z.number().int().min(0).max(quantityMax);

const meterRule = z
  .object({
    meter: z.string(),
    estimate: quantity,
    max_actual: quantity.nullable(),
    source: z.discriminatedUnion('kind', [
      z.object({ kind: z.literal('fixed') }),
      z.object({ kind: z.literal('header'), name: z.string().regex(/^[A-Za-z0-9-]{1,64}$/) }),
      z.object({ kind: z.literal('json'), pointer }),
      z.object({ kind: z.literal('sse'), pointer }),
    ]),
  })
  .refine(({ estimate, max_actual: max }) => max === null || max >= estimate, {
    path: ['max_actual'],
    message: 'is below the estimate',
  });

const product = z.object({
  id: z.string(),
  environment: z.enum(['test', 'live']),
  key: z.string(),
  hosts: z.array(z.string().regex(/^[a-z0-9.-]+(:\d{1,5})?$/i, 'is no host')),
  upstream_url: z.url({ protocol: /^https?$/, error: 'is no http or https URL' }),
  reports_usage: z.boolean(),
  routes: z.array(
    z.object({
      id: z.string(),
      method: z.string().regex(/^(\*|[A-Z]{3,10})$/),
      path: z.string().startsWith('/'),
      feature: z.string(),
      meters: z.array(meterRule).max(16),
    }),
  ),
});

type ProductRow = Omit<CatalogueProduct, 'routes'>;
type RouteRow = {
  readonly product_id: string;
  readonly id: string;
  readonly method: string;
  readonly path: string;
  readonly feature: string;
  readonly meters: unknown;
};

/**
 * The catalogue of both environments with its version. A row that does not hold disables its own product only: it is
 * left out, and named in `onFault`.
 */
export async function readCatalogue(
  db: Db,
  onFault: (fault: CatalogueFault) => void = () => {},
): Promise<Catalogue> {
  const rows = await db.transaction(readRows, {
    isolationLevel: 'repeatable read',
    readOnly: true,
  });
  const routes = Map.groupBy(rows.routes, (route) => route.product_id);
  const products = rows.products.flatMap((row): readonly CatalogueProduct[] => {
    const parsed = product.safeParse({ ...row, routes: routes.get(row.id) ?? [] });
    const meters = rows.meters.get(row.environment) ?? new Set<string>();
    const reason = parsed.success ? unknownMeter(parsed.data, meters) : wordsOf(parsed.error);
    if (parsed.success && reason === null) return [parsed.data];
    onFault({ productId: row.id, productKey: row.key, reason: reason ?? 'is not valid' });
    return [];
  });
  return { version: rows.version, products };
}

async function readRows(tx: Tx): Promise<{
  readonly version: number;
  readonly products: readonly ProductRow[];
  readonly routes: readonly RouteRow[];
  readonly meters: ReadonlyMap<string, ReadonlySet<string>>;
}> {
  const { catalogue: version } = await readRuntimeVersions(tx);
  const products = await selectRows<ProductRow>(
    tx,
    `SELECT id, environment, lookup_id AS key, hosts, upstream_url, reports_usage
     FROM products ORDER BY environment, lookup_id`,
  );
  const routes = await selectRows<RouteRow>(
    tx,
    `SELECT r.product_id, r.id, r.method, r.path, coalesce(f.lookup_id, '') AS feature, r.rules AS meters
     FROM routes r LEFT JOIN features f ON f.id = r.feature_id ORDER BY r.product_id, r.path, r.method`,
  );
  const meters = await selectRows<{ environment: string; key: string }>(
    tx,
    'SELECT environment, lookup_id AS key FROM meters',
  );
  const byEnvironment = Map.groupBy(meters, ({ environment }) => environment);
  return {
    version,
    products,
    routes,
    meters: new Map(
      [...byEnvironment].map(([name, rows]) => [name, new Set(rows.map(({ key }) => key))]),
    ),
  };
}

function unknownMeter(found: CatalogueProduct, meters: ReadonlySet<string>): string | null {
  for (const route of found.routes) {
    const unknown = route.meters.find(({ meter }) => !meters.has(meter));
    if (unknown !== undefined) {
      return `route ${route.method} ${route.path} counts on a meter that does not exist: ${unknown.meter}`;
    }
  }
  return null;
}

function wordsOf(error: z.ZodError): string {
  return error.issues
    .map(({ path, message }) => `${path.map(String).join('.')}: ${message}`)
    .join('; ');
}
