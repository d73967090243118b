/** Top-ups as they are shown. */
import type { Reader } from './db.ts';
import { selectPage, selectRow, type Environment, type Page, type PageArgs } from './query.ts';

export type TopUpRead = {
  readonly id: string;
  readonly environment: Environment;
  readonly subscriber_id: string;
  readonly unit: string;
  readonly credits_micro: bigint;
  /** Of them, what credit notes took back, or are about to. */
  readonly taken_back_micro: bigint;
  readonly amount_minor: bigint;
  readonly currency: string;
  readonly state: 'pending' | 'granted' | 'declined' | 'failed';
  readonly payment_id: string | null;
  readonly invoice_id: string | null;
  readonly decline_code: string | null;
  readonly created_at: Date;
};

const columns = `t.id, t.environment, t.subscriber_id, w.unit, t.credits_micro, t.amount_minor, t.currency, t.state,
  t.payment_id, t.invoice_id, y.decline_code, t.created_at,
  (SELECT coalesce(sum(k.taken_micro), 0)::bigint FROM take_backs k WHERE k.invoice_id = t.invoice_id) AS taken_back_micro`;
const from =
  'top_ups t JOIN wallets w ON w.id = t.wallet_id LEFT JOIN payments y ON y.id = t.payment_id';

/** One top-up of the environment. */
export async function findTopUp(
  reader: Reader,
  environment: Environment,
  id: string,
): Promise<TopUpRead | null> {
  return selectRow(reader, `SELECT ${columns} FROM ${from} WHERE t.environment = ? AND t.id = ?`, [
    environment,
    id,
  ]);
}

export async function listTopUps(
  reader: Reader,
  subscriberId: string,
  page: PageArgs,
): Promise<Page<TopUpRead>> {
  return selectPage(
    reader,
    { columns, from, where: 't.subscriber_id = :subscriberId', bindings: { subscriberId } },
    page,
  );
}
