/**
 * The invoices of a change of plan and of fees in advance. Preview and real change call these functions, so that what
 * was shown is what is invoiced.
 */
import {
  afterDiscounts,
  type Coupon,
  type Discount,
  discountLines,
  reckoned,
} from '../billing/discount.ts';
import { dueFees, prorationOf, wholeInterval } from '../billing/fees.ts';
import { draftOf, type InvoiceDraft } from '../billing/invoice.ts';
import { feeLine } from '../billing/line.ts';
import { boundary, recurrenceOf } from '../billing/periods.ts';
import {
  changeLines,
  type ChangeTiming,
  changeTiming,
  type SpanFee,
} from '../billing/plan-change.ts';
import type { Charge, PlanDefinition } from '../billing/plan.ts';
import type { Span } from '../billing/ratio.ts';
import { readAccountBalance } from './account-balance.ts';
import type { Reader } from './db.ts';
import { type BilledLine, feeTermsOf, readBilledLines, stretchesOf } from './fee-terms.ts';
import { listPeriods, type Period } from './periods.ts';
import { selectRows } from './query.ts';
import { readAddOns } from './subscription-add-ons.ts';
import { readCoupons } from './subscription-coupons.ts';
import type { Subscription } from './subscriptions.ts';
import { readTaxation, withTaxesOfThen } from './taxation.ts';

export type PlanChangeDraft = {
  readonly timing: ChangeTiming;
  /** When segments begin to carry the new version. */
  readonly effectiveAt: Date;
  /** Null: nothing is invoiced at once. */
  readonly invoice: InvoiceDraft | null;
};

type Change = {
  readonly toVersionId: string;
  readonly at: Date;
  readonly timing: 'now' | 'period_end' | 'default';
};

/**
 * What a change of plan at `at` does, and what it invoices at once: the unused part of fees that are billed already is
 * given back, and new fees are charged that are billed in advance, or whose interval was billed by an early close.
 * Everything else is on the invoice of the period.
 * @throws RangeError when the subscription has no period at `at`, or the new version is in another currency.
 */
export async function draftPlanChange(
  db: Reader,
  subscription: Subscription,
  change: Change,
): Promise<PlanChangeDraft> {
  const versions = await readDefinitions(db, [change.toVersionId]);
  const next = versions.get(change.toVersionId);
  if (next === undefined) throw new RangeError(`there is no plan version ${change.toVersionId}`);
  if (next.currency !== subscription.currency) {
    throw new RangeError(
      `a subscription in ${subscription.currency} has no plan in ${next.currency}`,
    );
  }
  const periods = await listPeriods(db, subscription.id);
  const current = periods.find(({ startAt, endAt }) => startAt <= change.at && change.at < endAt);
  if (current === undefined) {
    throw new RangeError(`${subscription.id} has no period at ${change.at.toISOString()}`);
  }
  const usual = changeTiming(subscription.definition, next);
  if (isLater(change, usual)) {
    return {
      timing: { kind: 'period_end' },
      effectiveAt: current.intervalEndAt,
      invoice: null,
    };
  }
  const timing: ChangeTiming =
    usual.kind === 'now' ? usual : { kind: 'now', isIntervalReset: false };
  const of = {
    subscription,
    periods,
    current,
    next,
    change,
    isIntervalReset: timing.isIntervalReset,
  };
  return { timing, effectiveAt: change.at, invoice: await draftChangeInvoice(db, of) };
}

function isLater({ timing }: Change, usual: ChangeTiming): boolean {
  return timing === 'period_end' || (timing === 'default' && usual.kind === 'period_end');
}

type Of = {
  readonly subscription: Subscription;
  readonly periods: readonly Period[];
  readonly current: Period;
  readonly next: PlanDefinition;
  readonly change: Change;
  readonly isIntervalReset: boolean;
};

