import assert from 'node:assert/strict';
import fc from 'fast-check';
import {
  type CompileInput,
  type CompileSegment,
  compileConstraints,
} from '../../billing/compile.ts';
import type { PlanDefinition, PlanFeature } from '../../billing/plan.ts';

const hourMs = 3_600_000;
const dayMs = 24 * hourMs;

function feature(key: string, more: Partial<PlanFeature> = {}): PlanFeature {
  return {
    id: `feat_${key}`,
    key,
    meter_key: 'api_calls',
    limit: '10000',
    limit_type: 'HARD',
    reset_interval: 'period',
    ...more,
  };
}

function plan(more: Partial<PlanDefinition> = {}): PlanDefinition {
  return {
    currency: 'USD',
    interval: { unit: 'month', count: 1 },
    billing_time: 'anniversary',
    charges: [{ kind: 'recurring', id: 'chg', display_name: 'Fee', amount_minor: '2900' }],
    features: [],
    rate_limits: [],
    credits: null,
    ...more,
  };
}

function segment(more: Partial<CompileSegment> = {}): CompileSegment {
  return {
    id: '1',
    periodId: 'per_1',
    fromMs: 0,
    untilMs: 100,
    status: 'active',
    overage: false,
    intervalStartMs: 0,
    intervalEndMs: 200,
    definition: plan(),
    ...more,
  };
}

function input(
  segments: readonly CompileSegment[],
  more: Partial<CompileInput> = {},
): CompileInput {
  return {
    subscriber: { id: 'sbr_1', runtimeVersion: 7, clockOffsetMs: 0 },
    keys: [],
    subscriptions: [{ id: 'sub_1', productId: 'prod_1', segments }],
    ...more,
  };
}

function only(segments: readonly CompileSegment[]) {
  const [first] = compileConstraints(input(segments)).products[0]?.segments ?? [];
  assert.ok(first !== undefined);
  return first;
}

