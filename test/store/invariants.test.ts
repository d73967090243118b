import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { fileURLToPath } from 'node:url';

import { formatFact, type StreamFact } from '../../billing/usage-fact.ts';
import { commitBatch, parseEntries } from '../../drain/batch.ts';
import { type Db, openDb } from '../../store/db.ts';
import { newId } from '../../store/ids.ts';
import { findViolations, invariants } from '../../store/invariants.ts';
import { issueCreditNote } from '../../store/credit-notes.ts';
import { markUncollectible, payOutOfBand, voidInvoice } from '../../store/invoice-actions.ts';
import { issueInvoice, markInvoicePaid, type NewLine } from '../../store/invoices.ts';
import { ensurePayment, paymentKeys, recordOutcome } from '../../store/payments.ts';
import { recordRefund } from '../../store/refunds.ts';
import { selectRow } from '../../store/query.ts';
import { registerShards } from '../../store/slots.ts';
import { openCursor } from '../../store/stream-cursors.ts';
import { beginTakeBack, creditTakeBack } from '../../store/take-backs.ts';
import { grantCredits } from '../../store/wallets.ts';
import { usageFact } from '../drain/drainer-fixture.ts';
import { type TestDatabase, testDatabase } from '../support/postgres.ts';
import { type Party, seedParty, seedWorld, type World, write } from './fixture.ts';
import { shardAnswers } from './top-up-stage.ts';

const DAY_MS = 86_400_000;
const NOW = Date.now();
const at = (days: number): string => new Date(NOW + days * DAY_MS).toISOString();

const CORRECTION = `INSERT INTO usage_corrections (id, environment, reason, actor, event_day, event_id, segment_id, meter_id,
  occurred_at, quantity_before, quantity_after, event_count_delta, subscriber_id, subscription_id)
  SELECT 'cor_0000000000000000000001', 'test', 'why', 'who', c.* FROM (`;

/** What is done to a sound database, and which invariant must see it. Statements run with triggers and foreign keys off. */
type Fault = readonly [id: string, fault: string, sql: string];

const EVENT = 'UPDATE usage_events SET';
const ONE_EVENT = "WHERE event_id = ':event'";
const drop = (table: string, constraint: string): string =>
  `ALTER TABLE ${table} DROP CONSTRAINT ${constraint} CASCADE;`;