async function draftChangeInvoice(db: Reader, of: Of): Promise<InvoiceDraft | null> {
  const { subscription, current, next, change } = of;
  const atMs = change.at.getTime();
  const { lines: billed } = await readBilledLines(db, {
    subscriptionId: subscription.id,
    fromMs: current.intervalStartAt.getTime(),
    exceptPeriodId: null,
  });
  const versions = await readDefinitions(
    db,
    billed.map(({ planVersionId }) => planVersionId),
  );
  const unused = unusedLines(billed, of);
  const interval = await intervalAfter(db, of);
  const after = await nextFees(db, of, { billed, unused, versions, interval });
  const lines = changeLines({
    atMs,
    zone: subscription.timeZone,
    currency: next.currency,
    paid: unused.map((line) => spanFee(line, versions)),
    next: after.fees,
  });
  if (lines.length === 0) return null;
  const charges = [next, ...versions.values()].flatMap((definition) => definition.charges);
  const taxation = await readTaxation(db, {
    ...subscription,
    definition: { ...next, charges },
    addOns: await readAddOns(db, subscription.id, interval.covered),
  });
  const draft = draftOf(
    lines,
    {
      startMs: atMs,
      endMs: interval.covered.endMs,
      zone: subscription.timeZone,
      coupons: [],
      taxation: await withTaxesOfThen(db, taxation, unused),
      balanceMinor: await readAccountBalance(db, { ...subscription, currency: next.currency }),
    },
    next.currency,
  );
  // Fees of a part of an interval have a part of its amounts: that interval is used, and keeps its amounts.
  const discounts = reckoned(after.discounts, {
    lineCount: lines.length,
    isWhole: of.isIntervalReset,
  });
  return { ...draft, discounts };
}

/**
 * For each charge the latest line that covers time from `at` on, unless it was given back since. Add-ons go on under the
 * new plan, save when another interval begins: then they are billed with it.
 */
function unusedLines(
  billed: readonly BilledLine[],
  { change, isIntervalReset }: Of,
): readonly BilledLine[] {
  const ahead = billed.filter(
    ({ chargeId, covers }) =>
      covers.endMs > change.at.getTime() && (isIntervalReset || !chargeId.startsWith('sad_')),
  );
  const latest = new Map(ahead.map((line) => [line.chargeId, line]));
  return [...latest.values()].filter(({ isGivenBack }) => !isGivenBack);
}

function spanFee(line: BilledLine, versions: ReadonlyMap<string, PlanDefinition>): SpanFee {
  const { chargeId, planVersionId, covers: span, paidMinor } = line;
  const definition = versions.get(planVersionId);
  const charge = definition?.charges.find(({ id }) => id === chargeId);
  return {
    chargeId,
    planVersionId,
    name: charge?.display_name ?? line.name,
    minor: paidMinor > 0n ? paidMinor : 0n,
    span,
    proration: definition === undefined ? 'day' : prorationOf(definition),
  };
}

/** The interval that the new fees are for: the part from the change on, and the whole that they are a part of. */
type Interval = { readonly index: number; readonly covered: Span; readonly whole: Span };

async function intervalAfter(
  db: Reader,
  { subscription, periods, current, next, change, isIntervalReset }: Of,
): Promise<Interval> {
  const startMs = change.at.getTime();
  const { timeZone } = subscription;
  if (!isIntervalReset) {
    const { intervalIndex: index } = current;
    const { whole } = await feeTermsOf(db, { subscription, periods, intervalIndex: index });
    return { index, covered: { startMs, endMs: current.intervalEndAt.getTime() }, whole };
  }
  const endMs = boundary(startMs, timeZone, recurrenceOf(next), 1);
  const covered = { startMs, endMs };
  return {
    index: current.intervalIndex + 1,
    covered,
    whole: wholeInterval(covered, next, timeZone),
  };
}

type Billed = {
  readonly billed: readonly BilledLine[];
  readonly unused: readonly BilledLine[];
  readonly versions: ReadonlyMap<string, PlanDefinition>;
  readonly interval: Interval;
};

/**
 * The new fees that are charged at once. A fee that the interval had before, and that was given back since, comes back as
 * it was paid, so that a change and its undoing at once come to nothing whatever coupons there are.
 */
async function nextFees(
  db: Reader,
  of: Of,
  so: Billed,
): Promise<{ readonly fees: readonly SpanFee[]; readonly discounts: readonly Discount[] }> {
  const { next, change, periods, current, isIntervalReset } = of;
  const isBilled =
    !isIntervalReset &&
    periods.some(
      (other) =>
        other.intervalIndex === current.intervalIndex &&
        other.seq < current.seq &&
        other.state === 'closed',
    );
  const charges = next.charges
    .filter((charge) => charge.kind === 'recurring')
    .filter((charge) => charge.bill_in === 'advance' || isBilled);
  const discounted = await feesAfterCoupons(db, of, { ...so, charges });
  const atMs = change.at.getTime();
  const fees = charges.map((charge, index): NextFee => {
    const before = takenBefore(charge.id, so, atMs);
    if (before !== null) return { fee: before, isNew: false };
    const fee = {
      chargeId: charge.id,
      planVersionId: change.toVersionId,
      name: charge.display_name,
      minor: discounted.minors[index] ?? 0n,
      discountMinor: BigInt(charge.amount_minor) - (discounted.minors[index] ?? 0n),
      span: so.interval.whole,
      proration: prorationOf(next),
    };
    return { fee, isNew: true };
  });
  return {
    fees: fees.map(({ fee }) => fee),
    discounts: discounted.discounts.filter(({ shares }) =>
      shares.some((share, index) => share > 0n && fees[index]?.isNew === true),
    ),
  };
}

