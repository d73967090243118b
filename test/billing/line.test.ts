import assert from 'node:assert/strict';
import { amountFromDetails } from '../../billing/explain.ts';
import { feeLine, overageLine, runDetails } from '../../billing/line.ts';
import type {
  Charge,
  CreditTerms,
  MeterDefinition,
  Price,
  UsageCharge,
} from '../../billing/plan.ts';
import { bill, feeOf, january, runOf } from './bill.ts';

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

const calls: MeterDefinition = {
  ...{ id: 'mtr_1', key: 'calls', name: 'Calls', unit_one: 'call', unit_other: 'calls' },
  ...{ scale: 0, aggregation: 'SUM' },
};

function usageOf(price: Price, more: Partial<UsageCharge> = {}): UsageCharge {
  return {
    ...{ kind: 'usage', id: 'chg_use', display_name: 'Rate', meter: calls, price },
    ...{ included_units: '0', ...more },
  };
}
function rows(quantity: bigint, eventCount = 1n) {
  return [{ quantity, eventCount, maxQuantity: quantity, latestQuantity: quantity, latestAt: 0 }];
}
/** The lines of a charge; `before`: what an earlier invoice of the interval had. */
function linesOf(charge: UsageCharge, now: bigint, before: bigint | null = null) {
  return bill(
    { currency: 'USD', credits: null, charges: [charge] },
    {
      feeDue: before === null,
      usage: [
        {
          meterId: calls.id,
          billedBefore: before === null ? [] : rows(before, 5n),
          thisPeriod: rows(now, 3n),
        },
      ],
    },
  ).lines;
}

