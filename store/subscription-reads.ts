/** Subscriptions as the operator sees them: rows with their names, for lists and pages. */
import type { Reader } from './db.ts';
import {
  selectPage,
  selectRow,
  selectRows,
  type Environment,
  type Page,
  type PageArgs,
} from './query.ts';

export type SubscriptionRead = {
  readonly id: string;
  readonly environment: Environment;
  readonly subscriber_id: string;
  readonly product_id: string;
  readonly plan_id: string;
  readonly plan_name: string;
  readonly plan_version: number;
  readonly plan_version_id: string;
  readonly state: 'pending' | 'active' | 'past_due' | 'canceled';
  readonly currency: string;
  readonly time_zone: string;
  readonly anchor_at: Date;
  readonly overage_enabled: boolean;
  readonly started_at: Date | null;
  readonly cancel_at: Date | null;
  readonly ended_at: Date | null;
  readonly created_at: Date;
  /** Coupons and add-ons that it holds. */
  readonly coupon_count: number;
  readonly add_on_count: number;
  /** The change of plan that waits for its day. */
  readonly pending_change: PendingChange | null;
};

export type PendingChange = {
  readonly id: string;
  readonly plan_id: string;
  readonly plan_name: string;
  readonly plan_version: number;
  /** ISO instant. */
  readonly effective_at: string;
};

const columns = `t.id, t.environment, t.subscriber_id, t.product_id, t.plan_id, p.name AS plan_name,
  v.version AS plan_version, t.plan_version_id, t.state, t.currency, t.time_zone, t.anchor_at, t.overage_enabled,
  t.started_at, t.cancel_at, t.ended_at, t.created_at,
  (SELECT count(*)::integer FROM subscription_coupons h WHERE h.subscription_id = t.id AND h.removed_at IS NULL) AS coupon_count,
  (SELECT count(*)::integer FROM subscription_add_ons h WHERE h.subscription_id = t.id
     AND (h.until_at IS NULL OR h.until_at > now())) AS add_on_count,
  (SELECT jsonb_build_object('id', c.id, 'plan_id', n.id, 'plan_name', n.name, 'plan_version', w.version, 'effective_at', c.effective_at)
     FROM plan_changes c JOIN plan_versions w ON w.id = c.to_version_id JOIN plans n ON n.id = w.plan_id
     WHERE c.subscription_id = t.id AND c.state = 'scheduled') AS pending_change`;
const from = `subscriptions t JOIN plans p ON p.id = t.plan_id JOIN plan_versions v ON v.id = t.plan_version_id`;

/** One subscription of the environment. */
export async function findSubscription(
  reader: Reader,
  environment: Environment,
  id: string,
): Promise<SubscriptionRead | null> {
  return selectRow(reader, `SELECT ${columns} FROM ${from} WHERE t.environment = ? AND t.id = ?`, [
    environment,
    id,
  ]);
}

export async function listSubscriptions(
  reader: Reader,
  filter: {
    readonly environment: Environment;
    readonly subscriberId: string | null;
    readonly state: string | null;
  },
  page: PageArgs,
): Promise<Page<SubscriptionRead>> {
  return selectPage(
    reader,
    {
      columns,
      from,
      where: `t.environment = :environment AND (:subscriber::text IS NULL OR t.subscriber_id = :subscriber)
        AND (:state::text IS NULL OR t.state = :state)`,
      bindings: {
        environment: filter.environment,
        subscriber: filter.subscriberId,
        state: filter.state,
      },
    },
    page,
  );
}

/** The subscriptions of some subscribers that have not ended. */
export async function liveSubscriptions(
  reader: Reader,
  subscriberIds: readonly string[],
): Promise<readonly SubscriptionRead[]> {
  return selectRows(
    reader,
    `SELECT ${columns} FROM ${from} WHERE t.subscriber_id = ANY (?::text[]) AND t.state <> 'canceled' ORDER BY t.created_at`,
    [subscriberIds],
  );
}
