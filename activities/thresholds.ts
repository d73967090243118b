import type { Db } from '../store/db.ts';
import { isThresholdReached, listWatchedPeriods } from '../store/thresholds.ts';

const PAGE_ROWS = 200;

export type ThresholdWatch = {
  readonly db: Db;
  /** Asks the subscription's workflow to close the period here. Harmless to repeat. */
  readonly askClose: (of: {
    readonly subscriptionId: string;
    readonly periodId: string;
  }) => Promise<void>;
};

/**
 * Has every period cut whose usage costs as much as its plan waits for: the part that is over is invoiced, the rest goes
 * on. Harmless to repeat: a period is cut once, and what is billed does not count for the next part. Answers how many
 * were asked for.
 */
export async function cutAtThresholds(watch: ThresholdWatch, now: Date): Promise<number> {
  let asked = 0;
  for (let afterId = ''; ;) {
    const page = await listWatchedPeriods(watch.db, { now, afterId, limit: PAGE_ROWS });
    for (const watched of page) {
      if (!(await isThresholdReached(watch.db, watched))) continue;
      const { subscriptionId, periodId } = watched;
      await watch.askClose({ subscriptionId, periodId });
      asked += 1;
    }
    const last = page.at(-1);
    if (last === undefined || page.length < PAGE_ROWS) return asked;
    afterId = last.subscriptionId;
  }
}