describe('billing/line › usage', () => {
  const graduated: Price = {
    model: 'graduated',
    tiers: [
      { up_to: '10', unit_price: '0.5', flat_fee: '1' },
      { up_to: null, unit_price: '0.25', flat_fee: '0' },
    ],
  };

  it('says its time, and the first of an interval explains itself without a part before it', () => {
    const [line] = linesOf(usageOf(graduated), 12n);
    assert.ok(line !== undefined && 'tiers_before' in line.details);
    assert.deepEqual([line.details.before, line.details.tiers_before], [null, null]);
    assert.deepEqual(line.details.run, {
      start_at: '2025-01-01T00:00:00.000Z',
      end_at: '2025-02-01T00:00:00.000Z',
    });
    // 1 + 10 × 0.50 + 2 × 0.25
    assert.deepEqual([line.amountMinor, amountFromDetails(line, 'USD')], [650n, 650n]);
    assert.equal(line.description, 'Calls (12 calls in 2 tiers)');
  });

  it('a further part keeps what was counted before it, and says the packages that it adds', () => {
    const packaged: Price = { model: 'package', package_size: '10', package_price: '2' };
    const [line] = linesOf(usageOf(packaged), 20n, 25n);
    assert.ok(line !== undefined && 'tiers_before' in line.details);
    // 45 calls are five packages, of which three were begun before.
    assert.deepEqual(
      [line.description, line.amountMinor, line.details.before, line.details.total],
      ['Calls (20 calls, 2 packages of 10 × $2.00)', 400n, '25', '45'],
    );
    assert.deepEqual(line.details.package, { size: '10', round: 'up' });
    assert.ok(!('events_total' in line.details));
    const [down] = linesOf(usageOf({ ...packaged, round: 'down' }), 20n, 25n);
    assert.ok(down !== undefined && 'tiers_before' in down.details);
    assert.deepEqual([down.amountMinor, down.details.package?.round], [400n, 'down']);
  });

  it('a price with a fee for each event keeps the events of both parts', () => {
    const card: Price = { model: 'percentage', percent: '1', fixed_fee: '0.1', free_events: '6' };
    const [line] = linesOf(usageOf(card), 100n, 50n);
    assert.ok(line !== undefined && 'events_total' in line.details);
    // Of eight events six are free: two are charged, both of this part.
    assert.deepEqual(
      [line.description, line.amountMinor, line.details.events_before, line.details.events_total],
      ['Calls (100 calls × 1% + 2 events × $0.10)', 120n, '5', '8'],
    );
  });

  it('what is just included is said to be, and one call more is not', () => {
    const charge = usageOf({ model: 'per_unit', unit_price: '0.5' }, { included_units: '10' });
    assert.deepEqual(
      [10n, 11n].map((quantity) => linesOf(charge, quantity)[0]?.description),
      ['Calls (10 of 10 calls included)', 'Calls (1 call past 10 included × $0.50)'],
    );
    const free = usageOf({ model: 'per_unit', unit_price: '0' }, { included_units: '10' });
    assert.equal(linesOf(free, 11n)[0]?.description, 'Calls (1 call past 10 included × $0.00)');
  });

  it('a further part that crosses a maximum gives back what is above it', () => {
    const charge = usageOf({ model: 'per_unit', unit_price: '1' }, { maximum_minor: '3000' });
    const lines = linesOf(charge, 20n, 25n);
    assert.deepEqual(
      lines.map(({ description, amountMinor }) => [description, amountMinor]),
      [
        ['Calls (20 calls × $1.00)', 2_000n],
        ['Calls, at most $30.00', -1_500n],
      ],
    );
    // Both parts were above it: all of the second is given back.
    assert.deepEqual(
      linesOf(charge, 20n, 40n).map(({ amountMinor }) => amountMinor),
      [2_000n, -2_000n],
    );
  });

  it('late use of one meter is no line of another', () => {
    const other = { ...calls, id: 'mtr_2', key: 'jobs', name: 'Jobs' };
    const price: Price = {
      model: 'graduated',
      tiers: [{ up_to: null, unit_price: '1', flat_fee: '5' }],
    };
    const definition = {
      currency: 'USD',
      credits: null,
      charges: [usageOf(price), usageOf(price, { id: 'chg_other', meter: other })],
    } as const;
    const late = {
      ...runOf(definition, {
        isBegun: true,
        usage: [{ meterId: other.id, billedBefore: [], thisPeriod: rows(2n) }],
      }),
      ...{ period: january, isLast: true },
    };
    const february = { startMs: january.endMs, endMs: Date.UTC(2025, 2, 1) };
    const { lines } = bill(definition, { ...february, late: [late] });
    assert.deepEqual(
      lines.filter(({ kind }) => kind === 'adjustment').map(({ description }) => description),
      ['Jobs (2 calls × $1.00), Jan 1 – Jan 31, 2025'],
    );
  });

  it('credits and currencies that a plan cannot have are our mistake', () => {
    const definition = { currency: 'USD', credits: null, charges: [] } as const;
    assert.throws(
      () => bill(definition, { overageMicro: { billedBefore: 0n, thisPeriod: 1n } }),
      new RangeError('overage of credits was recorded on a plan without credits'),
    );
    const euros = runOf({ ...definition, currency: 'EUR' });
    assert.throws(
      () => bill(definition, { earlier: [euros] }),
      new RangeError('usage of other terms is in another currency than the invoice'),
    );
  });

  it('fees of earlier terms stand before the plan’s own, those of the next interval after', () => {
    const named = (name: string, more: Parameters<typeof feeOf>[1]) =>
      feeOf({ ...fee, id: `chg_${name}`, display_name: name }, more);
    const definition = { currency: 'USD', credits: null, charges: [fee] } as const;
    const { lines } = bill(definition, {
      fees: [
        named('Next', { isAhead: true, planVersionId: 'pver_2', covers: null }),
        named('Add-on', {}),
        feeOf(fee),
        named('Old', { planVersionId: 'pver_0' }),
      ],
    });
    assert.deepEqual(
      lines.map(({ description }) => description),
      ['Old', 'Pro', 'Next', 'Add-on'],
    );
  });
});
