import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { processStart } from '../../bin/setup/lock.ts';
import { freePort, isListening } from '../../bin/setup/ports.ts';
import { startRedisServer } from '../../bin/setup/redis-server.ts';
import { supervise } from '../../bin/setup/supervisor.ts';
import { until } from '../support/until.ts';

describe('setup › supervisor', () => {
  let folder = '';
  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'tollbook-supervisor-'));
  });
  afterEach(() => {
    rmSync(folder, { recursive: true, force: true });
  });

  it('heals a process that is killed, says so, and stops it for good', async () => {
    const port = await freePort();
    const lines: string[] = [];
    const shard = await supervise(
      { name: 'shard-1', start: () => startRedisServer({ port, folder }) },
      { say: (line) => lines.push(line), onChange: () => undefined },
    );
    const first = shard.pid();
    assert.ok(first !== null);
    process.kill(first, 'SIGKILL');
    const second = await until(() => {
      const pid = shard.pid();
      return pid !== null && pid !== first ? pid : null;
    });
    assert.ok(await isListening(port));
    assert.match(
      lines[0] ?? '',
      /^✗ shard-1 \(pid \d+\) ended: signal SIGKILL\. Starting it again/,
    );
    assert.match(lines[1] ?? '', /^✓ shard-1 runs again/);
    await shard.stop();
    assert.equal(processStart(second), null);
    assert.equal(await isListening(port), false);
  });

  it('a stop while it is being started again leaves nothing', async () => {
    const port = await freePort();
    const shard = await supervise(
      { name: 'shard-1', start: () => startRedisServer({ port, folder }) },
      { say: () => undefined, onChange: () => undefined },
    );
    const pid = shard.pid();
    assert.ok(pid !== null);
    process.kill(pid, 'SIGKILL');
    await until(() => (shard.pid() === null ? true : null));
    await shard.stop();
    assert.equal(shard.pid(), null);
    assert.equal(await isListening(port), false);
  });
});