type NextFee = { readonly fee: SpanFee; readonly isNew: boolean };

/**
 * A fee that the interval had before, for what it cost then; null: it is new. One that was given back is charged anew,
 * also where its invoice was given up since; one that was not is owed on that invoice as it is.
 */
function takenBefore(chargeId: string, { billed, versions }: Billed, atMs: number): SpanFee | null {
  const lines = billed.filter(
    (line) => line.chargeId === chargeId && line.covers.startMs <= atMs && atMs < line.covers.endMs,
  );
  const before = lines.findLast(({ isGivenBack }) => !isGivenBack);
  if (before === undefined) return null;
  const isGivenBack = lines.at(-1) !== before;
  return spanFee({ ...before, ...(isGivenBack && { paidMinor: before.netMinor }) }, versions);
}

/**
 * Whole fees, less what the subscription's coupons take off them. A fixed amount is taken once in an interval: here only
 * in place of what it took off the fees that are given back, or as the first of a new interval; else the invoice of the
 * period takes it.
 */
async function feesAfterCoupons(
  db: Reader,
  { subscription, next, change, isIntervalReset }: Of,
  {
    charges,
    interval,
    unused,
  }: Billed & { readonly charges: readonly Extract<Charge, { kind: 'recurring' }>[] },
): Promise<{ readonly minors: readonly bigint[]; readonly discounts: readonly Discount[] }> {
  const lines = charges.map(({ id, amount_minor }) => ({
    chargeId: id,
    amountMinor: BigInt(amount_minor),
  }));
  if (lines.length === 0) return { minors: [], discounts: [] };
  const coupons: readonly Coupon[] = await readCoupons(db, {
    subscriptionId: subscription.id,
    intervalIndex: interval.index,
    definition: next,
    addOns: [],
    at: change.at,
    // What a fixed amount took off the fees that are given back is free for the new ones of the same interval.
    ...(!isIntervalReset && { takenAnewFrom: unused.map(({ invoiceId }) => invoiceId) }),
  });
  const discounts = discountLines(lines, coupons);
  return { minors: afterDiscounts(lines, discounts), discounts };
}

async function readDefinitions(
  db: Reader,
  ids: readonly string[],
): Promise<ReadonlyMap<string, PlanDefinition>> {
  const rows = await selectRows<{ id: string; definition: PlanDefinition }>(
    db,
    'SELECT id, definition FROM plan_versions WHERE id = ANY (?::text[])',
    [ids],
  );
  return new Map(rows.map(({ id, definition }) => [id, definition]));
}

/** The fees in advance of the interval that `period` begins; null when there are none, or all are billed already. */
export async function draftAdvanceInvoice(
  db: Reader,
  subscription: Subscription,
  period: Period,
): Promise<InvoiceDraft | null> {
  const { id: subscriptionId, timeZone: zone } = subscription;
  const periods = await listPeriods(db, subscriptionId);
  const { intervalIndex } = period;
  const terms = await feeTermsOf(db, { subscription, periods, intervalIndex });
  const billed = await readBilledLines(db, {
    subscriptionId,
    fromMs: terms.interval.startMs,
    exceptPeriodId: null,
  });
  const fees = dueFees(stretchesOf(terms, 'advance'), {
    ...terms,
    lines: billed.lines,
    isAhead: false,
  });
  const [first] = terms.stretches;
  if (fees.length === 0 || first === undefined) return null;
  const { currency } = first.definition;
  const charges = terms.stretches.flatMap(({ definition }) => definition.charges);
  const of = { ...subscription, definition: { ...first.definition, charges }, addOns: [] };
  return draftOf(
    fees.map((fee) => feeLine(fee, { currency, zone })),
    {
      ...terms.interval,
      zone,
      coupons: await readCoupons(db, { ...of, subscriptionId, intervalIndex, at: period.startAt }),
      taxation: await readTaxation(db, of),
      balanceMinor: await readAccountBalance(db, { ...subscription, currency }),
    },
    currency,
  );
}
