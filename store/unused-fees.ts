/** Fees that were billed in advance, given back as far as a subscription that is canceled does not use them. */
import { prorationOf, unusedParts } from '../billing/fees.ts';
import { prorate } from '../billing/ratio.ts';
import { issueCreditNote } from './credit-notes.ts';
import type { Reader, Tx } from './db.ts';
import { readBilledLines } from './fee-terms.ts';
import { selectRows } from './query.ts';
import type { Subscription } from './subscriptions.ts';

/**
 * Gives back, to the account balance, the part of fees that were billed in advance which a subscription that ends at
 * `at` does not use: one credit note for each invoice that billed them.
 */
export async function creditUnusedFees(
  tx: Tx,
  subscription: Subscription,
  { at, now }: { readonly at: Date; readonly now: Date },
): Promise<void> {
  for (const [invoiceId, amounts] of await unusedByInvoice(tx, subscription, at)) {
    const issue = await issueCreditNote(tx, {
      invoiceId,
      businessKey: `cancel:${subscription.id}:${invoiceId}`,
      request: { kind: 'lines', amounts },
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

/**
 * What is left of fees from `at` on, by invoice and position of its lines. What was credited before is not given back
 * again, not even the part of it that was used; nor is an add-on that ended before, which the invoice of the period gives
 * back.
 */
async function unusedByInvoice(
  db: Reader,
  { id: subscriptionId, timeZone: zone, definition }: Subscription,
  at: Date,
): Promise<ReadonlyMap<string, ReadonlyMap<number, bigint>>> {
  const atMs = at.getTime();
  const { lines } = await readBilledLines(db, {
    subscriptionId,
    fromMs: atMs,
    exceptPeriodId: null,
  });
  const ended = await endedAddOns(db, subscriptionId, at);
  const wanted = [{ startMs: -Infinity, endMs: atMs }];
  const unused = new Map<string, Map<number, bigint>>();
  for (const chargeId of new Set(lines.map((line) => line.chargeId))) {
    if (ended.has(chargeId)) continue;
    const use = { lines, wanted, zone, proration: prorationOf(definition) };
    for (const { line, part } of unusedParts(chargeId, use, ({ isFinal }) => isFinal)) {
      const { invoiceId, position } = line;
      const amount = prorate(line.creditableMinor, part.ratio);
      const ofInvoice = unused.get(invoiceId) ?? new Map<number, bigint>();
      const sum = (ofInvoice.get(position) ?? 0n) + amount;
      if (sum > 0n) unused.set(invoiceId, ofInvoice.set(position, sum));
    }
  }
  return unused;
}

async function endedAddOns(
  db: Reader,
  subscriptionId: string,
  at: Date,
): Promise<ReadonlySet<string>> {
  const rows = await selectRows<{ readonly id: string }>(
    db,
    'SELECT id FROM subscription_add_ons WHERE subscription_id = ? AND until_at <= ?',
    [subscriptionId, at],
  );
  return new Set(rows.map(({ id }) => id));
}
