import assert from 'node:assert/strict';

import { findCoupon } from '../../store/coupons.ts';
import { type Db, openDb } from '../../store/db.ts';
import { newId } from '../../store/ids.ts';
import { findTaxRate, listTaxRates } from '../../store/tax-rates.ts';
import { type TestDatabase, testDatabase } from '../support/postgres.ts';

describe('store/query › what is named', () => {
  let database: TestDatabase;
  let db: Db;
  before(async () => {
    database = await testDatabase();
    db = openDb(database.url, { poolMax: 2 });
  });
  after(async () => {
    await db.destroy();
    await database.drop();
  });

  async function seedRate(of: {
    readonly id: string;
    readonly lookupId: string;
    readonly environment?: 'test' | 'live';
  }): Promise<void> {
    await db('tax_rates').insert({
      id: of.id,
      environment: of.environment ?? 'test',
      lookup_id: of.lookupId,
      name: 'VAT',
      percent: '19',
    });
  }

  it('goes by its id and by its lookup_id, in its own environment only', async () => {
    const id = newId('txr');
    await seedRate({ id, lookupId: 'vat' });
    await seedRate({ id: newId('txr'), lookupId: 'vat', environment: 'live' });
    assert.equal((await findTaxRate(db, 'test', 'vat'))?.id, id);
    assert.equal((await findTaxRate(db, 'test', id))?.lookup_id, 'vat');
    assert.notEqual((await findTaxRate(db, 'live', 'vat'))?.id, id);
    assert.equal(await findTaxRate(db, 'live', id), null);
    assert.equal(await findCoupon(db, 'test', 'vat'), null);
    const page = await listTaxRates(db, 'test', { limit: 20, after: null });
    assert.deepEqual(
      page.rows.map((row) => row.id),
      [id],
    );
  });

  it('is the one with the id, where another was given that id for its name', async () => {
    const [first, second, third] = [newId('txr'), newId('txr'), newId('txr')];
    await seedRate({ id: first, lookupId: second });
    await seedRate({ id: second, lookupId: third });
    await seedRate({ id: third, lookupId: first });
    for (const id of [first, second, third]) {
      // oxlint-disable-next-line no-await-in-loop
      assert.equal((await findTaxRate(db, 'test', id))?.id, id);
    }
  });
});
