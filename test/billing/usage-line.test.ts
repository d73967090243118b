import assert from 'node:assert/strict';
import fc from 'fast-check';
import { amountFromDetails } from '../../billing/explain.ts';
import type { InvoiceDraft } from '../../billing/invoice.ts';
import { formatAmount } from '../../billing/money.ts';
import type {
  BillableDefinition,
  Charge,
  MeterDefinition,
  Price,
  UsageCharge,
} from '../../billing/plan.ts';
import { packageCount, rate, rateMore, type UsagePartial } from '../../billing/rate.ts';
import { prorate } from '../../billing/ratio.ts';
import { bill, feeOf, type Given, january, runOf } from './bill.ts';

const calls: MeterDefinition = {
  id: 'mtr_calls',
  key: 'api_calls',
  name: 'API Calls',
  unit_one: 'call',
  unit_other: 'calls',
  scale: 0,
  aggregation: 'SUM',
};
const payments: MeterDefinition = {
  id: 'mtr_pay',
  key: 'payments',
  name: 'Payments',
  unit_one: 'dollar',
  unit_other: 'dollars',
  scale: 2,
  aggregation: 'SUM',
};

function charge(price: Price, more: Partial<UsageCharge> = {}): UsageCharge {
  return {
    kind: 'usage',
    id: 'chg',
    display_name: 'Label',
    meter: calls,
    price,
    included_units: '0',
    ...more,
  };
}
const fee = {
  kind: 'recurring',
  id: 'fee',
  display_name: 'Monthly fee',
  amount_minor: '3100',
} as const satisfies Charge;
const plan = (...charges: BillableDefinition['charges']): BillableDefinition => ({
  ...{ currency: 'USD', credits: null, charges },
});
function rows(quantity: bigint, eventCount = 1n): readonly UsagePartial[] {
  return [{ quantity, eventCount, maxQuantity: quantity, latestQuantity: quantity, latestAt: 0 }];
}
function used(
  now: bigint,
  {
    before = null,
    events = 1n,
    meterId = 'mtr_calls',
  }: {
    readonly before?: bigint | null;
    readonly events?: bigint;
    readonly meterId?: string;
  } = {},
): Given {
  const billedBefore = before === null ? [] : rows(before);
  return {
    feeDue: before === null,
    usage: [{ meterId, billedBefore, thisPeriod: rows(now, events) }],
  };
}
const texts = (draft: InvoiceDraft): string[] =>
  draft.lines.map(
    (line) => `${line.description} ${formatAmount(line.amountMinor, draft.currency)}`,
  );

const perCall: Price = { model: 'per_unit', unit_price: '0.01' };
const steps: Price = {
  model: 'stairstep',
  tiers: [
    { up_to: '10', flat_fee: '50' },
    { up_to: '20', flat_fee: '90' },
    { up_to: null, flat_fee: '120' },
  ],
};
const card: Price = { model: 'percentage', percent: '2.9', fixed_fee: '0.3', free_events: '2' };

describe('billing/usage-line › stairstep', () => {
  for (const [quantity, text] of [
    [0n, 'API Calls (0 calls, step up to 10: $50.00) 50.00'],
    [10n, 'API Calls (10 calls, step up to 10: $50.00) 50.00'],
    [11n, 'API Calls (11 calls, step up to 20: $90.00) 90.00'],
    [21n, 'API Calls (21 calls, step past 20: $120.00) 120.00'],
  ] as const) {
    it(`${quantity} calls`, () => {
      assert.deepEqual(texts(bill(plan(charge(steps)), used(quantity))), [text]);
    });
  }
  it('a further part pays the difference of the steps', () => {
    assert.deepEqual(texts(bill(plan(charge(steps)), used(8n, { before: 5n }))), [
      'API Calls (8 calls, re-rated with its tiers) 40.00',
    ]);
  });
});

