import assert from 'node:assert/strict';
import fc from 'fast-check';
import type { InvoiceDraft } from '../../billing/invoice.ts';
import type {
  Charge,
  CreditTerms,
  MeterDefinition,
  PlanDefinition,
  PlanFeature,
} from '../../billing/plan.ts';
import {
  creditUse,
  type IntervalSimulation,
  type MeterTotal,
  simulateInterval,
  simulationNotes,
} from '../../billing/price-simulation.ts';

const calls: MeterDefinition = {
  id: 'mtr_calls',
  key: 'api_calls',
  name: 'API Calls',
  unit_one: 'call',
  unit_other: 'calls',
  scale: 0,
  aggregation: 'SUM',
};
const perCall: Charge = {
  kind: 'usage',
  id: 'chg_calls',
  display_name: 'Calls',
  meter: calls,
  price: { model: 'per_unit', unit_price: '0.01' },
  included_units: '100',
};
const fee = (id: string, amount_minor: string, bill_in: 'advance' | 'arrears'): Charge => ({
  ...{ kind: 'recurring', id, display_name: id, amount_minor, bill_in },
});
const credits: CreditTerms = {
  unit: 'credit',
  included_micro: '500000000',
  overage: { enabled: true, credit_price: '0.1' },
  credit_price: null,
  burn: [
    { meter_key: 'api_calls', micro_per_unit: '1000000' },
    { meter_key: 'tokens', micro_per_unit: '1000' },
  ],
};

function plan(more: Partial<PlanDefinition> = {}): PlanDefinition {
  return {
    currency: 'USD',
    interval: { unit: 'month', count: 1 },
    billing_time: 'anniversary',
    charges: [perCall],
    features: [],
    rate_limits: [],
    credits: null,
    ...more,
  };
}

function used(quantity: bigint, more: Partial<MeterTotal> = {}): MeterTotal {
  return {
    ...{ meterId: 'mtr_calls', meterKey: 'api_calls', scale: 0, quantity, events: 0n },
    ...more,
  };
}

const start = Date.UTC(2025, 0, 15, 12);

function simulated(
  definition: PlanDefinition,
  use: readonly MeterTotal[] = [],
  more: Partial<IntervalSimulation> = {},
): InvoiceDraft {
  return simulateInterval({
    ...{ planVersionId: 'pver_1', definition, zone: 'UTC', startMs: start },
    ...{ isFirst: false, use, overageMicro: null, taxation: null, coupons: [] },
    ...more,
  });
}

const lines = (draft: InvoiceDraft): readonly (readonly [string, bigint])[] =>
  draft.lines.map(({ description, amountMinor }) => [description, amountMinor]);

