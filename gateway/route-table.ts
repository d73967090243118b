import { z } from 'zod';

import type { CatalogueProduct, CatalogueRoute, MeterRule } from '../billing/catalogue.ts';
import type { MeterQuantity } from '../shards/port.ts';

/** A catalogue made ready for look-ups; built once for each version. No expression of a user is ever compiled. */
export type RouteTable = {
  readonly version: number;
  readonly byHost: ReadonlyMap<string, RoutedProduct>;
  readonly byKey: ReadonlyMap<string, RoutedProduct>;
  /** Products that were left out, and why: a bad row disables its own product only. */
  readonly disabled: readonly { readonly productId: string; readonly reason: string }[];
};

export type RoutedProduct = {
  readonly product: CatalogueProduct;
  /** `https://host:port` */
  readonly origin: string;
  /** Path before every route at the upstream; '' or `/base` without a last slash. */
  readonly basePath: string;
  /** Most specific first. */
  readonly routes: readonly CompiledRoute[];
};

export type CompiledRoute = {
  readonly id: string;
  readonly method: string;
  readonly feature: string;
  readonly meters: readonly MeterRule[];
  readonly estimates: readonly MeterQuantity[];
  /** Null stands for any one segment. */
  readonly segments: readonly (string | null)[];
  readonly hasRest: boolean;
};

// The grammars of the shards: what they would refuse at each request is refused here once.
const meterKey = z.string().regex(/^[a-z][a-z0-9_]{1,62}$/);
const key = z.string().regex(/^[a-zA-Z0-9][a-zA-Z0-9_-]{0,63}$/);
const units = z
  .int()
  .min(0)
  .max(10 ** 15 - 1);
const pointer = z.string().regex(/^(\/([^~/]|~[01])*)*$/, 'is not a JSON pointer');
const meterRule = z.object({
  meter: meterKey,
  estimate: units,
  max_actual: units.nullable(),
  source: z.discriminatedUnion('kind', [
    z.object({ kind: z.literal('fixed') }),
    z.object({ kind: z.literal('header'), name: z.string().regex(/^[a-zA-Z0-9-]{1,64}$/) }),
    z.object({ kind: z.literal('json'), pointer }),
    z.object({ kind: z.literal('sse'), pointer }),
  ]),
});
const productRow = z.object({
  id: z.string().regex(/^prod_[0-9a-z]{22}$/),
  environment: z.enum(['test', 'live']),
  key,
  hosts: z.array(z.string().min(1)),
  upstream_url: z.string(),
  reports_usage: z.boolean(),
  routes: z.array(
    z.object({
      id: z.string().min(1),
      method: z.string().regex(/^(\*|[A-Z]{1,20})$/),
      path: z.string().startsWith('/'),
      feature: z.string().regex(/^[\w.-]{0,64}$/),
      meters: z
        .array(meterRule)
        .max(16)
        .refine((meters) => new Set(meters.map(({ meter }) => meter)).size === meters.length, {
          error: 'names a meter twice',
        }),
    }),
  ),
});

/** Compiles a catalogue. Products with a fault are left out and named. */
export function compileRouteTable(catalogue: {
  readonly version: number;
  /** `CatalogueProduct`s, as far as one can trust what others wrote. */
  readonly products: readonly unknown[];
}): RouteTable {
  const byHost = new Map<string, RoutedProduct>();
  const byKey = new Map<string, RoutedProduct>();
  const disabled: { productId: string; reason: string }[] = [];
  for (const row of catalogue.products) {
    const compiled = compileProduct(row);
    if (typeof compiled === 'string') {
      disabled.push({ productId: idOf(row), reason: compiled });
      continue;
    }
    const { environment, key: name, hosts } = compiled.product;
    byKey.set(`${environment}/${name.toLowerCase()}`, compiled);
    for (const host of hosts) byHost.set(`${environment}/${host.toLowerCase()}`, compiled);
  }
  return { version: catalogue.version, byHost, byKey, disabled };
}

/** The most specific route for a method and decoded path segments. HEAD is answered by GET's route when it has no own. */
export function findRoute(
  product: RoutedProduct,
  method: string,
  segments: readonly string[],
): CompiledRoute | null {
  return product.routes.find((route) => matches(route, method, segments)) ?? null;
}

function matches(route: CompiledRoute, method: string, segments: readonly string[]): boolean {
  const isMethod = route.method === method || route.method === '*';
  if (!isMethod && !(method === 'HEAD' && route.method === 'GET')) return false;
  const expected = route.segments;
  if (route.hasRest ? segments.length < expected.length : segments.length !== expected.length) {
    return false;
  }
  for (let index = 0; index < expected.length; index += 1) {
    const literal = expected[index];
    if (literal !== null && literal !== segments[index]) return false;
  }
  return true;
}

function compileProduct(row: unknown): RoutedProduct | string {
  const parsed = productRow.safeParse(row);
  if (!parsed.success) {
    const issue = parsed.error.issues[0];
    return `${issue?.path.map(String).join('.') ?? ''}: ${issue?.message ?? 'is not as expected'}`;
  }
  const url = URL.parse(parsed.data.upstream_url);
  if (url === null || !['http:', 'https:'].includes(url.protocol)) {
    return 'upstream_url: is not an http or https URL';
  }
  if (url.username !== '' || url.password !== '' || url.search !== '' || url.hash !== '') {
    return 'upstream_url: has credentials, a query or a fragment';
  }
  return {
    product: parsed.data,
    origin: url.origin,
    basePath: url.pathname.replace(/\/+$/, ''),
    routes: parsed.data.routes.map(compileRoute).toSorted(bySpecificity),
  };
}

function compileRoute(route: CatalogueRoute): CompiledRoute {
  const parts = route.path.split('/').slice(1);
  if (parts.at(-1) === '') parts.pop();
  const hasRest = parts.at(-1) === '*';
  if (hasRest) parts.pop();
  return {
    id: route.id,
    method: route.method,
    feature: route.feature,
    meters: route.meters,
    estimates: route.meters.map(({ meter, estimate }) => ({ meter, quantity: estimate })),
    segments: parts.map((part) => (/^\{[^{}]*\}$/.test(part) ? null : part.toLowerCase())),
    hasRest,
  };
}

/** Segment by segment a literal wins over a variable, a longer path over a shorter one, an exact end over a rest. */
function bySpecificity(a: CompiledRoute, b: CompiledRoute): number {
  const length = Math.min(a.segments.length, b.segments.length);
  for (let index = 0; index < length; index += 1) {
    const difference = Number(a.segments[index] === null) - Number(b.segments[index] === null);
    if (difference !== 0) return difference;
  }
  if (a.segments.length !== b.segments.length) return b.segments.length - a.segments.length;
  if (a.hasRest !== b.hasRest) return Number(a.hasRest) - Number(b.hasRest);
  return methodOrder(a.method) - methodOrder(b.method);
}

/** On one path: HEAD before GET, which would answer it too, and any named method before all. */
function methodOrder(method: string): number {
  if (method === '*') return 2;
  return method === 'HEAD' ? 0 : 1;
}

function idOf(row: unknown): string {
  if (typeof row === 'object' && row !== null && 'id' in row && typeof row.id === 'string') {
    return row.id;
  }
  return 'unknown';
}
