/** Who sells, per environment: what an invoice is headed with, and what applies where nobody says otherwise. */
import type { Reader, Tx } from './db.ts';
import { type Environment, insertedRow } from './query.ts';

export type OperatorSettings = {
  readonly name: string | null;
  readonly address: string | null;
  readonly email: string | null;
  readonly taxId: string | null;
  /** Printed at the foot of every invoice. */
  readonly footer: string | null;
  /** BCP 47, for subscribers that have none of their own. */
  readonly locale: string;
  /** How long a period invoice waits as a draft, in ms; 0: it is finalized when its period is closed. */
  readonly draftGraceMs: number;
  /** For subscribers that have none of their own, in the order in which invoices show them. */
  readonly taxRateIds: readonly string[];
};

const columns = `name, address, email, tax_id AS "taxId", footer, locale, draft_grace_ms AS "draftGraceMs",
  tax_rate_ids AS "taxRateIds"`;

type Row = Omit<OperatorSettings, 'draftGraceMs'> & { readonly draftGraceMs: bigint };

/** The settings of an environment; every environment has them. */
export async function readOperatorSettings(
  db: Reader,
  environment: string,
): Promise<OperatorSettings> {
  const row = await insertedRow<Row>(
    db,
    `SELECT ${columns} FROM operator_settings WHERE environment = ?`,
    [environment],
  );
  return settingsOf(row);
}

/** The same, locked until the transaction ends: whoever changes some of them writes all. */
export async function lockOperatorSettings(
  tx: Tx,
  environment: Environment,
): Promise<OperatorSettings> {
  const row = await insertedRow<Row>(
    tx,
    `SELECT ${columns} FROM operator_settings WHERE environment = ? FOR UPDATE`,
    [environment],
  );
  return settingsOf(row);
}

/** Writes all settings of an environment. Final invoices keep those that they were issued with. */
export async function updateOperatorSettings(
  tx: Tx,
  environment: Environment,
  settings: OperatorSettings,
): Promise<OperatorSettings> {
  const row = await insertedRow<Row>(
    tx,
    `UPDATE operator_settings SET name = :name, address = :address, email = :email, tax_id = :tax_id, footer = :footer,
       locale = :locale, draft_grace_ms = :draft_grace_ms, tax_rate_ids = :tax_rate_ids, updated_at = now()
     WHERE environment = :environment RETURNING ${columns}`,
    {
      environment,
      name: settings.name,
      address: settings.address,
      email: settings.email,
      tax_id: settings.taxId,
      footer: settings.footer,
      locale: settings.locale,
      draft_grace_ms: settings.draftGraceMs,
      tax_rate_ids: settings.taxRateIds,
    },
  );
  return settingsOf(row);
}

/** At most 35 days: it fits a number. */
function settingsOf(row: Row): OperatorSettings {
  return { ...row, draftGraceMs: Number(row.draftGraceMs) };
}
