import { trueUp } from '../../billing/commitment.ts';
import type { Off } from '../../billing/discount.ts';
import { type Currency, isCurrency, parseAmount } from '../../billing/money.ts';
import { anniversaryAt, boundary } from '../../billing/periods.ts';
import { changeAmounts, changeLines, feeAfter } from '../../billing/plan-change.ts';
import { prorate, type Proration, ratioLeft, type Span } from '../../billing/ratio.ts';
import type { Given } from './given.ts';
import type { Fields } from './read.ts';
import { type Every, instantIn, intervalOf, timeAt, zoneOf } from './times.ts';
import {
  countIn,
  currencyOf,
  integerIn,
  integerOr0,
  nameOf,
  optionalText,
  ratioIn,
  textOf,
} from './values.ts';

function committed(given: Given): Fields {
  currencyOf(given);
  return {
    trueUp: trueUp({
      commitmentMinor: integerIn(given, 'commitmentCents'),
      feeMinor: integerIn(given, 'planCents'),
      usageMinor: integerOr0(given, 'usageCents'),
      ...(given.has('ratio') && { ratio: ratioIn(given, 'ratio') }),
    }),
  };
}

const marks: Readonly<Partial<Record<string, Currency>>> = {
  $: 'USD',
  '€': 'EUR',
  '£': 'GBP',
  '¥': 'JPY',
  '₹': 'INR',
};

/**
 * `50%`, an amount with its currency (`$25`, `$1,000.50`, `€5`, `25 USD`), or nothing.
 * @throws RangeError for anything else: a bare number could be a percentage or an amount.
 */
function offIn(given: Given, name: string): Off | null {
  const text = optionalText(given, name);
  if (text === null) return null;
  const percent = /^([0-9]+(?:\.[0-9]+)?)\s*%$/.exec(text)?.[1];
  if (percent !== undefined) return { kind: 'percent', percent };
  const amountMinor = amountIn(given, text);
  if (amountMinor === null) {
    throw new RangeError(
      `${given.pathOf(name)} is neither a percentage nor an amount with its currency: ${text}`,
    );
  }
  return { kind: 'fixed', amountMinor };
}

/** Null for a text that is no amount, or names no currency. @throws RangeError when it names another than the input. */
function amountIn(given: Given, text: string): bigint | null {
  const [, mark = '', before, digits = '', after] =
    /^(?:([$€£¥₹])|([A-Z]{3}) ?)?([0-9][0-9,]*(?:\.[0-9]+)?)(?: ?([A-Z]{3}))?$/.exec(text) ?? [];
  const code = before ?? after;
  const named = code ?? marks[mark];
  if (named === undefined || !isCurrency(named)) return null;
  const currency = given.has('currency') ? currencyOf(given) : named;
  // `$` and `¥` are the marks of several.
  if (code !== undefined && code !== currency) {
    throw new RangeError(`${text} is not in the currency of the fees, ${currency}`);
  }
  return parseAmount(digits.replaceAll(/,(?=[0-9]{3}(?:[,.]|$))/g, ''), currency);
}

type Change = { readonly atMs: number; readonly old: Span; readonly next: Span };

/** A change within a span, through the lines that an invoice of the change has. */
function changed(given: Given, { atMs, old, next }: Change, byDefault: Proration): Fields {
  const oldMinor = feeAfter(integerIn(given, 'oldCents'), offIn(given, 'oldDiscount'));
  const newMinor = feeAfter(integerIn(given, 'newCents'), offIn(given, 'newDiscount'));
  const proration = prorationIn(given) ?? byDefault;
  const fee = { chargeId: null, planVersionId: 'new', proration } as const;
  const lines = changeLines({
    atMs,
    zone: zoneOf(given),
    currency: currencyOf(given),
    paid: [{ ...fee, name: 'old', minor: oldMinor, span: old }],
    next: [{ ...fee, name: 'new', minor: newMinor, span: next }],
  });
  const sumOf = (kind: 'adjustment' | 'recurring'): bigint =>
    lines.reduce((sum, line) => sum + (line.kind === kind ? line.amountMinor : 0n), 0n);
  const [credit, charge] = [sumOf('adjustment'), sumOf('recurring')];
  return { credit: -credit, charge, net: charge + credit };
}

function prorationIn(given: Given): Proration | null {
  const said = optionalText(given, 'proration');
  if (said === null || said === 'day' || said === 'second') return said;
  throw new RangeError(`${given.pathOf('proration')} is neither day nor second: ${said}`);
}

function withinPeriod(byDefault: Proration): (given: Given) => Fields {
  return (given) => {
    const span = { startMs: instantIn(given, 'periodStart'), endMs: instantIn(given, 'periodEnd') };
    return changed(given, { atMs: instantIn(given, 'change'), old: span, next: span }, byDefault);
  };
}

