/** What a shard would not take is refused here, before anything is written or paid, in words that say what to do. */
import assert from 'node:assert/strict';

import { givenCreditLimits, shardLimits } from '../../billing/shard-limits.ts';
import { formatCredits } from '../../billing/credits.ts';
import { newId } from '../../store/ids.ts';
import {
  awayEngine,
  type Json,
  type Reply,
  seedCatalogue,
  startAdmin,
  type TestAdmin,
} from './support.ts';

describe('admin › refuses what a shard would not take', () => {
  let admin: TestAdmin;
  let subscriberId = '';
  /** Top-ups that their workflow was asked for. */
  const asked: string[] = [];

  before(async () => {
    admin = await startAdmin({
      waits: { appliedMs: 1, workflowMs: 1, closeMs: 1, countedMs: 1 },
      engine: {
        ...awayEngine,
        topUp: (topUpId) => {
          asked.push(topUpId);
          return Promise.resolve({ kind: 'slow' });
        },
      },
    });
    await seedCatalogue(admin);
  });
  beforeEach(async () => {
    asked.length = 0;
    const made = await post('/subscribers', { name: 'Ada', payment_method: 'card_ok' });
    subscriberId = String(made.body['id']);
  });
  after(() => admin.stop());

  const post = (
    path: string,
    body: unknown = {},
    headers: Readonly<Record<string, string>> = {},
  ): Promise<Reply> => admin.call('POST', `/api/v1${path}`, { body, headers });
  const give = (credits: string, more: Json = {}): Promise<Reply> =>
    post(`/subscribers/${subscriberId}/grants`, { credits, ...more });
  const sell = (
    credits: string,
    more: Json = {},
    headers: Readonly<Record<string, string>> = {},
  ): Promise<Reply> =>
    post(
      `/subscribers/${subscriberId}/top_ups`,
      { credits, amount: '5.00', currency: 'USD', ...more },
      headers,
    );
  const isRefused = (reply: Reply, words: RegExp): void => {
    assert.deepEqual([reply.status, reply.body['code']], [409, 'conflict'], reply.text);
    assert.match(String(reply.body['detail']), words);
  };
  const isMade = (reply: Reply, status = 201): void => {
    assert.equal(reply.status, status, reply.text);
  };
  /** Credits on one more set of terms each time. */
  const fillBuckets = async (): Promise<void> => {
    for (let priority = 0; priority < givenCreditLimits.buckets; priority += 1) {
      isMade(await give('1', { priority }));
    }
  };

  it('one key too many, until another is revoked; two at once do not both slip in', async () => {
    await admin.db('api_keys').insert(
      Array.from({ length: shardLimits.keys - 1 }, () => ({
        id: newId('key'),
        environment: 'test',
        subscriber_id: subscriberId,
        digest: Buffer.from(newId('key').padEnd(32).slice(0, 32)),
        last4: 'abcd',
      })),
    );
    const make = () => post(`/subscribers/${subscriberId}/api_keys`);
    const both = (await Promise.all([make(), make()])).toSorted((a, b) => a.status - b.status);
    const [made, refused] = both;
    assert.ok(made !== undefined && refused !== undefined);
    isMade(made);
    isRefused(refused, /256 keys .* revoke/s);
    isMade(await post(`/api_keys/${String(made.body['id'])}/revoke`), 200);
    isMade(await make());
    isRefused(await make(), /256 keys/);
  });

  it('one more set of terms of credits; more on known terms are welcome', async () => {
    await fillBuckets();
    isRefused(await give('1', { priority: 500 }), /32 different terms.*expires_at/s);
    isMade(await give('1', { priority: 7 }));
    isRefused(await sell('1'), /32 different terms/);
    assert.deepEqual(asked, []);
    assert.deepEqual(await admin.db('top_ups').where({ subscriber_id: subscriberId }), []);
    // Spent or void ones make room again.
    await admin.db.raw(
      `UPDATE grants SET remaining_micro = 0 WHERE wallet_id IN (SELECT id FROM wallets WHERE subscriber_id = ?)`,
      [subscriberId],
    );
    isMade(await give('1', { priority: 500 }));
    isMade(await sell('1'), 202);
  });

  it('more credits than may be held at once, before the money is taken', async () => {
    const most = formatCredits(givenCreditLimits.balanceMicro);
    isRefused(await give(`${most}.000001`), /500000000 is the most/);
    isMade(await give(most));
    isRefused(await give('0.000001'), /500000000\.000001 credits .*500000000 is the most/s);
    isRefused(await give('0.000001', { unit: 'token' }), /is the most/);
    isRefused(await sell('1'), /is the most/);
    assert.deepEqual(asked, []);
  });

  it('top-ups that are being paid count, and a repeat of one is let through', async () => {
    const most = formatCredits(givenCreditLimits.balanceMicro);
    const headers = { 'idempotency-key': newId('top') };
    const first = await sell(most, {}, headers);
    isMade(first, 202);
    isRefused(await sell('1'), /is the most/);
    isRefused(await give('1'), /is the most/);
    const again = await sell(most, {}, headers);
    assert.deepEqual([again.status, again.body['id']], [202, first.body['id']]);
  });

  it('one feature too many in a draft; one that it has may still change', async () => {
    isMade(
      await post('/plans', {
        name: 'Wide',
        lookup_id: 'wide',
        type: 'USAGE',
        currency: 'USD',
        billing_interval: 'month',
      }),
    );
    await admin.db('features').insert(
      Array.from({ length: shardLimits.list }, (_, index) => ({
        id: newId('feat'),
        environment: 'test',
        lookup_id: `wide_${index}`,
        name: `Wide ${index}`,
      })),
    );
    await admin.db.raw(
      `INSERT INTO plan_features (plan_version_id, feature_id, "limit", limit_type, reset_interval)
       SELECT v.id, f.id, NULL, 'HARD', 'period' FROM features f, plan_versions v JOIN plans p ON p.id = v.plan_id
       WHERE p.lookup_id = 'wide' AND f.lookup_id LIKE 'wide\\_%'`,
    );
    isRefused(
      await post('/plans/wide/features', { feature_id: 'api_calls' }),
      /128 features.*DELETE/s,
    );
    isMade(await post('/plans/wide/features', { feature_id: 'wide_3', limit_type: 'SOFT' }));
  });
});
