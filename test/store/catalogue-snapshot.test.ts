import assert from 'node:assert/strict';

import type { Db } from '../../store/db.ts';
import { openDb } from '../../store/db.ts';
import { readCatalogue, type CatalogueFault } from '../../store/catalogue-snapshot.ts';
import { seedCatalogue, type Catalogue } from '../drain/control-fixture.ts';
import { testDatabase, type TestDatabase } from '../support/postgres.ts';

describe('store/catalogue-snapshot', () => {
  let database: TestDatabase;
  let db: Db;
  let demo: Catalogue;
  let other: Catalogue;
  before(async () => {
    database = await testDatabase();
    db = openDb(database.url);
    demo = await seedCatalogue(db);
    other = await seedCatalogue(db, 'other');
  });
  after(async () => {
    await db.destroy();
    await database.drop();
  });

  const read = async (): Promise<{ keys: string[]; faults: CatalogueFault[]; version: number }> => {
    const faults: CatalogueFault[] = [];
    const { products, version } = await readCatalogue(db, (fault) => faults.push(fault));
    return { keys: products.map(({ key }) => key), faults, version };
  };

  it('tells products, routes, features and meters by their keys', async () => {
    const { products } = await readCatalogue(db);
    const [product] = products;
    assert.deepEqual(
      { ...product, routes: product?.routes.map((route) => ({ ...route, id: '' })) },
      {
        id: demo.productId,
        environment: 'test',
        key: 'demo',
        hosts: ['demo.example.test'],
        upstream_url: 'http://127.0.0.1:7090',
        reports_usage: false,
        routes: [
          {
            id: '',
            method: '*',
            path: '/v1/*',
            feature: 'demo_api',
            meters: [
              { meter: 'demo_calls', estimate: 1, max_actual: null, source: { kind: 'fixed' } },
            ],
          },
        ],
      },
    );
  });

  const broken: readonly [what: string, column: string, value: string, reason: RegExp][] = [
    ['no list of rules', 'rules', '{"a":1}', /routes\.0\.meters/],
    ['an unknown source', 'rules', rule({ source: { kind: 'magic' } }), /source/],
    ['a meter that does not exist', 'rules', rule({ meter: 'nothing' }), /does not exist: nothing/],
    ['a negative estimate', 'rules', rule({ estimate: -1 }), /estimate/],
    ['a bound below the estimate', 'rules', rule({ estimate: 5, max_actual: 4 }), /below/],
    ['a pointer that is none', 'rules', rule({ source: { kind: 'json', pointer: 'a' } }), /6901/],
  ];
  for (const [what, column, value, reason] of broken) {
    it(`a route with ${what} disables its own product only`, async () => {
      const kept = await db('routes').where({ product_id: demo.productId }).first(column);
      const before = (await read()).version;
      await db('routes')
        .where({ product_id: demo.productId })
        .update({ [column]: value });
      const { keys, faults, version } = await read();
      assert.deepEqual(keys, ['other']);
      assert.equal(faults.length, 1);
      assert.equal(faults[0]?.productKey, 'demo');
      assert.match(faults[0]?.reason ?? '', reason);
      assert.ok(version > before);
      await db('routes')
        .where({ product_id: demo.productId })
        .update({ [column]: JSON.stringify(kept[column]) });
      assert.deepEqual((await read()).keys, ['demo', 'other']);
    });
  }

  it('an upstream that is no web address disables its own product only', async () => {
    await db('products').where({ id: other.productId }).update({ upstream_url: 'file:///etc' });
    const { keys, faults } = await read();
    assert.deepEqual(keys, ['demo']);
    assert.equal(faults[0]?.productKey, 'other');
  });
});

function rule(change: object): string {
  const good = { meter: 'demo_calls', estimate: 1, max_actual: null, source: { kind: 'fixed' } };
  return JSON.stringify([{ ...good, ...change }]);
}
