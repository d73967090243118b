import { trueUp } from '../../billing/commitment.ts';
import type { Off } from '../../billing/discount.ts';
import { anniversaryAt } from '../../billing/periods.ts';
import { changeAmounts, changeLines, feeAfter } from '../../billing/plan-change.ts';
import type { Span } from '../../billing/ratio.ts';
import type { Fields } from './read.ts';
import {
  instantIn,
  integerIn,
  integerOr0,
  optionalText,
  ratioIn,
  timeAt,
  zoneOf,
} from './values.ts';

function committed(input: Fields): Fields {
  return {
    trueUp: trueUp({
      commitmentMinor: integerIn(input, 'commitmentCents'),
      feeMinor: integerIn(input, 'planCents'),
      usageMinor: integerOr0(input, 'usageCents'),
      ...(optionalText(input, 'ratio') !== null && { ratio: ratioIn(input, 'ratio') }),
    }),
  };
}

/** `50%`, `$25` (in major units of two places), or nothing. */
function offIn(input: Fields, name: string): Off | null {
  const text = optionalText(input, name);
  if (text === null) return null;
  const percent = /^([0-9.]+)\s*%$/.exec(text);
  if (percent !== null) return { kind: 'percent', percent: percent[1] ?? '' };
  const fixed = /^\D*?([0-9]+)(?:\.([0-9]{1,2}))?\D*$/.exec(text);
  if (fixed === null) throw new TypeError(`no discount: ${text}`);
  return { kind: 'fixed', amountMinor: BigInt((fixed[1] ?? '') + (fixed[2] ?? '').padEnd(2, '0')) };
}

/** A change within a span, through the lines that an invoice of the change has. */
function changed(input: Fields, interval: Span, isIntervalReset: boolean): Fields {
  const oldMinor = feeAfter(integerIn(input, 'oldCents'), offIn(input, 'oldDiscount'));
  const newMinor = feeAfter(integerIn(input, 'newCents'), offIn(input, 'newDiscount'));
  const atMs = instantIn(input, 'change');
  const fee = { chargeId: null, planVersionId: 'new', proration: 'second' } as const;
  // A new interval is whole: how long it is changes nothing.
  const after = isIntervalReset ? { startMs: atMs, endMs: atMs + 1000 } : interval;
  const lines = changeLines({
    atMs,
    zone: zoneOf(input),
    currency: 'USD',
    paid: [{ ...fee, name: 'old', minor: oldMinor, span: interval }],
    next: [{ ...fee, name: 'new', minor: newMinor, span: after }],
  });
  const sumOf = (kind: 'adjustment' | 'recurring'): bigint =>
    lines.reduce((sum, line) => sum + (line.kind === kind ? line.amountMinor : 0n), 0n);
  const [credit, charge] = [sumOf('adjustment'), sumOf('recurring')];
  return {
    credit: -credit,
    charge,
    net: charge + credit,
    ...(isIntervalReset && { newPeriodStart: timeAt(atMs, input) }),
  };
}

function perSecond(input: Fields): Fields {
  const span = { startMs: instantIn(input, 'periodStart'), endMs: instantIn(input, 'periodEnd') };
  return changed(input, span, false);
}

/** The old period ends where it is said to; where it began is said too, or follows from its interval. */
function intervalChange(input: Fields): Fields {
  const endMs = instantIn(input, 'periodEnd');
  const startMs =
    optionalText(input, 'periodStart') === null
      ? previousBoundary(input, endMs)
      : instantIn(input, 'periodStart');
  return changed(input, { startMs, endMs }, true);
}

/**
 * An example that does not say how long the old interval is switches between a year and a month: it is a year when the
 * change lies more than a month before the end, and otherwise when the old fee is the greater one.
 */
function previousBoundary(input: Fields, endMs: number): number {
  const before = (unit: 'month' | 'year'): number =>
    anniversaryAt(endMs, zoneOf(input), { unit, count: 1 }, endMs - 1).startMs;
  const said = optionalText(input, 'oldInterval');
  if (said === 'month' || said === 'year') return before(said);
  const isYear =
    instantIn(input, 'change') < before('month') ||
    integerIn(input, 'oldCents') > integerIn(input, 'newCents');
  return before(isYear ? 'year' : 'month');
}

function discountedChange(input: Fields): Fields {
  const left = ratioIn(input, 'ratio');
  const { creditMinor, chargeMinor } = changeAmounts(
    { minor: feeAfter(integerIn(input, 'oldCents'), offIn(input, 'oldDiscount')), left },
    { feeMinor: integerIn(input, 'newCents'), off: offIn(input, 'newDiscount'), left },
  );
  return { credit: creditMinor, charge: chargeMinor, net: chargeMinor - creditMinor };
}

export const changeRunners = {
  'commitment.trueup': committed,
  'plan_change.per_second': perSecond,
  'plan_change.interval_change': intervalChange,
  'plan_change.discount': discountedChange,
} as const;
