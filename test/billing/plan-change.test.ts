import assert from 'node:assert/strict';
import fc from 'fast-check';
import { trueUp } from '../../billing/commitment.ts';
import type { Off } from '../../billing/discount.ts';
import {
  assembleChange,
  changeAmounts,
  changeLines,
  changeTiming,
  type FeeChange,
  feeAfter,
  recurringFee,
} from '../../billing/plan-change.ts';
import type { Charge } from '../../billing/plan.ts';

const utc = (text: string): number => Date.parse(`${text}Z`);
const january = { startMs: utc('2025-01-01T00:00'), endMs: utc('2025-02-01T00:00') };
const context = { currency: 'USD', planVersionId: 'pver_new' } as const;
const noTax = {
  taxation: { kind: 'exclusive', rates: { general: [] } },
  balanceMinor: 0n,
} as const;
const half: Off = { kind: 'percent', percent: '50' };

function change(more: Partial<FeeChange> = {}): FeeChange {
  return {
    paid: { name: 'Starter', minor: 2_900n, span: january },
    next: { name: 'Pro', feeMinor: 9_900n, off: null },
    interval: january,
    atMs: utc('2025-01-11T15:00'),
    zone: 'UTC',
    proration: 'day',
    isIntervalReset: false,
    ...more,
  };
}

describe('billing/plan-change › lines', () => {
  it('gives back what is left of the old fee and charges what is left of the new one', () => {
    const lines = changeLines(change(), context);
    assert.deepEqual(
      lines.map((line) => [line.kind, line.description, line.amountMinor, line.unitPrice]),
      [
        // 2900 × 21/31 = 1964.52, 9900 × 21/31 = 6706.45
        ['adjustment', 'Unused part of Starter (21 of 31 days)', -1_965n, null],
        ['recurring', 'Pro (21 of 31 days)', 6_706n, null],
      ],
    );
    assert.deepEqual(lines[0]?.details, {
      model: 'prorated',
      basis_minor: '-2900',
      numerator: '21',
      denominator: '31',
    });
    assert.deepEqual(
      [lines[1]?.planVersionId, lines[1]?.quantity, lines[1]?.label],
      ['pver_new', 1n, null],
    );
  });

  it('at the start of the interval both fees are whole, and say so', () => {
    const lines = changeLines(change({ atMs: january.startMs }), context);
    assert.deepEqual(
      lines.map((line) => [line.description, line.amountMinor, line.unitPrice]),
      [
        ['Unused part of Starter', -2_900n, '-29.00'],
        ['Pro', 9_900n, '99.00'],
      ],
    );
  });

  it('by seconds where the plan says so', () => {
    const lines = changeLines(
      change({ proration: 'second', atMs: utc('2025-01-16T12:00') }),
      context,
    );
    assert.deepEqual(
      lines.map((line) => line.amountMinor),
      [-1_450n, 4_950n],
    );
  });

  it('a new interval begins with the change and is charged whole', () => {
    const [credit, charge] = changeLines(change({ isIntervalReset: true }), context);
    assert.deepEqual([credit?.amountMinor, charge?.amountMinor], [-1_965n, 9_900n]);
    assert.equal(charge?.description, 'Pro');
  });

  it('discounts come before proration: what is given back is what was paid', () => {
    const next = { name: 'Pro', feeMinor: 9_900n, off: half };
    const [, charge] = changeLines(change({ next }), context);
    // 4950 × 21/31 = 3353.2
    assert.equal(charge?.amountMinor, 3_353n);
    assert.equal(feeAfter(10_000n, { kind: 'fixed', amountMinor: 2_500n }), 7_500n);
    assert.equal(feeAfter(10_000n, null), 10_000n);
  });

  it('is an invoice with its tax, and what it gives back beyond its charge goes to the balance', () => {
    const invoice = assembleChange(change(), context, {
      taxation: { kind: 'exclusive', rates: { general: [{ name: 'VAT', percent: '20' }] } },
      balanceMinor: 0n,
    });
    // 6706 − 1965 = 4741; a fifth of it is 948.2
    assert.deepEqual(
      [invoice.subtotalMinor, invoice.taxMinor, invoice.totalMinor],
      [4_741n, 948n, 5_689n],
    );
    const down = change({
      paid: { name: 'Pro', minor: 9_900n, span: january },
      next: { name: 'Starter', feeMinor: 2_900n, off: null },
    });
    const back = assembleChange(down, context, noTax);
    assert.deepEqual([back.amountDueMinor, back.balanceAppliedMinor], [0n, -4_741n]);
  });

  it('refuses a change outside of the interval', () => {
    assert.throws(() => changeLines(change({ atMs: january.endMs + 1 }), context), RangeError);
  });

  it('upgrade and undo at once net to zero, whatever the instant, fee and proration', () => {
    const fee = fc.bigInt({ min: 0n, max: 1_000_000n });
    const atMs = fc.integer({ min: january.startMs, max: january.endMs - 1 });
    fc.assert(
      fc.property(
        fee,
        fee,
        fc.record({
          atMs,
          proration: fc.constantFrom('day', 'second'),
          zone: fc.constantFrom('UTC', 'Asia/Kolkata', 'America/New_York'),
        }),
        (oldFee, newFee, more) => {
          const up = change({
            paid: { name: 'Old', minor: oldFee, span: january },
            next: { name: 'New', feeMinor: newFee, off: null },
            ...more,
          });
          const [credit, charge] = changeLines(up, context);
          assert.ok(credit !== undefined && charge !== undefined);
          const rest = { startMs: more.atMs, endMs: january.endMs };
          // The last second of an interval cannot be divided any further.
          fc.pre(rest.endMs - rest.startMs >= 1_000);
          const undo = changeLines(
            change({
              paid: { name: 'New', minor: charge.amountMinor, span: rest },
              next: { name: 'Old', feeMinor: oldFee, off: null },
              ...more,
            }),
            context,
          );
          const all = [credit, charge, ...undo];
          assert.equal(
            all.reduce((sum, line) => sum + line.amountMinor, 0n),
            0n,
          );
        },
      ),
    );
  });
});

