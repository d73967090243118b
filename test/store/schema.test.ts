import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';

import { type Db, openDb } from '../../store/db.ts';
import { newId } from '../../store/ids.ts';
import { grantCredits } from '../../store/wallets.ts';
import { type TestDatabase, testDatabase } from '../support/postgres.ts';
import { type Party, seedParty, seedWorld, type World, write } from './fixture.ts';
import { schemaText } from './schema-snapshot.ts';

const SNAPSHOT = new URL('../snapshots/schema.sql', import.meta.url);

/** What must be refused, and by what. `sql` may hold several statements; `:sbr`, `:sub`… stand for seeded rows. */
type Row = readonly [refused: string, sql: string, by: RegExp];

const EVENT = `INSERT INTO usage_events (event_day, event_id, environment, subscriber_id, subscription_id, segment_id, period_id,
  product_id, occurred_at, status, meter_ids, quantities, bucket_ids, bucket_micro, credits_micro) VALUES`;
const event = (over: {
  readonly day?: string;
  readonly id?: string;
  readonly meters?: string;
  readonly quantities?: string;
  readonly buckets?: string;
  readonly micro?: string;
  readonly credits?: string;
}): string => `${EVENT} ('${over.day ?? '2025-01-05'}', '${over.id ?? '20250105-gw0001-1'}', 'test', ':sbr', ':sub', :seg, ':per',
  ':prod', '2025-01-05', 200, '${over.meters ?? '{:mtr}'}', '${over.quantities ?? '{1}'}', '${over.buckets ?? '{}'}',
  '${over.micro ?? '{}'}', ${over.credits ?? '0'})`;
const rollup = (quantity: string): string =>
  `INSERT INTO usage_rollups VALUES (':sub', :seg, ':mtr', '2025-01-01', '', ${quantity}, 1, 1, 1, '2025-01-01')`;
const creditRollup = (micro: string): string =>
  `INSERT INTO credit_rollups VALUES (':sub', :seg, '2025-01-01', '', 1, ${micro}, 0, 0)`;
const period = (seq: number, start: string, end: string): string =>
  `INSERT INTO periods (id, subscription_id, seq, interval_index, interval_start_at, interval_end_at, start_at, end_at)
   VALUES (':newper', ':sub', ${seq}, 9, '2020-01-01', '2030-01-01', '${start}', '${end}')`;
const segment = (from: string, until: string): string =>
  `INSERT INTO segments (subscription_id, period_id, plan_version_id, from_at, until_at, status, overage)
   VALUES (':sub', ':per', ':pver', '${from}', '${until}', 'active', false)`;
const grant = (over: {
  readonly key?: string;
  readonly payment?: string;
  readonly amount?: string;
  readonly remaining?: string;
}): string =>
  `INSERT INTO grants (id, wallet_id, bucket_id, business_key, source, amount_micro, remaining_micro, payment_id)
   SELECT ':newgrant', wallet_id, bucket_id, '${over.key ?? 'other'}', 'manual', ${over.amount ?? '5'}, ${over.remaining ?? '5'},
     ${over.payment ?? 'NULL'} FROM grants WHERE id = ':grant'`;
const txn = (key: string, entries: string): string =>
  `INSERT INTO ledger_txns (id, environment, kind, business_key) OVERRIDING SYSTEM VALUE VALUES (900001, 'test', 'x', '${key}'); ${entries}`;
const entry = (amount: string, kind = 'available', asset = 'credit:credit'): string =>
  `INSERT INTO ledger_entries (txn_id, account_id, amount)
   SELECT 900001, id, ${amount} FROM accounts WHERE kind = '${kind}' AND asset = '${asset}' LIMIT 1;`;
const invoice = (over: {
  readonly key?: string;
  readonly id?: string;
  readonly number?: string;
  readonly kind?: string;
}): string =>
  `INSERT INTO invoices (id, environment, subscriber_id, subscription_id, period_id, kind, business_key, state, series, number_in_series,
     number, currency, total_minor, document, finalized_at)
   VALUES ('${over.id ?? ':newinv'}', 'test', ':sbr', ':sub', ':per', '${over.kind ?? 'period'}', '${over.key ?? 'other'}', 'open', '2025',
     ${over.number ?? '2'}, 'INV-2025-000${over.number ?? '2'}', 'USD', 100, '{}', now())`;

