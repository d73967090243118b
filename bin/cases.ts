/**
 * Runs worked examples (`{"cases":[{id, kind, input, expect, runnable, …}]}`) through the production code of billing/.
 * `npm run -s cases -- FILE…`: a line for each failure, and at the end `N passed, N failed, N skipped`.
 */
import { readFileSync } from 'node:fs';

import { differences } from './cases/compare.ts';
import { type Example, readExamples } from './cases/read.ts';
import { runnerOf } from './cases/runners.ts';

type Tally = { passed: number; failed: number; skipped: number };

function main(files: readonly string[]): boolean {
  if (files.length === 0) {
    console.error('usage: npm run -s cases -- FILE…   (JSON files with {"cases": […]})');
    return false;
  }
  const tally: Tally = { passed: 0, failed: 0, skipped: 0 };
  const unreadable = files.filter((file) => !runFile(file, tally));
  console.log(`${tally.passed} passed, ${tally.failed} failed, ${tally.skipped} skipped`);
  return tally.failed === 0 && unreadable.length === 0;
}

/** False when the file could not be read. */
function runFile(file: string, tally: Tally): boolean {
  const read = readFile(file);
  if (read.kind === 'unreadable') {
    console.error(`${file}: ${read.why}`);
    return false;
  }
  for (const example of read.examples) {
    if (!example.runnable) {
      tally.skipped += 1;
      continue;
    }
    const faults = faultsOf(example);
    if (faults.length === 0) tally.passed += 1;
    else tally.failed += 1;
    for (const fault of faults) console.log(`FAILED ${example.id} (${example.kind}): ${fault}`);
  }
  return true;
}

function readFile(file: string): ReturnType<typeof readExamples> {
  try {
    return readExamples(readFileSync(file, 'utf8'));
  } catch (error) {
    return { kind: 'unreadable', why: messageOf(error) };
  }
}

/** What differs, in words; an example that expects an error passes when the rules refuse its input. */
function faultsOf({ kind, input, expect }: Example): readonly string[] {
  const run = runnerOf(kind);
  if (run === null) return [`no rule of billing/ answers the kind ${kind}`];
  const isRefusal = expect['error'] !== undefined && expect['error'] !== false;
  try {
    const actual = run(input, expect);
    return isRefusal ? ['expected an error, got an answer'] : differences(actual, expect);
  } catch (error) {
    if (isRefusal && error instanceof RangeError) return [];
    return [`expected ${JSON.stringify(expect)}, got the error: ${messageOf(error)}`];
  }
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

process.exitCode = main(process.argv.slice(2)) ? 0 : 1;