const faults: readonly Fault[] = [
  [
    'I1',
    'an entry that nothing balances',
    'INSERT INTO ledger_entries (txn_id, account_id, amount) SELECT min(txn_id), min(account_id), 7 FROM ledger_entries',
  ],
  [
    'I1',
    'a transaction without entries',
    "INSERT INTO ledger_txns (environment, kind, business_key) VALUES ('test', 'x', 'x')",
  ],
  [
    'I2',
    'an entry that is gone',
    'DELETE FROM ledger_entries WHERE id = (SELECT min(id) FROM ledger_entries)',
  ],
  [
    'I3',
    'a balance below zero',
    `INSERT INTO ledger_entries (txn_id, account_id, amount)
    SELECT (SELECT min(id) FROM ledger_txns), id, -900000000 FROM accounts WHERE kind = 'available' AND subscriber_id = ':sbr'`,
  ],
  [
    'I4',
    'a grant that the ledger knows nothing of',
    "UPDATE grants SET amount_micro = amount_micro + 1, remaining_micro = remaining_micro WHERE id = ':grant'",
  ],
  ['I5', 'credits that no bucket paid', `${EVENT} credits_micro = credits_micro + 1 ${ONE_EVENT}`],
  ['I5', 'a take from a stranger', `${EVENT} bucket_ids = ARRAY[:strangerbucket] ${ONE_EVENT}`],
  ['I6', 'an event from outside that nobody sent', `${EVENT} flags = '{external}' ${ONE_EVENT}`],
  [
    'I7',
    'more taken than asked',
    "UPDATE core_log SET taken_micro = amount_micro + 1 WHERE verb = 'debit'",
  ],
  ['I7', 'a grant that took', "UPDATE core_log SET taken_micro = 1 WHERE verb = 'grant'"],
  [
    'I8',
    'a debit that was never answered',
    "UPDATE core_log SET taken_micro = NULL, applied_at = now() - interval '6 minutes' WHERE verb = 'debit'",
  ],
  [
    'I9',
    'an event on another day',
    `${drop('usage_events', 'usage_events_check2')} ${EVENT} event_day = event_day - 400 ${ONE_EVENT}`,
  ],
  [
    'I9',
    'an event twice',
    `${drop('usage_events', 'usage_events_pkey')}
    INSERT INTO usage_events SELECT * FROM usage_events ${ONE_EVENT}`,
  ],
  [
    'I10',
    'a posting twice',
    `${drop('ledger_txns', 'ledger_txns_business_key_key')}
    INSERT INTO ledger_txns (environment, kind, business_key) SELECT environment, kind, business_key FROM ledger_txns LIMIT 1`,
  ],
  [
    'I11',
    'a spend of something else',
    "UPDATE ledger_entries e SET amount = amount * 2 FROM ledger_txns t WHERE t.id = e.txn_id AND t.kind = 'spend'",
  ],
  ['I11', 'an event that was never posted', `${EVENT} ledger_txn_id = NULL ${ONE_EVENT}`],
  ['I12', 'an event that is gone', `DELETE FROM usage_events ${ONE_EVENT}`],
  [
    'I13',
    'an event of another instant',
    `${EVENT} occurred_at = occurred_at + interval '60 days' ${ONE_EVENT}`,
  ],
  ['I13', 'an event of a stranger period', `${EVENT} period_id = ':strangerper' ${ONE_EVENT}`],
  [
    'I13',
    'an adjustment of a period that is open',
    `${EVENT} adjusts_period_id = period_id ${ONE_EVENT}`,
  ],
  [
    'I14',
    'a gap between periods',
    "UPDATE periods SET end_at = end_at - interval '1 second' WHERE id = ':per1'",
  ],
  [
    'I14',
    'periods that overlap',
    `${drop('periods', 'periods_never_overlap')} ${drop('periods', 'periods_check1')}
    UPDATE periods SET end_at = end_at + interval '1 second' WHERE id = ':per1'`,
  ],
  [
    'I14',
    'a segment that ends early',
    "UPDATE segments SET until_at = until_at - interval '1 second' WHERE period_id = ':per1'",
  ],
  [
    'I15',
    'a closed period without an invoice',
    "UPDATE periods SET state = 'closed', closed_at = now() WHERE id = ':per1'",
  ],
  [
    'I15',
    'an invoice of an open period',
    "UPDATE periods SET state = 'open', closed_at = NULL WHERE id = ':per0'",
  ],
  ['I16', 'a line that is gone', "DELETE FROM invoice_lines WHERE invoice_id = ':inv'"],
  [
    'I16',
    'a total of something else',
    "UPDATE invoices SET total_minor = total_minor + 1 WHERE id = ':inv'",
  ],
  [
    'I16',
    'a balance that makes what is due negative',
    `UPDATE invoices SET balance_applied_minor = total_minor + 1, amount_due_minor = -1 WHERE id = ':inv'`,
  ],
  [
    'I17',
    'usage that was not billed',
    'UPDATE usage_rollups SET quantity = quantity + 1 WHERE segment_id = :seg0',
  ],
  [
    'I18',
    'an invoice changed after the fact',
    "UPDATE invoices SET subtotal_minor = 5, total_minor = 5, amount_due_minor = 5 WHERE id = ':inv'",
  ],
  [
    'I18',
    'an invoice without a digest',
    "UPDATE invoices SET content_digest = NULL WHERE id = ':inv'",
  ],
  [
    'I19',
    'a grant of more than was bought',
    "UPDATE grants SET amount_micro = amount_micro + 1 WHERE id = ':bought'",
  ],
  [
    'I19',
    'a grant before the money',
    "UPDATE payments SET state = 'pending' WHERE kind = 'top_up'",
  ],
  [
    'I20',
    'money without its grant',
    "UPDATE grants SET payment_id = NULL WHERE id = ':bought'; UPDATE payments SET updated_at = now() - interval '6 minutes'",
  ],
  [
    'I21',
    'a remainder of something else',
    "UPDATE grants SET remaining_micro = remaining_micro - 1 WHERE id = ':bought'",
  ],
  [
    'I22',
    'a sum that is no number',
    `${drop('usage_rollups', 'usage_rollups_quantity_check')} UPDATE usage_rollups SET quantity = 'NaN'`,
  ],
  [
    'I22',
    'a quantity below zero',
    `${drop('usage_events', 'usage_events_quantities_check')} ${EVENT} quantities = '{-1}' ${ONE_EVENT}`,
  ],
  ['I23', 'an event in the other environment', `${EVENT} environment = 'live' ${ONE_EVENT}`],
  [
    'I23',
    'a spend of a stranger',
    `UPDATE accounts SET subscriber_id = ':stranger' WHERE kind = 'spent' AND subscriber_id = ':sbr'`,
  ],
  [
    'I23',
    'a grant in a bucket of a stranger',
    "UPDATE grants SET bucket_id = :strangerbucket WHERE id = ':grant'",
  ],
  [
    'I24',
    'an event from the future',
    `${EVENT} received_at = occurred_at - interval '6 minutes' ${ONE_EVENT}`,
  ],
  [
    'I24',
    'an event from long ago',
    `${EVENT} received_at = occurred_at + interval '36 days' ${ONE_EVENT}`,
  ],
  [
    'I25',
    'an event that was added twice',
    'UPDATE usage_rollups SET event_count = event_count + 1 WHERE segment_id = :seg1',
  ],
  ['I25', 'credits that were not added', 'UPDATE credit_rollups SET credits_micro = 0'],
  ['I26', 'a slot without an owner', 'DELETE FROM slots WHERE slot = 17'],
  [
    'I27',
    'something that nobody delivers',
    "INSERT INTO outbox (topic, business_key, payload, created_at) VALUES ('webhook', 'w', '{}', now() - interval '61 seconds')",
  ],
  [
    'I27',
    'a parked fact',
    "INSERT INTO parked_facts (shard, incarnation, stream_id, fact, reason) VALUES ('a', 1, '1-1', 'x', 'y')",
  ],
  [
    'I28',
    'a number that is missing',
    "UPDATE invoices SET number_in_series = number_in_series + 100, number = 'INV-x' WHERE id = ':inv'",
  ],
  [
    'I28',
    'a number that was taken and not used',
    'UPDATE invoice_series SET last_number = last_number + 1',
  ],
  [
    'I29',
    'a key in clear',
    `${drop('api_keys', 'api_keys_digest_check')} UPDATE api_keys SET digest = 'secret'`,
  ],
  ['I30', 'a gap in the core log', "DELETE FROM core_log WHERE subscriber_id = ':sbr' AND seq = 2"],
  [
    'I31',
    'a grant that the shard was never told',
    "UPDATE core_log SET business_key = 'x' WHERE business_key LIKE 'grant:%' AND subscriber_id = ':sbr' AND seq = 1",
  ],
  [
    'I39',
    'money that was taken and not posted',
    "UPDATE payments SET amount_minor = amount_minor + 1 WHERE kind = 'top_up'",
  ],
  [
    'I33',
    'an account balance that no invoice gave',
    `UPDATE ledger_entries e SET amount = amount - 1 FROM accounts a
    WHERE a.id = e.account_id AND a.kind = 'account_balance' AND e.amount < 0`,
  ],
  [
    'I33',
    'more taken from an account balance than it had',
    `UPDATE invoices SET balance_applied_minor = 200 WHERE balance_applied_minor > 0;
    UPDATE ledger_entries e SET amount = 200 FROM accounts a
    WHERE a.id = e.account_id AND a.kind = 'account_balance' AND e.amount > 0`,
  ],
  [
    'I34',
    'a line that was priced wrong',
    `UPDATE plan_versions SET definition = definition || '{"charges": [{"id": "chg_1", "meter": {"scale": 0},
      "price": {"model": "per_unit", "unit_price": "2"}}]}';
    UPDATE invoice_lines SET charge_id = 'chg_1', plan_version_id = (SELECT id FROM plan_versions LIMIT 1)
    WHERE invoice_id = ':inv'`,
  ],
  [
    'I34',
    'a minimum that was made up to more than its part',
    `UPDATE plan_versions SET definition = definition || '{"charges": [{"id": "chg_1", "minimum_minor": "3100"}]}';
    INSERT INTO invoice_lines (id, invoice_id, position, kind, charge_id, plan_version_id, description, amount_minor, details)
    SELECT 'line_1h2k9x0q7w3m1n8b4v6c2z', ':inv', 9, 'usage', 'chg_1', id, 'Calls, at least $10.01', 1001, '{"model": "minimum", "bound_minor": "1001",
      "rated_minor": "0", "rated_before_minor": "0", "bounded_minor": "1001", "bounded_before_minor": "0",
      "minimum_part": {"basis_minor": "3100", "numerator": "10", "denominator": "31"}}' FROM plan_versions LIMIT 1`,
  ],
  [
    'I35',
    'a correction of more than there was',
    `${CORRECTION}SELECT event_day, event_id, segment_id, meter_ids[1], occurred_at, 5, 0, 0, subscriber_id, subscription_id
    FROM usage_events WHERE event_id = ':event') c`,
  ],
  [
    'I35',
    'an event that counts twice',
    `${CORRECTION}SELECT event_day, event_id, segment_id, meter_ids[1], occurred_at, 1, 1, 1, subscriber_id, subscription_id
    FROM usage_events WHERE event_id = ':event') c`,
  ],
  [
    'I35',
    'a correction of a meter that the event has not',
    `${CORRECTION}SELECT event_day, event_id, segment_id, 'mtr_other', occurred_at, 1, 2, 0, subscriber_id, subscription_id
    FROM usage_events WHERE event_id = ':event') c`,
  ],
  [
    'I35',
    'a correction that somebody else pays',
    `${CORRECTION}SELECT event_day, event_id, segment_id, meter_ids[1], occurred_at, 1, 2, 0, ':stranger', subscription_id
    FROM usage_events WHERE event_id = ':event') c`,
  ],
  [
    'I28',
    'a credit note with a number of its own choice',
    "UPDATE credit_notes SET number_in_series = number_in_series + 100, number = 'CN-x' WHERE id = ':note'",
  ],
  [
    'I32',
    'a credit note that left what is owed as it was',
    `UPDATE credit_notes SET due_reduced_minor = due_reduced_minor - 1, balance_minor = balance_minor + 1
    WHERE due_reduced_minor > 0`,
  ],
  [
    'I32',
    'an invoice that is paid and still owed',
    "UPDATE invoices SET state = 'open' WHERE paid_by = 'out_of_band'",
  ],
  [
    'I36',
    'more credited than the line has',
    "UPDATE credit_note_lines SET amount_minor = amount_minor + 100000 WHERE credit_note_id = ':note'",
  ],
  [
    'I36',
    'more credited than the invoice has',
    `UPDATE credit_notes SET total_minor = total_minor + 100000, balance_minor = balance_minor + 100000 WHERE id = ':note'`,
  ],
  [
    'I36',
    'a line of another invoice',
    "UPDATE credit_note_lines SET invoice_line_id = (SELECT id FROM invoice_lines WHERE invoice_id = ':inv') WHERE credit_note_id = ':note'",
  ],
  [
    'I37',
    'a credit note that went elsewhere than it says',
    "UPDATE credit_notes SET refund_minor = refund_minor - 1, balance_minor = balance_minor + 1 WHERE id = ':note'",
  ],
  [
    'I37',
    'a credit note that was never posted',
    "UPDATE ledger_txns SET business_key = 'x' WHERE business_key = 'credit_note::note'",
  ],
  [
    'I37',
    'a credit note without a line',
    "DELETE FROM credit_note_lines WHERE credit_note_id = ':note'",
  ],
  ['I38', 'more refunded than was paid', 'UPDATE refunds SET amount_minor = amount_minor + 100000'],
  ['I38', 'a refund to somebody else', "UPDATE refunds SET subscriber_id = ':stranger'"],
  [
    'I39',
    'a refund that left no cash',
    "UPDATE refunds SET state = 'pending' WHERE state = 'succeeded'",
  ],
  [
    'I39',
    'money from elsewhere that was never posted',
    "UPDATE invoices SET paid_by = 'payment' WHERE paid_by = 'out_of_band'",
  ],
  [
    'I40',
    'a coupon that took more than the invoice says',
    'UPDATE coupon_uses SET amount_minor = amount_minor + 1',
  ],
  [
    'I40',
    'a coupon of another interval',
    'UPDATE coupon_uses SET interval_index = interval_index + 2',
  ],
  [
    'I41',
    'a loss that nobody gave up',
    "UPDATE invoices SET state = 'open', given_up_at = NULL WHERE state = 'uncollectible'",
  ],
  [
    'I42',
    'a void invoice whose revenue stayed',
    `DELETE FROM ledger_entries e USING ledger_txns t, accounts a
    WHERE t.id = e.txn_id AND a.id = e.account_id AND t.kind = 'void' AND a.kind = 'revenue'`,
  ],
  [
    'I43',
    'a plan that the segments ahead do not know',
    "UPDATE subscriptions SET plan_version_id = 'another' WHERE state = 'active'",
  ],
  [
    'I15',
    'a late invoice of a period that holds time',
    "UPDATE invoices SET kind = 'late' WHERE id = ':inv'",
  ],
  [
    'I17',
    'late usage that was not billed',
    'UPDATE usage_rollups SET quantity = quantity + 1 WHERE segment_id = :lateseg',
  ],
  [
    'I44',
    'late usage beside that of the closed period that it belongs to',
    `UPDATE usage_rollups SET adjusts_period_id = ':per0' WHERE segment_id = :seg0`,
  ],
  [
    'I44',
    'late overage there',
    `UPDATE credit_rollups SET adjusts_period_id = ':per0' WHERE segment_id = :seg0`,
  ],
  [
    'I44',
    'an event that is late for its own period',
    `${EVENT} adjusts_period_id = period_id ${ONE_EVENT}`,
  ],
  [
    'I44',
    'usage in time where no time is',
    "UPDATE usage_rollups SET adjusts_period_id = '' WHERE segment_id = :lateseg",
  ],
  [
    'I45',
    'late usage that nobody bills',
    `UPDATE periods p SET start_at = o.at, end_at = o.at, interval_start_at = o.at, interval_end_at = o.at
    FROM (SELECT now() - interval '35 days 3 hours' AS at) o WHERE p.is_late AND p.state = 'open'`,
  ],
  [
    'I46',
    'credits that a shard took for nothing',
    "UPDATE core_log SET taken_micro = taken_micro + 1 WHERE business_key LIKE 'take_back:%' AND verb = 'debit'",
  ],
  [
    'I46',
    'a rest that the shard never got back',
    "UPDATE core_log SET business_key = 'lost' WHERE business_key LIKE 'take_back:%:rest'",
  ],
  [
    'I46',
    'credits that were taken back and not posted',
    "UPDATE ledger_txns SET kind = 'x' WHERE kind = 'debit'",
  ],
  [
    'I46',
    'credits that a void took for nothing',
    `INSERT INTO core_log (subscriber_id, seq, verb, bucket_id, amount_micro, business_key, taken_micro)
    SELECT subscriber_id, 99, 'void', bucket_id, 5, 'void:x', 5 FROM core_log LIMIT 1`,
  ],
  [
    'I47',
    'money for credits that stay',
    "UPDATE take_backs SET state = 'taken', credit_note_id = NULL",
  ],
  ['I47', 'more money than the credits cost', 'UPDATE take_backs SET taken_micro = 1'],
  [
    'I47',
    'credits that are back in their grant',
    "UPDATE grants SET remaining_micro = amount_micro WHERE id = ':bought'",
  ],
  [
    'I48',
    'credits that were taken and never given money for',
    "UPDATE take_backs SET state = 'taken', credit_note_id = NULL, updated_at = now() - interval '6 minutes'",
  ],
];

