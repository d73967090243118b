import { setTimeout as sleep } from 'node:timers/promises';

import { type Connection, isGrpcServiceError } from '@temporalio/client';
import { msToTs } from '@temporalio/common/lib/time.js';

import { searchAttributes } from '../../workflows/contracts.ts';

/** `temporal.api.enums.v1.IndexedValueType`. */
const kinds = {
  Text: 1,
  Keyword: 2,
  Int: 3,
  Double: 4,
  Bool: 5,
  Datetime: 6,
  KeywordList: 7,
} as const;

/**
 * Longer than the default of a day: a workflow id refuses a second start only while its run is
 * retained. Unique keys in Postgres are the real guard; this keeps the first one up.
 */
const RETENTION = '90 days';
/** gRPC's status code. */
const UNIMPLEMENTED = 12;
const READY_ATTEMPTS_MAX = 100;
const READY_PAUSE_MS = 100;

/**
 * Gives the namespace our search attributes and retention; repeating it changes nothing. A server
 * that was just started on an existing file is waited for, up to ten seconds.
 * Throws what the server said when it refuses.
 */
export async function prepareNamespace(connection: Connection, namespace: string): Promise<void> {
  await whenServing(connection, namespace);
  await registerSearchAttributes(connection, namespace);
  await connection.workflowService.updateNamespace({
    namespace,
    config: { workflowExecutionRetentionTtl: msToTs(RETENTION) },
  });
}

/** Adds those of our search attributes that the namespace does not have yet. */
export async function registerSearchAttributes(
  connection: Connection,
  namespace: string,
): Promise<void> {
  const known = await knownSearchAttributes(connection, namespace);
  const missing = Object.entries(searchAttributes)
    .filter(([name]) => !known.has(name))
    .map(([name, kind]) => [name, kinds[kind]] as const);
  if (missing.length === 0) return;
  await connection.operatorService.addSearchAttributes({
    namespace,
    searchAttributes: Object.fromEntries(missing),
  });
}

async function knownSearchAttributes(
  connection: Connection,
  namespace: string,
): Promise<ReadonlySet<string>> {
  try {
    const known = await connection.operatorService.listSearchAttributes({ namespace });
    return new Set(Object.keys(known.customAttributes));
  } catch (error) {
    // The time-skipping server cannot list; it is always new, so it knows none.
    const code: number | null = isGrpcServiceError(error) ? error.code : null;
    if (code === UNIMPLEMENTED) return new Set();
    throw error;
  }
}

/** The port opens before the namespace can be described. */
async function whenServing(connection: Connection, namespace: string): Promise<void> {
  for (let attempt = 1; ; attempt += 1) {
    try {
      await connection.workflowService.describeNamespace({ namespace });
      return;
    } catch (error) {
      if (attempt === READY_ATTEMPTS_MAX) throw error;
      await sleep(READY_PAUSE_MS);
    }
  }
}
