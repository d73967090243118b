import assert from 'node:assert/strict';

import { Redis } from 'ioredis';

import {
  startKeeper,
  type Keeper,
  type KeeperDeps,
  type KeeperStatus,
} from '../../drain/keeper.ts';
import { createShards } from '../../shards/client.ts';
import { ShardUnavailable } from '../../shards/port.ts';
import { newId } from '../../store/ids.ts';
import { openCursor } from '../../store/stream-cursors.ts';
import { hasHeldAnything, readShard, readSlotMap } from '../../store/slots.ts';
import { until } from '../support/until.ts';
import { type Control, openControl, quiet, untilWritten } from './control-fixture.ts';

/** A drainer that moves the cursor to the end of the stream as soon as it is let, and remembers whom it drained for. */
function fakeDrainer(control: Control, gate: Promise<void> = Promise.resolve()) {
  const started: number[] = [];
  let running = 0;
  const startDrainer: KeeperDeps['startDrainer'] = (incarnation) => {
    started.push(incarnation);
    running += 1;
    const stopping = new AbortController();
    const stream = { shard: 'shard-1', incarnation };
    const work = (async () => {
      await gate;
      // Where two keepers race, so do their drainers; the row is there in any case.
      await openCursor(control.db, stream).catch(() => {});
      while (!stopping.signal.aborted) {
        const end = (await control.links[0]?.lastStreamId().catch(() => null)) ?? null;
        if (end !== null && end !== '0-0')
          await control.db('shard_cursors').where(stream).update({ stream_id: end });
        await new Promise((resolve) => {
          setTimeout(resolve, 20);
        });
      }
    })();
    return {
      stop: async () => {
        stopping.abort();
        await work;
        running -= 1;
      },
    };
  };
  return { startDrainer, started, running: () => running };
}

