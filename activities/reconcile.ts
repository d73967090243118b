import type { Db } from '../store/db.ts';
import {
  listLiveSubscriptions,
  listOpenInvoices,
  listPendingRefunds,
  listPendingTakeBacks,
  listPendingTopUps,
  listUnfinishedCloses,
} from '../store/unfinished.ts';
import type { StartWorkflow, WorkflowRequest } from './ports.ts';

const PAGE_ROWS = 500;
/** What is younger is being started by whoever made it. */
const AGE_MS_MIN = 60_000;

export type Reconciler = {
  readonly db: Db;
  readonly startWorkflow: StartWorkflow;
  /** The id of the workflow that the request would start. */
  readonly idOf: (request: WorkflowRequest) => string;
  readonly runningIds: () => Promise<ReadonlySet<string>>;
};

/**
 * Starts every workflow that Postgres says must be under way and Temporal does not have: it was terminated, its server's
 * file was lost, or the process that should have started it died. Harmless to repeat: ids and rows refuse a second
 * effect. Answers how many it started.
 */
export async function reconcile(reconciler: Reconciler, now: Date): Promise<number> {
  const running = await reconciler.runningIds();
  const before = new Date(now.getTime() - AGE_MS_MIN);
  let started = 0;
  for await (const request of missingOf(reconciler.db, before)) {
    if (running.has(reconciler.idOf(request))) continue;
    await reconciler.startWorkflow(request);
    started += 1;
  }
  return started;
}

async function* missingOf(db: Db, before: Date): AsyncGenerator<WorkflowRequest> {
  const limit = PAGE_ROWS;
  for (let afterId = ''; ;) {
    const page = await listLiveSubscriptions(db, { before, afterId, limit });
    for (const { subscriptionId, state, ...summary } of page) {
      yield { kind: 'subscription', subscriptionId, activate: state === 'pending', summary };
    }
    const last = page.at(-1);
    if (last === undefined || page.length < limit) break;
    afterId = last.subscriptionId;
  }
  for (const close of await listUnfinishedCloses(db, { before, limit })) {
    yield { kind: 'periodClose', ...close, summary: close };
  }
  for (let afterId = ''; ;) {
    const page = await listOpenInvoices(db, { before, afterId, limit });
    for (const invoice of page) yield { kind: 'collection', ...invoice, summary: invoice };
    const last = page.at(-1);
    if (last === undefined || page.length < limit) break;
    afterId = last.invoiceId;
  }
  for (const { topUpId, ...summary } of await listPendingTopUps(db, { before, limit })) {
    yield { kind: 'topUp', topUpId, summary };
  }
  for (const refund of await listPendingRefunds(db, { before, limit })) {
    yield { kind: 'refund', ...refund, summary: refund };
  }
  for (const takeBack of await listPendingTakeBacks(db, { before, limit })) {
    yield { kind: 'takeBack', ...takeBack, summary: takeBack };
  }
}
