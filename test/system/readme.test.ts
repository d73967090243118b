import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';

import { repositoryFolder } from '../../bin/setup/paths.ts';
import { systemStack } from './stack.ts';

/** The commands of the README's first five minutes, as they stand there, against a fresh start. */
describe('system › README › the first five minutes', function () {
  this.timeout(300_000);
  const readme = readFileSync(join(repositoryFolder, 'README.md'), 'utf8');
  const [, section = ''] = /## The first five minutes\n([\s\S]*?)\n---/.exec(readme) ?? [];
  const blocks = [...section.matchAll(/```sh\n([\s\S]*?)```/g)].map(([, text = '']) => text);

  it('has two blocks of commands, and words that a newcomer knows', () => {
    assert.equal(blocks.length, 2);
    const firstScreen = readme.slice(0, readme.indexOf('\n---'));
    const ours =
      /\b(subscriber|wallet|hold|settle|meter|shard|drain|ledger|segment|grant|entitlement|quota)s?\b/i;
    const prose = firstScreen.replaceAll(/```[\s\S]*?```|`[^`]*`/g, '');
    assert.doesNotMatch(prose, ours);
  });

  it('serves one request, refuses the other, and shows the invoice so far', async () => {
    const { stack } = await systemStack();
    const env = join(stack.stateDir, 'demo.env');
    const lines = (blocks[0] ?? '')
      .split('\n')
      .filter((line) => line !== '' && !line.startsWith('#'));
    const [source, served, refused, bill] = lines.map((line) =>
      line.replace('.tollbook/demo.env', env),
    );
    assert.match(run(`${source}\n${served}`), /^HTTP\/1\.1 200 /);
    const answer = run(`${source}\n${refused}`);
    assert.match(answer, /^HTTP\/1\.1 402 /);
    assert.match(answer, /"code":"credit_exhausted"/);
    const invoice: unknown = JSON.parse(run(`${source}\n${bill}`));
    assert.ok(
      typeof invoice === 'object' && invoice !== null && 'lines' in invoice && 'total' in invoice,
    );
  });

  it('sends traffic, and turns 82,450 requests into one paid invoice of $82.45', async () => {
    const { stack } = await systemStack();
    const commands = (blocks[1] ?? '').split('\n').map((line) => line.replace(/#.*/, '').trim());
    const [traffic, demo, reset] = commands.filter((line) => line !== '');
    assert.equal(traffic, 'npm run traffic -- 5000');
    assert.match(run(traffic, stack.environment), /Sent 5000: 5000 served, 0 refused, 0 failed\./);
    assert.equal(demo, 'npm run demo');
    const said = run(demo, stack.environment);
    assert.match(said, /API Calls \(82,450 calls × \$0\.001\) +\$82\.45/);
    assert.match(said, /Closing the same period again changed nothing\./);
    const last: unknown = JSON.parse(said.trimEnd().split('\n').at(-1) ?? '');
    assert.ok(typeof last === 'object' && last !== null && 'invoice' in last);
    assert.equal(Reflect.get(last, 'metered'), 82_450);
    const { number, ...invoice } = Object(last.invoice);
    assert.match(number, /^INV-\d{4}-\d{4,}$/);
    assert.deepEqual(invoice, { total: '82.45', currency: 'USD', status: 'paid' });
    assert.equal(reset, 'npm run reset');
    const refused = spawnSync('bash', ['-c', reset], {
      cwd: repositoryFolder,
      env: { ...process.env, ...stack.environment },
      encoding: 'utf8',
    });
    assert.notEqual(refused.status, 0, 'a stack that runs is not reset');
    assert.match(refused.stdout + refused.stderr, /runs|running/i);
  });

  it('keeps what was made of the demo catalogue: a plan that is archived stays so', async () => {
    const { stack, api } = await systemStack();
    await api.post('/plans/custom/archive');
    const said = run('npm run -s seed', stack.environment);
    assert.match(said, /"product":"demo"/);
    assert.match((await api.get('/plans/custom')).text('archived_at'), /^\d{4}-/);
  });
});

function run(script: string, environment: Readonly<Record<string, string>> = {}): string {
  const { status, stdout, stderr } = spawnSync('bash', ['-ec', script], {
    cwd: repositoryFolder,
    env: { ...process.env, ...environment },
    encoding: 'utf8',
    maxBuffer: 16 * 1024 * 1024,
  });
  assert.equal(status, 0, `${script}\n${stdout}\n${stderr}`);
  return stdout;
}
