import assert from 'node:assert/strict';
import fc from 'fast-check';
import type { UnusedFee } from '../../billing/fees.ts';
import {
  assembleLateInvoice,
  type InvoiceDraft,
  type LateInput,
  type LateUsage,
} from '../../billing/invoice.ts';
import { formatAmount } from '../../billing/money.ts';
import type { Charge, PlanDefinition, Price } from '../../billing/plan.ts';
import { type UsagePartial } from '../../billing/rate.ts';
import { taxLabel } from '../../billing/tax.ts';
import { bill, feeOf, type Given, january, runOf } from './bill.ts';

const december = { startMs: Date.UTC(2024, 11, 1), endMs: Date.UTC(2025, 0, 1) };
const calls = {
  id: 'mtr_calls',
  key: 'api_calls',
  name: 'API Calls',
  unit_one: 'call',
  unit_other: 'calls',
  scale: 0,
  aggregation: 'SUM',
} as const;

function usageCharge(price: Price, more: Partial<Extract<Charge, { kind: 'usage' }>> = {}): Charge {
  return {
    kind: 'usage',
    id: 'chg_calls',
    display_name: 'API calls ($0.001 each)',
    meter: calls,
    price,
    included_units: '0',
    ...more,
  };
}

function fee(amount_minor: string, display_name = 'Monthly fee'): Charge {
  return { kind: 'recurring', id: 'chg_fee', display_name, amount_minor };
}

function plan(charges: readonly Charge[], more: Partial<PlanDefinition> = {}): PlanDefinition {
  return {
    currency: 'USD',
    interval: { unit: 'month', count: 1 },
    billing_time: 'anniversary',
    charges,
    features: [],
    rate_limits: [],
    credits: null,
    ...more,
  };
}

function rows(quantity: bigint, latestAt = 0): readonly UsagePartial[] {
  return [{ quantity, eventCount: 1n, maxQuantity: quantity, latestQuantity: quantity, latestAt }];
}

function used(quantity: bigint, meterId: string = calls.id): Given {
  return { usage: [{ meterId, billedBefore: [], thisPeriod: rows(quantity) }] };
}

function texts(draft: InvoiceDraft): string[] {
  return draft.lines.map(
    (line) => `${line.description} ${formatAmount(line.amountMinor, draft.currency)}`,
  );
}

const perCall: Price = { model: 'per_unit', unit_price: '0.001' };
const fluxrateTiers = [
  { up_to: '1000', unit_price: '0.002', flat_fee: '0' },
  { up_to: '10000', unit_price: '0.001', flat_fee: '0' },
  { up_to: null, unit_price: '0.0005', flat_fee: '0' },
] as const;
const hybrid = plan([fee('4900', 'Base price')], {
  credits: {
    unit: 'credit',
    included_micro: '1000000000',
    overage: { enabled: true, credit_price: '0.03' },
    credit_price: null,
    burn: [{ meter_key: 'api_calls', micro_per_unit: '1000000' }],
  },
});