describe('store/invariants', () => {
  let database: TestDatabase;
  let db: Db;
  let names: Readonly<Record<string, string>>;

  before(async () => {
    database = await testDatabase();
    db = openDb(database.url);
    names = await seedSound(db);
  });
  after(async () => {
    await db.destroy();
    await database.drop();
  });

  it('finds nothing in a sound database, which has a row for each of them to look at', async () => {
    assert.deepEqual(await findViolations(db), []);
    for (const table of [
      'usage_events',
      'usage_rollups',
      'credit_rollups',
      'ledger_entries',
      'grants',
      'core_log',
      'invoices',
      'invoice_lines',
      'payments',
      'top_ups',
      'periods',
      'segments',
      'slots',
      'api_keys',
      'external_events',
      'outbox',
    ]) {
      assert.notEqual(await selectRow(db, `SELECT 1 FROM ${table} LIMIT 1`), null, table);
    }
  });

  it('has a seeded fault for each invariant', () => {
    const seeded = new Set(faults.map(([id]) => id));
    assert.deepEqual(
      invariants.map(({ id }) => id).filter((id) => !seeded.has(id)),
      [],
    );
  });

  for (const [id, fault, sql] of faults) {
    it(`${id} sees ${fault}`, async () => {
      const text = sql.replaceAll(/:([a-z]+\d?)\b/g, (whole, name: string) => names[name] ?? whole);
      const found = await db
        .transaction(async (tx) => {
          await tx.raw('SET LOCAL session_replication_role = replica');
          await tx.raw(text);
          throw new Seen((await findViolations(tx)).map((violation) => violation.id));
        })
        .catch((error: unknown) => {
          if (error instanceof Seen) return error.ids;
          throw error;
        });
      assert.ok(found.includes(id), `only ${[...new Set(found)].join(', ') || 'nothing'} saw it`);
    });
  }

  it('is a command that ends with 0 on a sound database and with 1 on another', async () => {
    const run = (): { status: number | null; stdout: string } =>
      spawnSync(
        process.execPath,
        [fileURLToPath(new URL('../../bin/invariants.ts', import.meta.url))],
        {
          env: { ...process.env, DATABASE_URL: database.url },
          encoding: 'utf8',
        },
      );
    const sound = run();
    assert.equal(sound.status, 0, sound.stdout);
    assert.match(sound.stdout, /, 0 violations/);
    await db('slots').where({ slot: 17 }).delete();
    const broken = run();
    assert.equal(broken.status, 1);
    assert.match(broken.stdout, /^I26 /m);
  });
});