describe('billing/usage-line › percentage', () => {
  const definition = plan(charge(card, { meter: payments, included_units: '10000' }));
  it('a part of the amount past the free units, and a fee for each event past the free ones', () => {
    const draft = bill(definition, used(110_000n, { events: 12n, meterId: 'mtr_pay' }));
    // 1000 × 2.9 % + 10 × 0.30
    assert.deepEqual(texts(draft), [
      'Payments (1,000 dollars past 100 included × 2.9% + 10 events × $0.30) 32.00',
    ]);
    const details = draft.lines[0]?.details;
    assert.ok(details?.model === 'percentage' && 'events_total' in details);
    assert.deepEqual([details.events_before, details.events_total], ['0', '12']);
  });
  it('is exact at the cent, and says one event', () => {
    const free = charge({ ...card, free_events: '0' }, { meter: payments });
    assert.deepEqual(texts(bill(plan(free), used(1n, { meterId: 'mtr_pay' }))), [
      'Payments (0.01 dollars × 2.9% + 1 event × $0.30) 0.30',
    ]);
    const noFee = charge({ ...card, fixed_fee: '0' }, { meter: payments });
    assert.deepEqual(texts(bill(plan(noFee), used(1_000n, { meterId: 'mtr_pay', events: 9n }))), [
      'Payments (10 dollars × 2.9%) 0.29',
    ]);
  });
  it('a further part counts only its own events', () => {
    const free = charge({ ...card, free_events: '0' }, { meter: payments });
    const draft = bill(plan(free), used(1_000n, { before: 500n, events: 3n, meterId: 'mtr_pay' }));
    assert.deepEqual(texts(draft), ['Payments (10 dollars × 2.9% + 3 events × $0.30) 1.19']);
  });
});

describe('billing/usage-line › packages rounded down', () => {
  const down: Price = {
    ...{ model: 'package', package_size: '100', package_price: '1' },
    round: 'down',
  };
  it('only full ones count', () => {
    assert.equal(packageCount('100', 250n, 0, 'down'), 2n);
    assert.equal(packageCount('100', 250n, 0, 'up'), 3n);
    assert.equal(packageCount('100', 99n, 0, 'down'), 0n);
    assert.equal(packageCount('100', 100n, 0, 'down'), 1n);
    assert.deepEqual(texts(bill(plan(charge(down)), used(250n))), [
      'API Calls (250 calls, 2 packages of 100 × $1.00) 2.00',
    ]);
    assert.deepEqual(texts(bill(plan(charge(down)), used(60n, { before: 50n }))), [
      'API Calls (60 calls, 1 package of 100 × $1.00) 1.00',
    ]);
  });
});

