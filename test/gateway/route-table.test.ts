import assert from 'node:assert/strict';

import type { CatalogueProduct, CatalogueRoute } from '../../billing/catalogue.ts';
import { compileRouteTable, findRoute } from '../../gateway/route-table.ts';

function routeRow(id: string, method: string, path: string): CatalogueRoute {
  return { id, method, path, feature: '', meters: [] };
}

function productRow(overrides: Partial<CatalogueProduct> = {}): CatalogueProduct {
  return {
    id: 'prod_0000000000000000000001',
    environment: 'test',
    key: 'weather',
    hosts: [],
    upstream_url: 'http://127.0.0.1:9',
    reports_usage: false,
    routes: [],
    ...overrides,
  };
}

function compiled(product: unknown): ReturnType<typeof compileRouteTable> {
  return compileRouteTable({ version: 1, products: [product] });
}

describe('gateway/route-table', () => {
  const routes = [
    routeRow('any', '*', '/*'),
    routeRow('v1', 'GET', '/v1/*'),
    routeRow('image', 'GET', '/v1/images/{id}'),
    routeRow('latest', 'GET', '/v1/images/latest'),
    routeRow('parts', 'GET', '/v1/images/{id}/parts/*'),
    routeRow('create', 'POST', '/v1/images'),
    routeRow('all-images', '*', '/v1/images'),
    routeRow('Case', 'GET', '/v1/Case'),
  ];
  const table = compiled(productRow({ routes }));
  const product = table.byKey.get('test/weather');

  const rows: readonly [string, string, string][] = [
    ['GET', '/v1/images/7', 'image'],
    ['GET', '/v1/images/latest', 'latest'],
    ['HEAD', '/v1/images/latest', 'latest'],
    ['GET', '/v1/images/7/parts', 'parts'],
    ['GET', '/v1/images/7/parts/1/2', 'parts'],
    ['POST', '/v1/images', 'create'],
    ['GET', '/v1/images', 'all-images'],
    ['PUT', '/v1/images', 'all-images'],
    ['GET', '/v1/other/deep', 'v1'],
    ['GET', '/v1', 'v1'],
    ['DELETE', '/v1/images/7', 'any'],
    ['GET', '/', 'any'],
    ['GET', '/v1/case', 'Case'],
  ];
  for (const [method, path, expected] of rows) {
    it(`${method} ${path} → ${expected}`, () => {
      assert.ok(product !== undefined);
      const segments = path.split('/').filter((part) => part !== '');
      assert.equal(findRoute(product, method, segments)?.id, expected);
    });
  }

  it('does not depend on the order of the routes', () => {
    const other = compiled(productRow({ routes: routes.toReversed() })).byKey.get('test/weather');
    assert.ok(other !== undefined);
    for (const [method, path, expected] of rows) {
      const segments = path.split('/').filter((part) => part !== '');
      assert.equal(findRoute(other, method, segments)?.id, expected);
    }
  });

  it('takes a base path of the upstream', () => {
    const found = compiled(productRow({ upstream_url: 'https://up.example/base/' }));
    assert.equal(found.byKey.get('test/weather')?.basePath, '/base');
    assert.equal(found.byKey.get('test/weather')?.origin, 'https://up.example');
  });

  const meter = { meter: 'calls', estimate: 1, max_actual: null, source: { kind: 'fixed' } };
  const withMeter = (override: object): object => ({
    ...productRow(),
    routes: [{ ...routeRow('r', 'GET', '/x'), meters: [{ ...meter, ...override }] }],
  });
  const faulty: readonly [string, unknown][] = [
    ['no url', { ...productRow(), upstream_url: null }],
    ['a file url', productRow({ upstream_url: 'file:///etc/passwd' })],
    ['a url with a password', productRow({ upstream_url: 'http://u:p@h/' })],
    ['no routes', { ...productRow(), routes: null }],
    ['another environment', { ...productRow(), environment: 'prod' }],
    ['a negative estimate', withMeter({ estimate: -1 })],
    ['an estimate of 1e308', withMeter({ estimate: 1e308 })],
    ['a blank estimate', withMeter({ estimate: '' })],
    ['an unknown source', withMeter({ source: { kind: 'eval' } })],
    ['a pointer without a slash', withMeter({ source: { kind: 'json', pointer: 'usage' } })],
    ['a header with a line break', withMeter({ source: { kind: 'header', name: 'a\r\nb' } })],
    [
      'a meter twice',
      { ...productRow(), routes: [{ ...routeRow('r', 'GET', '/x'), meters: [meter, meter] }] },
    ],
    ['a meter that no shard takes', withMeter({ meter: 'Calls!' })],
    ['null', null],
  ];
  for (const [what, row] of faulty) {
    it(`disables only the product with ${what}`, () => {
      const good = productRow({ id: 'prod_0000000000000000000002', key: 'good' });
      const both = compileRouteTable({ version: 1, products: [row, good] });
      assert.equal(both.disabled.length, 1);
      assert.equal(both.byKey.size, 1);
      assert.ok(both.byKey.has('test/good'));
    });
  }
});
