import { type Db, inTransaction } from '../store/db.ts';
import { billLateUsage } from '../store/late-invoice.ts';
import { listEndedWithLateUsage } from '../store/late-periods.ts';
import type { StartWorkflow } from './ports.ts';

const PAGE_ROWS = 200;
/**
 * Usage of a subscription's last instant is accepted for 35 days; what was accepted is in Postgres within the hour. Later
 * than that comes only what a gateway could not bring before: it is billed when it has come.
 */
const WAIT_MS = (35 * 24 + 1) * 3_600_000;

export type LateUsageBilling = { readonly db: Db; readonly startWorkflow: StartWorkflow };

/**
 * Invoices what came in after the end of subscriptions, once nothing more can come. Harmless to repeat and to run twice
 * at once: what is invoiced is closed under a lock. What fails for one subscription holds up no other. Answers how many
 * invoices it issued.
 * @throws AggregateError of what failed, when everything else is done.
 */
export async function billEndedSubscriptions(
  { db, startWorkflow }: LateUsageBilling,
  now: Date,
): Promise<number> {
  const before = new Date(now.getTime() - WAIT_MS);
  const faults: unknown[] = [];
  let issued = 0;
  for (let afterId = ''; ;) {
    const page = await listEndedWithLateUsage(db, { before, afterId, limit: PAGE_ROWS });
    for (const { subscriptionId } of page) {
      try {
        const billing = await inTransaction(db, (tx) =>
          billLateUsage(tx, { subscriptionId, at: now, isOver: true }),
        );
        if (billing.kind !== 'issued') continue;
        issued += 1;
        const { id, number, state } = billing.invoice;
        if (state !== 'open') continue;
        const summary = { number: number ?? '' };
        await startWorkflow({ kind: 'collection', invoiceId: id, summary });
      } catch (error) {
        faults.push(error);
      }
    }
    const last = page.at(-1);
    if (last === undefined || page.length < PAGE_ROWS) break;
    afterId = last.subscriptionId;
  }
  if (faults.length > 0) throw new AggregateError(faults, 'late usage could not be billed');
  return issued;
}
