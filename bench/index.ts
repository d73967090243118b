/** `npm run bench -- <what> [--json] […]`: each bench is a file that reads the rest of the arguments. */
const benches = new Map<string, () => Promise<unknown>>([
  ['close', () => import('./close.ts')],
  ['closing', () => import('./closing.ts')],
  ['drain', () => import('./drain.ts')],
  ['gateway', () => import('./gateway.ts')],
  ['shard', () => import('./shard.ts')],
]);

const [name = ''] = process.argv.splice(2, 1);
const bench = benches.get(name);
if (bench === undefined) {
  console.error(`usage: npm run bench -- <${[...benches.keys()].join(' | ')}> [--json]`);
  process.exitCode = 2;
} else {
  await bench();
}