/** The anchor moves to the change, and the new interval is charged whole. */
function intervalChange(given: Given): Fields {
  const [atMs, endMs] = [instantIn(given, 'change'), instantIn(given, 'periodEnd')];
  const every = everyIn(given, ['newInterval', 'toInterval'], 'newCount');
  // How long a whole interval is changes nothing: a second of an interval that is not named stands for it.
  const next =
    every === null
      ? { startMs: atMs, endMs: atMs + 1000 }
      : anniversaryAt(atMs, zoneOf(given), every, atMs);
  const startMs = oldStart(given, endMs, every);
  if (startMs > atMs) throw new RangeError('the old period begins after the change');
  return {
    ...changed(given, { atMs, old: { startMs, endMs }, next }, 'day'),
    newPeriodStart: timeAt(atMs, given),
    ...(every !== null && { newPeriodEnd: timeAt(next.endMs, given) }),
  };
}

function everyIn(given: Given, names: readonly string[], count: string): Every | null {
  const name = nameOf(given, names);
  return name === null ? null : intervalOf(textOf(given, name), countIn(given, count));
}

const month: Every = { unit: 'month', count: 1 };
const year: Every = { unit: 'year', count: 1 };
const rare: readonly Every[] = [
  { unit: 'week', count: 1 },
  { unit: 'month', count: 3 },
  { unit: 'month', count: 6 },
  ...[2, 3, 4, 5].map((count): Every => ({ unit: 'year', count })),
];

/**
 * Where the old period began: as the example says, else one old interval (`oldInterval`) before its end. Where neither is
 * said, the interval is inferred from what the example does say, never from what it expects:
 *
 * 1. The period holds the change, so no interval is possible that is shorter than what is left of it.
 * 2. The interval changes, so it is not the new one, where that is named (`newInterval`).
 * 3. The longer of two intervals has the greater fee, where the new one is named.
 * 4. Switches are between a month and a year unless these rules leave neither; then the shortest other interval is taken.
 *    Of both a month and a year, it is the year when the old fee is the greater one (a fee for a year replaced by one for
 *    a month), or where the new interval is named, when the fees are nearer to a year's share of it.
 */
function oldStart(given: Given, endMs: number, next: Every | null): number {
  const zone = zoneOf(given);
  const before = (every: Every): number => anniversaryAt(endMs, zone, every, endMs - 1).startMs;
  const said = everyIn(given, ['oldInterval', 'fromInterval'], 'oldCount');
  if (given.has('periodStart')) return instantIn(given, 'periodStart');
  if (said !== null) return before(said);
  const [atMs, oldFee, newFee] = [
    instantIn(given, 'change'),
    integerIn(given, 'oldCents'),
    integerIn(given, 'newCents'),
  ];
  const isPossible = (every: Every): boolean =>
    before(every) <= atMs && (next === null || lengthOf(every) !== lengthOf(next));
  const fitsFees = (every: Every): boolean =>
    next === null || lengthOf(every) > lengthOf(next) === oldFee > newFee;
  // Between the two of them lies their geometric mean: (old fee ÷ new fee)² against month × year ÷ (new interval)².
  const isNearerToYear =
    next === null
      ? oldFee > newFee
      : oldFee ** 2n * lengthOf(next) ** 2n > newFee ** 2n * lengthOf(month) * lengthOf(year);
  const usual = isNearerToYear ? [year, month] : [month, year];
  const all = [...usual, ...rare];
  const old =
    all.find((every) => isPossible(every) && fitsFees(every)) ?? all.find(isPossible) ?? null;
  if (old === null) throw new RangeError('nothing tells how long the old interval is');
  return before(old);
}

/** About how long an interval is, in hours, to tell which of two is the longer one; twelve months are a year. */
function lengthOf({ unit, count }: Every): bigint {
  return BigInt(count) * { hour: 1n, day: 24n, week: 168n, month: 730n, year: 8760n }[unit];
}

/** What of both fees is left is said, or follows from the dates of a period. */
function discountedChange(given: Given): Fields {
  if (!given.has('ratio')) return withinPeriod('day')(given);
  const left = ratioIn(given, 'ratio');
  const { creditMinor, chargeMinor } = changeAmounts(
    { minor: feeAfter(integerIn(given, 'oldCents'), offIn(given, 'oldDiscount')), left },
    { feeMinor: integerIn(given, 'newCents'), off: offIn(given, 'newDiscount'), left },
  );
  return { credit: creditMinor, charge: chargeMinor, net: chargeMinor - creditMinor };
}

/** A downgrade begins in a year (or month) that ends with a day, and is charged for what is left of it. */
function downgraded(given: Given): Fields {
  const zone = zoneOf(given);
  const days = { unit: 'day', count: 1, billing_time: 'calendar' } as const;
  const endMs = boundary(instantIn(given, 'until'), zone, days, 1);
  const fee = nameOf(given, ['newYearlyCents', 'newMonthlyCents']) ?? 'newYearlyCents';
  const interval = fee === 'newYearlyCents' ? year : month;
  const span = anniversaryAt(endMs, zone, interval, endMs - 1);
  const left = ratioLeft(instantIn(given, 'effective'), span, zone, prorationIn(given) ?? 'day');
  return { newFee: prorate(integerIn(given, fee), left) };
}

export const changeRunners = {
  'commitment.trueup': committed,
  'plan_change.per_second': withinPeriod('second'),
  'plan_change.per_day': withinPeriod('day'),
  'plan_change.interval_change': intervalChange,
  'plan_change.discount': discountedChange,
  'plan_change.downgrade': downgraded,
} as const;
