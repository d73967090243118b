import assert from 'node:assert/strict';
import fc from 'fast-check';
import { trueUp } from '../../billing/commitment.ts';
import type { Off } from '../../billing/discount.ts';
import {
  changeAmounts,
  changeLines,
  changeTiming,
  type FeeChange,
  feeAfter,
  recurringFee,
  type SpanFee,
} from '../../billing/plan-change.ts';
import type { Charge } from '../../billing/plan.ts';
import { calendarDaysBetween } from '../../billing/periods.ts';
import { totalUp } from '../../billing/totals.ts';

const utc = (text: string): number => Date.parse(`${text}Z`);
const january = { startMs: utc('2025-01-01T00:00'), endMs: utc('2025-02-01T00:00') };
const half: Off = { kind: 'percent', percent: '50' };

function fee(name: string, minor: bigint, more: Partial<SpanFee> = {}): SpanFee {
  return {
    ...{ chargeId: `chg_${name}`, planVersionId: `pver_${name}`, name, minor },
    ...{ span: january, proration: 'day' },
    ...more,
  };
}
function change(more: Partial<FeeChange> = {}): FeeChange {
  return {
    ...{ atMs: utc('2025-01-11T15:00'), zone: 'UTC', currency: 'USD' },
    paid: [fee('Starter', 2_900n)],
    next: [fee('Pro', 9_900n)],
    ...more,
  };
}

