/** Fees that were billed in advance, given back as far as a subscription that is canceled does not use them. */
import { prorationOf } from '../billing/fees.ts';
import type { Minor } from '../billing/money.ts';
import { prorate, ratioLeft } from '../billing/ratio.ts';
import { issueCreditNote } from './credit-notes.ts';
import type { Reader, Tx } from './db.ts';
import { selectRows } from './query.ts';
import type { Subscription } from './subscriptions.ts';

type PaidFee = {
  readonly invoiceId: string;
  readonly position: number;
  /** What earlier credit notes left of it. */
  readonly leftMinor: bigint;
  readonly coversStartAt: Date;
  readonly coversEndAt: Date;
};

/**
 * Gives back, to the account balance, the part of fees that were billed in advance which a subscription that ends at
 * `at` does not use: one credit note for each invoice that billed them.
 */
export async function creditUnusedFees(
  tx: Tx,
  subscription: Subscription,
  { at, now }: { readonly at: Date; readonly now: Date },
): Promise<void> {
  const fees = await readFeesAhead(tx, subscription, at);
  for (const [invoiceId, ofInvoice] of Map.groupBy(fees, (fee) => fee.invoiceId)) {
    const amounts = new Map(
      ofInvoice.map((fee) => [fee.position, unusedPart(fee, subscription, at)] as const),
    );
    const request = {
      kind: 'lines',
      amounts: new Map([...amounts].filter(([, amount]) => amount > 0n)),
    } as const;
    if (request.amounts.size === 0) continue;
    const issue = await issueCreditNote(tx, {
      invoiceId,
      businessKey: `cancel:${subscription.id}:${invoiceId}`,
      request,
      reason: 'cancellation',
      to: 'balance',
      actor: 'subscription',
      at: now,
    });
    if (issue.kind === 'refused' && issue.code !== 'nothing_to_credit') {
      throw new Error(`invoice ${invoiceId} takes no credit for its unused fees: ${issue.code}`);
    }
  }
}

function unusedPart(fee: PaidFee, subscription: Subscription, at: Date): Minor {
  const { timeZone, definition } = subscription;
  const span = { startMs: fee.coversStartAt.getTime(), endMs: fee.coversEndAt.getTime() };
  const fromMs = Math.max(at.getTime(), span.startMs);
  return prorate(fee.leftMinor, ratioLeft(fromMs, span, timeZone, prorationOf(definition)));
}

/**
 * Lines of fees that cover time after `at`: of each charge the last one, unless a change of plan gave it back, or as much
 * as it charged was given back of an invoice that is void, or not final yet, and bills less for it. What was
 * credited before is not given back again, not even the part of it that was used; nor is an add-on that ended before,
 * which the invoice of the period gives back.
 */
async function readFeesAhead(
  db: Reader,
  subscription: Subscription,
  at: Date,
): Promise<readonly PaidFee[]> {
  return selectRows<PaidFee>(
    db,
    `SELECT * FROM (
       SELECT DISTINCT ON (l.charge_id, l.covers_end_at) l.kind, l.invoice_id AS "invoiceId", l.position,
         l.amount_minor - coalesce((SELECT sum(c.amount_minor) FROM credit_note_lines c WHERE c.invoice_line_id = l.id), 0)::bigint
           AS "leftMinor",
         l.covers_start_at AS "coversStartAt", l.covers_end_at AS "coversEndAt",
         sum(CASE l.kind WHEN 'adjustment' THEN -1 ELSE 1 END) OVER (PARTITION BY l.charge_id, l.covers_end_at) AS times
       FROM invoice_lines l JOIN invoices i ON i.id = l.invoice_id
       WHERE i.subscription_id = :id AND i.finalized_at IS NOT NULL AND i.state <> 'void'
         AND l.kind IN ('recurring', 'adjustment') AND l.covers_end_at > :at
         AND NOT EXISTS (SELECT 1 FROM subscription_add_ons h WHERE h.id = l.charge_id AND h.until_at <= :at)
       ORDER BY l.charge_id, l.covers_end_at, i.finalized_at DESC, i.number_in_series DESC, l.position DESC
     ) latest WHERE kind = 'recurring' AND times > 0 AND "leftMinor" > 0 ORDER BY "invoiceId", position`,
    { id: subscription.id, at },
  );
}
