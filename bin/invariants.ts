/**
 * `npm run invariants`: asks the database (that of the stack, or of DATABASE_URL) whether everything that must be true of it is. Prints one line
 * a violation; ends with 1 when there is one. `--json` prints one JSON array instead.
 */
import { findViolations, invariants } from '../store/invariants.ts';
import { openDb } from '../store/db.ts';
import { readConfig } from './config.ts';

const { databaseUrl } = readConfig(process.env);
const db = openDb(databaseUrl, { poolMax: 1, name: 'tollbook-invariants' });
try {
  // One snapshot: sums that are read one after the other must be of the same moment.
  const violations = await db.transaction((tx) => findViolations(tx), {
    isolationLevel: 'repeatable read',
    readOnly: true,
  });
  if (process.argv.includes('--json')) console.log(JSON.stringify(violations));
  else {
    for (const { id, sentence, subject, detail } of violations) {
      console.log(`${id} ${sentence}\n    ${subject}: ${detail}`);
    }
    console.log(`${invariants.length} invariants, ${violations.length} violations`);
  }
  process.exitCode = violations.length === 0 ? 0 : 1;
} finally {
  await db.destroy();
}
