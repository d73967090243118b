import assert from 'node:assert/strict';

import type { AddOnTerm } from '../../billing/fees.ts';
import type { PlanDefinition } from '../../billing/plan.ts';
import { type Taxation, taxBreakdown } from '../../billing/tax.ts';
import { type Db, openDb } from '../../store/db.ts';
import { newId } from '../../store/ids.ts';
import { readOperatorSettings, updateOperatorSettings } from '../../store/operator-settings.ts';
import { archiveTaxRate } from '../../store/tax-rates.ts';
import { readTaxation } from '../../store/taxation.ts';
import { type TestDatabase, testDatabase } from '../support/postgres.ts';
import { definitionWith, feeCharge, seedTaxRate, usageCharge } from './commerce-rows.ts';
import { type Party, seedParty, seedWorld, type World, write } from './fixture.ts';

describe('store/taxation', () => {
  let database: TestDatabase;
  let db: Db;
  let world: World;
  let party: Party;
  let vat: string;
  let reduced: string;
  let state: string;
  let city: string;

  before(async () => {
    database = await testDatabase();
    db = openDb(database.url, { poolMax: 4 });
    world = await seedWorld(db);
    vat = await seedTaxRate(db, 'VAT', '19');
    reduced = await seedTaxRate(db, 'VAT', '7');
    state = await seedTaxRate(db, 'State', '6.25');
    city = await seedTaxRate(db, 'City', '2.625');
  });
  after(async () => {
    await db.destroy();
    await database.drop();
  });
  beforeEach(async () => {
    party = await seedParty(db, world);
    await operatorRates([]);
  });

  async function operatorRates(taxRateIds: readonly string[]): Promise<void> {
    const settings = await readOperatorSettings(db, 'test');
    await write(db, (tx) => updateOperatorSettings(tx, 'test', { ...settings, taxRateIds }));
  }
  const read = (definition: PlanDefinition, addOns: readonly AddOnTerm[] = []): Promise<Taxation> =>
    readTaxation(db, {
      environment: 'test',
      subscriberId: party.subscriberId,
      definition,
      addOns,
    });
  const subscriber = (fields: object): Promise<unknown> =>
    db('subscribers').where({ id: party.subscriberId }).update(fields);
  const rowsOf = (taxation: Taxation): readonly string[] =>
    taxBreakdown(
      [
        { chargeId: 'fee', amountMinor: 10_000n },
        { chargeId: 'calls', amountMinor: 5_000n },
        { chargeId: null, amountMinor: 1_000n },
      ],
      taxation,
    ).map(
      ({ name, percent, baseMinor, amountMinor }) =>
        `${name} ${percent}% on ${baseMinor}: ${amountMinor}`,
    );
  const plain = definitionWith([feeCharge('fee')]);

  it('nobody says anything: nothing is taxed', async () => {
    assert.deepEqual(rowsOf(await read(plain)), ['Tax 0% on 16000: 0']);
  });

  it("the operator's rates, in their order", async () => {
    await operatorRates([city, state]);
    assert.deepEqual(rowsOf(await read(plain)), [
      'City 2.625% on 16000: 420',
      'State 6.25% on 16000: 1000',
    ]);
  });

  it("the subscriber's instead of the operator's; an empty list is none at all", async () => {
    await operatorRates([city]);
    await subscriber({ tax_rate_ids: [vat] });
    assert.deepEqual(rowsOf(await read(plain)), ['VAT 19% on 16000: 3040']);
    await subscriber({ tax_rate_ids: [] });
    assert.deepEqual(rowsOf(await read(plain)), ['Tax 0% on 16000: 0']);
  });

  it('those of a charge or an add-on instead of either; an empty list of a charge says nothing', async () => {
    await operatorRates([city]);
    await subscriber({ tax_rate_ids: [vat] });
    const definition = definitionWith([
      feeCharge('fee', []),
      usageCharge('calls', world.meterIds.api_calls, [reduced]),
    ]);
    assert.deepEqual(rowsOf(await read(definition)), [
      'VAT 19% on 11000: 2090',
      'VAT 7% on 5000: 350',
    ]);
    const taxation = await read(definition, [
      {
        id: 'sad_1',
        name: 'Seats',
        kind: 'recurring',
        amountMinor: 1n,
        quantity: 1n,
        fromMs: 0,
        untilMs: null,
        taxRateIds: [state],
      },
    ]);
    const rows = taxBreakdown([{ chargeId: 'sad_1', amountMinor: 10_000n }], taxation);
    assert.deepEqual(
      rows.map(({ name, amountMinor }) => [name, amountMinor]),
      [
        ['VAT', 0n],
        ['State', 625n],
      ],
    );
  });

  it('prices that include tax', async () => {
    await operatorRates([vat]);
    const taxation = await read(definitionWith([feeCharge('fee')], { prices_include_tax: true }));
    assert.equal(taxation.kind, 'inclusive');
    // 16000 × 19 ÷ 119 = 2554.62
    assert.deepEqual(rowsOf(taxation), ['VAT 19% on 16000: 2555']);
  });

  it('a subscriber who is exempt, with the reason', async () => {
    await operatorRates([vat]);
    await subscriber({ tax_status: 'exempt', tax_exempt_reason: 'Charity 4711' });
    const taxation = await read(definitionWith([feeCharge('fee', [vat])]));
    assert.deepEqual(taxation, { kind: 'exempt', reason: 'Charity 4711' });
  });

  it('a subscriber who accounts for the tax himself', async () => {
    await operatorRates([vat]);
    await subscriber({ tax_status: 'reverse_charge' });
    const taxation = await read(definitionWith([feeCharge('fee')], { prices_include_tax: true }));
    assert.deepEqual(taxation, { kind: 'reverse_charge' });
    assert.deepEqual(rowsOf(taxation), ['Reverse charge 0% on 16000: 0']);
  });

  it('an archived rate applies where it was given', async () => {
    const old = await seedTaxRate(db, 'VAT', '16');
    await operatorRates([old]);
    await write(db, (tx) => archiveTaxRate(tx, old, new Date()));
    assert.deepEqual(rowsOf(await read(plain)), ['VAT 16% on 16000: 2560']);
  });

  it('a rate that does not exist stops the invoice', async () => {
    const missing = newId('txr');
    await operatorRates([missing]);
    await assert.rejects(read(plain), new RegExp(missing));
  });

  it('a rate of the other environment does not exist', async () => {
    await db('tax_rates').insert({
      id: 'txr_0000000000000000000000',
      environment: 'live',
      lookup_id: 'vat',
      name: 'VAT',
      percent: '19',
    });
    await operatorRates(['txr_0000000000000000000000']);
    await assert.rejects(read(plain), /no tax rate/);
  });
});