/** Carries what was seen out of a transaction that must be rolled back. */
class Seen extends Error {
  readonly ids: readonly string[];
  constructor(ids: readonly string[]) {
    super('seen');
    this.ids = ids;
  }
}

/** A little of everything: a closed and invoiced period, late and outside and unheld use, a top-up, expired credits. */
async function seedSound(db: Db): Promise<Record<string, string>> {
  await registerShards(db, [{ name: 'a', url: 'redis://127.0.0.1:1' }]);
  const world = await seedWorld(db);
  const months = [
    [at(-40), at(-10)],
    [at(-10), at(20)],
    [at(20), at(50)],
  ] as const;
  const party = await seedParty(db, world, months);
  const stranger = await seedParty(db, world, months);
  const strangerGrant = await grant(db, stranger, { key: 's', micro: 1_000_000n });
  const own = await grant(db, party, { key: 'm', micro: 5_000_000n });
  const bought = await buy(db, party);
  await db('api_keys').insert({
    id: newId('key'),
    environment: 'test',
    subscriber_id: party.subscriberId,
    digest: randomBytes(32),
    last4: 'abcd',
  });

  const bucketId = String(own.bucketId);
  const take = [{ bucketId, micro: 1_000_000 }];
  const old = usage(world, party, { days: -11, period: 0, takes: take });
  await drain(db, [old]);
  const inv = await invoiceFirst(db, party, world);
  await giveAndTakeBack(db, party);
  const note = await settleInAllWays(db, party);
  const event = usage(world, party, { days: -0.1, period: 1, takes: take });
  const unheld = { ...usage(world, party, { days: -0.1, period: 1 }), flags: ['unheld'] };
  const outside = {
    ...usage(world, party, { days: -0.2, period: 1 }),
    flags: ['external'],
    keyId: '',
  };
  await db('external_events').insert({
    environment: 'test',
    source: 'jobs',
    id: '1',
    op_id: outside.opId,
    subscriber_id: party.subscriberId,
    body_digest: randomBytes(32),
    body: '{}',
    counted: true,
  });
  const fact = { subscriberId: party.subscriberId, bucketId, atMs: NOW };
  await drain(db, [
    event,
    event,
    outside,
    unheld,
    usage(world, party, { days: -12, period: 0 }),
    { kind: 'expired', ...fact, micro: 500_000 },
    { kind: 'low', subscriberId: party.subscriberId, availableMicro: 1, atMs: NOW },
  ]);
  const lateSegment = await endWithLateUsage(db, world, await seedParty(db, world, months));
  const debit = await selectRow<{ seq: bigint }>(
    db,
    "SELECT seq FROM core_log WHERE verb = 'debit'",
  );
  await drain(db, [{ kind: 'debit', ...fact, coreSeq: Number(debit?.seq), takenMicro: 400_000 }]);
  await takeBackHalf(db, bought);
  return {
    sbr: party.subscriberId,
    stranger: stranger.subscriberId,
    strangerbucket: String(strangerGrant.bucketId),
    strangerper: stranger.periods[1]?.periodId ?? '',
    per0: party.periods[0]?.periodId ?? '',
    per1: party.periods[1]?.periodId ?? '',
    lateseg: lateSegment,
    seg0: String(party.periods[0]?.segmentId),
    seg1: String(party.periods[1]?.segmentId),
    event: event.opId,
    grant: own.grantId,
    bought,
    note,
    inv,
  };
}

