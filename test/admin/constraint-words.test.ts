import assert from 'node:assert/strict';

import { constraintWords, syncWords } from '../../admin/constraint-words.ts';
import type { ProductConstraints, SegmentConstraints } from '../../billing/constraints.ts';
import type { SubscriberState } from '../../shards/port.ts';

const jan = Date.UTC(2026, 0, 1);
const feb = Date.UTC(2026, 1, 1);
const mar = Date.UTC(2026, 2, 1);

const segment: SegmentConstraints = {
  segmentId: '1',
  periodId: 'per_1',
  fromMs: jan,
  untilMs: feb,
  status: 'active',
  overage: false,
  features: ['api_calls'],
  rates: [
    { kind: 'rate', name: 'per_minute', limit: 600, windowMs: 60_000 },
    { kind: 'concurrency', name: 'at_once', limit: 8 },
  ],
  limits: [
    {
      name: 'api_calls',
      level: 'subscription',
      meter: 'api_calls',
      limit: 10_000,
      hard: true,
      window: { kind: 'span', fromMs: jan, untilMs: feb },
    },
    {
      name: 'pages',
      level: 'subscription',
      meter: 'document_page',
      limit: 5,
      hard: false,
      window: { kind: 'every', anchorMs: 0, lengthMs: 86_400_000 },
    },
  ],
  credits: { unit: 'credit', rates: [{ meter: 'api_calls', microPerUnit: 1_500_000 }] },
};
const product: ProductConstraints = {
  productId: 'prod_1',
  subscriptionId: 'sub_1',
  segments: [
    segment,
    { ...segment, segmentId: '2', periodId: 'per_2', fromMs: feb, untilMs: mar, overage: true },
  ],
};
const state: SubscriberState = {
  version: 7,
  coreSeq: 3,
  products: [
    {
      productId: 'prod_1',
      segmentId: '1',
      untilMs: feb,
      status: 'active',
      overage: false,
      features: ['api_calls'],
      openHolds: 2,
      limits: [
        {
          name: 'api_calls',
          meter: 'api_calls',
          limit: 10_000,
          hard: true,
          used: 1234,
          held: 2,
          resetMs: feb,
        },
      ],
    },
  ],
  buckets: [
    { id: '1', unit: 'credit', availableMicro: 12_500_000, heldMicro: 3_000_000, expiresMs: null },
  ],
};

describe('admin › constraint words', () => {
  it('says each rule with what happens past it', () => {
    assert.deepEqual(constraintWords(product, null, jan + 1), {
      rules: [
        'Active; in force until 2026-02-01T00:00:00.000Z.',
        'From then on overage is allowed and the next period begins.',
        'api_calls: 10,000 of api_calls until 2026-02-01T00:00:00.000Z; more gets 429 limit_exceeded.',
        'pages: 5 of document_page in each day; more goes on and is counted (soft limit).',
        'At most 600 requests in any minute (per_minute); more get 429 rate_limited.',
        'At most 8 requests at once (at_once); more get 429 concurrency_exceeded.',
        'Credits (credit): 1.5 for each api_calls; without balance a request gets 402 credit_exhausted.',
        'Features: api_calls.',
      ],
      now: [],
    });
  });

  it('says where the counters of the shard stand', () => {
    assert.deepEqual(constraintWords(product, state, jan + 1).now, [
      '2 requests are running.',
      'api_calls: 1,234 used and 2 held of 10,000, begins anew at 2026-02-01T00:00:00.000Z.',
      '12.5 credits can be spent, 3 credits are held.',
    ]);
    const elsewhere = { ...state, products: [] };
    assert.deepEqual(constraintWords(product, elsewhere, jan + 1).now, [
      'The shard does not know this product of the subscriber yet.',
    ]);
  });

  it('takes the segment that is in force, and says when nothing is known past it', () => {
    const [status, next] = constraintWords(product, null, feb).rules;
    assert.equal(status, 'Active; in force until 2026-03-01T00:00:00.000Z.');
    assert.equal(next, 'Nothing is known past 2026-03-01T00:00:00.000Z.');
    assert.deepEqual(constraintWords({ ...product, segments: [] }, null, jan).rules, [
      'Nothing is in force: every request is refused.',
    ]);
  });

  it('says whether the shard holds what was compiled, and what differs', () => {
    assert.deepEqual(syncWords({ version: 7, coreSeq: 3, state }), {
      inSync: true,
      words: 'In sync: the shard holds version 7 and credit entry 3, as Postgres does.',
    });
    const behind = syncWords({ version: 8, coreSeq: 4, state });
    assert.equal(behind.inSync, false);
    assert.match(
      behind.words,
      /holds version 7, Postgres has 8; the shard has applied credit entry 3, Postgres has 4/,
    );
    assert.equal(syncWords({ version: 1, coreSeq: 0, state: null }).inSync, false);
  });
});