describe('billing/price-simulation › an interval', () => {
  it('prices usage past the included units', () => {
    const draft = simulated(plan(), [used(1_100n)]);
    assert.deepEqual(lines(draft), [['API Calls (1,000 calls past 100 included × $0.01)', 1_000n]]);
    assert.deepEqual([draft.totalMinor, draft.amountDueMinor], [1_000n, 1_000n]);
    assert.deepEqual([draft.startMs, draft.endMs], [start, Date.UTC(2025, 1, 15, 12)]);
  });

  it('has fees in arrears for itself and in advance for the next one', () => {
    const draft = simulated(
      plan({ charges: [fee('Past', '100', 'arrears'), fee('Ahead', '200', 'advance')] }),
    );
    assert.deepEqual(
      draft.lines.map(({ chargeId, amountMinor, covers }) => [chargeId, amountMinor, covers]),
      [
        ['Past', 100n, { startMs: start, endMs: Date.UTC(2025, 1, 15, 12) }],
        ['Ahead', 200n, { startMs: Date.UTC(2025, 1, 15, 12), endMs: Date.UTC(2025, 2, 15, 12) }],
      ],
    );
    assert.match(draft.lines[1]?.description ?? '', /Feb 15 – Mar/);
  });

  it('takes a fee without a word about when for one in arrears', () => {
    const charge: Charge = {
      ...{ kind: 'recurring', id: 'chg_fee', display_name: 'Fee', amount_minor: '300' },
    };
    const [line] = simulated(plan({ charges: [charge] })).lines;
    assert.equal(line?.covers?.startMs, start);
  });

  it('is the whole interval of the calendar, in its zone', () => {
    const definition = plan({ billing_time: 'calendar', charges: [fee('Fee', '3100', 'advance')] });
    const draft = simulated(definition, [], { zone: 'Asia/Tokyo' });
    assert.deepEqual(
      [draft.startMs, draft.endMs, draft.totalMinor],
      [Date.UTC(2024, 11, 31, 15), Date.UTC(2025, 0, 31, 15), 3_100n],
    );
    assert.deepEqual(draft.lines[0]?.covers, {
      startMs: Date.UTC(2025, 0, 31, 15),
      endMs: Date.UTC(2025, 1, 28, 15),
    });
  });

  it('has what is due once only where it is the first', () => {
    const charges: readonly Charge[] = [
      { kind: 'one_time', id: 'chg_once', display_name: 'Setup', amount_minor: '500' },
      perCall,
    ];
    assert.deepEqual(
      simulated(plan({ charges })).lines.map(({ kind }) => kind),
      ['usage'],
    );
    const first = simulated(plan({ charges }), [], { isFirst: true });
    assert.deepEqual(lines(first)[0], ['Setup', 500n]);
    assert.equal(first.totalMinor, 500n);
  });

  it('makes up to the commitment, to which fees in advance of itself count', () => {
    const charges = [fee('Past', '1000', 'arrears'), fee('Ahead', '2000', 'advance'), perCall];
    const draft = simulated(plan({ charges, commitment_minor: '10000' }), [used(200n)]);
    // 10.00 and 1.00 on it, 20.00 before it: 69.00 are missing to 100.00; and 20.00 for the next interval.
    assert.equal(draft.lines.at(-1)?.amountMinor, 6_900n);
    assert.equal(draft.totalMinor, 1_000n + 2_000n + 100n + 6_900n);
  });

  it('takes what a meter came to as it is, and names its own aggregation', () => {
    for (const aggregation of ['COUNT', 'MAX', 'LATEST', 'UNIQUE_COUNT', 'WEIGHTED_SUM'] as const) {
      const charge: Charge = { ...perCall, meter: { ...calls, aggregation } };
      const draft = simulated(plan({ charges: [charge] }), [used(300n)]);
      assert.equal(draft.totalMinor, 200n, aggregation);
      const [line] = draft.lines;
      assert.ok(line !== undefined && 'aggregation' in line.details);
      assert.equal(line.details.aggregation, aggregation);
    }
  });

  it('counts the events that a price has a fee for', () => {
    const charge: Charge = {
      ...perCall,
      meter: { ...calls, scale: 2 },
      price: { model: 'percentage', percent: '2.9', fixed_fee: '0.3', free_events: '2' },
      included_units: '0',
    };
    const use = used(100_000n, { scale: 2, events: 10n });
    assert.equal(simulated(plan({ charges: [charge] }), [use]).totalMinor, 2_900n + 240n);
  });

  it('holds amounts in the places of their currency', () => {
    const charge: Charge = { ...perCall, included_units: '0' };
    for (const [currency, total] of [
      ['JPY', 12n],
      ['USD', 1_235n],
      ['KWD', 12_346n],
    ] as const) {
      // 1,234.56 units at 0.01.
      const scaled: Charge = { ...charge, meter: { ...calls, scale: 2 } };
      const draft = simulated(plan({ currency, charges: [scaled] }), [used(123_456n)]);
      assert.equal(draft.totalMinor, total, currency);
    }
  });

  it('is taxed as one is told', () => {
    const taxation = {
      kind: 'exclusive',
      rates: { general: [{ name: 'VAT', percent: '19' }] },
    } as const;
    const draft = simulated(plan(), [used(300n)], { taxation });
    assert.deepEqual([draft.subtotalMinor, draft.taxMinor, draft.totalMinor], [200n, 38n, 238n]);
  });

  it('has its coupons taken off before it is taxed', () => {
    const coupon = { id: 'cpn_1', name: 'Half', off: { kind: 'percent', percent: '50' } } as const;
    const draft = simulated(plan(), [used(300n)], {
      coupons: [{ ...coupon, on: { kind: 'invoice' } }],
      taxation: { kind: 'exclusive', rates: { general: [{ name: 'VAT', percent: '19' }] } },
    });
    assert.deepEqual(
      [draft.subtotalMinor, draft.discountMinor, draft.taxMinor, draft.totalMinor],
      [200n, 100n, 19n, 119n],
    );
  });

  it('adds no tax, and says whether it is in the prices', () => {
    const inclusive = simulated(plan({ prices_include_tax: true }), [used(300n)]);
    const exclusive = simulated(plan(), [used(300n)]);
    assert.deepEqual(
      [inclusive, exclusive].map(({ taxIncluded, taxMinor, totalMinor }) => [
        taxIncluded,
        taxMinor,
        totalMinor,
      ]),
      [
        [true, 0n, 200n],
        [false, 0n, 200n],
      ],
    );
    assert.deepEqual(
      [inclusive, exclusive].map(({ taxation }) => taxation),
      ['inclusive', 'exclusive'].map((kind) => ({ kind, rates: { general: [] } })),
    );
  });

  it('is begun by nobody: what is due without any usage is due', () => {
    const tiers = [{ up_to: null, unit_price: '0.01', flat_fee: '5' }];
    const charge: Charge = {
      ...{ kind: 'usage', id: 'chg_calls', display_name: 'Calls', meter: calls },
      ...{ price: { model: 'graduated', tiers }, included_units: '0' },
    };
    assert.equal(simulated(plan({ charges: [charge] })).totalMinor, 500n);
  });

  it('of several meters each keeps its own aggregation', () => {
    const seats: MeterDefinition = { ...calls, id: 'mtr_seats', key: 'seats', aggregation: 'MAX' };
    const charges: readonly Charge[] = [
      fee('Past', '100', 'arrears'),
      perCall,
      { ...perCall, id: 'chg_seats', meter: seats },
    ];
    const use = [used(200n), used(300n, { meterId: 'mtr_seats', meterKey: 'seats' })];
    assert.deepEqual(
      simulated(plan({ charges }), use).lines.map(({ chargeId, details }) => [
        chargeId,
        'aggregation' in details ? details.aggregation : null,
      ]),
      [
        ['Past', null],
        ['chg_calls', 'SUM'],
        ['chg_seats', 'MAX'],
      ],
    );
  });
});

