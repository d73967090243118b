import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';

import { inTransaction, openDb, type Db } from '../../store/db.ts';
import {
  claimKey,
  forgetOldKeys,
  keepAnswer,
  noteObject,
  releaseKey,
} from '../../store/idempotency.ts';
import { insertToken } from '../../store/tokens.ts';
import { testDatabase, type TestDatabase } from '../support/postgres.ts';

describe('store/idempotency', () => {
  let database: TestDatabase;
  let db: Db;
  let tokenId = '';
  before(async () => {
    database = await testDatabase();
    db = openDb(database.url);
    const token = await inTransaction(db, (tx) =>
      insertToken(tx, { environment: 'test', name: 't', role: 'admin', digest: randomBytes(32) }),
    );
    tokenId = token.id;
  });
  after(async () => {
    await db.destroy();
    await database.drop();
  });

  const requestDigest = Buffer.alloc(32, 1);
  const claim = (key: string, digest = requestDigest) =>
    claimKey(db, { tokenId, key, requestDigest: digest });
  const age = (key: string, interval: string) =>
    db.raw(`UPDATE idempotency_keys SET created_at = now() - ?::interval WHERE key = ?`, [
      interval,
      key,
    ]);
  const answer = { kind: 'open', body: '{"b":1,"a":2}' } as const;

  it('goes from claimed over in flight to done', async () => {
    assert.deepEqual(await claim('a'), { kind: 'claimed', resumedObjectId: null });
    assert.deepEqual(await claim('a'), { kind: 'in_flight' });
    await keepAnswer(db, { tokenId, key: 'a', status: 201, answer });
    assert.deepEqual(await claim('a'), { kind: 'done', status: 201, answer });
    await keepAnswer(db, {
      tokenId,
      key: 'a',
      status: 500,
      answer: { kind: 'open', body: 'other' },
    });
    assert.deepEqual(await claim('a'), { kind: 'done', status: 201, answer });
    assert.deepEqual(await claim('a', Buffer.alloc(32, 2)), { kind: 'reused' });
  });

  it('is claimed by one of 50', async () => {
    const claims = await Promise.all(Array.from({ length: 50 }, () => claim('race')));
    assert.equal(claims.filter(({ kind }) => kind === 'claimed').length, 1);
    assert.equal(claims.filter(({ kind }) => kind === 'in_flight').length, 49);
  });

  it('is taken over once after its process died, with what that had made', async () => {
    await claim('dead');
    await inTransaction(db, (tx) => noteObject(tx, { tokenId, key: 'dead', objectId: 'sub_1' }));
    assert.deepEqual(await claim('dead'), { kind: 'in_flight' });
    await age('dead', '2 minutes');
    const claims = await Promise.all([claim('dead'), claim('dead'), claim('dead')]);
    assert.deepEqual(
      claims.filter(({ kind }) => kind === 'claimed'),
      [{ kind: 'claimed', resumedObjectId: 'sub_1' }],
    );
  });

  it('is given back after a failure: free when nothing was made, else to be gone on with', async () => {
    await claim('free');
    await releaseKey(db, { tokenId, key: 'free' });
    assert.deepEqual(await claim('free', Buffer.alloc(32, 9)), {
      kind: 'claimed',
      resumedObjectId: null,
    });
    await claim('made');
    await noteObject(db, { tokenId, key: 'made', objectId: 'top_1' });
    await releaseKey(db, { tokenId, key: 'made' });
    assert.deepEqual(await claim('made', Buffer.alloc(32, 9)), { kind: 'reused' });
    assert.deepEqual(await claim('made'), { kind: 'claimed', resumedObjectId: 'top_1' });
  });

  it('is kept for more than a day, and forgotten after two', async () => {
    for (const [key, interval] of [
      ['young', '25 hours'],
      ['old', '49 hours'],
    ] as const) {
      // oxlint-disable-next-line no-await-in-loop
      await claim(key);
      // oxlint-disable-next-line no-await-in-loop
      await keepAnswer(db, { tokenId, key, status: 200, answer });
      // oxlint-disable-next-line no-await-in-loop
      await age(key, interval);
    }
    await forgetOldKeys(db);
    assert.equal((await claim('young')).kind, 'done');
    assert.equal((await claim('old')).kind, 'claimed');
  });
});
