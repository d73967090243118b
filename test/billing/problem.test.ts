import assert from 'node:assert/strict';
import { isProblemCode, problemCodes, problemOf, problemTable } from '../../billing/problem.ts';
import type { ProblemEntry } from '../../billing/problem.ts';

describe('billing/problem (invariant 15)', () => {
  const statuses: Readonly<Record<string, number>> = {
    missing_credential: 401,
    invalid_credential: 401,
    key_revoked: 401,
    key_expired: 401,
    payment_overdue: 402,
    credit_exhausted: 402,
    credits_in_flight: 402,
    request_exceeds_balance: 402,
    spend_cap_reached: 402,
    subscription_inactive: 403,
    feature_not_enabled: 403,
    route_not_found: 404,
    product_not_found: 404,
    duplicate_request: 409,
    plan_not_published: 409,
    body_too_large: 413,
    limit_exceeded: 429,
    rate_limited: 429,
    concurrency_exceeded: 429,
    enforcement_unavailable: 503,
    constraints_expired: 503,
    origin_unavailable: 502,
    origin_timeout: 504,
  };
  for (const [code, status] of Object.entries(statuses)) {
    it(`${code} is ${status}`, () => {
      assert.ok(isProblemCode(code));
      assert.equal(problemOf(code).status, status);
    });
  }

  it('has one entry a code, in words', () => {
    assert.equal(new Set(problemCodes).size, problemCodes.length);
    const table: Readonly<Record<string, ProblemEntry>> = problemTable;
    assert.deepEqual(Object.keys(table).toSorted(), [...problemCodes].toSorted());
    for (const [code, entry] of Object.entries(table)) {
      assert.match(code, /^[a-z]+(_[a-z]+)*$/);
      assert.ok(entry.status >= 400 && entry.status <= 599, code);
      assert.match(entry.title, /^[A-Z][^.]+$/, code);
      assert.match(entry.doc, /\.$/, code);
    }
  });

  it('makes a problem document, whose own members nothing replaces', () => {
    assert.deepEqual(
      problemOf('limit_exceeded', {
        detail: 'The plan allows 10,000 requests.',
        resetMs: Date.UTC(2025, 1, 1),
        extra: { limit: 10_000, status: 200, code: 'fine' },
        errors: [{ field: 'a', message: 'b' }],
      }),
      {
        type: '/docs#limit_exceeded',
        title: 'The limit of the plan is reached',
        status: 429,
        code: 'limit_exceeded',
        detail: 'The plan allows 10,000 requests.',
        retryable: true,
        reset_at: '2025-02-01T00:00:00.000Z',
        limit: 10_000,
        errors: [{ field: 'a', message: 'b' }],
      },
    );
    const plain = problemOf('credit_exhausted', { resetMs: 0, errors: [], retryable: true });
    assert.ok(!('reset_at' in plain) && !('errors' in plain));
    assert.equal(plain.retryable, true);
    assert.equal(problemOf('credit_exhausted').retryable, false);
    assert.ok(!isProblemCode('toString'));
  });
});
