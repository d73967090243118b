import assert from 'node:assert/strict';
import {
  finalize,
  giveUp,
  type InvoiceState,
  isOwed,
  pay,
  standing,
  withdraw,
} from '../../billing/invoice-state.ts';
import { assembleInvoice, type InvoiceInput } from '../../billing/invoice.ts';
import { thresholdInvoice, usageCost, usedUntil } from '../../billing/progressive.ts';
import type { BillableDefinition, MeterDefinition, UsageCharge } from '../../billing/plan.ts';
import { january, runOf } from './bill.ts';

const number = 'INV-2025-0042';
const inputOf = (runs: Pick<InvoiceInput, 'earlier' | 'current'>): InvoiceInput => ({
  ...{ zone: 'UTC', ...january, fees: [], late: [], minimum: 'later', commitment: null },
  ...{ coupons: [], balanceMinor: 0n, taxation: { kind: 'exclusive', rates: { general: [] } } },
  ...runs,
});

describe('billing/invoice-state', () => {
  const open = finalize({ state: 'draft' }, { number, amountDueMinor: 1n, atMs: 5 });

  it('finalizing gives the number; what owes nothing is paid at once', () => {
    const owed = finalize({ state: 'draft' }, { number, amountDueMinor: 1n, atMs: 5 });
    assert.deepEqual(owed, { state: 'open', number, finalizedAtMs: 5 });
    for (const amountDueMinor of [0n, -1n]) {
      assert.deepEqual(finalize({ state: 'draft' }, { number, amountDueMinor, atMs: 5 }), {
        ...{ state: 'paid', number, finalizedAtMs: 5 },
        ...{ paidAtMs: 5, by: 'nothing_due' },
      });
    }
  });

  it('an open invoice is paid, withdrawn or given up, and keeps its number', () => {
    assert.ok(open.state === 'open');
    const kept = { number, finalizedAtMs: 5 };
    assert.deepEqual(pay(open, 'out_of_band', 9), {
      ...{ state: 'paid', ...kept },
      ...{ paidAtMs: 9, by: 'out_of_band' },
    });
    assert.deepEqual(withdraw(open, 9), { state: 'void', ...kept, voidedAtMs: 9 });
    assert.deepEqual(giveUp(open, 9), { state: 'uncollectible', ...kept, givenUpAtMs: 9 });
  });

  it('what was given up is still paid or withdrawn, and forgets that it was given up', () => {
    assert.ok(open.state === 'open');
    const given = giveUp(open, 9);
    const kept = { number, finalizedAtMs: 5 };
    assert.deepEqual(pay(given, 'out_of_band', 12), {
      ...{ state: 'paid', ...kept },
      ...{ paidAtMs: 12, by: 'out_of_band' },
    });
    assert.deepEqual(withdraw(given, 12), { state: 'void', ...kept, voidedAtMs: 12 });
  });

  it('no other way leads from one state to another', () => {
    const states = ['draft', 'open', 'paid', 'void', 'uncollectible'] as const;
    assert.deepEqual(states.filter(isOwed), ['open', 'uncollectible']);
    const paid = { state: 'paid', number, finalizedAtMs: 5, paidAtMs: 9, by: 'payment' } as const;
    const gone = { state: 'void', number, finalizedAtMs: 5, voidedAtMs: 9 } as const;
    const given = { state: 'uncollectible', number, finalizedAtMs: 5, givenUpAtMs: 9 } as const;
    const final = { number, amountDueMinor: 1n, atMs: 5 };
    // The compiler is the check: each of these must not compile.
    const impossible: readonly (() => InvoiceState)[] = [
      // @ts-expect-error What is paid is not withdrawn: it is credited.
      () => withdraw(paid, 10),
      // @ts-expect-error What is paid is not paid again.
      () => pay(paid, 'payment', 10),
      // @ts-expect-error What is void is not paid.
      () => pay(gone, 'payment', 10),
      // @ts-expect-error What is void is not withdrawn again.
      () => withdraw(gone, 10),
      // @ts-expect-error What is void is not given up.
      () => giveUp(gone, 10),
      // @ts-expect-error What was given up is not given up again.
      () => giveUp(given, 10),
      // @ts-expect-error A draft has no number yet: it is finalized first.
      () => pay({ state: 'draft' }, 'payment', 10),
      // @ts-expect-error What is final is not finalized again.
      () => finalize(given, final),
    ];
    void impossible;
  });

  const money = {
    ...{ totalMinor: 100n, balanceAppliedMinor: 0n, creditedMinor: 0n },
    ...{ paidMinor: 0n, refundedMinor: 0n },
  };
  it('money that a subscriber has with the operator lowers what is due', () => {
    assert.deepEqual(standing({ ...money, balanceAppliedMinor: 20n }), {
      dueMinor: 80n,
      overpaidMinor: 0n,
    });
  });
  it('a credit on what is paid is the subscriber’s money', () => {
    assert.deepEqual(standing({ ...money, paidMinor: 100n, creditedMinor: 10n }), {
      dueMinor: 0n,
      overpaidMinor: 10n,
    });
  });
  it('a refund alone makes the invoice due again; with a credit note it does not', () => {
    assert.deepEqual(standing({ ...money, paidMinor: 100n, refundedMinor: 10n }), {
      dueMinor: 10n,
      overpaidMinor: 0n,
    });
    const both = { ...money, paidMinor: 100n, refundedMinor: 10n, creditedMinor: 10n };
    assert.deepEqual(standing(both), { dueMinor: 0n, overpaidMinor: 0n });
  });
});

