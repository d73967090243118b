import assert from 'node:assert/strict';

import { startTestStack, type TestStack } from '../support/stack.ts';
import { until } from '../support/until.ts';

describe('setup › a running stack', function () {
  this.timeout(300_000);
  let stack: TestStack;
  before(async () => {
    stack = await startTestStack();
  });
  after(() => stack.stop());

  for (const name of ['gateway-1', 'shard-2', 'worker', 'drain', 'admin', 'postgres', 'temporal']) {
    it(`heals ${name} after kill -9`, async () => {
      const killed = stack.pidOf(name);
      assert.ok(killed !== null);
      process.kill(killed, 'SIGKILL');
      await until(() => {
        const pid = stack.pidOf(name);
        return pid === null || pid === killed ? null : pid;
      });
      assert.ok(stack.lines.some((line) => line.includes(`${name} (pid ${killed}) ended: signal`)));
    });
  }

  it('serves again when everything has been killed once', async () => {
    const urls = ['admin', 'gateway-1', 'gateway-2'].map((name) => stack.urls[name] ?? '');
    for (const url of urls) {
      const what = `${url} is ready`;
      await until(async () => ((await isReady(url)) ? true : null), { withinMs: 60_000, what });
    }
  });
});

async function isReady(url: string): Promise<boolean> {
  try {
    return (await fetch(`${url}/readyz`)).status === 200;
  } catch {
    return false;
  }
}
