import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';

import { repositoryFolder } from '../../bin/setup/paths.ts';

/** What a person mistypes is told in a sentence, before anything is started. */
describe('system › commands refuse what they do not understand', () => {
  const rows = [
    [
      'bin/demo.ts',
      '--requests',
      'x',
      /--requests must be a whole number from 1 to 10000000, not "x"/,
    ],
    ['bin/demo.ts', '--requests', '1e3', /must be a whole number/],
    ['bin/demo.ts', '--scenario', 'nope', /--scenario takes all or one of: starter, pro,/],
    ['bin/demo.ts', '--bogus', 'x', /Unknown option '--bogus'/],
    [
      'bin/traffic.ts',
      '--concurrency',
      '0',
      /--concurrency must be a whole number from 1 to 1024, not "0"/,
    ],
    ['bin/traffic.ts', '0x10', '--path=/', /the number of requests must be a whole number/],
  ] as const;
  for (const [program, first, second, expected] of rows) {
    it(`${program} ${first} ${second}`, () => {
      const { status, stdout, stderr } = spawnSync(process.execPath, [program, first, second], {
        cwd: repositoryFolder,
        encoding: 'utf8',
      });
      assert.match(stdout + stderr, expected);
      assert.doesNotMatch(stdout + stderr, /\n {4}at /);
      assert.equal(status, 1);
    });
  }
});
