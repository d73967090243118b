import assert from 'node:assert/strict';

import { type AddOnRow, archiveAddOn, insertAddOn } from '../../store/add-ons.ts';
import { type Db, openDb } from '../../store/db.ts';
import { newId } from '../../store/ids.ts';
import {
  type AddOnAttachment,
  attachAddOn,
  endAddOn,
  listHeldAddOns,
  readAddOns,
} from '../../store/subscription-add-ons.ts';
import { type TestDatabase, testDatabase } from '../support/postgres.ts';
import { finalizeInvoice, seedInvoice, voidInvoice } from './commerce-rows.ts';
import { type Party, seedParty, seedWorld, type World, write } from './fixture.ts';

const at = (text: string): Date => new Date(`2025-${text}Z`);
const JANUARY = { startMs: at('01-01T00:00').getTime(), endMs: at('02-01T00:00').getTime() };
const FEBRUARY = { startMs: JANUARY.endMs, endMs: at('03-01T00:00').getTime() };
const MARCH = { startMs: FEBRUARY.endMs, endMs: at('04-01T00:00').getTime() };

describe('store/subscription-add-ons', () => {
  let database: TestDatabase;
  let db: Db;
  let world: World;
  let party: Party;
  let names = 0;

  before(async () => {
    database = await testDatabase();
    db = openDb(database.url, { poolMax: 4 });
    world = await seedWorld(db);
  });
  after(async () => {
    await db.destroy();
    await database.drop();
  });
  beforeEach(async () => {
    party = await seedParty(db, world);
  });

  const seedAddOn = (fields: Partial<AddOnRow> = {}): Promise<AddOnRow> => {
    names += 1;
    return write(db, (tx) =>
      insertAddOn(tx, 'test', {
        product_id: world.productId,
        lookup_id: `add-on-${names}`,
        name: 'Seats',
        type: 'RECURRING',
        amount_minor: 500n,
        currency: 'USD',
        tax_rate_ids: [],
        ...fields,
      }),
    );
  };
  const attach = (addOnId: string, from: Date, quantity = 3): Promise<AddOnAttachment> =>
    write(db, (tx) =>
      attachAddOn(tx, { subscriptionId: party.subscriptionId, addOnId, quantity, at: from }),
    );
  const attached = async (from: Date, fields: Partial<AddOnRow> = {}): Promise<string> => {
    const attachment = await attach((await seedAddOn(fields)).id, from);
    assert.equal(attachment.kind, 'attached');
    return attachment.kind === 'attached' ? attachment.held.id : '';
  };
  const end = (heldId: string, until: Date): Promise<string> =>
    write(db, async (tx) => {
      const ending = await endAddOn(tx, {
        subscriptionId: party.subscriptionId,
        heldId,
        at: until,
      });
      return ending.kind === 'ended' ? 'ended' : ending.code;
    });
  const idsIn = async (span: typeof JANUARY): Promise<readonly string[]> =>
    (await readAddOns(db, party.subscriptionId, span)).map(({ id }) => id);

  it('gives the terms of a recurring add-on', async () => {
    const rate = 'txr_0000000000000000000000';
    const id = await attached(at('01-10T12:00'), { tax_rate_ids: [rate] });
    assert.deepEqual(await readAddOns(db, party.subscriptionId, JANUARY), [
      {
        id,
        name: 'Seats',
        kind: 'recurring',
        amountMinor: 500n,
        quantity: 3n,
        fromMs: at('01-10T12:00').getTime(),
        untilMs: null,
        taxRateIds: [rate],
      },
    ]);
  });

  it('a recurring one is billed in each span that it is held in, half-open', async () => {
    const id = await attached(at('02-01T00:00'));
    assert.deepEqual(await idsIn(JANUARY), []);
    assert.deepEqual(await idsIn(FEBRUARY), [id]);
    assert.deepEqual(await idsIn(MARCH), [id]);
    assert.equal(await end(id, at('03-01T00:00')), 'ended');
    assert.deepEqual(await idsIn(FEBRUARY), [id]);
    assert.deepEqual(await idsIn(MARCH), []);
    assert.equal(await end(id, at('03-15T00:00')), 'ended');
    const [held] = await listHeldAddOns(db, party.subscriptionId);
    assert.deepEqual(held?.until_at, at('03-01T00:00'));
  });

  it('one that was held for no time is not billed', async () => {
    const id = await attached(at('02-05T00:00'));
    assert.equal(await end(id, at('02-05T00:00')), 'ended');
    assert.deepEqual(await idsIn(FEBRUARY), []);
  });

  it('a one-time one is billed in the span that it was added in, and only there', async () => {
    const id = await attached(at('02-10T00:00'), { type: 'ONE_TIME' });
    assert.deepEqual(await idsIn(JANUARY), []);
    assert.deepEqual(await idsIn(FEBRUARY), [id]);
    assert.deepEqual(await idsIn(MARCH), []);
  });

  it('a one-time one from before the first period is billed with the first', async () => {
    const id = await attached(new Date('2024-12-31T23:59:58Z'), { type: 'ONE_TIME' });
    assert.deepEqual(await idsIn(JANUARY), [id]);
    assert.deepEqual(await idsIn(FEBRUARY), []);
  });

  it('a one-time one can be taken back while its period runs, and not when it is over', async () => {
    const back = await attached(at('01-10T00:00'), { type: 'ONE_TIME' });
    const kept = await attached(at('01-10T00:00'), { type: 'ONE_TIME' });
    assert.equal(await end(back, at('01-20T00:00')), 'ended');
    assert.equal(await end(kept, at('02-01T00:00')), 'already_billed');
    assert.deepEqual(await idsIn(JANUARY), [kept]);
  });

  it('a one-time one is not taken back after an earlier invoice of its interval billed it, until that is void', async () => {
    const id = await attached(at('01-10T00:00'), { type: 'ONE_TIME' });
    const invoiceId = await seedInvoice(db, { ...party, state: 'draft' });
    await db('invoice_lines').insert({
      id: newId('line'),
      invoice_id: invoiceId,
      position: 0,
      kind: 'one_time',
      charge_id: id,
      description: 'Seats',
      amount_minor: '1500',
      details: '{}',
    });
    await finalizeInvoice(db, invoiceId);
    assert.equal(await end(id, at('01-20T00:00')), 'already_billed');
    await voidInvoice(db, invoiceId);
    assert.equal(await end(id, at('01-20T00:00')), 'ended');
  });

  it('refuses what is archived, of another currency or product, or not there', async () => {
    const refusalOf = async (fields: Partial<AddOnRow>): Promise<AddOnAttachment> =>
      attach((await seedAddOn(fields)).id, at('01-10T00:00'));
    assert.deepEqual(await attach(newId('add'), at('01-10T00:00')), {
      kind: 'refused',
      code: 'add_on_not_found',
    });
    assert.deepEqual(await refusalOf({ currency: 'EUR' }), {
      kind: 'refused',
      code: 'currency_differs',
      addOns: 'EUR',
      subscriptions: 'USD',
    });
    const productId = newId('prod');
    await db('products').insert({
      id: productId,
      environment: 'test',
      lookup_id: 'other',
      name: 'Other',
      upstream_url: 'http://127.0.0.1:1',
    });
    assert.deepEqual(await refusalOf({ product_id: productId }), {
      kind: 'refused',
      code: 'product_differs',
      addOns: productId,
      subscriptions: world.productId,
    });
    const archived = await seedAddOn();
    await write(db, (tx) => archiveAddOn(tx, archived.id, new Date()));
    assert.deepEqual(await attach(archived.id, at('01-10T00:00')), {
      kind: 'refused',
      code: 'add_on_archived',
    });
    assert.deepEqual(await listHeldAddOns(db, party.subscriptionId), []);
  });

  it('ends only what the subscription holds', async () => {
    const id = await attached(at('01-10T00:00'));
    const mine = party;
    party = await seedParty(db, world);
    assert.equal(await end(id, at('01-20T00:00')), 'not_held');
    party = mine;
    assert.equal(await end(id, at('01-20T00:00')), 'ended');
  });

  it('keeps what is archived for those who hold it', async () => {
    const addOn = await seedAddOn();
    const attachment = await attach(addOn.id, at('01-10T00:00'));
    assert.equal(attachment.kind, 'attached');
    await write(db, (tx) => archiveAddOn(tx, addOn.id, new Date()));
    assert.equal((await idsIn(MARCH)).length, 1);
  });
});
