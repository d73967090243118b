import assert from 'node:assert/strict';

import { type Db, openDb } from '../../store/db.ts';
import { postLedger } from '../../store/ledger.ts';
import { selectRows } from '../../store/query.ts';
import { appendCoreLog, grantCredits, voidGrant, walletBalances } from '../../store/wallets.ts';
import { type TestDatabase, testDatabase } from '../support/postgres.ts';
import { type Party, seedParty, seedWorld, type World, write } from './fixture.ts';

let database: TestDatabase;
let db: Db;
let world: World;
let party: Party;

const grantOf = (businessKey: string, over: object = {}): Parameters<typeof grantCredits>[1] => ({
  environment: 'test',
  subscriberId: party.subscriberId,
  unit: 'credit',
  businessKey,
  source: 'manual',
  amountMicro: 5_000_000n,
  class: 'paid',
  effectiveAt: new Date('2025-01-01T00:00:00Z'),
  expiresAt: null,
  ...over,
});

describe('store/wallets and store/ledger', () => {
  before(async () => {
    database = await testDatabase();
    db = openDb(database.url);
    world = await seedWorld(db);
  });
  beforeEach(async () => {
    party = await seedParty(db, world);
  });
  after(async () => {
    await db.destroy();
    await database.drop();
  });

  describe('store/wallets › grantCredits', () => {
    it('writes the grant, a balanced ledger transaction and the next entry of the core log', async () => {
      const granted = await write(db, (tx) => grantCredits(tx, grantOf(`a:${party.subscriberId}`)));
      assert.equal(granted.coreSeq, 1n);
      assert.deepEqual(await walletBalances(db, party.subscriberId), [
        {
          unit: 'credit',
          granted: 5_000_000n,
          available: 5_000_000n,
          spent: 0n,
          expired: 0n,
          refunded: 0n,
        },
      ]);
      const log = await selectRows(
        db,
        'SELECT seq, verb, bucket_id, amount_micro FROM core_log WHERE subscriber_id = ?',
        [party.subscriberId],
      );
      assert.deepEqual(log, [
        { seq: 1n, verb: 'grant', bucket_id: granted.bucketId, amount_micro: 5_000_000n },
      ]);
    });

    it('gives the same answer to the same business key, also when twenty ask at once', async () => {
      const key = `b:${party.subscriberId}`;
      const answers = await Promise.all(
        Array.from({ length: 20 }, () => write(db, (tx) => grantCredits(tx, grantOf(key)))),
      );
      assert.equal(new Set(answers.map((answer) => answer.grantId)).size, 1);
      const [balance] = await walletBalances(db, party.subscriberId);
      assert.equal(balance?.granted, 5_000_000n);
    });

    it('joins the bucket of its group when both are effective, and not before', async () => {
      const id = party.subscriberId;
      const later = new Date('2025-01-15T00:00:00Z');
      const future = new Date(Date.now() + 86_400_000);
      const first = await write(db, (tx) => grantCredits(tx, grantOf(`c1:${id}`)));
      const grant = (key: string, over: object): Promise<{ bucketId: bigint }> =>
        write(db, (tx) => grantCredits(tx, grantOf(`${key}:${id}`, over)));
      assert.equal((await grant('c2', { effectiveAt: later })).bucketId, first.bucketId);
      for (const other of [
        { effectiveAt: future },
        { class: 'promotional' },
        { priority: 5 },
        { scope: ['tokens'] },
        { expiresAt: future },
      ]) {
        assert.notEqual((await grant(JSON.stringify(other), other)).bucketId, first.bucketId);
      }
    });

    it('numbers the core log without a gap when many write at once', async () => {
      const id = party.subscriberId;
      const { bucketId } = await write(db, (tx) => grantCredits(tx, grantOf(`d:${id}`)));
      await Promise.all(
        Array.from({ length: 30 }, (_, index) =>
          write(db, (tx) =>
            appendCoreLog(tx, {
              subscriberId: id,
              verb: 'debit',
              bucketId,
              amountMicro: 1n,
              businessKey: `d:${id}:${index % 20}`,
            }),
          ),
        ),
      );
      const log = await selectRows<{ seq: bigint }>(
        db,
        'SELECT seq FROM core_log WHERE subscriber_id = ? ORDER BY seq',
        [id],
      );
      assert.deepEqual(
        log.map((row) => row.seq),
        Array.from({ length: 21 }, (_, index) => BigInt(index + 1)),
      );
    });

    it('voids a grant once, for what is left of it', async () => {
      const { grantId } = await write(db, (tx) =>
        grantCredits(tx, grantOf(`e:${party.subscriberId}`)),
      );
      assert.equal(await write(db, (tx) => voidGrant(tx, grantId)), 2n);
      assert.equal(await write(db, (tx) => voidGrant(tx, grantId)), null);
    });
  });

  describe('store/ledger › postLedger', () => {
    it('posts a business key once', async () => {
      const post = {
        environment: 'test',
        kind: 'invoice',
        businessKey: `invoice:${party.subscriptionId}`,
        entries: [
          {
            asset: 'USD',
            kind: 'receivable' as const,
            subscriberId: party.subscriberId,
            amount: 500n,
          },
          { asset: 'USD', kind: 'revenue' as const, subscriberId: null, amount: -500n },
        ],
      };
      const first = await write(db, (tx) => postLedger(tx, post));
      const again = await write(db, (tx) => postLedger(tx, post));
      assert.deepEqual([first.posted, again.posted], [true, false]);
      assert.equal(again.txnId, first.txnId);
    });

    it('is refused when an asset does not sum to zero, though all assets together do', async () => {
      const entry = { kind: 'available' as const, subscriberId: party.subscriberId };
      await assert.rejects(
        write(db, (tx) =>
          postLedger(tx, {
            environment: 'test',
            kind: 'x',
            businessKey: `x:${party.subscriberId}`,
            entries: [
              { ...entry, asset: 'USD', amount: 5n },
              { ...entry, asset: 'EUR', amount: -5n },
            ],
          }),
        ),
        /does not sum to zero/,
      );
    });

    it('makes shared and own accounts once, from twenty transactions at once', async () => {
      const id = party.subscriberId;
      await Promise.all(
        Array.from({ length: 20 }, (_, index) =>
          write(db, (tx) =>
            postLedger(tx, {
              environment: 'test',
              kind: 'x',
              businessKey: `y:${id}:${index}`,
              entries: [
                { asset: 'JPY', kind: 'cash', subscriberId: null, amount: 1n },
                { asset: 'JPY', kind: 'account_balance', subscriberId: id, amount: -1n },
              ],
            }),
          ),
        ),
      );
      const accounts = await selectRows(db, "SELECT kind FROM accounts WHERE asset = 'JPY'");
      assert.equal(accounts.length, 2);
    });
  });
});
