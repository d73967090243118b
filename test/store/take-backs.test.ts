import assert from 'node:assert/strict';

import { type Db, inTransaction, openDb } from '../../store/db.ts';
import { findCreditNoteRead, listCreditNoteLines } from '../../store/credit-note-reads.ts';
import { postExpired } from '../../store/credit-facts.ts';
import { findViolations } from '../../store/invariants.ts';
import { readCoreLog } from '../../store/projection.ts';
import { selectRows } from '../../store/query.ts';
import {
  beginTakeBack,
  creditTakeBack,
  type NewTakeBack,
  readTakeBack,
  type TakeBackBegin,
  type TakeBackEnd,
} from '../../store/take-backs.ts';
import { walletBalances } from '../../store/wallets.ts';
import { type TestDatabase, testDatabase } from '../support/postgres.ts';
import { seedSubscriber } from '../workflows/support/world.ts';
import { type Bought, buyCredits, shardAnswers } from './top-up-stage.ts';

const AT = new Date('2025-06-01T12:00:00Z');
const credits = (whole: number): bigint => BigInt(Math.round(whole * 1_000_000));

describe('store/take-backs', () => {
  let database: TestDatabase;
  let db: Db;
  let subscriberId = '';
  let key = 0;

  before(async () => {
    database = await testDatabase();
    db = openDb(database.url, { poolMax: 12 });
  });
  beforeEach(async () => {
    subscriberId = await seedSubscriber(db, 'card_ok');
  });
  after(async () => {
    await db.destroy();
    await database.drop();
  });
  afterEach(async () => {
    assert.deepEqual(await findViolations(db), []);
  });

  const begin = (of: Bought, more: Partial<NewTakeBack> = {}): Promise<TakeBackBegin> => {
    key += 1;
    const businessKey = `note:${key}`;
    return inTransaction(db, (tx) =>
      beginTakeBack(tx, {
        ...{ invoiceId: of.invoiceId, businessKey, wish: { kind: 'all' } },
        ...{ reason: 'goodwill', to: 'balance', actor: 'test', onShard: null },
        ...more,
      }),
    );
  };
  const begun = async (of: Bought, more: Partial<NewTakeBack> = {}): Promise<string> => {
    const answer = await begin(of, more);
    return answer.kind === 'begun' ? answer.takeBackId : assert.fail(answer.code);
  };
  const credited = (takeBackId: string): Promise<TakeBackEnd> =>
    inTransaction(db, (tx) => creditTakeBack(tx, takeBackId, AT));
  /** From the wish to the note; the shard has `has` credits. */
  const takenBack = async (of: Bought, more: Partial<NewTakeBack> = {}, has = 10_000) => {
    const takeBackId = await begun(of, more);
    await shardAnswers(db, takeBackId, (asked) => (asked < credits(has) ? asked : credits(has)));
    const end = await credited(takeBackId);
    if (end.kind === 'refused') assert.fail('refused');
    const note = await findCreditNoteRead(db, 'test', end.creditNoteId);
    return { ...end, takeBackId, note: note ?? assert.fail() };
  };
  const amount = (minor: bigint) => ({ wish: { kind: 'amount', minor } }) as const;
  /** Credits that went meanwhile, the oldest of the bucket first: lapsed ones are posted like spent ones. */
  const lose = (of: Bought, micro: bigint): Promise<void> =>
    inTransaction(db, (tx) => {
      key += 1;
      const place = { shard: 's', incarnation: 1, streamId: `${key}-0` };
      const bucketId = of.bucketId.toString();
      const fact = {
        kind: 'expired',
        subscriberId,
        bucketId,
        micro: Number(micro),
        atMs: 0,
      } as const;
      return postExpired(tx, place, fact);
    });
  const wallet = async () => {
    const [balance] = await walletBalances(db, subscriberId);
    return [balance?.granted, balance?.available, balance?.refunded];
  };
  const ledgerOf = async (noteId: string) =>
    Object.fromEntries(
      (
        await selectRows<{ kind: string; amount: bigint }>(
          db,
          `SELECT a.kind, e.amount FROM ledger_txns t JOIN ledger_entries e ON e.txn_id = t.id
           JOIN accounts a ON a.id = e.account_id WHERE t.business_key = 'credit_note:' || ?`,
          [noteId],
        )
      ).map(({ kind, amount: minor }) => [kind, minor]),
    );

  it('an untouched top-up gives back all that it cost, through its payment', async () => {
    const bought = await buyCredits(db, subscriberId, { credits: 1000, minor: 2500n });
    const { note, refundId } = await takenBack(bought, { to: 'refund' });
    assert.deepEqual([note.total_minor, note.refund_minor, note.balance_minor], [2500n, 2500n, 0n]);
    assert.notEqual(refundId, null);
    assert.deepEqual([note.credits_micro, note.credit_unit], [credits(1000), 'credit']);
    const [line] = await listCreditNoteLines(db, [note.id]);
    assert.equal(line?.description, 'Credits taken back (1,000 credits)');
    assert.deepEqual(await wallet(), [credits(1000), 0n, credits(1000)]);
    assert.deepEqual(await ledgerOf(note.id), {
      ...{ deferred_revenue: 2500n, refund_payable: -2500n },
    });
  });

  it('the tax goes back with it, in proportion and to the cent', async () => {
    const bought = await buyCredits(db, subscriberId, {
      credits: 300,
      minor: 999n,
      taxMinor: 190n,
    });
    const part = await takenBack(bought, amount(333n));
    const rest = await takenBack(bought);
    assert.deepEqual(
      [part.note, rest.note].map((note) => [note.subtotal_minor, note.tax_minor, note.total_minor]),
      [
        [333n, 63n, 396n],
        [666n, 127n, 793n],
      ],
    );
    assert.deepEqual(await ledgerOf(part.note.id), {
      ...{ deferred_revenue: 333n, tax_payable: 63n, account_balance: -396n },
    });
  });

  it('an amount takes what it paid for; the last part gives the rest', async () => {
    const bought = await buyCredits(db, subscriberId, { credits: 3, minor: 1000n });
    const notes = [
      await takenBack(bought, amount(1n)),
      await takenBack(bought, amount(333n)),
      await takenBack(bought),
    ];
    assert.deepEqual(
      notes.map(({ note }) => [note.credits_micro, note.total_minor]),
      [
        [3_000n, 1n],
        [999_000n, 333n],
        [1_998_000n, 666n],
      ],
    );
    const none = await begin(bought);
    assert.deepEqual(none, {
      ...{ kind: 'refused', code: 'above_available', leftMinor: 0n, leftMicro: 0n, unit: 'credit' },
    });
  });

  it('more than is left is refused, with what is left as the shard says', async () => {
    const bought = await buyCredits(db, subscriberId, { credits: 1000, minor: 2500n });
    const onShard = new Map([[String(bought.bucketId), credits(720.3)]]);
    assert.deepEqual(await begin(bought, { ...amount(1801n), onShard }), {
      ...{ kind: 'refused', code: 'above_available', leftMinor: 1800n, unit: 'credit' },
      leftMicro: credits(720.3),
    });
    const empty = await begin(bought, { onShard: new Map() });
    assert.equal(empty.kind === 'refused' && empty.code, 'above_available');
    const { note } = await takenBack(bought, { onShard });
    assert.deepEqual([note.credits_micro, note.total_minor], [credits(720.3), 1800n]);
  });

  it('what the shard did not have is not given money for', async () => {
    const bought = await buyCredits(db, subscriberId, { credits: 1000, minor: 2500n });
    const { note } = await takenBack(bought, amount(2000n), 100.3);
    // A third of a credit pays for no cent: it went back.
    assert.deepEqual([note.credits_micro, note.total_minor], [credits(100), 250n]);
    assert.deepEqual(await wallet(), [credits(1000), credits(900), credits(100)]);
    assert.deepEqual(
      (await readCoreLog(db, subscriberId, { afterSeq: 1n, limit: 9 })).map((entry) => [
        entry.verb,
        entry.amountMicro,
      ]),
      [
        ['debit', credits(800)],
        ['grant', credits(0.3)],
      ],
    );
  });

  it('nothing there, or nothing that a cent is paid for, ends it without a note', async () => {
    const bought = await buyCredits(db, subscriberId, { credits: 1000, minor: 2500n });
    for (const has of [0, 0.3]) {
      const takeBackId = await begun(bought);
      await assert.rejects(credited(takeBackId), /not settled/);
      await shardAnswers(db, takeBackId, () => credits(has));
      assert.deepEqual(await credited(takeBackId), { kind: 'refused' });
    }
    assert.deepEqual(await wallet(), [credits(1000), credits(1000), 0n]);
    assert.equal((await takenBack(bought)).note.total_minor, 2500n);
  });

  it('takes nothing from another top-up of the same bucket', async () => {
    const first = await buyCredits(db, subscriberId, { credits: 100, minor: 1000n });
    const second = await buyCredits(db, subscriberId, { credits: 100, minor: 100n });
    assert.equal(first.bucketId, second.bucketId);
    const takeBackId = await begun(first);
    // The drain posts what was used before the debit.
    await lose(first, credits(30));
    await shardAnswers(db, takeBackId);
    const { takenMicro } = await readTakeBack(db, takeBackId);
    assert.equal(takenMicro, credits(70));
    const rest = (await readCoreLog(db, subscriberId, { afterSeq: 3n, limit: 9 })).map((entry) => [
      entry.verb,
      entry.amountMicro,
    ]);
    assert.deepEqual(rest, [['grant', credits(30)]]);
  });

  it('is one at a time, and the same for whoever asks again', async () => {
    const bought = await buyCredits(db, subscriberId, { credits: 1000, minor: 2500n });
    const answers = await Promise.all(Array.from({ length: 8 }, () => begin(bought)));
    const started = answers.flatMap((answer) =>
      answer.kind === 'begun' ? [answer.takeBackId] : [answer.code],
    );
    assert.equal(started.filter((one) => one === 'in_progress').length, 7);
    const takeBackId = started.find((one) => one !== 'in_progress') ?? '';
    const businessKey = `note:again:${subscriberId}`;
    await shardAnswers(db, takeBackId);
    assert.equal((await begin(bought)).kind, 'refused');
    const ends = await Promise.all([credited(takeBackId), credited(takeBackId)]);
    assert.deepEqual(ends[0], ends[1]);
    const other = await buyCredits(db, subscriberId, { credits: 1000, minor: 2500n });
    const twice = await Promise.all([1, 2].map(() => begun(other, { businessKey })));
    assert.equal(twice[0], twice[1]);
    await shardAnswers(db, twice[0] ?? '');
    await credited(twice[0] ?? '');
    assert.equal(await begun(other, { businessKey }), twice[0]);
  });

  it('of several top-ups go on side by side, and none waits for another', async () => {
    const bought: Bought[] = [];
    for (const minor of [2500n, 2400n, 2300n, 2200n, 2100n]) {
      bought.push(await buyCredits(db, subscriberId, { credits: 1000, minor }));
    }
    /** Of one top-up only one goes on at a time, and at the end nothing is left; no other trouble is expected. */
    const unlessRefused = (one: Bought, has: number) =>
      takenBack(one, {}, has).catch((error: unknown) => {
        assert.match(String(error), /in_progress|above_available/);
        return null;
      });
    const notes = await Promise.all(
      bought.flatMap((one) => [unlessRefused(one, 300), unlessRefused(one, 200)]),
    );
    const rest = await Promise.all(bought.map((one) => unlessRefused(one, 1000)));
    const givenBack = [...notes, ...rest].reduce(
      (sum, one) => sum + (one?.note.total_minor ?? 0n),
      0n,
    );
    assert.equal(givenBack, 11_500n);
    assert.deepEqual(await wallet(), [credits(5000), 0n, credits(5000)]);
  });

  it('nothing goes back to a card that paid nothing', async () => {
    const bought = await buyCredits(db, subscriberId, { credits: 1000, minor: 2500n });
    const { payment_id: paymentId } = await db('top_ups').where({ id: bought.topUpId }).first();
    await db('top_ups').where({ id: bought.topUpId }).update({ payment_id: null });
    const refused = await begin(bought, { to: 'refund' });
    assert.equal(refused.kind === 'refused' && refused.code, 'nothing_to_refund');
    await db('top_ups').where({ id: bought.topUpId }).update({ payment_id: paymentId });
  });
});
