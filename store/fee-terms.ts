/** What fees of an interval are due by: its stretches under each version, and what was billed for which time. */
import {
  type CoveringLine,
  type FeeInterval,
  feeStretch,
  type FeeStretch,
  wholeInterval,
} from '../billing/fees.ts';
import type { PlanDefinition } from '../billing/plan.ts';
import type { Span } from '../billing/ratio.ts';
import type { Reader } from './db.ts';
import type { Period } from './periods.ts';
import { selectRows } from './query.ts';
import type { Subscription } from './subscriptions.ts';
import { readSegments } from './usage-runs.ts';

/** A stretch of an interval under one plan version. */
export type TermsStretch = Span & {
  readonly planVersionId: string;
  readonly definition: PlanDefinition;
};

/** `interval`: the part of it that fees are due for. */
export type FeeTerms = FeeInterval & { readonly stretches: readonly TermsStretch[] };

/**
 * The stretches of an interval, from its very start (a subscription begins a little before its first period) to its end.
 * A fee is due for the whole interval also when the subscription ends within it, unless its end is prorated or another
 * interval begins there.
 */
export async function feeTermsOf(
  db: Reader,
  of: {
    readonly subscription: Subscription;
    readonly periods: readonly Period[];
    readonly intervalIndex: number;
  },
): Promise<FeeTerms> {
  const { subscription } = of;
  const periods = of.periods.filter(({ intervalIndex }) => intervalIndex === of.intervalIndex);
  const segments = await readSegments(
    db,
    periods.map(({ id }) => id),
  );
  const [first] = periods;
  const [begin] = segments;
  if (first === undefined || begin === undefined) {
    throw new Error(`interval ${of.intervalIndex} of ${subscription.id} has no segment`);
  }
  const written = {
    startMs: first.intervalStartAt.getTime(),
    endMs: first.intervalEndAt.getTime(),
  };
  const zone = subscription.timeZone;
  const interval = { ...written, endMs: feeEnd(subscription, { periods, all: of.periods }) };
  const stretches = segments.reduce<readonly TermsStretch[]>((all, segment) => {
    const { planVersionId, definition, startMs, endMs } = segment;
    const before = all.at(-1);
    return before?.planVersionId === planVersionId
      ? [...all.slice(0, -1), { ...before, endMs }]
      : [...all, { planVersionId, definition, startMs, endMs }];
  }, []);
  return {
    interval,
    whole: wholeInterval(written, begin.definition, zone),
    zone,
    stretches: stretches.map((stretch, index) => ({
      ...stretch,
      startMs: index === 0 ? interval.startMs : stretch.startMs,
      endMs: index === stretches.length - 1 ? interval.endMs : stretch.endMs,
    })),
  };
}

function feeEnd(
  subscription: Subscription,
  of: { readonly periods: readonly Period[]; readonly all: readonly Period[] },
): number {
  const last = of.periods.at(-1);
  if (last === undefined) throw new Error('an interval without a period');
  const next = of.all.find(({ seq }) => seq > last.seq);
  const isShort =
    next === undefined ? subscription.cancelProrate : next.startAt < last.intervalEndAt;
  return (isShort ? last.endAt : last.intervalEndAt).getTime();
}

/** The recurring fees of the stretches that are billed in arrears, or in advance. */
export function stretchesOf(
  { stretches }: Pick<FeeTerms, 'stretches'>,
  when: 'arrears' | 'advance',
): readonly FeeStretch[] {
  return stretches.map((stretch) => feeStretch(stretch, when));
}

/** A line that says which time it is for, and what was really paid by it. */
export type BilledLine = CoveringLine & {
  readonly invoiceId: string;
  readonly planVersionId: string;
  readonly name: string;
  readonly amountMinor: bigint;
  /** Its amount less its share of discounts and what credit notes gave back. */
  readonly netMinor: bigint;
  /** The same, and nothing of an invoice that was given up. */
  readonly paidMinor: bigint;
  readonly position: number;
  /** Its invoice can be credited, and up to how much of the line, its discounts included. */
  readonly isFinal: boolean;
  readonly creditableMinor: bigint;
};

export type BilledLines = {
  /** In the order in which they were issued. */
  readonly lines: readonly BilledLine[];
  /** The charges and add-ons that were billed once. */
  readonly billedOnce: ReadonlySet<string>;
};

