/** What `assembleInvoice` is given, read from usage, lines and the ledger: the same for the estimate and for the final invoice. */
import {
  type AddOnTerm,
  dueAddOnFees,
  dueFees,
  type Fee,
  heldPart,
  onceFees,
  type Part,
  prorationOf,
  type UnusedFee,
} from '../billing/fees.ts';
import type { Commitment, InvoiceInput, LateUsage } from '../billing/invoice.ts';
import type { PlanDefinition } from '../billing/plan.ts';
import type { Span } from '../billing/ratio.ts';
import { readAccountBalance } from './account-balance.ts';
import type { Reader } from './db.ts';
import {
  type BilledLines,
  type FeeTerms,
  feeTermsOf,
  readBilledLines,
  readWithdrawnLines,
  stretchesOf,
  type WithdrawnLine,
} from './fee-terms.ts';
import { unusedAddOns, unusedOfLatePaid } from './fees-back.ts';
import { listPeriods, type Period } from './periods.ts';
import { insertedRow } from './query.ts';
import { readAddOns } from './subscription-add-ons.ts';
import { readCoupons } from './subscription-coupons.ts';
import type { Subscription } from './subscriptions.ts';
import { readTaxation, withTaxesOfThen } from './taxation.ts';
import { type LateRun, ratedRun, readPeriodUsage } from './usage-runs.ts';

/** Reads everything that the invoice of `period` is worked out from, as of this transaction. */
export async function readInvoiceInput(
  db: Reader,
  subscription: Subscription,
  period: Period,
): Promise<InvoiceInput> {
  const periods = await listPeriods(db, subscription.id);
  const usage = await readPeriodUsage(db, { subscriptionId: subscription.id, period, periods });
  const current = usage.own.at(-1);
  if (current === undefined) throw new Error(`period ${period.id} has no segment`);
  const fees = await readFees(db, { subscription, period, periods, version: current });
  const late = await ratedLate(db, { subscription, periods, runs: usage.late });
  const earlier = usage.own.slice(0, -1).map((run) => ratedRun(run));
  const charges = new Map(
    [
      ...[current, ...usage.own, ...usage.late].map(({ definition }) => definition),
      ...fees.definitions,
    ]
      .flatMap((definition) => definition.charges)
      .map((charge) => [charge.id, charge]),
  );
  const of = {
    environment: subscription.environment,
    subscriberId: subscription.subscriberId,
    subscriptionId: subscription.id,
    definition: { ...current.definition, charges: [...charges.values()] },
    addOns: fees.addOns,
  };
  // What is also charged here is taxed as of now.
  const givenBack = fees.unused.filter(
    ({ chargeId }) => !fees.due.some((fee) => fee.chargeId === chargeId),
  );
  return {
    zone: subscription.timeZone,
    startMs: period.startAt.getTime(),
    endMs: period.endAt.getTime(),
    fees: fees.due,
    unused: fees.unused,
    current: { ...ratedRun(current), minimumPart: fees.part },
    earlier,
    late,
    minimum: isContinued(periods, period) ? 'later' : 'now',
    commitment: fees.commitment,
    coupons: await readCoupons(db, {
      ...of,
      intervalIndex: period.intervalIndex,
      at: period.endAt,
      periodId: period.id,
      aheadChargeIds: fees.due.filter(({ isAhead }) => isAhead).map(({ chargeId }) => chargeId),
    }),
    taxation: await withTaxesOfThen(db, await readTaxation(db, of), givenBack),
    balanceMinor: await readAccountBalance(db, {
      ...subscription,
      currency: current.definition.currency,
    }),
  };
}

/** Whether a later part of the same interval follows. */
function isContinued(periods: readonly Period[], period: Period): boolean {
  return periods.some(
    (other) => other.intervalIndex === period.intervalIndex && other.seq > period.seq,
  );
}

/** Late usage as it is rated, on whatever invoice. `periods`: all that hold time. */
export async function ratedLate(
  db: Reader,
  of: Pick<Of, 'subscription' | 'periods'> & { readonly runs: readonly LateRun[] },
): Promise<readonly LateUsage[]> {
  const late: LateUsage[] = [];
  for (const run of of.runs) {
    const minimumPart = await latePart(db, { ...of, run });
    late.push({ ...ratedRun(run), period: run.period, isLast: run.isLast, minimumPart });
  }
  return late;
}

