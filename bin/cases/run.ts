import { existsSync, readFileSync } from 'node:fs';
import { resolve } from 'node:path';

import { type Entry, readExamples, type ReadResult } from './read.ts';
import { verdictOf } from './runners.ts';

/** Where lines go: what came of the cases, and what is wrong with the files. */
export type Output = {
  readonly say: (line: string) => void;
  readonly complain: (line: string) => void;
};

type Tally = { passed: number; failed: number; skipped: number };

/**
 * Runs the cases of files: a line for each that fails, and a last one with the sums of all files. A file that cannot be
 * read does not keep the others from being run.
 * @param from The folder that files are first looked for in; else the current one.
 * @returns Whether every file was read and no case failed.
 */
export function runFiles(files: readonly string[], from: string, output: Output): boolean {
  if (files.length === 0) {
    output.complain('usage: npm run -s cases -- FILE…   (JSON files with {"cases": […]})');
    return false;
  }
  const tally: Tally = { passed: 0, failed: 0, skipped: 0 };
  let isReadable = true;
  for (const file of files) {
    const read = readFile(file, from);
    if (read.kind === 'ok') {
      for (const entry of read.entries) runEntry(entry, tally, output);
    } else {
      isReadable = false;
      output.complain(`${file}: ${read.why}`);
    }
  }
  output.say(`${tally.passed} passed, ${tally.failed} failed, ${tally.skipped} skipped`);
  return isReadable && tally.failed === 0;
}

function runEntry(entry: Entry, tally: Tally, output: Output): void {
  const line = (name: string, faults: readonly string[]): string =>
    `${name}: ${faults.join('; ')}`.replaceAll(/\s*\n\s*/g, ' ');
  const failed = (name: string, faults: readonly string[]): void => {
    tally.failed += 1;
    output.say(`FAILED ${line(name, faults)}`);
  };
  switch (entry.kind) {
    case 'skipped':
      tally.skipped += 1;
      return;
    case 'malformed':
      failed(entry.id, [entry.why]);
      return;
    case 'example': {
      const { id, kind } = entry.example;
      const { faults, unread } = verdictOf(entry.example);
      const name = `${id} (${kind})`;
      if (faults.length > 0) {
        failed(name, [...faults, ...unread]);
        return;
      }
      tally.passed += 1;
      if (unread.length > 0) output.complain(line(name, ['it passes', ...unread]));
      return;
    }
    default:
      entry satisfies never;
  }
}

function readFile(file: string, from: string): ReadResult {
  try {
    const asked = resolve(from, file);
    return readExamples(readFileSync(existsSync(asked) ? asked : resolve(file), 'utf8'));
  } catch (error) {
    return { kind: 'unreadable', why: error instanceof Error ? error.message : String(error) };
  }
}