const refusals: readonly Row[] = [
  // Numbers: NaN is above every number, so a lower bound alone lets it in.
  ['a rollup of NaN', rollup("'NaN'"), /usage_rollups_quantity_check/],
  ['a rollup of Infinity', rollup("'Infinity'"), /overflow|infinite/],
  ['a rollup below zero', rollup('-1'), /usage_rollups_quantity_check/],
  ['credits of NaN', creditRollup("'NaN'"), /credit_rollups_credits_micro_check/],
  ['an event below zero', event({ quantities: '{-1}' }), /usage_events_quantities_check/],
  [
    'an event above the bound',
    event({ quantities: '{1000000000000000}' }),
    /usage_events_quantities_check/,
  ],
  ['an event of nothing', event({ quantities: '{NULL}' }), /usage_events_quantities_check/],
  ['an event of NaN', event({ quantities: '{NaN}' }), /invalid input syntax/],
  ['a meter without a quantity', event({ quantities: '{}' }), /usage_events_check/],
  ['a bucket without an amount', event({ buckets: '{1}' }), /usage_events_check/],
  ['a take of nothing', event({ buckets: '{1}', micro: '{0}' }), /usage_events_bucket_micro_check/],
  [
    'credits above the bound',
    event({ credits: '1000000000000000' }),
    /usage_events_credits_micro_check/,
  ],
  // Events.
  ['an event twice', `${event({})}; ${event({})}`, /duplicate key/],
  ['an event on another day than its name', event({ day: '2025-01-06' }), /usage_events_check/],
  [
    'an outside id twice',
    Array.from(
      { length: 2 },
      (_, index) =>
        `INSERT INTO external_events (environment, source, id, op_id, subscriber_id, body_digest, body) VALUES ('test', 'jobs', '1', 'op${index}', ':sbr', '', '{}')`,
    ).join(';'),
    /external_events_pkey/,
  ],
  // Periods and segments.
  ['periods that overlap', period(9, '2025-01-31', '2025-02-02'), /periods_never_overlap/],
  ['a period of no length', period(9, '2026-01-01', '2026-01-01'), /periods_check/],
  ['a period twice', period(0, '2026-01-01', '2026-02-01'), /periods_subscription_id_seq_key/],
  ['segments that overlap', segment('2025-01-31', '2025-02-02'), /segments_never_overlap/],
  [
    'a closed period without an instant',
    "UPDATE periods SET state = 'closed' WHERE id = ':per'",
    /periods_check/,
  ],
  [
    'a second live subscription of a product',
    `INSERT INTO subscriptions (id, environment, subscriber_id, product_id, plan_id, plan_version_id, state, currency, time_zone, anchor_at)
     SELECT ':newsub', environment, subscriber_id, product_id, plan_id, plan_version_id, state, currency, time_zone, anchor_at FROM subscriptions WHERE id = ':sub'`,
    /one_live_subscription_per_product/,
  ],
  // Credits.
  ['a second grant of a payment', grant({ payment: "':pay'" }), /one_grant_per_payment/],
  ['a second grant of a business key', grant({ key: ':grantkey' }), /grants_business_key_key/],
  ['a remainder above the grant', grant({ remaining: '6' }), /grants_check/],
  ['a remainder below zero', grant({ remaining: '-1' }), /grants_check/],
  ['a grant of nothing', grant({ amount: '0', remaining: '0' }), /grants_amount_micro_check/],
  [
    'a core log entry twice',
    `INSERT INTO core_log (subscriber_id, seq, verb, bucket_id, amount_micro, business_key)
     SELECT subscriber_id, seq, verb, bucket_id, 1, 'other' FROM core_log WHERE subscriber_id = ':sbr'`,
    /core_log_pkey/,
  ],
  [
    'a core log fact twice',
    `INSERT INTO core_log (subscriber_id, seq, verb, bucket_id, amount_micro, business_key)
     SELECT subscriber_id, seq + 1, verb, bucket_id, 1, business_key FROM core_log WHERE subscriber_id = ':sbr'`,
    /core_log_business_key_key/,
  ],
  [
    'a shard ahead of the core',
    "UPDATE subscribers SET applied_version = runtime_version + 1 WHERE id = ':sbr'",
    /subscribers_check/,
  ],
  [
    'a moved clock in live',
    "UPDATE subscribers SET environment = 'live', clock_offset_ms = 1 WHERE id = ':sbr'",
    /subscribers_check/,
  ],
  // Ledger.
  [
    'a transaction that does not balance',
    txn('x', entry('-5') + entry('4', 'world')),
    /does not sum to zero/,
  ],
  [
    'assets that balance only together',
    txn('x', entry('-5') + entry('5', 'cash', 'USD')),
    /does not sum to zero/,
  ],
  ['a transaction without entries', txn('x', ''), /fewer than two entries/],
  [
    'a business key twice',
    txn('grant::grantkey', entry('-5') + entry('5', 'world')),
    /ledger_txns_business_key_key/,
  ],
  ['an entry of zero', txn('x', entry('0')), /ledger_entries_amount_check/],
  ['an entry above the bound', txn('x', entry('1000000000000001')), /ledger_entries_amount_check/],
  ['a changed entry', 'UPDATE ledger_entries SET amount = amount + 1', /append-only/],
  ['a deleted entry', 'DELETE FROM ledger_entries', /append-only/],
  ['an emptied ledger', 'TRUNCATE ledger_entries', /append-only/],
  ['a changed transaction', "UPDATE ledger_txns SET kind = 'other'", /append-only/],
  ['a deleted transaction', 'DELETE FROM ledger_txns', /append-only/],
  ['a changed audit row', "UPDATE audit_log SET actor = 'nobody'", /append-only/],
  // Plans.
  [
    'a changed published version',
    "UPDATE plan_versions SET base_price_minor = 1 WHERE id = ':pver'",
    /never changes/,
  ],
  ['a deleted published version', "DELETE FROM plan_versions WHERE id = ':pver'", /never changes/],
  [
    'a published version made a draft',
    "UPDATE plan_versions SET state = 'draft' WHERE id = ':pver'",
    /cannot become a draft/,
  ],
  [
    'a charge added to a published version',
    "INSERT INTO charges (id, plan_version_id, position, type, display_name) VALUES (':newchg', ':pver', 1, 'RECURRING', 'Fee')",
    /never changes/,
  ],
  // Invoices.
  ['a second invoice of a period', invoice({}), /one_period_invoice/],
  [
    'a second invoice of a business key',
    invoice({ key: ':invkey', kind: 'change' }),
    /invoices_business_key_key/,
  ],
  [
    'a number given twice',
    invoice({ number: '1', kind: 'change' }),
    /invoices_environment_(series_)?number/,
  ],
  [
    'a final invoice with another total',
    "UPDATE invoices SET total_minor = 1 WHERE id = ':inv'",
    /is final and never changes/,
  ],
  [
    'a final invoice deleted',
    "DELETE FROM invoices WHERE id = ':inv'",
    /is final and never changes/,
  ],
  [
    'a final invoice made a draft',
    "UPDATE invoices SET state = 'draft' WHERE id = ':inv'",
    /invoices_check/,
  ],
  [
    'a line added to a final invoice',
    "INSERT INTO invoice_lines (id, invoice_id, position, kind, description, amount_minor) VALUES (':newline', ':inv', 1, 'usage', 'x', 1)",
    /final and never change/,
  ],
  // Keys.
  [
    'a key that is not a digest',
    "INSERT INTO api_keys (id, environment, subscriber_id, digest, last4) VALUES (':newkey', 'test', ':sbr', 'secret', 'cret')",
    /api_keys_digest_check/,
  ],
];