describe('billing/usage-line › minimum and maximum', () => {
  const bounded = plan(charge(perCall, { minimum_minor: '500', maximum_minor: '5000' }));
  it('a line makes up what is missing, or takes off what is above', () => {
    assert.deepEqual(texts(bill(bounded, used(100n))), [
      'API Calls (100 calls × $0.01) 1.00',
      'API Calls, at least $5.00 4.00',
    ]);
    assert.deepEqual(texts(bill(bounded, used(9_000n))), [
      'API Calls (9,000 calls × $0.01) 90.00',
      'API Calls, at most $50.00 -40.00',
    ]);
    for (const within of [500n, 501n, 5_000n])
      assert.equal(bill(bounded, used(within)).lines.length, 1);
  });
  it('the line tells what it was worked out from', () => {
    const [, line] = bill(bounded, used(100n)).lines;
    assert.deepEqual(line?.details, {
      ...{ model: 'minimum', bound_minor: '500', rated_minor: '100', rated_before_minor: '0' },
      ...{ bounded_minor: '500', bounded_before_minor: '0' },
    });
    assert.deepEqual(
      [line?.kind, line?.chargeId, line?.meterId, line?.quantity, line?.label],
      ['usage', 'chg', 'mtr_calls', null, 'Label'],
    );
    const [, maximum] = bill(bounded, used(1_000n, { before: 4_500n })).lines;
    assert.deepEqual(maximum?.details, {
      ...{ model: 'maximum', bound_minor: '5000', rated_minor: '5500', rated_before_minor: '4500' },
      ...{ bounded_minor: '5000', bounded_before_minor: '4500' },
    });
  });
  it('the maximum counts what was billed before', () => {
    assert.deepEqual(texts(bill(bounded, used(1_000n, { before: 4_500n }))), [
      'API Calls (1,000 calls × $0.01) 10.00',
      'API Calls, at most $50.00 -5.00',
    ]);
    assert.equal(bill(bounded, used(1_000n, { before: 6_000n })).totalMinor, 0n);
  });
  it('what a maximum took off is given up again when the value falls below it', () => {
    const seats = plan({
      ...charge(perCall, { maximum_minor: '5000' }),
      meter: { ...calls, aggregation: 'LATEST' },
    });
    const later = rows(3_000n).map((row) => ({ ...row, latestAt: 1 }));
    const usage = [{ meterId: 'mtr_calls', billedBefore: rows(9_000n), thisPeriod: later }];
    const [line, maximum] = bill(seats, { feeDue: false, usage }).lines;
    // 30.00 less the 50.00 that 90.00 was held down to.
    assert.deepEqual([line?.amountMinor, maximum?.amountMinor], [-6_000n, 4_000n]);
    assert.equal(maximum?.description, 'API Calls, at most $50.00');
    assert.deepEqual(maximum?.details, {
      ...{ model: 'maximum', bound_minor: '5000', rated_minor: '3000', rated_before_minor: '9000' },
      ...{ bounded_minor: '3000', bounded_before_minor: '5000' },
    });
  });
  it('the minimum waits for the last invoice of the interval', () => {
    const first = bill(bounded, { ...used(100n), minimum: 'later' });
    const last = bill(bounded, used(100n, { before: 100n }));
    assert.deepEqual([first.totalMinor, last.totalMinor], [100n, 400n]);
    assert.deepEqual(texts(last)[1], 'API Calls, at least $5.00 3.00');
  });
  it('late usage below the minimum costs nothing more', () => {
    const december = { startMs: Date.UTC(2024, 11, 1), endMs: Date.UTC(2025, 0, 1) };
    const late = (quantity: bigint) => ({
      ...runOf(bounded, {
        isBegun: true,
        usage: [{ meterId: 'mtr_calls', billedBefore: rows(100n), thisPeriod: rows(quantity) }],
      }),
      period: december,
      isLast: true,
    });
    assert.equal(bill(plan(), { late: [late(300n)] }).totalMinor, 0n);
    assert.deepEqual(texts(bill(plan(), { late: [late(500n)] })), [
      'API Calls (500 calls × $0.01), Dec 1 – Dec 31, 2024 5.00',
      'API Calls, at least $5.00, Dec 1 – Dec 31, 2024 -4.00',
    ]);
    // Only the terms that an interval ended with have a minimum.
    assert.equal(bill(plan(), { late: [{ ...late(300n), isLast: false }] }).totalMinor, 300n);
  });
  describe('of a part of an interval', () => {
    const minimumPart = {
      ratio: { numerator: 10n, denominator: 31n },
      text: '10 of 31 days',
    };
    const table: readonly (readonly [string, Given, readonly string[]])[] = [
      [
        'the part of the minimum is due, rounded once',
        used(100n),
        [
          'API Calls (100 calls × $0.01) 1.00',
          'API Calls, at least $1.61 ($5.00, 10 of 31 days) 0.61',
        ],
      ],
      ['it is reached sooner', used(161n), ['API Calls (161 calls × $0.01) 1.61']],
      [
        'the maximum is that of a whole one',
        used(9_000n),
        ['API Calls (9,000 calls × $0.01) 90.00', 'API Calls, at most $50.00 -40.00'],
      ],
      [
        'a further invoice follows',
        { ...used(100n), minimum: 'later' },
        ['API Calls (100 calls × $0.01) 1.00'],
      ],
      [
        'no day of it: no minimum',
        {
          ...used(100n),
          minimumPart: { ratio: { numerator: 0n, denominator: 31n }, text: '0 of 31 days' },
        },
        ['API Calls (100 calls × $0.01) 1.00'],
      ],
    ];
    for (const [name, given, expected] of table) {
      it(name, () => {
        assert.deepEqual(texts(bill(bounded, { minimumPart, ...given })), expected);
      });
    }

    it('the line tells which part of what, and contradicts itself when a figure of it is changed', () => {
      const [, line] = bill(bounded, { ...used(100n), minimumPart }).lines;
      assert.ok(line !== undefined);
      const { details } = line;
      assert.ok(details.model === 'minimum');
      assert.deepEqual(details, {
        ...{ model: 'minimum', bound_minor: '161', rated_minor: '100', rated_before_minor: '0' },
        ...{ bounded_minor: '161', bounded_before_minor: '0' },
        minimum_part: { basis_minor: '500', numerator: '10', denominator: '31' },
      });
      assert.equal(amountFromDetails(line, 'USD'), 61n);
      const forged = { basis_minor: '500', numerator: '11', denominator: '31' };
      assert.throws(
        () => amountFromDetails({ ...line, details: { ...details, minimum_part: forged } }, 'USD'),
        new RangeError('a minimum that is not the part of its basis'),
      );
    });

    it('late usage is held against the part that was due', () => {
      const late = {
        ...runOf(bounded, {
          ...{ isBegun: true, minimumPart },
          usage: [{ meterId: 'mtr_calls', billedBefore: rows(100n), thisPeriod: rows(100n) }],
        }),
        ...{ period: january, isLast: true },
      };
      assert.deepEqual(texts(bill(plan(), { late: [late] })), [
        'API Calls (100 calls × $0.01), Jan 1 – Jan 31, 2025 1.00',
        'API Calls, at least $1.61 ($5.00, 10 of 31 days), Jan 1 – Jan 31, 2025 -0.61',
      ]);
    });
  });
  it('where the bounds cross, the maximum holds', () => {
    const crossed = plan(charge(perCall, { minimum_minor: '500', maximum_minor: '300' }));
    assert.equal(bill(crossed, used(1n)).totalMinor, 300n);
  });
  it('the parts of an interval add up to the whole, with bounds (invariant 4)', () => {
    const part = fc.bigInt({ min: 0n, max: 4_000n });
    const price = fc.constantFrom<Price>(
      perCall,
      steps,
      { model: 'package', package_size: '7', package_price: '0.11', round: 'down' },
      { model: 'percentage', percent: '3.33', fixed_fee: '0.07', free_events: '1' },
    );
    fc.assert(
      fc.property(
        price,
        fc.array(part, { minLength: 1, maxLength: 5 }),
        fc.bigInt({ min: 0n, max: 31n }),
        (given, parts, numerator) => {
          const minimumPart = { ratio: { numerator, denominator: 31n }, text: 'days' };
          const definition = plan(
            charge(given, { minimum_minor: '700', maximum_minor: '6000', included_units: '9' }),
          );
          const of = (index: number): bigint => {
            const usage = [
              {
                meterId: 'mtr_calls',
                billedBefore: parts.slice(0, index).flatMap((one) => rows(one)),
                thisPeriod: rows(parts[index] ?? 0n),
              },
            ];
            const minimum = index === parts.length - 1 ? 'now' : 'later';
            return bill(definition, { feeDue: index === 0, usage, minimum, minimumPart })
              .totalMinor;
          };
          const whole = bill(definition, {
            minimumPart,
            usage: [
              {
                meterId: 'mtr_calls',
                billedBefore: [],
                thisPeriod: parts.flatMap((one) => rows(one)),
              },
            ],
          }).totalMinor;
          assert.equal(
            parts.reduce((sum, _, index) => sum + of(index), 0n),
            whole,
          );
          assert.ok(whole >= prorate(700n, minimumPart.ratio) && whole <= 6_000n);
        },
      ),
    );
  });
});

