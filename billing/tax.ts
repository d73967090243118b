import { type Minor, sumOf } from './money.ts';
import { divideRounded, type Ratio, ratioOf } from './ratio.ts';

/** A tax on prices. `percent` is a plain decimal: `19`, `8.875`. */
export type TaxRate = { readonly name: string; readonly percent: string };

/** One row of an invoice's tax breakdown. The base of an inclusive price holds the tax already. */
export type TaxLine = TaxRate & { readonly baseMinor: Minor; readonly amountMinor: Minor };

/**
 * How an invoice is taxed. `exclusive`: tax is added to the prices. `inclusive`: the prices hold it, and the invoice says
 * how much. `exempt` and `reverse_charge`: nothing is due; under reverse charge the subscriber accounts for the tax.
 */
export type Taxation =
  | TaxedPrices
  | { readonly kind: 'exempt'; readonly reason: string; readonly earlier?: TaxedCharges }
  | { readonly kind: 'reverse_charge'; readonly earlier?: TaxedCharges };

type TaxedPrices = { readonly kind: 'exclusive' | 'inclusive'; readonly rates: TaxRates };

/** Charges that are taxed although nothing else is: what is given back of them was billed with tax. */
type TaxedCharges = {
  readonly kind: 'exclusive' | 'inclusive';
  readonly byCharge: ReadonlyMap<string, readonly TaxRate[]>;
};

/** The rates of every line, save of those whose charge has its own. */
export type TaxRates = {
  readonly general: readonly TaxRate[];
  readonly byCharge?: ReadonlyMap<string, readonly TaxRate[]>;
};

/** What an invoice shows when nothing is taxed: `Tax (0%)` is always there. */
const noTax: TaxRate = { name: 'Tax', percent: '0' };
const reverseCharge: TaxRate = { name: 'Reverse charge', percent: '0' };

/** The tax that is added to a base, rounded once. @throws RangeError when the percentage is not a plain decimal. */
export function taxOn(baseMinor: Minor, percent: string): Minor {
  const { numerator, denominator } = ratioOf(percent);
  return divideRounded(baseMinor * numerator, 100n * denominator);
}

/** A line as a tax sees it: after discounts. */
export type TaxableLine = { readonly chargeId?: string | null; readonly amountMinor: Minor };

/**
 * The breakdown of an invoice, never empty: one row for each rate, on the sum of its lines, rounded once. A rate is the
 * same one where name and percentage are the same; rows stand in the order in which the lines name them.
 */
export function taxBreakdown(lines: readonly TaxableLine[], taxation: Taxation): TaxLine[] {
  const { kind, rates } = ratesOf(taxation);
  const { general, byCharge } = rates;
  const rated = lines.map((line) => ({
    amountMinor: line.amountMinor,
    rates: byCharge?.get(line.chargeId ?? '') ?? general,
  }));
  const distinct = distinctRates([...general, ...rated.flatMap((line) => line.rates)]);
  const rows = distinct.map((rate) => {
    const itsLines = rated.filter((line) => line.rates.some((other) => isSame(rate, other)));
    const baseMinor = sumOf(itsLines.map((line) => line.amountMinor));
    const amountMinor =
      kind === 'exclusive' ? taxOn(baseMinor, rate.percent) : taxContained(itsLines, rate);
    return { ...rate, baseMinor, amountMinor };
  });
  if (rows.length > 0) return rows;
  return [{ ...noTax, baseMinor: sumOf(lines.map((line) => line.amountMinor)), amountMinor: 0n }];
}

/** What is not taxed has a rate of nothing, whose row says why. */
function ratesOf(taxation: Taxation): TaxedPrices {
  if (taxation.kind !== 'exempt' && taxation.kind !== 'reverse_charge') return taxation;
  const { earlier } = taxation;
  return {
    kind: earlier?.kind ?? 'exclusive',
    rates: {
      general: [taxation.kind === 'exempt' ? noTax : reverseCharge],
      ...(earlier !== undefined && { byCharge: earlier.byCharge }),
    },
  };
}

/** Whether the prices hold the tax, so that it is no part of the total's sum. */
export function isTaxIncluded(taxation: Taxation): boolean {
  return ratesOf(taxation).kind === 'inclusive';
}

/**
 * The taxation of an invoice that gives back what was billed before: the lines of those charges take back the tax that
 * was billed with them, whatever holds now.
 * @param then How each charge that is given back was taxed.
 */
export function withTaxOfThen(now: Taxation, then: ReadonlyMap<string, Taxation>): Taxation {
  const kept = [...then].filter(
    ([chargeId, before]) => !areSame(ratesFor(before, chargeId), ratesFor(now, chargeId)),
  );
  if (kept.length === 0) return now;
  const byCharge = new Map(
    kept.map(([chargeId, before]) => [chargeId, ratesFor(before, chargeId)] as const),
  );
  if (now.kind === 'exempt' || now.kind === 'reverse_charge') {
    const isIncluded = kept.some(([, before]) => isTaxIncluded(before));
    return { ...now, earlier: { kind: isIncluded ? 'inclusive' : 'exclusive', byCharge } };
  }
  const { rates } = now;
  return {
    ...now,
    rates: { ...rates, byCharge: new Map([...(rates.byCharge ?? []), ...byCharge]) },
  };
}

function ratesFor(taxation: Taxation, chargeId: string): readonly TaxRate[] {
  const { general, byCharge } = ratesOf(taxation).rates;
  return byCharge?.get(chargeId) ?? general;
}

function areSame(a: readonly TaxRate[], b: readonly TaxRate[]): boolean {
  return a.length === b.length && a.every((rate) => b.some((other) => isSame(rate, other)));
}

function distinctRates(rates: readonly TaxRate[]): TaxRate[] {
  return rates.filter((rate, index) => rates.findIndex((other) => isSame(rate, other)) === index);
}

function isSame(a: TaxRate, b: TaxRate): boolean {
  return a.name === b.name && a.percent === b.percent;
}

/** The tax of one rate within gross amounts: gross × rate ÷ (100 + all rates of the line), summed exactly, rounded once. */
function taxContained(
  lines: readonly { readonly amountMinor: Minor; readonly rates: readonly TaxRate[] }[],
  rate: TaxRate,
): Minor {
  const own = ratioOf(rate.percent);
  const exact = lines.reduce<Ratio>(
    (sum, line) => {
      const all = line.rates.map(({ percent }) => ratioOf(percent)).reduce(add, hundred);
      // gross × own ÷ all, each a fraction of its own.
      return add(sum, {
        numerator: line.amountMinor * own.numerator * all.denominator,
        denominator: own.denominator * all.numerator,
      });
    },
    { numerator: 0n, denominator: 1n },
  );
  return divideRounded(exact.numerator, exact.denominator);
}

const hundred: Ratio = { numerator: 100n, denominator: 1n };

function add(a: Ratio, b: Ratio): Ratio {
  if (a.denominator === b.denominator) {
    return { numerator: a.numerator + b.numerator, denominator: a.denominator };
  }
  return {
    numerator: a.numerator * b.denominator + b.numerator * a.denominator,
    denominator: a.denominator * b.denominator,
  };
}

/** `Tax (0%)`, `VAT (19%)`. */
export function taxLabel(rate: TaxRate): string {
  return `${rate.name} (${rate.percent}%)`;
}