describe('drain/keeper', () => {
  let control: Control;
  let keepers: Keeper[];
  let raw: Redis;
  beforeEach(async () => {
    control = await openControl(1);
    keepers = [];
    raw = new Redis(server().url, { maxRetriesPerRequest: null });
    raw.on('error', () => {});
  });
  afterEach(async () => {
    await Promise.all(keepers.map((keeper) => keeper.stop()));
    raw.disconnect();
    await control.close();
  });

  const server = () => {
    const [first] = control.servers;
    assert.ok(first !== undefined);
    return first;
  };
  const link = () => {
    const [first] = control.links;
    assert.ok(first !== undefined);
    return first;
  };
  const keep = (options: Partial<KeeperDeps> = {}): Keeper => {
    const keeper = startKeeper({
      db: control.db,
      link: link(),
      startDrainer: fakeDrainer(control).startDrainer,
      log: quiet,
      pingEachMs: 50,
      ...options,
    });
    keepers.push(keeper);
    return keeper;
  };
  const reach = (
    keeper: Keeper,
    state: KeeperStatus['state'],
    incarnation: number,
  ): Promise<KeeperStatus> =>
    until(
      () => {
        const status = keeper.status();
        return status.state === state && status.incarnation === incarnation ? status : null;
      },
      { what: `${state} in incarnation ${incarnation}` },
    );
  const row = async () => {
    const shard = await readShard(control.db, 'shard-1');
    assert.ok(shard !== null);
    return { state: shard.state, incarnation: shard.incarnation };
  };

  it('opens a new shard in incarnation 1: scripts, epochs, identity, and only then the map', async () => {
    await reach(keep(), 'open', 1);
    assert.deepEqual(await row(), { state: 'open', incarnation: 1 });
    assert.deepEqual(await link().readIdentity(), { name: 'shard-1', incarnation: 1 });
    assert.equal(await link().hasScripts(1), true);
    assert.equal((await link().readEpochs()).size, 4096);
  });

  it('leaves an open shard as it is when the keeper itself starts again, or a second one joins', async () => {
    const first = keep();
    await reach(first, 'open', 1);
    await first.stop();
    await Promise.all([reach(keep(), 'open', 1), reach(keep(), 'open', 1)]);
    assert.deepEqual(await row(), { state: 'open', incarnation: 1 });
  });

  it('opens a killed shard again by itself, one incarnation on, and the old scripts are fenced', async () => {
    const drainer = fakeDrainer(control);
    const keeper = keep({ startDrainer: drainer.startDrainer });
    await reach(keeper, 'open', 1);
    const stale = await readSlotMap(control.db);
    await raw.xadd('tb:u', '*', 'f', 'survives');
    await untilWritten(server().url);
    await server().kill9();
    await reach(keeper, 'away', 1);
    await server().restart();
    await reach(keeper, 'open', 2);
    assert.deepEqual(await row(), { state: 'open', incarnation: 2 });
    assert.equal(await link().hasScripts(1), false);
    assert.equal(await link().hasScripts(2), true);
    assert.deepEqual(drainer.started, [1, 2]);
    assert.equal(drainer.running(), 1);
    assert.equal(await link().streamLength(), 1);
    const shards = createShards({ mapSource: () => stale });
    await assert.rejects(shards.read(newId('sbr')), (error: unknown) => {
      assert.ok(error instanceof ShardUnavailable);
      assert.equal(error.outcome, 'not_sent');
      return true;
    });
    await shards.close();
  });

  it('stays recovering, with nothing loaded, until all that survived is committed', async () => {
    await reach(keep(), 'open', 1);
    await Promise.all(keepers.map((keeper) => keeper.stop()));
    await raw.xadd('tb:u', '*', 'f', 'not committed yet');
    await raw.script('FLUSH', 'SYNC');
    const gate = Promise.withResolvers<void>();
    const keeper = keep({ startDrainer: fakeDrainer(control, gate.promise).startDrainer });
    await until(async () => ((await row()).state === 'recovering' ? true : null));
    await new Promise((resolve) => {
      setTimeout(resolve, 300);
    });
    assert.deepEqual(await row(), { state: 'recovering', incarnation: 1 });
    assert.equal(await link().hasScripts(2), false);
    gate.resolve();
    await reach(keeper, 'open', 2);
  });

  it('opens again after the scripts were flushed, without a restart', async () => {
    const keeper = keep();
    await reach(keeper, 'open', 1);
    await raw.script('FLUSH', 'SYNC');
    await reach(keeper, 'open', 2);
  });

  it('waits for gateways as long as it is told', async () => {
    const keeper = keep({ resendWaitMs: 400 });
    await reach(keeper, 'open', 1);
    const startedMs = performance.now();
    await raw.script('FLUSH', 'SYNC');
    await reach(keeper, 'open', 2);
    assert.ok(performance.now() - startedMs >= 395);
  });

  it('keeps a wiped shard closed, and says what to do', async () => {
    const keeper = keep();
    await reach(keeper, 'open', 1);
    await raw.xadd('tb:u', '*', 'f', 'something');
    await until(async () => ((await hasHeldAnything(control.db, 'shard-1')) ? true : null));
    await raw.flushall();
    await raw.script('FLUSH', 'SYNC');
    const { reason } = await reach(keeper, 'closed', 1);
    assert.equal(
      reason,
      `shard-1 (${server().url}) has lost its data: it was opened in incarnation 1 and now holds nothing. It stays closed, ` +
        'because it would forget what its subscribers have used. Restore its append-only file and restart Redis.',
    );
    assert.deepEqual(await row(), { state: 'recovering', incarnation: 1 });
    const next = keep();
    await reach(next, 'closed', 1);
    assert.equal(await link().hasScripts(2), false);
    await raw.set('tb:id', 'shard-1:1');
    await reach(next, 'open', 2);
  });

  it('opens anew a shard that was lost before anything was put on it: nothing is missing', async () => {
    const keeper = keep();
    await reach(keeper, 'open', 1);
    await raw.flushall();
    await raw.script('FLUSH', 'SYNC');
    await reach(keeper, 'open', 2);
  });

  const refused: readonly [what: string, identity: string, incarnation: number, reason: RegExp][] =
    [
      ['that holds the data of another shard', 'shard-9:4', 0, /holds the data of shard-9/],
      ['whose data another shard overwrote', 'shard-9:4', 4, /holds the data of shard-9/],
      [
        'that the database never opened',
        'shard-1:3',
        0,
        /holds the data of shard-1, incarnation 3/,
      ],
      ['restored from a backup', 'shard-1:2', 4, /incarnation 2, but 4 was opened last/],
      ['whose database is from a backup', 'shard-1:6', 4, /incarnation 6, but 4 was opened last/],
    ];
  for (const [what, identity, incarnation, expected] of refused) {
    it(`refuses a shard ${what}`, async () => {
      await control.db('shards').update({ incarnation });
      await raw.set('tb:id', identity);
      const { reason } = await reach(keep(), 'closed', incarnation);
      assert.match(reason, expected);
      assert.notEqual((await row()).state, 'open');
    });
  }

  const resumed: readonly [what: string, identity: string, incarnation: number][] = [
    ['the very first one', 'shard-1:1', 0],
    ['a later one', 'shard-1:5', 4],
    ['one whose last write a power failure took', 'shard-1:3', 4],
  ];
  for (const [what, identity, incarnation] of resumed) {
    it(`goes on with an opening that was interrupted: ${what}`, async () => {
      await control.db('shards').update({ incarnation });
      await raw.set('tb:id', identity);
      await reach(keep(), 'open', incarnation + 1);
    });
  }

  it('refuses a server that would lose facts, and names each setting', async () => {
    await raw.config('SET', 'appendonly', 'no');
    await raw.config('SET', 'maxmemory-policy', 'allkeys-lru');
    const keeper = keep();
    const { reason } = await reach(keeper, 'closed', 0);
    assert.match(reason, /appendonly is off/);
    assert.match(reason, /maxmemory-policy is allkeys-lru/);
    await raw.config('SET', 'appendonly', 'yes');
    await raw.config('SET', 'maxmemory-policy', 'noeviction');
    await reach(keeper, 'open', 1);
  });
});