describe('billing/plan-change › timing', () => {
  const plan = (fee: bigint, unit: 'month' | 'year' = 'month', count = 1) => ({
    interval: { unit, count },
    charges: [
      { kind: 'recurring', id: 'a', display_name: 'Fee', amount_minor: `${fee}` },
      { kind: 'one_time', id: 'b', display_name: 'Set-up', amount_minor: '99999' },
    ] satisfies Charge[],
  });
  it('a downgrade waits, everything else happens now', () => {
    assert.deepEqual(changeTiming(plan(2n), plan(1n)), { kind: 'period_end' });
    assert.deepEqual(changeTiming(plan(1n), plan(2n)), { kind: 'now', isIntervalReset: false });
    assert.deepEqual(changeTiming(plan(1n), plan(1n)), { kind: 'now', isIntervalReset: false });
  });
  it('another interval begins now, whatever it costs', () => {
    const reset = { kind: 'now', isIntervalReset: true };
    assert.deepEqual(changeTiming(plan(9n, 'year'), plan(1n)), reset);
    assert.deepEqual(changeTiming(plan(9n), plan(1n, 'month', 3)), reset);
  });
  it('counts recurring fees only', () => {
    assert.equal(recurringFee(plan(7n)), 7n);
    assert.equal(recurringFee({ charges: [] }), 0n);
  });
  it('works from ratios too', () => {
    const left = { numerator: 15n, denominator: 30n };
    const paid = { minor: 10_000n, left };
    assert.deepEqual(changeAmounts(paid, { feeMinor: 100_000n, off: half, left }), {
      creditMinor: 5_000n,
      chargeMinor: 25_000n,
    });
  });
});

describe('billing/commitment', () => {
  const terms = { commitmentMinor: 1_000_000n, feeMinor: 100_000n };
  it('makes up what is missing; commitment and fee are rounded each on its own', () => {
    assert.equal(trueUp(terms), 900_000n);
    const ratio = { numerator: 334n, denominator: 365n };
    // 915068.49 → 915068 and 91506.85 → 91507; rounded together it would be 823562.
    assert.equal(trueUp({ ...terms, ratio }), 823_561n);
  });
  it('usage counts, and what is spent beyond it gives nothing back', () => {
    assert.equal(trueUp({ ...terms, usageMinor: 899_999n }), 1n);
    assert.equal(trueUp({ ...terms, usageMinor: 900_000n }), 0n);
    assert.equal(trueUp({ ...terms, usageMinor: 900_001n }), 0n);
  });
});
