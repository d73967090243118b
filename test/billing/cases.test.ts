import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { DateTime } from 'luxon';
import {
  formatAmount,
  isCurrency,
  roundToMinor,
  allocate,
  parseAmount,
} from '../../billing/money.ts';
import { boundary, calendarDaysBetween, intervalIndexAt } from '../../billing/periods.ts';
import type { Price } from '../../billing/plan.ts';
import { billableUnits, rate, rateByTier, rateMore } from '../../billing/rate.ts';
import { taxOn } from '../../billing/tax.ts';
import { decimal } from '../../billing/decimal.ts';

/** Worked examples of the field (`cases/*.json`), run through the production code. */
type Json = { readonly [key: string]: unknown };
type Case = {
  readonly id: string;
  readonly kind: string;
  readonly input: Json;
  readonly expect: Json;
  readonly runnable: boolean;
};

function read(name: string): Case[] {
  const source = readFileSync(new URL(`cases/${name}.json`, import.meta.url), 'utf8');
  const file: { cases: Case[] } = JSON.parse(source);
  return file.cases;
}

/** Needs a feature of the rules that is not there yet: a maximum per charge, packages rounded down. */
const notYet = new Set(['T-P4', 'T-P5-250-down', 'T-U-1.00-1000']);

function text(value: unknown): string {
  assert.ok(typeof value === 'string' || typeof value === 'number', `not a text: ${String(value)}`);
  return String(value);
}

function currency(input: Json) {
  const code = text(input['currency']);
  assert.ok(isCurrency(code));
  return code;
}

function minor(amount: unknown, input: Json): bigint {
  const parsed = parseAmount(text(amount), currency(input));
  assert.ok(parsed !== null);
  return parsed;
}

/** A decimal quantity as an integer of a meter whose scale is just large enough. */
function scaled(quantity: unknown): { readonly units: bigint; readonly scale: number } {
  const [whole = '', fraction = ''] = text(quantity).split('.');
  return { units: BigInt(whole + fraction), scale: fraction.length };
}

function tiered(model: 'graduated' | 'volume', input: Json): Price {
  const tiers = input['tiers'];
  assert.ok(Array.isArray(tiers));
  return {
    model,
    tiers: tiers.map((tier: Json) => ({
      up_to: tier['upTo'] === null ? null : text(tier['upTo']),
      unit_price: text(tier['unit']),
      flat_fee: text(tier['flat']),
    })),
  };
}

function packaged(input: Json): Price {
  const package_size = text(input['packageSize']);
  return { model: 'package', package_size, package_price: text(input['price']) };
}

function same(actual: { toFixed(): string }, expected: unknown): void {
  assert.equal(decimal(actual.toFixed()).toFixed(), decimal(text(expected)).toFixed());
}

function instant(value: unknown): number {
  const time = DateTime.fromISO(text(value), { zone: 'utc' });
  assert.ok(time.isValid);
  return time.toMillis();
}

function runTiered(model: 'graduated' | 'volume') {
  return ({ input, expect }: Case): void => {
    const { units, scale } = scaled(input['quantity']);
    const rated = rateByTier(tiered(model, input), units, scale);
    same(rated.amount, expect['amount']);
    const byTier = expect['byTier'];
    if (!Array.isArray(byTier)) return;
    assert.deepEqual(
      rated.tiers.map((tier) => tier.amount),
      byTier.map((amount) => decimal(text(amount)).toFixed()),
    );
  };
}

function datesOf(anchor: unknown, months: number): string[] {
  const anchorMs = instant(anchor);
  return Array.from({ length: 40 }, (_, n) =>
    new Date(boundary(anchorMs, 'UTC', { unit: 'month', count: months }, n))
      .toISOString()
      .slice(0, 10),
  );
}

function runAnchor(months: number) {
  return ({ input, expect }: Case): void => {
    const dates = expect['dates'];
    assert.ok(Array.isArray(dates));
    const boundaries = datesOf(input['anchor'], months);
    for (const date of dates) assert.ok(boundaries.includes(text(date)), text(date));
  };
}

const runners: Readonly<Record<string, (example: Case) => void>> = {
  'money.round': ({ input, expect }) => {
    const code = currency(input);
    assert.equal(
      formatAmount(roundToMinor(text(input['amount']), code), code),
      text(expect['amount']),
    );
  },
  'money.sum_of_rounded': ({ input, expect }) => {
    const code = currency(input);
    const lines = input['lines'];
    assert.ok(Array.isArray(lines));
    const sum = lines.reduce((total: bigint, line) => total + roundToMinor(text(line), code), 0n);
    assert.equal(formatAmount(sum, code), text(expect['subtotal']));
  },
  'money.allocate': ({ input, expect }) => {
    const weights = input['weights'];
    assert.ok(Array.isArray(weights));
    const parts = allocate(
      minor(input['amount'], input),
      weights.map((weight) => BigInt(text(weight))),
    );
    assert.deepEqual(
      parts.map((part) => formatAmount(part, currency(input))),
      expect['parts'],
    );
  },
  'price.graduated': runTiered('graduated'),
  'price.volume': runTiered('volume'),
  'price.package': ({ input, expect }) => {
    const { units, scale } = scaled(input['quantity']);
    const billable = billableUnits(units, BigInt(text(input['freeUnits'] ?? '0')));
    same(rate(packaged(input), billable, scale), expect['amount']);
  },
  'price.package.delta': ({ input, expect }) => {
    const usage = {
      before: scaled(input['alreadyBilledQuantity']).units,
      total: scaled(input['quantity']).units,
    };
    same(rateMore(packaged(input), 0n, usage, 0), expect['amount']);
  },
  'price.unit': ({ input, expect }) => {
    const { units, scale } = scaled(input['quantity']);
    const exact = rate({ model: 'per_unit', unit_price: text(input['unit']) }, units, scale);
    const code = currency(input);
    assert.equal(formatAmount(roundToMinor(exact, code), code), text(expect['amount']));
  },
  'anchor.monthly': runAnchor(1),
  'anchor.quarterly': runAnchor(3),
  'period.at': ({ input, expect }) => {
    const period = expect['period'];
    assert.ok(Array.isArray(period));
    const anchorMs = instant(input['anchor']);
    const recurrence = { unit: 'month', count: Number(input['count'] ?? 1) } as const;
    const n = intervalIndexAt(anchorMs, 'UTC', recurrence, instant(input['at']));
    assert.deepEqual(
      [boundary(anchorMs, 'UTC', recurrence, n), boundary(anchorMs, 'UTC', recurrence, n + 1)],
      period.map(instant),
    );
  },
  'tax.round': ({ input, expect }) => {
    const code = currency(input);
    const tax = taxOn(minor(input['base'], input), text(input['rate']), code);
    assert.equal(formatAmount(tax, code), text(expect['tax']));
  },
  'days.dst': ({ input, expect }) => {
    const zone = text(input['tz']);
    const local = (date: unknown): number => DateTime.fromISO(text(date), { zone }).toMillis();
    const days = calendarDaysBetween(local(input['from_']), local(input['to']), zone);
    assert.equal(days, expect['days']);
  },
};

describe('billing › worked examples of the field', () => {
  for (const name of ['price', 'money', 'period', 'anchor', 'tax', 'days']) {
    for (const example of read(name)) {
      if (!example.runnable || notYet.has(example.id)) continue;
      it(`${example.kind} ${example.id}`, () => {
        const runner = runners[example.kind];
        assert.ok(runner !== undefined, `no runner for ${example.kind}`);
        runner(example);
      });
    }
  }
});
