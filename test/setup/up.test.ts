import assert from 'node:assert/strict';
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { processStart } from '../../bin/setup/lock.ts';
import { repositoryFolder } from '../../bin/setup/paths.ts';
import { type StackFile, readStackFile } from '../../bin/setup/stack-file.ts';
import { testStackEnvironment } from '../support/stack.ts';
import { until } from '../support/until.ts';

describe('setup › npm start', function () {
  this.timeout(300_000);
  let stateDir = '';
  let environment: NodeJS.ProcessEnv = {};
  const starts: Started[] = [];

  before(async () => {
    stateDir = mkdtempSync(join(tmpdir(), 'tollbook-up-'));
    environment = { ...process.env, ...(await testStackEnvironment(stateDir)) };
  });
  after(async () => {
    // Those that a failing test has left.
    for (const { child, ended } of starts) {
      child.kill('SIGTERM');
      await ended;
    }
    rmSync(stateDir, { recursive: true, force: true });
  });

  type Started = {
    readonly child: ChildProcess;
    readonly output: () => string;
    readonly ended: Promise<number | null>;
  };
  function start(): Started {
    const child = spawn(process.execPath, ['bin/bootstrap.mjs', 'start'], {
      cwd: repositoryFolder,
      env: environment,
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    let output = '';
    const keep = (chunk: Buffer): void => {
      output += chunk.toString('utf8');
    };
    child.stdout.on('data', keep);
    child.stderr.on('data', keep);
    const ended = new Promise<number | null>((resolve) => {
      child.once('close', (code) => {
        resolve(code);
      });
    });
    const started: Started = { child, output: () => output, ended };
    starts.push(started);
    return started;
  }
  async function ready({ output, child }: Started): Promise<StackFile> {
    return until(
      () => {
        assert.equal(child.exitCode, null, output());
        const stack = readStackFile(stateDir);
        return output().includes('Tollbook runs') && stack?.isReady === true ? stack : null;
      },
      { withinMs: 120_000, what: 'the stack is up' },
    );
  }
  const alive = (stack: StackFile): readonly string[] =>
    stack.processes
      .filter(({ pid, startedAt }) => processStart(pid) === startedAt)
      .map(({ name }) => name);
  const run = (command: string): { readonly code: number | null; readonly said: string } => {
    const done = spawnSync(process.execPath, ['bin/bootstrap.mjs', command], {
      cwd: repositoryFolder,
      env: environment,
      encoding: 'utf8',
    });
    return { code: done.status, said: done.stdout + done.stderr };
  };

  it('comes up, refuses a second one and a reset, and Ctrl-C leaves no process', async () => {
    const first = start();
    const stack = await ready(first);
    assert.deepEqual(stack.processes.map(({ name }) => name).toSorted(), [
      ...['admin', 'demo-upstream', 'drain', 'gateway-1', 'gateway-2', 'payments', 'postgres'],
      ...['shard-1', 'shard-2', 'shard-3', 'temporal', 'worker'],
    ]);
    const second = run('start');
    assert.equal(second.code, 1);
    assert.match(second.said, /The stack runs already \(pid \d+/);
    const reset = run('reset');
    assert.equal(reset.code, 1);
    assert.match(reset.said, /The stack is running/);
    assert.equal(run('doctor').code, 0);

    first.child.kill('SIGINT');
    assert.equal(await first.ended, 0, first.output());
    assert.deepEqual(alive(stack), []);
    assert.equal(readStackFile(stateDir), null);
  });

  it('resumes the same state, and clears what a killed supervisor left', async () => {
    const token = readFileSync(join(stateDir, 'admin-token'), 'utf8');
    const second = start();
    const stack = await ready(second);
    assert.equal(stack.environment['ADMIN_TOKEN'], token.trim());
    process.kill(stack.pid, 'SIGKILL');
    await second.ended;
    assert.ok(alive(stack).length > 0, 'a supervisor that is killed cannot stop its processes');

    const third = start();
    const healed = await ready(third);
    assert.match(third.output(), /The last run was killed; ended what it had left: /);
    assert.deepEqual(alive(stack), []);
    third.child.kill('SIGTERM');
    assert.equal(await third.ended, 0, third.output());
    assert.deepEqual(alive(healed), []);
  });

  it('names a port that is taken and the variable that moves it; reset gives the first minute back', async () => {
    const server = createServer();
    const port = Number(environment['ADMIN_PORT']);
    await new Promise<void>((resolve) => {
      server.listen(port, '127.0.0.1', resolve);
    });
    const refused = run('start');
    await new Promise((resolve) => {
      server.close(resolve);
    });
    assert.equal(refused.code, 1);
    assert.match(refused.said, new RegExp(`Port ${port} \\(admin\\) is in use`));
    assert.match(refused.said, /ADMIN_PORT=… npm start/);
    assert.equal(run('reset').code, 0);
    assert.equal(existsSync(stateDir), false);
  });
});