/** A subscription that has ended, with late usage that is billed and late usage that is not. Gives the segment of the first. */
async function endWithLateUsage(db: Db, world: World, party: Party): Promise<string> {
  const { subscriptionId, subscriberId, periods } = party;
  const late = (): Promise<void> => drain(db, [usage(world, party, { days: -30, period: 0 })]);
  await late();
  await invoiceFirst(db, party, world);
  const after = periods.slice(1).map(({ periodId }) => periodId);
  await db('periods').whereIn('id', after).update({ state: 'void' });
  const ended = { state: 'canceled', ended_at: new Date(at(-10)) };
  await db('subscriptions').where({ id: subscriptionId }).update(ended);
  await late();
  const of = { subscription_id: subscriptionId, is_late: true };
  const { id: periodId } = await db('periods').where(of).first('id');
  const owner = { environment: 'test', subscriberId, currency: 'USD' };
  const meterId = world.meterIds.api_calls;
  const invoice = invoiceOf(owner, { kind: 'late', key: periodId, minor: 100n, meterId });
  await write(db, async (tx) => {
    await issueInvoice(tx, { ...invoice, subscriptionId, periodId }, new Date());
    await tx('periods').where({ id: periodId }).update({ state: 'closed', closed_at: new Date() });
  });
  await late();
  const segment = await db('segments').where({ period_id: periodId }).first('id');
  return String(segment?.id);
}

