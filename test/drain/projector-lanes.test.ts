import assert from 'node:assert/strict';

import { makeLanes } from '../../drain/lanes.ts';
import { ShardUnavailable } from '../../shards/port.ts';
import { until } from '../support/until.ts';

const away = new ShardUnavailable('a', 'unknown', 'shard a: Connection is closed.');
const broken = new ShardUnavailable(
  'a',
  'unknown',
  'shard a: ERR user_script:1: a mistake of ours',
);

describe('drain/lanes', () => {
  it('never runs work on one key beside itself, and joins what waits into the latest', async () => {
    const lanes = makeLanes(() => {});
    const gate = Promise.withResolvers<void>();
    const ran: string[] = [];
    const first = lanes.add('a', 'k', async () => {
      await gate.promise;
      ran.push('first');
    });
    const second = lanes.add('a', 'k', async () => {
      ran.push('second');
      return Promise.resolve();
    });
    const third = lanes.add('a', 'k', async () => {
      ran.push('third');
      return Promise.resolve();
    });
    gate.resolve();
    assert.deepEqual(await Promise.all([first, second, third]), ['done', 'done', 'done']);
    assert.deepEqual(ran, ['first', 'third']);
    assert.equal(lanes.count(), 0);
  });

  it('bounds what runs on one shard, and one full shard holds up no other', async () => {
    const lanes = makeLanes(() => {});
    const gate = Promise.withResolvers<void>();
    let running = 0;
    const ends = Array.from({ length: 20 }, (_, index) =>
      lanes.add('a', `k${index}`, async () => {
        running += 1;
        await gate.promise;
      }),
    );
    assert.equal(await lanes.add('b', 'k', () => Promise.resolve()), 'done');
    assert.equal(running, 8);
    gate.resolve();
    assert.deepEqual(new Set(await Promise.all(ends)), new Set(['done']));
    assert.equal(running, 20);
  });

  it('backs off from a shard that is away, drops what waits for it, and tries again later', async () => {
    const failures: string[] = [];
    const lanes = makeLanes(({ key }) => failures.push(key));
    assert.equal(await lanes.add('a', 'k', () => Promise.reject(away)), 'away');
    assert.equal(lanes.isAway('a'), true);
    assert.equal(lanes.isAway('b'), false);
    assert.equal(await lanes.add('a', 'l', () => Promise.resolve()), 'away');
    assert.deepEqual(failures, ['k']);
    await until(() => (lanes.isAway('a') ? null : true));
    assert.equal(await lanes.add('a', 'l', () => Promise.resolve()), 'done');
    await lanes.add('a', 'k', () => Promise.reject(away));
    lanes.clear('a');
    assert.equal(lanes.isAway('a'), false);
  });

  it('does not hold against the shard what broke for one subscriber', async () => {
    const lanes = makeLanes(() => {});
    assert.equal(await lanes.add('a', 'k', () => Promise.reject(broken)), 'failed');
    assert.equal(await lanes.add('a', 'k', () => Promise.reject(new RangeError('bad'))), 'failed');
    assert.equal(lanes.isAway('a'), false);
  });

  it('stops: what runs ends, what waits is dropped, what comes later is refused', async () => {
    const lanes = makeLanes(() => {});
    const gate = Promise.withResolvers<void>();
    const running = lanes.add('a', 'k', () => gate.promise);
    const waiting = lanes.add('a', 'k', () => Promise.resolve());
    const stopped = lanes.stop();
    gate.resolve();
    await stopped;
    assert.deepEqual(await Promise.all([running, waiting]), ['done', 'away']);
    assert.equal(await lanes.add('a', 'k', () => Promise.resolve()), 'away');
  });
});
