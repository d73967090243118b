/**
 * The rules of a shard as a table, a row a step, in the order of the contract, run against the model and against the
 * scripts in a real Redis. Instants are milliseconds after a base that lies on the boundary of a generation.
 */
import assert from 'node:assert/strict';

import type { ScriptName } from '../../shards/scripts.ts';
import type { Command, Plan } from './command.ts';
import { createModel } from './model.ts';
import { createScriptsSubject, loadStandingClock } from './scripts-subject.ts';
import { openTestShard, type TestShard } from './support.ts';

const plan = (overrides: Partial<Plan> = {}): Plan => ({
  id: 1,
  period: 1,
  from: 0,
  until: 200_000,
  ...overrides,
});
const on = (...plans: readonly Plan[]): Command => ({ do: 'apply', version: 1, plans });
const at = (ms: number): Command => ({ do: 'at', ms });
const grant = (id: number, micro: number, more = {}): Command => ({
  do: 'grant',
  bucket: { id, ...more },
  micro,
});
const ask = (op: string, more = {}): Command => ({ do: 'authorize', op, ...more });
const settle = (op: string, calls = 1): Command => ({ do: 'settle', op, calls });
const release = (op: string): Command => ({ do: 'release', op });
const expire = (op: string): Command => ({ do: 'expire', op });
const record = (op: string, calls: number, more = {}): Command => ({
  do: 'record',
  op,
  calls,
  ...more,
});
const seal = (period: number): Command => ({ do: 'seal', period });
const read: Command = { do: 'read' };

type Row = readonly [Command, string];
const free = 'ok held=0 overage=0 available=none';
const done = 'ok charged=0 overage=0 written=0 available=none';
const price = { calls: 1, tokens: 2 };
const span = (limit: number, soft = false) => ({
  name: 'calls',
  limit,
  soft,
  window: [0, 200_000] as const,
});

