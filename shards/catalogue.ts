import { z } from 'zod';

import type { Catalogue } from '../billing/catalogue.ts';

const sourceSchema = z.discriminatedUnion('kind', [
  z.object({ kind: z.literal('fixed') }),
  z.object({ kind: z.literal('header'), name: z.string().min(1) }),
  z.object({ kind: z.literal('json'), pointer: z.string() }),
  z.object({ kind: z.literal('sse'), pointer: z.string() }),
]);
const quantity = z.number().int().min(0).max(999_999_999_999_999);
const routeSchema = z.object({
  id: z.string(),
  method: z.string(),
  path: z.string(),
  feature: z.string(),
  meters: z.array(
    z.object({
      meter: z.string(),
      estimate: quantity,
      max_actual: quantity.nullable(),
      source: sourceSchema,
    }),
  ),
});
const productSchema = z.object({
  id: z.string(),
  environment: z.enum(['test', 'live']),
  key: z.string().min(1),
  hosts: z.array(z.string()),
  upstream_url: z.url(),
  reports_usage: z.boolean(),
  routes: z.array(routeSchema),
});
const catalogueSchema = z.object({
  version: z.number().int().nonnegative(),
  products: z.array(z.unknown()),
});

/**
 * Reads `tb:cat`. A product that fails its schema is left out, and only it.
 * @throws Error when the whole is no catalogue.
 */
export function parseCatalogue(text: string): Catalogue {
  const { version, products } = catalogueSchema.parse(JSON.parse(text));
  return {
    version,
    products: products.flatMap((product) => {
      const parsed = productSchema.safeParse(product);
      return parsed.success ? [parsed.data] : [];
    }),
  };
}