describe('migrations › schema', () => {
  let database: TestDatabase;
  let db: Db;
  let world: World;
  let party: Party;
  let names: Readonly<Record<string, string>>;

  before(async () => {
    database = await testDatabase();
    db = openDb(database.url);
    world = await seedWorld(db);
    party = await seedParty(db, world);
    names = { ...(await seedMoney(db, party)), ...namesOf(world, party) };
  });
  after(async () => {
    await db.destroy();
    await database.drop();
  });

  for (const [refused, sql, by] of refusals) {
    it(`refuses ${refused}`, async () => {
      const text = sql.replaceAll(/:([a-z]+)\b/g, (whole, name: string) => names[name] ?? whole);
      await assert.rejects(
        db.transaction((tx) => tx.raw(text)),
        by,
      );
    });
  }

  it('lets a final invoice make progress in payment', async () => {
    const id = names['inv'] ?? '';
    await db('invoices')
      .where({ id })
      .update({ state: 'paid', payment_status: 'succeeded', paid_at: new Date() });
    assert.equal((await db('invoices').where({ id }).first('state'))?.state, 'paid');
  });

  it('lets an archived version be archived and nothing else', async () => {
    const version = { id: world.planVersionId };
    await db('plan_versions').where(version).update({ state: 'archived' });
    await assert.rejects(
      db('plan_versions').where(version).update({ state: 'published', version: 2 }),
      /never changes/,
    );
  });

  it('is the reviewed one: run with UPDATE_SNAPSHOTS=1 to rewrite it, and read the difference', async () => {
    const fresh = await testDatabase();
    const untouched = openDb(fresh.url);
    const text = await schemaText(untouched);
    await untouched.destroy();
    await fresh.drop();
    if (process.env['UPDATE_SNAPSHOTS'] === '1') writeFileSync(SNAPSHOT, text);
    assert.ok(existsSync(SNAPSHOT), 'there is no snapshot yet');
    assert.equal(text, readFileSync(SNAPSHOT, 'utf8'));
  });
});

