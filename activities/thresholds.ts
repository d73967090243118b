import type { Db } from '../store/db.ts';
import {
  isThresholdReached,
  listWatchedPeriods,
  noteLooks,
  type WatchedPeriod,
} from '../store/thresholds.ts';

const PAGE_ROWS = 200;

export type ThresholdWatch = {
  readonly db: Db;
  /** Asks the subscription's workflow to close the period here. Harmless to repeat. */
  readonly askClose: (of: {
    readonly subscriptionId: string;
    readonly periodId: string;
  }) => Promise<void>;
};

/** How many periods were priced, since their usage had changed, and how many of them were asked to close. */
export type ThresholdLook = { readonly priced: number; readonly asked: number };

/**
 * Has every period cut whose usage costs as much as its plan waits for: the part that is over is invoiced, the rest goes
 * on. Harmless to repeat: a period is cut once, and what is billed does not count for the next part. One that cannot be
 * priced or asked for keeps no other from it.
 * @throws AggregateError with what failed, when all others are done.
 */
export async function cutAtThresholds(watch: ThresholdWatch, now: Date): Promise<ThresholdLook> {
  const failures: unknown[] = [];
  let [priced, asked] = [0, 0];
  for (let afterId = ''; ;) {
    const page = await listWatchedPeriods(watch.db, { now, afterId, limit: PAGE_ROWS });
    const below: WatchedPeriod[] = [];
    for (const watched of page) {
      try {
        priced += 1;
        if (await isThresholdReached(watch.db, watched, now)) {
          const { subscriptionId, periodId } = watched;
          await watch.askClose({ subscriptionId, periodId });
          asked += 1;
        } else {
          below.push(watched);
        }
      } catch (error) {
        failures.push(error);
      }
    }
    await noteLooks(watch.db, below);
    const last = page.at(-1);
    if (last === undefined || page.length < PAGE_ROWS) break;
    afterId = last.subscriptionId;
  }
  if (failures.length > 0) throw new AggregateError(failures, `${failures.length} looks failed`);
  return { priced, asked };
}
