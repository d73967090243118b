/**
 * Runs worked examples (`{"cases":[{id, kind, input, expect, runnable, …}]}`) through the production code of billing/.
 * `npm run -s cases -- FILE…`: a line for each failure, and at the end `N passed, N failed, N skipped`. Ends with an error
 * when a case fails or a file cannot be read.
 */
import { runFiles } from './cases/run.ts';

// npm runs commands in the folder of the package, and says where it was called.
const isGood = runFiles(process.argv.slice(2), process.env['INIT_CWD'] ?? '.', {
  say: (line) => {
    console.log(line);
  },
  complain: (line) => {
    console.error(line);
  },
});
process.exitCode = isGood ? 0 : 1;
