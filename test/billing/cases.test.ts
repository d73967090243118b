import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { differences } from '../../bin/cases/compare.ts';
import { readExamples } from '../../bin/cases/read.ts';
import { runnerOf } from '../../bin/cases/runners.ts';

/** Worked examples of the field (`cases/*.json`), run through the production code. */
const folder = new URL('cases/', import.meta.url);

describe('billing › worked examples of the field', () => {
  for (const name of readdirSync(folder)) {
    const read = readExamples(readFileSync(new URL(name, folder), 'utf8'));
    assert.ok(read.kind === 'ok', name);
    for (const { id, kind, input, expect, runnable } of read.examples) {
      if (!runnable) continue;
      it(`${kind} ${id}`, () => {
        const run = runnerOf(kind);
        assert.ok(run !== null, `no runner for ${kind}`);
        assert.deepEqual(differences(run(input, expect), expect), []);
      });
    }
  }
});

describe('billing › the runner of examples', () => {
  let files = '';
  before(() => {
    files = mkdtempSync(join(tmpdir(), 'tollbook-cases-'));
  });
  after(() => {
    rmSync(files, { recursive: true, force: true });
  });

  function run(...contents: readonly string[]) {
    const paths = contents.map((content, index) => {
      const path = join(files, `${index}.json`);
      writeFileSync(path, content);
      return path;
    });
    const program = new URL('../../bin/cases.ts', import.meta.url).pathname;
    const { status, stdout, stderr } = spawnSync(process.execPath, [program, ...paths], {
      encoding: 'utf8',
    });
    return { status, lines: stdout.trim().split('\n'), stderr };
  }
  const example = (kind: string, input: object, expect: object, runnable = true) => ({
    ...{ id: 'one', kind, input, expect, runnable },
  });
  const file = (...cases: readonly object[]): string => JSON.stringify({ cases });

  it('counts what passes, fails and is skipped, and says what it expected', () => {
    const round = (amount: string) => example('money.round', { amount: '0.005' }, { amount });
    const result = run(
      file(round('0.01'), round('0.00'), example('anything', {}, {}, false)),
      file(example('no.such.kind', {}, { x: 1 })),
    );
    assert.deepEqual(result.lines, [
      'FAILED one (money.round): amount: expected "0.00", actual "0.01"',
      'FAILED one (no.such.kind): no rule of billing/ answers the kind no.such.kind',
      '1 passed, 2 failed, 1 skipped',
    ]);
    assert.equal(result.status, 1);
  });

  it('ends well when nothing fails', () => {
    const hours = example(
      'period.at',
      { anchor: '2025-03-01T00:30', interval: 'PT1H', at: '2025-02-28' },
      { period: ['2025-02-27T23:30:00Z', '2025-02-28T00:30Z'] },
    );
    const yen = example('tax.round', { base: 999, rate: 10.5, currency: 'JPY' }, { tax: '105' });
    const dinar = example(
      'money.round',
      { amount: '1.2345', currency: 'KWD' },
      { amount: '1.235' },
    );
    const result = run(file(hours, yen, dinar));
    assert.deepEqual([result.status, result.lines], [0, ['3 passed, 0 failed, 0 skipped']]);
  });

  it('names a field that nothing works out, an input that is missing, and a refusal that was expected', () => {
    const result = run(
      file(
        example('money.round', { amount: '1' }, { colour: 'red' }),
        example('money.round', {}, { amount: '1.00' }),
        example('money.allocate', { amount: '1', weights: [0] }, { error: true }),
        example('money.allocate', { amount: '1', weights: [1] }, { error: true }),
        example('money.round', { amount: '1' }, {}),
      ),
    );
    assert.deepEqual(result.lines, [
      'FAILED one (money.round): no rule works out colour',
      'FAILED one (money.round): expected {"amount":"1.00"}, got the error: input.amount is missing',
      'FAILED one (money.allocate): expected an error, got an answer',
      'FAILED one (money.round): nothing is expected',
      '1 passed, 4 failed, 0 skipped',
    ]);
  });

  it('fails clearly on files that it cannot read', () => {
    for (const [content, why] of [
      ['{', /it is not JSON/],
      ['[]', /it has no list "cases"/],
      [JSON.stringify({ cases: [{ id: 'a', runnable: true }] }), /cases\[0\] lacks/],
    ] as const) {
      const result = run(content);
      assert.match(result.stderr, why);
      assert.equal(result.status, 1);
      assert.deepEqual(result.lines, ['0 passed, 0 failed, 0 skipped']);
    }
    assert.match(run().stderr, /usage/);
  });
});
