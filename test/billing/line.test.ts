import assert from 'node:assert/strict';
import { amountFromDetails } from '../../billing/explain.ts';
import { feeLine, overageLine, runDetails } from '../../billing/line.ts';
import type { Charge, CreditTerms } from '../../billing/plan.ts';
import { bill, feeOf, january } from './bill.ts';

const fee: Extract<Charge, { kind: 'recurring' }> = {
  kind: 'recurring',
  id: 'chg_fee',
  display_name: 'Pro',
  amount_minor: '2999',
};
const usd = { currency: 'USD', zone: 'UTC' } as const;

describe('billing/line › a fee', () => {
  it('that is whole is its price times its number, and says so', () => {
    const line = feeLine(feeOf(fee, { quantity: 3n, name: 'Seats' }), usd);
    assert.deepEqual(line, {
      kind: 'recurring',
      chargeId: 'chg_fee',
      meterId: null,
      planVersionId: 'pver_1',
      description: 'Seats (3 × $29.99)',
      label: null,
      quantity: 3n,
      unitPrice: '29.99',
      amountMinor: 8_997n,
      details: { model: 'flat' },
      covers: january,
    });
    assert.equal(amountFromDetails(line, 'USD'), 8_997n);
  });

  it('for a part is rounded once, and keeps what it is a part of', () => {
    const part = { ratio: { numerator: 2n, denominator: 3n }, text: '2 of 3 days' };
    const line = feeLine(feeOf(fee, { quantity: 2n, part }), usd);
    assert.deepEqual(
      [line.description, line.unitPrice, line.amountMinor, line.details],
      [
        'Pro (2 × $29.99, 2 of 3 days)',
        null,
        // 59.98 × 2/3 = 39.9867
        3_999n,
        { model: 'prorated', basis_minor: '5998', numerator: '2', denominator: '3' },
      ],
    );
    assert.equal(amountFromDetails(line, 'USD'), 3_999n);
  });

  it('names its time only where that is the next interval', () => {
    const texts = [{ isAhead: true }, { isAhead: false }, { isAhead: true, covers: null }].map(
      (more) => feeLine(feeOf(fee, more), usd).description,
    );
    assert.deepEqual(texts, ['Pro, Jan 1 – Jan 31, 2025', 'Pro', 'Pro']);
  });
});

describe('billing/line › credits', () => {
  const terms: CreditTerms = {
    unit: 'credit',
    included_micro: '0',
    overage: { enabled: true, credit_price: '0.033' },
    credit_price: null,
    burn: [],
  };
  const context = { currency: 'USD', planVersionId: 'pver_1' } as const;

  it('past the balance: what was billed before is rounded on its own, so that the parts add up', () => {
    const parts = [
      overageLine(terms, { before: 0n, total: 10_500_000n }, context),
      overageLine(
        terms,
        { before: 10_500_000n, total: 21_000_000n },
        { ...context, span: january },
      ),
    ];
    assert.deepEqual(parts, [
      {
        kind: 'overage',
        chargeId: null,
        meterId: null,
        planVersionId: 'pver_1',
        description: 'Overage (10.5 credits × $0.033)',
        label: null,
        quantity: 10_500_000n,
        unitPrice: '0.033',
        // 0.3465
        amountMinor: 35n,
        details: {
          model: 'credits',
          unit: 'credit',
          before_micro: '0',
          total_micro: '10500000',
        },
      },
      {
        kind: 'overage',
        chargeId: null,
        meterId: null,
        planVersionId: 'pver_1',
        description: 'Overage (10.5 credits × $0.033)',
        label: null,
        quantity: 10_500_000n,
        unitPrice: '0.033',
        // 0.693 − 0.35
        amountMinor: 34n,
        details: {
          model: 'credits',
          unit: 'credit',
          before_micro: '10500000',
          total_micro: '21000000',
          run: { start_at: '2025-01-01T00:00:00.000Z', end_at: '2025-02-01T00:00:00.000Z' },
        },
      },
    ]);
    for (const line of parts) assert.equal(amountFromDetails(line, 'USD'), line.amountMinor);
  });

  it('without a price cannot have been sold', () => {
    assert.throws(
      () => overageLine({ ...terms, overage: null }, { before: 0n, total: 1n }, context),
      new RangeError('overage was recorded on a plan without a price for it'),
    );
  });

  it('the time of use is told where it is known', () => {
    assert.deepEqual(runDetails(context), {});
    assert.deepEqual(runDetails({ ...context, span: january }), {
      run: { start_at: '2025-01-01T00:00:00.000Z', end_at: '2025-02-01T00:00:00.000Z' },
    });
  });
});

describe('billing/line › usage', () => {
  it('says its time, and the first of an interval explains itself without a part before it', () => {
    const charge: Charge = {
      kind: 'usage',
      id: 'chg_use',
      display_name: 'Standard rate',
      meter: {
        ...{ id: 'mtr_1', key: 'calls', name: 'Calls', unit_one: 'call', unit_other: 'calls' },
        ...{ scale: 0, aggregation: 'SUM' },
      },
      price: {
        model: 'graduated',
        tiers: [
          { up_to: '10', unit_price: '0.5', flat_fee: '1' },
          { up_to: null, unit_price: '0.25', flat_fee: '0' },
        ],
      },
      included_units: '0',
    };
    const row = { quantity: 12n, eventCount: 1n, maxQuantity: 12n, latestQuantity: 12n };
    const [line] = bill(
      { currency: 'USD', credits: null, charges: [charge] },
      { usage: [{ meterId: 'mtr_1', billedBefore: [], thisPeriod: [{ ...row, latestAt: 0 }] }] },
    ).lines;
    assert.ok(line !== undefined && 'tiers_before' in line.details);
    assert.equal(line.details.tiers_before, null);
    assert.deepEqual(line.details.run, {
      start_at: '2025-01-01T00:00:00.000Z',
      end_at: '2025-02-01T00:00:00.000Z',
    });
    // 1 + 10 × 0.50 + 2 × 0.25
    assert.deepEqual([line.amountMinor, amountFromDetails(line, 'USD')], [650n, 650n]);
  });
});