function namesOf(world: World, party: Party): Record<string, string> {
  return {
    sbr: party.subscriberId,
    sub: party.subscriptionId,
    per: party.periods[0]?.periodId ?? '',
    seg: String(party.periods[0]?.segmentId),
    prod: world.productId,
    mtr: world.meterIds.api_calls,
    pver: world.planVersionId,
    newper: newId('per'),
    newsub: newId('sub'),
    newgrant: newId('grant'),
    newinv: newId('inv'),
    newline: newId('line'),
    newkey: newId('key'),
    newchg: newId('chg'),
  };
}

/** A paid grant, an account in dollars and a final invoice of the first period. */
async function seedMoney(db: Db, party: Party): Promise<Record<string, string>> {
  const pay = newId('pay');
  const inv = newId('inv');
  const grantkey = `top_up_${randomBytes(4).toString('hex')}`;
  const invkey = `period_${randomBytes(4).toString('hex')}`;
  await db('payments').insert({
    id: pay,
    environment: 'test',
    subscriber_id: party.subscriberId,
    kind: 'top_up',
    business_key: pay,
    amount_minor: 500,
    currency: 'USD',
    state: 'succeeded',
  });
  const granted = await write(db, (tx) =>
    grantCredits(tx, {
      environment: 'test',
      subscriberId: party.subscriberId,
      unit: 'credit',
      businessKey: grantkey,
      source: 'top_up',
      amountMicro: 5_000_000n,
      class: 'paid',
      effectiveAt: new Date('2025-01-01T00:00:00Z'),
      expiresAt: null,
      paymentId: pay,
    }),
  );
  await db('accounts').insert({ environment: 'test', asset: 'USD', kind: 'cash' });
  await db('invoices').insert({
    id: inv,
    environment: 'test',
    subscriber_id: party.subscriberId,
    subscription_id: party.subscriptionId,
    period_id: party.periods[0]?.periodId,
    kind: 'period',
    business_key: invkey,
    state: 'open',
    series: '2025',
    number_in_series: 1,
    number: 'INV-2025-0001',
    currency: 'USD',
    total_minor: 100,
    document: '{}',
    finalized_at: new Date(),
  });
  return { pay, inv, grant: granted.grantId, grantkey, invkey };
}