/** What a void invoice of an interval's fees billed, which nobody may have billed since. */
export type WithdrawnLine = {
  readonly intervalIndex: number;
  readonly chargeId: string;
  readonly covers: Span;
};

/** The fees of void invoices that are of no period: those of a period are billed when it is invoiced again. */
export async function readWithdrawnLines(
  db: Reader,
  subscriptionId: string,
): Promise<readonly WithdrawnLine[]> {
  const rows = await selectRows<{
    readonly intervalIndex: number;
    readonly chargeId: string;
    readonly startAt: Date;
    readonly endAt: Date;
  }>(
    db,
    `SELECT i.interval_index AS "intervalIndex", l.charge_id AS "chargeId",
       l.covers_start_at AS "startAt", l.covers_end_at AS "endAt"
     FROM invoices i JOIN invoice_lines l ON l.invoice_id = i.id
     WHERE i.subscription_id = ? AND i.state = 'void' AND i.kind IN ('advance', 'change') AND l.kind = 'recurring'
       AND i.interval_index IS NOT NULL AND l.charge_id IS NOT NULL AND l.covers_start_at IS NOT NULL
     ORDER BY i.interval_index, i.created_at, i.id, l.position`,
    [subscriptionId],
  );
  return rows.map(({ startAt, endAt, ...line }) => ({
    ...line,
    covers: { startMs: startAt.getTime(), endMs: endAt.getTime() },
  }));
}

/**
 * The lines of a subscription's invoices that are not void and are for time from `fromMs` on. The invoice of
 * `exceptPeriodId`, which is worked out anew, is left out.
 */
export async function readBilledLines(
  db: Reader,
  of: {
    readonly subscriptionId: string;
    readonly fromMs: number;
    readonly exceptPeriodId: string | null;
  },
): Promise<BilledLines> {
  const rows = await selectRows<{
    readonly invoiceId: string;
    readonly chargeId: string;
    readonly planVersionId: string;
    readonly kind: string;
    readonly name: string;
    readonly amountMinor: bigint;
    readonly netMinor: bigint;
    readonly isGivenUp: boolean;
    readonly position: number;
    readonly isFinal: boolean;
    readonly creditableMinor: bigint;
    readonly startAt: Date | null;
    readonly endAt: Date | null;
  }>(
    db,
    `SELECT i.id AS "invoiceId", l.charge_id AS "chargeId", l.plan_version_id AS "planVersionId", l.kind, l.description AS name,
       l.amount_minor AS "amountMinor", (l.amount_minor - l.discount_minor - coalesce(c.given, 0))::bigint AS "netMinor",
       i.state = 'uncollectible' AS "isGivenUp",
       l.position, i.finalized_at IS NOT NULL AS "isFinal", (l.amount_minor - coalesce(c.credited, 0))::bigint AS "creditableMinor",
       l.covers_start_at AS "startAt", l.covers_end_at AS "endAt"
     FROM invoices i JOIN invoice_lines l ON l.invoice_id = i.id
       LEFT JOIN LATERAL (SELECT sum(n.amount_minor - n.discount_minor) AS given, sum(n.amount_minor) AS credited
         FROM credit_note_lines n WHERE n.invoice_line_id = l.id) c ON true
     WHERE i.subscription_id = :subscription AND i.state <> 'void' AND l.charge_id IS NOT NULL
       AND NOT (i.kind = 'period' AND i.period_id IS NOT DISTINCT FROM :except::text)
       AND (l.covers_end_at > :from OR l.kind = 'one_time')
     ORDER BY i.created_at, i.id, l.position`,
    { subscription: of.subscriptionId, from: new Date(of.fromMs), except: of.exceptPeriodId },
  );
  return {
    lines: rows.flatMap(({ startAt, endAt, kind, isGivenUp, ...line }) =>
      startAt === null || endAt === null
        ? []
        : [
            {
              ...line,
              paidMinor: isGivenUp ? 0n : line.netMinor,
              covers: { startMs: startAt.getTime(), endMs: endAt.getTime() },
              isGivenBack: kind === 'adjustment',
            },
          ],
    ),
    billedOnce: new Set(
      rows.filter(({ kind }) => kind === 'one_time').map(({ chargeId }) => chargeId),
    ),
  };
}
