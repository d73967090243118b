import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { existsSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { lockHolder, tryLock, withLock } from '../../bin/setup/lock.ts';
import { repositoryFolder } from '../../bin/setup/paths.ts';
import { until } from '../support/until.ts';

describe('setup › lock', () => {
  let folder = '';
  let file = '';
  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'tollbook-lock-'));
    file = join(folder, 'lock');
  });
  afterEach(() => {
    rmSync(folder, { recursive: true, force: true });
  });

  it('names the live holder, and is free again when released', () => {
    const taken = tryLock(file);
    assert.ok(typeof taken === 'function');
    const second = tryLock(file);
    assert.ok(typeof second !== 'function');
    assert.equal(second.pid, process.pid);
    taken();
    assert.equal(lockHolder(file), null);
    assert.deepEqual(readdirSync(folder), []);
  });

  it('takes over from a holder that was killed, from a pid that was given out again, and from rubbish', async () => {
    const script = `import { tryLock } from './bin/setup/lock.ts'; tryLock(${JSON.stringify(file)}); setInterval(() => 1, 1000);`;
    const child = spawn(process.execPath, ['--input-type=module-typescript', '-e', script], {
      cwd: repositoryFolder,
      stdio: 'ignore',
    });
    await until(() => (lockHolder(file)?.pid === child.pid ? true : null));
    assert.ok(typeof tryLock(file) !== 'function');
    const ended = new Promise((resolve) => child.once('exit', resolve));
    child.kill('SIGKILL');
    await ended;
    const stale = [null, JSON.stringify({ pid: process.pid, startedAt: 'long ago' }), 'rubbish'];
    for (const content of stale) {
      if (content !== null) writeFileSync(file, content);
      assert.ok(existsSync(file));
      assert.equal(lockHolder(file), null);
      const taken = tryLock(file);
      assert.ok(typeof taken === 'function');
      taken();
    }
  });

  it('lets one at a time do the work', async () => {
    let inside = 0;
    let most = 0;
    await Promise.all(
      Array.from({ length: 4 }, () =>
        withLock(file, async () => {
          inside += 1;
          most = Math.max(most, inside);
          await new Promise((resolve) => setImmediate(resolve));
          inside -= 1;
        }),
      ),
    );
    assert.equal(most, 1);
  });
});