describe('billing/compile', () => {
  it('compiles the whole of a subscriber', () => {
    const definition = plan({
      features: [
        feature('requests'),
        feature('exports', { meter_key: null, limit: null }),
        feature('alerts', { limit: '5', limit_type: 'SOFT', reset_interval: 'day' }),
      ],
      rate_limits: [
        { kind: 'rate', name: 'burst', limit: 10, window_ms: 1_000 },
        { kind: 'concurrency', name: 'parallel', limit: 4 },
      ],
      credits: {
        unit: 'credit',
        included_micro: '1000000000',
        overage: { enabled: true, credit_price: '0.03' },
        credit_price: '0.05',
        burn: [
          { meter_key: 'tokens', micro_per_unit: '250' },
          { meter_key: 'api_calls', micro_per_unit: '1000000' },
        ],
      },
    });
    const given = input([segment({ definition, overage: true })], {
      subscriber: { id: 'sbr_1', runtimeVersion: 7, clockOffsetMs: 86_400_000 },
      keys: [
        { id: 'key_2', digest16: 'b'.repeat(22), expiresMs: 5, productIds: ['prod_2', 'prod_1'] },
        { id: 'key_1', digest16: 'a'.repeat(22), expiresMs: null, productIds: [] },
      ],
    });
    assert.deepEqual(compileConstraints(given), {
      subscriberId: 'sbr_1',
      version: 7,
      clockOffsetMs: 86_400_000,
      products: [
        {
          productId: 'prod_1',
          subscriptionId: 'sub_1',
          segments: [
            {
              segmentId: '1',
              periodId: 'per_1',
              fromMs: 0,
              untilMs: 100,
              status: 'active',
              overage: true,
              features: ['alerts', 'exports', 'requests'],
              rates: [
                { kind: 'rate', name: 'burst', limit: 10, windowMs: 1_000 },
                { kind: 'concurrency', name: 'parallel', limit: 4 },
              ],
              limits: [
                {
                  name: 'alerts',
                  level: 'subscription',
                  meter: 'api_calls',
                  limit: 5,
                  hard: false,
                  window: { kind: 'every', anchorMs: 0, lengthMs: dayMs },
                },
                {
                  name: 'requests',
                  level: 'subscription',
                  meter: 'api_calls',
                  limit: 10_000,
                  hard: true,
                  window: { kind: 'span', fromMs: 0, untilMs: 200 },
                },
              ],
              credits: {
                unit: 'credit',
                rates: [
                  { meter: 'api_calls', microPerUnit: 1_000_000 },
                  { meter: 'tokens', microPerUnit: 250 },
                ],
              },
            },
          ],
        },
      ],
      keys: [
        { keyId: 'key_1', digest16: 'a'.repeat(22), expiresMs: null, productIds: [] },
        {
          keyId: 'key_2',
          digest16: 'b'.repeat(22),
          expiresMs: 5,
          productIds: ['prod_1', 'prod_2'],
        },
      ],
    });
  });

  it('a window is the interval, or an hour, a day, a week that begins on Monday', () => {
    const span = { kind: 'span', fromMs: 0, untilMs: 200 };
    const expected = {
      period: span,
      month: span,
      year: span,
      hour: { kind: 'every', anchorMs: 0, lengthMs: hourMs },
      day: { kind: 'every', anchorMs: 0, lengthMs: dayMs },
      week: { kind: 'every', anchorMs: Date.UTC(1970, 0, 5), lengthMs: 7 * dayMs },
    } as const;
    assert.equal(new Date(expected.week.anchorMs).getUTCDay(), 1);
    for (const reset of ['period', 'month', 'year', 'hour', 'day', 'week'] as const) {
      const definition = plan({ features: [feature('f', { reset_interval: reset })] });
      assert.deepEqual(only([segment({ definition })]).limits[0]?.window, expected[reset], reset);
    }
  });

  it('holds no price and no money (invariant 10)', () => {
    const definition = plan({
      charges: [{ kind: 'recurring', id: 'chg', display_name: 'Fee', amount_minor: '123456789' }],
      credits: {
        unit: 'credit',
        included_micro: '1',
        overage: { enabled: true, credit_price: '0.0987654321' },
        credit_price: '0.0123456789',
        burn: [{ meter_key: 'api_calls', micro_per_unit: '1' }],
      },
    });
    const text = JSON.stringify(compileConstraints(input([segment({ definition })])));
    for (const secret of ['123456789', '0987654321', '0123456789', 'USD', 'price', 'amount']) {
      assert.ok(!text.includes(secret), secret);
    }
  });

  it('rows in another order give the same constraints (invariant 10)', () => {
    const segments = Array.from({ length: 4 }, (_, n) =>
      segment({ id: `${n}`, fromMs: n * 100, untilMs: (n + 1) * 100 }),
    );
    const keys = ['a', 'b', 'c'].map((name) => ({
      id: `key_${name}`,
      digest16: name.repeat(22),
      expiresMs: null,
      productIds: [],
    }));
    const subscriptions = ['prod_1', 'prod_2', 'prod_3'].map((productId, n) => ({
      id: `sub_${n}`,
      productId,
      segments,
    }));
    const expected = compileConstraints(input(segments, { keys, subscriptions }));
    const shuffled = <T>(items: readonly T[]) =>
      fc.shuffledSubarray([...items], { minLength: items.length });
    fc.assert(
      fc.property(shuffled(segments), shuffled(keys), shuffled(subscriptions), (s, k, u) => {
        const reordered = u.map((subscription) => ({ ...subscription, segments: s }));
        assert.deepEqual(
          compileConstraints(input(s, { keys: k, subscriptions: reordered })),
          expected,
        );
      }),
      { numRuns: 30 },
    );
  });

  it('keeps the first five segments, and no product without any', () => {
    const many = Array.from({ length: 8 }, (_, n) =>
      segment({ id: `${n}`, fromMs: n * 100, untilMs: (n + 1) * 100 }),
    );
    const [product] = compileConstraints(input(many)).products;
    assert.deepEqual(
      product?.segments.map((one) => one.segmentId),
      ['0', '1', '2', '3', '4'],
    );
    assert.deepEqual(compileConstraints(input([])).products, []);
  });

  it('refuses overlaps, backward segments, two subscriptions to a product, and numbers out of bounds', () => {
    const bad: readonly CompileInput[] = [
      input([segment(), segment({ id: '2', fromMs: 99, untilMs: 200 })]),
      input([segment({ untilMs: 0 })]),
      input([], {
        subscriptions: [
          { id: 'sub_1', productId: 'prod_1', segments: [segment()] },
          { id: 'sub_2', productId: 'prod_1', segments: [segment()] },
        ],
      }),
      ...['1000000000000000', '-1', '1.5', 'x'].map((limit) =>
        input([segment({ definition: plan({ features: [feature('f', { limit })] }) })]),
      ),
    ];
    for (const given of bad) assert.throws(() => compileConstraints(given), RangeError);
    const adjoining = [segment(), segment({ id: '2', fromMs: 100, untilMs: 200 })];
    assert.equal(compileConstraints(input(adjoining)).products[0]?.segments.length, 2);
  });
});