describe('billing/plan-change › lines', () => {
  it('gives back what is left of the old fee and charges what is left of the new one', () => {
    const lines = changeLines(change());
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
    // Each line says whose fee it is, so that it is taxed like it, and which time it is for.
    assert.deepEqual(
      lines.map((line) => [line.chargeId, line.planVersionId, line.covers]),
      ['Starter', 'Pro'].map((name) => [
        `chg_${name}`,
        `pver_${name}`,
        { startMs: utc('2025-01-11T15:00'), endMs: january.endMs },
      ]),
    );
  });

  it('at the start of the interval both fees are whole, and say so', () => {
    const lines = changeLines(change({ atMs: january.startMs }));
    assert.deepEqual(
      lines.map((line) => [line.description, line.amountMinor, line.unitPrice]),
      [
        ['Unused part of Starter', -2_900n, '-29.00'],
        ['Pro', 9_900n, '99.00'],
      ],
    );
  });

  it('by seconds where the plan says so, each side as its own plan says', () => {
    const atMs = utc('2025-01-16T12:00');
    const bySecond = changeLines(
      change({
        atMs,
        paid: [fee('Starter', 2_900n, { proration: 'second' })],
        next: [fee('Pro', 9_900n)],
      }),
    );
    assert.deepEqual(
      bySecond.map((line) => line.amountMinor),
      // 9900 × 16/31 = 5109.7
      [-1_450n, 5_110n],
    );
  });

  it('a new interval begins with the change and is charged whole', () => {
    const atMs = utc('2025-01-11T15:00');
    const year = { startMs: atMs, endMs: utc('2026-01-11T15:00') };
    const [credit, charge] = changeLines(change({ next: [fee('Pro', 9_900n, { span: year })] }));
    assert.deepEqual([credit?.amountMinor, charge?.amountMinor], [-1_965n, 9_900n]);
    assert.deepEqual([charge?.description, charge?.covers], ['Pro', year]);
  });

  it('what was paid for time that has not begun is given back whole', () => {
    const february = { startMs: january.endMs, endMs: utc('2025-03-01T00:00') };
    const lines = changeLines(change({ paid: [fee('A', 2_800n, { span: february })], next: [] }));
    assert.deepEqual(
      lines.map((line) => [line.description, line.amountMinor, line.covers]),
      [['Unused part of A', -2_800n, february]],
    );
  });

  it('discounts come before proration: what is given back is what was paid', () => {
    const next = fee('Pro', feeAfter(9_900n, half), { discountMinor: 4_950n });
    const [, charge] = changeLines(change({ next: [next] }));
    // 4950 × 21/31 = 3353.2
    assert.deepEqual(
      [charge?.description, charge?.amountMinor],
      ['Pro, less $49.50 (21 of 31 days)', 3_353n],
    );
    const taken = fee('Pro', 0n, { discountMinor: 9_900n });
    assert.deepEqual(
      changeLines(change({ paid: [], next: [taken, fee('Free', 0n)] })).map((line) => [
        line.description,
        line.amountMinor,
        line.covers?.endMs,
      ]),
      [['Pro, less $99.00 (21 of 31 days)', 0n, january.endMs]],
      'its time is billed, though it costs nothing; a fee of nothing has no line',
    );
    assert.equal(feeAfter(10_000n, { kind: 'fixed', amountMinor: 2_500n }), 7_500n);
    assert.equal(feeAfter(10_000n, null), 10_000n);
  });

  it('is taxed like every invoice, and what it gives back beyond its charge goes to the balance', () => {
    const vat = {
      kind: 'exclusive',
      rates: { general: [{ name: 'VAT', percent: '20' }] },
    } as const;
    const of = { coupons: [], taxation: vat, balanceMinor: 0n } as const;
    const invoice = totalUp(changeLines(change()), of);
    // 6706 − 1965 = 4741; a fifth of it is 948.2
    assert.deepEqual(
      [invoice.subtotalMinor, invoice.taxMinor, invoice.totalMinor],
      [4_741n, 948n, 5_689n],
    );
    const down = change({ paid: [fee('Pro', 9_900n)], next: [fee('Starter', 2_900n)] });
    const back = totalUp(changeLines(down), of);
    assert.deepEqual([back.amountDueMinor, back.balanceAppliedMinor], [0n, -5_689n]);
  });

  it('has no line for a fee of nothing, nor for no time', () => {
    assert.deepEqual(changeLines(change({ paid: [fee('Free', 0n)], next: [] })), []);
    assert.deepEqual(changeLines(change({ atMs: january.endMs })), []);
    const moment = { startMs: january.endMs + 100, endMs: january.endMs + 900 };
    const last = change({ atMs: moment.startMs, paid: [fee('A', 5n, { span: moment })], next: [] });
    assert.deepEqual(changeLines(last), []);
  });

  it('refuses a change outside of the interval', () => {
    assert.throws(() => changeLines(change({ atMs: january.endMs + 1 })), RangeError);
  });

  const zones = fc.constantFrom('UTC', 'Asia/Kolkata', 'America/New_York');
  const minor = fc.bigInt({ min: 0n, max: 1_000_000n });
  const net = (lines: readonly { readonly amountMinor: bigint }[]): bigint =>
    lines.reduce((sum, line) => sum + line.amountMinor, 0n);
  /** What a charge line paid for, as the next change finds it. */
  const paidBy = (lines: ReturnType<typeof changeLines>, proration: SpanFee['proration']) =>
    lines
      .filter(({ kind }) => kind === 'recurring')
      .map((line) => fee('New', line.amountMinor, { span: line.covers ?? january, proration }));

  it('upgrade and undo at once net to zero with tax, whatever the instant, fee and proration', () => {
    const instant = fc.integer({ min: january.startMs, max: january.endMs - 1 });
    const percent = fc.constantFrom('0', '8.875', '19', '33.3333');
    const taxed = fc.constantFrom('exclusive', 'inclusive');
    const by = fc.constantFrom('day', 'second');
    fc.assert(
      fc.property(minor, minor, instant, zones, by, taxed, percent, (...of) => {
        const [oldFee, newFee, atMs, zone, proration, kind, rate] = of;
        const at = { atMs, zone };
        const old = fee('Old', oldFee, { proration });
        const up = changeLines(
          change({ ...at, paid: [old], next: [fee('New', newFee, { proration })] }),
        );
        const undo = changeLines(change({ ...at, paid: paidBy(up, proration), next: [old] }));
        const settled = [up, undo].map(
          (lines) =>
            totalUp(lines, {
              ...{ coupons: [], balanceMinor: 0n },
              taxation: { kind, rates: { general: [{ name: 'VAT', percent: rate }] } },
            }).totalMinor,
        );
        assert.equal(net([...up, ...undo]), 0n);
        assert.equal((settled[0] ?? 0n) + (settled[1] ?? 0n), 0n);
      }),
    );
  });

  it('gives back no more than was paid, and of a fee for a part no more than that part', () => {
    fc.assert(
      fc.property(minor, fc.nat(31 * 24), zones, (paid, hour, zone) => {
        const atMs = january.startMs + hour * 3_600_000;
        const lines = changeLines(change({ atMs, zone, paid: [fee('A', paid)], next: [] }));
        assert.ok(net(lines) <= 0n && -net(lines) <= paid);
      }),
    );
  });

  it('a chain of changes costs what its days cost, to half a cent for each line', () => {
    const days = fc.uniqueArray(fc.integer({ min: 1, max: 30 }), { minLength: 1, maxLength: 8 });
    fc.assert(
      fc.property(
        minor,
        fc.array(minor, { minLength: 8, maxLength: 8 }),
        days,
        (first, fees, given) => {
          const sorted = given.toSorted((a, b) => a - b);
          let paid: readonly SpanFee[] = [fee('First', first)];
          let billed = first;
          let lineCount = 0;
          for (const [index, day] of sorted.entries()) {
            const atMs = january.startMs + day * 86_400_000;
            const lines = changeLines(
              change({ atMs, paid, next: [fee(`Plan ${index}`, fees[index] ?? 0n)] }),
            );
            billed += net(lines);
            lineCount += lines.length;
            paid = paidBy(lines, 'day');
          }
          const bounds = [...sorted, 31];
          const prices = [first, ...fees];
          // In 31sts: each plan's days times its price.
          const exact = [0, ...sorted].reduce(
            (sum, from, index) => sum + BigInt((bounds[index] ?? 0) - from) * (prices[index] ?? 0n),
            0n,
          );
          assert.equal(calendarDaysBetween(january.startMs, january.endMs, 'UTC'), 31);
          // What a charge was rounded by is given back with its credit, but for the days that it was used.
          const error = billed * 31n - exact;
          assert.ok(2n * (error < 0n ? -error : error) <= BigInt(lineCount) * 31n);
        },
      ),
    );
  });
});

describe('billing/plan-change › timing', () => {
  const plan = (feeMinor: bigint, unit: 'month' | 'year' = 'month', count = 1) => ({
    interval: { unit, count },
    charges: [
      { kind: 'recurring', id: 'a', display_name: 'Fee', amount_minor: `${feeMinor}` },
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
    const byCalendar = { ...plan(1n), billing_time: 'calendar' } as const;
    assert.deepEqual(changeTiming(plan(9n), byCalendar), reset);
    assert.deepEqual(changeTiming({ ...byCalendar, billing_time: 'anniversary' }, plan(2n)), {
      kind: 'now',
      isIntervalReset: false,
    });
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