/** What of its minimums was due for the interval that late usage belongs to. */
async function latePart(
  db: Reader,
  of: Pick<Of, 'subscription' | 'periods'> & { readonly run: LateRun },
): Promise<Part | null> {
  const { definition, isLast, adjusted } = of.run;
  const isBounded = definition.charges.some(
    (charge) => charge.kind === 'usage' && charge.minimum_minor !== undefined,
  );
  if (!isLast || !isBounded) return null;
  const terms = await feeTermsOf(db, { ...of, intervalIndex: adjusted.intervalIndex });
  return heldPart({ ...terms, proration: prorationOf(definition) });
}

type Fees = {
  readonly due: readonly Fee[];
  readonly unused: readonly UnusedFee[];
  readonly addOns: readonly AddOnTerm[];
  readonly commitment: Commitment | null;
  /** The part of the interval that the subscription has; null: the whole. */
  readonly part: Part | null;
  /** Terms that fees belong to, besides those of usage. */
  readonly definitions: readonly PlanDefinition[];
};

type Of = {
  readonly subscription: Subscription;
  readonly period: Period;
  readonly periods: readonly Period[];
  readonly version: { readonly planVersionId: string; readonly definition: PlanDefinition };
};

/**
 * Fees in arrears are due with the first invoice of their interval, and what it does not cover with a later one; those
 * in advance of the next interval with the last invoice before it, unless it was billed ahead already.
 */
async function readFees(db: Reader, of: Of): Promise<Fees> {
  const { subscription, period, periods, version } = of;
  const own = await feeTermsOf(db, { subscription, periods, intervalIndex: period.intervalIndex });
  const next = nextInterval(of);
  const ahead =
    next === null ? null : await feeTermsOf(db, { subscription, periods, intervalIndex: next });
  const withdrawn = await withdrawnTerms(db, of, own);
  const billed = await readBilledLines(db, {
    subscriptionId: subscription.id,
    fromMs: Math.min(...[own, ...withdrawn].map(({ interval }) => interval.startMs)),
    exceptPeriodId: period.id,
  });
  // While an earlier part is not invoiced yet, the interval's fees are its.
  const isDue = periods.every(
    (other) =>
      other.intervalIndex !== period.intervalIndex ||
      other.seq >= period.seq ||
      other.state === 'closed',
  );
  const addOns = await readAddOns(db, subscription.id, spanOf(period, own));
  const { lines } = billed;
  const arrears = stretchesOf(own, 'arrears');
  const proration = prorationOf(version.definition);
  const due = [
    ...(await oneTimeFees(db, of, billed)),
    ...withdrawn.flatMap((terms) => feesAgain(terms, lines)),
    ...(isDue ? dueFees(arrears, { ...own, lines, isAhead: false }) : []),
    ...(ahead === null
      ? []
      : dueFees(stretchesOf(ahead, 'advance'), { ...ahead, lines, isAhead: true })),
    ...dueAddOnFees(isDue ? addOns : addOns.filter(({ kind }) => kind === 'one_time'), {
      ...own,
      ...billed,
      planVersionId: version.planVersionId,
      proration,
    }),
  ];
  const part = heldPart({ ...own, proration });
  const ended = isDue ? unusedAddOns(addOns, { own, lines, proration }) : [];
  const settled = new Set(ended.map(({ chargeId }) => chargeId));
  const latePaid = isNext(of) ? await unusedOfLatePaid(db, { ...of, own }, settled) : null;
  const known = new Set(addOns.map(({ id }) => id));
  return {
    due,
    unused: [...ended, ...(latePaid?.unused ?? [])],
    addOns: [...addOns, ...(latePaid?.addOns ?? []).filter(({ id }) => !known.has(id))],
    commitment: await readCommitment(db, of, { own, billed, part }),
    part,
    definitions: [
      ...[own, ...(ahead === null ? [] : [ahead]), ...withdrawn].flatMap(({ stretches }) =>
        stretches.map(({ definition }) => definition),
      ),
      ...(latePaid?.definitions ?? []),
    ],
  };
}

/** An interval up to this one, fees of which are on void invoices. */
type WithdrawnTerms = FeeTerms & {
  readonly isBefore: boolean;
  readonly withdrawn: readonly WithdrawnLine[];
};

/** One close after the other: what no interval bills by itself is the next invoice's. */
function isNext({ period, periods }: Pick<Of, 'period' | 'periods'>): boolean {
  return periods.every(({ seq, state }) => seq >= period.seq || state === 'closed');
}

/**
 * Fees whose invoice was made void are billed by the next invoice of a period, whatever interval they are for. One close
 * after the other: those of a period that is not invoiced yet are its.
 */
