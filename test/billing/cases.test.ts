import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { readExamples } from '../../bin/cases/read.ts';
import { runFiles } from '../../bin/cases/run.ts';
import { verdictOf } from '../../bin/cases/runners.ts';

/** Worked examples of the field (`cases/*.json`) and our own (`cases/own.json`), run through the production code. */
const folder = new URL('cases/', import.meta.url);

describe('billing › worked examples', () => {
  for (const name of readdirSync(folder)) {
    const read = readExamples(readFileSync(new URL(name, folder), 'utf8'));
    assert.ok(read.kind === 'ok', name);
    for (const entry of read.entries) {
      if (entry.kind === 'skipped') continue;
      assert.ok(entry.kind === 'example', `${name} holds a malformed case`);
      const { example } = entry;
      it(`${example.kind} ${example.id}`, () => {
        assert.deepEqual(verdictOf(example), { faults: [], unread: [] });
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

  function write(...contents: readonly string[]): readonly string[] {
    return contents.map((content, index) => {
      const path = join(files, `${index}.json`);
      writeFileSync(path, content);
      return path;
    });
  }
  function runPaths(paths: readonly string[]) {
    const lines: string[] = [];
    const complaints: string[] = [];
    const isGood = runFiles(paths, files, {
      say: (line) => lines.push(line),
      complain: (line) => complaints.push(line),
    });
    return { isGood, lines, complaints };
  }
  const run = (...contents: readonly string[]) => runPaths(write(...contents));
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
    assert.ok(!result.isGood);
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
    assert.deepEqual([result.isGood, result.lines], [true, ['3 passed, 0 failed, 0 skipped']]);
  });

  it('names a field that nothing works out, an input that is missing, and a refusal that was expected', () => {
    const result = run(
      file(
        example('money.round', { amount: '1' }, { colour: 'red' }),
        example('money.round', {}, { amount: '1.00' }),
        example('money.allocate', { amount: '1', weights: [0] }, { error: true }),
        example('money.allocate', { amount: '1', weights: [1] }, { error: true }),
        example('money.allocate', { amount: '1', weights: [1] }, { error: false, parts: [1] }),
        example('money.round', { amount: '1' }, { note: 'a remark is no expectation' }),
      ),
    );
    assert.deepEqual(result.lines, [
      'FAILED one (money.round): no rule works out colour',
      'FAILED one (money.round): expected {"amount":"1.00"}, got the error: input.amount is missing',
      'FAILED one (money.allocate): expected {"error":true}, got an answer: parts ["1.00"]',
      'FAILED one (money.round): nothing is expected',
      '2 passed, 4 failed, 0 skipped',
    ]);
  });

  it('has one line for a case, with all that differs', () => {
    const input = { price: '10', off: '3', currency: 'USD' };
    const result = run(file(example('discount.fixed', input, { discount: '4.00', final: 6.5 })));
    assert.deepEqual(result.lines, [
      'FAILED one (discount.fixed): discount: expected "4.00", actual "3.00"; final: expected 6.5, actual "7.00"',
      '0 passed, 1 failed, 0 skipped',
    ]);
  });

  it('tells of a field that no rule reads, also where a case passes without it; remarks and nulls say nothing', () => {
    const tier = { upTo: null, unit: '2', flat: '0' };
    const volume = (more: object, inTier: object = {}) =>
      example(
        'price.volume',
        { tiers: [{ ...tier, ...inTier }], quantity: '3', ...more },
        { amount: '6' },
      );
    const result = run(
      file(
        volume({ note: 'three', source: 'x', _comment: 'y', currency: null, discount: null }),
        volume({ cap: '5', maximum: '7' }),
        volume({ packageSize: 10 }),
        { ...volume({ alreadyBilledQuantity: '1' }, { percent: '3' }), expect: { amount: '4' } },
        example(
          'price.stairstep',
          { tiers: [{ ...tier, flat: '6' }], quantity: '3' },
          { amount: '6' },
        ),
      ),
    );
    assert.deepEqual(result.lines, [
      'FAILED one (price.volume): expected {"amount":"6"}, got the error: the input says maximum and cap',
      'FAILED one (price.volume): amount: expected "4", actual "6"; no rule of price.volume reads input.alreadyBilledQuantity; no rule of price.volume reads input.tiers[0].percent',
      'FAILED one (price.stairstep): expected {"amount":"6"}, got the error: a step has no unit price',
      '2 passed, 3 failed, 0 skipped',
    ]);
    assert.deepEqual(result.complaints, [
      'one (price.volume): it passes; no rule of price.volume reads input.packageSize',
    ]);
  });

  it('reads numbers as they are spelled, whether they are numbers or texts of the file', () => {
    const json = (input: string, expect: string): string =>
      `{"id": "one", "kind": "money.round", "runnable": true, "input": ${input}, "expect": ${expect}}`;
    const cases = [
      json('{"amount": 12345678901234567890.125}', '{"amount": 12345678901234567890.13}'),
      json('{"amount": 12345678901234567890.125}', '{"amount": 12345678901234567890.12}'),
      json('{"amount": 0.00499999999999999999999999999}', '{"amount": "0"}'),
      json('{"amount": "+1E-2"}', '{"amount": 1e-2}'),
      json('{"amount": 1e3, "currency": "jpy"}', '{"amount": "1000.0"}'),
    ];
    assert.deepEqual(run(`\uFEFF{"cases": [${cases.join(',')}]}`).lines, [
      'FAILED one (money.round): amount: expected 12345678901234567890.12, actual "12345678901234567890.13"',
      '4 passed, 1 failed, 0 skipped',
    ]);
  });

  it('takes what a clock shows twice for both, and names no zone or interval that is none', () => {
    const period = (input: object, expect: readonly string[]) =>
      example('period.at', { interval: 'day', ...input }, { period: expect });
    const tz = 'America/New_York';
    const winter = { tz, anchor: '2024-01-01T01:30', at: '2024-11-03T12:00' };
    const result = run(
      file(
        period(winter, ['2024-11-03T01:30', '2024-11-04T01:30']),
        period(winter, ['2024-11-03T06:30Z', '2024-11-04T06:30Z']),
        period(winter, ['2024-11-03', '2024-11-04']),
        period(winter, ['2024-11-03T01:29', '2024-11-04T01:30']),
        period({ ...winter, tz: 'Mars/Phobos' }, ['2024-11-03', '2024-11-04']),
        period({ ...winter, interval: 'P0D' }, ['2024-11-03', '2024-11-04']),
        period({ ...winter, at: '1730635200' }, ['2024-11-03', '2024-11-04']),
      ),
    );
    const expected = 'expected {"period":["2024-11-03","2024-11-04"]}, got the error:';
    assert.deepEqual(result.lines, [
      'FAILED one (period.at): period: expected ["2024-11-03T01:29","2024-11-04T01:30"], actual ["2024-11-03T01:30:00.000-05:00", "2024-11-04T01:30:00.000-05:00"]',
      `FAILED one (period.at): ${expected} there is no zone Mars/Phobos`,
      `FAILED one (period.at): ${expected} no interval: P0D`,
      `FAILED one (period.at): ${expected} input.at is no date or instant: 1730635200`,
      '3 passed, 4 failed, 0 skipped',
    ]);
  });

  it('says of a kind with another convention which rule is ours', () => {
    const other = example('proration.fixed30', { price: '19.95' }, { amount: '5.32' });
    assert.match(
      run(file(other)).lines[0] ?? '',
      /no rule of billing\/ answers the kind proration\.fixed30; our rule is another one: .*real days/,
    );
  });

  it('fails a case of the wrong shape, and runs the others', () => {
    const good = example('money.round', { amount: '1' }, { amount: '1.00' });
    const result = run(
      file(
        [],
        { id: 'a', runnable: true },
        { ...good, input: 'x' },
        { ...good, id: 7, expect: null },
        { ...good, runnable: 'yes' },
        { runnable: false, input: 'x' },
        good,
      ),
      '{"cases": [1, null]}',
    );
    assert.deepEqual(result.lines, [
      'FAILED cases[0]: it is no object',
      'FAILED a: it lacks a text "kind"',
      'FAILED one: it lacks an object "input"',
      'FAILED cases[3]: it lacks an object "expect"',
      'FAILED one: "runnable" is neither true nor false',
      'FAILED cases[0]: it is no object',
      'FAILED cases[1]: it is no object',
      '1 passed, 7 failed, 1 skipped',
    ]);
    assert.ok(!result.isGood);
  });

  it('fails clearly on files that it cannot read, and runs the others', () => {
    const good = file(example('money.round', { amount: '1' }, { amount: '1.00' }));
    for (const [content, why] of [
      ['{', /0\.json: it is not JSON/],
      ['[]', /0\.json: it has no list "cases"/],
      ['{"cases": {}}', /0\.json: it has no list "cases"/],
    ] as const) {
      const result = run(content, good);
      assert.match(result.complaints.join(), why);
      assert.ok(!result.isGood);
      assert.deepEqual(result.lines, ['1 passed, 0 failed, 0 skipped']);
    }
    const missing = runPaths([join(files, 'nowhere.json')]);
    assert.match(missing.complaints.join(), /nowhere\.json: ENOENT/);
    assert.deepEqual([missing.isGood, missing.lines], [false, ['0 passed, 0 failed, 0 skipped']]);
    assert.match(run().complaints.join(), /usage/);
  });

  it('says it all as a program, from where npm was called, with its end in the exit code', () => {
    const round = (amount: string) => example('money.round', { amount: '1' }, { amount });
    write(file(round('1.00')), file(round('2.00')));
    const program = new URL('../../bin/cases.ts', import.meta.url).pathname;
    const end = (...paths: readonly string[]) => {
      const { status, stdout, stderr } = spawnSync(process.execPath, [program, ...paths], {
        encoding: 'utf8',
        env: { ...process.env, INIT_CWD: files },
      });
      return [status, stdout.trim().split('\n').at(-1), stderr !== ''];
    };
    assert.deepEqual(end('0.json'), [0, '1 passed, 0 failed, 0 skipped', false]);
    assert.deepEqual(end('0.json', '1.json', 'nowhere.json'), [
      1,
      '1 passed, 1 failed, 0 skipped',
      true,
    ]);
  });
});
