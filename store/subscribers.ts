import type { Reader, Tx } from './db.ts';
import { newId } from './ids.ts';
import {
  insertedRow,
  selectNamed,
  selectPageOf,
  type Environment,
  type Page,
  type PageArgs,
} from './query.ts';

export type SubscriberRow = {
  readonly id: string;
  readonly environment: Environment;
  readonly lookup_id: string | null;
  readonly name: string;
  readonly email: string | null;
  readonly address: string | null;
  readonly tax_id: string | null;
  readonly time_zone: string;
  readonly payment_method: string | null;
  readonly tax_status: 'taxable' | 'exempt' | 'reverse_charge';
  readonly tax_exempt_reason: string | null;
  /** Null: the operator's. Empty: none. */
  readonly tax_rate_ids: readonly string[] | null;
  /** BCP 47. Null: the operator's. */
  readonly locale: string | null;
  readonly slot: number;
  readonly clock_offset_ms: bigint;
  readonly runtime_version: bigint;
  readonly core_seq: bigint;
  readonly applied_version: bigint;
  readonly applied_core_seq: bigint;
  readonly created_at: Date;
};

export type SubscriberFields = Pick<
  SubscriberRow,
  | 'lookup_id'
  | 'name'
  | 'email'
  | 'address'
  | 'tax_id'
  | 'time_zone'
  | 'payment_method'
  | 'tax_status'
  | 'tax_exempt_reason'
  | 'tax_rate_ids'
  | 'locale'
>;

/** One subscriber of the environment by id or lookup_id. */
export async function findSubscriber(
  reader: Reader,
  environment: Environment,
  ref: string,
): Promise<SubscriberRow | null> {
  return selectNamed(reader, { table: 'subscribers' }, environment, ref);
}

export async function listSubscribers(
  reader: Reader,
  environment: Environment,
  page: PageArgs,
): Promise<Page<SubscriberRow>> {
  return selectPageOf(reader, { table: 'subscribers' }, environment, page);
}

/** Inserts a subscriber; `slotOf` gives the slot of the new id. Rejects with unique_violation when the lookup_id is taken. */
export async function insertSubscriber(
  tx: Tx,
  environment: Environment,
  fields: SubscriberFields,
  slotOf: (subscriberId: string) => number,
): Promise<SubscriberRow> {
  const id = newId('sbr');
  return insertedRow(
    tx,
    `INSERT INTO subscribers (id, environment, slot, lookup_id, name, email, address, tax_id, time_zone, payment_method,
                              tax_status, tax_exempt_reason, tax_rate_ids, locale)
     VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) RETURNING *`,
    [id, environment, slotOf(id), ...fieldBindings(fields)],
  );
}

/** Writes all changeable fields. None of them reaches the gateway, so the runtime version stays. */
export async function updateSubscriber(
  tx: Tx,
  id: string,
  fields: SubscriberFields,
): Promise<SubscriberRow> {
  return insertedRow(
    tx,
    `UPDATE subscribers SET lookup_id = ?, name = ?, email = ?, address = ?, tax_id = ?, time_zone = ?,
       payment_method = ?, tax_status = ?, tax_exempt_reason = ?, tax_rate_ids = ?, locale = ? WHERE id = ? RETURNING *`,
    [...fieldBindings(fields), id],
  );
}

function fieldBindings(fields: SubscriberFields): readonly (string | null | readonly string[])[] {
  return [
    fields.lookup_id,
    fields.name,
    fields.email,
    fields.address,
    fields.tax_id,
    fields.time_zone,
    fields.payment_method,
    fields.tax_status,
    fields.tax_exempt_reason,
    fields.tax_rate_ids,
    fields.locale,
  ];
}