function usage(
  world: World,
  party: Party,
  of: {
    readonly days: number;
    readonly period: number;
    readonly takes?: readonly { readonly bucketId: string; readonly micro: number }[];
  },
): ReturnType<typeof usageFact> {
  const made = usageFact(world, party, {
    atMs: NOW + Math.round(of.days * DAY_MS),
    segmentId: String(party.periods[of.period]?.segmentId),
    takes: of.takes ?? [],
  });
  return { ...made, opId: `${at(of.days).slice(0, 10).replaceAll('-', '')}${made.opId.slice(8)}` };
}

let streamId = 0;
async function drain(db: Db, facts: readonly StreamFact[]): Promise<void> {
  const stream = { shard: 'a', incarnation: 1 };
  const entries = facts.map((fact) => {
    streamId += 1;
    return { id: `${streamId}-0`, fact: formatFact(fact) };
  });
  const result = await commitBatch(db, {
    stream,
    fromId: await openCursor(db, stream),
    entries: parseEntries(entries),
  });
  assert.deepEqual(result.parked, []);
}

function grant(
  db: Db,
  party: Party,
  of: { readonly key: string; readonly micro: bigint },
): ReturnType<typeof grantCredits> {
  return write(db, (tx) =>
    grantCredits(tx, {
      environment: 'test',
      subscriberId: party.subscriberId,
      unit: 'credit',
      businessKey: `${of.key}:${party.subscriberId}`,
      source: 'manual',
      amountMicro: of.micro,
      class: 'promotional',
      effectiveAt: new Date(at(-40)),
      expiresAt: new Date(at(300)),
    }),
  );
}

