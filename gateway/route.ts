import type { IncomingMessage } from 'node:http';

import type { Caller, Target } from './exchange.ts';
import { readPath, withoutFirstSegment } from './path.ts';
import type { Refusal } from './refusal.ts';
import { findRoute } from './route-table.ts';
import type { RoutedProduct, RouteTable } from './route-table.ts';

/** What is asked for: the product by host, else by the first path segment (which the upstream does not see); its route. */
export function route(
  request: IncomingMessage,
  caller: Caller,
  table: RouteTable,
): { readonly kind: 'ok'; readonly target: Target } | Refusal {
  const path = readPath(request.url ?? '');
  if (path === null) return ambiguousPath;

  const byHost = table.byHost.get(`${caller.environment}/${hostName(request.headers.host)}`);
  const product =
    byHost ?? table.byKey.get(`${caller.environment}/${path.segments[0] ?? ''}`) ?? null;
  if (product === null) return productNotFound;

  const rest = byHost === undefined ? withoutFirstSegment(path) : path;
  const found = findRoute(product, request.method ?? 'GET', rest.segments);
  if (found === null) return routeNotFound(product);

  return {
    kind: 'ok',
    target: {
      product: product.product,
      routeId: found.id,
      feature: found.feature,
      meters: found.meters,
      estimates: found.estimates,
      origin: product.origin,
      path: `${product.basePath}${rest.raw}${rest.query}`,
    },
  };
}

const ambiguousPath: Refusal = {
  kind: 'refused',
  code: 'invalid_request',
  detail: 'The path has empty, dotted or doubly encoded segments.',
};
const productNotFound: Refusal = {
  kind: 'refused',
  code: 'product_not_found',
  detail: 'Neither the host nor the first path segment names a product.',
};

function routeNotFound(product: RoutedProduct): Refusal {
  return {
    kind: 'refused',
    code: 'route_not_found',
    detail: `${product.product.key} has no route for this method and path.`,
  };
}

function hostName(host: string | undefined): string {
  if (host === undefined) return '';
  return host.replace(/:\d*$/, '').toLowerCase();
}