describe('billing/progressive', () => {
  it('a threshold is reached once: what comes after it waits for the end', () => {
    const first = thresholdInvoice([20_000n], { ratedMinor: 20_000n, billedMinor: 0n });
    assert.deepEqual(first, { thresholdMinor: 20_000n, amountMinor: 20_000n });
    assert.equal(thresholdInvoice([20_000n], { ratedMinor: 40_000n, billedMinor: 20_000n }), null);
  });
  it('two thresholds, usage of 200.00 three times', () => {
    const thresholds = [20_000n, 50_000n];
    const billed: bigint[] = [];
    for (const ratedMinor of [20_000n, 40_000n, 60_000n]) {
      const billedMinor = billed.reduce((sum, amount) => sum + amount, 0n);
      const due = thresholdInvoice(thresholds, { ratedMinor, billedMinor });
      if (due !== null) billed.push(due.amountMinor);
    }
    assert.deepEqual(billed, [20_000n, 40_000n]);
  });
  it('of several thresholds that are passed at once the highest is named', () => {
    const usage = { ratedMinor: 61n, billedMinor: 0n };
    assert.deepEqual(thresholdInvoice([60n, 20n, 70n, 50n], usage), {
      thresholdMinor: 60n,
      amountMinor: 61n,
    });
    assert.equal(thresholdInvoice([20n, 50n, 60n], usage)?.thresholdMinor, 60n);
    assert.equal(thresholdInvoice([20n], { ratedMinor: 19n, billedMinor: 0n }), null);
    assert.equal(thresholdInvoice([], usage), null);
  });
  it('a level that stands costs what it has cost so far', () => {
    const meter: MeterDefinition = {
      ...{ id: 'mtr', key: 'seats', name: 'Seats', unit_one: 'seat', unit_other: 'seats' },
      ...{ scale: 0, aggregation: 'WEIGHTED_SUM' },
    };
    const price = { model: 'per_unit', unit_price: '1' } as const;
    const charge: UsageCharge = {
      ...{ kind: 'usage', id: 'chg', display_name: 'Seats', meter, price, included_units: '0' },
    };
    const definition: BillableDefinition = { currency: 'USD', credits: null, charges: [charge] };
    const { startMs } = january;
    const days = (n: number): number => startMs + n * 86_400_000;
    const row = { quantity: 0n, eventCount: 1n, maxQuantity: 0n, latestQuantity: 0n, latestAt: 0 };
    const levels = [{ atMs: startMs, quantity: 31n }];
    const levelsOf = { interval: january, billedUntilMs: startMs };
    const usage = [{ meterId: 'mtr', billedBefore: [], thisPeriod: [{ ...row, levels }] }];
    const run = (from: number, until: number) =>
      runOf(definition, {
        ...{ startMs: days(from), endMs: days(until), levels: levelsOf },
        usage:
          from === 0
            ? usage
            : [{ meterId: 'mtr', carried: levels, billedBefore: [], thisPeriod: [] }],
      });
    const input = inputOf({ earlier: [run(0, 10)], current: run(10, 31) });
    const costAt = (day: number): bigint =>
      usageCost(assembleInvoice(usedUntil(input, days(day))).lines);
    assert.deepEqual([0, 5, 10, 12, 31, 40].map(costAt), [
      0n,
      500n,
      1_000n,
      1_200n,
      3_100n,
      3_100n,
    ]);
  });
  it('usage, what a maximum takes off it, and overage count; fees, minimums and late usage do not', () => {
    const flat = { model: 'flat' } as const;
    const bound = {
      bound_minor: '0',
      rated_minor: '0',
      rated_before_minor: '0',
      bounded_minor: '0',
      bounded_before_minor: '0',
    };
    const lines = [
      { kind: 'usage', details: flat, amountMinor: 1n },
      { kind: 'overage', details: flat, amountMinor: 20n },
      { kind: 'usage', details: { ...bound, model: 'maximum' }, amountMinor: -300n },
      { kind: 'usage', details: { ...bound, model: 'minimum' }, amountMinor: 4_000n },
      { kind: 'recurring', details: flat, amountMinor: 50_000n },
      { kind: 'one_time', details: flat, amountMinor: 600_000n },
      { kind: 'adjustment', details: flat, amountMinor: 7_000_000n },
    ] as const;
    assert.equal(usageCost(lines), -279n);
    assert.equal(usageCost([]), 0n);
  });
});
