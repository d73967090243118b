import type { Reader } from './db.ts';
import type { Environment } from './query.ts';

export type AuditRecord = {
  readonly environment: Environment | null;
  /** `token:<id>` or the name of a process. */
  readonly actor: string;
  /** `plan.publish`, `api_key.revoke`, … */
  readonly action: string;
  readonly objectId: string | null;
  readonly requestId: string | null;
  /** Ids, names and states; never a secret. */
  readonly details: Readonly<Record<string, unknown>>;
};

/** Appends one record to the audit log, in the transaction of the change that it tells of. */
export async function appendAudit(tx: Reader, record: AuditRecord): Promise<void> {
  await tx.raw(
    `INSERT INTO audit_log (environment, actor, action, object_id, request_id, details)
     VALUES (?, ?, ?, ?, ?, ?)`,
    [
      record.environment,
      record.actor,
      record.action,
      record.objectId,
      record.requestId,
      JSON.stringify(record.details),
    ],
  );
}
