import { anniversaryAt, calendarDaysBetween, firstBillDate } from '../../billing/periods.ts';
import type { Fields } from './read.ts';
import {
  instantIn,
  intervalOf,
  listOf,
  optionalText,
  textOf,
  timeAt,
  timeOf,
  zoneOf,
} from './values.ts';

/** Each date that is expected is answered by the boundary at or before it. */
function anchored(spelling: string): (input: Fields, expect: Fields) => Fields {
  return (input, expect) => {
    const zone = zoneOf(input);
    const anchorMs = instantIn(input, 'anchor');
    const every = intervalOf(spelling, Number(optionalText(input, 'count') ?? '1'));
    const boundaryAt = (date: string): number =>
      anniversaryAt(anchorMs, zone, every, timeOf(date, zone).endOf('day').toMillis()).startMs;
    return { dates: listOf(expect, 'dates').map((date) => timeAt(boundaryAt(date), input)) };
  };
}

function periodAt(input: Fields): Fields {
  const every = intervalOf(textOf(input, 'interval'), Number(optionalText(input, 'count') ?? '1'));
  const { startMs, endMs } = anniversaryAt(
    instantIn(input, 'anchor'),
    zoneOf(input),
    every,
    instantIn(input, 'at'),
  );
  return { period: [timeAt(startMs, input), timeAt(endMs, input)] };
}

function daysBetween(input: Fields): Fields {
  const from = input['from_'] === undefined ? 'from' : 'from_';
  return {
    days: calendarDaysBetween(instantIn(input, from), instantIn(input, 'to'), zoneOf(input)),
  };
}

function firstBill(input: Fields): Fields {
  const day = Number(textOf(input, 'billCycleDay'));
  return { first: timeAt(firstBillDate(instantIn(input, 'start'), day, zoneOf(input)), input) };
}

export const calendarRunners = {
  'anchor.hourly': anchored('hour'),
  'anchor.daily': anchored('day'),
  'anchor.weekly': anchored('week'),
  'anchor.monthly': anchored('month'),
  'anchor.quarterly': anchored('quarter'),
  'anchor.semiannual': anchored('semiannual'),
  'anchor.yearly': anchored('year'),
  'anchor.annual': anchored('year'),
  'period.at': periodAt,
  'days.dst': daysBetween,
  first_bill_date: firstBill,
} as const;