describe('billing/usage-line › quantities', () => {
  it('a value that falls is a difference without a quantity', () => {
    const latest = charge(perCall, { meter: { ...calls, aggregation: 'LATEST' } });
    const draft = bill(plan(latest), {
      feeDue: false,
      usage: [
        {
          meterId: 'mtr_calls',
          billedBefore: rows(900n).map((row) => ({ ...row, latestAt: 1 })),
          thisPeriod: rows(400n).map((row) => ({ ...row, latestAt: 2 })),
        },
      ],
    });
    assert.deepEqual([draft.lines[0]?.quantity, draft.totalMinor], [null, -500n]);
    assert.equal(bill(plan(charge(perCall)), used(0n)).lines[0]?.quantity, 0n);
  });
});

describe('billing/rate › every model', () => {
  const models: fc.Arbitrary<Price> = fc.constantFrom<Price>(perCall, steps, card, {
    ...{ model: 'package', package_size: '7', package_price: '0.11' },
    round: 'down',
  });
  const counted = fc.record({
    quantity: fc.bigInt({ min: 0n, max: 9_999n }),
    events: fc.bigInt({ min: 0n, max: 50n }),
  });
  it('rate(a) + Δ = rate(a + b), events and all (invariant 4)', () => {
    fc.assert(
      fc.property(models, counted, counted, (price, a, b) => {
        const total = { quantity: a.quantity + b.quantity, events: a.events + b.events };
        const first = rateMore(price, 5n, { before: null, total: a }, 1);
        const more = rateMore(price, 5n, { before: a, total }, 1);
        assert.equal(
          first.plus(more).toFixed(),
          rateMore(price, 5n, { before: null, total }, 1).toFixed(),
        );
      }),
    );
  });
  it('a quantity alone has no events', () => {
    assert.equal(rate(card, 10_000n, 2).toFixed(), '2.9');
    assert.equal(rate(card, { quantity: 10_000n, events: 3n }, 2).toFixed(), '3.2');
    assert.equal(rate(card, { quantity: 0n, events: 2n }, 2).toFixed(), '0');
  });
});

