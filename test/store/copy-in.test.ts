import assert from 'node:assert/strict';

import { COPY_NULL, copyIn, copyText } from '../../store/copy-in.ts';
import { type Db, openDb } from '../../store/db.ts';
import { selectRows } from '../../store/query.ts';
import { type TestDatabase, testDatabase } from '../support/postgres.ts';
import { write } from './fixture.ts';

const COPY_ROWS = 'COPY copied (id, body) FROM STDIN';

describe('store/copy-in', () => {
  let database: TestDatabase;
  let db: Db;
  before(async () => {
    database = await testDatabase();
    db = openDb(database.url, { poolMax: 1 });
    await db.raw('CREATE TABLE copied (id bigint PRIMARY KEY, body text)');
  });
  beforeEach(() => db.raw('TRUNCATE copied'));
  after(async () => {
    await db.destroy();
    await database.drop();
  });

  const stored = () =>
    selectRows<{ id: bigint; body: string | null }>(db, 'SELECT id, body FROM copied ORDER BY id');

  it('stores every text as it was given, and null', async () => {
    const texts = ['', 'plain', 'a\tb\nc\rd\\e', String.raw`\N`, String.raw`\.`, 'ä €', '"{,}"'];
    const rows = texts.map((text, id) => `${id}\t${copyText(text)}\n`);
    await write(db, (tx) => copyIn(tx, COPY_ROWS, [...rows, `99\t${COPY_NULL}\n`]));
    assert.deepEqual(
      (await stored()).map(({ body }) => body),
      [...texts, null],
    );
  });

  it('stores no rows when it is given none', async () => {
    await write(db, (tx) => copyIn(tx, COPY_ROWS, []));
    assert.deepEqual(await stored(), []);
  });

  it('says when all is sent, once, and then waits until all is stored', async () => {
    let sent = 0;
    await write(db, (tx) =>
      copyIn(tx, COPY_ROWS, ['1\ta\n', '2\tb\n'], () => {
        sent += 1;
      }),
    );
    assert.equal(sent, 1);
    assert.equal((await stored()).length, 2);
  });

  it('throws what Postgres refuses, and nothing that was still to be sent gets into a later COPY', async () => {
    // Far more than the connection holds, so that it is refused while parts are still being sent.
    const filler = 'x'.repeat(1_000);
    const part = (from: number): string =>
      Array.from({ length: 1_000 }, (_, index) => `${from + index}\t${filler}\n`).join('');
    function* parts(): Generator<string> {
      yield '1\ta\n1\tb\n';
      for (let from = 10_000; from < 40_000; from += 1_000) yield part(from);
    }
    await write(db, async (tx) => {
      await assert.rejects(
        tx.transaction((savepoint) => copyIn(savepoint, COPY_ROWS, parts())),
        { code: '23505' },
      );
      await copyIn(tx, COPY_ROWS, ['2\tc\n']);
    });
    assert.deepEqual(await stored(), [{ id: 2n, body: 'c' }]);
  });

  it('throws what goes wrong while the rows are put together, and stores none of them', async () => {
    function* parts(): Generator<string> {
      yield '1\ta\n';
      throw new RangeError('no more');
    }
    await write(db, async (tx) => {
      await assert.rejects(
        tx.transaction((savepoint) => copyIn(savepoint, COPY_ROWS, parts())),
        { name: 'RangeError', message: 'no more' },
      );
      await copyIn(tx, COPY_ROWS, ['2\tc\n']);
    });
    assert.deepEqual(await stored(), [{ id: 2n, body: 'c' }]);
  });

  it('throws when the connection is lost', async () => {
    const other = openDb(database.url);
    const ended = `SELECT pg_terminate_backend(pid) FROM pg_stat_activity
      WHERE datname = current_database() AND pid <> pg_backend_pid()`;
    let ending: Promise<unknown> = Promise.resolve();
    function* parts(): Generator<string> {
      yield '1\ta\n';
      ending = selectRows(other, ended);
      for (;;) yield '';
    }
    await assert.rejects(write(db, (tx) => copyIn(tx, COPY_ROWS, parts())));
    await ending;
    await other.destroy();
    assert.deepEqual(await stored(), []);
  });
});
