/** What one credit is, in the words of the products that sell it. */
import type { Reader } from './db.ts';
import { type Environment, selectRows } from './query.ts';

/**
 * By unit. Products that the subscriber is subscribed to speak before the others of the environment; where several of
 * them say different things of one unit, all of them are quoted.
 */
export async function creditDefinitions(
  reader: Reader,
  of: { readonly environment: Environment; readonly subscriberId: string },
): Promise<ReadonlyMap<string, string>> {
  const rows = await selectRows<{ unit: string; definition: string; is_subscribed: boolean }>(
    reader,
    `SELECT v.credit_terms->>'unit' AS unit, p.credit_definition AS definition,
       bool_or(s.id IS NOT NULL) AS is_subscribed
     FROM products p JOIN plans l ON l.product_id = p.id JOIN plan_versions v ON v.plan_id = l.id
       LEFT JOIN subscriptions s ON s.product_id = p.id AND s.subscriber_id = :subscriber AND s.state <> 'canceled'
     WHERE p.environment = :environment AND v.credit_terms IS NOT NULL AND p.credit_definition IS NOT NULL
     GROUP BY 1, 2 ORDER BY 1, 2`,
    { environment: of.environment, subscriber: of.subscriberId },
  );
  return new Map(
    [...Map.groupBy(rows, ({ unit }) => unit)].map(([unit, ofUnit]) => {
      const subscribed = ofUnit.filter(({ is_subscribed }) => is_subscribed);
      const speaking = subscribed.length === 0 ? ofUnit : subscribed;
      return [unit, speaking.map(({ definition }) => definition).join(' / ')];
    }),
  );
}