const cases: Readonly<Record<string, readonly Row[]>> = {
  'refusals come in the order of the contract': [
    [at(1), ''],
    [
      on(
        plan({
          status: 'past_due',
          features: ['api'],
          rate: { limit: 0, windowMs: 1000 },
          concurrency: 0,
          limits: [span(0)],
          price,
        }),
      ),
      'applied',
    ],
    [ask('a', { key: 'unknown', feature: 'x' }), 'invalid_credential 0/0/0 false'],
    [ask('a', { key: 'expired', feature: 'x' }), 'key_expired 0/0/0 false'],
    [ask('a', { key: 'other_product' }), 'invalid_credential 0/0/0 false'],
    [release('gone'), done],
    [ask('gone', { feature: 'x' }), 'duplicate_request 0/0/0 false'],
    [ask('a', { feature: 'x' }), 'payment_overdue 0/0/0 false'],
    [at(200_000), ''],
    [ask('a', { feature: 'x' }), 'constraints_expired 0/0/0 true'],
  ],
  'an inactive segment, then a feature, then a rate, then concurrency, then quota, then credits': [
    [at(1), ''],
    [on(plan({ status: 'inactive', until: 10 }), ...ladder()), 'applied'],
    [ask('a', { feature: 'x' }), 'subscription_inactive 0/0/0 false'],
    [at(10), ''],
    [ask('a', { feature: 'x' }), 'feature_not_enabled 0/0/0 false'],
    [ask('a', { feature: 'api' }), 'rate_limited 0/0/0 true'],
    [at(20), ''],
    [ask('a', { feature: 'api' }), 'concurrency_exceeded 0/0/0 true'],
    [at(30), ''],
    [ask('a', { feature: 'api' }), 'limit_exceeded 0/0/0 false'],
    [at(40), ''],
    [ask('a', { feature: 'api' }), 'credit_exhausted 0/1/0 false'],
    [grant(7, 1), 'applied taken=0 available=1'],
    [ask('a', { feature: 'api' }), 'ok held=1 overage=0 available=0'],
    [ask('a', { feature: 'api' }), 'duplicate_request 0/0/0 false'],
  ],
  'a product that nobody subscribed to is inactive; a key says so first': [
    [at(1), ''],
    [ask('a'), 'invalid_credential 0/0/0 false'],
  ],
  'a plan that begins later is inactive until then': [
    [at(1), ''],
    [on(plan({ from: 60_000 })), 'applied'],
    [ask('a'), 'subscription_inactive 0/0/0 false'],
    [at(60_000), ''],
    [ask('a'), free],
  ],
  'a rate lets a burst through, then one for each interval': [
    [at(0), ''],
    [on(plan({ rate: { limit: 3, windowMs: 1000 } })), 'applied'],
    [ask('a'), free],
    [ask('b'), free],
    [ask('c'), free],
    [ask('d'), 'rate_limited 3/3/0 true'],
    [at(333), ''],
    [ask('d'), 'rate_limited 3/3/0 true'],
    [at(334), ''],
    [ask('d'), free],
    [ask('e'), 'rate_limited 3/3/0 true'],
    [at(10_000), ''],
    [ask('e'), free],
    [ask('f'), free],
    [ask('g'), free],
    [ask('h'), 'rate_limited 3/3/0 true'],
  ],
  'concurrency counts open holds, however they end': [
    [at(0), ''],
    [on(plan({ concurrency: 1 })), 'applied'],
    [ask('a', { ttl: 10 }), free],
    [ask('b'), 'concurrency_exceeded 1/0/1 true'],
    [settle('a'), done],
    [ask('c', { ttl: 10 }), free],
    [release('c'), done],
    [ask('d', { ttl: 10 }), free],
    [at(10), ''],
    [ask('e'), 'concurrency_exceeded 1/0/1 true'],
    [expire('d'), 'expired'],
    [ask('e'), free],
  ],
  'a quota: request n is served, n + 1 refused; what is held counts at once (H-10)': [
    [at(0), ''],
    [on(plan({ limits: [span(5)] })), 'applied'],
    [ask('a', { calls: 4 }), free],
    [ask('b', { calls: 2 }), 'limit_exceeded 5/0/4 true'],
    [ask('b', { calls: 6 }), 'limit_exceeded 5/0/4 false'],
    [settle('a', 4), done],
    [ask('b', { calls: 1 }), free],
    [settle('b', 1), done],
    [ask('c', { calls: 1 }), 'limit_exceeded 5/5/0 false'],
    [read, 'segment=1 open=0 calls=5+0'],
  ],
  'a soft limit is counted and never refused': [
    [at(0), ''],
    [on(plan({ limits: [span(1, true)] })), 'applied'],
    [ask('a'), free],
    [settle('a'), done],
    [ask('b'), free],
    [settle('b', 3), done],
    [read, 'segment=1 open=0 calls=4+0'],
  ],
  'a window of fixed length begins anew at its end, and a settle touches only the window of its hold':
    [
      [at(59_999), ''],
      [on(plan({ limits: [{ name: 'calls', limit: 1, window: 60_000 }] })), 'applied'],
      [ask('a'), free],
      [ask('b'), 'limit_exceeded 1/0/1 true'],
      [at(60_000), ''],
      [ask('b'), free],
      [settle('a'), done],
      [read, 'segment=1 open=1 calls=0+1'],
      [settle('b'), done],
      [read, 'segment=1 open=0 calls=1+0'],
      [at(60_001), ''],
      [ask('c'), 'limit_exceeded 1/1/0 false'],
    ],
  'settling below the hold returns the rest (H-1)': [
    [at(0), ''],
    [on(plan({ price })), 'applied'],
    [grant(1, 15), 'applied taken=0 available=15'],
    [ask('a', { calls: 8 }), 'ok held=8 overage=0 available=7'],
    [settle('a', 4), 'ok charged=4 overage=0 written=0 available=11'],
  ],
  'settling above the hold takes more (H-2)': [
    [at(0), ''],
    [on(plan({ price })), 'applied'],
    [grant(1, 15), 'applied taken=0 available=15'],
    [ask('a', { calls: 8 }), 'ok held=8 overage=0 available=7'],
    [settle('a', 11), 'ok charged=11 overage=0 written=0 available=4'],
  ],
  'a release gives everything back (H-3), and so does an expiry (H-4)': [
    [at(0), ''],
    [on(plan({ price })), 'applied'],
    [grant(1, 15), 'applied taken=0 available=15'],
    [ask('a', { calls: 8 }), 'ok held=8 overage=0 available=7'],
    [release('a'), 'ok charged=0 overage=0 written=0 available=15'],
    [ask('b', { calls: 8, ttl: 5 }), 'ok held=8 overage=0 available=7'],
    [expire('b'), 'open'],
    [at(5), ''],
    [expire('b'), 'expired'],
    [expire('b'), 'gone'],
    [read, 'segment=1 open=0 1=15+0'],
  ],
  'a settle counts once (H-6)': [
    [at(0), ''],
    [on(plan({ price })), 'applied'],
    [grant(1, 15), 'applied taken=0 available=15'],
    [ask('a', { calls: 8 }), 'ok held=8 overage=0 available=7'],
    [settle('a', 4), 'ok charged=4 overage=0 written=0 available=11'],
    [settle('a', 4), 'already settled 4'],
    [release('a'), 'already settled 4'],
    [read, 'segment=1 open=0 1=11+0'],
  ],
  'a settle after the expiry is late: it is charged, once (H-7 is decided otherwise here)': [
    [at(0), ''],
    [on(plan({ price, limits: [span(100)] })), 'applied'],
    [grant(1, 15), 'applied taken=0 available=15'],
    [ask('a', { calls: 8, ttl: 5 }), 'ok held=8 overage=0 available=7'],
    [at(5), ''],
    [expire('a'), 'expired'],
    [release('a'), 'already expired 0'],
    [settle('a', 4), 'late 4'],
    [settle('a', 4), 'already late 4'],
    [read, 'segment=1 open=0 calls=4+0 1=11+0'],
  ],
  'a settle before the sweeper came is an ordinary one': [
    [at(0), ''],
    [on(plan({ price })), 'applied'],
    [grant(1, 15), 'applied taken=0 available=15'],
    [ask('a', { calls: 8, ttl: 5 }), 'ok held=8 overage=0 available=7'],
    [at(6), ''],
    [settle('a', 8), 'ok charged=8 overage=0 written=0 available=7'],
    [expire('a'), 'gone'],
  ],
  'a release that overtakes its authorize leaves a tombstone': [
    [at(0), ''],
    [on(plan({ price })), 'applied'],
    [grant(1, 15), 'applied taken=0 available=15'],
    [release('a'), done],
    [ask('a'), 'duplicate_request 0/0/0 false'],
    [settle('a'), 'already released 0'],
    [read, 'segment=1 open=0 1=15+0'],
  ],
  'a settle without any record changes no balance and is recorded once': [
    [at(0), ''],
    [on(plan({ price })), 'applied'],
    [grant(1, 15), 'applied taken=0 available=15'],
    [settle('a', 9), 'recorded'],
    [settle('a', 9), 'already recorded 0'],
    [ask('a'), 'duplicate_request 0/0/0 false'],
    [read, 'segment=1 open=0 1=15+0'],
  ],
  'without overage: exhausted, in flight, more than there is': [
    [at(0), ''],
    [on(plan({ price })), 'applied'],
    [ask('a'), 'credit_exhausted 0/1/0 false'],
    [grant(1, 5), 'applied taken=0 available=5'],
    [ask('a', { calls: 6 }), 'request_exceeds_balance 5/6/0 false'],
    [ask('a', { calls: 5 }), 'ok held=5 overage=0 available=0'],
    [ask('b', { calls: 1 }), 'credits_in_flight 5/1/5 true'],
    [ask('b', { calls: 6 }), 'request_exceeds_balance 5/6/5 false'],
    [settle('a', 5), 'ok charged=5 overage=0 written=0 available=0'],
    [ask('b', { calls: 1 }), 'credit_exhausted 0/1/0 false'],
  ],
  'above the hold and above the balance, without overage, the rest is written off': [
    [at(0), ''],
    [on(plan({ price })), 'applied'],
    [grant(1, 5), 'applied taken=0 available=5'],
    [ask('a', { calls: 1 }), 'ok held=1 overage=0 available=4'],
    [settle('a', 9), 'ok charged=5 overage=0 written=4 available=0'],
  ],
  'with overage: hold what there is, admit the rest; a top-up meanwhile does not recolour it': [
    [at(0), ''],
    [on(plan({ price, overage: true })), 'applied'],
    [grant(1, 3), 'applied taken=0 available=3'],
    [ask('a', { calls: 5 }), 'ok held=3 overage=2 available=0'],
    [grant(1, 100), 'applied taken=0 available=100'],
    [settle('a', 5), 'ok charged=3 overage=2 written=0 available=100'],
    [ask('b', { calls: 5 }), 'ok held=5 overage=0 available=95'],
    [settle('b', 200), 'ok charged=100 overage=100 written=0 available=0'],
  ],
  'with overage: an actual below the hold keeps from the front, so overage goes first': [
    [at(0), ''],
    [on(plan({ price, overage: true })), 'applied'],
    [grant(1, 3), 'applied taken=0 available=3'],
    [ask('a', { calls: 5 }), 'ok held=3 overage=2 available=0'],
    [settle('a', 4), 'ok charged=3 overage=1 written=0 available=0'],
    [grant(1, 3), 'applied taken=0 available=3'],
    [ask('b', { calls: 5 }), 'ok held=3 overage=2 available=0'],
    [settle('b', 2), 'ok charged=2 overage=0 written=0 available=1'],
  ],
  'buckets burn by priority, soonest expiry, promotional before paid, oldest id': [
    [at(0), ''],
    [on(plan({ price })), 'applied'],
    [grant(10, 1), 'applied taken=0 available=1'],
    [grant(9, 1), 'applied taken=0 available=2'],
    [grant(8, 1, { promotional: true }), 'applied taken=0 available=3'],
    [grant(7, 1, { expires: 90_000 }), 'applied taken=0 available=4'],
    [grant(6, 1, { expires: 80_000 }), 'applied taken=0 available=5'],
    [grant(5, 1, { priority: 1 }), 'applied taken=0 available=6'],
    [ask('a', { calls: 1 }), 'ok held=1 overage=0 available=5'],
    [read, 'segment=1 open=1 6=0+1 7=1+0 8=1+0 9=1+0 10=1+0 5=1+0'],
    [ask('b', { calls: 2 }), 'ok held=2 overage=0 available=3'],
    [read, 'segment=1 open=2 6=0+1 7=0+1 8=0+1 9=1+0 10=1+0 5=1+0'],
    [ask('c', { calls: 2 }), 'ok held=2 overage=0 available=1'],
    [read, 'segment=1 open=3 6=0+1 7=0+1 8=0+1 9=0+1 10=0+1 5=1+0'],
    [settle('b', 1), 'ok charged=1 overage=0 written=0 available=2'],
    [read, 'segment=1 open=2 6=0+1 8=1+0 9=0+1 10=0+1 5=1+0'],
  ],
  'a bucket may not be spent before it becomes effective, nor after it expired': [
    [at(0), ''],
    [on(plan({ price })), 'applied'],
    [grant(1, 5, { effective: 1000, expires: 2000 }), 'applied taken=0 available=0'],
    [ask('a'), 'credit_exhausted 0/1/0 false'],
    [at(1000), ''],
    [ask('a', { calls: 2 }), 'ok held=2 overage=0 available=3'],
    [at(1999), ''],
    [ask('b', { calls: 1 }), 'ok held=1 overage=0 available=2'],
    [at(2000), ''],
    [ask('c'), 'credits_in_flight 3/1/3 true'],
    [settle('a', 1), 'ok charged=1 overage=0 written=0 available=0'],
    [release('b'), 'ok charged=0 overage=0 written=0 available=0'],
    [read, 'segment=1 open=0'],
  ],
  'a bucket may be for some meters only': [
    [at(0), ''],
    [on(plan({ price })), 'applied'],
    [grant(1, 10, { scope: ['tokens'] }), 'applied taken=0 available=10'],
    [grant(2, 2), 'applied taken=0 available=12'],
    [ask('a', { calls: 3 }), 'request_exceeds_balance 12/3/0 false'],
    [ask('a', { calls: 2, tokens: 5 }), 'ok held=12 overage=0 available=0'],
    [read, 'segment=1 open=1 1=0+10 2=0+2'],
    [
      { do: 'settle', op: 'a', calls: 2, tokens: 1 },
      'ok charged=4 overage=0 written=0 available=8',
    ],
    [read, 'segment=1 open=0 1=8+0'],
  ],
  'a void or debit takes what is there, never what is held, never below zero': [
    [at(0), ''],
    [on(plan({ price })), 'applied'],
    [grant(1, 10), 'applied taken=0 available=10'],
    [ask('a', { calls: 4 }), 'ok held=4 overage=0 available=6'],
    [{ do: 'debit', bucket: { id: 1 }, micro: 2 }, 'applied taken=2 available=4'],
    [{ do: 'void', bucket: { id: 1 }, micro: 10 }, 'applied taken=4 available=0'],
    [{ do: 'debit', bucket: { id: 99 }, micro: 10 }, 'applied taken=0 available=0'],
    [settle('a', 4), 'ok charged=4 overage=0 written=0 available=0'],
  ],
  'usage from outside is never refused, and marked past a hard limit': [
    [at(0), ''],
    [on(plan({ price, limits: [span(5)] })), 'applied'],
    [grant(1, 4), 'applied taken=0 available=4'],
    [record('a', 3), 'ok over=false charged=3 overage=0'],
    [record('a', 3), 'already'],
    [ask('a'), 'duplicate_request 0/0/0 false'],
    [record('b', 3), 'ok over=true charged=1 overage=0'],
    [record('c', 3, { at: 300_000 }), 'ok over=false charged=0 overage=0'],
    [ask('d'), 'limit_exceeded 5/6/0 false'],
    [read, 'segment=1 open=0 calls=6+0'],
  ],
  'a slice settles and holds anew in the segment of now; the hold keeps its place': [
    [at(0), ''],
    [on(plan({ price, until: 1000 }), plan({ price, id: 2, period: 2, from: 1000 })), 'applied'],
    [grant(1, 20), 'applied taken=0 available=20'],
    [ask('a', { calls: 5 }), 'ok held=5 overage=0 available=15'],
    [{ do: 'slice', op: 'a', k: 1, calls: 3 }, 'ok charged=3 overage=0 written=0 available=12'],
    [{ do: 'slice', op: 'a', k: 1, calls: 3 }, 'already slice 0'],
    [at(1000), ''],
    [seal(1), 'open_holds 1'],
    [{ do: 'slice', op: 'a', k: 2, calls: 5 }, 'ok charged=5 overage=0 written=0 available=7'],
    [seal(1), 'sealed'],
    [settle('a', 5), 'ok charged=5 overage=0 written=0 available=7'],
    [{ do: 'slice', op: 'a', k: 3, calls: 5 }, 'already settled 5'],
  ],
  'a slice that cannot hold again ends its operation: short': [
    [at(0), ''],
    [on(plan({ price })), 'applied'],
    [grant(1, 8), 'applied taken=0 available=8'],
    [ask('a', { calls: 5 }), 'ok held=5 overage=0 available=3'],
    [{ do: 'slice', op: 'a', k: 1, calls: 5 }, 'short'],
    [settle('a', 1), 'already settled 5'],
    [read, 'segment=1 open=0 1=3+0'],
  ],
  'a slice without any record is recorded once, and its hold is not taken for it': [
    [at(0), ''],
    [on(plan({ price })), 'applied'],
    [{ do: 'slice', op: 'a', k: 1, calls: 5 }, 'recorded'],
    [{ do: 'slice', op: 'a', k: 1, calls: 5 }, 'already recorded 0'],
    [{ do: 'slice', op: 'a', k: 2, calls: 5 }, 'recorded'],
    [settle('a', 5), 'recorded'],
  ],
  'operations are known across the boundary of a generation': [
    [at(299_999), ''],
    [on(plan({ price, until: 900_000 })), 'applied'],
    [grant(1, 20), 'applied taken=0 available=20'],
    [release('gone'), done],
    [ask('a', { calls: 5 }), 'ok held=5 overage=0 available=15'],
    [ask('b', { calls: 5 }), 'ok held=5 overage=0 available=10'],
    [at(300_000), ''],
    [ask('gone'), 'duplicate_request 0/0/0 false'],
    [ask('a'), 'duplicate_request 0/0/0 false'],
    [{ do: 'extend', op: 'b' }, 'ok charged=0 overage=0 written=0 available=10'],
    [settle('a', 4), 'ok charged=4 overage=0 written=0 available=11'],
    [ask('c', { calls: 5 }), 'ok held=5 overage=0 available=6'],
    [at(599_999), ''],
    [settle('a', 4), 'already settled 4'],
    // The first operations go away here; what was renewed went along.
    [at(600_000), ''],
    [ask('d', { calls: 1 }), 'ok held=1 overage=0 available=5'],
    [settle('b', 5), 'ok charged=5 overage=0 written=0 available=5'],
    [settle('c', 5), 'ok charged=5 overage=0 written=0 available=5'],
  ],
  'a hold lives on when it is extended': [
    [at(0), ''],
    [on(plan({ price })), 'applied'],
    [grant(1, 8), 'applied taken=0 available=8'],
    [ask('a', { calls: 5, ttl: 10 }), 'ok held=5 overage=0 available=3'],
    [at(9), ''],
    [{ do: 'extend', op: 'a' }, 'ok charged=0 overage=0 written=0 available=3'],
    [at(18), ''],
    [expire('a'), 'open'],
    [at(19), ''],
    [expire('a'), 'expired'],
    [{ do: 'extend', op: 'a' }, 'short'],
    [{ do: 'extend', op: 'b' }, 'short'],
  ],
  'the first call past a boundary moves to the next segment; −1, 0, +1 ms': [
    [at(0), ''],
    [
      on(
        plan({ until: 1000, limits: [{ name: 'calls', limit: 2, window: [0, 1000] }] }),
        plan({
          id: 2,
          period: 2,
          from: 1000,
          until: 2000,
          limits: [{ name: 'calls', limit: 1, window: [1000, 2000] }],
        }),
      ),
      'applied',
    ],
    [at(999), ''],
    [ask('a'), free],
    [ask('b'), free],
    [ask('c'), 'limit_exceeded 2/0/2 true'],
    [seal(1), 'not_over'],
    [read, 'segment=1 open=2 calls=0+2'],
    [at(1000), ''],
    [read, 'segment=2 open=2 calls=0+0'],
    [ask('c'), free],
    [ask('d'), 'limit_exceeded 1/0/1 true'],
    [at(1001), ''],
    [ask('d'), 'limit_exceeded 1/0/1 true'],
    [seal(1), 'open_holds 2'],
    [settle('a'), done],
    [seal(1), 'open_holds 1'],
    [release('b'), done],
    [seal(1), 'sealed'],
    [seal(1), 'sealed'],
    [seal(2), 'not_over'],
    [read, 'segment=2 open=1 calls=0+1'],
    [settle('c'), done],
    [at(2000), ''],
    [ask('e'), 'constraints_expired 0/0/0 true'],
    [seal(2), 'sealed'],
  ],
  'many boundaries at once; a quota of the interval outlives a segment': [
    [at(0), ''],
    [
      on(
        plan({ until: 1000, limits: [span(3)] }),
        plan({ id: 2, period: 1, from: 1000, until: 2000, limits: [span(3)] }),
        plan({ id: 3, period: 2, from: 2000, until: 3000, limits: [span(3)] }),
        plan({ id: 4, period: 3, from: 3000, until: 4000, limits: [span(5)] }),
      ),
      'applied',
    ],
    [ask('a', { calls: 2 }), free],
    [settle('a', 2), done],
    [at(3500), ''],
    [ask('b', { calls: 3 }), free],
    [read, 'segment=4 open=1 calls=2+3'],
    [ask('c', { calls: 1 }), 'limit_exceeded 5/2/3 true'],
    [seal(1), 'sealed'],
    [seal(2), 'sealed'],
    [seal(3), 'not_over'],
  ],
  'constraints are applied by version; counters follow the name and the window': [
    [at(0), ''],
    [{ do: 'apply', version: 5, plans: [plan({ until: 50_000, limits: [span(3)] })] }, 'applied'],
    [ask('a', { calls: 2 }), free],
    [{ do: 'apply', version: 4, plans: [plan({ limits: [span(9)] })] }, 'older'],
    [{ do: 'apply', version: 5, plans: [plan({ limits: [span(9)] })] }, 'same'],
    [ask('b', { calls: 2 }), 'limit_exceeded 3/0/2 true'],
    [
      {
        do: 'apply',
        version: 6,
        plans: [
          plan({
            rate: { limit: 10, windowMs: 1000 },
            limits: [{ name: 'tokens', meter: 'tokens', limit: 1, window: 60_000 }, span(9)],
          }),
        ],
      },
      'applied',
    ],
    [read, 'segment=1 open=1 tokens=0+0 calls=0+2'],
    [settle('a', 2), done],
    [read, 'segment=1 open=0 tokens=0+0 calls=2+0'],
  ],
  'a change that would alter the past is refused; the first one may begin in the past': [
    [at(5000), ''],
    [on(plan({ from: 1000, until: 20_000 })), 'applied'],
    [
      // "Close now" at an instant that has passed.
      {
        do: 'apply',
        version: 2,
        plans: [plan({ from: 1000, until: 4999 }), plan({ id: 2, period: 2, from: 4999 })],
      },
      'boundary_passed',
    ],
    [
      {
        do: 'apply',
        version: 2,
        plans: [plan({ from: 1000, until: 5000 }), plan({ id: 2, period: 2, from: 5000 })],
      },
      'boundary_passed',
    ],
    [{ do: 'apply', version: 2, plans: [plan({ from: 1001, until: 20_000 })] }, 'boundary_passed'],
    [
      {
        do: 'apply',
        version: 2,
        plans: [
          plan({ from: 1000, until: 7000 }),
          plan({ id: 2, period: 2, from: 7000, until: 9000 }),
        ],
      },
      'applied',
    ],
    [at(8000), ''],
    [
      // The shard is in segment 2 by its own clock, whether a call has moved it or not.
      { do: 'apply', version: 3, plans: [plan({ from: 1000, until: 20_000 })] },
      'boundary_passed',
    ],
    [at(9000), ''],
    [
      // An ended segment stays ended, for its period may be sealed.
      {
        do: 'apply',
        version: 3,
        plans: [plan({ id: 2, period: 2, from: 7000, until: 20_000 })],
      },
      'boundary_passed',
    ],
    [
      { do: 'apply', version: 3, plans: [plan({ id: 3, period: 3, from: 8999, until: 20_000 })] },
      'boundary_passed',
    ],
    [
      { do: 'apply', version: 3, plans: [plan({ id: 3, period: 3, from: 9000, until: 20_000 })] },
      'applied',
    ],
    [ask('a'), free],
  ],
};

