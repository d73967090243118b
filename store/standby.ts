/** Work that one process at a time does: the others stand by and take over when it ends or loses Postgres. */
import { setTimeout as sleep } from 'node:timers/promises';

import pg from 'pg';

/** How often a standby asks for the lock, and how often its holder makes sure that it still has the session. */
const ASK_EACH_MS = 500;
const PROVE_EACH_MS = 2_000;

export type Standby = {
  readonly databaseUrl: string;
  /** What the lock is for; the same name is the same lock, in every process on this database. */
  readonly name: string;
  /** Told when Postgres is away or the lock is lost; the wait goes on. */
  readonly onTrouble: (error: unknown) => void;
};

/**
 * Waits for the lock, then runs `work`; when the session to Postgres is lost, or `signal` aborts, the signal given to
 * `work` aborts and `work` must come to its end. Runs it again whenever the lock is had again, until `signal` aborts.
 * What `work` throws goes to `onTrouble`, and it is run again a little later.
 */
export async function runWhenLeader(
  standby: Standby,
  signal: AbortSignal,
  work: (signal: AbortSignal) => Promise<void>,
): Promise<void> {
  while (!signal.aborted) {
    try {
      await holdOnce(standby, signal, work);
    } catch (error) {
      if (!signal.aborted) standby.onTrouble(error);
    }
    await sleep(ASK_EACH_MS, undefined, { signal }).catch(() => {});
  }
}

async function holdOnce(
  { databaseUrl, name }: Standby,
  signal: AbortSignal,
  work: (signal: AbortSignal) => Promise<void>,
): Promise<void> {
  const client = new pg.Client({
    connectionString: databaseUrl,
    application_name: `tollbook-lock-${name}`,
    connectionTimeoutMillis: 5_000,
    query_timeout: 5_000,
    keepAlive: true,
  });
  const lost = new AbortController();
  client.on('error', () => {
    lost.abort();
  });
  client.on('end', () => {
    lost.abort();
  });
  try {
    await client.connect();
    if (!(await acquire(client, name, signal))) return;
    const running = AbortSignal.any([signal, lost.signal]);
    const proof = prove(client, running).catch(() => {
      lost.abort();
    });
    try {
      await work(running);
    } finally {
      lost.abort();
      await proof;
    }
  } finally {
    await client.end().catch(() => {});
  }
}

async function acquire(client: pg.Client, name: string, signal: AbortSignal): Promise<boolean> {
  while (!signal.aborted) {
    const answer = await client.query<{ acquired: boolean }>(
      'SELECT pg_try_advisory_lock(hashtextextended($1, 0)) AS acquired',
      [`tollbook:${name}`],
    );
    if (answer.rows[0]?.acquired === true) return true;
    await sleep(ASK_EACH_MS, undefined, { signal }).catch(() => {});
  }
  return false;
}

/** A session that no longer answers has lost its lock, whatever the socket says. */
async function prove(client: pg.Client, signal: AbortSignal): Promise<void> {
  while (!signal.aborted) {
    await sleep(PROVE_EACH_MS, undefined, { signal }).catch(() => {});
    if (!signal.aborted) await client.query('SELECT 1');
  }
}
