import type { Db } from './db.ts';

/** Whether Postgres answers a trivial query within `timeoutMs`. */
export async function isDatabaseUp(db: Db, timeoutMs: number): Promise<boolean> {
  const { promise: late, resolve } = Promise.withResolvers<boolean>();
  const timer = setTimeout(() => resolve(false), timeoutMs);
  const asked = db
    .raw('SELECT 1')
    .then(() => true)
    .catch(() => false);
  try {
    return await Promise.race([asked, late]);
  } finally {
    clearTimeout(timer);
  }
}