describe('billing/invoice › the strategies', () => {
  it('pay as you go: the example invoice', () => {
    const draft = bill(plan([usageCharge(perCall)]), used(82_450n));
    assert.deepEqual(texts(draft), ['API Calls (82,450 calls × $0.001) 82.45']);
    assert.equal(draft.lines[0]?.label, 'API calls ($0.001 each)');
    assert.equal(draft.lines[0]?.quantity, 82_450n);
    assert.equal(draft.lines[0]?.unitPrice, '0.001');
    assert.equal(draft.periodText, 'Jan 1 – Jan 31, 2025');
    assert.deepEqual([draft.subtotalMinor, draft.taxMinor, draft.totalMinor], [8_245n, 0n, 8_245n]);
    assert.deepEqual(draft.taxes.map(taxLabel), ['Tax (0%)']);
  });

  it('flat and included usage: one line', () => {
    assert.deepEqual(texts(bill(plan([fee('2900', 'Starter')]))), ['Starter 29.00']);
  });

  it('subscription + overage: Pro with 150,000 requests is $124.00', () => {
    const requests = { ...calls, name: 'Requests', unit_one: 'request', unit_other: 'requests' };
    const charge = usageCharge(
      { model: 'per_unit', unit_price: '0.0005' },
      { included_units: '100000', meter: requests },
    );
    const draft = bill(plan([fee('9900', 'Pro'), charge]), used(150_000n));
    assert.deepEqual(texts(draft), [
      'Pro 99.00',
      'Requests (50,000 requests past 100,000 included × $0.0005) 25.00',
    ]);
    assert.equal(draft.totalMinor, 12_400n);
    assert.deepEqual(texts(bill(plan([charge]), used(8_000n))), [
      'Requests (8,000 of 100,000 requests included) 0.00',
    ]);
    assert.deepEqual(texts(bill(plan([charge]), used(100_001n))), [
      'Requests (1 request past 100,000 included × $0.0005) 0.00',
    ]);
  });

  it('a package bills what is begun, a price per unit does not', () => {
    const packaged = usageCharge(
      { model: 'package', package_size: '1000', package_price: '0.5' },
      { included_units: '100000' },
    );
    assert.deepEqual(texts(bill(plan([packaged]), used(100_001n))), [
      'API Calls (1 call past 100,000 included, 1 package of 1,000 × $0.50) 0.50',
    ]);
    assert.deepEqual(texts(bill(plan([packaged]), used(102_500n))), [
      'API Calls (2,500 calls past 100,000 included, 3 packages of 1,000 × $0.50) 1.50',
    ]);
    const each = usageCharge(
      { model: 'per_unit', unit_price: '0.0005' },
      { included_units: '100000' },
    );
    assert.equal(bill(plan([each]), used(100_001n)).totalMinor, 0n);
  });

  it('free tier: 82,450 calls with 1,000 free are $81.45', () => {
    const draft = bill(plan([usageCharge(perCall, { included_units: '1000' })]), used(82_450n));
    assert.deepEqual(texts(draft), ['API Calls (81,450 calls past 1,000 included × $0.001) 81.45']);
  });

  const tierRows: readonly (readonly [bigint, string, string])[] = [
    [1_000n, 'API Calls (1,000 calls × $0.002) 2.00', 'API Calls (1,000 calls × $0.002) 2.00'],
    [1_001n, 'API Calls (1,001 calls in 2 tiers) 2.00', 'API Calls (1,001 calls × $0.001) 1.00'],
    [
      10_001n,
      'API Calls (10,001 calls in 3 tiers) 11.00',
      'API Calls (10,001 calls × $0.0005) 5.00',
    ],
    [
      82_450n,
      'API Calls (82,450 calls in 3 tiers) 47.23',
      'API Calls (82,450 calls × $0.0005) 41.23',
    ],
  ];
  for (const [quantity, graduated, volume] of tierRows) {
    it(`tiers: ${quantity} calls`, () => {
      const of = (model: 'graduated' | 'volume'): string[] =>
        texts(bill(plan([usageCharge({ model, tiers: fluxrateTiers })]), used(quantity)));
      assert.deepEqual([of('graduated'), of('volume')], [[graduated], [volume]]);
    });
  }

  it('a flat fee is part of the arithmetic that is printed', () => {
    const tiers = [{ up_to: null, unit_price: '0.01', flat_fee: '5' }] as const;
    const draft = bill(plan([usageCharge({ model: 'volume', tiers })]), used(100n));
    assert.deepEqual(texts(draft), ['API Calls (100 calls × $0.01 + $5.00) 6.00']);
    assert.equal(draft.lines[0]?.unitPrice, null);
    const cut = bill(plan([usageCharge({ model: 'volume', tiers })]), {
      feeDue: false,
      usage: [{ meterId: calls.id, billedBefore: rows(100n), thisPeriod: rows(50n) }],
    });
    assert.deepEqual(texts(cut), ['API Calls (50 calls × $0.01) 0.50']);
  });

  it('hybrid: 1,500 calls with 1,000 credits are $64.00; no overage, no line', () => {
    const overageMicro = { billedBefore: 0n, thisPeriod: 500_000_000n };
    const draft = bill(hybrid, { overageMicro });
    assert.deepEqual(texts(draft), ['Base price 49.00', 'Overage (500 credits × $0.03) 15.00']);
    assert.equal(draft.totalMinor, 6_400n);
    assert.deepEqual(texts(bill(hybrid)), ['Base price 49.00']);
    const one = bill(hybrid, { overageMicro: { billedBefore: 0n, thisPeriod: 1_000_000n } });
    assert.equal(texts(one)[1], 'Overage (1 credit × $0.03) 0.03');
  });

  it('overage without its own rate takes the credit price, and without any price is our mistake', () => {
    assert.ok(hybrid.credits !== null);
    const overageMicro = { billedBefore: 0n, thisPeriod: 2_500_000n };
    const sold = { ...hybrid, credits: { ...hybrid.credits, overage: null, credit_price: '0.1' } };
    assert.deepEqual(texts(bill(sold, { overageMicro }))[1], 'Overage (2.5 credits × $0.10) 0.25');
    const both = { ...hybrid, credits: { ...hybrid.credits, credit_price: '0.1' } };
    assert.deepEqual(texts(bill(both, { overageMicro }))[1], 'Overage (2.5 credits × $0.03) 0.08');
    const unsold = { ...hybrid, credits: { ...hybrid.credits, overage: null } };
    assert.throws(() => bill(unsold, { overageMicro }), RangeError);
    assert.throws(() => bill({ ...hybrid, credits: null }, { overageMicro }), RangeError);
  });

  it('custom: five meters, each in its own unit', () => {
    const meter = (key: string, name: string, units: readonly [string, string], scale = 0) => ({
      ...{ id: key, key, name, unit_one: units[0], unit_other: units[1], scale },
      aggregation: 'SUM' as const,
    });
    const charge = (of: ReturnType<typeof meter>, unit_price: string): Charge =>
      usageCharge(
        { model: 'per_unit', unit_price },
        { id: of.key, display_name: of.name, meter: of },
      );
    const definition = plan([
      charge(meter('image_generation', 'Images', ['image', 'images']), '0.04'),
      charge(meter('document_page', 'Document Pages', ['page', 'pages']), '0.0015'),
      charge(meter('input_tokens', 'Input Tokens', ['token', 'tokens']), '0.000003'),
      charge(meter('output_tokens', 'Output Tokens', ['token', 'tokens']), '0.000015'),
      charge(meter('dollars', 'Pass-through', ['dollar', 'dollars'], 6), '1.2'),
    ]);
    const usage = [
      { meterId: 'image_generation', billedBefore: [], thisPeriod: rows(37n) },
      { meterId: 'document_page', billedBefore: [], thisPeriod: rows(1_234n) },
      { meterId: 'input_tokens', billedBefore: [], thisPeriod: rows(2_345_678n) },
      { meterId: 'output_tokens', billedBefore: [], thisPeriod: rows(345_678n) },
      { meterId: 'dollars', billedBefore: [], thisPeriod: rows(4_204_200n) },
    ];
    const draft = bill(definition, { usage });
    assert.deepEqual(texts(draft), [
      'Images (37 images × $0.04) 1.48',
      'Document Pages (1,234 pages × $0.0015) 1.85',
      'Input Tokens (2,345,678 tokens × $0.000003) 7.04',
      'Output Tokens (345,678 tokens × $0.000015) 5.19',
      'Pass-through (4.2042 dollars × $1.20) 5.05',
    ]);
    assert.equal(draft.totalMinor, 2_061n);
  });

  it('a one-time charge is due once, in the order of the plan', () => {
    const setUp: Charge = {
      kind: 'one_time',
      id: 'chg_setup',
      display_name: 'Set-up',
      amount_minor: '500',
    };
    const definition = plan([setUp, fee('2900')]);
    assert.deepEqual(texts(bill(definition, { oneTimeDue: true })), [
      'Set-up 5.00',
      'Monthly fee 29.00',
    ]);
    assert.deepEqual(texts(bill(definition)), ['Monthly fee 29.00']);
    assert.deepEqual(texts(bill(definition, { feeDue: false })), []);
  });

  it('places follow the currency', () => {
    const yen = plan([usageCharge({ model: 'per_unit', unit_price: '0.5' })], { currency: 'JPY' });
    assert.deepEqual(texts(bill(yen, used(2_049n))), ['API Calls (2,049 calls × ¥0.5) 1025']);
  });

  it('taxes the sum of the lines once for each rate', () => {
    const taxRates = [
      { name: 'VAT', percent: '8.875' },
      { name: 'City', percent: '1' },
    ];
    const draft = bill(plan([fee('5000', 'A'), { ...fee('5000', 'B'), id: 'b' }]), { taxRates });
    assert.deepEqual(
      draft.taxes.map((tax) => [taxLabel(tax), tax.baseMinor, tax.amountMinor]),
      [
        ['VAT (8.875%)', 10_000n, 888n],
        ['City (1%)', 10_000n, 100n],
      ],
    );
    assert.equal(draft.totalMinor, 10_988n);
  });
});