/** A top-up, paid, invoiced and granted. Gives the grant. */
function buy(db: Db, party: Party): Promise<string> {
  const creditsMicro = 2_000_000n;
  return write(db, async (tx) => {
    const wallet = await selectRow<{ id: string }>(
      tx,
      'SELECT id FROM wallets WHERE subscriber_id = ?',
      [party.subscriberId],
    );
    const topUpId = newId('top');
    const owner = { environment: 'test', subscriberId: party.subscriberId, currency: 'USD' };
    const payment = await ensurePayment(tx, {
      ...owner,
      kind: 'top_up',
      businessKey: `top_up:${topUpId}`,
      amountMinor: 200n,
      paymentMethod: 'card_ok',
    });
    await tx('top_ups').insert({
      id: topUpId,
      environment: 'test',
      subscriber_id: party.subscriberId,
      wallet_id: wallet?.id,
      business_key: topUpId,
      credits_micro: creditsMicro.toString(),
      amount_minor: 200,
      currency: 'USD',
      state: 'granted',
      payment_id: payment.id,
    });
    await recordOutcome(tx, {
      paymentId: payment.id,
      outcome: { kind: 'succeeded', providerRef: topUpId },
      at: new Date(),
    });
    const invoice = await issueInvoice(
      tx,
      invoiceOf(owner, { kind: 'top_up', key: topUpId, minor: 200n }),
      new Date(),
    );
    await markInvoicePaid(tx, invoice.id, new Date());
    await tx('top_ups').where({ id: topUpId }).update({ invoice_id: invoice.id });
    const { grantId } = await grantCredits(tx, {
      ...owner,
      unit: 'credit',
      businessKey: `top_up:${topUpId}`,
      source: 'top_up',
      amountMicro: creditsMicro,
      class: 'paid',
      effectiveAt: new Date(),
      expiresAt: null,
      paymentId: payment.id,
    });
    return grantId;
  });
}

/** Half of what was bought goes back; the shard has a little less, of which a part pays for no cent. */
async function takeBackHalf(db: Db, grantId: string): Promise<void> {
  const takeBackId = await write(db, async (tx) => {
    const { invoice_id: invoiceId } = await tx('top_ups')
      .join('grants', 'grants.payment_id', 'top_ups.payment_id')
      .where({ 'grants.id': grantId })
      .first('top_ups.invoice_id');
    const begun = await beginTakeBack(tx, {
      ...{ invoiceId, businessKey: 'half', wish: { kind: 'amount', minor: 100n } },
      ...{ reason: 'goodwill', to: 'balance', actor: 'test', onShard: null },
    });
    return begun.kind === 'begun' ? begun.takeBackId : assert.fail(begun.code);
  });
  await shardAnswers(db, takeBackId, () => 995_000n);
  const end = await write(db, (tx) => creditTakeBack(tx, takeBackId, new Date()));
  assert.equal(end.kind, 'credited');
}

/** Closes the first period, which has one call in it. */
function invoiceFirst(db: Db, party: Party, world: World): Promise<string> {
  const periodId = party.periods[0]?.periodId ?? '';
  const owner = { environment: 'test', subscriberId: party.subscriberId, currency: 'USD' };
  return write(db, async (tx) => {
    const invoice = await issueInvoice(
      tx,
      {
        ...invoiceOf(owner, {
          kind: 'period',
          key: periodId,
          minor: 100n,
          meterId: world.meterIds.api_calls,
        }),
        subscriptionId: party.subscriptionId,
        periodId,
      },
      new Date(),
    );
    await tx('periods').where({ id: periodId }).update({ state: 'closed', closed_at: new Date() });
    return invoice.id;
  });
}

const lineKinds = {
  period: 'usage',
  top_up: 'top_up',
  change: 'adjustment',
  late: 'adjustment',
  advance: 'adjustment',
} as const;

/** An account balance of 150, of which 100 is used. */
async function giveAndTakeBack(db: Db, party: Party): Promise<void> {
  const owner = { environment: 'test', subscriberId: party.subscriberId, currency: 'EUR' };
  for (const minor of [-150n, 100n]) {
    const invoice = invoiceOf(owner, { kind: 'change', key: `${minor}`, minor });
    await write(db, (tx) =>
      issueInvoice(tx, { ...invoice, balanceAppliedMinor: minor }, new Date()),
    );
  }
}

/**
 * An invoice that was paid, credited and refunded (once in vain), one that was paid elsewhere, one that was given up, one
 * that is void, one that is partly credited, one with a coupon. Gives the credit note of the first.
 */