async function withdrawnTerms(
  db: Reader,
  { subscription, period, periods }: Of,
  own: FeeTerms,
): Promise<readonly WithdrawnTerms[]> {
  if (!isNext({ period, periods })) return [];
  const all = await readWithdrawnLines(db, subscription.id);
  const terms: WithdrawnTerms[] = [];
  for (const [index, withdrawn] of Map.groupBy(all, ({ intervalIndex }) => intervalIndex)) {
    if (!periods.some((one) => one.intervalIndex === index && one.seq <= period.seq)) continue;
    const isBefore = index !== period.intervalIndex;
    const of = isBefore
      ? await feeTermsOf(db, { subscription, periods, intervalIndex: index })
      : own;
    terms.push({ ...of, isBefore, withdrawn });
  }
  return terms;
}

/** What of them no other invoice has billed. Fees in arrears of the interval itself are due anyway. */
function feesAgain(terms: WithdrawnTerms, lines: BilledLines['lines']): readonly Fee[] {
  const { isBefore, withdrawn } = terms;
  const kinds = isBefore ? (['advance', 'arrears'] as const) : (['advance'] as const);
  return kinds
    .flatMap((when) => dueFees(stretchesOf(terms, when), { ...terms, lines, isAhead: false }))
    .filter(({ chargeId, covers }) =>
      withdrawn.some(
        (line) =>
          line.chargeId === chargeId &&
          covers !== null &&
          line.covers.startMs < covers.endMs &&
          covers.startMs < line.covers.endMs,
      ),
    )
    .map((fee) => ({ ...fee, ...(isBefore && { isBefore }) }));
}

/** Recurring add-ons are billed for the whole interval at once, also when the period is a part of it. */
function spanOf(period: Period, { interval }: FeeTerms): Span {
  return {
    startMs: period.startAt.getTime(),
    endMs: Math.max(period.endAt.getTime(), interval.endMs),
  };
}

/** The number of the interval that follows, when the period is the last of its own and the subscription goes on. */
function nextInterval({ subscription, period, periods }: Of): number | null {
  const next = periods.find(({ seq }) => seq > period.seq);
  if (next === undefined || next.intervalIndex === period.intervalIndex) return null;
  const { cancelAt } = subscription;
  return cancelAt !== null && cancelAt <= next.startAt ? null : next.intervalIndex;
}

/** What is due once, with the first invoice of the subscription: by the terms that it began under. */
async function oneTimeFees(
  db: Reader,
  { period, subscription, periods }: Of,
  billed: BilledLines,
): Promise<readonly Fee[]> {
  if (period.seq !== 0) return [];
  const { intervalIndex } = period;
  const terms = await feeTermsOf(db, { subscription, periods, intervalIndex });
  const [first] = terms.stretches;
  if (first === undefined) return [];
  return onceFees(first.definition, first.planVersionId).filter(
    ({ chargeId }) => !billed.billedOnce.has(chargeId),
  );
}

/** Due by the terms that the interval ends with, for the part of it that the subscription has. */
async function readCommitment(
  db: Reader,
  { subscription, period, version }: Of,
  of: { readonly own: FeeTerms; readonly billed: BilledLines; readonly part: Part | null },
): Promise<Commitment | null> {
  const { commitment_minor: commitmentMinor } = version.definition;
  if (commitmentMinor === undefined) return null;
  const { startMs, endMs } = of.own.interval;
  const fees = of.billed.lines
    .filter(({ covers }) => startMs <= covers.startMs && covers.startMs < endMs)
    .reduce((sum, line) => sum + line.amountMinor, 0n);
  const usage = await insertedRow<{ minor: bigint }>(
    db,
    // The usage of a void invoice is billed by the one that stands for it, which may not be there yet.
    `SELECT coalesce(sum(l.amount_minor), 0)::numeric(38,0) AS minor
     FROM periods p CROSS JOIN LATERAL (
         SELECT id FROM invoices WHERE period_id = p.id AND kind = 'period'
         ORDER BY state = 'void', number_in_series DESC NULLS FIRST, created_at DESC LIMIT 1) i
       JOIN invoice_lines l ON l.invoice_id = i.id
     WHERE p.subscription_id = ? AND p.interval_index = ? AND p.id <> ?
       AND l.kind IN ('usage', 'overage', 'one_time')`,
    [subscription.id, period.intervalIndex, period.id],
  );
  return {
    commitmentMinor: BigInt(commitmentMinor),
    billedMinor: fees + usage.minor,
    part: of.part,
  };
}
