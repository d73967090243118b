import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';

import { Account } from '../../bin/demo/account.ts';
import { sendRequests } from '../../bin/demo/load.ts';
import { type Db, openDb } from '../../store/db.ts';
import { findViolations } from '../../store/invariants.ts';
import { type SystemStack, systemStack } from './stack.ts';

const CONCURRENCY = 16;
const REQUESTS = 3000;

/**
 * kill -9 of each process under load, one after the other, in the stack as `npm start` runs it. Afterwards every answer
 * that a client received in full has exactly one event; events that nobody received are at most the requests that were
 * in flight, each with an answer of the upstream on record; and ledger, rollups and invoice say what the events say.
 */
describe('system › kill -9 under load', function () {
  this.timeout(300_000);
  let system: SystemStack;
  let db: Db;
  before(async () => {
    system = await systemStack();
    db = openDb(system.databaseUrl, { poolMax: 2, name: 'crash-test' });
  });
  after(async () => db.destroy());

  for (const victim of ['gateway-1', 'shard', 'worker', 'drain'] as const) {
    it(`loses and doubles nothing when ${victim} is killed`, async () => {
      const account = await Account.open(system, `Crash ${victim}`, {
        plan: { type: 'USAGE' },
        charges: [
          { type: 'USAGE', meter_id: 'api_calls', unit_price: '0.001', display_name: 'API calls' },
        ],
      });
      const name = victim === 'shard' ? await shardOf(db, account.subscriberId) : victim;
      let killed = false;
      const load = await sendRequests({
        gatewayUrls: system.gatewayUrls,
        path: '/demo/v1/cheap',
        key: account.key,
        count: REQUESTS,
        concurrency: CONCURRENCY,
        keepDecisionIds: true,
        onProgress: (done) => {
          if (killed || done < REQUESTS / 4) return;
          killed = true;
          const pid = system.stack.pidOf(name);
          assert.ok(pid !== null, `${name} runs`);
          process.kill(pid, 'SIGKILL');
        },
      });
      assert.ok(killed);
      await untilServed(account);
      const received = new Set(load.decisionIds);
      assert.equal(received.size, load.served, 'every answer has a decision id of its own');
      const events = await drainedEvents(db, account.subscriberId, received);
      const unseen = [...events].filter((id) => !received.has(id));
      // The one request of untilServed is in nobody's list.
      assert.ok(
        unseen.length <= CONCURRENCY + 1,
        `${unseen.length} events without a received answer`,
      );
      const answered = readFileSync(system.answerLog, 'utf8');
      for (const id of unseen)
        assert.ok(answered.includes(id), `${id} has an upstream answer on record`);

      const invoice = await account.close();
      const line = invoice.list('lines')[0];
      assert.equal(line?.text('quantity'), String(events.size));
      const rolled = await db.raw<{ rows: { quantity: bigint }[] }>(
        'SELECT coalesce(sum(quantity), 0)::bigint AS quantity FROM usage_rollups WHERE subscription_id = ?',
        [account.subscriptionId],
      );
      assert.equal(rolled.rows[0]?.quantity, BigInt(events.size));
      assert.deepEqual(await findViolations(db), []);
    });
  }
});

async function shardOf(db: Db, subscriberId: string): Promise<string> {
  const found = await db.raw<{ rows: { shard: string }[] }>(
    'SELECT shard FROM subscribers JOIN slots USING (slot) WHERE id = ?',
    [subscriberId],
  );
  const shard = found.rows[0]?.shard;
  assert.ok(shard !== undefined);
  return shard;
}

async function untilServed(account: Account): Promise<void> {
  for (let attempt = 0; attempt < 300; attempt += 1) {
    const answer = await account.call().catch(() => null);
    if (answer?.status === 200) return;
    await sleep(200);
  }
  assert.fail('requests are not served again within a minute');
}

/** The subscriber's events once all that were received are there and the number stands still. */
async function drainedEvents(
  db: Db,
  subscriberId: string,
  received: ReadonlySet<string>,
): Promise<Set<string>> {
  let before = -1;
  let events = new Set<string>();
  for (let attempt = 0; attempt < 60; attempt += 1) {
    const found = await db.raw<{ rows: { event_id: string }[] }>(
      'SELECT event_id FROM usage_events WHERE subscriber_id = ?',
      [subscriberId],
    );
    events = new Set(found.rows.map((row) => row.event_id));
    const isComplete = [...received].every((id) => events.has(id));
    if (isComplete && events.size === before) return events;
    before = events.size;
    await sleep(1500);
  }
  const missing = [...received].filter((id) => !events.has(id));
  throw new assert.AssertionError({
    message: `${missing.length} answers have no event, for instance ${missing.slice(0, 3).join(', ')}`,
  });
}
