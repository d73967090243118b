/**
 * The import directions of the rooms, proved by failing ones: for every room a file that imports
 * every other room and every package that matters is linted, and exactly the forbidden imports must
 * be reported. So neither a rule that was lost nor one that forbids too much passes unseen.
 */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { copyFileSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { repositoryFolder } from '../bin/setup/paths.ts';

const rooms = [
  ...['billing', 'shards', 'store', 'drain', 'payments', 'activities', 'workflows'],
  ...['gateway', 'admin', 'portal', 'migrations', 'bin', 'bench', 'test'],
] as const;
type Room = (typeof rooms)[number];

/** What each room may import, beyond itself. */
const allowedRooms: Readonly<Record<Room, readonly string[]>> = {
  billing: [],
  shards: ['billing'],
  store: ['billing'],
  drain: ['billing', 'store', 'shards'],
  payments: ['billing'],
  activities: ['billing', 'store', 'shards', 'payments'],
  // Values of activities/ are a row of their own below.
  workflows: ['billing'],
  gateway: ['billing', 'shards'],
  // Of workflows/ only contracts.ts: a row of its own below.
  admin: ['billing', 'store', 'shards'],
  portal: ['billing', 'store', 'shards'],
  migrations: [],
  bin: rooms,
  bench: rooms,
  test: rooms,
};

/** The packages that a room must not import; any other of `packages` must stay allowed. */
const packages = [
  ...['node:fs', 'decimal.js', 'luxon', 'pg', 'knex', 'ioredis', 'express', 'zod', 'undici'],
  ...['@temporalio/client', '@temporalio/worker', '@temporalio/workflow', '@temporalio/activity'],
] as const;
const temporal = packages.filter((name) => name.startsWith('@temporalio/'));
const forbiddenPackages: Readonly<Record<Room, readonly string[]>> = {
  billing: packages.filter((name) => name !== 'decimal.js' && name !== 'luxon'),
  shards: ['pg', 'knex', 'express', ...temporal],
  store: ['ioredis', 'express', ...temporal],
  drain: ['pg', 'knex', 'ioredis', 'express', ...temporal],
  payments: ['pg', 'knex', 'ioredis', ...temporal],
  activities: [
    ...['pg', 'knex', 'ioredis', 'express'],
    ...temporal.filter((name) => name !== '@temporalio/activity'),
  ],
  workflows: [
    ...['node:fs', 'pg', 'knex', 'ioredis', 'express'],
    ...temporal.filter((name) => name !== '@temporalio/workflow'),
  ],
  gateway: ['pg', 'knex', 'ioredis', ...temporal],
  admin: ['pg', 'knex', 'ioredis', ...temporal.filter((name) => name !== '@temporalio/client')],
  portal: ['pg', 'knex', 'ioredis', ...temporal.filter((name) => name !== '@temporalio/client')],
  migrations: [],
  bin: [],
  bench: [],
  test: [],
};

/** One generated file with one import or statement in it. */
type Row = { readonly file: string; readonly text: string; readonly isForbidden: boolean };

describe('rooms', function () {
  this.timeout(120_000);
  let folder = '';
  before(() => {
    folder = mkdtempSync(join(tmpdir(), 'tollbook-rooms-'));
    for (const file of ['.oxlintrc.json', 'tsconfig.json', 'package.json']) {
      copyFileSync(join(repositoryFolder, file), join(folder, file));
    }
    symlinkSync(join(repositoryFolder, 'node_modules'), join(folder, 'node_modules'));
  });
  after(() => {
    rmSync(folder, { recursive: true, force: true });
  });

  it('a room imports what the design allows, and nothing else', () => {
    const rows = rooms.flatMap((room) => [
      ...importsOfRooms(room),
      ...importsOfPackages(room),
      ...specialImports(room),
    ]);
    const found = lint(folder, rows, 'no-restricted-imports');
    const wrong = rows
      .filter(({ file, isForbidden }) => found.has(file) !== isForbidden)
      .map((one) => `${one.file} should ${one.isForbidden ? '' : 'not '}be refused: ${one.text}`);
    assert.deepEqual(wrong, []);
    assert.ok(rows.filter(({ isForbidden }) => isForbidden).length > 100);
  });

  it('billing has no clock, no environment, no timers, no chance and no I/O', () => {
    const words = ['Date.now()', 'process.env', 'setTimeout(() => 1)', 'fetch("x")', 'console'];
    const rows = words.map((word, index) => ({
      file: `billing/global-${index}.ts`,
      text: `export const value = ${word};`,
      isForbidden: true,
    }));
    assert.equal(lint(folder, rows, 'no-restricted-globals').size, words.length);
    const chance = {
      file: 'billing/chance.ts',
      text: 'export const value = Math.random();',
      isForbidden: true,
    };
    assert.equal(lint(folder, [chance], 'no-restricted-properties').size, 1);
  });

  it('an activity that is not awaited is found', () => {
    const head =
      `import { proxyActivities } from '@temporalio/workflow';\n` +
      `const { charge } = proxyActivities<{ charge(id: string): Promise<void> }>({ startToCloseTimeout: 1000, scheduleToCloseTimeout: 1000 });\n`;
    const flow = (body: string): string =>
      `${head}export async function pay(): Promise<void> {\n  ${body}\n}\n`;
    const rows = [
      { file: 'workflows/forgotten.ts', text: flow(`charge('a');`), isForbidden: true },
      { file: 'workflows/awaited.ts', text: flow(`await charge('a');`), isForbidden: false },
    ];
    assert.deepEqual([...lint(folder, rows, 'no-floating-promises')], ['workflows/forgotten.ts']);
  });
});

function importsOfRooms(room: Room): readonly Row[] {
  return rooms
    .filter((other) => other !== room && other !== 'workflows' && other !== 'activities')
    .flatMap((other) => {
      const isForbidden = !allowedRooms[room].includes(other);
      return [
        row(room, `to-${other}`, `export { x } from '../${other}/x.ts';`, isForbidden),
        row(`${room}/deep`, `to-${other}`, `import '../../${other}/a/x.ts';`, isForbidden),
        row(room, `type-${other}`, `export type { X } from '../${other}/x.ts';`, isForbidden),
      ];
    });
}

function importsOfPackages(room: Room): readonly Row[] {
  return packages.map((name, index) =>
    row(room, `package-${index}`, `import '${name}';`, forbiddenPackages[room].includes(name)),
  );
}

function specialImports(room: Room): readonly Row[] {
  const isFree = ['bin', 'bench', 'test'].includes(room);
  const isServer = room === 'admin' || room === 'portal';
  const rows: Row[] = [];
  if (room !== 'migrations') {
    rows.push(row(room, 'own', `export { y } from './y.ts';`, false));
  }
  if (room !== 'workflows') {
    rows.push(
      row(room, 'flows', `export { x } from '../workflows/period-close.ts';`, !isFree),
      row(room, 'ids', `export { x } from '../workflows/contracts.ts';`, !isFree && !isServer),
    );
  }
  if (room !== 'activities') {
    const isTypeAllowed = isFree || room === 'workflows';
    rows.push(
      row(room, 'acts', `export { x } from '../activities/x.ts';`, !isFree),
      row(room, 'act-type', `import type { X } from '../activities/x.ts';`, !isTypeAllowed),
    );
  }
  return rows;
}

function row(folder: string, name: string, text: string, isForbidden: boolean): Row {
  return { file: `${folder}/${name}.ts`, text, isForbidden };
}

/** The files in which oxlint reports `rule`. */
function lint(folder: string, rows: readonly Row[], rule: string): ReadonlySet<string> {
  for (const { file, text } of rows) {
    mkdirSync(join(folder, file, '..'), { recursive: true });
    writeFileSync(join(folder, file), `${text}\n`);
  }
  const files = rows.map(({ file }) => file);
  const run = spawnSync(
    join(repositoryFolder, 'node_modules', '.bin', 'oxlint'),
    ['--type-aware', '--format', 'json', ...files],
    { cwd: folder, encoding: 'utf8', maxBuffer: 64 * 1024 * 1024 },
  );
  const report: unknown = JSON.parse(run.stdout);
  assert.ok(isReport(report), `oxlint gave no report: ${run.stderr}`);
  for (const file of files) rmSync(join(folder, file));
  return new Set(
    report.diagnostics.filter(({ code }) => code.includes(rule)).map(({ filename }) => filename),
  );
}

type Report = {
  readonly diagnostics: readonly { readonly code: string; readonly filename: string }[];
};

function isReport(value: unknown): value is Report {
  return (
    typeof value === 'object' &&
    value !== null &&
    'diagnostics' in value &&
    Array.isArray(value.diagnostics)
  );
}
