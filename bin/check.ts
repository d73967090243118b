/**
 * `npm run check`: the one gate: format, lint, types, unused code, tests, each with its time; all are
 * run even when one fails. `npm run fix` mends what the formatter and the linter can. Names of
 * stages as arguments run only those: `npm run check -- format lint`.
 */
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';

import { runMain } from './setup/main.ts';
import { repositoryFolder } from './setup/paths.ts';
import { SetupProblem } from './setup/problem.ts';

type Stage = { readonly name: string; readonly program: string; readonly words: readonly string[] };

const checks: readonly Stage[] = [
  { name: 'format', program: 'oxfmt', words: ['--check', '.'] },
  { name: 'lint', program: 'oxlint', words: ['--type-aware', '--deny-warnings', '.'] },
  { name: 'types', program: 'tsc', words: ['--project', '.'] },
  { name: 'unused', program: 'knip', words: ['--no-progress'] },
  { name: 'tests', program: 'node', words: [join('bin', 'test.ts')] },
];
const fixes: readonly Stage[] = [
  { name: 'lint', program: 'oxlint', words: ['--type-aware', '--fix', '.'] },
  { name: 'format', program: 'oxfmt', words: ['.'] },
];

await runMain(async () => {
  const given = process.argv.slice(2).filter((word) => word !== '--fix');
  const all = process.argv.includes('--fix') ? fixes : checks;
  const unknown = given.filter((name) => !all.some((stage) => stage.name === name));
  if (unknown.length > 0) {
    throw new SetupProblem(
      `No stage ${unknown.join(', ')}; there are ${all.map(({ name }) => name).join(', ')}.`,
    );
  }
  const stages = given.length === 0 ? all : all.filter(({ name }) => given.includes(name));
  const results = stages.map((stage) => ({ ...stage, ...run(stage) }));
  console.log('');
  for (const { name, isGood, tookMs } of results) {
    console.log(
      `${isGood ? '✓' : '✗'} ${name.padEnd(8)} ${(tookMs / 1000).toFixed(1).padStart(7)} s`,
    );
  }
  if (results.some(({ isGood }) => !isGood)) process.exitCode = 1;
});

function run({ name, program, words }: Stage): { isGood: boolean; tookMs: number } {
  console.log(`\n• ${name}: ${[program, ...words].join(' ')}`);
  const startedAt = Date.now();
  const file =
    program === 'node' ? process.execPath : join(repositoryFolder, 'node_modules', '.bin', program);
  const { status } = spawnSync(file, [...words], { cwd: repositoryFolder, stdio: 'inherit' });
  return { isGood: status === 0, tookMs: Date.now() - startedAt };
}