describe('billing/invoice › parts of an interval', () => {
  const price: fc.Arbitrary<Price> = fc.constantFrom<Price>(
    perCall,
    { model: 'per_unit', unit_price: '0.0333' },
    { model: 'graduated', tiers: fluxrateTiers },
    {
      model: 'graduated',
      tiers: [
        { up_to: '10', unit_price: '1', flat_fee: '2' },
        { up_to: null, unit_price: '0.333', flat_fee: '3' },
      ],
    },
    { model: 'volume', tiers: fluxrateTiers },
    { model: 'package', package_size: '100', package_price: '0.25' },
  );
  const part = fc.bigInt({ min: 0n, max: 20_000n });

  it('the parts add up to the interval billed whole, whatever the cuts (invariant 4)', () => {
    fc.assert(
      fc.property(
        price,
        fc.array(part, { minLength: 1, maxLength: 6 }),
        part,
        (given, parts, included) => {
          const definition = plan([
            fee('4900'),
            usageCharge(given, { included_units: `${included}` }),
          ]);
          const total = parts.reduce((sum, one) => sum + one, 0n);
          const whole = bill(definition, used(total)).totalMinor;
          const sum = parts.reduce((billed, one, index) => {
            const usage = [
              {
                meterId: calls.id,
                billedBefore: parts.slice(0, index).flatMap((past) => rows(past)),
                thisPeriod: rows(one),
              },
            ];
            return billed + bill(definition, { feeDue: index === 0, usage }).totalMinor;
          }, 0n);
          assert.equal(sum, whole);
        },
      ),
    );
  });

  it('a maximum and a latest value of parts are those of the interval', () => {
    for (const [aggregation, amounts] of [
      ['MAX', [9n, 0n]],
      ['LATEST', [9n, -5n]],
    ] as const) {
      const meter = { ...calls, aggregation };
      const definition = plan([usageCharge({ model: 'per_unit', unit_price: '0.01' }, { meter })]);
      const first = bill(definition, {
        usage: [{ meterId: calls.id, billedBefore: [], thisPeriod: rows(9n, 1) }],
      });
      const then = bill(definition, {
        feeDue: false,
        usage: [{ meterId: calls.id, billedBefore: rows(9n, 1), thisPeriod: rows(4n, 2) }],
      });
      assert.deepEqual([first.totalMinor, then.totalMinor], amounts, aggregation);
    }
  });

  it('says when a later part re-rates an earlier one', () => {
    const draft = bill(plan([usageCharge({ model: 'volume', tiers: fluxrateTiers })]), {
      feeDue: false,
      usage: [{ meterId: calls.id, billedBefore: rows(1_000n), thisPeriod: rows(1n) }],
    });
    assert.deepEqual(texts(draft), ['API Calls (1 call, re-rated with its tiers) -1.00']);
  });

  it('late usage of another interval is an adjustment that names its period', () => {
    const definition = plan([
      fee('2900'),
      usageCharge({ model: 'graduated', tiers: fluxrateTiers }),
    ]);
    const draft = bill(definition, {
      startMs: Date.UTC(2025, 1, 1),
      endMs: Date.UTC(2025, 2, 1),
      late: [
        {
          ...runOf(definition, {
            planVersionId: 'pver_0',
            isBegun: true,
            usage: [{ meterId: calls.id, billedBefore: rows(1_000n), thisPeriod: rows(100n) }],
          }),
          period: january,
          isLast: true,
        },
      ],
    });
    assert.deepEqual(texts(draft), [
      'Monthly fee 29.00',
      'API Calls (0 calls × $0.002) 0.00',
      'API Calls (100 calls × $0.001), Jan 1 – Jan 31, 2025 0.10',
    ]);
    assert.deepEqual(
      draft.lines.map((line) => line.kind),
      ['recurring', 'usage', 'adjustment'],
    );
    assert.equal(draft.lines[2]?.planVersionId, 'pver_0');
  });

  it('a fee of an interval before names it, and counts towards no commitment of this one', () => {
    const monthly = {
      kind: 'recurring',
      id: 'chg_fee',
      display_name: 'Monthly fee',
      amount_minor: '2900',
    } as const;
    const before = feeOf(monthly, { isBefore: true, covers: december, planVersionId: 'pver_0' });
    const draft = bill(plan([monthly]), {
      fees: [before, feeOf(monthly)],
      commitment: { commitmentMinor: 10_000n, billedMinor: 0n },
    });
    assert.deepEqual(texts(draft), [
      'Monthly fee, Dec 1 – Dec 31, 2024 29.00',
      'Monthly fee 29.00',
      'Commitment, at least $100.00 71.00',
    ]);
  });

  it('what is given back of a fee lowers what was spent towards a commitment of its own interval only', () => {
    const unused = (chargeId: string, isBefore: boolean): UnusedFee => ({
      ...{ chargeId, invoiceId: 'inv_1', planVersionId: 'pver_1', name: chargeId, isBefore },
      ...{ paidMinor: 3_100n, covers: isBefore ? december : january },
      part: { ratio: { numerator: 10n, denominator: 31n }, text: '10 of 31 days' },
    });
    const draft = bill(plan([fee('2900')]), {
      unused: [unused('Seats', true), unused('Support', false)],
      commitment: { commitmentMinor: 10_000n, billedMinor: 0n },
    });
    assert.deepEqual(texts(draft), [
      'Monthly fee 29.00',
      'Unused part of Support (10 of 31 days) -10.00',
      // 100.00 less 29.00, and the 10.00 that were given back are missing again.
      'Commitment, at least $100.00 81.00',
      'Unused part of Seats (10 of 31 days), Dec 1 – Dec 31, 2024 -10.00',
    ]);
  });

  describe('of what came in after the end', () => {
    const late = (quantity: bigint, more: Partial<LateUsage> = {}): LateUsage => ({
      ...runOf(plan([usageCharge(perCall, { maximum_minor: '5000' })]), {
        isBegun: true,
        usage: [{ meterId: calls.id, billedBefore: rows(60_000n), thisPeriod: rows(quantity) }],
      }),
      period: december,
      isLast: true,
      ...more,
    });
    const input = (...all: readonly LateUsage[]): LateInput => ({
      ...{ currency: 'USD', zone: 'UTC', late: all, coupons: [], balanceMinor: 100n },
      taxation: { kind: 'exclusive', rates: { general: [{ name: 'VAT', percent: '20' }] } },
    });
    const more = runOf(plan([usageCharge(perCall)]), {
      isBegun: true,
      usage: [{ meterId: calls.id, billedBefore: [], thisPeriod: rows(2_000n) }],
    });

    it('an invoice spans the periods that it came in for', () => {
      const draft = assembleLateInvoice(
        input({ ...more, period: january, isLast: true }, late(1n)),
      );
      assert.ok(draft !== null);
      assert.deepEqual(
        [draft.startMs, draft.endMs, draft.periodText],
        [december.startMs, january.endMs, 'Dec 1, 2024 – Jan 31, 2025'],
      );
      assert.deepEqual(
        draft.lines.map(({ kind, amountMinor }) => [kind, amountMinor]),
        [
          ['adjustment', 200n],
          ['adjustment', 0n],
        ],
      );
      const { subtotalMinor, taxMinor, totalMinor, amountDueMinor } = draft;
      assert.deepEqual(
        [subtotalMinor, taxMinor, totalMinor, amountDueMinor],
        [200n, 40n, 240n, 140n],
      );
    });

    it('there is none where what each charge costs more is what its maximum takes off', () => {
      assert.deepEqual(
        [late(9_000n), late(1n)].map((one) => assembleLateInvoice(input(one))),
        [null, null],
      );
      assert.equal(assembleLateInvoice(input()), null);
    });

    it('there is one where what one charge costs more is what another costs less', () => {
      const other = { ...calls, id: 'mtr_other', key: 'other' };
      const definition = plan([
        usageCharge(perCall),
        usageCharge(perCall, { id: 'chg_other', meter: other }),
      ]);
      const usage = [
        { meterId: calls.id, billedBefore: rows(0n), thisPeriod: rows(1_000n) },
        { meterId: other.id, billedBefore: rows(1_000n), thisPeriod: rows(-1_000n) },
      ];
      const run = { ...runOf(definition, { isBegun: true, usage }), period: december };
      const draft = assembleLateInvoice(input({ ...run, isLast: true }));
      assert.deepEqual(
        draft?.lines.map(({ amountMinor }) => amountMinor),
        [100n, -100n],
      );
      assert.equal(draft?.totalMinor, 0n);
    });

    it('in another currency is our mistake', () => {
      assert.throws(() => assembleLateInvoice({ ...input(late(1n)), currency: 'EUR' }), RangeError);
    });
  });

  it('late usage in another currency is our mistake', () => {
    const late = { ...runOf(plan([], { currency: 'EUR' })), period: january, isLast: true };
    assert.throws(() => bill(plan([fee('1')]), { late: [late] }), RangeError);
  });
});

describe('billing/invoice › rows', () => {
  it('their order changes nothing (invariants 6 and 8)', () => {
    const definition = plan([usageCharge(perCall)]);
    const some = fc.array(fc.bigInt({ min: 0n, max: 99n }), { maxLength: 8 });
    fc.assert(
      fc.property(some, (quantities) => {
        const thisPeriod = quantities.flatMap((quantity, index) => rows(quantity, index));
        const of = (given: readonly UsagePartial[]): InvoiceDraft =>
          bill(definition, {
            usage: [{ meterId: calls.id, billedBefore: [], thisPeriod: given }],
          });
        assert.deepEqual(of(thisPeriod.toReversed()), of(thisPeriod));
      }),
    );
  });
});