async function settleInAllWays(db: Db, party: Party): Promise<string> {
  const owner = { environment: 'test', subscriberId: party.subscriberId, currency: 'GBP' };
  const issued = (key: string) =>
    write(db, (tx) =>
      issueInvoice(tx, invoiceOf(owner, { kind: 'change', key, minor: 1000n }), new Date()),
    );
  const credited = (invoiceId: string, key: string, minor: bigint) =>
    write(db, async (tx) => {
      const result = await issueCreditNote(tx, {
        invoiceId,
        businessKey: key,
        request: { kind: 'lines', amounts: new Map([[0, minor]]) },
        reason: 'goodwill',
        to: 'refund',
        actor: 'test',
        at: new Date(),
      });
      assert.ok(result.kind === 'issued');
      return result;
    });
  const paid = await issued('paid');
  await write(db, async (tx) => {
    const payment = await ensurePayment(tx, {
      ...owner,
      kind: 'invoice',
      businessKey: paymentKeys.invoice(paid.id, 1),
      amountMinor: 1000n,
      paymentMethod: 'card_ok',
    });
    const outcome = { kind: 'succeeded', providerRef: paid.id } as const;
    await recordOutcome(tx, { paymentId: payment.id, outcome, at: new Date() });
  });
  const first = await credited(paid.id, 'first', 300n);
  const second = await credited(paid.id, 'second', 200n);
  await write(db, async (tx) => {
    const outcomes = [
      { kind: 'succeeded', providerRef: 're_1' },
      { kind: 'failed', code: 'refund_declined' },
    ] as const;
    for (const [index, { refundId }] of [first, second].entries()) {
      const outcome = outcomes[index];
      assert.ok(refundId !== null && outcome !== undefined);
      await recordRefund(tx, { refundId, outcome, at: new Date() });
    }
  });
  const elsewhere = await issued('elsewhere');
  const lost = await issued('lost');
  const withdrawn = await issued('withdrawn');
  await credited((await issued('partly')).id, 'partly', 400n);
  await write(db, async (tx) => {
    const invoiceAt = { at: new Date() };
    await payOutOfBand(tx, { invoiceId: elsewhere.id, reference: 'T-1', ...invoiceAt });
    await markUncollectible(tx, { invoiceId: lost.id, ...invoiceAt });
    await voidInvoice(tx, { invoiceId: withdrawn.id, reason: null, ...invoiceAt });
  });
  await useCoupon(db, party, invoiceOf(owner, { kind: 'advance', key: 'coupon', minor: 1000n }));
  return first.note.id;
}

async function useCoupon(
  db: Db,
  party: Party,
  invoice: Parameters<typeof issueInvoice>[1],
): Promise<void> {
  const couponId = newId('cpn');
  const heldId = newId('dsc');
  await db('coupons').insert({
    id: couponId,
    environment: 'test',
    lookup_id: 'TENTH',
    name: 'A tenth',
    percent: '10',
  });
  await db('subscription_coupons').insert({
    id: heldId,
    subscription_id: party.subscriptionId,
    coupon_id: couponId,
  });
  const discount = { couponId: heldId, name: 'A tenth', amountMinor: 100n, shares: [100n] };
  await write(db, (tx) =>
    issueInvoice(
      tx,
      {
        ...invoice,
        subscriptionId: party.subscriptionId,
        totalMinor: 900n,
        discounts: [discount],
        intervalIndex: 0,
      },
      new Date(),
    ),
  );
}

function invoiceOf(
  owner: { readonly environment: string; readonly subscriberId: string; readonly currency: string },
  of: {
    readonly kind: keyof typeof lineKinds;
    readonly key: string;
    readonly minor: bigint;
    readonly meterId?: string;
  },
): Parameters<typeof issueInvoice>[1] {
  const line: NewLine = {
    kind: lineKinds[of.kind],
    chargeId: null,
    meterId: of.meterId ?? null,
    planVersionId: null,
    description: 'API Calls (1 call × $1.00)',
    label: null,
    quantity: 1n,
    unitPrice: '1.00',
    amountMinor: of.minor,
    details: {
      model: 'per_unit',
      aggregation: 'SUM',
      meter_key: 'api_calls',
      scale: 0,
      included_units: '0',
      before: null,
      total: '1',
      tiers: [],
      tiers_before: null,
      exact_total: '1',
      exact_before: '0',
    },
  };
  return {
    ...owner,
    subscriptionId: null,
    periodId: null,
    kind: of.kind,
    businessKey: `${of.kind}:${of.key}`,
    subtotalMinor: of.minor,
    taxMinor: 0n,
    totalMinor: of.minor,
    periodStartAt: null,
    periodEndAt: null,
    document: {
      v: 1,
      subscriber: {
        id: owner.subscriberId,
        lookup_id: null,
        name: 'Ada',
        email: null,
        address: null,
        tax_id: null,
      },
      plan: null,
      time_zone: 'UTC',
      period_text: null,
      taxes: [],
    },
    lines: [line],
  };
}
