/**
 * What linters lack: the map matches the territory, released migrations stay as they were, every
 * refusal has a test, nothing half done or bound to one machine is left in the files.
 */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';

import { problemCodes } from '../billing/problem.ts';
import { repositoryFolder } from '../bin/setup/paths.ts';

const skipped = new Set(['node_modules', '.git', '.tollbook', 'reports', '.stryker-tmp']);

function filesUnder(folder: string): readonly string[] {
  return readdirSync(join(repositoryFolder, folder), { withFileTypes: true })
    .filter(({ name }) => !skipped.has(name))
    .flatMap((entry) => {
      const path = folder === '' ? entry.name : `${folder}/${entry.name}`;
      return entry.isDirectory() ? filesUnder(path) : [path];
    });
}

function textOf(path: string): string {
  return readFileSync(join(repositoryFolder, path), 'utf8');
}

/** The words below are put together so that this file does not find itself. */
const word = (...parts: readonly string[]): string => parts.join('');

describe('tidy', () => {
  const files = filesUnder('').filter((path) => path !== 'package-lock.json');
  const sources = files.filter((path) =>
    /\.(ts|mjs|lua|sql|json|md|sh|css|html|ya?ml)$/.test(path),
  );

  it('nothing half done is left', () => {
    const marks = [word('FIX', 'ME'), word('TO', 'DO:'), word('TEMPO', 'RARY')];
    const found = sources.flatMap((path) =>
      marks.filter((mark) => textOf(path).includes(mark)).map((mark) => `${path}: ${mark}`),
    );
    assert.deepEqual(found, []);
  });

  it('nothing is bound to one machine', () => {
    const places = [word('/wo', 'rk/'), word('/ro', 'ot/'), word('/home', '/')];
    const found = sources.flatMap((path) =>
      places.filter((place) => textOf(path).includes(place)).map((place) => `${path}: ${place}`),
    );
    assert.deepEqual(found, []);
  });

  it('every folder with code is on the map', () => {
    const map = textOf('ARCHITECTURE.md');
    const folders = readdirSync(repositoryFolder)
      .filter((name) => !name.startsWith('.') && !skipped.has(name))
      .filter((name) => statSync(join(repositoryFolder, name)).isDirectory());
    assert.ok(folders.includes('billing'));
    assert.deepEqual(
      folders.filter((name) => !map.includes(`\`${name}/\``)),
      [],
    );
  });

  it('every file of the room of money stands in its README, under its subject', () => {
    const readme = textOf('billing/README.md');
    const owned = readme.slice(readme.indexOf('## Owns'), readme.indexOf('## How an invoice'));
    const named = [...owned.matchAll(/`([a-z][\w/-]*)`/g)].map((match) => match[1] ?? '');
    const inRoom = filesUnder('billing')
      .filter((path) => path.endsWith('.ts'))
      .map((path) => path.slice('billing/'.length, -'.ts'.length));
    assert.ok(inRoom.length > 40);
    assert.deepEqual(
      named.filter((name) => name !== 'store/rating-sql').toSorted(),
      inRoom.toSorted(),
    );
  });

  it('every file that the documents name exists', () => {
    const documents = files.filter((path) => path.endsWith('.md') && path !== 'CONTRACTS.md');
    const missing = documents.flatMap((document) =>
      [...textOf(document).matchAll(/`([a-z]+\/[\w./-]+\.(?:ts|sql|lua|md|json))`/g)]
        .map((match) => match[1] ?? '')
        .filter((path) => !files.some((file) => file === path || file.endsWith(`/${path}`)))
        .map((path) => `${document}: ${path}`),
    );
    assert.deepEqual(missing, []);
  });

  it('every refusal is named in a test', () => {
    const tests = files
      .filter((path) => path.startsWith('test/') && path !== 'test/tidy.test.ts')
      .map(textOf)
      .join('\n');
    assert.deepEqual(
      problemCodes.filter((code) => !tests.includes(code)),
      [],
    );
  });

  it('a migration that has landed is not edited', () => {
    const frozen: unknown = JSON.parse(textOf('test/snapshots/migrations.json'));
    const found = Object.fromEntries(
      files
        .filter((path) => path.startsWith('migrations/'))
        .map((path) => [path, createHash('sha256').update(textOf(path)).digest('hex')]),
    );
    // A new migration is added here when it lands; a line that is there never changes again.
    assert.deepEqual(found, frozen);
  });
});