describe('billing/price-simulation › credits', () => {
  const sells = plan({ charges: [], credits });
  const tokens = used(900_000n, { meterId: 'mtr_tokens', meterKey: 'tokens' });

  it('are burned by the table', () => {
    assert.deepEqual(creditUse(sells, [used(100n), tokens]), {
      usedMicro: 1_000_000_000n,
      pastMicro: 500_000_000n,
    });
    assert.deepEqual(creditUse(sells, [used(7n, { meterKey: 'other' })]), {
      usedMicro: 0n,
      pastMicro: 0n,
    });
    assert.deepEqual(creditUse(plan(), [used(7n)]), { usedMicro: 0n, pastMicro: 0n });
  });

  it('past the included ones are billed where overage is on', () => {
    assert.deepEqual(lines(simulated(sells, [used(510n)])), [
      ['Overage (10 credits × $0.10)', 100n],
    ]);
    assert.deepEqual(lines(simulated(sells, [used(500n)])), []);
    const off = { ...credits, overage: { enabled: false, credit_price: '0.1' } };
    assert.deepEqual(lines(simulated(plan({ charges: [], credits: off }), [used(510n)])), []);
    const none = { ...credits, overage: null };
    assert.deepEqual(lines(simulated(plan({ charges: [], credits: none }), [used(510n)])), []);
  });

  it('are as many as one is told', () => {
    assert.equal(simulated(sells, [used(510n)], { overageMicro: 2_000_000n }).totalMinor, 20n);
    assert.equal(simulated(sells, [used(510n)], { overageMicro: 0n }).totalMinor, 0n);
  });

  it('used are past or included, whatever was used', () => {
    fc.assert(
      fc.property(fc.bigInt(0n, 10n ** 9n), fc.bigInt(0n, 10n ** 9n), (a, b) => {
        const { usedMicro, pastMicro } = creditUse(sells, [used(a), { ...tokens, quantity: b }]);
        assert.equal(usedMicro, a * 1_000_000n + b * 1_000n);
        const included = usedMicro < 500_000_000n ? usedMicro : 500_000_000n;
        assert.equal(usedMicro, included + pastMicro);
      }),
    );
  });
});

describe('billing/price-simulation › notes', () => {
  const seats: PlanFeature = {
    ...{ id: 'feat_1', key: 'seats', meter_key: 'api_calls', limit: '1000' },
    ...{ limit_type: 'HARD', reset_interval: 'period' },
  };
  const rows: readonly (readonly [string, Partial<PlanDefinition>, bigint, readonly string[]])[] = [
    ['of a plan without limits and credits: none', {}, 5_000n, []],
    [
      'of use past a limit',
      { features: [seats] },
      1_001n,
      ['The limit of seats stops at 1,000: of 1,001 what is above would have been denied.'],
    ],
    ['of use up to a limit: none', { features: [seats] }, 1_000n, []],
    ['of a soft limit: none', { features: [{ ...seats, limit_type: 'SOFT' }] }, 5_000n, []],
    ['of a daily limit: none', { features: [{ ...seats, reset_interval: 'day' }] }, 5_000n, []],
    ['of no limit: none', { features: [{ ...seats, limit: null }] }, 5_000n, []],
    [
      'of a limit on something else: none',
      { features: [{ ...seats, meter_key: 'x' }] },
      5_000n,
      [],
    ],
    [
      'of credits that suffice, without overage',
      { credits: { ...credits, overage: null } },
      500n,
      [
        'By the burn table this is 500 credits, of which the plan includes 500 credits; top-ups and gifts are not counted.',
      ],
    ],
    [
      'of credits that suffice',
      { credits },
      500n,
      [
        'By the burn table this is 500 credits, of which the plan includes 500 credits; top-ups and gifts are not counted.',
      ],
    ],
    [
      'of credits past which use is billed',
      { credits },
      600n,
      [
        'By the burn table this is 600 credits, of which the plan includes 500 credits; top-ups and gifts are not counted.',
      ],
    ],
    [
      'of credits past which use is denied',
      { credits: { ...credits, overage: null } },
      600n,
      [
        'By the burn table this is 600 credits, of which the plan includes 500 credits; top-ups and gifts are not counted.',
        'Without a top-up the last 100 credits would have been denied.',
      ],
    ],
  ];
  for (const [name, terms, quantity, notes] of rows) {
    it(name, () => {
      assert.deepEqual(simulationNotes(plan(terms), [used(quantity)]), notes);
    });
  }

  it('print quantities of a scale in whole units', () => {
    const [note] = simulationNotes(plan({ features: [seats] }), [used(1_500n, { scale: 3 })]);
    assert.match(note ?? '', /stops at 1: of 1\.5 what/);
  });
});