describe('billing/invoice › parts of fees, commitments, changes in mid-period', () => {
  it('a fee for a part of the interval', () => {
    const feePart = { ratio: { numerator: 15n, denominator: 31n }, text: '15 of 31 days' };
    const draft = bill(plan(fee), { feePart });
    assert.deepEqual(texts(draft), ['Monthly fee (15 of 31 days) 15.00']);
    assert.deepEqual(draft.lines[0]?.details, {
      ...{ model: 'prorated', basis_minor: '3100', numerator: '15', denominator: '31' },
    });
    assert.equal(draft.lines[0]?.unitPrice, null);
    assert.deepEqual(draft.lines[0]?.covers, january);
  });

  it('a fee in advance is for the next interval, beside usage of this one in arrears', () => {
    const inAdvance = { ...fee, bill_in: 'advance' } as const;
    const definition = plan(inAdvance, charge(perCall));
    const covers = { startMs: Date.UTC(2025, 1, 1), endMs: Date.UTC(2025, 2, 1) };
    const ahead = feeOf(inAdvance, { covers, isAhead: true });
    const draft = bill(definition, { ...used(100n), fees: [ahead] });
    assert.deepEqual(texts(draft), [
      'Monthly fee, Feb 1 – Feb 28, 2025 31.00',
      'API Calls (100 calls × $0.01) 1.00',
    ]);
    assert.deepEqual(
      draft.lines.map((line) => line.covers),
      [covers, undefined],
    );
    assert.deepEqual(texts(bill(definition, used(100n))), ['API Calls (100 calls × $0.01) 1.00']);
    const part = { ratio: { numerator: 1n, denominator: 2n }, text: '14 of 28 days' };
    assert.deepEqual(texts(bill(plan(), { fees: [{ ...ahead, part }] })), [
      'Monthly fee (14 of 28 days), Feb 1 – Feb 28, 2025 15.50',
    ]);
  });

  it('fees of the terms before stand first, those of the next terms last', () => {
    const before = feeOf(fee, { chargeId: 'old', planVersionId: 'pver_old', name: 'Old' });
    const next = feeOf(fee, { chargeId: 'next', planVersionId: 'pver_next', name: 'Next' });
    const draft = bill(plan(fee, charge(perCall)), {
      ...used(100n),
      fees: [{ ...next, isAhead: true }, feeOf(fee), before],
    });
    assert.deepEqual(texts(draft), [
      'Old 31.00',
      'Monthly fee 31.00',
      'API Calls (100 calls × $0.01) 1.00',
      'Next, Jan 1 – Jan 31, 2025 31.00',
    ]);
  });

  it('several of an add-on are one line, behind the charges of the plan', () => {
    const seats = {
      ...feeOf(fee),
      chargeId: 'sad_1',
      name: 'Seat',
      amountMinor: 500n,
      quantity: 3n,
    };
    const draft = bill(plan(fee, charge(perCall)), {
      ...used(100n),
      fees: [seats, feeOf(fee)],
    });
    assert.deepEqual(texts(draft), [
      'Monthly fee 31.00',
      'API Calls (100 calls × $0.01) 1.00',
      'Seat (3 × $5.00) 15.00',
    ]);
    const part = { ratio: { numerator: 15n, denominator: 31n }, text: '15 of 31 days' };
    assert.deepEqual(texts(bill(plan(), { fees: [{ ...seats, part }] })), [
      // 1500 × 15/31 = 725.8
      'Seat (3 × $5.00, 15 of 31 days) 7.26',
    ]);
  });

  it('a commitment is made up to, once, by the last invoice of the interval', () => {
    const definition = plan(fee, charge(perCall));
    const commitment = { commitmentMinor: 10_000n, billedMinor: 0n };
    const draft = bill(definition, { ...used(900n), commitment });
    assert.deepEqual(texts(draft), [
      'Monthly fee 31.00',
      'API Calls (900 calls × $0.01) 9.00',
      'Commitment, at least $100.00 60.00',
    ]);
    assert.deepEqual(draft.lines[2]?.details, {
      ...{ model: 'commitment', commitment_minor: '10000', spent_minor: '4000' },
      ...{ numerator: '1', denominator: '1' },
    });
    assert.equal(draft.lines[2]?.kind, 'adjustment');
    const billed = { ...commitment, billedMinor: 5_000n };
    assert.equal(bill(definition, { ...used(900n), commitment: billed }).totalMinor, 5_000n);
    assert.equal(bill(definition, { ...used(6_900n), commitment }).lines.length, 2);
    const first = bill(definition, { ...used(900n), commitment, minimum: 'later' });
    assert.equal(first.totalMinor, 4_000n);
    const part = { ratio: { numerator: 1n, denominator: 2n }, text: '15 of 30 days' };
    const half = bill(definition, { ...used(900n), commitment: { ...commitment, part } });
    assert.equal(half.totalMinor, 5_000n);
    assert.equal(texts(half)[2], 'Commitment, at least $50.00 ($100.00, 15 of 30 days) 10.00');
    // A fee of the next interval counts towards that one's.
    const ahead = feeOf(fee, { isAhead: true });
    assert.equal(
      bill(definition, { ...used(900n), fees: [feeOf(fee), ahead], commitment }).totalMinor,
      13_100n,
    );
  });

  it('usage before a change keeps its prices, and the new allowance is less what was used', () => {
    const old = plan(fee, charge(perCall, { included_units: '100', minimum_minor: '99999' }));
    const next = plan(
      charge({ model: 'per_unit', unit_price: '0.005' }, { id: 'new', included_units: '1000' }),
    );
    const earlier = runOf(old, {
      planVersionId: 'pver_old',
      ...{ startMs: january.startMs, endMs: Date.UTC(2025, 0, 11) },
      usage: [{ meterId: 'mtr_calls', billedBefore: [], thisPeriod: rows(300n) }],
    });
    const after = (earlierRows: readonly UsagePartial[], quantity: bigint): Given => ({
      usage: [
        {
          ...{ meterId: 'mtr_calls', earlier: earlierRows },
          ...{ billedBefore: [], thisPeriod: rows(quantity) },
        },
      ],
    });
    const draft = bill(next, { ...after(rows(300n), 1_000n), earlier: [earlier] });
    assert.deepEqual(texts(draft), [
      'API Calls (200 calls past 100 included × $0.01), Jan 1 – Jan 10, 2025 2.00',
      'API Calls (300 calls past 700 included × $0.005) 1.50',
    ]);
    assert.deepEqual(
      draft.lines.map((line) => line.planVersionId),
      ['pver_old', 'pver_1'],
    );
    assert.deepEqual(texts(bill(next, after(rows(5_000n), 10n))), [
      'API Calls (10 calls × $0.005) 0.05',
    ]);
    // Without further usage the terms of before have nothing left to say.
    const billed = runOf(old, {
      usage: [{ meterId: 'mtr_calls', billedBefore: rows(300n), thisPeriod: [] }],
    });
    assert.equal(bill(next, { ...after(rows(300n), 10n), earlier: [billed] }).lines.length, 1);
    const euros = { ...earlier, definition: { ...old, currency: 'EUR' } as const };
    assert.throws(() => bill(next, { earlier: [euros] }), RangeError);
  });

  it('coupons, taxes and the balance follow the lines', () => {
    const draft = bill(plan(fee, charge(perCall)), {
      ...used(900n),
      coupons: [
        {
          ...{ id: 'cpn', name: 'Ten off', on: { kind: 'lines', chargeIds: ['fee'] } },
          off: { kind: 'fixed', amountMinor: 1_000n },
        },
      ],
      taxation: {
        kind: 'exclusive',
        rates: {
          general: [{ name: 'VAT', percent: '19' }],
          byCharge: new Map([['chg', [{ name: 'VAT', percent: '7' }]]]),
        },
      },
      balanceMinor: 500n,
    });
    // 31.00 − 10.00 at 19 % = 3.99; 9.00 at 7 % = 0.63
    assert.deepEqual(
      [draft.subtotalMinor, draft.discountMinor, draft.taxMinor, draft.totalMinor],
      [4_000n, 1_000n, 462n, 3_462n],
    );
    assert.deepEqual([draft.balanceAppliedMinor, draft.amountDueMinor], [500n, 2_962n]);
  });
});
