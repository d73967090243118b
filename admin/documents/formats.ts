/** Amounts, prices, percentages and dates as a locale writes them, from exact decimal texts: nothing becomes a float. */
import { type Currency, formatAmount, placesOf } from '../../billing/money.ts';
import { formatPeriod } from '../../billing/periods.ts';

export type Formats = {
  readonly locale: string;
  /** The paper of the locale's region. */
  readonly paper: 'A4' | 'LETTER';
  /** Minor units of the document's currency. */
  readonly money: (minor: bigint) => string;
  /** Decimal text of major units: the currency's places or, where the text is finer, as many as it has. */
  readonly price: (major: string) => string;
  readonly quantity: (decimalText: string) => string;
  readonly percent: (decimalText: string) => string;
  /** In the subscriber's zone. */
  readonly date: (at: Date) => string;
  /** Half-open, with its last day; in English as everywhere in the product: `Jan 1 – Jan 31, 2025`. */
  readonly period: (startAt: Date, endAt: Date) => string;
};

/** Where letters are written on Letter: North America, and what follows it. */
const letterRegions = new Set(
  'US CA MX PR GT SV HN NI CR PA DO CO VE CL PH BZ GU VI AS'.split(' '),
);

const fallbackLocale = 'en-US';

/** Scripts of dates and currencies that the fonts of the PDF hold. */
const scripts = new Set(['Latn', 'Cyrl', 'Grek', 'Deva', 'Jpan', 'Hans', 'Hant']);

/**
 * The locale that a document is written in, in its canonical spelling. Where no font of ours holds its script, it is English as
 * written in its region (`ar-EG` → `en-EG`); what is no locale is `en-US`.
 */
export function documentLocale(text: string | undefined): string {
  const locale = canonical(text);
  const { script, region } = new Intl.Locale(locale).maximize();
  return scripts.has(script ?? '') ? locale : `en-${region ?? 'US'}`;
}

function canonical(text: string | undefined): string {
  try {
    return Intl.getCanonicalLocales(text)[0] ?? fallbackLocale;
  } catch {
    return fallbackLocale;
  }
}

/** @throws RangeError when the zone is not known. */
export function formatsFor(of: {
  readonly locale: string;
  readonly zone: string;
  readonly currency: Currency;
}): Formats {
  const { locale, zone, currency } = of;
  const { language, region } = new Intl.Locale(locale).maximize();
  // Latin digits and the Gregorian year everywhere: numbers of documents and the fonts of the PDF have these.
  const latin = { numberingSystem: 'latn' } as const;
  const day = { year: 'numeric', month: 'short', day: 'numeric' } as const;
  const calendar = { ...latin, calendar: 'gregory', timeZone: zone } as const;
  const dates = new Intl.DateTimeFormat(locale, { ...calendar, ...day });
  const times = new Intl.DateTimeFormat(locale, {
    ...calendar,
    ...day,
    hour: 'numeric',
    minute: '2-digit',
  });
  const places = placesOf(currency);
  const inCurrency = { ...latin, style: 'currency', currency } as const;
  const amounts = numbers(locale, {
    ...inCurrency,
    minimumFractionDigits: places,
    maximumFractionDigits: places,
  });
  const isEnglish = language === 'en' && region === 'US';
  return {
    locale,
    paper: letterRegions.has(region ?? '') ? 'LETTER' : 'A4',
    money: (minor) => amounts(formatAmount(minor, currency)),
    price: numbers(locale, {
      ...inCurrency,
      minimumFractionDigits: places,
      maximumFractionDigits: 20,
    }),
    quantity: numbers(locale, { ...latin, maximumFractionDigits: 20 }),
    percent: numbers(locale, {
      ...latin,
      style: 'unit',
      unit: 'percent',
      maximumFractionDigits: 20,
    }),
    date: (at) => dates.format(at),
    period: (startAt, endAt) =>
      isEnglish
        ? formatPeriod(startAt.getTime(), endAt.getTime(), zone)
        : rangeText({ dates, times }, startAt, endAt),
  };
}

/** A number's text as the locale writes it. `Intl` takes decimal texts exactly, up to 20 decimals. */
function numbers(
  locale: string,
  options: Intl.NumberFormatOptions,
): (decimalText: string) => string {
  const format = new Intl.NumberFormat(locale, options);
  return (text) => {
    if (!isDecimal(text)) throw new RangeError(`not a plain decimal: ${JSON.stringify(text)}`);
    return format.format(text);
  };
}

function isDecimal(text: string): text is `${number}` {
  return /^-?[0-9]+(\.[0-9]+)?$/.test(text);
}

/** A range of days; a part of one day with its times. */
function rangeText(
  formats: { readonly dates: Intl.DateTimeFormat; readonly times: Intl.DateTimeFormat },
  startAt: Date,
  endAt: Date,
): string {
  const last = new Date(endAt.getTime() - 1);
  const { dates, times } = formats;
  const isOneDay = dates.format(startAt) === dates.format(last);
  const dayBefore = new Date(startAt.getTime() - 1);
  const isWhole =
    dates.format(dayBefore) !== dates.format(startAt) && dates.format(endAt) !== dates.format(last);
  if (!isOneDay) return dates.formatRange(startAt, last);
  return isWhole ? dates.format(startAt) : times.formatRange(startAt, endAt);
}
