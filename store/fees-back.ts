/**
 * Fees that were billed for time which nobody has a use for, given back by the next invoice of a period: of add-ons that
 * ended after an early close had billed them, and of invoices that were given up when the plan changed, and paid since.
 */
import { type AddOnTerm, prorationOf, type UnusedFee, unusedFees } from '../billing/fees.ts';
import type { PlanDefinition } from '../billing/plan.ts';
import type { Proration, Span } from '../billing/ratio.ts';
import type { Reader } from './db.ts';
import { type BilledLine, type FeeTerms, feeTermsOf, readBilledLines } from './fee-terms.ts';
import type { Period } from './periods.ts';
import { selectRows } from './query.ts';
import { readAddOns } from './subscription-add-ons.ts';
import type { Subscription } from './subscriptions.ts';

type Of = {
  readonly subscription: Subscription;
  /** The one that is invoiced, and all that are not void. */
  readonly period: Period;
  readonly periods: readonly Period[];
  /** The terms of its interval. */
  readonly own: FeeTerms;
};

/**
 * Of the recurring ones among `addOns` that ended within the invoiced interval: what lines of it were paid for the time
 * since. How much that is, is decided when it is given back, by what was paid and credited until then.
 */
export function unusedAddOns(
  addOns: readonly AddOnTerm[],
  of: Pick<Of, 'own'> & { readonly lines: readonly BilledLine[]; readonly proration: Proration },
): readonly UnusedFee[] {
  const { startMs, endMs } = of.own.interval;
  // Where another interval begins, its change gave back from that very instant on.
  const lines = of.lines.filter(
    ({ covers, isGivenBack }) =>
      startMs <= covers.startMs && (isGivenBack ? covers.startMs <= endMs : covers.startMs < endMs),
  );
  return addOns.filter(isEndedBefore(endMs)).flatMap((addOn) =>
    unusedFees(addOn, {
      ...{ lines, wanted: [heldSpan(addOn, { startMs, endMs })] },
      ...{ zone: of.own.zone, proration: of.proration, startMs },
    }),
  );
}

function isEndedBefore(endMs: number): (addOn: AddOnTerm) => boolean {
  return ({ kind, untilMs }) => kind === 'recurring' && untilMs !== null && untilMs < endMs;
}

function heldSpan({ fromMs, untilMs }: AddOnTerm, { startMs, endMs }: Span): Span {
  return { startMs: Math.min(fromMs, startMs), endMs: untilMs ?? endMs };
}

export type LatePaid = {
  readonly unused: readonly UnusedFee[];
  /** Terms and add-ons that the lines belong to. */
  readonly definitions: readonly PlanDefinition[];
  readonly addOns: readonly AddOnTerm[];
};

/**
 * A change of plan gives nothing back of an invoice that was given up, for nothing was paid. Where it is paid after all,
 * the next invoice of a period gives back what is not used of it. `settled`: the charges of which that is done already.
 */
export async function unusedOfLatePaid(
  db: Reader,
  of: Of,
  settled: ReadonlySet<string>,
): Promise<LatePaid> {
  const none = { unused: [], definitions: [], addOns: [] };
  const paid = await readLatePaid(db, of.subscription.id);
  if (paid === null) return none;
  const { lines } = await readBilledLines(db, {
    subscriptionId: of.subscription.id,
    fromMs: paid.startMs,
    exceptPeriodId: of.period.id,
  });
  const asked = lines.filter(
    ({ invoiceId, chargeId, isGivenBack, covers }) =>
      paid.invoiceIds.has(invoiceId) &&
      !isGivenBack &&
      !settled.has(chargeId) &&
      covers.startMs < of.own.interval.endMs,
  );
  if (asked.length === 0) return none;
  const span = {
    startMs: Math.min(...asked.map(({ covers }) => covers.startMs)),
    endMs: Math.max(...asked.map(({ covers }) => covers.endMs)),
  };
  const addOns = await readAddOns(db, of.subscription.id, span);
  const terms = await termsIn(db, of, span);
  const names = new Map(asked.map((line) => [line.chargeId, line]));
  const unused = [...names.values()].flatMap(({ chargeId: id, planVersionId, name }) => {
    const { wanted, proration, displayName } = useOf(id, {
      ...of,
      planVersionId,
      terms,
      addOns,
      span,
    });
    return unusedFees(
      { id, name: displayName ?? name },
      { lines, wanted, proration, zone: of.own.zone, startMs: of.own.interval.startMs },
      (line) => asked.some((other) => other === line),
    );
  });
  return { unused, definitions: terms.map(({ definition }) => definition), addOns };
}

async function readLatePaid(
  db: Reader,
  subscriptionId: string,
): Promise<{ readonly invoiceIds: ReadonlySet<string>; readonly startMs: number } | null> {
  const rows = await selectRows<{ readonly id: string; readonly startAt: Date }>(
    db,
    `SELECT i.id, min(l.covers_start_at) AS "startAt" FROM invoices i JOIN invoice_lines l ON l.invoice_id = i.id
     WHERE i.subscription_id = ? AND i.state = 'paid' AND i.given_up_at IS NOT NULL
       AND l.kind = 'recurring' AND l.covers_start_at IS NOT NULL GROUP BY i.id`,
    [subscriptionId],
  );
  if (rows.length === 0) return null;
  return {
    invoiceIds: new Set(rows.map(({ id }) => id)),
    startMs: Math.min(...rows.map(({ startAt }) => startAt.getTime())),
  };
}

/** The stretches of all intervals that lie in a span. */
async function termsIn(
  db: Reader,
  { subscription, periods }: Of,
  span: Span,
): Promise<FeeTerms['stretches']> {
  const within = periods.filter(
    ({ intervalStartAt, intervalEndAt }) =>
      intervalStartAt.getTime() < span.endMs && span.startMs < intervalEndAt.getTime(),
  );
  const stretches: FeeTerms['stretches'][number][] = [];
  for (const intervalIndex of new Set(within.map((period) => period.intervalIndex))) {
    stretches.push(...(await feeTermsOf(db, { subscription, periods, intervalIndex })).stretches);
  }
  return stretches;
}

/** When a charge or an add-on was wanted. What a prorated end leaves unused was credited when it was asked for. */
function useOf(
  id: string,
  of: Of & {
    readonly planVersionId: string;
    readonly terms: FeeTerms['stretches'];
    readonly addOns: readonly AddOnTerm[];
    readonly span: Span;
  },
): {
  readonly wanted: readonly Span[];
  readonly proration: Proration;
  readonly displayName: string | undefined;
} {
  const { subscription, terms, addOns, span } = of;
  const { cancelAt, cancelProrate } = subscription;
  const credited =
    cancelProrate && cancelAt !== null ? [{ startMs: cancelAt.getTime(), endMs: Infinity }] : [];
  const addOn = addOns.find((one) => one.id === id);
  const definition = terms.find(
    ({ planVersionId }) => planVersionId === of.planVersionId,
  )?.definition;
  const proration = prorationOf(definition ?? subscription.definition);
  if (addOn !== undefined) {
    return { wanted: [heldSpan(addOn, span), ...credited], proration, displayName: addOn.name };
  }
  const having = terms.filter(({ definition: { charges } }) =>
    charges.some((one) => one.id === id),
  );
  const charge = having
    .flatMap(({ definition: { charges } }) => charges)
    .find((one) => one.id === id);
  return { wanted: [...having, ...credited], proration, displayName: charge?.display_name };
}