function ladder(): Plan[] {
  const step = (id: number, from: number, more: Partial<Plan>): Plan =>
    plan({ id, from, until: from + 10, features: ['api'], ...more });
  return [
    step(2, 10, { rate: { limit: 0, windowMs: 1000 }, concurrency: 0, limits: [span(0)], price }),
    step(3, 20, { concurrency: 0, limits: [span(0)], price }),
    step(4, 30, { limits: [span(0)], price }),
    step(5, 40, { price, until: 1000 }),
  ];
}

describe('shards/scripts › rules', () => {
  let shard: TestShard;
  let sha: (name: ScriptName) => string;
  before(async () => {
    shard = await openTestShard();
    sha = await loadStandingClock(shard);
  });
  after(async () => shard.close());

  for (const [name, rows] of Object.entries(cases)) {
    it(name, async () => {
      const base = (Math.floor(Date.now() / 300_000) + 1) * 300_000;
      const subjects = { model: createModel(), scripts: createScriptsSubject(shard, sha, base) };
      for (const [who, subject] of Object.entries(subjects)) {
        const said: string[] = [];
        for (const [command] of rows) said.push(await subject.run(command));
        const table = (answers: readonly string[]): string =>
          rows.map(([command], i) => `${JSON.stringify(command)}\n   → ${answers[i]}`).join('\n');
        assert.equal(table(said), table(rows.map(([, answer]) => answer)), who);
      }
    });
  }
});
