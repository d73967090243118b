import { decimal, type Decimal, Exact, tenTo } from './decimal.ts';
import type { Minor } from './money.ts';
import { calendarDaysBetween } from './periods.ts';

/** An exact part of a whole: `numerator / denominator`, the denominator above zero. */
export type Ratio = { readonly numerator: bigint; readonly denominator: bigint };

/** The whole itself. */
export const wholeRatio: Ratio = { numerator: 1n, denominator: 1n };

/** How a plan shares a fee over time: by calendar days of the subscriber's zone, or by seconds. */
export type Proration = 'day' | 'second';

/** A span of time, epoch milliseconds, half-open. */
export type Span = { readonly startMs: number; readonly endMs: number };

/**
 * An integer fraction rounded half away from zero.
 * @throws RangeError when the denominator is not above zero.
 */
export function divideRounded(numerator: bigint, denominator: bigint): bigint {
  if (denominator <= 0n) throw new RangeError('a denominator lies above zero');
  const rounded =
    (2n * (numerator < 0n ? -numerator : numerator) + denominator) / (2n * denominator);
  return numerator < 0n ? -rounded : rounded;
}

/** A part of an amount, rounded once: 10000n × 11/29 → 3793n. */
export function prorate(amount: Minor, ratio: Ratio): Minor {
  return divideRounded(amount * ratio.numerator, ratio.denominator);
}

/** A decimal number (`8.875`) as an exact fraction. @throws RangeError when the text is not a plain decimal. */
export function ratioOf(text: string): Ratio {
  const value: Decimal = decimal(text);
  const places = value.decimalPlaces();
  return {
    numerator: BigInt(value.times(tenTo(places)).toFixed(0)),
    denominator: BigInt(new Exact(10).pow(places).toFixed(0)),
  };
}

/**
 * What part of a span lies from an instant on: the day of that instant counts as left, so that it belongs to what comes
 * after a change. Zero at the end of the span, the whole at its start. A span within one day is shared by seconds.
 * @throws RangeError when the instant lies outside of the span, or the span is shorter than a second.
 */
export function ratioLeft(atMs: number, span: Span, zone: string, proration: Proration): Ratio {
  const { startMs, endMs } = span;
  if (atMs < startMs || atMs > endMs) {
    throw new RangeError('the instant lies outside of the span');
  }
  const days = BigInt(calendarDaysBetween(startMs, endMs, zone));
  if (proration === 'day' && days > 0n) {
    return { numerator: BigInt(calendarDaysBetween(atMs, endMs, zone)), denominator: days };
  }
  const denominator = secondsBetween(startMs, endMs);
  if (denominator <= 0n) throw new RangeError('the span is shorter than a second');
  return { numerator: secondsBetween(atMs, endMs), denominator };
}

function secondsBetween(fromMs: number, untilMs: number): bigint {
  return BigInt(Math.floor(untilMs / 1000) - Math.floor(fromMs / 1000));
}

/** A part in words: `15 of 31 days`. */
export function ratioText({ numerator, denominator }: Ratio, proration: Proration): string {
  return `${numerator} of ${denominator} ${proration}s`;
}
